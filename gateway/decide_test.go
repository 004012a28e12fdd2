package gateway

import (
	"context"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/config"
	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/gateway/upstream"
	"shunt/smpp/pdu"
	"shunt/store/registry"
	"shunt/store/spool"
)

// TestDecideAndCount sends one submit_sm a row through the whole gateway: what
// is not diverted is answered with the SMSC's id, and every verdict is counted
// under its reason.
func TestDecideAndCount(t *testing.T) {
	n := newNode(t, func(text string) string {
		return strings.Replace(text, `divert_from = ["*"]`, `divert_from = ["*"]
never_divert_from = ["BANK*"]`, 1) + `
[[account]]
system_id = "parcels"
divert = true
[[account]]
system_id = "plain"
`
	}).run()
	n.register(subscriber, nil)
	n.register(subscriber+1, func(p *registry.Put) { p.Active = false })
	n.register(subscriber+2, func(p *registry.Put) { p.App = "gone" })
	parcels, plain := bind(t, n.addr(), "parcels", 0x34), bind(t, n.addr(), "plain", 0x34)
	old := bind(t, n.addr(), "parcels", 0x33)
	registered := "447700900042"
	diverted := func(e *esme, wire func(id string) bool) func(*testing.T) {
		return func(t *testing.T) {
			if id := e.submit(submitTo(registered, nil)); !wire(id) {
				t.Errorf("message_id %q of a diverted message", id)
			}
		}
	}
	for _, c := range []struct {
		reason msg.Reason
		run    func(*testing.T)
		from   *esme
		p      pdu.PDU
	}{
		{reason: msg.ReasonUnregistered, from: parcels, p: submitTo(stranger, nil)},
		{reason: msg.ReasonDestination, from: parcels, p: submitTo("88222", nil)},
		{reason: msg.ReasonUndecodable, from: parcels, p: pdu.End(append(pdu.Begin(nil, pdu.SubmitSM, 0, 0), "\x00\x00\x00no end"...), 0)},
		{reason: msg.ReasonUndecodable, from: parcels, p: cut(submitTo(registered, nil))},
		{reason: msg.ReasonInactive, from: parcels, p: submitTo("447700900043", nil)},
		{reason: msg.ReasonAppDown, from: parcels, p: submitTo("447700900044", nil)},
		{reason: msg.ReasonAccountOptOut, from: plain, p: submitTo(registered, nil)},
		{reason: msg.ReasonNeverSender, from: parcels, p: submitTo(registered, func(m *pdu.SM) { m.Source.Addr = []byte("BANK1") })},
		{reason: msg.ReasonOneTimeCode, from: parcels, p: submitTo(registered, func(m *pdu.SM) { m.ShortMessage = []byte("Your code is 481516") })},
		{reason: msg.ReasonDivert, run: diverted(parcels, func(id string) bool { _, err := msg.ParseID(id); return err == nil })},
		{reason: msg.ReasonDivert, run: diverted(old, func(id string) bool { return len(id) == 8 && strings.Trim(id, "0123456789abcdefABCDEF") == "" })},
	} {
		t.Run(c.reason.String(), func(t *testing.T) {
			before := n.g.counters()
			if c.run != nil {
				c.run(t)
			} else if id := c.from.submit(c.p); !strings.HasPrefix(id, "smsc-") {
				t.Errorf("message_id %q, want the SMSC's own", id)
			}
			after := n.g.counters()
			if got := after.Reasons[c.reason.String()] - before.Reasons[c.reason.String()]; got != 1 || after.SubmitsIn != before.SubmitsIn+1 {
				t.Errorf("%s was counted %d times, submits %d; want once each", c.reason, got, after.SubmitsIn-before.SubmitsIn)
			}
		})
	}
	c := n.g.counters()
	if c.SubmitsIn != 11 || c.Diverted != 2 || c.Forwarded != 9 {
		t.Errorf("%d in, %d diverted, %d forwarded; want 11, 2, 9", c.SubmitsIn, c.Diverted, c.Forwarded)
	}
	// The provider cannot be reached: both come by SMS, on Shunt's own bind.
	n.until("both diverted messages are at the SMSC", func() bool { return len(n.smsc.of("shunt")) == 2 })
	if own := len(n.smsc.of("parcels")) + len(n.smsc.of("plain")); own != 9 {
		t.Errorf("%d messages on the ESMEs' binds, want 9", own)
	}
	// What a bind counted outlives it.
	parcels.s.Close(context.Canceled)
	n.until("the bind is gone", func() bool { return len(n.g.hub.Binds()) == 2 })
	if got := n.g.counters(); got.SubmitsIn != 11 || got.Diverted != 2 {
		t.Errorf("after the end of a bind: %d in, %d diverted; want 11, 2", got.SubmitsIn, got.Diverted)
	}
}

