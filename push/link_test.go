package push

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shunt/test/sim/pki"
)

// network is an HTTP/2 server behind a relay that can go dead: it then takes
// octets and passes none on, as a broken path does. Later connections live.
type network struct {
	server net.Listener
	relay  net.Listener
	work   sync.WaitGroup

	mu    sync.Mutex
	dead  chan struct{} // closed when the connections so far go dead
	conns []net.Conn
}

func newNetwork(t *testing.T, h http.Handler) (*network, *pki.CA) {
	t.Helper()
	ca, err := pki.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Server()
	if err != nil {
		t.Fatal(err)
	}
	n := &network{dead: make(chan struct{})}
	for _, ln := range []*net.Listener{&n.server, &n.relay} {
		if *ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	srv := &http.Server{
		Handler:   h,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	n.work.Go(func() { _ = srv.ServeTLS(n.server, "", "") })
	n.work.Go(n.accept)
	t.Cleanup(func() {
		_ = n.relay.Close()
		_ = srv.Close()
		n.mu.Lock()
		for _, c := range n.conns {
			_ = c.Close()
		}
		n.mu.Unlock()
		n.work.Wait()
	})
	return n, ca
}

func (n *network) accept() {
	for {
		in, err := n.relay.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", n.server.Addr().String())
		if err != nil {
			_ = in.Close()
			continue
		}
		n.mu.Lock()
		n.conns = append(n.conns, in, out)
		dead := n.dead
		n.mu.Unlock()
		n.work.Go(func() { pump(out, in, dead) })
		n.work.Go(func() { pump(in, out, dead) })
	}
}

// pump copies until either end closes; once dead, it swallows what it reads
// and keeps both ends open.
func pump(dst, src net.Conn, dead <-chan struct{}) {
	buf := make([]byte, 32<<10)
	for {
		k, err := src.Read(buf)
		if err != nil {
			_ = dst.Close()
			return
		}
		select {
		case <-dead:
		default:
			if _, err := dst.Write(buf[:k]); err != nil {
				_ = src.Close()
				return
			}
		}
	}
}

// kill makes the connections so far go dead.
func (n *network) kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.dead)
	n.dead = make(chan struct{})
}

// cut closes the connections so far.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		_ = c.Close()
	}
	n.conns = nil
}

func post(ctx context.Context, t *testing.T, l *Link, url string) error {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.RoundTrip(req)
	return err
}

