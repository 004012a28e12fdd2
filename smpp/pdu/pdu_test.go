package pdu_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"shunt/smpp/pdu"
)

func TestFrameBounds(t *testing.T) {
	const max = 1000
	for _, c := range []struct {
		length uint32
		err    bool
	}{{0, true}, {1, true}, {15, true}, {16, false}, {17, false}, {max, false}, {max + 1, true}, {1 << 31, true}, {0xFFFFFFFF, true}} {
		b := binary.BigEndian.AppendUint32(nil, c.length)
		n, err := pdu.Frame(b, max)
		if n != 0 || errors.Is(err, pdu.ErrLength) != c.err {
			t.Errorf("Frame(command_length %d, %d) = %d, %v, want 0 and an error: %v", c.length, max, n, err, c.err)
		}
		for cut := range 4 {
			if n, err := pdu.Frame(b[:cut], max); n != 0 || err != nil {
				t.Errorf("Frame(%d octets) = %d, %v, want 0, nil", cut, n, err)
			}
		}
	}
	two := pdu.AppendHeader(pdu.AppendHeader(nil, pdu.EnquireLink, pdu.ROK, 1), pdu.Unbind, pdu.ROK, 2)
	if n, err := pdu.Frame(two, max); n != 16 || err != nil {
		t.Errorf("Frame(two PDUs) = %d, %v, want the first's 16", n, err)
	}
}

func TestHeaderAccess(t *testing.T) {
	p := golden(t, "submit_sm")
	want := bytes.Clone(p)
	p.SetSeq(0x7ABBCCDD)
	copy(want[12:], "\x7A\xBB\xCC\xDD")
	if !bytes.Equal(p, want) {
		t.Errorf("SetSeq changed other octets:\n got % X\nwant % X", []byte(p), want)
	}
	if p.Seq() != 0x7ABBCCDD || &p.Body()[0] != &p[16] {
		t.Errorf("Seq = %#x, Body at another place", p.Seq())
	}
}

func TestCommandID(t *testing.T) {
	for _, c := range []struct {
		id                   pdu.ID
		response, bind, owed bool
		name                 string
	}{
		{pdu.BindReceiver, false, true, true, "BindReceiver"},
		{pdu.BindTransmitter, false, true, true, "BindTransmitter"},
		{pdu.BindTransceiver, false, true, true, "BindTransceiver"},
		{pdu.SubmitSM, false, false, true, "SubmitSM"},
		{pdu.SubmitSMResp, true, false, false, "SubmitSMResp"},
		{pdu.Outbind, false, false, false, "Outbind"},
		{pdu.AlertNotification, false, false, false, "AlertNotification"},
		{pdu.GenericNack, true, false, false, "GenericNACK"},
		{pdu.EnquireLink, false, false, true, "EnquireLink"},
		{pdu.QuerySM, false, false, true, "QuerySM"},
		{pdu.QuerySMResp, true, false, false, "QuerySMResp"},
		{pdu.DeliverSM, false, false, true, "DeliverSM"},
		{pdu.DeliverSMResp, true, false, false, "DeliverSMResp"},
		{pdu.Unbind, false, false, true, "Unbind"},
		{pdu.UnbindResp, true, false, false, "UnbindResp"},
		{pdu.ReplaceSM, false, false, true, "ReplaceSM"},
		{pdu.ReplaceSMResp, true, false, false, "ReplaceSMResp"},
		{pdu.CancelSM, false, false, true, "CancelSM"},
		{pdu.CancelSMResp, true, false, false, "CancelSMResp"},
		{pdu.BindReceiverResp, true, false, false, "BindReceiverResp"},
		{pdu.BindTransmitterResp, true, false, false, "BindTransmitterResp"},
		{pdu.BindTransceiverResp, true, false, false, "BindTransceiverResp"},
		{pdu.EnquireLinkResp, true, false, false, "EnquireLinkResp"},
		{pdu.SubmitMulti, false, false, true, "SubmitMulti"},
		{pdu.SubmitMultiResp, true, false, false, "SubmitMultiResp"},
		{pdu.DataSM, false, false, true, "DataSM"},
		{pdu.DataSMResp, true, false, false, "DataSMResp"},
		{pdu.BroadcastSM, false, false, true, "BroadcastSM"},
		{pdu.BroadcastSMResp, true, false, false, "BroadcastSMResp"},
		{pdu.QueryBroadcastSM, false, false, true, "QueryBroadcastSM"},
		{pdu.QueryBroadcastSMResp, true, false, false, "QueryBroadcastSMResp"},
		{pdu.CancelBroadcastSM, false, false, true, "CancelBroadcastSM"},
		{pdu.CancelBroadcastSMResp, true, false, false, "CancelBroadcastSMResp"},
		{0x00010200, false, false, true, "command 0x00010200"},
		{0x80000102, true, false, false, "command 0x80000102"}, // alert_notification has no response
	} {
		if c.id.IsResponse() != c.response || c.id.IsBind() != c.bind || c.id.Answered() != c.owed || c.id.String() != c.name {
			t.Errorf("%#x: response %v, bind %v, answered %v, %q; want %v, %v, %v, %q", uint32(c.id),
				c.id.IsResponse(), c.id.IsBind(), c.id.Answered(), c.id.String(), c.response, c.bind, c.owed, c.name)
		}
	}
	if got := pdu.SubmitSM.Response(); got != pdu.SubmitSMResp {
		t.Errorf("SubmitSM.Response() = %v", got)
	}
}

