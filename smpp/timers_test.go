package smpp

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"shunt/smpp/pdu"
	"shunt/smpp/smpptest"
)

var timed = Config{EnquireLink: 30 * time.Second, Response: 60 * time.Second, WriteStall: 30 * time.Second}

// SMPP v3.4 §7.2, enquire_link_timer.
func TestEnquireLinkAfterSilence(t *testing.T) {
	bubble(t, timed, func(r *rig) {
		r.serve()
		for i := range 4 {
			link := r.peer.Expect(pdu.EnquireLink)
			r.at(time.Duration(i+1) * 30 * time.Second)
			r.peer.Reply(link, pdu.ROK)
		}
		r.peer.ExpectSilence(29 * time.Second)
		if n := r.Stats.Unmatched.Load(); n != 0 {
			t.Errorf("%d answers to enquire_link were unmatched", n)
		}
		r.Finish()
		r.peer.ExpectClosed()
	})
}

func TestEnquireLinkNotWhilePeerSpeaks(t *testing.T) {
	bubble(t, timed, func(r *rig) {
		r.serve()
		for range 20 {
			r.peer.SubmitSM("hello")
			r.peer.ExpectSilence(29 * time.Second)
		}
		r.peer.Expect(pdu.EnquireLink)
		r.at(19*29*time.Second + 30*time.Second)
	})
}

func TestEnquireLinkAnsweredInside(t *testing.T) {
	bubble(t, timed, func(r *rig) {
		r.serve()
		seq := r.peer.Request(pdu.EnquireLink)
		if got := r.peer.ExpectStatus(pdu.EnquireLinkResp, pdu.ROK).Seq(); got != seq {
			t.Errorf("enquire_link_resp has sequence_number %d, want %d", got, seq)
		}
		r.at(0)
		synctest.Wait()
		if n, _ := r.rec.counts(); n != 0 {
			t.Errorf("the handler saw %d requests", n)
		}
	})
}

// An enquire_link is answered even where a PDU behind it in the same read is
// held back.
func TestEnquireLinkAnsweredBeforeBlockedPDU(t *testing.T) {
	bubble(t, timed, func(r *rig) {
		release := make(chan struct{})
		defer close(release)
		r.rec.on = func(pdu.PDU) { <-release }
		r.serve()
		r.peer.Send(pdu.AppendHeader(nil, pdu.EnquireLink, pdu.ROK, 77), smpptest.Message(pdu.SubmitSM, 78, "held"))
		if got := r.peer.Expect(pdu.EnquireLinkResp).Seq(); got != 77 {
			t.Errorf("enquire_link_resp has sequence_number %d, want 77", got)
		}
		r.at(0)
	})
}

func TestSilentPeerIsClosed(t *testing.T) {
	bubble(t, timed, func(r *rig) {
		r.serve()
		r.peer.Expect(pdu.EnquireLink)
		r.peer.ExpectSilence(60*time.Second - 1)
		r.peer.ExpectClosed()
		r.at(90 * time.Second)
		if err := <-r.ended; !errors.Is(err, ErrSilent) {
			t.Errorf("Serve = %v, want %v", err, ErrSilent)
		}
		if !errors.Is(r.Err(), ErrSilent) {
			t.Errorf("Err = %v, want %v", r.Err(), ErrSilent)
		}
	})
}

// A late answer, and any other PDU, are signs of life.
func TestLateAnswerKeepsSession(t *testing.T) {
	bubble(t, timed, func(r *rig) {
		r.serve()
		link := r.peer.Expect(pdu.EnquireLink)
		r.peer.ExpectSilence(59 * time.Second)
		r.peer.Reply(link, pdu.ROK)
		r.peer.Expect(pdu.EnquireLink)
		r.at(119 * time.Second)
		r.peer.SubmitSM("not an answer, but alive")
		r.peer.Expect(pdu.EnquireLink)
		r.at(149 * time.Second)
	})
}

// A peer that does not know enquire_link answers generic_nack: that is a sign
// of life too, and nobody else's business.
func TestGenericNackToEnquireLink(t *testing.T) {
	bubble(t, timed, func(r *rig) {
		r.serve()
		for range 3 {
			link := r.peer.Expect(pdu.EnquireLink)
			r.peer.Send(pdu.AppendHeader(nil, pdu.GenericNack, pdu.RINVCMDID, link.Seq()))
		}
		r.at(90 * time.Second)
		synctest.Wait()
		if _, n := r.rec.counts(); n != 0 {
			t.Errorf("the handler saw %d generic_nacks", n)
		}
	})
}

