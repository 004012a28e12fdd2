package gateway

import (
	"bytes"
	"errors"
	"time"

	"shunt/gateway/config"
	"shunt/gateway/msg"
	"shunt/gateway/route"
	"shunt/gateway/upstream"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// defaultValidity is that of a message whose ESME left it to the SMSC.
const defaultValidity = 24 * time.Hour

// policyOf turns the configuration into what the decision reads.
func policyOf(cfg *config.Config) *route.Policy {
	p := &route.Policy{
		DivertFrom: cfg.Policy.DivertFrom, NeverDivertFrom: cfg.Policy.NeverDivertFrom,
		NeverServiceType: cfg.Policy.NeverDivertServiceType, AllowOTP: cfg.Policy.AllowOTP,
		Share: cfg.Policy.Share, DefaultValidity: defaultValidity,
	}
	for i := range cfg.Plans {
		pl := &cfg.Plans[i]
		p.Plans = append(p.Plans, route.Plan{
			Name: pl.Name, To: pl.Match.To, From: pl.Match.From, Account: pl.Match.Account,
			ServiceType: pl.Match.ServiceType, AppFirst: pl.AppFirst(),
			ClaimWithin: pl.ClaimWithin, Lease: pl.Lease, Prefer: pl.Prefer,
		})
	}
	return p
}

// accountOf is what the decision needs of a new bind.
func (g *Gateway) accountOf(b *upstream.Bind) *route.Account {
	a := g.cfg.Account(b.Account.SystemID)
	return &route.Account{
		SystemID: b.Account.SystemID, Alphabet: a.DefaultAlphabet, IA5: a.DataCoding1,
		OptedIn: a.Divert && b.Account.SystemID != "",
	}
}

// Divert implements upstream.Decider: most submits are for numbers that nobody
// registered and end here after one look at the index, without allocating.
func (g *Gateway) Divert(b *upstream.Bind, p pdu.PDU) bool {
	addr, ok := pdu.Destination(p)
	if !ok {
		b.Count(msg.ReasonUndecodable)
		return false
	}
	n, ok := route.Number(addr)
	if !ok {
		b.Count(msg.ReasonDestination)
		return false
	}
	e := g.registry.Lookup(n)
	if !e.Registered() {
		if g.registry.Ready() {
			b.Count(msg.ReasonUnregistered)
		} else {
			b.Count(msg.ReasonNotReady)
		}
		return false
	}
	return g.divert(b, p, n, e)
}

// divert judges a submit for a registered number and, if it is for the app,
// spools it: the answer goes when it is on stable storage.
func (g *Gateway) divert(b *upstream.Bind, p pdu.PDU, n msg.Number, e msg.Entry) bool {
	var m pdu.SM
	if m.Decode(p) != nil {
		b.Count(msg.ReasonUndecodable)
		return false
	}
	now := time.Now()
	v := g.policy.Decide(g.mode.get(), b.State.(*route.Account), &m, n, e, now)
	app := ""
	if v.Divert {
		app = g.registry.AppName(e.App())
		if r := g.closed(app); r != msg.NoReason {
			v.Divert, v.Reason = false, r
		}
	}
	if !v.Divert {
		b.Count(v.Reason)
		return false
	}
	g.spoolIt(b, p, &m, &spool.Message{
		Account: b.Account, To: n, App: app, From: sender(m.Source), Alphabet: uint8(v.Alphabet),
		Version: b.Version, RegisteredDelivery: m.RegisteredDelivery, ReceivedAt: now,
		ClaimBy: v.ClaimBy, ExpiresAt: v.Expires, Lease: v.Plan.Lease, Prefer: v.Plan.Prefer,
	})
	return true
}

// closed tells why nothing can be diverted to an app at the moment.
func (g *Gateway) closed(app string) msg.Reason {
	switch {
	case g.diskLow.Load():
		return msg.ReasonSpoolFull
	case g.own == nil || !g.own.Ready():
		return msg.ReasonFallbackUnbound
	case !g.dispatcher.Available(app):
		return msg.ReasonAppDown
	}
	return msg.NoReason
}

// spoolIt stores a diverted message and answers its submit; what the spool
// does not take goes to the SMSC after all, with the SMSC's own answer.
func (g *Gateway) spoolIt(b *upstream.Bind, p pdu.PDU, m *pdu.SM, sm *spool.Message) {
	sm.ID = g.spool.NewID()
	sm.WireID = sm.ID.String()
	if !pdu.TLVsAllowed(b.Version) { // v3.3 has eight hexadecimal digits and a NUL (§4.4.2 there)
		sm.WireID = g.spool.ShortID()
	}
	sm.PDU = bytes.Clone(p)
	seq := p.Seq()
	b.Hold()
	g.spool.Put(sm, func(err error) {
		if err == nil {
			b.Count(msg.ReasonDivert)
			g.spoolRecovered()
			b.Answer(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, seq, sm.WireID))
			return
		}
		if errors.Is(err, spool.ErrFull) {
			b.Count(msg.ReasonSpoolFull)
		} else {
			b.Count(msg.ReasonSpoolFailed)
		}
		g.spoolFailed(err)
		go b.Pass(sm.PDU) // it may wait for the window, which the committer must not
	})
}

// spoolFailed and spoolRecovered say once that diversion is suspended, and
// once that it is back.
func (g *Gateway) spoolFailed(err error) {
	if g.submitOK.CompareAndSwap(true, false) {
		g.log.Error("spool refuses, messages go as plain SMS; check the disk under node.data_dir", "error", err)
	}
}

func (g *Gateway) spoolRecovered() {
	if !g.submitOK.Load() && g.submitOK.CompareAndSwap(false, true) {
		g.log.Info("spool takes messages again")
	}
}

// sender is the source address as an app shows it: an international number
// with its "+".
func sender(a pdu.Address) string {
	if a.TON == pdu.TONInternational && len(a.Addr) > 0 && a.Addr[0] != '+' {
		return "+" + string(a.Addr)
	}
	return string(a.Addr)
}
