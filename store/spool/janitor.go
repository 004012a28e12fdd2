package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
)

// What was written about a message has a time to live, after which nobody sees
// it. That frees no room: its keys begin with the id, so that newer ones never
// lie between them, and Badger rewrites a table only for newer keys in its
// range. So the janitor deletes what is over: a deletion is a newer key.
//
// It walks the messages in the order of their ids, a little later than their
// retention, and never looks back: "Mspool/cleaned" holds the last id. A message
// that is not over by then, because it was scheduled or waited for long, gets a
// row of its own ("L") with the time at which it is looked at again.

// kLate is a message that the janitor looks at again: seconds since 1970, id →
// nothing.
const kLate = 'L'

var keyCleaned = []byte("Mspool/cleaned")

// cleanedPerCommit bounds a transaction of the janitor, in messages.
const cleanedPerCommit = 1000

// slack is how late the janitor may come. What is to be deleted lives for twice
// that longer than its retention, so that the janitor still finds it.
func (s *Spool) slack() time.Duration {
	return min(max(s.o.Retention/16, time.Second), time.Hour)
}

// keepDone is the time to live of what was written at a message's end.
func (s *Spool) keepDone() time.Duration { return s.o.Retention + 2*s.slack() }

// clean runs the janitor until the committer ends.
func (s *Spool) clean() {
	tick := time.NewTicker(s.slack() / 2)
	defer tick.Stop()
	said := false
	for {
		select {
		case <-tick.C:
		case <-s.stopped:
			return
		}
		err := s.sweep(s.o.Now())
		switch {
		case err == nil || errors.Is(err, ErrClosed):
			said = false
		case !said:
			said = true
			s.o.Logger.Error("what is past its retention cannot be deleted, it takes room until it is", "error", err)
		}
	}
}

// sweep deletes all that is over at now.
func (s *Spool) sweep(now time.Time) error {
	for _, part := range []func(time.Time) (more bool, err error){s.sweepByID, s.sweepLate, s.sweepReplies} {
		for more := true; more; {
			select {
			case <-s.stopped:
				return nil
			default:
			}
			err := s.o.Room()
			if err == nil {
				more, err = part(now)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// dustbin collects what one transaction of the janitor does.
type dustbin struct {
	drop [][]byte
	late [][]byte
}

// sweepByID looks at the next messages whose ids are older than the retention.
func (s *Spool) sweepByID(now time.Time) (more bool, err error) {
	last, end := s.cleaned, idBefore(now.Add(-s.o.Retention-s.slack()))
	var bin dustbin
	err = s.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kBody}})
		defer it.Close()
		n := 0
		for it.Seek(append(idKey(kBody, last), 0)); it.Valid(); it.Next() {
			id, ok := idOf(it.Item().Key(), 1)
			if !ok || compare(id, end) >= 0 {
				break
			}
			if n++; n > cleanedPerCommit {
				more = true
				break
			}
			last = id
			if err := s.judge(txn, &bin, id, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || last == s.cleaned {
		return false, err
	}
	if err := s.empty(&bin, last); err != nil {
		return false, err
	}
	s.cleaned = last
	return more, nil
}

// sweepLate looks again at messages that were not over when it was their turn.
func (s *Spool) sweepLate(now time.Time) (more bool, err error) {
	var bin dustbin
	err = s.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kLate}})
		defer it.Close()
		n := 0
		for it.Seek(lateKey(s.lateFrom, msg.ID{})); it.Valid(); it.Next() {
			key := it.Item().KeyCopy(nil)
			id, ok := idOf(key, 9)
			if !ok {
				bin.drop = append(bin.drop, key)
				continue
			}
			due := int64(binary.BigEndian.Uint64(key[1:]))
			if due > now.Unix() {
				break
			}
			if n++; n > cleanedPerCommit {
				more = true
				break
			}
			s.lateFrom = due
			bin.drop = append(bin.drop, key)
			if err := s.judge(txn, &bin, id, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(bin.drop) == 0 {
		return false, err
	}
	return more, s.empty(&bin, s.cleaned)
}

// judge puts all that was written about a message into the bin, or the time at
// which it is to be looked at again.
func (s *Spool) judge(txn *badger.Txn, bin *dustbin, id msg.ID, now time.Time) error {
	again := func(at time.Time) { bin.late = append(bin.late, lateKey(at.Unix()+1, id)) }
	if _, live := s.index.get(id); live {
		again(now.Add(s.o.Retention))
		return nil
	}
	r, t, over, err := s.past(txn, id, now)
	switch {
	case errors.Is(err, ErrNotFound): // of a put that failed
		m, err := bodyOf(txn, id)
		if err != nil {
			return nil //nolint:nilerr // what cannot be read goes by its time to live
		}
		r = newRecord(m)
	case err != nil:
		return nil // likewise
	case over.After(now):
		again(over)
		return nil
	}
	bin.drop = append(bin.drop, idKey(kBody, id), idKey(kDone, id), appendNumberKey(nil, r.To, id))
	if r.Part() {
		bin.drop = append(bin.drop, appendGroupKey(nil, r.Group, id))
	}
	if r.WireID != id.String() {
		bin.drop = append(bin.drop, wireKey(r.WireID))
	}
	if steps, err := decodeSteps(nil, t.steps); err == nil && len(steps) == int(t.count) {
		return nil
	}
	it := txn.NewIterator(badger.IteratorOptions{Prefix: idKey(kStep, id)})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		bin.drop = append(bin.drop, it.Item().KeyCopy(nil))
	}
	return nil
}

// past is the record of a message that left the live set, and when its retention
// is over.
func (s *Spool) past(txn *badger.Txn, id msg.ID, now time.Time) (r Record, t trail, over time.Time, err error) {
	item, err := txn.Get(idKey(kDone, id))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return r, t, over, ErrNotFound
	}
	if err != nil {
		return r, t, over, err
	}
	if at := item.ExpiresAt(); at > 0 {
		over = time.Unix(int64(at), 0).Add(-2 * s.slack())
	} else {
		over = now.Add(s.o.Retention)
	}
	r, t, err = finished(txn, id)
	return r, t, over, err
}

