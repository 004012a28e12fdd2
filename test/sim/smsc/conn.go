package smsc

import (
	"time"

	"shunt/smpp"
	"shunt/smpp/pdu"
)

// Statuses of operations that only an SMSC answers (SMPP v3.4 §5.1.3).
const (
	rCancelFail  pdu.Status = 0x11
	rReplaceFail pdu.Status = 0x13
	rQueryFail   pdu.Status = 0x67
	bindIn                  = 10 * time.Second
	strayPDUs               = 10 // PDUs before a bind that are answered
)

// conn is one connection; after bind its fields do not change. Its methods run
// on the session's reader goroutine.
type conn struct {
	srv      *Server
	s        *smpp.Session
	number   uint64
	systemID string
	version  byte
	tx, rx   bool
}

// bind reads until a bind is accepted; false ends the connection.
func (c *conn) bind() bool {
	for range strayPDUs {
		p, err := c.s.ReadPDU(bindIn)
		if err != nil {
			c.end()
			return false
		}
		switch id := p.ID(); {
		case id.IsBind():
			return c.tryBind(p)
		case id == pdu.EnquireLink:
			c.answer(pdu.EnquireLinkResp, pdu.ROK, p.Seq())
		case id == pdu.Unbind:
			c.answer(pdu.UnbindResp, pdu.ROK, p.Seq())
			c.end()
			return false
		case id == pdu.SubmitSM || id == pdu.DataSM || id == pdu.QuerySM || id == pdu.CancelSM || id == pdu.ReplaceSM:
			c.answer(id.Response(), pdu.RINVBNDSTS, p.Seq())
		case !id.IsResponse():
			c.answer(pdu.GenericNack, pdu.RINVCMDID, p.Seq())
		}
		c.s.Flush()
	}
	c.end()
	return false
}

func (c *conn) tryBind(p pdu.PDU) bool {
	var b pdu.Bind
	status := pdu.RBINDFAIL
	if b.Decode(p) == nil {
		status = c.srv.refuse(&b)
	}
	resp := pdu.BindResp{SystemID: "SMSC"}
	if pdu.TLVsAllowed(b.InterfaceVersion) {
		resp.SCVersion = pdu.Version50
	}
	_ = c.s.Send(resp.Append(nil, p.ID(), status, p.Seq()))
	c.s.Flush()
	if status != pdu.ROK {
		c.srv.mu.Lock()
		c.srv.sum.BindsRefused++
		c.srv.mu.Unlock()
		c.end()
		return false
	}
	c.systemID, c.version = b.SystemID, b.InterfaceVersion
	c.tx = p.ID() != pdu.BindReceiver
	c.rx = p.ID() != pdu.BindTransmitter
	return true
}

// end closes the connection once what was sent is on the wire.
func (c *conn) end() {
	c.s.Finish()
	<-c.s.Done()
}

func (c *conn) answer(id pdu.ID, status pdu.Status, seq uint32) {
	_ = c.s.Send(pdu.AppendHeader(nil, id, status, seq))
}

// HandleBatch implements smpp.Handler.
func (c *conn) HandleBatch() {}

// HandleResponse implements smpp.Handler: nothing is forwarded here, so this is
// a generic_nack that answers nothing.
func (c *conn) HandleResponse(pdu.PDU) {}

// HandleRequest implements smpp.Handler.
func (c *conn) HandleRequest(p pdu.PDU) {
	switch id := p.ID(); {
	case id == pdu.SubmitSM && c.tx:
		c.srv.submit(c, p)
	case id == pdu.QuerySM && c.tx:
		c.srv.query(c, p)
	case id == pdu.CancelSM && c.tx:
		c.srv.cancel(c, p)
	case id == pdu.ReplaceSM && c.tx:
		c.answer(pdu.ReplaceSM.Response(), rReplaceFail, p.Seq())
	case id == pdu.SubmitSM || id == pdu.QuerySM || id == pdu.CancelSM || id == pdu.ReplaceSM:
		c.answer(id.Response(), pdu.RINVBNDSTS, p.Seq())
	case id == pdu.Unbind:
		c.answer(pdu.UnbindResp, pdu.ROK, p.Seq())
		c.s.Finish()
	case id.IsBind():
		c.answer(id.Response(), pdu.RALYBND, p.Seq())
	default:
		c.srv.mu.Lock()
		c.srv.sum.Unknown++
		c.srv.mu.Unlock()
		c.answer(pdu.GenericNack, pdu.RINVCMDID, p.Seq())
	}
}

// sink answers every submit_sm with an id of fixed length and allocates nothing.
type sink struct {
	c    *conn
	resp []byte
}

func newSink(c *conn) *sink {
	return &sink{c: c, resp: pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, 0, "00000000")}
}

const hexDigits = "0123456789abcdef"

// HandleRequest implements smpp.Handler.
func (k *sink) HandleRequest(p pdu.PDU) {
	if p.ID() != pdu.SubmitSM {
		k.c.HandleRequest(p)
		return
	}
	n := k.c.srv.sinks.Add(1)
	for i := 7; i >= 0; i-- {
		k.resp[pdu.HeaderLen+i] = hexDigits[n&15]
		n >>= 4
	}
	pdu.PDU(k.resp).SetSeq(p.Seq())
	_ = k.c.s.Send(k.resp)
}

// HandleResponse implements smpp.Handler.
func (k *sink) HandleResponse(pdu.PDU) {}

// HandleBatch implements smpp.Handler.
func (k *sink) HandleBatch() {}
