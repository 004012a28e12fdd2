package upstream

import (
	"bufio"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"shunt/smpp/pdu"
)

// TestForwardingAllocatesNothing: a hundred thousand messages and their answers
// cross the proxy without an allocation a message, also where it is noted what
// the SMSC accepts. The peers allocate nothing
// either; what is left are the growing buffers at the start, the timers of a
// session and the test itself, for which a fixed number is allowed.
func TestForwardingAllocatesNothing(t *testing.T) {
	t.Run("unwatched", func(t *testing.T) { forwardingAllocatesNothing(t, nil) })
	t.Run("watched", func(t *testing.T) { forwardingAllocatesNothing(t, NewAccepted(time.Now)) })
}

func forwardingAllocatesNothing(t *testing.T, accepted *Accepted) {
	const messages, window, warmUp, allowed = 120_000, 200, 20_000, 2_000
	r := newRig(t, func(x *Proxy) { x.Hub.Attach = func(b *Bind) { b.Watch(accepted) } })
	esme, smsc := r.bind(pdu.BindTransceiver, bankBind)
	rawESME, rawSMSC := detach(t, esme), detach(t, smsc)

	// The SMSC answers whatever comes, as it comes.
	go func() {
		in, out := bufio.NewReaderSize(rawSMSC, 64<<10), bufio.NewWriterSize(rawSMSC, 64<<10)
		resp := pdu.PDU(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, 0, "0123456789abcdef"))
		p := make(pdu.PDU, 4<<10)
		for readPDU(in, p) == nil {
			resp.SetSeq(p.Seq())
			if _, err := out.Write(resp); err != nil {
				return
			}
			if in.Buffered() == 0 && out.Flush() != nil {
				return
			}
		}
	}()

	room := make(chan struct{}, window)
	measured := make(chan runtime.MemStats, 2)
	go func() { // the answers
		in, p := bufio.NewReaderSize(rawESME, 64<<10), make(pdu.PDU, 4<<10)
		for n := 1; n <= warmUp+messages; n++ {
			if readPDU(in, p) != nil || p.Status() != pdu.ROK {
				return
			}
			<-room
			if n == warmUp || n == warmUp+messages {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				measured <- m
			}
		}
	}()
	out := bufio.NewWriterSize(rawESME, 64<<10)
	p := sms(pdu.SubmitSM, withTLVs(tlv(0x1501, "vendor"), tlv(0x0204, "\x00\x01")))
	for n := range uint32(warmUp + messages) {
		select {
		case room <- struct{}{}:
		default:
			if err := out.Flush(); err != nil {
				t.Fatalf("write: %v", err)
			}
			room <- struct{}{}
		}
		p.SetSeq(n&pdu.MaxSequence + 1)
		if _, err := out.Write(p); err != nil {
			t.Fatalf("write: %v", err)
		}
	}
	if err := out.Flush(); err != nil {
		t.Fatalf("write: %v", err)
	}
	var before, after runtime.MemStats
	for _, m := range []*runtime.MemStats{&before, &after} {
		select {
		case *m = <-measured:
		case <-time.After(6 * patience):
			t.Fatal("not all messages were answered")
		}
	}
	if n := after.Mallocs - before.Mallocs; n > allowed {
		t.Errorf("%d allocations for %d messages, want at most %d in all", n, messages, allowed)
	} else {
		t.Logf("%d allocations for %d messages", n, messages)
	}
}

// detach takes a peer's connection away from its reader.
func detach(t testing.TB, p *peer) net.Conn {
	t.Helper()
	if err := p.conn.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	for range p.in { // until the reader has ended
	}
	if err := p.conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	return p.conn
}

// readPDU reads one PDU into p.
func readPDU(r io.Reader, p pdu.PDU) error {
	if _, err := io.ReadFull(r, p[:pdu.HeaderLen]); err != nil {
		return err
	}
	_, err := io.ReadFull(r, p[pdu.HeaderLen:p.Len()])
	return err
}
