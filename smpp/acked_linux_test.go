package smpp

import (
	"io"
	"net"
	"testing"
	"time"

	"shunt/smpp/pdu"
)

// What the peer's system acknowledged is known after the end, and what it never
// got too.
func TestReceived(t *testing.T) {
	there, here := tcpPair(t)
	s := NewSession(here, Config{})
	resp := pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, 1, "id")
	first, err := s.RespondAt(resp)
	if err != nil || first != uint64(len(resp)) {
		t.Fatalf("RespondAt = %d, %v; want %d", first, err, len(resp))
	}
	if _, err := io.ReadFull(there, make([]byte, len(resp))); err != nil {
		t.Fatal(err)
	}
	if s.Received(first) {
		t.Error("Received while the session is up = true, want false: nobody looked")
	}
	// The peer goes, without a word; what is sent now reaches nobody.
	if err := there.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := there.Close(); err != nil {
		t.Fatal(err)
	}
	second, _ := s.RespondAt(resp)
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		s.Close(nil)
	}
	s.Close(nil)
	if !s.Received(first) || s.Received(second) {
		t.Errorf("Received(%d), (%d) = %t, %t; want true, false", first, second, s.Received(first), s.Received(second))
	}
}

func TestReceivedIsUnknownOnOtherConnections(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	s := NewSession(a, Config{})
	go func() { _, _ = io.Copy(io.Discard, b) }()
	end, err := s.RespondAt(pdu.AppendHeader(nil, pdu.SubmitSMResp, pdu.ROK, 1))
	if err != nil {
		t.Fatal(err)
	}
	s.Finish()
	<-s.Done()
	if s.Received(end) {
		t.Error("Received over a pipe = true, want false")
	}
}
