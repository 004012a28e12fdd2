package gateway

import (
	"context"
	"strings"
	"sync"
	"time"

	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/gateway/route"
	"shunt/gateway/upstream"
	"shunt/smpp/pdu"
)

// Bounds of what operators watch.
const (
	maxWatches   = 16
	maxUnseen    = 1000 // PDUs that wait for one operator
	maxUnmatched = 4096 // requests whose answer is awaited
)

// watches are the numbers whose traffic operators look at, of forwarded messages
// too. While there are none the tap is off. They are safe for concurrent use.
type watches struct {
	taps upstream.TapSwitch

	mu       sync.Mutex
	all      map[*watching]struct{}
	awaiting map[awaited][]*watching
	since    map[awaited]time.Time
}

type watching struct {
	n       msg.Number
	digits  string
	seen    chan noc.Passed
	dropped uint64 // under watches.mu
}

// awaited is a request that waits for its answer.
type awaited struct {
	b        *upstream.Bind
	fromESME bool
	seq      uint32
}

// Watch implements noc.Gateway.
func (c *control) Watch(ctx context.Context, n msg.Number, see func(*noc.Passed) error) error {
	w := &watching{n: n, digits: n.String()[1:], seen: make(chan noc.Passed, maxUnseen)}
	if !c.g.watches.add(w, c.g) {
		return noc.ErrTooManyWatches
	}
	defer c.g.watches.remove(w)
	if err := see(nil); err != nil {
		return err
	}
	for {
		select {
		case p := <-w.seen:
			c.g.log.Info("watched message", "number", n.Masked(), "esme", p.ESME, "pdu", p.PDU, "way", p.Way, "status", p.Status, "msg_id", p.Message)
			if err := see(&p); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (w *watches) add(one *watching, g *Gateway) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.all) >= maxWatches {
		return false
	}
	if w.all == nil {
		w.all, w.awaiting, w.since = make(map[*watching]struct{}), make(map[awaited][]*watching), make(map[awaited]time.Time)
	}
	w.all[one] = struct{}{}
	w.taps.Set(tap{g})
	return true
}

func (w *watches) remove(one *watching) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, one)
	if len(w.all) == 0 {
		w.taps.Set(nil)
		clear(w.awaiting)
		clear(w.since)
	}
}

// commandNames are the specification's (SMPP v3.4 §5.1.2.1).
var commandNames = map[pdu.ID]string{
	pdu.SubmitSM: "submit_sm", pdu.DataSM: "data_sm", pdu.DeliverSM: "deliver_sm", pdu.GenericNack: "generic_nack",
	pdu.SubmitSMResp: "submit_sm_resp", pdu.DataSMResp: "data_sm_resp", pdu.DeliverSMResp: "deliver_sm_resp",
}

// tap is upstream.Tap.
type tap struct{ g *Gateway }

// Request implements upstream.Tap.
func (t tap) Request(b *upstream.Bind, fromESME bool, p pdu.PDU) {
	switch p.ID() {
	case pdu.SubmitSM, pdu.DataSM, pdu.DeliverSM:
	default:
		return
	}
	var m pdu.SM
	if m.DecodeMessage(p) != nil {
		return
	}
	to, isNumber := route.Number(m.Dest, &accountOf(b).Country)
	w := &t.g.watches
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.all {
		if !(isNumber && to == one.n) && !one.named(m.Dest.Addr) && !one.named(m.Source.Addr) {
			continue
		}
		e := noc.Passed{
			At: time.Now().UTC(), ESME: b.Account.SystemID, Way: "esme-to-smsc", PDU: commandNames[p.ID()], Seq: p.Seq(),
			From: string(m.Source.Addr), To: string(m.Dest.Addr), ESM: int(m.ESMClass),
		}
		if !fromESME {
			e.Way = "smsc-to-esme"
		}
		one.tell(e)
		at := awaited{b, fromESME, p.Seq()}
		if len(w.awaiting) < maxUnmatched || w.awaiting[at] != nil {
			w.awaiting[at], w.since[at] = append(w.awaiting[at], one), e.At
		}
	}
}

// Response implements upstream.Tap.
func (t tap) Response(b *upstream.Bind, toESME, own bool, p pdu.PDU) {
	w := &t.g.watches
	w.mu.Lock()
	defer w.mu.Unlock()
	at := awaited{b, toESME, p.Seq()}
	who, since := w.awaiting[at], w.since[at]
	if who == nil {
		return
	}
	delete(w.awaiting, at)
	delete(w.since, at)
	e := noc.Passed{At: time.Now().UTC(), ESME: b.Account.SystemID, PDU: commandNames[p.ID()], Status: p.Status().Name(), Seq: p.Seq()}
	e.TookMS = float64(e.At.Sub(since).Microseconds()) / 1e3
	e.Message, _ = pdu.MessageID(p)
	switch {
	case own:
		e.Way = "shunt-to-esme"
	case toESME:
		e.Way = "smsc-to-esme"
	default:
		e.Way = "esme-to-smsc"
	}
	for _, one := range who {
		if _, still := w.all[one]; still {
			one.tell(e)
		}
	}
}

// named tells whether an address is the number, as peers write it.
func (w *watching) named(addr []byte) bool { return strings.TrimPrefix(string(addr), "+") == w.digits }

// tell queues what was seen; an operator who is too slow is told how much is
// missing. watches.mu is held.
func (w *watching) tell(p noc.Passed) {
	p.Dropped = w.dropped
	select {
	case w.seen <- p:
		w.dropped = 0
	default:
		w.dropped++
	}
}
