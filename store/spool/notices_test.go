package spool

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"shunt/gateway/msg"
)

// Which notices are owed when, for every value of bits 4-2 of
// registered_delivery (SMPP v3.4 §5.2.17).
func TestNoticesAreOwed(t *testing.T) {
	const enroute, read = 0x10, 0x04
	for _, c := range []struct {
		name   string
		events []msg.Event
		owed   map[byte]msg.Notice // by the bit that asks for it
	}{
		{"accepted", nil, nil},
		{"push begun", []msg.Event{msg.EvPushBegin}, nil},
		{"pushed", []msg.Event{msg.EvPushBegin, msg.EvPushAccepted}, map[byte]msg.Notice{enroute: msg.NoticeEnroute}},
		{"claimed", []msg.Event{msg.EvPushAccepted, msg.EvClaim}, map[byte]msg.Notice{enroute: msg.NoticeEnroute}},
		{"claimed before the push", []msg.Event{msg.EvClaim, msg.EvPushAccepted}, nil},
		{"delivered", []msg.Event{msg.EvPushAccepted, msg.EvClaim, msg.EvDelivered}, nil},
		{
			"read",
			[]msg.Event{msg.EvPushAccepted, msg.EvClaim, msg.EvDelivered, msg.EvRead},
			map[byte]msg.Notice{read: msg.NoticeRead},
		},
		{"read at once", []msg.Event{msg.EvClaim, msg.EvRead}, map[byte]msg.Notice{read: msg.NoticeRead}},
		{"fallback", []msg.Event{msg.EvPushAccepted, msg.EvPushDead}, map[byte]msg.Notice{enroute: msg.NoticeEnroute}},
		{
			"submitted",
			[]msg.Event{msg.EvPushAccepted, msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSAccepted},
			map[byte]msg.Notice{enroute: msg.NoticeEnroute},
		},
		{
			"on its way as SMS",
			[]msg.Event{msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSAccepted, msg.EvSMSEnroute, msg.EvSMSEnroute},
			map[byte]msg.Notice{enroute: msg.NoticeEnroute},
		},
		{"delivered as SMS after that", []msg.Event{msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSAccepted, msg.EvSMSEnroute, msg.EvSMSDelivered}, nil},
		{"delivered as SMS", []msg.Event{msg.EvPushAccepted, msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSAccepted, msg.EvSMSDelivered}, nil},
		{"cancelled", []msg.Event{msg.EvPushAccepted, msg.EvCancel}, nil},
		{"expired", []msg.Event{msg.EvPushAccepted, msg.EvValidity}, nil},
		{"unknown", []msg.Event{msg.EvPushAccepted, msg.EvClaim, msg.EvValidity}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := started(t, Options{})
			for bits := range byte(8) {
				m := message(s, time.Now())
				m.RegisteredDelivery = bits<<2 | bits&1
				put(t, s, m)
				for _, e := range path(m.ID, c.events...) {
					s.Do(t.Context(), e)
				}
				var want msg.Notice
				for bit, n := range c.owed {
					if m.RegisteredDelivery&bit != 0 {
						want |= n
					}
				}
				r := get(t, s, m.ID)
				if r.Owed != want {
					t.Errorf("registered_delivery %#02x: owed %03b, want %03b", m.RegisteredDelivery, r.Owed, want)
				}
				for _, n := range msg.Notices {
					res := s.Do(t.Context(), Event{ID: m.ID, Kind: msg.EvNoticeDone, Notice: n})
					switch {
					case want&n != 0 && res.Err != nil:
						t.Errorf("registered_delivery %#02x: notice %03b taken: %v", m.RegisteredDelivery, n, res.Err)
					case want&n == 0:
						wantErr(t, "a notice that is not owed", res.Err, ErrRefused)
					}
				}
				if r.State.Final() && r.ReceiptDue {
					do(t, s, Event{ID: m.ID, Kind: msg.EvReceiptDone})
				}
				if _, ok := s.index.get(m.ID); ok == r.State.Final() {
					t.Errorf("registered_delivery %#02x in %s with nothing owed: in RAM %t", m.RegisteredDelivery, r.State, ok)
				}
			}
			if n := int64(s.index.byID.len()); s.slots.Load() != n {
				t.Errorf("%d places for %d messages", s.slots.Load(), n)
			}
		})
	}
}

// aRead is a message that was delivered and has left RAM; its ESME asked to be
// told when it is read.
func aRead(t testing.TB, s *Spool) *Message {
	m := message(s, time.Now())
	m.RegisteredDelivery = 0x04
	put(t, s, m)
	for _, e := range path(m.ID, msg.EvClaim, msg.EvDelivered) {
		do(t, s, e)
	}
	if _, ok := s.index.get(m.ID); ok {
		t.Fatal("a finished message is still in RAM")
	}
	return m
}

