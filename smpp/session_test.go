package smpp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"shunt/smpp/pdu"
	"shunt/smpp/smpptest"
)

// sameButSeq tells whether got is want but for its sequence_number, seq.
func sameButSeq(got, want pdu.PDU, seq uint32) bool {
	want = bytes.Clone(want)
	want.SetSeq(seq)
	return bytes.Equal(got, want)
}

// A forwarded request differs from what came in its sequence_number alone, and
// its response comes back under the original one.
func TestForwardAndResponse(t *testing.T) {
	bubble(t, Config{}, func(r *rig) {
		r.serve()
		origs := []uint32{0, 1, 77, 77, pdu.MaxSequence, 0xFFFFFFFF}
		var sent []pdu.PDU
		for _, seq := range origs {
			p := smpptest.Message(pdu.SubmitSM, seq, "text")
			before := bytes.Clone(p)
			r.forward(p)
			if !bytes.Equal(p, before) {
				t.Errorf("Forward changed its argument")
			}
			got := r.peer.Expect(pdu.SubmitSM)
			if want := uint32(len(sent) + 1); !sameButSeq(got, p, want) {
				t.Errorf("forwarded:\n got % X\nwant % X under sequence_number %d", []byte(got), []byte(p), want)
			}
			sent = append(sent, got)
		}
		for i := len(sent) - 1; i >= 0; i-- { // in any order
			r.peer.ReplyID(sent[i], pdu.ROK, "id")
		}
		synctest.Wait()
		if len(r.rec.responses) != len(origs) {
			t.Fatalf("%d responses, want %d", len(r.rec.responses), len(origs))
		}
		for i, got := range r.rec.responses {
			want := pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, origs[len(origs)-1-i], "id")
			if !bytes.Equal(got, want) {
				t.Errorf("response %d:\n got % X\nwant % X", i, []byte(got), want)
			}
		}
		if n := r.WindowInUse(); n != 0 {
			t.Errorf("WindowInUse = %d, want 0", n)
		}
	})
}

func TestDuplicateAndUnknownResponses(t *testing.T) {
	bubble(t, Config{}, func(r *rig) {
		r.serve()
		r.forward(smpptest.Message(pdu.SubmitSM, 5, "text"))
		req := r.peer.Expect(pdu.SubmitSM)
		r.peer.Reply(req, pdu.ROK)
		r.peer.Reply(req, pdu.ROK)                                        // a second time
		for _, seq := range []uint32{0, 2, pdu.MaxSequence, 0x80000001} { // to nothing
			r.peer.Send(pdu.AppendHeader(nil, pdu.SubmitSMResp, pdu.ROK, seq))
		}
		synctest.Wait()
		if _, n := r.rec.counts(); n != 1 {
			t.Errorf("the handler saw %d responses, want 1", n)
		}
		if n := r.Stats.Unmatched.Load(); n != 5 {
			t.Errorf("Unmatched = %d, want 5", n)
		}
		// What the peer sends as a request never answers one of ours.
		r.forward(smpptest.Message(pdu.SubmitSM, 6, "text"))
		seq := r.peer.Expect(pdu.SubmitSM).Seq()
		r.peer.Send(smpptest.Message(pdu.DeliverSM, seq, "same number, other direction"))
		synctest.Wait()
		if n := r.WindowInUse(); n != 1 {
			t.Errorf("WindowInUse = %d after a request of the same sequence_number, want 1", n)
		}
	})
}

