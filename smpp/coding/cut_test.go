package coding

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/warthog618/sms/encoding/tpdu"
	"pgregory.net/rapid"
)

// cuts draws a Cut and a text that its alphabet holds, often of several parts.
func cuts(t *rapid.T) (Cut, string) {
	c := Cut{
		Alphabet:  rapid.SampledFrom(alphabets).Draw(t, "alphabet"),
		Form:      rapid.SampledFrom([]Form{Whole, UDH8, UDH16, SAR}).Draw(t, "form"),
		Reference: rapid.Uint16().Draw(t, "reference"),
	}
	if c.Form == UDH8 {
		c.Reference &= 0xFF
	}
	var chars []rune
	switch c.Alphabet {
	case GSM7, GSM7Packed:
		h := shifts(t)
		c.Elements, chars = h.Elements(), inShift(h)
	case Latin1:
		chars = []rune("abc é£ÿ\u00a0")
	case ASCII:
		chars = []rune("abc ~[]\x00\n")
	case CP1252:
		chars = append(inCP1252(), 'a', 'é')
	case UCS2:
		chars = []rune("aП😀\U0010FFFF\ufffd한")
	}
	one := rapid.StringOfN(rapid.SampledFrom(chars), 1, 60, -1).Draw(t, "text")
	return c, strings.Repeat(one, rapid.IntRange(0, 16).Draw(t, "times"))
}

// TestCutThenJoin: cutting any text in any alphabet that holds it, sending
// the parts, and joining them in any order is the identity; each part can be
// read alone, and none is longer than a short message.
func TestCutThenJoin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, text := cuts(t)
		parts, err := c.Text(text)
		if errors.Is(err, ErrPadding) && c.Alphabet == GSM7Packed {
			return
		}
		if err != nil {
			t.Fatalf("%+v.Text(%q): %v", c, text, err)
		}
		alone := ""
		for i, s := range parts {
			read, err := ReadSegment(wire(s))
			if d := cmp.Diff(s, read, cmpopts.EquateEmpty()); err != nil || d != "" {
				t.Fatalf("part %d reads as %v (-want +got):\n%s", i, err, d)
			}
			one, err := read.Text(c.Alphabet)
			if err != nil {
				t.Fatalf("part %d alone: %v", i, err)
			}
			alone += one
			if n := len(s.Header) + airOctets(c.Alphabet, s.Body); c.Form != Whole && n > MaxUserData {
				t.Errorf("part %d has %d octets", i, n)
			}
			if len(parts) > 1 && (s.Form != c.Form || s.Part != Part{c.Reference, c.Form != UDH8, byte(len(parts)), byte(i + 1)}) {
				t.Errorf("part %d is %v %+v", i, s.Form, s.Part)
			}
		}
		if alone != text {
			t.Errorf("%+v: the parts alone read as %q, want %q", c, alone, text)
		}
		got, err := Join(c.Alphabet, rapid.Permutation(parts).Draw(t, "order"))
		if got != text || err != nil {
			t.Errorf("%+v: Join = %q, %v, want %q", c, got, err, text)
		}
	})
}

// airOctets is how long a text is over the air.
func airOctets(a Alphabet, body []byte) int {
	if a == GSM7 {
		return (len(body)*7 + 7) / 8
	}
	return len(body)
}

// TestMergeThenCut: message_payload to parts and back, and parts that Cut made
// to message_payload and back, are the identity on octets.
func TestMergeThenCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, text := cuts(t)
		parts, err := c.Text(text)
		if err != nil {
			return
		}
		whole, err := Merge(c.Alphabet, rapid.Permutation(parts).Draw(t, "order"))
		if errors.Is(err, ErrPadding) && c.Alphabet == GSM7Packed {
			return
		}
		if err != nil || whole.Form != Whole || whole.Part != (Part{}) {
			t.Fatalf("Merge(%+v) = %+v, %v", c, whole, err)
		}
		if got, err := whole.Text(c.Alphabet); got != text || err != nil {
			t.Errorf("Merge(%+v): Text = %q, %v, want %q", c, got, err, text)
		}
		elements, err := whole.Elements()
		if err != nil || !bytes.Equal(elements, c.Elements) {
			t.Errorf("Merge(%+v): Elements = %x, %v", c, elements, err)
		}
		back, err := c.Octets(whole.Body)
		if d := cmp.Diff(parts, back, cmp.Transformer("text", func(b []byte) string { return string(b) })); err != nil || d != "" {
			t.Errorf("%+v.Octets: %v (-want +got):\n%s", c, err, d)
		}
		again, err := Merge(c.Alphabet, back)
		if err != nil || !bytes.Equal(again.Append(nil), whole.Append(nil)) {
			t.Errorf("Merge again = %x, %v, want %x", again.Append(nil), err, whole.Append(nil))
		}
	})
}

