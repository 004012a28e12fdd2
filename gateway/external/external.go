package external

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shunt/gateway/msg"
	"shunt/store/registry"
)

// Local is the registry here.
type Local interface {
	Lookup(n msg.Number) msg.Entry
	Tell(ctx context.Context, n msg.Number, source string, told []registry.Told) error
}

// Limits of what waits.
const (
	maxWaiting = 4096        // messages, for all registries
	tellWithin = time.Second // for the disk of the registry here
)

// Registries are the external registries, in the order in which they are asked.
// A nil one has none. It is safe for concurrent use.
type Registries struct {
	local   Local
	clients []*client
	apps    atomic.Pointer[[]string] // that an answer may name

	flying  atomic.Int64 // flights; for Look
	mu      sync.Mutex
	flights map[msg.Number]*flight
	waiting int // in all flights, and those that were called and have not returned
}

// flight is a look-up of one number, for everybody who waits for it. Its own
// goroutine ends when nobody waits any more.
type flight struct {
	waiting []func(msg.Reason) // under Registries.mu
}

// New makes Registries; nil without any. apps are the apps that an answer may
// name.
func New(all []Options, apps []string, local Local, log *slog.Logger) (*Registries, error) {
	if len(all) == 0 {
		return nil, nil
	}
	r := &Registries{local: local, flights: make(map[msg.Number]*flight)}
	r.SetApps(apps)
	for _, o := range all {
		c, err := newClient(o, &r.apps, log)
		if err != nil {
			return nil, err
		}
		r.clients = append(r.clients, c)
	}
	return r, nil
}

// SetApps replaces the apps that an answer may name.
func (r *Registries) SetApps(apps []string) {
	if r != nil {
		r.apps.Store(&apps)
	}
}

// Close gives up connections that are idle.
func (r *Registries) Close() {
	if r == nil {
		return
	}
	for _, c := range r.clients {
		c.http.CloseIdleConnections()
	}
}

// Covers tells whether any registry is asked about n. It does not allocate.
func (r *Registries) Covers(n msg.Number) bool {
	if r == nil {
		return false
	}
	for _, c := range r.clients {
		if c.covers(n) {
			return true
		}
	}
	return false
}

// Next is what a message for a number does next.
type Next uint8

const (
	Go   Next = iota // at once, as the reason says
	Ask              // its number has to be looked up
	Wait             // its number is being looked up, or others go on first that have waited for that
)

// Look tells what is known of n without a look-up: with Go, NoReason says that an
// external registry knows it, and any other reason why it stays with the
// carrier. It does not block and does not allocate.
func (r *Registries) Look(n msg.Number) (msg.Reason, Next) {
	if r == nil {
		return msg.ReasonUnregistered, Go
	}
	if r.flying.Load() > 0 && r.inFlight(n) {
		return msg.NoReason, Wait
	}
	now := time.Now()
	reason, next := msg.ReasonUnregistered, Go
	var from *client
	var what Outcome
	for _, c := range r.clients {
		if !c.covers(n) {
			continue
		}
		o := c.ready(n, now)
		switch {
		case o == Known:
			c.cached[Known].Add(1)
			return msg.NoReason, Go
		case o == 0:
			next = Ask
		case from == nil || what == Unknown:
			from, what, reason = c, o, reasons[o]
		}
	}
	if next == Go && from != nil {
		from.countLook(what)
	}
	return reason, next
}

// countLook counts what Look has said without a look-up.
func (c *client) countLook(o Outcome) {
	if o == Busy || o == Down {
		c.outcomes[o].Add(1)
		return
	}
	c.cached[o].Add(1)
}

func (r *Registries) inFlight(n msg.Number) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.flights[n] != nil
}

// Ask has n looked up, and then calls of then with what Look would say, on another
// goroutine: all that ask about one number one after the other, in the order in
// which they asked. then may block. False: too many wait.
func (r *Registries) Ask(n msg.Number, then func(msg.Reason)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting >= maxWaiting {
		return false
	}
	r.queue(n, then)
	return true
}

