package pdu

// MessageResp is a response of a message_id and optional parameters:
// data_sm_resp, broadcast_sm_resp and query_broadcast_sm_resp, and
// submit_sm_resp and deliver_sm_resp for peers that put optional parameters
// into them (SMPP v3.4 §4.4.2, §4.6.2, §4.7.2; v5.0 §4.4, §4.6):
//
//	message_id  C-octet 65    optional parameters
//
// Its slices point into the PDU that it was decoded from. MessageID and
// AppendMessageResp are the short way where only the id counts.
type MessageResp struct {
	MessageID []byte
	TLVs      TLVs
}

// Decode reads the body of p without allocating unless it fails; the error is
// a *FieldError. A response may have no body.
func (r *MessageResp) Decode(p PDU) error {
	*r = MessageResp{}
	if len(p) == HeaderLen {
		return nil
	}
	d := decoder{b: p, off: HeaderLen}
	r.MessageID = d.cString("message_id", 65)
	r.TLVs = d.tlvs()
	return d.error()
}

// Append appends a whole response of that id; an error response that says
// nothing more has no body (§3.2).
func (r *MessageResp) Append(dst []byte, id ID, status Status, seq uint32) []byte {
	start := len(dst)
	dst = Begin(dst, id, status, seq)
	if status != ROK && len(r.MessageID)+len(r.TLVs) == 0 {
		return End(dst, start)
	}
	return End(append(appendCString(dst, r.MessageID), r.TLVs...), start)
}

// bodiless tells whether p is an error response with nothing in its body: not
// an octet, or the one NUL that some peers send (SMPP v3.4 §3.2).
func bodiless(p PDU) bool {
	switch len(p) {
	case HeaderLen:
		return p.Status() != ROK
	case HeaderLen + 1:
		return p.Status() != ROK && p[HeaderLen] == 0
	}
	return false
}
