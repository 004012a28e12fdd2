package spool

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
)

// What a push comes to is on disk a second later at the latest, at once with the
// next change, and at a clean stop.
func TestLazyChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := started(t, Options{Dir: t.TempDir()})
		onDisk := func(id msg.ID) msg.State {
			var r Record
			err := s.view(func(txn *badger.Txn) error {
				fields, err := getFields(txn, idKey(kState, id))
				if err == nil {
					r, _, err = decodeRecord(id, fields)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return r.State
		}
		one, two := message(s, time.Now()), message(s, time.Now())
		put(t, s, one)
		put(t, s, two)
		commits := s.Stats().Commits
		for _, m := range []*Message{one, two} {
			do(t, s, Event{ID: m.ID, Kind: msg.EvPushBegin})
			do(t, s, Event{ID: m.ID, Kind: msg.EvPushAccepted})
			wantState(t, s, "pushed", m.ID, msg.Pushed)
			if got := onDisk(m.ID); got != msg.Accepted {
				t.Errorf("on disk at once: %s, want %s", got, msg.Accepted)
			}
		}
		if n := s.Stats().Commits - commits; n != 0 {
			t.Errorf("%d commits for what a push came to, want none", n)
		}
		do(t, s, Event{ID: one.ID, Kind: msg.EvClaim, Device: "phone"})
		if got := onDisk(one.ID); got != msg.Claimed {
			t.Errorf("on disk after the claim: %s, want %s", got, msg.Claimed)
		}
		time.Sleep(lazyFor + 10*time.Millisecond)
		synctest.Wait()
		if got := onDisk(two.ID); got != msg.Pushed {
			t.Errorf("on disk after %s: %s, want %s", lazyFor, got, msg.Pushed)
		}
		if n := s.Stats().Commits - commits; n != 2 {
			t.Errorf("%d commits, want 2: the claim's, and one for what was in RAM", n)
		}
		if steps, err := s.Trace(two.ID); err != nil || len(steps) != 3 {
			t.Errorf("trace: %d steps, %v; want 3", len(steps), err)
		}
		synctest.Wait() // the committer sleeps: what is settled does not keep it busy
		if len(s.unsaved) > 1 {
			t.Errorf("%d are still to be written", len(s.unsaved))
		}
		three := message(s, time.Now())
		put(t, s, three)
		do(t, s, Event{ID: three.ID, Kind: msg.EvPushBegin})
		dir := s.o.Dir
		shut(t, s)
		s = started(t, Options{Dir: dir})
		wantState(t, s, "after a clean stop", three.ID, msg.Pushing)
		shut(t, s)
	})
}

// A long trail is kept in rows of its own, in order, across a restart and after
// the end.
func TestLongTrail(t *testing.T) {
	dir := t.TempDir()
	s := started(t, Options{Dir: dir})
	m := message(s, time.Now())
	put(t, s, m)
	do(t, s, Event{ID: m.ID, Kind: msg.EvPushDead, Reason: msg.ReasonTokenDead})
	want, tries := 2, 0
	again := func(n int) {
		for range n {
			do(t, s, Event{ID: m.ID, Kind: msg.EvSMSBegin})
			do(t, s, Event{ID: m.ID, Kind: msg.EvSMSTemporary, SMSErr: "088", Detail: "throttled, tried again"})
			want += 2
			tries++
		}
	}
	check := func(what string) {
		t.Helper()
		steps, err := s.Trace(m.ID)
		if err != nil || len(steps) != want {
			t.Fatalf("%s: %d steps, %v; want %d", what, len(steps), err, want)
		}
		for i := 2; i < 2+2*tries; i++ {
			if kind := []msg.Event{msg.EvSMSBegin, msg.EvSMSTemporary}[i%2]; steps[i].Event != kind {
				t.Fatalf("%s: step %d is %s, want %s", what, i, steps[i].Event, kind)
			}
		}
		s.index.mu.RLock()
		defer s.index.mu.RUnlock()
		if e := s.index.byID.get(m.ID); e != nil && len(e.steps) > maxTrail+100 {
			t.Errorf("%s: the record carries %d octets of trace, want %d at most", what, len(e.steps), maxTrail)
		}
	}
	again(60)
	check("live")
	shut(t, s)
	s = started(t, Options{Dir: dir})
	check("after a restart")
	again(60)
	check("live again")
	do(t, s, Event{ID: m.ID, Kind: msg.EvCancel})
	want++
	check("cancelled")
	if s.index.byID.get(m.ID) != nil {
		do(t, s, Event{ID: m.ID, Kind: msg.EvReceiptDone})
		want++
	}
	check("finished")
	shut(t, s)
	s = started(t, Options{Dir: dir})
	check("finished, after a restart")
	shut(t, s)
}

// A step that is in RAM alone for a second takes no others with it when it moves the
// trail into a row.
func TestLongTrailLazily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := started(t, Options{Dir: t.TempDir()})
		m := message(s, time.Now())
		put(t, s, m)
		do(t, s, Event{ID: m.ID, Kind: msg.EvPushDead, Reason: msg.ReasonTokenDead})
		want := 2
		add := func(e Event) { e.ID = m.ID; do(t, s, e); want++ }
		full := func() bool { return len(s.index.byID.get(m.ID).steps) >= maxTrail }
		for range 8 {
			add(Event{Kind: msg.EvSMSBegin})
			add(Event{Kind: msg.EvSMSTemporary, SMSErr: "088", Detail: "throttled, tried again"})
		}
		add(Event{Kind: msg.EvCancel})
		for !full() {
			add(Event{Kind: msg.EvReceiptTried, Detail: "ESME_RMSGQFUL after 1ms, 1 trx 192.0.2.1:2775"})
		}
		check := func(what string) {
			t.Helper()
			if steps, err := s.Trace(m.ID); err != nil || len(steps) != want {
				t.Errorf("%s: %d steps, %v; want %d", what, len(steps), err, want)
			}
		}
		time.Sleep(2 * lazyFor)
		synctest.Wait()
		add(Event{Kind: msg.EvReceiptTried, Detail: "no answer after 10s, 1 trx 192.0.2.1:2775, try 2"})
		check("at once")
		time.Sleep(2 * lazyFor)
		synctest.Wait()
		check("written")
		add(Event{Kind: msg.EvReceiptDone})
		check("finished")
		shut(t, s)
	})
}