func TestGenericNack(t *testing.T) {
	bubble(t, Config{}, func(r *rig) {
		r.serve()
		r.forward(smpptest.Message(pdu.SubmitSM, 500, "forwarded"))
		fwd := r.peer.Expect(pdu.SubmitSM)
		called := make(chan pdu.Status, 1)
		if err := r.Call(smpptest.Message(pdu.DeliverSM, 0, "call"), func(p pdu.PDU, err error) {
			if err != nil || p.ID() != pdu.GenericNack {
				t.Errorf("call ended with %v, %v", p, err)
				return
			}
			called <- p.Status()
		}); err != nil {
			t.Fatal(err)
		}
		call := r.peer.Expect(pdu.DeliverSM)
		nack := func(seq uint32) { r.peer.Send(pdu.AppendHeader(nil, pdu.GenericNack, pdu.RINVCMDID, seq)) }
		nack(fwd.Seq())  // answers the forwarded one
		nack(call.Seq()) // answers the call
		nack(9999)       // names what is not outstanding: dropped
		nack(0)
		if got := <-called; got != pdu.RINVCMDID {
			t.Errorf("the call's status = %v", got)
		}
		synctest.Wait()
		var seqs []uint32
		for _, p := range r.rec.responses {
			seqs = append(seqs, p.Seq())
		}
		if want := []uint32{500, 0}; !equalSeqs(seqs, want) {
			t.Errorf("the handler saw generic_nacks %v, want %v", seqs, want)
		}
		if n := r.WindowInUse(); n != 0 {
			t.Errorf("WindowInUse = %d, want 0", n)
		}
		if n := r.Stats.Unmatched.Load(); n != 1 {
			t.Errorf("Unmatched = %d, want 1", n)
		}
	})
}

func equalSeqs(a, b []uint32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestFullWindowBlocksForward(t *testing.T) {
	bubble(t, Config{Window: 2, EnquireLink: time.Hour}, func(r *rig) {
		r.serve()
		for seq := range uint32(2) {
			if err := r.Forward(smpptest.Message(pdu.SubmitSM, seq, "text")); err != nil {
				t.Fatal(err)
			}
		}
		// Nothing was flushed: who waits for room sees to that.
		waiting := async(func() error { return r.Forward(smpptest.Message(pdu.SubmitSM, 2, "third")) })
		first := r.peer.Expect(pdu.SubmitSM)
		r.peer.Expect(pdu.SubmitSM)
		pending(t, "Forward", waiting)
		if err := r.Call(smpptest.Message(pdu.SubmitSM, 0, "call"), func(pdu.PDU, error) { t.Error("done was called") }); err != ErrWindowFull {
			t.Errorf("Call = %v, want %v", err, ErrWindowFull)
		}
		if err := r.Send(pdu.AppendHeader(nil, pdu.UnbindResp, pdu.ROK, 1)); err != nil { // takes no slot
			t.Errorf("Send = %v", err)
		}
		r.Flush()
		r.peer.Expect(pdu.UnbindResp)
		r.peer.Reply(first, pdu.ROK)
		if err := result(t, "Forward", waiting); err != nil {
			t.Errorf("Forward = %v", err)
		}
		r.Flush()
		if got := r.peer.Expect(pdu.SubmitSM); got.Seq() == 2 {
			t.Errorf("sequence_number %d is still outstanding", got.Seq())
		}
		r.at(0)

		waiting = async(func() error { return r.Forward(smpptest.Message(pdu.SubmitSM, 3, "fourth")) })
		pending(t, "Forward", waiting)
		r.Close(io.ErrUnexpectedEOF)
		if err := result(t, "Forward", waiting); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("Forward into a closed session = %v", err)
		}
	})
}

// Notify gives a sequence_number and awaits nothing, whatever the window holds.
func TestNotify(t *testing.T) {
	bubble(t, Config{Window: 1}, func(r *rig) {
		r.serve()
		r.forward(smpptest.Message(pdu.SubmitSM, 5, "outstanding"))
		req := r.peer.Expect(pdu.SubmitSM)
		p := pdu.PDU(pdu.AppendHeader(nil, pdu.AlertNotification, pdu.ROK, 99))
		if err := r.Notify(p); err != nil {
			t.Fatal(err)
		}
		r.Flush()
		if got := r.peer.Expect(pdu.AlertNotification).Seq(); got == 99 || got == req.Seq() || got == 0 {
			t.Errorf("alert_notification has sequence_number %d", got)
		}
		if n := r.WindowInUse(); n != 1 {
			t.Errorf("WindowInUse = %d, want 1", n)
		}
		r.peer.Reply(req, pdu.ROK)
		synctest.Wait()
		if _, n := r.rec.counts(); n != 1 {
			t.Error("the outstanding request lost its response")
		}
	})
}

