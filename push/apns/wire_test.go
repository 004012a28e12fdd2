package apns

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/push"
	simapns "shunt/test/sim/apns"
	"shunt/test/sim/pki"
	"shunt/test/sim/provider"
)

// relay is an HTTP/2 server of the test's own, for what a provider never says
// and a broken middlebox does. Its one listener may outlive several servers.
type relay struct {
	sender  *Sender
	streams int    // of each environment
	key     string // its .p8 file
	handler http.Handler
	cert    tls.Certificate
	conns   chan net.Conn
	servers sync.WaitGroup

	mu  sync.Mutex
	srv *http.Server // the one that takes connections
}

func newRelay(t *testing.T, h http.Handler) *relay {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.NewCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, pki.APNsKeyFile)
	if err := pki.WriteAPNsKey(key); err != nil {
		t.Fatal(err)
	}
	r := &relay{handler: h, conns: make(chan net.Conn, 64), streams: 4, key: key}
	if r.cert, err = ca.Server(); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.servers.Go(func() {
		defer close(r.conns)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			r.conns <- c
		}
	})
	r.replace()
	t.Cleanup(func() {
		_ = ln.Close()
		_ = r.srv.Close()
		r.servers.Wait()
	})
	o := Options{MaxStreams: r.streams}
	r.sender = newSender(t, provider.Info{URL: "https://" + ln.Addr().String(), CAFile: ca.File(), KeyFile: key}, &o)
	return r
}

// replace starts a new server and shuts the old one down gracefully.
func (r *relay) replace() {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.srv
	srv := &http.Server{
		Handler:   r.handler,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{r.cert}},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	r.srv = srv
	r.servers.Go(func() { _ = srv.ServeTLS(&door{conns: r.conns, closed: make(chan struct{})}, "", "") })
	if old != nil {
		r.servers.Go(func() { _ = old.Shutdown(context.Background()) })
	}
}

// door is one server's way to the relay's connections; Shutdown closes it.
type door struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (d *door) Accept() (net.Conn, error) {
	select {
	case c, ok := <-d.conns:
		if ok {
			return c, nil
		}
	case <-d.closed:
	}
	return nil, net.ErrClosed
}

func (d *door) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

func (d *door) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func TestWire(t *testing.T) {
	type request struct {
		Method, Path string
		Header       http.Header
		Body         string
	}
	got := make(chan request, 1)
	s := newRelay(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		h := r.Header.Clone()
		if !strings.HasPrefix(h.Get("Authorization"), "bearer ey") {
			t.Errorf("authorization is %q, want a bearer JWT", h.Get("Authorization"))
		}
		for _, k := range []string{"Authorization", "User-Agent", "Content-Length", "Accept-Encoding"} {
			h.Del(k)
		}
		got <- request{r.Method, r.URL.Path, h, string(b)}
	})).sender
	n := push.Notification{ID: "s1", From: "A<CME", Token: "cafe01", Expires: time.Unix(1_900_000_000, 500), Body: "hi"}
	header := http.Header{
		"Apns-Topic": {topic}, "Apns-Push-Type": {"alert"}, "Apns-Priority": {"10"},
		"Apns-Expiration": {"1900000000"}, "Apns-Collapse-Id": {"s1"},
		"Content-Type": {"application/json; charset=utf-8"},
	}
	want := request{
		"POST", "/3/device/cafe01", header,
		`{"aps":{"alert":{"title":"A\u003cCME","body":"hi"},"sound":"default","mutable-content":1},"id":"s1","from":"A\u003cCME"}`,
	}
	if r := s.Send(t.Context(), n); r.Outcome != push.Accepted {
		t.Fatalf("Send: got %+v, want accepted", r)
	}
	if d := cmp.Diff(want, <-got); d != "" {
		t.Errorf("on the wire (-want +got):\n%s", d)
	}

	// A doorbell without a deadline is not stored: "1", never an absent header.
	for _, at := range []time.Time{{}, time.Unix(0, 0), time.Unix(-5, 0)} {
		if r := s.Send(t.Context(), push.Notification{ID: "s1", From: "X", Token: "cafe01", Expires: at}); r.Outcome != push.Accepted {
			t.Fatalf("Send: got %+v, want accepted", r)
		}
		r := <-got
		if e := r.Header.Get("apns-expiration"); e != "1" {
			t.Errorf("apns-expiration for %v: got %q, want %q", at, e, "1")
		}
		if want := `{"aps":{"alert":{"title":"X"},"sound":"default","mutable-content":1},"id":"s1","from":"X"}`; r.Body != want {
			t.Errorf("payload: got %s, want %s", r.Body, want)
		}
	}
}

