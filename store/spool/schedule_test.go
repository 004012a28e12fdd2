package spool

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shunt/gateway/msg"
)

// scheduled is a message for an hour, due seconds from now.
func scheduled(s *Spool, now time.Time, due time.Duration) *Message {
	m := message(s, now)
	m.DueAt = now.Add(due).UTC().Round(0)
	m.ClaimBy = m.DueAt.Add(30 * time.Second)
	return m
}

// events collects what the observer is told of every message, with the time
// since a start.
type events struct {
	mu    sync.Mutex
	start time.Time
	lines []string
}

func (l *events) observe(c *Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf("%s %s: %s → %s", time.Since(l.start).Round(time.Millisecond), c.Event.Kind, c.From, c.To))
}

// take waits for the spool to be at rest: the observer comes after the answer.
func (l *events) take() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

func (l *events) want(t testing.TB, what string, want ...string) {
	t.Helper()
	if got := l.take(); !slices.Equal(got, want) {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

// sleepUntil lets the bubble's clock reach a time after its start.
func (l *events) sleepUntil(at time.Duration) {
	time.Sleep(time.Until(l.start.Add(at)))
	synctest.Wait()
}

// A scheduled message goes on at the first tick of its hour, also where the
// spool was closed before, or at it.
func TestDueOnTime(t *testing.T) {
	const due = 10*time.Second + 50*time.Millisecond
	for _, c := range []struct {
		name           string
		closed, opened time.Duration
		want           string
	}{
		{"running", 0, 0, "10.1s"},
		{"reopened before", 2 * time.Second, 8 * time.Second, "10.1s"},
		{"closed over it", 2 * time.Second, 12 * time.Second, "12s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				l := events{start: time.Now()}
				s := started(t, Options{Dir: dir, Observe: l.observe})
				m := scheduled(s, l.start, due)
				put(t, s, m)
				l.want(t, "put", "0s accept: NONE → HELD")
				if r := get(t, s, m.ID); r.Hold != msg.HoldSchedule || !r.DueAt.Equal(m.DueAt) {
					t.Errorf("record %+v", r)
				}
				if c.opened > 0 {
					l.sleepUntil(c.closed)
					shut(t, s)
					l.sleepUntil(c.opened)
					s = started(t, Options{Dir: dir, Observe: l.observe})
				} else {
					l.sleepUntil(10*time.Second + 99*time.Millisecond)
					l.want(t, "before its tick")
				}
				l.sleepUntil(30 * time.Second)
				l.want(t, "due", c.want+" due: HELD → ACCEPTED")
				if got, err := s.Message(m.ID); err != nil || !got.DueAt.Equal(m.DueAt) {
					t.Errorf("Message() = %+v, %v", got, err)
				}
				l.sleepUntil(time.Minute)
				l.want(t, "its claim timer", "40.1s claim-deadline: ACCEPTED → FALLBACK", "40.1s turn: FALLBACK → FALLBACK")
				shut(t, s)
			})
		})
	}
}

// Before its hour a message can be taken back, changed, and can expire; nobody
// can claim it.
func TestBeforeTheHour(t *testing.T) {
	t.Run("cancel", func(t *testing.T) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			l := events{start: time.Now()}
			s := started(t, Options{Dir: dir, Observe: l.observe})
			m := scheduled(s, l.start, 10*time.Second)
			put(t, s, m)
			do(t, s, Event{ID: m.ID, Kind: msg.EvCancel})
			l.take()
			l.sleepUntil(time.Minute)
			l.want(t, "after cancel_sm")
			if r := get(t, s, m.ID); r.State != msg.Cancelled || !r.ReceiptDue {
				t.Errorf("%s, receipt due %t", r.State, r.ReceiptDue)
			}
			shut(t, s)
		})
	})
	t.Run("validity", func(t *testing.T) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			l := events{start: time.Now()}
			s := started(t, Options{Dir: dir, Observe: l.observe})
			m := scheduled(s, l.start, 20*time.Second)
			m.ExpiresAt = l.start.Add(10 * time.Second)
			put(t, s, m)
			l.take()
			l.sleepUntil(time.Minute)
			l.want(t, "end of validity", "10s validity-over: HELD → EXPIRED")
			shut(t, s)
		})
	})
	t.Run("claim", func(t *testing.T) {
		s := started(t, Options{})
		m := scheduled(s, time.Now(), time.Hour/2)
		put(t, s, m)
		for _, k := range []msg.Event{
			msg.EvClaim, msg.EvPushBegin, msg.EvPushDead, msg.EvClaimDeadline,
			msg.EvTurn, msg.EvComplete, msg.EvHoldDeadline, msg.EvSMSBegin, msg.EvDelivered,
		} {
			wantErr(t, k.String(), s.Do(t.Context(), Event{ID: m.ID, Kind: k, Device: "phone"}).Err, ErrRefused)
		}
	})
	// A shorter validity leaves the app its time from the hour on, not from now.
	t.Run("replace", func(t *testing.T) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			l := events{start: time.Now()}
			s := started(t, Options{Dir: dir, Observe: l.observe})
			m := scheduled(s, l.start, 50*time.Minute)
			m.ExpiresAt = l.start.Add(2 * time.Hour)
			put(t, s, m)
			changed := *m
			changed.PDU, changed.ExpiresAt = []byte("another one"), l.start.Add(54*time.Minute)
			do(t, s, Event{ID: m.ID, Kind: msg.EvReplace, Replace: &changed})
			shut(t, s)
			s = started(t, Options{Dir: dir, Observe: l.observe})
			l.take()
			l.sleepUntil(50*time.Minute + time.Second)
			l.want(t, "its hour", "50m0s due: HELD → ACCEPTED")
			if got, err := s.Message(m.ID); err != nil || string(got.PDU) != "another one" {
				t.Errorf("Message() = %v, %v", got, err)
			}
			l.sleepUntil(52 * time.Minute)
			l.want(t, "its claim timer", "50m30s claim-deadline: ACCEPTED → FALLBACK", "50m30s turn: FALLBACK → FALLBACK")
			shut(t, s)
		})
	})
}

