package spool

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
)

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
	s.ended.clear() // it was later
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
