package gateway

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/gateway/route"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
	"shunt/store/registry"
)

func plainly(s string) string { return s }

// explain asks for what would become of a message.
func (n *node) explain(q noc.ExplainRequest) noc.Explanation {
	n.t.Helper()
	e, err := (&control{n.g}).Explain(&q, plainly)
	if err != nil {
		n.t.Fatalf("Explain(%+v) = %v", q, err)
	}
	return e
}

// check is one check of an explanation.
func check(t testing.TB, e *noc.Explanation, name string) noc.Check {
	t.Helper()
	for _, c := range e.Checks {
		if c.Check == name {
			return c
		}
	}
	t.Fatalf("no check %q in %+v", name, e.Checks)
	return noc.Check{}
}

// order are all checks of an explanation.
var order = strings.Fields(`destination index registration switch active account segment header source-length message-mode message-type
	reply-path protocol-id predefined-message replace-if-present schedule tlvs divert-from never-divert-from service-type share
	alphabet text one-time-code proof plan receipts validity carrier-accepted shadow disk spool own-bind app-lane number`)

// TestExplainAgrees: what is explained is what happens, reason by reason, and
// explaining counts and stores nothing.
func TestExplainAgrees(t *testing.T) {
	n := newNode(t, func(text string) string {
		return strings.Replace(text, `divert_from = ["*"]`, `divert_from = ["Parcel*", "BANK*", "+44*"]
never_divert_from = ["BANK*"]`, 1) + `
[[account]]
system_id = "parcels"
divert = true
default_country = "GB"
[[account]]
system_id = "plain"
[[plan]]
name = "ads"
match = { content = ["promotional"], priority = [0] }
order = ["carrier"]
[[plan]]
name = "urgent"
match = { priority = [3] }
claim_within = "10s"
`
	}).run()
	n.register(subscriber, nil)
	n.register(subscriber+1, func(p *registry.Put) { p.Active = false })
	n.register(subscriber+2, func(p *registry.Put) { p.App = "gone" })
	esmes := map[string]*esme{"parcels": bind(t, n.addr(), "parcels", 0x34), "plain": bind(t, n.addr(), "plain", 0x34)}
	text := func(s string) *string { return &s }
	octet := func(b byte) *uint8 { return &b }
	number := subscriber.String()
	for _, c := range []struct {
		q    noc.ExplainRequest
		want msg.Reason // after some diverted ones the provider that cannot be reached closes the lane: those with a long text are not sent
	}{
		{noc.ExplainRequest{To: number}, msg.ReasonDivert},
		{noc.ExplainRequest{To: "07700900042"}, msg.ReasonDivert}, // national
		{noc.ExplainRequest{To: number, Text: text(strings.Repeat("Zażółć gęślą jaźń. ", 20))}, msg.ReasonDivert},
		{noc.ExplainRequest{To: number, Text: text(strings.Repeat("A long text. ", 40))}, msg.ReasonDivert},
		{noc.ExplainRequest{To: number, Priority: 3, Text: text(strings.Repeat("A long text. ", 40))}, msg.ReasonDivert},
		{noc.ExplainRequest{To: stranger}, msg.ReasonUnregistered},
		{noc.ExplainRequest{To: "88222"}, msg.ReasonDestination},
		{noc.ExplainRequest{To: (subscriber + 1).String()}, msg.ReasonInactive},
		{noc.ExplainRequest{To: (subscriber + 2).String()}, msg.ReasonAppDown},
		{noc.ExplainRequest{To: number, ESME: "plain"}, msg.ReasonAccountOptOut},
		{noc.ExplainRequest{To: number, From: "RAIL"}, msg.ReasonSender},
		{noc.ExplainRequest{To: number, From: "BANK1"}, msg.ReasonNeverSender},
		{noc.ExplainRequest{To: number, From: "+447700900001"}, msg.ReasonDivert},
		{noc.ExplainRequest{To: number, ServiceType: "WAP"}, msg.ReasonServiceType},
		{noc.ExplainRequest{To: number, DataCoding: octet(0xF0)}, msg.ReasonDataCoding},
		{noc.ExplainRequest{To: number, DataCoding: octet(4), Text: text("ÿ")}, msg.ReasonDataCoding},
		{noc.ExplainRequest{To: number, ESMClass: 0x01}, msg.ReasonMessageMode},
		{noc.ExplainRequest{To: number, ESMClass: 0x10}, msg.ReasonMessageType},
		{noc.ExplainRequest{To: number, ESMClass: 0x40}, msg.ReasonUDH},
		{noc.ExplainRequest{To: number, ProtocolID: 0x41}, msg.ReasonProtocolID},
		{noc.ExplainRequest{To: number, Text: text("")}, msg.ReasonText},
		{noc.ExplainRequest{To: number, Text: text("Your code is 481516")}, msg.ReasonOneTimeCode},
		{noc.ExplainRequest{To: number, Text: text("Sale! 50% off until Sunday")}, msg.ReasonPlanCarrier},
		{noc.ExplainRequest{To: number, Text: text(strings.Repeat("Sale! 50% off until Sunday. ", 12)), Priority: 1}, msg.ReasonDivert},
		{noc.ExplainRequest{To: number, Validity: "000000000001000R"}, msg.ReasonValidity},
		{noc.ExplainRequest{To: number, Validity: "tomorrow"}, msg.ReasonUndecodable},
	} {
		q := c.q
		if q.From == "" {
			q.From = "Parcel24"
		}
		if q.ESME == "" {
			q.ESME = "parcels"
		}
		t.Run(fmt.Sprintf("%s, %s", c.want, q.To), func(t *testing.T) {
			before, puts := n.g.counters(), n.g.spool.Stats().Puts
			e := n.explain(q)
			if submits := n.g.counters().SubmitsIn - before.SubmitsIn; submits != 0 || n.g.spool.Stats().Puts != puts {
				t.Errorf("explaining counted %d submits, and stored %d", submits, n.g.spool.Stats().Puts-puts)
			}
			want := noc.VerdictForward
			if c.want == msg.ReasonDivert {
				want = noc.VerdictDivert
			}
			if e.Verdict != want || e.Reason != c.want {
				t.Errorf("explained as %s, %s; want %s, %s", e.Verdict, e.Reason, want, c.want)
			}
			wellFormed(t, &e)

			if q.Text != nil && len(*q.Text) > maxShort {
				return
			}
			// The same message, sent.
			m, err := imagined(&q, n.g.accountNamed(q.ESME))
			if err != nil {
				t.Fatal(err)
			}
			id := esmes[q.ESME].submit(pdu.AppendSM(nil, pdu.SubmitSM, 0, m))
			after := n.g.counters()
			if got := after.Reasons[c.want.String()] - before.Reasons[c.want.String()]; got != 1 || strings.HasPrefix(id, "smsc-") == (want == noc.VerdictDivert) {
				t.Errorf("sent: message_id %q, %s counted %d times, want once: %v", id, c.want, got, after.Reasons)
			}
		})
	}
}

