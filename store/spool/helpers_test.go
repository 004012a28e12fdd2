package spool

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"shunt/gateway/msg"
)

const testNumber msg.Number = 447700900042

// testMemTable keeps Badger's files small.
const testMemTable = 4 << 20

// open opens a spool that closes with the test.
func open(t testing.TB, o Options) *Spool {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.memTable == 0 {
		o.memTable = testMemTable
	}
	if o.Stall == 0 {
		o.Stall = time.Minute // a busy machine is no fault of the spool
	}
	s, err := Open(o)
	if err != nil {
		t.Fatalf("Open(%s) = %v", o.Dir, err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// started is open, running.
func started(t testing.TB, o Options) *Spool {
	t.Helper()
	s := open(t, o)
	s.Start()
	return s
}

func shut(t testing.TB, s *Spool) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
}

// message is one that asks for a receipt and has far deadlines, from a sender
// of its own: it waits for no other.
func message(s *Spool, now time.Time) *Message {
	id := s.NewID()
	return &Message{
		ID: id, WireID: id.String(), To: testNumber, App: "chat", From: "Bank " + id.String()[16:],
		Account:  msg.Account{SystemID: "bank", SystemType: "ota", AddressRange: "^44"},
		PDU:      []byte("\x00\x00\x00\x14\x00\x00\x00\x04 and so on"),
		Alphabet: 3, Version: 0x34, RegisteredDelivery: 1,
		ReceivedAt: now.UTC().Round(0), ClaimBy: now.Add(30 * time.Second).UTC().Round(0),
		ExpiresAt: now.Add(time.Hour).UTC().Round(0), Lease: 10 * time.Second,
	}
}

// put waits for the message to be on disk.
func put(t testing.TB, s *Spool, m *Message) {
	t.Helper()
	if err := tryPut(s, m); err != nil {
		t.Fatalf("Put(%s) = %v", m.ID, err)
	}
}

func tryPut(s *Spool, m *Message) error {
	done := make(chan error, 1)
	s.Put(m, func(err error) { done <- err })
	return <-done
}

// do applies an event that must succeed.
func do(t testing.TB, s *Spool, e Event) Record {
	t.Helper()
	r := s.Do(context.Background(), e)
	if r.Err != nil {
		t.Fatalf("Do(%s) in %s = %v", e.Kind, r.Record.State, r.Err)
	}
	return r.Record
}

// checkInBubbles is rapid.Check with a bubble of its own for every check. Each
// opens a spool of its own, so it makes a third of the checks.
func checkInBubbles(t *testing.T, prop func(*rapid.T)) {
	checks := flag.Lookup("rapid.checks").Value
	all := checks.String()
	n, err := strconv.Atoi(all)
	if err != nil {
		t.Fatal(err)
	}
	_ = checks.Set(strconv.Itoa(max(n/3, 1)))
	defer func() { _ = checks.Set(all) }()
	rapid.Check(t, func(rt *rapid.T) {
		var failure any
		synctest.Test(t, func(*testing.T) {
			defer func() { failure = recover() }()
			prop(rt)
		})
		if failure != nil {
			panic(failure)
		}
	})
}

func wantErr(t testing.TB, call string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("%s = %v, want %v", call, got, want)
	}
}

func get(t testing.TB, s *Spool, id msg.ID) Record {
	t.Helper()
	r, err := s.Get(id)
	if err != nil {
		t.Fatalf("Get(%s) = %v", id, err)
	}
	return r
}

// path is a way from ACCEPTED to where a test begins.
func path(id msg.ID, kinds ...msg.Event) []Event {
	var list []Event
	for _, k := range kinds {
		e := Event{ID: id, Kind: k}
		switch k {
		case msg.EvClaim, msg.EvDelivered, msg.EvRead:
			e.Device = "phone"
		case msg.EvSMSAccepted:
			e.Peer, e.SMSID = "smsc-own", fmt.Sprintf("%x", id[8:])
		}
		list = append(list, e)
	}
	return list
}

// ways leads to every situation that a message can be in.
var ways = []struct {
	name   string
	prefer msg.Prefer
	events []msg.Event
}{
	{"ACCEPTED", 0, nil},
	{"PUSHING", 0, []msg.Event{msg.EvPushBegin}},
	{"PUSHED", 0, []msg.Event{msg.EvPushBegin, msg.EvPushAccepted}},
	{"CLAIMED", 0, []msg.Event{msg.EvClaim}},
	{"CLAIMED possible-duplicate", msg.PossibleDuplicate, []msg.Event{msg.EvClaim}},
	{"DELIVERED", 0, []msg.Event{msg.EvClaim, msg.EvDelivered}},
	{"DELIVERED read", 0, []msg.Event{msg.EvClaim, msg.EvRead}},
	{"FALLBACK", 0, []msg.Event{msg.EvPushDead}},
	{"FALLBACK after a claim", msg.PossibleDuplicate, []msg.Event{msg.EvClaim, msg.EvLease}},
	{"FALLBACK begun", 0, []msg.Event{msg.EvPushDead, msg.EvSMSBegin}},
	{"SMS_UNKNOWN", 0, []msg.Event{msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSLost}},
	{"SMS_UNKNOWN begun", 0, []msg.Event{msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSLost, msg.EvSMSResubmit}},
	{"SMS_SUBMITTED", 0, []msg.Event{msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSAccepted}},
	{"SMS_DELIVERED", 0, []msg.Event{msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSAccepted, msg.EvSMSDelivered}},
	{"SMS_FAILED", 0, []msg.Event{msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSPermanent}},
	{"EXPIRED", 0, []msg.Event{msg.EvValidity}},
	{"UNKNOWN", 0, []msg.Event{msg.EvClaim, msg.EvValidity}},
	{"DELIVERED receipt taken", 0, []msg.Event{msg.EvClaim, msg.EvDelivered, msg.EvReceiptDone}},
	{"SMS_DELIVERED receipt taken", 0, []msg.Event{msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSAccepted, msg.EvSMSDelivered, msg.EvReceiptDone}},
}
