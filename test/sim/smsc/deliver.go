package smsc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"shunt/smpp"
	"shunt/smpp/pdu"
)

// delivery is one deliver_sm that waits for a bind: a receipt of m in state, or
// without m a message of the SMSC's own.
type delivery struct {
	m     *message
	state smpp.MessageState
	mo    *pdu.SM
	tries int
}

const (
	maxRefused = 30 // times that a receipt is sent again after an error status
	maxReady   = 100_000
)

// queue appends d behind what waits for the account; the caller holds mu.
func (s *Server) queue(systemID string, d *delivery) {
	a := s.account(systemID)
	a.ready = append(a.ready, d)
	s.pump(a)
}

// pump sends what waits while a bind has room; the caller holds mu. The order
// of locks is mu, then the session's.
func (s *Server) pump(a *account) {
	for len(a.ready) > 0 && len(a.binds) > 0 {
		d := a.ready[0]
		if !s.send(a, d) {
			return
		}
		a.ready[0] = nil
		a.ready = a.ready[1:]
	}
	if len(a.ready) == 0 {
		a.ready = nil
	}
}

// send puts d on the next bind that has room.
func (s *Server) send(a *account, d *delivery) bool {
	for range len(a.binds) {
		c := a.binds[a.next%len(a.binds)]
		a.next++
		err := c.s.Call(s.deliverSM(c, d), func(p pdu.PDU, err error) { s.delivered(a, d, p, err) })
		switch {
		case err == nil:
			d.tries++
			if d.tries > 1 {
				s.sum.ReceiptsAgain++
			}
			return true
		case !errors.Is(err, smpp.ErrWindowFull):
			a.drop(c)
			if len(a.binds) == 0 {
				return false
			}
		}
	}
	return false
}

// delivered takes the answer to a deliver_sm, or the news that none will come.
func (s *Server) delivered(a *account, d *delivery, p pdu.PDU, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil && p.ID() == pdu.DeliverSMResp && p.Status() == pdu.ROK:
		s.taken(d)
	case err != nil:
		a.ready = append([]*delivery{d}, a.ready...) // lost on the way: again, before the others
	case d.tries <= maxRefused:
		s.times.at(time.Now().Add(time.Second), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.queue(a.id, d)
		})
	case d.m != nil:
		s.finish(d.m)
	}
	s.pump(a)
}

func (s *Server) taken(d *delivery) {
	switch {
	case d.m == nil:
		s.sum.MOTaken++
	case d.state.Final():
		now := time.Now()
		d.m.line.ReceiptAt = &now
		s.sum.ReceiptsTaken++
		s.finish(d.m)
	}
}

// deliverSM builds the PDU for the bind c: TLVs only from v3.4 on.
func (s *Server) deliverSM(c *conn, d *delivery) pdu.PDU {
	if d.m == nil {
		return pdu.AppendSM(nil, pdu.DeliverSM, 0, d.mo)
	}
	m := d.m
	r := smpp.Receipt{ID: m.receiptID, State: d.state, Submit: m.line.At, Done: time.Now(), Text: m.text}
	if d.state != smpp.StateDelivered {
		r.Err = "001"
	}
	sm := pdu.SM{Source: m.dest, Dest: m.source, ESMClass: smpp.ESMReceipt, ShortMessage: r.AppendText(nil)}
	if !d.state.Final() {
		sm.ESMClass = smpp.ESMIntermediate
	}
	if pdu.TLVsAllowed(c.version) {
		sm.TLVs = r.AppendTLVs(nil)
	}
	return pdu.AppendSM(nil, pdu.DeliverSM, 0, &sm)
}

// originate sends mobile-originated messages at MORate to the accounts in turn
// until ctx ends.
func (s *Server) originate(ctx context.Context) {
	tick := time.NewTicker(time.Duration(float64(time.Second) / s.o.MORate))
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		for id, a := range s.accounts {
			if len(a.binds) == 0 || len(a.ready) >= maxReady {
				continue
			}
			from := fmt.Sprintf("4477009%05d", s.rng.IntN(100_000))
			s.sum.MOSent++
			s.queue(id, &delivery{mo: &pdu.SM{
				Source:       pdu.Address{TON: pdu.TONInternational, NPI: pdu.NPIISDN, Addr: []byte(from)},
				Dest:         pdu.Address{Addr: []byte("80123")},
				ShortMessage: fmt.Appendf(nil, "Reply %d: yes, thank you", n),
			}})
			break
		}
		s.mu.Unlock()
	}
}
