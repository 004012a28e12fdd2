package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strings"
	"time"

	"shunt/gateway/msg"
)

// recordVersion is the first octet of every value. This is the first version:
// there is no older one to read, and a newer one is refused.
const recordVersion = 1

// sealOverhead is what a value carries beside its fields: the version and a
// CRC-32C over key, version and fields, so that a value under a wrong key is
// as bad as a torn one.
const sealOverhead = 1 + crc32.Size

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// What is wrong with a record.
var (
	errCRC       = errors.New("bad crc")
	errShort     = errors.New("cut short")
	errTrailing  = errors.New("octets after the last field")
	errNewer     = errors.New("record version is not of this program")
	errBadFields = errors.New("field out of range")
)

// seal closes the value that begins at start in b: whoever calls it appended
// recordVersion there and the fields after it.
func seal(b []byte, start int, key []byte) []byte {
	sum := crc32.Update(crc32.Update(0, castagnoli, key), castagnoli, b[start:])
	return binary.BigEndian.AppendUint32(b, sum)
}

// unseal returns the fields of a value.
func unseal(key, value []byte) ([]byte, error) {
	if len(value) < sealOverhead {
		return nil, fmt.Errorf("record of %d octets: %w", len(value), errShort)
	}
	end := len(value) - crc32.Size
	sum := crc32.Update(crc32.Update(0, castagnoli, key), castagnoli, value[:end])
	if sum != binary.BigEndian.Uint32(value[end:]) {
		return nil, errCRC
	}
	if value[0] != recordVersion {
		return nil, fmt.Errorf("record version %d: %w", value[0], errNewer)
	}
	return value[1:end], nil
}

// decoder reads fields in their order and keeps the first failure.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int, field string) []byte {
	if d.err == nil && len(d.b) < n {
		d.err = fmt.Errorf("%s: %w", field, errShort)
	}
	if d.err != nil {
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) u8(field string) byte {
	if v := d.take(1, field); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) u16(field string) uint16 {
	if v := d.take(2, field); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (d *decoder) u32(field string) uint32 {
	if v := d.take(4, field); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (d *decoder) u64(field string) uint64 {
	if v := d.take(8, field); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) time(field string) time.Time { return timeOf(int64(d.u64(field))) }

func (d *decoder) text(field string) string { return string(d.take(int(d.u8(field)), field)) }

// state reads a state; what the table does not know cannot be worked on.
func (d *decoder) state(field string) msg.State {
	s := msg.State(d.u8(field))
	if d.err == nil && int(s) >= stateCount {
		d.err = fmt.Errorf("%s: %d: %w", field, s, errBadFields)
	}
	return s
}

// end is the one check after all fields.
func (d *decoder) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.err = errTrailing
	}
	return d.err
}

var stateCount = len(msg.States())

func appendTime(b []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(nanos(t)))
}

func appendText(b []byte, s string) []byte {
	s = cut(s, maxText)
	return append(append(b, byte(len(s))), s...)
}

// The first and the last time that int64 holds in nanoseconds since 1970.
var firstTime, lastTime = time.Unix(0, math.MinInt64), time.Unix(0, math.MaxInt64)

// nanos is t in nanoseconds since 1970; zero for the zero time alone. What
// int64 cannot hold becomes its nearest end.
func nanos(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case t.Before(firstTime):
		return math.MinInt64
	case t.After(lastTime):
		return math.MaxInt64
	}
	if ns := t.UnixNano(); ns != 0 {
		return ns
	}
	return 1
}