// TestFieldErrors checks that an error names the field, the place and the cause.
func TestFieldErrors(t *testing.T) {
	build := func(m pdu.SM) pdu.PDU { return pdu.AppendSM(nil, pdu.SubmitSM, 1, &m) }
	cut := func(p pdu.PDU, n int) pdu.PDU { return p[:len(p)-n] }
	for _, c := range []struct {
		p    pdu.PDU
		want string
	}{
		{build(pdu.SM{ServiceType: []byte("123456")}), "service_type at octet 16: longer than 6 octets"},
		{build(pdu.SM{Source: address(0, 0, strings.Repeat("1", 21))}), "source_addr at octet 19: longer than 21 octets"},
		{build(pdu.SM{Dest: address(0, 0, strings.Repeat("1", 21))}), "destination_addr at octet 22: longer than 21 octets"},
		{build(pdu.SM{Schedule: bytes.Repeat([]byte{'0'}, 17)}), "schedule_delivery_time at octet 26: longer than 17 octets"},
		{build(pdu.SM{Validity: bytes.Repeat([]byte{'0'}, 17)}), "validity_period at octet 27: longer than 17 octets"},
		{build(pdu.SM{})[:20], "dest_addr_ton at octet 20: cut short"},
		{cut(build(pdu.SM{ShortMessage: []byte("abc")}), 1), "short_message at octet 33: cut short: 2 octets of 3"},
		{build(pdu.SM{TLVs: pdu.TLVs{0x14, 0x01, 0x00}}), "optional parameter at octet 33: cut short"},
		{build(pdu.SM{TLVs: pdu.TLVs{0x14, 0x01, 0x00, 0x05, 1}}), "optional parameter at octet 33: tag 0x1401: 1 octets of 5"},
	} {
		var m pdu.SM
		err := m.Decode(c.p)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("Decode(% X) = %q, want %q", []byte(c.p), got, c.want)
		}
	}
}

// TestDestination checks the short way to destination_addr against the long
// one, on whole and on damaged PDUs.
func TestDestination(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	same := 0
	for i := range 100_000 {
		p := randomSM(r)
		for range i % 4 { // every fourth is sound
			p[16+r.IntN(len(p)-16)] = byte(r.UintN(256))
		}
		p = p[:len(p)-min(r.IntN(20)*(i%2), len(p))]
		var m pdu.SM
		err := m.Decode(p)
		a, ok := pdu.Destination(p)
		if err != nil {
			continue
		}
		same++
		if !ok || a.TON != m.Dest.TON || a.NPI != m.Dest.NPI || !bytes.Equal(a.Addr, m.Dest.Addr) {
			t.Fatalf("Destination(% X) = %+v, %v, want %+v", []byte(p), a, ok, m.Dest)
		}
	}
	if same < 20_000 {
		t.Errorf("only %d PDUs decoded", same)
	}
	for _, name := range []string{"submit_sm", "submit_sm_minimal", "deliver_sm"} {
		p := golden(t, name)
		for n := range len(p) {
			pdu.Destination(p[:n:n]) // a cut PDU is no panic
		}
	}
	if a, ok := pdu.Destination(pdu.PDU{}); ok {
		t.Errorf("Destination of nothing = %+v", a)
	}
}

