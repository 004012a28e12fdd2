package push

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxReply       = 64 << 10 // octets of a provider's reply that are read
	maxReplyHeader = 64 << 10 // octets of its header
	maxAttempts    = 6        // connections that one request may try; at most two of them carry it
)

// LinkOptions say where a Link leads and how wide it is.
type LinkOptions struct {
	URL         string         // scheme and host of the provider; https only
	Connections int            // connections, each opened when it is first needed; default 1
	Streams     int            // requests under way on a connection; default 100
	DialTimeout time.Duration  // connect and TLS handshake; default 2 s
	PingAfter   time.Duration  // a silent connection is pinged after this and dropped after twice this; default 2 s
	RootCAs     *x509.CertPool // nil = the system's
	Logger      *slog.Logger   // nil = slog.Default
}

// Link is an http.RoundTripper to one provider over a fixed number of HTTP/2
// connections, each with a fixed number of streams.
//
// It exists because the pools of net/http and x/net/http2 open another
// connection whenever the peer's stream limit is reached (a thousand were
// seen), which providers treat as an attack, and because their strict mode
// deadlocks (golang/go#70809). A Link never opens more than
// LinkOptions.Connections: a request waits for a stream until its context
// ends, and then fails as not sent.
//
// Safe for concurrent use. Close ends its goroutines.
type Link struct {
	host   string
	free   chan *lane // one entry for each stream of each lane; taking one is the right to send
	lanes  []*lane
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup // dials and closes under way
	gone   atomic.Bool    // no lane has connected since one failed to: the log has it
}

// NewLink makes a Link; it connects when the first request comes, or with Warm.
func NewLink(o LinkOptions) (*Link, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", o.URL, err)
	}
	if u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, fmt.Errorf("endpoint %q: want https://HOST[:PORT], credentials travel on it", o.URL)
	}
	o.defaults()
	l := &Link{host: u.Host, free: make(chan *lane, o.Connections*o.Streams)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	port := u.Port()
	if port == "" {
		port = "443"
	}
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    o.DialTimeout,
		MaxResponseHeaderBytes: maxReplyHeader,
		DisableCompression:     true,
		Protocols:              new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  o.PingAfter,
			PingTimeout:      o.PingAfter,
			WriteByteTimeout: o.PingAfter,
		},
	}
	t.Protocols.SetHTTP2(true)
	for range o.Connections {
		l.lanes = append(l.lanes, &lane{
			link: l, transport: t, addr: net.JoinHostPort(u.Hostname(), port),
			timeout: o.DialTimeout, log: o.Logger.With("endpoint", u.Host),
		})
	}
	for range o.Streams {
		for _, ln := range l.lanes {
			l.free <- ln
		}
	}
	return l, nil
}

