package coding

import (
	"errors"
	"fmt"
	"iter"
)

// Information element identifiers (3GPP TS 23.040 §9.2.3.24) that tell a part
// of a long message from every other use of a user data header.
const (
	IEConcat8  byte = 0x00 // concatenated short message, 8-bit reference
	IEConcat16 byte = 0x08 // concatenated short message, 16-bit reference
)

// UDH reads the user data header at the start of b, the short_message of a
// PDU whose esm_class has the UDH indicator (3GPP TS 23.040 §9.2.3.24):
// elements are its identifiers and their data, in order and as slices of b;
// length is the header's, its own length octet included, so that b[length:]
// is the text. A header whose elements do not fill it exactly is an error:
// §9.2.3.24 has the receiver ignore it whole.
func UDH(b []byte) (elements iter.Seq2[byte, []byte], length int, err error) {
	h, err := udh(b)
	if err != nil {
		return nil, 0, err
	}
	return func(yield func(byte, []byte) bool) {
		for i := 1; i < len(h); {
			id, d, end := elementAt(h, i)
			if !yield(id, d) {
				return
			}
			i = end
		}
	}, len(h), nil
}

// udh is the header at the start of b, found sound. Callers that must not
// allocate walk it with elementAt, for the iterator of UDH is a closure.
func udh(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, errors.New("user data header: no octet for its length")
	}
	length := int(b[0]) + 1
	if length > len(b) {
		return nil, fmt.Errorf("user data header: length %d, but only %d octets follow", b[0], len(b)-1)
	}
	h := b[:length:length]
	for i := 1; i < length; {
		if i+2 > length {
			return nil, fmt.Errorf("user data header: element at offset %d has no length", i)
		}
		end := i + 2 + int(h[i+1])
		if end > length {
			return nil, fmt.Errorf("user data header: element %#02x at offset %d has length %d, but only %d octets follow",
				h[i], i, h[i+1], length-i-2)
		}
		i = end
	}
	return h, nil
}

// elementAt is the information element at offset i of a sound header; end is
// where the next one begins.
func elementAt(h []byte, i int) (id byte, data []byte, end int) {
	end = i + 2 + int(h[i+1])
	return h[i], h[i+2 : end : end], end
}

// Part says which part of a long message a short message is.
type Part struct {
	Reference uint16
	Wide      bool // the reference has 16 bits; 8-bit references are another space
	Total     byte // 1 to 255 parts
	Number    byte // 1 to Total
}

// PartOf finds the concatenation element in the user data header at the start
// of b. ok is false without a sound header or without a sound element: a
// wrong length, no parts, number 0 or a number above the total, which 3GPP TS
// 23.040 §9.2.3.24.1 and §9.2.3.24.8 have the receiver ignore. Of several the
// last one counts (§9.2.3.24).
func PartOf(b []byte) (p Part, ok bool) {
	h, err := udh(b)
	if err != nil {
		return Part{}, false
	}
	for i := 1; i < len(h); {
		var id byte
		var d []byte
		id, d, i = elementAt(h, i)
		var q Part
		switch {
		case id == IEConcat8 && len(d) == 3:
			q = Part{Reference: uint16(d[0]), Total: d[1], Number: d[2]}
		case id == IEConcat16 && len(d) == 4:
			q = Part{Reference: uint16(d[0])<<8 | uint16(d[1]), Wide: true, Total: d[2], Number: d[3]}
		default:
			continue
		}
		if q.Number != 0 && q.Number <= q.Total {
			p, ok = q, true
		}
	}
	return p, ok
}