// cut is a whole PDU whose body ends in its text.
func cut(p pdu.PDU) pdu.PDU { return pdu.End(p[:len(p)-5:len(p)-5], 0) }

// TestSwitch: off, shadow and on are effective on the next message.
func TestSwitch(t *testing.T) {
	n := newNode(t, nil).run()
	n.register(subscriber, nil)
	e := bind(t, n.addr(), "parcels", 0x34)
	ctl := &control{n.g}
	for _, c := range []struct {
		mode   string
		reason msg.Reason
	}{
		{"off", msg.ReasonSwitchedOff}, {"shadow", msg.ReasonShadow}, {"on", msg.ReasonDivert}, {"off", msg.ReasonSwitchedOff},
	} {
		if err := ctl.SetDivert(t.Context(), c.mode); err != nil || ctl.Divert() != c.mode {
			t.Fatalf("SetDivert(%s) = %v, switch %s", c.mode, err, ctl.Divert())
		}
		before := n.g.counters().Reasons[c.reason.String()]
		id := e.submit(submitTo("447700900042", nil))
		if got := n.g.counters().Reasons[c.reason.String()]; got != before+1 || strings.HasPrefix(id, "smsc-") == (c.reason == msg.ReasonDivert) {
			t.Errorf("divert %s: id %q, %s counted %d times", c.mode, id, c.reason, got-before)
		}
	}
	if err := ctl.SetDivert(t.Context(), "maybe"); err == nil || ctl.Divert() != "off" {
		t.Errorf("SetDivert(maybe) = %v, switch %s", err, ctl.Divert())
	}
	s := ctl.Status()
	if s.Counters.Shadow != 1 || s.Counters.Diverted != 1 || s.Divert != "off" || s.Node != "edge-1" || s.Version != "test" ||
		s.Binds.Transceiver != 1 || s.Binds.Upstream != 1 || s.Registered.Active != 1 || len(s.FailOpen) != 0 || !s.IndexReady {
		t.Errorf("Status() = %+v", s)
	}
	want := noc.Session{
		ID: 1, SystemID: "parcels", Bind: "transceiver", State: "bound", Version: noc.Version(0x34),
		Upstream: n.smsc.l.Addr().String(), PDUsIn: 4, PDUsOut: 3, WindowMax: 4096,
	}
	all := ctl.Sessions()
	if len(all) != 1 {
		t.Fatalf("%d sessions, want 1", len(all))
	}
	if !strings.HasPrefix(all[0].Peer, "127.0.0.1:") || all[0].Peer == n.addr() || time.Since(all[0].Since) > time.Minute {
		t.Errorf("peer %s since %s", all[0].Peer, all[0].Since)
	}
	all[0].Peer, all[0].Since, all[0].Rate = "", time.Time{}, 0 // the rate is of the last whole second
	if diff := cmp.Diff(want, all[0]); diff != "" {
		t.Errorf("session (-want +got):\n%s", diff)
	}
}

// TestFailOpen: every fault of our own leaves plain transit, with the SMSC's
// answer, a reason of its own and a word in the status.
func TestFailOpen(t *testing.T) {
	n := newNode(t, nil)
	room := n.disk()
	n.run()
	n.register(subscriber, nil)
	e := bind(t, n.addr(), "parcels", 0x34)
	transit := func(want msg.Reason) {
		t.Helper()
		before := n.g.counters().Reasons[want.String()]
		if id := e.submit(submitTo("447700900042", nil)); !strings.HasPrefix(id, "smsc-") {
			t.Errorf("%s: id %q, want the SMSC's", want, id)
		}
		if got := n.g.counters().Reasons[want.String()]; got != before+1 {
			t.Errorf("%s was counted %d times, want once: %v", want, got-before, n.g.counters().Reasons)
		}
		if f := n.g.failOpen(); !slices.Contains(f, want.String()) {
			t.Errorf("the status names %v, want %s", f, want)
		}
	}
	room(0.01)
	transit(msg.ReasonSpoolFull)
	room(0.5)
	if id := e.submit(submitTo("447700900042", nil)); strings.HasPrefix(id, "smsc-") {
		t.Errorf("with room again: id %q, want our own", id)
	}
	if err := n.g.spool.Close(); err != nil {
		t.Fatalf("spool.Close() = %v", err)
	}
	transit(msg.ReasonSpoolFailed)

	// The SMSC hangs up on Shunt's own bind, and takes no other.
	n.smsc.hangUp("shunt")
	n.until("the own bind is down", func() bool { return !n.g.own.Ready() })
	transit(msg.ReasonFallbackUnbound)
}

