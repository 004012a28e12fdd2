package coding

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fiorix/go-smpp/smpp/pdu/pdutext"
	"github.com/warthog618/sms/encoding/gsm7"
	"github.com/warthog618/sms/encoding/gsm7/charset"
	"pgregory.net/rapid"
)

var alphabets = []Alphabet{GSM7, Latin1, ASCII, UCS2, CP1252, GSM7Packed}

// TestTrap04DataCoding goes through all 256 values (SMPP v3.4 §5.2.19) for every
// default alphabet.
func TestTrap04DataCoding(t *testing.T) {
	for _, dflt := range []Alphabet{Unsupported, GSM7, Latin1, ASCII, UCS2, CP1252, GSM7Packed, numAlphabets} {
		want := map[byte]Alphabet{0x01: ASCII, 0x03: Latin1, 0x08: UCS2}
		if dflt != Unsupported && dflt < numAlphabets {
			want[0x00] = dflt
		}
		if dflt == GSM7 {
			want[0xF1] = GSM7
		}
		if dflt == CP1252 {
			want[0x03] = CP1252
		}
		for dc := range 256 {
			a, ok := OfDataCoding(byte(dc), dflt)
			if w, text := want[byte(dc)]; ok != text || ok && a != w {
				t.Errorf("OfDataCoding(%#02x, %v) = %v, %t, want %v, %t", dc, dflt, a, ok, w, text)
			}
		}
	}
}

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		a       Alphabet
		in, out string
	}{
		// 3GPP TS 23.038 §6.2.1 and §6.2.1.1
		{GSM7, "", ""},
		{GSM7, "\x00\x01\x02\x03\x11\x20", "@£$¥_ "},
		{GSM7, "Price 5\x1b\x65 \x1b\x3c1\x1b\x3e \x1b\x28\x1b\x29\x1b\x2f\x1b\x3d\x1b\x40\x1b\x14", `Price 5€ [1] {}\~|^`},
		{GSM7, "a\x1b\x0ab", "a\fb"},
		{GSM7, "\x1bA\x1b\x00\x1b\x0d", "A@\r"}, // no such symbol: the basic table's
		{GSM7, "a\x1b\x1bb", "a b"},             // reserved for another table: a space
		{GSM7, "\x1b\x1b\x1b\x65", " €"},
		{Latin1, "caf\xe9 \xa3\xff", "café £ÿ"},
		{ASCII, "plain\x00\x7f", "plain\x00\x7f"},
		{UCS2, "\x04\x1f\x04\x40", "Пр"},
		{UCS2, "\xd8\x3d\xde\x00\x00!", "😀!"},
		{UCS2, "\xff\xfd\xfe\xff", "\ufffd\ufeff"},
		{CP1252, "\x80\x99\x9f \xe9\xff", "€™Ÿ éÿ"},
		// 3GPP TS 23.038 §6.1.2.1.1: eight septets in seven octets.
		{GSM7Packed, "\xe8\x32\x9b\xfd\x46\x97\xd9\xec\x37", "hellohello"},
		{GSM7Packed, "\xe8\x32\x9b\xfd\x46\x97\x01", "hellohe"}, // seven bits of padding, no @
		{GSM7Packed, "\x9b\x32", "€"},
		{GSM7Packed, "", ""},
	} {
		got, err := Decode(tt.a, []byte(tt.in))
		if got != tt.out || err != nil {
			t.Errorf("Decode(%v, %q) = %q, %v, want %q", tt.a, tt.in, got, err, tt.out)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	for _, tt := range []struct {
		a        Alphabet
		in, want string
	}{
		{GSM7, "ab\x80", "gsm7: octet 0x80 at offset 2 is above 0x7f"},
		{GSM7, "a\x1b\xff", "gsm7: octet 0xff at offset 2 is above 0x7f"},
		{GSM7, "a\x1b", "gsm7: escape at offset 1 has nothing to escape"},
		{GSM7, "\x1b\x1b\x1b", "gsm7: escape at offset 2 has nothing to escape"},
		{Latin1, "a\x80", "latin1: octet 0x80 at offset 1 is no printable character"},
		{Latin1, "\x9f", "latin1: octet 0x9f at offset 0 is no printable character"},
		{ASCII, "ab\xe9", "ascii: octet 0xe9 at offset 2 is above 0x7f"},
		{UCS2, "\x00a\x00", "ucs2: odd length of 3 octets, half a character at offset 2"},
		{UCS2, "\x00a\xd8\x3d", "ucs2: unpaired surrogate 0xd83d at offset 2"},
		{UCS2, "\xd8\x3d\x00a", "ucs2: unpaired surrogate 0xd83d at offset 0"},
		{UCS2, "\xd8\x3d\xd8\x3d\xde\x00", "ucs2: unpaired surrogate 0xd83d at offset 0"},
		{UCS2, "\xde\x00\xd8\x3d", "ucs2: unpaired surrogate 0xde00 at offset 0"},
		{CP1252, "a\x81", "cp1252: octet 0x81 at offset 1 is no character"},
		{GSM7Packed, "\x9b", "gsm7-packed: padding in the octet at offset 0 is not zero"},
		{GSM7Packed, "\x1b", "gsm7: escape at offset 0 has nothing to escape"},
		{Unsupported, "a", "alphabet unsupported cannot be decoded"},
		{9, "", "alphabet alphabet(9) cannot be decoded"},
	} {
		got, err := Decode(tt.a, []byte(tt.in))
		if err == nil || err.Error() != tt.want || got != "" {
			t.Errorf("Decode(%v, %q) = %q, %v, want %q", tt.a, tt.in, got, err, tt.want)
		}
		dst, err := AppendDecode([]byte("kept"), tt.a, []byte(tt.in))
		if err == nil || string(dst) != "kept" {
			t.Errorf("AppendDecode(kept, %v, %q) = %q, %v, want dst as it was", tt.a, tt.in, dst, err)
		}
	}
}

func TestEncodeErrors(t *testing.T) {
	for _, tt := range []struct {
		a        Alphabet
		in, want string
	}{
		{GSM7, "ab→", "gsm7: no character U+2192 at offset 2"},
		{GSM7, "\x1b", "gsm7: no character U+001B at offset 0"},
		{GSM7, "ç", "gsm7: no character U+00E7 at offset 0"},
		{Latin1, "é€", "latin1: no character U+20AC at offset 2"},
		{Latin1, "\u0085", "latin1: no character U+0085 at offset 0"},
		{CP1252, "a→", "cp1252: no character U+2192 at offset 1"},
		{CP1252, "\u0081", "cp1252: no character U+0081 at offset 0"},
		{GSM7Packed, "ç", "gsm7-packed: no character U+00E7 at offset 0"},
		{GSM7Packed, "sevenl @", "gsm7-packed: an @ at the end would read as padding"},
		{ASCII, "é", "ascii: no character U+00E9 at offset 0"},
		{UCS2, "a\xff", "ucs2: no UTF-8 at offset 1"},
		{UCS2, "\xed\xa0\x80", "ucs2: no UTF-8 at offset 0"},
		{GSM7, "\xff", "gsm7: no UTF-8 at offset 0"},
		{Unsupported, "", "alphabet unsupported cannot be encoded"},
		{9, "", "alphabet alphabet(9) cannot be encoded"},
	} {
		if got, err := Encode(tt.a, tt.in); err == nil || err.Error() != tt.want || got != nil {
			t.Errorf("Encode(%v, %q) = %x, %v, want %q", tt.a, tt.in, got, err, tt.want)
		}
	}
}

func TestBest(t *testing.T) {
	for s, want := range map[string]Alphabet{
		"": GSM7, "Hello {€}": GSM7, "ÄÖÜñ@": GSM7, "ç": UCS2, "\x1b": UCS2, "Привет": UCS2, "😀": UCS2, "\ufffd": UCS2,
		"\xff": Unsupported, "ok \xc3": Unsupported,
	} {
		if got := Best(s); got != want {
			t.Errorf("Best(%q) = %v, want %v", s, got, want)
		}
	}
}

func TestString(t *testing.T) {
	var got []string
	for a := range numAlphabets + 1 {
		got = append(got, a.String())
	}
	if want := []string{"unsupported", "gsm7", "latin1", "ascii", "ucs2", "cp1252", "gsm7-packed", "alphabet(7)"}; !slices.Equal(got, want) {
		t.Errorf("alphabets = %q, want %q", got, want)
	}
}

// TestGSM7Tables compares every code with warthog618/sms, which keeps the
// tables of 3GPP TS 23.038 independently.
func TestGSM7Tables(t *testing.T) {
	basic, ext := charset.DefaultDecoder(), charset.DefaultExtDecoder()
	for c := range byte(128) {
		if c == escape {
			continue
		}
		if got, err := Decode(GSM7, []byte{c}); err != nil || got != string(basic[c]) {
			t.Errorf("Decode(gsm7, %#02x) = %q, %v, want %q", c, got, err, basic[c])
		}
		want, ok := ext[c]
		if !ok || c == 0x0D {
			// §6.2.1.1 leaves 0x0D blank, so it is the basic table's CR; the
			// library reads a line feed.
			want = basic[c]
		}
		if got, err := Decode(GSM7, []byte{escape, c}); err != nil || got != string(want) {
			t.Errorf("Decode(gsm7, 1b %#02x) = %q, %v, want %q", c, got, err, want)
		}
	}
	for r := rune(0); r <= utf8.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		want, wantErr := gsm7.Encode([]byte(string(r)))
		if r == 0x1B { // the library's table has the escape as a character
			wantErr = gsm7.ErrInvalidUTF8(r)
		}
		if r == '\n' { // and two codes for a line feed
			want = []byte{0x0A}
		}
		got, err := Encode(GSM7, string(r))
		if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
			t.Errorf("Encode(gsm7, %U) = %x, %v, want %x, %v", r, got, err, want, wantErr)
		}
	}
}

