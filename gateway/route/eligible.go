package route

import (
	"errors"

	"shunt/gateway/msg"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
)

var errTwoPayloads = errors.New("short_message and message_payload at once")

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
func ineligible(m *pdu.SM) msg.Reason {
	switch mode := m.ESMClass & esmModeMask; {
	case m.ESMClass&esmUDHI != 0:
		return headerReason(m)
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
	return tlvReason(m.TLVs)
}

// headerReason tells a part of a long message from other user data headers.
func headerReason(m *pdu.SM) msg.Reason {
	b, _ := m.Payload()
	if _, ok := coding.PartOf(b); ok {
		return msg.ReasonLongMessage
	}
	return msg.ReasonUDH
}

// tlvReason finds the optional parameters that ask for something only an SMS
// can do (§5.3.2).
func tlvReason(t pdu.TLVs) msg.Reason {
	for tag, v := range t.All() {
		switch tag {
		case pdu.TagSARMsgRefNum, pdu.TagSARTotalSegments, pdu.TagSARSegmentSeqnum, pdu.TagMoreMessagesToSend:
			return msg.ReasonLongMessage
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