// TestCutOctetsAny: octets that are no text at all are cut and merged
// untouched.
func TestCutOctetsAny(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := Cut{Alphabet: rapid.SampledFrom([]Alphabet{GSM7, Latin1, UCS2}).Draw(t, "alphabet"), Form: UDH8}
		octet := rapid.OneOf(rapid.SampledFrom([]byte{escape, 0xD8, 0xDE}), rapid.Byte())
		b := rapid.SliceOfN(octet, 1, 700).Draw(t, "octets")
		parts, err := c.Octets(b)
		if err != nil {
			t.Fatalf("Octets(%x): %v", b, err)
		}
		if whole, err := Merge(c.Alphabet, parts); err != nil || !bytes.Equal(whole.Append(nil), b) {
			t.Errorf("Merge(Octets(%x)) = %x, %v", b, whole.Append(nil), err)
		}
	})
}

// TestCutSizes: 3GPP TS 23.040 §9.2.3.24.1 and §9.2.3.24.8 in numbers.
func TestCutSizes(t *testing.T) {
	turkish := Shift{Single: Turkish}.Elements()
	for _, tt := range []struct {
		c    Cut
		text string
		want []int // octets of text in each part; for packed septets packed
	}{
		{Cut{Alphabet: GSM7, Form: UDH8}, strings.Repeat("a", 160), []int{160}},
		{Cut{Alphabet: GSM7, Form: UDH8}, strings.Repeat("a", 161), []int{153, 8}},
		{Cut{Alphabet: GSM7, Form: UDH16}, strings.Repeat("a", 161), []int{152, 9}},
		{Cut{Alphabet: GSM7, Form: SAR, Reference: 255}, strings.Repeat("a", 161), []int{153, 8}},
		{Cut{Alphabet: GSM7, Form: SAR, Reference: 256}, strings.Repeat("a", 161), []int{152, 9}},
		{Cut{Alphabet: GSM7, Form: UDH8}, strings.Repeat("a", 152) + "€" + strings.Repeat("a", 10), []int{152, 12}},
		{Cut{Alphabet: GSM7, Form: UDH8, Elements: turkish}, strings.Repeat("a", 155), []int{155}},
		{Cut{Alphabet: GSM7, Form: UDH8, Elements: turkish}, strings.Repeat("a", 156), []int{149, 7}},
		{Cut{Alphabet: GSM7Packed, Form: UDH8}, strings.Repeat("a", 161), []int{134, 8}},
		{Cut{Alphabet: GSM7Packed, Form: UDH8}, strings.Repeat("a", 152) + "@" + strings.Repeat("a", 10), []int{134, 10}},
		{Cut{Alphabet: UCS2, Form: UDH8}, strings.Repeat("П", 70), []int{140}},
		{Cut{Alphabet: UCS2, Form: UDH8}, strings.Repeat("П", 71), []int{134, 8}},
		{Cut{Alphabet: UCS2, Form: UDH16}, strings.Repeat("П", 71), []int{132, 10}},
		{Cut{Alphabet: UCS2, Form: UDH8}, strings.Repeat("П", 66) + "😀" + strings.Repeat("П", 5), []int{132, 14}},
		{Cut{Alphabet: Latin1, Form: UDH8}, strings.Repeat("é", 141), []int{134, 7}},
		{Cut{Alphabet: GSM7, Form: Whole}, strings.Repeat("a", 2000), []int{2000}},
		{Cut{Alphabet: GSM7, Form: UDH8}, "", []int{0}},
	} {
		parts, err := tt.c.Text(tt.text)
		if err != nil {
			t.Errorf("%+v.Text: %v", tt.c, err)
			continue
		}
		var got []int
		for _, s := range parts {
			got = append(got, len(s.Body))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%+v.Text of %d octets: parts of %v, want %v", tt.c, len(tt.text), got, tt.want)
		}
	}
}

