package smpp

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"shunt/smpp/pdu"
	"shunt/smpp/smpptest"
)

// A peer that reads nothing: the session takes up to a bounded number of
// octets, then holds back who sends, and ends when nothing was read for the
// stall time.
func TestStalledReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const capacity = 64 << 10
		r := newRig(t, Config{WriteStall: 30 * time.Second, EnquireLink: time.Hour, Window: 1 << 20}, capacity).serve()
		p := smpptest.Message(pdu.SubmitSM, 1, "text")
		var taken atomic.Int64
		var senders []<-chan error
		for _, send := range []func(pdu.PDU) error{r.Send, r.Forward} {
			senders = append(senders, async(func() error {
				for {
					if err := send(p); err != nil {
						return err
					}
					r.Flush()
					taken.Add(int64(len(p)))
				}
			}))
		}
		synctest.Wait()
		r.at(0)
		for _, s := range senders {
			pending(t, "the sender", s)
		}
		// One buffer is being written, another has filled up meanwhile.
		if n := taken.Load(); n < maxPending || n > 2*(maxPending+1024)+capacity {
			t.Errorf("%d octets were taken, want %d to twice that", n, maxPending)
		}
		r.out.mu.Lock()
		held := cap(r.out.buf) + cap(r.out.spare) + cap(r.out.rest)
		r.out.mu.Unlock()
		if held > 2*maxPending {
			t.Errorf("the write buffer holds %d octets", held)
		}
		<-r.Done()
		if at := time.Since(r.start); at != 30*time.Second && at != 60*time.Second { // whether a piece was taken in part
			t.Errorf("closed at %v, want 30 s or 60 s", at)
		}
		for _, s := range senders {
			if err := result(t, "the sender", s); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("sender ended with %v, want the time-out", err)
			}
		}
		if err := <-r.ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Serve = %v, want the time-out", err)
		}
	})
}

// The stall time to the second: a full pipe, and one PDU behind it.
func TestWriteStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := smpptest.Message(pdu.SubmitSM, 1, "text")
		r := newRig(t, Config{WriteStall: 7 * time.Second}, len(p)).serve()
		if err := r.Respond(p); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := r.Respond(p); err != nil {
			t.Fatal(err)
		}
		if err := <-r.ended; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Serve = %v, want the time-out", err)
		}
		r.at(7 * time.Second)
	})
}

// A peer may read as slowly as it likes, as long as it reads.
func TestSlowReaderIsNotStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{WriteStall: 30 * time.Second, EnquireLink: time.Hour}, 4<<10)
		p := smpptest.Message(pdu.SubmitSM, 1, "text")
		sent := async(func() error {
			for range 3 * maxPending / len(p) {
				if err := r.Send(p); err != nil {
					return err
				}
			}
			r.Finish()
			return nil
		})
		buf := make([]byte, 4<<10)
		total := 0
		for {
			n, err := r.peer.Conn.Read(buf)
			total += n
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			wait := time.NewTimer(20 * time.Second)
			<-wait.C
		}
		if err := result(t, "the sender", sent); err != nil {
			t.Errorf("Send = %v after %v", err, time.Since(r.start))
		}
		if want := 3 * maxPending / len(p) * len(p); total != want {
			t.Errorf("%d octets arrived, want %d", total, want)
		}
		if at := time.Since(r.start); at < time.Hour {
			t.Errorf("the peer read for only %v", at)
		}
	})
}

// What one goroutine sends arrives whole and in order, also when many send,
// flush and respond at once, and Finish writes all of it before the end.
func TestFinishWritesEverything(t *testing.T) {
	const senders, each = 8, 2000
	run := func(t *testing.T, conn net.Conn, peer *smpptest.Peer) {
		s := NewSession(conn, Config{Window: senders * each})
		var wg sync.WaitGroup
		for g := range uint32(senders) {
			wg.Go(func() {
				for i := range uint32(each) {
					p := smpptest.Message(pdu.DeliverSM, g<<16|i, fmt.Sprint(g, i))
					var err error
					switch i % 3 {
					case 0:
						err = s.Send(p)
						s.Flush()
					case 1:
						err = s.Respond(p)
					case 2:
						err = s.Send(p)
					}
					if err != nil {
						t.Errorf("send: %v", err)
					}
				}
			})
		}
		go func() {
			wg.Wait()
			s.Finish()
		}()
		var next [senders]uint32
		for range senders * each {
			got := peer.Expect(pdu.DeliverSM)
			g, i := got.Seq()>>16, got.Seq()&0xFFFF
			if i != next[g] {
				t.Fatalf("sender %d: number %d came, want %d", g, i, next[g])
			}
			next[g]++
		}
		peer.ExpectClosed()
		<-s.Done()
		if !errors.Is(s.Err(), ErrClosed) {
			t.Errorf("Err = %v, want %v", s.Err(), ErrClosed)
		}
		if n := s.Stats.PDUsOut.Load(); n != senders*each {
			t.Errorf("PDUsOut = %d, want %d", n, senders*each)
		}
	}
	t.Run("pipe", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := smpptest.Pipe(10_000)
			run(t, ours, smpptest.NewPeer(t, theirs))
		})
	})
	t.Run("tcp", func(t *testing.T) {
		ours, theirs := tcpPair(t)
		_ = ours.SetWriteBuffer(4 << 10) // so that a flush is often taken in part
		run(t, ours, smpptest.NewPeer(t, theirs))
	})
}

