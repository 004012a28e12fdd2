package spool

import (
	"fmt"
	"time"
)

// A commit that failed leaves open what of it is on disk: the octets may have
// reached the log and only their sync failed. RAM keeps the state before it;
// the next commit writes that state over whatever is there. Until then the
// messages concerned are doubtful: a crash could bring them back. So a message
// whose put was in such a commit must not go another way, and no more are put
// until a commit has succeeded.

// repairsPerCommit bounds what a commit writes for earlier ones.
const repairsPerCommit = 256

// retryAfter is how long a failed timer event or repair waits.
const retryAfter = time.Second

// failBatch drops the batch: nothing of it is visible, every caller gets err.
func (s *Spool) failBatch(items []item, err error) {
	now := s.o.Now()
	b := &s.batch
	if b.handed {
		for i := range b.drafts {
			if d := &b.drafts[i]; d.write && (!d.finished || d.rec.live()) {
				s.doubtful[d.rec.ID] = d.finished
			}
		}
		s.cursorDoubtful = true
		s.outcomesFailed()
	}
	s.cursorMoves = false
	s.retryAt, s.lastFailure = now.Add(retryAfter), err
	b.arena = nil // Badger may still hold it
	if !s.failing {
		s.failing = true
		s.o.Logger.Error("spool cannot write", "error", err)
	}
	s.stats.failed(err, now, len(s.doubtful))
	for i := range items {
		it := &items[i]
		switch {
		case it.body != nil && b.outs[i].dead:
		case it.body != nil:
			s.slots.Add(-1)
			it.put.answer(b.putError(i, err))
		case it.must:
			s.lost = append(s.lost, *it)
		case it.turn:
			if e := s.index.byID[it.event.ID]; e != nil {
				e.called = false
			}
			s.recall = true
		case it.timer:
			if e := s.index.byID[it.event.ID]; e != nil && !e.timer.set() {
				s.wheel.Set(&e.timer, nanos(s.retryAt))
			}
		case it.done != nil:
			it.done(Result{Err: err})
		}
	}
}

// putError is what a put gets whose commit failed: one that Badger was never
// handed is certainly not on disk.
func (b *batch) putError(i int, err error) error {
	switch {
	case b.outs[i].err != nil:
		return b.outs[i].err
	case b.handed:
		return fmt.Errorf("%w: %w", ErrUnsure, err)
	}
	return err
}

// writeRepairs writes the states that are true over what failed commits may
// have left. The batch's own writes follow and win.
func (b *batch) writeRepairs(w *writer) {
	s := b.s
	s.repairing = s.repairing[:0]
	for id, finished := range s.doubtful {
		if len(s.repairing) == repairsPerCommit {
			break
		}
		s.repairing = append(s.repairing, id)
		key := b.idKey(kState, id)
		if finished { // its record is still that of before
			w.delete(key)
			continue
		}
		w.delete(b.idKey(kDone, id))
		if e := s.index.byID[id]; e != nil {
			r := e.record()
			w.set(pair{key, b.value(key, func(a []byte) []byte { return appendRecord(a, &r, e.trail()) }), 0})
			continue
		}
		w.delete(key)
		w.delete(b.idKey(kBody, id))
	}
}

// repaired drops the doubts that a successful commit settled, by a repair or
// by a later state of the same message.
func (s *Spool) repaired() {
	if len(s.doubtful) > 0 {
		for i := range s.batch.drafts {
			if d := &s.batch.drafts[i]; d.write {
				delete(s.doubtful, d.rec.ID)
			}
		}
	}
	for _, id := range s.repairing {
		delete(s.doubtful, id)
	}
	s.repairing = s.repairing[:0]
}
