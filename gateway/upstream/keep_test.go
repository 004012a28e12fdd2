package upstream

import (
	"testing"

	"shunt/smpp/pdu"
)

// TestOwnSet: binds are replaced one after the other; each has its answers
// first, and the others serve meanwhile.
func TestOwnSet(t *testing.T) {
	r := newOwnRig(t, func(o *OwnOptions) { o.Sessions, o.Window = 2, 10 })
	a, b := r.bind(pdu.BindTransceiver), r.bind(pdu.BindTransceiver)
	r.ready(2)
	one, two := r.submit(), r.submit() // in turn
	pa, pb := a.next(), b.next()

	other := &ownRig{t: t, own: r.own, smsc: newCenter(t)}
	o := *r.own.o
	o.Addr, o.Bind.SystemID, o.Sessions = other.smsc.addr(), "shunt-2", 3
	r.own.Set(o)
	r.ready(1) // one is given nothing more
	a.wantNothing()
	b.wantNothing()
	a.send(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, pa.Seq(), "id-a"))
	b.send(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, pb.Seq(), "id-b"))
	if x, y := r.result(one), r.result(two); x.MessageID+y.MessageID != "id-aid-b" && x.MessageID+y.MessageID != "id-bid-a" {
		t.Errorf("answers %+v and %+v, want those of both binds", x, y)
	}
	// Which bind is the keepers' first is a matter of who was scheduled first.
	left, stays := a, b
	var unbind pdu.PDU
	select {
	case unbind = <-a.in:
	case unbind = <-b.in:
		left, stays = b, a
	}
	if unbind.ID() != pdu.Unbind {
		t.Fatalf("%s, want an unbind", show(unbind))
	}
	left.send(pdu.AppendHeader(nil, pdu.UnbindResp, pdu.ROK, unbind.Seq()))
	p := other.smsc.accept()
	req := p.next()
	stays.wantNothing() // its successor waits until this one is up
	var said pdu.Bind
	if err := said.Decode(req); err != nil || said.SystemID != "shunt-2" {
		t.Errorf("bind as %q, %v, want the new system_id", said.SystemID, err)
	}
	done := r.submit()
	stays.send(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, stays.next().Seq(), "id-c"))
	if x := r.result(done); x.MessageID != "id-c" {
		t.Errorf("submit while the other one is replaced: %+v", x)
	}
	p.send((&pdu.BindResp{SystemID: "SMSC", SCVersion: 0x34}).Append(nil, req.ID(), pdu.ROK, req.Seq()))
	unbind = stays.next()
	stays.send(pdu.AppendHeader(nil, pdu.UnbindResp, pdu.ROK, unbind.Seq()))
	other.bind(pdu.BindTransceiver)
	other.bind(pdu.BindTransceiver)
	r.ready(3)
	if st := r.own.State(); st.Want != 3 || st.Window != 0 {
		t.Errorf("State() = %+v, want three binds and an empty window", st)
	}
}

// TestOwnSetRefused: options that the SMSC refuses cost one bind of two, and the
// right ones bring it back.
func TestOwnSetRefused(t *testing.T) {
	r := newOwnRig(t, func(o *OwnOptions) { o.Sessions = 2 })
	a, b := r.bind(pdu.BindTransceiver), r.bind(pdu.BindTransceiver)
	r.ready(2)
	good := *r.own.o
	bad := good
	bad.Bind.Password = "wrong"
	r.own.Set(bad)
	left, stays := a, b
	var unbind pdu.PDU
	select {
	case unbind = <-a.in:
	case unbind = <-b.in:
		left, stays = b, a
	}
	left.send(pdu.AppendHeader(nil, pdu.UnbindResp, pdu.ROK, unbind.Seq()))
	for range 2 { // it tries again, and the other one stays
		p := r.smsc.accept()
		p.send(pdu.AppendHeader(nil, pdu.BindTransceiverResp, pdu.RINVPASWD, p.next().Seq()))
	}
	stays.wantNothing()
	r.ready(1)
	r.own.Set(good)
	p := r.bind(pdu.BindTransceiver)
	unbind = stays.next()
	if unbind.ID() != pdu.Unbind {
		t.Fatalf("%s, want an unbind", show(unbind))
	}
	stays.send(pdu.AppendHeader(nil, pdu.UnbindResp, pdu.ROK, unbind.Seq()))
	r.bind(pdu.BindTransceiver)
	r.ready(2)
	p.wantNothing()
}

// TestOwnSetSplit: another kind of bind takes the place of the one there was.
func TestOwnSetSplit(t *testing.T) {
	r := newOwnRig(t, nil)
	a := r.bind(pdu.BindTransceiver)
	r.ready(1)
	o := *r.own.o
	o.Split = true
	r.own.Set(o)
	unbind := a.next()
	a.send(pdu.AppendHeader(nil, pdu.UnbindResp, pdu.ROK, unbind.Seq()))
	r.bind(pdu.BindTransmitter)
	r.bind(pdu.BindReceiver)
	r.ready(1)
	o.Split = false
	r.own.Set(o)
	r.stop() // and ends in the midst of it
	<-r.ended
}

// TestSetTowards: a bind that is up stays where it is, the next one goes to the
// new address.
func TestSetTowards(t *testing.T) {
	r := newRig(t, nil)
	first, up := r.bind(pdu.BindTransceiver, bankBind)
	other := newCenter(t)
	r.proxy.SetTowards(Towards{Addr: other.addr()})
	was := r.smsc
	r.smsc = other
	second, up2 := r.bind(pdu.BindTransceiver, bankBind)
	for _, x := range []struct{ esme, smsc *peer }{{first, up}, {second, up2}} {
		x.esme.send(sms(pdu.SubmitSM, nil))
		if got := x.smsc.next(); !equalButSeq(got, sms(pdu.SubmitSM, nil)) {
			t.Errorf("to the SMSC: %s", show(got))
		}
	}
	_ = was.l.Close()
}
