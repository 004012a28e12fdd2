// Package receipt tells ESMEs what became of their diverted messages: final
// states become deliver_sm, delivered to any bind of the account that receives.
package receipt

import (
	"time"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// Channels, in ASCII, in the vendor TLV 0x1580 of a receipt.
const (
	ChannelApp     = "app"
	ChannelCarrier = "carrier"
)

// Channel is the one that the outcome came about on; empty for a message that
// neither took.
func Channel(r *spool.Record) string {
	switch {
	case r.State == msg.Delivered || r.State == msg.Unknown && r.Device != "" && r.SMSAttempts == 0:
		return ChannelApp
	case r.Peer != "" || r.SMSAttempts > 0:
		return ChannelCarrier
	}
	return ""
}

// Outcome is message_state and err of a finished message. What the carrier
// said of a fallback is passed on; what Shunt found out itself has err 000.
func Outcome(r *spool.Record) (smpp.MessageState, string) {
	said, err := smpp.SplitStatErr(r.SMSErr)
	switch n := len(err); { // three characters in Appendix B; SMSCs write one to four
	case n > 3:
		err = err[n-3:]
	case n > 0:
		err = "00"[n-1:] + err
	}
	switch r.State {
	case msg.Delivered:
		return smpp.StateDelivered, ""
	case msg.SMSDelivered:
		return smpp.StateDelivered, err
	case msg.Expired:
		return smpp.StateExpired, err
	case msg.Cancelled:
		return smpp.StateDeleted, ""
	case msg.SMSFailed:
		if said.Final() && said != smpp.StateDelivered {
			return said, err
		}
		return smpp.StateUndeliverable, err
	}
	return smpp.StateUnknown, err
}

// Build appends the deliver_sm that tells of r to an ESME that bound with that
// interface_version (SMPP v3.4 Appendix B, §4.6.1): the message's addresses
// changed over, the id that its submit_sm_resp gave. n is the notice that it is,
// or 0 for the final receipt. submit is the submit_sm or data_sm. The
// sequence_number is left 0.
//
// An intermediate notification (§5.2.12: esm_class 0x20) says ENROUTE, and that
// the app's provider has the message or, after a fallback, the carrier. An SME
// delivery acknowledgement (0x08) says that the user has read it (§2.11).
func Build(dst []byte, r *spool.Record, n msg.Notice, submit pdu.PDU, version byte) ([]byte, error) {
	var m pdu.SM
	if err := m.DecodeMessage(submit); err != nil {
		return dst, err
	}
	state, errText := Outcome(r)
	done, class, channel := r.DoneAt, byte(smpp.ESMReceipt), Channel(r)
	switch n {
	case msg.NoticeEnroute:
		state, errText, done, class, channel = smpp.StateEnroute, "", r.Since, smpp.ESMIntermediate, ChannelApp
		if carrier := Channel(r); carrier != "" {
			channel = carrier
		}
	case msg.NoticeRead:
		class = smpp.ESMAcknowledged
	}
	if done.IsZero() {
		done = r.Since
	}
	rec := smpp.Receipt{ID: r.WireID, State: state, Submit: r.ReceivedAt, Done: done, Err: errText, Text: excerpt(&m)}
	d := pdu.SM{
		ServiceType: m.ServiceType, Source: m.Dest, Dest: m.Source, ESMClass: class,
		ShortMessage: rec.AppendText(make([]byte, 0, 160)),
	}
	if pdu.TLVsAllowed(version) {
		tlvs := rec.AppendTLVs(make([]byte, 0, 64))
		if ref, ok := m.TLVs.Find(pdu.TagUserMessageReference); ok { // §5.3.2.17
			tlvs = pdu.AppendTLV(tlvs, pdu.TagUserMessageReference, ref)
		}
		if channel != "" {
			tlvs = pdu.AppendTLV(tlvs, pdu.TagShuntChannel, []byte(channel))
		}
		d.TLVs = tlvs
	}
	return pdu.AppendSM(dst, pdu.DeliverSM, 0, &d), nil
}

// excerpt is the start of the message as Appendix B wants it, where its octets
// read the same in the receipt's own default alphabet; else nothing.
func excerpt(m *pdu.SM) []byte {
	if m.DataCoding > 1 {
		return nil
	}
	b, _ := m.Payload()
	if s, err := coding.ReadSegment(m.ESMClass, b, m.TLVs); err == nil {
		b = s.Body
	}
	for i, c := range b {
		if c < 0x20 || c > 0x7E {
			return b[:min(i, 20)]
		}
	}
	return b[:min(len(b), 20)]
}

// abandonAfter is how long past its validity a receipt waits for a bind.
const abandonAfter = 72 * time.Hour
