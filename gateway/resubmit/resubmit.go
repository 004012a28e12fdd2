// Package resubmit remembers which diverted submits were answered on a session
// that was lost before the answer was through, so that the same submit, sent
// again on the next session, gets the first one's message_id and is no second
// message.
package resubmit

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp/pdu"
)

const (
	// Within is how long after a session was lost a resubmit is recognised.
	Within = 60 * time.Second
	// maxAnswers bounds what one session can leave in doubt: more than a window.
	maxAnswers = 8192
	// maxLost bounds what all sessions together leave; beyond it the rest is
	// taken for new messages.
	maxLost = 200_000
)

// Key stands for the octets of a submit, its sequence_number aside, and for the
// account that sent it.
type Key [16]byte

// KeyOf makes the Key of p, a whole PDU.
func KeyOf(a msg.Account, p pdu.PDU) (k Key) {
	h := sha256.New()
	var n [2]byte
	for _, s := range [...]string{a.SystemID, a.SystemType, a.AddressRange} {
		binary.BigEndian.PutUint16(n[:], uint16(len(s)))
		_, _ = h.Write(n[:])
		_, _ = h.Write([]byte(s))
	}
	_, _ = h.Write(p[:12])
	_, _ = h.Write(p[16:])
	var sum [sha256.Size]byte
	copy(k[:], h.Sum(sum[:0]))
	return k
}

// Submit is one diverted submit. The Table's lock guards it.
type Submit struct {
	key     Key
	wireID  string
	at      time.Time
	end     uint64 // where its answer ends among the octets of its session; 0: none was given
	outcome outcome
	waiting []func(wireID string, ok bool) // resubmits that came before its outcome
	lost    time.Time                      // when its session was; zero: it is up, or this is in no doubt
	has     func(end uint64) bool          // of a lost session: see Lost
}

type outcome uint8

const (
	pending outcome = iota
	accepted
	failed
)

// Log is what one session has been sent for. The zero Log is empty; the Table's
// lock guards it.
type Log struct {
	submits []*Submit // oldest first
	lost    bool
}

// Table knows the answers in doubt of all sessions. The zero Table is empty. It
// is safe for concurrent use.
type Table struct {
	mu    sync.Mutex
	lost  map[Key][]*Submit // oldest first: those of the same octets are messages of their own
	doubt int               // how many are in lost
	swept time.Time
	some  atomic.Bool // lost is not empty
}

// Begin notes a submit of the session of l that is being stored under wireID.
func (t *Table) Begin(l *Log, k Key, wireID string, now time.Time) *Submit {
	s := &Submit{key: k, wireID: wireID, at: now}
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.lost {
		t.add(s, now)
		return s
	}
	old := 0
	for old < len(l.submits) && (now.Sub(l.submits[old].at) > Within || len(l.submits)-old >= maxAnswers) {
		old++
	}
	if old > 0 {
		l.submits = append(l.submits[:0], l.submits[old:]...)
	}
	l.submits = append(l.submits, s)
	return s
}

// Accepted says that s is stored, and answered with octets that end at end among
// those of its session.
func (t *Table) Accepted(s *Submit, end uint64) { t.settle(s, accepted, end) }

// Failed says that s is not stored, and went another way.
func (t *Table) Failed(s *Submit) { t.settle(s, failed, 0) }

func (t *Table) settle(s *Submit, o outcome, end uint64) {
	t.mu.Lock()
	s.outcome, s.end = o, end
	waiting := s.waiting
	s.waiting = nil
	if o == failed || end != 0 && s.has != nil && s.has(end) { // not stored; answered just before its session ended
		t.remove(s)
	}
	t.mu.Unlock()
	for _, f := range waiting {
		f(s.wireID, o == accepted)
	}
}

// Lost says that the session of l is gone. has tells whether its peer's system
// has acknowledged the octets up to an end; those answers are in no doubt.
func (t *Table) Lost(l *Log, has func(end uint64) bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.lost = true
	for _, s := range l.submits {
		if s.outcome != failed && now.Sub(s.at) <= Within && (s.end == 0 || !has(s.end)) {
			s.has = has
			t.add(s, now)
		}
	}
	l.submits = nil
}

// Restore puts a stored message in doubt that a run before this one accepted.
func (t *Table) Restore(k Key, wireID string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.add(&Submit{key: k, wireID: wireID, at: now, outcome: accepted}, now)
}

// add puts s in doubt; mu is held.
func (t *Table) add(s *Submit, now time.Time) {
	t.sweep(now)
	if t.lost == nil {
		t.lost = make(map[Key][]*Submit)
	}
	if t.doubt >= maxLost {
		return
	}
	s.lost = now
	t.lost[s.key] = append(t.lost[s.key], s)
	t.doubt++
	t.some.Store(true)
}

// remove takes s out of doubt, if it is there; mu is held.
func (t *Table) remove(s *Submit) {
	t.keep(s.key, func(o *Submit) bool { return o != s })
}

// keep leaves only those of a key for which ok says so; mu is held.
func (t *Table) keep(k Key, ok func(*Submit) bool) {
	all := t.lost[k]
	left := slices.DeleteFunc(all, func(s *Submit) bool { return !ok(s) })
	t.doubt -= len(all) - len(left)
	if len(left) == 0 {
		delete(t.lost, k)
	} else {
		t.lost[k] = left
	}
	t.some.Store(t.doubt > 0)
}

// sweep drops what is over; mu is held.
func (t *Table) sweep(now time.Time) {
	if now.Sub(t.swept) < time.Second {
		return
	}
	t.swept = now
	for k := range t.lost {
		t.keep(k, func(s *Submit) bool { return now.Sub(s.lost) <= Within })
	}
}

// Any tells whether anything is in doubt: most of the time nothing is.
func (t *Table) Any() bool { return t.some.Load() }

// InDoubt tells whether any answer is in doubt now.
func (t *Table) InDoubt(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.swept = time.Time{}
	t.sweep(now)
	return t.doubt > 0
}

// Take gives the answer in doubt to a submit with that Key, once: true says that
// found was or will be called, with the message_id of the first one, or not ok
// if that was not stored after all.
func (t *Table) Take(k Key, now time.Time, found func(wireID string, ok bool)) bool {
	t.mu.Lock()
	t.sweep(now)
	t.keep(k, func(s *Submit) bool { return now.Sub(s.lost) <= Within })
	if len(t.lost[k]) == 0 {
		t.mu.Unlock()
		return false
	}
	s := t.lost[k][0]
	t.remove(s)
	if s.outcome == pending {
		s.waiting = append(s.waiting, found)
		t.mu.Unlock()
		return true
	}
	t.mu.Unlock()
	found(s.wireID, true)
	return true
}
