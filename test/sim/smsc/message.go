package smsc

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/test/sim/books"
)

// message is one accepted submit_sm, in the server's hands until its line is
// in the book.
type message struct {
	line         books.SMSCLine
	id           string // as in the response
	receiptID    string // as in the receipt
	registered   byte   // registered_delivery
	state        smpp.MessageState
	final        smpp.MessageState
	source, dest pdu.Address
	text         []byte // up to 20 octets, for the receipt
	inBook       bool
}

// asked tells whether a receipt for the final state is wanted (SMPP v3.4
// §5.2.17, v5.0 §4.7.21): 1 always, 2 on failure, 3 on success.
func (m *message) asked() bool {
	switch m.registered & 3 {
	case 1:
		return true
	case 2:
		return m.final != smpp.StateDelivered
	case 3:
		return m.final == smpp.StateDelivered
	}
	return false
}

const (
	intermediateAsked = 0x10
	maxScheduled      = 1_000_000 // responses and receipts; above it responses go at once
)

// submit judges one submit_sm, answers it and arranges its receipt.
func (s *Server) submit(c *conn, p pdu.PDU) {
	var m pdu.SM
	if err := m.Decode(p); err != nil {
		s.mu.Lock()
		s.sum.Submits++
		s.sum.Malformed++
		s.mu.Unlock()
		_ = c.s.Send(pdu.AppendHeader(nil, pdu.SubmitSMResp, pdu.RINVMSGLEN, p.Seq()))
		return
	}
	payload, ok := m.Payload()
	msg := newMessage(&m, books.SMSCLine{
		At: time.Now(), SystemID: c.systemID, Bind: c.number,
		Source: string(m.Source.Addr), Dest: string(m.Dest.Addr),
		Body: books.Sum(p.Body()), BodyBlank: books.SumBlank(&m),
		ESMClass: m.ESMClass, DataCoding: m.DataCoding, UserData: books.Sum(payload),
		Asked: m.RegisteredDelivery&3 != 0,
	})
	s.mu.Lock()
	s.sum.Submits++
	status := s.judge(ok)
	msg.line.Status = uint32(status)
	if status != pdu.ROK {
		s.sum.Refused++
		s.book.Write(&msg.line)
		s.respond(c, pdu.AppendHeader(nil, pdu.SubmitSMResp, status, p.Seq()), 0)
		return
	}
	s.take(msg)
	if s.o.Lasting { // before the response: what is answered is in the book
		msg.line.Open = p.Body()
		s.book.Write(&msg.line)
		msg.line.Open = nil
	}
	early := msg.asked() && s.rng.Float64() < s.o.ReceiptBeforeResp
	if s.o.Unacked {
		msg.line.Unanswered = true
	}
	if early {
		s.receipt(msg)
	}
	s.respond(c, pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, p.Seq(), msg.id), s.extra(early))
	if !early {
		s.arrange(msg)
	}
}

func newMessage(m *pdu.SM, line books.SMSCLine) *message {
	payload, _ := m.Payload()
	msg := &message{
		line: line, registered: m.RegisteredDelivery, state: smpp.StateEnroute,
		source: clone(m.Source), dest: clone(m.Dest),
	}
	if m.DataCoding <= 3 && m.ESMClass&0x40 == 0 {
		msg.text = bytes.Clone(payload[:min(len(payload), 20)])
	}
	return msg
}

// resume goes on with the book of a process before this one: its ids, and the
// messages that are not done.
func (s *Server) resume() error {
	lines, err := books.ReadSMSC(s.o.Book)
	if err != nil {
		return err
	}
	for _, l := range lines {
		if l.Status != uint32(pdu.ROK) {
			continue
		}
		resp, receipt := s.ids()
		if resp != l.ID {
			return fmt.Errorf("book %s: message id %q, want %q: the seed or the form of ids is another", s.o.Book, l.ID, resp)
		}
		if len(l.Open) == 0 {
			continue
		}
		var m pdu.SM
		if err := m.Decode(pdu.PDU(append(pdu.AppendHeader(nil, pdu.SubmitSM, pdu.ROK, 1), l.Open...))); err != nil {
			return fmt.Errorf("book %s: message %s: %w", s.o.Book, l.ID, err)
		}
		l.Open = nil
		msg := newMessage(&m, l)
		msg.id, msg.receiptID = resp, receipt
		msg.final = s.fate(msg)
		s.sum.Resumed++
		s.open[msg] = struct{}{}
		s.byID[msg.id] = msg
		s.arrange(msg)
	}
	return nil
}

