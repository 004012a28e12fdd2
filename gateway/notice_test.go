package gateway

import (
	"fmt"
	"slices"
	"testing"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
)

func registered(rd byte, set func(*pdu.SM)) func(*pdu.SM) {
	return func(m *pdu.SM) {
		m.RegisteredDelivery = rd
		if set != nil {
			set(m)
		}
	}
}

// TestNotices: what registered_delivery asks for beside the receipt comes when it
// comes about, once, and nothing else does.
func TestNotices(t *testing.T) {
	for _, c := range []struct {
		rd   byte
		want []string // after a push, a claim, delivered and read
	}{
		{0x00, nil},
		{0x01, []string{"receipt DELIVRD"}},
		{0x02, nil},
		{0x10, []string{"notice ENROUTE"}},
		{0x11, []string{"notice ENROUTE", "receipt DELIVRD"}},
		{0x04, []string{"read DELIVRD"}},
		{0x05, []string{"receipt DELIVRD", "read DELIVRD"}},
		{0x08, nil}, // a user's own reply: an app has no such thing
		{0x15, []string{"notice ENROUTE", "receipt DELIVRD", "read DELIVRD"}},
		{0x16, []string{"notice ENROUTE", "read DELIVRD"}},
	} {
		t.Run(fmt.Sprintf("%#02x", c.rd), func(t *testing.T) {
			a := newAppNode(t, nil)
			e := bindReceiver(t, a.addr(), "parcels", 0x34)
			id := e.submit(saying("hello", registered(c.rd, nil)))
			a.await(id, msg.Pushed)
			want := 0
			step := func(what string, now int) {
				t.Helper()
				want += now
				e.until(t, what, func() bool { return len(e.said()) >= want })
			}
			count := func(class string) (n int) {
				for _, w := range c.want {
					if len(w) > len(class) && w[:len(class)] == class {
						n++
					}
				}
				return n
			}
			step("the notice", count("notice"))
			a.claim(id)
			a.acknowledge(id, "delivered")
			step("the receipt", count("receipt"))
			a.acknowledge(id, "read")
			a.acknowledge(id, "read") // and once more: the app may repeat itself
			step("the acknowledgement", count("read"))
			a.until("nothing is owed", func() bool {
				r := a.record(id)
				return !r.ReceiptDue && r.Owed == 0 && a.g.receipts.Waiting() == 0
			})
			var full []string
			for _, w := range c.want {
				full = append(full, w+" "+id)
			}
			if got := e.said(); !slices.Equal(got, full) {
				t.Errorf("got %q, want %q", got, full)
			}
			for _, m := range e.all() {
				want := smpp.StateDelivered
				if m.ESMClass == smpp.ESMIntermediate {
					want = smpp.StateEnroute
				}
				if v, ok := m.TLVs.Find(pdu.TagMessageState); !ok || len(v) != 1 || smpp.MessageState(v[0]) != want {
					t.Errorf("esm_class %#02x has message_state %X, want %d", m.ESMClass, v, want)
				}
			}
		})
	}
}

