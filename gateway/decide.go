package gateway

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"shunt/gateway/config"
	"shunt/gateway/msg"
	"shunt/gateway/resubmit"
	"shunt/gateway/route"
	"shunt/gateway/upstream"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
	"shunt/store"
	"shunt/store/spool"
)

// defaultValidity is that of a message whose ESME left it to the SMSC.
const defaultValidity = 24 * time.Hour

// policyOf turns the configuration into what the decision reads.
func policyOf(cfg *config.Config) *route.Policy {
	p := &route.Policy{
		DivertFrom: cfg.Policy.DivertFrom, NeverDivertFrom: cfg.Policy.NeverDivertFrom,
		NeverServiceType: cfg.Policy.NeverDivertServiceType, AllowOTP: cfg.Policy.AllowOTP,
		OTPAfterProof: cfg.Policy.OTPAfterProof,
		Share:         cfg.Policy.Share, DefaultValidity: defaultValidity, AcceptedWithin: cfg.Policy.AcceptedWithin,
	}
	for i := range cfg.Plans {
		pl := &cfg.Plans[i]
		p.Plans = append(p.Plans, route.Plan{
			Name: pl.Name, To: pl.Match.To, From: pl.Match.From, Account: pl.Match.Account,
			ServiceType: pl.Match.ServiceType, Priority: pl.Match.Priority, Content: pl.Match.Content,
			Hours: pl.Match.Hours, Zone: pl.Match.Zone, AppFirst: pl.AppFirst(),
			ClaimWithin: pl.ClaimWithin, Lease: pl.Lease, Prefer: pl.Prefer, NoReceipts: pl.NoReceipts,
		})
	}
	return p
}

// accountNamed is what the decision needs of a bind with that system_id.
func (g *Gateway) accountNamed(systemID string) *route.Account {
	return accountIn(g.config(), systemID)
}

func accountIn(c *config.Config, systemID string) *route.Account {
	a := c.Account(systemID)
	country, _ := msg.CountryOf(a.DefaultCountry)
	return &route.Account{
		Country: country, SystemID: systemID, Alphabet: a.DefaultAlphabet, IA5: a.DataCoding1,
		OptedIn: a.Divert && systemID != "",
	}
}

// session is the gateway's own part of a bind.
type session struct {
	account atomic.Pointer[route.Account] // another one after a reload
	submits resubmit.Log                  // diverted ones whose answers may be in doubt

	rate     atomic.Uint64 // PDUs in the last second
	measured uint64        // PDUs at the last look; of Gateway.measure alone
}

func accountOf(b *upstream.Bind) *route.Account { return b.State.(*session).account.Load() }

// Divert implements upstream.Decider: most submits are for numbers that nobody
// registered and end here after one look at the index, without allocating.
func (g *Gateway) Divert(b *upstream.Bind, p pdu.PDU) bool {
	if g.drain.refuse(b, p) {
		return true
	}
	switch p.ID() {
	case pdu.SubmitSM, pdu.DataSM:
		if g.resubmits.Any() && g.resubmitted(b, p) {
			return true
		}
	case pdu.SubmitMulti:
		return g.divertMulti(b, p)
	default:
		return g.manage(b, p)
	}
	addr, ok := pdu.Destination(p)
	if !ok {
		g.forward(b, p, msg.ReasonUndecodable)
		return false
	}
	n, e, reason := g.lookup(b, addr)
	if g.elsewhere(n, e, reason) {
		return g.divertTold(b, p, n)
	}
	if reason != msg.NoReason {
		g.forward(b, p, reason)
		return false
	}
	return g.divert(b, p, n, e)
}

// lookup finds a destination in the index, or why it is not there.
func (g *Gateway) lookup(b *upstream.Bind, addr pdu.Address) (msg.Number, msg.Entry, msg.Reason) {
	return g.find(accountOf(b), addr)
}

func (g *Gateway) find(acc *route.Account, addr pdu.Address) (n msg.Number, e msg.Entry, r msg.Reason) {
	n, ok := route.Number(addr, &acc.Country)
	if !ok {
		return n, e, msg.ReasonDestination
	}
	e = g.registry.Lookup(n)
	switch {
	case e.Registered():
		return n, e, msg.NoReason
	case g.registry.Ready():
		return n, e, msg.ReasonUnregistered
	}
	return n, e, msg.ReasonNotReady
}

// divert judges a message for a registered number and, if it is for the app,
// spools it: the answer goes when it is on stable storage.
func (g *Gateway) divert(b *upstream.Bind, p pdu.PDU, n msg.Number, e msg.Entry) bool {
	var m pdu.SM
	if m.DecodeMessage(p) != nil {
		g.forward(b, p, msg.ReasonUndecodable)
		return false
	}
	s := submission{bind: b, m: &m, to: n, entry: e, at: time.Now()}
	segment, r := route.ReadSegment(&m)
	if r == msg.NoReason && segment.Form != coding.Whole {
		return g.divertPart(&s, p, &segment)
	}
	if m.ReplaceIfPresent != 0 {
		return g.divertReplacing(&s, p)
	}
	v := g.judge(&s)
	if !v.Divert {
		g.forward(b, p, v.Reason)
		return false
	}
	g.spoolIt(b, p, g.message(&s, &v, p), nil)
	return true
}

