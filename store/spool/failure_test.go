package spool

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
)

var errDisk = errors.New("input/output error")

// failing lets commits fail while it is on. Where ghost is on, the octets reach
// the disk nevertheless, as when only the sync failed.
type failing struct{ on, ghost atomic.Bool }

func (f *failing) commit(txn *badger.Txn) error {
	if !f.on.Load() {
		return txn.Commit()
	}
	if f.ghost.Load() {
		return errors.Join(txn.Commit(), errDisk)
	}
	return errDisk
}

// A failed commit leaves nothing of its batch, whoever waits gets its error,
// and what follows goes on.
func TestCommitFails(t *testing.T) {
	var f failing
	var log bytes.Buffer
	observed := 0
	s := open(t, Options{Max: 3, Logger: slog.New(slog.NewTextHandler(&log, nil)), Observe: func(*Change) { observed++ }})
	s.commit = f.commit
	s.Start()
	m := message(s, time.Now())
	put(t, s, m)
	before := get(t, s, m.ID)
	f.on.Store(true)
	// Of the first put nobody knows whether it is on disk; the others are kept off
	// it. None of them keeps a place.
	err := tryPut(s, message(s, time.Now()))
	wantErr(t, "Put", err, errDisk)
	wantErr(t, "Put", err, ErrUnsure)
	for range 10 {
		err := tryPut(s, message(s, time.Now()))
		wantErr(t, "Put while the disk fails", err, errDisk)
		wantErr(t, "Put while the disk fails", err, ErrFailing)
		if errors.Is(err, ErrUnsure) {
			t.Fatalf("Put while the disk fails = %v, want one that is certainly not on disk", err)
		}
	}
	r := s.Do(context.Background(), Event{ID: m.ID, Kind: msg.EvClaim, Device: "phone"})
	wantErr(t, "claim", r.Err, errDisk)
	if r.Record != (Record{}) {
		t.Errorf("record with the failure: %+v, want none", r.Record)
	}
	if got := get(t, s, m.ID); got != before {
		t.Errorf("after the failure (-want +got):\n%s", cmp.Diff(before, got))
	}
	st := s.Stats()
	if st.Failures < 2 || !errors.Is(st.LastError, errDisk) || st.LastErrorAt.IsZero() || st.LiveTotal != 1 || st.Doubtful != 1 {
		t.Errorf("Stats: %+v, want 2 failures or more, one live, one doubtful: no more is tried before that is settled", st)
	}
	f.on.Store(false)
	if r := do(t, s, Event{ID: m.ID, Kind: msg.EvClaim, Device: "tablet"}); r.Device != "tablet" {
		t.Errorf("the first claim that was synced: %q, want tablet", r.Device)
	}
	put(t, s, message(s, time.Now()))
	put(t, s, message(s, time.Now()))
	shut(t, s)
	if st := s.Stats(); st.Doubtful != 0 {
		t.Errorf("%d messages are doubtful after commits that succeeded", st.Doubtful)
	}
	if observed != 4 {
		t.Errorf("%d changes were observed, want 4: three puts and a claim", observed)
	}
	if n := strings.Count(log.String(), "spool cannot write"); n != 1 {
		t.Errorf("the failure was logged %d times, want once", n)
	}
}

// What reached the disk of failed commits is taken back by the next one.
func TestGhostsAreTakenBack(t *testing.T) {
	for _, how := range []string{"the next event", "a retry", "Close"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) { ghosts(t, dir, how) })
		})
	}
}

func ghosts(t *testing.T, dir, how string) {
	var f failing
	f.ghost.Store(true)
	s := open(t, Options{Dir: dir})
	s.commit = f.commit
	s.Start()
	claimed, finished, other := message(s, time.Now()), message(s, time.Now()), message(s, time.Now())
	finished.RegisteredDelivery = 0
	for _, m := range []*Message{claimed, finished, other} {
		put(t, s, m)
	}
	do(t, s, Event{ID: finished.ID, Kind: msg.EvClaim, Device: "phone"})
	f.on.Store(true)
	ghost := message(s, time.Now())
	wantErr(t, "Put", tryPut(s, ghost), errDisk)
	fails := func(e Event) {
		t.Helper()
		wantErr(t, e.Kind.String(), s.Do(context.Background(), e).Err, errDisk)
	}
	fails(Event{ID: claimed.ID, Kind: msg.EvClaim, Device: "phone"})
	fails(Event{ID: finished.ID, Kind: msg.EvDelivered, Device: "phone"})
	f.on.Store(false)
	switch how {
	case "the next event":
		do(t, s, Event{ID: other.ID, Kind: msg.EvPushBegin})
	case "a retry":
		time.Sleep(2 * retryAfter)
		synctest.Wait()
		if n := s.Stats().Doubtful; n != 0 {
			t.Errorf("%d messages are doubtful after a retry", n)
		}
	}
	shut(t, s)
	s = open(t, Options{Dir: dir})
	if r := get(t, s, claimed.ID); r.State != msg.Accepted || r.Device != "" {
		t.Errorf("the claim that failed is there: %s by %q", r.State, r.Device)
	}
	if r := get(t, s, finished.ID); r.State != msg.Claimed {
		t.Errorf("the acknowledgement that failed is there: %s", r.State)
	}
	_, err := s.Get(ghost.ID)
	wantErr(t, "Get of the put that failed", err, ErrNotFound)
	_, err = s.Message(ghost.ID)
	wantErr(t, "Message of the put that failed", err, ErrNotFound)
	if st := s.Stats(); st.LiveTotal != 3 {
		t.Errorf("%d live, want 3", st.LiveTotal)
	}
	shut(t, s)
}

