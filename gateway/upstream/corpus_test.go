package upstream

import (
	"bytes"
	"fmt"
	"strings"

	"shunt/smpp/pdu"
)

// sample is a request that must cross with its octets as they are.
type sample struct {
	name string
	p    pdu.PDU
}

// raw is a PDU of any octets.
func raw(id pdu.ID, body ...byte) pdu.PDU {
	return pdu.End(append(pdu.Begin(nil, id, pdu.ROK, 0), body...), 0)
}

func rawText(id pdu.ID, body string) pdu.PDU { return raw(id, []byte(body)...) }

func sms(id pdu.ID, set func(*pdu.SM)) pdu.PDU {
	m := pdu.SM{
		Source:       pdu.Address{TON: pdu.TONAlphanumeric, Addr: []byte("Parcel24")},
		Dest:         pdu.Address{TON: pdu.TONInternational, NPI: pdu.NPIISDN, Addr: []byte("447700900042")},
		ShortMessage: []byte("hello"),
	}
	if set != nil {
		set(&m)
	}
	return pdu.AppendSM(nil, id, 0, &m)
}

func withTLVs(tlvs ...[]byte) func(*pdu.SM) {
	return func(m *pdu.SM) { m.TLVs = bytes.Join(tlvs, nil) }
}

func tlv(tag pdu.Tag, value string) []byte { return pdu.AppendTLV(nil, tag, []byte(value)) }