// submission is a message that an ESME submits to one registered number.
type submission struct {
	bind  *upstream.Bind
	m     *pdu.SM
	to    msg.Number
	entry msg.Entry
	at    time.Time
}

// judge decides about a submission, by policy and by what is up.
func (g *Gateway) judge(s *submission) route.Verdict {
	v := g.policy().Decide(g.mode.get(), accountOf(s.bind), s.m, s.to, s.entry, s.at)
	if v.Divert {
		claim := v.ClaimBy.Sub(s.at)
		if !v.Due.IsZero() {
			claim = v.ClaimBy.Sub(v.Due)
		}
		if r := g.closed(&wanted{s.to, g.registry.AppName(s.entry.App()), claim}); r != msg.NoReason {
			v.Divert, v.Reason = false, r
		}
	}
	return v
}

// message is what the spool gets of a submission for the app; p is the PDU
// that a fallback sends.
func (g *Gateway) message(s *submission, v *route.Verdict, p pdu.PDU) *spool.Message {
	m := &spool.Message{
		ID: g.spool.NewID(), Account: s.bind.Account, To: s.to, App: g.registry.AppName(s.entry.App()),
		Plan: v.Plan.Name, Via: s.bind.String(), From: sender(s.m.Source), Alphabet: uint8(v.Alphabet), PDU: bytes.Clone(p),
		Version: s.bind.Version, RegisteredDelivery: s.m.RegisteredDelivery, ReceivedAt: s.at,
		ClaimBy: v.ClaimBy, ExpiresAt: v.Expires, DueAt: v.Due, Lease: v.Plan.Lease, Prefer: v.Plan.Prefer,
	}
	m.WireID = g.wireID(s.bind, m.ID)
	return m
}

// wireID is the message_id that an ESME gets for a message: v3.3 has eight
// hexadecimal digits and a NUL (§4.4.2 there).
func (g *Gateway) wireID(b *upstream.Bind, id msg.ID) string {
	if pdu.TLVsAllowed(b.Version) {
		return id.String()
	}
	return g.spool.ShortID()
}

// proven tells when a number was proven for the app that gets its messages. It
// reads the registry, for one-time codes to registered numbers alone.
func (g *Gateway) proven(n msg.Number) (time.Time, bool) {
	r, err := g.registry.Get(n)
	if err != nil {
		return time.Time{}, false // unknown: the code stays with the carrier
	}
	return r.Proven(g.registry.AppName(g.registry.Lookup(n).App())), true
}

// need is something that has to be up for a diversion.
type need struct {
	name    string
	ofApp   bool // it is asked of a registered number's app
	missing func(g *Gateway, q *wanted) msg.Reason
	value   func(g *Gateway, q *wanted) string // for Explain
}

// wanted is a diversion for which needs are asked.
type wanted struct {
	to    msg.Number
	app   string
	claim time.Duration // how long the app has to claim it
}

// needs are all of them, in the order in which they are asked.
var needs = [...]need{
	{"disk", false, (*Gateway).noDisk, (*Gateway).diskValue},
	{"spool", false, (*Gateway).noSpool, (*Gateway).spoolValue},
	{"own-bind", false, (*Gateway).noOwnBind, (*Gateway).ownValue},
	{"app-lane", true, (*Gateway).noLane, (*Gateway).laneValue},
	{"number", true, (*Gateway).noPlace, (*Gateway).placeValue},
}

func (g *Gateway) noDisk(*wanted) msg.Reason {
	return reasonIf(g.diskLow.Load(), msg.ReasonSpoolFull)
}

func (g *Gateway) noSpool(*wanted) msg.Reason {
	return reasonIf(g.spool.Stalled(), msg.ReasonSpoolStalled)
}

func (g *Gateway) noOwnBind(*wanted) msg.Reason {
	return reasonIf(g.own == nil || !g.own.Ready(), msg.ReasonFallbackUnbound)
}

func (g *Gateway) noLane(q *wanted) msg.Reason {
	return reasonIf(!g.dispatcher.Available(q.app, q.claim), msg.ReasonAppDown)
}

// maxOpen is how many messages for one number may wait for its app, about: what is
// under way to the spool is not counted. One destination to which an ESME sends
// without end does not take the places of the others.
const maxOpen = 1000

func (g *Gateway) noPlace(q *wanted) msg.Reason {
	return reasonIf(g.spool.Open(q.to, maxOpen) == maxOpen, msg.ReasonNumberFull)
}

func reasonIf(yes bool, r msg.Reason) msg.Reason {
	if yes {
		return r
	}
	return msg.NoReason
}

// closed tells why what is wanted cannot be diverted at the moment.
func (g *Gateway) closed(q *wanted) msg.Reason {
	for i := range needs {
		if r := needs[i].missing(g, q); r != msg.NoReason {
			return r
		}
	}
	return msg.NoReason
}

