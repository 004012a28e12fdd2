package coding

import (
	"errors"
	"fmt"

	"shunt/smpp/pdu"
)

// esmUDHI is the UDH indicator in esm_class (SMPP v3.4 §5.2.12).
const esmUDHI = 0x40

// MaxUserData is how many octets of user data one short message carries over
// the air, its header included (3GPP TS 23.040 §9.2.3.16): 140 octets, or 160
// septets.
const MaxUserData = 140

// Form is how a short message says which part of a long message it is.
type Form uint8

const (
	Whole Form = iota // it is no part: one short message, or a message_payload
	UDH8              // a user data header with an 8-bit reference (3GPP TS 23.040 §9.2.3.24.1)
	UDH16             // a user data header with a 16-bit reference (§9.2.3.24.8)
	SAR               // sar_msg_ref_num, sar_total_segments, sar_segment_seqnum (SMPP v3.4 §5.3.2.22 to 24)
	numForms
)

var formNames = [numForms]string{"whole", "udh8", "udh16", "sar"}

func (f Form) String() string {
	if f < numForms {
		return formNames[f]
	}
	return fmt.Sprintf("form(%d)", uint8(f))
}

// Segment is a short message and which part of a long one it is. References
// of different forms are different spaces, even where their numbers agree.
type Segment struct {
	Form   Form
	Part   Part   // zero for Whole; Wide is set for UDH16 and SAR, whose references have 16 bits
	Header []byte // the user data header, its length octet included; empty without one
	Body   []byte // the octets of the text, after the header
}

// ReadSegment reads what part a short message is from its esm_class, its
// short_message or message_payload and its optional parameters. Header and
// Body are slices of message. It is an error if the header is unsound, if the
// sar_* parameters are incomplete, contradictory or out of range, or if both
// a header and sar_* say that it is a part. It allocates only to report an
// error.
func ReadSegment(esmClass byte, message []byte, tlvs pdu.TLVs) (Segment, error) {
	s := Segment{Body: message}
	if esmClass&esmUDHI != 0 {
		h, err := udh(message)
		if err != nil {
			return Segment{}, err
		}
		s.Header, s.Body = h, message[len(h):]
		if p, ok := PartOf(s.Header); ok {
			s.Part, s.Form = p, UDH8
			if p.Wide {
				s.Form = UDH16
			}
		}
	}
	p, ok, err := ReadSAR(tlvs)
	switch {
	case err != nil:
		return Segment{}, err
	case ok && s.Form != Whole:
		return Segment{}, errors.New("both a user data header and sar_* number the part")
	case ok:
		s.Part, s.Form = p, SAR
	}
	return s, nil
}

// ReadSAR reads the three sar_* parameters. ok is false if there are none of
// them; the error names the one that is missing, malformed, out of range, or
// there twice with different values.
func ReadSAR(tlvs pdu.TLVs) (p Part, ok bool, err error) {
	var seen [3]bool
	p.Wide = true
	for tag, v := range tlvs.All() {
		var i, size int
		switch tag {
		case pdu.TagSARMsgRefNum:
			i, size = 0, 2
		case pdu.TagSARTotalSegments:
			i, size = 1, 1
		case pdu.TagSARSegmentSeqnum:
			i, size = 2, 1
		default:
			continue
		}
		if len(v) != size {
			return Part{}, false, fmt.Errorf("%s: length %d, want %d", sarNames[i], len(v), size)
		}
		before := p
		switch i {
		case 0:
			p.Reference = uint16(v[0])<<8 | uint16(v[1])
		case 1:
			p.Total = v[0]
		case 2:
			p.Number = v[0]
		}
		if seen[i] && p != before {
			return Part{}, false, fmt.Errorf("%s: there twice with different values", sarNames[i])
		}
		seen[i] = true
	}
	if seen == [3]bool{} {
		return Part{}, false, nil
	}
	for i, there := range seen {
		if !there {
			return Part{}, false, fmt.Errorf("%s is missing beside other sar_* parameters", sarNames[i])
		}
	}
	if p.Number == 0 || p.Number > p.Total {
		return Part{}, false, fmt.Errorf("sar_segment_seqnum: %d of %d", p.Number, p.Total)
	}
	return p, true, nil
}

var sarNames = [3]string{"sar_msg_ref_num", "sar_total_segments", "sar_segment_seqnum"}

// AppendSAR appends the three sar_* parameters that say p (SMPP v3.4
// §5.3.2.22 to 24).
func AppendSAR(dst []byte, p Part) []byte {
	dst = pdu.AppendTLV(dst, pdu.TagSARMsgRefNum, []byte{byte(p.Reference >> 8), byte(p.Reference)})
	dst = pdu.AppendTLV(dst, pdu.TagSARTotalSegments, []byte{p.Total})
	return pdu.AppendTLV(dst, pdu.TagSARSegmentSeqnum, []byte{p.Number})
}

