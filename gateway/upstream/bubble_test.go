package upstream

import (
	"bytes"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/smpp/smpptest"
)

// quiet are times that keep the link's own timer out of a test's way.
var quiet = smpp.Config{EnquireLink: time.Hour}

// pair is a bind between two pipes, for a synctest bubble: there time is exact,
// and what has not come when all is at rest does not come.
type pair struct {
	esme, smsc *smpptest.Peer
	ended      chan struct{}
}

func newPair(t *testing.T, id pdu.ID, cfg smpp.Config, set func(*Bind)) *pair {
	down, esme := smpptest.Pipe(0)
	up, smsc := smpptest.Pipe(0)
	b := &Bind{Type: id, down: smpp.NewSession(down, cfg), decider: forwardAll{}}
	cfg.Inactivity = 0 // as Proxy.dial has it
	b.up = smpp.NewSession(up, cfg)
	if set != nil {
		set(b)
	}
	x := &pair{esme: smpptest.NewPeer(t, esme), smsc: smpptest.NewPeer(t, smsc), ended: make(chan struct{})}
	go func() {
		defer close(x.ended)
		b.relay()
	}()
	return x
}

// sides are the two ends, of which the first is the one that acts.
func (x *pair) sides(fromESME bool) (first, second *smpptest.Peer) {
	if fromESME {
		return x.esme, x.smsc
	}
	return x.smsc, x.esme
}

// unbound is a connection to a Proxy, over a pipe, that is not bound.
func unbound(t *testing.T, sessionInit time.Duration) *smpptest.Peer {
	x := &Proxy{
		SessionInit: sessionInit, SMPP: quiet, Decider: forwardAll{}, Hub: new(Hub), Log: slog.New(slog.DiscardHandler),
	}
	x.prepare()
	ours, theirs := smpptest.Pipe(0)
	e := &entry{x: x, deadline: time.Now().Add(sessionInit)}
	go x.serveSession(t.Context(), ours, e)
	return smpptest.NewPeer(t, theirs)
}

// wantOctets reads a PDU, which must be p under the sequence_number that it
// gives back.
func wantOctets(t *testing.T, from *smpptest.Peer, p pdu.PDU) (seq uint32) {
	t.Helper()
	got := from.Expect(p.ID())
	if !bytes.Equal(got, withSeq(p, got.Seq())) {
		t.Fatalf("octets:\n got %s\nwant %s", show(got), show(p))
	}
	return got.Seq()
}

// TestSessionInitExact: SMPP v3.4 §7.2, session_init_timer. Nothing but a bind
// ends it, and no talk prolongs it.
func TestSessionInitExact(t *testing.T) {
	for name, talk := range map[string]func(*smpptest.Peer){
		"silence": func(*smpptest.Peer) {},
		"enquire_link": func(p *smpptest.Peer) {
			for range 5 {
				p.ExpectSilence(10 * time.Second)
				p.Request(pdu.EnquireLink)
				p.Expect(pdu.EnquireLinkResp)
			}
		},
		"submit_sm": func(p *smpptest.Peer) {
			for range 5 {
				p.ExpectSilence(10 * time.Second)
				p.SubmitSM("too early")
				p.ExpectStatus(pdu.SubmitSMResp, pdu.RINVBNDSTS)
			}
		},
		"an octet at a time": func(p *smpptest.Peer) {
			b := bankBind.Append(nil, pdu.BindTransceiver, 1)
			for _, octet := range b[:len(b)-1] {
				p.Send([]byte{octet})
				p.ExpectSilence(time.Second)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				esme := unbound(t, time.Minute)
				talk(esme)
				esme.ExpectClosed()
				if at := time.Since(start); at != time.Minute {
					t.Errorf("closed at %v, want %v", at, time.Minute)
				}
			})
		})
	}
}

// TestTrap09HalfOpen: the death of one side, which no FIN tells of, ends both after
// enquire_link and the response time, though the other side is alive.
func TestTrap09HalfOpen(t *testing.T) {
	for _, deadESME := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			x := newPair(t, pdu.BindTransceiver, smpp.Config{EnquireLink: 30 * time.Second, Response: 20 * time.Second}, nil)
			dead, alive := x.sides(deadESME)
			alive.Reply(alive.Expect(pdu.EnquireLink), pdu.ROK)
			alive.ExpectClosed()
			if at := time.Since(start); at != 50*time.Second {
				t.Errorf("dead ESME %t: the living side was closed at %v, want 50 s", deadESME, at)
			}
			dead.Expect(pdu.EnquireLink)
			dead.ExpectClosed()
			<-x.ended
		})
	}
}

