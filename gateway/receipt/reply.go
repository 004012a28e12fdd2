package receipt

import (
	"errors"
	"fmt"
	"time"
	"unique"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// Replies is what a Deliverer needs of the spool for replies.
type Replies interface {
	Reply(id msg.ID) (*spool.Reply, error)
	ReplyTaken(t spool.Taken, done func(error))
}

// ErrReplyText says that a text cannot be sent as a reply.
var ErrReplyText = errors.New("text cannot be sent")

// registeredManualAck is bit 3 of registered_delivery: an SME manual or user
// acknowledgement is asked for (SMPP v3.4 §5.2.17).
const registeredManualAck = 0x08

// BuildReply makes the deliver_sm with which the recipient of a message answers
// it: the message's addresses changed over, with their TON and NPI, and its
// service_type. submit is the submit_sm or data_sm; sequence_numbers are left 0.
//
// The text goes with data_coding 0 where the account's default alphabet, dflt,
// has all of its characters, else as UCS-2 with data_coding 8. What does not fit
// into one short message goes as parts with an 8-bit reference in the user data
// header (3GPP TS 23.040 §9.2.3.24.1), which every version of SMPP carries.
//
// If the message asked for it, the reply is its SME manual acknowledgement
// (§2.11: esm_class 0x10), and names it: receipted_message_id, and
// user_message_reference as the ESME gave it (§5.3.2.17). Deliver leaves these
// away from ESMEs that know no TLVs.
func BuildReply(r *spool.Record, submit pdu.PDU, dflt coding.Alphabet, text string, reference byte) ([][]byte, error) {
	var m pdu.SM
	if err := m.DecodeMessage(submit); err != nil {
		return nil, err
	}
	alphabet, dataCoding := dflt, byte(0)
	if _, err := coding.Encode(dflt, text); err != nil {
		alphabet, dataCoding = coding.UCS2, 8
	}
	segments, err := coding.Cut{Alphabet: alphabet, Form: coding.UDH8, Reference: uint16(reference)}.Text(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReplyText, err)
	}
	d := pdu.SM{ServiceType: m.ServiceType, Source: m.Dest, Dest: m.Source, DataCoding: dataCoding}
	class := byte(0)
	if r.RegisteredDelivery&registeredManualAck != 0 {
		class = smpp.ESMManualAck
		d.TLVs = pdu.AppendTLV(d.TLVs, pdu.TagReceiptedMessageID, append([]byte(r.WireID), 0))
		if ref, ok := m.TLVs.Find(pdu.TagUserMessageReference); ok {
			d.TLVs = pdu.AppendTLV(d.TLVs, pdu.TagUserMessageReference, ref)
		}
	}
	d.TLVs = pdu.AppendTLV(d.TLVs, pdu.TagShuntChannel, []byte(ChannelApp))
	parts := make([][]byte, len(segments))
	for i, s := range segments {
		d.ESMClass, d.ShortMessage = class, s.Append(nil)
		if len(s.Header) > 0 {
			d.ESMClass |= esmUDHI
		}
		parts[i] = pdu.AppendSM(nil, pdu.DeliverSM, 0, &d)
	}
	return parts, nil
}

// esmUDHI is the UDH indicator in esm_class (SMPP v3.4 §5.2.12).
const esmUDHI = 0x40

// withoutTLVs is p for a peer that knows none (SMPP v3.4 §3.3.2).
func withoutTLVs(p pdu.PDU) (pdu.PDU, error) {
	var m pdu.SM
	if err := m.Decode(p); err != nil {
		return nil, err
	}
	m.TLVs = nil
	return pdu.AppendSM(nil, pdu.DeliverSM, 0, &m), nil
}

// AddReply queues what is left of a reply. Its parts go one after the other, in
// the order of all that goes between the two. It does not block.
func (d *Deliverer) AddReply(r *spool.Reply) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.line(r.Account)
	for part := r.Taken; part < len(r.Parts); part++ {
		l.add(queued{
			id: r.ID, reply: true, part: part, deadline: r.Expires, ends: ends{unique.Make(r.To), r.From},
		})
	}
	d.touch(l)
}

// buildReply is the part of a reply that q stands for, if it still has to go.
func (d *Deliverer) buildReply(q queued, version byte) (p pdu.PDU, owed bool, err error) {
	r, err := d.o.Replies.Reply(q.id)
	switch {
	case errors.Is(err, spool.ErrNotFound):
		return nil, false, nil
	case err != nil:
		return nil, false, err
	case q.part < r.Taken || q.part >= len(r.Parts):
		return nil, false, nil
	}
	p = r.Parts[q.part]
	if !pdu.TLVsAllowed(version) {
		p, err = withoutTLVs(p)
	}
	return p, true, err
}

// postReply has the spool note what became of a part, and asks again until it has:
// the next start would send it once more.
func (d *Deliverer) postReply(t spool.Taken) {
	d.o.Replies.ReplyTaken(t, func(err error) {
		switch {
		case err == nil, errors.Is(err, spool.ErrNotFound), errors.Is(err, spool.ErrClosed):
		default: // the disk refused it
			time.AfterFunc(writeRest, func() { d.postReply(t) })
		}
	})
}
