package gateway

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"shunt/gateway/external"
	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/gateway/route"
	"shunt/gateway/upstream"
	"shunt/smpp/pdu"
	"shunt/store/registry"
)

// makeExternal opens the way to the external registries, if there are any.
func (g *Gateway) makeExternal() (err error) {
	var all []external.Options
	for i := range g.cfg.Registry.External {
		e := &g.cfg.Registry.External[i]
		all = append(all, external.Options{
			Name: e.Name, URL: e.URL, CA: e.CA.Bytes(), Token: string(e.Token.Bytes()), To: e.To,
			Timeout: e.Timeout, Concurrency: e.Concurrency, Cache: e.Cache, PositiveTTL: e.PositiveTTL, NegativeTTL: e.NegativeTTL,
		})
	}
	g.external, err = external.New(all, idsOf(g.cfg.Apps), g.registry, g.log)
	return err
}

// elsewhere tells whether a number that was looked up in the index is for the
// external registries to judge. It does not allocate.
func (g *Gateway) elsewhere(n msg.Number, e msg.Entry, reason msg.Reason) bool {
	return e.External() || reason == msg.ReasonUnregistered && g.external.Covers(n)
}

// divertTold takes a message for a number that nobody registered here, as far as
// is known. What has to be looked up first waits off the reader, behind
// whatever waits for the same number already; the bind is read on.
func (g *Gateway) divertTold(b *upstream.Bind, p pdu.PDU, n msg.Number) bool {
	reason, next := g.external.Look(n)
	if next == external.Ask {
		if r := g.worthAsking(b, p, n); r != msg.NoReason {
			g.forward(b, p, r)
			return false
		}
	}
	if next != external.Go {
		b.Hold()
		p := bytes.Clone(p)
		if g.external.Ask(n, func(r msg.Reason) { g.answered(b, p, n, r) }) {
			return true
		}
		b.Drop()
		reason = msg.ReasonExternalBusy
	}
	e, reason := g.told(n, reason)
	if reason != msg.NoReason {
		g.forward(b, p, reason)
		return false
	}
	return g.divert(b, p, n, e)
}

// answered lets a message go on that waited for the external registries. It may
// block.
func (g *Gateway) answered(b *upstream.Bind, p pdu.PDU, n msg.Number, reason msg.Reason) {
	e, reason := g.told(n, reason)
	if reason != msg.NoReason {
		g.forward(b, p, reason)
		b.Pass(p)
		return
	}
	if g.divert(b, p, n, e) {
		b.Drop() // that holds it itself
		return
	}
	b.Pass(p)
}

// told is what the index has of a number by now. Who registered here meanwhile is
// registered, and what was taken off here stays off until the external registry is
// asked again.
func (g *Gateway) told(n msg.Number, reason msg.Reason) (msg.Entry, msg.Reason) {
	e := g.registry.Lookup(n)
	switch {
	case e.Registered() && !e.External():
		return e, msg.NoReason
	case reason == msg.NoReason && !e.Registered():
		return e, msg.ReasonUnregistered
	}
	return e, reason
}

// worthAsking tells why a message is for the SMSC whatever an external registry
// says, if it is: nobody is told of a number for nothing.
func (g *Gateway) worthAsking(b *upstream.Bind, p pdu.PDU, n msg.Number) msg.Reason {
	var m pdu.SM
	if m.DecodeMessage(p) != nil {
		return msg.ReasonUndecodable
	}
	return g.worth(accountOf(b), &m, n)
}

func (g *Gateway) worth(acc *route.Account, m *pdu.SM, n msg.Number) msg.Reason {
	v := g.policy().Decide(g.mode.get(), acc, m, n, msg.MakeEntry(true, 0, 0), time.Now())
	switch {
	case v.Divert, v.Reason == msg.ReasonShadow, v.Reason == msg.ReasonFreshProof, v.Reason == msg.ReasonReplace:
		return msg.NoReason
	}
	return v.Reason
}

// What external registries have told of a number is kept so long after it was
// last heard of.
const (
	toldFor    = 7 * 24 * time.Hour
	sweepAfter = 10 * time.Minute
	sweepEvery = 6 * time.Hour
)

// sweepTold forgets what external registries have told that is of no more use,
// until ctx is done.
func (g *Gateway) sweepTold(ctx context.Context) {
	timer := time.NewTimer(sweepAfter)
	defer timer.Stop()
	names := g.external.Names()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		gone, err := g.registry.DropTold(ctx, time.Now().Add(-toldFor), func(source string) bool { return slices.Contains(names, source) })
		switch {
		case err != nil && ctx.Err() == nil:
			g.log.Error("registrations of external registries cannot be tidied", "error", err)
		case gone > 0:
			g.log.Info("registrations of external registries were forgotten: not heard of for long", "numbers", gone)
		}
		timer.Reset(sweepEvery)
	}
}

// externalStatus is the external registries at a glance.
func (g *Gateway) externalStatus() (all []noc.ExternalRegistry) {
	for _, s := range g.external.Status() {
		r := noc.ExternalRegistry{
			Name: s.Name, Breaker: s.Breaker, Until: s.Until, Reason: s.Reason, Trips: s.Trips,
			Asking: s.Asking, Cached: s.Cached, Lookups: s.Lookups, Seconds: s.Took.Seconds(),
		}
		sum := uint64(0)
		for i, n := range s.Latency {
			sum += n
			if i < len(external.LatencyBounds) {
				r.Latency = append(r.Latency, noc.LatencyBucket{Within: external.LatencyBounds[i], Count: sum})
			}
		}
		r.Count = sum
		all = append(all, r)
	}
	return all
}

// elsewhere asks the external registries about a number, and gives what the rules
// behind go by. Nothing is remembered.
func (x *explanation) elsewhere(n msg.Number, e msg.Entry) msg.Entry {
	ctx, cancel := context.WithTimeout(context.Background(), explainWithin)
	defer cancel()
	var said []string
	reason := msg.ReasonUnregistered
	known := false
	for _, o := range x.g.external.Explain(ctx, n) {
		text := fmt.Sprintf("%s: %s", o.Registry, o.Outcome)
		if o.Fault != "" {
			text += " (" + o.Fault + ")"
		}
		if o.Cached {
			text += " (remembered)"
		}
		said = append(said, text)
		switch {
		case known:
		case o.Outcome == external.Known:
			if known, reason = true, msg.NoReason; !o.Cached {
				e = x.entryOf(o.Told)
			}
		case reason == msg.ReasonUnregistered:
			reason = o.Reason
		}
	}
	if !known {
		e = 0
	}
	if known && !e.Registered() {
		said = append(said, "taken off here since")
	}
	if reason == msg.ReasonUnregistered {
		reason = msg.NoReason // the registration check says so
	}
	if len(said) == 0 {
		said = append(said, "no external registry is asked about it any more")
	}
	x.ask("external", reason, "not registered here; "+strings.Join(said, ", "))
	return e
}

// explainWithin bounds how long all external registries together are asked.
const explainWithin = 5 * time.Second

// entryOf is the entry that a registration would have which was told just now.
func (x *explanation) entryOf(told []registry.Told) msg.Entry {
	at := max(slices.IndexFunc(told, func(t registry.Told) bool { return t.Active }), 0)
	x.e.App = told[at].App
	app, _ := x.g.registry.AppIndex(x.e.App)
	return msg.MakeEntry(told[at].Active, app, 0).AsExternal()
}