// judge draws the status of a submit_sm; the caller holds mu.
func (s *Server) judge(oneText bool) pdu.Status {
	if !oneText {
		return pdu.RINVMSGLEN
	}
	if len(s.open) >= s.o.Held {
		return pdu.RMSGQFUL
	}
	switch draw := s.rng.Float64(); {
	case draw < s.o.ThrottleRate:
		s.sum.Throttled++
		return pdu.RTHROTTLED
	case draw < s.o.ThrottleRate+s.o.ErrorRate:
		return pdu.Status(s.o.ErrorStatus)
	}
	return pdu.ROK
}

// take gives msg its ids and its fate, which hangs on the body and the seed
// alone, not on the order of arrival; the caller holds mu.
func (s *Server) take(msg *message) {
	s.sum.Accepted++
	msg.id, msg.receiptID = s.ids()
	msg.final = s.fate(msg)
	msg.line.ID, msg.line.Final = msg.id, msg.final.Stat()
	s.open[msg] = struct{}{}
	s.byID[msg.id] = msg
}

func (s *Server) fate(msg *message) smpp.MessageState {
	sum, _ := hex.DecodeString(msg.line.BodyBlank[:16])
	draw := (binary.BigEndian.Uint64(sum) ^ s.o.Seed*0x9E3779B97F4A7C15) >> 11
	return s.o.final(float64(draw) / (1 << 53))
}

// ids are the next message's ids, in its response and in its receipt.
func (s *Server) ids() (resp, receipt string) {
	s.nextID++
	n := uint32(s.nextID + s.o.Seed<<20)
	hexa, deca := fmt.Sprintf("%08x", n), fmt.Sprintf("%010d", n)
	switch s.o.ID {
	case IDDec:
		return deca, deca
	case IDHexThenDe:
		return hexa, deca
	case IDDecThenHe:
		return deca, hexa
	case IDULID:
		var u ulid.ULID
		_ = u.SetTime(ulid.Now())
		binary.BigEndian.PutUint16(u[6:], uint16(s.o.Seed))
		binary.BigEndian.PutUint64(u[8:], s.nextID)
		return u.String(), u.String()
	}
	return hexa, hexa
}

// extra is how long a response waits behind the receipt that overtakes it.
func (s *Server) extra(early bool) time.Duration {
	if early {
		return 20 * time.Millisecond
	}
	return 0
}

// respond sends a response after the latency and extra; it unlocks mu.
func (s *Server) respond(c *conn, resp pdu.PDU, extra time.Duration) {
	wait := s.o.Latency + extra
	if s.o.Jitter > 0 {
		wait += time.Duration((2*s.rng.Float64() - 1) * float64(s.o.Jitter))
	}
	s.mu.Unlock()
	switch {
	case s.o.Unacked:
	case wait <= 0 || s.times.len() >= maxScheduled:
		_ = c.s.Send(resp)
	default:
		s.times.at(time.Now().Add(wait), func() { _ = c.s.Respond(resp) })
	}
}

// arrange sends what the ESME asked for when it is due.
func (s *Server) arrange(m *message) {
	now := time.Now()
	if m.registered&intermediateAsked != 0 {
		s.times.at(now, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.queue(m.line.SystemID, &delivery{m: m, state: smpp.StateEnroute})
		})
	}
	s.times.at(now.Add(s.o.ReceiptDelay), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.receipt(m)
	})
}

// receipt brings m to its final state; the caller holds mu.
func (s *Server) receipt(m *message) {
	if m.state.Final() {
		return
	}
	m.state = m.final
	m.line.Final = m.final.Stat()
	if !m.asked() {
		s.finish(m)
		return
	}
	s.queue(m.line.SystemID, &delivery{m: m, state: m.final})
}

// finish writes m into the book and forgets it in time; the caller holds mu.
func (s *Server) finish(m *message) {
	if m.inBook {
		return
	}
	m.inBook = true
	s.book.Write(&m.line)
	delete(s.open, m)
	s.old = append(s.old, m.id)
	if len(s.old) > recent {
		delete(s.byID, s.old[0])
		s.old = s.old[1:]
	}
}

func clone(a pdu.Address) pdu.Address {
	a.Addr = bytes.Clone(a.Addr)
	return a
}