// spoolIt stores a diverted message and answers its submit; what the spool
// does not take goes to the SMSC after all, with the SMSC's own answer, once
// failed, which may be nil, was told. failed must not block.
func (g *Gateway) spoolIt(b *upstream.Bind, p pdu.PDU, m *spool.Message, failed func()) {
	b.Hold()
	g.spoolHeld(b, p.ID().Response(), p.Seq(), m, failed)
}

// spoolHeld does that with what is held already.
func (g *Gateway) spoolHeld(b *upstream.Bind, resp pdu.ID, seq uint32, m *spool.Message, failed func()) {
	began := time.Now()
	noted := g.resubmits.Begin(&b.State.(*session).submits, resubmit.KeyOf(b.Account, m.PDU), m.WireID, began)
	g.spool.Put(m, func(err error) {
		g.counted(b, m.PDU, err)
		if err == nil {
			g.timings.diverted(time.Since(began))
			g.resubmits.Accepted(noted, b.AnswerAt(pdu.AppendMessageResp(nil, resp, pdu.ROK, seq, m.WireID)))
			return
		}
		g.resubmits.Failed(noted)
		if failed != nil {
			failed()
		}
		if errors.Is(err, spool.ErrUnsure) { // it may be on disk yet: the SMSC must not have it too
			b.Answer(pdu.AppendHeader(nil, resp, pdu.RSYSERR, seq))
			return
		}
		go b.Pass(m.PDU) // it may wait for the window, which the committer must not
	})
}

// resubmitted answers a submit whose like was accepted on a session that was
// lost before its answer was through: with that one's message_id, once.
func (g *Gateway) resubmitted(b *upstream.Bind, p pdu.PDU) bool {
	now := time.Now()
	k := resubmit.KeyOf(b.Account, p)
	p = bytes.Clone(p)
	b.Hold()
	if g.resubmits.Take(k, now, func(wireID string, ok bool) {
		if !ok { // the first one was not stored, and its bind is gone
			go b.Pass(p)
			return
		}
		b.Count(msg.ReasonResubmit)
		noted := g.resubmits.Begin(&b.State.(*session).submits, k, wireID, now)
		g.resubmits.Accepted(noted, b.AnswerAt(pdu.AppendMessageResp(nil, p.ID().Response(), pdu.ROK, p.Seq(), wireID)))
	}) {
		return true
	}
	b.Drop()
	return false
}

// doubtAfterCrash is how long before the last thing that the spool knows an
// answer may have been under way when the run before this one was killed.
const doubtAfterCrash = 5 * time.Second

// restoreDoubts puts in doubt what the run before this one accepted last, unless
// that stopped in an orderly way: it may have been killed before its answers
// were through.
func (g *Gateway) restoreDoubts(now time.Time) error {
	if os.Remove(g.stoppedFile()) == nil && store.SyncDir(g.cfg.Node.DataDir) == nil { // gone before this run can be killed
		return nil
	}
	last, ok := g.spool.Newest()
	if !ok || now.Sub(last) > resubmit.Within {
		return nil
	}
	return g.spool.PutSince(last.Add(-doubtAfterCrash), func(m *spool.Message) {
		if r, err := g.spool.Get(m.ID); err != nil || r.State == msg.Cancelled {
			return
		}
		g.resubmits.Restore(resubmit.KeyOf(m.Account, m.PDU), m.WireID, now)
	})
}

// stoppedFile is there after an orderly stop, until the next start.
func (g *Gateway) stoppedFile() string { return filepath.Join(g.cfg.Node.DataDir, "stopped") }

// stopped notes that every bind had its answers, unless one was lost with some
// in doubt: the next start doubts them too.
func (g *Gateway) stopped() {
	if g.resubmits.InDoubt(time.Now()) {
		return
	}
	if err := os.WriteFile(g.stoppedFile(), nil, 0o600); err != nil {
		g.log.Warn("orderly stop cannot be noted: a submit that comes again after the next start may be taken for one of before", "error", err)
	}
}

// lost is told of a bind whose ESME is gone without an unbind.
func (g *Gateway) lost(b *upstream.Bind) {
	g.resubmits.Lost(&b.State.(*session).submits, b.Received, time.Now())
}

// counted counts what came of a put.
func (g *Gateway) counted(b *upstream.Bind, p pdu.PDU, err error) {
	switch {
	case err == nil:
		b.Count(msg.ReasonDivert)
		g.spoolRecovered()
		return
	case errors.Is(err, spool.ErrFull):
		g.forward(b, p, msg.ReasonSpoolFull)
	case errors.Is(err, spool.ErrUnsure): // neither diverted nor forwarded: its ESME will submit it again
		b.Count(msg.ReasonSpoolFailed)
	case errors.Is(err, spool.ErrStalled):
		g.forward(b, p, msg.ReasonSpoolStalled)
		return // the spool itself says when its disk answers again
	default:
		g.forward(b, p, msg.ReasonSpoolFailed)
	}
	g.spoolFailed(err)
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
