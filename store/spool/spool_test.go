package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
)

// A message's whole life: what each call answers, what the observer sees, what
// the trace says.
func TestLife(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	s := started(t, Options{Observe: func(c *Change) {
		mu.Lock()
		defer mu.Unlock()
		replay := ""
		if c.Replay {
			replay = " (replay)"
		}
		seen = append(seen, fmt.Sprintf("%s: %s → %s%s", c.Event.Kind, c.From, c.To, replay))
	}})
	m := message(s, time.Now())
	m.WireID = s.ShortID()
	put(t, s, m)
	got, err := s.Message(m.ID)
	if d := cmp.Diff(m, got); err != nil || d != "" {
		t.Fatalf("Message = %v (-want +got):\n%s", err, d)
	}
	do(t, s, Event{ID: m.ID, Kind: msg.EvPushBegin})
	do(t, s, Event{ID: m.ID, Kind: msg.EvPushAccepted, Detail: "200"})
	do(t, s, Event{ID: m.ID, Kind: msg.EvClaim, Device: "phone", Reason: msg.ReasonApp})
	r := s.Do(context.Background(), Event{ID: m.ID, Kind: msg.EvClaim, Device: "phone"})
	if r.Err != nil || !r.Replay || r.Record.State != msg.Claimed {
		t.Errorf("claim replayed = %+v, want a replay in CLAIMED", r)
	}
	r = s.Do(context.Background(), Event{ID: m.ID, Kind: msg.EvClaim, Device: "tablet"})
	wantErr(t, "claim of another device", r.Err, ErrSuperseded)
	if r.Record.Device != "phone" {
		t.Errorf("record with the refusal: device %q, want the winner", r.Record.Device)
	}
	done := time.Now().Add(-time.Second).UTC().Round(0)
	do(t, s, Event{ID: m.ID, Kind: msg.EvDelivered, Device: "phone", DoneAt: done})
	wantErr(t, "deadline after the end", s.Do(context.Background(), Event{ID: m.ID, Kind: msg.EvClaimDeadline}).Err, ErrRefused)
	if r := get(t, s, m.ID); !r.ReceiptDue || !r.DoneAt.Equal(done) || r.WireID != m.WireID {
		t.Errorf("before the receipt: %+v, want receipt due, done at %s", r, done)
	}
	do(t, s, Event{ID: m.ID, Kind: msg.EvReceiptDone})
	for range s.Live {
		t.Errorf("a finished message is live")
	}
	// The late events of a finished message go through the same table.
	do(t, s, Event{ID: m.ID, Kind: msg.EvRead, Device: "phone"})
	wantErr(t, "late read of another device", s.Do(context.Background(), Event{ID: m.ID, Kind: msg.EvRead, Device: "tablet"}).Err, ErrSuperseded)
	if r := get(t, s, m.ID); r.State != msg.Delivered || !r.Read || r.ReceiptDue {
		t.Errorf("at the end: %+v, want DELIVERED, read", r)
	}
	if id, ok := s.Resolve(m.WireID); !ok || id != m.ID {
		t.Errorf("Resolve(%s) = %s, %t; want %s", m.WireID, id, ok, m.ID)
	}
	if id, ok := s.Resolve(m.ID.String()); !ok || id != m.ID {
		t.Errorf("Resolve(%s) = %s, %t; want itself", m.ID, id, ok)
	}
	shut(t, s) // the observer may come after the answer
	want := []string{
		"accept: NONE → ACCEPTED", "push-begin: ACCEPTED → PUSHING", "push-accepted: PUSHING → PUSHED",
		"claim: PUSHED → CLAIMED", "claim: CLAIMED → CLAIMED (replay)", "delivered: CLAIMED → DELIVERED",
		"receipt-done: DELIVERED → DELIVERED", "read: DELIVERED → DELIVERED",
	}
	if d := cmp.Diff(want, seen); d != "" {
		t.Errorf("observed (-want +got):\n%s", d)
	}
}

