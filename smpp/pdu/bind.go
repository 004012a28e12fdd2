package pdu

// Bind is bind_transmitter, bind_receiver or bind_transceiver (SMPP v3.4
// §4.1.1 to §4.1.5):
//
//	system_id  C-octet 16   password  C-octet 9   system_type  C-octet 13
//	interface_version  addr_ton  addr_npi  1 octet each
//	address_range  C-octet 41
type Bind struct {
	SystemID         string
	Password         string
	SystemType       string
	InterfaceVersion byte
	AddrTON, AddrNPI byte
	AddressRange     string
}

// Decode reads the body of p; what follows address_range is let pass, as
// peers send TLVs there. The error is a *FieldError.
func (b *Bind) Decode(p PDU) error {
	d := decoder{b: p, off: HeaderLen}
	b.SystemID = string(d.cString("system_id", 16))
	b.Password = string(d.cString("password", 9))
	b.SystemType = string(d.cString("system_type", 13))
	b.InterfaceVersion = d.octet("interface_version")
	b.AddrTON = d.octet("addr_ton")
	b.AddrNPI = d.octet("addr_npi")
	b.AddressRange = string(d.cString("address_range", 41))
	return d.error()
}

// Append appends a whole bind request of that id.
func (b *Bind) Append(dst []byte, id ID, seq uint32) []byte {
	start := len(dst)
	dst = Begin(dst, id, ROK, seq)
	for _, s := range []string{b.SystemID, b.Password, b.SystemType} {
		dst = append(append(dst, s...), 0)
	}
	dst = append(dst, b.InterfaceVersion, b.AddrTON, b.AddrNPI)
	dst = append(append(dst, b.AddressRange...), 0)
	return End(dst, start)
}

// Interface versions (SMPP v3.4 §5.2.4; v5.0 §4.7.13).
const (
	Version33 = 0x33
	Version34 = 0x34
	Version50 = 0x50
)

// TLVsAllowed tells whether a peer of that interface_version may be sent
// optional parameters (SMPP v3.4 §1.5.1).
func TLVsAllowed(version byte) bool { return version >= Version34 }

// BindResp is the answer to a bind: system_id and, for peers from v3.4 on,
// sc_interface_version (§4.1.2).
type BindResp struct {
	SystemID  string
	SCVersion byte // 0 when absent
}

// Decode reads the body of p; an error response may have none.
func (b *BindResp) Decode(p PDU) error {
	*b = BindResp{}
	if len(p) == HeaderLen {
		return nil
	}
	d := decoder{b: p, off: HeaderLen}
	b.SystemID = string(d.cString("system_id", 16))
	if v, ok := d.tlvs().Find(TagSCInterfaceVersion); ok && len(v) == 1 {
		b.SCVersion = v[0]
	}
	return d.error()
}

// Append appends a whole bind response that answers a bind of that id.
func (b *BindResp) Append(dst []byte, id ID, status Status, seq uint32) []byte {
	start := len(dst)
	dst = Begin(dst, id.Response(), status, seq)
	if status == ROK {
		dst = append(append(dst, b.SystemID...), 0)
		if b.SCVersion != 0 {
			dst = AppendTLV(dst, TagSCInterfaceVersion, []byte{b.SCVersion})
		}
	}
	return End(dst, start)
}
