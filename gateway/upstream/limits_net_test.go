package upstream

import (
	"fmt"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"shunt/smpp/pdu"
)

// lively has a bind's two far ends exchange a message: it is unharmed.
func lively(t testing.TB, esme, smsc *peer, seq uint32) {
	t.Helper()
	esme.send(withSeq(sms(pdu.SubmitSM, nil), seq))
	if got := smsc.next(); got.ID() != pdu.SubmitSM {
		t.Fatalf("to the SMSC: %s", show(got))
	}
	esme.wantNothing()
}

// TestSlowloris: connections that send little or nothing take no place that
// others need, neither all together nor of one source.
func TestSlowloris(t *testing.T) {
	r := newRig(t, func(x *Proxy) { x.Limits = Limits{Unbound: 20, UnboundPerSource: 15} })
	esme, smsc := r.bind(pdu.BindTransceiver, bankBind)
	var slow []*peer
	for range 15 {
		p := r.connectFrom("127.0.0.2")
		p.send(pdu.PDU{0})
		slow = append(slow, p)
	}
	r.connectFrom("127.0.0.2").wantEnd() // the sixteenth
	for i := range 30 {
		slow = append(slow, r.connectFrom(fmt.Sprintf("127.0.0.%d", 3+i%10)))
	}
	late := r.connectFrom("127.0.0.100")
	theirs := r.bindOn(late, pdu.BindTransceiver, pdu.Bind{SystemID: "late"})
	lively(t, late, theirs, 30)
	lively(t, esme, smsc, 31)
	for _, p := range slow[:15] { // the oldest went
		p.wantEnd()
	}
	c := &r.proxy.Counters
	if c.UnboundRefused.Load() != 1 || c.UnboundClosed.Load() != 45+1-20 {
		t.Errorf("UnboundRefused = %d, UnboundClosed = %d, want 1 and 26", c.UnboundRefused.Load(), c.UnboundClosed.Load())
	}
}

// TestConnectionFlood: a source that connects too often is closed at once and
// leaves nothing behind; another one binds meanwhile.
func TestConnectionFlood(t *testing.T) {
	const rate, flood = 10, 1500
	r := newRig(t, func(x *Proxy) { x.Limits = Limits{ConnectRate: rate, UnboundPerSource: 1000} })
	esme, smsc := r.bind(pdu.BindTransceiver, bankBind)
	before := runtime.NumGoroutine()
	var others atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		d := net.Dialer{LocalAddr: tcpAddr("127.0.0.66:0"), Timeout: patience}
		for range flood {
			conn, err := d.Dial("tcp", r.addr)
			if err != nil {
				continue // reset while it was being made
			}
			others.Add(1)
			t.Cleanup(func() { _ = conn.Close() })
		}
	}()
	for i := range uint32(5) {
		late := r.connectFrom(fmt.Sprintf("127.0.1.%d", i+1))
		start := time.Now()
		theirs := r.bindOn(late, pdu.BindTransceiver, pdu.Bind{SystemID: fmt.Sprintf("late%d", i)})
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("a bind during the flood took %s", took)
		}
		lively(t, late, theirs, 40+i)
	}
	<-done
	lively(t, esme, smsc, 60)
	refused := r.proxy.Counters.ConnectsRefused.Load
	for deadline := time.Now().Add(patience); refused() < flood/2; yield() {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d connections were refused", refused(), others.Load())
		}
	}
	taken := int(others.Load()) - int(refused())
	if n := runtime.NumGoroutine() - before; n > 3*(taken+5)+50 {
		t.Errorf("%d goroutines stay of a flood of which %d were taken", n, taken)
	}
}