// A message that ends right after a failure of its own keeps its end.
func TestFinishAfterFailure(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { finishAfterFailure(t, dir) })
}

func finishAfterFailure(t *testing.T, dir string) {
	var f failing
	f.ghost.Store(true)
	s := open(t, Options{Dir: dir})
	s.commit = f.commit
	s.Start()
	m := message(s, time.Now())
	m.RegisteredDelivery = 0
	f.on.Store(true)
	wantErr(t, "Put", tryPut(s, m), errDisk)
	f.on.Store(false)
	time.Sleep(2 * retryAfter) // of the bubble: it has tried to write again
	put(t, s, m)               // again, with the same id
	f.on.Store(true)
	wantErr(t, "validity", s.Do(context.Background(), Event{ID: m.ID, Kind: msg.EvValidity}).Err, errDisk)
	f.on.Store(false)
	do(t, s, Event{ID: m.ID, Kind: msg.EvValidity})
	put(t, s, message(s, time.Now()))
	shut(t, s)
	s = open(t, Options{Dir: dir})
	if r := get(t, s, m.ID); r.State != msg.Expired || s.Stats().LiveTotal != 1 {
		t.Errorf("state = %s, %d live; want EXPIRED, 1", r.State, s.Stats().LiveTotal)
	}
}

// While the disk fails, the memory of what is doubtful stays bounded: by what one
// commit takes.
func TestDoubtIsBounded(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { boundedDoubt(t, dir) })
}

func boundedDoubt(t *testing.T, dir string) {
	var f failing
	s := open(t, Options{Dir: dir})
	s.commit = f.commit
	f.on.Store(true)
	const n = 5 * maxItems
	errs := make(chan error, n)
	for range n {
		s.Put(message(s, time.Now()), func(err error) { errs <- err })
	}
	s.Start()
	unsure := 0
	for range n {
		err := <-errs
		wantErr(t, "Put", err, errDisk)
		if errors.Is(err, ErrUnsure) {
			unsure++
		}
	}
	if d := s.Stats().Doubtful; d == 0 || d > maxItems || d != unsure {
		t.Errorf("%d messages are doubtful and %d puts were told so, want as many, at most %d", d, unsure, maxItems)
	}
	f.on.Store(false)
	time.Sleep(2 * retryAfter)
	synctest.Wait()
	if d := s.Stats().Doubtful; d != 0 {
		t.Errorf("%d messages are doubtful after the disk came back", d)
	}
	put(t, s, message(s, time.Now()))
	shut(t, s)
}

// What a commit that failed has left of ends, and the numbers of them, goes in one
// commit: a crash finds all of both or nothing.
func TestGhostEndsGoAtOnce(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var f failing
		f.ghost.Store(true)
		s := open(t, Options{Dir: dir})
		s.commit = f.commit
		const n = 2 * fewRepairs
		var ids []msg.ID
		for range n {
			m := message(s, time.Now())
			m.RegisteredDelivery = 0
			s.Put(m, nil)
			ids = append(ids, m.ID)
		}
		s.Start()
		synctest.Wait()
		errs := make(chan error, n)
		alone := func(do func()) {
			t.Helper()
			wantErr(t, "alone", s.alone(context.Background(), func() error { do(); return nil }), nil)
		}
		alone(func() { // so that one commit takes them all
			for _, id := range ids {
				s.Post(Event{ID: id, Kind: msg.EvValidity}, func(r Result) { errs <- r.Err })
			}
			f.on.Store(true)
		})
		for range n {
			wantErr(t, "the end", <-errs, errDisk)
		}
		ends := func() (ended, numbered int) {
			t.Helper()
			err := s.view(func(txn *badger.Txn) error {
				for _, id := range ids {
					if _, _, err := finished(txn, id); err == nil {
						ended++
					}
				}
				it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kOutcome}})
				defer it.Close()
				for it.Rewind(); it.Valid(); it.Next() {
					some, err := readOutcomes(it.Item())
					if err != nil {
						return err
					}
					numbered += len(some)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			return ended, numbered
		}
		if ended, numbered := ends(); ended != n || numbered != n {
			t.Fatalf("%d ended and %d numbered on disk by the commit that failed, want %d", ended, numbered, n)
		}
		alone(func() {
			s.commit = func(txn *badger.Txn) error {
				err := txn.Commit()
				if ended, numbered := ends(); ended != numbered {
					t.Errorf("%d ended and %d numbered on disk after a commit", ended, numbered)
				}
				return err
			}
		})
		time.Sleep(2 * retryAfter)
		synctest.Wait()
		if ended, numbered := ends(); ended != 0 || numbered != 0 {
			t.Errorf("%d ended and %d numbered on disk after the repair", ended, numbered)
		}
		for _, id := range ids {
			s.Post(Event{ID: id, Kind: msg.EvValidity}, func(r Result) { errs <- r.Err })
		}
		for range n {
			wantErr(t, "the end", <-errs, nil)
		}
		if ended, numbered := ends(); ended != n || numbered != n {
			t.Errorf("%d ended and %d numbered on disk, want %d", ended, numbered, n)
		}
		shut(t, s)
	})
}

// A spool closes also where no put of its whole life succeeded.
func TestCloseAfterNothingButFailures(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var f failing
		f.ghost.Store(true)
		s := open(t, Options{Dir: dir})
		s.commit = f.commit
		s.Start()
		f.on.Store(true)
		m := message(s, time.Now())
		wantErr(t, "Put", tryPut(s, m), errDisk)
		f.on.Store(false)
		shut(t, s)
		s = open(t, Options{Dir: dir})
		_, err := s.Get(m.ID)
		wantErr(t, "Get of the put that failed", err, ErrNotFound)
		shut(t, s)
	})
}
