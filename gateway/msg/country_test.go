package msg

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nyaruka/phonenumbers"
)

// exceptions are where the table differs from libphonenumber on purpose.
var exceptions = map[string]string{
	"BY": "80", // libphonenumber: 8, and then writes a 0 behind it
}

// The table is libphonenumber's metadata.
func TestCountries(t *testing.T) {
	regions := slices.Sorted(maps.Keys(phonenumbers.GetSupportedRegions()))
	for _, r := range regions {
		if r == "AR" {
			if _, ok := CountryOf(r); ok {
				t.Error("AR is in the table")
			}
			continue
		}
		code := phonenumbers.GetCountryCodeForRegion(r)
		want := Country{Code: uint16(code), Trunk: phonenumbers.GetNddPrefixForRegion(r, true), Lengths: lengths(code)}
		if x, ok := exceptions[r]; ok {
			want.Trunk = x
		}
		if got, ok := CountryOf(r); !ok || got != want {
			t.Errorf("%s: %+v, want {%d, %q, %#x}", r, got, want.Code, want.Trunk, want.Lengths)
		}
	}
	if len(countries) != len(regions)-1 {
		t.Errorf("%d countries, want %d", len(countries), len(regions)-1)
	}
}

// lengths are those that libphonenumber finds possible for a calling code.
func lengths(code int) (mask uint32) {
	for n, v := 1, uint64(2); n <= 14; n, v = n+1, v*10+2 {
		c, v := int32(code), v
		if phonenumbers.IsPossibleNumberWithReason(&phonenumbers.PhoneNumber{CountryCode: &c, NationalNumber: &v}) == phonenumbers.IS_POSSIBLE {
			mask |= 1 << n
		}
	}
	return mask
}

// Every form of the library's example numbers is one number.
func TestNational(t *testing.T) {
	seen := 0
	for r := range countries {
		c, _ := CountryOf(r)
		for _, kind := range []phonenumbers.PhoneNumberType{
			phonenumbers.MOBILE, phonenumbers.FIXED_LINE, phonenumbers.PERSONAL_NUMBER, phonenumbers.VOIP,
		} {
			x := phonenumbers.GetExampleNumberForType(r, kind)
			if x == nil {
				continue
			}
			want, ok := NumberOfDigits(strings.TrimPrefix(phonenumbers.Format(x, phonenumbers.E164), "+"))
			if !ok {
				continue // shorter than a subscriber's
			}
			for _, form := range []string{digits(phonenumbers.Format(x, phonenumbers.NATIONAL)), phonenumbers.GetNationalSignificantNumber(x)} {
				seen++
				if got, ok := c.National([]byte(form)); !ok || got != want {
					t.Errorf("%s %q = %d, %t, want %d", r, form, got, ok, want)
				}
			}
		}
	}
	if seen < 1000 {
		t.Errorf("only %d forms were compared", seen)
	}
}

func digits(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' {
			return c
		}
		return -1
	}, s)
}

func TestNationalRefuses(t *testing.T) {
	gb, _ := CountryOf("GB")
	ru, _ := CountryOf("RU")
	for _, c := range []struct {
		country Country
		in      string
		want    Number
	}{
		{gb, "07700900042", 447700900042},
		{gb, "7700900042", 447700900042},
		{gb, "077009", 0},
		{gb, "0770090", 0}, // seven digits, of which the 0 is none of the number
		{gb, "077009000421", 0},
		{gb, "0770090004a", 0},
		{gb, "999", 0},
		{gb, "", 0},
		{gb, strings.Repeat("0", 64), 0},
		{ru, "88081234567", 78081234567},
		{ru, "8081234567", 78081234567}, // the 8 is no prefix: nine digits are no number
		{Country{}, "07700900042", 0},
	} {
		got, ok := c.country.National([]byte(c.in))
		if ok != (c.want != 0) || ok && got != c.want {
			t.Errorf("National(%q) of %d = %s, %t, want %s", c.in, c.country.Code, strconv.FormatUint(uint64(got), 10), ok, c.want)
		}
	}
	in := []byte("07700900042")
	if n := testing.AllocsPerRun(100, func() { gb.National(in) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
