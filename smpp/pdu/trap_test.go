package pdu_test

import (
	"bytes"
	"testing"

	"shunt/smpp/pdu"
)

// TestTrap05LongMessageOneOctetLength: sm_length counts up to 255 octets, and a
// message in both fields at once is never guessed about.
func TestTrap05LongMessageOneOctetLength(t *testing.T) {
	for _, n := range []int{0, 1, 254, 255} {
		m := pdu.SM{ShortMessage: bytes.Repeat([]byte{'x'}, n)}
		p := pdu.PDU(pdu.AppendSM(nil, pdu.SubmitSM, 1, &m))
		var got pdu.SM
		if err := got.Decode(p); err != nil || len(got.ShortMessage) != n {
			t.Errorf("sm_length %d: %d octets, %v", n, len(got.ShortMessage), err)
		}
	}
	both := pdu.SM{ShortMessage: []byte("a"), TLVs: pdu.AppendTLV(nil, pdu.TagMessagePayload, []byte("b"))}
	if b, ok := both.Payload(); ok {
		t.Errorf("short_message and message_payload at once: took %q", b)
	}
}

// TestTrap06VersionsAndTLVs: every interface_version is taken; a bind_resp has
// sc_interface_version or not; unknown TLVs stay, in order.
func TestTrap06VersionsAndTLVs(t *testing.T) {
	for _, c := range []struct {
		version byte
		tlvs    bool
	}{{0x00, false}, {0x33, false}, {0x34, true}, {0x50, true}, {0x51, true}} {
		want := pdu.Bind{SystemID: "a", InterfaceVersion: c.version}
		var got pdu.Bind
		if err := got.Decode(want.Append(nil, pdu.BindTransceiver, 1)); err != nil || got != want {
			t.Errorf("bind of version 0x%02X = %+v, %v", c.version, got, err)
		}
		if pdu.TLVsAllowed(c.version) != c.tlvs {
			t.Errorf("TLVsAllowed(0x%02X) = %v", c.version, !c.tlvs)
		}
	}
	for _, version := range []byte{0, 0x33, 0x34, 0x50, 0xFF} {
		want := pdu.BindResp{SystemID: "smsc", SCVersion: version}
		var got pdu.BindResp
		if err := got.Decode(want.Append(nil, pdu.BindReceiver, pdu.ROK, 1)); err != nil || got != want {
			t.Errorf("bind_resp of version 0x%02X = %+v, %v", version, got, err)
		}
	}
	// One of a wrong length is as good as none, and other TLVs may be there.
	p := pdu.Begin(nil, pdu.BindReceiverResp, pdu.ROK, 1)
	p = append(p, "smsc\x00"...)
	p = pdu.AppendTLV(p, 0x1403, []byte("vendor"))
	p = pdu.End(pdu.AppendTLV(p, pdu.TagSCInterfaceVersion, []byte{0x34, 0x34}), 0)
	var got pdu.BindResp
	if err := got.Decode(p); err != nil || got != (pdu.BindResp{SystemID: "smsc"}) {
		t.Errorf("bind_resp with a bad sc_interface_version = %+v, %v", got, err)
	}
	// A bind with TLVs behind address_range is a bind.
	b := pdu.Bind{SystemID: "a", AddressRange: "44"}
	with := pdu.End(pdu.AppendTLV(b.Append(nil, pdu.BindTransceiver, 1), 0x1403, []byte("vendor")), 0)
	var bound pdu.Bind
	if err := bound.Decode(with); err != nil || bound != b {
		t.Errorf("bind with TLVs = %+v, %v", bound, err)
	}

	sm := golden(t, "submit_sm_udh_tlvs")
	var m pdu.SM
	if err := m.Decode(sm); err != nil {
		t.Fatal(err)
	}
	if again := pdu.AppendSM(nil, sm.ID(), sm.Seq(), &m); !bytes.Equal(again, sm) {
		t.Errorf("unknown, repeated and empty TLVs:\n got % X\nwant % X", again, []byte(sm))
	}
}

// TestTrap07EmptyFields: an empty string is one NUL; an error response has no
// body, or one NUL; deliver_sm_resp's message_id is NULL.
func TestTrap07EmptyFields(t *testing.T) {
	p := pdu.PDU(pdu.AppendSM(nil, pdu.SubmitSM, 1, &pdu.SM{}))
	if want := make([]byte, 17); !bytes.Equal(p.Body(), want) {
		t.Errorf("the empty submit_sm's body = % X, want % X", p.Body(), want)
	}
	for _, body := range []string{"", "\x00"} {
		for _, id := range []pdu.ID{pdu.SubmitSMResp, pdu.DeliverSMResp, pdu.DataSMResp} {
			p := pdu.End(append(pdu.Begin(nil, id, pdu.RSYSERR, 1), body...), 0)
			if got, err := pdu.MessageID(p); got != "" || err != nil {
				t.Errorf("MessageID(%v with body %q) = %q, %v", id, body, got, err)
			}
		}
		var b pdu.BindResp
		p := pdu.End(append(pdu.Begin(nil, pdu.BindReceiverResp, pdu.RINVSYSID, 1), body...), 0)
		if err := b.Decode(p); err != nil || b != (pdu.BindResp{}) {
			t.Errorf("bind_resp with body %q = %+v, %v", body, b, err)
		}
	}
	if got := pdu.AppendMessageResp(nil, pdu.DeliverSMResp, pdu.ROK, 3, ""); !bytes.Equal(got, golden(t, "deliver_sm_resp")) {
		t.Errorf("deliver_sm_resp = % X", got)
	}
}

// TestTrap08Throttling: the statuses after which the same message may be taken
// later, and vendors' codes have a text.
func TestTrap08Throttling(t *testing.T) {
	for status, want := range map[pdu.Status]bool{
		pdu.RTHROTTLED: true, pdu.RMSGQFUL: true, pdu.RSYSERR: true, pdu.RXTAPPN: true, pdu.RINVBNDSTS: true,
		pdu.ROK: false, pdu.RINVDSTADR: false, pdu.RSUBMITF: false, pdu.RINVMSGLEN: false, 0x400: false, 0xFFFFFFFF: false,
	} {
		if status.Temporary() != want {
			t.Errorf("(%v).Temporary() = %v", status, !want)
		}
	}
}

// TestTrap10Framing: a command_length that cannot be followed is told from one
// that is not all there yet, and costs nothing but its error.
func TestTrap10Framing(t *testing.T) {
	huge := []byte{0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 4}
	if n, err := pdu.Frame(huge, pdu.DefaultMaxLen); n != 0 || err == nil {
		t.Errorf("Frame(4 GiB) = %d, %v", n, err)
	}
	if got := testing.AllocsPerRun(100, func() { _, _ = pdu.Frame(huge, pdu.DefaultMaxLen) }); got > 8 {
		t.Errorf("Frame(4 GiB): %v allocations", got)
	}
	// The largest legal PDU: 64 KiB of message_payload.
	m := pdu.SM{TLVs: pdu.AppendTLV(nil, pdu.TagMessagePayload, make([]byte, 0xFFFF))}
	p := pdu.AppendSM(nil, pdu.SubmitSM, pdu.MaxSequence, &m)
	if n, err := pdu.Frame(p, pdu.DefaultMaxLen); n != len(p) || err != nil {
		t.Errorf("Frame(%d octets) = %d, %v", len(p), n, err)
	}
}
