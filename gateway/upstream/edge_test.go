package upstream

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"shunt/gateway/listen"
	"shunt/smpp"
	"shunt/smpp/pdu"
)

// listenOn opens a listener as the gateway does.
func listenOn(t testing.TB, o listen.Options) net.Listener {
	t.Helper()
	var none listen.Sockets
	l, err := none.Listen(o)
	if err != nil {
		t.Fatalf("listen on %s: %v", o.Addr, err)
	}
	return l
}

func nets(all ...string) (p []netip.Prefix) {
	for _, s := range all {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

var balancer = nets("127.0.0.1/32", "::1/128")

// header is a PROXY v2 header for a client at addr.
func header(t testing.TB, addr string) pdu.PDU {
	t.Helper()
	from := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))
	b, err := proxyproto.HeaderProxyFromAddrs(2, from, &net.TCPAddr{IP: from.IP, Port: 2775}).Format()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// connectFrom is a new connection from an address of this machine.
func (r *rig) connectFrom(local string) *peer {
	r.t.Helper()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(local), 0)), Timeout: patience}
	conn, err := d.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	return newPeer(r.t, conn)
}

// TestBehindABalancer: the client, not the balancer, is the peer of the bind,
// and the SMSC is told so in turn.
func TestBehindABalancer(t *testing.T) {
	for _, client := range []string{"192.0.2.99:40000", "[2001:db8::63]:40000"} {
		r := newRigOn(t, listenOn(t, listen.Options{Addr: "127.0.0.1:0", ProxyFrom: balancer}), newCenter(t), func(x *Proxy) { x.ProxyHeader = true })
		toSMSC := listen.New(r.smsc.l, listen.Options{ProxyFrom: balancer})
		req := pdu.PDU(bankBind.Append(nil, pdu.BindTransceiver, 7))
		esme := r.connect()
		esme.send(header(t, client), req) // in one piece
		conn, err := toSMSC.Accept()
		if err != nil {
			t.Fatal(err)
		}
		told, err := conn.(*listen.Conn).Open(time.Now().Add(patience))
		if err != nil {
			t.Fatalf("to the SMSC: %v", err)
		}
		if got := told.RemoteAddr().String(); got != client {
			t.Errorf("the SMSC is told of %s, want %s", got, client)
		}
		smsc := newPeer(t, told)
		smsc.want(req)
		smsc.send((&pdu.BindResp{SystemID: "SMSC"}).Append(nil, pdu.BindTransceiver, pdu.ROK, 7))
		esme.next()
		if got := r.bound(1)[0].Peer(); got != client {
			t.Errorf("the peer is %s, want %s", got, client)
		}
		esme.send(withSeq(sms(pdu.SubmitSM, nil), 8))
		if got := smsc.next(); got.ID() != pdu.SubmitSM {
			t.Errorf("to the SMSC: %s", show(got))
		}
	}
}

// TestHeaderFaults: a spoofed header is no PDU, one that is cut or slow costs its
// own connection, and others bind meanwhile.
func TestHeaderFaults(t *testing.T) {
	const limit = time.Second
	r := newRigOn(t, listenOn(t, listen.Options{Addr: "127.0.0.1:0", ProxyFrom: balancer}), newCenter(t), func(x *Proxy) { x.SessionInit = limit })
	start := time.Now()
	slow, cut := r.connect(), r.connect()
	slow.send(header(t, "192.0.2.1:1")[:20])
	cut.send(header(t, "192.0.2.1:1")[:20])
	_ = cut.conn.(*net.TCPConn).CloseWrite()
	cut.wantEnd()

	spoofed := r.connectFrom("127.0.0.9")
	spoofed.send(header(t, "192.0.2.1:1"))
	if got := spoofed.next(); got.ID() != pdu.GenericNack || got.Status() != pdu.RINVCMDLEN {
		t.Errorf("to a spoofed header: %s", show(got))
	}
	spoofed.wantEnd()

	old := r.connect()
	old.send(pdu.PDU("PROXY TCP4 192.0.2.1 192.0.2.2 1 2775\r\n"))
	old.wantEnd()

	direct := r.connectFrom("127.0.0.9")
	r.bindOn(direct, pdu.BindTransceiver, bankBind)
	if got := r.bound(1)[0].Peer(); got != direct.conn.LocalAddr().String() {
		t.Errorf("the peer is %s, want %s", got, direct.conn.LocalAddr())
	}
	slow.wantEnd()
	if took := time.Since(start); took < limit {
		t.Errorf("the slow one was ended after %s, want %s", took, limit)
	}
	if n := r.proxy.Counters.HeadersRefused.Load(); n != 3 {
		t.Errorf("HeadersRefused = %d, want 3", n)
	}
}

