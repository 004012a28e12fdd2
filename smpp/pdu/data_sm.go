package pdu

import (
	"encoding/binary"
	"time"
)

// Data is data_sm, in both directions; its response is a MessageResp (SMPP
// v3.4 §4.7.1):
//
//	service_type  C-octet 6     source_addr  ton npi C-octet 65
//	dest_addr     ton npi C-octet 65
//	esm_class  registered_delivery  data_coding    1 octet each
//	optional parameters, message_payload among them
//
// Its slices point into the PDU that it was decoded from.
type Data struct {
	ServiceType        []byte
	Source, Dest       Address // up to 64 octets, where submit_sm has 20
	ESMClass           byte
	RegisteredDelivery byte
	DataCoding         byte
	TLVs               TLVs
}

// Decode reads the body of p. It copies nothing and does not allocate unless
// it fails; the error is a *FieldError.
func (m *Data) Decode(p PDU) error {
	d := decoder{b: p, off: HeaderLen}
	m.ServiceType = d.cString("service_type", 6)
	m.Source = d.longAddress("source_addr_ton", "source_addr_npi", "source_addr")
	m.Dest = d.longAddress("dest_addr_ton", "dest_addr_npi", "destination_addr")
	m.ESMClass = d.octet("esm_class")
	m.RegisteredDelivery = d.octet("registered_delivery")
	m.DataCoding = d.octet("data_coding")
	m.TLVs = d.tlvs()
	return d.error()
}

// longAddress reads an address of at most 65 octets, NUL included (SMPP v3.4
// §5.2.8, §5.2.9).
func (d *decoder) longAddress(ton, npi, addr string) Address {
	return Address{TON: d.octet(ton), NPI: d.octet(npi), Addr: d.cString(addr, 65)}
}

// Append appends a whole data_sm.
func (m *Data) Append(dst []byte, seq uint32) []byte {
	start := len(dst)
	dst = Begin(dst, DataSM, ROK, seq)
	dst = appendCString(dst, m.ServiceType)
	dst = m.Source.append(dst)
	dst = m.Dest.append(dst)
	dst = append(dst, m.ESMClass, m.RegisteredDelivery, m.DataCoding)
	return End(append(dst, m.TLVs...), start)
}

// SM is m as a submit_sm says it: what data_sm has no field for is empty. Its
// slices are m's, addresses of more than 20 octets included.
func (m *Data) SM() SM {
	return SM{
		ServiceType: m.ServiceType, Source: m.Source, Dest: m.Dest, ESMClass: m.ESMClass,
		RegisteredDelivery: m.RegisteredDelivery, DataCoding: m.DataCoding, TLVs: m.TLVs,
	}
}

// DecodeMessage reads the body of a submit_sm, a deliver_sm or, as Data.SM
// shows it, a data_sm: whoever only wants to know the message need not care
// which it was. It copies nothing and does not allocate unless it fails; the
// error is a *FieldError.
func (m *SM) DecodeMessage(p PDU) error {
	if p.ID() != DataSM {
		return m.Decode(p)
	}
	var d Data
	err := d.Decode(p)
	*m = d.SM()
	return err
}

// TimeToLive is qos_time_to_live, the validity of a data_sm (SMPP v3.4
// §5.3.2.9); ok is false where there is none.
func (t TLVs) TimeToLive() (d time.Duration, ok bool) {
	v, ok := t.Find(TagQOSTimeToLive)
	if !ok || len(v) != 4 {
		return 0, false
	}
	return time.Duration(binary.BigEndian.Uint32(v)) * time.Second, true
}

// Payload is the message: message_payload, where there is one. A data_sm that
// only sets delivery pending or ends a session has none.
func (m *Data) Payload() (b []byte, ok bool) { return m.TLVs.Find(TagMessagePayload) }
