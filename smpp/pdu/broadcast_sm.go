package pdu

// Broadcast is broadcast_sm, a message for the cells of an area; its response
// is a MessageResp (SMPP v5.0 §4.4):
//
//	service_type  C-octet 6     source_addr  ton npi C-octet 21
//	message_id  C-octet 65      priority_flag  1 octet
//	schedule_delivery_time  C-octet 17       validity_period  C-octet 17
//	replace_if_present_flag  data_coding  sm_default_msg_id    1 octet each
//	TLVs, of which broadcast_area_identifier, broadcast_content_type,
//	broadcast_rep_num and broadcast_frequency_interval are mandatory
//
// message_id names the broadcast to replace, and is empty otherwise. Its
// slices point into the PDU that it was decoded from.
type Broadcast struct {
	ServiceType      []byte
	Source           Address
	MessageID        []byte
	Priority         byte
	Schedule         []byte
	Validity         []byte
	ReplaceIfPresent byte
	DataCoding       byte
	DefaultMsgID     byte
	TLVs             TLVs
}

// Decode reads the body of p. It copies nothing and does not allocate unless
// it fails; the error is a *FieldError. That a mandatory TLV is missing is
// for the SMSC to say (ESME_RMISSINGTLV).
func (m *Broadcast) Decode(p PDU) error {
	d := decoder{b: p, off: HeaderLen}
	m.ServiceType = d.cString("service_type", 6)
	m.Source = d.address("source_addr_ton", "source_addr_npi", "source_addr")
	m.MessageID = d.cString("message_id", 65)
	m.Priority = d.octet("priority_flag")
	m.Schedule = d.cString("schedule_delivery_time", 17)
	m.Validity = d.cString("validity_period", 17)
	m.ReplaceIfPresent = d.octet("replace_if_present_flag")
	m.DataCoding = d.octet("data_coding")
	m.DefaultMsgID = d.octet("sm_default_msg_id")
	m.TLVs = d.tlvs()
	return d.error()
}

// Append appends a whole broadcast_sm.
func (m *Broadcast) Append(dst []byte, seq uint32) []byte {
	start := len(dst)
	dst = Begin(dst, BroadcastSM, ROK, seq)
	dst = m.Source.append(appendCString(dst, m.ServiceType))
	dst = append(appendCString(dst, m.MessageID), m.Priority)
	dst = appendCString(appendCString(dst, m.Schedule), m.Validity)
	dst = append(dst, m.ReplaceIfPresent, m.DataCoding, m.DefaultMsgID)
	return End(append(dst, m.TLVs...), start)
}
