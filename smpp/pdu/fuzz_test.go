package pdu_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	gosmpp "github.com/fiorix/go-smpp/smpp/pdu"
	"github.com/fiorix/go-smpp/smpp/pdu/pdufield"
	"github.com/fiorix/go-smpp/smpp/pdu/pdutlv"

	"shunt/smpp/pdu"
)

// seed adds every golden PDU to a corpus.
func seed(f *testing.F) {
	for _, name := range goldens(f) {
		f.Add([]byte(golden(f, name)))
	}
}

// body makes a whole PDU of what a fuzzer gave: with its header mended, or one
// put before it.
func body(b []byte, id pdu.ID) pdu.PDU {
	if len(b) < pdu.HeaderLen {
		b = append(make([]byte, pdu.HeaderLen), b...)
	}
	b = bytes.Clone(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	binary.BigEndian.PutUint32(b[4:], uint32(id))
	return b
}

func FuzzFrame(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := pdu.Frame(b, 1024)
		switch {
		case err != nil && (n != 0 || !errors.Is(err, pdu.ErrLength)):
			t.Errorf("Frame = %d, %v", n, err)
		case n != 0 && (n < pdu.HeaderLen || n > len(b) || n > 1024 || pdu.PDU(b).Len() != uint32(n)):
			t.Errorf("Frame of %d octets = %d", len(b), n)
		}
	})
}

// FuzzSM: what decodes is built again from its fields octet for octet,
// Destination agrees, and go-smpp reads the same.
func FuzzSM(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		p := body(b, pdu.SubmitSM)
		before := bytes.Clone(p)
		var m pdu.SM
		err := m.Decode(p)
		a, ok := pdu.Destination(p)
		if !bytes.Equal(p, before) {
			t.Fatal("Decode changed the PDU")
		}
		if err != nil {
			var field *pdu.FieldError
			if !errors.As(err, &field) {
				t.Errorf("error %v is no FieldError", err)
			}
			return
		}
		if again := m.Append(nil); !bytes.Equal(again, p.Body()) {
			t.Errorf("Append(Decode):\n got % X\nwant % X", again, p.Body())
		}
		if !ok || a.TON != m.Dest.TON || a.NPI != m.Dest.NPI || !bytes.Equal(a.Addr, m.Dest.Addr) {
			t.Errorf("Destination = %+v, %v, want %+v", a, ok, m.Dest)
		}
		sameAsGoSMPP(t, p, &m)
	})
}

func FuzzBind(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		p := body(b, pdu.BindTransceiver)
		var v pdu.Bind
		if v.Decode(p) != nil {
			return
		}
		again := v.Append(nil, p.ID(), p.Seq())
		if !bytes.HasPrefix(p.Body(), again[pdu.HeaderLen:]) {
			t.Errorf("Append(Decode):\n got % X\nwant a beginning of % X", again[pdu.HeaderLen:], p.Body())
		}
	})
}

func FuzzBindResp(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		p := body(b, pdu.BindTransceiverResp)
		var v, again pdu.BindResp
		if v.Decode(p) != nil {
			return
		}
		if err := again.Decode(v.Append(nil, pdu.BindTransceiver, pdu.ROK, 1)); err != nil || again != v {
			t.Errorf("Decode(Append(%+v)) = %+v, %v", v, again, err)
		}
	})
}

func FuzzMessageID(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		p := body(b, pdu.SubmitSMResp)
		id, err := pdu.MessageID(p)
		if err != nil {
			return
		}
		if again, err := pdu.MessageID(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, 1, id)); err != nil || again != id || len(id) > 64 {
			t.Errorf("MessageID(AppendMessageResp(%q)) = %q, %v", id, again, err)
		}
	})
}

// FuzzTLVs: the walk gives every whole parameter and stops before one that is
// cut.
func FuzzTLVs(f *testing.F) {
	f.Add([]byte{0x14, 0x01, 0x00, 0x01, 0xFF, 0x02, 0x04, 0x00, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		var again []byte
		for tag, v := range pdu.TLVs(b).All() {
			again = pdu.AppendTLV(again, tag, v)
			if _, ok := pdu.TLVs(b).Find(tag); !ok {
				t.Errorf("Find(0x%04X) finds nothing", uint16(tag))
			}
		}
		if !bytes.HasPrefix(b, again) {
			t.Errorf("walk:\n got % X\nwant a beginning of % X", again, b)
		}
		if rest := b[len(again):]; len(rest) >= 4 && len(rest) >= 4+int(binary.BigEndian.Uint16(rest[2:])) {
			t.Errorf("the walk stopped before a whole parameter: % X", rest)
		}
	})
}