// A read mark brings a finished message back, with all that it had, until the
// ESME was told.
func TestReadRevives(t *testing.T) {
	dir := t.TempDir()
	var seen []Change
	s := started(t, Options{Dir: dir, Max: 2, Observe: func(c *Change) { seen = append(seen, *c) }})
	m := aRead(t, s)
	for range 70 { // the cursor and the order in RAM have passed it
		last := message(s, time.Now())
		last.RegisteredDelivery = 0
		put(t, s, last)
		do(t, s, Event{ID: last.ID, Kind: msg.EvCancel})
	}
	shut(t, s)
	s = started(t, Options{Dir: dir, Max: 2, Observe: func(c *Change) { seen = append(seen, *c) }})
	numbers := s.Stats().Outcomes
	read := Event{ID: m.ID, Kind: msg.EvRead, Device: "phone"}
	r := do(t, s, read)
	if !r.Read || r.Owed != msg.NoticeRead || r.State != msg.Delivered || r.ReceiptDue {
		t.Errorf("read: %+v", r)
	}
	shut(t, s)
	if c := seen[len(seen)-1]; c.Event.Kind != msg.EvRead || c.Record.Owed != msg.NoticeRead || c.From != msg.Delivered {
		t.Errorf("observed: %+v", c)
	}
	check := func(what string, live int) {
		t.Helper()
		if st := s.Stats(); st.LiveTotal != live || int(s.slots.Load()) != live || st.Outcomes != numbers {
			t.Errorf("%s: %d live, %d places, %d ends; want %d, %d, %d", what, st.LiveTotal, s.slots.Load(), st.Outcomes, live, live, numbers)
		}
	}
	check("read", 1)
	s = started(t, Options{Dir: dir, Max: 2})
	check("after a restart", 1)
	if got := get(t, s, m.ID); got != r {
		t.Errorf("after a restart: %+v, want %+v", got, r)
	}
	if res := s.Do(t.Context(), read); res.Err != nil || !res.Replay {
		t.Errorf("read again = %v, replay %t", res.Err, res.Replay)
	}
	if ids := s.ByNumber(m.To, msg.ID{}, 0); len(ids) != 0 {
		t.Errorf("the app sees %v", ids)
	}
	after := message(s, time.Now())
	put(t, s, after)
	wantErr(t, "Put beyond Max", tryPut(s, message(s, time.Now())), ErrFull)
	do(t, s, Event{ID: m.ID, Kind: msg.EvNoticeDone, Notice: msg.NoticeRead})
	check("told", 1)
	wantErr(t, "told again", s.Do(t.Context(), Event{ID: m.ID, Kind: msg.EvNoticeDone, Notice: msg.NoticeRead}).Err, ErrRefused)
	shut(t, s)
	s = started(t, Options{Dir: dir, Max: 2})
	check("told, after a restart", 1)
	if got := get(t, s, m.ID); !got.Read || got.Owed != 0 || got.State != msg.Delivered {
		t.Errorf("in the end: %+v", got)
	}
	steps, err := s.Trace(m.ID)
	var kinds []msg.Event
	for _, st := range steps {
		kinds = append(kinds, st.Event)
	}
	want := []msg.Event{msg.EvAccept, msg.EvClaim, msg.EvDelivered, msg.EvRead, msg.EvNoticeDone}
	if err != nil || !slices.Equal(kinds, want) {
		t.Errorf("trace %v, %v; want %v", kinds, err, want)
	}
}

// Read and told in one commit: it was never away.
func TestReadAndToldInOneBatch(t *testing.T) {
	dir := t.TempDir()
	s := started(t, Options{Dir: dir})
	m := aRead(t, s)
	for i, r := range putAll(s, Event{ID: m.ID, Kind: msg.EvRead, Device: "phone"},
		Event{ID: m.ID, Kind: msg.EvNoticeDone, Notice: msg.NoticeRead}, Event{ID: m.ID, Kind: msg.EvRead, Device: "phone"}) {
		if r.Err != nil || r.Replay != (i == 2) {
			t.Errorf("event %d = %v, replay %t", i, r.Err, r.Replay)
		}
	}
	for range 2 {
		if r := get(t, s, m.ID); !r.Read || r.Owed != 0 || s.slots.Load() != 0 || s.Stats().LiveTotal != 0 {
			t.Errorf("%+v, %d places", r, s.slots.Load())
		}
		shut(t, s)
		s = started(t, Options{Dir: dir})
	}
}

// A read mark whose commit fails leaves the finished message as it was, and
// comes through when it is tried again.
func TestReadOfAFailedCommit(t *testing.T) {
	for _, ghost := range []bool{false, true} {
		for _, again := range []bool{false, true} {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				var f failing
				f.ghost.Store(ghost)
				s := open(t, Options{Dir: dir})
				s.commit = f.commit
				s.Start()
				m := aRead(t, s)
				before := get(t, s, m.ID)
				read := Event{ID: m.ID, Kind: msg.EvRead, Device: "phone"}
				f.on.Store(true)
				wantErr(t, "read", s.Do(t.Context(), read).Err, errDisk)
				f.on.Store(false)
				if got := get(t, s, m.ID); got != before {
					t.Errorf("after the failure: %+v, want %+v", got, before)
				}
				want := 0
				if again {
					do(t, s, read)
					want = 1
				} else {
					time.Sleep(2 * retryAfter)
					synctest.Wait()
				}
				for range 2 {
					r := get(t, s, m.ID)
					if r.Read != again || (r.Owed != 0) != again || s.Stats().LiveTotal != want || int(s.slots.Load()) != want {
						t.Errorf("tried again %t: %+v, %d live", again, r, s.Stats().LiveTotal)
					}
					shut(t, s)
					s = started(t, Options{Dir: dir})
				}
				shut(t, s)
			})
		}
	}
}
