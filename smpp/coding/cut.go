package coding

import (
	"errors"
	"fmt"
	"unicode/utf16"
)

// MaxPayload is the longest message_payload, in octets (SMPP v3.4 §5.3.2.32:
// its length is a 16-bit field).
const MaxPayload = 0xFFFF

// maxParts is the highest total that any form can say.
const maxParts = 255

// Cut says how to cut a long text into segments.
//
// A part holds what fits into 140 octets beside its header: with a plain 8-bit
// reference 153 septets of GSM7, 67 UTF-16 units of UCS2 or 134 octets of
// another alphabet, with a 16-bit one 152, 66 or 133, and less with Elements.
// A part in the form SAR holds as much as it could with the header that the
// SMSC will make of its reference, 8-bit if that is enough. A text that fits
// into one short message stays a Whole, without a reference.
type Cut struct {
	Alphabet  Alphabet
	Form      Form
	Reference uint16 // at most 255 for UDH8; of no use to Whole
	Elements  []byte // other information elements, put into every segment: Shift.Elements, ports
}

// Text encodes s, with the national language shifts among c.Elements, and
// cuts it. The errors are those of Encode and Octets.
func (c Cut) Text(s string) ([]Segment, error) {
	h, err := c.shift()
	if err != nil {
		return nil, err
	}
	b, err := units(c.Alphabet, s, h)
	if err != nil {
		return nil, err
	}
	return c.segments(b)
}

// Octets cuts b, a text in the alphabet of c without a header, as
// message_payload or the Body of Merge has it; before packed septets there are
// the fill bits of a header of c.Elements, if any. It never decodes b nor changes an octet. It is an error if b needs
// more than 255 parts or, for Whole, more than MaxPayload octets, if
// c.Elements are unsound, number parts themselves or leave no room, and
// ErrPadding if packed septets cannot be cut.
func (c Cut) Octets(b []byte) ([]Segment, error) {
	if c.Alphabet == GSM7Packed {
		h, err := header(Whole, Part{}, c.Elements)
		if err != nil {
			return nil, err
		}
		if b, err = AppendUnpacked(nil, b, FillBits(len(h))); err != nil {
			return nil, err
		}
	}
	return c.segments(b)
}

func (c Cut) shift() (Shift, error) {
	h, err := header(Whole, Part{}, c.Elements)
	if err != nil {
		return Shift{}, err
	}
	return Segment{Header: h}.shift()
}

// segments cuts units: packed septets come one an octet.
func (c Cut) segments(b []byte) ([]Segment, error) {
	if c.Alphabet == Unsupported || c.Alphabet >= numAlphabets {
		return nil, fmt.Errorf("alphabet %s cannot be cut", c.Alphabet)
	}
	if c.Form >= numForms {
		return nil, fmt.Errorf("nothing can be cut into %s", c.Form)
	}
	plain, err := header(Whole, Part{}, c.Elements)
	if err != nil {
		return nil, err
	}
	if other, err := (Segment{Header: plain}).Elements(); err != nil {
		return nil, err
	} else if len(other) != len(c.Elements) {
		return nil, errors.New("user data header: the elements for every part number a part themselves")
	}
	if c.Form == Whole || len(b) <= capacity(c.Alphabet, len(plain)) {
		s, err := c.segment(Segment{Header: plain}, b)
		if err != nil {
			return nil, err
		}
		if n := len(s.Header) + len(s.Body); n > MaxPayload {
			return nil, fmt.Errorf("message_payload: %d octets, at most %d", n, MaxPayload)
		}
		return []Segment{s}, nil
	}
	return c.parts(b)
}

// parts cuts what needs more than one part.
func (c Cut) parts(b []byte) ([]Segment, error) {
	on, err := header(c.onAir(), Part{Reference: c.Reference}, c.Elements)
	if err != nil {
		return nil, err
	}
	room := capacity(c.Alphabet, len(on))
	if room < 4 { // an escaped character, a surrogate pair
		return nil, fmt.Errorf("user data header: %d octets leave no room for text", len(on))
	}
	sent, err := header(c.Form, Part{Reference: c.Reference}, c.Elements)
	if err != nil {
		return nil, err
	}
	fill := FillBits(len(sent))
	var cuts [][]byte
	for len(b) > 0 {
		n := c.next(b, room, fill)
		if n == 0 {
			return nil, ErrPadding
		}
		if len(cuts) == maxParts {
			return nil, fmt.Errorf("text needs more than %d parts", maxParts)
		}
		cuts, b = append(cuts, b[:n:n]), b[n:]
	}
	segments := make([]Segment, len(cuts))
	for i, body := range cuts {
		p := Part{Reference: c.Reference, Wide: c.Form != UDH8, Total: byte(len(cuts)), Number: byte(i + 1)}
		h, err := header(c.Form, p, c.Elements)
		if err != nil {
			return nil, err
		}
		if segments[i], err = c.segment(Segment{Form: c.Form, Part: p, Header: h}, body); err != nil {
			return nil, err
		}
	}
	return segments, nil
}

// segment completes s with its text.
func (c Cut) segment(s Segment, body []byte) (Segment, error) {
	s.Body = body
	if c.Alphabet == GSM7Packed {
		var err error
		if s.Body, err = AppendPacked(nil, body, FillBits(len(s.Header))); err != nil {
			return Segment{}, err
		}
	}
	return s, nil
}

// onAir is the form of the header that a handset will see.
func (c Cut) onAir() Form {
	switch {
	case c.Form != SAR:
		return c.Form
	case c.Reference > 0xFF:
		return UDH16
	}
	return UDH8
}

// capacity is how many octets of text fit beside a header of n octets:
// septets for GSM7 and GSM7Packed, and an even number for UCS2.
func capacity(a Alphabet, n int) int {
	switch a {
	case GSM7, GSM7Packed:
		return (MaxUserData - n) * 8 / 7
	case UCS2:
		return (MaxUserData - n) &^ 1
	}
	return MaxUserData - n
}

// next is how much of b the next part takes: as much as room allows, and
// nothing cut in two. For packed septets it may be zero, if every cut would
// end a part with an @ that reads as padding.
func (c Cut) next(b []byte, room, fill int) int {
	switch c.Alphabet {
	case UCS2:
		return nextUCS2(b, room)
	case GSM7, GSM7Packed:
		best := 0
		for n := 0; n < len(b); {
			if b[n] == escape && n+1 < len(b) {
				n++
			}
			n++
			if n > room {
				break
			}
			if c.Alphabet == GSM7 || !endsAsPadding(b[:n], fill) {
				best = n
			}
		}
		return best
	}
	return min(room, len(b))
}

func nextUCS2(b []byte, room int) int {
	if len(b) <= room {
		return len(b)
	}
	n := room
	last := rune(b[n-2])<<8 | rune(b[n-1])
	if n+2 > len(b) || !utf16.IsSurrogate(last) {
		return n
	}
	// A high surrogate and a low one after it: both go to the next part.
	if utf16.DecodeRune(last, rune(b[n])<<8|rune(b[n+1])) != 0xFFFD {
		n -= 2
	}
	return n
}
