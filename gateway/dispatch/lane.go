package dispatch

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shunt/gateway/msg"
	"shunt/push"
	"shunt/store/registry"
)

const (
	defaultTook    = 100 * time.Millisecond // of a push, before the first one
	sandboxWorkers = 16                     // at most: hardly a device is there
	routers        = 4                      // of an app; each looks up one message's devices at a time

	// A message may wait for its push for two thirds of its claim time: the person
	// needs the rest of it. What would wait longer is better off as an SMS at once.
	waitShare, waitOf = 2, 3

	// maxWait is that wait of the built-in plan: beyond it a lane is said to be
	// full.
	maxWait = 30 * time.Second * waitShare / waitOf
	// pushTime is what must be left of a claim time for a push to make sense.
	pushTime = time.Second
)

// app is a configured app: what is to be given to its lanes, and the lanes.
type app struct {
	App
	jobs    *queue[arrival] // without an ID: a ping
	pings   pings
	waiting atomic.Int64 // in jobs
	lanes   []*lane      // not changed once they are made
	text    atomic.Bool  // App.Text by now

	work    atomic.Int64 // messages that were added and are not done with
	retired atomic.Bool  // nothing is added any more
	idle    func()       // closes done, once
	done    chan struct{}
	stop    context.CancelFunc // of its goroutines, once they are started
	running sync.WaitGroup
}

func newApp(c App, log *slog.Logger) *app {
	if log == nil {
		log = slog.Default()
	}
	a := &app{App: c, jobs: newQueue[arrival](), done: make(chan struct{})}
	a.idle = sync.OnceFunc(func() { close(a.done) })
	a.text.Store(c.Text)
	add := func(e environment, s push.Sender, workers int) {
		l := &lane{app: c.ID, env: e, sender: s, workers: workers, parts: newQueue[part]()}
		l.log = log.With("app", c.ID, "provider", e.platform.String(), "sandbox", e.sandbox)
		l.took.Store(int64(defaultTook))
		a.lanes = append(a.lanes, l)
	}
	for p, s := range c.Senders {
		add(environment{platform: p}, s, c.Workers)
		if p == registry.APNs {
			add(environment{p, true}, s, min(c.Workers, sandboxWorkers))
		}
	}
	return a
}

func (a *app) add(r arrival) {
	a.work.Add(1)
	a.waiting.Add(1)
	a.jobs.add(r)
}

// ready tells whether a push could be tried with one provider at least, soon
// enough for a claim within that time.
// The sandbox does not count. The decision asks for every message to a
// registered number, from many goroutines: ready takes no lock.
func (a *app) ready(now time.Time, claim time.Duration) bool {
	coming := a.waiting.Load() // all of it may be for one lane
	for _, l := range a.lanes {
		if !l.env.sandbox && l.breaker.Ready(now) && !l.full(coming, claim*waitShare/waitOf) {
			return true
		}
	}
	return false
}

func (a *app) queued() int {
	n := a.waiting.Load()
	for _, l := range a.lanes {
		n += l.waiting.Load()
	}
	return int(n)
}

// lane of a device; nil if the app has no access to its provider.
func (a *app) lane(dev *registry.Device) *lane {
	for _, l := range a.lanes {
		if l.env.platform == dev.Platform && (l.env.sandbox == dev.Sandbox || dev.Platform != registry.APNs) {
			return l
		}
	}
	return nil
}

// on are those of the devices that a lane reaches.
func (a *app) on(l *lane, devices []registry.Device) []registry.Device {
	n := 0
	for i := range devices {
		if a.lane(&devices[i]) == l {
			n++
		}
	}
	if n == len(devices) || n == 0 {
		return devices[:n]
	}
	mine := make([]registry.Device, 0, n)
	for i := range devices {
		if a.lane(&devices[i]) == l {
			mine = append(mine, devices[i])
		}
	}
	return mine
}

// environment is a provider that can fail by itself: Apple's sandbox is another
// one than its production.
type environment struct {
	platform registry.Platform
	sandbox  bool
}

