package smpp

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"shunt/smpp/pdu"
	"shunt/smpp/smpptest"
)

// A slow reader, in its three stages: a bounded buffer, then back-pressure to
// whoever feeds it, then the end, all by configuration.
func TestSlowReaderStages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const capacity, buffer = 8 << 10, 64 << 10
		r := newRig(t, Config{WriteBuffer: buffer, WriteStall: 10 * time.Second, EnquireLink: time.Hour, Window: 1 << 16}, capacity).serve()
		p := smpptest.Message(pdu.SubmitSM, 1, "text")
		var taken atomic.Int64
		forwarding := async(func() error {
			for {
				if err := r.Forward(p); err != nil {
					return err
				}
				r.Flush()
				taken.Add(int64(len(p)))
			}
		})
		pending(t, "Forward", forwarding)
		if n := taken.Load(); n < buffer || n > 2*(buffer+1024)+capacity {
			t.Errorf("%d octets were taken of a buffer of %d", n, buffer)
		}
		if err := r.Call(smpptest.Message(pdu.DeliverSM, 0, "receipt"), func(pdu.PDU, error) { t.Error("done of a refused call") }); !errors.Is(err, ErrBufferFull) || !errors.Is(err, ErrWindowFull) {
			t.Errorf("Call into a full buffer = %v", err)
		}
		<-r.Done()
		if at := time.Since(r.start); at < 10*time.Second || at > 20*time.Second {
			t.Errorf("closed at %v, want once to twice the stall time", at)
		}
		if err := result(t, "Forward", forwarding); err == nil {
			t.Error("Forward succeeded on a closed session")
		}
	})
}

// Answers to a peer that does not read cannot be dropped: beyond four buffers
// its session ends.
func TestRespondIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const buffer = 64 << 10
		r := newRig(t, Config{WriteBuffer: buffer, WriteStall: time.Hour, EnquireLink: time.Hour}, 4<<10).serve()
		synctest.Wait()
		resp := pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, 1, "s01JZ8M5C3V4Q2N7R9T0W1X2Y3Z")
		n, err := 0, error(nil)
		for ; err == nil && n < 100*buffer; n += len(resp) {
			err = r.Respond(resp)
			synctest.Wait()
		}
		if !errors.Is(err, ErrSlowReader) || n < maxAnswers*buffer || n > (maxAnswers+2)*buffer {
			t.Errorf("Respond = %v after %d octets, want ErrSlowReader after %d", err, n, maxAnswers*buffer)
		}
		<-r.Done()
		if !errors.Is(r.Err(), ErrSlowReader) {
			t.Errorf("Err() = %v", r.Err())
		}
	})
}

func TestTryForward(t *testing.T) {
	bubble(t, Config{Window: 2, EnquireLink: time.Hour}, func(r *rig) {
		r.serve()
		p := smpptest.Message(pdu.SubmitSM, 9, "text")
		for range 2 {
			if ok, err := r.TryForward(p); !ok || err != nil {
				t.Fatalf("TryForward = %t, %v", ok, err)
			}
		}
		if ok, err := r.TryForward(p); ok || err != nil {
			t.Errorf("TryForward into a full window = %t, %v", ok, err)
		}
		r.Flush()
		r.peer.Reply(r.peer.Expect(pdu.SubmitSM), pdu.ROK)
		r.peer.Expect(pdu.SubmitSM)
		synctest.Wait()
		if ok, err := r.TryForward(p); !ok || err != nil {
			t.Errorf("TryForward after an answer = %t, %v", ok, err)
		}
		r.Close(ErrClosed)
		if ok, err := r.TryForward(p); !ok || err == nil {
			t.Errorf("TryForward on a closed session = %t, %v", ok, err)
		}
	})
}

// SMPP v3.4 §7.2, inactivity_timer: a peer that only answers and asks for the
// link is unbound.
func TestInactivity(t *testing.T) {
	bubble(t, Config{Inactivity: 5 * time.Minute, EnquireLink: time.Minute, Response: time.Minute}, func(r *rig) {
		r.serve()
		for range 4 {
			r.peer.Reply(r.peer.Expect(pdu.EnquireLink), pdu.ROK)
			r.peer.Request(pdu.EnquireLink)
			r.peer.Expect(pdu.EnquireLinkResp)
		}
		r.peer.SubmitSM("still here") // at 4 minutes
		for range 4 {
			r.peer.Reply(r.peer.Expect(pdu.EnquireLink), pdu.ROK)
		}
		var p pdu.PDU
		for p == nil || p.ID() == pdu.EnquireLink {
			var err error
			if p, err = r.peer.Read(); err != nil {
				t.Fatalf("Read: %v", err)
			}
		}
		if p.ID() != pdu.Unbind || !r.Inactive() {
			t.Fatalf("got %s, inactive %t; want an unbind", p.ID(), r.Inactive())
		}
		r.at(9 * time.Minute)
		r.peer.Reply(p, pdu.ROK)
		r.peer.ExpectClosed()
	})
}

func TestNoInactivityByDefault(t *testing.T) {
	bubble(t, timed, func(r *rig) {
		r.serve()
		for range 100 {
			r.peer.Reply(r.peer.Expect(pdu.EnquireLink), pdu.ROK)
		}
		if r.Inactive() {
			t.Error("inactive without a time for it")
		}
	})
}
