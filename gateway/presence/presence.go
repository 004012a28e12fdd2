// Package presence follows which devices have shown themselves lately: evidence
// is kept in RAM, and what is written is that a device has become active, stale
// or inactive.
package presence

import (
	"context"
	"hash/fnv"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"shunt/gateway/msg"
	"shunt/store/registry"
)

// Limits are an app's.
type Limits struct {
	ActiveFor     time.Duration // without evidence so long: stale
	InactiveAfter time.Duration // inactive
	MissedClaims  int           // so many in a row without evidence: inactive; 0: they do not count
}

// Registry is what is followed.
type Registry interface {
	List(ctx context.Context, after msg.Number, limit int) ([]registry.Registration, error)
	Saw(ctx context.Context, all ...registry.Seen) error
}

// Options of a Tracker.
type Options struct {
	Registry Registry
	Apps     map[string]Limits // by id; devices of others are left as they are
	Now      func() time.Time
	Log      *slog.Logger
}

// Tracker keeps the evidence since it was last written down. Any goroutine may
// give evidence; Run's alone writes.
type Tracker struct {
	o       Options // but for Apps
	apps    atomic.Pointer[map[string]Limits]
	changed chan struct{} // holds one when apps may be others
	started time.Time
	shards  [64]shard
	fast    chan fast // numbers with enough missed claims
}

// shard maps a device's hash to when it last showed itself and how many claims
// it missed since.
type shard struct {
	mu sync.Mutex
	m  map[uint64]evidence
}

type evidence struct {
	at     int64 // unix seconds; 0: not since it was written down
	missed uint32
}

// fast asks for a look at one number before the next sweep.
type fast struct {
	number msg.Number
}

// New makes a Tracker; Run starts it.
func New(o Options) *Tracker {
	if o.Now == nil {
		o.Now = time.Now
	}
	t := &Tracker{o: o, changed: make(chan struct{}, 1), started: o.Now(), fast: make(chan fast, 1024)}
	t.SetApps(o.Apps)
	for i := range t.shards {
		t.shards[i].m = map[uint64]evidence{}
	}
	return t
}

// SetApps replaces the limits; see Options.
func (t *Tracker) SetApps(apps map[string]Limits) {
	t.apps.Store(&apps)
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

func (t *Tracker) limits(app string) Limits { return (*t.apps.Load())[app] }

// every is how long it is from a sweep to the next.
func (t *Tracker) every() time.Duration {
	d := slowest
	for _, l := range *t.apps.Load() {
		d = min(d, max(l.ActiveFor/sweepsPerLimit, quickest))
	}
	return d
}

// A sweep reads every registration. A device becomes stale by so much of its
// app's active_for too late at most.
const (
	sweepsPerLimit = 8
	slowest        = 15 * time.Minute
	quickest       = 100 * time.Millisecond
	page           = 1000
)

func key(n msg.Number, device string) uint64 {
	h := fnv.New64a()
	var b [8]byte
	for i := range b {
		b[i] = byte(n >> (8 * i))
	}
	_, _ = h.Write(b[:])
	_, _ = h.Write([]byte(device))
	return h.Sum64()
}

func (t *Tracker) shard(k uint64) *shard { return &t.shards[k%uint64(len(t.shards))] }

// Evidence notes that a device has shown itself. It writes nothing and does not
// wait for the disk.
func (t *Tracker) Evidence(n msg.Number, device, app string) {
	if t.limits(app).MissedClaims > 0 {
		k := key(n, "/"+app)
		s := t.shard(k)
		s.mu.Lock()
		delete(s.m, k)
		s.mu.Unlock()
	}
	k := key(n, device)
	s := t.shard(k)
	s.mu.Lock()
	s.m[k] = evidence{at: t.o.Now().Unix()}
	s.mu.Unlock()
}

// Missed notes that nobody of a number's devices with that app has claimed a
// message in time. It does not block.
func (t *Tracker) Missed(n msg.Number, app string) {
	if t.limits(app).MissedClaims == 0 {
		return
	}
	k := key(n, "/"+app) // no device's name has a slash
	s := t.shard(k)
	s.mu.Lock()
	e := s.m[k]
	if e.missed < math.MaxUint32 {
		e.missed++
	}
	e.at = t.o.Now().Unix()
	s.m[k] = e
	enough := int(e.missed) >= t.limits(app).MissedClaims
	s.mu.Unlock()
	if enough {
		select {
		case t.fast <- fast{n}:
		default: // the next sweep sees it
		}
	}
}

func (t *Tracker) get(k uint64) evidence {
	s := t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.m[k]
}

// forget drops evidence that is written down, unless there is newer.
func (t *Tracker) forget(k uint64, seen evidence) {
	s := t.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[k] == seen {
		delete(s.m, k)
	}
}

// Run sweeps until ctx is done.
func (t *Tracker) Run(ctx context.Context) {
	tick := time.NewTicker(t.every())
	defer tick.Stop()
	for {
		var err error
		select {
		case <-tick.C:
			err = t.sweep(ctx)
		case f := <-t.fast:
			err = t.look(ctx, f.number)
		case <-t.changed:
			tick.Reset(t.every())
		case <-ctx.Done():
			return
		}
		if err != nil && ctx.Err() == nil {
			t.o.Log.Error("presence is not up to date: the registry cannot be read or written", "error", err)
		}
	}
}

// sweep looks at every registration once.
func (t *Tracker) sweep(ctx context.Context) error {
	var after msg.Number
	for {
		regs, err := t.o.Registry.List(ctx, after, page)
		if err != nil {
			return err
		}
		if err := t.write(ctx, regs); err != nil {
			return err
		}
		if len(regs) < page {
			t.tidy()
			return nil
		}
		after = regs[len(regs)-1].Number
	}
}

// tidy forgets evidence of devices that are registered no more: of others it has
// been written down long before.
func (t *Tracker) tidy() {
	old := time.Duration(0)
	for _, l := range *t.apps.Load() {
		old = max(old, l.InactiveAfter)
	}
	before := t.o.Now().Add(-old).Unix()
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for k, e := range s.m {
			if e.at < before {
				delete(s.m, k)
			}
		}
		s.mu.Unlock()
	}
}

