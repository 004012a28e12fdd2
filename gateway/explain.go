package gateway

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/gateway/route"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
)

// Explain implements noc.Gateway: it decides as Divert does, asks every rule,
// and touches nothing. A part of a long message is judged as the first of it.
func (c *control) Explain(q *noc.ExplainRequest, show func(string) string) (noc.Explanation, error) {
	g := c.g
	acc := g.accountNamed(q.ESME)
	if q.ESME == "" {
		acc.OptedIn = g.config().Account("").Divert
	}
	m, err := imagined(q, acc)
	if err != nil {
		return noc.Explanation{}, err
	}
	x := &explanation{g: g, show: show, e: noc.Explanation{
		From: show(q.From), ESME: q.ESME, At: time.Now().UTC(), Divert: g.mode.get().String(),
	}}
	x.decide(acc, m)
	return x.e, nil
}

// explanation collects the checks; the first that failed decides.
type explanation struct {
	g       *Gateway
	show    func(string) string
	e       noc.Explanation
	decided bool
}

func (x *explanation) add(c noc.Check) {
	c.After = x.decided
	if c.Outcome == noc.OutcomeFailed && !x.decided {
		c.Decides, x.decided = true, true
		x.e.Reason = c.Reason
	}
	x.e.Checks = append(x.e.Checks, c)
}

// ask adds a check that fails for a reason, or passes without one.
func (x *explanation) ask(name string, r msg.Reason, value string) {
	c := noc.Check{Check: name, Outcome: noc.OutcomePassed, Reason: r, Value: value}
	if r != msg.NoReason {
		c.Outcome = noc.OutcomeFailed
	}
	x.add(c)
}

func (x *explanation) skip(name, why string) {
	x.add(noc.Check{Check: name, Outcome: noc.OutcomeSkipped, Value: why})
}

// decide goes the way of Divert: destination, index, policy, what is up.
func (x *explanation) decide(acc *route.Account, m *pdu.SM) {
	g := x.g
	n, e, reason := g.find(acc, m.Dest)
	x.e.To = x.show(string(m.Dest.Addr))
	if n != 0 {
		x.e.To = x.show(n.String())
	}
	x.ask("destination", reasonIf(reason == msg.ReasonDestination, reason), x.e.To)
	x.ask("index", reasonIf(reason == msg.ReasonNotReady, reason), indexValue(g.registry.Ready()))

	if g.elsewhere(n, e, reason) {
		e = x.elsewhere(n, e)
	}
	v, steps := g.policy().Explain(g.mode.get(), acc, m, n, e, x.e.At, x.show)
	for _, s := range steps {
		x.add(noc.Check{Check: s.Check.String(), Outcome: s.Outcome.String(), Reason: s.Reason, Value: s.Value})
	}
	if v.Plan != nil {
		x.e.Plan = v.Plan.Name
	}
	if !v.Expires.IsZero() {
		x.e.ClaimBy, x.e.ExpiresAt = v.ClaimBy.UTC(), v.Expires.UTC()
	}
	if e.Registered() && x.e.App == "" {
		x.e.App = g.registry.AppName(e.App())
	}
	q := wanted{to: n, app: x.e.App}
	if v.Plan != nil {
		q.claim = v.Plan.ClaimWithin
	}
	x.needs(&q)

	switch {
	case !x.decided:
		x.e.Verdict, x.e.Reason = noc.VerdictDivert, msg.ReasonDivert
	case x.e.Reason == msg.ReasonShadow:
		x.e.Verdict = noc.VerdictShadow
	default:
		x.e.Verdict = noc.VerdictForward
	}
}

// needs asks what has to be up.
func (x *explanation) needs(q *wanted) {
	for i := range needs {
		if n := &needs[i]; n.ofApp && q.app == "" {
			x.skip(n.name, "not registered")
		} else {
			x.ask(n.name, n.missing(x.g, q), n.value(x.g, q))
		}
	}
}

func indexValue(ready bool) string {
	if ready {
		return "complete"
	}
	return "still loading"
}

func (g *Gateway) diskValue(*wanted) string {
	switch {
	case g.diskLow.Load():
		return "almost full"
	}
	return "has room"
}

