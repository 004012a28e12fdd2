package coding

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shunt/smpp/pdu"
)

func TestReadSegment(t *testing.T) {
	for _, tt := range []struct {
		name      string
		esmClass  byte
		message   string
		tlvs      string
		want      Segment
		wantOther string // information elements but for concatenation
	}{
		{"whole", 0, "48 69", "", Segment{Body: []byte("Hi")}, ""},
		{"empty", 0, "", "", Segment{}, ""},
		{"UDH without the indicator is text", 0, "05 00 03 2a 02 01", "", Segment{Body: []byte("\x05\x00\x03\x2a\x02\x01")}, ""},
		{
			"8-bit reference", 0x43, "05 00 03 2a 02 01 48 69", "",
			Segment{UDH8, Part{Reference: 0x2A, Total: 2, Number: 1}, []byte("\x05\x00\x03\x2a\x02\x01"), []byte("Hi")},
			"",
		},
		{
			"16-bit reference and a language", 0x40, "09 24 01 01 08 04 12 34 03 02 48", "0204 0002 0001",
			Segment{UDH16, Part{Reference: 0x1234, Wide: true, Total: 3, Number: 2}, []byte("\x09\x24\x01\x01\x08\x04\x12\x34\x03\x02"), []byte("H")},
			"24 01 01",
		},
		{
			"an unsound concatenation is ignored (3GPP TS 23.040 §9.2.3.24.1)", 0x40, "05 00 03 2a 02 03 48", "",
			Segment{Header: []byte("\x05\x00\x03\x2a\x02\x03"), Body: []byte("H")},
			"",
		},
		{
			"sar_*", 0, "48 69", "020c 0002 0102 020e 0001 ff 020f 0001 ff",
			Segment{SAR, Part{Reference: 0x0102, Wide: true, Total: 255, Number: 255}, nil, []byte("Hi")},
			"",
		},
		{
			"sar_* in another order, one twice, beside ports", 0x40, "06 05 04 0b 84 23 f0 48", "020f 0001 01 020e 0001 02 020c 0002 0007 020e 0001 02",
			Segment{SAR, Part{Reference: 7, Wide: true, Total: 2, Number: 1}, []byte("\x06\x05\x04\x0b\x84\x23\xf0"), []byte("H")},
			"05 04 0b 84 23 f0",
		},
	} {
		message, tlvs := octets(t, tt.message), pdu.TLVs(octets(t, tt.tlvs))
		got, err := ReadSegment(tt.esmClass, message, tlvs)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if d := cmp.Diff(tt.want, got, cmp.Transformer("text", func(b []byte) string { return string(b) })); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
		if b := got.Append([]byte("x")); !bytes.Equal(b[1:], message) {
			t.Errorf("%s: Append = %x, want %x", tt.name, b[1:], message)
		}
		if e, err := got.Elements(); err != nil || !bytes.Equal(e, octets(t, tt.wantOther)) {
			t.Errorf("%s: Elements = %x, %v, want %s", tt.name, e, err, tt.wantOther)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = ReadSegment(tt.esmClass, message, tlvs) }); n != 0 {
			t.Errorf("%s: ReadSegment allocates %v times, want 0", tt.name, n)
		}
	}
}

func TestReadSegmentErrors(t *testing.T) {
	for _, tt := range []struct {
		esmClass            byte
		message, tlvs, want string
	}{
		{0x40, "", "", "user data header: no octet for its length"},
		{0x40, "05 00 03 2a 02", "", "user data header: length 5, but only 4 octets follow"},
		{0x40, "05 00 03 2a 02 01", "020c 0002 002a 020e 0001 02 020f 0001 01", "both a user data header and sar_* number the part"},
		{0, "", "020c 0001 2a 020e 0001 02 020f 0001 01", "sar_msg_ref_num: length 1, want 2"},
		{0, "", "020c 0002 002a 020e 0000 020f 0001 01", "sar_total_segments: length 0, want 1"},
		{0, "", "020c 0002 002a 020e 0001 02 020f 0002 0001", "sar_segment_seqnum: length 2, want 1"},
		{0, "", "020e 0001 02 020f 0001 01", "sar_msg_ref_num is missing beside other sar_* parameters"},
		{0, "", "020c 0002 002a 020f 0001 01", "sar_total_segments is missing beside other sar_* parameters"},
		{0, "", "020c 0002 002a 020e 0001 02", "sar_segment_seqnum is missing beside other sar_* parameters"},
		{0, "", "020c 0002 002a 020e 0001 02 020f 0001 00", "sar_segment_seqnum: 0 of 2"},
		{0, "", "020c 0002 002a 020e 0001 02 020f 0001 03", "sar_segment_seqnum: 3 of 2"},
		{0, "", "020c 0002 002a 020e 0001 02 020f 0001 01 020f 0001 02", "sar_segment_seqnum: there twice with different values"},
		{0, "", "020c 0002 002a 020c 0002 002b 020e 0001 02 020f 0001 01", "sar_msg_ref_num: there twice with different values"},
	} {
		got, err := ReadSegment(tt.esmClass, octets(t, tt.message), octets(t, tt.tlvs))
		if err == nil || err.Error() != tt.want || got.Form != Whole || got.Body != nil {
			t.Errorf("ReadSegment(%#02x, %s, %s) = %+v, %v, want %q", tt.esmClass, tt.message, tt.tlvs, got, err, tt.want)
		}
	}
}

