package spool

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
)

// trail is a message's latest trace steps as its record carries them, one after
// the other, so that a transition is one write and not two. What is older than
// maxTrail octets is in rows of its own ("E"), each with some steps.
//
// count is the number of all steps that a message ever had: the row that takes
// the trail over has that in its key, so that rows sort as they happened.
type trail struct {
	steps string
	count uint16
}

// maxTrail bounds what every transition writes again. A life in the app takes
// some 100 octets.
const maxTrail = 1 << 10

// addStep appends a step to the trail of a draft. A trail that is long enough
// goes into a row of its own with this commit, which is not lazy then: RAM has
// the trail no more.
func (b *batch) addStep(d *draft, s *Step) {
	if len(d.trail.steps) >= maxTrail {
		old := d.trail.steps
		key := b.key(func(a []byte) []byte { return appendStepKey(a, d.rec.ID, d.trail.count) })
		value := b.value(key, func(a []byte) []byte { return append(a, old...) })
		b.rows = append(b.rows, pair{key, value, b.s.keepFor(&d.rec, b.now)})
		d.trail.steps, d.write = "", true
	}
	b.step = appendStep(b.step[:0], s)
	d.trail.steps += string(b.step)
	d.trail.count = more(d.trail.count)
}

// decodeSteps reads what appendStep wrote, once or several times.
func decodeSteps[B string | []byte](steps []Step, b B) ([]Step, error) {
	d := &decoder{b: []byte(b)}
	for len(d.b) > 0 && d.err == nil {
		if s := d.step(); d.err == nil {
			steps = append(steps, s)
		}
	}
	return steps, d.err
}

// Trace is everything that happened to a message, in order; ErrNotFound where
// nothing is kept of it.
func (s *Spool) Trace(id msg.ID) ([]Step, error) {
	var steps, answers []Step
	latest, live := s.index.trailOf(id)
	err := s.view(func(txn *badger.Txn) error {
		if !live {
			_, t, err := s.kept(txn, id)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			latest = t.steps
		}
		it := txn.NewIterator(badger.IteratorOptions{PrefetchValues: true, PrefetchSize: 16, Prefix: idKey(kStep, id)})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			err := it.Item().Value(func(value []byte) error {
				fields, err := unseal(it.Item().Key(), value)
				if err == nil {
					steps, err = decodeSteps(steps, fields)
				}
				return err
			})
			if err != nil {
				return fmt.Errorf("trace of %s, step %d: %w", id, len(steps), err)
			}
		}
		var err error
		answers, err = replySteps(txn, id)
		return err
	})
	if err != nil {
		return steps, err
	}
	if steps, err = decodeSteps(steps, latest); err != nil {
		return steps, fmt.Errorf("trace of %s, step %d: %w", id, len(steps), err)
	}
	if len(steps) == 0 {
		return nil, ErrNotFound
	}
	return withReplies(steps, answers), nil
}
