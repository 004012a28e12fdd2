// Package pdu is SMPP on the wire: framing, views into octets that came, and
// builders for octets that go. It is functions from octets to values and back:
// no clock, socket, file or log, and no copy unless its name says so.
package pdu

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// HeaderLen is the length of the four header fields (SMPP v3.4 §3.2).
const HeaderLen = 16

// DefaultMaxLen bounds command_length: a 64 KiB message_payload (§5.3.2.32)
// and the mandatory part fit in it.
const DefaultMaxLen = 70 << 10

// MaxSequence is the largest sequence_number (SMPP v3.4 §5.1.4).
const MaxSequence = 0x7FFFFFFF

// ID is a command_id (SMPP v3.4 §5.1.2.1; v5.0 §4.7.5).
type ID uint32

const (
	GenericNack         ID = 0x80000000
	BindReceiver        ID = 0x00000001
	BindReceiverResp    ID = 0x80000001
	BindTransmitter     ID = 0x00000002
	BindTransmitterResp ID = 0x80000002
	QuerySM             ID = 0x00000003
	QuerySMResp         ID = 0x80000003
	SubmitSM            ID = 0x00000004
	SubmitSMResp        ID = 0x80000004
	DeliverSM           ID = 0x00000005
	DeliverSMResp       ID = 0x80000005
	Unbind              ID = 0x00000006
	UnbindResp          ID = 0x80000006
	ReplaceSM           ID = 0x00000007
	ReplaceSMResp       ID = 0x80000007
	CancelSM            ID = 0x00000008
	CancelSMResp        ID = 0x80000008
	BindTransceiver     ID = 0x00000009
	BindTransceiverResp ID = 0x80000009
	Outbind             ID = 0x0000000B
	EnquireLink         ID = 0x00000015
	EnquireLinkResp     ID = 0x80000015
	SubmitMulti         ID = 0x00000021
	SubmitMultiResp     ID = 0x80000021
	AlertNotification   ID = 0x00000102
	DataSM              ID = 0x00000103
	DataSMResp          ID = 0x80000103

	// Since v5.0.
	BroadcastSM           ID = 0x00000111
	BroadcastSMResp       ID = 0x80000111
	QueryBroadcastSM      ID = 0x00000112
	QueryBroadcastSMResp  ID = 0x80000112
	CancelBroadcastSM     ID = 0x00000113
	CancelBroadcastSMResp ID = 0x80000113
)

const respBit = 0x80000000

// IsResponse tells whether id answers a request; generic_nack does.
func (id ID) IsResponse() bool { return id&respBit != 0 }

// Response is the command_id that answers id.
func (id ID) Response() ID { return id | respBit }

// IsBind tells whether id is one of the three bind requests.
func (id ID) IsBind() bool {
	return id == BindReceiver || id == BindTransmitter || id == BindTransceiver
}

// Answered tells whether the peer owes a response to id. outbind and
// alert_notification have none (SMPP v3.4 §4.1.7, §4.12); an unknown request
// is taken to have one.
func (id ID) Answered() bool {
	return !id.IsResponse() && id != Outbind && id != AlertNotification
}

// PDU is one whole PDU, header included. A PDU read from a connection is valid
// only until the handler returns.
type PDU []byte

// Len is command_length.
func (p PDU) Len() uint32 { return binary.BigEndian.Uint32(p) }

// ID is command_id.
func (p PDU) ID() ID { return ID(binary.BigEndian.Uint32(p[4:])) }

// Status is command_status.
func (p PDU) Status() Status { return Status(binary.BigEndian.Uint32(p[8:])) }

// Seq is sequence_number.
func (p PDU) Seq() uint32 { return binary.BigEndian.Uint32(p[12:]) }

// SetSeq changes sequence_number in place, the only octets that a forwarded
// PDU may differ in.
func (p PDU) SetSeq(n uint32) { binary.BigEndian.PutUint32(p[12:], n) }

// Body is what follows the header.
func (p PDU) Body() []byte { return p[HeaderLen:] }

// ErrLength says that command_length is not one that a connection can go on
// after: framing is lost (SMPP v3.4 §3.2, ESME_RINVCMDLEN).
var ErrLength = errors.New("command_length out of bounds")

// Frame returns the length of the first PDU in b, 0 when b holds less than a
// whole one, or ErrLength. It never asks for more than max octets.
func Frame(b []byte, max int) (int, error) {
	if len(b) < 4 {
		return 0, nil
	}
	n := binary.BigEndian.Uint32(b)
	if n < HeaderLen || n > uint32(max) {
		return 0, fmt.Errorf("%w: %d, want %d to %d", ErrLength, n, HeaderLen, max)
	}
	if len(b) < int(n) {
		return 0, nil
	}
	return int(n), nil
}

// A FieldError says which field of a PDU does not decode, where and why. At is
// the field's offset from the start of the PDU.
type FieldError struct {
	Field string
	At    int
	Cause string
}

func (e *FieldError) Error() string {
	return fmt.Sprintf("%s at octet %d: %s", e.Field, e.At, e.Cause)
}

// decoder reads fields in wire order and keeps the first failure, so that
// there is one check at the end.
type decoder struct {
	b   []byte
	off int
	err *FieldError
}

func (d *decoder) fail(field, cause string) {
	if d.err == nil {
		d.err = &FieldError{Field: field, At: d.off, Cause: cause}
	}
}

// cString reads a NUL-terminated string of at most max octets, NUL included
// (SMPP v3.4 §3.1), and returns it without the NUL.
func (d *decoder) cString(field string, max int) []byte {
	if d.err != nil {
		return nil
	}
	b := d.b[min(d.off, len(d.b)):] // a PDU that is cut within its header has no body
	if len(b) > max {
		b = b[:max]
	}
	for i, c := range b {
		if c == 0 {
			d.off += i + 1
			return b[:i:i]
		}
	}
	if len(b) < max {
		d.fail(field, "cut short before its NUL")
	} else {
		d.fail(field, fmt.Sprintf("longer than %d octets", max))
	}
	return nil
}

func (d *decoder) octet(field string) byte {
	if d.err != nil {
		return 0
	}
	if d.off >= len(d.b) {
		d.fail(field, "cut short")
		return 0
	}
	c := d.b[d.off]
	d.off++
	return c
}

func (d *decoder) octets(field string, n int) []byte {
	if d.err != nil {
		return nil
	}
	if len(d.b)-d.off < n {
		d.fail(field, fmt.Sprintf("cut short: %d octets of %d", len(d.b)-d.off, n))
		return nil
	}
	b := d.b[d.off : d.off+n : d.off+n]
	d.off += n
	return b
}

// tlvs takes the rest as optional parameters and checks that they are whole.
func (d *decoder) tlvs() TLVs {
	if d.err != nil {
		return nil
	}
	all := d.b[d.off:]
	for rest := all; len(rest) > 0; {
		if len(rest) < 4 {
			d.fail("optional parameter", "cut short")
			return nil
		}
		n := int(binary.BigEndian.Uint16(rest[2:]))
		if len(rest) < 4+n {
			d.fail("optional parameter", fmt.Sprintf("tag 0x%04X: %d octets of %d", binary.BigEndian.Uint16(rest), len(rest)-4, n))
			return nil
		}
		rest = rest[4+n:]
		d.off += 4 + n
	}
	return TLVs(all[:len(all):len(all)])
}

func (d *decoder) error() error {
	if d.err == nil {
		return nil
	}
	return d.err
}
