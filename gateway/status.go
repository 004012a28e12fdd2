package gateway

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"shunt/gateway/dispatch"
	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/gateway/route"
	"shunt/gateway/upstream"
	"shunt/push"
	"shunt/smpp/pdu"
)

// verdicts are counts by msg.Reason.
type verdicts [64]uint64

func (v *verdicts) add(b *upstream.Bind) {
	for i := range b.Reasons {
		v[i] += b.Reasons[i].Load()
	}
}

// endedBinds sums up the verdicts of binds that are gone, by system_id.
type endedBinds struct {
	mu       sync.Mutex
	accounts map[string]*verdicts
	late     []*upstream.Bind // what they submitted last is still on its way to the disk
}

func (e *endedBinds) add(b *upstream.Bind) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if b.Holds() {
		e.late = append(e.late, b)
		return
	}
	e.sum(b)
}

// settle sums up those whose last verdict is there; mu is held.
func (e *endedBinds) settle() {
	e.late = slices.DeleteFunc(e.late, func(b *upstream.Bind) bool {
		done := !b.Holds()
		if done {
			e.sum(b)
		}
		return done
	})
}

func (e *endedBinds) sum(b *upstream.Bind) {
	if e.accounts == nil {
		e.accounts = make(map[string]*verdicts)
	}
	v := e.accounts[b.Account.SystemID]
	if v == nil {
		v = new(verdicts)
		e.accounts[b.Account.SystemID] = v
	}
	v.add(b)
}

// verdicts are those of every account since the start.
func (g *Gateway) verdicts() map[string]verdicts {
	all := make(map[string]verdicts)
	g.ended.mu.Lock()
	g.ended.settle()
	for id, v := range g.ended.accounts {
		all[id] = *v
	}
	binds := slices.Clone(g.ended.late)
	g.ended.mu.Unlock()
	for _, b := range append(binds, g.hub.Binds()...) {
		v := all[b.Account.SystemID]
		v.add(b)
		all[b.Account.SystemID] = v
	}
	return all
}

// control is the gateway as its operators see it.
type control struct{ g *Gateway }

// Divert is the switch's position.
func (c *control) Divert() string { return c.g.mode.get().String() }

// Verdicts are the submits since the start by account and reason.
func (c *control) Verdicts() map[string]map[string]uint64 {
	all := make(map[string]map[string]uint64)
	for account, v := range c.g.verdicts() {
		reasons := make(map[string]uint64)
		for _, r := range msg.Reasons() {
			if v[r] > 0 {
				reasons[r.String()] = v[r]
			}
		}
		all[account] = reasons
	}
	return all
}

// SetDivert sets the switch.
func (c *control) SetDivert(_ context.Context, mode string) error {
	m, ok := route.ParseMode(mode)
	if !ok {
		return fmt.Errorf("divert %q: want on, shadow or off", mode)
	}
	if m != route.Off && c.g.own == nil {
		return fmt.Errorf("divert %s: needs intercept.fallback_smsc in the configuration", mode)
	}
	err := c.g.mode.set(m)
	c.g.log.Warn("divert switched by an operator", "mode", mode, "durable", err == nil)
	return err
}

// Status is the gateway at a glance.
func (c *control) Status() noc.Status {
	g := c.g
	s := noc.Status{
		Version: g.version, Node: g.cfg.Node.ID, Started: g.started, Divert: c.Divert(), Drain: g.drain.on.Load(),
		IndexReady: g.registry.Ready(), IndexBytes: g.registry.IndexBytes(), Registered: g.registry.Count(),
		Listen: g.addrs(), Spool: g.spool.Stats(), Counters: g.counters(), FailOpen: g.failOpen(),
		Answers: g.timings.answers(), Alarms: g.alarms.Raised(), AlarmsRaised: g.alarms.Total(),
		DiskFree: math.Float64frombits(g.diskFree.Load()),
	}
	if g.apiListener != nil {
		s.API = []string{g.apiListener.Addr().String()}
	}
	g.countBinds(&s)
	for _, l := range g.dispatcher.Lanes() {
		s.Push = append(s.Push, pushLane(&l))
	}
	s.External = g.externalStatus()
	if g.own != nil {
		own := ownBind(g.own.State())
		if s, ok := g.config().SMSC(g.cfg.Intercept.FallbackSMSC); ok {
			own.WindowMax = s.Window * s.Sessions
		}
		s.Own = append(s.Own, own)
	}
	return s
}

// countBinds says who is bound, and whether the SMSC can be reached.
func (g *Gateway) countBinds(s *noc.Status) {
	for _, b := range g.hub.Binds() {
		switch b.Type {
		case pdu.BindTransmitter:
			s.Binds.Transmitter++
		case pdu.BindReceiver:
			s.Binds.Receiver++
		default:
			s.Binds.Transceiver++
		}
		s.Binds.Upstream++
	}
	if u := g.proxy.Unreachable(); u != nil {
		s.UpstreamError, s.UpstreamErrorAt = u.Err.Error(), u.At.UTC()
	}
}