func TestCutErrors(t *testing.T) {
	long := strings.Repeat("a", 200)
	for _, tt := range []struct {
		c          Cut
		text, want string
	}{
		{Cut{Form: UDH8}, "a", "alphabet unsupported cannot be encoded"},
		{Cut{Alphabet: GSM7, Form: 7}, "a", "nothing can be cut into form(7)"},
		{Cut{Alphabet: GSM7, Form: UDH8}, "ab→", "gsm7: no character U+2192 at offset 2"},
		{Cut{Alphabet: GSM7, Form: UDH8, Reference: 256}, long, "reference 256 needs more than the 8 bits of udh8"},
		{Cut{Alphabet: GSM7, Form: UDH8}, strings.Repeat("a", 255*153+1), "text needs more than 255 parts"},
		{Cut{Alphabet: GSM7, Form: Whole}, strings.Repeat("a", MaxPayload+1), "message_payload: 65536 octets, at most 65535"},
		{Cut{Alphabet: GSM7, Elements: []byte{0x24}}, "a", "user data header: element at offset 1 has no length"},
		{Cut{Alphabet: GSM7, Elements: []byte{0x25, 1, 2}}, "a", "national language locking shift 0x02 has no table"},
		{
			Cut{Alphabet: GSM7, Elements: []byte{0, 3, 1, 1, 1}},
			"a",
			"user data header: the elements for every part number a part themselves",
		},
		{
			Cut{Alphabet: GSM7, Form: UDH8, Elements: append([]byte{0x70, 130}, make([]byte, 130)...)},
			long,
			"user data header: 138 octets leave no room for text",
		},
		{
			Cut{Alphabet: GSM7, Elements: append([]byte{0x70, 138}, make([]byte, 138)...)},
			"a",
			"user data header: 141 octets, at most 140",
		},
		{Cut{Alphabet: GSM7Packed, Form: UDH8}, "sevenl @", ErrPadding.Error()},
		{Cut{Alphabet: GSM7Packed, Form: UDH8}, strings.Repeat("a", 153) + strings.Repeat("b", 8) + "@", ErrPadding.Error()},
	} {
		got, err := tt.c.Text(tt.text)
		if err == nil || err.Error() != tt.want || got != nil {
			t.Errorf("%+v.Text(%d octets) = %d parts, %v, want %q", tt.c, len(tt.text), len(got), err, tt.want)
		}
	}
	if _, err := (Cut{Alphabet: 9}).Octets(nil); err == nil || err.Error() != "alphabet alphabet(9) cannot be cut" {
		t.Errorf("Octets in alphabet(9): %v", err)
	}
	if _, err := (Cut{Alphabet: GSM7Packed}).Octets([]byte{0x80}); err == nil {
		t.Error("Octets of what is not packed: no error")
	}
}

// straddle puts a text into parts of a peer that cuts wherever it likes.
func straddle(a Alphabet, h Shift, text string, size int) ([]Segment, error) {
	b, err := units(a, text, h)
	if err != nil {
		return nil, err
	}
	chunks := slices.Collect(slices.Chunk(b, size))
	var parts []Segment
	for i, body := range chunks {
		p := Part{Reference: 9, Total: byte(len(chunks)), Number: byte(i + 1)}
		head, err := header(UDH8, p, h.Elements())
		if err != nil {
			return nil, err
		}
		s, err := Cut{Alphabet: a}.segment(Segment{Form: UDH8, Part: p, Header: head}, body)
		if err != nil {
			return nil, err
		}
		parts = append(parts, s)
	}
	return parts, nil
}