func timeOf(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// Flags of a record.
const (
	flagBegun = 1 << iota
	flagRead
	flagReceiptDue
	flagDuplicate // Prefer is PossibleDuplicate
	flagPart      // Group, Number and Total follow the texts
	flagEdited    // Edition follows those
	flagExtra     // an octet of extra fields, and those fields, follow that
	flagTrail     // the latest trace steps follow at the end: two octets of length, then steps
)

// What the octet of extra fields announces, in the order of its bits. The two
// lowest bits are the Hold.
const (
	extraHold  = 0x03
	extraOwed  = 1 << (iota + 1) // an octet
	extraCause                   // an octet
	extraDue                     // a time
	extraPlan                    // a text
)

// Bits in the octet of a body's Prefer: Group, Number and Total follow the PDU;
// DueAt follows those.
const (
	bodyPart = 0x80
	bodyDue  = 0x40
)

// appendRecord writes what "S" and "H" hold: everything but the octets.
// t is its trace as far as it is not in rows of its own.
func appendRecord(b []byte, r *Record, t trail) []byte {
	wire := r.WireID
	if wire == r.ID.String() {
		wire = ""
	}
	flags := flagsOf(r)
	if len(t.steps) > 0 {
		flags |= flagTrail
	}
	b = append(b, byte(r.State), flags, r.Version, r.RegisteredDelivery)
	b = binary.BigEndian.AppendUint16(b, t.count)
	b = binary.BigEndian.AppendUint16(b, r.SMSAttempts)
	b = binary.BigEndian.AppendUint16(b, r.Resubmits)
	b = binary.BigEndian.AppendUint64(b, uint64(r.To))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Lease))
	for _, t := range [...]time.Time{r.ReceivedAt, r.ClaimBy, r.ExpiresAt, r.Since, r.DoneAt} {
		b = appendTime(b, t)
	}
	for _, s := range [...]string{
		r.Account.SystemID, r.Account.SystemType, r.Account.AddressRange,
		r.App, r.From, wire, r.Device, r.Peer, r.SMSID, r.SMSErr,
	} {
		b = appendText(b, s)
	}
	if r.Part() {
		b = append(append(b, r.Group[:]...), r.Number, r.Total)
	}
	if r.Edition > 0 {
		b = binary.BigEndian.AppendUint16(b, r.Edition)
	}
	b = appendExtra(b, r)
	if len(t.steps) > 0 {
		b = binary.BigEndian.AppendUint16(b, uint16(len(t.steps)))
		b = append(b, t.steps...)
	}
	return b
}

// extraOf is the octet of extra fields.
func extraOf(r *Record) byte {
	x := byte(r.Hold) & extraHold
	if r.Owed != 0 {
		x |= extraOwed
	}
	if r.Cause != msg.NoReason {
		x |= extraCause
	}
	if !r.DueAt.IsZero() {
		x |= extraDue
	}
	if r.Plan != "" {
		x |= extraPlan
	}
	return x
}

func appendExtra(b []byte, r *Record) []byte {
	x := extraOf(r)
	if x == 0 {
		return b
	}
	b = append(b, x)
	if x&extraOwed != 0 {
		b = append(b, byte(r.Owed))
	}
	if x&extraCause != 0 {
		b = append(b, byte(r.Cause))
	}
	if x&extraDue != 0 {
		b = appendTime(b, r.DueAt)
	}
	if x&extraPlan != 0 {
		b = appendText(b, r.Plan)
	}
	return b
}

// extra reads what appendExtra wrote.
func (d *decoder) extra(r *Record) {
	x := d.u8("extra fields")
	r.Hold = msg.Hold(x & extraHold)
	if x&extraOwed != 0 {
		r.Owed = msg.Notice(d.u8("owed"))
	}
	if x&extraCause != 0 {
		r.Cause = msg.Reason(d.u8("cause"))
	}
	if x&extraDue != 0 {
		r.DueAt = d.time("due_at")
	}
	if x&extraPlan != 0 {
		r.Plan = d.text("plan")
	}
}

func flagsOf(r *Record) (f byte) {
	if r.SMSBegun {
		f |= flagBegun
	}
	if r.Read {
		f |= flagRead
	}
	if r.ReceiptDue {
		f |= flagReceiptDue
	}
	if r.Prefer == msg.PossibleDuplicate {
		f |= flagDuplicate
	}
	if r.Part() {
		f |= flagPart
	}
	if r.Edition > 0 {
		f |= flagEdited
	}
	if extraOf(r) != 0 {
		f |= flagExtra
	}
	return f
}

