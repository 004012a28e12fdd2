package smpp

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"shunt/smpp/pdu"
)

func minute(mi int) time.Time { return time.Date(2026, 11, 23, 17, mi, 0, 0, time.UTC) }

// TestTrap02ReceiptShapes: receipts as vendors write them. The comments say
// what is unlike Appendix B.
func TestTrap02ReceiptShapes(t *testing.T) {
	tlvs := func(id string, state ...byte) pdu.TLVs {
		var b []byte
		if id != "" {
			b = pdu.AppendTLV(b, pdu.TagReceiptedMessageID, []byte(id))
		}
		if len(state) > 0 {
			b = pdu.AppendTLV(b, pdu.TagMessageState, state)
		}
		return b
	}
	full := Receipt{ID: "0123456789", State: StateDelivered, Submit: minute(41), Done: minute(42), Err: "000"}
	with := func(change func(*Receipt)) Receipt {
		r := full
		change(&r)
		return r
	}
	seconds := with(func(r *Receipt) { r.Submit, r.Done = r.Submit.Add(5*time.Second), r.Done.Add(59*time.Second) })
	for _, c := range []struct {
		name, text string
		tlvs       pdu.TLVs
		want       Receipt
	}{
		{"as in Appendix B", "id:0123456789 sub:001 dlvrd:001 submit date:2611231741 done date:2611231742 stat:DELIVRD err:000 text:Hello", nil, full},
		{"Text: with a capital", "id:0123456789 sub:001 dlvrd:001 submit date:2611231741 done date:2611231742 stat:DELIVRD err:000 Text:Hello", nil, full},
		{"no sub and dlvrd", "id:0123456789 submit date:2611231741 done date:2611231742 stat:DELIVRD err:000 text:", nil, full},
		{"no text", "id:0123456789 sub:001 dlvrd:001 submit date:2611231741 done date:2611231742 stat:DELIVRD err:000", nil, full},
		{"seconds", "id:0123456789 sub:001 dlvrd:001 submit date:261123174105 done date:261123174259 stat:DELIVRD err:000 text:", nil, seconds},
		{"four-digit year and seconds", "id:0123456789 sub:001 dlvrd:001 submit date:20261123174105 done date:20261123174259 stat:DELIVRD err:000 text:", nil, seconds},
		{"four-digit year", "id:0123456789 submit date:202611231741 done date:202611231742 stat:DELIVRD err:000", nil, full},
		{"other order", "stat:DELIVRD err:000 id:0123456789 done date:2611231742 submit date:2611231741", nil, full},
		{"text first", "text:Hello id:0123456789 submit date:2611231741 done date:2611231742 stat:DELIVRD err:000", nil, full},
		{"capitals", "ID:0123456789 SUB:001 DLVRD:001 SUBMIT DATE:2611231741 DONE DATE:2611231742 STAT:DELIVRD ERR:000 TEXT:", nil, full},
		{"small letters", "id:0123456789 submit date:2611231741 done date:2611231742 stat:delivrd err:000", nil, full},
		{"spaces behind colons", "id: 0123456789 sub: 001 dlvrd: 001 submit date: 2611231741 done date: 2611231742 stat: DELIVRD err: 000 text: Hello", nil, full},
		{"lines", "id:0123456789\nsub:001\ndlvrd:001\nsubmit date:2611231741\ndone date:2611231742\nstat:DELIVRD\nerr:000\ntext:Hello", nil, full},
		{"lines with returns", "id:0123456789\r\nsubmit date:2611231741\r\ndone date:2611231742\r\nstat:DELIVRD\r\nerr:000\r\n", nil, full},
		{"a NUL at the end", "id:0123456789 submit date:2611231741 done date:2611231742 stat:DELIVRD err:000\x00", nil, full},
		{"the whole word", "id:0123456789 submit date:2611231741 done date:2611231742 stat:DELIVERED err:000", nil, full},
		{"two spaces", "id:0123456789  sub:001  submit date:2611231741  done date:2611231742  stat:DELIVRD  err:000", nil, full},
		{"a four-digit err", "id:0123456789 submit date:2611231741 done date:2611231742 stat:DELIVRD err:0000", nil, with(func(r *Receipt) { r.Err = "0000" })},
		{"no err", "id:0123456789 submit date:2611231741 done date:2611231742 stat:DELIVRD", nil, with(func(r *Receipt) { r.Err = "" })},
		{
			"a hex err", "id:0123456789 submit date:2611231741 done date:2611231742 stat:UNDELIV err:1F", nil,
			with(func(r *Receipt) { r.Err, r.State = "1F", StateUndeliverable }),
		},
		{
			"dates that are none", "id:0123456789 submit date:0 done date:269999999999 stat:DELIVRD err:000", nil,
			with(func(r *Receipt) { r.Submit, r.Done = time.Time{}, time.Time{} }),
		},
		{
			"a UUID", "id:5F1c2a3e-6b1d-4c53-9d0e-0a2b3c4d5e6f stat:EXPIRED err:027", nil,
			Receipt{ID: "5F1c2a3e-6b1d-4c53-9d0e-0a2b3c4d5e6f", State: StateExpired, Err: "027"},
		},
		{"only id and stat", "id:7 stat:REJECTD", nil, Receipt{ID: "7", State: StateRejected}},
		{"a vendor's key before", "IMSI:234150000000001 MSC:447785016005 id:7 stat:ACCEPTED err:000", nil, Receipt{ID: "7", State: StateAccepted, Err: "000"}},
		{"a key that ends in id:", "msgid:9 id:7 stat:UNKNOWN err:001", nil, Receipt{ID: "7", State: StateUnknown, Err: "001"}},
		{"keys in the subscriber's text", "id:7 stat:UNDELIVERABLE text:err:9 id:8 stat:DELIVRD", nil, Receipt{ID: "7", State: StateUndeliverable}},
		{"a stat of no list", "id:7 stat:WHATEVER err:001", nil, Receipt{ID: "7", State: StateUnknown, Err: "001"}},
		{"a stat that is cut", "id:7 stat:UNDEL err:001", nil, Receipt{ID: "7", State: StateUndeliverable, Err: "001"}},
		{"TLVs alone", "", tlvs("abc\x00", 2), Receipt{ID: "abc", State: StateDelivered}},
		{"TLVs alone, no NUL", "", tlvs("abc", 5), Receipt{ID: "abc", State: StateUndeliverable}},
		{
			"TLVs beat text", "id:0123456789 submit date:2611231741 done date:2611231742 stat:DELIVRD err:000", tlvs("75BCD15\x00", 3),
			with(func(r *Receipt) { r.ID, r.State = "75BCD15", StateExpired }),
		},
		{"an empty id TLV", "id:0123456789 submit date:2611231741 done date:2611231742 stat:DELIVRD err:000", tlvs("\x00"), full},
		{"a state TLV out of range", "id:7 stat:DELIVRD", tlvs("", 99), Receipt{ID: "7", State: StateDelivered}},
		{"a state TLV of two octets", "id:7 stat:DELIVRD", tlvs("", 0, 5), Receipt{ID: "7", State: StateDelivered}},
		{"Latin-1 in the text", "id:7 stat:DELIVRD err:000 text:caf\xE9 \xFF\xFE", nil, Receipt{ID: "7", State: StateDelivered, Err: "000"}},
	} {
		m := pdu.SM{ESMClass: ESMReceipt, ShortMessage: []byte(c.text), TLVs: c.tlvs}
		got, ok := ParseReceipt(&m)
		if diff := cmp.Diff(c.want, got); !ok || diff != "" {
			t.Errorf("%s: ParseReceipt(%q) ok %v (-want +got):\n%s", c.name, c.text, ok, diff)
		}
		if c.text == "" {
			continue
		}
		inPayload := pdu.SM{ESMClass: ESMReceipt, TLVs: pdu.AppendTLV(bytes.Clone(c.tlvs), pdu.TagMessagePayload, []byte(c.text))}
		if got, ok := ParseReceipt(&inPayload); !ok || !cmp.Equal(got, c.want) {
			t.Errorf("%s: in message_payload: %+v, %v, want %+v", c.name, got, ok, c.want)
		}
	}
	for _, text := range []string{"", "hello", "id:", "id: ", "id: stat:DELIVRD", "stat:DELIVRD err:000", "paid:7 stat:DELIVRD", "id"} {
		if got, ok := ParseReceipt(&pdu.SM{ShortMessage: []byte(text)}); ok {
			t.Errorf("ParseReceipt(%q) = %+v, want none", text, got)
		}
	}
}

