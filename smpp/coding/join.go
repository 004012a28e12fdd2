package coding

import (
	"bytes"
	"errors"
	"fmt"
)

// Join reads the text of a long message from all its parts, which may come in
// any order, or of a Whole. A character that a peer cut in two is read from
// both parts; between parts with different national language shifts it is an
// error. So is a part that is missing, there twice, or of another message.
func Join(a Alphabet, parts []Segment) (string, error) {
	ordered, err := inOrder(parts)
	if err != nil {
		return "", err
	}
	var d []byte
	if a == GSM7 || a == GSM7Packed {
		d, err = joinGSM7(a, ordered)
	} else {
		d, err = AppendDecode(nil, a, bodies(ordered))
	}
	if err != nil {
		return "", err
	}
	return string(d), nil
}

// joinGSM7 carries an escape at the end of a part over to the next one.
func joinGSM7(a Alphabet, ordered []Segment) ([]byte, error) {
	var s septets
	var d []byte
	for i, p := range ordered {
		h, err := p.shift()
		if err != nil {
			return nil, partError(p, err)
		}
		next, err := h.septets()
		if err != nil {
			return nil, partError(p, err)
		}
		if s.escaped && h != s.shift {
			return nil, partError(p, errors.New("gsm7: an escape in the part before, which has other national language shifts"))
		}
		next.escaped = s.escaped
		s = next
		if a == GSM7Packed {
			d, err = s.addPacked(d, p.Body, FillBits(len(p.Header)))
		} else {
			d, err = s.add(d, p.Body)
		}
		if err == nil && i == len(ordered)-1 {
			err = s.end()
		}
		if err != nil {
			return nil, partError(p, err)
		}
	}
	return d, nil
}

func partError(p Segment, err error) error {
	if p.Form == Whole {
		return err
	}
	return fmt.Errorf("part %d of %d: %w", p.Part.Number, p.Part.Total, err)
}

// Merge puts the octets of all parts, in any order, into one Whole, as
// message_payload carries it; Cut.Octets is the inverse. Information elements
// other than concatenation stay as the header, and are an error if the parts
// do not agree on them. So is a missing or repeated part, more than
// MaxPayload octets, and ErrPadding for packed septets.
func Merge(a Alphabet, parts []Segment) (Segment, error) {
	ordered, err := inOrder(parts)
	if err != nil {
		return Segment{}, err
	}
	if ordered[0].Form == Whole {
		return ordered[0], nil
	}
	elements, err := ordered[0].Elements()
	if err != nil {
		return Segment{}, partError(ordered[0], err)
	}
	for _, p := range ordered[1:] {
		e, err := p.Elements()
		if err == nil && !bytes.Equal(e, elements) {
			err = errors.New("user data header: other information elements than in part 1")
		}
		if err != nil {
			return Segment{}, partError(p, err)
		}
	}
	var w Segment
	if w.Header, err = header(Whole, Part{}, elements); err != nil {
		return Segment{}, err
	}
	if a == GSM7Packed {
		w.Body, err = mergePacked(ordered, FillBits(len(w.Header)))
	} else {
		w.Body = bodies(ordered)
	}
	if err != nil {
		return Segment{}, err
	}
	if n := len(w.Header) + len(w.Body); n > MaxPayload {
		return Segment{}, fmt.Errorf("message_payload: %d octets, at most %d", n, MaxPayload)
	}
	return w, nil
}

func mergePacked(ordered []Segment, fill int) ([]byte, error) {
	var all []byte
	var err error
	for _, p := range ordered {
		if all, err = AppendUnpacked(all, p.Body, FillBits(len(p.Header))); err != nil {
			return nil, partError(p, err)
		}
	}
	return AppendPacked(nil, all, fill)
}

func bodies(ordered []Segment) []byte {
	n := 0
	for _, p := range ordered {
		n += len(p.Body)
	}
	b := make([]byte, 0, n)
	for _, p := range ordered {
		b = append(b, p.Body...)
	}
	return b
}

// inOrder sorts parts by number. Each must be there exactly once, and all of
// one message.
func inOrder(parts []Segment) ([]Segment, error) {
	if len(parts) == 0 {
		return nil, errors.New("no parts to join")
	}
	first := parts[0]
	if first.Form == Whole {
		if len(parts) > 1 {
			return nil, fmt.Errorf("a whole message beside %d others", len(parts)-1)
		}
		return parts, nil
	}
	ordered, there := make([]Segment, first.Part.Total), 0
	for _, p := range parts {
		n := p.Part.Number
		if p.Form != first.Form || p.Part.Reference != first.Part.Reference || p.Part.Total != first.Part.Total {
			return nil, fmt.Errorf("part %d of %d is of another message", n, p.Part.Total)
		}
		if n == 0 || n > p.Part.Total {
			return nil, fmt.Errorf("part %d of %d", n, p.Part.Total)
		}
		if ordered[n-1].Part.Number != 0 {
			return nil, fmt.Errorf("part %d of %d is there twice", n, p.Part.Total)
		}
		ordered[n-1] = p
		there++
	}
	if there != len(ordered) {
		return nil, fmt.Errorf("%d of %d parts are there", there, len(ordered))
	}
	return ordered, nil
}
