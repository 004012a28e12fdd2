package upstream

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"shunt/smpp"
	"shunt/smpp/pdu"
)

// TestLocalAddr: the SMSC, which allow-lists by address, sees the account's own
// one, and for others that of the SMSC's configuration.
func TestLocalAddr(t *testing.T) {
	smsc, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer smsc.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &Proxy{
		Upstream: smsc.Addr().String(), SessionInit: 10 * time.Second, Hub: &Hub{}, Log: slog.New(slog.DiscardHandler),
		SMPP: smpp.Config{Local: netip.MustParseAddr("127.0.0.3")},
		Local: func(systemID string) netip.Addr {
			if systemID == "bank" {
				return netip.MustParseAddr("127.0.0.2")
			}
			return netip.Addr{}
		},
	}
	served := make(chan error, 1)
	go func() { served <- x.Serve(t.Context(), l) }()
	for id, want := range map[string]string{"bank": "127.0.0.2", "shop": "127.0.0.3"} {
		esme, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		b := pdu.Bind{SystemID: id, InterfaceVersion: pdu.Version34}
		if _, err := esme.Write(b.Append(nil, pdu.BindTransceiver, 1)); err != nil {
			t.Fatal(err)
		}
		conn, err := smsc.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if host, _, _ := net.SplitHostPort(conn.RemoteAddr().String()); host != want {
			t.Errorf("bind of %s came from %s, want %s", id, host, want)
		}
		_ = conn.Close()
		_ = esme.Close()
	}
	_ = l.Close()
	if err := <-served; err != nil {
		t.Errorf("Serve = %v", err)
	}
}
