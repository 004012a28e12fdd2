package smpp

import (
	"testing"
	"testing/synctest"
	"time"

	"shunt/smpp/pdu"
	"shunt/smpp/smpptest"
)

// TestTrap06BindVersions: a bind_resp with any sc_interface_version, and one
// without, is a bind.
func TestTrap06BindVersions(t *testing.T) {
	for _, version := range []byte{0x00, 0x33, 0x34, 0x50, 0xFF} {
		bubble(t, timed, func(r *rig) {
			bound := make(chan pdu.BindResp, 1)
			go func() {
				resp, err := r.bind(pdu.BindTransceiver, credentials)
				if err != nil {
					t.Errorf("bind = %v", err)
				}
				bound <- resp
			}()
			r.peer.AcceptBind(pdu.BindResp{SystemID: "smsc", SCVersion: version})
			if got := <-bound; got.SCVersion != version {
				t.Errorf("sc_interface_version 0x%02X, want 0x%02X", got.SCVersion, version)
			}
		})
	}
}

// TestTrap09Liveness: enquire_link is answered whatever work has piled up that a
// handler took over and never gets to; where a handler does not come back, see
// TestEnquireLinkAnsweredBeforeBlockedPDU.
func TestTrap09Liveness(t *testing.T) {
	bubble(t, timed, func(r *rig) {
		var work []pdu.PDU // what a handler takes over, and never gets to
		r.rec.on = func(p pdu.PDU) { work = append(work, p) }
		r.serve()
		for range 100 {
			r.peer.SubmitSM("work")
			seq := r.peer.Request(pdu.EnquireLink)
			if got := r.peer.Expect(pdu.EnquireLinkResp).Seq(); got != seq {
				t.Fatalf("enquire_link_resp has sequence_number %d, want %d", got, seq)
			}
		}
		r.at(0)
		if len(work) != 100 {
			t.Errorf("%d PDUs are waiting, want 100", len(work))
		}
	})
}

// TestTrap10SequenceWrap: 0x7FFFFFFF is followed by 1, and a number that is
// outstanding is not given again.
func TestTrap10SequenceWrap(t *testing.T) {
	bubble(t, Config{Window: 8, EnquireLink: time.Hour}, func(r *rig) {
		r.serve()
		send := func(orig uint32) uint32 {
			r.forward(smpptest.Message(pdu.SubmitSM, orig, "text"))
			return r.peer.Expect(pdu.SubmitSM).Seq()
		}
		for want := uint32(1); want <= 3; want++ { // stay outstanding
			if got := send(100 + want); got != want {
				t.Errorf("sequence_number %d, want %d", got, want)
			}
		}
		r.SetSequence(pdu.MaxSequence - 1)
		for i, want := range []uint32{pdu.MaxSequence, 4, 5} {
			if got := send(200 + uint32(i)); got != want {
				t.Errorf("sequence_number %#x, want %#x", got, want)
			}
		}
		for _, seq := range []uint32{2, pdu.MaxSequence, 4} {
			r.peer.Send(pdu.AppendHeader(nil, pdu.SubmitSMResp, pdu.ROK, seq))
		}
		synctest.Wait()
		var got []uint32
		for _, p := range r.rec.responses {
			got = append(got, p.Seq())
		}
		if want := []uint32{102, 200, 201}; !equalSeqs(got, want) {
			t.Errorf("responses went back as %v, want %v", got, want)
		}
	})
}

// TestTrap10UnknownCommand: inside sound framing an unknown command_id is the
// handler's to judge, and the session lives on.
func TestTrap10UnknownCommand(t *testing.T) {
	bubble(t, Config{}, func(r *rig) {
		r.rec.on = func(p pdu.PDU) {
			_ = r.Send(pdu.AppendHeader(nil, pdu.GenericNack, pdu.RINVCMDID, p.Seq()))
		}
		r.serve()
		for seq := range uint32(3) {
			r.peer.Send(pdu.End(append(pdu.Begin(nil, 0x00010200, pdu.ROK, seq), "vendor"...), 0))
			if got := r.peer.ExpectStatus(pdu.GenericNack, pdu.RINVCMDID).Seq(); got != seq {
				t.Errorf("generic_nack has sequence_number %d, want %d", got, seq)
			}
		}
	})
}

// TestTrap10Unanswered: after the connection is lost every call learns of it,
// once, and its fate stays open: the error is not a status.
func TestTrap10Unanswered(t *testing.T) {
	bubble(t, Config{}, func(r *rig) {
		r.serve()
		const calls = 5
		ended := make(chan error, 2*calls)
		for range calls {
			if err := r.Call(smpptest.Message(pdu.SubmitSM, 0, "text"), func(p pdu.PDU, err error) {
				if p != nil {
					t.Errorf("a call got % X", []byte(p))
				}
				ended <- err
			}); err != nil {
				t.Fatal(err)
			}
		}
		for range calls {
			r.peer.Expect(pdu.SubmitSM)
		}
		_ = r.peer.Conn.Close()
		<-r.ended
		if len(ended) != calls {
			t.Fatalf("%d calls ended, want %d", len(ended), calls)
		}
		for range calls {
			if err := <-ended; err == nil {
				t.Error("a call ended without an error")
			}
		}
	})
}
