package spool

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
)

// clock collects what the observer saw, with the time since a start.
type clock struct {
	mu    sync.Mutex
	start time.Time
	lines []string
}

func (c *clock) observe(ch *Change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch.Event.Reason == msg.ReasonDeadline {
		at := time.Since(c.start).Round(time.Millisecond)
		c.lines = append(c.lines, fmt.Sprintf("%s %s: %s → %s", at, ch.Event.Kind, ch.From, ch.To))
	}
}

func (c *clock) seen() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines
}

// What the timers do in every situation, exact to the tick.
func TestDeadlinesFire(t *testing.T) {
	const minute, grace = time.Minute, 20 * time.Second
	for _, c := range []struct {
		name   string
		prefer msg.Prefer
		events []msg.Event
		want   []string
	}{
		{"ACCEPTED", 0, nil, []string{
			"30s claim-deadline: ACCEPTED → FALLBACK", "1m0s validity-over: FALLBACK → EXPIRED",
		}},
		{"PUSHED", 0, []msg.Event{msg.EvPushBegin, msg.EvPushAccepted}, []string{
			"30s claim-deadline: PUSHED → FALLBACK", "1m0s validity-over: FALLBACK → EXPIRED",
		}},
		{"CLAIMED possible-loss", 0, []msg.Event{msg.EvClaim}, []string{"1m0s validity-over: CLAIMED → UNKNOWN"}},
		{"CLAIMED possible-duplicate", msg.PossibleDuplicate, []msg.Event{msg.EvClaim}, []string{
			"10s lease-over: CLAIMED → FALLBACK", "1m0s validity-over: FALLBACK → EXPIRED",
		}},
		{"DELIVERED", 0, []msg.Event{msg.EvClaim, msg.EvDelivered}, nil},
		{"FALLBACK begun", 0, []msg.Event{msg.EvPushDead, msg.EvSMSBegin}, nil},
		{"SMS_UNKNOWN", 0, []msg.Event{msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSLost}, []string{"1m0s validity-over: SMS_UNKNOWN → UNKNOWN"}},
		{"SMS_SUBMITTED", 0, []msg.Event{msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSAccepted}, []string{
			"1m20s validity-over: SMS_SUBMITTED → UNKNOWN",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				k := clock{start: time.Now()}
				s := started(t, Options{Dir: dir, ReceiptGrace: grace, Observe: k.observe})
				m := message(s, k.start)
				m.ExpiresAt, m.Prefer = k.start.Add(minute), c.prefer
				put(t, s, m)
				for _, e := range path(m.ID, c.events...) {
					do(t, s, e)
				}
				time.Sleep(2 * minute) // in the bubble: everything that can fire has fired
				synctest.Wait()
				shut(t, s)
				if d := cmp.Diff(c.want, k.seen()); d != "" {
					t.Errorf("timers (-want +got):\n%s", d)
				}
			})
		})
	}
}

// A fallback whose answer comes after the end of validity: the answer decides,
// and a temporary status then expires it at once.
func TestValidityWaitsForTheAnswer(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		k := clock{start: time.Now()}
		s := started(t, Options{Dir: dir, Observe: k.observe})
		m := message(s, k.start)
		m.ExpiresAt = k.start.Add(time.Minute)
		put(t, s, m)
		for _, e := range path(m.ID, msg.EvPushDead, msg.EvSMSBegin) {
			do(t, s, e)
		}
		time.Sleep(61 * time.Second)
		do(t, s, Event{ID: m.ID, Kind: msg.EvSMSTemporary})
		synctest.Wait()
		time.Sleep(tick)
		synctest.Wait()
		if r := get(t, s, m.ID); r.State != msg.Expired {
			t.Errorf("state = %s, want EXPIRED", r.State)
		}
		shut(t, s)
	})
}

// After a stop, overdue timers fire right after Start and not before; what is
// past its validity is never sent as SMS.
func TestOverdueAfterReopening(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := started(t, Options{Dir: dir})
		start := time.Now()
		late, dead, later := message(s, start), message(s, start), message(s, start)
		dead.ExpiresAt = start.Add(time.Minute)
		later.ClaimBy = start.Add(10 * time.Minute)
		for _, m := range []*Message{late, dead, later} {
			put(t, s, m)
		}
		shut(t, s)
		time.Sleep(5 * time.Minute)
		k := clock{start: start}
		s = open(t, Options{Dir: dir, Observe: k.observe})
		time.Sleep(time.Second)
		synctest.Wait()
		if len(k.seen()) != 0 {
			t.Errorf("before Start: %v", k.seen())
		}
		s.Start()
		synctest.Wait()
		want := []string{"5m1s claim-deadline: ACCEPTED → FALLBACK", "5m1s validity-over: ACCEPTED → EXPIRED"}
		if d := cmp.Diff(want, k.seen()); d != "" {
			t.Errorf("right after Start (-want +got):\n%s", d)
		}
		time.Sleep(time.Until(start.Add(10*time.Minute - time.Millisecond)))
		synctest.Wait()
		if len(k.seen()) != 2 {
			t.Errorf("early: %v", k.seen())
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if len(k.seen()) != 3 {
			t.Errorf("at its time: %v, want a third", k.seen())
		}
		shut(t, s)
	})
}

