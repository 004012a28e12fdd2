package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
	"shunt/store"
)

// A commit takes what is queued up to these limits, and while callers keep
// coming waits this long for as many as came before.
const (
	maxBatchWrites = 4000
	maxBatchBytes  = 1 << 20
	linger         = 2 * time.Millisecond
	queueLength    = 1024
)

// request is one caller's changes: their order is kept, and the first that
// fails ends the request.
type request struct {
	ctx     context.Context
	changes []func(b *batch, req *request) error
	done    chan struct{} // closed by the committer, after which err may be read
	applied int           // changes before the one that failed
	err     error
}

// submit hands changes to the committer and returns once they are on stable
// storage and in the index, or refused. After the context's end they may
// still be carried out.
func (r *Registry) submit(ctx context.Context, changes ...func(*batch, *request) error) (applied int, err error) {
	req, err := r.hand(ctx, changes...)
	if err != nil {
		return 0, err
	}
	return r.await(ctx, req)
}

// hand hands changes to the committer, behind all that were handed to it before.
func (r *Registry) hand(ctx context.Context, changes ...func(*batch, *request) error) (*request, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	req := &request{ctx: ctx, changes: changes, done: make(chan struct{})}
	select {
	case <-r.quit:
		return nil, ErrClosed
	default:
	}
	select {
	case r.queue <- req:
		return req, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-r.quit:
		return nil, ErrClosed
	}
}

// await waits for what came of changes that were handed over; see submit.
func (r *Registry) await(ctx context.Context, req *request) (applied int, err error) {
	select {
	case <-req.done:
	case <-ctx.Done():
		return 0, fmt.Errorf("registry: outcome unknown: %w", ctx.Err())
	case <-r.committed:
		// The committer has ended: it has either finished req or never saw it.
		select {
		case <-req.done:
		default:
			return 0, ErrClosed
		}
	}
	return req.applied, req.err
}

// commitLoop is the single writer of the database. It ends when quit is
// closed, after it has carried out what is queued.
func (r *Registry) commitLoop() {
	defer close(r.committed)
	last := 0
	for {
		var reqs []*request
		select {
		case req := <-r.queue:
			reqs = r.gather(req, last)
		case e := <-r.exclusives:
			e.done <- e.do()
			continue
		case <-r.quit:
			select {
			case req := <-r.queue:
				reqs = []*request{req}
			default:
				return
			}
		}
		last = len(reqs)
		r.carryOut(reqs)
	}
}

// gather takes what is queued behind first. While callers are many, those
// that the last commit released are on their way back: it waits for as many.
func (r *Registry) gather(first *request, last int) []*request {
	reqs := []*request{first}
	size := len(first.changes)
	var timeout <-chan time.Time
	if last > 1 {
		t := time.NewTimer(linger)
		defer t.Stop()
		timeout = t.C
	}
	for size < maxBatchWrites/2 {
		select {
		case req := <-r.queue:
			reqs, size = append(reqs, req), size+len(req.changes)
			continue
		default:
		}
		if timeout == nil || len(reqs) >= last {
			break
		}
		select {
		case req := <-r.queue:
			reqs, size = append(reqs, req), size+len(req.changes)
		case <-timeout:
			timeout = nil
		case <-r.quit:
			timeout = nil
		}
	}
	return reqs
}

// carryOut turns requests into as few commits as the limits allow and answers
// each when its last change is durable.
func (r *Registry) carryOut(reqs []*request) {
	b := r.newBatch()
	open := 0 // requests before this index are answered
	flush := func(upTo int) {
		r.flush(b)
		b.read.Discard()
		for ; open < upTo; open++ {
			close(reqs[open].done)
		}
	}
	for i, req := range reqs {
		if err := req.ctx.Err(); err != nil {
			req.err = err // withdrawn in time
			continue
		}
		for _, change := range req.changes {
			if b.writes >= maxBatchWrites || b.bytes >= maxBatchBytes {
				flush(i)
				b = r.newBatch()
			}
			if req.err != nil {
				break // its changes before this one were not written
			}
			if err := change(b, req); err != nil {
				req.err = err
				break
			}
			req.applied++
		}
	}
	flush(len(reqs))
}

