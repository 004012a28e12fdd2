package upstream

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"testing"
	"time"

	"shunt/smpp/pdu"
)

// withSeq is a copy of p under another sequence_number.
func withSeq(p pdu.PDU, seq uint32) pdu.PDU {
	c := bytes.Clone(p)
	pdu.PDU(c).SetSeq(seq)
	return c
}

// cross sends every sample from one side and compares what comes out of the
// other, and its answer on the way back.
func cross(t *testing.T, from, to *peer) {
	samples := slices.Concat(messages(pdu.SubmitSM), messages(pdu.DeliverSM), operations())
	if len(samples) < 100 {
		t.Fatalf("the corpus has %d samples, want 100 at least", len(samples))
	}
	for i, s := range samples {
		// Sequence numbers of all sizes, in no order, and invalid ones.
		seq := []uint32{1, 0x7FFFFFFF, 0, 0x80000001, 0xFFFFFFFF, 4711}[i%6]
		from.send(withSeq(s.p, seq))
		got := to.next()
		if n := got.Seq(); n == 0 || n > pdu.MaxSequence {
			t.Errorf("%s: sequence_number %#x", s.name, n)
		}
		if !bytes.Equal(got, withSeq(s.p, got.Seq())) {
			t.Fatalf("%s:\n got %s\nwant %s", s.name, show(got), show(s.p))
		}
		all := responses(s.p.ID())
		resp := all[i%len(all)]
		to.send(withSeq(resp, got.Seq()))
		from.want(withSeq(resp, seq))
	}
	for _, s := range unanswered() {
		from.send(withSeq(s.p, 9))
		if got := to.next(); !bytes.Equal(got, withSeq(s.p, got.Seq())) {
			t.Fatalf("%s:\n got %s\nwant %s", s.name, show(got), show(s.p))
		}
	}
	from.wantNothing()
	to.wantNothing()
}

func TestOctetsPass(t *testing.T) {
	for _, id := range []pdu.ID{pdu.BindTransceiver, pdu.BindTransmitter, pdu.BindReceiver} {
		t.Run(id.String(), func(t *testing.T) {
			esme, smsc := newRig(t, nil).bind(id, bankBind)
			t.Run("to the SMSC", func(t *testing.T) { cross(t, esme, smsc) })
			t.Run("to the ESME", func(t *testing.T) { cross(t, smsc, esme) })
		})
	}
}

// TestEveryResponse: all responses to one kind of request, answered backwards.
func TestEveryResponse(t *testing.T) {
	esme, smsc := newRig(t, nil).bind(pdu.BindTransceiver, bankBind)
	for _, way := range []struct {
		from, to *peer
		id       pdu.ID
	}{{esme, smsc, pdu.SubmitSM}, {smsc, esme, pdu.DeliverSM}} {
		all := responses(way.id)
		var sent []pdu.PDU
		for i := range all {
			sent = append(sent, withSeq(sms(way.id, nil), uint32(100+i)))
		}
		way.from.send(sent...) // in one write
		var seqs []uint32
		for range all {
			seqs = append(seqs, way.to.next().Seq())
		}
		for i := len(all) - 1; i >= 0; i-- {
			way.to.send(withSeq(all[i], seqs[i]))
			way.from.want(withSeq(all[i], uint32(100+i)))
		}
	}
	// A response to nothing goes nowhere; a generic_nack of what could not be
	// read at all has no sequence_number, and passes.
	smsc.send(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, 0x123456, "id"))
	smsc.send(pdu.AppendHeader(nil, pdu.GenericNack, pdu.RSYSERR, 0x123456))
	nack := pdu.PDU(pdu.AppendHeader(nil, pdu.GenericNack, pdu.RINVCMDLEN, 0))
	smsc.send(nack)
	esme.want(nack)
}

// TestChunks: framing does not depend on how the octets arrive.
func TestChunks(t *testing.T) {
	esme, smsc := newRig(t, nil).bind(pdu.BindTransceiver, bankBind)
	var stream []byte
	for _, s := range messages(pdu.SubmitSM) {
		stream = append(stream, withSeq(s.p, 5)...)
	}
	go func() {
		for i, n := 0, 1; i < len(stream); n = n%1999 + 7 {
			end := min(i+n, len(stream))
			if _, err := esme.conn.Write(stream[i:end]); err != nil {
				return
			}
			i = end
		}
	}()
	for _, s := range messages(pdu.SubmitSM) {
		if got := smsc.next(); !bytes.Equal(got, withSeq(s.p, got.Seq())) {
			t.Fatalf("%s:\n got %s\nwant %s", s.name, show(got), show(s.p))
		}
	}
}

