package coding

import (
	"bytes"
	"errors"
	"testing"

	"github.com/warthog618/sms/encoding/gsm7"
	"pgregory.net/rapid"
)

// TestFillBits: 3GPP TS 23.040 §9.2.3.24, figure 9.2.3.24 (a).
func TestFillBits(t *testing.T) {
	for length, want := range []int{0, 6, 5, 4, 3, 2, 1, 0, 6, 5, 4, 3, 2, 1, 0} {
		if got := FillBits(length); got != want || (8*length+got)%7 != 0 {
			t.Errorf("FillBits(%d) = %d, want %d", length, got, want)
		}
	}
}

// TestPackedAfterHeader reads the octets of a real TPDU's user data: the
// second part of two in GSM 7-bit, with one fill bit after the header.
func TestPackedAfterHeader(t *testing.T) {
	s, err := ReadSegment(esmUDHI, octets(t, "05 00 03 2a 02 02 90 65 36 fb 0d"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Text(GSM7Packed); got != "Hello" || err != nil {
		t.Errorf("Text = %q, %v, want Hello", got, err)
	}
	s.Body = []byte{0x91}
	if got, err := s.Text(GSM7Packed); err == nil || err.Error() != "gsm7-packed: fill bits before the first septet are not zero" {
		t.Errorf("Text with a fill bit set = %q, %v", got, err)
	}
}

// TestPackedAgainstLibrary: packing any septets after any fill gives the
// octets of warthog618/sms, and unpacking them gives the septets.
func TestPackedAgainstLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		septets := rapid.SliceOfN(rapid.ByteMax(0x7F), 0, 320).Draw(t, "septets")
		fill := rapid.IntRange(0, 6).Draw(t, "fill")
		got, err := AppendPacked([]byte("dst"), septets, fill)
		if errors.Is(err, ErrPadding) {
			if n := len(septets); septets[n-1] != 0 || (fill+7*n)%8 != 0 || string(got) != "dst" {
				t.Errorf("AppendPacked(%x, %d) = %x, %v", septets, fill, got, err)
			}
			return
		}
		want := append([]byte("dst"), gsm7.Pack7Bit(septets, fill)...)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("AppendPacked(%x, %d) = %x, %v, want %x", septets, fill, got, err, want)
		}
		back, err := AppendUnpacked([]byte("dst"), got[3:], fill)
		if err != nil || !bytes.Equal(back[3:], septets) || string(back[:3]) != "dst" {
			t.Errorf("AppendUnpacked(%x, %d) = %x, %v, want %x", got[3:], fill, back, err, septets)
		}
	})
}

func TestAppendPackedErrors(t *testing.T) {
	if got, err := AppendPacked([]byte("kept"), []byte{0x41, 0x80}, 0); err == nil || string(got) != "kept" ||
		err.Error() != "gsm7-packed: septet 0x80 at offset 1 is above 0x7f" {
		t.Errorf("AppendPacked = %q, %v", got, err)
	}
	for in, want := range map[string]string{
		"41 80":                "gsm7-packed: padding in the octet at offset 1 is not zero",
		"c1 60 30 18 0c 06 82": "", // eight septets: no padding at all
	} {
		got, err := AppendUnpacked([]byte("kept"), octets(t, in), 0)
		if want == "" {
			if err != nil || len(got) != 4+8 {
				t.Errorf("AppendUnpacked(%s) = %x, %v, want eight septets", in, got, err)
			}
			continue
		}
		if err == nil || err.Error() != want || string(got) != "kept" {
			t.Errorf("AppendUnpacked(%s) = %q, %v, want %q", in, got, err, want)
		}
	}
}

// FuzzPacked: what unpacks packs to the same octets, unless its padding hid an
// @; and unpacking agrees with decoding.
func FuzzPacked(f *testing.F) {
	f.Add([]byte{0xE8, 0x32, 0x9B, 0xFD, 0x46, 0x97, 0xD9, 0xEC, 0x37}, byte(0))
	f.Add([]byte{0x90, 0x65, 0x36, 0xFB, 0x0D}, byte(1))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0}, byte(0))
	f.Fuzz(func(t *testing.T, b []byte, fill byte) {
		fill %= 7
		septets, err := AppendUnpacked(nil, b, int(fill))
		text, textErr := appendPackedText(nil, b, int(fill), Shift{})
		if err != nil {
			if textErr == nil {
				t.Errorf("%x, fill %d: %v, but its text is %q", b, fill, err, text)
			}
			return
		}
		if want, err := appendGSM7(nil, septets, Shift{}); (err == nil) != (textErr == nil) || !bytes.Equal(text, want) {
			t.Errorf("text of %x, fill %d = %q, %v, want %q, %v", b, fill, text, textErr, want, err)
		}
		again, err := AppendPacked(nil, septets, int(fill))
		switch {
		case errors.Is(err, ErrPadding) || len(septets) == 0:
		case err != nil || !bytes.Equal(again, b):
			t.Errorf("AppendPacked(%x, %d) = %x, %v, want %x", septets, fill, again, err, b)
		}
	})
}
