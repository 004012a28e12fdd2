// Package provider is what the simulated push providers have in common: the
// TLS and control listeners, live rules, counters and the stream of pushes.
package provider

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"shunt/test/sim/pki"
)

const (
	maxControlBody = 1 << 20
	maxHeader      = 64 << 10
	maxFaults      = 64 // distinct names that the counters hold
)

// Options are those of both simulators.
type Options struct {
	Listen     string // TLS address; default 127.0.0.1:0
	Control    string // loopback address of the plain control listener; default 127.0.0.1:0
	PKI        string // directory of the CA and the keys, made if missing; required
	MaxStreams int    // HTTP/2 streams on a connection; 0 = net/http's default
	Seed       uint64 // of the rates' dice
	Behaviour  Behaviour
}

// Stats are the counters that GET /stats shows.
type Stats struct {
	Requests    int64            `json:"requests"` // pushes, well-formed or not
	Accepted    int64            `json:"accepted"`
	Refused     map[string]int64 `json:"refused"`          // by the rules, the rates and the checks: reason → pushes
	Faults      map[string]int64 `json:"faults"`           // what the checks found wrong: name → times
	Frozen      int64            `json:"frozen"`           // pushes left without an answer
	Connections int64            `json:"connections"`      // opened in all
	Open        int64            `json:"open_connections"` // now
	Streams     int64            `json:"streams"`          // pushes under way now
	PeakStreams int64            `json:"peak_streams"`
	Bearers     int64            `json:"bearers"`                 // distinct provider or OAuth tokens seen
	TokenGrants int64            `json:"token_grants,omitempty"`  // FCM: OAuth tokens given
	TokenFaults int64            `json:"token_refused,omitempty"` // FCM: OAuth grants refused
	Subscribers int              `json:"subscribers"`
	Dropped     int              `json:"dropped_subscribers"`
}

// Bench serves one simulated provider. Counters are guarded by mu; listeners
// and the servers' goroutines end with Close.
type Bench struct {
	opts  Options
	ca    *pki.CA
	rules *behaviour
	hub   hub

	tls, control     *http.Server
	tlsLn, controlLn net.Listener
	ctx              context.Context
	cancel           context.CancelFunc
	serving          sync.WaitGroup
	conns, open      atomic.Int64
	connMu           sync.Mutex
	live             map[net.Conn]bool
	mu               sync.Mutex
	stats            Stats
}

// NewBench opens the CA and both listeners, so that the addresses are known;
// Serve starts them.
func NewBench(o Options) (*Bench, error) {
	if o.PKI == "" {
		return nil, errors.New("pki directory is missing")
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Control == "" {
		o.Control = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(o.Control)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("control %q: want a loopback address, it has no authentication", o.Control)
	}
	b := &Bench{opts: o, live: make(map[net.Conn]bool)}
	b.stats.Refused, b.stats.Faults = make(map[string]int64), make(map[string]int64)
	if b.rules, err = newBehaviour(o.Behaviour, o.Seed); err != nil {
		return nil, err
	}
	if b.ca, err = pki.NewCA(o.PKI); err != nil {
		return nil, err
	}
	if b.tlsLn, err = net.Listen("tcp", o.Listen); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if b.controlLn, err = net.Listen("tcp", o.Control); err != nil {
		_ = b.tlsLn.Close()
		return nil, fmt.Errorf("control: %w", err)
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b, nil
}

// CA is the simulator's CA.
func (b *Bench) CA() *pki.CA { return b.ca }

// Addr is the TLS listener's address.
func (b *Bench) Addr() string { return b.tlsLn.Addr().String() }

// ControlAddr is the control listener's address.
func (b *Bench) ControlAddr() string { return b.controlLn.Addr().String() }

// Serve starts both listeners; the simulator ends with ctx or with Close.
func (b *Bench) Serve(ctx context.Context, api http.Handler) error {
	host, _, err := net.SplitHostPort(b.Addr())
	if err != nil {
		return err
	}
	cert, err := b.ca.Server(host)
	if err != nil {
		return err
	}
	quiet := log.New(io.Discard, "", 0) // a client's broken connection is no news
	b.tls = &http.Server{
		Handler:           api,
		ErrorLog:          quiet,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    maxHeader,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: b.opts.MaxStreams},
		BaseContext:       func(net.Listener) context.Context { return b.ctx },
		ConnState:         b.connState,
	}
	b.control = &http.Server{
		Handler:           b.controlMux(),
		ErrorLog:          quiet,
		ReadHeaderTimeout: 10 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return b.ctx },
	}
	b.serving.Go(func() { _ = b.tls.ServeTLS(b.tlsLn, "", "") })
	b.serving.Go(func() { _ = b.control.Serve(b.controlLn) })
	b.serving.Go(func() {
		select {
		case <-ctx.Done():
			b.shutdown()
		case <-b.ctx.Done():
		}
	})
	return nil
}

