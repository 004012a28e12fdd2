package dispatch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// Carrier is Shunt's own way to the SMSC.
type Carrier interface {
	SMSC() string
	// Ready tells whether a submit could be sent now.
	Ready() bool
	// Acquire waits for room in the window of a bind that is up; Submit or
	// Release gives it back.
	Acquire(ctx context.Context) error
	Release()
	// Submit sends a submit_sm; done is called once, with what came of it.
	Submit(p pdu.PDU, done func(Submitted))
}

// Submitted is what came of a Submit.
type Submitted struct {
	Sent      bool       // false: certainly never written
	Status    pdu.Status // of the response
	MessageID string     // as receipts will name it
	Err       error      // no response: with Sent, the outcome is unknown
}

// sms is a fallback on its way.
type sms struct {
	id      msg.ID
	unknown bool // sent before, with an unknown outcome: this one may double it
	expires time.Time
}

func smsOf(r *spool.Record, unknown bool) sms {
	return sms{id: r.ID, unknown: unknown, expires: r.ExpiresAt}
}

const (
	submitters  = 4           // they build PDUs: the window, not they, bounds what is under way
	writeRest   = time.Second // after the spool could not write
	firstRetry  = time.Second
	longestWait = 30 * time.Second
)

// again schedules the next attempt of a fallback whose last one failed for
// now. What is not sent when validity ends expires.
func (d *Dispatcher) again(r spool.Record) {
	d.Counters.Retried.Add(1)
	wait := min(firstRetry<<min(max(int(r.SMSAttempts)-1, 0), 8), longestWait)
	time.AfterFunc(wait, func() { d.fallback.add(smsOf(&r, false)) })
}

// unknown lets an SMS of unknown fate wait for a receipt that tells of it, and
// then has it sent again: each time twice as late, since every copy that a
// failing link swallows the answer of may have reached the handset.
func (d *Dispatcher) unknown(r spool.Record) {
	d.suspect(&r, true)
	wait := min(unknownRest<<min(int(r.Resubmits), 10), longestUnknown)
	time.AfterFunc(wait, func() {
		d.suspect(&r, false)
		d.fallback.add(smsOf(&r, true))
	})
}

// suspect notes an SMS that no submit_sm_resp named, until a while after its
// validity.
func (d *Dispatcher) suspect(r *spool.Record, open bool) {
	if p, id := pairOfRecord(r), r.ID; d.unknowns.set(p, id, open) {
		time.AfterFunc(r.ExpiresAt.Sub(d.o.Now())+suspectGrace, func() { d.unknowns.drop(p, id) })
	}
}

// feedFallbacks takes one fallback after the other as fast as the window and
// the rate allow, and has the spool sync that its SMS begins.
func (d *Dispatcher) feedFallbacks(ctx context.Context) {
	for {
		s, ok := d.fallback.next(ctx)
		if !ok || !d.waitThrottle(ctx) || d.limit.Wait(ctx) != nil || d.o.Carrier.Acquire(ctx) != nil {
			return // what was taken from the queue is still in the spool
		}
		if !d.o.Now().Before(s.expires) { // the validity timer is due, or about to be heard
			d.o.Carrier.Release()
			continue
		}
		kind := msg.EvSMSBegin
		if s.unknown {
			kind = msg.EvSMSResubmit
		}
		d.o.Spool.Post(spool.Event{ID: s.id, Kind: kind}, func(res spool.Result) {
			if res.Err != nil || res.Replay { // expired or answered meanwhile
				d.o.Carrier.Release()
				if unwritten(res.Err) {
					time.AfterFunc(writeRest, func() { d.fallback.add(s) })
				}
				return
			}
			// Not on the committer's goroutine: it must not wait for a submitter.
			go d.hand(ctx, s)
		})
	}
}

// rateOf is what a limiter is made of for so many a second; 0: no limit.
func rateOf(n int) (rate.Limit, int) {
	if n == 0 {
		return rate.Inf, 1
	}
	return rate.Limit(n), max(n/10, 1)
}

// SetRate changes how many fallbacks may be sent a second; see Options.
func (d *Dispatcher) SetRate(n int) {
	l, burst := rateOf(n)
	d.limit.SetLimit(l)
	d.limit.SetBurst(burst)
}

// unwritten tells that the spool could not write an event, so that it is to be
// posted again: it neither refused it nor is it closed.
func unwritten(err error) bool {
	return err != nil && !errors.Is(err, spool.ErrRefused) && !errors.Is(err, spool.ErrSuperseded) &&
		!errors.Is(err, spool.ErrNotFound) && !errors.Is(err, spool.ErrClosed)
}

// post posts what became of an SMS until the spool has it: no timer runs while
// an SMS is under way. It ends at the latest with the spool, and the next start
// takes the SMS for one of unknown fate.
func (d *Dispatcher) post(e spool.Event) {
	d.o.Spool.Post(e, func(res spool.Result) {
		if unwritten(res.Err) {
			time.AfterFunc(writeRest, func() { d.post(e) })
		}
	})
}

