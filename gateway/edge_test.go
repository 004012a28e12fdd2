package gateway

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
)

const edgeConfig = `
[[account]]
system_id = "bank"
allow = ["192.0.2.0/24"]
max_binds = 1
[[account]]
system_id = "news"
outbind = { addr = "ESME", system_id = "shunt", password_file = "own.password" }
`

// behind is a session of a client whose connection comes through a balancer.
func behind(t *testing.T, addr, client string) *smpp.Session {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	from := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client))
	if _, err := proxyproto.HeaderProxyFromAddrs(2, from, conn.RemoteAddr()).WriteTo(conn); err != nil {
		t.Fatal(err)
	}
	s := smpp.NewSession(conn, smpp.Config{Response: patience})
	t.Cleanup(func() { s.Close(nil) })
	return s
}

func status(t *testing.T, err error) pdu.Status {
	t.Helper()
	if err == nil {
		return pdu.ROK
	}
	refused, ok := err.(*smpp.BindError)
	if !ok {
		t.Fatalf("Bind() = %v, want an answer", err)
	}
	return refused.Status
}

// TestEdge: what the configuration says about who may bind holds.
func TestEdge(t *testing.T) {
	esme, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer esme.Close()
	n := newNode(t, func(text string) string {
		text = strings.Replace(text, "[intercept]", `proxy_from = ["127.0.0.1"]`+"\n[intercept]", 1)
		text = strings.Replace(text, `password_file = "own.password"`, `password_file = "own.password"
outbind = { allow = ["192.0.2.7"], system_id = "SMSC", password_file = "own.password" }`, 1)
		return text + strings.Replace(edgeConfig, "ESME", esme.Addr().String(), 1)
	}).run()

	bank := pdu.Bind{SystemID: "bank", InterfaceVersion: pdu.Version34}
	for _, c := range []struct {
		client string
		want   pdu.Status
	}{
		{"192.0.3.1:40000", pdu.RBINDFAIL}, {"192.0.2.99:40000", pdu.ROK}, {"192.0.2.98:40000", pdu.RALYBND},
	} {
		_, err := behind(t, n.addr(), c.client).Bind(t.Context(), pdu.BindTransceiver, bank)
		if got := status(t, err); got != c.want {
			t.Errorf("bind from %s: %s, want %s", c.client, got, c.want)
		}
	}
	all := (&control{n.g}).Sessions()
	if len(all) != 1 || all[0].Peer != "192.0.2.99:40000" {
		t.Errorf("sessions %+v, want one of 192.0.2.99:40000", all)
	}

	smsc := behind(t, n.addr(), "192.0.2.7:5")
	outbind := pdu.End(append(pdu.Begin(nil, pdu.Outbind, pdu.ROK, 1), "SMSC\x00secret\x00"...), 0)
	if err := smsc.Send(outbind); err != nil {
		t.Fatal(err)
	}
	smsc.Flush()
	p, err := smsc.ReadPDU(patience)
	var own pdu.Bind
	if err != nil || p.ID() != pdu.BindReceiver || own.Decode(p) != nil || own.SystemID != "shunt" {
		t.Errorf("after outbind: %v, %v, want a bind_receiver of shunt", p, err)
	}

	asked := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { asked <- n.g.proxy.Outbind(ctx, msg.Account{SystemID: "news"}) }()
	conn, err := esme.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s := smpp.NewSession(conn, smpp.Config{Response: patience})
	defer s.Close(nil)
	p, err = s.ReadPDU(patience)
	if err != nil || p.ID() != pdu.Outbind || string(p[pdu.HeaderLen:]) != "shunt\x00secret\x00" {
		t.Fatalf("to the ESME: %v, %v, want outbind", p, err)
	}
	if _, err := s.Bind(t.Context(), pdu.BindReceiver, pdu.Bind{SystemID: "news"}); err != nil {
		t.Errorf("bind after outbind: %v", err)
	}
	if err := <-asked; err != nil {
		t.Errorf("Outbind() = %v", err)
	}
}

// TestUnboundIsLimited: [limits] reach the listener.
func TestUnboundIsLimited(t *testing.T) {
	n := newNode(t, func(text string) string { return text + "[limits]\nunbound_per_source = 1\n" }).run()
	first, err := net.Dial("tcp", n.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := net.Dial("tcp", n.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	_ = second.SetReadDeadline(time.Now().Add(patience))
	if _, err := second.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("a second connection that is not bound: %v, want its end", err)
	}
}