// TestJoinStraddling: escapes, surrogate pairs and even single code units that
// a peer cut in two are read rightly from the joined parts.
func TestJoinStraddling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, text := cuts(t)
		h, err := c.shift()
		if err != nil {
			t.Fatal(err)
		}
		parts, err := straddle(c.Alphabet, h, text, rapid.IntRange(4, 153).Draw(t, "size"))
		if errors.Is(err, ErrPadding) || len(parts) == 0 || len(parts) > 255 {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Join(c.Alphabet, parts); got != text || err != nil {
			t.Errorf("Join(%v, %v) of parts cut anywhere = %q, %v, want %q", c.Alphabet, h, got, err, text)
		}
	})
	for _, tt := range []struct {
		a       Alphabet
		in      []string
		want    string
		wantErr string
	}{
		{GSM7, []string{"a\x1b", "\x65b"}, "a€b", ""},
		{GSM7, []string{"a\x1b", "", "\x65b"}, "a€b", ""},
		{GSM7, []string{"\x1b", "\x1b", "\x1b", "\x65"}, " €", ""},
		{UCS2, []string{"\x00a\xd8\x3d", "\xde\x00\x00b"}, "a😀b", ""},
		{UCS2, []string{"\x00a\xd8", "\x3d\xde", "\x00"}, "a😀", ""},
		{GSM7, []string{"a", "b\x1b"}, "", "part 2 of 2: gsm7: escape at offset 1 has nothing to escape"},
		{GSM7, []string{"a\x1b", ""}, "", "part 2 of 2: gsm7: the escape before has nothing to escape"},
		{GSM7, []string{"a", "b\x80"}, "", "part 2 of 2: gsm7: octet 0x80 at offset 1 is above 0x7f"},
		{UCS2, []string{"\x00a\xd8\x3d", "\x00b"}, "", "ucs2: unpaired surrogate 0xd83d at offset 2"},
	} {
		var parts []Segment
		for i, b := range tt.in {
			parts = append(parts, Segment{Form: SAR, Part: Part{Total: byte(len(tt.in)), Number: byte(i + 1)}, Body: []byte(b)})
		}
		got, err := Join(tt.a, parts)
		if got != tt.want || (err == nil) != (tt.wantErr == "") || err != nil && err.Error() != tt.wantErr {
			t.Errorf("Join(%v, %q) = %q, %v, want %q, %q", tt.a, tt.in, got, err, tt.want, tt.wantErr)
		}
	}
}

func TestJoinErrors(t *testing.T) {
	part := func(ref uint16, total, number byte) Segment {
		return Segment{Form: UDH8, Part: Part{Reference: ref, Total: total, Number: number}, Body: []byte("a")}
	}
	turkish := part(1, 2, 2)
	turkish.Header = []byte{3, IESingleShift, 1, byte(Turkish)}
	escaped := part(1, 2, 1)
	escaped.Body = []byte{escape}
	sar := part(1, 2, 2)
	sar.Form = SAR
	for _, tt := range []struct {
		parts       []Segment
		join, merge string // "" for no error
	}{
		{nil, "no parts to join", "no parts to join"},
		{[]Segment{part(1, 2, 1)}, "1 of 2 parts are there", "1 of 2 parts are there"},
		{[]Segment{part(1, 2, 1), part(1, 2, 1)}, "part 1 of 2 is there twice", "part 1 of 2 is there twice"},
		{[]Segment{part(1, 2, 1), part(2, 2, 2)}, "part 2 of 2 is of another message", "part 2 of 2 is of another message"},
		{[]Segment{part(1, 2, 1), part(1, 3, 2)}, "part 2 of 3 is of another message", "part 2 of 3 is of another message"},
		{[]Segment{part(1, 2, 1), sar}, "part 2 of 2 is of another message", "part 2 of 2 is of another message"},
		{[]Segment{part(1, 2, 3)}, "part 3 of 2", "part 3 of 2"},
		{[]Segment{part(1, 0, 0)}, "part 0 of 0", "part 0 of 0"},
		{[]Segment{{}, part(1, 2, 1)}, "a whole message beside 1 others", "a whole message beside 1 others"},
		{[]Segment{part(1, 2, 1), turkish}, "", "part 2 of 2: user data header: other information elements than in part 1"},
		{
			[]Segment{escaped, turkish},
			"part 2 of 2: gsm7: an escape in the part before, which has other national language shifts",
			"part 2 of 2: user data header: other information elements than in part 1",
		},
	} {
		check := func(call string, err error, want string) {
			t.Helper()
			if (err == nil) != (want == "") || err != nil && err.Error() != want {
				t.Errorf("%s(%+v): %v, want %q", call, tt.parts, err, want)
			}
		}
		_, err := Join(GSM7, tt.parts)
		check("Join", err, tt.join)
		_, err = Merge(GSM7, tt.parts)
		check("Merge", err, tt.merge)
	}
	half := Segment{Form: SAR, Part: Part{Total: 2, Number: 1}, Body: make([]byte, MaxPayload)}
	rest := Segment{Form: SAR, Part: Part{Total: 2, Number: 2}, Body: []byte("a")}
	if _, err := Merge(GSM7, []Segment{half, rest}); err == nil || err.Error() != "message_payload: 65536 octets, at most 65535" {
		t.Errorf("Merge of 65,536 octets: %v", err)
	}
}

type reference int

func (r reference) Count() int { return int(r) }

