package pdu

// Cancel is cancel_sm (SMPP v3.4 §4.9.1):
//
//	service_type  C-octet 6     message_id  C-octet 65
//	source_addr  ton npi C-octet 21    dest_addr  ton npi C-octet 21
//
// With an empty message_id it cancels all messages of that source,
// destination and service_type. cancel_sm_resp is a header alone (§4.9.2).
// Its slices point into the PDU that it was decoded from.
type Cancel struct {
	ServiceType  []byte
	MessageID    []byte
	Source, Dest Address
	TLVs         TLVs // none by the specification; those of a vendor are kept
}

// Decode reads the body of p. It copies nothing and does not allocate unless
// it fails; the error is a *FieldError.
func (c *Cancel) Decode(p PDU) error {
	d := decoder{b: p, off: HeaderLen}
	c.ServiceType = d.cString("service_type", 6)
	c.MessageID = d.cString("message_id", 65)
	c.Source = d.address("source_addr_ton", "source_addr_npi", "source_addr")
	c.Dest = d.address("dest_addr_ton", "dest_addr_npi", "destination_addr")
	c.TLVs = d.tlvs()
	return d.error()
}

// Append appends a whole cancel_sm.
func (c *Cancel) Append(dst []byte, seq uint32) []byte {
	start := len(dst)
	dst = Begin(dst, CancelSM, ROK, seq)
	dst = appendCString(appendCString(dst, c.ServiceType), c.MessageID)
	dst = c.Dest.append(c.Source.append(dst))
	return End(append(dst, c.TLVs...), start)
}
