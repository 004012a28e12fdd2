package smsc

import (
	"bytes"

	"shunt/smpp"
	"shunt/smpp/pdu"
)

// cut takes a C-octet string off b.
func cut(b []byte) (s string, rest []byte, ok bool) {
	v, rest, ok := bytes.Cut(b, []byte{0})
	return string(v), rest, ok
}

// query answers query_sm (SMPP v3.4 §4.8).
func (s *Server) query(c *conn, p pdu.PDU) {
	id, _, ok := cut(p.Body())
	s.mu.Lock()
	m := s.byID[id]
	var state smpp.MessageState
	if m != nil && m.line.SystemID == c.systemID {
		state = m.state
	}
	s.mu.Unlock()
	if !ok || state == 0 {
		c.answer(pdu.QuerySM.Response(), rQueryFail, p.Seq())
		return
	}
	b := pdu.Begin(nil, pdu.QuerySM.Response(), pdu.ROK, p.Seq())
	b = append(append(b, id...), 0)
	b = append(b, 0, byte(state), 0) // final_date unknown, message_state, error_code
	_ = c.s.Send(pdu.End(b, 0))
}

// cancel answers cancel_sm of one message (SMPP v3.4 §4.9): what is not final
// yet ends DELETED.
func (s *Server) cancel(c *conn, p pdu.PDU) {
	_, rest, _ := cut(p.Body()) // service_type
	id, _, ok := cut(rest)
	status := rCancelFail
	s.mu.Lock()
	if m := s.byID[id]; ok && m != nil && m.line.SystemID == c.systemID && !m.state.Final() {
		m.final = smpp.StateDeleted
		s.receipt(m)
		status = pdu.ROK
	}
	s.mu.Unlock()
	c.answer(pdu.CancelSM.Response(), status, p.Seq())
}