func (r *Record) setFlags(f byte) {
	r.SMSBegun, r.Read, r.ReceiptDue = f&flagBegun != 0, f&flagRead != 0, f&flagReceiptDue != 0
	r.Prefer = msg.PossibleLoss
	if f&flagDuplicate != 0 {
		r.Prefer = msg.PossibleDuplicate
	}
}

// decodeRecord reads what appendRecord wrote.
func decodeRecord(id msg.ID, b []byte) (r Record, t trail, err error) {
	d := &decoder{b: b}
	r.ID = id
	r.State = d.state("state")
	flags := d.u8("flags")
	r.setFlags(flags)
	r.Version = d.u8("version")
	r.RegisteredDelivery = d.u8("registered_delivery")
	t.count = d.u16("steps")
	r.SMSAttempts = d.u16("sms_attempts")
	r.Resubmits = d.u16("resubmits")
	r.To = msg.Number(d.u64("to"))
	r.Lease = time.Duration(d.u64("lease"))
	r.ReceivedAt = d.time("received_at")
	r.ClaimBy = d.time("claim_by")
	r.ExpiresAt = d.time("expires_at")
	r.Since = d.time("since")
	r.DoneAt = d.time("done_at")
	r.Account.SystemID = d.text("system_id")
	r.Account.SystemType = d.text("system_type")
	r.Account.AddressRange = d.text("address_range")
	r.App = d.text("app")
	r.From = d.text("from")
	r.WireID = d.text("wire_id")
	r.Device = d.text("device")
	r.Peer = d.text("peer")
	r.SMSID = d.text("sms_id")
	r.SMSErr = d.text("sms_err")
	if flags&flagPart != 0 {
		r.Group, r.Number, r.Total = d.part()
	}
	if flags&flagEdited != 0 {
		r.Edition = d.u16("edition")
	}
	if flags&flagExtra != 0 {
		d.extra(&r)
	}
	if flags&flagTrail != 0 {
		t.steps = string(d.take(int(d.u16("trail")), "trail"))
	}
	if r.Hold == msg.NoHold && r.State == msg.Held { // as the first version wrote it: only parts were held
		r.Hold = msg.HoldParts
	}
	if r.WireID == "" {
		r.WireID = id.String()
	}
	return r, t, d.end()
}

// appendBody writes what "B" holds: the message as it was put.
func appendBody(b []byte, m *Message) []byte {
	wire := m.wireID()
	if wire == m.ID.String() {
		wire = ""
	}
	prefer := byte(m.Prefer)
	if m.Total > 0 {
		prefer |= bodyPart
	}
	if !m.DueAt.IsZero() {
		prefer |= bodyDue
	}
	b = append(b, m.Alphabet, m.Version, m.RegisteredDelivery, prefer)
	b = binary.BigEndian.AppendUint64(b, uint64(m.To))
	b = binary.BigEndian.AppendUint64(b, uint64(m.Lease))
	for _, t := range [...]time.Time{m.ReceivedAt, m.ClaimBy, m.ExpiresAt} {
		b = appendTime(b, t)
	}
	for _, s := range [...]string{
		m.Account.SystemID, m.Account.SystemType, m.Account.AddressRange, m.App, m.From, wire,
	} {
		b = appendText(b, s)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.PDU)))
	b = append(b, m.PDU...)
	if m.Total > 0 {
		b = append(append(b, m.Group[:]...), m.Number, m.Total)
	}
	if !m.DueAt.IsZero() {
		b = appendTime(b, m.DueAt)
	}
	return b
}