func (t *Tracker) look(ctx context.Context, n msg.Number) error {
	regs, err := t.o.Registry.List(ctx, n-1, 1)
	if err != nil || len(regs) == 0 || regs[0].Number != n {
		return err
	}
	return t.write(ctx, regs)
}

// written is evidence that a Seen writes down.
type written struct {
	key uint64
	e   evidence
}

func (t *Tracker) write(ctx context.Context, regs []registry.Registration) error {
	now, apps := t.o.Now(), *t.apps.Load()
	var all []registry.Seen
	var done []written
	for i := range regs {
		r := &regs[i]
		for j := range r.Devices {
			d := &r.Devices[j]
			limits, ok := apps[d.App]
			if !ok {
				continue
			}
			k := key(r.Number, d.ID)
			e := t.get(k)
			missed := t.get(key(r.Number, "/"+d.App))
			if seen, ok := t.judge(r.Number, d, &limits, e, missed, now); ok {
				all, done = append(all, seen), append(done, written{k, e})
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	if err := t.o.Registry.Saw(ctx, all...); err != nil {
		return err
	}
	for _, w := range done {
		t.forget(w.key, w.e)
	}
	return nil
}

// judge tells what has to be written of a device: that its presence is another,
// or, so that a restart does not forget it, that it has shown itself.
func (t *Tracker) judge(n msg.Number, d *registry.Device, l *Limits, e, missed evidence, now time.Time) (registry.Seen, bool) {
	last := d.SeenAt
	if last.IsZero() { // a release that did not note it: since when nobody knows
		last = t.started
	}
	shown := time.Unix(e.at, 0)
	if e.at > 0 && shown.After(last) {
		last = shown
	}
	p := l.of(now.Sub(last))
	if l.MissedClaims > 0 && int(missed.missed) >= l.MissedClaims && missed.at >= last.Unix() {
		p = registry.PresenceInactive
	}
	s := registry.Seen{Number: n, Device: d.ID, At: last}
	if p != d.Presence {
		s.Presence = &p
		return s, true
	}
	return s, e.at > 0 && shown.Sub(d.SeenAt) > l.ActiveFor/2
}

func (l *Limits) of(silent time.Duration) registry.Presence {
	switch {
	case silent >= l.InactiveAfter:
		return registry.PresenceInactive
	case silent >= l.ActiveFor:
		return registry.PresenceStale
	}
	return registry.PresenceActive
}
