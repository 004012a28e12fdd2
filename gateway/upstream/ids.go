package upstream

import (
	"strconv"
	"strings"
)

// IDFormat says how an SMSC writes message ids in submit_sm_resp and in its
// receipts; many say one in hexadecimal and the other in decimal.
type IDFormat uint8

const (
	IDRaw IDFormat = iota // the same octets in both
	IDHex
	IDDec
	IDHexRespDecReceipt
	IDDecRespHexReceipt
)

// OfResponse is the canonical form of an id from a submit_sm_resp.
func (f IDFormat) OfResponse(id string) string {
	switch f {
	case IDHex, IDHexRespDecReceipt:
		return canonical(id, 16)
	case IDDec, IDDecRespHexReceipt:
		return canonical(id, 10)
	}
	return id
}

// OfReceipt is the canonical form of an id from a receipt.
func (f IDFormat) OfReceipt(id string) string {
	switch f {
	case IDHex, IDDecRespHexReceipt:
		return canonical(id, 16)
	case IDDec, IDHexRespDecReceipt:
		return canonical(id, 10)
	}
	return id
}

// InReceipt is an id from a submit_sm_resp as the SMSC writes it in receipts;
// what is no number in the response's base stays as it is.
func (f IDFormat) InReceipt(id string) string {
	from, to := 10, 16
	switch f {
	case IDHexRespDecReceipt:
		from, to = 16, 10
	case IDDecRespHexReceipt:
	default:
		return id
	}
	if n, err := strconv.ParseUint(id, from, 64); err == nil {
		return strconv.FormatUint(n, to)
	}
	return id
}

// canonical is the number in decimal; what is no number in that base, or none
// of 64 bits, stays as it is but for leading zeros and case.
func canonical(id string, base int) string {
	if n, err := strconv.ParseUint(id, base, 64); err == nil {
		return strconv.FormatUint(n, 10)
	}
	return strings.ToLower(strings.TrimLeft(id, "0"))
}