// While the reader is held back by another session, silence is not the peer's.
func TestNotSilentWhileHeldBack(t *testing.T) {
	bubble(t, timed, func(r *rig) {
		release := make(chan struct{})
		r.rec.on = func(pdu.PDU) { <-release }
		r.serve()
		r.peer.SubmitSM("held back")
		r.peer.ExpectSilence(time.Hour + 500*time.Millisecond)
		close(release)
		r.peer.Expect(pdu.EnquireLink)
		r.at(time.Hour + 30*time.Second)
	})
}

// A peer that lets the window fill up is asked whether it lives, and closed
// when it does not, however many wait for room.
func TestSilentPeerWithFullWindow(t *testing.T) {
	cfg := timed
	cfg.Window = 2
	bubble(t, cfg, func(r *rig) {
		r.serve()
		r.forward(smpptest.Message(pdu.SubmitSM, 1, "a"))
		r.forward(smpptest.Message(pdu.SubmitSM, 2, "b"))
		blocked := make(chan error, 8)
		for range cap(blocked) {
			go func() {
				for {
					if err := r.Forward(smpptest.Message(pdu.SubmitSM, 3, "pressing")); err != nil {
						blocked <- err
						return
					}
				}
			}()
		}
		r.peer.Expect(pdu.SubmitSM)
		r.peer.Expect(pdu.SubmitSM)
		if seq := r.peer.Expect(pdu.EnquireLink).Seq(); seq == 1 || seq == 2 {
			t.Errorf("enquire_link has the sequence_number %d of an outstanding request", seq)
		}
		r.at(30 * time.Second)
		<-r.Done()
		r.at(90 * time.Second)
		for range cap(blocked) {
			if err := <-blocked; !errors.Is(err, ErrSilent) {
				t.Errorf("Forward = %v, want %v", err, ErrSilent)
			}
		}
	})
}

// SMPP v3.4 §7.2, response_timer.
func TestCallTimesOut(t *testing.T) {
	bubble(t, timed, func(r *rig) {
		r.serve()
		got := make(chan error, 2)
		if err := r.Call(smpptest.Message(pdu.DeliverSM, 0, "anyone?"), func(_ pdu.PDU, err error) { got <- err }); err != nil {
			t.Fatal(err)
		}
		call := r.peer.Expect(pdu.DeliverSM)
		if n := r.WindowInUse(); n != 1 {
			t.Errorf("WindowInUse = %d, want 1", n)
		}
		link := r.peer.Expect(pdu.EnquireLink)
		r.peer.Reply(link, pdu.ROK)
		if err := <-got; !errors.Is(err, ErrTimeout) {
			t.Errorf("call ended with %v, want %v", err, ErrTimeout)
		}
		r.at(60 * time.Second)
		if n := r.WindowInUse(); n != 0 {
			t.Errorf("WindowInUse = %d, want 0", n)
		}
		r.peer.Reply(call, pdu.ROK) // too late
		synctest.Wait()
		if len(got) != 0 || r.Stats.Unmatched.Load() != 1 {
			t.Errorf("late response: ended %d times more, %d unmatched, want 0 and 1", len(got), r.Stats.Unmatched.Load())
		}
	})
}

// A call that ran out of time leaves its place to who waits for it.
func TestTimedOutCallMakesRoom(t *testing.T) {
	cfg := timed
	cfg.Window = 1
	cfg.EnquireLink = time.Hour
	bubble(t, cfg, func(r *rig) {
		r.serve()
		if err := r.Call(smpptest.Message(pdu.DeliverSM, 0, "call"), func(pdu.PDU, error) {}); err != nil {
			t.Fatal(err)
		}
		waiting := async(func() error { return r.Forward(smpptest.Message(pdu.DeliverSM, 9, "waits")) })
		pending(t, "Forward", waiting)
		if err := <-waiting; err != nil {
			t.Errorf("Forward = %v", err)
		}
		r.at(60 * time.Second)
	})
}