// randomSM is a sound submit_sm with fields of all lengths.
func randomSM(r *rand.Rand) pdu.PDU {
	text := func(n int) []byte {
		b := make([]byte, r.IntN(n))
		for i := range b {
			b[i] = byte(1 + r.UintN(255))
		}
		return b
	}
	octet := func() byte { return byte(r.UintN(256)) }
	m := pdu.SM{
		ServiceType: text(6), Source: pdu.Address{TON: octet(), NPI: octet(), Addr: text(21)},
		Dest:     pdu.Address{TON: octet(), NPI: octet(), Addr: text(21)},
		ESMClass: octet(), ProtocolID: octet(), Priority: octet(), Schedule: text(17), Validity: text(17),
		RegisteredDelivery: octet(), ReplaceIfPresent: octet(), DataCoding: octet(), DefaultMsgID: octet(), ShortMessage: text(256),
	}
	for range r.IntN(4) {
		m.TLVs = pdu.AppendTLV(m.TLVs, pdu.Tag(r.UintN(1<<16)), text(40))
	}
	return pdu.AppendSM(nil, pdu.SubmitSM, r.Uint32N(pdu.MaxSequence)+1, &m)
}

func TestTLVs(t *testing.T) {
	var tlvs pdu.TLVs
	tlvs = pdu.AppendTLV(tlvs, 0x1401, []byte("first"))
	tlvs = pdu.AppendTLV(tlvs, pdu.TagMessageState, []byte{2})
	tlvs = pdu.AppendTLV(tlvs, 0x1401, []byte("second"))
	tlvs = pdu.AppendTLV(tlvs, 0x3FFF, nil)
	var tags []pdu.Tag
	var values []string
	for tag, v := range tlvs.All() {
		tags, values = append(tags, tag), append(values, string(v))
	}
	if want := []pdu.Tag{0x1401, pdu.TagMessageState, 0x1401, 0x3FFF}; !equal(tags, want) {
		t.Errorf("tags = %v, want %v", tags, want)
	}
	if want := []string{"first", "\x02", "second", ""}; !equal(values, want) {
		t.Errorf("values = %q, want %q", values, want)
	}
	for range tlvs.All() {
		break // an early end is no fault
	}
	if v, ok := tlvs.Find(0x1401); !ok || string(v) != "first" {
		t.Errorf("Find(0x1401) = %q, %v, want the first", v, ok)
	}
	if v, ok := tlvs.Find(0x3FFF); !ok || len(v) != 0 {
		t.Errorf("Find(empty) = %q, %v, want it found", v, ok)
	}
	if v, ok := tlvs.Find(pdu.TagMessagePayload); ok {
		t.Errorf("Find(absent) = %q", v)
	}
	if v, ok := pdu.TLVs(nil).Find(0); ok {
		t.Errorf("Find in none = %q", v)
	}
	big := pdu.AppendTLV(nil, pdu.TagMessagePayload, make([]byte, 0xFFFF))
	if v, ok := pdu.TLVs(big).Find(pdu.TagMessagePayload); !ok || len(v) != 0xFFFF {
		t.Errorf("Find(64 KiB payload) = %d octets, %v", len(v), ok)
	}
}

func equal[T comparable](a, b []T) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestPayload(t *testing.T) {
	payload := pdu.TLVs(pdu.AppendTLV(nil, pdu.TagMessagePayload, []byte("long")))
	for _, c := range []struct {
		m    pdu.SM
		want string
		ok   bool
	}{
		{pdu.SM{ShortMessage: []byte("short")}, "short", true},
		{pdu.SM{TLVs: payload}, "long", true},
		{pdu.SM{ShortMessage: []byte("short"), TLVs: payload}, "long", false},
		{pdu.SM{}, "", true},
	} {
		if got, ok := c.m.Payload(); string(got) != c.want || ok != c.ok {
			t.Errorf("Payload(%q, % X) = %q, %v, want %q, %v", c.m.ShortMessage, []byte(c.m.TLVs), got, ok, c.want, c.ok)
		}
	}
}