// decodeBody reads what appendBody wrote; the PDU is a copy.
func decodeBody(id msg.ID, b []byte) (*Message, error) {
	d := &decoder{b: b}
	m := &Message{ID: id}
	m.Alphabet = d.u8("alphabet")
	m.Version = d.u8("version")
	m.RegisteredDelivery = d.u8("registered_delivery")
	prefer := d.u8("prefer")
	m.Prefer = msg.Prefer(prefer &^ (bodyPart | bodyDue))
	m.To = msg.Number(d.u64("to"))
	m.Lease = time.Duration(d.u64("lease"))
	m.ReceivedAt = d.time("received_at")
	m.ClaimBy = d.time("claim_by")
	m.ExpiresAt = d.time("expires_at")
	m.Account.SystemID = d.text("system_id")
	m.Account.SystemType = d.text("system_type")
	m.Account.AddressRange = d.text("address_range")
	m.App = d.text("app")
	m.From = d.text("from")
	m.WireID = d.text("wire_id")
	if m.WireID == "" {
		m.WireID = id.String()
	}
	n := d.u32("pdu")
	if n > maxPDU {
		return nil, fmt.Errorf("pdu: %d octets: %w", n, errBadFields)
	}
	m.PDU = append([]byte(nil), d.take(int(n), "pdu")...)
	if prefer&bodyPart != 0 {
		m.Group, m.Number, m.Total = d.part()
	}
	if prefer&bodyDue != 0 {
		m.DueAt = d.time("due_at")
	}
	return m, d.end()
}

// part reads which part of which long message a message is.
func (d *decoder) part() (group msg.ID, number, total byte) {
	copy(group[:], d.take(len(group), "group"))
	number, total = d.u8("part number"), d.u8("parts")
	if d.err == nil && (group.IsZero() || number == 0 || number > total) {
		d.err = fmt.Errorf("part %d of %d: %w", number, total, errBadFields)
	}
	return group, number, total
}

// appendStep writes what "E" holds.
func appendStep(b []byte, s *Step) []byte {
	b = appendTime(b, s.At)
	b = append(b, byte(s.Event), byte(s.From), byte(s.To), byte(s.Reason))
	return appendText(b, s.Detail)
}

// step reads what appendStep wrote.
func (d *decoder) step() (s Step) {
	s.At = d.time("at")
	s.Event = msg.Event(d.u8("event"))
	s.From = d.state("from")
	s.To = d.state("to")
	s.Reason = msg.Reason(d.u8("reason"))
	s.Detail = d.text("detail")
	return s
}

// Keys. Every kind of record has a prefix of its own; ids and numbers are
// big-endian, so that keys sort as messages came.
const (
	kBody   = 'B' // id → message with its PDU
	kState  = 'S' // id → record of a live message
	kDone   = 'H' // id → record of a finished message
	kStep   = 'E' // id, n → trace steps, the last of which is the n-th
	kWire   = 'W' // message_id given to the ESME, where it is not the id → id
	kNumber = 'N' // number, id → nothing
	kGroup  = 'G' // group, id → nothing: the parts of a long message
	kAside  = 'X' // the key of a record that could not be read → that record as it is
)

// keyCursor holds an id below which no live record lies; keyShort the first
// short id that no run has reserved.
var (
	keyCursor = []byte("Mspool/cursor")
	keyShort  = []byte("Mspool/short")
)

func appendID(b []byte, kind byte, id msg.ID) []byte { return append(append(b, kind), id[:]...) }

func appendStepKey(b []byte, id msg.ID, n uint16) []byte {
	return binary.BigEndian.AppendUint16(appendID(b, kStep, id), n)
}

func appendNumberKey(b []byte, n msg.Number, id msg.ID) []byte {
	return append(binary.BigEndian.AppendUint64(append(b, kNumber), uint64(n)), id[:]...)
}

func appendGroupKey(b []byte, group, id msg.ID) []byte {
	return append(appendID(b, kGroup, group), id[:]...)
}

func idKey(kind byte, id msg.ID) []byte { return appendID(make([]byte, 0, 17), kind, id) }

func wireKey(wire string) []byte { return append([]byte{kWire}, wire...) }

// idOf reads the id that follows n octets of a key.
func idOf(key []byte, n int) (id msg.ID, ok bool) {
	if len(key) < n+len(id) {
		return id, false
	}
	return msg.ID(key[n : n+len(id)]), true
}

// keyName shows a key in a log without a number in the clear.
func keyName(key []byte) string {
	if len(key) == 0 {
		return "empty key"
	}
	if id, ok := idOf(key, 1); ok && strings.IndexByte("BSHEG", key[0]) >= 0 {
		return string(key[:1]) + " " + id.String()
	}
	return fmt.Sprintf("%c, %d octets", key[0], len(key))
}
