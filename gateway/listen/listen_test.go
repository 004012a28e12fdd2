package listen

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shunt/test/sim/pki"
)

// patience bounds every wait of a test; nothing takes it but a failure.
const patience = 10 * time.Second

// A PROXY protocol v2 header: signature, version and command, family and
// transport, length (https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, section 2.2).
const (
	signature = "0d0a0d0a 000d0a51 5549540a"
	v4        = signature + "21 11 000c c0000263 c6336401 9c40 0ad7"                                                 // 192.0.2.99:40000 → 198.51.100.1:2775
	v6        = signature + "21 21 0024 20010db8000000000000000000000063 20010db8000000000000000000000001 9c40 0ad7" // [2001:db8::63]:40000
	withTLV   = signature + "21 11 0012 c0000263 c6336401 9c40 0ad7 04 0003 000000"                                  // PP2_TYPE_NOOP behind the addresses
	mapped    = signature + "21 21 0024 00000000000000000000ffffc0000263 00000000000000000000ffffc6336401 9c40 0ad7" // ::ffff:192.0.2.99
	local     = signature + "20 00 0000"
	udp       = signature + "21 12 000c c0000263 c6336401 9c40 0ad7"
	unspec    = signature + "21 00 0000"
	version3  = signature + "31 11 000c c0000263 c6336401 9c40 0ad7"
	short     = signature + "21 11 0008 c0000263 c6336401"
	long      = signature + "21 11 ffff c0000263 c6336401 9c40 0ad7"
)

