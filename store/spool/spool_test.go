package spool

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
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
	s := started(t, Options{Observe: func(c Change) {
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
	do(t, s, Event{ID: m.ID, Kind: msg.EvSMSFailed, SMSErr: "011", Reason: msg.ReasonReceipt, Detail: strings.Repeat("x", 90)})
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
		"sms-failed SMS_SUBMITTED→SMS_FAILED receipt err=011 " + strings.Repeat("x", 64),
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

// Stop and start at every state: everything is as it was, and goes on.
func TestReopenAtEveryState(t *testing.T) {
	dir := t.TempDir()
	s := started(t, Options{Dir: dir})
	before := map[msg.ID]Record{}
	var ids []msg.ID
	for _, w := range ways {
		m := message(s, time.Now())
		m.Prefer, m.WireID, m.To = w.prefer, s.ShortID(), testNumber+msg.Number(len(ids))
		put(t, s, m)
		for _, e := range path(m.ID, w.events...) {
			do(t, s, e)
		}
		before[m.ID] = get(t, s, m.ID)
		ids = append(ids, m.ID)
	}
	stats := s.Stats()
	shut(t, s)
	s = open(t, Options{Dir: dir})
	var live []msg.ID
	for r := range s.Live {
		live = append(live, r.ID)
	}
	if !slices.IsSortedFunc(live, compare) {
		t.Errorf("Live is not oldest first")
	}
	for i, w := range ways {
		r := before[ids[i]]
		if got := get(t, s, r.ID); got != r {
			t.Errorf("%s after reopening (-want +got):\n%s", w.name, cmp.Diff(r, got))
		}
		if got := slices.Contains(live, r.ID); got != r.live() {
			t.Errorf("%s: in Live: %t, want %t", w.name, got, r.live())
		}
		if id, ok := s.Resolve(r.WireID); !ok || id != r.ID {
			t.Errorf("%s: Resolve(%s) = %s, %t", w.name, r.WireID, id, ok)
		}
		steps, err := s.Trace(r.ID)
		if err != nil || len(steps) != 1+len(w.events) {
			t.Errorf("%s: %d steps, %v; want %d", w.name, len(steps), err, 1+len(w.events))
		}
		id, ok := s.Correlate("smsc-own", r.SMSID)
		if want := r.live() && r.SMSID != ""; ok != want || ok && id != r.ID {
			t.Errorf("%s: Correlate = %s, %t; want %t", w.name, id, ok, want)
		}
	}
	if got := s.Stats(); !cmp.Equal(got.Live, stats.Live) || got.ReceiptsDue != stats.ReceiptsDue {
		t.Errorf("Stats after reopening: %v, %d receipts; want %v, %d", got.Live, got.ReceiptsDue, stats.Live, stats.ReceiptsDue)
	}
	s.Start()
	do(t, s, Event{ID: ids[0], Kind: msg.EvPushBegin})
	if steps, err := s.Trace(ids[0]); err != nil || len(steps) != 2 {
		t.Errorf("a step after reopening: %d steps, %v; want 2", len(steps), err)
	}
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

func TestByNumberAndRecent(t *testing.T) {
	s := started(t, Options{})
	const other = testNumber + 1
	var all []msg.ID
	for i := range 9 {
		m := message(s, time.Now())
		if i == 4 {
			m.To = other
		}
		put(t, s, m)
		all = append(all, m.ID)
	}
	do(t, s, Event{ID: all[0], Kind: msg.EvPushDead})              // the carrier's
	do(t, s, Event{ID: all[1], Kind: msg.EvClaim, Device: "a"})    // still in the list
	for _, e := range path(all[2], msg.EvClaim, msg.EvDelivered) { // acknowledged
		do(t, s, e)
	}
	for _, e := range path(all[3], msg.EvClaim, msg.EvDelivered, msg.EvReceiptDone) { // finished
		do(t, s, e)
	}
	list := func(rs []Record) (n []int) {
		for _, r := range rs {
			n = append(n, slices.Index(all, r.ID))
		}
		return n
	}
	for _, c := range []struct {
		n     msg.Number
		after msg.ID
		limit int
		want  []int
	}{
		{testNumber, msg.ID{}, 0, []int{1, 5, 6, 7, 8}}, {testNumber, all[5], 2, []int{6, 7}},
		{testNumber, all[8], 5, nil}, {other, msg.ID{}, 10, []int{4}}, {other + 1, msg.ID{}, 0, nil},
	} {
		if got := list(s.ByNumber(c.n, c.after, c.limit)); !slices.Equal(got, c.want) {
			t.Errorf("ByNumber(%s, %s, %d) = %v, want %v", c.n.Masked(), c.after, c.limit, got, c.want)
		}
	}
	recent := func(n msg.Number, limit int) []int {
		rs, err := s.Recent(n, limit)
		if err != nil {
			t.Errorf("Recent = %v", err)
		}
		return list(rs)
	}
	if got, want := recent(testNumber, 0), []int{8, 7, 6, 5, 3, 2, 1, 0}; !slices.Equal(got, want) {
		t.Errorf("Recent = %v, want %v", got, want)
	}
	if got, want := recent(testNumber, 3), []int{8, 7, 6}; !slices.Equal(got, want) {
		t.Errorf("Recent(3) = %v, want %v", got, want)
	}
	if got, want := recent(other, 3), []int{4}; !slices.Equal(got, want) {
		t.Errorf("Recent of the other = %v, want %v", got, want)
	}
}

// Ids need not come in order: the lists are by id nevertheless.
func TestIndexOrder(t *testing.T) {
	x := newIndex()
	var want []msg.ID
	for _, n := range []byte{5, 2, 9, 1, 7, 3, 8, 4, 6} {
		r := Record{ID: msg.ID{15: n}, To: testNumber, State: msg.Accepted}
		x.insert(&r, 1)
		want = append(want, r.ID)
	}
	slices.SortFunc(want, compare)
	check := func(what string) {
		t.Helper()
		var walk, waiting []msg.ID
		for _, r := range x.after(msg.ID{}, make([]Record, 0, 100)) {
			walk = append(walk, r.ID)
		}
		for _, r := range x.waiting(testNumber, msg.ID{}, 0) {
			waiting = append(waiting, r.ID)
		}
		if !slices.Equal(walk, want) || !slices.Equal(waiting, want) {
			t.Errorf("%s: after = %v, waiting = %v, want %v", what, walk, waiting, want)
		}
	}
	check("all")
	for _, n := range []byte{9, 1, 5} {
		x.remove(x.byID[msg.ID{15: n}])
		want = slices.DeleteFunc(want, func(id msg.ID) bool { return id[15] == n })
		check(fmt.Sprintf("without %d", n))
	}
	for len(want) > 0 {
		x.remove(x.byID[want[0]])
		want = want[1:]
		check("from the front")
	}
	if len(x.byNumber) != 0 || len(x.byID) != 0 {
		t.Errorf("the empty index holds %d numbers, %d ids", len(x.byNumber), len(x.byID))
	}
}

// The index tidies itself: what left long ago costs nothing.
func TestIndexForgets(t *testing.T) {
	x := newIndex()
	for i := range 100_000 {
		r := Record{To: msg.Number(i), State: msg.Accepted}
		binary.BigEndian.PutUint64(r.ID[8:], uint64(i))
		e := x.insert(&r, 1)
		if i != 50 {
			x.remove(e)
		}
	}
	if len(x.byID) != 1 || len(x.order) > 200 || cap(x.order) > 1000 {
		t.Errorf("one message is left; order has %d entries of %d", len(x.order), cap(x.order))
	}
}

func TestIDsGrow(t *testing.T) {
	var g idSource
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	last := g.next(now)
	for i := range 100_000 {
		switch {
		case i%1000 == 0:
			now = now.Add(time.Millisecond)
		case i == 5500:
			now = now.Add(-time.Hour)
		}
		id := g.next(now)
		if compare(id, last) <= 0 {
			t.Fatalf("id %d, %s, does not follow %s", i, id, last)
		}
		last = id
	}
	g.seen(msg.ID{0xff})
	if id := g.next(now); id[0] != 0xff {
		t.Errorf("after a greater id was seen: %s", id)
	}
	full := msg.ID{5: 1, 6: 0xff, 7: 0xff, 8: 0xff, 9: 0xff, 10: 0xff, 11: 0xff, 12: 0xff, 13: 0xff, 14: 0xff, 15: 0xff}
	add(&full, 1)
	if want := (msg.ID{5: 2}); full != want {
		t.Errorf("an overflow gives %x, want %x", full, want)
	}
}

func TestIDsAreUnique(t *testing.T) {
	s := open(t, Options{})
	const workers, each = 8, 2000
	ids, shorts := make([][]msg.ID, workers), make([][]string, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range each {
				ids[w], shorts[w] = append(ids[w], s.NewID()), append(shorts[w], s.ShortID())
			}
		})
	}
	wg.Wait()
	id, short := map[msg.ID]bool{}, map[string]bool{}
	for w := range workers {
		if !slices.IsSortedFunc(ids[w], compare) {
			t.Errorf("a caller's ids do not grow")
		}
		for i := range each {
			id[ids[w][i]], short[shorts[w][i]] = true, true
		}
	}
	if len(id) != workers*each || len(short) != workers*each {
		t.Errorf("%d ids, %d short ids; want %d of each", len(id), len(short), workers*each)
	}
}

func TestShortIDsAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	seen := map[string]bool{}
	for run := range 3 {
		s := open(t, Options{Dir: dir})
		n := shortBlock + 10
		if run == 1 {
			n = 3
		}
		for range n {
			id := s.ShortID()
			if seen[id] || len(id) != 8 || strings.Trim(id, "0123456789abcdef") != "" {
				t.Fatalf("run %d: ShortID() = %q: repeated, or not eight hex digits", run, id)
			}
			seen[id] = true
		}
		shut(t, s)
	}
}

// A damaged record costs one message, says which, and is kept.
func TestBadRecord(t *testing.T) {
	dir := t.TempDir()
	s := started(t, Options{Dir: dir})
	var ids []msg.ID
	for range 3 {
		m := message(s, time.Now())
		put(t, s, m)
		ids = append(ids, m.ID)
	}
	spoiled := []byte("this was a record")
	err := s.db.Update(func(txn *badger.Txn) error { return txn.Set(idKey(kState, ids[1]), spoiled) })
	if err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	var log bytes.Buffer
	s = started(t, Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if got := s.Stats(); got.SetAside != 1 || got.LiveTotal != 2 {
		t.Errorf("Stats: %d set aside, %d live; want 1, 2", got.SetAside, got.LiveTotal)
	}
	if !strings.Contains(log.String(), ids[1].String()) || !strings.Contains(log.String(), errCRC.Error()) {
		t.Errorf("log = %q, want the key and the cause", log.String())
	}
	do(t, s, Event{ID: ids[0], Kind: msg.EvPushBegin})
	err = s.view(func(txn *badger.Txn) error {
		item, err := txn.Get(append([]byte{kAside}, idKey(kState, ids[1])...))
		if err != nil {
			return err
		}
		return item.Value(func(v []byte) error {
			if !bytes.Equal(v, spoiled) {
				return fmt.Errorf("kept %q, want %q", v, spoiled)
			}
			return nil
		})
	})
	if err != nil {
		t.Errorf("the record set aside: %v", err)
	}
	shut(t, s)
	if s = open(t, Options{Dir: dir}); s.Stats().SetAside != 0 {
		t.Errorf("the record is set aside a second time")
	}
}

// A damaged record of a finished message is an error of that message alone.
func TestBadFinishedRecord(t *testing.T) {
	s := started(t, Options{})
	m := message(s, time.Now())
	put(t, s, m)
	for _, e := range path(m.ID, msg.EvClaim, msg.EvDelivered, msg.EvReceiptDone) {
		do(t, s, e)
	}
	if err := s.db.Update(func(txn *badger.Txn) error { return txn.Set(idKey(kDone, m.ID), []byte("nothing")) }); err != nil {
		t.Fatal(err)
	}
	_, err := s.Get(m.ID)
	wantErr(t, "Get", err, errCRC)
	for range 2 {
		wantErr(t, "read", s.Do(context.Background(), Event{ID: m.ID, Kind: msg.EvRead, Device: "phone"}).Err, errCRC)
	}
	put(t, s, message(s, time.Now()))
}

// A damaged cursor costs time, never a message.
func TestBadCursor(t *testing.T) {
	dir := t.TempDir()
	s := started(t, Options{Dir: dir})
	m := message(s, time.Now())
	put(t, s, m)
	err := s.db.Update(func(txn *badger.Txn) error { return txn.Set(keyCursor, []byte("nowhere")) })
	if err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	s = open(t, Options{Dir: dir})
	if get(t, s, m.ID).State != msg.Accepted || s.Stats().SetAside != 1 {
		t.Errorf("a damaged cursor lost the message or was not counted")
	}
}

// The cursor stays at or below every live message, whatever the order of puts,
// and follows them.
func TestCursor(t *testing.T) {
	dir := t.TempDir()
	s := started(t, Options{Dir: dir})
	early := message(s, time.Now())
	var rest []*Message
	for range 5 {
		rest = append(rest, message(s, time.Now()))
	}
	for _, m := range rest {
		put(t, s, m)
	}
	shut(t, s)
	s = started(t, Options{Dir: dir})
	if s.cursor != rest[0].ID {
		t.Errorf("cursor = %s, want the oldest, %s", s.cursor, rest[0].ID)
	}
	put(t, s, early) // below the cursor
	for _, m := range rest {
		for _, e := range path(m.ID, msg.EvClaim, msg.EvDelivered, msg.EvReceiptDone) {
			do(t, s, e)
		}
	}
	shut(t, s)
	s = started(t, Options{Dir: dir})
	if r := get(t, s, early.ID); r.State != msg.Accepted || s.cursor != early.ID {
		t.Errorf("the early message is %s, cursor %s; want ACCEPTED, %s", r.State, s.cursor, early.ID)
	}
	for _, e := range path(early.ID, msg.EvClaim, msg.EvDelivered, msg.EvReceiptDone) {
		do(t, s, e)
	}
	shut(t, s)
	s = open(t, Options{Dir: dir})
	if s.cursor != early.ID {
		t.Errorf("cursor of the empty spool = %s, want the last live one, %s", s.cursor, early.ID)
	}
	if id := s.NewID(); compare(id, rest[4].ID) <= 0 {
		t.Errorf("NewID after reopening = %s, want more than %s", id, rest[4].ID)
	}
}

func TestClose(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	m := message(s, time.Now())
	done := make(chan error, 1)
	s.Put(m, func(err error) { done <- err }) // queued before Start
	shut(t, s)
	if err := <-done; err != nil {
		t.Errorf("Put before Close = %v", err)
	}
	s.Start() // does nothing
	wantErr(t, "Put after Close", tryPut(s, message(s, time.Now())), ErrClosed)
	wantErr(t, "Do after Close", s.Do(context.Background(), Event{ID: m.ID, Kind: msg.EvPushBegin}).Err, ErrClosed)
	_, err := s.Message(m.ID)
	wantErr(t, "Message after Close", err, ErrClosed)
	_, err = s.Recent(m.To, 1)
	wantErr(t, "Recent after Close", err, ErrClosed)
	if err := s.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
	s = open(t, Options{Dir: dir})
	get(t, s, m.ID)
}

func TestOpenRefusesAnotherDatabase(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	if err := s.db.Update(func(txn *badger.Txn) error { return txn.Delete([]byte("M/schema")) }); err != nil {
		t.Fatal(err)
	}
	put(t, func() *Spool { s.Start(); return s }(), message(s, time.Now()))
	shut(t, s)
	if s, err := Open(Options{Dir: dir, memTable: testMemTable}); err == nil {
		t.Errorf("Open of a database without a schema record: no error")
		_ = s.Close()
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