// A message for an hour that is over is one for now, and has no place before
// what is there.
func TestHourThatIsOver(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := started(t, Options{Dir: dir})
		now := time.Now()
		first, second, over := between(s, now, "Bank"), between(s, now, "Bank"), between(s, now, "Bank")
		over.DueAt = now.Add(-time.Hour)
		for _, m := range []*Message{first, second, over} {
			put(t, s, m)
		}
		do(t, s, Event{ID: first.ID, Kind: msg.EvClaim, Device: "phone"})
		synctest.Wait()
		wantStates(t, s, []msg.ID{second.ID, over.ID}, msg.Accepted, msg.Held)
		shut(t, s)
	})
}

// A scheduled message holds up nobody before its hour; then it has its place by
// it, behind what came before the hour and in front of what came after.
func TestPlaceByTheHour(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := events{start: time.Now()}
		s := started(t, Options{Dir: dir})
		sched := scheduled(s, l.start, 10*time.Second)
		sched.From = "Bank"
		put(t, s, sched)
		next := func() *Message {
			m := between(s, time.Now(), "Bank")
			m.ClaimBy = time.Now().Add(5 * time.Minute)
			put(t, s, m)
			return m
		}
		first := next()
		l.sleepUntil(time.Second)
		before := next()
		l.sleepUntil(11 * time.Second)
		after := next()
		if r := get(t, s, sched.ID); r.State != msg.Held || r.Hold != msg.HoldTurn {
			t.Errorf("behind the others: %s for %s", r.State, r.Hold)
		}
		order := []*Message{first, before, sched, after}
		for i, m := range order {
			synctest.Wait()
			for j, o := range order[i:] {
				want := msg.Held
				if j == 0 {
					want = msg.Accepted
				}
				wantState(t, s, fmt.Sprint("with ", i, " decided, message ", i+j), o.ID, want)
			}
			if i == 1 { // what is HELD for its turn keeps its place over a restart
				shut(t, s)
				s = started(t, Options{Dir: dir})
				synctest.Wait()
			}
			do(t, s, Event{ID: m.ID, Kind: msg.EvClaim, Device: "phone"})
		}
		shut(t, s)
	})
}

// What came within the tick of the hour is under way already and is not
// overtaken.
func TestDueBehindWhatIsUnderWay(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := events{start: time.Now()}
		s := started(t, Options{Dir: dir})
		sched := scheduled(s, l.start, 10*time.Second+10*time.Millisecond)
		sched.From = "Bank"
		put(t, s, sched)
		l.sleepUntil(10*time.Second + 50*time.Millisecond)
		quick := between(s, time.Now(), "Bank")
		put(t, s, quick)
		l.sleepUntil(11 * time.Second)
		wantStates(t, s, []msg.ID{quick.ID, sched.ID}, msg.Accepted, msg.Held)
		do(t, s, Event{ID: quick.ID, Kind: msg.EvClaim, Device: "phone"})
		synctest.Wait()
		wantState(t, s, "the scheduled one", sched.ID, msg.Accepted)
		shut(t, s)
	})
}
