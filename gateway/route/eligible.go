package route

import (
	"shunt/gateway/msg"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
)

// Bits of esm_class in a submit_sm (SMPP v3.4 §5.2.12).
const (
	esmModeMask  = 0x03
	esmDatagram  = 0x01
	esmForward   = 0x02
	esmTypeMask  = 0x3C
	esmUDHI      = 0x40
	esmReplyPath = 0x80
)

// ineligible finds what a handset's SMS stack alone can honour, whatever the
// policy says; NoReason lets a message go on.
func ineligible(m *pdu.SM, s *coding.Segment) msg.Reason {
	if len(s.Header) > 0 && !textual(s.Header) {
		return msg.ReasonUDH
	}
	switch mode := m.ESMClass & esmModeMask; {
	case len(m.Source.Addr) > 20: // of a data_sm; no receipt could name it
		return msg.ReasonSender
	case mode == esmDatagram || mode == esmForward:
		return msg.ReasonMessageMode
	case m.ESMClass&esmTypeMask != 0:
		return msg.ReasonMessageType
	case m.ESMClass&esmReplyPath != 0:
		return msg.ReasonMessageMode
	case m.ProtocolID != 0:
		// Replace types 0x41 to 0x47, type 0, (U)SIM data download, telematic
		// interworking: none of it is a text for a person (3GPP TS 23.040 §9.2.3.9).
		return msg.ReasonProtocolID
	case m.DefaultMsgID != 0:
		return msg.ReasonPredefined
	case m.ReplaceIfPresent != 0:
		return msg.ReasonReplace
	case len(m.Schedule) != 0:
		return msg.ReasonScheduled
	}
	return tlvReason(m.TLVs, s.Form != coding.Whole)
}

// ReadSegment reads which part of a long message m is, if it is one. Of what
// cannot be read the reason says what.
func ReadSegment(m *pdu.SM) (coding.Segment, msg.Reason) {
	b, ok := m.Payload()
	if !ok {
		return coding.Segment{}, msg.ReasonText // short_message and message_payload at once: never guessed
	}
	s, err := coding.ReadSegment(m.ESMClass, b, m.TLVs)
	switch {
	case err == nil:
		return s, msg.NoReason
	case m.ESMClass&esmUDHI != 0:
		return s, msg.ReasonUDH
	}
	return s, msg.ReasonLongMessage
}

// textual tells whether a user data header, which is sound, says nothing but
// which part of a text it precedes, and in which national alphabet.
func textual(header []byte) bool {
	elements, _, err := coding.UDH(header)
	if err != nil {
		return false
	}
	for id := range elements {
		switch id {
		case coding.IEConcat8, coding.IEConcat16, coding.IESingleShift, coding.IELockingShift:
		default:
			return false
		}
	}
	return true
}

// tlvReason finds the optional parameters that ask for something only an SMS
// can do (§5.3.2).
func tlvReason(t pdu.TLVs, part bool) msg.Reason {
	for tag, v := range t.All() {
		switch tag {
		case pdu.TagMoreMessagesToSend: // among parts it says nothing new
			if !part {
				return msg.ReasonLongMessage
			}
		case pdu.TagUSSDServiceOp, pdu.TagITSReplyType, pdu.TagITSSessionInfo:
			return msg.ReasonUSSD
		case pdu.TagSourcePort, pdu.TagDestinationPort, pdu.TagDestAddrSubunit, pdu.TagDestBearerType,
			pdu.TagMSMsgWaitFacilities, pdu.TagNumberOfMessages, pdu.TagDestTelematicsID, pdu.TagDisplayTime:
			return msg.ReasonTLV
		case pdu.TagPayloadType, pdu.TagMSValidity:
			if len(v) != 1 || v[0] != 0 { // WCMP; not to be stored
				return msg.ReasonTLV
			}
		}
	}
	return msg.NoReason
}
