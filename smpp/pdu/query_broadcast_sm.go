package pdu

// BroadcastQuery is query_broadcast_sm (SMPP v5.0 §4.6):
//
//	message_id  C-octet 65    source_addr  ton npi C-octet 21
//	optional TLV: user_message_reference
//
// Its response is a MessageResp: all that query_broadcast_sm_resp tells beside
// the message_id is in TLVs, of which message_state and, for each area,
// broadcast_area_identifier and broadcast_area_success are mandatory. Its
// slices point into the PDU that it was decoded from.
type BroadcastQuery struct {
	MessageID []byte
	Source    Address
	TLVs      TLVs
}

// Decode reads the body of p. It copies nothing and does not allocate unless
// it fails; the error is a *FieldError.
func (q *BroadcastQuery) Decode(p PDU) error {
	d := decoder{b: p, off: HeaderLen}
	q.MessageID = d.cString("message_id", 65)
	q.Source = d.address("source_addr_ton", "source_addr_npi", "source_addr")
	q.TLVs = d.tlvs()
	return d.error()
}

// Append appends a whole query_broadcast_sm.
func (q *BroadcastQuery) Append(dst []byte, seq uint32) []byte {
	start := len(dst)
	dst = Begin(dst, QueryBroadcastSM, ROK, seq)
	dst = q.Source.append(appendCString(dst, q.MessageID))
	return End(append(dst, q.TLVs...), start)
}
