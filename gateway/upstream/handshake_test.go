package upstream

import (
	"fmt"
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp/pdu"
)

func TestBinds(t *testing.T) {
	r := newRig(t, nil)
	n := 0
	for _, id := range []pdu.ID{pdu.BindTransmitter, pdu.BindReceiver, pdu.BindTransceiver} {
		for _, version := range []byte{0x00, 0x33, 0x34, 0x50, 0xFF} {
			for name, resp := range map[string]pdu.PDU{
				"system_id":                       rawText(id.Response(), "SMSC\x00"),
				"system_id, sc_interface_version": append(rawText(id.Response(), "SMSC\x00"), tlv(pdu.TagSCInterfaceVersion, "\x34")...),
				"vendor TLVs":                     append(rawText(id.Response(), "SMSC\x00"), tlv(0x1500, "vendor")...),
				"no body":                         raw(id.Response()),
				"empty system_id":                 rawText(id.Response(), "\x00"),
				"no NUL":                          rawText(id.Response(), "SMSC"),
			} {
				n++
				b := bankBind
				b.InterfaceVersion, b.SystemID = version, fmt.Sprintf("esme%d", n)
				req := withSeq(append(pdu.PDU(b.Append(nil, id, 0)), tlv(0x1501, "bind TLV")...), uint32(n))
				pdu.End(req, 0)
				pdu.End(resp, 0)
				esme := r.connect()
				esme.send(req)
				smsc := r.smsc.accept()
				smsc.want(req)
				smsc.send(withSeq(resp, uint32(n)))
				esme.want(withSeq(resp, uint32(n)))
				all := r.bound(1)
				got := all[0]
				if got.Type != id || got.Version != version || got.Account != (msg.Account{SystemID: b.SystemID, SystemType: "ota", AddressRange: "^44"}) {
					t.Errorf("%s %#02x, %s: bind %s, version %#02x, account %+v", id, version, name, got.Type, got.Version, got.Account)
				}
				if got.Transmits() != (id != pdu.BindReceiver) || got.Receives() != (id != pdu.BindTransmitter) {
					t.Errorf("%s: transmits %t, receives %t", id, got.Transmits(), got.Receives())
				}
				if got.Peer() != esme.conn.LocalAddr().String() || got.Upstream() != r.smsc.addr() {
					t.Errorf("%s: between %s and %s", id, got.Peer(), got.Upstream())
				}
				_ = esme.conn.Close()
				smsc.wantEnd()
				r.bound(0)
			}
		}
	}
}

// TestBindThatDoesNotDecode: the SMSC judges it, and nothing of it is diverted.
func TestBindThatDoesNotDecode(t *testing.T) {
	r := newRig(t, nil)
	esme := r.connect()
	req := rawText(pdu.BindTransceiver, "a system_id of more than sixteen octets\x00")
	esme.send(req)
	smsc := r.smsc.accept()
	smsc.want(req)
	smsc.send(rawText(pdu.BindTransceiverResp, "SMSC\x00"))
	esme.next()
	if got := r.bound(1)[0].Account; got != (msg.Account{}) {
		t.Errorf("account %+v, want none", got)
	}
}