// TestWindowFull: a request of the ESME's that finds the window towards the SMSC
// full is answered with the configured status, and passes no more; unbind and
// what is owed no answer pass all the same. ESME_ROK: it waits instead.
func TestWindowFull(t *testing.T) {
	cfg := quiet
	cfg.Window = 2
	for _, status := range []pdu.Status{pdu.RTHROTTLED, pdu.RMSGQFUL} {
		synctest.Test(t, func(t *testing.T) {
			x := newPair(t, pdu.BindTransceiver, cfg, func(b *Bind) { b.WindowFull = status })
			x.esme.SubmitSM("one")
			x.esme.SubmitSM("two")
			x.esme.SubmitSM("three")
			if got := x.esme.ExpectStatus(pdu.SubmitSMResp, status); got.Seq() != 3 || len(got) != pdu.HeaderLen {
				t.Errorf("to the third: %s", show(got))
			}
			x.smsc.Reply(x.smsc.Expect(pdu.SubmitSM), pdu.ROK)
			x.smsc.Expect(pdu.SubmitSM)
			if got := x.esme.ExpectStatus(pdu.SubmitSMResp, pdu.ROK); got.Seq() != 1 {
				t.Errorf("to the first: %s", show(got))
			}
			x.esme.SubmitSM("four")
			x.smsc.Expect(pdu.SubmitSM) // there is room again
			x.esme.Request(pdu.AlertNotification)
			x.smsc.Expect(pdu.AlertNotification)
			// The SMSC's own requests have a window of their own.
			x.smsc.Send(smpptest.Message(pdu.DeliverSM, 9, "receipt"))
			x.esme.Reply(x.esme.Expect(pdu.DeliverSM), pdu.ROK)
			x.smsc.Expect(pdu.DeliverSMResp)
			x.esme.ExpectSilence(time.Minute)
			x.smsc.ExpectSilence(time.Minute)
		})
	}
}

// TestWindowWaits: without such a status the surplus waits, in both directions,
// and nothing of it is lost.
func TestWindowWaits(t *testing.T) {
	cfg := quiet
	cfg.Window = 2
	for _, fromESME := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			x := newPair(t, pdu.BindTransceiver, cfg, nil)
			from, to := x.sides(fromESME)
			for seq := range uint32(5) {
				from.Send(smpptest.Message(pdu.DataSM, seq+1, "one of five"))
			}
			open := []pdu.PDU{to.Expect(pdu.DataSM), to.Expect(pdu.DataSM)}
			to.ExpectSilence(time.Minute) // two are outstanding: no third
			for seq := range uint32(5) {
				to.Reply(open[0], pdu.ROK)
				open = open[1:]
				if got := from.Expect(pdu.DataSMResp).Seq(); got != seq+1 {
					t.Errorf("from the ESME %t: answer to %d, want %d", fromESME, got, seq+1)
				}
				if seq < 3 {
					open = append(open, to.Expect(pdu.DataSM))
				}
			}
			from.ExpectSilence(time.Minute)
		})
	}
}

// TestInactive: an ESME that only keeps the link is unbound after the inactivity
// time, and its upstream bind behind it, in an orderly way, whatever the SMSC
// sends meanwhile.
func TestInactive(t *testing.T) {
	cfg := quiet
	cfg.Inactivity = 5 * time.Minute
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		x := newPair(t, pdu.BindReceiver, cfg, nil)
		for range 4 {
			x.esme.ExpectSilence(time.Minute)
			x.esme.Request(pdu.EnquireLink)
			x.esme.Expect(pdu.EnquireLinkResp)
			x.smsc.Send(pdu.AppendHeader(nil, pdu.AlertNotification, pdu.ROK, 1))
			x.esme.Expect(pdu.AlertNotification)
		}
		unbind := x.esme.Expect(pdu.Unbind)
		if at := time.Since(start); at < 5*time.Minute || at > 5*time.Minute+time.Second { // it looks once a second
			t.Errorf("unbound at %v, want 5 minutes", at)
		}
		x.smsc.ExpectSilence(time.Second) // the ESME goes first
		x.esme.Reply(unbind, pdu.ROK)
		x.esme.ExpectClosed()
		x.smsc.Reply(x.smsc.Expect(pdu.Unbind), pdu.ROK)
		x.smsc.ExpectClosed()
		<-x.ended
	})
}

// TestSMSCMayBeSilent: the inactivity time is the ESME's. An SMSC that has
// nothing to say keeps its bind, over a connection as Proxy makes it.
func TestSMSCMayBeSilent(t *testing.T) {
	const inactivity = time.Second
	r := newRig(t, func(x *Proxy) { x.SMPP.Inactivity = inactivity })
	esme, smsc := r.bind(pdu.BindTransmitter, bankBind)
	tick := time.NewTicker(inactivity / 10)
	defer tick.Stop()
	for range 40 { // four times as long: the engine looks once a second
		<-tick.C
		esme.send(pdu.AppendHeader(nil, pdu.AlertNotification, pdu.ROK, 1))
		if got := smsc.next(); got.ID() != pdu.AlertNotification {
			t.Fatalf("to the SMSC: %s, want the alert_notification", show(got))
		}
	}
}