// TestLoss: the loss of either side closes the other, and what was sent before
// it still goes through.
func TestLoss(t *testing.T) {
	for name, pick := range map[string]func(esme, smsc *peer) (lost, other *peer, id pdu.ID){
		"of the ESME": func(esme, smsc *peer) (*peer, *peer, pdu.ID) { return esme, smsc, pdu.SubmitSM },
		"of the SMSC": func(esme, smsc *peer) (*peer, *peer, pdu.ID) { return smsc, esme, pdu.DeliverSM },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			lost, other, id := pick(r.bind(pdu.BindTransceiver, bankBind))
			for i := range 5 {
				lost.send(withSeq(sms(id, nil), uint32(i)))
			}
			_ = lost.conn.Close()
			for range 5 {
				if got := other.next(); got.ID() != id {
					t.Fatalf("got %s", show(got))
				}
			}
			other.wantEnd()
			r.bound(0)
		})
	}
}

// TestLossWhileHeldBack: an ESME whose reader waits for the SMSC's window sees
// the SMSC's end too.
func TestLossWhileHeldBack(t *testing.T) {
	r := newRig(t, func(x *Proxy) { x.SMPP.Window = 2 })
	esme, smsc := r.bind(pdu.BindTransceiver, bankBind)
	for i := range 5 {
		esme.send(withSeq(sms(pdu.SubmitSM, nil), uint32(i)))
	}
	smsc.next()
	smsc.next()
	smsc.wantNothing()
	_ = smsc.conn.Close()
	esme.wantEnd()
	r.bound(0)
}

func TestUnbind(t *testing.T) {
	for name, pick := range map[string]func(esme, smsc *peer) (first, second *peer){
		"from the ESME": func(esme, smsc *peer) (*peer, *peer) { return esme, smsc },
		"from the SMSC": func(esme, smsc *peer) (*peer, *peer) { return smsc, esme },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			first, second := pick(r.bind(pdu.BindTransceiver, bankBind))
			first.send(pdu.AppendHeader(nil, pdu.Unbind, pdu.ROK, 0x55))
			got := second.next()
			if got.ID() != pdu.Unbind || len(got) != pdu.HeaderLen {
				t.Fatalf("got %s, want unbind", show(got))
			}
			second.send(pdu.AppendHeader(nil, pdu.UnbindResp, pdu.ROK, got.Seq()))
			first.wantHeader(pdu.UnbindResp, pdu.ROK, 0x55)
			first.wantEnd()
			second.wantEnd()
			r.bound(0)
		})
	}
}

// TestUnbindRefused: an SMSC may have its reasons; the session goes on for as
// long as both want it.
func TestUnbindRefused(t *testing.T) {
	r := newRig(t, nil)
	esme, smsc := r.bind(pdu.BindTransceiver, bankBind)
	esme.send(pdu.AppendHeader(nil, pdu.Unbind, pdu.ROK, 0x55))
	nack := pdu.AppendHeader(nil, pdu.GenericNack, pdu.RINVCMDID, smsc.next().Seq())
	smsc.send(nack)
	esme.wantHeader(pdu.GenericNack, pdu.RINVCMDID, 0x55)
	esme.wantNothing()
	smsc.wantNothing()
}

// TestEnquireLink is answered locally on both sides and never crosses; Shunt's
// own, sent into silence, go to each side.
func TestEnquireLink(t *testing.T) {
	r := newRig(t, nil)
	esme, smsc := r.bind(pdu.BindTransceiver, bankBind)
	for _, p := range []*peer{esme, smsc} {
		for seq := range uint32(3) {
			p.send(pdu.AppendHeader(nil, pdu.EnquireLink, pdu.ROK, seq))
			p.wantHeader(pdu.EnquireLinkResp, pdu.ROK, seq)
		}
	}
	esme.wantNothing()
	smsc.wantNothing()
}

func TestSilence(t *testing.T) {
	r := newRig(t, func(x *Proxy) { x.SMPP.EnquireLink, x.SMPP.Response = time.Second, time.Second })
	esme, smsc := r.bind(pdu.BindTransceiver, bankBind)
	var wait []chan struct{}
	for _, p := range []*peer{esme, smsc} {
		ended := make(chan struct{})
		wait = append(wait, ended)
		go func() {
			defer close(ended)
			if got := <-p.in; got == nil || got.ID() != pdu.EnquireLink {
				p.t.Errorf("into silence: %v, want enquire_link", got)
			}
			for range p.in { // and no answer: Shunt gives it up
			}
		}()
	}
	for _, ended := range wait {
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatal("a silent peer is not given up")
		}
	}
}

