package gateway

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"shunt/gateway/msg"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
)

func dataTo(number string, tlvs pdu.TLVs) pdu.PDU {
	m := pdu.Data{
		Source: pdu.Address{TON: pdu.TONAlphanumeric, Addr: []byte("Parcel24")}, Dest: pdu.Address{TON: 1, NPI: 1, Addr: []byte(number)},
		RegisteredDelivery: 1, TLVs: append(pdu.AppendTLV(nil, pdu.TagMessagePayload, []byte("Your parcel comes on Monday.")), tlvs...),
	}
	return m.Append(nil, 0)
}

// sameBody compares all of two PDUs but their sequence_number.
func sameBody(a, b pdu.PDU) bool {
	return len(a) == len(b) && bytes.Equal(a[:12], b[:12]) && bytes.Equal(a[16:], b[16:])
}

// TestDataSM is decided like a submit_sm: for a registered number it has an id of
// ours, and falls back as the data_sm that it was; for another, and with what
// only a handset can honour, it passes as its octets.
func TestDataSM(t *testing.T) {
	n := newNode(t, nil).run()
	n.register(subscriber, nil)
	e := bind(t, n.addr(), "parcels", 0x34)
	for name, p := range map[string]pdu.PDU{
		"not registered": dataTo(stranger, pdu.AppendTLV(nil, 0x1501, []byte("vendor"))),
		"for a port":     dataTo(registeredNumber, pdu.AppendTLV(nil, pdu.TagDestinationPort, []byte{0x0B, 0x84})),
	} {
		before := len(n.smsc.of("parcels"))
		got := e.ask(bytes.Clone(p))
		if got.ID() != pdu.DataSMResp || got.Status() != pdu.ROK {
			t.Errorf("%s: answer %X", name, got)
		}
		if took := n.smsc.of("parcels"); len(took) != before+1 || !sameBody(took[before], p) {
			t.Errorf("%s: the SMSC got %X, want the octets of %X", name, took[before:], p)
		}
	}
	passed := len(n.smsc.of("parcels"))
	diverted := dataTo(registeredNumber, pdu.AppendTLV(nil, 0x1501, []byte("vendor")))
	got := e.ask(bytes.Clone(diverted))
	id, err := pdu.MessageID(got)
	if got.ID() != pdu.DataSMResp || got.Status() != pdu.ROK || err != nil {
		t.Fatalf("answer %X, %v", got, err)
	}
	if _, err := msg.ParseID(id); err != nil {
		t.Errorf("message_id %q, want one of ours: %v", id, err)
	}
	if took := n.fallbacks(1)[0]; !sameBody(took, diverted) { // no provider can be reached
		t.Errorf("fallback %X, want the octets of %X", took, diverted)
	}
	if took := n.smsc.of("parcels"); len(took) != passed {
		t.Errorf("the diverted one reached the SMSC on the ESME's own bind: %X", took[passed:])
	}
}

// TestTheirs: what is asked about an id that Shunt never gave passes as its
// octets, and has the SMSC's answer.
func TestTheirs(t *testing.T) {
	n := newNode(t, nil).run()
	n.register(subscriber, nil)
	e := bind(t, n.addr(), "parcels", 0x34)
	source := pdu.Address{TON: pdu.TONAlphanumeric, Addr: []byte("Parcel24")}
	dest := pdu.Address{TON: 1, NPI: 1, Addr: []byte(registeredNumber)}
	foreign := n.g.spool.NewID().String() // of our form, and of no message
	for i, id := range []string{"4f2a", "0123456789abcdef", foreign, "s01"} {
		query := pdu.Query{MessageID: []byte(id), Source: source, TLVs: pdu.AppendTLV(nil, 0x1501, []byte("vendor"))}
		cancel := pdu.Cancel{ServiceType: []byte("CMT"), MessageID: []byte(id), Source: source, Dest: dest}
		replace := pdu.Replace{MessageID: []byte(id), Source: source, ShortMessage: []byte{byte(i), 0xFF, 0x1B}}
		for _, p := range []pdu.PDU{query.Append(nil, 0), cancel.Append(nil, 0), replace.Append(nil, 0)} {
			before := len(n.smsc.of("parcels"))
			if got := e.ask(bytes.Clone(p)); got.ID() != p.ID().Response() || got.Status() != pdu.ROK || len(got) != pdu.HeaderLen {
				t.Errorf("%s of %q: answer %X, want the SMSC's bare header", p.ID(), id, got)
			}
			if took := n.smsc.of("parcels"); len(took) != before+1 || !sameBody(took[before], p) {
				t.Errorf("%s of %q: the SMSC got %X, want %X", p.ID(), id, took[before:], p)
			}
		}
	}
}