func (r *Registry) newBatch() *batch {
	return &batch{
		read:   r.db.NewTransaction(false),
		now:    r.now().UTC().Round(0),
		known:  &r.apps,
		states: map[msg.Number]*Registration{},
		owners: map[[32]byte]owner{},
		fresh:  map[string]uint16{},
		absent: r.absent(),
		onBad: func(err error) {
			r.log.Warn("registry: corrupt record replaced", "error", err)
		},
	}
}

// absent tells of a number that there is no record of, as far as a look into the
// index can: nil while it is not whole, or where records cannot be read and so
// have no entry. The committer alone changes both, and asks between its commits.
func (r *Registry) absent() func(msg.Number) bool {
	if !r.ready.Load() || r.Count().Corrupt > 0 {
		return nil
	}
	return func(n msg.Number) bool { return r.index.entries.get(uint64(n)) == 0 }
}

// flush writes the batch, then brings the index in line with what is written.
func (r *Registry) flush(b *batch) {
	done, err := r.write(b.steps)
	for _, s := range b.steps[:done] {
		if s.app != "" {
			r.apps.add(s.app, s.appAt)
		}
	}
	r.index.mu.Lock()
	for _, s := range b.steps[:done] {
		if s.number != 0 {
			r.setIndex(s.number, s.word)
		}
	}
	r.index.mu.Unlock()
	if err == nil {
		return
	}
	r.log.Error("registry: commit failed", "error", err)
	for _, s := range b.steps[done:] {
		if s.at < s.request.applied {
			s.request.applied = s.at
			s.request.err = fmt.Errorf("registry: commit: %w", err)
		}
		r.refresh(s.number)
	}
}

// write commits steps in order, in halves where one transaction cannot hold
// them, and returns how many are on stable storage.
func (r *Registry) write(steps []step) (int, error) {
	if len(steps) == 0 {
		return 0, nil
	}
	err := r.writeOnce(steps)
	if err == nil {
		return len(steps), nil
	}
	if !errors.Is(err, badger.ErrTxnTooBig) || len(steps) == 1 {
		return 0, err
	}
	half := len(steps) / 2
	done, err := r.write(steps[:half])
	if err != nil {
		return done, err
	}
	more, err := r.write(steps[half:])
	return done + more, err
}

func (r *Registry) writeOnce(steps []step) error {
	if err := store.Room(r.db.Opts().Dir); err != nil {
		return err
	}
	txn := r.db.NewTransaction(true)
	defer txn.Discard()
	for _, s := range steps {
		for _, w := range s.writes {
			var err error
			switch {
			case w.value == nil:
				err = txn.Delete(w.key)
			case w.ttl > 0:
				err = txn.SetEntry(badger.NewEntry(w.key, w.value).WithTTL(w.ttl))
			default:
				err = txn.Set(w.key, w.value)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", keyName(w.key), err)
			}
		}
	}
	return txn.Commit()
}

// setIndex records a change. Until the index is complete it also keeps the
// scan, whose view is older, from undoing it. The caller holds index.mu.
func (r *Registry) setIndex(n msg.Number, w uint64) {
	if r.changed != nil {
		r.changed[n] = struct{}{}
	}
	r.index.set(n, w)
}

// refresh reads back what a failed commit has left of a number, so that the
// index says what the database says.
func (r *Registry) refresh(n msg.Number) {
	if n == 0 {
		return
	}
	var w uint64
	err := r.db.View(func(txn *badger.Txn) error {
		reg, err := getRegistration(txn, n)
		if err != nil {
			return err
		}
		w = wordOf(&reg, func(name string) uint16 {
			i, ok := r.apps.index(name)
			if !ok {
				r.log.Error("registry: app without an index", "app", name)
			}
			return i
		})
		return nil
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		r.log.Error("registry: read back after a failed commit", "number", n.Masked(), "error", err)
		return
	}
	r.index.mu.Lock()
	r.setIndex(n, w)
	r.index.mu.Unlock()
}
