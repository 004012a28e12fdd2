package smpp

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"shunt/smpp/pdu"
)

// MessageState is message_state (SMPP v3.4 §5.2.28).
type MessageState byte

const (
	StateScheduled     MessageState = 0 // v5.0
	StateEnroute       MessageState = 1
	StateDelivered     MessageState = 2
	StateExpired       MessageState = 3
	StateDeleted       MessageState = 4
	StateUndeliverable MessageState = 5
	StateAccepted      MessageState = 6
	StateUnknown       MessageState = 7
	StateRejected      MessageState = 8
)

// stats are the names of states in a receipt's text (Appendix B, "stat"). Their
// first five letters tell them apart, however a vendor cuts or spells the word.
var stats = [...]string{"", "ENROUTE", "DELIVRD", "EXPIRED", "DELETED", "UNDELIV", "ACCEPTD", "UNKNOWN", "REJECTD"}

// Stat is the state's seven letters in a receipt's text.
func (s MessageState) Stat() string {
	if int(s) < len(stats) && s > 0 {
		return stats[s]
	}
	return "UNKNOWN"
}

// Final tells whether no other state follows.
func (s MessageState) Final() bool {
	return s != StateEnroute && s != StateAccepted && s != 0
}

// esm_class bits of deliver_sm (§5.2.12).
const (
	ESMReceipt      = 0x04 // SMSC delivery receipt
	ESMAcknowledged = 0x08 // SME delivery acknowledgement: the user has read it
	ESMManualAck    = 0x10 // SME manual or user acknowledgement: the user has answered
	ESMIntermediate = 0x20 // intermediate delivery notification
	esmTypeMask     = 0x3C
)

// Receipt is an SMSC delivery receipt (SMPP v3.4 Appendix B and the TLVs
// receipted_message_id, message_state).
type Receipt struct {
	ID           string
	State        MessageState
	Submit, Done time.Time // zero where unknown
	Err          string    // three characters, the network's own
	Text         []byte    // up to 20 octets of the message
}

// IsReceipt recognises a delivery receipt by esm_class bits 5 to 2, never by
// its text.
func IsReceipt(m *pdu.SM) bool {
	return m.ESMClass&esmTypeMask == ESMReceipt
}

// IsIntermediate recognises an intermediate notification (§5.2.12), which is
// written like a receipt.
func IsIntermediate(m *pdu.SM) bool {
	return m.ESMClass&esmTypeMask == ESMIntermediate
}

// ParseReceipt reads a receipt as SMSCs write them: TLVs first, then keys in
// any order and case, with fields missing and dates of 10 to 14 digits. What
// follows text: is the subscriber's, and is read for keys only where nothing
// before it is one. ok is false where neither gives an id.
func ParseReceipt(m *pdu.SM) (r Receipt, ok bool) {
	text := m.ShortMessage
	if b, one := m.Payload(); one {
		text = b
	}
	if _, at := find(text, "text:"); at >= 0 {
		head := text[:at]
		if _, id := find(head, "id:"); id >= 0 {
			text = head
		} else if _, stat := find(head, "stat:"); stat >= 0 {
			text = head
		}
	}
	r.ID = string(field(text, "id:"))
	r.Err = string(field(text, "err:"))
	r.Submit = receiptDate(field(text, "submit date:"))
	r.Done = receiptDate(field(text, "done date:"))
	r.State = stateOf(field(text, "stat:"))
	if v, has := m.TLVs.Find(pdu.TagReceiptedMessageID); has {
		if id := bytes.TrimRight(v, "\x00"); len(id) > 0 {
			r.ID = string(id)
		}
	}
	if v, has := m.TLVs.Find(pdu.TagMessageState); has && len(v) == 1 && v[0] > 0 && int(v[0]) < len(stats) {
		r.State = MessageState(v[0])
	}
	if r.State == 0 {
		r.State = StateUnknown
	}
	return r, r.ID != ""
}

// stateOf reads a stat: the seven letters of Appendix B, the whole word, or a
// cut one. 0 is none of them.
func stateOf(stat []byte) MessageState {
	const enough = 5
	if len(stat) < enough {
		return 0
	}
	for i, n := range stats {
		if i > 0 && equalFold(stat[:enough], n[:enough]) {
			return MessageState(i)
		}
	}
	return 0
}

