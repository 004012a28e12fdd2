package pdu

// BroadcastCancel is cancel_broadcast_sm (SMPP v5.0 §4.6):
//
//	service_type  C-octet 6    message_id  C-octet 65
//	source_addr  ton npi C-octet 21
//	optional TLVs: broadcast_content_type, user_message_reference
//
// cancel_broadcast_sm_resp is a header alone. Its slices point into the PDU
// that it was decoded from.
type BroadcastCancel struct {
	ServiceType []byte
	MessageID   []byte
	Source      Address
	TLVs        TLVs
}

// Decode reads the body of p. It copies nothing and does not allocate unless
// it fails; the error is a *FieldError.
func (c *BroadcastCancel) Decode(p PDU) error {
	d := decoder{b: p, off: HeaderLen}
	c.ServiceType = d.cString("service_type", 6)
	c.MessageID = d.cString("message_id", 65)
	c.Source = d.address("source_addr_ton", "source_addr_npi", "source_addr")
	c.TLVs = d.tlvs()
	return d.error()
}

// Append appends a whole cancel_broadcast_sm.
func (c *BroadcastCancel) Append(dst []byte, seq uint32) []byte {
	start := len(dst)
	dst = Begin(dst, CancelBroadcastSM, ROK, seq)
	dst = appendCString(appendCString(dst, c.ServiceType), c.MessageID)
	return End(append(c.Source.append(dst), c.TLVs...), start)
}