// Every stat, as Appendix B cuts it and as a whole word.
func TestReceiptStats(t *testing.T) {
	for text, want := range map[string]MessageState{
		"ENROUTE": StateEnroute, "DELIVRD": StateDelivered, "EXPIRED": StateExpired, "DELETED": StateDeleted,
		"UNDELIV": StateUndeliverable, "ACCEPTD": StateAccepted, "UNKNOWN": StateUnknown, "REJECTD": StateRejected,
		"DELIVERED": StateDelivered, "UNDELIVERABLE": StateUndeliverable, "UNDELIVERED": StateUndeliverable,
		"ACCEPTED": StateAccepted, "REJECTED": StateRejected, "Delivered": StateDelivered,
	} {
		r, ok := ParseReceipt(&pdu.SM{ShortMessage: []byte("id:1 stat:" + text)})
		if !ok || r.State != want {
			t.Errorf("stat:%s = %d, %v, want %d", text, r.State, ok, want)
		}
	}
	final := map[MessageState]bool{0: false, StateEnroute: false, StateAccepted: false}
	for s := range MessageState(9) {
		want, listed := final[s]
		if s.Final() != (want || !listed) {
			t.Errorf("MessageState(%d).Final() = %v", s, s.Final())
		}
	}
}

// A receipt is known by esm_class bits 5 to 2, whatever its text looks like.
func TestIsReceipt(t *testing.T) {
	for class := range 256 {
		want := class>>2&0xF == 1
		if got := IsReceipt(&pdu.SM{ESMClass: byte(class), ShortMessage: []byte("id:1 stat:DELIVRD")}); got != want {
			t.Errorf("IsReceipt(esm_class 0x%02X) = %v", class, got)
		}
	}
}