// TestBadCommandLength: generic_nack 0x02 under the sequence_number that came,
// then the end; and no memory for what the length claims.
func TestBadCommandLength(t *testing.T) {
	const seq = 0x01020304
	for _, length := range []uint32{0, 1, 15, pdu.DefaultMaxLen + 1, 1 << 24, 1 << 31, 0xFFFFFFFF} {
		for _, split := range []int{16, 4, 5, 15} { // octets in the first piece
			if length < pdu.HeaderLen && split < 16 {
				continue // a header that is not promised is not waited for
			}
			bubble(t, Config{}, func(r *rig) {
				r.serve()
				header := binary.BigEndian.AppendUint32(nil, length)
				header = append(header, pdu.AppendHeader(nil, pdu.SubmitSM, pdu.ROK, seq)[4:]...)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				r.peer.SubmitSM("a sound one before it")
				r.peer.Send(header[:split])
				synctest.Wait()
				if split < len(header) {
					r.peer.Send(header[split:])
				}
				nack := r.peer.ExpectStatus(pdu.GenericNack, pdu.RINVCMDLEN)
				if nack.Seq() != seq || nack.Len() != pdu.HeaderLen {
					t.Errorf("command_length %d in pieces of %d: generic_nack has sequence_number %#x, want %#x", length, split, nack.Seq(), seq)
				}
				r.peer.ExpectClosed()
				runtime.ReadMemStats(&after)
				if err := <-r.ended; !errors.Is(err, pdu.ErrLength) {
					t.Errorf("Serve = %v, want %v", err, pdu.ErrLength)
				}
				r.at(0)
				if n, _ := r.rec.counts(); n != 1 || r.Stats.PDUsIn.Load() != 1 {
					t.Errorf("%d requests handled, %d counted, want the sound one", n, r.Stats.PDUsIn.Load())
				}
				if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10 {
					t.Errorf("command_length %d: %d octets allocated", length, n)
				}
			})
		}
	}
}

// A length below a header's is answered at once, under 0 while its
// sequence_number is not there.
func TestShortCommandLengthIsNotWaitedFor(t *testing.T) {
	bubble(t, Config{}, func(r *rig) {
		r.serve()
		r.peer.Send([]byte{0, 0, 0, 8})
		if got := r.peer.ExpectStatus(pdu.GenericNack, pdu.RINVCMDLEN).Seq(); got != 0 {
			t.Errorf("generic_nack has sequence_number %d, want 0", got)
		}
		r.peer.ExpectClosed()
		r.at(0)
	})
}

// A claim of a large PDU, within the bound, costs its own size at most.
func TestClaimedLengthIsBounded(t *testing.T) {
	bubble(t, Config{}, func(r *rig) {
		r.serve()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r.peer.Send(binary.BigEndian.AppendUint32(nil, pdu.DefaultMaxLen))
		synctest.Wait()
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 2*pdu.DefaultMaxLen {
			t.Errorf("%d octets allocated for a claim of %d", n, pdu.DefaultMaxLen)
		}
	})
}

func TestLargePDU(t *testing.T) {
	bubble(t, Config{}, func(r *rig) {
		payload := make([]byte, 0xFFFF)
		for i := range payload {
			payload[i] = byte(i * 7)
		}
		m := pdu.SM{TLVs: pdu.AppendTLV(nil, pdu.TagMessagePayload, payload)}
		big := pdu.PDU(pdu.AppendSM(nil, pdu.SubmitSM, 3, &m))
		r.serve()
		go func() { // both ways at once
			_ = r.Forward(big)
			r.Flush()
		}()
		r.peer.Send(big, big)
		if got := r.peer.Expect(pdu.SubmitSM); !sameButSeq(got, big, 1) {
			t.Errorf("forwarded %d octets, other than the %d that came", len(got), len(big))
		}
		synctest.Wait()
		if len(r.rec.requests) != 2 || !bytes.Equal(r.rec.requests[0], big) || !bytes.Equal(r.rec.requests[1], big) {
			t.Errorf("%d requests, want two of the octets that were sent", len(r.rec.requests))
		}
	})
}

