package coding

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func octets(t testing.TB, spaced string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(spaced, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type element struct {
	ID   byte
	Data string
}

// TestUDH reads headers as 3GPP TS 23.040 §9.2.3.24 lays them out: UDHL, then
// IEI, IEDL and data of each element.
func TestUDH(t *testing.T) {
	for _, tt := range []struct {
		in     string
		want   []element
		length int
	}{
		{"00", nil, 1},
		{"00 41", nil, 1},
		{"05 00 03 2a 02 01 41 42", []element{{0x00, "\x2a\x02\x01"}}, 6},
		{"06 08 04 01 02 03 01", []element{{0x08, "\x01\x02\x03\x01"}}, 7},
		{"0b 05 04 23 f4 00 00 00 03 01 02 02 ff", []element{{0x05, "\x23\xf4\x00\x00"}, {0x00, "\x01\x02\x02"}}, 12},
		{"02 70 00", []element{{0x70, ""}}, 3},
		{"03 24 01 01", []element{{0x24, "\x01"}}, 4},
	} {
		b := octets(t, tt.in)
		elements, length, err := UDH(b)
		if err != nil || length != tt.length {
			t.Errorf("UDH(%s): length %d, %v, want %d", tt.in, length, err, tt.length)
			continue
		}
		var got []element
		for id, data := range elements {
			got = append(got, element{id, string(data)})
			if cap(data) != len(data) {
				t.Errorf("UDH(%s): element %#02x can be appended to over what follows it", tt.in, id)
			}
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("UDH(%s) (-want +got):\n%s", tt.in, d)
		}
		for range elements {
			break // must not go on
		}
		for n := range length {
			if _, _, err := UDH(b[:n]); err == nil {
				t.Errorf("UDH(%s) cut to %d octets: no error", tt.in, n)
			}
		}
	}
}

func TestUDHErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                                    "user data header: no octet for its length",
		"05 00 03 2a":                         "user data header: length 5, but only 3 octets follow",
		"ff":                                  "user data header: length 255, but only 0 octets follow",
		"01 00":                               "user data header: element at offset 1 has no length",
		"06 00 03 2a 02 01":                   "user data header: length 6, but only 5 octets follow",
		"06 00 03 2a 02 01 00 03":             "user data header: element at offset 6 has no length",
		"05 00 04 2a 02 01 41":                "user data header: element 0x00 at offset 1 has length 4, but only 3 octets follow",
		"08 24 01 01 05 04 0b 84 0b 84 41 42": "user data header: element 0x05 at offset 4 has length 4, but only 3 octets follow",
	} {
		elements, length, err := UDH(octets(t, in))
		if err == nil || err.Error() != want || elements != nil || length != 0 {
			t.Errorf("UDH(%s) = length %d, %v, want %q", in, length, err, want)
		}
	}
}

func TestPartOf(t *testing.T) {
	for in, want := range map[string]Part{
		"05 00 03 2a 02 01":                   {Reference: 0x2A, Total: 2, Number: 1},
		"06 08 04 01 02 ff ff":                {Reference: 0x0102, Wide: true, Total: 255, Number: 255},
		"08 24 01 01 00 03 07 02":             {},                                  // one octet short
		"0a 00 03 01 02 01 00 03 02 03 03":    {Reference: 2, Total: 3, Number: 3}, // the last one counts
		"0a 00 03 01 02 01 00 03 02 03 04":    {Reference: 1, Total: 2, Number: 1}, // of the sound ones
		"0b 05 04 0b 84 0b 84 00 03 09 02 02": {Reference: 9, Total: 2, Number: 2},
		"05 00 03 2a 00 00":                   {},
		"05 00 03 2a 02 00":                   {},
		"05 00 03 2a 02 03":                   {},
		"04 00 02 2a 02":                      {},
		"05 08 03 2a 02 01":                   {},
		"06 05 04 0b 84 0b 84":                {},
		"05 00 03 2a 02":                      {},
		"":                                    {},
	} {
		got, ok := PartOf(octets(t, in))
		if got != want || ok != (want != Part{}) {
			t.Errorf("PartOf(%s) = %+v, %t, want %+v", in, got, ok, want)
		}
	}
}

func FuzzUDH(f *testing.F) {
	f.Add([]byte{5, 0, 3, 42, 2, 1, 'A'})
	f.Add([]byte{11, 5, 4, 35, 244, 0, 0, 0, 3, 1, 2, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		elements, length, err := UDH(b)
		_, isPart := PartOf(b)
		if err != nil {
			if isPart {
				t.Errorf("PartOf(%x) found a part in a header that is none", b)
			}
			return
		}
		sum := 1
		for _, data := range elements {
			sum += 2 + len(data)
		}
		if sum != length || length > len(b) {
			t.Errorf("UDH(%x): length %d, elements of %d octets", b, length, sum)
		}
	})
}
