package smpptest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"shunt/smpp/pdu"
)

// Peer is the other side of a session, driven step by step by a test: it does
// nothing that it is not told to, and answers nothing by itself. Its framing
// is its own, so that it judges that of a session. It belongs to the test's
// goroutine, on which a step that fails ends the test.
type Peer struct {
	Conn net.Conn

	t   testing.TB
	seq uint32
}

// NewPeer takes over conn and closes it at the end of the test.
func NewPeer(t testing.TB, conn net.Conn) *Peer {
	t.Cleanup(func() { _ = conn.Close() })
	return &Peer{Conn: conn, t: t}
}

// Send writes PDUs, or octets that are none, as they are and in one piece.
func (p *Peer) Send(pdus ...[]byte) {
	p.t.Helper()
	var all []byte
	for _, b := range pdus {
		all = append(all, b...)
	}
	if _, err := p.Conn.Write(all); err != nil {
		p.t.Fatalf("peer: write %d octets: %v", len(all), err)
	}
}

// Request sends a PDU that is only a header, under the next sequence_number,
// and returns that.
func (p *Peer) Request(id pdu.ID) uint32 {
	p.t.Helper()
	p.seq++
	p.Send(pdu.AppendHeader(nil, id, pdu.ROK, p.seq))
	return p.seq
}

// SubmitSM sends a submit_sm with the given text under the next
// sequence_number, and returns the PDU.
func (p *Peer) SubmitSM(text string) pdu.PDU {
	p.t.Helper()
	p.seq++
	b := Message(pdu.SubmitSM, p.seq, text)
	p.Send(b)
	return b
}

// Reply answers request with a response that is only a header.
func (p *Peer) Reply(request pdu.PDU, status pdu.Status) {
	p.t.Helper()
	p.Send(pdu.AppendHeader(nil, request.ID().Response(), status, request.Seq()))
}

// ReplyID answers request with a response that carries a message_id.
func (p *Peer) ReplyID(request pdu.PDU, status pdu.Status, messageID string) {
	p.t.Helper()
	p.Send(pdu.AppendMessageResp(nil, request.ID().Response(), status, request.Seq(), messageID))
}

// maxPeerPDU bounds what a Peer reads as one PDU.
const maxPeerPDU = 1 << 20

// Read reads one PDU.
func (p *Peer) Read() (pdu.PDU, error) {
	var head [4]byte
	if _, err := io.ReadFull(p.Conn, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < pdu.HeaderLen || n > maxPeerPDU {
		return nil, fmt.Errorf("command_length %d", n)
	}
	b := make([]byte, n)
	copy(b, head[:])
	_, err := io.ReadFull(p.Conn, b[4:])
	return b, err
}

// Expect reads one PDU, which must have that command_id.
func (p *Peer) Expect(id pdu.ID) pdu.PDU {
	p.t.Helper()
	b, err := p.Read()
	if err != nil {
		p.t.Fatalf("peer: want %s, got error %v", id, err)
	}
	if b.ID() != id {
		p.t.Fatalf("peer: want %s, got %s, status %s, sequence %d", id, b.ID(), b.Status(), b.Seq())
	}
	return b
}

// ExpectStatus reads one PDU, which must have that command_id and
// command_status.
func (p *Peer) ExpectStatus(id pdu.ID, status pdu.Status) pdu.PDU {
	p.t.Helper()
	b := p.Expect(id)
	if b.Status() != status {
		p.t.Fatalf("peer: %s: want status %s, got %s", id, status, b.Status())
	}
	return b
}

// ExpectClosed reads the end of the connection: orderly, or reset.
func (p *Peer) ExpectClosed() {
	p.t.Helper()
	b, err := p.Read()
	switch {
	case err == nil:
		p.t.Fatalf("peer: want the end, got %s, status %s, sequence %d", b.ID(), b.Status(), b.Seq())
	case !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET):
		p.t.Fatalf("peer: want the end, got error %v", err)
	}
}

// ExpectSilence checks that nothing comes for d. In a synctest bubble the time
// is exact and costs nothing.
func (p *Peer) ExpectSilence(d time.Duration) {
	p.t.Helper()
	if err := p.Conn.SetReadDeadline(time.Now().Add(d)); err != nil {
		p.t.Fatalf("peer: set deadline: %v", err)
	}
	b, err := p.Read()
	var timeout net.Error
	if err == nil {
		p.t.Fatalf("peer: want %v of silence, got %s", d, b.ID())
	} else if !errors.As(err, &timeout) || !timeout.Timeout() {
		p.t.Fatalf("peer: want %v of silence, got error %v", d, err)
	}
	_ = p.Conn.SetReadDeadline(time.Time{})
}

// Bind sends a bind request and expects its acceptance.
func (p *Peer) Bind(id pdu.ID, b pdu.Bind) pdu.PDU {
	p.t.Helper()
	p.seq++
	p.Send(b.Append(nil, id, p.seq))
	return p.ExpectStatus(id.Response(), pdu.ROK)
}

// AcceptBind expects a bind request of any of the three types and accepts it.
func (p *Peer) AcceptBind(resp pdu.BindResp) pdu.PDU {
	p.t.Helper()
	b, err := p.Read()
	if err != nil {
		p.t.Fatalf("peer: want a bind, got error %v", err)
	}
	if !b.ID().IsBind() {
		p.t.Fatalf("peer: want a bind, got %s", b.ID())
	}
	p.Send(resp.Append(nil, b.ID(), pdu.ROK, b.Seq()))
	return b
}

// Message is a whole submit_sm or deliver_sm between two numbers of the range
// that is reserved for fiction.
func Message(id pdu.ID, seq uint32, text string) pdu.PDU {
	return pdu.AppendSM(nil, id, seq, &pdu.SM{
		Source:       pdu.Address{TON: pdu.TONInternational, NPI: pdu.NPIISDN, Addr: []byte("447700900001")},
		Dest:         pdu.Address{TON: pdu.TONInternational, NPI: pdu.NPIISDN, Addr: []byte("447700900042")},
		ShortMessage: []byte(text),
	})
}
