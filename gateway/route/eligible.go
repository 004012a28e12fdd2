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

// form finds what a handset's SMS stack alone can honour, whatever the policy
// says.
func (f *facts) form(c Check) (r msg.Reason) {
	m := f.m
	switch c {
	case CheckSegment:
		f.segment, r = ReadSegment(m)
		f.read = r == msg.NoReason
		return r
	case CheckHeader:
		return when(len(f.segment.Header) > 0 && !textual(f.segment.Header), msg.ReasonUDH)
	case CheckSourceLength: // of a data_sm; no receipt could name it
		return when(len(m.Source.Addr) > maxSource, msg.ReasonSender)
	case CheckMode:
		mode := m.ESMClass & esmModeMask
		return when(mode == esmDatagram || mode == esmForward, msg.ReasonMessageMode)
	case CheckType:
		return when(m.ESMClass&esmTypeMask != 0, msg.ReasonMessageType)
	case CheckReplyPath:
		return when(m.ESMClass&esmReplyPath != 0, msg.ReasonMessageMode)
	case CheckProtocol:
		// Replace types 0x41 to 0x47, type 0, (U)SIM data download, telematic
		// interworking: none of it is a text for a person (3GPP TS 23.040 §9.2.3.9).
		return when(m.ProtocolID != 0, msg.ReasonProtocolID)
	case CheckPredefined:
		return when(m.DefaultMsgID != 0, msg.ReasonPredefined)
	case CheckReplace:
		return when(m.ReplaceIfPresent != 0, msg.ReasonReplace)
	case CheckSchedule:
		// The parts of a long message could have hours of their own.
		_, ok := due(m, f.now)
		return when(!ok || len(m.Schedule) != 0 && f.segment.Form != coding.Whole, msg.ReasonScheduled)
	case CheckTLVs:
		return tlvReason(m.TLVs, f.segment.Form != coding.Whole)
	}
	return msg.NoReason
}

// maxSource is what a source_addr of a submit_sm holds (SMPP v3.4 §5.2.8).
const maxSource = 20

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
