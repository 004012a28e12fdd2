package gateway

import (
	"testing"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
)

// A drained node refuses new binds and submits, for registered numbers and
// others, finishes what it has, and serves again after undrain.
func TestDrain(t *testing.T) {
	n := newNode(t, nil).run()
	n.register(subscriber, nil)
	e := bind(t, n.addr(), "parcels", 0x34)
	id := e.submit(submitTo(registeredNumber, func(m *pdu.SM) { m.RegisteredDelivery = 1 }))
	c := &control{n.g}
	if d := c.SetDrain(true); !d.Draining || !c.Status().Drain {
		t.Errorf("SetDrain(true) = %+v, status %v, want draining", d, c.Status().Drain)
	}
	for _, number := range []string{registeredNumber, stranger} {
		if got := e.ask(submitTo(number, nil)); got.ID() != pdu.SubmitSMResp || got.Status() != pdu.RMSGQFUL {
			t.Errorf("submit to %s while drained = %s %s, want ESME_RMSGQFUL", number, got.ID(), got.Status())
		}
	}
	_, _, err := smpp.Dial(t.Context(), n.addr(), pdu.BindTransceiver, pdu.Bind{SystemID: "late", Password: "pw", InterfaceVersion: 0x34}, smpp.Config{})
	if err == nil {
		t.Error("bind while drained: want ESME_RBINDFAIL")
	}
	if q := c.Queue(); len(q) > 1 || len(q) == 1 && (q[0].Messages != 1 || q[0].Account != "parcels" || q[0].App != "chat") {
		t.Errorf("Queue() = %+v, want at most the one message", q)
	}
	n.await(id, msg.SMSSubmitted) // its provider cannot be reached
	d := c.Drain()
	if d.Done || d.Pending != 1 || d.Refused != 2 || d.BindsRefused != 1 || d.Binds != 1 {
		t.Errorf("Drain() = %+v, want one pending, two submits and a bind refused", d)
	}
	if q := c.Queue(); len(q) != 1 || q[0].State != msg.SMSSubmitted || q[0].Oldest.IsZero() {
		t.Errorf("Queue() = %+v, want one SMS_SUBMITTED", q)
	}
	c.SetDrain(false)
	if got := e.ask(submitTo(stranger, nil)); got.Status() != pdu.ROK {
		t.Errorf("submit after undrain = %s, want ESME_ROK", got.Status())
	}
	bind(t, n.addr(), "late", 0x34)
}

// With nothing left a drain is done.
func TestDrainDone(t *testing.T) {
	n := newNode(t, nil).run()
	bind(t, n.addr(), "parcels", 0x34)
	if d := (&control{n.g}).SetDrain(true); !d.Done || d.Binds != 1 {
		t.Errorf("SetDrain(true) = %+v, want done", d)
	}
}
