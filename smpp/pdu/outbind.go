package pdu

// OutbindBody is outbind, with which an SMSC asks an ESME for a bind_receiver;
// it has no response (SMPP v3.4 §4.1.7). Outbind is its command_id.
//
//	system_id  C-octet 16    password  C-octet 9
//
// Its slices point into the PDU that it was decoded from.
type OutbindBody struct {
	SystemID []byte
	Password []byte
	TLVs     TLVs // none by the specification; those of a vendor are kept
}

// Decode reads the body of p. It copies nothing and does not allocate unless
// it fails; the error is a *FieldError.
func (o *OutbindBody) Decode(p PDU) error {
	d := decoder{b: p, off: HeaderLen}
	o.SystemID = d.cString("system_id", 16)
	o.Password = d.cString("password", 9)
	o.TLVs = d.tlvs()
	return d.error()
}

// Append appends a whole outbind.
func (o *OutbindBody) Append(dst []byte, seq uint32) []byte {
	start := len(dst)
	dst = Begin(dst, Outbind, ROK, seq)
	dst = appendCString(appendCString(dst, o.SystemID), o.Password)
	return End(append(dst, o.TLVs...), start)
}
