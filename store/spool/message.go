package spool

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"shunt/gateway/msg"
)

// What a call on the spool can come to, besides an error of the disk.
var (
	ErrFull       = errors.New("spool is full")
	ErrClosed     = errors.New("spool is closed")
	ErrNotFound   = errors.New("no such message in the spool")
	ErrRefused    = errors.New("event does not fit the message's state")
	ErrSuperseded = errors.New("another device or the carrier has the message")
	ErrDuplicate  = errors.New("message id is already in the spool")
	ErrInvalid    = errors.New("message cannot be spooled")
	ErrStalled    = errors.New("spool's disk does not answer: the message was taken back")
	ErrUnsure     = errors.New("spool cannot tell whether the message is on its disk: if so, it is taken back")
	ErrFailing    = errors.New("spool cannot write")
)

// Longest texts that a record keeps, in octets. Whoever sends them is not
// trusted to keep them short.
const (
	maxPDU    = 128 << 10 // well above the largest submit_sm with a message_payload
	maxText   = 255       // one octet holds the length of every text on disk
	maxDetail = 96
	maxSMSErr = 16
)

// Message is what never changes of a diverted message.
type Message struct {
	ID     msg.ID
	WireID string // the message_id that the ESME was given: ID.String(), or eight hex digits

	Account msg.Account
	To      msg.Number
	App     string
	Plan    string // by whose name it was diverted; not kept with the octets
	From    string // the source address as text
	Via     string // the bind that it came by, for its trace alone; at most 96 octets
	PDU     []byte // the submit_sm as it came, header included; at most 128 KiB

	Alphabet           uint8 // how its text decodes (smpp/coding)
	Version            byte  // interface_version of the bind
	RegisteredDelivery byte

	ReceivedAt, ClaimBy, ExpiresAt time.Time     // ClaimBy zero: no claim timer; ExpiresAt is required
	DueAt                          time.Time     // schedule_delivery_time; zero: at once
	Lease                          time.Duration // claimed → delivered; zero: none
	Prefer                         msg.Prefer

	// Of a part of a long message; a zero Group is none. The parts of one
	// share the Group, which is the ID of one of them: the one that is pushed.
	Group         msg.ID
	Number, Total byte      // part Number of Total
	HoldBy        time.Time // until then it waits for the others; ClaimBy counts if it completes them
}

// check tells why m cannot be spooled.
func (m *Message) check() error {
	switch {
	case m.ID.IsZero():
		return fmt.Errorf("message id: is zero: %w", ErrInvalid)
	case m.ExpiresAt.IsZero():
		return fmt.Errorf("message %s: expires_at: is zero: %w", m.ID, ErrInvalid)
	case m.Group.IsZero() != (m.Total == 0), m.Number > m.Total, m.Total > 0 && m.Number == 0:
		return fmt.Errorf("message %s: part %d of %d of %s: %w", m.ID, m.Number, m.Total, m.Group, ErrInvalid)
	case m.Total > 0 && m.HoldBy.IsZero():
		return fmt.Errorf("message %s: hold_by: is zero: %w", m.ID, ErrInvalid)
	case m.Total > 0 && !m.DueAt.IsZero():
		return fmt.Errorf("message %s: due_at: a part of a long message cannot be scheduled: %w", m.ID, ErrInvalid)
	case len(m.PDU) > maxPDU:
		return fmt.Errorf("message %s: pdu: %d octets, at most %d fit: %w", m.ID, len(m.PDU), maxPDU, ErrInvalid)
	}
	for _, f := range [...]struct{ name, text string }{
		{"wire_id", m.WireID},
		{"app", m.App},
		{"plan", m.Plan},
		{"from", m.From},
		{"system_id", m.Account.SystemID},
		{"system_type", m.Account.SystemType},
		{"address_range", m.Account.AddressRange},
	} {
		if len(f.text) > maxText {
			return fmt.Errorf("message %s: %s: %d octets, at most %d fit: %w", m.ID, f.name, len(f.text), maxText, ErrInvalid)
		}
	}
	return nil
}

// Event is what a leg, a timer or the API says happened.
type Event struct {
	ID     msg.ID
	Kind   msg.Event
	At     time.Time // zero: the committer's clock
	Reason msg.Reason
	Detail string // a status, a provider's reason; never text or tokens; 96 octets are kept

	Device      string    // EvClaim, EvDelivered, EvRead; at most 255 octets
	Peer, SMSID string    // EvSMSAccepted: which own SMSC, and its message_id, raw; 255 octets are kept
	SMSErr      string    // the carrier receipt's err or the command_status; 16 octets are kept
	DoneAt      time.Time // the carrier receipt's done date, or the app's time of acknowledgement

	ClaimBy time.Time  // EvComplete
	Replace *Message   // EvReplace: the message as it is from now on
	Notice  msg.Notice // EvNoticeDone: which one

	Wait bool // EvComplete, EvDue: another message goes first; the committer's own
}

