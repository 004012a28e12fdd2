// Package number reads numbers as people and other systems write them, off the
// hot path: what an app's user types, an operator's command, a file to import.
// Destinations of PDUs are read by route.Number, which knows less and allocates
// nothing; a test holds the two together.
package number

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/nyaruka/phonenumbers"

	"shunt/gateway/msg"
)

// Country reads numbers the way they are written in one country. The zero
// Country has none: it reads international numbers alone.
type Country struct {
	region string
	fast   msg.Country // as the hot path knows it; zero for Argentina
}

// In is the country with these two letters (ISO 3166-1); "" is none.
func In(region string) (Country, error) {
	if region == "" {
		return Country{}, nil
	}
	if !phonenumbers.GetSupportedRegions()[region] {
		return Country{}, fmt.Errorf(`country %q is not known, want two capital letters such as "GB"`, region)
	}
	fast, _ := msg.CountryOf(region)
	return Country{region, fast}, nil
}

const (
	maxText   = 40 // octets of a number with all its punctuation
	minDigits = 4  // of a national number
	maxDigits = 21 // 011, 0011 or the like and fifteen
)

// Parse reads a number that somebody registers. Its digits may be set apart by
// blanks, hyphens, dots, slashes and brackets. "+" or "00" begins an international
// number. Other digits are international too, but where there is a country they
// are its national number, with or without the prefix; international only if they
// cannot be that, or begin with the country's own code and are a valid number so.
//
// A number is refused if numbers of its calling code never have so many digits
// (libphonenumber's IsPossibleNumber). Whether its range is assigned is not asked
// (IsValidNumber): numbering plans change more often than this program does, a new
// range would be locked out, and so would those that are kept for tests.
func (c Country) Parse(text string) (msg.Number, error) {
	if n, ok := c.canonical(text); ok {
		return n, check(n, text)
	}
	d, plus, err := digitsOf(text)
	if err != nil {
		return 0, err
	}
	var possible msg.Number
	for _, r := range c.readings(d, plus) {
		n, valid, wrong := c.read(r, text)
		switch {
		case wrong == nil && valid:
			return n, nil
		case wrong == nil && possible == 0:
			possible = n
		case wrong != nil && err == nil:
			err = wrong
		}
	}
	if possible != 0 {
		return possible, nil
	}
	return 0, err
}

// ParseKnown is Parse for a number that is looked for: what is registered may
// have as many digits as it likes.
func (c Country) ParseKnown(text string) (msg.Number, error) {
	if n, ok := c.canonical(text); ok {
		return n, nil
	}
	return c.Parse(text)
}

// Looks tells what keeps a text from being a number of any country.
func Looks(text string) error {
	d, plus, err := digitsOf(text)
	if err == nil && d[0] != '0' && (len(d) < 7 || len(d) > 15) || err == nil && plus && d[0] == '0' {
		err = malformed(text)
	}
	return err
}

// canonical reads E.164, with its "+" or without where that can be no national
// number. Files have millions of these.
func (c Country) canonical(text string) (msg.Number, bool) {
	d, plus := strings.CutPrefix(text, "+")
	n, ok := msg.NumberOfDigits(d)
	if !ok || plus || c.region == "" {
		return n, ok
	}
	_, national := c.fast.National([]byte(d))
	return n, !national && c.fast.Code != 0
}

// reading is one way to take the digits of a text; in a region, or "".
type reading struct{ text, region string }

// readings are all of them. The first one that is a valid number counts, or else
// the first one that is possible.
func (c Country) readings(d string, plus bool) []reading {
	international := reading{"+" + d, phonenumbers.UNKNOWN_REGION}
	if plus || c.region == "" && d[0] != '0' {
		return []reading{international}
	}
	all := []reading{{d, c.region}}
	if n, ok := c.fast.National([]byte(d)); ok { // as the hot path does
		all = append(all, reading{n.String(), phonenumbers.UNKNOWN_REGION})
	}
	switch {
	case strings.HasPrefix(d, "00"): // but 0011 in Australia
		international.text = "+" + d[2:]
		return append([]reading{international}, all...)
	case d[0] == '0':
		return all
	case c.fast.Code != 0 && strings.HasPrefix(d, strconv.Itoa(int(c.fast.Code))):
		return append([]reading{international}, all...)
	}
	return append(all, international)
}

