package spool

import (
	"time"

	"shunt/gateway/msg"
)

// A commit takes up to a second on a bad disk; more timers than this at a time
// would only make the queue long.
const firePerRound = maxItems

// maxSleep bounds a sleep while a timer is set: the sleep runs on the monotonic
// clock, and the deadlines are on the wall's, which may be set forward.
const maxSleep = time.Second

// setTimer sets e's timer to the next deadline of its state.
func (s *Spool) setTimer(e *entry) {
	if due := e.deadlines().next(s.o.ReceiptGrace); due != 0 {
		s.wheel.Set(e, due)
		return
	}
	e.stopTimer()
}

// setAllTimers sets them anew: at the start, and when the clock was set back.
func (s *Spool) setAllTimers(now time.Time) {
	s.wheel = newWheel(now)
	for _, e := range s.index.order[s.index.head:] {
		if e.state != msg.None {
			e.timer = timer{}
			s.setTimer(e)
		}
	}
}

// fire queues the events of the timers that are due, like any other event:
// what was queued before them wins.
func (s *Spool) fire() {
	now := s.o.Now()
	if s.wheel.Behind(now) {
		s.o.Logger.Warn("clock was set back: timers are set anew")
		s.setAllTimers(now)
	}
	for _, e := range s.wheel.Advance(now, firePerRound) {
		kind := e.deadlines().event(now.UnixNano())
		s.push(item{event: Event{ID: e.id, Kind: kind, Reason: msg.ReasonDeadline}, timer: true})
	}
}

// untilNext is how long the committer may sleep; false: until it is woken.
func (s *Spool) untilNext(now time.Time) (time.Duration, bool) {
	next, ok := s.wheel.Next()
	if s.failing && (!ok || s.retryAt.Before(next)) {
		next, ok = s.retryAt, true
	}
	if len(s.unsaved) > 0 {
		if due := s.unsaved[0].since.Add(lazyFor); !ok || due.Before(next) {
			next, ok = due, true
		}
	}
	return min(max(next.Sub(now), 0), maxSleep), ok
}
