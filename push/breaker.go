package push

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// BreakerState says whether a lane is tried.
type BreakerState uint8

const (
	BreakerClosed   BreakerState = iota // everything is tried
	BreakerOpen                         // nothing is
	BreakerHalfOpen                     // one probe is under way, or may go
)

var breakerNames = [...]string{"closed", "open", "half-open"}

func (s BreakerState) String() string {
	if int(s) < len(breakerNames) {
		return breakerNames[s]
	}
	return fmt.Sprintf("breaker(%d)", uint8(s))
}

const (
	tripAfter  = 5 // failures in a row that open a breaker
	firstPause = time.Second
	lastPause  = time.Minute
)

// Breaker keeps messages from a lane whose provider does not take them: they
// go as SMS at once instead of after a time-out each. It opens after five
// failures in a row, or for as long as the provider asked to be left alone,
// and then lets one probe through: its success closes the breaker, its failure
// opens it again for twice as long, up to a minute, by a random factor of 0.5
// to 1.5. It is safe for concurrent use; the zero Breaker is closed.
type Breaker struct {
	ready atomic.Int64 // for Ready, which takes no lock: open until then, in unix nanoseconds; 0: closed; -1: open, and probed

	mu       sync.Mutex
	failures int // in a row
	pause    time.Duration
	until    time.Time // open until then; zero: closed
	probing  bool
	reason   string // of the last failure
	trips    uint64
}

// Allow tells whether a push may be tried now, and whether it is a probe. What
// it allows must be told to Done: only one probe is under way until then.
func (b *Breaker) Allow(now time.Time) (probe, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.until.IsZero() {
		return false, true
	}
	if now.Before(b.until) || b.probing {
		return false, false
	}
	b.probing = true
	b.ready.Store(-1)
	return true, true
}

// Ready tells whether Allow would allow one, and takes nothing: the decision
// asks it before a message is accepted, from many goroutines.
func (b *Breaker) Ready(now time.Time) bool {
	at := b.ready.Load()
	return at == 0 || at > 0 && now.UnixNano() >= at
}

// Done tells what came of a push that Allow allowed, as a probe or not; changed
// says that the breaker opened or closed by it.
func (b *Breaker) Done(now time.Time, probe bool, r Result) (changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	wasOpen := !b.until.IsZero()
	if wasOpen && !probe {
		return false // sent before it opened: it says nothing of now
	}
	b.probing = false
	if r.healthy() {
		b.failures, b.pause, b.until = 0, 0, time.Time{}
		b.ready.Store(0)
		return wasOpen
	}
	b.failures++
	b.reason = r.Reason
	if !wasOpen && b.failures < tripAfter && r.RetryAfter == 0 {
		return false
	}
	b.pause = min(max(2*b.pause, firstPause), lastPause)
	wait := max(time.Duration(float64(b.pause)*(0.5+rand.Float64())), r.RetryAfter)
	b.until = now.Add(wait)
	b.ready.Store(b.until.UnixNano())
	if !wasOpen {
		b.trips++
	}
	return !wasOpen
}

// BreakerStatus is what a status shows of a breaker.
type BreakerStatus struct {
	State  BreakerState
	Until  time.Time // of one that is open
	Reason string    // of the last failure
	Trips  uint64    // how often it opened
}

// Status is a snapshot.
func (b *Breaker) Status(now time.Time) BreakerStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := BreakerStatus{Until: b.until, Reason: b.reason, Trips: b.trips}
	switch {
	case b.until.IsZero():
	case now.Before(b.until):
		s.State = BreakerOpen
	default:
		s.State = BreakerHalfOpen
	}
	return s
}

// healthy tells whether the provider worked: it took the push, or said what is
// wrong with this token or this request alone.
func (r *Result) healthy() bool {
	switch r.Outcome {
	case Accepted, TokenDead, Rejected:
		return true
	case Busy:
		return r.TokenBusy
	}
	return false
}