// TestNumberFull: a number for which very many messages wait gets plain SMS, and
// nobody else does, until there is a place again.
func TestNumberFull(t *testing.T) {
	n := newNode(t, nil).run()
	n.register(subscriber, nil)
	n.register(subscriber+1, nil)
	e := bind(t, n.addr(), "parcels", 0x34)
	stored := make(chan error, maxOpen)
	now := time.Now()
	var last msg.ID
	for range maxOpen {
		last = n.g.spool.NewID()
		n.g.spool.Put(&spool.Message{
			ID: last, Account: msg.Account{SystemID: "shop"}, To: subscriber, App: "chat", From: "Shop",
			PDU: submitTo("447700900042", nil), Version: 0x34, ReceivedAt: now, DueAt: now.Add(time.Hour), ClaimBy: now.Add(2 * time.Hour), ExpiresAt: now.Add(24 * time.Hour),
		}, func(err error) { stored <- err })
	}
	for range maxOpen {
		if err := <-stored; err != nil {
			t.Fatal(err)
		}
	}
	ours := func(number string) bool { return !strings.HasPrefix(e.submit(submitTo(number, nil)), "smsc-") }
	if ours("447700900042") {
		t.Error("one more was diverted")
	}
	if got := n.g.counters().Reasons[msg.ReasonNumberFull.String()]; got != 1 {
		t.Errorf("number-full was counted %d times, want once", got)
	}
	if x := n.explain(noc.ExplainRequest{To: subscriber.String()}); x.Verdict != noc.VerdictForward || x.Reason != msg.ReasonNumberFull {
		t.Errorf("Explain: %s, %s; want forward, number-full", x.Verdict, x.Reason)
	}
	if !ours("447700900043") {
		t.Error("another number's message was not diverted")
	}
	if r := n.g.spool.Do(t.Context(), spool.Event{ID: last, Kind: msg.EvCancel, Reason: msg.ReasonESME}); r.Err != nil {
		t.Fatal(r.Err)
	}
	if !ours("447700900042") {
		t.Error("with a place again none was diverted")
	}
}

// disk stands in for the volume under the data directory: what it returns sets the
// share that is free. It is called before run.
func (n *node) disk() (room func(share float64)) {
	var share atomic.Uint64
	share.Store(math.Float64bits(0.5))
	n.g.free = func(string) (float64, error) { return math.Float64frombits(share.Load()), nil }
	return func(s float64) {
		share.Store(math.Float64bits(s))
		n.g.checkDisk()
	}
}

// TestWithoutAFallback: nothing can be diverted, and the switch says why.
func TestWithoutAFallback(t *testing.T) {
	n := newNode(t, func(text string) string {
		text = strings.Replace(text, `fallback_smsc = "smsc-a"`, "", 1)
		return strings.Replace(text, `divert = "on"`, `divert = "off"`, 1)
	}).run()
	ctl := &control{n.g}
	for _, mode := range []string{"on", "shadow"} {
		if err := ctl.SetDivert(t.Context(), mode); err == nil || !strings.Contains(err.Error(), "intercept.fallback_smsc") || ctl.Divert() != "off" {
			t.Errorf("SetDivert(%s) = %v, switch %s; want it refused", mode, err, ctl.Divert())
		}
	}
	if err := ctl.SetDivert(t.Context(), "off"); err != nil {
		t.Errorf("SetDivert(off) = %v", err)
	}
	n.register(subscriber, nil)
	if id := bind(t, n.addr(), "parcels", 0x34).submit(submitTo("447700900042", nil)); !strings.HasPrefix(id, "smsc-") {
		t.Errorf("id %q, want the SMSC's", id)
	}
}