// hand passes a begun SMS to a submitter. At a stop it was certainly not sent,
// and the next start sends it.
func (d *Dispatcher) hand(ctx context.Context, s sms) {
	select {
	case d.submit <- s:
	case <-ctx.Done():
		d.o.Carrier.Release()
		d.post(spool.Event{ID: s.id, Kind: msg.EvSMSTemporary, Reason: msg.ReasonRestart})
	}
}

// waitThrottle lets a throttled SMSC rest.
func (d *Dispatcher) waitThrottle(ctx context.Context) bool {
	wait := time.Unix(0, d.throttledUntil.Load()).Sub(d.o.Now())
	if wait <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (d *Dispatcher) submitWorker(ctx context.Context) {
	for {
		select {
		case s := <-d.submit:
			d.submitOne(s)
		case <-ctx.Done():
			return
		}
	}
}

func (d *Dispatcher) submitOne(s sms) {
	m, err := d.o.Spool.Message(s.id)
	var p pdu.PDU
	if err == nil {
		p, err = fallbackPDU(m, d.o.Now())
	}
	if err != nil {
		d.o.Log.Error("fallback cannot be built", "msg_id", s.id.String(), "error", err)
		d.o.Carrier.Release()
		d.post(spool.Event{ID: s.id, Kind: msg.EvSMSPermanent, Reason: msg.ReasonUndecodable})
		return
	}
	if s.unknown {
		d.Counters.Resubmitted.Add(1)
	} else {
		d.Counters.Sent.Add(1)
	}
	d.o.Carrier.Submit(p, func(res Submitted) { d.submitted(s, res) })
}

// submitted turns the SMSC's answer, or its absence, into an event.
func (d *Dispatcher) submitted(s sms, res Submitted) {
	e := spool.Event{ID: s.id}
	switch {
	case res.Err != nil && !res.Sent:
		e.Kind, e.Reason = msg.EvSMSTemporary, msg.ReasonLinkLost
	case res.Err != nil:
		e.Kind, e.Reason = msg.EvSMSLost, msg.ReasonLinkLost
		if errors.Is(res.Err, smpp.ErrTimeout) {
			e.Reason = msg.ReasonTimeout
		}
	case res.Status == pdu.ROK:
		e.Kind, e.Peer, e.SMSID = msg.EvSMSAccepted, d.o.Carrier.SMSC(), res.MessageID
	case res.Status.Temporary():
		e.Kind, e.Reason, e.Detail = msg.EvSMSTemporary, msg.ReasonStatus, res.Status.String()
		d.throttledUntil.Store(d.o.Now().Add(throttleRest).UnixNano())
	default:
		e.Kind, e.Reason, e.Detail = msg.EvSMSPermanent, msg.ReasonStatus, res.Status.String()
		e.SMSErr = smpp.StatErr(smpp.StateUndeliverable, fmt.Sprintf("%03X", uint32(res.Status)&0xFFF))
	}
	d.post(e)
}

// throttleRest is how long all fallbacks rest after a temporary status.
const throttleRest = 100 * time.Millisecond

// fallbackPDU is the submit_sm or data_sm as it came, but for the sequence_number, a
// final receipt asked for in any case, since Shunt must know the outcome, a
// schedule_delivery_time, which has come, and what remains of a relative
// validity_period, at least a second: zero would be no validity or the SMSC's
// own, as the SMSC likes.
func fallbackPDU(m *spool.Message, now time.Time) (pdu.PDU, error) {
	left := max(m.ExpiresAt.Sub(now), time.Second)
	if pdu.PDU(m.PDU).ID() == pdu.DataSM {
		return fallbackData(m.PDU, left)
	}
	var sm pdu.SM
	if err := sm.Decode(m.PDU); err != nil {
		return nil, err
	}
	sm.RegisteredDelivery = sm.RegisteredDelivery&^0x03 | 0x01
	sm.Schedule = nil
	if n := len(sm.Validity); n == 16 && sm.Validity[n-1] == 'R' {
		sm.Validity = []byte(pdu.RelativeTime(left))
	}
	return pdu.AppendSM(nil, pdu.SubmitSM, 0, &sm), nil
}

// fallbackData does the same with a data_sm, whose validity is in
// qos_time_to_live.
func fallbackData(p pdu.PDU, left time.Duration) (pdu.PDU, error) {
	var m pdu.Data
	if err := m.Decode(p); err != nil {
		return nil, err
	}
	m.RegisteredDelivery = m.RegisteredDelivery&^0x03 | 0x01
	m.TLVs = slices.Clone(m.TLVs)
	if v, ok := m.TLVs.Find(pdu.TagQOSTimeToLive); ok && len(v) == 4 {
		binary.BigEndian.PutUint32(v, uint32(left/time.Second))
	}
	return m.Append(nil, 0), nil
}
