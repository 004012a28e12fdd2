package spool

import (
	"slices"
	"time"

	"shunt/gateway/msg"
)

// What a push comes to is written late: with the message's next change, which
// for most is the claim, or a second later. Nothing is done on the strength of
// it that must not be done twice: a message that a crash finds ACCEPTED on disk
// is pushed again, as one that is PUSHING is, under the same collapse id.

// lazyFor is how long a change may be in RAM alone.
const lazyFor = time.Second

// savesPerCommit bounds what a commit writes of earlier changes.
const savesPerCommit = 1000

// lazy tells that an applied event need not be on disk before anybody acts on
// it. A notice that it brings about must.
func lazy(r *Record, e *Event) bool {
	return e.Kind == msg.EvReceiptTried || (e.Kind == msg.EvPushBegin || e.Kind == msg.EvPushAccepted) && r.Owed == 0
}

// unsaved is a message whose record on disk is older than the one in RAM.
type unsaved struct {
	e     *entry
	since time.Time
}

func (u unsaved) settled() bool { return !u.e.unsaved || u.e.state == msg.None }

// keepLazily notes that e was changed and not written.
func (s *Spool) keepLazily(e *entry, now time.Time) {
	if !e.unsaved {
		e.unsaved = true
		s.unsaved = append(s.unsaved, unsaved{e, now})
	}
}

// saveDue tells that a change has been in RAM alone for long enough. What was
// written meanwhile, or has ended, is forgotten here.
func (s *Spool) saveDue() bool {
	settled := 0
	for settled < len(s.unsaved) && s.unsaved[settled].settled() {
		settled++
	}
	s.unsaved = slices.Delete(s.unsaved, 0, settled)
	return len(s.unsaved) > 0 && s.o.Now().Sub(s.unsaved[0].since) >= lazyFor
}

// saveUntil takes into the batch what was changed before t and not written.
func (b *batch) saveUntil(t time.Time) {
	for _, u := range b.s.unsaved {
		if u.since.After(t) || b.saved == savesPerCommit {
			return
		}
		b.saved++
		if u.settled() {
			continue
		}
		if i, ok := b.where[u.e.id]; ok && b.drafts[i].dirty {
			b.drafts[i].write = true
			continue
		}
		b.saves = append(b.saves, u.e)
	}
}

// writeSaves writes them.
func (b *batch) writeSaves(w *writer) {
	for _, e := range b.saves {
		r := e.record()
		key := b.idKey(kState, e.id)
		w.set(pair{key, b.value(key, func(a []byte) []byte { return appendRecord(a, &r, e.trail()) }), 0})
	}
}

// savesWritten notes that they are on disk.
func (s *Spool) savesWritten() {
	b := &s.batch
	for _, e := range b.saves {
		e.unsaved = false
	}
	for i := range b.drafts {
		if d := &b.drafts[i]; d.write && d.entry != nil {
			d.entry.unsaved = false
		}
	}
	s.unsaved = slices.Delete(s.unsaved, 0, b.saved)
}