// TestNoticesLate: what comes about while the ESME is away, or its gateway, is
// told when both are back; an enroute that is over is not; and a v3.3 bind gets
// text alone.
func TestNoticesLate(t *testing.T) {
	a := newAppNode(t, nil)
	e := bindReceiver(t, a.addr(), "parcels", 0x34)
	over := e.submit(saying("over", registered(0x11, nil)))
	open := e.submit(saying("open", registered(0x15, func(m *pdu.SM) { m.Source.Addr = []byte("Open") })))
	e.until(t, "two notices", func() bool { return len(e.said()) == 2 })
	a.claim(open)
	a.acknowledge(open, "delivered")
	e.until(t, "the receipt", func() bool { return len(e.said()) == 3 })
	e.s.Close(smpp.ErrClosed)
	a.alone()
	late := bindTransmitter(t, a.addr(), "parcels").submit(saying("late", registered(0x11, func(m *pdu.SM) { m.Source.Addr = []byte("Late") })))
	a.await(late, msg.Pushed)
	a.claim(late)
	a.acknowledge(late, "delivered") // its enroute, which nobody took, is over
	a.acknowledge(open, "read")      // it had long ended
	a.until("both wait", func() bool { return a.record(open).Owed == msg.NoticeRead && a.record(late).ReceiptDue })
	b := a.next()
	if r := b.record(open); r.Owed != msg.NoticeRead || r.State != msg.Delivered {
		t.Fatalf("after the restart: %+v", r)
	}
	old := bindReceiver(t, b.addr(), "parcels", 0x33)
	old.until(t, "both", func() bool { return len(old.said()) == 2 })
	got := old.said()
	slices.Sort(got)
	if want := []string{"read DELIVRD " + open, "receipt DELIVRD " + late}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, m := range old.all() {
		if len(m.TLVs) != 0 {
			t.Errorf("a v3.3 bind got TLVs %X", m.TLVs)
		}
	}
	b.claim(over)
	b.acknowledge(over, "read") // implies delivered; no acknowledgement was asked for
	old.until(t, "the receipt", func() bool { return len(old.said()) == 3 })
	b.until("nothing is owed", func() bool { return b.g.receipts.Waiting() == 0 })
	if got := old.said()[2:]; !slices.Equal(got, []string{"receipt DELIVRD " + over}) {
		t.Errorf("then got %q", got)
	}
}

func bindTransmitter(t testing.TB, addr, systemID string) *esme {
	t.Helper()
	s, _, err := smpp.Dial(t.Context(), addr, pdu.BindTransmitter, pdu.Bind{SystemID: systemID, Password: "pw", InterfaceVersion: 0x34}, smpp.Config{})
	if err != nil {
		t.Fatalf("Dial() = %v", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = s.Serve(&esmeSession{s})
		close(ended)
	}()
	t.Cleanup(func() {
		s.Close(smpp.ErrClosed)
		<-ended
	})
	return &esme{t, s}
}

// TestReceiptsInOrder: between two ends one receipt is out at a time, also over
// a bind that is lost with its answer and one that asks for time; another pair
// does not wait.
func TestReceiptsInOrder(t *testing.T) {
	a := newAppNode(t, nil)
	sender := bindTransmitter(t, a.addr(), "parcels")
	ended := func(from string, n int) (ids []string) {
		for range n {
			id := sender.submit(saying("hello", func(m *pdu.SM) { m.Source.Addr = []byte(from) }))
			a.await(id, msg.Pushed)
			a.claim(id)
			a.acknowledge(id, "delivered")
			ids = append(ids, "receipt DELIVRD "+id)
		}
		return ids
	}
	pair, other := ended("Pair", 4), ended("Other", 2)
	mine := func(all []string, of []string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return !slices.Contains(of, s) })
	}
	held := holdingReceiver(t, a.addr(), "parcels")
	(&node{t: t}).until("one of each pair", func() bool { return len(held.got()) == 2 })
	held.answer(mine(held.got(), other)[0])
	(&node{t: t}).until("the other pair goes on", func() bool { return len(held.got()) == 3 })
	if got := mine(held.got(), pair); !slices.Equal(got, pair[:1]) {
		t.Fatalf("of the pair %q is out, want its first alone", got)
	}
	held.s.Close(smpp.ErrClosed) // with the answers to two
	e := bindReceiver(t, a.addr(), "parcels", 0x34)
	e.until(t, "all the rest", func() bool { return len(e.said()) == len(pair)+1 })
	if got := mine(e.said(), pair); !slices.Equal(got, pair) {
		t.Errorf("got %q, want %q", got, pair)
	}
	if got := mine(e.said(), other); !slices.Equal(got, other[1:]) {
		t.Errorf("of the other pair %q came again, want the one that was not answered, %q", got, other[1:])
	}
	a.until("nothing is owed", func() bool { return a.g.receipts.Waiting() == 0 && a.g.spool.Stats().ReceiptsDue == 0 })
	if n := len(e.said()); n != len(pair)+1 {
		t.Errorf("%d receipts, want %d", n, len(pair)+1)
	}
}
