package dispatch

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
)

// apps are the apps that messages are given to. They may be replaced while
// messages are on their way.
type apps struct {
	now atomic.Pointer[map[string]*app] // by id; the map is not changed

	mu    sync.RWMutex    // held to give an app something, and to replace apps
	ctx   context.Context // of Run; nil before
	dsp   *Dispatcher     // set with ctx
	ended bool
	left  sync.WaitGroup // goroutines of apps, those replaced included
}

func (s *apps) all() map[string]*app {
	if m := s.now.Load(); m != nil {
		return *m
	}
	return nil
}

// named takes no lock: the decision asks for every message to a registered
// number.
func (s *apps) named(id string) *app { return s.all()[id] }

// add gives an app a message, if there is such an app.
func (s *apps) add(id string, r arrival) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	a := s.named(id)
	if a != nil {
		a.add(r)
	}
	return a != nil
}

// each gives do every app; none is replaced meanwhile.
func (s *apps) each(do func(*app)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, a := range s.all() {
		do(a)
	}
}

// start starts the goroutines of the apps; they end with ctx.
func (s *apps) start(ctx context.Context, d *Dispatcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ctx, s.dsp = ctx, d
	for _, a := range s.all() {
		s.run(a)
	}
}

// wait waits for their end, once ctx of start is done.
func (s *apps) wait() {
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.left.Wait()
}

// run starts the goroutines of one app; mu is held.
func (s *apps) run(a *app) {
	if s.ctx == nil || s.ended {
		return
	}
	d := s.dsp
	var ctx context.Context
	ctx, a.stop = context.WithCancel(s.ctx)
	for range routers {
		a.running.Go(func() { d.route(ctx, a) })
	}
	for _, l := range a.lanes {
		for range l.workers {
			a.running.Go(func() { d.pushWorker(ctx, l) })
		}
	}
	s.left.Go(a.running.Wait)
}

// SetApps replaces the apps. One that has the senders it had goes on as it is;
// of another of the same id, and of one that is not among them any more,
// nothing new is pushed the old way, and what it had been given is. The channel
// is closed when all of that is done, or Run has ended: the old senders are then
// of no more use. Messages of an app that is gone are plain SMS.
func (d *Dispatcher) SetApps(all []App) <-chan struct{} {
	s := &d.apps
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.all()
	next := make(map[string]*app, len(all))
	for _, c := range all {
		if c.Workers == 0 {
			c.Workers = 256
		}
		if a := old[c.ID]; a != nil && maps.Equal(a.Senders, c.Senders) {
			a.text.Store(c.Text)
			next[c.ID] = a
			continue
		}
		a := newApp(c, d.o.Log)
		s.run(a)
		next[c.ID] = a
	}
	s.now.Store(&next)
	var retiring sync.WaitGroup
	for id, a := range old {
		if next[id] != a {
			retiring.Go(s.retire(a))
		}
	}
	done := make(chan struct{})
	go func() {
		retiring.Wait()
		close(done)
	}()
	return done
}

// retire has nothing more added to an app; mu is held. What it gives back waits
// until what was added is done, and ends its goroutines.
func (s *apps) retire(a *app) func() {
	a.retired.Store(true)
	if a.work.Load() == 0 {
		a.idle()
	}
	run := s.ctx
	if run == nil || s.ended {
		return a.pings.answer
	}
	return func() {
		select {
		case <-a.done:
		case <-run.Done():
		}
		a.stop()
		a.running.Wait()
		a.pings.answer() // nobody comes round any more
	}
}

// finished notes that one message that was added is done with.
func (a *app) finished() {
	if a.work.Add(-1) == 0 && a.retired.Load() {
		a.idle()
	}
}