// AskAll has the numbers that are the keys of answers looked up at the same time,
// puts what Look would say of each beside it, and then calls then, on another
// goroutine. Behind each number it stands where one Ask would: who asked earlier
// goes on first, who asks later when then has returned. then may block; answers
// are its own from there. False: too many wait, and none is asked about.
func (r *Registries) AskAll(answers map[msg.Number]msg.Reason, then func()) bool {
	var mu sync.Mutex // of left and answers
	left, done := len(answers), make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting+left > maxWaiting {
		return false
	}
	// Under one lock all flights get their callers in one order: flights that wait
	// for each other here wait for those that asked earlier, and never in a ring.
	for _, n := range slices.Collect(maps.Keys(answers)) {
		r.queue(n, func(reason msg.Reason) {
			mu.Lock()
			answers[n] = reason
			left--
			last := left == 0
			mu.Unlock()
			if !last {
				<-done
				return
			}
			then()
			close(done)
		})
	}
	return true
}

// queue puts then behind the look-up of n; mu is held.
func (r *Registries) queue(n msg.Number, then func(msg.Reason)) {
	r.waiting++
	if f := r.flights[n]; f != nil {
		f.waiting = append(f.waiting, then)
		return
	}
	f := &flight{waiting: []func(msg.Reason){then}}
	r.flights[n] = f
	r.flying.Add(1)
	go r.fly(n, f)
}

// fly looks up once, and lets everybody go on who waits.
func (r *Registries) fly(n msg.Number, f *flight) {
	reason := r.resolve(context.Background(), n)
	for {
		r.mu.Lock()
		if len(f.waiting) == 0 {
			delete(r.flights, n)
			r.flying.Add(-1)
			r.mu.Unlock()
			return
		}
		then := f.waiting[0]
		f.waiting = f.waiting[1:]
		r.mu.Unlock()
		then(reason)
		r.mu.Lock()
		r.waiting-- // now: then may have waited for other numbers, or for a window
		r.mu.Unlock()
	}
}

// resolve asks one registry after the other until one knows n. If none does, and
// one could not say, the reason is that.
func (r *Registries) resolve(ctx context.Context, n msg.Number) msg.Reason {
	reason := msg.ReasonUnregistered
	for _, c := range r.clients {
		if !c.covers(n) {
			continue
		}
		o := c.ask(ctx, n, func(told []registry.Told) error { return r.tell(ctx, n, c.o.Name, told) })
		switch {
		case o == Known:
			return msg.NoReason
		case reason == msg.ReasonUnregistered:
			reason = reasons[o]
		}
	}
	if reason == msg.ReasonUnregistered && r.local.Lookup(n).External() {
		_ = r.tell(ctx, n, "", nil) // if that fails, the number is asked about again before the next message
	}
	return reason
}

func (r *Registries) tell(ctx context.Context, n msg.Number, source string, told []registry.Told) error {
	ctx, cancel := context.WithTimeout(ctx, tellWithin)
	defer cancel()
	return r.local.Tell(ctx, n, source, told)
}

// Opinion is what one registry says of a number.
type Opinion struct {
	Registry string
	Outcome  Outcome
	Reason   msg.Reason // NoReason: it is known
	Cached   bool
	Told     []registry.Told // of a number that is known and was looked up just now
	Fault    string
}

// Explain asks every registry about n, but for what is remembered. It remembers
// and counts nothing.
func (r *Registries) Explain(ctx context.Context, n msg.Number) (all []Opinion) {
	if r == nil {
		return nil
	}
	for _, c := range r.clients {
		if c.covers(n) {
			all = append(all, c.explain(ctx, n))
		}
	}
	return all
}

func (c *client) explain(ctx context.Context, n msg.Number) Opinion {
	now := time.Now()
	p := Opinion{Registry: c.o.Name}
	if p.Outcome = c.ready(n, now); p.Outcome == 0 {
		f := c.fetch(ctx, n)
		p.Outcome, p.Told = f.outcome, f.told
		if f.err != nil {
			p.Fault = f.err.Error()
		}
	} else {
		p.Cached = p.Outcome != Busy && p.Outcome != Down
	}
	p.Reason = reasons[p.Outcome]
	return p
}

// Status is every registry at a glance, in order.
func (r *Registries) Status() (all []Status) {
	if r == nil {
		return nil
	}
	now := time.Now()
	for _, c := range r.clients {
		all = append(all, c.status(now))
	}
	return all
}

// Names are the registries' names.
func (r *Registries) Names() (all []string) {
	if r == nil {
		return nil
	}
	for _, c := range r.clients {
		all = append(all, c.o.Name)
	}
	return all
}

// Waiting is how many messages wait for a look-up, or go on after one.
func (r *Registries) Waiting() int {
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting
}
