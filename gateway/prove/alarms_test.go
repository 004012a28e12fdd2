package prove

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"shunt/gateway/msg"
)

// watch is a Service with these alarms, and what it has logged.
func watch(t *testing.T, l AlarmLimits) *rig {
	l.PrefixDigits = 6
	return newRig(t, func(o *Options) { o.Alarms = l })
}

// raised are the kinds that are, as "kind +prefix sent/used".
func (r *rig) raisedNow() (all []string) {
	now, _ := r.Alarms()
	for _, a := range now {
		all = append(all, a.Kind+" "+a.Prefix)
	}
	return all
}

func (r *rig) wantAlarms(what string, want ...string) {
	r.t.Helper()
	if got := strings.Join(r.raisedNow(), ", "); got != strings.Join(want, ", ") {
		r.t.Errorf("%s: alarms %q, want %q", what, got, want)
	}
}

func (r *rig) logged(text string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Count(r.log.String(), text)
}

// TestSequence: neighbours in a row, up or down; the same number again is none,
// one from afar begins anew and clears, and so does an hour.
func TestSequence(t *testing.T) {
	const row = 4
	for name, c := range map[string]struct {
		steps []int64 // from the number before
		want  bool
	}{
		"up":                  {[]int64{0, 1, 1, 1}, true},
		"down":                {[]int64{0, -1, -1, -1}, true},
		"zigzag of 16":        {[]int64{0, 16, -16, 16}, true},
		"one too few":         {[]int64{0, 1, 1}, false},
		"gaps of 17":          {[]int64{0, 17, 17, 17, 17, 17}, false},
		"the same again":      {[]int64{0, 0, 0, 0, 0, 0}, false},
		"the same in between": {[]int64{0, 1, 0, 0, 1, 0, 1}, true},
		"afar in between":     {[]int64{0, 1, 1, 1000, 1, 1}, false},
		"afar afterwards":     {[]int64{0, 1, 1, 1, 1000}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := watch(t, AlarmLimits{Sequence: row, Sent: 1000, Conversion: 50})
				n := alice
				for _, d := range c.steps {
					n += msg.Number(d)
					r.begin(Request{Number: n})
					time.Sleep(pauses[2]) // a code may go to the same number again
				}
				want := []string{"sequence 447700"}
				if !c.want {
					want = nil
				}
				r.wantAlarms("after the last", want...)
				time.Sleep(window)
				r.wantAlarms("an hour later")
				if raised, cleared := r.logged("state=raised"), r.logged("state=cleared"); raised != cleared || c.want && raised != 1 {
					t.Errorf("%d raised, %d cleared in the log, want one of each", raised, cleared)
				}
			})
		})
	}
}

// TestOtherPrefixes: a row is one of a prefix.
func TestOtherPrefixes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := watch(t, AlarmLimits{Sequence: 3, Sent: 1000})
		for i := range msg.Number(2) {
			r.begin(Request{Number: alice + i})
			r.begin(Request{Number: bob + i})
		}
		r.wantAlarms("two of each")
		r.begin(Request{Number: bob + 2})
		r.wantAlarms("three of one", "sequence 447911")
		r.begin(Request{Number: alice + 2})
		r.wantAlarms("three of both", "sequence 447700", "sequence 447911")
		if now, raised := r.Alarms(); raised != 2 || len(now) != 2 || now[0].Sent != 3 || now[0].Used != 0 || now[0].Since.IsZero() {
			t.Errorf("Alarms = %+v, %d", now, raised)
		}
	})
}

// TestConversion: from so many codes on, so many per cent must be used; a code
// that is used late clears it.
func TestConversion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := watch(t, AlarmLimits{Sequence: 1000, Sent: 10, Conversion: 20})
		var ids, codes []string
		send := func(n int) {
			for range n {
				b := r.begin(Request{Number: alice + msg.Number(len(ids)*100)})
				ids, codes = append(ids, b.ID), append(codes, r.code())
			}
		}
		used := 0
		use := func() {
			t.Helper()
			if _, _, err := r.Check(t.Context(), ids[used], codes[used]); err != nil {
				t.Fatal(err)
			}
			used++
		}
		send(9)
		r.wantAlarms("9 unused")
		send(1)
		r.wantAlarms("10 unused", "conversion 447700")
		use()
		r.wantAlarms("1 of 10 used", "conversion 447700")
		if _, _, err := r.Check(t.Context(), ids[5], wrong(codes[5])); err == nil {
			t.Fatal("a wrong code is right")
		}
		r.wantAlarms("and a wrong code", "conversion 447700")
		use()
		r.wantAlarms("2 of 10 used")
		send(1)
		r.wantAlarms("2 of 11 used", "conversion 447700")
		if _, raised := r.Alarms(); raised != 2 || r.logged("state=raised") != 2 || r.logged("state=cleared") != 1 {
			t.Errorf("%d raised, log %s", raised, r.log.String())
		}
		time.Sleep(window)
		r.wantAlarms("an hour later")
		send(9)
		r.wantAlarms("9 of the next hour")
	})
}

// TestManyPrefixes: the table is bounded, and an alarm stays in it.
func TestManyPrefixes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		a := &alarms{limits: AlarmLimits{PrefixDigits: 11, Sequence: 2, Sent: 1 << 30}, log: r.o.Log}
		a.begun(alice, "chat", time.Now())
		a.begun(alice+1, "chat", time.Now())
		for i := range maxPrefixes + 500 {
			n := bob + msg.Number(i*10)
			if len(a.prefixes) > maxPrefixes {
				t.Fatalf("%d prefixes, want at most %d", len(a.prefixes), maxPrefixes)
			}
			if i < maxPrefixes-1 { // as begun does, without looking at all of them each time
				a.prefixes[prefixOf(n, 11)] = &watched{from: time.Now(), raised: map[string]time.Time{}}
				continue
			}
			a.begun(n, "chat", time.Now())
		}
		if w := a.prefixes[prefixOf(alice, 11)]; w == nil || len(w.raised) != 1 {
			t.Errorf("the prefix with an alarm = %+v, want it kept", w)
		}
	})
}