func bodyOf(txn *badger.Txn, id msg.ID) (*Message, error) {
	fields, err := getFields(txn, idKey(kBody, id))
	if err != nil {
		return nil, err
	}
	return decodeBody(id, fields)
}

// empty deletes and notes what is in the bin, in one transaction or, if it does
// not fit one, in several: each of them may be the last, since all can be done
// again.
func (s *Spool) empty(bin *dustbin, cleaned msg.ID) error {
	s.diskMu.RLock()
	defer s.diskMu.RUnlock()
	if s.diskClosed {
		return ErrClosed
	}
	txn := s.db.NewTransaction(true)
	defer func() { txn.Discard() }()
	do := func(change func(*badger.Txn) error) error {
		err := change(txn)
		if !errors.Is(err, badger.ErrTxnTooBig) {
			return err
		}
		if err := txn.Commit(); err != nil {
			return err
		}
		txn = s.db.NewTransaction(true)
		return change(txn)
	}
	for _, key := range bin.late {
		value := seal([]byte{recordVersion}, 0, key)
		if err := do(func(txn *badger.Txn) error { return txn.Set(key, value) }); err != nil {
			return fmt.Errorf("note what is to be deleted later: %w", err)
		}
	}
	for _, key := range bin.drop {
		if err := do(func(txn *badger.Txn) error { return txn.Delete(key) }); err != nil {
			return fmt.Errorf("delete what is over: %w", err)
		}
	}
	value := seal(append([]byte{recordVersion}, cleaned[:]...), 0, keyCleaned)
	if err := do(func(txn *badger.Txn) error { return txn.Set(keyCleaned, value) }); err != nil {
		return fmt.Errorf("note what was deleted: %w", err)
	}
	if err := txn.Commit(); err != nil {
		return fmt.Errorf("delete what is over: %w", err)
	}
	return nil
}

// loadCleaned reads how far the janitor came. Without that it begins anew, which
// is slow and right.
func (s *Spool) loadCleaned(txn *badger.Txn) {
	fields, err := getFields(txn, keyCleaned)
	if id, ok := idOf(fields, 0); err == nil && ok {
		s.cleaned = id
	}
}

func lateKey(at int64, id msg.ID) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{kLate}, uint64(max(at, 0))), id[:]...)
}

// idBefore is a bound: ids that were made before t are less.
func idBefore(t time.Time) (id msg.ID) {
	binary.BigEndian.PutUint64(id[:8], uint64(max(t.UnixMilli(), 0))<<16)
	return id
}