// TestNoCopy checks that a decoded SM points into its PDU, with no room behind
// a field that an append could write into.
func TestNoCopy(t *testing.T) {
	p := golden(t, "submit_sm_udh_tlvs")
	before := bytes.Clone(p)
	var m pdu.SM
	if err := m.Decode(p); err != nil {
		t.Fatal(err)
	}
	for _, f := range [][]byte{m.ServiceType, m.Source.Addr, m.Dest.Addr, m.Schedule, m.Validity, m.ShortMessage, m.TLVs} {
		_ = append(f, "overwritten"...)
	}
	for _, v := range m.TLVs.All() {
		_ = append(v, "overwritten"...)
	}
	a, _ := pdu.Destination(p)
	_ = append(a.Addr, "overwritten"...)
	if !bytes.Equal(p, before) {
		t.Errorf("an append to a field wrote into the PDU:\n got % X\nwant % X", []byte(p), before)
	}
	p[len(p)-len(m.TLVs)-1] ^= 0xFF
	if m.ShortMessage[len(m.ShortMessage)-1] != p[len(p)-len(m.TLVs)-1] {
		t.Error("ShortMessage is a copy")
	}
}

// TestNoAllocation is what the relay's speed rests on.
func TestNoAllocation(t *testing.T) {
	p := golden(t, "submit_sm_udh_tlvs")
	var m pdu.SM
	out := make([]byte, 0, 1024)
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"SM.Decode", func() {
			if m.Decode(p) != nil {
				t.Fatal("does not decode")
			}
		}},
		{"Destination", func() {
			if _, ok := pdu.Destination(p); !ok {
				t.Fatal("no destination")
			}
		}},
		{"Frame", func() {
			if n, _ := pdu.Frame(p, pdu.DefaultMaxLen); n != len(p) {
				t.Fatal("no frame")
			}
		}},
		{"TLVs.Find", func() {
			if _, ok := m.TLVs.Find(0xFFFF); !ok {
				t.Fatal("no TLV")
			}
		}},
		{"Payload", func() { m.Payload() }},
		{"AppendSM", func() { out = pdu.AppendSM(out[:0], pdu.SubmitSM, 1, &m) }},
		{"AppendHeader", func() { out = pdu.AppendHeader(out[:0], pdu.EnquireLink, pdu.ROK, 1) }},
		{"AppendMessageResp", func() { out = pdu.AppendMessageResp(out[:0], pdu.SubmitSMResp, pdu.ROK, 1, "id") }},
	} {
		if got := testing.AllocsPerRun(1000, c.f); got != 0 {
			t.Errorf("%s: %v allocations, want 0", c.name, got)
		}
	}
}

// TestHostile decodes 200,000 buffers of junk, some of it behind a sound
// header, as everything: no panic, and no allocation beyond an error's.
func TestHostile(t *testing.T) {
	const buffers = 200_000
	r := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, 512)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range buffers {
		n := r.IntN(len(b))
		for i := range b[:n] {
			b[i] = byte(r.UintN(256) & -r.UintN(2)) // half of it NUL
		}
		p := pdu.PDU(b[:n:n])
		_, _ = pdu.Frame(p, pdu.DefaultMaxLen)
		for _, id := range []pdu.ID{pdu.BindTransceiver, pdu.BindTransceiverResp, pdu.SubmitSM, pdu.SubmitSMResp} {
			_, _ = decode(p, id)
		}
		_, _ = decode(p, operationIDs[r.IntN(len(operationIDs))])
		for range pdu.DestAddresses(p).All() {
		}
		for range pdu.UnsuccessSMEs(p).All() {
		}
		pdu.Destination(p)
		for range pdu.TLVs(p).All() {
		}
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / buffers; per > 4096 {
		t.Errorf("%d octets allocated a buffer, want a few errors' worth", per)
	}
}
