package receipt

import (
	"time"
	"unique"

	"shunt/gateway/msg"
)

// ends are the sender and the recipient of a message.
type ends struct {
	from unique.Handle[string]
	to   msg.Number
}

// queued is a receipt, or a part of a reply, that waits or is in flight.
type queued struct {
	id       msg.ID
	notice   msg.Notice // 0: the final receipt
	reply    bool       // id is a reply's
	tries    uint32     // how often it was sent and not taken, since the start
	part     int        // of the reply, counted from 0
	deadline time.Time  // until then it waits for a bind
	ends     ends
	place    uint64 // among those of its account
}

func (q *queued) kind() string {
	if q.reply {
		return "reply"
	}
	return "receipt"
}

// line is the queue of one account, under Deliverer.mu. Between a sender and a
// recipient one receipt is in flight at a time, since a window keeps no order
// and an ESME may answer one and lose the other.
type line struct {
	account  msg.Account
	strands  map[ends]*strand
	ready    []*strand // those with something to send and nothing in flight, in turn
	added    uint64
	waiting  int
	inFlight int
	dirty    bool
	notUntil time.Time // the ESME asked for time
}

// strand is what waits between a sender and a recipient, in order.
type strand struct {
	ends    ends
	waiting []queued
	busy    bool // one is in flight
	ready   bool // it is in line.ready
}

func newLine(a msg.Account) *line { return &line{account: a, strands: make(map[ends]*strand)} }

func (l *line) add(q queued) {
	l.added++
	q.place = l.added
	s := l.strands[q.ends]
	if s == nil {
		s = &strand{ends: q.ends}
		l.strands[q.ends] = s
	}
	s.waiting = append(s.waiting, q)
	l.waiting++
	l.offer(s)
}

// offer puts a strand at the end of those that may send, if it may.
func (l *line) offer(s *strand) {
	if !s.busy && !s.ready && len(s.waiting) > 0 {
		s.ready = true
		l.ready = append(l.ready, s)
	}
}

// take takes the next one that may go; there is one.
func (l *line) take() queued {
	s := l.ready[0]
	l.ready = l.ready[1:]
	q := s.waiting[0]
	s.waiting = s.waiting[1:]
	s.ready, s.busy = false, true
	l.waiting--
	l.inFlight++
	return q
}

// done ends what take took.
func (l *line) done(q queued) {
	l.inFlight--
	s := l.strands[q.ends]
	s.busy = false
	if len(s.waiting) == 0 {
		delete(l.strands, q.ends)
		return
	}
	l.offer(s)
}

// putBack lets what take took wait again, before what came after it.
func (l *line) putBack(q queued) {
	l.inFlight--
	l.waiting++
	s := l.strands[q.ends]
	s.busy, s.ready = false, true
	s.waiting = append([]queued{q}, s.waiting...)
	at := 0
	for at < len(l.ready) && l.ready[at].waiting[0].place < q.place {
		at++
	}
	l.ready = append(l.ready[:at:at], append([]*strand{s}, l.ready[at:]...)...)
}
