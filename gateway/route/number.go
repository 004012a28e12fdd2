package route

import (
	"shunt/gateway/msg"
	"shunt/smpp/pdu"
)

// Number reads a destination as E.164, in the ISDN or an unknown plan (SMPP
// v3.4 §5.2.5, §5.2.6): a number of international type; one of unknown type
// with or without "+" or "00"; and, of an account whose country is known, one
// of national type, or of unknown type with the national prefix. Short codes,
// alphanumeric addresses and other types are none. It does not allocate.
func Number(a pdu.Address, c *msg.Country) (msg.Number, bool) {
	if a.TON > pdu.TONNational || a.NPI > pdu.NPIISDN {
		return 0, false
	}
	d := a.Addr
	switch {
	case len(d) > 0 && d[0] == '+':
		return msg.NumberOfDigits(d[1:])
	case a.TON == pdu.TONNational:
		return c.National(d)
	case len(d) > 2 && d[0] == '0' && d[1] == '0':
		return msg.NumberOfDigits(d[2:])
	case a.TON == pdu.TONUnknown && c.Prefixed(d):
		return c.National(d)
	}
	return msg.NumberOfDigits(d)
}
