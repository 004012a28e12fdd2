package spool

import (
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
)

// A commit that failed leaves open what of it is on disk: the octets may have
// reached the log and only their sync failed. RAM keeps the state before it, and
// nothing more is written before that state is over whatever is there, all in one
// commit: the messages whose states it had changed are doubtful until then, and a
// crash could bring them back. So a message whose put was in it must not go
// another way.

// fewRepairs is up to how many doubtful messages are settled whenever something
// is to be written; more of them wait for the next retry, because each try adds to
// Badger's log.
const fewRepairs = 256

// retryAfter is how long a failed timer event or repair waits.
const retryAfter = time.Second

// failBatch drops a batch that was tried: nothing of it is visible.
func (s *Spool) failBatch(items []item, err error) {
	b := &s.batch
	if b.handed {
		for i := range b.drafts {
			if d := &b.drafts[i]; d.write && (!d.finished || d.rec.live()) {
				s.doubtful[d.rec.ID] = d.finished
			}
		}
		s.outcomesFailed()
	}
	s.cursorMoves = false
	s.failed(err)
	s.refuse(items, err)
}

// refuse has every caller get err.
func (s *Spool) refuse(items []item, err error) {
	b := &s.batch
	for i := range items {
		it := &items[i]
		switch {
		case it.body != nil:
			if it.put.begin() {
				s.slots.Add(-1)
				it.put.answer(b.putError(i, err))
			}
		case it.must:
			s.must = append(s.must, *it)
		case it.turn:
			if e := s.index.byID.get(it.event.ID); e != nil {
				e.called = false
			}
			s.recall = true
		case it.timer:
			if e := s.index.byID.get(it.event.ID); e != nil && !e.timerSet() {
				s.wheel.Set(e, nanos(s.retryAt))
			}
		case it.done != nil:
			it.done(Result{Err: err})
		}
	}
}

// failed notes that a commit failed.
func (s *Spool) failed(err error) {
	now := s.o.Now()
	s.retryAt, s.lastFailure = now.Add(retryAfter), err
	s.batch.arena = nil // Badger may still hold it
	if !s.failing {
		s.failing = true
		s.o.Logger.Error("spool cannot write", "error", err)
	}
	s.stats.failed(err, now, len(s.doubtful))
}

// putError is what a put gets whose commit failed: one that Badger was never
// handed is certainly not on disk.
func (b *batch) putError(i int, err error) error {
	switch {
	case i >= len(b.outs): // it was not looked at
		return fmt.Errorf("%w: %w", ErrFailing, err)
	case b.outs[i].err != nil:
		return b.outs[i].err
	case b.handed:
		return fmt.Errorf("%w: %w", ErrUnsure, err)
	}
	return err
}

// settle writes, after a commit that failed, what is true over what that may have
// left. It does nothing where none failed.
func (s *Spool) settle() error {
	switch {
	case !s.failing:
		return nil
	case len(s.doubtful) > fewRepairs && s.o.Now().Before(s.retryAt):
		return s.lastFailure
	}
	err := s.o.Room()
	if err == nil {
		err = s.batch.writeRepairs()
	}
	if err != nil {
		err = fmt.Errorf("spool: repair of %d entries: %w", len(s.doubtful), err)
		s.failed(err)
		return err
	}
	clear(s.doubtful)
	s.failing = false
	s.outcomeGhost = s.outcomeSeq.Load()
	s.cursorWritten()
	s.stats.settled()
	s.o.Logger.Info("spool writes again")
	return nil
}

// writeRepairs writes the true states of what is doubtful, takes back the numbers
// that were not given, and stores the cursor, also to see whether writing works.
// It is one transaction, unless the states of before take more than what failed
// took and the database refuses so much at a time.
func (b *batch) writeRepairs() error {
	s := b.s
	w := &writer{txn: s.db.NewTransaction(true)}
	defer func() { w.txn.Discard() }()
	if ghost := s.outcomeGhost; ghost > s.outcomeSeq.Load() {
		w.delete(b.key(func(a []byte) []byte { return outcomeKey(a, ghost) }))
	}
	b.writeCursor(w, b.low())
	for id, finished := range s.doubtful {
		b.writeRepair(w, id, finished)
		if !errors.Is(w.err, badger.ErrTxnTooBig) {
			continue
		}
		if err := s.commit(w.txn); err != nil {
			return err
		}
		w.txn.Discard()
		w.txn, w.err = s.db.NewTransaction(true), nil
		b.writeRepair(w, id, finished)
	}
	if w.err != nil {
		return w.err
	}
	return s.commit(w.txn)
}

func (b *batch) writeRepair(w *writer, id msg.ID, finished bool) {
	key := b.idKey(kState, id)
	if finished { // its record is still that of before
		w.delete(key)
		return
	}
	w.delete(b.idKey(kDone, id))
	if e := b.s.index.byID.get(id); e != nil {
		r := e.record()
		w.set(pair{key, b.value(key, func(a []byte) []byte { return appendRecord(a, &r, e.trail()) }), 0})
		return
	}
	w.delete(key)
	w.delete(b.idKey(kBody, id))
}