// TestAgainstPdutext: UCS2, Latin1 and CP1252 agree with go-smpp's codecs,
// wherever those are exact: its Latin1 is Windows-1252.
func TestAgainstPdutext(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "text")
		got, err := Encode(UCS2, s)
		if want := pdutext.UCS2(s).Encode(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("Encode(ucs2, %q) = %x, %v, want %x", s, got, err, want)
		}
		back, err := Decode(UCS2, got)
		if want := string(pdutext.UCS2(got).Decode()); err != nil || back != want {
			t.Errorf("Decode(ucs2, %x) = %q, %v, want %q", got, back, err, want)
		}

		b := rapid.SliceOf(rapid.Byte().Filter(func(c byte) bool { return c < 0x80 || c >= 0xA0 })).Draw(t, "octets")
		text, err := Decode(Latin1, b)
		if want := string(pdutext.Latin1(b).Decode()); err != nil || text != want {
			t.Errorf("Decode(latin1, %x) = %q, %v, want %q", b, text, err, want)
		}
		w := rapid.SliceOf(rapid.Byte().Filter(func(c byte) bool { return c < 0x80 || c >= 0xA0 || cp1252[c-0x80] != 0 })).Draw(t, "windows octets")
		if text, err := Decode(CP1252, w); err != nil || text != string(pdutext.Latin1(w).Decode()) {
			t.Errorf("Decode(cp1252, %x) = %q, %v, want %q", w, text, err, pdutext.Latin1(w).Decode())
		} else if back, err := Encode(CP1252, text); err != nil || !bytes.Equal(back, w) {
			t.Errorf("Encode(cp1252, %q) = %x, %v, want %x", text, back, err, w)
		}
		octets, err := Encode(Latin1, text)
		if want := pdutext.Latin1(text).Encode(); err != nil || !bytes.Equal(octets, want) {
			t.Errorf("Encode(latin1, %q) = %x, %v, want %x", text, octets, err, want)
		}
	})
}

