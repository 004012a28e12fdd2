package upstream

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
)

// patience bounds every wait of a test; nothing takes it but a failure.
const patience = 10 * time.Second

// peer is the far end of a connection, ESME or SMSC: it sends the octets that
// the test says and hands out the PDUs that come, as they come. It answers
// nothing by itself.
type peer struct {
	t    testing.TB
	conn net.Conn
	in   chan pdu.PDU // closed at the end of the connection
	sent atomic.Uint64
}

func newPeer(t testing.TB, conn net.Conn) *peer {
	p := &peer{t: t, conn: conn, in: make(chan pdu.PDU, 1<<12)}
	t.Cleanup(func() { _ = conn.Close() })
	go p.read()
	return p
}

func (p *peer) read() {
	defer close(p.in)
	header := make([]byte, pdu.HeaderLen)
	for {
		if _, err := io.ReadFull(p.conn, header); err != nil {
			return
		}
		b := make(pdu.PDU, pdu.PDU(header).Len())
		copy(b, header)
		if _, err := io.ReadFull(p.conn, b[pdu.HeaderLen:]); err != nil {
			return
		}
		p.in <- b
	}
}

func (p *peer) send(pdus ...pdu.PDU) {
	p.t.Helper()
	n, err := p.conn.Write(bytes.Join(octets(pdus), nil))
	if err != nil {
		p.t.Fatalf("write: %v", err)
	}
	p.sent.Add(uint64(n))
}

func octets(pdus []pdu.PDU) [][]byte {
	var all [][]byte
	for _, b := range pdus {
		all = append(all, b)
	}
	return all
}

// next is the next PDU.
func (p *peer) next() pdu.PDU {
	p.t.Helper()
	select {
	case b, ok := <-p.in:
		if !ok {
			p.t.Fatal("the connection has ended, want a PDU")
		}
		return b
	case <-time.After(patience):
		p.t.Fatal("no PDU came")
	}
	return nil
}

// want is the next PDU, which must have these octets.
func (p *peer) want(octets pdu.PDU) {
	p.t.Helper()
	if got := p.next(); !bytes.Equal(got, octets) {
		p.t.Fatalf("octets:\n got %s\nwant %s", show(got), show(octets))
	}
}

// wantHeader is the next PDU, which must have this header and no body.
func (p *peer) wantHeader(id pdu.ID, st pdu.Status, seq uint32) {
	p.t.Helper()
	p.want(pdu.AppendHeader(nil, id, st, seq))
}

// wantEnd: nothing more comes, and the connection ends.
func (p *peer) wantEnd() {
	p.t.Helper()
	select {
	case b, ok := <-p.in:
		if ok {
			p.t.Fatalf("a PDU came, want the end of the connection: %s", show(b))
		}
	case <-time.After(patience):
		p.t.Fatal("the connection has not ended")
	}
}

// wantNothing: what comes next is the answer to an enquire_link of the peer's
// own, so that nothing came before it.
func (p *peer) wantNothing() {
	p.t.Helper()
	p.send(pdu.AppendHeader(nil, pdu.EnquireLink, pdu.ROK, 0x7ABC))
	p.wantHeader(pdu.EnquireLinkResp, pdu.ROK, 0x7ABC)
}

// show is the header of a PDU, its length and the start of its body.
func show(b pdu.PDU) string {
	const most = 120
	text := slog.AnyValue(b.ID()).String()
	return text + " " + hexOf(b[:min(len(b), most)])
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var s []byte
	for i, c := range b {
		if i%4 == 0 && i > 0 {
			s = append(s, ' ')
		}
		s = append(s, digits[c>>4], digits[c&15])
	}
	return string(s)
}

// center is an SMSC: a listener whose connections the test takes.
type center struct {
	t testing.TB
	l net.Listener
}

func newCenter(t testing.TB) *center {
	t.Helper()
	return newCenterOn(t, "127.0.0.1:0")
}

func newCenterOn(t testing.TB, addr string) *center {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &center{t, l}
}

func (c *center) addr() string { return c.l.Addr().String() }

// accept takes the next connection.
func (c *center) accept() *peer {
	c.t.Helper()
	_ = c.l.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	conn, err := c.l.Accept()
	if err != nil {
		c.t.Fatalf("accept: %v", err)
	}
	return newPeer(c.t, conn)
}

// forwardAll diverts nothing.
type forwardAll struct{}

func (forwardAll) Divert(*Bind, pdu.PDU) bool { return false }

// rig is a running Proxy in front of an SMSC.
type rig struct {
	t     testing.TB
	proxy *Proxy
	smsc  *center
	addr  string
	stop  context.CancelFunc
	ended chan error
}

func newRig(t testing.TB, set func(*Proxy)) *rig {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newRigOn(t, l, newCenter(t), set)
}

func newRigOn(t testing.TB, l net.Listener, smsc *center, set func(*Proxy)) *rig {
	t.Helper()
	r := &rig{t: t, smsc: smsc, ended: make(chan error, 1)}
	r.proxy = &Proxy{
		Upstream: r.smsc.addr(), SessionInit: patience, SMPP: smpp.Config{Response: patience},
		Decider: forwardAll{}, Hub: new(Hub), Log: slog.New(slog.DiscardHandler),
	}
	if set != nil {
		set(r.proxy)
	}
	r.addr = l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.ended <- r.proxy.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		r.proxy.Close(100 * time.Millisecond)
		if err := <-r.ended; err != nil {
			t.Errorf("Serve() = %v", err)
		}
	})
	return r
}

// connect is a new connection of an ESME.
func (r *rig) connect() *peer {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	return newPeer(r.t, conn)
}

var bankBind = pdu.Bind{SystemID: "bank", Password: "s3cret", SystemType: "ota", InterfaceVersion: 0x34, AddrTON: 1, AddrNPI: 1, AddressRange: "^44"}

var bankAccount = msg.Account{SystemID: "bank", SystemType: "ota", AddressRange: "^44"}

// bind binds an ESME through the proxy, and gives both far ends.
func (r *rig) bind(id pdu.ID, b pdu.Bind) (esme, smsc *peer) {
	r.t.Helper()
	esme = r.connect()
	smsc = r.bindOn(esme, id, b)
	return esme, smsc
}

func (r *rig) bindOn(esme *peer, id pdu.ID, b pdu.Bind) (smsc *peer) {
	r.t.Helper()
	req := pdu.PDU(b.Append(nil, id, 7))
	esme.send(req)
	smsc = r.smsc.accept()
	smsc.want(req)
	resp := (&pdu.BindResp{SystemID: "SMSC", SCVersion: 0x34}).Append(nil, id, pdu.ROK, 7)
	smsc.send(resp)
	esme.want(resp)
	return smsc
}

// bound waits until n binds are up, and gives them, oldest first.
func (r *rig) bound(n int) []*Bind {
	r.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		all := r.proxy.Hub.Binds()
		if len(all) == n {
			return all
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%d binds are up, want %d", len(all), n)
		}
		yield()
	}
}

// yield lets others run, on a busy machine too.
func yield() {
	t := time.NewTimer(time.Millisecond)
	<-t.C
}
