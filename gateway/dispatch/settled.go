package dispatch

import (
	"sync"
	"time"

	"shunt/store/spool"
)

const (
	settledFor = time.Hour // at least, and at most twice as long
	maxSettled = 100_000   // of one generation
)

// settled are the SMS whose messages have their outcome, as their SMSC names
// them. An SMSC repeats a receipt whose answer was lost with a bind, perhaps
// after the spool has let its message go: such a receipt is answered at once,
// and above all never taken for that of another SMS between the same two.
type settled struct {
	mu       sync.Mutex
	now, old map[[2]string]struct{} // by SMSC and id
	turned   time.Time
}

func (s *settled) add(r *spool.Record, now time.Time) {
	if r.SMSID == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil || now.Sub(s.turned) >= settledFor || len(s.now) >= maxSettled {
		s.old, s.now, s.turned = s.now, make(map[[2]string]struct{}), now
	}
	s.now[[2]string{r.Peer, r.SMSID}] = struct{}{}
}

func (s *settled) has(smsc, id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [2]string{smsc, id}
	_, ok := s.now[key]
	if !ok {
		_, ok = s.old[key]
	}
	return ok
}