// Append appends the short_message or message_payload of s. Its esm_class
// needs the UDH indicator if s.Header is not empty, and a segment in the form
// SAR needs AppendSAR.
func (s Segment) Append(dst []byte) []byte { return append(append(dst, s.Header...), s.Body...) }

// Text reads the text of s alone, in the alphabet a and, for GSM7 and
// GSM7Packed, with the national language shifts of its header. A part that a
// peer cut within a character is an error; see Join.
func (s Segment) Text(a Alphabet) (string, error) {
	d, err := s.AppendText(nil, a)
	if err != nil {
		return "", err
	}
	return string(d), nil
}

// AppendText is Text into UTF-8 at the end of dst. It allocates only to grow
// dst, and to report an error; on an error it returns dst as it was.
func (s Segment) AppendText(dst []byte, a Alphabet) ([]byte, error) {
	if a != GSM7 && a != GSM7Packed {
		return AppendDecode(dst, a, s.Body)
	}
	h, err := s.shift()
	if err != nil {
		return dst, err
	}
	if a == GSM7Packed {
		return appendPackedText(dst, s.Body, FillBits(len(s.Header)), h)
	}
	return appendGSM7(dst, s.Body, h)
}

func (s Segment) shift() (Shift, error) {
	if len(s.Header) == 0 {
		return Shift{}, nil
	}
	return ShiftOf(s.Header)
}

// To puts a part into another form of part and keeps the octets of its text,
// but for the fill bits of packed septets; a is its alphabet. It is an error
// to give a reference above 255 to UDH8, to make a part of a Whole or a Whole
// of a part (see Cut and Merge), and to exceed MaxUserData with a header:
// then the whole text has to be cut anew. In the form that s already has, s
// comes back as it is.
func (s Segment) To(f Form, a Alphabet) (Segment, error) {
	if f == s.Form {
		return s, nil
	}
	if f == Whole || s.Form == Whole || f >= numForms || s.Form >= numForms {
		return Segment{}, fmt.Errorf("one segment cannot turn from %s into %s", s.Form, f)
	}
	elements, err := s.Elements()
	if err != nil {
		return Segment{}, err
	}
	t := Segment{Form: f, Part: s.Part, Body: s.Body}
	t.Part.Wide = f != UDH8
	if t.Header, err = header(f, t.Part, elements); err != nil {
		return Segment{}, err
	}
	if a == GSM7Packed {
		if t.Body, err = repack(s.Body, len(s.Header), len(t.Header)); err != nil {
			return Segment{}, err
		}
	}
	if room := capacity(a, len(t.Header)); f != SAR && bodyUnits(a, t) > room {
		return Segment{}, fmt.Errorf("part %d of %d has %d octets of %s text, and a header leaves room for %d",
			t.Part.Number, t.Part.Total, bodyUnits(a, t), a, room)
	}
	return t, nil
}

// bodyUnits counts octets as capacity does.
func bodyUnits(a Alphabet, s Segment) int {
	if a == GSM7Packed {
		return packedSeptets(s.Body, FillBits(len(s.Header)))
	}
	return len(s.Body)
}

// Elements are the information elements of the header but for concatenation,
// in their order, as Cut.Elements takes them; nil without any. It is an error
// if Header is unsound.
func (s Segment) Elements() ([]byte, error) {
	if len(s.Header) == 0 {
		return nil, nil
	}
	elements, n, err := UDH(s.Header)
	if err != nil {
		return nil, err
	}
	if n != len(s.Header) {
		return nil, fmt.Errorf("user data header: length %d, but %d octets", n-1, len(s.Header)-1)
	}
	var other []byte
	for id, d := range elements {
		if id != IEConcat8 && id != IEConcat16 {
			other = append(append(other, id, byte(len(d))), d...)
		}
	}
	return other, nil
}

// header builds a user data header: the element of the form, if it has one,
// and then elements. It is nil where both are empty.
func header(f Form, p Part, elements []byte) ([]byte, error) {
	h := []byte{0}
	switch f {
	case UDH8:
		if p.Reference > 0xFF {
			return nil, fmt.Errorf("reference %d needs more than the 8 bits of %s", p.Reference, f)
		}
		h = append(h, IEConcat8, 3, byte(p.Reference), p.Total, p.Number)
	case UDH16:
		h = append(h, IEConcat16, 4, byte(p.Reference>>8), byte(p.Reference), p.Total, p.Number)
	}
	h = append(h, elements...)
	if len(h) == 1 {
		return nil, nil
	}
	if len(h) > MaxUserData {
		return nil, fmt.Errorf("user data header: %d octets, at most %d", len(h), MaxUserData)
	}
	h[0] = byte(len(h) - 1)
	return h, nil
}

// repack moves packed septets from behind a header of one length to behind
// one of another.
func repack(b []byte, from, to int) ([]byte, error) {
	if FillBits(from) == FillBits(to) {
		return b, nil
	}
	septets, err := AppendUnpacked(nil, b, FillBits(from))
	if err != nil {
		return nil, err
	}
	return AppendPacked(nil, septets, FillBits(to))
}