// lane is an app's way to one environment: its own queue, workers and breaker,
// so that a provider that stands still holds back no other.
type lane struct {
	app     string
	env     environment
	sender  push.Sender
	log     *slog.Logger
	workers int
	parts   *queue[part]
	waiting atomic.Int64 // in parts
	took    atomic.Int64 // nanoseconds that a worker is busy with one, a moving average
	said    atomic.Bool  // that it is full
	breaker push.Breaker
	resting resting
}

// full tells whether what waits, and what is coming, would take the lane longer
// than wait. One for each worker always may wait.
func (l *lane) full(coming int64, wait time.Duration) bool {
	n := l.waiting.Load() + coming
	return n > int64(l.workers) && n*l.took.Load() > int64(wait)*int64(l.workers)
}

// measure takes the time that a worker was busy with one message.
func (l *lane) measure(d time.Duration) {
	old := l.took.Load()
	l.took.Store(old + (int64(d)-old)/8)
}

// shut tells why nothing that is to be claimed by then can go to the lane now:
// NoReason if it can.
func (l *lane) shut(now, claimBy time.Time) (r msg.Reason, detail string) {
	switch {
	case !l.breaker.Ready(now):
		return msg.ReasonProviderBusy, breakerOpen
	case l.full(0, claimBy.Sub(now)-pushTime):
		return msg.ReasonLaneFull, l.env.platform.String()
	}
	return msg.NoReason, ""
}

func (l *lane) add(p part) {
	l.waiting.Add(1)
	l.parts.add(p)
	if l.full(0, maxWait) && l.said.CompareAndSwap(false, true) {
		l.log.Warn("push lane is full, messages go as plain SMS until it has room",
			"waiting", l.waiting.Load(), "push_takes", time.Duration(l.took.Load()).Round(time.Millisecond))
	}
}

func (l *lane) next(ctx context.Context) (part, bool) {
	p, ok := l.parts.next(ctx)
	if !ok {
		return part{}, false
	}
	if n := l.waiting.Add(-1); n <= int64(l.workers)/2 && l.said.Load() && l.said.CompareAndSwap(true, false) {
		l.log.Info("push lane has room again")
	}
	return p, true
}

// Reasons of pushes that were not sent.
const (
	breakerOpen  = "breaker-open"
	tokenResting = "token-resting"
)

// try sends one push, unless the provider's breaker is open or the provider
// asked to leave this token alone.
func (d *Dispatcher) try(ctx context.Context, l *lane, n push.Notification) (r push.Result, sent bool) {
	now := d.o.Now()
	if l.resting.has(n.Token, now) {
		return push.Result{Outcome: push.Busy, Reason: tokenResting, TokenBusy: true}, false
	}
	probe, ok := l.breaker.Allow(now)
	if !ok {
		return push.Result{Outcome: push.Busy, Reason: breakerOpen}, false
	}
	r = l.sender.Send(ctx, n)
	began := now
	now = d.o.Now()
	if d.o.Took != nil {
		d.o.Took(l.app, l.env.platform.String(), r.Outcome, now.Sub(began))
	}
	if r.TokenBusy {
		l.resting.add(n.Token, now, r.RetryAfter)
		r.RetryAfter = 0 // the token's, not the lane's
	}
	if l.breaker.Done(now, probe, r) {
		if s := l.breaker.Status(now); s.State == push.BreakerClosed {
			l.log.Info("provider takes pushes again")
		} else {
			l.log.Warn("provider does not take pushes, messages go as plain SMS; it is tried again", "reason", s.Reason, "until", s.Until)
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
	for _, a := range d.apps.all() {
		for _, l := range a.lanes {
			if s := l.breaker.Status(now); !l.env.sandbox || s.Trips > 0 {
				all = append(all, Lane{App: a.ID, Platform: l.env.platform, Sandbox: l.env.sandbox, Breaker: s})
			}
		}
	}
	slices.SortFunc(all, func(a, b Lane) int {
		bySandbox := 0
		if a.Sandbox != b.Sandbox {
			bySandbox = 1
			if b.Sandbox {
				bySandbox = -1
			}
		}
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Platform, b.Platform), bySandbox)
	})
	return all
}
