package upstream

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"shunt/smpp"
	"shunt/smpp/pdu"
)

// Set has Shunt's own binds made as o says, but for its callbacks, name and log.
// Binds that are up are replaced one after the other: one is given nothing new,
// has its answers, and is unbound; then its successor binds, and only when that
// is up comes the next. So an SMSC never sees more binds than it allows, and
// options that it refuses cost one bind of several.
func (w *Own) Set(o OwnOptions) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o.SMSC, o.Log, o.OnReceipt, o.OnMO = w.smsc, w.log, w.o.OnReceipt, w.o.OnMO
	w.o = o.complete()
	close(w.changed)
	w.changed = make(chan struct{})
}

// options are those of the next bind; changed is closed when there are others.
func (w *Own) options() (o *OwnOptions, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.o, w.changed
}

// keeper keeps one bind up.
type keeper struct {
	id    pdu.ID
	o     *OwnOptions
	stop  context.CancelCauseFunc
	once  sync.Once
	up    chan struct{} // closed when it was bound once
	ended chan struct{}
}

// errReplaced ends a bind that other options put another in the place of.
var errReplaced = errors.New("replaced: the configuration has changed")

// Run keeps the binds up until ctx is done, then unbinds.
func (w *Own) Run(ctx context.Context) {
	var all []*keeper
	for ctx.Err() == nil {
		o, changed := w.options()
		all = w.arrange(ctx, all, o, changed)
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	for _, k := range all {
		<-k.ended
	}
}

// kinds are the binds that o wants.
func (o *OwnOptions) kinds() []pdu.ID {
	if o.Split {
		return slices.Repeat([]pdu.ID{pdu.BindTransmitter, pdu.BindReceiver}, o.Sessions)
	}
	return slices.Repeat([]pdu.ID{pdu.BindTransceiver}, o.Sessions)
}

// arrange brings the keepers to what o wants. It leaves off where it is when
// there are newer options, or ctx is done.
func (w *Own) arrange(ctx context.Context, all []*keeper, o *OwnOptions, changed <-chan struct{}) []*keeper {
	want := o.kinds()
	for i, k := range all[:min(len(all), len(want))] {
		if k.o == o {
			continue
		}
		k.retire()
		all[i] = w.start(ctx, want[i], o)
		select {
		case <-all[i].up:
		case <-changed:
			return all
		case <-ctx.Done():
			return all
		}
	}
	for len(all) > len(want) {
		last := len(all) - 1
		all[last].retire()
		all = all[:last]
	}
	for i := len(all); i < len(want); i++ {
		all = append(all, w.start(ctx, want[i], o))
	}
	return all
}

func (w *Own) start(ctx context.Context, id pdu.ID, o *OwnOptions) *keeper {
	k := &keeper{id: id, o: o, up: make(chan struct{}), ended: make(chan struct{})}
	var kept context.Context
	kept, k.stop = context.WithCancelCause(ctx)
	go func() {
		defer close(k.ended)
		w.keep(kept, ctx, k)
		k.stop(nil)
	}()
	return k
}

// retire ends the keeper and its bind, whose submits have their answers first.
func (k *keeper) retire() {
	k.stop(errReplaced)
	<-k.ended
}

// Pauses between attempts to bind: doubled from the first to the last, each
// time by a random factor of 0.5 to 1.5, so that many gateways do not return
// at once. A bind that is accepted and dropped at once is a failed attempt too:
// only one that has lived for stableAfter, an enquire_link interval as usual
// (SMPP v3.4 §7.2), has them begin anew.
const (
	firstBackoff = 250 * time.Millisecond
	lastBackoff  = 30 * time.Second
	stableAfter  = 30 * time.Second
)

// backoff is the pause after the next failed attempt; zero at first.
type backoff time.Duration

// next is the pause after an attempt whose session, if it got one, lived so
// long.
func (b *backoff) next(lived time.Duration) time.Duration {
	if *b == 0 || lived >= stableAfter {
		*b = backoff(firstBackoff)
	}
	wait := time.Duration(float64(*b) * (0.5 + rand.Float64()))
	*b = min(2**b, backoff(lastBackoff))
	return wait
}

// keep keeps one bind up until ctx is done: at once if run is, too.
func (w *Own) keep(ctx, run context.Context, k *keeper) {
	var header *smpp.ProxyHeader
	if k.o.ProxyHeader {
		header = &smpp.ProxyHeader{} // LOCAL: the bind is nobody's but ours
	}
	for pause := backoff(0); ctx.Err() == nil; {
		var lived time.Duration
		s, _, err := smpp.DialProxy(ctx, k.o.Addr, header, k.id, k.o.Bind, k.o.SMPP)
		if err == nil {
			w.log.Info("own bind is up", "smsc", w.smsc, "bind", k.id.String())
			up := time.Now()
			k.once.Do(func() { close(k.up) })
			err = w.serve(ctx, run, k.o, k.id, s)
			lived = time.Since(up)
		}
		if ctx.Err() != nil {
			return
		}
		w.setErr(err)
		wait := pause.next(lived)
		w.log.Warn("own bind is down", "smsc", w.smsc, "bind", k.id.String(), "error", err, "retry_in", wait.Round(time.Millisecond))
		if !sleep(ctx, wait) {
			return
		}
	}
}

func (w *Own) setErr(err error) {
	w.mu.Lock()
	w.lastErr = err.Error()
	w.mu.Unlock()
}

// serve serves a session until it ends, or unbinds it when ctx is done: once its
// submits are answered, unless run is done too.
func (w *Own) serve(ctx, run context.Context, o *OwnOptions, id pdu.ID, s *smpp.Session) error {
	os := &ownSession{Session: s, own: w, o: o}
	if id != pdu.BindReceiver {
		w.add(os)
		defer w.remove(os)
	}
	stop := context.AfterFunc(ctx, func() {
		w.remove(os)
		w.idle(run, os)
		s.Unbind(unbindWait)
	})
	defer stop()
	return s.Serve(os)
}

// idle waits until no submit of s is outstanding, at most as long as an answer
// may take.
func (w *Own) idle(run context.Context, s *ownSession) {
	late := time.NewTimer(cmp.Or(s.o.SMPP.Response, bindTimeout))
	defer late.Stop()
	for {
		w.mu.Lock()
		if s.outstanding == 0 {
			w.mu.Unlock()
			return
		}
		ended := w.waitRoom()
		w.mu.Unlock()
		select {
		case <-ended:
		case <-s.Done():
			return
		case <-late.C:
			return
		case <-run.Done():
			return
		}
	}
}

func (w *Own) add(s *ownSession) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up = append(w.up, s)
	w.windows += s.o.Window
	w.wake()
}

func (w *Own) remove(s *ownSession) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.Index(w.up, s); i >= 0 {
		w.up = slices.Delete(w.up, i, i+1)
		w.windows -= s.o.Window
	}
}
