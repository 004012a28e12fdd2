package spool

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
)

// keys counts what the database shows, by kind.
func keys(t *testing.T, s *Spool) map[byte]int {
	t.Helper()
	n := make(map[byte]int)
	err := s.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if k := it.Item().Key()[0]; k != 'M' {
				n[k]++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What is over is deleted, key by key, in the order of the ids; what is not over
// when it is its turn is deleted later, also by another run.
func TestJanitor(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o := Options{Dir: dir, Retention: time.Hour, ReceiptGrace: time.Second}
		s := started(t, o)
		var ids []msg.ID
		for i := range 50 {
			m := message(s, time.Now())
			m.WireID = s.ShortID()
			m.ExpiresAt = time.Now().Add(48 * time.Hour)
			m.RegisteredDelivery = 0
			if i >= 48 {
				m.DueAt = time.Now().Add(24 * time.Hour)
			}
			put(t, s, m)
			ids = append(ids, m.ID)
		}
		for _, id := range ids[:47] { // 47 waits for an SMS's receipt
			for _, e := range path(id, msg.EvClaim, msg.EvDelivered) {
				do(t, s, e)
			}
		}
		if n := keys(t, s); n[kBody] != 50 || n[kDone] != 47 || n[kNumber] != 50 || n[kWire] != 50 {
			t.Fatalf("keys before: %v", n)
		}
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		if n := keys(t, s); n[kBody] != 50 || n[kDone] != 47 {
			t.Errorf("within the retention: %v, want all", n)
		}
		time.Sleep(time.Minute + 2*s.slack())
		synctest.Wait()
		if n := keys(t, s); n[kBody] != 3 || n[kDone] != 0 || n[kNumber] != 3 || n[kWire] != 3 || n[kStep] != 0 || n[kLate] != 3 {
			t.Errorf("after it: %v, want what is of three messages, and when to look again", n)
		}
		do(t, s, Event{ID: ids[47], Kind: msg.EvCancel})
		do(t, s, Event{ID: ids[48], Kind: msg.EvCancel})
		shut(t, s)

		s = started(t, o)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if n := keys(t, s); n[kBody] != 1 || n[kDone] != 0 || n[kNumber] != 1 || n[kLate] != 1 {
			t.Errorf("another run: %v, want what is of the one that is live", n)
		}
		wantState(t, s, "the scheduled one", ids[49], msg.Held)
		time.Sleep(46 * time.Hour)
		synctest.Wait()
		if s.Stats().LiveTotal != 0 {
			t.Errorf("still live: %v", s.Stats().Live)
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if n := keys(t, s); len(n) > 1 || len(n) == 1 && n[kOutcome] == 0 {
			t.Errorf("at the end: %v, want none but outcomes that nobody took", n)
		}
		shut(t, s)
	})
}
