// Package dispatch moves diverted messages on: it pushes what was accepted,
// sends what fell back, and takes the carrier's receipts. It decides no
// outcome: it posts events to the spool and acts on what the spool has synced.
package dispatch

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"shunt/gateway/msg"
	"shunt/push"
	"shunt/store/registry"
	"shunt/store/spool"
)

// Spool is what the dispatcher needs of the spool.
type Spool interface {
	Post(e spool.Event, done func(spool.Result))
	Do(ctx context.Context, e spool.Event) spool.Result
	Get(id msg.ID) (spool.Record, error)
	Message(id msg.ID) (*spool.Message, error)
	Correlate(peer, smsID string) (msg.ID, bool)
	Sent(n msg.Number, peer, smsID string) (bool, error)
}

// Registry is what the dispatcher needs of the registry.
type Registry interface {
	Get(n msg.Number) (registry.Registration, error)
	Lookup(n msg.Number) msg.Entry // another one after every change
	DropToken(ctx context.Context, n msg.Number, device, token string, deadSince time.Time) (bool, error)
}

// App is a configured app's way to its devices.
type App struct {
	ID      string
	Senders map[registry.Platform]push.Sender
	Workers int  // pushes under way at once with each provider, 0 = 256
	Text    bool // a push may carry the message's text, where the message prefers a duplicate to a loss
}

// Streams are the open streams of apps. It is told of what the spool has synced,
// in its order, and must not block.
type Streams interface {
	// Announce says that a message may be claimed, and tells whether a device of
	// its number and app listens.
	Announce(r *spool.Record) bool
	// Observe is told of every change.
	Observe(c *spool.Change)
}

// Options of a Dispatcher.
type Options struct {
	Spool    Spool
	Registry Registry
	Apps     []App
	Carrier  Carrier                        // nil: nothing can fall back, so nothing is diverted
	Rate     int                            // fallbacks a second, 0 = as fast as the window allows
	Receipt  func(spool.Record, msg.Notice) // queues the receipt of a finished message, or a notice; must not block
	Finished func(*spool.Record)            // told of every final state, for counters; may be nil
	// Letter judges a long message that is complete, before its push: NoReason,
	// or why it goes by carrier. nil judges none.
	Letter func(lead msg.ID) (msg.Reason, error)
	Text   func(id msg.ID) (string, error) // of a message that a push may carry; nil: pushes are doorbells
	Now    func() time.Time
	Log    *slog.Logger

	// Took is told how long each push took; it must not block. May be nil.
	Took func(app, provider string, o push.Outcome, after time.Duration)

	Streams Streams       // nil: there are none
	Grace   time.Duration // how long what was announced on a stream waits before it is pushed
}

// Counters are totals since the start.
type Counters struct {
	Pushes                        [numOutcomes]atomic.Uint64
	Sent, Retried, Resubmitted    atomic.Uint64 // fallbacks
	ReceiptsHeld, ReceiptsUnknown atomic.Uint64 // carrier receipts before their resp; to no message of ours
	ReceiptsByAddress             atomic.Uint64 // matched to an SMS of unknown fate
	TokensDropped                 atomic.Uint64
	BodiesLeft                    atomic.Uint64 // pushes whose text did not fit: doorbells
	Announced                     atomic.Uint64 // messages that went to a stream first
}

const numOutcomes = 8

// Dispatcher owns the queues between the spool and the legs.
type Dispatcher struct {
	o        Options
	apps     apps
	limit    *rate.Limiter // of fallbacks
	fallback *queue[sms]
	submit   chan sms // begun: to be written
	held     heldReceipts
	early    heldReceipts // intermediate notifications, which are answered already
	unknowns unknowns
	settled  settled
	pings    pings // of the loop that settles what is held
	pinged   chan struct{}
	grace    grace
	Counters Counters

	throttledUntil atomic.Int64 // unix nanoseconds
}

// New makes a Dispatcher; Run starts it.
func New(o Options) *Dispatcher {
	if o.Now == nil {
		o.Now = time.Now
	}
	d := &Dispatcher{o: o, limit: rate.NewLimiter(rateOf(o.Rate)), fallback: newQueue[sms](), submit: make(chan sms), grace: newGrace(), pinged: make(chan struct{}, 1)}
	d.SetApps(o.Apps)
	return d
}

// Available tells whether messages for that app can be pushed soon enough to be
// claimed within that time: it has a lane that is neither full nor broken, and
// there is a bind to fall back on.
func (d *Dispatcher) Available(app string, claim time.Duration) bool {
	a := d.apps.named(app)
	return a != nil && d.o.Carrier != nil && d.o.Carrier.Ready() && a.ready(d.o.Now(), claim)
}

// Queued are the messages that wait for a push, and for a fallback.
func (d *Dispatcher) Queued() (pushes, fallbacks int) {
	for _, a := range d.apps.all() {
		pushes += a.queued()
	}
	return pushes, d.fallback.len()
}

