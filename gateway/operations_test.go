package gateway

import (
	"bytes"
	"testing"

	"shunt/gateway/msg"
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