// wellFormed: all checks are there in order, and one decides, unless it is
// diverted.
func wellFormed(t *testing.T, e *noc.Explanation) {
	t.Helper()
	decided := false
	for i, c := range e.Checks {
		if i >= len(order) || c.Check != order[i] || c.Value == "" || c.After != decided {
			t.Errorf("check %d is %+v", i, c)
		}
		if c.Decides {
			if decided || c.Outcome != noc.OutcomeFailed || c.Reason != e.Reason {
				t.Errorf("%+v decides, want the first failed one with %s", c, e.Reason)
			}
			decided = true
		}
	}
	if len(e.Checks) != len(order) || decided == (e.Verdict == noc.VerdictDivert) {
		t.Errorf("%d checks, decided %t by one; verdict %s", len(e.Checks), decided, e.Verdict)
	}
}

// TestExplainShows: what a person wants to know beside the verdict.
func TestExplainShows(t *testing.T) {
	n := newNode(t, func(text string) string {
		return text + `
[[plan]]
name = "news"
match = { from = ["News*"] }
claim_within = "2m"
`
	})
	room := n.disk()
	n.run()
	n.register(subscriber, nil)
	code := "Your code is 481516"
	e := n.explain(noc.ExplainRequest{From: "News1", To: subscriber.String(), ESME: "parcels", Validity: "000000010000000R"})
	if e.Plan != "news" || e.App != "chat" || e.ClaimBy.Sub(e.At) != 2*time.Minute || e.ExpiresAt.Sub(e.At) != time.Hour || e.ESME != "parcels" || e.Divert != "on" {
		t.Errorf("Explain() = %+v, want plan news, app chat, claim within 2 min, an hour in all", e)
	}
	for name, want := range map[string]string{
		"destination": "+447700900042", "index": "complete", "plan": `"news", app first; content transactional, priority 0`,
		"validity": "validity_period: 1h0m0s; claim within 2m0s", "disk": "has room", "own-bind": "smsc-a: bound", "app-lane": "chat by apns: breaker closed",
		"number": "0 messages for it wait, of 1000 at most",
	} {
		if c := check(t, &e, name); c.Outcome != noc.OutcomePassed || c.Value != want {
			t.Errorf("%s: %s, %q; want passed, %q", name, c.Outcome, c.Value, want)
		}
	}

	// Behind the first that fails the others are asked all the same.
	room(0.01)
	e = n.explain(noc.ExplainRequest{From: "News1", To: stranger, ESME: "parcels", Text: &code})
	for name, want := range map[string]noc.Check{
		"registration":  {Outcome: noc.OutcomeFailed, Reason: msg.ReasonUnregistered, Decides: true},
		"active":        {Outcome: noc.OutcomeSkipped, After: true},
		"one-time-code": {Outcome: noc.OutcomeFailed, Reason: msg.ReasonOneTimeCode, After: true},
		"plan":          {Outcome: noc.OutcomePassed, After: true},
		"disk":          {Outcome: noc.OutcomeFailed, Reason: msg.ReasonSpoolFull, After: true},
		"app-lane":      {Outcome: noc.OutcomeSkipped, After: true},
	} {
		got := check(t, &e, name)
		got.Check, got.Value = "", ""
		if got != want {
			t.Errorf("%s is %+v, want %+v", name, got, want)
		}
	}
	if text := fmt.Sprintf("%+v", e); strings.Contains(text, "481516") {
		t.Errorf("the explanation holds the text: %s", text)
	}

	// What is up decides last; the switch's shadow is a verdict of its own.
	q := noc.ExplainRequest{From: "News1", To: subscriber.String()}
	if e := n.explain(q); e.Verdict != noc.VerdictForward || e.Reason != msg.ReasonSpoolFull {
		t.Errorf("on a full disk: %s, %s", e.Verdict, e.Reason)
	}
	room(0.5)
	for _, c := range []struct {
		mode    route.Mode
		verdict string
		reason  msg.Reason
	}{
		{route.Shadow, noc.VerdictShadow, msg.ReasonShadow},
		{route.Off, noc.VerdictForward, msg.ReasonSwitchedOff},
		{route.On, noc.VerdictDivert, msg.ReasonDivert},
	} {
		if err := n.g.mode.set(c.mode); err != nil {
			t.Fatal(err)
		}
		if e := n.explain(q); e.Verdict != c.verdict || e.Reason != c.reason || e.Divert != c.mode.String() {
			t.Errorf("divert %s: %s, %s; want %s, %s", c.mode, e.Verdict, e.Reason, c.verdict, c.reason)
		}
	}
	n.smsc.hangUp("shunt")
	n.until("the own bind is down", func() bool { return !n.g.own.Ready() })
	if e := n.explain(q); e.Reason != msg.ReasonFallbackUnbound || check(t, &e, "own-bind").Value != "smsc-a: unbound" {
		t.Errorf("without an own bind: %s, %+v", e.Reason, check(t, &e, "own-bind"))
	}
}