// TestIPv6: every connection, and every list of addresses.
func TestIPv6(t *testing.T) {
	r := newRigOn(t, listenOn(t, listen.Options{Addr: "[::1]:0"}), newCenterOn(t, "[::1]:0"), func(x *Proxy) {
		x.Local = func(string) netip.Addr { return netip.MustParseAddr("::1") }
		x.Account = func(id string) Account {
			return map[string]Account{
				"bank":  {Allow: nets("2001:db8::/32", "::1/128")},
				"other": {Allow: nets("2001:db8::/32", "127.0.0.0/8")},
			}[id]
		}
	})
	_, smsc := r.bind(pdu.BindTransceiver, bankBind)
	if host, _, _ := net.SplitHostPort(smsc.conn.RemoteAddr().String()); host != "::1" {
		t.Errorf("the upstream bind came from %s, want local_addr ::1", host)
	}
	esme := r.connect()
	esme.send((&pdu.Bind{SystemID: "other"}).Append(nil, pdu.BindTransceiver, 5))
	esme.wantHeader(pdu.BindTransceiverResp, pdu.RBINDFAIL, 5)

	o := newCenterOn(t, "[::1]:0")
	own := NewOwn(OwnOptions{
		SMSC: "six", Addr: o.addr(), Bind: ownBind, Log: slog.New(slog.DiscardHandler),
		SMPP: smpp.Config{Response: patience, Local: netip.MustParseAddr("::1")},
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		own.Run(ctx)
		close(ended)
	}()
	ownRig := &ownRig{t: t, own: own, smsc: o}
	center := ownRig.bind(pdu.BindTransceiver)
	ownRig.ready(1)
	_ = center.conn.Close()
	stop()
	<-ended
}

// TestAllow: from a socket of both families an IPv4 peer counts as such.
func TestAllow(t *testing.T) {
	l := listenOn(t, listen.Options{Addr: "[::]:0"})
	r := newRigOn(t, l, newCenter(t), func(x *Proxy) {
		x.Account = func(id string) Account {
			if id == "bank" {
				return Account{Allow: nets("127.0.0.2/32")}
			}
			return Account{}
		}
	})
	_, port, _ := net.SplitHostPort(r.addr)
	r.addr = "127.0.0.1:" + port
	stranger := r.connectFrom("127.0.0.3")
	stranger.send(bankBind.Append(nil, pdu.BindTransceiver, 5))
	stranger.wantHeader(pdu.BindTransceiverResp, pdu.RBINDFAIL, 5)
	r.bindOn(stranger, pdu.BindTransceiver, pdu.Bind{SystemID: "anyone"}) // on the same connection
	r.bindOn(r.connectFrom("127.0.0.2"), pdu.BindTransceiver, bankBind)
	if c := &r.proxy.Counters; c.NotAllowed.Load() != 1 || c.BindsFailed.Load() != 1 {
		t.Errorf("NotAllowed = %d, BindsFailed = %d, want 1 and 1", c.NotAllowed.Load(), c.BindsFailed.Load())
	}
}

// TestMaxBinds: one more than allowed is answered ESME_RALYBND, and there is
// room again after an end. Binds that were under way at a time are counted too.
func TestMaxBinds(t *testing.T) {
	r := newRig(t, func(x *Proxy) {
		x.Account = func(string) Account { return Account{MaxBinds: 2} }
	})
	esme, _ := r.bind(pdu.BindTransmitter, bankBind)
	first, second := r.connect(), r.connect()
	var up [2]*peer
	for i, p := range []*peer{first, second} {
		p.send(bankBind.Append(nil, pdu.BindReceiver, 7))
		up[i] = r.smsc.accept()
		up[i].next()
	}
	resp := (&pdu.BindResp{SystemID: "SMSC"}).Append(nil, pdu.BindReceiver, pdu.ROK, 7)
	up[0].send(resp)
	r.bound(2)
	up[1].send(resp)
	if got := up[1].next(); got.ID() != pdu.Unbind {
		t.Errorf("to the SMSC on the surplus bind: %s, want unbind", show(got))
	}
	var refused *peer
	for _, p := range []*peer{first, second} { // either may have been the first at the SMSC
		if got := p.next(); got.Status() == pdu.RALYBND {
			refused = p
		}
	}
	if refused == nil {
		t.Fatal("three binds are up, want two")
	}
	refused.send(bankBind.Append(nil, pdu.BindReceiver, 8)) // not even asked for
	refused.wantHeader(pdu.BindReceiverResp, pdu.RALYBND, 8)
	_, _ = r.bind(pdu.BindReceiver, pdu.Bind{SystemID: "other"})
	_ = esme.conn.Close()
	r.bound(2)
	for deadline := time.Now().Add(patience); r.proxy.binds("bank") != 1; yield() {
		if time.Now().After(deadline) {
			t.Fatalf("%d binds are counted, want 1", r.proxy.binds("bank"))
		}
	}
	r.bindOn(refused, pdu.BindReceiver, bankBind)
	if n := r.proxy.Counters.TooManyBinds.Load(); n != 2 {
		t.Errorf("TooManyBinds = %d, want 2", n)
	}
}

// TestOwnProxyHeader: Shunt's own binds begin with a LOCAL header.
func TestOwnProxyHeader(t *testing.T) {
	r := newOwnRig(t, func(o *OwnOptions) { o.ProxyHeader = true })
	conn, err := listen.New(r.smsc.l, listen.Options{ProxyFrom: balancer}).Accept()
	if err != nil {
		t.Fatal(err)
	}
	opened, err := conn.(*listen.Conn).Open(time.Now().Add(patience))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := opened.RemoteAddr().String(), conn.RemoteAddr().String(); got != want {
		t.Errorf("the SMSC is told of %s, want nothing but %s", got, want)
	}
	smsc := newPeer(t, opened)
	smsc.want(ownBind.Append(nil, pdu.BindTransceiver, 1))
	smsc.send((&pdu.BindResp{SystemID: "SMSC"}).Append(nil, pdu.BindTransceiver, pdu.ROK, 1))
	r.ready(1)
}

func tcpAddr(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