// TestRoundTrip: what an alphabet encodes it decodes to the same text.
func TestRoundTrip(t *testing.T) {
	var inGSM7 []rune
	for r := range rune(len(gsm7Codes)) {
		if gsm7Codes[r] != none {
			inGSM7 = append(inGSM7, r)
		}
	}
	if inGSM7 = append(inGSM7, '€'); len(inGSM7) != 127+10 {
		t.Fatalf("the GSM alphabet has %d characters, want 127 and 10", len(inGSM7))
	}
	texts := map[Alphabet]*rapid.Generator[string]{
		GSM7: rapid.StringOf(rapid.SampledFrom(inGSM7)),
		Latin1: rapid.StringOf(rapid.Map(rapid.Byte(), func(c byte) rune {
			if c >= 0x80 && c < 0xA0 {
				c += 0x20
			}
			return rune(c)
		})),
		ASCII:  rapid.StringOf(rapid.Map(rapid.ByteMax(0x7F), func(c byte) rune { return rune(c) })),
		UCS2:   rapid.String(),
		CP1252: rapid.StringOf(rapid.SampledFrom(append(inCP1252(), 'a', 'é'))),
	}
	texts[GSM7Packed] = texts[GSM7]
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SampledFrom(alphabets).Draw(t, "alphabet")
		s := texts[a].Draw(t, "text")
		if a == GSM7 && Best(s) != GSM7 {
			t.Errorf("Best(%q) = %v, want gsm7", s, Best(s))
		}
		b, err := Encode(a, s)
		if errors.Is(err, ErrPadding) && a == GSM7Packed && strings.HasSuffix(s, "@") {
			return
		}
		if err != nil {
			t.Fatalf("Encode(%v, %q): %v", a, s, err)
		}
		if got, err := Decode(a, b); got != s || err != nil {
			t.Errorf("Decode(%v, %x) = %q, %v, want %q", a, b, got, err, s)
		}
	})
}