func TestTrace(t *testing.T) {
	s := started(t, Options{})
	m := message(s, time.Now())
	put(t, s, m)
	for _, e := range path(m.ID, msg.EvPushBegin, msg.EvPushDead, msg.EvSMSBegin) {
		do(t, s, e)
	}
	do(t, s, Event{ID: m.ID, Kind: msg.EvSMSAccepted, Peer: "own", SMSID: "7\x1b[2J"})
	do(t, s, Event{ID: m.ID, Kind: msg.EvSMSFailed, SMSErr: "011", Reason: msg.ReasonReceipt, Detail: strings.Repeat("x", 120)})
	do(t, s, Event{ID: m.ID, Kind: msg.EvReceiptDone})
	steps, err := s.Trace(m.ID)
	if err != nil {
		t.Fatalf("Trace = %v", err)
	}
	var got []string
	for i, st := range steps {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s→%s %s %s", st.Event, st.From, st.To, st.Reason, st.Detail)))
		if i > 0 && st.At.Before(steps[i-1].At) {
			t.Errorf("step %d is older than the one before it", i)
		}
	}
	want := []string{
		"accept NONE→ACCEPTED", "push-begin ACCEPTED→PUSHING", "push-dead PUSHING→FALLBACK",
		"sms-begin FALLBACK→FALLBACK", "sms-accepted FALLBACK→SMS_SUBMITTED  peer=own id=7?[2J",
		"sms-failed SMS_SUBMITTED→SMS_FAILED receipt err=011 " + strings.Repeat("x", 96),
		"receipt-done SMS_FAILED→SMS_FAILED",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Trace (-want +got):\n%s", d)
	}
	if r := get(t, s, m.ID); r.SMSID != "7\x1b[2J" {
		t.Errorf("SMSID = %q, want it raw", r.SMSID)
	}
	_, err = s.Trace(s.NewID())
	wantErr(t, "Trace of nothing", err, ErrNotFound)
}

func TestFull(t *testing.T) {
	s := started(t, Options{Max: 3})
	first := message(s, time.Now())
	first.RegisteredDelivery = 0
	put(t, s, first)
	put(t, s, message(s, time.Now()))
	put(t, s, message(s, time.Now()))
	wantErr(t, "Put of a fourth", tryPut(s, message(s, time.Now())), ErrFull)
	wantErr(t, "Put of a duplicate in a full spool", tryPut(s, first), ErrFull)
	do(t, s, Event{ID: first.ID, Kind: msg.EvValidity}) // final, and no receipt asked for
	put(t, s, message(s, time.Now()))
	wantErr(t, "Put once more", tryPut(s, message(s, time.Now())), ErrFull)
	if st := s.Stats(); st.LiveTotal != 3 || st.Full != 3 || st.Max != 3 {
		t.Errorf("Stats: %d live of %d, %d refused; want 3 of 3, 3", st.LiveTotal, st.Max, st.Full)
	}
}

// A refused put gives its place back.
func TestRefusedPutsKeepNoPlace(t *testing.T) {
	s := started(t, Options{Max: 2})
	m := message(s, time.Now())
	put(t, s, m)
	for range 5 {
		wantErr(t, "Put of the same id", tryPut(s, m), ErrDuplicate)
	}
	put(t, s, message(s, time.Now()))
}

func TestPutRefusesWhatDoesNotFit(t *testing.T) {
	s := started(t, Options{})
	for name, spoil := range map[string]func(*Message){
		"message id": func(m *Message) { m.ID = msg.ID{} },
		"expires_at": func(m *Message) { m.ExpiresAt = time.Time{} },
		"pdu":        func(m *Message) { m.PDU = make([]byte, maxPDU+1) },
		"from":       func(m *Message) { m.From = strings.Repeat("x", 256) },
		"system_id":  func(m *Message) { m.Account.SystemID = strings.Repeat("x", 256) },
	} {
		m := message(s, time.Now())
		spoil(m)
		err := tryPut(s, m)
		wantErr(t, "Put with a bad "+name, err, ErrInvalid)
		if !strings.Contains(err.Error(), name) {
			t.Errorf("Put with a bad %s = %q, want it named", name, err)
		}
	}
	big := message(s, time.Now())
	big.PDU = bytes.Repeat([]byte{7}, maxPDU)
	put(t, s, big)
	if m, err := s.Message(big.ID); err != nil || len(m.PDU) != maxPDU {
		t.Errorf("Message of 128 KiB = %v", err)
	}
	wantErr(t, "claim without a device", s.Do(context.Background(), Event{ID: big.ID, Kind: msg.EvClaim}).Err, ErrRefused)
	long := Event{ID: big.ID, Kind: msg.EvClaim, Device: strings.Repeat("d", 256)}
	wantErr(t, "claim by a device of 256 octets", s.Do(context.Background(), long).Err, ErrRefused)
}