// TestMissAllocatesNothing: the whole decision for a number that nobody
// registered, on a real index.
func TestMissAllocatesNothing(t *testing.T) {
	n := newNode(t, nil).run()
	n.register(subscriber, nil)
	var b upstream.Bind
	b.State = n.g.newSession(&b)
	p := submitTo(stranger, func(m *pdu.SM) { m.TLVs = pdu.AppendTLV(nil, 0x1501, []byte("vendor")) })
	if allocs := testing.AllocsPerRun(1000, func() {
		if n.g.Divert(&b, p) {
			t.Fatal("a stranger's message was diverted")
		}
	}); allocs != 0 {
		t.Errorf("a miss costs %v allocations, want 0", allocs)
	}
	if got := b.Reasons[msg.ReasonUnregistered].Load(); got != 1001 {
		t.Errorf("%d misses were counted, want 1001", got)
	}
}

// TestPolicyOf carries every key of the configuration over.
func TestPolicyOf(t *testing.T) {
	n := newNode(t, func(text string) string {
		return strings.Replace(text, `divert_from = ["*"]`, `divert_from = ["Rail", "+44*"]
never_divert_from = ["112"]
never_divert_service_type = ["WAP"]
allow_otp = true
share = 25
carrier_accepted_within = "24h"`, 1) + `
[[plan]]
name = "news"
match = { to = ["+44"], from = ["News*"], account = ["news"], service_type = ["CMT"], priority = [2], content = ["promotional"], hours = ["08:00-20:00"], zone = "UTC" }
order = ["app", "carrier"]
claim_within = "120s"
prefer = "possible-duplicate"
[[plan]]
name = "never"
order = ["carrier"]
`
	})
	defer n.g.close()
	p := n.g.policy()
	if !slices.Equal(p.DivertFrom, []string{"Rail", "+44*"}) || !slices.Equal(p.NeverDivertFrom, []string{"112"}) ||
		!slices.Equal(p.NeverServiceType, []string{"WAP"}) || !p.AllowOTP || p.Share != 25 || p.DefaultValidity != defaultValidity ||
		p.AcceptedWithin != 24*time.Hour || p.Accepted == nil {
		t.Errorf("policy %+v", p)
	}
	if len(p.Plans) != 3 {
		t.Fatalf("%d plans, want two and the built-in one", len(p.Plans))
	}
	news := p.Plans[0]
	if news.Name != "news" || !slices.Equal(news.To, []string{"+44"}) || !slices.Equal(news.From, []string{"News*"}) ||
		!slices.Equal(news.Account, []string{"news"}) || !slices.Equal(news.ServiceType, []string{"CMT"}) || !news.AppFirst ||
		!slices.Equal(news.Priority, []byte{2}) || !slices.Equal(news.Content, []msg.Content{msg.ContentPromotional}) ||
		!slices.Equal(news.Hours, []msg.Hours{{From: 8 * 60, To: 20 * 60}}) || news.Zone != time.UTC ||
		news.ClaimWithin != 2*time.Minute || news.Prefer != msg.PossibleDuplicate {
		t.Errorf("plan %+v", news)
	}
	built := config.BuiltInPlan()
	if p.Plans[1].AppFirst || p.Plans[2].Name != built.Name || !p.Plans[2].AppFirst || p.Plans[2].ClaimWithin != built.ClaimWithin || p.Plans[2].Lease != built.Lease {
		t.Errorf("plans %+v", p.Plans[1:])
	}
}

func TestSender(t *testing.T) {
	for _, c := range []struct {
		a    pdu.Address
		want string
	}{
		{pdu.Address{TON: 1, NPI: 1, Addr: []byte("447700800001")}, "+447700800001"},
		{pdu.Address{TON: 1, NPI: 1, Addr: []byte("+447700800001")}, "+447700800001"},
		{pdu.Address{TON: 0, Addr: []byte("88222")}, "88222"},
		{pdu.Address{TON: 5, Addr: []byte("Parcel24")}, "Parcel24"},
		{pdu.Address{TON: 1}, ""},
	} {
		if got := sender(c.a); got != c.want {
			t.Errorf("sender(%d %q) = %q, want %q", c.a.TON, c.a.Addr, got, c.want)
		}
	}
}
