package receipt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"shunt/gateway/msg"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// Bind is an ESME's bind that takes deliver_sm.
type Bind interface {
	// InterfaceVersion is the one that the ESME announced.
	InterfaceVersion() byte
	// String names it in traces.
	String() string
	// Deliver sends p as a request of Shunt's own; done gets the response, or
	// the reason why none came. An error means that done is not called.
	Deliver(p pdu.PDU, done func(pdu.PDU, error)) error
}

// Spool is what a Deliverer needs of the spool.
type Spool interface {
	Get(id msg.ID) (spool.Record, error)
	Message(id msg.ID) (*spool.Message, error)
	Post(e spool.Event, done func(spool.Result))
}

// Options of a Deliverer.
type Options struct {
	Spool    Spool
	Replies  Replies                        // nil: no replies are added
	Receiver func(msg.Account) (Bind, bool) // a bind of the account, if one is up
	Wanted   func(msg.Account)              // told, now and then, of an account whose receipts wait for a bind; must not block; may be nil
	Window   int                            // receipts in flight an account, 0 = 50
	Now      func() time.Time
	Log      *slog.Logger
}

// Deliverer keeps the receipts that wait, by account, and sends them as far as
// the account's binds take them: between a sender and a recipient one at a time
// and in order. Replies of subscribers go the same way. A receipt is done when the ESME answered it; one whose answer
// was lost goes again. One goroutine, Run, sends.
type Deliverer struct {
	o    Options
	wake chan struct{}

	mu       sync.Mutex
	accounts map[msg.Account]*line
	dirty    []*line // to be looked at by Run

	Sent, Repeated, Refused, Abandoned atomic.Uint64
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

// Add queues the receipt of a finished message, or, where n is not zero, that
// notice of a message. It does not block.
func (d *Deliverer) Add(r spool.Record, n msg.Notice) {
	d.mu.Lock()
	l := d.line(r.Account)
	l.add(queued{id: r.ID, notice: n, deadline: r.ExpiresAt.Add(abandonAfter), ends: ends{unique.Make(r.From), r.To}})
	d.touch(l)
	d.mu.Unlock()
}

// line is the queue of an account; the caller holds mu.
func (d *Deliverer) line(a msg.Account) *line {
	l := d.accounts[a]
	if l == nil {
		l = newLine(a)
		d.accounts[a] = l
	}
	return l
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
		n += l.waiting + l.inFlight
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
				if l.waiting > 0 {
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

// idle tells whether a line can send nothing now; one that is done with is
// dropped. The caller holds mu.
func (d *Deliverer) idle(l *line, now time.Time) bool {
	if l.inFlight < d.o.Window && !now.Before(l.notUntil) && len(l.ready) > 0 {
		return false
	}
	if l.waiting == 0 && l.inFlight == 0 && !l.dirty {
		delete(d.accounts, l.account)
	}
	return true
}

// sendOne sends the oldest receipt of a line that may go; false when nothing
// more can.
func (d *Deliverer) sendOne(l *line) bool {
	now := d.o.Now()
	d.mu.Lock()
	idle := d.idle(l, now)
	d.mu.Unlock()
	if idle {
		return false
	}
	bind, up := d.o.Receiver(l.account)
	d.mu.Lock()
	if d.idle(l, now) { // looked at again: something may have happened meanwhile
		d.mu.Unlock()
		return false
	}
	q := l.take()
	d.mu.Unlock()
	switch {
	case now.After(q.deadline):
		d.abandon(l, q, msg.ReasonDeadline)
		return true
	case !up:
		d.putBack(l, q, 0)
		if d.o.Wanted != nil {
			d.o.Wanted(l.account)
		}
		return false
	}
	p, owed, err := d.build(q, bind.InterfaceVersion())
	switch {
	case errors.Is(err, spool.ErrClosed): // the next start sends it
		d.putBack(l, q, 0)
		return false
	case err != nil: // no receipt can ever be made of it
		d.o.Log.Error("receipt cannot be built", "msg_id", q.id.String(), "error", err)
		d.abandon(l, q, msg.ReasonUndecodable)
		return true
	case !owed: // a later one has said more
		d.finished(l, q)
		return true
	}
	if err := bind.Deliver(p, func(resp pdu.PDU, err error) { d.answered(l, q, trip{bind, now}, resp, err) }); err != nil {
		d.putBack(l, q, 0)
		return false
	}
	return true
}

// build makes the deliver_sm of q for an ESME that bound with that
// interface_version, if it is still owed.
func (d *Deliverer) build(q queued, version byte) (p pdu.PDU, owed bool, err error) {
	if q.reply {
		return d.buildReply(q, version)
	}
	r, err := d.o.Spool.Get(q.id)
	if err != nil {
		return nil, false, err
	}
	if q.notice == 0 && !r.ReceiptDue || q.notice != 0 && r.Owed&q.notice == 0 {
		return nil, false, nil
	}
	m, err := d.o.Spool.Message(q.id)
	if err != nil {
		return nil, false, err
	}
	p, err = Build(nil, &r, q.notice, m.PDU, version)
	return p, true, err
}

// finished ends q in its line: the next one between the same two may go.
func (d *Deliverer) finished(l *line, q queued) {
	d.mu.Lock()
	l.done(q)
	d.touch(l) // for the next one, or for Run to drop an idle line
	d.mu.Unlock()
}

// abandon ends a receipt that nobody gets.
func (d *Deliverer) abandon(l *line, q queued, why msg.Reason) {
	d.Abandoned.Add(1)
	d.finished(l, q)
	if q.reply {
		d.o.Log.Warn("reply given up", "reply_id", q.id.String(), "esme", l.account.SystemID, "reason", why.String())
		d.postReply(spool.Taken{ID: q.id, Part: q.part, Whole: true, At: d.o.Now(), Reason: why})
		return
	}
	detail := ""
	if q.tries > 0 {
		detail = fmt.Sprintf("sent in vain %d times", q.tries)
	}
	d.post(q, d.o.Now(), why, detail)
}

// putBack queues q again in its place; the account rests for a while.
func (d *Deliverer) putBack(l *line, q queued, rest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.putBack(q)
	if rest > 0 {
		l.notUntil = d.o.Now().Add(rest)
	}
}

// trip is the way of a receipt: to which bind, and since when.
type trip struct {
	bind Bind
	sent time.Time
}

// told is what a trace says of it: what came back, when, from where, and, after
// others, which try this was.
func (t trip) told(q *queued, now time.Time, what string) string {
	try := ""
	if q.tries > 0 {
		try = fmt.Sprintf(", try %d", q.tries+1)
	}
	return fmt.Sprintf("%s after %s, %s%s", what, now.Sub(t.sent).Round(100*time.Microsecond), t.bind, try)
}

// stepsTried is how many tries of a receipt that came to nothing are steps of its
// message's trace. Later ones are counted only: an ESME may refuse for days.
const stepsTried = 3

// tried counts a try that came to nothing.
func (d *Deliverer) tried(q *queued, now time.Time, what string, way trip) {
	d.Repeated.Add(1)
	if !q.reply && q.tries < stepsTried {
		d.o.Spool.Post(spool.Event{ID: q.id, Kind: msg.EvReceiptTried, At: now, Reason: msg.ReasonReceipt, Detail: way.told(q, now, what)}, nil)
	}
	q.tries++
}

// answered takes the ESME's deliver_sm_resp, or the reason why there is none.
func (d *Deliverer) answered(l *line, q queued, way trip, resp pdu.PDU, err error) {
	now := d.o.Now()
	if err != nil {
		d.tried(&q, now, "no answer", way)
		d.putBack(l, q, 0)
		d.Receivable(l.account) // another bind may be up
		return
	}
	st := resp.Status()
	if st.Temporary() {
		d.tried(&q, now, st.Name(), way)
		d.putBack(l, q, time.Second)
		return
	}
	reason, detail := msg.ReasonReceipt, way.told(&q, now, st.Name())
	if st != pdu.ROK || resp.ID() == pdu.GenericNack {
		d.Refused.Add(1)
		reason = msg.ReasonStatus
		d.o.Log.Warn("ESME refused a receipt", "kind", q.kind(), "msg_id", q.id.String(), "esme", l.account.SystemID, "status", st.String())
	} else {
		d.Sent.Add(1)
	}
	if q.reply { // counted before the next part goes: parts are counted in order
		d.postReply(spool.Taken{ID: q.id, Part: q.part, At: now, Reason: reason, Detail: detail})
		d.finished(l, q)
		return
	}
	d.finished(l, q)
	d.post(q, now, reason, detail)
}

// post has the spool forget a receipt, and asks again until it has: nobody else
// would, and the next start would send the receipt once more.
func (d *Deliverer) post(q queued, at time.Time, reason msg.Reason, detail string) {
	e := spool.Event{ID: q.id, Kind: msg.EvReceiptDone, At: at, Reason: reason, Detail: detail}
	if q.notice != 0 {
		e.Kind, e.Notice = msg.EvNoticeDone, q.notice
	}
	d.o.Spool.Post(e, func(res spool.Result) {
		switch err := res.Err; {
		case err == nil, errors.Is(err, spool.ErrRefused), errors.Is(err, spool.ErrNotFound), errors.Is(err, spool.ErrClosed):
		default: // the disk refused it
			time.AfterFunc(writeRest, func() { d.post(q, at, reason, detail) })
		}
	})
}