// TestExplainRefuses: what no submit_sm can be made of.
func TestExplainRefuses(t *testing.T) {
	n := newNode(t, nil)
	defer n.g.close()
	for what, q := range map[string]noc.ExplainRequest{
		"does not fit":     {To: "+447700900042", Text: new("Zażółć"), DataCoding: new(uint8(3))},
		"longer":           {To: "+447700900042", Text: new(strings.Repeat("ż", 40_000))},
		"destination_addr": {To: strings.Repeat("4", 30)},
	} {
		if e, err := (&control{n.g}).Explain(&q, plainly); err == nil || !strings.Contains(err.Error(), what) || strings.Contains(err.Error(), "Za") {
			t.Errorf("Explain() = %+v, %v; want it refused: %s", e, err, what)
		}
	}
}

// TestNeverDiverted: what a handset's SMS stack alone can honour goes to the
// SMSC as it came, but for its sequence_number, under a reason of its own.
func TestNeverDiverted(t *testing.T) {
	n := newNode(t, func(text string) string {
		return strings.Replace(text, `divert_from = ["*"]`, `divert_from = ["*"]
never_divert_from = ["112"]
never_divert_service_type = ["USSD"]`, 1)
	}).run()
	n.register(subscriber, nil)
	e := bind(t, n.addr(), "parcels", 0x34)
	udh := func(header string) func(*pdu.SM) {
		return func(m *pdu.SM) { m.ESMClass, m.ShortMessage = 0x40, []byte(header+"text") }
	}
	optional := func(tag pdu.Tag, value ...byte) func(*pdu.SM) {
		return func(m *pdu.SM) { m.TLVs = pdu.AppendTLV(nil, tag, value) }
	}
	dataCoding := func(dc byte) func(*pdu.SM) { return func(m *pdu.SM) { m.DataCoding = dc } }
	protocol := func(id byte) func(*pdu.SM) { return func(m *pdu.SM) { m.ProtocolID = id } }
	esm := func(c byte) func(*pdu.SM) { return func(m *pdu.SM) { m.ESMClass = c } }
	for _, c := range []struct {
		name string
		m    func(*pdu.SM)
		want msg.Reason
	}{
		{"binary", dataCoding(0x04), msg.ReasonDataCoding},
		{"flash", dataCoding(0x10), msg.ReasonDataCoding},
		{"flash, GSM", dataCoding(0xF0), msg.ReasonDataCoding},
		{"for the (U)SIM", dataCoding(0xF2), msg.ReasonDataCoding},
		{"message waiting, first", dataCoding(0xC0), msg.ReasonDataCoding},
		{"message waiting, last", dataCoding(0xEF), msg.ReasonDataCoding},
		{"8-bit ports", udh("\x04\x04\x02\xf0\xf0"), msg.ReasonUDH},
		{"16-bit ports", udh("\x06\x05\x04\x0b\x84\x23\xf0"), msg.ReasonUDH},
		{"special SMS message indication", udh("\x04\x01\x02\x80\x01"), msg.ReasonUDH},
		{"destination_port", optional(pdu.TagDestinationPort, 0x0b, 0x84), msg.ReasonTLV},
		{"silent, type 0", protocol(0x40), msg.ReasonProtocolID},
		{"replace, type 1", protocol(0x41), msg.ReasonProtocolID},
		{"replace, type 7", protocol(0x47), msg.ReasonProtocolID},
		{"(U)SIM data download", protocol(0x7F), msg.ReasonProtocolID},
		{"datagram mode", esm(0x01), msg.ReasonMessageMode},
		{"transaction mode", esm(0x02), msg.ReasonMessageMode},
		{"SME delivery acknowledgement", esm(0x08), msg.ReasonMessageType},
		{"SME manual acknowledgement", esm(0x10), msg.ReasonMessageType},
		{"ussd_service_op", optional(pdu.TagUSSDServiceOp, 2), msg.ReasonUSSD},
		{"sm_default_msg_id", func(m *pdu.SM) { m.DefaultMsgID = 1 }, msg.ReasonPredefined},
		{"sender", func(m *pdu.SM) { m.Source = pdu.Address{Addr: []byte("112")} }, msg.ReasonNeverSender},
		{"service_type", func(m *pdu.SM) { m.ServiceType = []byte("USSD") }, msg.ReasonServiceType},
		{"one of sar_*", optional(pdu.TagSARTotalSegments, 2), msg.ReasonLongMessage},
		{"no text", func(m *pdu.SM) { m.ShortMessage = nil }, msg.ReasonText},
	} {
		t.Run(c.name, func(t *testing.T) {
			before, had := n.g.counters().Reasons[c.want.String()], len(n.smsc.of("parcels"))
			p := submitTo("447700900042", c.m)
			if id := e.submit(p); !strings.HasPrefix(id, "smsc-") {
				t.Errorf("message_id %q, want the SMSC's", id)
			}
			if got := n.g.counters().Reasons[c.want.String()]; got != before+1 {
				t.Errorf("%s was counted %d times, want once", c.want, got-before)
			}
			came := n.smsc.of("parcels")
			if len(came) != had+1 {
				t.Fatalf("%d messages at the SMSC, want one", len(came)-had)
			}
			got := came[had]
			got.SetSeq(p.Seq())
			if !bytes.Equal(got, p) {
				t.Errorf("at the SMSC:\n got %x\nwant %x", got, p)
			}
		})
	}
	if got := n.g.counters().Diverted; got != 0 {
		t.Errorf("%d were diverted", got)
	}
}

