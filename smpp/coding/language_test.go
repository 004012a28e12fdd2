package coding

import (
	"bytes"
	"testing"
	"unicode/utf8"

	"github.com/warthog618/sms/encoding/gsm7"
	"github.com/warthog618/sms/encoding/gsm7/charset"
	"pgregory.net/rapid"
)

// misprints are the characters in which the tables of warthog618/sms v0.3.0
// differ from 3GPP TS 23.038 annex A: the Hindi locking table begins with
// three signs of Bengali's, and the Portuguese single shift table has a gap.
var misprints = map[[3]int]rune{
	{0, int(Hindi), 0x00}:      '\u0901',
	{0, int(Hindi), 0x01}:      '\u0902',
	{0, int(Hindi), 0x02}:      '\u0903',
	{1, int(Portuguese), 0x1F}: 'Ê',
}

// TestLanguageTables compares every code of every language with
// warthog618/sms, which keeps the tables of 3GPP TS 23.038 annex A
// independently.
func TestLanguageTables(t *testing.T) {
	for l := Turkish; l < numLanguages; l++ {
		for kind, table := range []*[128]rune{lockingTables[l], singleTables[l]} {
			if table == nil {
				if l != Spanish || kind != 0 {
					t.Errorf("%s has no table of kind %d", l, kind)
				}
				continue
			}
			theirs := charset.NewDecoder(int(l))
			if kind == 1 {
				theirs = charset.NewExtDecoder(int(l))
			}
			for c, got := range table {
				want := theirs[byte(c)]
				if r, ok := misprints[[3]int{kind, int(l), c}]; ok {
					if want == r {
						t.Errorf("the library has %U in %s now: drop the misprint", r, l)
					}
					want = r
				}
				switch {
				case c == escape:
					want = ' '
				case kind == 1 && c == 0x0D: // kept for a control: it is the main table's CR
					want = 0
				}
				if got != want {
					t.Errorf("%s, kind %d, code %#02x: %U, want %U", l, kind, c, got, want)
				}
			}
		}
	}
}

// TestShiftText decodes texts whose user data header names a language.
func TestShiftText(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"03 24 01 01 53 1b 53 1b 73 1b 69 1b 65", "SŞşı€"},                                        // Turkish single shift
		{"03 25 01 01 04 07 40 0b 1b 3c", "€ıİĞ["},                                                 // Turkish locking, default extension
		{"06 24 01 02 25 01 03 12 1b 61 1b 12", "ªáª"},                                             // Spanish single over Portuguese locking
		{"06 25 01 03 24 01 03 12 1b 61 1b 12 1b 1f", "ªÂΦÊ"},                                      // Portuguese in both
		{"06 25 01 06 24 01 06 00 01 02 15 1b 1c 1b 41 1b 1b", "\u0901\u0902\u0903\u0915\u0966A "}, // Hindi in both
		{"06 24 01 01 24 01 02 1b 61", "á"},                                                        // the last one counts
		{"03 24 01 01 1b 41", "A"},                                                                 // a gap: the main table's
		{"03 25 01 0d 1b 0d 0a 00", "\r\nا"},
		{"03 24 01 00 1b 65", "€"},
		{"00 41", "A"},
		{"02 70 00 41", "A"},
	} {
		s, err := ReadSegment(esmUDHI, octets(t, tt.in), nil)
		if err != nil {
			t.Errorf("ReadSegment(%s): %v", tt.in, err)
			continue
		}
		if got, err := s.Text(GSM7); got != tt.want || err != nil {
			t.Errorf("Text of %s = %q, %v, want %q", tt.in, got, err, tt.want)
		}
	}
}