// read has the library read one reading of a text.
func (c Country) read(r reading, text string) (n msg.Number, valid bool, err error) {
	if r.region == "" {
		return 0, false, refuse(text, "is a national number and no country is set: want it with + and the country code")
	}
	x, err := phonenumbers.Parse(r.text, r.region)
	if err != nil {
		return 0, false, malformed(text)
	}
	if x.GetItalianLeadingZero() && strings.HasPrefix(c.fast.Trunk, "0") && r.region == c.region { // no prefix, to the library
		return 0, false, refuse(text, fmt.Sprintf("want %s digits behind the %s of a national number", list(c.fast.Lengths), c.fast.Trunk))
	}
	n, ok := msg.NumberOfDigits(strings.TrimPrefix(phonenumbers.Format(x, phonenumbers.E164), "+"))
	if !ok {
		return 0, false, malformed(text)
	}
	return n, phonenumbers.IsValidNumber(x), check(n, text)
}

// digitsOf takes the punctuation off. Letters are not taken for digits, and an
// extension has no SMS.
func digitsOf(text string) (d string, plus bool, err error) {
	t := strings.TrimSpace(text)
	for _, sign := range []string{"+", "＋"} {
		if rest, ok := strings.CutPrefix(t, sign); ok {
			t, plus = rest, true
			break
		}
	}
	var b strings.Builder
	for _, r := range t {
		switch {
		case r >= '0' && r <= '9':
			b.WriteRune(r)
		case unicode.IsDigit(r):
			b.WriteString(phonenumbers.NormalizeDigitsOnly(string(r)))
		case r == ' ', r == '\u00a0', r == '\u202f', r == '-', r == '.', r == '/', r == '(', r == ')', r >= '\u2010' && r <= '\u2015':
		default:
			return "", false, refuse(text, "want digits, with a leading + or not, set apart by nothing but blanks, hyphens, dots, slashes and brackets")
		}
	}
	if d = b.String(); len(text) > maxText || len(d) < minDigits || len(d) > maxDigits {
		return "", false, malformed(text)
	}
	return d, plus, nil
}

// check refuses a number that is longer or shorter than any of its calling code.
func check(n msg.Number, text string) error {
	d := strconv.FormatUint(uint64(n), 10)
	code, lengths := plans().of(d)
	if code == 0 {
		return refuse(text, "no country has a calling code that begins like this")
	}
	rest := len(d) - len(strconv.Itoa(code))
	if lengths>>rest&1 == 1 {
		return nil
	}
	return refuse(text, fmt.Sprintf("has %d digits behind +%d, want %s", rest, code, list(lengths)))
}

// plan has, by calling code, a bit for every length that a national significant
// number can have.
type plan [1000]uint32

// plans asks the library for all lengths once: its own answer takes 20 µs and
// more for each number.
var plans = sync.OnceValue(func() *plan {
	p := &plan{}
	for code := range phonenumbers.GetSupportedCallingCodes() {
		for n, v := 1, uint64(2); n <= 14; n, v = n+1, v*10+2 {
			c, v := int32(code), v
			if phonenumbers.IsPossibleNumberWithReason(&phonenumbers.PhoneNumber{CountryCode: &c, NationalNumber: &v}) == phonenumbers.IS_POSSIBLE {
				p[code] |= 1 << n
			}
		}
	}
	return p
})

// of finds the calling code that digits begin with: none is the beginning of
// another (ITU-T E.164 §6.2.1).
func (p *plan) of(d string) (code int, lengths uint32) {
	for _, c := range []byte(d[:3]) {
		if code = code*10 + int(c-'0'); p[code] != 0 {
			return code, p[code]
		}
	}
	return 0, 0
}

// list writes lengths as "7, 9 or 10".
func list(lengths uint32) string {
	var all []string
	for n := range 32 {
		if lengths>>n&1 == 1 {
			all = append(all, strconv.Itoa(n))
		}
	}
	last := len(all) - 1
	if last == 0 {
		return all[0]
	}
	return strings.Join(all[:last], ", ") + " or " + all[last]
}

func malformed(text string) error { return fmt.Errorf("number %q: %w", msg.Mask(text), msg.ErrNumber) }

func refuse(text, why string) error { return fmt.Errorf("number %q: %s", msg.Mask(text), why) }
