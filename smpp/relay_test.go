package smpp

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"shunt/smpp/pdu"
	"shunt/smpp/smpptest"
)

// onward is the shortest relay: what one session reads goes to the other.
type onward struct{ to *Session }

func (o onward) HandleRequest(p pdu.PDU)  { _ = o.to.Forward(p) }
func (o onward) HandleResponse(p pdu.PDU) { _ = o.to.Send(p) }
func (o onward) HandleBatch()             { o.to.Flush() }

// relay joins two connections and runs until both have ended.
func relay(a, b net.Conn, cfg Config) (down, up *Session, ended <-chan struct{}) {
	down, up = NewSession(a, cfg), NewSession(b, cfg)
	done := make(chan struct{})
	go func() {
		defer close(done)
		upEnded := make(chan struct{})
		go func() {
			defer close(upEnded)
			_ = up.Serve(onward{down})
			down.Finish()
		}()
		_ = down.Serve(onward{up})
		up.Finish()
		<-upEnded
	}()
	return down, up, done
}

// TestRelayDoesNotAllocate passes submit_sms and their responses through two
// sessions over real sockets, and counts every allocation of the process.
func TestRelayDoesNotAllocate(t *testing.T) {
	const (
		batch  = 100 // submits that are outstanding
		warmUp = 200 * batch
		total  = 1500 * batch
	)
	esme, downConn := tcpPair(t)
	upConn, smsc := tcpPair(t)
	down, up, ended := relay(downConn, upConn, Config{Window: batch})
	smscEnded := make(chan struct{})
	go func() {
		defer close(smscEnded)
		answerAll(smsc)
	}()

	template := smpptest.Message(pdu.SubmitSM, 0, "A message of an ordinary length, for a number that nobody has registered.")
	template = pdu.End(pdu.AppendTLV(template, pdu.TagUserMessageReference, []byte{1, 2}), 0)
	out := bytes.Repeat(template, batch)
	in := make([]byte, batch*pdu.HeaderLen)
	next := uint32(0)
	round := func() {
		first := next
		for at := 0; at < len(out); at += len(template) {
			next++
			pdu.PDU(out[at:]).SetSeq(next)
		}
		if _, err := esme.Write(out); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(esme, in); err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(in); at += pdu.HeaderLen {
			first++
			if p := pdu.PDU(in[at:]); p.ID() != pdu.SubmitSMResp || p.Seq() != first {
				t.Fatalf("response %v %d, want %d", p.ID(), p.Seq(), first)
			}
		}
	}
	for range warmUp / batch {
		round()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range total / batch {
		round()
	}
	runtime.ReadMemStats(&after)
	mallocs, octets := after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc
	t.Logf("%d PDUs each way: %d allocations of %d octets", total, mallocs, octets)
	if mallocs > total/500 { // the runtime's own, and timers
		t.Errorf("%d allocations for %d PDUs, want none a PDU", mallocs, total)
	}
	if in, out := down.Stats.PDUsIn.Load(), up.Stats.PDUsOut.Load(); in != total+warmUp || out != in {
		t.Errorf("%d PDUs in, %d out, want %d", in, out, total+warmUp)
	}
	_ = esme.Close()
	<-ended
	<-smscEnded
	if n := up.Stats.Unmatched.Load() + up.Stats.Expired.Load(); n != 0 {
		t.Errorf("%d responses unmatched or requests expired", n)
	}
}

// answerAll answers every request with a header, in batches, without
// allocating, until the connection ends.
func answerAll(conn net.Conn) {
	in, out := make([]byte, 256<<10), make([]byte, 0, 256<<10)
	for have := 0; ; {
		n, err := conn.Read(in[have:])
		if err != nil {
			return
		}
		have += n
		at := 0
		out = out[:0]
		for have-at >= pdu.HeaderLen {
			size := int(binary.BigEndian.Uint32(in[at:]))
			if have-at < size {
				break
			}
			p := pdu.PDU(in[at:])
			out = pdu.AppendHeader(out, p.ID().Response(), pdu.ROK, p.Seq())
			at += size
		}
		have = copy(in, in[at:have])
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

// What passes a relay is the octets that came, whatever they are, but for the
// sequence_number; and the answer finds its way back.
func TestRelayKeepsOctets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, esmeConn := smpptest.Pipe(0)
		b, smscConn := smpptest.Pipe(0)
		_, _, ended := relay(a, b, Config{})
		esme, smsc := smpptest.NewPeer(t, esmeConn), smpptest.NewPeer(t, smscConn)
		m := pdu.SM{ESMClass: 0x40, ShortMessage: []byte{5, 0, 3, 0xA5, 2, 1, 0xFF}}
		m.TLVs = pdu.AppendTLV(nil, 0x1401, []byte{0, 0xFF})
		m.TLVs = pdu.AppendTLV(m.TLVs, 0x1401, nil)
		for i, p := range []pdu.PDU{
			smpptest.Message(pdu.SubmitSM, 900, "text"),
			pdu.AppendSM(nil, pdu.SubmitSM, 901, &m),
			pdu.End(append(pdu.Begin(nil, pdu.SubmitSM, 0xDEAD, 902), "does not decode"...), 0),
			pdu.End(append(pdu.Begin(nil, 0x00010200, pdu.ROK, 903), "a vendor's"...), 0),
			pdu.AppendHeader(nil, pdu.DataSM, pdu.ROK, 904),
			pdu.AppendHeader(nil, pdu.Unbind, pdu.ROK, 905),
		} {
			esme.Send(p)
			got := smsc.Expect(p.ID())
			if !sameButSeq(got, p, uint32(i+1)) {
				t.Errorf("passed on:\n got % X\nwant % X under sequence_number %d", []byte(got), []byte(p), i+1)
			}
			resp := pdu.PDU(pdu.End(append(pdu.Begin(nil, p.ID().Response(), 0x00000411, got.Seq()), 0, 0xFF, 0x14), 0))
			smsc.Send(resp)
			if back := esme.Expect(p.ID().Response()); !sameButSeq(back, resp, p.Seq()) {
				t.Errorf("passed back:\n got % X\nwant % X under sequence_number %d", []byte(back), []byte(resp), p.Seq())
			}
		}
		_ = esmeConn.Close()
		smsc.ExpectClosed()
		<-ended
	})
}