// messages are submit_sm or deliver_sm, which share their layout, in forms that
// codecs are known to alter, drop or refuse.
func messages(id pdu.ID) []sample {
	var all []sample
	add := func(name string, p pdu.PDU) {
		all = append(all, sample{fmt.Sprintf("%s: %s", id, name), p})
	}
	body := func(set func(*pdu.SM)) []byte { return sms(id, set)[pdu.HeaderLen:] }

	add("plain", sms(id, nil))
	add("vendor TLVs", sms(id, withTLVs(tlv(0x1400, "\x01"), tlv(0x3FFF, "vendor"), tlv(0x1580, "theirs"))))
	add("TLVs out of order", sms(id, withTLVs(tlv(0x0427, "\x02"), tlv(0x001E, "id\x00"), tlv(0x0005, "\x01"))))
	add("duplicate TLVs", sms(id, withTLVs(tlv(0x0204, "\x00\x01"), tlv(0x0204, "\x00\x01"), tlv(0x0204, "\x00\x02"))))
	add("sar_*", sms(id, withTLVs(tlv(0x020C, "\x00\x2a"), tlv(0x020E, "\x02"), tlv(0x020F, "\x01"))))
	add("sar_* that do not add up", sms(id, withTLVs(tlv(0x020C, "\x00\x2a"), tlv(0x020F, "\x09"))))
	add("empty TLVs", sms(id, withTLVs(tlv(0x1501, ""), tlv(0x130C, ""))))
	add("reserved tags", sms(id, withTLVs(tlv(0x0000, "zero"), tlv(0xFFFF, "last"))))
	add("TLV of a wrong length", sms(id, withTLVs(tlv(0x0427, "\x02\x00\x00"))))
	for _, dc := range []byte{0x02, 0x04, 0x0B, 0x10, 0x7B, 0xC8, 0xF0, 0xF5, 0xFF} {
		add(fmt.Sprintf("data_coding %#02x", dc), sms(id, func(m *pdu.SM) { m.DataCoding = dc }))
	}
	add("every octet in the text", sms(id, func(m *pdu.SM) {
		m.ShortMessage = nil
		for c := range 254 {
			m.ShortMessage = append(m.ShortMessage, byte(c))
		}
	}))
	add("UDH, concatenated", sms(id, func(m *pdu.SM) { m.ESMClass, m.ShortMessage = 0x40, []byte("\x05\x00\x03\x2a\x02\x01part") }))
	add("UDH, ports and shift table", sms(id, func(m *pdu.SM) {
		m.ESMClass, m.ShortMessage = 0x40, []byte("\x09\x05\x04\x0b\x84\x23\xf0\x24\x01\x01text")
	}))
	add("UDH, broken", sms(id, func(m *pdu.SM) { m.ESMClass, m.ShortMessage = 0x40, []byte("\xff\x00\x03") }))
	add("sm_length 255", sms(id, func(m *pdu.SM) { m.ShortMessage = bytes.Repeat([]byte("x"), 255) }))
	add("no text", sms(id, func(m *pdu.SM) { m.ShortMessage = nil }))
	add("64 KB message_payload", sms(id, func(m *pdu.SM) {
		m.ShortMessage, m.TLVs = nil, tlv(pdu.TagMessagePayload, string(bytes.Repeat([]byte("payload."), 8191)))
	}))
	add("largest message_payload", sms(id, func(m *pdu.SM) {
		m.ShortMessage, m.TLVs = nil, tlv(pdu.TagMessagePayload, string(make([]byte, 65535)))
	}))
	add("text and message_payload", sms(id, withTLVs(tlv(pdu.TagMessagePayload, "two texts"))))
	add("every field at its longest", sms(id, func(m *pdu.SM) {
		m.ServiceType, m.Schedule, m.Validity = []byte("ABCDE"), []byte("250602120000000+"), []byte("000007000000000R")
		m.Source.Addr, m.Dest.Addr = bytes.Repeat([]byte("1"), 20), bytes.Repeat([]byte("2"), 20)
	}))
	add("every octet field set", sms(id, func(m *pdu.SM) {
		m.ESMClass, m.ProtocolID, m.Priority, m.RegisteredDelivery = 0xBF, 0x7F, 0xFF, 0xFF
		m.ReplaceIfPresent, m.DefaultMsgID, m.Source.TON, m.Dest.NPI = 0xFF, 0xFF, 0xFF, 0xFF
	}))
	add("empty addresses", sms(id, func(m *pdu.SM) { m.Source.Addr, m.Dest.Addr = nil, nil }))
	add("times that are none", sms(id, func(m *pdu.SM) { m.Schedule, m.Validity = []byte("soon"), []byte("never") }))

	// Faults inside sound framing are the SMSC's to judge.
	add("no body", raw(id))
	add("one octet", raw(id, 0))
	add("no NUL at all", rawText(id, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"))
	add("service_type too long", rawText(id, "ABCDEFGHIJ\x00\x01\x01447700900042\x00"))
	add("address too long", rawText(id, "\x00\x01\x01"+string(bytes.Repeat([]byte("4"), 60))+"\x00"))
	short := body(nil)
	add("cut in the text", raw(id, short[:len(short)-2]...))
	add("cut before sm_length", raw(id, short[:len(short)-6]...))
	long := body(nil)
	long[len(long)-6] = 200
	add("sm_length beyond the end", raw(id, long...))
	small := body(nil)
	small[len(small)-6] = 1
	add("sm_length too small", raw(id, small...))
	add("TLV cut short", raw(id, append(body(nil), 0x04, 0x24, 0x00, 0x10, 'x')...))
	add("junk behind the TLVs", raw(id, append(body(withTLVs(tlv(0x1501, "v"))), 0xFF, 0xFF)...))
	status := sms(id, nil)
	status[11] = 0x58
	add("command_status in a request", status)
	return all
}

// operations are all other requests, known ones, later ones and a vendor's.
func operations() []sample {
	multi := "CMT\x00\x01\x01447700900000\x00\x03" + "\x01\x01\x01447700900001\x00" + "\x02mylist\x00" + "\x01\x00\x01447700900002\x00" +
		"\x00\x00\x00\x00\x00\x01\x00\x00\x00\x02hi"
	return []sample{
		{"data_sm", rawText(pdu.DataSM, "\x00\x01\x01447700900000\x00\x01\x01447700900042\x00\x00\x01\x00\x04\x24\x00\x02hi")},
		{"data_sm without a destination", rawText(pdu.DataSM, "\x00")},
		{"submit_multi", rawText(pdu.SubmitMulti, multi)},
		{"submit_multi that promises more", rawText(pdu.SubmitMulti, multi[:30])},
		{"query_sm", rawText(pdu.QuerySM, "4f2a\x00\x01\x01447700900000\x00")},
		{"query_sm of our own id", rawText(pdu.QuerySM, "s01JWR9M3YC0000000000000042\x00\x01\x01447700900000\x00")},
		{"cancel_sm", rawText(pdu.CancelSM, "\x004f2a\x00\x01\x01447700900000\x00\x01\x01447700900042\x00")},
		{"replace_sm", rawText(pdu.ReplaceSM, "4f2a\x00\x01\x01447700900000\x00\x00\x00\x01\x00\x05hello")},
		{"broadcast_sm, v5.0", rawText(0x00000111, "\x00\x01\x01447700900000\x00")},
		{"query_broadcast_sm, v5.0", rawText(0x00000112, "id\x00")},
		{"cancel_broadcast_sm, v5.0", rawText(0x00000113, "\x00id\x00\x01\x01447700900000\x00")},
		{"data_sm with addresses of 64", rawText(pdu.DataSM, "\x00\x01\x01"+strings.Repeat("1", 64)+"\x00\x01\x01"+strings.Repeat("2", 64)+"\x00\x00\x01\x00")},
		{"cancel_sm without an id", rawText(pdu.CancelSM, "\x00\x00\x01\x01447700900000\x00\x01\x01447700900042\x00")},
		{"replace_sm with a message_payload, v5.0", rawText(pdu.ReplaceSM, "4f2a\x00\x01\x01447700900000\x00\x00\x00\x01\x00\x00\x04\x24\x00\x02hi")},
		{"unknown command", rawText(0x0000010A, "whatever")},
		{"vendor command", rawText(0x00010200, "\x00\x01\x02")},
		{"command 0", raw(0)},
		{"highest command", raw(0x7FFFFFFF, 0xFF)},
		{"a second bind", bankBind.Append(nil, pdu.BindTransceiver, 0)},
	}
}

// unanswered are the requests that have no response.
func unanswered() []sample {
	return []sample{
		{"alert_notification", rawText(pdu.AlertNotification, "\x01\x01447700900042\x00\x01\x01447700900000\x00\x04\x22\x00\x01\x00")},
		{"alert_notification, cut", raw(pdu.AlertNotification, 1)},
		{"outbind", rawText(pdu.Outbind, "SMSC\x00pass\x00")},
	}
}

// responses to a request of that id, as peers write them.
func responses(id pdu.ID) []pdu.PDU {
	all := []pdu.PDU{
		pdu.AppendMessageResp(nil, id.Response(), pdu.ROK, 0, "4F2A00c1"),
		pdu.AppendHeader(nil, id.Response(), pdu.RTHROTTLED, 0),          // error, no body
		pdu.AppendMessageResp(nil, id.Response(), pdu.RINVDSTADR, 0, ""), // error, one NUL
		pdu.AppendHeader(nil, id.Response(), pdu.ROK, 0),                 // success, no body
		pdu.AppendMessageResp(nil, id.Response(), pdu.Status(0x04A1), 0, "vendor status"),
		pdu.AppendHeader(nil, pdu.GenericNack, pdu.RINVCMDID, 0),
		append(pdu.AppendMessageResp(nil, id.Response(), pdu.ROK, 0, "id"), tlv(0x0425, "\x00")...),
		rawText(id.Response(), "no NUL, and an id that is much longer than the sixty-five octets which it may have"),
		rawText(pdu.SubmitMulti.Response(), "id\x00\x01\x01\x01447700900001\x00\x00\x00\x00\x0b"), // another's response
	}
	for _, p := range all {
		pdu.End(p, 0)
	}
	return all
}