// TestBindRefused: the SMSC's own refusal, in its octets, and another try on
// the same connection.
func TestBindRefused(t *testing.T) {
	r := newRig(t, nil)
	esme := r.connect()
	for _, resp := range []pdu.PDU{
		pdu.AppendHeader(nil, pdu.BindTransceiverResp, pdu.RINVPASWD, 3),
		pdu.AppendMessageResp(nil, pdu.BindTransceiverResp, pdu.RALYBND, 3, ""),
		pdu.AppendMessageResp(nil, pdu.BindTransceiverResp, 0x0410, 3, "SMSC"),
		pdu.AppendHeader(nil, pdu.GenericNack, pdu.RINVCMDID, 3),
		pdu.AppendHeader(nil, pdu.GenericNack, pdu.ROK, 3), // no acceptance either
	} {
		req := bankBind.Append(nil, pdu.BindTransceiver, 3)
		esme.send(req)
		smsc := r.smsc.accept()
		smsc.want(req)
		smsc.send(resp)
		esme.want(resp)
		smsc.wantEnd()
	}
	if n := len(r.proxy.Hub.Binds()); n != 0 {
		t.Errorf("%d binds are up after refusals", n)
	}
	smsc := r.bindOn(esme, pdu.BindTransceiver, bankBind)
	esme.send(sms(pdu.SubmitSM, nil))
	if got := smsc.next(); got.ID() != pdu.SubmitSM {
		t.Errorf("after the bind: %s", show(got))
	}
}

func TestBindWhileTheSMSCIsSlow(t *testing.T) {
	r := newRig(t, nil)
	esme := r.connect()
	esme.send(bankBind.Append(nil, pdu.BindTransceiver, 3), withSeq(sms(pdu.SubmitSM, nil), 4)) // pipelined
	smsc := r.smsc.accept()
	smsc.next()
	smsc.send(pdu.AppendHeader(nil, pdu.EnquireLink, pdu.ROK, 77)) // before its answer
	smsc.wantHeader(pdu.EnquireLinkResp, pdu.ROK, 77)
	smsc.send(rawText(pdu.BindTransceiverResp, "SMSC\x00"), withSeq(sms(pdu.DeliverSM, nil), 1))
	if got := esme.next(); got.ID() != pdu.BindTransceiverResp {
		t.Fatalf("first to the ESME: %s", show(got))
	}
	if got := esme.next(); got.ID() != pdu.DeliverSM {
		t.Errorf("then to the ESME: %s", show(got))
	}
	if got := smsc.next(); got.ID() != pdu.SubmitSM || got.Seq() != 4 { // the bind had 3 on this side too
		t.Errorf("to the SMSC: %s", show(got))
	}
}

func TestUnreachable(t *testing.T) {
	bind := bankBind.Append(nil, pdu.BindTransmitter, 8)
	t.Run("nobody listens", func(t *testing.T) {
		r := newRig(t, nil)
		_ = r.smsc.l.Close()
		esme := r.connect()
		esme.send(bind)
		esme.wantHeader(pdu.BindTransmitterResp, pdu.RBINDFAIL, 8)
		esme.wantEnd()
	})
	t.Run("hangs up", func(t *testing.T) {
		r := newRig(t, nil)
		esme := r.connect()
		esme.send(bind)
		smsc := r.smsc.accept()
		smsc.next()
		_ = smsc.conn.Close()
		esme.wantHeader(pdu.BindTransmitterResp, pdu.RBINDFAIL, 8)
		esme.wantEnd()
	})
	t.Run("loses framing", func(t *testing.T) {
		r := newRig(t, nil)
		esme := r.connect()
		esme.send(bind)
		smsc := r.smsc.accept()
		smsc.next()
		smsc.send(pdu.PDU("HTTP/1.1 400 Bad Request\r\n\r\n"))
		esme.wantHeader(pdu.BindTransmitterResp, pdu.RBINDFAIL, 8)
		esme.wantEnd()
	})
	t.Run("does not answer", func(t *testing.T) {
		r := newRig(t, func(x *Proxy) { x.SMPP.Response = 50 * time.Millisecond })
		esme := r.connect()
		esme.send(bind)
		smsc := r.smsc.accept()
		smsc.want(bind)
		esme.wantHeader(pdu.BindTransmitterResp, pdu.RBINDFAIL, 8)
		esme.wantEnd()
		smsc.wantEnd()
	})
	t.Run("default of the response time", func(t *testing.T) {
		r := newRig(t, func(x *Proxy) { x.SMPP.Response = 0 })
		r.bind(pdu.BindTransmitter, bankBind)
	})
}