// TestAcceptedWithin: a sender goes by carrier until the SMSC has accepted a
// message of it, from the same account; one to anybody counts. A fallback on
// Shunt's own bind does not.
func TestAcceptedWithin(t *testing.T) {
	n := newNode(t, func(text string) string {
		return strings.Replace(text, `divert_from = ["*"]`, `divert_from = ["*"]
carrier_accepted_within = "24h"`, 1)
	}).run()
	n.register(subscriber, nil)
	parcels, shop := bind(t, n.addr(), "parcels", 0x34), bind(t, n.addr(), "shop", 0x34)
	send := func(e *esme, to string, want msg.Reason) {
		t.Helper()
		before := n.g.counters().Reasons[want.String()]
		id := e.submit(submitTo(to, nil))
		if got := n.g.counters().Reasons[want.String()]; got != before+1 || strings.HasPrefix(id, "smsc-") == (want == msg.ReasonDivert) {
			t.Errorf("to %s: message_id %q, %s counted %d times", to, id, want, got-before)
		}
	}
	number := subscriber.String()[1:]
	q := noc.ExplainRequest{From: "Parcel24", To: number, ESME: "parcels"}
	if e := n.explain(q); e.Reason != msg.ReasonNotAccepted || check(t, &e, "carrier-accepted").Value != "never, as far as is known; want within 24h0m0s" {
		t.Errorf("before: %s, %+v", e.Reason, check(t, &e, "carrier-accepted"))
	}
	send(parcels, number, msg.ReasonNotAccepted)
	send(parcels, number, msg.ReasonDivert)
	if e := n.explain(q); e.Verdict != noc.VerdictDivert {
		t.Errorf("after: %s, %s", e.Verdict, e.Reason)
	}
	send(shop, stranger, msg.ReasonUnregistered)
	send(shop, number, msg.ReasonDivert)
	q.From = "Parcel25"
	if e := n.explain(q); e.Reason != msg.ReasonNotAccepted {
		t.Errorf("another sender: %s", e.Reason)
	}
	n.until("the fallbacks are at the SMSC", func() bool { return len(n.smsc.of("shunt")) == 2 })
	if last := n.g.accepted.Last("shunt", []byte("Parcel24")); !last.IsZero() {
		t.Errorf("a fallback counts, at %s", last)
	}
}

