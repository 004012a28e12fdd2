package dispatch

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"shunt/push"
	"shunt/store/registry"
	"shunt/store/spool"
)

// lane is an app's queue of messages to be pushed, its workers, and what is
// known of its providers.
type lane struct {
	app      App
	jobs     *queue[spool.Record]
	breakers map[environment]*push.Breaker // not changed once it is made
	resting  resting
}

// environment is a provider that can fail by itself: Apple's sandbox is another
// one than its production.
type environment struct {
	platform registry.Platform
	sandbox  bool
}

func newLane(a App) *lane {
	l := &lane{app: a, jobs: newQueue[spool.Record](), breakers: make(map[environment]*push.Breaker)}
	for p := range a.Senders {
		l.breakers[environment{p, false}] = new(push.Breaker)
		l.breakers[environment{p, true}] = new(push.Breaker)
	}
	return l
}

// ready tells whether a push could be tried with one provider at least. The
// sandboxes do not count: hardly a device is there.
func (l *lane) ready(now time.Time) bool {
	for e, b := range l.breakers {
		if !e.sandbox && b.Ready(now) {
			return true
		}
	}
	return false
}

// Reasons of pushes that were not sent.
const (
	breakerOpen  = "breaker-open"
	tokenResting = "token-resting"
)

// try sends one push, unless the provider's breaker is open or the provider
// asked to leave this token alone.
func (d *Dispatcher) try(ctx context.Context, l *lane, dev registry.Device, n push.Notification) (r push.Result, sent bool) {
	now := d.o.Now()
	if l.resting.has(dev.Token, now) {
		return push.Result{Outcome: push.Busy, Reason: tokenResting, TokenBusy: true}, false
	}
	b := l.breakers[environment{dev.Platform, dev.Sandbox}]
	probe, ok := b.Allow(now)
	if !ok {
		return push.Result{Outcome: push.Busy, Reason: breakerOpen}, false
	}
	r = l.app.Senders[dev.Platform].Send(ctx, n)
	now = d.o.Now()
	if r.TokenBusy {
		l.resting.add(dev.Token, now, r.RetryAfter)
		r.RetryAfter = 0 // the token's, not the lane's
	}
	if b.Done(now, probe, r) {
		s := b.Status(now)
		log := d.o.Log.With("app", l.app.ID, "provider", dev.Platform.String(), "sandbox", dev.Sandbox)
		if s.State == push.BreakerClosed {
			log.Info("provider takes pushes again")
		} else {
			log.Warn("provider does not take pushes, messages go as plain SMS; it is tried again", "reason", s.Reason, "until", s.Until)
		}
	}
	return r, true
}

// Lane is what a status shows of one provider of an app.
type Lane struct {
	App      string
	Platform registry.Platform
	Sandbox  bool
	Breaker  push.BreakerStatus
}

// Lanes are the providers of all apps: in production, and those sandboxes whose
// breaker ever opened.
func (d *Dispatcher) Lanes() []Lane {
	var all []Lane
	now := d.o.Now()
	for _, l := range d.apps {
		for e, b := range l.breakers {
			if s := b.Status(now); !e.sandbox || s.Trips > 0 {
				all = append(all, Lane{App: l.app.ID, Platform: e.platform, Sandbox: e.sandbox, Breaker: s})
			}
		}
	}
	slices.SortFunc(all, func(a, b Lane) int {
		return strings.Compare(a.App+" "+a.Platform.String(), b.App+" "+b.Platform.String())
	})
	return all
}

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
