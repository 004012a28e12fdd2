package upstream

import (
	"slices"
	"sync"
	"testing"

	"shunt/gateway/msg"
	"shunt/smpp/pdu"
)

// events of a Hub, in their order.
type events struct {
	mu   sync.Mutex
	list []string
}

func (e *events) add(what, who string) {
	e.mu.Lock()
	e.list = append(e.list, what+" "+who)
	e.mu.Unlock()
}

func (e *events) seen() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.list)
}

func TestHub(t *testing.T) {
	var seen events
	r := newRig(t, func(x *Proxy) {
		x.Hub.Attach = func(b *Bind) {
			b.State = "state of " + b.Account.SystemID
			seen.add("attach", b.Account.SystemID)
		}
		x.Hub.Receivable = func(a msg.Account) { seen.add("receivable", a.SystemID) }
		x.Hub.Detached = func(b *Bind) {
			b.Count(msg.ReasonDivert)
			seen.add("detached", b.Account.SystemID)
		}
	})
	hub := r.proxy.Hub
	if b := hub.Receiver(bankAccount); b != nil || len(hub.Binds()) != 0 {
		t.Errorf("an empty Hub has a receiver: %v", b)
	}
	esmes := make(map[string]*peer)
	for i, b := range []struct {
		name string
		id   pdu.ID
		bind pdu.Bind
	}{
		{"trx", pdu.BindTransceiver, bankBind},
		{"rx", pdu.BindReceiver, bankBind},
		{"tx", pdu.BindTransmitter, bankBind},
		{"other type", pdu.BindTransceiver, pdu.Bind{SystemID: "bank", SystemType: "x", AddressRange: "^44"}},
		{"other range", pdu.BindReceiver, pdu.Bind{SystemID: "bank", SystemType: "ota"}},
		{"other id", pdu.BindReceiver, pdu.Bind{SystemID: "rail", SystemType: "ota", AddressRange: "^44"}},
	} {
		esmes[b.name], _ = r.bind(b.id, b.bind)
		r.bound(i + 1)
	}
	binds := hub.Binds()
	if !slices.IsSortedFunc(binds, func(a, b *Bind) int { return a.Since.Compare(b.Since) }) || binds[0].Type != pdu.BindTransceiver {
		t.Error("Binds() are not oldest first")
	}
	if binds[0].State != "state of bank" {
		t.Errorf("State = %v", binds[0].State)
	}
	// In turn, and only those of the account that receive.
	got := make(map[*Bind]int)
	for range 10 {
		got[hub.Receiver(bankAccount)]++
	}
	if len(got) != 2 || got[binds[0]] != 5 || got[binds[1]] != 5 {
		t.Errorf("ten receipts went to %d binds, %d to the transceiver, %d to the receiver; want 2, 5, 5", len(got), got[binds[0]], got[binds[1]])
	}
	for _, c := range []struct {
		a    msg.Account
		want *Bind
	}{
		{msg.Account{SystemID: "bank", SystemType: "x", AddressRange: "^44"}, binds[3]},
		{msg.Account{SystemID: "bank", SystemType: "ota"}, binds[4]},
		{msg.Account{SystemID: "rail", SystemType: "ota", AddressRange: "^44"}, binds[5]},
		{msg.Account{SystemID: "rail"}, nil},
		{msg.Account{}, nil},
	} {
		if b := hub.Receiver(c.a); b != c.want {
			t.Errorf("Receiver(%+v) = %v, want %v", c.a, b, c.want)
		}
	}
	_ = esmes["rx"].conn.Close()
	r.bound(5)
	for range 3 {
		if b := hub.Receiver(bankAccount); b != binds[0] {
			t.Errorf("Receiver() after one has gone = %v, want the transceiver", b)
		}
	}
	_ = esmes["trx"].conn.Close()
	r.bound(4)
	if b := hub.Receiver(bankAccount); b != nil {
		t.Errorf("Receiver() with a transmitter alone = %v, want none", b)
	}
	for _, e := range esmes {
		_ = e.conn.Close()
	}
	r.bound(0)
	r.stop()
	r.proxy.Close(0) // every Detached has run
	var attached, receivable, detached int
	for _, e := range seen.seen() {
		switch e[:4] {
		case "atta":
			attached++
		case "rece":
			receivable++
		case "deta":
			detached++
		}
	}
	if attached != 6 || receivable != 5 || detached != 6 {
		t.Errorf("%d attached, %d receivable, %d detached; want 6, 5, 6: %v", attached, receivable, detached, seen.seen())
	}
}

func TestCountVerdicts(t *testing.T) {
	var b Bind
	for _, r := range msg.Reasons() {
		if int(r) >= len(b.Reasons) {
			t.Fatalf("reason %s (%d) has no counter of its own", r, r)
		}
		b.Count(r)
	}
	for _, r := range msg.Reasons() {
		if n := b.Reasons[r].Load(); n != 1 {
			t.Errorf("reason %s was counted %d times, want once", r, n)
		}
	}
}