func TestNotFound(t *testing.T) {
	s := started(t, Options{})
	id := s.NewID()
	_, err := s.Get(id)
	wantErr(t, "Get", err, ErrNotFound)
	_, err = s.Message(id)
	wantErr(t, "Message", err, ErrNotFound)
	wantErr(t, "Do", s.Do(context.Background(), Event{ID: id, Kind: msg.EvRead}).Err, ErrNotFound)
	for _, wire := range []string{"", "0000002a", id.String(), strings.Repeat("x", 70_000)} {
		if got, ok := s.Resolve(wire); ok {
			t.Errorf("Resolve(%.30q) = %s, want none", wire, got)
		}
	}
}

// Callbacks may put and post: the committer never waits for them.
func TestCallbacksMayPost(t *testing.T) {
	s := started(t, Options{})
	const chains, links = 20, 50
	var wg sync.WaitGroup
	wg.Add(chains)
	var link func(n int) func(error)
	link = func(n int) func(error) {
		return func(err error) {
			if err != nil || n == 0 {
				if err != nil {
					t.Errorf("Put = %v", err)
				}
				wg.Done()
				return
			}
			m := message(s, time.Now())
			s.Put(m, func(err error) {
				if err != nil {
					link(0)(err)
					return
				}
				s.Post(Event{ID: m.ID, Kind: msg.EvPushBegin}, func(r Result) { link(n - 1)(r.Err) })
			})
		}
	}
	for range chains {
		link(links)(nil)
	}
	wg.Wait()
	if st := s.Stats(); st.Live[msg.Pushing] != chains*links || st.Puts != chains*links || st.Events != chains*links {
		t.Errorf("Stats: %d PUSHING, %d puts, %d events; want %d of each", st.Live[msg.Pushing], st.Puts, st.Events, chains*links)
	}
}

// More than one transaction holds is committed in parts, all of it in order.
func TestTooBigForATransaction(t *testing.T) {
	s := open(t, Options{memTable: 1 << 20}) // a transaction of 150 KiB
	const n = 60
	errs := make(chan error, n)
	results := make(chan Result, n)
	var ids []msg.ID
	for range n {
		m := message(s, time.Now())
		m.PDU = bytes.Repeat([]byte{1}, 16<<10)
		ids = append(ids, m.ID)
		s.Put(m, func(err error) { errs <- err })
		s.Post(Event{ID: m.ID, Kind: msg.EvClaim, Device: "phone"}, func(r Result) { results <- r })
	}
	s.Start()
	for range n {
		if err := <-errs; err != nil {
			t.Fatalf("Put = %v", err)
		}
		if r := <-results; r.Err != nil || r.Record.State != msg.Claimed {
			t.Fatalf("claim = %v in %s", r.Err, r.Record.State)
		}
	}
	if c := s.Stats().Commits; c < 7 {
		t.Errorf("%d commits for 960 KiB, want 7 or more", c)
	}
	huge := message(s, time.Now())
	huge.PDU = make([]byte, maxPDU)
	s.Put(huge, func(err error) { errs <- err })
	put(t, s, message(s, time.Now()))
	if err := <-errs; err != nil && !errors.Is(err, badger.ErrTxnTooBig) {
		t.Errorf("Put of 128 KiB = %v", err)
	}
	for _, id := range ids {
		if _, err := s.Message(id); err != nil {
			t.Errorf("Message(%s) = %v", id, err)
		}
	}
}

func TestDoEndsWithItsContext(t *testing.T) {
	s := open(t, Options{}) // not started: nothing answers
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	wantErr(t, "Do", s.Do(ctx, Event{ID: s.NewID(), Kind: msg.EvClaim, Device: "a"}).Err, context.Canceled)
}