// TestSARTwiceZero: a repeated parameter is judged even if its value is zero.
func TestSARTwiceZero(t *testing.T) {
	_, _, err := ReadSAR(octets(t, "020c 0002 0000 020c 0002 0000 020e 0001 01 020f 0001 01"))
	if err != nil {
		t.Errorf("the same reference 0 twice: %v", err)
	}
	if _, _, err = ReadSAR(octets(t, "020c 0002 0000 020c 0002 0001 020e 0001 01 020f 0001 01")); err == nil {
		t.Error("references 0 and 1: no error")
	}
}

func TestAppendSAR(t *testing.T) {
	p := Part{Reference: 0x0102, Wide: true, Total: 3, Number: 2}
	b := AppendSAR(nil, p)
	if want := octets(t, "020c 0002 0102 020e 0001 03 020f 0001 02"); !bytes.Equal(b, want) {
		t.Errorf("AppendSAR = %x, want %x", b, want)
	}
	if got, ok, err := ReadSAR(b); got != p || !ok || err != nil {
		t.Errorf("ReadSAR(%x) = %+v, %t, %v, want %+v", b, got, ok, err, p)
	}
}

// wire writes a segment as a PDU has it.
func wire(s Segment) (esmClass byte, message []byte, tlvs pdu.TLVs) {
	if len(s.Header) != 0 {
		esmClass = esmUDHI
	}
	if s.Form == SAR {
		tlvs = AppendSAR(nil, s.Part)
	}
	return esmClass, s.Append(nil), tlvs
}

func TestTo(t *testing.T) {
	for _, tt := range []struct {
		name         string
		a            Alphabet
		message, sar string // the same part, in short_message with a header and with sar_*
		form         Form   // of the former
	}{
		{"8-bit", GSM7, "05 00 03 2a 02 01 48 69", "48 69", UDH8},
		{"16-bit", UCS2, "06 08 04 12 34 02 02 04 1f", "04 1f", UDH16},
		{"a language", GSM7, "08 00 03 2a 02 01 24 01 01 1b 53", "03 24 01 01 1b 53", UDH8},
		{"packed", GSM7Packed, "05 00 03 2a 02 02 90 65 36 fb 0d", "c8 32 9b fd 06", UDH8},
	} {
		s, err := ReadSegment(esmUDHI, octets(t, tt.message), nil)
		if err != nil {
			t.Fatal(err)
		}
		asSAR, err := s.To(SAR, tt.a)
		if err != nil || !bytes.Equal(asSAR.Append(nil), octets(t, tt.sar)) || asSAR.Part.Number != s.Part.Number {
			t.Errorf("%s: to sar = %x, %+v, %v, want %s", tt.name, asSAR.Append(nil), asSAR.Part, err, tt.sar)
		}
		back, err := asSAR.To(tt.form, tt.a)
		if d := cmp.Diff(s, back); err != nil || d != "" {
			t.Errorf("%s: back from sar: %v (-want +got):\n%s", tt.name, err, d)
		}
	}
}

// TestToReorders: an element that came before the concatenation comes after
// it, with the same meaning.
func TestToReorders(t *testing.T) {
	s, err := ReadSegment(esmUDHI, octets(t, "08 24 01 01 00 03 2a 02 01 1b 53"), nil)
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.To(UDH16, GSM7)
	if want := octets(t, "09 08 04 00 2a 02 01 24 01 01 1b 53"); err != nil || !bytes.Equal(w.Append(nil), want) {
		t.Errorf("To(udh16) = %x, %v, want %x", w.Append(nil), err, want)
	}
}

