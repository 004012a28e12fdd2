package msg

// Country says how national numbers are written somewhere. The zero Country
// has none.
type Country struct {
	Code    uint16 // ITU-T E.164 country code
	Trunk   string // national prefix, digits
	Lengths uint32 // bit n: a number may have n digits without code and prefix
}

// CountryOf finds a country by its two letters (ISO 3166-1).
func CountryOf(region string) (Country, bool) {
	c, ok := countries[region]
	return c, ok
}

// Prefixed tells whether d is the national prefix and as many digits as a number
// may have behind it, and cannot be an international number: only "0" begins no
// country code. A short code like 0800 is none.
func (c *Country) Prefixed(d []byte) bool {
	n := len(c.Trunk)
	return n > 0 && c.Trunk[0] == '0' && len(d) > n && string(d[:n]) == c.Trunk && c.Fits(len(d)-n)
}

// National reads a national number, with or without its prefix. It does not
// allocate: the decision calls it.
func (c *Country) National(d []byte) (Number, bool) {
	if n := len(c.Trunk); n > 0 && len(d) > n && string(d[:n]) == c.Trunk && c.Fits(len(d)-n) {
		d = d[n:]
	} else if !c.Fits(len(d)) || n > 0 && c.Trunk[0] == '0' && d[0] == '0' { // a prefix with too few digits behind it
		return 0, false
	}
	n := Number(c.Code)
	for _, x := range d {
		if x < '0' || x > '9' {
			return 0, false
		}
		n = n*10 + Number(x-'0')
	}
	return n, n >= MinNumber && n <= MaxNumber
}

// Fits tells whether a number may have so many digits without code and prefix.
func (c *Country) Fits(digits int) bool { return digits < 32 && c.Lengths>>digits&1 == 1 }
