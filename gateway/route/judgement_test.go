package route

import (
	"strings"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
)

// judgement is one row of the table: what differs from the ordinary message,
// policy and account, and what the decision must say.
type judgement struct {
	name string
	m    func(*pdu.SM)
	p    func(*Policy)
	a    func(*Account)
	e    msg.Entry // 0: active
	want msg.Reason
}

// esm sets esm_class.
func esm(c byte) func(*pdu.SM) { return func(m *pdu.SM) { m.ESMClass = c } }

func udh(header string) func(*pdu.SM) {
	return func(m *pdu.SM) { m.ESMClass, m.ShortMessage = 0x40, []byte(header+"text") }
}

func optional(tag pdu.Tag, value ...byte) func(*pdu.SM) {
	return func(m *pdu.SM) { m.TLVs = tlv(tag, value...) }
}

// acceptedAgo asks for what the SMSC has accepted within a day, which was a
// message of Parcel24's, of the account bank, that long ago; 0: never.
func acceptedAgo(d time.Duration) func(*Policy) {
	return func(p *Policy) {
		p.AcceptedWithin = 24 * time.Hour
		p.Accepted = func(systemID string, source []byte) time.Time {
			if d == 0 || systemID != "bank" || string(source) != "Parcel24" {
				return time.Time{}
			}
			return noon.Add(-d)
		}
	}
}

func dataCoding(dc byte) func(*pdu.SM) { return func(m *pdu.SM) { m.DataCoding = dc } }

func protocol(id byte) func(*pdu.SM) { return func(m *pdu.SM) { m.ProtocolID = id } }

