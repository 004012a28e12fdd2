package spool

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
)

// A reply's steps are in a row of their own ("Q"), which has the form of a row of
// the trail: the message's record belongs to the committer, may have ended long
// before, and is written for an event of the state table alone. The row is
// written in the commits that take the reply and end it, is kept for as long as
// the message is, or if it ends later for the same retention, and goes by the
// janitor.

func replyStepsKey(message, reply msg.ID) []byte {
	return append(idKey(kReplySteps, message), reply[:]...)
}

// note writes that r was taken, and then, unless t is nil, what became of a part
// of it. A row that is not there begins anew: an earlier program wrote none.
func (w *replies) note(txn *badger.Txn, r *Reply, t *Taken) error {
	key := replyStepsKey(r.Message, r.ID)
	fields, err := getFields(txn, key)
	if err != nil && !errors.Is(err, ErrNotFound) {
		w.s.stats.bad.Add(1) // the reply goes on without what cannot be read
	}
	v := append([]byte{recordVersion}, fields...)
	if err != nil {
		v = appendStep(v, &Step{At: r.At, Event: msg.EvReply, Detail: fmt.Sprintf("reply=%s parts=%d", r.ID, len(r.Parts))})
	}
	if t != nil {
		detail := "reply=" + r.ID.String()
		if len(r.Parts) > 1 {
			detail += fmt.Sprintf(" part=%d", t.Part+1)
		}
		if t.Detail != "" {
			detail += " " + t.Detail
		}
		v = appendStep(v, &Step{At: t.At, Event: msg.EvReplyDone, Reason: t.Reason, Detail: detail})
	}
	now := w.s.o.Now()
	keep := max(r.Expires.Sub(now), 0) + w.s.keepDone()
	if rec, live := w.s.index.get(r.Message); live {
		keep = max(keep, w.s.keepFor(&rec, now))
	}
	return txn.SetEntry(badger.NewEntry(key, seal(v, 0, key)).WithTTL(keep))
}

// replySteps are those of all replies to a message, in the order of time.
func replySteps(txn *badger.Txn, id msg.ID) (steps []Step, err error) {
	it := txn.NewIterator(badger.IteratorOptions{PrefetchValues: true, PrefetchSize: 4, Prefix: idKey(kReplySteps, id)})
	defer it.Close()
	for it.Rewind(); it.Valid() && err == nil; it.Next() {
		err = it.Item().Value(func(value []byte) error {
			fields, err := unseal(it.Item().Key(), value)
			if err == nil {
				steps, err = decodeSteps(steps, fields)
			}
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("trace of replies to %s: %w", id, err)
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return a.At.Compare(b.At) })
	return steps, nil
}

// withReplies puts the steps of replies between a message's own. They take no
// arrow: the message is where it was.
func withReplies(steps, replies []Step) []Step {
	for _, r := range replies {
		at := len(steps)
		for at > 0 && steps[at-1].At.After(r.At) {
			at--
		}
		if at > 0 {
			r.From, r.To = steps[at-1].To, steps[at-1].To
		}
		steps = slices.Insert(steps, at, r)
	}
	return steps
}

// sweepReplies deletes the rows whose retention is over. None of a message that
// is younger than the retention can be.
func (s *Spool) sweepReplies(now time.Time) (more bool, err error) {
	end := idBefore(now.Add(-s.o.Retention - s.slack()))
	var bin dustbin
	err = s.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kReplySteps}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			item := it.Item()
			if id, ok := idOf(item.Key(), 1); ok && compare(id, end) >= 0 {
				break
			}
			if time.Unix(int64(item.ExpiresAt()), 0).Add(-2 * s.slack()).After(now) {
				continue
			}
			if more = len(bin.drop) == cleanedPerCommit; more {
				break
			}
			bin.drop = append(bin.drop, item.KeyCopy(nil))
		}
		return nil
	})
	if err != nil || len(bin.drop) == 0 {
		return false, err
	}
	return more, s.empty(&bin, s.cleaned)
}
