package route

import (
	"strings"
	"testing"

	"github.com/nyaruka/phonenumbers"

	"shunt/gateway/msg"
	"shunt/smpp/pdu"
)

// spelling is a way to write a destination.
type spelling struct {
	ton  byte
	npi  byte
	addr string
}

// Every spelling of the library's example numbers of every country is the
// number that the library reads from it.
func TestNumberAgainstLibrary(t *testing.T) {
	kinds := []phonenumbers.PhoneNumberType{
		phonenumbers.MOBILE, phonenumbers.FIXED_LINE, phonenumbers.PERSONAL_NUMBER, phonenumbers.VOIP, phonenumbers.PAGER,
	}
	seen := 0
	for region := range phonenumbers.GetSupportedRegions() {
		c, _ := msg.CountryOf(region)
		for _, kind := range kinds {
			x := phonenumbers.GetExampleNumberForType(region, kind)
			if x == nil {
				continue
			}
			digits := strings.TrimPrefix(phonenumbers.Format(x, phonenumbers.E164), "+")
			want, ok := msg.NumberOfDigits(digits)
			if !ok {
				continue // shorter than a subscriber's
			}
			for _, s := range spellings(region, x, digits, &c) {
				seen++
				a := pdu.Address{TON: s.ton, NPI: s.npi, Addr: []byte(s.addr)}
				if got, ok := Number(a, &c); !ok || got != want {
					t.Errorf("%s TON %d NPI %d %q = %d, %t, want %d", region, s.ton, s.npi, s.addr, got, ok, want)
				}
				a.TON = pdu.TONAlphanumeric
				if got, ok := Number(a, &c); ok {
					t.Errorf("%s TON 5 %q = %d, want none", region, s.addr, got)
				}
			}
		}
	}
	if seen < 4000 {
		t.Errorf("only %d spellings were compared", seen)
	}
}

// spellings of a number: international ones, and national ones where the fast
// reader has the country (all but Argentina, see msg.CountryOf). What the library
// reads as another number than x is left out.
func spellings(region string, x *phonenumbers.PhoneNumber, digits string, c *msg.Country) (all []spelling) {
	for _, npi := range []byte{pdu.NPIUnknown, pdu.NPIISDN} {
		all = append(all,
			spelling{pdu.TONInternational, npi, digits}, spelling{pdu.TONInternational, npi, "+" + digits},
			spelling{pdu.TONInternational, npi, "00" + digits},
			spelling{pdu.TONUnknown, npi, "+" + digits}, spelling{pdu.TONUnknown, npi, "00" + digits},
			spelling{pdu.TONUnknown, npi, digits}, spelling{pdu.TONNational, npi, "+" + digits})
		if c.Code == 0 {
			continue
		}
		significant := phonenumbers.GetNationalSignificantNumber(x)
		for _, national := range []string{significant, c.Trunk + significant} {
			if back, err := phonenumbers.Parse(national, region); err != nil || phonenumbers.Format(back, phonenumbers.E164) != "+"+digits {
				continue
			}
			all = append(all, spelling{pdu.TONNational, npi, national})
			if c.Prefixed([]byte(national)) {
				all = append(all, spelling{pdu.TONUnknown, npi, national})
			}
		}
	}
	return all
}

// A short code is no number, however it is typed.
func TestShortCodesAreNoNumbers(t *testing.T) {
	for region := range phonenumbers.GetSupportedRegions() {
		c, _ := msg.CountryOf(region)
		for _, code := range []string{"1", "112", "911", "0800", "12345", "60777", "123456"} {
			for _, ton := range []byte{pdu.TONUnknown, pdu.TONInternational} {
				if got, ok := Number(pdu.Address{TON: ton, NPI: pdu.NPIISDN, Addr: []byte(code)}, &c); ok {
					t.Errorf("%s TON %d %q = %d, want none", region, ton, code, got)
				}
			}
		}
	}
}