func inCP1252() []rune {
	return slices.DeleteFunc(slices.Clone(cp1252[:]), func(r rune) bool { return r == 0 })
}

// TestBestHolds: the alphabet that Best chooses can encode the text.
func TestBestHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "octets"))
		if _, err := Encode(Best(s), s); (err == nil) != utf8.ValidString(s) {
			t.Errorf("Encode(Best(%q) = %v): %v", s, Best(s), err)
		}
	})
}

func TestAppendDecodeAllocations(t *testing.T) {
	text := strings.Repeat("naïve {€}", 10)
	dst := make([]byte, 0, 1024)
	for _, a := range alphabets {
		s := text
		if a == Latin1 || a == ASCII {
			s = strings.Repeat("plain", 20)
		}
		if a == CP1252 {
			s = strings.Repeat("“naïve” €", 10)
		}
		if a == GSM7 || a == GSM7Packed {
			s = strings.ReplaceAll(s, "ï", "ì")
		}
		b, err := Encode(a, s)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = AppendDecode(dst, a, b) }); n != 0 {
			t.Errorf("AppendDecode(%v) into a large buffer allocates %v times, want 0", a, n)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(byte(GSM7), []byte("\x1b\x65\x1b"))
	f.Add(byte(UCS2), []byte("\xd8\x3d\xde\x00"))
	f.Add(byte(Latin1), []byte("\x80\xff"))
	f.Add(byte(ASCII), []byte("a"))
	f.Add(byte(CP1252), []byte("\x80\x81"))
	f.Add(byte(GSM7Packed), []byte("\x9b\x32"))
	f.Fuzz(func(t *testing.T, alphabet byte, b []byte) {
		a := Alphabet(alphabet % byte(numAlphabets+1))
		s, err := Decode(a, b)
		if err != nil {
			return
		}
		if !utf8.ValidString(s) {
			t.Errorf("Decode(%v, %x) = %q, which is no UTF-8", a, b, s)
		}
		again, err := Encode(a, s)
		if a == GSM7Packed && errors.Is(err, ErrPadding) {
			return // an unknown escape that did not come back moved an @ there
		}
		if err != nil {
			t.Fatalf("Encode(%v, %q) of what Decode gave: %v", a, s, err)
		}
		if a != GSM7 && a != GSM7Packed && !bytes.Equal(again, b) { // unknown escapes do not come back
			t.Errorf("Encode(%v, %q) = %x, want %x", a, s, again, b)
		}
		if back, err := Decode(a, again); back != s || err != nil {
			t.Errorf("Decode(%v, %x) = %q, %v, want %q", a, again, back, err, s)
		}
	})
}

func BenchmarkAppendDecode(b *testing.B) {
	dst := make([]byte, 0, 1024)
	for _, a := range alphabets {
		octets, err := Encode(a, strings.Repeat("0123456789abcdef", 10))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(a.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = AppendDecode(dst, a, octets)
			}
		})
	}
}
