package smpp

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"shunt/smpp/pdu"
	"shunt/smpp/smpptest"
)

var credentials = pdu.Bind{SystemID: "esme", Password: "s3cret", InterfaceVersion: pdu.Version34}

// listen accepts one connection on loopback and hands it to serve, on a
// goroutine of its own that has ended when the test has.
func listen(t *testing.T, serve func(conn net.Conn)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		serve(conn)
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

// answer reads one PDU and answers with what reply makes of it, then reads on
// to the end.
func answer(reply func(p pdu.PDU) []byte) func(net.Conn) {
	return func(conn net.Conn) {
		buf := make([]byte, 1024)
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if _, err := conn.Write(reply(buf[:n])); err == nil {
			_, _ = io.Copy(io.Discard, conn)
		}
	}
}

func TestDial(t *testing.T) {
	for _, id := range []pdu.ID{pdu.BindTransmitter, pdu.BindReceiver, pdu.BindTransceiver} {
		for _, resp := range []pdu.BindResp{{SystemID: "smsc"}, {SystemID: "smsc", SCVersion: pdu.Version33}, {SystemID: "smsc", SCVersion: pdu.Version50}, {}} {
			addr := listen(t, answer(func(p pdu.PDU) []byte {
				var got pdu.Bind
				if err := got.Decode(p); err != nil || got != credentials || p.ID() != id || p.Seq() != 1 {
					t.Errorf("the SMSC got %v %+v, %v", p.ID(), got, err)
				}
				return resp.Append(nil, id, pdu.ROK, p.Seq())
			}))
			s, got, err := Dial(t.Context(), addr, id, credentials, Config{})
			if err != nil {
				t.Errorf("Dial = %v", err)
				continue
			}
			if got != resp {
				t.Errorf("Dial's bind_resp = %+v, want %+v", got, resp)
			}
			s.Close(nil)
		}
	}
}

// The first request after a bind has sequence_number 2.
func TestDialSequence(t *testing.T) {
	got := make(chan pdu.PDU, 1)
	addr := listen(t, func(conn net.Conn) {
		peer := &smpptest.Peer{Conn: conn}
		p, err := peer.Read()
		if err != nil {
			return
		}
		_, _ = conn.Write((&pdu.BindResp{}).Append(nil, p.ID(), pdu.ROK, p.Seq()))
		if p, err = peer.Read(); err == nil {
			got <- p
		}
		close(got)
	})
	s, _, err := Dial(t.Context(), addr, pdu.BindTransmitter, credentials, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(nil)
	if err := s.Forward(smpptest.Message(pdu.SubmitSM, 1, "first")); err != nil {
		t.Fatal(err)
	}
	s.Flush()
	if p := <-got; p == nil || p.Seq() != 2 {
		t.Errorf("the first submit_sm is % X, want sequence_number 2", []byte(p))
	}
}

func TestDialRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		reply  func(p pdu.PDU) []byte
		status pdu.Status
	}{
		{"no body", func(p pdu.PDU) []byte {
			return pdu.AppendHeader(nil, p.ID().Response(), pdu.RINVPASWD, p.Seq())
		}, pdu.RINVPASWD},
		{"empty system_id", func(p pdu.PDU) []byte {
			return pdu.AppendMessageResp(nil, p.ID().Response(), pdu.RALYBND, p.Seq(), "")
		}, pdu.RALYBND},
		{"junk body", func(p pdu.PDU) []byte {
			return pdu.End(append(pdu.Begin(nil, p.ID().Response(), pdu.RBINDFAIL, p.Seq()), "no NUL"...), 0)
		}, pdu.RBINDFAIL},
		{"generic_nack", func(p pdu.PDU) []byte {
			return pdu.AppendHeader(nil, pdu.GenericNack, pdu.RINVCMDID, p.Seq())
		}, pdu.RINVCMDID},
		{"generic_nack that says all is well", func(p pdu.PDU) []byte {
			return pdu.AppendHeader(nil, pdu.GenericNack, pdu.ROK, p.Seq())
		}, pdu.ROK},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _, err := Dial(t.Context(), listen(t, answer(c.reply)), pdu.BindTransceiver, credentials, Config{})
			var refused *BindError
			if s != nil || !errors.As(err, &refused) || refused.Status != c.status || refused.SystemID != "esme" {
				t.Fatalf("Dial = %v, %v, want a BindError with %v", s, err, c.status)
			}
			if text := err.Error(); !strings.Contains(text, `"esme"`) || strings.Contains(text, "s3cret") {
				t.Errorf("error %q", text)
			}
		})
	}
}

var errTimeout = errors.New("any time-out")

func TestDialFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	_ = l.Close()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	silent := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
	for _, c := range []struct {
		name string
		ctx  context.Context
		addr string
		want error
	}{
		{"nobody listens", t.Context(), gone, nil},
		{"cancelled before", cancelled, gone, context.Canceled},
		{"no answer", t.Context(), listen(t, silent), errTimeout},
		{"closes at once", t.Context(), listen(t, func(net.Conn) {}), nil},
		{"bad command_length", t.Context(), listen(t, answer(func(pdu.PDU) []byte { return make([]byte, 16) })), pdu.ErrLength},
	} {
		t.Run(c.name, func(t *testing.T) {
			response := 20 * time.Second // far beyond what an answer takes here
			if c.want == errTimeout {
				response = 100 * time.Millisecond
			}
			s, _, err := Dial(c.ctx, c.addr, pdu.BindTransceiver, credentials, Config{Response: response})
			var timeout net.Error
			if c.want == errTimeout && errors.As(err, &timeout) && timeout.Timeout() {
				return // the context's, or the connection's
			}
			if s != nil || err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("Dial = %v, %v, want %v", s, err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error %q", err)
			}
		})
	}
	t.Run("cancelled meanwhile", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		addr := listen(t, func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 1024))
			cancel()
			_, _ = io.Copy(io.Discard, conn)
		})
		if _, _, err := Dial(ctx, addr, pdu.BindTransceiver, credentials, Config{}); !errors.Is(err, context.Canceled) {
			t.Errorf("Dial = %v, want %v", err, context.Canceled)
		}
	})
}

// During a bind, enquire_link is answered and what does not belong there is let
// pass; the time that all of it may take is the response time.
func TestBind(t *testing.T) {
	bubble(t, timed, func(r *rig) {
		bound := async(func() error {
			_, err := r.bind(pdu.BindTransceiver, credentials)
			return err
		})
		req := r.peer.Expect(pdu.BindTransceiver)
		seq := r.peer.Request(pdu.EnquireLink)
		if got := r.peer.ExpectStatus(pdu.EnquireLinkResp, pdu.ROK).Seq(); got != seq {
			t.Errorf("enquire_link_resp has sequence_number %d, want %d", got, seq)
		}
		r.peer.Send(pdu.AppendHeader(nil, pdu.SubmitSMResp, pdu.ROK, 1))
		pending(t, "bind", bound)
		r.peer.Reply(req, pdu.ROK) // some send no body
		if err := result(t, "bind", bound); err != nil {
			t.Errorf("bind = %v", err)
		}
	})
	bubble(t, timed, func(r *rig) {
		bound := async(func() error {
			_, err := r.bind(pdu.BindReceiver, credentials)
			return err
		})
		r.peer.Expect(pdu.BindReceiver)
		for range 5 { // talks, but does not answer
			r.peer.Request(pdu.EnquireLink)
			r.peer.Expect(pdu.EnquireLinkResp)
			r.peer.ExpectSilence(11 * time.Second)
		}
		if err := <-bound; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("bind = %v, want the time-out", err)
		}
		r.at(60 * time.Second)
	})
}

func TestUnbind(t *testing.T) {
	bubble(t, timed, func(r *rig) {
		r.serve()
		r.Unbind(10 * time.Second)
		req := r.peer.Expect(pdu.Unbind)
		r.peer.SubmitSM("crossed it")
		synctest.Wait()
		if n, _ := r.rec.counts(); n != 1 {
			t.Error("a request that crossed the unbind was lost")
		}
		if err := r.Send(pdu.AppendHeader(nil, pdu.SubmitSMResp, pdu.ROK, 1)); err != nil {
			t.Fatal(err)
		}
		r.peer.Reply(req, pdu.ROK)
		r.peer.Expect(pdu.SubmitSMResp) // what was sent still goes out
		r.peer.ExpectClosed()
		r.at(0)
		<-r.ended
	})
}

func TestUnbindUnanswered(t *testing.T) {
	bubble(t, timed, func(r *rig) {
		r.serve()
		r.Unbind(10 * time.Second)
		r.peer.Expect(pdu.Unbind)
		if err := <-r.ended; !errors.Is(err, ErrUnbound) {
			t.Errorf("Serve = %v, want %v", err, ErrUnbound)
		}
		r.at(10 * time.Second)
		r.peer.ExpectClosed()
	})
}

// A full window does not keep a session from saying good-bye.
func TestUnbindWithFullWindow(t *testing.T) {
	for _, answered := range []bool{true, false} {
		cfg := timed
		cfg.Window = 1
		bubble(t, cfg, func(r *rig) {
			r.serve()
			r.forward(smpptest.Message(pdu.SubmitSM, 1, "outstanding"))
			r.peer.Expect(pdu.SubmitSM)
			r.Unbind(10 * time.Second)
			req := r.peer.Expect(pdu.Unbind)
			want := 10 * time.Second
			if answered {
				want = 0
				r.peer.Reply(req, pdu.ROK)
			}
			r.peer.ExpectClosed()
			r.at(want)
			<-r.ended
		})
	}
}

func TestUnbindClosed(t *testing.T) {
	bubble(t, timed, func(r *rig) {
		r.Close(io.ErrUnexpectedEOF)
		r.Unbind(time.Second)
		if err := r.Err(); err != io.ErrUnexpectedEOF {
			t.Errorf("Err = %v, want the first", err)
		}
		r.peer.ExpectClosed()
	})
}