// neverDiverted is what only a handset's SMS stack can honour (SMPP v3.4
// §5.2.12 to §5.2.19, §5.3.2; 3GPP TS 23.040 §9.2.3.9, §9.2.3.24).
var neverDiverted = []judgement{
	{name: "binary", m: dataCoding(0x04), want: msg.ReasonDataCoding},
	{name: "binary, 0x02", m: dataCoding(0x02), want: msg.ReasonDataCoding},
	{name: "flash, GSM", m: dataCoding(0xF0), want: msg.ReasonDataCoding},
	{name: "flash, 0x10", m: dataCoding(0x10), want: msg.ReasonDataCoding},
	{name: "flash, UCS2", m: dataCoding(0x18), want: msg.ReasonDataCoding},
	{name: "for the (U)SIM", m: dataCoding(0xF2), want: msg.ReasonDataCoding},
	{name: "8-bit data with a class", m: dataCoding(0xF5), want: msg.ReasonDataCoding},
	{name: "message waiting, discard", m: dataCoding(0xC0), want: msg.ReasonDataCoding},
	{name: "message waiting, voicemail on", m: dataCoding(0xC8), want: msg.ReasonDataCoding},
	{name: "message waiting, store", m: dataCoding(0xD8), want: msg.ReasonDataCoding},
	{name: "message waiting, last", m: dataCoding(0xEF), want: msg.ReasonDataCoding},
	{name: "message waiting, MS MessageWaiting TLV", m: optional(0x0030, 0x00), want: msg.ReasonTLV},
	{name: "message waiting, number_of_messages", m: optional(0x0304, 3), want: msg.ReasonTLV},
	{name: "UDH IEI 0x01, special SMS message indication", m: udh("\x04\x01\x02\x80\x01"), want: msg.ReasonUDH},
	{name: "UDH 8-bit ports", m: udh("\x04\x04\x02\xf0\xf0"), want: msg.ReasonUDH},
	{name: "UDH 16-bit ports", m: udh("\x06\x05\x04\x0b\x84\x23\xf0"), want: msg.ReasonUDH},
	{name: "UDH without a header", m: func(m *pdu.SM) { m.ESMClass, m.ShortMessage = 0x40, nil }, want: msg.ReasonUDH},
	{name: "UDH longer than the message", m: udh("\x7f\x00\x03"), want: msg.ReasonUDH},
	{name: "UDH in message_payload", m: func(m *pdu.SM) {
		m.ESMClass, m.ShortMessage, m.TLVs = 0x40, nil, tlv(pdu.TagMessagePayload, 4, 1, 2, 0x80, 1, 'x')
	}, want: msg.ReasonUDH},
	{name: "part with ports", m: udh("\x0b\x00\x03\x2a\x02\x01\x05\x04\x0b\x84\x23\xf0"), want: msg.ReasonUDH},
	{name: "sar_* and a header that number the part", m: func(m *pdu.SM) {
		udh("\x05\x00\x03\x2a\x02\x01")(m)
		m.TLVs = coding.AppendSAR(nil, coding.Part{Reference: 42, Wide: true, Total: 2, Number: 1})
	}, want: msg.ReasonUDH},
	{name: "part of a binary", m: func(m *pdu.SM) {
		udh("\x05\x00\x03\x2a\x02\x01")(m)
		m.DataCoding = 4
	}, want: msg.ReasonDataCoding},
	{name: "sar_msg_ref_num", m: optional(pdu.TagSARMsgRefNum, 0, 1), want: msg.ReasonLongMessage},
	{name: "sar_total_segments", m: optional(pdu.TagSARTotalSegments, 2), want: msg.ReasonLongMessage},
	{name: "sar_segment_seqnum", m: optional(pdu.TagSARSegmentSeqnum, 1), want: msg.ReasonLongMessage},
	{name: "more_messages_to_send", m: optional(pdu.TagMoreMessagesToSend, 1), want: msg.ReasonLongMessage},
	{name: "source_port", m: optional(pdu.TagSourcePort, 0x0b, 0x84), want: msg.ReasonTLV},
	{name: "destination_port", m: optional(pdu.TagDestinationPort, 0x0b, 0x84), want: msg.ReasonTLV},
	{name: "dest_addr_subunit", m: optional(pdu.TagDestAddrSubunit, 3), want: msg.ReasonTLV},
	{name: "dest_bearer_type", m: optional(0x0007, 1), want: msg.ReasonTLV},
	{name: "dest_telematics_id", m: optional(0x0008, 0, 1), want: msg.ReasonTLV},
	{name: "payload_type WCMP", m: optional(0x0019, 1), want: msg.ReasonTLV},
	{name: "ms_validity display only", m: optional(pdu.TagMSValidity, 3), want: msg.ReasonTLV},
	{name: "display_time", m: optional(pdu.TagDisplayTime, 0), want: msg.ReasonTLV},
	{name: "a forbidden TLV behind allowed ones", m: func(m *pdu.SM) {
		m.TLVs = append(append(tlv(0x1501, 1, 2), tlv(pdu.TagUserMessageReference, 0, 9)...), tlv(pdu.TagDisplayTime, 1)...)
	}, want: msg.ReasonTLV},
	{name: "ussd_service_op", m: optional(pdu.TagUSSDServiceOp, 2), want: msg.ReasonUSSD},
	{name: "its_reply_type", m: optional(pdu.TagITSReplyType, 1), want: msg.ReasonUSSD},
	{name: "its_session_info", m: optional(pdu.TagITSSessionInfo, 1, 1), want: msg.ReasonUSSD},
	{name: "silent, type 0", m: protocol(0x40), want: msg.ReasonProtocolID},
	{name: "replace, type 1", m: protocol(0x41), want: msg.ReasonProtocolID},
	{name: "replace, type 7", m: protocol(0x47), want: msg.ReasonProtocolID},
	{name: "return call", m: protocol(0x5F), want: msg.ReasonProtocolID},
	{name: "(U)SIM data download", m: protocol(0x7F), want: msg.ReasonProtocolID},
	{name: "telematic interworking", m: protocol(0x20), want: msg.ReasonProtocolID},
	{name: "datagram mode", m: esm(0x01), want: msg.ReasonMessageMode},
	{name: "transaction mode", m: esm(0x02), want: msg.ReasonMessageMode},
	{name: "reply path", m: esm(0x80), want: msg.ReasonMessageMode},
	{name: "SME delivery acknowledgement", m: esm(0x08), want: msg.ReasonMessageType},
	{name: "SME manual acknowledgement", m: esm(0x10), want: msg.ReasonMessageType},
	{name: "receipt returned to us", m: esm(0x04), want: msg.ReasonMessageType},
	{name: "reserved message type", m: esm(0x20), want: msg.ReasonMessageType},
	{name: "sm_default_msg_id", m: func(m *pdu.SM) { m.DefaultMsgID = 1 }, want: msg.ReasonPredefined},
	{name: "schedule_delivery_time that is past", m: func(m *pdu.SM) { m.Schedule = []byte("000101000000000+") }, want: msg.ReasonScheduled},
	{name: "schedule_delivery_time that is none", m: func(m *pdu.SM) { m.Schedule = []byte("tomorrow") }, want: msg.ReasonScheduled},
	{name: "schedule_delivery_time in 31 days", m: func(m *pdu.SM) { m.Schedule = []byte("000031000000000R") }, want: msg.ReasonScheduled},
	{name: "schedule_delivery_time of a part", m: func(m *pdu.SM) {
		m.Schedule = []byte("000000010000000R")
		m.TLVs = pdu.AppendTLV(m.TLVs, pdu.TagSARMsgRefNum, []byte{0, 1})
		m.TLVs = pdu.AppendTLV(m.TLVs, pdu.TagSARTotalSegments, []byte{2})
		m.TLVs = pdu.AppendTLV(m.TLVs, pdu.TagSARSegmentSeqnum, []byte{1})
	}, want: msg.ReasonScheduled},
	{name: "schedule_delivery_time after the end of validity", m: func(m *pdu.SM) {
		m.Schedule, m.Validity = []byte("000000020000000R"), []byte("000000010000000R")
	}, want: msg.ReasonValidity},
	{name: "replace_if_present_flag", m: func(m *pdu.SM) { m.ReplaceIfPresent = 1 }, want: msg.ReasonReplace},
	{name: "both short_message and message_payload", m: optional(pdu.TagMessagePayload, 'x'), want: msg.ReasonText},
	{name: "text not in its alphabet", m: func(m *pdu.SM) { m.DataCoding, m.ShortMessage = 8, []byte{0x00, 0x41, 0x00} }, want: msg.ReasonText},
	{name: "no text", m: func(m *pdu.SM) { m.ShortMessage = nil }, want: msg.ReasonText},
	{name: "empty message_payload", m: func(m *pdu.SM) { m.ShortMessage, m.TLVs = nil, tlv(pdu.TagMessagePayload) }, want: msg.ReasonText},
}

