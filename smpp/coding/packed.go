package coding

import (
	"errors"
	"fmt"
)

// ErrPadding says that a text cannot be written in packed septets: it would
// end with an @, whose code is zero, in the last seven bits of the last octet,
// and a reader would take that for padding.
var ErrPadding = errors.New("gsm7-packed: an @ at the end would read as padding")

// FillBits is how many bits precede the first septet after a user data header
// of length octets, its length octet included, so that the text begins on a
// septet boundary (3GPP TS 23.040 §9.2.3.24).
func FillBits(length int) int { return (7 - length*8%7) % 7 }

// AppendPacked packs septets, one an octet, after fill bits of zero (3GPP TS
// 23.038 §6.1.2.1.1; fill is 0 to 6). The last octet is padded with zeros.
// The error is ErrPadding, or that of an octet above 0x7F; dst is then
// returned as it was.
func AppendPacked(dst, septets []byte, fill int) ([]byte, error) {
	n := len(septets)
	if endsAsPadding(septets, fill) {
		return dst, ErrPadding
	}
	start := len(dst)
	acc, bits := uint(0), fill
	for i, s := range septets {
		if s > 0x7F {
			return dst[:start], fmt.Errorf("gsm7-packed: septet %#02x at offset %d is above 0x7f", s, i)
		}
		acc |= uint(s) << bits
		for bits += 7; bits >= 8; bits -= 8 {
			dst = append(dst, byte(acc))
			acc >>= 8
		}
	}
	if n > 0 && bits > 0 {
		dst = append(dst, byte(acc))
	}
	return dst, nil
}

// endsAsPadding tells whether the last septet is an @ that AppendPacked cannot
// write.
func endsAsPadding(septets []byte, fill int) bool {
	n := len(septets)
	return n > 0 && septets[n-1] == 0 && (fill+7*n)%8 == 0
}

// AppendUnpacked is the inverse of AppendPacked. An SMPP PDU counts octets and
// not septets, so that seven zero bits at the end may be an @ or padding; they
// are taken for padding, which one text in eight needs, while hardly any text
// ends with an @. Fill bits and shorter padding that are not zero are an
// error: what has them is hardly packed. dst is then returned as it was.
func AppendUnpacked(dst, b []byte, fill int) ([]byte, error) {
	n, start := packedSeptets(b, fill), len(dst)
	var r unpacker
	if err := r.init(b, fill); err != nil {
		return dst, err
	}
	for range n {
		dst = append(dst, r.next())
	}
	if r.acc != 0 {
		return dst[:start], fmt.Errorf("gsm7-packed: padding in the octet at offset %d is not zero", len(b)-1)
	}
	return dst, nil
}

// packedSeptets is how many septets b holds.
func packedSeptets(b []byte, fill int) int {
	bits := 8*len(b) - fill
	if bits < 7 {
		return 0
	}
	n := bits / 7
	if bits%7 == 0 && b[len(b)-1]>>1 == 0 {
		n--
	}
	return n
}

// unpacker takes septets off packed octets.
type unpacker struct {
	b    []byte
	acc  uint
	bits int
}

func (r *unpacker) init(b []byte, fill int) error {
	if len(b) == 0 {
		return nil
	}
	if b[0]&(1<<fill-1) != 0 {
		return errors.New("gsm7-packed: fill bits before the first septet are not zero")
	}
	r.acc, r.bits, r.b = uint(b[0])>>fill, 8-fill, b[1:]
	return nil
}

func (r *unpacker) next() byte {
	if r.bits < 7 {
		r.acc |= uint(r.b[0]) << r.bits
		r.bits += 8
		r.b = r.b[1:]
	}
	c := byte(r.acc & 0x7F)
	r.acc >>= 7
	r.bits -= 7
	return c
}

// appendPackedText decodes packed octets that follow fill bits.
func appendPackedText(dst, b []byte, fill int, h Shift) ([]byte, error) {
	n := len(dst)
	s, err := h.septets()
	if err != nil {
		return dst, err
	}
	if dst, err = s.addPacked(dst, b, fill); err == nil {
		err = s.end()
	}
	if err != nil {
		return dst[:n], err
	}
	return dst, nil
}

// addPacked is add for packed octets; it unpacks into a buffer on the stack.
func (s *septets) addPacked(dst, b []byte, fill int) ([]byte, error) {
	var r unpacker
	if err := r.init(b, fill); err != nil {
		return dst, err
	}
	var buf [160]byte
	var err error
	for left := packedSeptets(b, fill); left > 0; {
		run := buf[:min(left, len(buf))]
		for i := range run {
			run[i] = r.next()
		}
		if dst, err = s.add(dst, run); err != nil {
			return dst, err
		}
		left -= len(run)
	}
	if r.acc != 0 {
		return dst, fmt.Errorf("gsm7-packed: padding in the octet at offset %d is not zero", len(b)-1)
	}
	return dst, nil
}
