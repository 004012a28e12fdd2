package upstream

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"shunt/smpp"
	"shunt/smpp/pdu"
)

// judge is a Decider that a test answers for.
type judge func(b *Bind, p pdu.PDU) bool

func (j judge) Divert(b *Bind, p pdu.PDU) bool { return j(b, p) }

// taken is a diverted submit.
type taken struct {
	b *Bind
	p pdu.PDU
}

func takeAll(c chan taken) func(*Proxy) {
	return func(x *Proxy) {
		x.Decider = judge(func(b *Bind, p pdu.PDU) bool {
			b.Hold()
			c <- taken{b, bytes.Clone(p)}
			return true
		})
	}
}

// TestDivert: what the Decider takes never reaches the SMSC unless it is passed
// back, and is answered with what the Decider says.
func TestDivert(t *testing.T) {
	c := make(chan taken, 10)
	r := newRig(t, takeAll(c))
	esme, smsc := r.bind(pdu.BindTransceiver, bankBind)
	esme.send(withSeq(sms(pdu.SubmitSM, nil), 21), withSeq(sms(pdu.SubmitSM, nil), 22), raw(pdu.BroadcastSM))
	if got := smsc.next(); got.ID() != pdu.BroadcastSM { // it is not asked about
		t.Fatalf("to the SMSC: %s", show(got))
	}
	first, second := <-c, <-c
	resp := pdu.PDU(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, second.p.Seq(), "sID"))
	second.b.Answer(resp)
	esme.want(resp)
	first.b.Pass(first.p)
	got := smsc.next()
	if !bytes.Equal(got, withSeq(first.p, got.Seq())) {
		t.Errorf("passed back:\n got %s\nwant %s", show(got), show(first.p))
	}
	smsc.send(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, got.Seq(), "theirs"))
	esme.want(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, 21, "theirs"))
	if n := first.b.pending.n.Load(); n != 0 {
		t.Errorf("%d submits are pending", n)
	}

	// Shunt's own deliver_sm beside the SMSC's.
	answered := make(chan pdu.PDU, 1)
	own := sms(pdu.DeliverSM, func(m *pdu.SM) { m.ESMClass = smpp.ESMReceipt })
	if err := first.b.Deliver(own, func(p pdu.PDU, err error) { answered <- bytes.Clone(p) }); err != nil {
		t.Fatalf("Deliver() = %v", err)
	}
	seq := esme.next().Seq()
	smsc.send(withSeq(sms(pdu.DeliverSM, nil), seq)) // the same number on its side
	theirs := esme.next()
	if theirs.Seq() == seq {
		t.Error("two outstanding requests share a sequence_number")
	}
	esme.send(pdu.AppendMessageResp(nil, pdu.DeliverSMResp, pdu.ROK, seq, ""))
	if got := <-answered; got.Status() != pdu.ROK || got.Seq() != seq {
		t.Errorf("answer to Shunt's own: %s", show(got))
	}
	esme.send(pdu.AppendMessageResp(nil, pdu.DeliverSMResp, pdu.RXTAPPN, theirs.Seq(), ""))
	smsc.want(pdu.AppendMessageResp(nil, pdu.DeliverSMResp, pdu.RXTAPPN, seq, ""))
	smsc.wantNothing()
	f := first.b.Figures()
	if f.WindowIn != 1 || f.WindowOut != 0 || f.Unmatched != 0 { // the broadcast_sm is open
		t.Errorf("Figures() = %+v", f)
	}
}

// TestReceiverSubmits: a submit_sm on a receiver's bind is the SMSC's to refuse.
func TestReceiverSubmits(t *testing.T) {
	r := newRig(t, takeAll(make(chan taken))) // a Divert would hang
	esme, smsc := r.bind(pdu.BindReceiver, bankBind)
	esme.send(withSeq(sms(pdu.SubmitSM, nil), 5))
	smsc.send(pdu.AppendHeader(nil, pdu.SubmitSMResp, pdu.RINVBNDSTS, smsc.next().Seq()))
	esme.wantHeader(pdu.SubmitSMResp, pdu.RINVBNDSTS, 5)
}

// TestUnbindWaits: every diverted submit has its answer before the session ends,
// whoever ends it.
func TestUnbindWaits(t *testing.T) {
	for _, fromESME := range []bool{true, false} {
		t.Run(fmt.Sprintf("from the ESME: %t", fromESME), func(t *testing.T) {
			c := make(chan taken, 10)
			r := newRig(t, takeAll(c))
			esme, smsc := r.bind(pdu.BindTransceiver, bankBind)
			esme.send(withSeq(sms(pdu.SubmitSM, nil), 21), withSeq(sms(pdu.SubmitSM, nil), 22))
			first, second := <-c, <-c
			if fromESME {
				esme.send(pdu.AppendHeader(nil, pdu.Unbind, pdu.ROK, 23))
			} else {
				smsc.send(pdu.AppendHeader(nil, pdu.Unbind, pdu.ROK, 23))
				esme.send(pdu.AppendHeader(nil, pdu.UnbindResp, pdu.ROK, esme.next().Seq()))
			}
			r.read(first.b, esme)
			smsc.wantNothing()
			for _, d := range []taken{second, first} {
				resp := pdu.PDU(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, d.p.Seq(), "sID"))
				d.b.Answer(resp)
				esme.want(resp)
			}
			if fromESME {
				got := smsc.next()
				if got.ID() != pdu.Unbind {
					t.Fatalf("to the SMSC: %s", show(got))
				}
				smsc.send(pdu.AppendHeader(nil, pdu.UnbindResp, pdu.ROK, got.Seq()))
				esme.wantHeader(pdu.UnbindResp, pdu.ROK, 23)
			} else {
				smsc.wantHeader(pdu.UnbindResp, pdu.ROK, 23)
			}
			esme.wantEnd()
			smsc.wantEnd()
		})
	}
}

// read waits until the proxy has read all that the ESME sent, and
// a while longer: what it would pass on at once is on its way then.
func (r *rig) read(b *Bind, esme *peer) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); b.down.Stats.OctetsIn.Load() < esme.sent.Load(); yield() {
		if time.Now().After(deadline) {
			r.t.Fatal("the proxy does not read")
		}
	}
	for range 20 {
		yield()
	}
}

// TestAnswerAfterTheEnd: an ESME that is gone loses its answer, and nothing
// else.
func TestAnswerAfterTheEnd(t *testing.T) {
	c := make(chan taken, 2)
	r := newRig(t, takeAll(c))
	esme, smsc := r.bind(pdu.BindTransceiver, bankBind)
	esme.send(withSeq(sms(pdu.SubmitSM, nil), 21), withSeq(sms(pdu.SubmitSM, nil), 22))
	first, second := <-c, <-c
	_ = esme.conn.Close()
	smsc.wantEnd()
	r.bound(0)
	first.b.Answer(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, 21, "sID"))
	second.b.Pass(second.p)
	if err := first.b.Deliver(sms(pdu.DeliverSM, nil), func(pdu.PDU, error) { t.Error("done was called") }); err == nil {
		t.Error("Deliver() on a bind that has ended = nil")
	}
	if n := first.b.pending.n.Load(); n != 0 {
		t.Errorf("%d submits are pending", n)
	}
	<-first.b.Done()
}
