package smpp

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"shunt/smpp/pdu"
	"shunt/test/sim/pki"
)

// TestConnectProxyHeader: the header is the first that goes out, in the octets of
// the PROXY protocol v2 (section 2.2), and TLS begins behind it.
func TestConnectProxyHeader(t *testing.T) {
	ca, err := pki.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	const signature = "0d0a0d0a 000d0a51 5549540a"
	for _, c := range []struct {
		name, source string
		listen       string
		want         string // behind the signature; PORT is the SMSC's
		tls          bool
	}{
		{"IPv4", "192.0.2.99:40000", "127.0.0.1:0", "21 11 000c c0000263 7f000001 9c40 PORT", false},
		{"IPv6", "[2001:db8::63]:40000", "[::1]:0", "21 21 0024 20010db8000000000000000000000063 00000000000000000000000000000001 9c40 PORT", false},
		{"IPv4 to IPv6", "192.0.2.99:40000", "[::1]:0", "21 21 0024 00000000000000000000ffffc0000263 00000000000000000000000000000001 9c40 PORT", false},
		{"nobody's", "", "127.0.0.1:0", "20 00 0000", false},
		{"TLS", "192.0.2.99:40000", "127.0.0.1:0", "21 11 000c c0000263 7f000001 9c40 PORT", true},
	} {
		l, err := net.Listen("tcp", c.listen)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		text := strings.Replace(signature+c.want, "PORT", hex.EncodeToString([]byte{byte(port >> 8), byte(port)}), 1)
		want, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan []byte, 1)
		go func() {
			defer close(got)
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			b := make([]byte, len(want)+4)
			if _, err := io.ReadFull(conn, b[:len(want)]); err != nil {
				return
			}
			if c.tls {
				conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
			}
			if _, err := io.ReadFull(conn, b[len(want):]); err != nil {
				return
			}
			got <- b
		}()
		h := &ProxyHeader{}
		if c.source != "" {
			h.Source = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.source))
		}
		var secure *tls.Config
		if c.tls {
			secure = &tls.Config{RootCAs: ca.Pool(), ServerName: "127.0.0.1"}
		}
		conn, err := Connect(t.Context(), l.Addr().String(), netip.Addr{}, secure, h)
		if err != nil {
			t.Errorf("%s: Connect() = %v", c.name, err)
			continue
		}
		if _, err := conn.Write([]byte("next")); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if b := <-got; !bytes.Equal(b, append(want, "next"...)) {
			t.Errorf("%s: sent\n% x, want\n% x", c.name, b, append(want, "next"...))
		}
		_ = conn.Close()
	}
}

// TestBindOnASession: a bind on a session that the peer opened ends with its
// context, and closes the session when it fails.
func TestBindOnASession(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer pdu.Status
		silent bool
	}{{"accepted", pdu.ROK, false}, {"refused", pdu.RINVPASWD, false}, {"no answer", 0, true}} {
		ours, theirs := net.Pipe()
		s := NewSession(ours, Config{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			b := make(pdu.PDU, 256)
			n, _ := theirs.Read(b)
			if c.silent {
				cancel()
				return
			}
			_, _ = theirs.Write(pdu.AppendHeader(nil, b[:n].ID().Response(), c.answer, b[:n].Seq()))
		}()
		_, err := s.Bind(ctx, pdu.BindReceiver, pdu.Bind{SystemID: "shunt"})
		var refused *BindError
		switch {
		case c.silent && !errors.Is(err, context.Canceled),
			!c.silent && (err == nil) != (c.answer == pdu.ROK),
			!c.silent && err != nil && !errors.As(err, &refused):
			t.Errorf("%s: Bind() = %v", c.name, err)
		}
		if err != nil {
			select {
			case <-s.Done():
			case <-time.After(10 * time.Second):
				t.Errorf("%s: the session stays open", c.name)
			}
		}
		cancel()
		s.Close(nil)
		_ = theirs.Close()
	}
}
