package gateway

import (
	"bytes"
	"net/http"
	"slices"
	"testing"

	"shunt/gateway/msg"
	"shunt/smpp/pdu"
)

// replacingBy is a message with replace_if_present_flag.
func replacingBy(text string, set func(*pdu.SM)) pdu.PDU {
	return saying(text, func(m *pdu.SM) {
		m.ReplaceIfPresent = 1
		if set != nil {
			set(m)
		}
	})
}

func service(s string) func(*pdu.SM) { return func(m *pdu.SM) { m.ServiceType = []byte(s) } }

// TestReplaceIfPresent: what nobody has yet of the same account, ends and
// service_type makes room for the new one; the rest stays.
func TestReplaceIfPresent(t *testing.T) {
	a := newAppNode(t, nil)
	e, other := bindReceiver(t, a.addr(), "parcels", 0x34), bind(t, a.addr(), "shop", 0x34)
	claimed := e.submit(saying("claimed", nil))
	a.await(claimed, msg.Pushed)
	a.claim(claimed)
	first := e.submit(saying("first", nil))
	second := e.submit(saying("second", nil)) // HELD: it waits for the first
	bystanders := map[string]string{
		"another service_type": e.submit(saying("news", service("NEWS"))),
		"another source":       e.submit(saying("source", func(m *pdu.SM) { m.Source.Addr = []byte("Parcel25") })),
		"another account":      other.submit(saying("account", nil)),
	}
	fresh := e.submit(replacingBy("fresh", nil))
	if !ours(fresh) {
		t.Fatalf("message_id %q, want one of ours", fresh)
	}
	for _, id := range []string{first, second} {
		if s := a.state(id); s != msg.Cancelled {
			t.Errorf("what was to be replaced is %s, want CANCELLED", s)
		}
		if st := a.call(a.bearer, http.MethodPost, "/"+id+"/claim", nil); st != http.StatusConflict {
			t.Errorf("claim of what was replaced: %d, want 409", st)
		}
	}
	for what, id := range bystanders {
		if s := a.state(id); s == msg.Cancelled {
			t.Errorf("%s is CANCELLED", what)
		}
	}
	if s := a.state(claimed); s != msg.Claimed {
		t.Errorf("what the app has is %s, want CLAIMED", s)
	}
	e.until(t, "two receipts", func() bool { return len(e.said()) == 2 })
	if got, want := e.said(), []string{"receipt DELETED " + first, "receipt DELETED " + second}; !slices.Equal(got, want) {
		t.Errorf("receipts %q, want %q", got, want)
	}
	// It goes on as any other does, after what stands before it.
	a.await(bystanders["another service_type"], msg.Pushed)
	a.claim(bystanders["another service_type"])
	a.await(bystanders["another account"], msg.Pushed)
	a.claim(bystanders["another account"])
	a.await(fresh, msg.Pushed)
	if got := a.claim(fresh); got != "fresh" {
		t.Errorf("text %q", got)
	}
	if n := len(a.smsc.of("parcels")) + len(a.smsc.of("shunt")); n != 0 {
		t.Errorf("%d messages went by carrier", n)
	}
}

// TestNothingToReplace: the SMSC may have what is to be replaced, and gets it as
// it came.
func TestNothingToReplace(t *testing.T) {
	a := newAppNode(t, nil)
	e, other := bind(t, a.addr(), "parcels", 0x34), bind(t, a.addr(), "shop", 0x34)
	claimed := e.submit(saying("claimed", nil))
	a.await(claimed, msg.Pushed)
	a.claim(claimed)
	cancelled := e.submit(saying("cancelled", nil))
	e.cancel(cancelled)
	news := e.submit(saying("news", service("NEWS")))
	theirs := other.submit(saying("theirs", nil))
	for i, p := range []pdu.PDU{
		replacingBy("nothing there", nil),
		replacingBy("of that service_type", service("CMT")),
		replacingBy("nor there", func(m *pdu.SM) { m.Source.Addr = []byte("Parcel25") }),
	} {
		if id := e.submit(bytes.Clone(p)); ours(id) {
			t.Errorf("message_id %q, want the SMSC's", id)
		}
		if took := a.smsc.of("parcels"); len(took) != i+1 || !sameBody(took[i], p) {
			t.Errorf("the SMSC got %X, want %X", took[i:], p)
		}
	}
	for _, id := range []string{news, theirs} {
		if a.state(id) == msg.Cancelled {
			t.Errorf("%s is CANCELLED", id)
		}
	}
	if got := a.g.counters().Reasons[msg.ReasonReplace.String()]; got != 3 {
		t.Errorf("%d were counted as replace-if-present, want 3", got)
	}
}

// TestReplacedByACode: a new text that is not for the app goes by carrier as it
// came, and the old one is taken back nevertheless.
func TestReplacedByACode(t *testing.T) {
	a := newAppNode(t, nil)
	e := bindReceiver(t, a.addr(), "parcels", 0x34)
	old := e.submit(saying("old", nil))
	p := replacingBy("Your code is 481516", nil)
	if id := e.submit(bytes.Clone(p)); ours(id) {
		t.Errorf("message_id %q of a one-time code, want the SMSC's", id)
	}
	if took := a.smsc.of("parcels"); len(took) != 1 || !sameBody(took[0], p) {
		t.Errorf("the SMSC got %X, want %X", took, p)
	}
	if s := a.state(old); s != msg.Cancelled {
		t.Errorf("the old one is %s, want CANCELLED", s)
	}
	e.until(t, "its receipt", func() bool { return len(e.said()) == 1 })
}

// TestReplacingInABurst: an ESME waits for no answer, and all that it submits on
// one bind follows in that order: of a message and two that replace it and each
// other, one reaches the user.
func TestReplacingInABurst(t *testing.T) {
	a := newAppNode(t, nil)
	e := bind(t, a.addr(), "parcels", 0x34)
	for range 20 {
		before := len(a.smsc.of("parcels"))
		var answers []*pendingAnswer
		for _, p := range []pdu.PDU{saying("first", nil), replacingBy("second", nil), replacingBy("third", nil)} {
			answers = append(answers, e.send(p))
		}
		var ids []string
		for _, answer := range answers {
			ids = append(ids, answer.id())
		}
		live := 0
		for i, id := range ids {
			here := ours(id) && a.state(id) != msg.Cancelled
			if here {
				live++
			}
			if i == len(ids)-1 && !here {
				t.Error("the last one is not the one that is left")
			}
		}
		if live += len(a.smsc.of("parcels")) - before; live != 1 {
			t.Fatalf("%d of three reach the user, want one", live)
		}
		a.clear()
	}
}

// clear claims whatever waits for the subscriber.
func (a *appNode) clear() {
	a.t.Helper()
	for {
		ids := a.listed(a.bearer)
		for _, id := range ids {
			a.claim(id)
		}
		if a.g.spool.Stats().Live[msg.Held] == 0 && len(a.g.spool.ByNumber(subscriber, msg.ID{}, 0)) == a.g.spool.Stats().Live[msg.Claimed] {
			return
		}
	}
}
