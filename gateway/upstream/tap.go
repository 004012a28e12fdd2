package upstream

import (
	"sync/atomic"

	"shunt/smpp/pdu"
)

// A Tap is shown what passes while somebody watches. It runs on the reader's
// goroutine, must not block, and keeps nothing of p.
type Tap interface {
	// Request sees a request as it came, before it is decided about.
	Request(b *Bind, fromESME bool, p pdu.PDU)
	// Response sees an answer on its way out; own: Shunt gave it.
	Response(b *Bind, toESME, own bool, p pdu.PDU)
}

// TapSwitch holds the Tap of all binds of a Proxy, or none. It is safe for
// concurrent use; while it is off a PDU costs one load of it.
type TapSwitch struct{ tap atomic.Pointer[Tap] }

// Set has t shown everything from now on; nil: nobody.
func (s *TapSwitch) Set(t Tap) {
	if t == nil {
		s.tap.Store(nil)
		return
	}
	s.tap.Store(&t)
}

func (s *TapSwitch) request(b *Bind, fromESME bool, p pdu.PDU) {
	if s == nil {
		return
	}
	if t := s.tap.Load(); t != nil {
		(*t).Request(b, fromESME, p)
	}
}

func (s *TapSwitch) response(b *Bind, toESME, own bool, p pdu.PDU) {
	if s == nil {
		return
	}
	if t := s.tap.Load(); t != nil {
		(*t).Response(b, toESME, own, p)
	}
}
