package pdu

import "encoding/binary"

// Address is an SME address: its type of number, numbering plan and digits
// without the NUL (SMPP v3.4 §5.2.5 to §5.2.9).
type Address struct {
	TON, NPI byte
	Addr     []byte
}

// Types of number and numbering plans (SMPP v3.4 §5.2.5, §5.2.6).
const (
	TONUnknown       = 0
	TONInternational = 1
	TONNational      = 2
	TONAlphanumeric  = 5
	NPIUnknown       = 0
	NPIISDN          = 1
)

// SM is submit_sm or deliver_sm, which share one layout (SMPP v3.4 §4.4.1,
// §4.6.1):
//
//	service_type  C-octet 6     source_addr  ton npi C-octet 21
//	dest_addr     ton npi C-octet 21
//	esm_class  protocol_id  priority_flag    1 octet each
//	schedule_delivery_time  C-octet 17       validity_period  C-octet 17
//	registered_delivery  replace_if_present_flag  data_coding
//	sm_default_msg_id  sm_length             1 octet each
//	short_message  sm_length octets          optional parameters
//
// Its slices point into the PDU that it was decoded from.
type SM struct {
	ServiceType        []byte
	Source, Dest       Address
	ESMClass           byte
	ProtocolID         byte
	Priority           byte
	Schedule           []byte
	Validity           []byte
	RegisteredDelivery byte
	ReplaceIfPresent   byte
	DataCoding         byte
	DefaultMsgID       byte
	ShortMessage       []byte
	TLVs               TLVs
}

// Decode reads the body of p. It copies nothing and does not allocate unless
// it fails; the error is a *FieldError.
func (m *SM) Decode(p PDU) error {
	d := decoder{b: p, off: HeaderLen}
	m.ServiceType = d.cString("service_type", 6)
	m.Source = d.address("source_addr_ton", "source_addr_npi", "source_addr")
	m.Dest = d.address("dest_addr_ton", "dest_addr_npi", "destination_addr")
	m.ESMClass = d.octet("esm_class")
	m.ProtocolID = d.octet("protocol_id")
	m.Priority = d.octet("priority_flag")
	m.Schedule = d.cString("schedule_delivery_time", 17)
	m.Validity = d.cString("validity_period", 17)
	m.RegisteredDelivery = d.octet("registered_delivery")
	m.ReplaceIfPresent = d.octet("replace_if_present_flag")
	m.DataCoding = d.octet("data_coding")
	m.DefaultMsgID = d.octet("sm_default_msg_id")
	m.ShortMessage = d.octets("short_message", int(d.octet("sm_length")))
	m.TLVs = d.tlvs()
	return d.error()
}

func (d *decoder) address(ton, npi, addr string) Address {
	return Address{TON: d.octet(ton), NPI: d.octet(npi), Addr: d.cString(addr, 21)}
}

// Append appends the body of m to dst.
func (m *SM) Append(dst []byte) []byte {
	dst = appendCString(dst, m.ServiceType)
	dst = m.Source.append(dst)
	dst = m.Dest.append(dst)
	dst = append(dst, m.ESMClass, m.ProtocolID, m.Priority)
	dst = appendCString(dst, m.Schedule)
	dst = appendCString(dst, m.Validity)
	dst = append(dst, m.RegisteredDelivery, m.ReplaceIfPresent, m.DataCoding, m.DefaultMsgID, byte(len(m.ShortMessage)))
	dst = append(dst, m.ShortMessage...)
	return append(dst, m.TLVs...)
}

func (a Address) append(dst []byte) []byte {
	return appendCString(append(dst, a.TON, a.NPI), a.Addr)
}

func appendCString(dst, s []byte) []byte { return append(append(dst, s...), 0) }

// Payload is the message: short_message, or message_payload where that is
// empty. Both at once is a fault that Shunt never guesses about (§5.3.2.32),
// and ok is false.
func (m *SM) Payload() (b []byte, ok bool) {
	v, has := m.TLVs.Find(TagMessagePayload)
	if !has {
		return m.ShortMessage, true
	}
	return v, len(m.ShortMessage) == 0
}

// Destination finds destination_addr of a submit_sm or data_sm without decoding
// the rest: all that the decision needs for a number that nobody registered.
func Destination(p PDU) (a Address, ok bool) {
	i, longest := HeaderLen, 21
	if len(p) < HeaderLen {
		return a, false
	}
	if p.ID() == DataSM {
		longest = 65
	}
	for end := i + 6; ; i++ { // service_type
		if i >= len(p) || i >= end {
			return a, false
		}
		if p[i] == 0 {
			break
		}
	}
	i += 3 // its NUL, source_addr_ton, source_addr_npi
	for end := i + longest; ; i++ {
		if i >= len(p) || i >= end {
			return a, false
		}
		if p[i] == 0 {
			break
		}
	}
	i++
	if i+2 > len(p) {
		return a, false
	}
	a.TON, a.NPI = p[i], p[i+1]
	i += 2
	for start, end := i, i+longest; ; i++ {
		if i >= len(p) || i >= end {
			return a, false
		}
		if p[i] == 0 {
			a.Addr = p[start:i:i]
			return a, true
		}
	}
}

// Begin appends a header with command_length still open; End closes it.
func Begin(dst []byte, id ID, status Status, seq uint32) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(id))
	dst = binary.BigEndian.AppendUint32(dst, uint32(status))
	return binary.BigEndian.AppendUint32(dst, seq)
}

// End sets command_length of the PDU that begins at start and runs to the end
// of dst, and returns dst.
func End(dst []byte, start int) []byte {
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst
}

// AppendSM appends a whole submit_sm or deliver_sm.
func AppendSM(dst []byte, id ID, seq uint32, m *SM) []byte {
	start := len(dst)
	return End(m.Append(Begin(dst, id, ROK, seq)), start)
}

// AppendHeader appends a PDU without a body: enquire_link, unbind, their
// responses, generic_nack, and error responses (§3.2: the body may be absent).
func AppendHeader(dst []byte, id ID, status Status, seq uint32) []byte {
	start := len(dst)
	return End(Begin(dst, id, status, seq), start)
}

// AppendMessageResp appends submit_sm_resp, data_sm_resp or deliver_sm_resp
// with its message_id, which is NULL in a deliver_sm_resp (§4.6.2).
func AppendMessageResp(dst []byte, id ID, status Status, seq uint32, messageID string) []byte {
	start := len(dst)
	dst = Begin(dst, id, status, seq)
	dst = append(dst, messageID...)
	return End(append(dst, 0), start)
}

// MessageID reads message_id from a submit_sm_resp or data_sm_resp (§4.4.2).
// An error response may have no body: its id is empty.
func MessageID(p PDU) (string, error) {
	if len(p) == HeaderLen {
		return "", nil
	}
	d := decoder{b: p, off: HeaderLen}
	s := d.cString("message_id", 65)
	return string(s), d.error()
}
