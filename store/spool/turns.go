package spool

import (
	"cmp"
	"time"
	"unique"

	"shunt/gateway/msg"
)

// Between one sender and one recipient messages keep their order: a later one
// is HELD until every earlier one is with the app or with the SMSC, and of
// those that fell back one SMS goes after the other. What is forwarded is not
// here and waits for nobody.

// ends are a sender and a recipient.
type ends struct {
	from unique.Handle[string]
	to   msg.Number
}

func endsOf(r *Record) ends { return ends{unique.Make(r.From), r.To} }

// inTurn is Record.turn of an entry.
func (e *entry) inTurn() bool { return inTurn(e.state, e.hold()) }

func (e *entry) hold() msg.Hold {
	if e.more == nil {
		return msg.NoHold
	}
	return e.more.hold
}

// letter is Record.letter of an entry.
func (e *entry) letter() msg.ID {
	if e.flags&flagPart != 0 {
		return e.more.group
	}
	return e.id
}

// before is the order between two ends: by the hour that a message was
// scheduled for, or else by when it, or the first part of its long message, was
// accepted.
func (e *entry) before(o *entry) bool {
	p, q := e.place(), o.place()
	return p < q || p == q && cmp.Or(compare(e.letter(), o.letter()), compare(e.id, o.id)) < 0
}

// place is in milliseconds since 1970.
func (e *entry) place() int64 {
	at := e.letter().UnixMilli()
	if e.more != nil {
		at = max(at, e.more.due/int64(time.Millisecond))
	}
	return at
}

// underWay tells that e was let go on and is not yet decided. Nothing overtakes
// it any more: not a message that was scheduled for an earlier hour, nor one
// that was put with an earlier id, nor one that an app had and did not
// acknowledge.
func (e *entry) underWay() bool {
	return undecided(e.state) || e.called || e.flags&flagBegun != 0
}

// first is the message that goes first between two ends, nil if none is in
// turn: the one under way, or else the first in their order. The ring is in the
// order of the ids, which is nearly theirs.
func (x *index) first(p ends) *entry {
	oldest := x.byNumber.get(p.to)
	var first *entry
	for e := oldest; e != nil; {
		if e.from == p.from && e.inTurn() {
			if e.underWay() {
				return e
			}
			if first == nil || e.before(first) {
				first = e
			}
		}
		if e = e.newer; e == oldest {
			break
		}
	}
	return first
}

// busy tells whether a message of another letter goes first.
func (x *index) busy(p ends, letter msg.ID) bool {
	first := x.first(p)
	return first != nil && first.letter() != letter
}

// call finds what may go on between two ends, each once: the first message if
// it is HELD for its turn, and the SMS of the first message or of all parts of
// the first long one.
func (x *index) call(p ends, yield func(*entry)) {
	first := x.first(p)
	if first == nil {
		return
	}
	if first.state == msg.Held {
		if first.hold() == msg.HoldTurn && !first.called {
			first.called = true
			yield(first)
		}
		return
	}
	letter := []*entry{first}
	if first.flags&flagPart != 0 {
		letter = x.groups[first.more.group]
	}
	for _, e := range letter {
		if e.state == msg.Fallback && e.flags&flagBegun == 0 && !e.called {
			e.called = true
			yield(e)
		}
	}
}

// callPairs lets go on what the batch made first between its ends. The caller
// holds the index's lock.
func (s *Spool) callPairs() {
	for p := range s.batch.pairs {
		s.index.call(p, s.took)
	}
}

// callAll does so with all of them, oldest first: at the start, and when a
// commit that failed has lost some.
func (s *Spool) callAll() {
	s.recall = false
	x := s.index
	seen := make(map[ends]struct{}) // of those that are not alone
	x.mu.Lock()
	for _, e := range x.order[x.head:] {
		if e.state == msg.None || !e.inTurn() {
			continue
		}
		p := ends{e.from, e.to}
		if e.newer != e {
			if _, ok := seen[p]; ok {
				continue
			}
			seen[p] = struct{}{}
		}
		x.call(p, s.took)
	}
	x.mu.Unlock()
	s.tellTurns()
}

func (s *Spool) took(e *entry) { s.called = append(s.called, e.record()) }

// tellTurns queues the events of what was HELD, and tells the observer whose SMS
// may go.
func (s *Spool) tellTurns() {
	for i := range s.called {
		r := &s.called[i]
		e := Event{ID: r.ID, Kind: msg.EvTurn}
		switch {
		case r.State == msg.Held:
			s.push(item{event: e, turn: true})
		case s.o.Observe != nil:
			s.told = Change{Event: e, From: r.State, To: r.State, Record: *r, Turn: true}
			s.o.Observe(&s.told)
		}
	}
	clear(s.called)
	s.called = s.called[:0]
}
