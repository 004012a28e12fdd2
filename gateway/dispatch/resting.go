package dispatch

import (
	"sync"
	"time"
)

const (
	tokenRest    = 30 * time.Second // of a token that its provider calls too busy, unless it says how long
	longestRest  = 10 * time.Minute
	maxResting   = 100_000
	sweepResting = 10 * time.Second
)

// resting are the tokens that their provider wants left alone.
type resting struct {
	mu    sync.Mutex
	until map[string]time.Time
	swept time.Time
}

func (r *resting) add(token string, now time.Time, asked time.Duration) {
	if asked <= 0 {
		asked = tokenRest
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until == nil {
		r.until = make(map[string]time.Time)
	}
	if now.Sub(r.swept) >= sweepResting {
		r.swept = now
		for t, until := range r.until {
			if !now.Before(until) {
				delete(r.until, t)
			}
		}
	}
	if len(r.until) < maxResting {
		r.until[token] = now.Add(min(asked, longestRest))
	}
}

func (r *resting) has(token string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	until, ok := r.until[token]
	return ok && now.Before(until)
}
