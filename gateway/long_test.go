package gateway

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/gateway/route"
	"shunt/smpp"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

const registeredNumber = "447700900042"

// partTo is part number of two of a long message.
func partTo(ref, number byte, text string) pdu.PDU {
	return submitTo(registeredNumber, func(m *pdu.SM) {
		m.ESMClass, m.RegisteredDelivery = 0x40, 1
		m.ShortMessage = append([]byte{5, 0, 3, ref, 2, number}, text...)
	})
}

func (n *node) divert(mode route.Mode) {
	n.t.Helper()
	if err := n.g.mode.set(mode); err != nil {
		n.t.Fatal(err)
	}
}

// fallbacks waits until the SMSC has so many messages on Shunt's own bind.
func (n *node) fallbacks(want int) []pdu.PDU {
	n.t.Helper()
	n.until(fmt.Sprintf("%d fallbacks", want), func() bool { return len(n.smsc.of("shunt")) >= want })
	return n.smsc.of("shunt")
}

// TestTrap05FirstPartFixesThePath: whatever changes between the parts, and
// whatever bind they come on.
func TestTrap05FirstPartFixesThePath(t *testing.T) {
	n := newNode(t, nil).run()
	n.register(subscriber, nil)
	one, two := bind(t, n.addr(), "parcels", 0x34), bind(t, n.addr(), "parcels", 0x34)
	if id := one.submit(partTo(1, 2, "second half")); !strings.HasPrefix(id, "s0") {
		t.Fatalf("message_id %q of a part for the app", id)
	}
	n.divert(route.Off) // and now nothing is diverted any more
	if id := two.submit(partTo(1, 1, "first half, ")); !strings.HasPrefix(id, "s0") {
		t.Errorf("message_id %q: the path was not kept", id)
	}
	// No provider can be reached, so both fall back, with their octets.
	for _, p := range n.fallbacks(2) {
		var m pdu.SM
		if err := m.Decode(p); err != nil || m.ESMClass != 0x40 || !bytes.Equal(m.ShortMessage[:5], []byte{5, 0, 3, 1, 2}) {
			t.Errorf("fallback of a part: %+v, %v", m, err)
		}
	}

	if id := one.submit(partTo(2, 1, "carrier first")); !strings.HasPrefix(id, "smsc-") {
		t.Fatalf("message_id %q while diversion is off", id)
	}
	n.divert(route.On)
	if id := two.submit(partTo(2, 2, "carrier second")); !strings.HasPrefix(id, "smsc-") {
		t.Errorf("message_id %q: the carrier's path was not kept", id)
	}
	if id := two.submit(partTo(3, 2, "another")); !strings.HasPrefix(id, "s0") {
		t.Errorf("message_id %q of another long message", id)
	}
}

// TestOneTimeCodeInParts: no part tells, the whole does, and goes by carrier.
func TestOneTimeCodeInParts(t *testing.T) {
	n := newNode(t, nil).run()
	n.register(subscriber, nil)
	e := bind(t, n.addr(), "parcels", 0x34)
	lead := e.submit(partTo(1, 1, "Your verification code is 48"))
	e.submit(partTo(1, 2, "1516. Do not share it."))
	n.fallbacks(2)
	id, err := msg.ParseID(lead)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := n.g.spool.Trace(id)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, s := range steps {
		found = found || s.Event == msg.EvPushDead && s.Reason == msg.ReasonOneTimeCode
	}
	if !found {
		t.Errorf("trace %+v, want push-dead for a one-time code", steps)
	}
}

// TestPartsAfterARestart: what was held is found again, and the last part
// completes it.
func TestPartsAfterARestart(t *testing.T) {
	n := newNode(t, nil)
	n.register(subscriber, nil)
	now := n.g.started
	var m pdu.SM
	p := partTo(7, 1, "before ")
	if err := m.Decode(p); err != nil {
		t.Fatal(err)
	}
	seg, _ := route.ReadSegment(&m)
	account := msg.Account{SystemID: "parcels"}
	held := n.heldPart(account, p, seg.Part.Number)
	n.run()
	if r, err := n.g.spool.Get(held); err != nil || r.State != msg.Held {
		t.Fatalf("Get() = %+v, %v", r, err)
	}
	if n.g.letters.Len() != 1 {
		t.Fatalf("%d long messages are known after the start, want 1", n.g.letters.Len())
	}
	e := bind(t, n.addr(), "parcels", 0x34)
	e.submit(partTo(7, 2, "and after"))
	n.fallbacks(2)
	r, err := n.g.spool.Get(held)
	if err != nil || r.State == msg.Held || r.ReceivedAt.After(now.Add(patience)) {
		t.Errorf("after the last part: %+v, %v", r, err)
	}
}