// TestMalformed: a length that cannot be followed ends its own session, on both
// sides, and no other.
func TestMalformed(t *testing.T) {
	r := newRig(t, nil)
	bystander, theirs := r.bind(pdu.BindTransceiver, pdu.Bind{SystemID: "other", InterfaceVersion: 0x34})
	for _, length := range []uint32{0, 15, pdu.DefaultMaxLen + 1, 0x7FFFFFFF, 0xFFFFFFFF} {
		for _, fromESME := range []bool{true, false} {
			esme, smsc := r.bind(pdu.BindTransceiver, bankBind)
			bad, other := esme, smsc
			if !fromESME {
				bad, other = smsc, esme
			}
			p := withSeq(sms(pdu.SubmitSM, nil), 0x1234)
			binary.BigEndian.PutUint32(p, length)
			bad.send(p)
			bad.wantHeader(pdu.GenericNack, pdu.RINVCMDLEN, 0x1234)
			bad.wantEnd()
			other.wantEnd()
		}
	}
	bystander.send(withSeq(sms(pdu.SubmitSM, nil), 6))
	if got := theirs.next(); got.ID() != pdu.SubmitSM {
		t.Errorf("the other session: %s", show(got))
	}
	bystander.wantNothing()
}

func TestBeforeBind(t *testing.T) {
	r := newRig(t, nil)
	esme := r.connect()
	for _, s := range append(operations(), sample{"submit_sm", sms(pdu.SubmitSM, nil)}) {
		if s.p.ID().IsBind() {
			continue
		}
		esme.send(withSeq(s.p, 9))
		esme.wantHeader(s.p.ID().Response(), pdu.RINVBNDSTS, 9)
	}
	for _, s := range unanswered() {
		if s.p.ID() != pdu.Outbind { // see TestOutbindRefused
			esme.send(s.p)
		}
	}
	esme.send(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, 9, "id")) // to nothing
	esme.wantNothing()
	r.bindOn(esme, pdu.BindTransceiver, bankBind) // none of it spoilt the session

	esme = r.connect()
	esme.send(pdu.AppendHeader(nil, pdu.Unbind, pdu.ROK, 4))
	esme.wantHeader(pdu.UnbindResp, pdu.ROK, 4)
	esme.wantEnd()

	esme = r.connect()
	esme.send(pdu.PDU("GET / HTTP/1.1\r\n\r\n"))
	if got := esme.next(); got.ID() != pdu.GenericNack || got.Status() != pdu.RINVCMDLEN {
		t.Errorf("to what is no SMPP: %s", show(got))
	}
	esme.wantEnd()
}

// TestSessionInit: the time to bind is not prolonged by talk.
func TestSessionInit(t *testing.T) {
	const limit = time.Second
	r := newRig(t, func(x *Proxy) { x.SessionInit = limit })
	start := time.Now()
	silent, talker := r.connect(), r.connect()
	go func() {
		for i := uint32(1); ; i++ {
			if _, err := talker.conn.Write(pdu.AppendHeader(nil, pdu.EnquireLink, pdu.ROK, i)); err != nil {
				return
			}
			yield()
		}
	}()
	silent.wantEnd()
	for range talker.in { // its answers, to the end
	}
	if took := time.Since(start); took < limit || took > limit+5*time.Second {
		t.Errorf("both were ended after %s, want %s", took, limit)
	}
	// A refused bind gives the time again.
	esme := r.connect()
	for range 3 {
		esme.send(bankBind.Append(nil, pdu.BindTransceiver, 3))
		smsc := r.smsc.accept()
		smsc.next()
		time.AfterFunc(limit*2/3, func() { smsc.send(pdu.AppendHeader(nil, pdu.BindTransceiverResp, pdu.RINVPASWD, 3)) })
		esme.next()
	}
	esme.wantEnd()
}

func TestClose(t *testing.T) {
	r := newRig(t, nil)
	esme, smsc := r.bind(pdu.BindTransceiver, bankBind)
	mute, theirs := r.bind(pdu.BindReceiver, pdu.Bind{SystemID: "mute"})
	hanging := r.connect() // its SMSC does not answer its bind
	hanging.send(bankBind.Append(nil, pdu.BindTransceiver, 3))
	slow := r.smsc.accept()
	slow.next()
	idle := r.connect() // has not bound
	idle.wantNothing()
	r.bound(2)

	r.stop()
	closed := make(chan struct{})
	start := time.Now()
	go func() {
		r.proxy.Close(2 * time.Second)
		close(closed)
	}()
	for _, p := range []*peer{esme, smsc} {
		got := p.next()
		if got.ID() != pdu.Unbind {
			t.Fatalf("got %s, want unbind", show(got))
		}
	}
	esme.send(pdu.AppendHeader(nil, pdu.UnbindResp, pdu.ROK, 1))
	esme.wantEnd()
	smsc.wantEnd()
	for _, p := range []*peer{mute, theirs} { // never answer: ended after the time-out
		if got := p.next(); got.ID() != pdu.Unbind {
			t.Fatalf("got %s, want unbind", show(got))
		}
		p.wantEnd()
	}
	slow.wantEnd()
	idle.wantEnd()
	for range hanging.in { // perhaps its refusal
	}
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("Close() does not return")
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("Close() took %s", took)
	}
	if _, err := net.Dial("tcp", r.addr); err == nil {
		t.Error("the listener is still open")
	}
}
