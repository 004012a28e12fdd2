package number

import (
	"strings"
	"testing"

	"github.com/nyaruka/phonenumbers"

	"shunt/gateway/msg"
	"shunt/gateway/route"
	"shunt/smpp/pdu"
)

func in(t testing.TB, region string) Country {
	t.Helper()
	c, err := In(region)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		country, in string
		want        msg.Number
	}{
		{"", "+447700900042", 447700900042},
		{"", "447700900042", 447700900042},
		{"", "00447700900042", 447700900042},
		{"", "+44 7700 900042", 447700900042},
		{"", " +44 (0)7700-900.042 ", 447700900042},
		{"", "00 44 7700 900 042", 447700900042},
		{"", "\uff0b44 7700\u00a0900042", 447700900042},
		{"", "+٤٤٧٧٠٠٩٠٠٠٤٢", 447700900042},
		{"GB", "07700900042", 447700900042},
		{"GB", "(07700) 900042", 447700900042},
		{"GB", "7700900042", 447700900042}, // +7 7009 00042 has too few digits
		{"GB", "447700900042", 447700900042},
		{"GB", "+33 6 12 34 56 78", 33612345678},
		{"GB", "33612345678", 33612345678},
		{"GB", "0033612345678", 33612345678},
		{"FR", "06 12 34 56 78", 33612345678},
		{"FR", "612345678", 33612345678}, // and not Australia's
		{"DE", "0151 12345678", 4915112345678},
		{"DE", "4915112345678", 4915112345678},
		{"CN", "131 2345 6789", 8613123456789}, // and not America's
		{"CO", "321 1234567", 573211234567},
		{"US", "(201) 555-0123", 12015550123},
		{"US", "2015550123", 12015550123}, // and not Egypt's
		{"US", "12015550123", 12015550123},
		{"US", "1 201 555 0123", 12015550123},
		{"US", "447700900042", 447700900042},
		{"ES", "612 34 56 78", 34612345678},
		{"ES", "34612345678", 34612345678},
		{"IT", "06 1234 5678", 390612345678}, // its 0 stays
		{"IT", "3934712345", 393934712345},
		{"IT", "393471234567", 393471234567},
		{"RU", "8 916 123-45-67", 79161234567},
		{"RU", "79161234567", 79161234567},
		{"HU", "06 30 123 4567", 36301234567},
		{"AR", "011 15-2345-6789", 5491123456789},
		{"AU", "0011 44 7700 900042", 447700900042},
		{"AU", "0412 345 678", 61412345678},
	} {
		if got, err := in(t, c.country).Parse(c.in); err != nil || got != c.want {
			t.Errorf("Parse(%q) in %q = %d, %v, want %d", c.in, c.country, got, err, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ country, in, want string }{
		{"", "", "want 7 to 15 digits"},
		{"", "112", "want 7 to 15 digits"},
		{"", "+", "want 7 to 15 digits"},
		{"", "+44770090004", "has 9 digits behind +44, want 7, 9 or 10"}, // see below
		{"", "+44770090", "has 6 digits behind +44, want 7, 9 or 10"},
		{"", "+4477009000421", "has 11 digits behind +44, want 7, 9 or 10"},
		{"", "+1201555012", "has 9 digits behind +1, want 10"},
		{"", "+999123456789", "no country has a calling code"},
		{"", "07700900042", "is a national number and no country is set"},
		{"", "+0447700900042", "want 7 to 15 digits"},
		{"GB", "077009", "want 7, 9 or 10 digits behind the 0 of a national number"},
		{"GB", "0770090", "want 7, 9 or 10 digits behind the 0 of a national number"},
		{"US", "201555012", "has 7 digits behind +20, want 8, 9 or 10"},
		{"", "+44 7700 900042 ext. 5", "set apart by nothing but"},
		{"", "+1800FLOWERS", "set apart by nothing but"},
		{"", "+44;7700900042", "set apart by nothing but"},
		{"", strings.Repeat("1", 5000), "want 7 to 15 digits"},
		{"", strings.Repeat(" ", 41) + "+447700900042", "want 7 to 15 digits"},
	} {
		n, err := in(t, c.country).Parse(c.in)
		if c.in == "+44770090004" { // nine digits are possible: whether they are assigned is not asked
			if n != 44770090004 || err != nil {
				t.Errorf("Parse(%q) = %d, %v, want the number", c.in, n, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "number ") {
			t.Errorf("Parse(%q) in %q = %d, %v, want %q", c.in, c.country, n, err, c.want)
		}
		if len(c.in) >= 10 && len(c.in) < 20 && err != nil && strings.Contains(err.Error(), c.in) {
			t.Errorf("Parse(%q): %v: holds the number unmasked", c.in, err)
		}
	}
	if _, err := In("XX"); err == nil {
		t.Error("In(XX): no error")
	}
}

// What is registered is found, however long it is: it may be older than a rule.
func TestParseKnown(t *testing.T) {
	for _, text := range []string{"+4477009", "4477009", "+999123456789"} {
		want, _ := msg.ParseNumber(text)
		if got, err := (Country{}).ParseKnown(text); got != want || err != nil {
			t.Errorf("ParseKnown(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	if got, err := in(t, "GB").ParseKnown("07700 900042"); got != 447700900042 || err != nil {
		t.Errorf("ParseKnown of a national number = %d, %v", got, err)
	}
	if _, err := (Country{}).ParseKnown("07700900042"); err == nil {
		t.Error("ParseKnown of a national number without a country: no error")
	}
}

func TestLooks(t *testing.T) {
	for text, want := range map[string]bool{
		"+447700900042": true, "447700900042": true, "07700 900042": true, "0011 44 7700 900042": true, "(201) 555-0123": true,
		"": false, "+": false, "12": false, "123456": false, "nobody": false, "+447700x": false, "1234567890123456": false, "+0447700900042": false,
	} {
		if err := Looks(text); (err == nil) != want {
			t.Errorf("Looks(%q) = %v, want good %t", text, err, want)
		}
	}
}

var kinds = []phonenumbers.PhoneNumberType{
	phonenumbers.MOBILE, phonenumbers.FIXED_LINE, phonenumbers.PERSONAL_NUMBER, phonenumbers.VOIP, phonenumbers.PAGER,
}

// Whatever the hot path takes for a number is the same number here, for the
// example numbers of every country in every spelling: who registers is found.
func TestAgainstTheHotPath(t *testing.T) {
	international, national, regions := 0, 0, 0
	for region := range phonenumbers.GetSupportedRegions() {
		c := in(t, region)
		hot, _ := msg.CountryOf(region)
		regions++
		for _, kind := range kinds {
			x := phonenumbers.GetExampleNumberForType(region, kind)
			if x == nil {
				continue
			}
			e164 := phonenumbers.Format(x, phonenumbers.E164)
			want, ok := msg.NumberOfDigits(e164[1:])
			if !ok {
				continue // shorter than a subscriber's
			}
			for _, text := range []string{
				e164, "00" + e164[1:], e164[1:],
				phonenumbers.Format(x, phonenumbers.INTERNATIONAL), phonenumbers.Format(x, phonenumbers.NATIONAL),
			} {
				if back, err := phonenumbers.Parse(text, region); text[0] == '0' && text[1] != '0' && (err != nil || phonenumbers.Format(back, phonenumbers.E164) != e164) {
					continue // the library writes what it does not read (Argentina's 09 15)
				}
				got, err := c.Parse(text)
				if err != nil || got != want {
					t.Errorf("%s %q = %d, %v, want %d", region, text, got, err, want)
				}
				international++
			}
			significant := phonenumbers.GetNationalSignificantNumber(x)
			for _, text := range []string{significant, hot.Trunk + significant} {
				for _, ton := range []byte{pdu.TONUnknown, pdu.TONInternational, pdu.TONNational} {
					there, ok := route.Number(pdu.Address{TON: ton, NPI: pdu.NPIISDN, Addr: []byte(text)}, &hot)
					if !ok || there != want {
						continue // digits of which a PDU says otherwise what they are
					}
					if got, err := c.Parse(text); err != nil || got != there {
						t.Errorf("%s %q = %d, %v, and %d on the hot path with TON %d", region, text, got, err, there, ton)
					}
					national++
				}
			}
		}
	}
	if regions < 240 || international < 3300 || national < 1500 {
		t.Errorf("%d regions, %d international and %d national spellings: want more", regions, international, national)
	}
	t.Logf("%d regions, %d international and %d national spellings", regions, international, national)
}

// The table of lengths is the library's answer, and no calling code begins
// another.
func TestPlans(t *testing.T) {
	for code := range phonenumbers.GetSupportedCallingCodes() {
		d := strings.TrimPrefix(phonenumbers.Format(&phonenumbers.PhoneNumber{CountryCode: ptr(int32(code)), NationalNumber: ptr(uint64(2222222))}, phonenumbers.E164), "+")
		if got, _ := plans().of(d); got != code {
			t.Errorf("+%s has the calling code %d, want %d", d, got, code)
		}
	}
	for region := range phonenumbers.GetSupportedRegions() {
		for _, kind := range kinds {
			x := phonenumbers.GetExampleNumberForType(region, kind)
			if x == nil {
				continue
			}
			d := phonenumbers.Format(x, phonenumbers.E164)
			for _, d := range []string{d, d + "1", d + "11", d[:len(d)-1], d[:len(d)-2]} {
				n, ok := msg.NumberOfDigits(d[1:])
				y, err := phonenumbers.Parse(d, "ZZ")
				if !ok || err != nil {
					continue
				}
				want := phonenumbers.IsPossibleNumberWithReason(y) == phonenumbers.IS_POSSIBLE
				if got := check(n, d) == nil; got != want && phonenumbers.Format(y, phonenumbers.E164) == d {
					t.Errorf("%s: possible %t, the library says %t", d, got, want)
				}
			}
		}
	}
}

func ptr[T any](v T) *T { return &v }

func BenchmarkParse(b *testing.B) {
	for name, text := range map[string]string{"canonical": "+447700900042", "blanks": "+44 7700 900042", "national": "07700900042"} {
		b.Run(name, func(b *testing.B) {
			c := in(b, "GB")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Parse(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