// TestChunking: however the stream is cut into reads, the same PDUs come out.
func TestChunking(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		var want [][]byte
		for i := range rapid.IntRange(1, 40).Draw(t, "PDUs") {
			size := rapid.OneOf(rapid.IntRange(0, 200), rapid.IntRange(0, 70_000-16)).Draw(t, "body")
			p := pdu.Begin(nil, pdu.SubmitSM, pdu.ROK, uint32(i+1))
			p = pdu.End(append(p, bytes.Repeat([]byte{byte(i)}, size)...), 0)
			want, stream = append(want, p), append(stream, p...)
		}
		c := &scripted{}
		piece := rapid.OneOf(rapid.IntRange(1, 20), rapid.IntRange(1, 5000), rapid.IntRange(1, 100_000))
		for rest := stream; len(rest) > 0; {
			n := min(piece.Draw(t, "piece"), len(rest))
			c.pieces, rest = append(c.pieces, rest[:n]), rest[n:]
		}
		s, rec := NewSession(c, Config{Window: 1}), &recorder{}
		if err := s.Serve(rec); err != io.EOF {
			t.Fatalf("Serve = %v, want EOF", err)
		}
		if len(rec.requests) != len(want) || s.Stats.PDUsIn.Load() != uint64(len(want)) || s.Stats.OctetsIn.Load() != uint64(len(stream)) {
			t.Fatalf("%d requests, %d counted in %d octets, want %d in %d", len(rec.requests),
				s.Stats.PDUsIn.Load(), s.Stats.OctetsIn.Load(), len(want), len(stream))
		}
		for i := range want {
			if !bytes.Equal(rec.requests[i], want[i]) {
				t.Fatalf("request %d differs", i)
			}
		}
		if n := len(s.in); n > 128<<10 {
			t.Errorf("the read buffer grew to %d octets", n)
		}
	})
}