func TestShiftTextErrors(t *testing.T) {
	for in, want := range map[string]string{
		"03 25 01 02 41":       "national language locking shift 0x02 has no table",
		"03 25 01 0e 41":       "national language locking shift 0x0e has no table",
		"03 24 01 ff 41":       "national language single shift 0xff has no table",
		"04 24 02 01 01 41":    "user data header: national language element 0x24 has length 2, want 1",
		"02 25 00 41":          "user data header: national language element 0x25 has length 0, want 1",
		"03 25 01 04 0c":       "gsm7: code 0x0c at offset 0 has no character with locking shift bengali and single shift default",
		"03 25 01 04 41 1b 45": "gsm7: code 0x45 at offset 2 has no character with locking shift bengali and single shift default",
		"03 24 01 01 41 1b":    "gsm7: escape at offset 1 has nothing to escape",
	} {
		s, err := ReadSegment(esmUDHI, octets(t, in), nil)
		if err != nil {
			t.Errorf("ReadSegment(%s): %v", in, err)
			continue
		}
		if got, err := s.Text(GSM7); err == nil || err.Error() != want || got != "" {
			t.Errorf("Text of %s = %q, %v, want %q", in, got, err, want)
		}
		if dst, err := s.AppendText([]byte("kept"), GSM7); err == nil || string(dst) != "kept" {
			t.Errorf("AppendText(kept) of %s = %q, %v, want dst as it was", in, dst, err)
		}
	}
	for _, in := range []string{"", "05 24 01"} {
		if h, err := ShiftOf(octets(t, in)); err == nil || h != (Shift{}) {
			t.Errorf("ShiftOf(%s) = %v, %v, want an error", in, h, err)
		}
	}
}

func TestLanguageString(t *testing.T) {
	h := Shift{Locking: Urdu, Single: 14}
	if got, want := h.String(), "locking shift urdu and single shift language(14)"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	for l := range numLanguages {
		if l.String() == "" {
			t.Errorf("language %d has no name", l)
		}
	}
}

// shifts draws any pair of tables that exists.
func shifts(t *rapid.T) Shift {
	h := Shift{Single: Language(rapid.IntRange(0, int(Urdu)).Draw(t, "single"))}
	h.Locking = Language(rapid.IntRange(0, int(Urdu)).Filter(func(l int) bool { return l != int(Spanish) }).Draw(t, "locking"))
	return h
}

// inShift are the characters of a pair of tables.
func inShift(h Shift) []rune {
	var all []rune
	for _, table := range []*[128]rune{lockingTables[h.Locking], singleTables[h.Single]} {
		for c, r := range table {
			if r != 0 && c != escape {
				all = append(all, r)
			}
		}
	}
	return all
}

// TestShiftAgainstLibrary: text in any pair of tables becomes the octets that
// warthog618/sms makes of it and comes back, its misprints apart.
func TestShiftAgainstLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := shifts(t)
		s := rapid.StringOf(rapid.SampledFrom(inShift(h))).Draw(t, "text")
		b, err := encode(GSM7, s, h)
		if err != nil {
			t.Fatalf("encode(%q, %v): %v", s, h, err)
		}
		head, err := header(Whole, Part{}, h.Elements())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := (Segment{Header: head, Body: b}).Text(GSM7); got != s || err != nil {
			t.Errorf("Text of %x %x = %q, %v, want %q", head, b, got, err, s)
		}
		if h.Locking == Hindi || h.Single == Portuguese {
			return // misprints; TestLanguageTables compares the rest of them
		}
		set, ext := gsm7.WithCharset(int(h.Locking)), gsm7.WithExtCharset(int(h.Single))
		theirs, err := gsm7.Encode([]byte(s), set, ext)
		if err != nil || !bytes.Equal(b, theirs) {
			t.Errorf("encode(%q, %v) = %x, want %x, %v", s, h, b, theirs, err)
		}
		if back, err := gsm7.Decode(b, set, ext); err != nil || string(back) != s {
			t.Errorf("the library reads %x, %v, as %q, %v, want %q", b, h, back, err, s)
		}
	})
}

func FuzzShiftText(f *testing.F) {
	f.Add([]byte{3, 0x24, 1, 1, 0x1B, 0x53}, false)
	f.Add([]byte{6, 0x24, 1, 6, 0x25, 1, 6, 0x00}, true)
	f.Fuzz(func(t *testing.T, b []byte, packed bool) {
		a := GSM7
		if packed {
			a = GSM7Packed
		}
		s, err := ReadSegment(esmUDHI, b, nil)
		if err != nil {
			return
		}
		text, err := s.Text(a)
		if err != nil {
			return
		}
		if !utf8.ValidString(text) {
			t.Fatalf("Text of %x = %q, which is no UTF-8", b, text)
		}
		h, err := ShiftOf(s.Header)
		if err != nil {
			t.Fatalf("ShiftOf(%x): %v after its text was read", b, err)
		}
		again, err := units(a, text, h)
		if err != nil {
			t.Fatalf("units(%q, %v) of what Text gave: %v", text, h, err)
		}
		if back, err := appendGSM7(nil, again, h); string(back) != text || err != nil {
			t.Errorf("text %q comes back as %q, %v", text, back, err)
		}
	})
}
