package gateway

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"shunt/gateway/msg"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// A trace names the bind that a message came by, and the one that took its
// receipt, with what the ESME answered and how long that took; sessions and the
// journal have the same.
func TestTraceNamesBinds(t *testing.T) {
	a := newAppNode(t, func(text string) string { return text + "[log]\nmessages = \"all\"\n" })
	c := &control{a.g}
	bind(t, a.addr(), "another", 0x34)
	a.until("it is the first", func() bool { return len(c.Sessions()) == 1 })
	r := bindReceiver(t, a.addr(), "parcels", 0x34)
	r.resp = func(n int) pdu.Status { return []pdu.Status{pdu.ROK, pdu.RINVDSTADR}[n] }
	var came string
	for _, s := range c.Sessions() {
		if s.SystemID == "parcels" {
			came = fmt.Sprintf("bind=%d trx %s", s.ID, s.Peer)
		}
	}
	if !regexp.MustCompile(`^bind=2 trx 127\.0\.0\.1:\d+$`).MatchString(came) {
		t.Fatalf("sessions = %+v, want the second bind to be that of parcels", c.Sessions())
	}
	for _, answer := range []string{"ESME_ROK", "ESME_RINVDSTADR"} {
		wire := r.submit(saying("hello", nil))
		if q := c.Queue(); len(q) != 1 || q[0].Plan != "app" || q[0].Account != "parcels" {
			t.Errorf("Queue() = %+v, want the message, by its plan", q)
		}
		a.claim(wire)
		a.acknowledge(wire, "delivered")
		a.until("the receipt is answered", func() bool { s := a.record(wire); return s.State == msg.Delivered && !s.ReceiptDue })
		rec := a.record(wire)
		steps, err := a.g.spool.Trace(rec.ID)
		if err != nil || len(steps) < 4 {
			t.Fatalf("Trace() = %+v, %v", steps, err)
		}
		first, last := steps[0], steps[len(steps)-1]
		if first.Event != msg.EvAccept || first.Detail != came {
			t.Errorf("%s says %q, want %q", first.Event, first.Detail, came)
		}
		want := regexp.MustCompile("^" + answer + ` after [0-9.]+(µs|ms|s), ` + regexp.QuoteMeta(came) + "$")
		if last.Event != msg.EvReceiptDone || !want.MatchString(last.Detail) {
			t.Errorf("%s says %q, want %s, how long it took, and the bind", last.Event, last.Detail, answer)
		}
		for _, s := range []spool.Step{first, last} {
			a.until("the log has "+s.Event.String(), func() bool {
				return a.said.has(`"message moved"`, wire, s.Event.String(), s.Detail)
			})
		}
		if rec.Plan != "app" {
			t.Errorf("plan = %q", rec.Plan)
		}
	}
	if q := c.Queue(); len(q) != 0 {
		t.Errorf("Queue() = %+v, want nothing", q)
	}
	if n := c.Status().Answers; len(n) != 2 || n[1].Leg != "app" || n[1].Count != 2 || n[1].P50 <= 0 || n[1].P99 < n[1].P50 {
		t.Errorf("answers = %+v, want those of two diverted messages", n)
	}
}

// Bind and plan are there after a restart too.
func TestTraceAfterRestart(t *testing.T) {
	a := newAppNode(t, nil)
	e := bind(t, a.addr(), "parcels", 0x34)
	wire := e.submit(saying("hello", nil))
	steps, err := a.g.spool.Trace(a.record(wire).ID)
	if err != nil || !strings.HasPrefix(steps[0].Detail, "bind=1 trx 127.0.0.1:") {
		t.Fatalf("Trace() = %+v, %v", steps, err)
	}
	next := a.next()
	if got, err := next.g.spool.Trace(next.record(wire).ID); err != nil || got[0] != steps[0] || next.record(wire).Plan != "app" {
		t.Errorf("after a restart: %+v, %v, plan %q, want %+v", got, err, next.record(wire).Plan, steps[0])
	}
}