// A timer event whose commit fails comes again.
func TestTimerSurvivesAFailedCommit(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var f failing
		k := clock{start: time.Now()}
		s := open(t, Options{Dir: dir, Observe: k.observe})
		s.commit = f.commit
		s.Start()
		m := message(s, k.start)
		put(t, s, m)
		f.on.Store(true)
		time.Sleep(35 * time.Second)
		synctest.Wait()
		f.on.Store(false)
		if len(k.seen()) != 0 || s.Stats().Failures == 0 {
			t.Errorf("while the disk failed: %v, %d failures", k.seen(), s.Stats().Failures)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if r := get(t, s, m.ID); r.State != msg.Fallback {
			t.Errorf("two seconds after the disk came back: %s, want FALLBACK", r.State)
		}
		shut(t, s)
	})
}

// The wall clock may be set: back, and a new deadline is still kept; forward,
// and what is due fires within about a second.
func TestClockIsSet(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var shift time.Duration
		now := func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return time.Now().Add(shift)
		}
		set := func(d time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			shift += d
		}
		s := started(t, Options{Dir: dir, Now: now})
		first := message(s, now())
		put(t, s, first)
		time.Sleep(time.Second)
		synctest.Wait()
		set(-time.Hour)
		second := message(s, now())
		put(t, s, second)
		time.Sleep(30*time.Second - time.Millisecond)
		synctest.Wait()
		if r := get(t, s, second.ID); r.State != msg.Accepted {
			t.Errorf("just before its deadline by the new clock: %s", r.State)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if r := get(t, s, second.ID); r.State != msg.Fallback {
			t.Errorf("at its deadline by the new clock: %s, want FALLBACK", r.State)
		}
		if r := get(t, s, first.ID); r.State != msg.Accepted {
			t.Errorf("an hour before its deadline: %s", r.State)
		}
		set(time.Hour)
		time.Sleep(maxSleep + tick)
		synctest.Wait()
		if r := get(t, s, first.ID); r.State != msg.Fallback {
			t.Errorf("after the clock was set forward: %s, want FALLBACK", r.State)
		}
		shut(t, s)
	})
}

// A claim that is queued before the timer fires wins, although its deadline is
// over by then.
func TestClaimQueuedBeforeTheTimer(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Dir: dir})
		m := message(s, time.Now())
		s.Put(m, nil)
		time.Sleep(time.Minute)
		got := make(chan Result, 1)
		s.Post(Event{ID: m.ID, Kind: msg.EvClaim, Device: "phone"}, func(r Result) { got <- r })
		s.Start()
		if r := <-got; r.Err != nil || r.Record.State != msg.Claimed {
			t.Errorf("claim = %v in %s", r.Err, r.Record.State)
		}
		time.Sleep(time.Second)
		if r := get(t, s, m.ID); r.State != msg.Claimed {
			t.Errorf("state = %s, want CLAIMED", r.State)
		}
		shut(t, s)
	})
}

// A timer that was queued does not outrun an answer that was queued before it:
// an SMS taken at the end of validity has its grace.
func TestTimerIsLookedAtAgain(t *testing.T) {
	s := open(t, Options{})
	m := message(s, time.Now())
	m.ExpiresAt = time.Now().Add(-time.Millisecond)
	s.Put(m, nil)
	for _, e := range path(m.ID, msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSAccepted) {
		s.Post(e, nil)
	}
	s.push(item{event: Event{ID: m.ID, Kind: msg.EvValidity}, timer: true})
	s.Start()
	r := s.Do(context.Background(), Event{ID: m.ID, Kind: msg.EvPushAccepted})
	if r.Record.State != msg.SMSSubmitted {
		t.Errorf("state = %s, want SMS_SUBMITTED", r.Record.State)
	}
}

// What is finished goes when its retention is over.
func TestRetention(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := started(t, Options{Dir: dir, Retention: time.Minute, ReceiptGrace: time.Second})
		m := message(s, time.Now())
		m.ExpiresAt, m.WireID = time.Now().Add(10*time.Second), s.ShortID()
		put(t, s, m)
		for _, e := range path(m.ID, msg.EvClaim, msg.EvDelivered) {
			do(t, s, e)
		}
		time.Sleep(3 * time.Minute) // the receipt cannot be given so long
		do(t, s, Event{ID: m.ID, Kind: msg.EvReceiptDone})
		time.Sleep(50 * time.Second)
		if id, ok := s.Resolve(m.WireID); !ok || id != m.ID {
			t.Errorf("Resolve within the retention = %s, %t", id, ok)
		}
		if list, err := s.Recent(m.To, 1); err != nil || len(list) != 1 {
			t.Errorf("Recent within the retention = %d, %v", len(list), err)
		}
		time.Sleep(15 * time.Second)
		_, err := s.Get(m.ID)
		wantErr(t, "Get", err, ErrNotFound)
		_, err = s.Message(m.ID)
		wantErr(t, "Message", err, ErrNotFound)
		_, err = s.Trace(m.ID)
		wantErr(t, "Trace", err, ErrNotFound)
		if list, err := s.Recent(m.To, 0); err != nil || len(list) != 0 {
			t.Errorf("Recent after the retention = %d, %v", len(list), err)
		}
		if _, ok := s.Resolve(m.WireID); ok {
			t.Errorf("Resolve after the retention finds it")
		}
		shut(t, s)
	})
}