// TestDefaultAlphabet: data_coding 0 is what the account's configuration says,
// for the app's text alone: a fallback has the octets that came.
func TestDefaultAlphabet(t *testing.T) {
	n := newNode(t, func(text string) string {
		return text + `
[[account]]
system_id = "bank"
divert = true
default_alphabet = "latin1"
[[account]]
system_id = "shop"
divert = true
`
	}).run()
	n.register(subscriber, nil)
	for _, c := range []struct {
		account, text string // octets
		want          coding.Alphabet
	}{
		{"bank", "caf\xE9 at 5", coding.Latin1},
		{"shop", "caf\x05 at 5", coding.GSM7},
		{"shop", "caf\xE9 at 5", coding.Unsupported}, // eight bits are none of GSM's: the carrier's
	} {
		e := bind(t, n.addr(), c.account, 0x34)
		before := len(n.smsc.of("shunt"))
		p := submitTo(registeredNumber, func(m *pdu.SM) { m.ShortMessage = []byte(c.text) })
		id, err := msg.ParseID(e.submit(bytes.Clone(p)))
		if c.want == coding.Unsupported {
			if err == nil {
				t.Errorf("%s: %q was taken for the app", c.account, c.text)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %q was not taken for the app: %v", c.account, c.text, err)
			continue
		}
		if m, err := n.g.spool.Message(id); err != nil || coding.Alphabet(m.Alphabet) != c.want {
			t.Errorf("%s: %q is spooled as %+v, %v, want %v", c.account, c.text, m, err, c.want)
		}
		if took := n.fallbacks(before + 1)[before]; !sameButReceipt(took, p) {
			t.Errorf("%s: fallback %X, want the octets of %X", c.account, took, p)
		}
	}
}

// sameButReceipt compares two submit_sms but for their sequence_number and
// registered_delivery, which a fallback always sets.
func sameButReceipt(a, b pdu.PDU) bool {
	var m, o pdu.SM
	if m.Decode(a) != nil || o.Decode(b) != nil {
		return false
	}
	m.RegisteredDelivery = o.RegisteredDelivery
	return bytes.Equal(m.Append(nil), o.Append(nil))
}

// TestSharedAddress: two processes, here two nodes, listen on one address where
// reuse_port says so (SO_REUSEPORT), and when one has gone the other takes what
// comes.
func TestSharedAddress(t *testing.T) {
	shared := func(addr string) func(string) string {
		return func(text string) string {
			return strings.Replace(text, `addr = "127.0.0.1:0"`, `addr = "`+addr+`"`+"\nreuse_port = true", 1)
		}
	}
	old := newNode(t, shared("127.0.0.1:0"))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- old.g.Run(ctx) }()
	old.until("the old one is up", old.g.own.Ready)
	addr := old.addr()
	young := newNode(t, shared(addr)).run()
	if got := young.addr(); got != addr {
		t.Fatalf("the young one listens on %s, want %s", got, addr)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run() = %v", err)
	}
	for range 8 {
		bind(t, addr, "parcels", 0x34).submit(submitTo(stranger, nil))
	}
	if got := len(young.smsc.of("parcels")); got != 8 {
		t.Errorf("the young one passed %d messages, want 8", got)
	}
}

// TestWindowFull: smpp.window and smpp.window_full reach the engine.
func TestWindowFull(t *testing.T) {
	n := newNode(t, func(text string) string { return text + "[smpp]\nwindow = 1\nwindow_full = \"queue-full\"\n" }).run()
	e := bind(t, n.addr(), "parcels", 0x34)
	first := make(chan pdu.Status, 1)
	func() {
		n.smsc.mu.Lock() // and it answers nothing
		defer n.smsc.mu.Unlock()
		if err := e.s.Call(submitTo(stranger, nil), func(p pdu.PDU, err error) {
			if err != nil {
				t.Errorf("the first: %v", err)
				p = pdu.AppendHeader(nil, pdu.SubmitSMResp, pdu.RSYSERR, 0)
			}
			first <- p.Status()
		}); err != nil {
			t.Fatal(err)
		}
		if got := e.ask(submitTo(stranger, nil)); got.Status() != pdu.RMSGQFUL {
			t.Errorf("the second: %s, want %s", got.Status(), pdu.RMSGQFUL)
		}
	}()
	if st := <-first; st != pdu.ROK {
		t.Errorf("the first: %s", st)
	}
}