// TestNobodyAsks: without the key nothing is kept.
func TestNobodyAsks(t *testing.T) {
	n := newNode(t, nil)
	defer n.g.close()
	if n.g.accepted != nil || n.g.policy().Accepted != nil {
		t.Error("what the SMSC accepts is kept for nobody")
	}
}

// TestLongAdvertisement: what a plan by content keeps with the carrier goes
// there too when it shows only once all parts are there.
func TestLongAdvertisement(t *testing.T) {
	n := newNode(t, func(text string) string {
		return text + `
[[plan]]
name = "ads"
match = { content = ["promotional"] }
order = ["carrier"]
`
	}).run()
	n.register(subscriber, nil)
	e := bind(t, n.addr(), "parcels", 0x34)
	var id string
	for i, text := range []string{"Sale in all of our shops! Until Sunday ", "you get 50% off all shoes."} {
		id = e.submit(submitTo("447700900042", func(m *pdu.SM) {
			m.ShortMessage = []byte(text)
			m.TLVs = coding.AppendSAR(nil, coding.Part{Reference: 42, Wide: true, Total: 2, Number: byte(i + 1)})
		}))
		if strings.HasPrefix(id, "smsc-") {
			t.Fatalf("part %d: message_id %q, want our own", i+1, id)
		}
	}
	n.until("both parts are at the SMSC", func() bool { return len(n.smsc.of("shunt")) == 2 })
	parsed, err := msg.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	lead, err := n.g.spool.Message(parsed)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := n.g.spool.Trace(lead.Group)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		if s.Reason == msg.ReasonPlanCarrier {
			return
		}
	}
	t.Errorf("steps %+v, want one for %s", steps, msg.ReasonPlanCarrier)
}

// TestShare: the canary's numbers are the same ones in both, and the others
// are forwarded under its reason.
func TestShare(t *testing.T) {
	n := newNode(t, func(text string) string {
		return strings.Replace(text, `divert_from = ["*"]`, "divert_from = [\"*\"]\nshare = 50", 1)
	}).run()
	e := bind(t, n.addr(), "parcels", 0x34)
	seen := make(map[msg.Reason]int)
	for i := range msg.Number(20) {
		n.register(subscriber+i, nil)
		x := n.explain(noc.ExplainRequest{From: "Parcel24", To: (subscriber + i).String(), ESME: "parcels"})
		seen[x.Reason]++
		if x.Reason == msg.ReasonDivert && seen[x.Reason] > 3 { // the provider cannot be reached: its lane would close
			continue
		}
		before := n.g.counters().Reasons[x.Reason.String()]
		if id := e.submit(submitTo((subscriber + i).String()[1:], nil)); strings.HasPrefix(id, "smsc-") != (x.Reason == msg.ReasonCanary) {
			t.Errorf("%s: explained as %s, message_id %q", subscriber+i, x.Reason, id)
		}
		if got := n.g.counters().Reasons[x.Reason.String()]; got != before+1 {
			t.Errorf("%s: %s was counted %d times", subscriber+i, x.Reason, got-before)
		}
	}
	if seen[msg.ReasonDivert] == 0 || seen[msg.ReasonCanary] == 0 || len(seen) != 2 {
		t.Errorf("reasons %v, want some of each", seen)
	}
}
