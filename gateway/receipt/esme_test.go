package receipt

import (
	"net"
	"testing"

	"shunt/smpp"
	"shunt/smpp/pdu"
)

// connect is a pair of connected loopback sockets.
func connect(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return near, far
}

// nothing handles a side that only sends.
type nothing struct{}

func (nothing) HandleRequest(pdu.PDU)  {}
func (nothing) HandleResponse(pdu.PDU) {}
func (nothing) HandleBatch()           {}

// esme answers nine receipts, and hangs up on the tenth.
type esme struct {
	*smpp.Session
	took func(id string)
	n    int
}

func (e *esme) HandleRequest(p pdu.PDU) {
	var m pdu.SM
	if p.ID() != pdu.DeliverSM || m.Decode(p) != nil {
		e.Close(smpp.ErrClosed)
		return
	}
	if e.n++; e.n == 10 {
		e.Close(smpp.ErrClosed)
		return
	}
	r, _ := smpp.ParseReceipt(&m)
	e.took(r.ID)
	_ = e.Send(pdu.AppendMessageResp(nil, pdu.DeliverSMResp, pdu.ROK, p.Seq(), ""))
}

func (e *esme) HandleResponse(pdu.PDU) {}
func (e *esme) HandleBatch()           {}