// field returns what stands behind key, up to the next space: empty where the
// next key follows at once.
func field(text []byte, key string) []byte {
	v, at := find(text, key)
	if at < 0 {
		return nil
	}
	if len(v) > 0 && v[0] == ' ' { // "id: 42", unless that is the next key
		v = word(v[1:])
		if bytes.IndexByte(v, ':') >= 0 {
			return nil
		}
		return v
	}
	return word(v)
}

// word is the beginning of b up to a space, a line's end or a NUL.
func word(b []byte) []byte {
	for i, c := range b {
		if c <= ' ' {
			return b[:i]
		}
	}
	return b
}

// find finds key in any case, at the beginning of the text or behind a space, a
// line's end or a NUL. It returns what follows key, and key's place or -1. The
// text may be in any alphabet: only ASCII letters have a case here, so that no
// octet moves.
func find(text []byte, key string) (after []byte, at int) {
	for at := 0; at+len(key) <= len(text); at++ {
		if (at == 0 || text[at-1] <= ' ') && equalFold(text[at:at+len(key)], key) {
			return text[at+len(key):], at
		}
	}
	return nil, -1
}

// equalFold compares octets without the case of ASCII letters.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	lower := func(c byte) byte {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}
	for i, c := range b {
		if lower(c) != lower(s[i]) {
			return false
		}
	}
	return true
}

// receiptDate reads YYMMDDhhmm with optional seconds, or with a four-digit
// year; anything else is no date. Twelve digits are YYMMDDhhmmss, or else
// YYYYMMDDhhmm, which are both only for the years 2001 to 2012.
func receiptDate(b []byte) time.Time {
	for _, layout := range [...]string{"0601021504", "060102150405", "200601021504", "20060102150405"} {
		if len(layout) != len(b) {
			continue
		}
		if t, err := time.ParseInLocation(layout, string(b), time.UTC); err == nil {
			return t
		}
	}
	return time.Time{}
}

// AppendText appends the receipt's text in the one strict form that every
// ESME reads (Appendix B):
//
//	id:ID sub:001 dlvrd:001 submit date:YYMMDDhhmm done date:YYMMDDhhmm stat:DELIVRD err:000 text:…
func (r *Receipt) AppendText(dst []byte) []byte {
	dlvrd := 0
	if r.State == StateDelivered {
		dlvrd = 1
	}
	e := r.Err
	if e == "" {
		e = "000"
	}
	dst = fmt.Appendf(dst, "id:%s sub:001 dlvrd:%03d submit date:%s done date:%s stat:%s err:%s text:", r.ID, dlvrd,
		r.Submit.UTC().Format("0601021504"), r.Done.UTC().Format("0601021504"), r.State.Stat(), e)
	return append(dst, r.Text[:min(len(r.Text), 20)]...)
}

// AppendTLVs appends receipted_message_id and message_state, for peers that
// take optional parameters.
func (r *Receipt) AppendTLVs(dst []byte) []byte {
	state := r.State
	if state < StateEnroute || state > StateRejected {
		state = StateUnknown // as in the text
	}
	dst = pdu.AppendTLV(dst, pdu.TagReceiptedMessageID, append([]byte(r.ID), 0))
	return pdu.AppendTLV(dst, pdu.TagMessageState, []byte{byte(state)})
}

// StatErr joins a state and the network's err into one short text, such as
// "UNDELIV 034", for records that keep what the carrier said.
func StatErr(s MessageState, err string) string {
	err = string(bytes.ReplaceAll([]byte(err), []byte(" "), nil))
	if err == "" {
		return s.Stat()
	}
	return s.Stat() + " " + err
}

// SplitStatErr takes apart what StatErr joined; an unknown stat is state 0.
func SplitStatErr(text string) (s MessageState, err string) {
	stat, err, _ := strings.Cut(text, " ")
	for i, n := range stats {
		if i > 0 && n == stat {
			s = MessageState(i)
		}
	}
	return s, err
}
