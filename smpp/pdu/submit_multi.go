package pdu

import (
	"encoding/binary"
	"fmt"
	"iter"
)

// Multi is submit_multi, one message to many (SMPP v3.4 §4.5.1):
//
//	service_type  C-octet 6     source_addr  ton npi C-octet 21
//	number_of_dests  1 octet    dest_address  that many
//	esm_class  protocol_id  priority_flag    1 octet each
//	schedule_delivery_time  C-octet 17       validity_period  C-octet 17
//	registered_delivery  replace_if_present_flag  data_coding
//	sm_default_msg_id  sm_length             1 octet each
//	short_message  sm_length octets          optional parameters
//
// Its slices point into the PDU that it was decoded from.
type Multi struct {
	ServiceType        []byte
	Source             Address
	Dests              DestAddresses
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
// it fails; the error is a *FieldError. A list of no destinations decodes:
// whether that is ESME_RINVNUMDESTS is not for a codec to say.
func (m *Multi) Decode(p PDU) error {
	d := decoder{b: p, off: HeaderLen}
	m.ServiceType = d.cString("service_type", 6)
	m.Source = d.address("source_addr_ton", "source_addr_npi", "source_addr")
	m.Dests = d.destinations()
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

// Append appends a whole submit_multi with at most 255 destinations, each as
// DestAddress.Append makes it, and 255 octets of short_message.
func (m *Multi) Append(dst []byte, seq uint32) []byte {
	start := len(dst)
	dst = Begin(dst, SubmitMulti, ROK, seq)
	dst = appendCString(dst, m.ServiceType)
	dst = m.Source.append(dst)
	dst = append(append(dst, byte(m.Dests.Len())), m.Dests...)
	dst = append(dst, m.ESMClass, m.ProtocolID, m.Priority)
	dst = appendCString(dst, m.Schedule)
	dst = appendCString(dst, m.Validity)
	dst = append(dst, m.RegisteredDelivery, m.ReplaceIfPresent, m.DataCoding, m.DefaultMsgID, byte(len(m.ShortMessage)))
	dst = append(dst, m.ShortMessage...)
	return End(append(dst, m.TLVs...), start)
}

// To is the submit_sm that says to one destination what m says to all. Its
// slices are m's and dest's.
func (m *Multi) To(dest Address) SM {
	return SM{
		ServiceType: m.ServiceType, Source: m.Source, Dest: dest,
		ESMClass: m.ESMClass, ProtocolID: m.ProtocolID, Priority: m.Priority,
		Schedule: m.Schedule, Validity: m.Validity,
		RegisteredDelivery: m.RegisteredDelivery, ReplaceIfPresent: m.ReplaceIfPresent,
		DataCoding: m.DataCoding, DefaultMsgID: m.DefaultMsgID, ShortMessage: m.ShortMessage, TLVs: m.TLVs,
	}
}

// Values of dest_flag (SMPP v3.4 §5.2.25).
const (
	DestSME  = 1
	DestList = 2
)

// DestAddress is one dest_address: an SME address or a distribution list that
// the SMSC knows (SMPP v3.4 §4.5.1.1 to §4.5.1.3):
//
//	dest_flag 1   dest_addr  ton npi C-octet 21
//	dest_flag 2   dl_name    C-octet 21
type DestAddress struct {
	Flag    byte    // DestSME or DestList
	Address Address // of an SME
	List    []byte  // dl_name of a distribution list
}

// Append appends a as it stands in a DestAddresses. A flag other than DestList
// makes it an SME address.
func (a DestAddress) Append(dst []byte) []byte {
	if a.Flag == DestList {
		return appendCString(append(dst, DestList), a.List)
	}
	return a.Address.append(append(dst, DestSME))
}

// DestAddresses are the dest_address fields of a submit_multi as they came, in
// their order, duplicates included, without number_of_dests. A DestAddresses
// that a decoder returned is whole.
type DestAddresses []byte

// All walks the destinations in wire order, up to one that is not whole.
func (l DestAddresses) All() iter.Seq[DestAddress] {
	return func(yield func(DestAddress) bool) {
		for d := (decoder{b: l}); d.off < len(l); {
			v := d.destination()
			if d.err != nil || !yield(v) {
				return
			}
		}
	}
}

// Len is number_of_dests.
func (l DestAddresses) Len() (n int) {
	for range l.All() {
		n++
	}
	return n
}

func (d *decoder) destination() (v DestAddress) {
	at := d.off
	switch v.Flag = d.octet("dest_flag"); v.Flag {
	case DestSME:
		v.Address = d.address("dest_addr_ton", "dest_addr_npi", "destination_addr")
	case DestList:
		v.List = d.cString("dl_name", 21)
	default:
		d.off = at
		d.fail("dest_flag", fmt.Sprintf("%d, want 1 or 2", v.Flag))
	}
	return v
}

// destinations reads number_of_dests and as many destinations.
func (d *decoder) destinations() DestAddresses {
	n := int(d.octet("number_of_dests"))
	start := d.off
	for range n {
		if d.destination(); d.err != nil {
			return nil
		}
	}
	if d.err != nil {
		return nil
	}
	return DestAddresses(d.b[start:d.off:d.off])
}

// MultiResp is submit_multi_resp (SMPP v3.4 §4.5.2):
//
//	message_id  C-octet 65    no_unsuccess  1 octet
//	unsuccess_sme  that many  optional parameters (v5.0)
//
// Its slices point into the PDU that it was decoded from.
type MultiResp struct {
	MessageID []byte
	Unsuccess UnsuccessSMEs
	TLVs      TLVs
}

// Decode reads the body of p without allocating unless it fails; the error is
// a *FieldError. An error response may have no body, or one NUL. A body that
// ends behind message_id has no_unsuccess 0: some SMSCs leave it out when all
// destinations were taken.
func (r *MultiResp) Decode(p PDU) error {
	*r = MultiResp{}
	if bodiless(p) {
		return nil
	}
	d := decoder{b: p, off: HeaderLen}
	r.MessageID = d.cString("message_id", 65)
	if d.err == nil && d.off == len(p) {
		return nil
	}
	r.Unsuccess = d.unsuccessSMEs()
	r.TLVs = d.tlvs()
	return d.error()
}

// Append appends a whole submit_multi_resp with at most 255 unsuccess_smes; an
// error response that says nothing more has no body (§3.2).
func (r *MultiResp) Append(dst []byte, status Status, seq uint32) []byte {
	start := len(dst)
	dst = Begin(dst, SubmitMultiResp, status, seq)
	if status != ROK && len(r.MessageID)+len(r.Unsuccess)+len(r.TLVs) == 0 {
		return End(dst, start)
	}
	dst = appendCString(dst, r.MessageID)
	dst = append(append(dst, byte(r.Unsuccess.Len())), r.Unsuccess...)
	return End(append(dst, r.TLVs...), start)
}

// UnsuccessSME is a destination that was not taken, and why (SMPP v3.4
// §4.5.2.1):
//
//	dest_addr  ton npi C-octet 21    error_status_code  4 octets
type UnsuccessSME struct {
	Address Address
	Status  Status
}

// Append appends u as it stands in an UnsuccessSMEs.
func (u UnsuccessSME) Append(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(u.Address.append(dst), uint32(u.Status))
}

// UnsuccessSMEs are the unsuccess_sme fields of a submit_multi_resp as they
// came, in their order, without no_unsuccess.
type UnsuccessSMEs []byte

// All walks the refused destinations in wire order, up to one that is not whole.
func (l UnsuccessSMEs) All() iter.Seq[UnsuccessSME] {
	return func(yield func(UnsuccessSME) bool) {
		for d := (decoder{b: l}); d.off < len(l); {
			u := d.unsuccessSME()
			if d.err != nil || !yield(u) {
				return
			}
		}
	}
}

// Len is no_unsuccess.
func (l UnsuccessSMEs) Len() (n int) {
	for range l.All() {
		n++
	}
	return n
}

func (d *decoder) unsuccessSME() (u UnsuccessSME) {
	u.Address = d.address("dest_addr_ton", "dest_addr_npi", "destination_addr")
	if b := d.octets("error_status_code", 4); b != nil {
		u.Status = Status(binary.BigEndian.Uint32(b))
	}
	return u
}

// unsuccessSMEs reads no_unsuccess and as many refused destinations.
func (d *decoder) unsuccessSMEs() UnsuccessSMEs {
	n := int(d.octet("no_unsuccess"))
	start := d.off
	for range n {
		if d.unsuccessSME(); d.err != nil {
			return nil
		}
	}
	if d.err != nil {
		return nil
	}
	return UnsuccessSMEs(d.b[start:d.off:d.off])
}
