// Package upstream is the SMPP side of the gateway towards both peers: pairs of
// binds that make Shunt transparent between ESMEs and the SMSC, and Shunt's
// own binds.
package upstream

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
)

// Decider judges what an ESME submits, and what it asks about that: submit_sm,
// data_sm, submit_multi, query_sm, cancel_sm and replace_sm.
type Decider interface {
	// Divert takes p out of the transit: it calls b.Hold, then has p answered
	// with b.Answer or handed back with b.Pass, once and from any goroutine, and
	// returns true. Or it returns false, and p goes to the SMSC at once. It runs
	// on the reader's goroutine of b, must not block, and may keep p only as a
	// copy.
	Divert(b *Bind, p pdu.PDU) bool
}

// Bind is one ESME's bind and, behind it, the upstream bind that was made for
// it alone, with the same credentials and type. Every PDU passes as the octets
// that came, but the sequence_number.
//
// Two readers run, one a direction; each writes to the other's session.
type Bind struct {
	ID      uint64 // counts the binds of this process, from 1
	Type    pdu.ID // the bind request
	Account msg.Account
	Version byte // interface_version that the ESME announced
	Since   time.Time
	State   any // the Decider's own, set once before the first PDU

	// WindowFull answers a request of the ESME's that finds the window towards
	// the SMSC full; ESME_ROK: it waits, and TCP holds the ESME back. Set once
	// before the first PDU.
	WindowFull pdu.Status

	smsc      string // the address that it was made for, as configured
	down, up  *smpp.Session
	decider   Decider
	tap       *TapSwitch  // nil: there is none
	accepting *accepting  // nil: nobody asks what the SMSC accepts
	pending   pending     // requests that Divert took and that are not answered yet
	lost      func(*Bind) // Hub.Lost
	unbound   atomic.Bool // the ESME has said unbind, or answered it
	lastErr   atomic.Pointer[string]
	refusal   atomic.Uint64 // the SMSC's last answer that was not ESME_ROK: seconds since 1970, then its status, 32 bits each
	ending    atomic.Int64  // a time.Duration: how long each side's unbind may take; 0 while the gateway runs

	Reasons [64]atomic.Uint64 // verdicts by msg.Reason
}

// kinds are the short words for a bind's type.
var kinds = map[pdu.ID]string{pdu.BindTransmitter: "tx", pdu.BindReceiver: "rx", pdu.BindTransceiver: "trx"}

// String names the bind in a trace: its number, its type, and the ESME's address.
func (b *Bind) String() string {
	return "bind=" + strconv.FormatUint(b.ID, 10) + " " + kinds[b.Type] + " " + b.Peer()
}

// Transmits tells whether the ESME may submit on this bind (SMPP v3.4 §2.2).
func (b *Bind) Transmits() bool { return b.Type != pdu.BindReceiver }

// Receives tells whether the ESME takes deliver_sm on this bind.
func (b *Bind) Receives() bool { return b.Type != pdu.BindTransmitter }

// Count counts one verdict.
func (b *Bind) Count(r msg.Reason) { b.Reasons[r&63].Add(1) }

// Hold announces that a request which Divert took will be answered, passed or
// dropped: an unbind waits for it.
func (b *Bind) Hold() { b.pending.add(1) }

// Holds tells whether something that Divert took is not answered yet.
func (b *Bind) Holds() bool { return b.pending.n.Load() > 0 }

// Answer responds to what Divert took. It does not block.
func (b *Bind) Answer(resp pdu.PDU) {
	b.tap.response(b, true, true, resp)
	_ = b.down.Respond(resp) // a lost session has lost its answer: the message stays accepted
	b.pending.add(-1)
}

// AnswerAt is Answer, and tells where resp ends among the octets of the session
// (see Received); 0: it was not sent.
func (b *Bind) AnswerAt(resp pdu.PDU) (end uint64) {
	b.tap.response(b, true, true, resp)
	end, err := b.down.RespondAt(resp)
	b.pending.add(-1)
	if err != nil {
		return 0
	}
	return end
}

