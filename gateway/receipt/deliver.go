package receipt

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// Bind is an ESME's bind that takes deliver_sm.
type Bind interface {
	// InterfaceVersion is the one that the ESME announced.
	InterfaceVersion() byte
	// Deliver sends p as a request of Shunt's own; done gets the response, or
	// the reason why none came. An error means that done is not called.
	Deliver(p pdu.PDU, done func(pdu.PDU, error)) error
}

// Spool is what a Deliverer needs of the spool.
type Spool interface {
	Message(id msg.ID) (*spool.Message, error)
	Post(e spool.Event, done func(spool.Result))
}

// Options of a Deliverer.
type Options struct {
	Spool    Spool
	Receiver func(msg.Account) (Bind, bool) // a bind of the account, if one is up
	Wanted   func(msg.Account)              // told, now and then, of an account whose receipts wait for a bind; must not block; may be nil
	Window   int                            // receipts in flight an account, 0 = 50
	Now      func() time.Time
	Log      *slog.Logger
}

// Deliverer keeps the receipts that wait, by account, and sends them in order
// as far as the account's binds take them. A receipt is done when the ESME
// answered it; one whose answer was lost goes again. One goroutine, Run, sends.
type Deliverer struct {
	o    Options
	wake chan struct{}

	mu       sync.Mutex
	accounts map[msg.Account]*line
	dirty    []*line // to be looked at by Run

	Sent, Repeated, Refused, Abandoned atomic.Uint64
}

// line is the queue of one account, under Deliverer.mu.
type line struct {
	account  msg.Account
	waiting  []queued // in the order of Add
	added    uint64
	inFlight int
	dirty    bool
	notUntil time.Time // the ESME asked for time
}

// queued is a receipt and its place among those of its account.
type queued struct {
	spool.Record
	place uint64
}

// writeRest is how long the spool rests after it could not write.
const writeRest = time.Second

// New makes a Deliverer; Run starts it.
func New(o Options) *Deliverer {
	if o.Window == 0 {
		o.Window = 50
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Deliverer{o: o, wake: make(chan struct{}, 1), accounts: make(map[msg.Account]*line)}
}

// Add queues the receipt of a finished message. It does not block.
func (d *Deliverer) Add(r spool.Record) {
	d.mu.Lock()
	l := d.accounts[r.Account]
	if l == nil {
		l = &line{account: r.Account}
		d.accounts[r.Account] = l
	}
	l.added++
	l.waiting = append(l.waiting, queued{r, l.added})
	d.touch(l)
	d.mu.Unlock()
}

// Receivable says that the account has a new bind. It does not block.
func (d *Deliverer) Receivable(a msg.Account) {
	d.mu.Lock()
	if l := d.accounts[a]; l != nil {
		l.notUntil = time.Time{}
		d.touch(l)
	}
	d.mu.Unlock()
}

// Waiting is the number of receipts that no ESME has taken yet.
func (d *Deliverer) Waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, l := range d.accounts {
		n += len(l.waiting) + l.inFlight
	}
	return n
}