func TestRepliesThatAreNotJSON(t *testing.T) {
	const page = "<html>not from Apple</html>"
	for _, tt := range []struct {
		status int
		body   string
		want   push.Result
	}{
		{200, "", push.Result{Outcome: push.Accepted}},
		{200, page, push.Result{Outcome: push.Unknown, Reason: "bad-reply"}},
		{302, page, push.Result{Outcome: push.Unknown, Reason: "http-302"}},
		{400, page, push.Result{Outcome: push.Rejected, Reason: "http-400"}},
		{403, page, push.Result{Outcome: push.Denied, Reason: "http-403"}},
		{410, page, push.Result{Outcome: push.Rejected, Reason: "http-410"}},
		{429, page, push.Result{Outcome: push.Busy, Reason: "http-429", RetryAfter: 3 * time.Second}},
		{502, page, push.Result{Outcome: push.Unknown, Reason: "http-502"}},
		{503, page, push.Result{Outcome: push.Busy, Reason: "http-503", RetryAfter: 3 * time.Second}},
		{400, `{"reason":"the token cafe is bad"}`, push.Result{Outcome: push.Rejected, Reason: "http-400"}},
		{400, strings.Repeat("x", 1<<20), push.Result{Outcome: push.Unknown, Reason: "bad-reply"}},
	} {
		var requests atomic.Int64
		s := newRelay(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			requests.Add(1)
			w.Header().Set("Location", "https://127.0.0.1:1/")
			if tt.want.RetryAfter > 0 {
				w.Header().Set("Retry-After", "3")
			}
			w.WriteHeader(tt.status)
			_, _ = io.WriteString(w, tt.body)
		})).sender
		if got := s.Send(t.Context(), note("cafe")); got != tt.want {
			t.Errorf("Send, reply %d %.20q: got %+v, want %+v", tt.status, tt.body, got, tt.want)
		}
		if n := requests.Load(); n != 1 {
			t.Errorf("Send, reply %d %.20q: %d requests, want 1", tt.status, tt.body, n)
		}
	}
}

// A server that is replaced sends GOAWAY and finishes what it has: every push
// must find the next one, and none may be handled twice.
func TestGoAwayLosesAndDoublesNothing(t *testing.T) {
	var requests atomic.Int64
	var r *relay
	r = newRelay(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if requests.Add(1)%100 == 0 {
			r.replace()
		}
	}))
	const n, workers = 1000, 20
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range n / workers {
				if got := r.sender.Send(context.Background(), note("cafe")); got.Outcome != push.Accepted {
					t.Errorf("Send: got %+v, want accepted", got)
				}
			}
		})
	}
	wg.Wait()
	if got := requests.Load(); got != n {
		t.Errorf("%d requests for %d Sends over ten servers", got, n)
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	s := start(t, simapns.Options{}, Options{})
	s.update(t, map[string]any{"rules": []provider.Rule{{Token: "stuck", Status: 0}}})
	if got := s.sender.Send(t.Context(), note("cafe")); got.Outcome != push.Accepted {
		t.Fatalf("Send: got %+v, want accepted", got)
	}
	ended := make(chan push.Result, 1)
	go func() { ended <- s.sender.Send(context.Background(), note("stuck")) }()
	waitFor(t, "the push to be under way", func() bool { return s.Stats().Frozen == 1 })
	for range 2 {
		if err := s.sender.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if got := <-ended; got.Outcome != push.Unknown {
		t.Errorf("Send under way at Close: got %+v, want unknown", got)
	}
	if got, want := s.sender.Send(t.Context(), note("cafe")), (push.Result{Outcome: push.Busy, Reason: "closed"}); got != want {
		t.Errorf("Send after Close: got %+v, want %+v", got, want)
	}
	if err := s.Close(); err != nil { // the simulator's goroutines too
		t.Fatal(err)
	}
	waitFor(t, "every goroutine of push and of HTTP/2 to end", func() bool { return goroutines() == "" })
	if n := len(tokens.m); n != 0 {
		t.Errorf("%d provider tokens are still held after Close", n)
	}
}

// goroutines are the stacks of all goroutines but the test's own that have to
// do with a push.
func goroutines() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for i, g := range bytes.Split(buf, []byte("\n\n")) {
		if i > 0 && (bytes.Contains(g, []byte("shunt/push")) && !bytes.Contains(g, []byte("testing.tRunner")) ||
			bytes.Contains(g, []byte("http2ClientConn")) || bytes.Contains(g, []byte("shunt/test/sim"))) {
			left = append(left, string(g))
		}
	}
	return strings.Join(left, "\n\n")
}

// Two apps with one key share its token: Apple counts updates for the key.
func TestTokenIsShared(t *testing.T) {
	s := start(t, simapns.Options{}, Options{})
	o := Options{}
	other := newSender(t, s.Info(), &o)
	for _, snd := range []*Sender{s.sender, other} {
		if got := snd.Send(t.Context(), note("cafe")); got.Outcome != push.Accepted {
			t.Errorf("Send: got %+v, want accepted", got)
		}
	}
	if st := s.Stats(); st.Bearers != 1 || st.Connections != 2 {
		t.Errorf("%d provider tokens on %d connections, want 1 on 2", st.Bearers, st.Connections)
	}
}
