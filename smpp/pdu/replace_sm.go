package pdu

// Replace is replace_sm (SMPP v3.4 §4.10.1):
//
//	message_id  C-octet 65      source_addr  ton npi C-octet 21
//	schedule_delivery_time  C-octet 17       validity_period  C-octet 17
//	registered_delivery  sm_default_msg_id  sm_length    1 octet each
//	short_message  sm_length octets          optional parameters (v5.0)
//
// It has no data_coding: the new text is in the alphabet of the old.
// replace_sm_resp is a header alone (§4.10.2). Its slices point into the PDU
// that it was decoded from.
type Replace struct {
	MessageID          []byte
	Source             Address
	Schedule           []byte
	Validity           []byte
	RegisteredDelivery byte
	DefaultMsgID       byte
	ShortMessage       []byte
	TLVs               TLVs // v5.0: message_payload
}

// Decode reads the body of p. It copies nothing and does not allocate unless
// it fails; the error is a *FieldError.
func (r *Replace) Decode(p PDU) error {
	d := decoder{b: p, off: HeaderLen}
	r.MessageID = d.cString("message_id", 65)
	r.Source = d.address("source_addr_ton", "source_addr_npi", "source_addr")
	r.Schedule = d.cString("schedule_delivery_time", 17)
	r.Validity = d.cString("validity_period", 17)
	r.RegisteredDelivery = d.octet("registered_delivery")
	r.DefaultMsgID = d.octet("sm_default_msg_id")
	r.ShortMessage = d.octets("short_message", int(d.octet("sm_length")))
	r.TLVs = d.tlvs()
	return d.error()
}

// Append appends a whole replace_sm with at most 255 octets of short_message.
func (r *Replace) Append(dst []byte, seq uint32) []byte {
	start := len(dst)
	dst = Begin(dst, ReplaceSM, ROK, seq)
	dst = r.Source.append(appendCString(dst, r.MessageID))
	dst = appendCString(appendCString(dst, r.Schedule), r.Validity)
	dst = append(dst, r.RegisteredDelivery, r.DefaultMsgID, byte(len(r.ShortMessage)))
	dst = append(dst, r.ShortMessage...)
	return End(append(dst, r.TLVs...), start)
}