// A path that goes dead gives no error: only unanswered pings tell. The
// request that meets it times out as unknown, and then the link leaves it.
func TestDeadPathIsLeft(t *testing.T) {
	var requests atomic.Int64
	n, ca := newNetwork(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	url := "https://" + n.relay.Addr().String()
	const ping = 250 * time.Millisecond
	l, err := NewLink(LinkOptions{URL: url, RootCAs: ca.Pool(), PingAfter: ping})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := post(t.Context(), t, l, url); err != nil {
		t.Fatalf("first request: %v", err)
	}
	n.kill()
	ctx, cancel := context.WithTimeout(t.Context(), ping/5)
	defer cancel()
	var lerr *LinkError
	if err := post(ctx, t, l, url); !errors.As(err, &lerr) || lerr.Code != codeTimeout || !lerr.Sent {
		t.Errorf("request on a dead path: got %v, want a time-out after it was sent", err)
	}
	// This one is sent on the dead connection too. The lost ping breaks it
	// long before its own deadline, and it is repeated on a new connection.
	begin := time.Now()
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := post(ctx, t, l, url); err != nil {
		t.Errorf("next request: %v", err)
	}
	if took := time.Since(begin); took > 40*ping {
		t.Errorf("the dead path was left after %v, pings go after %v", took, ping)
	}
	if got := requests.Load(); got != 2 {
		t.Errorf("the server saw %d requests, want 2", got)
	}
}

// A provider that accepts connections and never answers the handshake costs
// each request its own deadline and no more, and nobody more than one dial.
func TestDeadHandshakeIsNotSent(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	url := "https://" + ln.Addr().String()
	l, err := NewLink(LinkOptions{URL: url, DialTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			var lerr *LinkError
			if err := post(ctx, t, l, url); !errors.As(err, &lerr) || lerr.Code != codeUnreachable || lerr.Sent {
				t.Errorf("request without a handshake: got %v, want unreachable, not sent", err)
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil { // ends the dial, which has a minute left
		t.Error(err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("50 requests and Close took %v with a deadline of 100 ms", took)
	}
}

// A link that is warmed up has shaken hands before the first request, and one
// that worked and was lost does so again before the next: without a request.
func TestWarm(t *testing.T) {
	var requests atomic.Int64
	n, ca := newNetwork(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	url := "https://" + n.relay.Addr().String()
	l, err := NewLink(LinkOptions{URL: url, RootCAs: ca.Pool(), Connections: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	l.Warm()
	first := connected(t, l, nil)
	l.Warm() // has nothing to do
	if got := requests.Load(); got != 0 {
		t.Errorf("%d requests for warming up, want none", got)
	}
	for range 2 { // one on each connection
		if err := post(t.Context(), t, l, url); err != nil {
			t.Fatal(err)
		}
	}
	if second := connected(t, l, nil); second[0] != first[0] || second[1] != first[1] {
		t.Error("the first requests did not use the connections that were warm")
	}
	n.cut()
	connected(t, l, first)
	if got := requests.Load(); got != 2 {
		t.Errorf("%d requests, want 2: none for the new connections", got)
	}
}

// A provider that takes connections and closes them is not dialled for nothing:
// only what has worked is connected anew.
func TestWarmDoesNotRepeat(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var dials atomic.Int64
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			dials.Add(1)
			_ = c.Close()
		}
	}()
	l, err := NewLink(LinkOptions{URL: "https://" + ln.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	l.Warm()
	l.work.Wait() // the one dial
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	_ = ln.Close()
	<-accepted
	if n := dials.Load(); n != 1 {
		t.Errorf("%d dials, want 1", n)
	}
}

// A provider that cannot be reached is one line of the log, not one a connection.
func TestUnreachableIsSaidOnce(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()        // nobody listens there
	var said bytes.Buffer // read when all dials have ended
	l, err := NewLink(LinkOptions{URL: "https://" + ln.Addr().String(), Connections: 4, Logger: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	l.Warm()
	l.work.Wait()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(said.String(), "provider is unreachable"); n != 1 {
		t.Errorf("%d lines, want 1:\n%s", n, said.String())
	}
}

// connected waits until each lane of l has a connection, and another one than
// in old, and gives them.
func connected(t *testing.T, l *Link, old []*clientConn) []*clientConn {
	t.Helper()
	var all []*clientConn
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	for i, ln := range l.lanes {
		for {
			ln.mu.Lock()
			cc := ln.cur
			if ln.change == nil {
				ln.change = make(chan struct{})
			}
			change := ln.change
			ln.mu.Unlock()
			if cc != nil && (old == nil || cc != old[i]) {
				all = append(all, cc)
				break
			}
			select {
			case <-change:
			case <-deadline.C:
				t.Fatal("waited in vain for a connection")
			}
		}
	}
	return all
}

// A request that broke twice says so: nobody may send it a third time.
func TestRepeated(t *testing.T) {
	begun := make(chan struct{})
	n, ca := newNetwork(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		begun <- struct{}{}
		<-r.Context().Done()
	}))
	url := "https://" + n.relay.Addr().String()
	l, err := NewLink(LinkOptions{URL: url, RootCAs: ca.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	ended := make(chan error)
	go func() { ended <- post(context.Background(), t, l, url) }()
	for range 2 {
		<-begun
		n.cut()
	}
	var lerr *LinkError
	if err := <-ended; !errors.As(err, &lerr) || lerr.Result() != (Result{Outcome: Unknown, Reason: codeBroken, Repeated: true}) {
		t.Errorf("request that broke twice: got %v, want unknown, repeated", err)
	}
}