func (o *LinkOptions) defaults() {
	if o.Connections <= 0 {
		o.Connections = 1
	}
	if o.Streams <= 0 {
		o.Streams = 100
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = 2 * time.Second
	}
	if o.PingAfter <= 0 {
		o.PingAfter = 2 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

// LinkError is why a request got no reply. Sent is false when the provider
// certainly did not see it whole.
type LinkError struct {
	Code     string // lane-full, unreachable, timeout, broken, cancelled, closed, bad-request, bad-reply
	Sent     bool
	Repeated bool // it was sent twice
	Err      error
}

func (e *LinkError) Error() string {
	if e.Err == nil {
		return e.Code
	}
	return e.Code + ": " + e.Err.Error()
}

func (e *LinkError) Unwrap() error { return e.Err }

// Result is what a failed request means: what was not sent may go another way
// at once, everything else is unknown. A caller that gave up learns nothing.
func (e *LinkError) Result() Result {
	switch {
	case e.Sent, e.Code == codeCancelled:
		return Result{Outcome: Unknown, Reason: e.Code, Repeated: e.Repeated}
	case e.Code == codeBadRequest:
		return Result{Outcome: Rejected, Reason: e.Code}
	}
	return Result{Outcome: Busy, Reason: e.Code}
}

// LaneFull is the Reason of a push that found no free stream in time.
const LaneFull = "lane-full"

const (
	codeLaneFull    = LaneFull
	codeUnreachable = "unreachable"
	codeTimeout     = "timeout"
	codeBroken      = "broken"
	codeCancelled   = "cancelled"
	codeClosed      = "closed"
	codeBadRequest  = "bad-request"
	codeBadReply    = "bad-reply"
)

// ErrClosed says that the Link was closed.
var ErrClosed = errors.New("link is closed")

var (
	errReplyTooLong = fmt.Errorf("reply is longer than %d octets", maxReply)
	errHost         = errors.New("request is for another host than the link's")
	errNoRewind     = errors.New("request body cannot be read again")
)

// RoundTrip sends req and returns the reply with its body already read, so
// that nothing is left to close. Every error is a *LinkError.
//
// A request that found its connection gone before it was sent goes to the
// next connection. One that broke after it was sent is repeated once: the
// caller's collapse id makes the repetition harmless. A time-out is final.
func (l *Link) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if req.Body != nil {
		defer func() { _ = req.Body.Close() }()
	}
	if req.URL.Host != l.host {
		return nil, &LinkError{Code: codeBadRequest, Err: errHost}
	}
	var ln *lane
	select {
	case ln = <-l.free:
	case <-l.ctx.Done():
		return nil, &LinkError{Code: codeClosed, Err: ErrClosed}
	case <-ctx.Done():
		return nil, notSent(ctx, codeLaneFull, ctx.Err())
	}
	defer func() { l.free <- ln }()

	var last *LinkError
	sent := 0
	for range maxAttempts {
		resp, lerr := ln.roundTrip(ctx, req)
		if lerr == nil {
			return resp, nil
		}
		last = lerr
		if lerr.Sent {
			sent++
		}
		last.Sent, last.Repeated = sent > 0, sent > 1
		if lerr.Code != codeBroken || sent > 1 || ctx.Err() != nil || l.ctx.Err() != nil {
			break
		}
	}
	return nil, last
}

// notSent names a context's end before the request left.
func notSent(ctx context.Context, code string, err error) *LinkError {
	if errors.Is(ctx.Err(), context.Canceled) {
		code = codeCancelled
	}
	return &LinkError{Code: code, Err: err}
}

// Warm connects what is not connected yet, in the background, so that the
// first request finds the handshake done. It tries once: a provider that is
// down is dialled again when there is something to send.
func (l *Link) Warm() {
	for _, ln := range l.lanes {
		ln.mu.Lock()
		ln.connect()
		ln.mu.Unlock()
	}
}

// Close ends every connection and waits for the Link's goroutines. Requests
// under way fail as broken. It may be called more than once.
func (l *Link) Close() error {
	l.cancel()
	for _, ln := range l.lanes {
		ln.close()
	}
	l.work.Wait()
	return nil
}

// body marks a request as sent from the first read of its body: HTTP/2 reads
// it only after the header is written, and the peer cannot act on a header
// alone.
type body struct {
	io.Reader
	sent atomic.Bool
}

func (b *body) Read(p []byte) (int, error) {
	b.sent.Store(true)
	return b.Reader.Read(p)
}

func (b *body) Close() error { return nil }

// attempt copies req for one try, with its body from the start.
func attempt(req *http.Request) (*http.Request, *body, error) {
	b := &body{Reader: http.NoBody}
	if req.GetBody != nil {
		r, err := req.GetBody()
		if err != nil {
			return nil, nil, err
		}
		b.Reader = r
	} else if req.Body != nil && req.Body != http.NoBody {
		return nil, nil, errNoRewind
	}
	r := *req
	r.Body = b
	return &r, b, nil
}

// readReply replaces the reply's body by its octets in memory.
func readReply(resp *http.Response) error {
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		return err
	}
	if len(b) > maxReply {
		return errReplyTooLong
	}
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return nil
}

// RootCAs reads the CA certificates of a PEM file; "" gives nil, which means
// the system's.
func RootCAs(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("ca_file %s: holds no PEM certificate", file)
	}
	return pool, nil
}