func TestReceiptWriter(t *testing.T) {
	for _, c := range []struct {
		r    Receipt
		want string
	}{
		{
			Receipt{ID: "s01ARZ3NDEKTSV4RRFFQ69G5FAV", State: StateDelivered, Submit: minute(41), Done: minute(42), Text: []byte("Hello")},
			"id:s01ARZ3NDEKTSV4RRFFQ69G5FAV sub:001 dlvrd:001 submit date:2611231741 done date:2611231742 stat:DELIVRD err:000 text:Hello",
		},
		{
			Receipt{ID: "7", State: StateUndeliverable, Submit: minute(41), Done: minute(42), Err: "034", Text: []byte("twenty octets and more")},
			"id:7 sub:001 dlvrd:000 submit date:2611231741 done date:2611231742 stat:UNDELIV err:034 text:twenty octets and mo",
		},
		{
			Receipt{ID: "7", State: 0, Submit: minute(41).In(time.FixedZone("", 3600)), Done: minute(42)},
			"id:7 sub:001 dlvrd:000 submit date:2611231741 done date:2611231742 stat:UNKNOWN err:000 text:",
		},
	} {
		if got := string(c.r.AppendText(nil)); got != c.want {
			t.Errorf("AppendText(%+v)\n got %q\nwant %q", c.r, got, c.want)
		}
	}
	r := Receipt{ID: "s7", State: StateExpired}
	if got, want := r.AppendTLVs(nil), []byte("\x00\x1E\x00\x03s7\x00\x04\x27\x00\x01\x03"); !bytes.Equal(got, want) {
		t.Errorf("AppendTLVs = % X, want % X", got, want)
	}
	none := Receipt{ID: "s7"}
	if got, want := none.AppendTLVs(nil), []byte("\x00\x1E\x00\x03s7\x00\x04\x27\x00\x01\x07"); !bytes.Equal(got, want) {
		t.Errorf("AppendTLVs of no state = % X, want UNKNOWN as in the text: % X", got, want)
	}
}

