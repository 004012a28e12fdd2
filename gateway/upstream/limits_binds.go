package upstream

import (
	"time"

	"shunt/smpp/pdu"
)

// isGuess tells whether a refused bind may be a guess at a system_id or a
// password: ESME_RINVSYSID and ESME_RINVPASWD (SMPP v3.4 §5.1.3), and
// ESME_RBINDFAIL, which many an SMSC answers in place of both. A peer that is
// bound already, throttled or met by a fault of the SMSC's has guessed nothing.
func isGuess(s pdu.Status) bool {
	return s == pdu.RINVPASWD || s == pdu.RINVSYSID || s == pdu.RBINDFAIL
}

// isBlocked tells whether binds of w's source are refused unasked.
func (w *waiting) isBlocked(now time.Time) bool {
	if w == nil {
		return false
	}
	w.g.mu.Lock()
	defer w.g.unlock()
	return w.src != nil && now.Before(w.src.until)
}

// failed counts a failed bind of w's source, and blocks it after too many. After
// a block one more failure is too many already, until the source has behaved for
// BlockMost.
func (w *waiting) failed(now time.Time) {
	if w == nil {
		return
	}
	g := w.g
	g.n.BindsFailed.Add(1)
	g.mu.Lock()
	defer g.unlock()
	s := w.src
	if s == nil || g.l.BindFailures == 0 || now.Before(s.until) {
		return
	}
	if now.Sub(s.since) >= g.l.BindFailureWindow {
		s.failures, s.since = 0, now
	}
	s.failures++
	most := g.l.BindFailures
	switch {
	case s.block > 0 && now.Sub(s.until) < g.l.BlockMost:
		most = 1
	default:
		s.block = 0
	}
	if s.failures < most {
		return
	}
	g.free(s) // of a block that ends at this very moment
	s.failures = 0
	s.block = min(max(2*s.block, g.l.BlockFirst), g.l.BlockMost)
	s.until = now.Add(s.block)
	var end *time.Timer
	end = time.AfterFunc(s.block, func() {
		g.mu.Lock()
		defer g.unlock()
		if s.end == end {
			g.free(s)
		}
	})
	s.end = end
	g.n.Blocks.Add(1)
	p, length := s.prefix, s.block
	g.notes = append(g.notes, func() { g.blocked(p, length) })
}

// free tells of the end of a block, once; the caller holds mu.
func (g *gate) free(s *source) {
	if s.end == nil {
		return
	}
	s.end.Stop()
	s.end = nil
	p := s.prefix
	g.notes = append(g.notes, func() { g.freed(p) })
}

// succeeded clears what w's source has failed before: somebody there knows a
// password.
func (w *waiting) succeeded() {
	if w == nil {
		return
	}
	w.g.mu.Lock()
	defer w.g.unlock()
	if s := w.src; s != nil {
		s.failures, s.block, s.until = 0, 0, time.Time{}
		w.g.free(s)
	}
}

// close stops the timers.
func (g *gate) close() {
	g.mu.Lock()
	defer g.unlock()
	for _, s := range g.sources {
		if s.end != nil {
			s.end.Stop()
			s.end = nil
		}
	}
}