// Run works until ctx is done; attempts that are under way are finished.
func (d *Dispatcher) Run(ctx context.Context) {
	var wg sync.WaitGroup
	d.apps.start(ctx, d)
	wg.Go(func() { d.runGrace(ctx) })
	if d.o.Carrier != nil {
		wg.Go(func() { d.feedFallbacks(ctx) })
		for range submitters {
			wg.Go(func() { d.submitWorker(ctx) })
		}
		wg.Go(func() { d.settleHeld(ctx) })
	}
	wg.Wait()
	d.apps.wait()
}

// Observe takes every change that the spool has synced, in its order. It does
// not block.
func (d *Dispatcher) Observe(c *spool.Change) {
	if c.Replay {
		return
	}
	if d.o.Streams != nil {
		d.o.Streams.Observe(c)
	}
	r := &c.Record
	switch {
	case c.To == msg.Accepted && !r.Follows() && (c.From == msg.None || c.From == msg.Held):
		d.arrived(*r)
	case c.Turn && (c.Event.Kind == msg.EvTurn || c.Event.Kind == msg.EvReplace):
		d.fallback.add(smsOf(r, false))
	case c.Event.Kind == msg.EvNoticeDone, c.Event.Kind == msg.EvReceiptTried, c.Event.Kind == msg.EvSMSEnroute:
		// Nobody's turn, whatever the state.
	case c.To == msg.SMSUnknown && c.Event.Kind != msg.EvSMSResubmit:
		d.unknown(*r)
	case c.Event.Kind == msg.EvSMSTemporary:
		d.again(*r)
	case c.Event.Kind == msg.EvSMSAccepted:
		id := r.ID
		d.early.release(r.Peer, r.SMSID, func(h heldReceipt) { d.postEnroute(id, h.receipt) })
		d.held.release(r.Peer, r.SMSID, func(h heldReceipt) { d.postReceipt(id, h.receipt, h.answer) })
	}
	if c.To.Final() && !c.From.Final() {
		d.settled.add(r, d.o.Now())
		if d.o.Finished != nil {
			d.o.Finished(r)
		}
		if r.ReceiptDue {
			d.o.Receipt(*r, 0)
		}
	}
	switch {
	case (c.To == msg.Pushed && c.From != msg.Pushed || c.Event.Kind == msg.EvSMSEnroute) && r.Owed&msg.NoticeEnroute != 0:
		d.o.Receipt(*r, msg.NoticeEnroute)
	case c.Event.Kind == msg.EvRead && r.Owed&msg.NoticeRead != 0:
		d.o.Receipt(*r, msg.NoticeRead)
	}
}

// Resume takes a live message that was found at the start, before Run. Which of
// those in FALLBACK may go the spool tells as soon as it starts.
func (d *Dispatcher) Resume(r spool.Record) {
	if r.ReceiptDue {
		d.o.Receipt(r, 0)
	}
	for _, n := range msg.Notices {
		if r.Owed&n != 0 {
			d.o.Receipt(r, n)
		}
	}
	switch {
	case r.State.Final():
		d.settled.add(&r, d.o.Now())
	case (r.State == msg.Accepted || r.State == msg.Pushing) && !r.Follows():
		// The provider may have it already: the same collapse id makes a second
		// push harmless.
		d.push(r)
	case r.SMSBegun: // written or not, nobody can say: its outcome is unknown
		d.post(spool.Event{ID: r.ID, Kind: msg.EvSMSLost, Reason: msg.ReasonRestart})
	case r.State == msg.SMSUnknown:
		d.unknown(r)
	case r.Resubmits > 0:
		d.suspect(&r, false)
	}
}

// queue is an unbounded first-in-first-out queue; the spool's own limit bounds
// what can be in it.
type queue[T any] struct {
	mu    sync.Mutex
	items []T
	head  int
	some  chan struct{} // holds a token while items may be there
}

func newQueue[T any]() *queue[T] { return &queue[T]{some: make(chan struct{}, 1)} }

func (q *queue[T]) add(v T) {
	q.mu.Lock()
	q.items = append(q.items, v)
	q.mu.Unlock()
	q.token()
}

func (q *queue[T]) token() {
	select {
	case q.some <- struct{}{}:
	default:
	}
}

func (q *queue[T]) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) - q.head
}

// next waits for an item; ok is false when ctx was done first.
func (q *queue[T]) next(ctx context.Context) (v T, ok bool) {
	for {
		select {
		case <-q.some:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return v, false
		}
		q.mu.Lock()
		if q.head == len(q.items) {
			q.mu.Unlock()
			continue
		}
		var zero T
		v, q.items[q.head] = q.items[q.head], zero
		q.head++
		more := q.head < len(q.items)
		switch {
		case !more:
			q.items, q.head = q.items[:0], 0
		case q.head > 1024 && q.head > len(q.items)/2:
			q.items, q.head = append([]T(nil), q.items[q.head:]...), 0
		}
		q.mu.Unlock()
		if more {
			q.token()
		}
		return v, true
	}
}