// TestHostileStreams: a million connections that send junk. No panic, and no
// more memory than a session's own.
func TestHostileStreams(t *testing.T) {
	const streams = 1_000_000
	r := rand.New(rand.NewPCG(7, 8))
	sample := smpptest.Message(pdu.SubmitSM, 1, "text")
	var handled atomic.Uint64
	rec := &counter{n: &handled}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range streams {
		b := make([]byte, 0, 256)
		for range r.IntN(4) {
			p := bytes.Clone(sample)
			switch r.IntN(4) {
			case 0: // any command_id
				binary.BigEndian.PutUint32(p[4:], r.Uint32()&0x800001FF)
			case 1: // any octet
				p[r.IntN(len(p))] = byte(r.UintN(256))
			case 2: // cut
				p = p[:r.IntN(len(p))]
			}
			b = append(b, p...)
		}
		s := NewSession(&scripted{pieces: [][]byte{b}}, Config{Window: 4})
		if err := s.Serve(rec); err == nil {
			t.Fatalf("Serve(% X) = nil", b)
		}
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / streams; per > 32<<10 {
		t.Errorf("%d octets allocated a stream", per)
	}
	if handled.Load() < streams/2 {
		t.Errorf("only %d PDUs were handled", handled.Load())
	}
}

// counter is a Handler that counts.
type counter struct{ n *atomic.Uint64 }

func (c *counter) HandleRequest(pdu.PDU)  { c.n.Add(1) }
func (c *counter) HandleResponse(pdu.PDU) { c.n.Add(1) }
func (c *counter) HandleBatch()           {}

// HandleBatch runs once for all PDUs of one read.
func TestBatches(t *testing.T) {
	bubble(t, Config{}, func(r *rig) {
		r.serve()
		r.peer.Send(smpptest.Message(pdu.SubmitSM, 1, "a"), smpptest.Message(pdu.SubmitSM, 2, "b"), smpptest.Message(pdu.SubmitSM, 3, "c"))
		synctest.Wait()
		r.rec.mu.Lock()
		defer r.rec.mu.Unlock()
		if r.rec.batches != 2 || len(r.rec.requests) != 3 { // one before the first read
			t.Errorf("%d batches for %d requests, want 2 for 3", r.rec.batches, len(r.rec.requests))
		}
	})
}

// A session whose peer goes away ends with io.EOF, and what was sent before
// still goes out to a peer that only closed its own direction.
func TestPeerHalfCloses(t *testing.T) {
	bubble(t, Config{}, func(r *rig) {
		r.rec.on = func(p pdu.PDU) { _ = r.Send(pdu.AppendHeader(nil, p.ID().Response(), pdu.ROK, p.Seq())) }
		r.serve()
		r.peer.SubmitSM("the last one")
		if err := r.peer.Conn.(*smpptest.Conn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		r.peer.Expect(pdu.SubmitSMResp)
		r.peer.ExpectClosed()
		if err := <-r.ended; err != io.EOF {
			t.Errorf("Serve = %v, want EOF", err)
		}
		r.at(0)
	})
}

func TestPeerResets(t *testing.T) {
	bubble(t, Config{}, func(r *rig) {
		r.serve()
		ended := make(chan error, 1)
		if err := r.Call(smpptest.Message(pdu.DeliverSM, 0, "call"), func(_ pdu.PDU, err error) { ended <- err }); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.peer.Conn.(*smpptest.Conn).Reset()
		err := <-r.ended
		if err == nil || err == io.EOF {
			t.Errorf("Serve = %v, want the reset", err)
		}
		if got := <-ended; got != r.Err() || got == nil {
			t.Errorf("the call ended with %v, want %v", got, r.Err())
		}
	})
}

// ReadPDU keeps its deadline, and leaves none behind.
func TestReadPDU(t *testing.T) {
	bubble(t, timed, func(r *rig) {
		_, err := r.ReadPDU(10 * time.Second)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("ReadPDU = %v, want a time-out", err)
		}
		r.at(10 * time.Second)
		r.peer.Send(pdu.AppendHeader(nil, pdu.EnquireLink, pdu.ROK, 1), pdu.AppendHeader(nil, pdu.Unbind, pdu.ROK, 2),
			pdu.AppendHeader(nil, pdu.SubmitSM, pdu.ROK, 3))
		for i, want := range []pdu.ID{pdu.EnquireLink, pdu.Unbind} {
			p, err := r.ReadPDU(time.Second)
			if err != nil || p.ID() != want || p.Seq() != uint32(i+1) {
				t.Errorf("ReadPDU = %v, %v, want %v", p, err, want)
			}
		}
		r.serve() // takes over where ReadPDU left off
		r.peer.Expect(pdu.EnquireLink)
		if n, _ := r.rec.counts(); n != 1 {
			t.Errorf("Serve saw %d requests, want the one that had been read already", n)
		}
		r.peer.SubmitSM("long after every deadline")
		synctest.Wait()
		if n, _ := r.rec.counts(); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
}

// ReadPDU answers lost framing as Serve does.
func TestReadPDUBadLength(t *testing.T) {
	bubble(t, Config{}, func(r *rig) {
		r.peer.Send([]byte{0xFF, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 42})
		if _, err := r.ReadPDU(time.Second); !errors.Is(err, pdu.ErrLength) {
			t.Errorf("ReadPDU = %v, want %v", err, pdu.ErrLength)
		}
		if got := r.peer.ExpectStatus(pdu.GenericNack, pdu.RINVCMDLEN).Seq(); got != 42 {
			t.Errorf("generic_nack has sequence_number %d, want 42", got)
		}
	})
}

// All counters, both ways.
func TestStats(t *testing.T) {
	bubble(t, Config{}, func(r *rig) {
		r.serve()
		r.forward(smpptest.Message(pdu.SubmitSM, 1, "a"))
		r.peer.Reply(r.peer.Expect(pdu.SubmitSM), pdu.ROK)
		r.peer.Request(pdu.EnquireLink)
		r.peer.Expect(pdu.EnquireLinkResp)
		if err := r.Respond(pdu.AppendHeader(nil, pdu.DeliverSMResp, pdu.ROK, 8)); err != nil {
			t.Fatal(err)
		}
		r.peer.Expect(pdu.DeliverSMResp)
		synctest.Wait()
		if in, octets, out := r.Stats.PDUsIn.Load(), r.Stats.OctetsIn.Load(), r.Stats.PDUsOut.Load(); in != 2 || octets != 32 || out != 3 {
			t.Errorf("in %d PDUs, %d octets, out %d PDUs; want 2, 32, 3", in, octets, out)
		}
		if r.RemoteAddr().String() != "b" {
			t.Errorf("RemoteAddr = %v", r.RemoteAddr())
		}
	})
}