func TestToErrors(t *testing.T) {
	part := Part{Reference: 0x100, Wide: true, Total: 2, Number: 1}
	for _, tt := range []struct {
		s    Segment
		f    Form
		a    Alphabet
		want string
	}{
		{Segment{Body: []byte("a")}, UDH8, GSM7, "one segment cannot turn from whole into udh8"},
		{Segment{Form: SAR, Part: part}, Whole, GSM7, "one segment cannot turn from sar into whole"},
		{Segment{Form: SAR, Part: part}, 9, GSM7, "one segment cannot turn from sar into form(9)"},
		{Segment{Form: SAR, Part: part}, UDH8, GSM7, "reference 256 needs more than the 8 bits of udh8"},
		{
			Segment{Form: SAR, Part: part, Body: make([]byte, 153)},
			UDH16, GSM7,
			"part 1 of 2 has 153 octets of gsm7 text, and a header leaves room for 152",
		},
		{
			Segment{Form: SAR, Part: part, Body: make([]byte, 134)},
			UDH16, UCS2,
			"part 1 of 2 has 134 octets of ucs2 text, and a header leaves room for 132",
		},
		{
			Segment{Form: SAR, Part: part, Header: append([]byte{138, 0x70, 136}, make([]byte, 136)...)},
			UDH16, GSM7,
			"user data header: 145 octets, at most 140",
		},
		{Segment{Form: SAR, Part: part, Header: []byte{1, 0}}, UDH16, GSM7, "user data header: element at offset 1 has no length"},
		{Segment{Form: SAR, Part: part, Header: []byte{0, 0}}, UDH16, GSM7, "user data header: length 0, but 1 octets"},
		{Segment{Form: UDH16, Part: Part{Total: 2, Number: 1}, Header: []byte{6, 8, 4, 0, 0, 2, 1}, Body: []byte{0x80, 0x80}}, UDH8, GSM7Packed, "gsm7-packed: padding in the octet at offset 1 is not zero"},
	} {
		if got, err := tt.s.To(tt.f, tt.a); err == nil || err.Error() != tt.want {
			t.Errorf("%+v To(%v, %v) = %+v, %v, want %q", tt.s, tt.f, tt.a, got, err, tt.want)
		}
	}
}

// TestToThereAndBack: any part that Cut made turns into every other form and
// back to the same octets, read from PDUs in between.
func TestToThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, text := cuts(t)
		parts, err := c.Text(text)
		if err != nil || len(parts) < 2 {
			return
		}
		s := parts[rapid.IntRange(0, len(parts)-1).Draw(t, "part")]
		for _, f := range []Form{UDH8, UDH16, SAR} {
			other, err := s.To(f, c.Alphabet)
			if err != nil {
				if !strings.Contains(err.Error(), "leaves room") && !strings.Contains(err.Error(), "8 bits") && err != ErrPadding {
					t.Errorf("To(%v): %v", f, err)
				}
				continue
			}
			read, err := ReadSegment(wire(other))
			if d := cmp.Diff(other, read); err != nil || d != "" {
				t.Fatalf("To(%v) reads as %v (-want +got):\n%s", f, err, d)
			}
			back, err := read.To(s.Form, c.Alphabet)
			if d := cmp.Diff(s, back); err != nil || d != "" {
				t.Errorf("%v to %v and back: %v (-want +got):\n%s", s.Form, f, err, d)
			}
		}
	})
}

func TestAppendTextAllocations(t *testing.T) {
	dst := make([]byte, 0, 1024)
	for _, c := range []Cut{
		{Alphabet: GSM7, Form: UDH8},
		{Alphabet: GSM7, Form: UDH16, Elements: Shift{Single: Turkish}.Elements()},
		{Alphabet: GSM7Packed, Form: UDH8, Elements: Shift{Locking: Turkish}.Elements()},
		{Alphabet: UCS2, Form: UDH8},
	} {
		parts, err := c.Text(strings.Repeat("0123456789", 40))
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = parts[0].AppendText(dst, c.Alphabet) }); n != 0 {
			t.Errorf("AppendText of %+v allocates %v times, want 0", c, n)
		}
	}
}

func TestFormString(t *testing.T) {
	var got []string
	for f := range numForms + 1 {
		got = append(got, f.String())
	}
	if d := cmp.Diff([]string{"whole", "udh8", "udh16", "sar", "form(4)"}, got); d != "" {
		t.Errorf("forms (-want +got):\n%s", d)
	}
}

func FuzzReadSegment(f *testing.F) {
	f.Add(byte(0x40), []byte{5, 0, 3, 42, 2, 1, 'A'}, []byte{})
	f.Add(byte(0), []byte("A"), AppendSAR(nil, Part{Reference: 1, Total: 2, Number: 1}))
	f.Fuzz(func(t *testing.T, esmClass byte, message, tlvs []byte) {
		s, err := ReadSegment(esmClass, message, tlvs)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Append(nil), message) {
			t.Errorf("ReadSegment(%x).Append = %x", message, s.Append(nil))
		}
		if (s.Form == Whole) != (s.Part == Part{}) || s.Form != Whole && (s.Part.Number == 0 || s.Part.Number > s.Part.Total) {
			t.Errorf("ReadSegment(%x, %x) = %+v", message, tlvs, s)
		}
		other, err := s.To(SAR, GSM7)
		if err != nil || s.Form == SAR {
			return
		}
		again, err := ReadSegment(wire(other))
		if err != nil || again.Part != other.Part || !bytes.Equal(again.Body, s.Body) {
			t.Errorf("%+v as sar reads as %+v, %v", other, again, err)
		}
	})
}