func (g *Gateway) spoolValue(*wanted) string {
	switch {
	case g.spool.Stalled():
		return "its disk does not answer"
	case !g.submitOK.Load():
		return "the last write failed, and the next is tried"
	}
	return "writes"
}

func (g *Gateway) ownValue(*wanted) string {
	if g.own == nil {
		return "intercept.fallback_smsc is not set"
	}
	o := ownBind(g.own.State())
	return o.SMSC + ": " + o.State
}

func (g *Gateway) placeValue(q *wanted) string {
	return fmt.Sprintf("%d messages for it wait, of %d at most", g.spool.Open(q.to, maxOpen), maxOpen)
}

func (g *Gateway) laneValue(q *wanted) string {
	var lanes []string
	for _, l := range g.dispatcher.Lanes() {
		if l.App == q.app {
			p := pushLane(&l)
			lanes = append(lanes, fmt.Sprintf("%s by %s: breaker %s", p.App, p.Provider, p.Breaker))
		}
	}
	if len(lanes) == 0 {
		return fmt.Sprintf("there is no [[app]] %q", q.app)
	}
	return strings.Join(lanes, ", ")
}

// imaginedText is the text of a message of which none was given.
const imaginedText = "An ordinary text message."

// maxShort is how many octets short_message holds (SMPP v3.4 §5.2.22).
const maxShort = 254

// imagined builds the submit_sm and reads it back, as it would come.
func imagined(q *noc.ExplainRequest, acc *route.Account) (*pdu.SM, error) {
	text := imaginedText
	if q.Text != nil {
		text = *q.Text
	}
	dataCoding, b, err := encoded(text, q.DataCoding, acc)
	if err != nil {
		return nil, err
	}
	if len(b) > math.MaxUint16 {
		return nil, errors.New("text: is longer than a message_payload")
	}
	m := pdu.SM{
		ServiceType: []byte(q.ServiceType), Source: sourceOf(q.From),
		Dest:     pdu.Address{TON: pdu.TONUnknown, NPI: pdu.NPIISDN, Addr: []byte(q.To)},
		ESMClass: q.ESMClass, ProtocolID: q.ProtocolID, Priority: q.Priority,
		RegisteredDelivery: q.RegisteredDelivery, DataCoding: dataCoding, Validity: []byte(q.Validity),
	}
	if len(b) > maxShort {
		m.TLVs = pdu.AppendTLV(nil, pdu.TagMessagePayload, b)
	} else {
		m.ShortMessage = b
	}
	var read pdu.SM
	if err := read.DecodeMessage(pdu.AppendSM(nil, pdu.SubmitSM, 1, &m)); err != nil {
		return nil, fmt.Errorf("no submit_sm can be made of that: %w", err)
	}
	return &read, nil
}

// encoded is a text as the account would send it. For a data_coding that is no
// text's the octets of the text stand for any others.
func encoded(text string, dataCoding *uint8, acc *route.Account) (byte, []byte, error) {
	if dataCoding == nil {
		if b, err := coding.Encode(acc.Alphabet, text); err == nil {
			return 0, b, nil
		}
		dataCoding = new(uint8)
		*dataCoding = 8
	}
	a, ok := route.AlphabetOf(*dataCoding, []byte(text), acc)
	if !ok {
		return *dataCoding, []byte(text), nil
	}
	b, err := coding.Encode(a, text)
	if err != nil {
		return 0, nil, errors.New("text: does not fit into the alphabet of data_coding")
	}
	return *dataCoding, b, nil
}

// sourceOf is a source address as most ESMEs write it.
func sourceOf(from string) pdu.Address {
	digits, plus := strings.CutPrefix(from, "+")
	switch {
	case from == "" || strings.Trim(digits, "0123456789") != "":
		return pdu.Address{TON: pdu.TONAlphanumeric, Addr: []byte(from)}
	case plus:
		return pdu.Address{TON: pdu.TONInternational, NPI: pdu.NPIISDN, Addr: []byte(digits)}
	}
	return pdu.Address{TON: pdu.TONUnknown, NPI: pdu.NPIISDN, Addr: []byte(digits)}
}