// shutdown ends everything at once: a provider gives no notice either.
func (b *Bench) shutdown() {
	b.cancel()
	if b.tls != nil {
		_ = b.tls.Close()
		_ = b.control.Close()
	}
	_ = b.tlsLn.Close()
	_ = b.controlLn.Close()
}

// Close ends the simulator and waits for its listeners. It may be called more
// than once.
func (b *Bench) Close() error {
	b.shutdown()
	b.serving.Wait()
	return nil
}

// Done is closed when the simulator ends.
func (b *Bench) Done() <-chan struct{} { return b.ctx.Done() }

func (b *Bench) connState(c net.Conn, s http.ConnState) {
	b.connMu.Lock()
	defer b.connMu.Unlock()
	switch s {
	case http.StateNew:
		b.conns.Add(1)
		b.open.Add(1)
		b.live[c] = true
	case http.StateClosed, http.StateHijacked:
		b.open.Add(-1)
		delete(b.live, c)
	}
}

// Disconnect cuts every provider connection without a word.
func (b *Bench) Disconnect() {
	b.connMu.Lock()
	live := maps.Clone(b.live)
	b.connMu.Unlock()
	for c := range live {
		_ = c.Close()
	}
}

// Update lays a JSON object of Behaviour's members over the current one.
func (b *Bench) Update(patch []byte) (Behaviour, error) { return b.rules.update(patch) }

// Stats is a copy of the counters.
func (b *Bench) Stats() Stats {
	b.mu.Lock()
	s := b.stats
	s.Refused, s.Faults = maps.Clone(s.Refused), maps.Clone(s.Faults)
	b.mu.Unlock()
	s.Connections, s.Open = b.conns.Load(), b.open.Load()
	s.Subscribers, s.Dropped = b.hub.counts()
	return s
}

// Begin counts a push that comes in; the caller defers what it returns.
func (b *Bench) Begin() (end func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.Requests++
	b.stats.Streams++
	b.stats.PeakStreams = max(b.stats.PeakStreams, b.stats.Streams)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.stats.Streams--
	}
}

// Count changes the counters under their lock.
func (b *Bench) Count(f func(*Stats)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(&b.stats)
}

// Fault counts what a check found wrong.
func (b *Bench) Fault(name string) {
	b.Count(func(s *Stats) { bump(s.Faults, name) })
}

// Refused counts a push that gets a refusal.
func (b *Bench) Refused(reason string) {
	b.Count(func(s *Stats) { bump(s.Refused, reason) })
}

func bump(m map[string]int64, name string) {
	if _, ok := m[name]; !ok && len(m) >= maxFaults {
		name = "other"
	}
	m[name]++
}

// Judge waits as long as the rules want and tells what to do with a push to
// token. A frozen push waits here until its client leaves; ok is then false
// and nothing is to be answered.
func (b *Bench) Judge(ctx context.Context, token string) (v Verdict, ok bool) {
	v = b.rules.judge(token)
	if v.Freeze {
		b.Count(func(s *Stats) { s.Frozen++ })
		<-ctx.Done()
		return v, false
	}
	if v.Latency > 0 {
		t := time.NewTimer(v.Latency)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return v, false
		}
	}
	return v, true
}

// AwaitTokenEndpoint waits while the token endpoint is frozen; false means
// that the client left.
func (b *Bench) AwaitTokenEndpoint(ctx context.Context) bool {
	for {
		frozen, change := b.rules.tokenFrozen()
		if !frozen {
			return true
		}
		select {
		case <-change:
		case <-ctx.Done():
			return false
		}
	}
}

// Accept counts a push and hands it to every subscriber.
func (b *Bench) Accept(p Push) {
	b.Count(func(s *Stats) { s.Accepted++ })
	b.hub.publish(p)
}

func (b *Bench) controlMux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pushes", b.hub.stream)
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, b.Stats()) })
	mux.HandleFunc("POST /outcome", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControlBody))
		if err == nil {
			var now Behaviour
			if now, err = b.Update(body); err == nil {
				writeJSON(w, now)
				return
			}
		}
		http.Error(w, err.Error(), http.StatusBadRequest)
	})
	mux.HandleFunc("POST /disconnect", func(w http.ResponseWriter, _ *http.Request) {
		b.Disconnect()
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v)
}