// What the writer writes, the parser reads, with the TLVs and without.
func TestReceiptRoundTrip(t *testing.T) {
	for s := StateEnroute; s <= StateRejected; s++ {
		want := Receipt{ID: "s01ARZ3NDEKTSV4RRFFQ69G5FAV", State: s, Submit: minute(1), Done: minute(2), Err: "042", Text: []byte("id:9 stat:DELIVRD")}
		m := pdu.SM{ShortMessage: want.AppendText(nil)}
		want.Text = nil
		for range 2 {
			if got, ok := ParseReceipt(&m); !ok || !cmp.Equal(got, want) {
				t.Errorf("ParseReceipt(AppendText) = %+v, %v, want %+v", got, ok, want)
			}
			m.TLVs = want.AppendTLVs(nil)
		}
	}
}

func TestStatErr(t *testing.T) {
	for s := StateEnroute; s <= StateRejected; s++ {
		for _, e := range []string{"", "000", "034", "0000", "1F"} {
			text := StatErr(s, e)
			if gotS, gotE := SplitStatErr(text); gotS != s || gotE != e {
				t.Errorf("SplitStatErr(StatErr(%d, %q) = %q) = %d, %q", s, e, text, gotS, gotE)
			}
		}
	}
	for _, c := range []struct {
		s       MessageState
		err     string
		want    string
		state   MessageState
		restErr string
	}{
		{StateUndeliverable, "034", "UNDELIV 034", StateUndeliverable, "034"},
		{StateUndeliverable, " 0 34 ", "UNDELIV 034", StateUndeliverable, "034"},
		{0, "", "UNKNOWN", StateUnknown, ""},
		{200, "1", "UNKNOWN 1", StateUnknown, "1"},
	} {
		got := StatErr(c.s, c.err)
		s, e := SplitStatErr(got)
		if got != c.want || s != c.state || e != c.restErr {
			t.Errorf("StatErr(%d, %q) = %q, split %d, %q", c.s, c.err, got, s, e)
		}
	}
	for _, text := range []string{"", "delivrd 000", "WHATEVER 1", " 000"} {
		if s, _ := SplitStatErr(text); s != 0 {
			t.Errorf("SplitStatErr(%q) = %d, want 0", text, s)
		}
	}
}

// FuzzParseReceipt: no octets make the parser panic, and what it gives comes
// from the receipt.
func FuzzParseReceipt(f *testing.F) {
	f.Add([]byte("id:0123456789 sub:001 dlvrd:001 submit date:2611231741 done date:2611231742 stat:DELIVRD err:000 text:Hello"), []byte(nil))
	f.Add([]byte(strings.Repeat("\xE9", 200)+" id:5 stat:DELIVRD"), []byte("\x00\x1E\x00\x03s7\x00"))
	f.Fuzz(func(t *testing.T, text, tlvs []byte) {
		m := pdu.SM{ShortMessage: text, TLVs: tlvs}
		r, ok := ParseReceipt(&m)
		if ok != (r.ID != "") || r.State < StateEnroute || r.State > StateRejected {
			t.Errorf("ParseReceipt(%q) = %+v, %v", text, r, ok)
		}
		if !bytes.Contains(text, []byte(r.ID)) && !bytes.Contains(tlvs, []byte(r.ID)) || !bytes.Contains(text, []byte(r.Err)) {
			t.Errorf("ParseReceipt(%q, % X) = %+v", text, tlvs, r)
		}
	})
}

// Octets that are no UTF-8 stand before the keys: nothing moves.
func TestReceiptForeignAlphabet(t *testing.T) {
	text := strings.Repeat("\xE9", 200) + " id:5 stat:DELIVRD err:000"
	if utf8.ValidString(text) {
		t.Fatal("the text is UTF-8")
	}
	r, ok := ParseReceipt(&pdu.SM{ShortMessage: []byte(text)})
	if want := (Receipt{ID: "5", State: StateDelivered, Err: "000"}); !ok || !cmp.Equal(r, want) {
		t.Errorf("ParseReceipt = %+v, %v, want %+v", r, ok, want)
	}
}