// The slots of requests that the SMSC never answers are freed once the window
// is full and a response time has passed, and not before.
func TestExpiryWhenNeverAnswered(t *testing.T) {
	cfg := timed
	cfg.Window = 3
	cfg.EnquireLink = time.Hour
	bubble(t, cfg, func(r *rig) {
		r.serve()
		for seq := range uint32(3) {
			r.forward(smpptest.Message(pdu.SubmitSM, seq, "never answered"))
		}
		waiting := async(func() error { return r.Forward(smpptest.Message(pdu.SubmitSM, 9, "waits")) })
		if err := <-waiting; err != nil {
			t.Fatalf("Forward = %v", err)
		}
		// The marks are 10 s apart, so that age is known that exactly.
		if at := time.Since(r.start); at < 60*time.Second || at > 71*time.Second {
			t.Errorf("room after %v, want 60 s to 71 s", at)
		}
		if n := r.Stats.Expired.Load(); n != 3 {
			t.Errorf("Expired = %d, want 3", n)
		}
		if n := r.WindowInUse(); n != 1 {
			t.Errorf("WindowInUse = %d, want 1", n)
		}
		r.peer.Reply(r.peer.Expect(pdu.SubmitSM), pdu.ROK)
		synctest.Wait()
		if n := r.Stats.Unmatched.Load(); n != 1 {
			t.Errorf("Unmatched = %d, want 1: its slot is gone", n)
		}
	})
}

// Young requests outlive the expiry of old ones, and while the window has room
// no request expires at all.
func TestExpirySparesTheYoung(t *testing.T) {
	cfg := timed
	cfg.Window = 2
	cfg.EnquireLink = 24 * time.Hour
	bubble(t, cfg, func(r *rig) {
		r.serve()
		r.forward(smpptest.Message(pdu.SubmitSM, 11, "old"))
		old := r.peer.Expect(pdu.SubmitSM)
		r.peer.ExpectSilence(10 * time.Minute) // room is left: it does not expire
		r.peer.Reply(old, pdu.ROK)
		synctest.Wait()
		if _, n := r.rec.counts(); n != 1 {
			t.Fatalf("the response after ten minutes was lost")
		}
		r.forward(smpptest.Message(pdu.SubmitSM, 12, "old"))
		r.peer.Expect(pdu.SubmitSM)
		r.peer.ExpectSilence(50 * time.Second)
		r.forward(smpptest.Message(pdu.SubmitSM, 13, "young"))
		young := r.peer.Expect(pdu.SubmitSM)
		r.forward(smpptest.Message(pdu.SubmitSM, 14, "waited for the old one"))
		r.peer.Expect(pdu.SubmitSM)
		if n := r.Stats.Expired.Load(); n != 1 {
			t.Errorf("Expired = %d, want the old one", n)
		}
		r.peer.Reply(young, pdu.ROK)
		synctest.Wait()
		if _, n := r.rec.counts(); n != 2 {
			t.Error("the young one's response was lost")
		}
	})
}

// After a bind of several seconds has set the sequence just below its end, the
// marks from before do not let young requests expire.
func TestExpiryAfterSetSequence(t *testing.T) {
	cfg := timed
	cfg.Window = 4
	cfg.EnquireLink = time.Hour
	bubble(t, cfg, func(r *rig) {
		r.serve()
		r.peer.ExpectSilence(55*time.Second + time.Second/2) // between two ticks
		r.SetSequence(pdu.MaxSequence - 2)
		for seq := range uint32(4) { // the last one skips the places of the first two
			r.forward(smpptest.Message(pdu.SubmitSM, seq, "young"))
		}
		for _, want := range []uint32{pdu.MaxSequence - 1, pdu.MaxSequence, 1, 4} {
			if got := r.peer.Expect(pdu.SubmitSM).Seq(); got != want {
				t.Errorf("sequence_number %d, want %d", got, want)
			}
		}
		r.peer.ExpectSilence(59 * time.Second)
		if n := r.Stats.Expired.Load(); n != 0 {
			t.Errorf("%d requests expired before the response time", n)
		}
		r.peer.ExpectSilence(12 * time.Second)
		if n := r.Stats.Expired.Load(); n != 4 {
			t.Errorf("%d requests expired after the response time, want 4", n)
		}
	})
}