// touch makes Run look at l; the caller holds mu.
func (d *Deliverer) touch(l *line) {
	if !l.dirty {
		l.dirty = true
		d.dirty = append(d.dirty, l)
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run sends until ctx is done.
func (d *Deliverer) Run(ctx context.Context) {
	retry := time.NewTicker(time.Second)
	defer retry.Stop()
	for {
		select {
		case <-d.wake:
		case <-retry.C:
			d.mu.Lock()
			for _, l := range d.accounts {
				if len(l.waiting) > 0 {
					d.touch(l)
				}
			}
			d.mu.Unlock()
		case <-ctx.Done():
			return
		}
		d.mu.Lock()
		lines := d.dirty
		d.dirty = nil
		for _, l := range lines {
			l.dirty = false
		}
		d.mu.Unlock()
		for _, l := range lines {
			for d.sendOne(l) {
			}
		}
	}
}

// sendOne sends the oldest receipt of a line; false when nothing more can go.
func (d *Deliverer) sendOne(l *line) bool {
	now := d.o.Now()
	d.mu.Lock()
	if len(l.waiting) == 0 || l.inFlight >= d.o.Window || now.Before(l.notUntil) {
		if len(l.waiting) == 0 && l.inFlight == 0 && !l.dirty {
			delete(d.accounts, l.account)
		}
		d.mu.Unlock()
		return false
	}
	late := abandoned(&l.waiting[0].Record, now)
	d.mu.Unlock()
	var bind Bind
	if !late {
		var ok bool
		if bind, ok = d.o.Receiver(l.account); !ok {
			if d.o.Wanted != nil {
				d.o.Wanted(l.account)
			}
			return false
		}
	}

	d.mu.Lock()
	r := l.waiting[0] // looked at again: an answer that was lost meanwhile has queued an older one
	l.waiting = l.waiting[1:]
	l.inFlight++
	d.mu.Unlock()
	switch {
	case abandoned(&r.Record, now):
		d.abandon(l, r.ID, msg.ReasonDeadline)
		return true
	case bind == nil:
		d.putBack(l, r, 0)
		return true
	}
	m, err := d.o.Spool.Message(r.ID)
	var p pdu.PDU
	if err == nil {
		p, err = Build(nil, &r.Record, m.PDU, bind.InterfaceVersion())
	}
	if errors.Is(err, spool.ErrClosed) { // the next start sends it
		d.putBack(l, r, 0)
		return false
	}
	if err != nil { // no receipt can ever be made of it
		d.o.Log.Error("receipt cannot be built", "msg_id", r.ID.String(), "error", err)
		d.abandon(l, r.ID, msg.ReasonUndecodable)
		return true
	}
	if err := bind.Deliver(p, func(resp pdu.PDU, err error) { d.answered(l, r, resp, err) }); err != nil {
		d.putBack(l, r, 0)
		return false
	}
	return true
}

// abandoned tells that a receipt has waited for a bind long enough.
func abandoned(r *spool.Record, now time.Time) bool {
	return now.After(r.ExpiresAt.Add(abandonAfter))
}

// abandon ends a receipt that was taken from its line and that nobody gets.
func (d *Deliverer) abandon(l *line, id msg.ID, why msg.Reason) {
	d.Abandoned.Add(1)
	d.mu.Lock()
	l.inFlight--
	d.mu.Unlock()
	d.done(id, why, "")
}

// putBack queues r again in its place; the account rests for a while.
func (d *Deliverer) putBack(l *line, r queued, rest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.inFlight--
	i := 0
	for i < len(l.waiting) && l.waiting[i].place < r.place {
		i++
	}
	l.waiting = append(l.waiting[:i:i], append([]queued{r}, l.waiting[i:]...)...)
	if rest > 0 {
		l.notUntil = d.o.Now().Add(rest)
	}
}

// answered takes the ESME's deliver_sm_resp, or the reason why there is none.
func (d *Deliverer) answered(l *line, r queued, resp pdu.PDU, err error) {
	if err != nil {
		d.Repeated.Add(1)
		d.putBack(l, r, 0)
		d.Receivable(l.account) // another bind may be up
		return
	}
	st := resp.Status()
	if st.Temporary() {
		d.Repeated.Add(1)
		d.putBack(l, r, time.Second)
		return
	}
	reason, detail := msg.ReasonReceipt, ""
	if st != pdu.ROK || resp.ID() == pdu.GenericNack {
		d.Refused.Add(1)
		reason, detail = msg.ReasonStatus, st.String()
		d.o.Log.Warn("ESME refused a receipt", "msg_id", r.ID.String(), "esme", l.account.SystemID, "status", detail)
	} else {
		d.Sent.Add(1)
	}
	d.mu.Lock()
	l.inFlight--
	d.touch(l) // for the next one, or for Run to drop an idle line
	d.mu.Unlock()
	d.done(r.ID, reason, detail)
}

// done has the spool forget a receipt, and asks again until it has: nobody else
// would, and the next start would send the receipt once more.
func (d *Deliverer) done(id msg.ID, reason msg.Reason, detail string) {
	d.o.Spool.Post(spool.Event{ID: id, Kind: msg.EvReceiptDone, Reason: reason, Detail: detail}, func(res spool.Result) {
		switch err := res.Err; {
		case err == nil, errors.Is(err, spool.ErrRefused), errors.Is(err, spool.ErrNotFound), errors.Is(err, spool.ErrClosed):
		default: // the disk refused it
			time.AfterFunc(writeRest, func() { d.done(id, reason, detail) })
		}
	})
}
