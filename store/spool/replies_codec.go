package spool

import (
	"encoding/binary"
	"fmt"

	"shunt/gateway/msg"
)

const maxReplyParts = 255

// check tells why r cannot be stored.
func (r *Reply) check() error {
	switch {
	case r.ID.IsZero():
		return fmt.Errorf("reply id: is zero: %w", ErrInvalid)
	case r.Expires.IsZero():
		return fmt.Errorf("reply %s: expires: is zero: %w", r.ID, ErrInvalid)
	case len(r.Parts) == 0 || len(r.Parts) > maxReplyParts:
		return fmt.Errorf("reply %s: %d parts, want 1 to %d: %w", r.ID, len(r.Parts), maxReplyParts, ErrInvalid)
	case r.Taken < 0 || r.Taken >= len(r.Parts):
		return fmt.Errorf("reply %s: %d of %d parts taken: %w", r.ID, r.Taken, len(r.Parts), ErrInvalid)
	}
	for i, p := range r.Parts {
		if len(p) > maxPDU {
			return fmt.Errorf("reply %s: part %d: %d octets, at most %d fit: %w", r.ID, i, len(p), maxPDU, ErrInvalid)
		}
	}
	for _, f := range [...]struct{ name, text string }{
		{"to", r.To},
		{"system_id", r.Account.SystemID},
		{"system_type", r.Account.SystemType},
		{"address_range", r.Account.AddressRange},
	} {
		if len(f.text) > maxText {
			return fmt.Errorf("reply %s: %s: %d octets, at most %d fit: %w", r.ID, f.name, len(f.text), maxText, ErrInvalid)
		}
	}
	return nil
}

// appendReply writes what kReply holds: message, from, at, expires, four texts,
// taken, the number of parts, and each part after its length in four octets.
func appendReply(b []byte, r *Reply) []byte {
	b = append(b, r.Message[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.From))
	b = appendTime(appendTime(b, r.At), r.Expires)
	for _, s := range [...]string{r.Account.SystemID, r.Account.SystemType, r.Account.AddressRange, r.To} {
		b = appendText(b, s)
	}
	b = append(b, byte(r.Taken), byte(len(r.Parts)))
	for _, p := range r.Parts {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

// decodeReply reads what appendReply wrote; the parts are copies.
func decodeReply(id msg.ID, b []byte) (*Reply, error) {
	d, r := &decoder{b: b}, &Reply{ID: id}
	copy(r.Message[:], d.take(len(r.Message), "message"))
	r.From = msg.Number(d.u64("from"))
	r.At, r.Expires = d.time("at"), d.time("expires")
	r.Account.SystemID = d.text("system_id")
	r.Account.SystemType = d.text("system_type")
	r.Account.AddressRange = d.text("address_range")
	r.To = d.text("to")
	r.Taken = int(d.u8("taken"))
	n := int(d.u8("parts"))
	for range n {
		size := d.u32("part")
		if d.err == nil && size > maxPDU {
			d.err = fmt.Errorf("part: %d octets: %w", size, errBadFields)
		}
		if d.err != nil {
			break
		}
		r.Parts = append(r.Parts, append([]byte(nil), d.take(int(size), "part")...))
	}
	if d.err == nil && (n == 0 || r.Taken >= n) {
		d.err = fmt.Errorf("%d of %d parts taken: %w", r.Taken, n, errBadFields)
	}
	return r, d.end()
}
