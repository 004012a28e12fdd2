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
	StateEnroute       MessageState = 1
	StateDelivered     MessageState = 2
	StateExpired       MessageState = 3
	StateDeleted       MessageState = 4
	StateUndeliverable MessageState = 5
	StateAccepted      MessageState = 6
	StateUnknown       MessageState = 7
	StateRejected      MessageState = 8
)

// stats are the names of states in a receipt's text (Appendix B, "stat").
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

// ParseReceipt reads a receipt as SMSCs write them: TLVs first, then keys in
// any order and case, with fields missing and dates of 10 to 14 digits. ok is
// false where neither gives an id.
func ParseReceipt(m *pdu.SM) (r Receipt, ok bool) {
	text := m.ShortMessage
	if b, one := m.Payload(); one {
		text = b
	}
	r.ID = string(field(text, "id:"))
	r.Err = string(field(text, "err:"))
	r.Submit = receiptDate(field(text, "submit date:"))
	r.Done = receiptDate(field(text, "done date:"))
	stat := bytes.ToUpper(field(text, "stat:"))
	for i, n := range stats {
		// Some write the whole word, some cut it to seven letters.
		if i > 0 && len(stat) >= 5 && (bytes.HasPrefix(stat, []byte(n)) || bytes.HasPrefix([]byte(n), stat)) {
			r.State = MessageState(i)
		}
	}
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

// field finds key, which must begin the text or follow a space, and returns
// what stands up to the next space.
func field(text []byte, key string) []byte {
	lower := bytes.ToLower(text)
	for at := 0; ; {
		i := bytes.Index(lower[at:], []byte(key))
		if i < 0 {
			return nil
		}
		at += i
		if at == 0 || lower[at-1] == ' ' {
			v := text[at+len(key):]
			if end := bytes.IndexByte(v, ' '); end >= 0 {
				v = v[:end]
			}
			return v
		}
		at += len(key)
	}
}

// receiptDate reads YYMMDDhhmm with optional seconds, or with a four-digit
// year; anything else is no date.
func receiptDate(b []byte) time.Time {
	layout := map[int]string{10: "0601021504", 12: "060102150405", 14: "20060102150405"}[len(b)]
	if layout == "" {
		return time.Time{}
	}
	t, err := time.ParseInLocation(layout, string(b), time.UTC)
	if err != nil {
		return time.Time{}
	}
	return t
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
	dst = pdu.AppendTLV(dst, pdu.TagReceiptedMessageID, append([]byte(r.ID), 0))
	return pdu.AppendTLV(dst, pdu.TagMessageState, []byte{byte(r.State)})
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
