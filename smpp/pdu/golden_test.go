package pdu_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shunt/smpp/pdu"
)

// golden reads testdata/golden/name.hex: a line that says where the octets come
// from, then octets in hex, with comments behind "#".
func golden(t testing.TB, name string) pdu.PDU {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "golden", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	sourced := false
	for n, line := range strings.Split(string(text), "\n") {
		if s, ok := strings.CutPrefix(line, "source: "); ok {
			sourced = s != ""
			continue
		}
		line, _, _ = strings.Cut(line, "#")
		octets, err := hex.DecodeString(strings.ReplaceAll(line, " ", ""))
		if err != nil {
			t.Fatalf("%s.hex:%d: %v", name, n+1, err)
		}
		b = append(b, octets...)
	}
	if !sourced {
		t.Fatalf("%s.hex: no source", name)
	}
	return b
}

// goldens are the names of all golden files.
func goldens(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/golden/*.hex")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(filepath.Base(f), ".hex")
	}
	return files
}

func address(ton, npi byte, addr string) pdu.Address {
	return pdu.Address{TON: ton, NPI: npi, Addr: []byte(addr)}
}

// vector is a golden file, what it means, and how that is built.
type vector struct {
	name   string
	id     pdu.ID
	status pdu.Status
	seq    uint32
	value  any // *Bind, *BindResp, *SM, another operation, a message_id or nil: as decode gives it
	build  func(id pdu.ID, status pdu.Status, seq uint32) []byte
}

func vectors() []vector {
	bind := func(name string, id pdu.ID, seq uint32, b pdu.Bind) vector {
		return vector{name, id, pdu.ROK, seq, &b, func(id pdu.ID, _ pdu.Status, seq uint32) []byte { return b.Append(nil, id, seq) }}
	}
	bindResp := func(name string, id pdu.ID, status pdu.Status, seq uint32, b pdu.BindResp) vector {
		return vector{name, id.Response(), status, seq, &b, func(_ pdu.ID, status pdu.Status, seq uint32) []byte {
			return b.Append(nil, id, status, seq)
		}}
	}
	sm := func(name string, id pdu.ID, seq uint32, m pdu.SM) vector {
		return vector{name, id, pdu.ROK, seq, &m, func(id pdu.ID, _ pdu.Status, seq uint32) []byte { return pdu.AppendSM(nil, id, seq, &m) }}
	}
	resp := func(name string, id pdu.ID, status pdu.Status, seq uint32, messageID string) vector {
		return vector{name, id, status, seq, messageID, func(id pdu.ID, status pdu.Status, seq uint32) []byte {
			return pdu.AppendMessageResp(nil, id, status, seq, messageID)
		}}
	}
	header := func(name string, id pdu.ID, status pdu.Status, seq uint32, value any) vector {
		return vector{name, id, status, seq, value, func(id pdu.ID, status pdu.Status, seq uint32) []byte {
			return pdu.AppendHeader(nil, id, status, seq)
		}}
	}
	tlvs := pdu.AppendTLV(nil, pdu.TagUserMessageReference, []byte{0xBE, 0xEF})
	tlvs = pdu.AppendTLV(tlvs, 0x1401, []byte{0x00, 0xFF})
	tlvs = pdu.AppendTLV(tlvs, 0x1401, nil)
	tlvs = pdu.AppendTLV(tlvs, 0xFFFF, []byte{1})
	receipted := pdu.AppendTLV(nil, pdu.TagReceiptedMessageID, []byte("0123456789\x00"))
	receipted = pdu.AppendTLV(receipted, pdu.TagMessageState, []byte{2})
	receipted = pdu.AppendTLV(receipted, pdu.TagNetworkErrorCode, []byte{3, 0, 0})
	from, to := address(1, 1, "447700900001"), address(1, 1, "447700900042")
	return append(operations(),
		bind("bind_transmitter", pdu.BindTransmitter, 1,
			pdu.Bind{SystemID: "SMPP3TEST", Password: "secret08", SystemType: "SUBMIT1", AddrTON: 1, AddrNPI: 1}),
		bind("bind_receiver", pdu.BindReceiver, 2, pdu.Bind{
			SystemID: "esme-rx", Password: "p",
			InterfaceVersion: pdu.Version34, AddrTON: 1, AddrNPI: 1, AddressRange: "^4477009000[0-9][0-9]$",
		}),
		bind("bind_transceiver", pdu.BindTransceiver, 0x7FFFFFFF, pdu.Bind{
			SystemID: "fifteen-octets!", Password: "8-octets",
			SystemType: "twelve-octet", InterfaceVersion: pdu.Version50, AddrTON: 5, AddressRange: strings.Repeat("4", 40),
		}),
		bindResp("bind_transceiver_resp", pdu.BindTransceiver, pdu.ROK, 1, pdu.BindResp{SystemID: "SMSC", SCVersion: pdu.Version34}),
		bindResp("bind_receiver_resp", pdu.BindReceiver, pdu.ROK, 2, pdu.BindResp{SystemID: "SMSC"}),
		bindResp("bind_transmitter_resp_refused", pdu.BindTransmitter, pdu.RINVPASWD, 1, pdu.BindResp{}),
		sm("submit_sm_minimal", pdu.SubmitSM, 1, pdu.SM{Dest: to}),
		sm("submit_sm", pdu.SubmitSM, 0x0102, pdu.SM{
			ServiceType: []byte("CMT"), Source: address(5, 0, "Example"), Dest: to,
			ESMClass: 0x03, Priority: 1, Schedule: []byte("261123174100004+"), Validity: []byte("000002000000000R"),
			RegisteredDelivery: 1, ShortMessage: []byte("Hello"),
		}),
		sm("submit_sm_udh_tlvs", pdu.SubmitSM, 0x7FFFFFFF, pdu.SM{
			Source: from, Dest: to, ESMClass: 0x40, DataCoding: 8,
			ShortMessage: []byte("\x05\x00\x03\xA5\x02\x01\x00Z\x00a\x01\x7C\x00\xF3\x01\x42\x01\x07"), TLVs: tlvs,
		}),
		sm("submit_sm_payload", pdu.SubmitSM, 9, pdu.SM{
			Source: from, Dest: to,
			TLVs: pdu.AppendTLV(nil, pdu.TagMessagePayload, []byte("A message that is carried in message_payload")),
		}),
		sm("deliver_sm", pdu.DeliverSM, 3, pdu.SM{Source: to, Dest: address(2, 1, "60123"), DataCoding: 3, ShortMessage: []byte("STOP caf\xE9")}),
		sm("deliver_sm_receipt", pdu.DeliverSM, 4, pdu.SM{
			Source: to, Dest: address(5, 0, "Example"), ESMClass: 0x04,
			ShortMessage: []byte("id:0123456789 sub:001 dlvrd:001 submit date:2611231741 done date:2611231742 stat:DELIVRD err:000 text:Hello"), TLVs: receipted,
		}),
		resp("submit_sm_resp", pdu.SubmitSMResp, pdu.ROK, 0x0102, "0123456789abcdef"),
		header("submit_sm_resp_throttled", pdu.SubmitSMResp, pdu.RTHROTTLED, 7, ""),
		resp("submit_sm_resp_queue_full_nul", pdu.SubmitSMResp, pdu.RMSGQFUL, 8, ""),
		resp("deliver_sm_resp", pdu.DeliverSMResp, pdu.ROK, 3, ""),
		header("generic_nack", pdu.GenericNack, pdu.RINVCMDID, 5, nil),
		header("enquire_link", pdu.EnquireLink, pdu.ROK, 5, nil),
		header("enquire_link_resp", pdu.EnquireLinkResp, pdu.ROK, 5, nil),
		header("unbind", pdu.Unbind, pdu.ROK, 5, nil),
		header("unbind_resp", pdu.UnbindResp, pdu.ROK, 5, nil),
		header("cancel_sm_resp", pdu.CancelSMResp, pdu.RCANCELFAIL, 0x42, nil),
		header("replace_sm_resp", pdu.ReplaceSMResp, pdu.ROK, 0x51, nil),
		header("cancel_broadcast_sm_resp", pdu.CancelBroadcastSMResp, pdu.ROK, 0x64, nil),
	)
}

// decode reads p's body as its command_id says.
func decode(p pdu.PDU, id pdu.ID) (any, error) {
	switch id {
	case pdu.BindReceiver, pdu.BindTransmitter, pdu.BindTransceiver:
		var b pdu.Bind
		err := b.Decode(p)
		return &b, err
	case pdu.BindReceiverResp, pdu.BindTransmitterResp, pdu.BindTransceiverResp:
		var b pdu.BindResp
		err := b.Decode(p)
		return &b, err
	case pdu.SubmitSM, pdu.DeliverSM:
		var m pdu.SM
		err := m.Decode(p)
		return &m, err
	case pdu.SubmitSMResp, pdu.DeliverSMResp:
		return pdu.MessageID(p)
	}
	if v := operation(id); v != nil {
		return v, v.Decode(p)
	}
	return nil, nil
}

// equalEmpty takes nil and empty octets for equal: on the wire they are.
var equalEmpty = cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) })

func TestGolden(t *testing.T) {
	all := vectors()
	if got, want := len(all), len(goldens(t)); got != want {
		t.Errorf("%d vectors for %d golden files", got, want)
	}
	for _, v := range all {
		t.Run(v.name, func(t *testing.T) {
			p := golden(t, v.name)
			if n, err := pdu.Frame(p, pdu.DefaultMaxLen); n != len(p) || err != nil {
				t.Fatalf("Frame = %d, %v, want %d", n, err, len(p))
			}
			if p.Len() != uint32(len(p)) || p.ID() != v.id || p.Status() != v.status || p.Seq() != v.seq {
				t.Errorf("header = %d %v %v %d, want %d %v %v %d", p.Len(), p.ID(), p.Status(), p.Seq(), len(p), v.id, v.status, v.seq)
			}
			got, err := decode(p, v.id)
			if err != nil {
				t.Fatalf("decode: %v", err)
			}
			if diff := cmp.Diff(v.value, got, equalEmpty); diff != "" {
				t.Errorf("decode (-want +got):\n%s", diff)
			}
			if b := v.build(v.id, v.status, v.seq); !bytes.Equal(b, p) {
				t.Errorf("build:\n got % X\nwant % X", b, []byte(p))
			}
		})
	}
}

// TestGoldenAppends checks that builders append: what stood in dst stays, and
// command_length counts the PDU alone.
func TestGoldenAppends(t *testing.T) {
	var m pdu.SM
	p := golden(t, "submit_sm")
	if err := m.Decode(p); err != nil {
		t.Fatal(err)
	}
	got := pdu.AppendSM([]byte("before"), p.ID(), p.Seq(), &m)
	if want := append([]byte("before"), p...); !bytes.Equal(got, want) {
		t.Errorf("AppendSM behind octets:\n got % X\nwant % X", got, want)
	}
}

// whole are the lengths at which a cut PDU is whole again: where its mandatory
// part or one of its optional parameters ends, since what it lacks is optional.
func whole(p pdu.PDU, id pdu.ID) map[int]bool {
	at := map[int]bool{len(p): true}
	tlvs := func(start int) {
		for at[start] = true; start+4 <= len(p); at[start] = true {
			start += 4 + int(p[start+2])<<8 + int(p[start+3])
		}
	}
	switch id {
	case pdu.SubmitSM, pdu.DeliverSM:
		var m pdu.SM
		if m.Decode(p) == nil {
			tlvs(len(p) - len(m.TLVs))
		}
	case pdu.BindReceiverResp, pdu.BindTransmitterResp, pdu.BindTransceiverResp:
		at[pdu.HeaderLen] = true // an error response without a body
		if nul := bytes.IndexByte(p.Body(), 0); nul >= 0 {
			tlvs(pdu.HeaderLen + nul + 1)
		}
	case pdu.SubmitSMResp, pdu.DeliverSMResp:
		at[pdu.HeaderLen] = true
	}
	v := operation(id)
	if v == nil || v.Decode(p) != nil {
		return at
	}
	tlvs(len(p) - len(tlvsOf(v)))
	switch v.(type) {
	case *pdu.MessageResp:
		at[pdu.HeaderLen] = true
	case *pdu.MultiResp:
		if nul := bytes.IndexByte(p.Body(), 0); nul >= 0 {
			at[pdu.HeaderLen+nul+1] = true // no_unsuccess left out
		}
	}
	return at
}

// TestTruncation cuts every golden PDU at every octet: a decoder fails with the
// name and the place of a field, and Frame waits for more.
func TestTruncation(t *testing.T) {
	cuts := 0
	for _, v := range vectors() {
		p := golden(t, v.name)
		ok := whole(p, v.id)
		for n := range len(p) {
			cut := bytes.Clone(p[:n:n])
			if got, err := pdu.Frame(cut, pdu.DefaultMaxLen); got != 0 || err != nil {
				t.Errorf("%s cut to %d octets: Frame = %d, %v, want 0", v.name, n, got, err)
			}
			if v.value == nil {
				continue
			}
			cuts++
			_, err := decode(cut, v.id)
			var field *pdu.FieldError
			switch {
			case ok[n]:
				if err != nil {
					t.Errorf("%s cut to %d octets, which is whole: %v", v.name, n, err)
				}
			case !errors.As(err, &field):
				t.Errorf("%s cut to %d octets: error %v, want a FieldError", v.name, n, err)
			case field.Field == "" || field.Cause == "" || field.At < pdu.HeaderLen || field.At > max(n, pdu.HeaderLen):
				t.Errorf("%s cut to %d octets: %+v names no place in it", v.name, n, field)
			case !strings.Contains(err.Error(), field.Field):
				t.Errorf("%s cut to %d octets: error %q does not say %q", v.name, n, err, field.Field)
			}
		}
	}
	if cuts < 2000 {
		t.Errorf("only %d cuts were tried", cuts)
	}
}
