package gateway

import (
	"bytes"
	"net/http"
	"slices"
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// ahead is a schedule_delivery_time.
func ahead(d time.Duration) func(*pdu.SM) {
	return func(m *pdu.SM) { m.Schedule = []byte(pdu.AbsoluteTime(time.Now().Add(d))) }
}

// stateOf asks for a message with query_sm.
func (e *esme) stateOf(id string) (smpp.MessageState, pdu.Status) {
	e.t.Helper()
	q := pdu.Query{MessageID: []byte(id), Source: pdu.Address{TON: pdu.TONAlphanumeric, Addr: []byte("Parcel24")}}
	p := e.ask(q.Append(nil, 0))
	var r pdu.QueryResp
	if p.Status() == pdu.ROK {
		if err := r.Decode(p); err != nil {
			e.t.Fatalf("query_sm_resp: %v", err)
		}
	}
	return smpp.MessageState(r.State), p.Status()
}

func (e *esme) cancel(id string) pdu.Status {
	e.t.Helper()
	c := pdu.Cancel{MessageID: []byte(id), Source: pdu.Address{TON: pdu.TONAlphanumeric, Addr: []byte("Parcel24")}}
	return e.ask(c.Append(nil, 0)).Status()
}

// record is a message's record.
func (n *node) record(wireID string) spool.Record {
	n.t.Helper()
	id, err := msg.ParseID(wireID)
	if err != nil {
		n.t.Fatalf("message_id %q: %v, want one of ours", wireID, err)
	}
	r, err := n.g.spool.Get(id)
	if err != nil {
		n.t.Fatalf("Get(%s) = %v", wireID, err)
	}
	return r
}

// when is the time of a message's first event of that kind.
func (n *node) when(wireID string, e msg.Event) time.Time {
	n.t.Helper()
	steps, err := n.g.spool.Trace(n.record(wireID).ID)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, s := range steps {
		if s.Event == e {
			return s.At
		}
	}
	n.t.Fatalf("%s has no %s: %+v", wireID, e, steps)
	return time.Time{}
}

// TestScheduled: an hour that is to come, absolute or relative, holds a message
// back from everybody; then it goes the way of any other.
func TestScheduled(t *testing.T) {
	a := newAppNode(t, nil)
	old, young := bindReceiver(t, a.addr(), "parcels", 0x34), bindReceiver(t, a.addr(), "parcels2", 0x50)
	absolute := young.submit(saying("absolute", ahead(900*time.Millisecond)))
	relative := old.submit(saying("relative", func(m *pdu.SM) {
		m.Source.Addr, m.Schedule = []byte("Relative"), []byte("000000000001000R")
	}))
	later := old.submit(saying("later", func(m *pdu.SM) {
		m.Source.Addr, m.Schedule = []byte("Later"), []byte("000001000000000R")
	}))
	now := old.submit(saying("not scheduled", nil)) // another pair of account, and the same of ends
	if got, st := young.stateOf(absolute); got != smpp.StateScheduled || st != pdu.ROK {
		t.Errorf("query_sm of a 5.0 bind: state %d, %s; want SCHEDULED", got, st)
	}
	if got, st := old.stateOf(later); st != pdu.RQUERYFAIL {
		t.Errorf("query_sm in another name: state %d, %s; want ESME_RQUERYFAIL", got, st)
	}
	a.await(now, msg.Pushed) // what is scheduled holds up nobody
	for _, id := range []string{absolute, relative, later} {
		if st := a.call(a.bearer, http.MethodGet, "/"+id, nil); st != http.StatusNotFound {
			t.Errorf("GET of %s before its hour: %d, want 404", id, st)
		}
		if st := a.call(a.bearer, http.MethodPost, "/"+id+"/claim", nil); st != http.StatusNotFound {
			t.Errorf("claim of %s before its hour: %d, want 404", id, st)
		}
	}
	a.claim(now)
	for _, id := range []string{absolute, relative} {
		a.await(id, msg.Pushed)
		r := a.record(id)
		if late := a.when(id, msg.EvDue).Sub(r.DueAt); late < 0 || late > time.Second {
			t.Errorf("%s: due %s after its hour, want none", id, late)
		}
		if got := r.ClaimBy.Sub(r.DueAt); got != time.Minute {
			t.Errorf("%s has %s for its claim, want a minute from its hour", id, got)
		}
	}
	if got := a.claim(absolute); got != "absolute" {
		t.Errorf("text %q", got)
	}
	a.acknowledge(absolute, "delivered")
	young.until(t, "its receipt", func() bool { return len(young.said()) == 1 })
	if got := young.said()[0]; got != "receipt DELIVRD "+absolute {
		t.Errorf("receipt %q", got)
	}
	if a.state(later) != msg.Held || slices.Contains(a.provider.took(), later) {
		t.Errorf("what is for tomorrow: %s", a.state(later))
	}
}

// TestScheduledFallback: when nobody takes it in the app, the SMS has no hour of
// its own any more, and the rest of a relative validity.
func TestScheduledFallback(t *testing.T) {
	n := newNode(t, nil).run() // nothing can be pushed
	n.register(subscriber, nil)
	e := bind(t, n.addr(), "parcels", 0x34)
	relative := saying("relative", func(m *pdu.SM) {
		ahead(700 * time.Millisecond)(m)
		m.Validity = []byte("000000020000000R")
	})
	until := pdu.AbsoluteTime(time.Now().Add(3 * time.Hour))
	absolute := saying("absolute", func(m *pdu.SM) {
		ahead(700 * time.Millisecond)(m)
		m.Source.Addr, m.Validity = []byte("Absolute"), []byte(until)
	})
	id := e.submit(bytes.Clone(relative))
	other := e.submit(bytes.Clone(absolute))
	if len(n.smsc.of("shunt")) != 0 {
		t.Error("an SMS before its hour")
	}
	for _, p := range n.fallbacks(2) {
		var m, was pdu.SM
		if m.Decode(p) != nil || len(m.Schedule) != 0 {
			t.Fatalf("fallback %X, want no schedule_delivery_time", p)
		}
		if string(m.ShortMessage) == "relative" {
			left, err := pdu.Time(m.Validity, time.Time{}.AddDate(2000, 0, 0))
			if took := left.Sub(time.Time{}.AddDate(2000, 0, 0)); err != nil || took < 2*time.Hour-patience || took >= 2*time.Hour {
				t.Errorf("validity_period %s of the fallback, want the rest of two hours", m.Validity)
			}
			_ = was.Decode(relative)
			m.Validity = was.Validity
		} else {
			_ = was.Decode(absolute)
		}
		was.Schedule, was.RegisteredDelivery = nil, m.RegisteredDelivery
		if !bytes.Equal(m.Append(nil), was.Append(nil)) {
			t.Errorf("fallback\n%X, want but for the schedule\n%X", m.Append(nil), was.Append(nil))
		}
	}
	for _, id := range []string{id, other} {
		if begun := n.when(id, msg.EvSMSBegin); begun.Before(n.record(id).DueAt) {
			t.Errorf("%s: its SMS begun before its hour", id)
		}
	}
	if got := n.record(id).ExpiresAt.Sub(n.record(id).ReceivedAt); got != 2*time.Hour {
		t.Errorf("a relative validity_period ends %s after the submission, want 2h", got)
	}
	if got := pdu.AbsoluteTime(n.record(other).ExpiresAt); got != until {
		t.Errorf("valid until %s, want %s", got, until)
	}
}

// TestNotScheduledHere: an hour that is past, none, or too far ahead, one behind
// the end of validity, and that of a part, are the SMSC's.
func TestNotScheduledHere(t *testing.T) {
	n := newNode(t, nil).run()
	n.register(subscriber, nil)
	e := bind(t, n.addr(), "parcels", 0x34)
	for _, c := range []struct {
		what, schedule, validity string
		want                     msg.Reason
	}{
		{"past", pdu.AbsoluteTime(time.Now().Add(-time.Minute)), "", msg.ReasonScheduled},
		{"now", "000000000000000R", "", msg.ReasonScheduled},
		{"too far", pdu.AbsoluteTime(time.Now().Add(31 * 24 * time.Hour)), "", msg.ReasonScheduled},
		{"no such day", "270230120000000+", "", msg.ReasonScheduled},
		{"no time", "tomorrow at nine", "", msg.ReasonScheduled},
		{"short", "00000000000100R", "", msg.ReasonScheduled},
		{"valid until before", "000000020000000R", "000000010000000R", msg.ReasonValidity},
		{"valid until then", "000000020000000R", "000000020000000R", msg.ReasonValidity},
		{"broken validity", "000000020000000R", "soon", msg.ReasonUndecodable},
	} {
		t.Run(c.what, func(t *testing.T) {
			p := saying(c.what, func(m *pdu.SM) { m.Schedule, m.Validity = []byte(c.schedule), []byte(c.validity) })
			before, count := len(n.smsc.of("parcels")), n.g.counters().Reasons[c.want.String()]
			if id := e.submit(bytes.Clone(p)); ours(id) {
				t.Errorf("message_id %q, want the SMSC's", id)
			}
			if took := n.smsc.of("parcels"); len(took) != before+1 || !sameBody(took[before], p) {
				t.Errorf("the SMSC got %X, want %X", took[before:], p)
			}
			if got := n.g.counters().Reasons[c.want.String()]; got != count+1 {
				t.Errorf("not counted as %s: %v", c.want, n.g.counters().Reasons)
			}
		})
	}
	p := partTo(9, 1, "part")
	var m pdu.SM
	if err := m.Decode(p); err != nil {
		t.Fatal(err)
	}
	ahead(time.Hour)(&m)
	if id := e.submit(pdu.AppendSM(nil, pdu.SubmitSM, 0, &m)); ours(id) {
		t.Errorf("message_id %q of a scheduled part, want the SMSC's", id)
	}
	if puts := n.g.spool.Stats().Puts; puts != 0 {
		t.Errorf("%d messages were spooled", puts)
	}
}

// TestScheduledTakenBack: until its hour the ESME has it, and it alone.
func TestScheduledTakenBack(t *testing.T) {
	a := newAppNode(t, nil)
	e := bindReceiver(t, a.addr(), "parcels", 0x34)
	id := e.submit(saying("tomorrow", ahead(time.Hour)))
	if got, st := e.stateOf(id); got != smpp.StateEnroute || st != pdu.ROK {
		t.Errorf("query_sm of a 3.4 bind: state %d, %s; want ENROUTE", got, st)
	}
	if st := e.cancel(id); st != pdu.ROK {
		t.Fatalf("cancel_sm: %s", st)
	}
	if got, _ := e.stateOf(id); got != smpp.StateDeleted {
		t.Errorf("query_sm after it: state %d, want DELETED", got)
	}
	e.until(t, "its receipt", func() bool { return len(e.said()) == 1 })
	if got := e.said()[0]; got != "receipt DELETED "+id {
		t.Errorf("receipt %q", got)
	}
	// A new text that is not for the app cannot wait for its hour here.
	replaced := e.submit(saying("see you", ahead(1500*time.Millisecond)))
	r := pdu.Replace{
		MessageID: []byte(replaced), Source: pdu.Address{TON: pdu.TONAlphanumeric, Addr: []byte("Parcel24")},
		ShortMessage: []byte("Your code is 481516"),
	}
	st := e.ask(r.Append(nil, 0)).Status()
	a.await(replaced, msg.Pushed)
	if got := a.claim(replaced); st != pdu.RREPLACEFAIL || got != "see you" {
		t.Errorf("replace_sm with a one-time code: %s, and the app has %q; want ESME_RREPLACEFAIL, and the old text", st, got)
	}
}

// TestScheduledOverARestart: the hour comes in the next process, on time, and
// one that came while no process ran is late and not lost.
func TestScheduledOverARestart(t *testing.T) {
	a := newAppNode(t, nil)
	e := bind(t, a.addr(), "parcels", 0x50)
	soon := e.submit(saying("soon", ahead(100*time.Millisecond)))
	due := a.record(soon).DueAt
	later := e.submit(saying("later", func(m *pdu.SM) {
		m.Source.Addr = []byte("Later")
		ahead(1500 * time.Millisecond)(m)
	}))
	tomorrow := e.submit(saying("tomorrow", ahead(24*time.Hour)))
	b := a.next()
	e = bind(t, b.addr(), "parcels", 0x50)
	for _, id := range []string{soon, later} {
		b.await(id, msg.Pushed)
	}
	if at := b.when(later, msg.EvDue); at.Before(b.record(later).DueAt) || at.Sub(b.record(later).DueAt) > time.Second {
		t.Errorf("due at %s, want %s", at, b.record(later).DueAt)
	}
	if b.when(soon, msg.EvDue).Before(due) {
		t.Error("due before its hour")
	}
	if b.state(tomorrow) != msg.Held || b.record(tomorrow).Hold != msg.HoldSchedule {
		t.Errorf("what is for tomorrow: %+v", b.record(tomorrow))
	}
	if st := e.cancel(tomorrow); st != pdu.ROK {
		t.Errorf("cancel_sm: %s", st)
	}
}