func pushLane(l *dispatch.Lane) noc.PushLane {
	p := noc.PushLane{
		App: l.App, Provider: l.Platform.String(), Breaker: l.Breaker.State.String(),
		Until: l.Breaker.Until, Reason: l.Breaker.Reason, Trips: l.Breaker.Trips,
	}
	if l.Sandbox {
		p.Provider += "-sandbox"
	}
	return p
}

// ownBind says how much of a pool is up; the last error only while not all is.
func ownBind(o upstream.OwnState) noc.OwnBind {
	b := noc.OwnBind{SMSC: o.SMSC, State: "bound", LastError: o.LastError, Window: o.Window}
	switch {
	case o.Bound == 0:
		b.State = "unbound"
	case o.Bound < o.Want:
		b.State = fmt.Sprintf("%d of %d bound", o.Bound, o.Want)
	default:
		b.LastError = ""
	}
	return b
}

// failOpen are the reasons why nothing is diverted at the moment.
func (g *Gateway) failOpen() []string {
	var all []string
	if !g.registry.Ready() {
		all = append(all, msg.ReasonNotReady.String())
	}
	if g.diskLow.Load() {
		all = append(all, msg.ReasonSpoolFull.String())
	}
	if g.spool.Stalled() {
		all = append(all, msg.ReasonSpoolStalled.String())
	}
	if !g.submitOK.Load() {
		all = append(all, msg.ReasonSpoolFailed.String())
	}
	if g.own == nil || !g.own.Ready() {
		all = append(all, msg.ReasonFallbackUnbound.String())
	}
	return all
}

func (g *Gateway) counters() noc.Counters {
	var sum verdicts
	for _, v := range g.verdicts() {
		for i := range v {
			sum[i] += v[i]
		}
	}
	d := &g.dispatcher.Counters
	c := noc.Counters{
		Diverted: sum[msg.ReasonDivert], Shadow: sum[msg.ReasonShadow],
		Reasons: make(map[string]uint64), Pushes: make(map[string]uint64), Edge: g.edgeCounters(),
		FallbackSent: d.Sent.Load(), FallbackRetried: d.Retried.Load(), FallbackResubmitted: d.Resubmitted.Load(),
		ReceiptsSent: g.receipts.Sent.Load(), ReceiptsWaiting: uint64(g.receipts.Waiting()),
		CDRWritten: g.records.Written.Load(), CDRDropped: g.records.Dropped.Load(), CDRFailing: g.records.Failing.Load(),
	}
	if t := g.traces; t != nil {
		c.Traces = &noc.Traces{Sent: t.Sent.Load(), Dropped: t.Dropped.Load()}
	}
	for _, r := range msg.Reasons() {
		if n := sum[r]; n > 0 {
			c.Reasons[r.String()] = n
			c.SubmitsIn += n
		}
	}
	c.Forwarded = c.SubmitsIn - c.Diverted - sum[msg.ReasonResubmit]
	for _, o := range push.Outcomes() {
		if n := d.Pushes[o].Load(); n > 0 {
			c.Pushes[o.String()] = n
		}
	}
	return c
}

var bindNames = map[pdu.ID]string{
	pdu.BindTransmitter: "transmitter", pdu.BindReceiver: "receiver", pdu.BindTransceiver: "transceiver",
}

// Names implements noc.Gateway.
func (c *control) Names() (accounts, apps []string) {
	cfg := c.g.config()
	for i := range cfg.Accounts {
		accounts = append(accounts, cfg.Accounts[i].SystemID)
	}
	for i := range cfg.Apps {
		apps = append(apps, cfg.Apps[i].ID)
	}
	return accounts, apps
}

// Sessions are the ESMEs' binds.
func (c *control) Sessions() []noc.Session {
	all := []noc.Session{}
	for _, b := range c.g.hub.Binds() {
		f := b.Figures()
		all = append(all, noc.Session{
			ID: b.ID, SystemID: b.Account.SystemID, Bind: bindNames[b.Type], State: "bound", Version: noc.Version(b.Version),
			Peer: b.Peer(), Upstream: b.Upstream(), Since: b.Since, PDUsIn: f.PDUsIn, PDUsOut: f.PDUsOut,
			WindowIn: f.WindowIn, WindowOut: f.WindowOut, WindowMax: c.g.cfg.SMPP.Window, Rate: rateOf(b), LastError: lastRefusal(b),
		})
	}
	return all
}

// lastRefusal is the SMSC's last answer that was not ESME_ROK.
func lastRefusal(b *upstream.Bind) string {
	st, at := b.Refusal()
	if at.IsZero() {
		return ""
	}
	return st.Name() + " at " + at.Format("2006-01-02 15:04:05")
}

func rateOf(b *upstream.Bind) uint64 {
	if s, ok := b.State.(*session); ok {
		return s.rate.Load()
	}
	return 0
}