// byPolicy is what the operator's rules and the registry say.
var byPolicy = []judgement{
	{name: "ordinary", want: msg.ReasonDivert},
	{name: "store and forward mode", m: esm(0x03), want: msg.ReasonDivert},
	{name: "Latin-1", m: dataCoding(0x03), want: msg.ReasonDivert},
	{name: "UCS2", m: func(m *pdu.SM) { m.DataCoding, m.ShortMessage = 8, []byte("\x04\x1f\xd8\x3d\xdc\x4d") }, want: msg.ReasonDivert},
	{name: "class 1", m: dataCoding(0xF1), want: msg.ReasonDivert},
	{name: "UDH national language shift", m: udh("\x03\x24\x01\x01"), want: msg.ReasonDivert},
	{name: "part of a long message, 8-bit reference", m: udh("\x05\x00\x03\x2a\x02\x01"), want: msg.ReasonDivert},
	{name: "part of a long message, 16-bit reference", m: udh("\x06\x08\x04\x2a\x01\x02\x02"), want: msg.ReasonDivert},
	{name: "part of a long message, sar_*", m: func(m *pdu.SM) {
		m.TLVs = coding.AppendSAR(nil, coding.Part{Reference: 42, Wide: true, Total: 2, Number: 1})
	}, want: msg.ReasonDivert},
	{name: "part with more_messages_to_send", m: func(m *pdu.SM) {
		udh("\x05\x00\x03\x2a\x02\x01")(m)
		m.TLVs = tlv(pdu.TagMoreMessagesToSend, 1)
	}, want: msg.ReasonDivert},
	{name: "part that reads like a one-time code", m: func(m *pdu.SM) {
		m.ESMClass, m.ShortMessage = 0x40, []byte("\x05\x00\x03\x2a\x02\x01Your code is 123456")
	}, want: msg.ReasonDivert},
	{name: "part that cannot be read alone", m: func(m *pdu.SM) {
		m.ESMClass, m.DataCoding, m.ShortMessage = 0x40, 8, []byte("\x05\x00\x03\x2a\x02\x01\x04\x1f\xd8")
	}, want: msg.ReasonDivert},
	{name: "qos_time_to_live too short", m: optional(pdu.TagQOSTimeToLive, 0, 0, 0, 1), want: msg.ReasonValidity},
	{name: "qos_time_to_live", m: optional(pdu.TagQOSTimeToLive, 0, 0, 1, 0), want: msg.ReasonDivert},
	{name: "message_payload alone", m: func(m *pdu.SM) {
		m.TLVs, m.ShortMessage = tlv(pdu.TagMessagePayload, []byte(strings.Repeat("long ", 100))...), nil
	}, want: msg.ReasonDivert},
	{name: "vendor TLVs", m: optional(0x1501, 1, 2, 3), want: msg.ReasonDivert},
	{name: "payload_type WDP", m: optional(0x0019, 0), want: msg.ReasonDivert},
	{name: "priority and receipt", m: func(m *pdu.SM) { m.Priority, m.RegisteredDelivery = 3, 0x11 }, want: msg.ReasonDivert},
	{name: "unregistered", e: msg.Entry(1 << 33), want: msg.ReasonUnregistered},
	{name: "inactive", e: inactive, want: msg.ReasonInactive},
	{name: "account has not opted in", a: func(a *Account) { a.OptedIn = false }, want: msg.ReasonAccountOptOut},
	{name: "no sender may be diverted", p: func(p *Policy) { p.DivertFrom = nil }, want: msg.ReasonSender},
	{name: "sender not in divert_from", p: func(p *Policy) { p.DivertFrom = []string{"Rail", "+44*"} }, want: msg.ReasonSender},
	{name: "sender in divert_from", p: func(p *Policy) { p.DivertFrom = []string{"Rail", "Parcel*"} }, want: msg.ReasonDivert},
	{name: "sender in never_divert_from", p: func(p *Policy) { p.NeverDivertFrom = []string{"112", "Parcel24"} }, want: msg.ReasonNeverSender},
	{name: "never is stronger", p: func(p *Policy) { p.DivertFrom, p.NeverDivertFrom = []string{"Parcel24"}, []string{"*24"} }, want: msg.ReasonNeverSender},
	{name: "number as sender, + in the pattern alone", p: func(p *Policy) { p.DivertFrom = []string{"+4477*"} }, m: func(m *pdu.SM) {
		m.Source = pdu.Address{TON: 1, NPI: 1, Addr: []byte("447700900001")}
	}, want: msg.ReasonDivert},
	{name: "number as sender, + in the address alone", p: func(p *Policy) { p.NeverDivertFrom = []string{"447700900001"} }, m: func(m *pdu.SM) {
		m.Source = pdu.Address{TON: 1, NPI: 1, Addr: []byte("+447700900001")}
	}, want: msg.ReasonNeverSender},
	{name: "service_type listed", m: func(m *pdu.SM) { m.ServiceType = []byte("WAP") }, p: func(p *Policy) { p.NeverServiceType = []string{"VMA", "WAP"} }, want: msg.ReasonServiceType},
	{name: "service_type not listed", m: func(m *pdu.SM) { m.ServiceType = []byte("WAPX") }, p: func(p *Policy) { p.NeverServiceType = []string{"VMA", "WAP"} }, want: msg.ReasonDivert},
	{name: "no service_type listed", m: func(m *pdu.SM) { m.ServiceType = []byte("WAP") }, want: msg.ReasonDivert},
	{name: "default service_type listed", p: func(p *Policy) { p.NeverServiceType = []string{""} }, want: msg.ReasonServiceType},
	{name: "outside the share", p: func(p *Policy) { p.Share = 0 }, want: msg.ReasonCanary},
	{name: "one-time code", m: func(m *pdu.SM) { m.ShortMessage = []byte("Your verification code is 481516") }, p: func(p *Policy) { p.AllowOTP = false }, want: msg.ReasonOneTimeCode},
	{name: "one-time code in message_payload", m: func(m *pdu.SM) {
		m.ShortMessage, m.TLVs = nil, tlv(pdu.TagMessagePayload, []byte("Your verification code is 481516")...)
	}, p: func(p *Policy) { p.AllowOTP = false }, want: msg.ReasonOneTimeCode},
	{name: "one-time code in UCS2", m: func(m *pdu.SM) {
		b, _ := coding.Encode(coding.UCS2, "Ваш код подтверждения: 481516")
		m.DataCoding, m.ShortMessage = 8, b
	}, p: func(p *Policy) { p.AllowOTP = false }, want: msg.ReasonOneTimeCode},
	{name: "one-time code allowed", m: func(m *pdu.SM) { m.ShortMessage = []byte("Your verification code is 481516") }, want: msg.ReasonDivert},
	{name: "no plan", p: func(p *Policy) { p.Plans = nil }, want: msg.ReasonPlanCarrier},
	{name: "plan with the carrier first", p: func(p *Policy) { p.Plans[0].AppFirst = false }, want: msg.ReasonPlanCarrier},
	{name: "plan with the carrier first, by content", m: func(m *pdu.SM) { m.ShortMessage = []byte("Sale! 50% off all shoes until Sunday") }, p: func(p *Policy) {
		p.Plans = append([]Plan{{Name: "ads", Content: []msg.Content{msg.ContentPromotional}}}, p.Plans...)
	}, want: msg.ReasonPlanCarrier},
	{name: "part of what may be an advertisement", m: udh("\x05\x00\x03\x2a\x02\x01Sale! 50% off all shoes "), p: func(p *Policy) {
		p.Plans = append([]Plan{{Name: "ads", Content: []msg.Content{msg.ContentPromotional}}}, p.Plans...)
	}, want: msg.ReasonDivert},
	{name: "accepted by the SMSC lately", p: acceptedAgo(time.Hour), want: msg.ReasonDivert},
	{name: "accepted by the SMSC at the limit", p: acceptedAgo(24 * time.Hour), want: msg.ReasonDivert},
	{name: "accepted by the SMSC too long ago", p: acceptedAgo(24*time.Hour + time.Second), want: msg.ReasonNotAccepted},
	{name: "never accepted by the SMSC", p: acceptedAgo(0), want: msg.ReasonNotAccepted},
	{name: "accepted by the SMSC of another sender", p: acceptedAgo(time.Hour), m: func(m *pdu.SM) { m.Source.Addr = []byte("Parcel25") }, want: msg.ReasonNotAccepted},
	{name: "accepted by the SMSC of another account", p: acceptedAgo(time.Hour), a: func(a *Account) { a.SystemID = "shop" }, want: msg.ReasonNotAccepted},
	{name: "nobody asks the SMSC", p: func(p *Policy) { p.AcceptedWithin = 24 * time.Hour }, want: msg.ReasonNotAccepted},
	{name: "validity too short", m: func(m *pdu.SM) { m.Validity = []byte("000000000001000R") }, want: msg.ReasonValidity},
	{name: "validity over", m: func(m *pdu.SM) { m.Validity = []byte("250602115959000+") }, want: msg.ReasonValidity},
	{name: "validity garbled", m: func(m *pdu.SM) { m.Validity = []byte("tomorrow") }, want: msg.ReasonUndecodable},
}
