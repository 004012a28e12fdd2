package pdu

// Query is query_sm (SMPP v3.4 §4.8.1):
//
//	message_id  C-octet 65    source_addr  ton npi C-octet 21
//
// Its slices point into the PDU that it was decoded from. The specification
// has no optional parameters here; those of a vendor are kept.
type Query struct {
	MessageID []byte
	Source    Address
	TLVs      TLVs
}

// Decode reads the body of p. It copies nothing and does not allocate unless
// it fails; the error is a *FieldError.
func (q *Query) Decode(p PDU) error {
	d := decoder{b: p, off: HeaderLen}
	q.MessageID = d.cString("message_id", 65)
	q.Source = d.address("source_addr_ton", "source_addr_npi", "source_addr")
	q.TLVs = d.tlvs()
	return d.error()
}

// Append appends a whole query_sm.
func (q *Query) Append(dst []byte, seq uint32) []byte {
	start := len(dst)
	dst = Begin(dst, QuerySM, ROK, seq)
	dst = q.Source.append(appendCString(dst, q.MessageID))
	return End(append(dst, q.TLVs...), start)
}

// QueryResp is query_sm_resp (SMPP v3.4 §4.8.2):
//
//	message_id  C-octet 65    final_date  C-octet 17
//	message_state  error_code    1 octet each
//
// final_date is empty until the state is final. Its slices point into the PDU
// that it was decoded from.
type QueryResp struct {
	MessageID []byte
	FinalDate []byte
	State     byte // §5.2.28
	ErrorCode byte // the network's own
	TLVs      TLVs
}

// Decode reads the body of p without allocating unless it fails; the error is
// a *FieldError. An error response may have no body, or one NUL.
func (r *QueryResp) Decode(p PDU) error {
	*r = QueryResp{}
	if bodiless(p) {
		return nil
	}
	d := decoder{b: p, off: HeaderLen}
	r.MessageID = d.cString("message_id", 65)
	r.FinalDate = d.cString("final_date", 17)
	r.State = d.octet("message_state")
	r.ErrorCode = d.octet("error_code")
	r.TLVs = d.tlvs()
	return d.error()
}

// Append appends a whole query_sm_resp; an error response that says nothing
// more has no body (§3.2).
func (r *QueryResp) Append(dst []byte, status Status, seq uint32) []byte {
	start := len(dst)
	dst = Begin(dst, QuerySMResp, status, seq)
	if status != ROK && len(r.MessageID)+len(r.FinalDate)+len(r.TLVs) == 0 && r.State|r.ErrorCode == 0 {
		return End(dst, start)
	}
	dst = appendCString(appendCString(dst, r.MessageID), r.FinalDate)
	dst = append(dst, r.State, r.ErrorCode)
	return End(append(dst, r.TLVs...), start)
}