// A full window upstream holds back the ESME, not the SMSC; when it drains, all
// of it goes on, in order, and nothing is lost.
func TestRelayBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window, submits = 10, 1000
		a, esmeConn := smpptest.Pipe(2 << 10)
		b, smscConn := smpptest.Pipe(2 << 10)
		_, up, ended := relay(a, b, Config{Window: window, EnquireLink: time.Hour})
		esme, smsc := smpptest.NewPeer(t, esmeConn), smpptest.NewPeer(t, smscConn)
		sent := async(func() error {
			for seq := range uint32(submits) {
				if _, err := esmeConn.Write(smpptest.Message(pdu.SubmitSM, seq+1, "blast")); err != nil {
					return err
				}
			}
			return nil
		})
		pending(t, "the ESME", sent)
		if n := up.WindowInUse(); n != window {
			t.Errorf("WindowInUse = %d, want %d", n, window)
		}
		for seq := range uint32(submits) {
			smsc.ReplyID(smsc.Expect(pdu.SubmitSM), pdu.ROK, "id")
			if seq%100 == 0 { // and the SMSC's own requests pass meanwhile
				smsc.Send(smpptest.Message(pdu.DeliverSM, 7000+seq, "receipt"))
				for {
					p, err := esme.Read()
					if err != nil {
						t.Fatal(err)
					}
					if p.ID() == pdu.DeliverSM {
						break
					}
				}
			}
		}
		if err := result(t, "the ESME", sent); err != nil {
			t.Error(err)
		}
		if n := up.Stats.Expired.Load() + up.Stats.Unmatched.Load(); n != 0 || up.WindowInUse() != 0 {
			t.Errorf("%d expired or unmatched, %d in use", n, up.WindowInUse())
		}
		_ = esmeConn.Close()
		<-ended
	})
}

// Two peers that both fill up the other's window before they answer anything
// hold back each other's answers. That lasts until requests expire: then both
// sides go on.
func TestRelayCrossedWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, esmeConn := smpptest.Pipe(0)
		b, smscConn := smpptest.Pipe(0)
		down, up, ended := relay(a, b, Config{Window: 1, EnquireLink: 24 * time.Hour, Response: 60 * time.Second})
		esme, smsc := smpptest.NewPeer(t, esmeConn), smpptest.NewPeer(t, smscConn)
		start := time.Now()
		for seq := range uint32(2) {
			esme.Send(smpptest.Message(pdu.SubmitSM, seq+1, "two at once"))
			smsc.Send(smpptest.Message(pdu.DeliverSM, seq+1, "two at once"))
		}
		esme.Reply(esme.Expect(pdu.DeliverSM), pdu.ROK)
		smsc.Reply(smsc.Expect(pdu.SubmitSM), pdu.ROK)
		second := smsc.Expect(pdu.SubmitSM)
		if at := time.Since(start); at < 60*time.Second || at > 72*time.Second {
			t.Errorf("the second submit_sm passed after %v, want 60 s to 72 s", at)
		}
		esme.Expect(pdu.DeliverSM)
		smsc.Reply(second, pdu.ROK)
		for esme.Expect(pdu.SubmitSMResp).Seq() != 2 { // the first's came too late, if its request was the one to expire
		}
		if n := up.Stats.Expired.Load() + down.Stats.Expired.Load(); n < 1 || n > 2 {
			t.Errorf("%d requests expired, want one that let go of the knot, or both", n)
		}
		_ = esmeConn.Close()
		<-ended
	})
}