// TestPasswordGuessing: after some failures a source is refused without a word
// to the SMSC, whichever system_id it tries, and for longer each time. Others
// bind.
func TestPasswordGuessing(t *testing.T) {
	r := newRig(t, func(x *Proxy) {
		x.Limits = Limits{BindFailures: 3, BindFailureWindow: time.Minute, BlockFirst: 500 * time.Millisecond, BlockMost: time.Minute}
	})
	esme, smsc := r.bind(pdu.BindTransceiver, bankBind)
	try := func(p *peer, answer pdu.Status) {
		t.Helper()
		req := bankBind.Append(nil, pdu.BindTransceiver, 3)
		p.send(req)
		center := r.smsc.accept()
		center.want(req)
		center.send(pdu.AppendHeader(nil, pdu.BindTransceiverResp, answer, 3))
		p.wantHeader(pdu.BindTransceiverResp, answer, 3)
	}
	unasked := func() {
		t.Helper()
		p := r.connectFrom("127.0.0.2")
		p.send(bankBind.Append(nil, pdu.BindReceiver, 4))
		p.wantHeader(pdu.BindReceiverResp, pdu.RBINDFAIL, 4)
		p.wantEnd()
	}
	guesser := r.connectFrom("127.0.0.2")
	try(guesser, pdu.RINVPASWD)
	try(guesser, pdu.RINVSYSID)
	try(guesser, pdu.RALYBND) // no guess
	try(r.connectFrom("127.0.0.2"), pdu.RBINDFAIL)
	unasked()
	guesser.send(bankBind.Append(nil, pdu.BindTransceiver, 9)) // nor on a connection that is there already
	guesser.wantHeader(pdu.BindTransceiverResp, pdu.RBINDFAIL, 9)
	guesser.wantEnd()
	late := r.connectFrom("127.0.0.3")
	lively(t, late, r.bindOn(late, pdu.BindTransceiver, pdu.Bind{SystemID: "late"}), 20)
	lively(t, esme, smsc, 21)

	w := r.proxy.gate.mustEnter(t, sourceOf(tcpAddr("127.0.0.2:1")))
	defer w.leave()
	for deadline := time.Now().Add(patience); w.isBlocked(time.Now()); yield() {
		if time.Now().After(deadline) {
			t.Fatal("the block has no end")
		}
	}
	try(r.connectFrom("127.0.0.2"), pdu.RINVPASWD)
	unasked() // again
	c := &r.proxy.Counters
	if c.BindsFailed.Load() != 4 || c.BindsBlocked.Load() != 3 || c.Blocks.Load() != 2 {
		t.Errorf("BindsFailed = %d, BindsBlocked = %d, Blocks = %d, want 4, 3 and 2",
			c.BindsFailed.Load(), c.BindsBlocked.Load(), c.Blocks.Load())
	}
}

// TestSuccessClears: a source with a right password among wrong ones is no
// guesser.
func TestSuccessClears(t *testing.T) {
	r := newRig(t, func(x *Proxy) {
		x.Limits = Limits{BindFailures: 2, BindFailureWindow: time.Hour, BlockFirst: time.Hour, BlockMost: time.Hour}
	})
	for i := range uint32(4) {
		p := r.connect()
		p.send(bankBind.Append(nil, pdu.BindTransceiver, 3))
		center := r.smsc.accept()
		center.next()
		center.send(pdu.AppendHeader(nil, pdu.BindTransceiverResp, pdu.RINVPASWD, 3))
		p.wantHeader(pdu.BindTransceiverResp, pdu.RINVPASWD, 3)
		r.bindOn(p, pdu.BindTransceiver, pdu.Bind{SystemID: fmt.Sprintf("esme%d", i)})
	}
	if n := r.proxy.Counters.Blocks.Load(); n != 0 {
		t.Errorf("Blocks = %d, want none", n)
	}
}

// TestDialsInTurn: an SMSC whose connections take long is not connected to more
// often than the limit; the others have their turn, or ESME_RBINDFAIL when their
// time to bind is over.
func TestDialsInTurn(t *testing.T) {
	r := newRig(t, func(x *Proxy) {
		x.Limits = Limits{Dials: 1}
		x.SessionInit = time.Second
	})
	r.proxy.prepare()
	r.proxy.dials <- struct{}{} // a connection that is being made
	first, second := r.connect(), r.connect()
	first.send(bankBind.Append(nil, pdu.BindTransceiver, 7))
	first.wantHeader(pdu.BindTransceiverResp, pdu.RBINDFAIL, 7) // after a second
	first.wantEnd()
	second.wantEnd() // it never bound
	if n := r.proxy.Counters.DialsRefused.Load(); n != 1 {
		t.Errorf("DialsRefused = %d, want 1", n)
	}
	third, fourth := r.connect(), r.connect()
	third.send(bankBind.Append(nil, pdu.BindTransceiver, 7))
	<-r.proxy.dials // made
	smsc := r.smsc.accept()
	smsc.next() // connected: the turn is the next one's, before the bind is answered
	r.bindOn(fourth, pdu.BindTransceiver, pdu.Bind{SystemID: "fourth"})
}
