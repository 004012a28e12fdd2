package gateway

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp/pdu"
)

// TestStalledDisk: while the disk does not answer, what would be for the app has
// the SMSC's own answer: what waits for the disk after the two seconds that a put
// may take, what comes later at once. Afterwards all is as before by itself.
func TestStalledDisk(t *testing.T) {
	a := newAppNode(t, nil)
	e := bind(t, a.addr(), "parcels", 0x34)
	old := e.submit(saying("old", nil))
	a.await(old, msg.Pushed)
	puts := a.g.spool.Stats().Puts
	release := a.hold()
	began := time.Now()
	queued := []*pendingAnswer{
		e.send(saying("first", nil)), e.send(partTo(1, 1, "half")), e.send(dataTo(registeredNumber, nil)),
		e.send(replacingBy("in the place of the old one", nil)),
	}
	forwarded := e.submit(submitTo(stranger, nil)) // and what is forwarded does not wait at all
	if took := time.Since(began); ours(forwarded) || took > time.Second {
		t.Errorf("message_id %q of what is forwarded, after %s", forwarded, took)
	}
	for i, answer := range queued {
		if id := answer.id(); ours(id) {
			t.Errorf("message %d: message_id %q, want the SMSC's", i, id)
		}
	}
	if took := time.Since(began); took < time.Second || took > 5*time.Second {
		t.Errorf("answered after %s, want between two and four seconds", took)
	}
	if s := (&control{a.g}).Status(); !slices.Contains(s.FailOpen, msg.ReasonSpoolStalled.String()) {
		t.Errorf("fail_open %q, want %s in it", s.FailOpen, msg.ReasonSpoolStalled)
	}
	began = time.Now()
	for _, p := range []pdu.PDU{saying("later", nil), replacingBy("later", nil)} {
		if id := e.submit(bytes.Clone(p)); ours(id) || time.Since(began) > time.Second {
			t.Errorf("message_id %q after %s while the disk is known to be stalled", id, time.Since(began))
		}
	}
	if got := len(a.smsc.of("parcels")); got != 7 {
		t.Errorf("the SMSC got %d messages, want 7", got)
	}
	c := a.g.counters()
	if got := c.Reasons[msg.ReasonSpoolStalled.String()]; got != 6 || c.SubmitsIn != 8 {
		t.Errorf("%d of %d were counted as spool-stalled, want 6 of 8: %v", got, c.SubmitsIn, c.Reasons)
	}
	release()
	a.until("diversion goes on", func() bool { return len((&control{a.g}).Status().FailOpen) == 0 && !a.g.spool.Stalled() })
	a.await(old, msg.Cancelled) // it was replaced, though the disk was slow
	id := e.submit(saying("afterwards", nil))
	a.await(id, msg.Pushed)
	if s := (&control{a.g}).Status(); len(s.FailOpen) != 0 || a.g.spool.Stats().Puts != puts+1 {
		t.Errorf("fail_open %q, %d messages stored; want none, one", s.FailOpen, a.g.spool.Stats().Puts-puts)
	}
	if got := a.provider.took(); !slices.Equal(got, []string{old, id}) {
		t.Errorf("pushed %q, want only %q", got, []string{old, id})
	}
}