// Received tells, of a bind that has ended, whether the ESME's system has the
// octets up to end; see smpp.Session.Received.
func (b *Bind) Received(end uint64) bool { return b.down.Received(end) }

// Pass gives what Divert took back to the transit. It may block while
// the upstream window is full.
func (b *Bind) Pass(p pdu.PDU) {
	if t := b.accepting; t != nil {
		t.watch(p, t.a.seconds())
	}
	if b.up.Forward(p) == nil {
		b.up.Flush()
	}
	b.pending.add(-1)
}

// Drop leaves what Divert took without an answer, since none is known.
func (b *Bind) Drop() { b.pending.add(-1) }

// Exchange sends a request of Shunt's own to the SMSC, under this bind; see
// smpp.Session.Call.
func (b *Bind) Exchange(p pdu.PDU, done func(pdu.PDU, error)) error { return b.up.Call(p, done) }

// Deliver sends a deliver_sm of Shunt's own to the ESME; see smpp.Session.Call.
func (b *Bind) Deliver(p pdu.PDU, done func(pdu.PDU, error)) error { return b.down.Call(p, done) }

// Done is closed when the ESME's session is.
func (b *Bind) Done() <-chan struct{} { return b.down.Done() }

// Peer is the ESME's address.
func (b *Bind) Peer() string { return b.down.RemoteAddr().String() }

// Upstream is the SMSC's address.
func (b *Bind) Upstream() string { return b.up.RemoteAddr().String() }

// Refusal is the last status that the SMSC answered with and that was not
// ESME_ROK, and when; at is zero if there was none.
func (b *Bind) Refusal() (st pdu.Status, at time.Time) {
	w := b.refusal.Load()
	if w == 0 {
		return 0, at
	}
	return pdu.Status(w), time.Unix(int64(w>>32), 0).UTC()
}

// Figures are the counters of one bind.
type Figures struct {
	PDUsIn, PDUsOut     uint64 // from and to the ESME, forwarded ones
	WindowIn, WindowOut int    // outstanding towards the SMSC, and towards the ESME
	Unmatched, Expired  uint64
}

// Figures reads the counters; they are not of one moment.
func (b *Bind) Figures() Figures {
	return Figures{
		PDUsIn: b.down.Stats.PDUsIn.Load(), PDUsOut: b.up.Stats.PDUsIn.Load(),
		WindowIn: b.up.WindowInUse(), WindowOut: b.down.WindowInUse(),
		Unmatched: b.up.Stats.Unmatched.Load() + b.down.Stats.Unmatched.Load(),
		Expired:   b.up.Stats.Expired.Load() + b.down.Stats.Expired.Load(),
	}
}

// relay runs both directions until both sessions have ended.
func (b *Bind) relay() {
	upEnded := make(chan error, 1)
	go func() {
		err := b.up.Serve((*upReader)(b))
		b.down.Finish() // the loss of the upstream closes the downstream
		upEnded <- err
	}()
	err := b.down.Serve((*downReader)(b))
	if b.lost != nil && !b.unbound.Load() {
		b.lost(b)
	}
	timeout := time.Duration(b.ending.Load())
	if timeout == 0 && b.down.Inactive() {
		timeout = unbindWait
	}
	if timeout > 0 {
		b.up.Unbind(timeout)
	} else {
		b.up.Finish() // what the ESME sent before it went still goes
	}
	if upErr := <-upEnded; err == nil || err == smpp.ErrClosed {
		err = upErr
	}
	text := err.Error()
	b.lastErr.Store(&text)
}

// unbind ends the ESME's side in an orderly way, and then the SMSC's, each at
// the latest after timeout: the SMSC's unbind_resp must not close the ESME's
// session before its own is there (see relay).
func (b *Bind) unbind(timeout time.Duration) {
	b.pending.wait(timeout)
	b.ending.Store(int64(timeout))
	b.down.Unbind(timeout)
}