func FuzzTime(f *testing.F) {
	f.Add([]byte("261123174100004+"))
	f.Add([]byte("020610233429000R"))
	now := time.Date(2026, 11, 23, 17, 41, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := pdu.Time(b, now)
		switch {
		case err != nil && !got.IsZero():
			t.Errorf("Time(%q) = %v, %v", b, got, err)
		case err == nil && len(b) != 0 && len(b) != 16:
			t.Errorf("Time(%q) = %v, want an error", b, got)
		case err == nil && len(b) == 16 && b[15] == 'R' && got.Before(now):
			t.Errorf("Time(%q) = %v, before %v", b, got, now)
		case err == nil && len(b) == 16 && b[15] != 'R':
			sign := time.Duration(1)
			if b[15] == '-' {
				sign = -1
			}
			quarters := time.Duration(int(b[13]-'0')*10 + int(b[14]-'0'))
			local := got.Add(sign * quarters * 15 * time.Minute)
			if text := local.Format("060102150405"); text != string(b[:12]) {
				t.Errorf("Time(%q) = %v, in its own zone %s", b, got, text)
			}
		}
	})
}

// gosmppMax is the longest PDU that go-smpp takes.
const gosmppMax = 4096

// sameAsGoSMPP compares m, decoded from the submit_sm p, with what go-smpp
// reads, which accepts every submit_sm up to 4,096 octets that this package
// does. Of a repeated TLV it keeps the last.
func sameAsGoSMPP(t *testing.T, p pdu.PDU, m *pdu.SM) {
	t.Helper()
	if len(p) > gosmppMax {
		return
	}
	other, err := gosmpp.Decode(bytes.NewReader(p))
	if err != nil {
		t.Errorf("go-smpp refuses % X: %v", []byte(p), err)
		return
	}
	if h := other.Header(); h.Len != p.Len() || uint32(h.ID) != uint32(p.ID()) || uint32(h.Status) != uint32(p.Status()) || h.Seq != p.Seq() {
		t.Errorf("go-smpp's header is %+v", *h)
	}
	f := other.Fields()
	for _, c := range []struct {
		name pdufield.Name
		want []byte
	}{
		{pdufield.ServiceType, nul(m.ServiceType)},
		{pdufield.SourceAddrTON, []byte{m.Source.TON}},
		{pdufield.SourceAddrNPI, []byte{m.Source.NPI}},
		{pdufield.SourceAddr, nul(m.Source.Addr)},
		{pdufield.DestAddrTON, []byte{m.Dest.TON}},
		{pdufield.DestAddrNPI, []byte{m.Dest.NPI}},
		{pdufield.DestinationAddr, nul(m.Dest.Addr)},
		{pdufield.ESMClass, []byte{m.ESMClass}},
		{pdufield.ProtocolID, []byte{m.ProtocolID}},
		{pdufield.PriorityFlag, []byte{m.Priority}},
		{pdufield.ScheduleDeliveryTime, nul(m.Schedule)},
		{pdufield.ValidityPeriod, nul(m.Validity)},
		{pdufield.RegisteredDelivery, []byte{m.RegisteredDelivery}},
		{pdufield.ReplaceIfPresentFlag, []byte{m.ReplaceIfPresent}},
		{pdufield.DataCoding, []byte{m.DataCoding}},
		{pdufield.SMDefaultMsgID, []byte{m.DefaultMsgID}},
		{pdufield.SMLength, []byte{byte(len(m.ShortMessage))}},
		{pdufield.ShortMessage, m.ShortMessage},
	} {
		if got := f[c.name]; got == nil || !bytes.Equal(got.Bytes(), c.want) {
			t.Errorf("go-smpp's %s is %v, want % X", c.name, got, c.want)
		}
	}
	last := map[pdutlv.Tag][]byte{}
	for tag, v := range m.TLVs.All() {
		last[pdutlv.Tag(tag)] = v
	}
	if got := len(other.TLVFields()); got != len(last) {
		t.Errorf("go-smpp has %d TLVs, want %d", got, len(last))
	}
	for tag, want := range last {
		if got := other.TLVFields()[tag]; got == nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("go-smpp's TLV %s is %v, want % X", tag.Hex(), got, want)
		}
	}
}

func nul(b []byte) []byte { return append(bytes.Clone(b), 0) }

// TestDifferential reads submit_sms of all shapes with both decoders.
func TestDifferential(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	compared := 0
	for i := range 20_000 {
		p := randomSM(r)
		if i%3 == 0 { // damage a third
			p[16+r.IntN(len(p)-16)] = byte(r.UintN(256))
		}
		var m pdu.SM
		if m.Decode(p) == nil {
			compared++
			sameAsGoSMPP(t, p, &m)
		}
		if t.Failed() {
			t.Fatalf("after % X", []byte(p))
		}
	}
	if compared < 15_000 {
		t.Errorf("only %d were compared", compared)
	}
	for _, name := range goldens(t) {
		p := golden(t, name)
		var m pdu.SM
		if p.ID() == pdu.SubmitSM && m.Decode(p) == nil {
			sameAsGoSMPP(t, p, &m)
		}
	}
}
