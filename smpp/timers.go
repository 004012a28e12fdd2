package smpp

import (
	"time"

	"shunt/smpp/pdu"
)

// expiryMarks remembers which sequence_number was given last at some moments,
// so that the requests older than the response time can be told apart without
// a time in every slot of the window.
type expiryMarks struct {
	at  [8]time.Time
	seq [8]uint32
	n   int
}

// add remembers seq for now, at most once in every eighth of keep.
func (m *expiryMarks) add(now time.Time, seq uint32, keep time.Duration) {
	if m.n > 0 && now.Sub(m.at[(m.n-1)%8]) < keep/6 {
		return
	}
	m.at[m.n%8], m.seq[m.n%8] = now, seq
	m.n++
}

// before finds the newest sequence_number that had been given by limit.
func (m *expiryMarks) before(limit time.Time) (seq uint32, ok bool) {
	for i := m.n - 1; i >= 0 && i >= m.n-8; i-- {
		if !m.at[i%8].After(limit) {
			return m.seq[i%8], true
		}
	}
	return 0, false
}

// keep runs once a second on the writer goroutine: liveness (SMPP v3.4 §7.2,
// enquire_link_timer), deadlines of calls, and slots of requests that the peer
// never answered. The latter are freed only when the window is full: until
// then a late response still finds its request.
func (s *Session) keep(now time.Time) {
	s.keepLink(now)
	s.keepActive(now)
	var late []call
	s.out.mu.Lock()
	for seq, c := range s.calls {
		if !now.Before(c.deadline) {
			late = append(late, c)
			delete(s.calls, seq)
			s.win.release(seq)
		}
	}
	if len(late) > 0 {
		s.out.room.Broadcast()
	}
	if seq := s.timedSeq.Load(); seq != 0 && now.Sub(s.start)-time.Duration(s.timedAt.Load()) > s.cfg.Response {
		s.timedSeq.CompareAndSwap(seq, 0) // it may never be answered
	}
	s.marks.add(now, s.win.last, s.cfg.Response)
	if s.win.full() {
		if seq, ok := s.marks.before(now.Add(-s.cfg.Response)); ok {
			if n := s.win.expire(seq); n > 0 {
				s.Stats.Expired.Add(uint64(n))
				s.out.room.Broadcast()
			}
		}
	}
	s.out.mu.Unlock()
	for _, c := range late {
		c.done(nil, ErrTimeout)
	}
}

// keepActive unbinds a peer that has sent nothing but enquire_link for the
// inactivity time. A session that is not served yet has the bind's own time.
func (s *Session) keepActive(now time.Time) {
	last := s.lastUse.Load()
	if s.cfg.Inactivity <= 0 || last == 0 || s.inactive.Load() {
		return
	}
	if now.Sub(s.start)-time.Duration(last) >= s.cfg.Inactivity {
		s.inactive.Store(true)
		s.Unbind(s.cfg.Response)
	}
}

// keepLink sends enquire_link into silence and closes a session whose peer
// answers nothing for a response time after that. A reader that is held back
// by another session hears nothing, and that is not the peer's silence.
func (s *Session) keepLink(now time.Time) {
	if !s.reading.Load() {
		s.lastRead.Store(int64(now.Sub(s.start)))
	}
	silent := now.Sub(s.start) - time.Duration(s.lastRead.Load())
	switch {
	case silent < s.cfg.EnquireLink:
		s.linkPending = false
	case !s.linkPending:
		s.linkPending = true
		s.ask(pdu.EnquireLink)
	case silent >= s.cfg.EnquireLink+s.cfg.Response:
		s.Close(ErrSilent)
	}
}

// ask sends an enquire_link, or an unbind, that takes no slot of the window: a
// peer that lets the window fill up is the very one to be asked whether it
// lives, or told good-bye.
func (s *Session) ask(id pdu.ID) {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if s.out.err != nil {
		return
	}
	seq := s.win.skip()
	s.askedSeq.Store(seq) // record, then write
	s.out.buf = pdu.AppendHeader(s.out.buf, id, pdu.ROK, seq)
	s.out.pdus++
	s.out.signal()
}
