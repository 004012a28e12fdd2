package spool

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shunt/gateway/msg"
)

// The wheel against a list that is searched: what fires, and when.
func TestWheelAgainstNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2030, 1, 1, 0, 0, 0, rapid.IntRange(0, 999_999_999).Draw(t, "start"), time.UTC)
		w := newWheel(now)
		entries := make([]*entry, 40)
		due := map[*entry]int64{} // the naive model
		for i := range entries {
			entries[i] = &entry{id: msg.ID{byte(i)}}
		}
		ahead := rapid.OneOf(
			rapid.Int64Range(-int64(time.Hour), int64(time.Second)),
			rapid.Int64Range(0, int64(10*time.Second)),
			rapid.Int64Range(0, int64(time.Hour)),
			rapid.Int64Range(0, int64(100*24*time.Hour)),
			rapid.Int64Range(0, int64(20*365*24*time.Hour)))
		jump := rapid.OneOf(
			rapid.Int64Range(0, int64(3*tick)), rapid.Int64Range(0, int64(time.Minute)),
			rapid.Int64Range(0, int64(10*24*time.Hour)), rapid.Int64Range(0, int64(10*365*24*time.Hour)))
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				e := rapid.SampledFrom(entries).Draw(t, "entry")
				at := now.UnixNano() + ahead.Draw(t, "ahead")
				w.Set(e, at)
				due[e] = at
			},
			"stop": func(t *rapid.T) {
				e := rapid.SampledFrom(entries).Draw(t, "entry")
				e.stopTimer()
				delete(due, e)
			},
			"advance": func(t *rapid.T) {
				now = now.Add(time.Duration(jump.Draw(t, "jump")))
				limit := rapid.IntRange(1, 50).Draw(t, "limit")
				for {
					fired := w.Advance(now, limit)
					for _, e := range fired {
						at, ok := due[e]
						if !ok {
							t.Fatalf("%x fired, and was not set", e.id[0])
						}
						if at > now.UnixNano() {
							t.Fatalf("%x fired %s early", e.id[0], time.Duration(at-now.UnixNano()))
						}
						if e.timerSet() {
							t.Fatalf("%x fired and is still set", e.id[0])
						}
						delete(due, e)
					}
					if len(fired) < limit {
						break
					}
				}
			},
			"": func(t *rapid.T) {
				next, any := w.Next()
				for e, at := range due {
					if e.timer.tick*int64(tick) < at && e.timer.tick < lastTick {
						t.Fatalf("%x stands at a tick before its time", e.id[0])
					}
					if !any || next.UnixNano() > max(e.timer.tick, w.now)*int64(tick) {
						t.Fatalf("Next() = %s, %t; %x is due at %s", next, any, e.id[0], timeOf(at))
					}
				}
			},
		})
		// In the end everything fires, in ticks' order, and by Next alone.
		w.Advance(now, len(entries)+1)
		for e, at := range due {
			if ceilTick(at) <= floorTick(now.UnixNano()) {
				delete(due, e)
			}
		}
		var last int64
		for len(due) > 0 {
			next, ok := w.Next()
			if !ok {
				t.Fatalf("Next() = never, %d timers are set", len(due))
			}
			for _, e := range w.Advance(next, 100) {
				if e.timer.tick < last || next.UnixNano()-due[e] >= int64(tick) {
					t.Fatalf("%x fired at %s, was due at %s", e.id[0], next, timeOf(due[e]))
				}
				last = e.timer.tick
				delete(due, e)
			}
		}
	})
}

func TestWheelLimit(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	w := newWheel(now)
	for range 10 {
		e := &entry{}
		w.Set(e, now.UnixNano()-1)
	}
	var got []int
	for range 4 {
		got = append(got, len(w.Advance(now, 4)))
	}
	if want := []int{4, 4, 2, 0}; !slices.Equal(got, want) {
		t.Errorf("Advance(limit 4) returned %v timers, want %v", got, want)
	}
}

func TestWheelEndOfTime(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	w := newWheel(now)
	e := &entry{}
	w.Set(e, nanos(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)))
	if got := w.Advance(now.AddDate(100, 0, 0), 10); len(got) != 0 {
		t.Errorf("a timer for the year 9999 fired in 2130")
	}
	if !w.Behind(now) || w.Behind(now.AddDate(100, 0, 0)) {
		t.Errorf("Behind: want true for a time before the wheel's and false for its own")
	}
}

func BenchmarkWheel(b *testing.B) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	w := newWheel(now)
	es := make([]entry, 1<<16)
	for i := 0; b.Loop(); i++ {
		e := &es[i&(len(es)-1)]
		w.Set(e, now.UnixNano()+int64(i%3600)*int64(time.Second))
	}
}