func octets(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// open listens for the time of the test.
func open(t testing.TB, o Options) *Listener {
	t.Helper()
	var none Sockets
	l, err := none.Listen(o)
	if err != nil {
		t.Fatalf("Listen(%+v) = %v", o, err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// pair is both ends of a new connection.
func pair(t testing.TB, l *Listener) (client *net.TCPConn, server net.Conn) {
	t.Helper()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return conn.(*net.TCPConn), server
}

func write(t testing.TB, w io.Writer, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
}

func TestProxyHeader(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l := open(t, Options{Addr: addr, ProxyFrom: loopback})
		for _, c := range []struct{ name, header, peer string }{
			{"IPv4", v4, "192.0.2.99:40000"},
			{"IPv6", v6, "[2001:db8::63]:40000"},
			{"TLV", withTLV, "192.0.2.99:40000"},
			{"IPv4 in IPv6", mapped, "192.0.2.99:40000"},
			{"LOCAL", local, ""},
		} {
			client, server := pair(t, l)
			write(t, client, append(octets(t, c.header), "the first PDU"...))
			if server.RemoteAddr().String() != client.LocalAddr().String() {
				t.Errorf("%s: before the header the peer is %s, want the balancer", c.name, server.RemoteAddr())
			}
			got, err := server.(*Conn).Open(time.Now().Add(patience))
			if err != nil {
				t.Errorf("%s: Open() = %v", c.name, err)
				continue
			}
			want := c.peer
			if want == "" {
				want = client.LocalAddr().String()
			}
			if peer := got.RemoteAddr().String(); peer != want {
				t.Errorf("%s: the peer is %s, want %s", c.name, peer, want)
			}
			b := make([]byte, 64)
			if n, err := got.Read(b); string(b[:n]) != "the first PDU" {
				t.Errorf("%s: behind the header: %q, %v", c.name, b[:n], err)
			}
		}
	}
}

func TestProxyHeaderRefused(t *testing.T) {
	l := open(t, Options{Addr: "127.0.0.1:0", ProxyFrom: loopback})
	for _, c := range []struct {
		name  string
		sent  []byte
		close bool
		want  error
	}{
		{"a bind instead", octets(t, "00000021 00000009 00000000 00000001 62616e6b00"), false, errNoHeader},
		{"version 1", []byte("PROXY TCP4 192.0.2.99 198.51.100.1 40000 2775\r\n"), false, errNoHeader},
		{"version 3", octets(t, version3), false, nil},
		{"UDP", octets(t, udp), false, errTransport},
		{"PROXY of no family", octets(t, unspec), false, nil},
		{"no room for the addresses", octets(t, short), false, nil},
		{"too long", octets(t, long), false, nil},
		{"cut in the signature", octets(t, v4)[:7], true, io.ErrUnexpectedEOF},
		{"cut in the addresses", octets(t, v4)[:20], true, io.ErrUnexpectedEOF},
		{"cut before the addresses", octets(t, v4)[:16], true, io.ErrUnexpectedEOF},
		{"slow", octets(t, v4)[:20], false, os.ErrDeadlineExceeded},
		{"silent", nil, false, os.ErrDeadlineExceeded},
		{"gone at once", nil, true, io.EOF},
	} {
		client, server := pair(t, l)
		write(t, client, c.sent)
		if c.close {
			_ = client.CloseWrite()
		}
		deadline := time.Now().Add(patience)
		if errors.Is(c.want, os.ErrDeadlineExceeded) {
			deadline = time.Now().Add(20 * time.Millisecond)
		}
		_, err := server.(*Conn).Open(deadline)
		var header *HeaderError
		if isEOF := c.want == io.EOF; err == nil || isEOF != (err == io.EOF) || !isEOF && !errors.As(err, &header) {
			t.Errorf("%s: Open() = %v, want a HeaderError", c.name, err)
		}
		if c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: Open() = %v, want %v", c.name, err, c.want)
		}
	}
}

// TestNotABalancer: whoever is not listed is what it says it is not, and its
// header is read as a PDU by whoever reads it.
func TestNotABalancer(t *testing.T) {
	for _, from := range [][]netip.Prefix{nil, {netip.MustParsePrefix("192.0.2.0/24")}, {netip.MustParsePrefix("::/0")}} {
		l := open(t, Options{Addr: "127.0.0.1:0", ProxyFrom: from})
		client, server := pair(t, l)
		write(t, client, octets(t, v4))
		if _, listed := server.(*Conn); listed {
			t.Errorf("proxy_from %v: 127.0.0.1 counts as a balancer", from)
		}
		b := make([]byte, 64)
		if n, err := server.Read(b); !bytes.Equal(b[:n], octets(t, v4)) {
			t.Errorf("proxy_from %v: read % x, %v, want the header as it came", from, b[:n], err)
		}
	}
	both := open(t, Options{Addr: "[::]:0", ProxyFrom: loopback})
	_, port, _ := net.SplitHostPort(both.Addr().String())
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	server, err := both.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, listed := server.(*Conn); !listed {
		t.Errorf("%s on a socket of both families is not in %v", server.RemoteAddr(), loopback)
	}
}

// TestProxyHeaderAndTLS: TLS begins behind the header, and its handshake holds
// up nobody.
func TestProxyHeaderAndTLS(t *testing.T) {
	ca, err := pki.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, Options{Addr: "127.0.0.1:0", ProxyFrom: loopback, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}})
	_, _ = pair(t, l) // says nothing
	client, server := pair(t, l)
	write(t, client, octets(t, v6))
	sent := make(chan error, 1)
	go func() {
		_, err := tls.Client(client, &tls.Config{RootCAs: ca.Pool(), ServerName: "127.0.0.1"}).Write([]byte("secret"))
		sent <- err
	}()
	got, err := server.(*Conn).Open(time.Now().Add(patience))
	if err != nil {
		t.Fatalf("Open() = %v", err)
	}
	if peer := got.RemoteAddr().String(); peer != "[2001:db8::63]:40000" {
		t.Errorf("the peer is %s", peer)
	}
	b := make([]byte, 64)
	if n, err := got.Read(b); string(b[:n]) != "secret" {
		t.Errorf("over TLS: %q, %v", b[:n], err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestReusePort(t *testing.T) {
	first := open(t, Options{Addr: "127.0.0.1:0", ReusePort: true})
	addr := first.Addr().String()
	second := open(t, Options{Addr: addr, ReusePort: true})
	if got := second.Addr().String(); got != addr {
		t.Errorf("the second listens on %s, want %s", got, addr)
	}
	var none Sockets
	if l, err := none.Listen(Options{Addr: addr}); err == nil {
		t.Errorf("%s was taken without reuse_port", addr)
		_ = l.Close()
	}
}

// fileOf is a socket as the service manager hands it over.
func fileOf(t *testing.T, network, addr string) (*os.File, net.Addr) {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	return f, l.Addr()
}

func TestInherited(t *testing.T) {
	f, a := fileOf(t, "tcp", "127.0.0.1:0")
	g, b := fileOf(t, "tcp", "[::1]:0")
	s, err := take([]*os.File{f, g})
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.Listen(Options{Addr: b.String()})
	if err != nil {
		t.Fatalf("Listen(%s) = %v: it was handed over", b, err)
	}
	defer l.Close()
	_, _ = pair(t, l)
	if err := s.Unused(); err == nil || !strings.Contains(err.Error(), a.String()) || strings.Contains(err.Error(), b.String()) {
		t.Errorf("Unused() = %v, want one that names %s alone", err, a)
	}
	other, err := s.Listen(Options{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if other.Addr().String() == a.String() {
		t.Errorf("port 0 took the socket %s", a)
	}
	s.Close()
	if err := s.Unused(); err != nil {
		t.Errorf("Unused() = %v after Close", err)
	}
}

// What was handed over can be listened on again after it was closed.
func TestInheritedAgain(t *testing.T) {
	f, a := fileOf(t, "tcp", "127.0.0.1:0")
	for range 2 {
		s, err := take([]*os.File{f})
		if err != nil {
			t.Fatal(err)
		}
		l, err := s.Listen(Options{Addr: a.String()})
		if err != nil {
			t.Fatalf("Listen(%s) = %v: it was handed over", a, err)
		}
		_, _ = pair(t, l)
		_ = l.Close()
		s.Close()
	}
}

func TestInheritedUnfit(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := take([]*os.File{r}); err == nil || !strings.Contains(err.Error(), "socket") {
		t.Errorf("a pipe: %v, want it refused", err)
	}
	path := t.TempDir() + "/s"
	f, _ := fileOf(t, "unix", path)
	s, err := take([]*os.File{f})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unused(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Unused() = %v, want it to name %s", err, path)
	}
	s.Close()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the service manager's path is gone: %v", err)
	}
}

func TestSame(t *testing.T) {
	for _, c := range []struct {
		addr, of string
		want     bool
	}{
		{"127.0.0.1:2775", "127.0.0.1:2775", true},
		{"localhost:2775", "127.0.0.1:2775", true},
		{"127.0.0.1:2775", "127.0.0.1:2776", false},
		{"127.0.0.1:2775", "127.0.0.2:2775", false},
		{"0.0.0.0:2775", "0.0.0.0:2775", true},
		{"0.0.0.0:2775", "[::]:2775", false},
		{"[::]:2775", "[::]:2775", true},
		{":2775", "[::]:2775", true},
		{":2775", "0.0.0.0:2775", true},
		{":2775", "127.0.0.1:2775", false},
		{"[2001:db8:0::1]:2775", "[2001:db8::1]:2775", true},
	} {
		of := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.of))
		if got := same(c.addr, of); got != c.want {
			t.Errorf("same(%q, %s) = %t, want %t", c.addr, c.of, got, c.want)
		}
	}
	if same("127.0.0.1:1", &net.UnixAddr{Name: "/s"}) {
		t.Error("a unix socket is a TCP address")
	}
}

// TestSetTLS: connections that are up stay with the certificate they began with,
// and the next one gets the new one, or none.
func TestSetTLS(t *testing.T) {
	first, second := serverCert(t), serverCert(t)
	l, err := (&Sockets{}).Listen(Options{Addr: "127.0.0.1:0", TLS: &tls.Config{Certificates: []tls.Certificate{first}}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn) }()
		}
	}()
	dial := func(want tls.Certificate) *tls.Conn {
		t.Helper()
		conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.ConnectionState().PeerCertificates[0].Raw; !bytes.Equal(got, want.Certificate[0]) {
			t.Error("another certificate than the one in use")
		}
		return conn
	}
	echo := func(conn net.Conn) {
		t.Helper()
		if _, err := conn.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4)
		if _, err := io.ReadFull(conn, b); err != nil || string(b) != "ping" {
			t.Errorf("%q, %v came back", b, err)
		}
	}
	old := dial(first)
	defer old.Close()
	echo(old)
	l.SetTLS(&tls.Config{Certificates: []tls.Certificate{second}})
	next := dial(second)
	defer next.Close()
	echo(next)
	echo(old)
	l.SetTLS(nil)
	plain, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	echo(plain)
	echo(old)
}

func serverCert(t *testing.T) tls.Certificate {
	t.Helper()
	ca, err := pki.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// TestNamed: a socket is found by the name that its unit gives it, once, and the
// others are left.
func TestNamed(t *testing.T) {
	var files []*os.File
	for _, name := range []string{"smpp", "api"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.Dup(int(f.Fd()))
		_ = f.Close()
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, os.NewFile(uintptr(fd), name))
	}
	s, err := take(files)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l, ok := s.Named("api")
	if !ok {
		t.Fatal("no socket named api")
	}
	defer l.Close()
	if _, ok := s.Named("api"); ok {
		t.Error("the socket named api is there twice")
	}
	if err := s.Unused(); err == nil || !strings.Contains(err.Error(), "(smpp)") || strings.Contains(err.Error(), "(api)") {
		t.Errorf("Unused() = %v, want the socket named smpp alone", err)
	}
}
