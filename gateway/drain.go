package gateway

import (
	"sync/atomic"

	"shunt/gateway/noc"
	"shunt/gateway/upstream"
	"shunt/smpp/pdu"
)

// drain is the switch of shunt drain. Other than the one for diversion it does
// not survive a restart: a node that comes back is there to serve.
type drain struct {
	on      atomic.Bool
	refused atomic.Uint64 // submits
}

// refuse answers what an ESME submits while the node is drained: ESME_RMSGQFUL
// (SMPP v3.4 §5.1.3), which peers take for a matter of time and try again,
// there or at another node. It allocates nothing while the switch is off.
func (d *drain) refuse(b *upstream.Bind, p pdu.PDU) bool {
	if !d.on.Load() {
		return false
	}
	switch p.ID() {
	case pdu.SubmitSM, pdu.DataSM, pdu.SubmitMulti:
	default:
		return false // what they ask about messages is answered
	}
	d.refused.Add(1)
	b.Hold()
	b.Answer(pdu.AppendHeader(nil, p.ID().Response(), pdu.RMSGQFUL, p.Seq()))
	return true
}

// SetDrain implements noc.Gateway.
func (c *control) SetDrain(on bool) noc.Drain {
	if c.g.drain.on.Swap(on) != on {
		c.g.proxy.Drain(on)
		c.g.log.Warn("drain switched by an operator", "drain", on)
	}
	return c.Drain()
}

// Drain implements noc.Gateway.
func (c *control) Drain() noc.Drain {
	g := c.g
	s := g.spool.Stats()
	binds := g.hub.Binds()
	d := noc.Drain{
		Draining: g.drain.on.Load(), Refused: g.drain.refused.Load(), BindsRefused: g.proxy.Counters.Drained.Load(),
		Binds: len(binds), Pending: s.LiveTotal - s.ReceiptsDue,
	}
	for _, b := range binds {
		f := b.Figures()
		d.Unanswered += f.WindowIn + f.WindowOut
		if b.Holds() {
			d.Unanswered++
		}
	}
	if s.ReceiptsDue > 0 {
		for r := range g.spool.Live {
			if !r.ReceiptDue {
				continue
			}
			if g.hub.Receiver(r.Account) != nil {
				d.Receipts++
			} else {
				d.ReceiptsKept++
			}
		}
	}
	d.Done = d.Draining && d.Pending == 0 && d.Unanswered == 0 && d.Receipts == 0
	return d
}

// Queue implements noc.Gateway.
func (c *control) Queue() []noc.Queue {
	all := make(map[noc.QueueKey]*noc.Queue)
	for r := range c.g.spool.Live {
		k := noc.QueueKey{State: r.State, Plan: r.Plan, App: r.App, Account: r.Account.SystemID}
		q := all[k]
		if q == nil {
			q = &noc.Queue{QueueKey: k, Oldest: r.ReceivedAt.UTC()}
			all[k] = q
		}
		q.Messages++
		if r.ReceivedAt.Before(q.Oldest) {
			q.Oldest = r.ReceivedAt.UTC()
		}
		if r.ReceiptDue {
			q.ReceiptsDue++
		}
	}
	return noc.SortQueue(all)
}

// measure notes how many PDUs a second pass on each bind, and how long answers
// took. It is called once a
// second, by one goroutine.
func (g *Gateway) measure() {
	g.timings.look()
	for _, b := range g.hub.Binds() {
		s, ok := b.State.(*session)
		if !ok {
			continue
		}
		f := b.Figures()
		now := f.PDUsIn + f.PDUsOut
		s.rate.Store(now - s.measured)
		s.measured = now
	}
}
