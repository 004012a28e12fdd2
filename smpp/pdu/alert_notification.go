package pdu

// Alert is alert_notification: a subscriber for whom a data_sm with set_dpf
// failed can be reached again. It has no response (SMPP v3.4 §4.12.1).
//
//	source_addr  ton npi C-octet 65    esme_addr  ton npi C-octet 65
//	optional parameters: ms_availability_status
//
// Its slices point into the PDU that it was decoded from.
type Alert struct {
	Source Address // the subscriber
	ESME   Address // who asked
	TLVs   TLVs
}

// Decode reads the body of p. It copies nothing and does not allocate unless
// it fails; the error is a *FieldError.
func (a *Alert) Decode(p PDU) error {
	d := decoder{b: p, off: HeaderLen}
	a.Source = d.longAddress("source_addr_ton", "source_addr_npi", "source_addr")
	a.ESME = d.longAddress("esme_addr_ton", "esme_addr_npi", "esme_addr")
	a.TLVs = d.tlvs()
	return d.error()
}

// Append appends a whole alert_notification.
func (a *Alert) Append(dst []byte, seq uint32) []byte {
	start := len(dst)
	dst = Begin(dst, AlertNotification, ROK, seq)
	dst = a.ESME.append(a.Source.append(dst))
	return End(append(dst, a.TLVs...), start)
}