// Finish with nothing to write, twice, and before Serve.
func TestFinishIdle(t *testing.T) {
	bubble(t, Config{}, func(r *rig) {
		r.Finish()
		r.Finish()
		r.peer.ExpectClosed()
		r.serve()
		if err := <-r.ended; !errors.Is(err, ErrClosed) {
			t.Errorf("Serve = %v, want %v", err, ErrClosed)
		}
		r.at(0)
	})
}

// Every call gets one answer, and the first Close's error, whoever closes, and
// however often; also where a call's done closes again.
func TestCloseEndsCallsOnce(t *testing.T) {
	bubble(t, Config{}, func(r *rig) {
		r.serve()
		const calls = 100
		var done [calls]atomic.Int32
		errs := make(chan error, calls)
		for i := range calls {
			err := r.Call(smpptest.Message(pdu.DeliverSM, 0, "call"), func(_ pdu.PDU, err error) {
				done[i].Add(1)
				errs <- err
				r.Close(fmt.Errorf("from call %d", i))
				if e := r.Call(pdu.AppendHeader(nil, pdu.EnquireLink, pdu.ROK, 0), func(pdu.PDU, error) {}); e == nil {
					t.Error("Call works in a closed session")
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() { r.Close(fmt.Errorf("closer %d", i)) })
		}
		wg.Wait()
		served := <-r.ended
		for i := range done {
			if n := done[i].Load(); n != 1 {
				t.Errorf("call %d ended %d times", i, n)
			}
		}
		for range calls {
			if err := <-errs; err != r.Err() || err != served {
				t.Errorf("a call ended with %v, Serve with %v, Err is %v", err, served, r.Err())
			}
		}
		for name, err := range map[string]error{
			"Send":    r.Send(smpptest.Message(pdu.DeliverSM, 1, "late")),
			"Respond": r.Respond(pdu.AppendHeader(nil, pdu.DeliverSMResp, pdu.ROK, 1)),
			"Forward": r.Forward(smpptest.Message(pdu.DeliverSM, 1, "late")),
			"Notify":  r.Notify(pdu.AppendHeader(nil, pdu.AlertNotification, pdu.ROK, 1)),
		} {
			if err != served {
				t.Errorf("%s after Close = %v, want %v", name, err, served)
			}
		}
		r.Flush()
		r.Finish()
	})
}

// Responses, time-outs and Close race for the same calls: each ends once.
func TestCallEndsOnce(t *testing.T) {
	bubble(t, timed, func(r *rig) {
		r.serve()
		const calls = 3000
		var done [calls]atomic.Int32
		go func() { // answers some, some twice, some never
			for i := 0; ; i++ {
				p, err := r.peer.Read()
				if err != nil {
					return
				}
				for range i % 3 {
					if _, err := r.peer.Conn.Write(pdu.AppendHeader(nil, p.ID().Response(), pdu.ROK, p.Seq())); err != nil {
						return
					}
				}
			}
		}()
		for i := range calls {
			if err := r.Call(smpptest.Message(pdu.DeliverSM, 0, "call"), func(pdu.PDU, error) { done[i].Add(1) }); err != nil {
				t.Fatal(err)
			}
			if i == calls/2 {
				wait := time.NewTimer(60 * time.Second) // the first half's time-out
				<-wait.C
			}
		}
		r.Close(nil)
		<-r.ended
		for i := range done {
			if n := done[i].Load(); n != 1 {
				t.Fatalf("call %d ended %d times", i, n)
			}
		}
	})
}

// A write that fails ends the session with the reason, at once, and with it
// the calls.
func TestWriteFails(t *testing.T) {
	ours, theirs := tcpPair(t)
	s := NewSession(ours, Config{})
	ended := make(chan error, 1)
	if err := s.Call(smpptest.Message(pdu.DeliverSM, 0, "call"), func(_ pdu.PDU, err error) { ended <- err }); err != nil {
		t.Fatal(err)
	}
	_ = theirs.SetLinger(0)
	_ = theirs.Close() // resets
	p := smpptest.Message(pdu.SubmitSM, 1, "text")
	for s.Send(p) == nil {
		s.Flush()
	}
	<-s.Done()
	err := s.Err()
	if err == nil || errors.Is(err, ErrClosed) {
		t.Errorf("Err = %v, want what the socket said", err)
	}
	if got := <-ended; got != err {
		t.Errorf("the call ended with %v, want %v", got, err)
	}
}

// TestNoGoroutineLeft counts goroutines around sessions that end in all ways
// that they can.
func TestNoGoroutineLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	for i := range 60 {
		func() {
			ours, theirs := tcpPair(t)
			s := NewSession(ours, Config{})
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = s.Serve(&recorder{})
			}()
			switch i % 5 {
			case 0:
				s.Close(nil)
			case 1:
				s.Finish()
			case 2:
				_ = theirs.Close()
			case 3:
				_, _ = theirs.Write([]byte{0, 0, 0, 1})
			case 4:
				s.Unbind(time.Millisecond)
			}
			<-done
			<-s.Done()
		}()
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}