// unbindWait bounds how long an ESME's unbind waits for the answers to its
// diverted submits: a few commits of the spool.
const unbindWait = 10 * time.Second

// downReader handles what the ESME sends.
type downReader Bind

func (r *downReader) HandleRequest(p pdu.PDU) {
	b := (*Bind)(r)
	b.tap.request(b, true, p)
	switch p.ID() {
	case pdu.SubmitSM, pdu.DataSM, pdu.SubmitMulti, pdu.QuerySM, pdu.CancelSM, pdu.ReplaceSM:
		if b.Transmits() && b.decider.Divert(b, p) {
			return
		}
		if b.accepting != nil {
			b.accepting.forwarded(p)
		}
	case pdu.Unbind:
		b.unbound.Store(true)
		b.pending.wait(unbindWait) // every accepted submit has its answer first
	}
	if b.WindowFull != pdu.ROK && p.ID() != pdu.Unbind && p.ID().Answered() {
		b.tryRequest(p)
		return
	}
	passRequest(b.up, p)
}

func (r *downReader) HandleResponse(p pdu.PDU) {
	if p.ID() == pdu.UnbindResp {
		r.unbound.Store(true)
		r.pending.wait(unbindWait) // the same where the SMSC ends the session
	}
	r.tap.response((*Bind)(r), false, false, p)
	passResponse((*Bind)(r), r.up, p)
}

func (r *downReader) HandleBatch() {
	if r.accepting != nil {
		r.accepting.batch()
	}
	r.up.Flush()
}

// upReader handles what the SMSC sends.
type upReader Bind

func (r *upReader) HandleRequest(p pdu.PDU) {
	r.tap.request((*Bind)(r), false, p)
	passRequest(r.down, p)
}

func (r *upReader) HandleResponse(p pdu.PDU) {
	if r.accepting != nil {
		r.accepting.answered(p)
	}
	r.tap.response((*Bind)(r), true, false, p)
	if st := p.Status(); st != pdu.ROK {
		r.refusal.Store(uint64(time.Now().Unix())<<32 | uint64(st))
	}
	passResponse((*Bind)(r), r.down, p)
}

func (r *upReader) HandleBatch() { r.down.Flush() }

// tryRequest forwards a request, or answers it if the window is full. Nothing
// of the sort is done with what the SMSC sends: it would have to keep it, and
// the ESME is read on anyway.
func (b *Bind) tryRequest(p pdu.PDU) {
	if ok, _ := b.up.TryForward(p); !ok {
		_ = b.down.Send(pdu.AppendHeader(nil, p.ID().Response(), b.WindowFull, p.Seq()))
	}
}

// passRequest forwards a request. A session that has ended takes nothing: its
// peer is told by the end of this one.
func passRequest(to *smpp.Session, p pdu.PDU) {
	if p.ID().Answered() {
		_ = to.Forward(p)
	} else {
		_ = to.Notify(p)
	}
}

// passResponse forwards a response; an unbind_resp was the last word.
func passResponse(b *Bind, to *smpp.Session, p pdu.PDU) {
	_ = to.Send(p)
	if p.ID() == pdu.UnbindResp {
		b.down.Finish()
		b.up.Finish()
	}
}

// pending counts, and lets one wait for none.
type pending struct {
	n    atomic.Int32
	mu   sync.Mutex
	none chan struct{} // non-nil while somebody waits
}

func (c *pending) add(d int32) {
	if c.n.Add(d) == 0 && d < 0 {
		c.mu.Lock()
		if c.none != nil {
			close(c.none)
			c.none = nil
		}
		c.mu.Unlock()
	}
}

func (c *pending) wait(timeout time.Duration) {
	c.mu.Lock()
	if c.none == nil {
		c.none = make(chan struct{})
	}
	none := c.none
	c.mu.Unlock()
	if c.n.Load() == 0 {
		return
	}
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-none:
	case <-t.C:
	}
}