// TestCutAgainstLibrary: warthog618/sms cuts GSM7 and UCS2 into the same
// parts, with the same headers, and packs their user data into the same
// octets. Without @, for the library counts septets and so needs no care for
// one at the end.
func TestCutAgainstLibrary(t *testing.T) {
	chars := map[Alphabet][]rune{UCS2: []rune("aП😀\U0010FFFF\ufffd한"), GSM7Packed: {'€', '\f', '|'}}
	for c, r := range gsm7Basic {
		if c != escape && r != '@' {
			chars[GSM7Packed] = append(chars[GSM7Packed], r)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		c := Cut{
			Alphabet:  rapid.SampledFrom([]Alphabet{GSM7Packed, UCS2}).Draw(t, "alphabet"),
			Form:      rapid.SampledFrom([]Form{UDH8, UDH16}).Draw(t, "form"),
			Reference: rapid.Uint16().Draw(t, "reference"),
		}
		submit, err := tpdu.NewSubmit()
		if err != nil {
			t.Fatal(err)
		}
		if c.Alphabet == UCS2 {
			submit.SetDCS(0x08)
		}
		options := []tpdu.SegmentationOption{tpdu.With16BitConcatRef}
		if c.Form == UDH8 {
			c.Reference, options = c.Reference&0xFF, nil
		}
		options = append(options, tpdu.WithConcatRef(reference(c.Reference)))

		one := rapid.StringOfN(rapid.SampledFrom(chars[c.Alphabet]), 1, 60, -1).Draw(t, "text")
		text := strings.Repeat(one, rapid.IntRange(1, 16).Draw(t, "times"))
		parts, err := c.Text(text)
		if err != nil {
			t.Fatalf("%+v.Text(%q): %v", c, text, err)
		}
		b, err := units(c.Alphabet, text, Shift{})
		if err != nil {
			t.Fatal(err)
		}
		theirs := submit.Segment(b, options...)
		if len(theirs) != len(parts) {
			t.Fatalf("%+v: %d parts, want %d", c, len(parts), len(theirs))
		}
		for i := range theirs {
			octets, err := theirs[i].MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			if got := parts[i].Append(nil); !bytes.HasSuffix(octets, got) {
				t.Errorf("%+v part %d = %x, want the end of %x", c, i, got, octets)
			}
		}
	})
}

// FuzzCut: no text in a part is cut within a character, whatever the octets.
func FuzzCut(f *testing.F) {
	f.Add(byte(GSM7), byte(UDH8), []byte(strings.Repeat("a\x1be", 80)))
	f.Add(byte(UCS2), byte(UDH16), []byte(strings.Repeat("\xd8\x3d\xde\x00", 40)))
	f.Add(byte(GSM7Packed), byte(SAR), make([]byte, 300))
	f.Fuzz(func(t *testing.T, alphabet, form byte, b []byte) {
		c := Cut{Alphabet: Alphabet(alphabet % byte(numAlphabets)), Form: Form(form % byte(numForms)), Reference: 7}
		parts, err := c.Octets(b)
		if err != nil {
			return
		}
		text, textErr := Decode(c.Alphabet, b)
		joined, joinErr := Join(c.Alphabet, parts)
		if (textErr == nil) != (joinErr == nil) || text != joined {
			t.Errorf("%+v of %x: Join = %q, %v, want %q, %v", c, b, joined, joinErr, text, textErr)
		}
		for i, s := range parts[:len(parts)-1] {
			if c.Alphabet == UCS2 && len(parts[i+1].Body) > 1 {
				hi := rune(s.Body[len(s.Body)-2])<<8 | rune(s.Body[len(s.Body)-1])
				lo := rune(parts[i+1].Body[0])<<8 | rune(parts[i+1].Body[1])
				if utf16.DecodeRune(hi, lo) != 0xFFFD {
					t.Errorf("part %d ends within a surrogate pair", i)
				}
			}
			if textErr != nil {
				continue
			}
			if _, err := s.Text(c.Alphabet); err != nil {
				t.Errorf("part %d alone: %v", i, err)
			}
		}
		whole, err := Merge(c.Alphabet, parts)
		if err == nil && !bytes.Equal(whole.Append(nil), b) && len(b) != 0 {
			t.Errorf("%+v: Merge(Octets(%x)) = %x", c, b, whole.Append(nil))
		}
	})
}

func BenchmarkJoin(b *testing.B) {
	for _, a := range []Alphabet{GSM7, GSM7Packed, UCS2} {
		parts, err := Cut{Alphabet: a, Form: UDH8}.Text(strings.Repeat("0123456789", 45))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(a.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Join(a, parts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