// TestQueryBurst: many requests about several messages, with other PDUs close
// behind them: every answer is about the message that was asked for. Run it
// with the race detector: no slice of the read buffer may be kept.
func TestQueryBurst(t *testing.T) {
	n := newNode(t, nil).run()
	n.register(subscriber, nil)
	e := bind(t, n.addr(), "parcels", 0x34)
	var ids []string
	for ref := range byte(3) { // halves stay HELD
		ids = append(ids, e.submit(partTo(10+ref, 1, "half")))
	}
	source := pdu.Address{TON: pdu.TONAlphanumeric, Addr: []byte("Parcel24")}
	var wg sync.WaitGroup
	for i := range 600 {
		id := ids[i%len(ids)]
		wg.Add(1)
		q := pdu.Query{MessageID: []byte(id), Source: source}
		err := e.s.Call(q.Append(nil, 0), func(p pdu.PDU, err error) {
			defer wg.Done()
			var r pdu.QueryResp
			if err != nil {
				t.Errorf("query_sm: %v", err)
				return
			}
			if st := p.Status(); st == pdu.RTHROTTLED {
				return
			}
			if r.Decode(p) != nil || string(r.MessageID) != id || smpp.MessageState(r.State) != smpp.StateEnroute {
				t.Errorf("query_sm_resp %X about %s", p, id)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			wg.Add(1)
			if err := e.s.Call(submitTo(stranger, nil), func(pdu.PDU, error) { wg.Done() }); err != nil {
				t.Fatal(err)
			}
		}
	}
	wg.Wait()
	if got := len(n.smsc.of("parcels")); got != 200 {
		t.Errorf("the SMSC got %d requests, want the 200 submit_sm alone", got)
	}
}

// TestManage: cancel_sm and replace_sm on ids of ours, and of others.
func TestManage(t *testing.T) {
	n := newNode(t, nil).run()
	n.register(subscriber, nil)
	e, other := bind(t, n.addr(), "parcels", 0x34), bind(t, n.addr(), "shop", 0x34)
	id := e.submit(partTo(1, 1, "half"))
	source := pdu.Address{TON: pdu.TONAlphanumeric, Addr: []byte("Parcel24")}
	cancel := func(id string, source pdu.Address) pdu.PDU {
		c := pdu.Cancel{MessageID: []byte(id), Source: source}
		return c.Append(nil, 0)
	}
	if p := other.ask(cancel(id, source)); p.Status() != pdu.ROK { // the SMSC's answer to whatever it is
		t.Errorf("another account's cancel_sm: %s", p.Status())
	}
	if p := e.ask(cancel(id, pdu.Address{TON: 5, Addr: []byte("Other")})); p.Status() != pdu.RCANCELFAIL {
		t.Errorf("cancel_sm in another name: %s", p.Status())
	}
	r := pdu.Replace{MessageID: []byte(id), Source: source, ShortMessage: []byte("new")}
	if p := e.ask(r.Append(nil, 0)); p.Status() != pdu.RREPLACEFAIL {
		t.Errorf("replace_sm of a part: %s", p.Status())
	}
	for range 2 {
		if p := e.ask(cancel(id, source)); p.Status() != pdu.ROK || p.ID() != pdu.CancelSMResp {
			t.Errorf("cancel_sm: %s", p.Status())
		}
	}
	parsed, _ := msg.ParseID(id)
	if r, err := n.g.spool.Get(parsed); err != nil || r.State != msg.Cancelled {
		t.Errorf("after cancel_sm: %s, %v", r.State, err)
	}
	if id := e.submit(partTo(1, 1, "half again")); id == "" {
		t.Error("no id")
	}
	all := pdu.Cancel{Source: source, Dest: pdu.Address{TON: 1, NPI: 1, Addr: []byte(registeredNumber)}}
	if p := e.ask(all.Append(nil, 0)); p.Status() != pdu.ROK {
		t.Errorf("cancel_sm of all: %s", p.Status())
	}
	if live := n.g.spool.Stats().Live[msg.Held]; live != 0 {
		t.Errorf("%d parts are held after cancel_sm of all", live)
	}
}

// TestSubmitMulti: each destination by itself, one answer.
func TestSubmitMulti(t *testing.T) {
	n := newNode(t, nil).run()
	n.register(subscriber, nil)
	e := bind(t, n.addr(), "parcels", 0x34)
	dest := func(number string) []byte {
		return pdu.DestAddress{Flag: pdu.DestSME, Address: pdu.Address{TON: 1, NPI: 1, Addr: []byte(number)}}.Append(nil)
	}
	list := pdu.DestAddress{Flag: pdu.DestList, List: []byte("friends")}.Append(nil)
	multi := func(dests ...[]byte) pdu.PDU {
		m := pdu.Multi{
			Source: pdu.Address{TON: 5, Addr: []byte("Parcel24")}, Dests: bytes.Join(dests, nil), RegisteredDelivery: 1,
			ShortMessage: []byte("To all of you."), TLVs: pdu.AppendTLV(nil, 0x1501, []byte("vendor")),
		}
		return m.Append(nil, 0)
	}
	answer := func(p pdu.PDU) (r pdu.MultiResp) {
		t.Helper()
		got := e.ask(p)
		if got.Status() != pdu.ROK || r.Decode(got) != nil || r.Unsuccess.Len() != 0 {
			t.Fatalf("submit_multi_resp %X", got)
		}
		return r
	}

	untouched := multi(dest(stranger), list)
	answer(bytes.Clone(untouched))
	took := n.smsc.of("parcels")
	if len(took) != 1 || !bytes.Equal(took[0][pdu.HeaderLen:], untouched[pdu.HeaderLen:]) {
		t.Fatalf("the SMSC got %X, want the octets of %X", took, untouched)
	}

	mixed := answer(multi(dest(stranger), dest(registeredNumber), list))
	took = n.smsc.of("parcels")
	if want := multi(dest(stranger), list); len(took) != 2 || !bytes.Equal(took[1][pdu.HeaderLen:], want[pdu.HeaderLen:]) {
		t.Errorf("the SMSC got %X, want the rest %X", took[1:], want)
	}
	if !strings.HasPrefix(string(mixed.MessageID), "smsc-") {
		t.Errorf("message_id %q, want the SMSC's", mixed.MessageID)
	}
	n.fallbacks(1) // nothing can be pushed
	all := answer(multi(dest(registeredNumber), dest(registeredNumber)))
	if _, err := msg.ParseID(string(all.MessageID)); err != nil || len(n.smsc.of("parcels")) != 2 {
		t.Errorf("all of ours: message_id %q, %d at the SMSC", all.MessageID, len(n.smsc.of("parcels")))
	}
	n.fallbacks(3)

	puts := n.g.spool.Stats().Puts
	n.smsc.mu.Lock()
	n.smsc.multi = pdu.RTHROTTLED
	n.smsc.mu.Unlock()
	if p := e.ask(multi(dest(stranger), dest(registeredNumber))); p.Status() != pdu.RTHROTTLED {
		t.Errorf("refused by the SMSC: %s", p.Status())
	}
	if got := n.g.spool.Stats().Puts; got != puts {
		t.Errorf("%d messages were spooled although all were refused", got-puts)
	}
}

// heldPart puts a part into the spool of a node that does not run yet, as a
// node did that is gone.
func (n *node) heldPart(account msg.Account, p pdu.PDU, number byte) msg.ID {
	n.t.Helper()
	m := n.spooled(account, p)
	m.Group, m.Number, m.Total = m.ID, number, 2
	n.g.spool.Start()
	done := make(chan error, 1)
	n.g.spool.Put(m, func(err error) { done <- err })
	if err := <-done; err != nil {
		n.t.Fatal(err)
	}
	return m.ID
}

// spooled is a message as the decision makes it.
func (n *node) spooled(account msg.Account, p pdu.PDU) *spool.Message {
	now := time.Now()
	m := &spool.Message{
		ID: n.g.spool.NewID(), Account: account, To: subscriber, App: "chat", From: "Parcel24", Alphabet: uint8(coding.GSM7),
		PDU: p, Version: 0x34, RegisteredDelivery: 1, ReceivedAt: now, ClaimBy: now.Add(route.HoldFor),
		ExpiresAt: now.Add(time.Hour), Lease: time.Second, HoldBy: now.Add(route.HoldFor),
	}
	m.WireID = m.ID.String()
	return m
}