// normalise cuts what is too long to keep. A device's name is never cut: two
// devices could become one.
func (e *Event) normalise() error {
	if len(e.Device) > maxText {
		return fmt.Errorf("device: %d octets, at most %d fit: %w", len(e.Device), maxText, ErrRefused)
	}
	if e.Kind == msg.EvClaim && e.Device == "" {
		return fmt.Errorf("device: a claim names none: %w", ErrRefused)
	}
	if e.Kind == msg.EvReplace {
		if e.Replace == nil || e.Replace.ID != e.ID {
			return fmt.Errorf("replace: is for another message: %w", ErrRefused)
		}
		if err := e.Replace.check(); err != nil {
			return err
		}
		e.Replace.WireID = e.Replace.wireID()
	}
	e.Detail = printable(cut(e.Detail, maxDetail))
	e.SMSErr = printable(cut(e.SMSErr, maxSMSErr))
	e.Peer, e.SMSID = cut(e.Peer, maxText), cut(e.SMSID, maxText)
	return nil
}

// Words are the event's own detail after the names that a trace needs.
func (e *Event) Words() string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+value)
		}
	}
	switch e.Kind {
	case msg.EvClaim, msg.EvDelivered, msg.EvRead:
		add("device=", e.Device)
	case msg.EvSMSAccepted:
		add("peer=", e.Peer)
		add("id=", e.SMSID)
	}
	add("err=", e.SMSErr)
	add("", e.Detail)
	return cut(printable(strings.Join(parts, " ")), maxText)
}

func cut(s string, octets int) string {
	if len(s) > octets {
		return s[:octets]
	}
	return s
}

// printable replaces what would act on a terminal or is no UTF-8.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// Record is a message without its octets: what never changes and is small,
// and what changes.
type Record struct {
	ID      msg.ID
	WireID  string
	Account msg.Account
	To      msg.Number
	App     string
	Plan    string // "" where an earlier version accepted it
	From    string

	Version, RegisteredDelivery    byte
	ReceivedAt, ClaimBy, ExpiresAt time.Time
	Lease                          time.Duration
	Prefer                         msg.Prefer

	State       msg.State
	Since       time.Time // when State was entered
	Device      string    // the device that won the claim, also when its lease ran out later
	SMSBegun    bool      // FALLBACK or SMS_UNKNOWN: an SMS may be on the wire
	SMSAttempts uint16
	Resubmits   uint16
	Peer, SMSID string // the own SMSC that took the SMS, and its message_id
	SMSErr      string
	Read        bool
	DoneAt      time.Time // when the outcome happened: the device's ack, the carrier's done date
	ReceiptDue  bool      // final, a receipt was asked for, and the ESME has not yet taken it
	Edition     uint16    // how often replace_sm changed it

	Hold  msg.Hold   // HELD: what it waits for
	DueAt time.Time  // schedule_delivery_time; zero: none
	Owed  msg.Notice // notices that came about and that the ESME has not yet taken
	Cause msg.Reason // why it went to the carrier; if it never did, why it ended

	Group         msg.ID // as Message.Group
	Number, Total byte
}

// Part tells whether r is a part of a long message.
func (r *Record) Part() bool { return !r.Group.IsZero() }

// Follows tells whether r is a part that another one speaks for towards the
// app.
func (r *Record) Follows() bool { return r.Part() && r.Group != r.ID }

// live tells whether r still needs work: an outcome, or a receipt's delivery.
func (r *Record) live() bool {
	return r.State != msg.None && (!r.State.Final() || r.ReceiptDue || r.Owed != 0)
}

// letter is what r's place in the order goes by: its long message, or itself.
func (r *Record) letter() msg.ID {
	if r.Part() {
		return r.Group
	}
	return r.ID
}

// newRecord is the record of a message that is about to be accepted.
func newRecord(m *Message) Record {
	r := Record{
		ID: m.ID, WireID: m.wireID(), Account: m.Account, To: m.To, App: m.App, Plan: m.Plan, From: m.From,
		Version: m.Version, RegisteredDelivery: m.RegisteredDelivery,
		ReceivedAt: m.ReceivedAt, ClaimBy: m.ClaimBy, ExpiresAt: m.ExpiresAt,
		Lease: m.Lease, Prefer: m.Prefer, Group: m.Group, Number: m.Number, Total: m.Total, DueAt: m.DueAt,
	}
	switch {
	case r.Part():
		r.ClaimBy, r.Hold = m.HoldBy, msg.HoldParts
	case m.DueAt.After(m.ReceivedAt):
		r.Hold = msg.HoldSchedule
	}
	return r
}

// wireID is the id that the ESME was given; empty in m means ID.String().
func (m *Message) wireID() string {
	if m.WireID == "" {
		return m.ID.String()
	}
	return m.WireID
}

// Step is one line of a message's trace.
type Step struct {
	At       time.Time
	Event    msg.Event
	From, To msg.State
	Reason   msg.Reason
	Detail   string // device, peer and SMSC id where they apply, then the event's own detail
}

// Change tells an observer what the committer synced. Of a replay nothing was
// written: the state was there already.
//
// Turn tells that the message is in FALLBACK and its SMS may go: no earlier
// message between the same two is undecided. It stays so until the SMS has its
// answer. If it becomes so later, a Change of its own says it, with EvTurn,
// from FALLBACK to FALLBACK; nothing was written for that.
type Change struct {
	Event    Event
	From, To msg.State
	Record   Record
	Replay   bool
	Turn     bool
}

// Result is what came of an event.
type Result struct {
	Err    error  // nil, ErrRefused, ErrSuperseded, ErrNotFound, ErrClosed, or why the commit failed
	Record Record // after the event; where it was refused or superseded, as it stands
	Replay bool   // the event had happened before: success, nothing changed
}
