package dispatch

import (
	"context"
	"errors"
	"sync"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// CarrierReceipt is a delivery receipt that came on one of Shunt's own binds.
type CarrierReceipt struct {
	SMSC, ID string
	State    smpp.MessageState
	Err      string
	Done     time.Time

	Recipient, Sender string // whom the SMS was for and from, as the receipt's addresses say
}

// OnReceipt takes a receipt. answer is called once, when the receipt is
// durable, or nothing of ours waits for it. It does not block.
func (d *Dispatcher) OnReceipt(r CarrierReceipt, answer func(pdu.Status)) {
	if !r.State.Final() {
		d.enroute(r)
		answer(pdu.ROK)
		return
	}
	if id, ok := d.o.Spool.Correlate(r.SMSC, r.ID); ok {
		d.postReceipt(id, r, answer)
		return
	}
	if d.settled.has(r.SMSC, r.ID) {
		answer(pdu.ROK) // repeated: its outcome is durable
		return
	}
	// It may have come before its submit_sm_resp, or before that was synced.
	if !d.held.hold(r, answer, d.o.Now()) {
		answer(pdu.RXTAPPN)
		return
	}
	d.Counters.ReceiptsHeld.Add(1)
	if id, ok := d.o.Spool.Correlate(r.SMSC, r.ID); ok {
		d.held.release(r.SMSC, r.ID, func(h heldReceipt) { d.postReceipt(id, h.receipt, h.answer) })
	}
}

// enroute takes an intermediate notification, which is the ESME's where it asked
// for one. It promises nothing: the SMSC has its answer before it is durable.
func (d *Dispatcher) enroute(r CarrierReceipt) {
	if id, ok := d.o.Spool.Correlate(r.SMSC, r.ID); ok {
		d.postEnroute(id, r)
		return
	}
	d.early.hold(r, func(pdu.Status) {}, d.o.Now()) // like a receipt it may have come early
	if id, ok := d.o.Spool.Correlate(r.SMSC, r.ID); ok {
		d.early.release(r.SMSC, r.ID, func(h heldReceipt) { d.postEnroute(id, h.receipt) })
	}
}

func (d *Dispatcher) postEnroute(id msg.ID, r CarrierReceipt) {
	d.post(spool.Event{ID: id, Kind: msg.EvSMSEnroute, Reason: msg.ReasonReceipt, Detail: r.State.Stat()})
}

func (d *Dispatcher) postReceipt(id msg.ID, r CarrierReceipt, answer func(pdu.Status)) {
	e := spool.Event{
		ID: id, Reason: msg.ReasonReceipt, Detail: r.State.Stat(),
		SMSErr: smpp.StatErr(r.State, r.Err), DoneAt: r.Done,
	}
	switch r.State {
	case smpp.StateDelivered:
		e.Kind = msg.EvSMSDelivered
	case smpp.StateExpired:
		e.Kind = msg.EvSMSExpired
	default:
		e.Kind = msg.EvSMSFailed
	}
	d.o.Spool.Post(e, func(res spool.Result) {
		if res.Err == nil || errors.Is(res.Err, spool.ErrRefused) || errors.Is(res.Err, spool.ErrNotFound) {
			answer(pdu.ROK)
			return
		}
		answer(pdu.RXTAPPN) // not durable: the SMSC keeps it and sends it again
	})
}

// heldReceipts are receipts that match nothing yet.
type heldReceipts struct {
	mu sync.Mutex
	m  map[[2]string]heldReceipt // by SMSC and id
}

type heldReceipt struct {
	receipt CarrierReceipt
	answer  func(pdu.Status)
	at      time.Time
}

const (
	maxHeld  = 50_000
	holdTime = 30 * time.Second
)

func (h *heldReceipts) hold(r CarrierReceipt, answer func(pdu.Status), now time.Time) bool {
	h.mu.Lock()
	key := [2]string{r.SMSC, r.ID}
	old, again := h.m[key]
	if !again && len(h.m) >= maxHeld {
		h.mu.Unlock()
		return false
	}
	if h.m == nil {
		h.m = make(map[[2]string]heldReceipt)
	}
	h.m[key] = heldReceipt{receipt: r, answer: answer, at: now}
	h.mu.Unlock()
	if again { // the SMSC repeated itself
		old.answer(pdu.ROK)
	}
	return true
}

// release takes the receipt of that id out, if one is held, and gives it to f.
func (h *heldReceipts) release(smsc, id string, f func(heldReceipt)) {
	h.mu.Lock()
	key := [2]string{smsc, id}
	r, ok := h.m[key]
	delete(h.m, key)
	h.mu.Unlock()
	if ok {
		f(r)
	}
}

// settleHeld looks at what is held once a second until ctx is done: a receipt
// that no submit_sm_resp claims may tell of an SMS of unknown fate; what nothing
// of ours waits for is answered and let go.
func (d *Dispatcher) settleHeld(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-d.pinged:
			d.pings.answer()
			continue
		case <-ctx.Done():
			return
		}
		now := d.o.Now()
		for _, h := range d.early.older(now.Add(-holdTime)) {
			d.early.release(h.receipt.SMSC, h.receipt.ID, func(heldReceipt) {})
		}
		for _, h := range d.held.older(now.Add(-unclaimedAfter)) {
			take := func(h heldReceipt) {
				d.Counters.ReceiptsUnknown.Add(1)
				h.answer(pdu.ROK)
			}
			p := pairOf(h.receipt.Recipient, h.receipt.Sender)
			id, ok := d.unknowns.take(p)
			switch {
			case ok && d.repeated(id, &h.receipt):
				d.unknowns.set(p, id, true)
			case ok:
				take = func(h heldReceipt) {
					d.Counters.ReceiptsByAddress.Add(1)
					d.postReceipt(id, h.receipt, func(st pdu.Status) {
						if st != pdu.ROK { // not durable: it comes again, and must fit again
							d.unknowns.set(p, id, true)
						}
						h.answer(st)
					})
				}
			case now.Sub(h.at) < holdTime:
				continue
			}
			d.held.release(h.receipt.SMSC, h.receipt.ID, take)
		}
	}
}

// repeated tells that a receipt is not of the message whose fate is unknown, but of
// an earlier one to the same number: the SMSC sends it again because its answer was
// lost, with a process of ours that remembered it. What cannot be read is in doubt,
// and settles nothing.
func (d *Dispatcher) repeated(unknown msg.ID, c *CarrierReceipt) bool {
	r, err := d.o.Spool.Get(unknown)
	if err != nil {
		return true
	}
	sent, err := d.o.Spool.Sent(r.To, c.SMSC, c.ID)
	return sent || err != nil
}

// older are the receipts that are held since before t.
func (h *heldReceipts) older(t time.Time) (all []heldReceipt) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.m {
		if r.at.Before(t) {
			all = append(all, r)
		}
	}
	return all
}
