package pdu

import (
	"encoding/binary"
	"iter"
)

// TLVs are the optional parameters of a PDU as they came, in their order,
// duplicates and vendor tags included. A TLVs that a decoder returned is whole.
type TLVs []byte

// All walks the parameters in wire order.
func (t TLVs) All() iter.Seq2[Tag, []byte] {
	return func(yield func(Tag, []byte) bool) {
		for b := []byte(t); len(b) >= 4; {
			n := int(binary.BigEndian.Uint16(b[2:]))
			if len(b) < 4+n {
				return
			}
			if !yield(Tag(binary.BigEndian.Uint16(b)), b[4:4+n:4+n]) {
				return
			}
			b = b[4+n:]
		}
	}
}

// Find returns the first parameter of that tag.
func (t TLVs) Find(tag Tag) ([]byte, bool) {
	for g, v := range t.All() {
		if g == tag {
			return v, true
		}
	}
	return nil, false
}

// AppendTLV appends one parameter; a value is at most 65,535 octets.
func AppendTLV(dst []byte, tag Tag, value []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(tag))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(value)))
	return append(dst, value...)
}
