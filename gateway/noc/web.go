package noc

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Watched is what is shown of the gateway to who may look and not touch.
type Watched interface {
	Status() Status
	Verdicts() map[string]map[string]uint64 // submits since the start by account and msg.Reason
}

// WebOptions are what NewWeb needs; Gateway and Log are required.
type WebOptions struct {
	Gateway Watched
	Log     *slog.Logger
	Timings func(io.Writer)             // writes histograms for /metrics; may be nil
	Page    map[string]http.HandlerFunc // by pattern of the mux; nil: no page
	Hosts   []string                    // names that it is asked under, beside addresses, localhost and Cert's
	Cert    []byte                      // in PEM; nil: none
}

// Web answers monitoring: /metrics, /healthz, /readyz, and what the page has.
// It changes nothing and is safe for concurrent use.
type Web struct {
	o     WebOptions
	mux   *http.ServeMux
	hosts *hosts

	mu    sync.Mutex // one scrape at a time
	named map[string]bool
}

// policy lets a page load what this server has as files, and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

const (
	webReadWithin  = 5 * time.Second
	webWriteWithin = 10 * time.Second
	webMaxHeader   = 8 << 10
)

// NewWeb prepares the server. It starts no goroutine; see ServeOn.
func NewWeb(o WebOptions) *Web {
	s := &Web{o: o, mux: http.NewServeMux(), hosts: newHosts(o.Hosts, o.Cert), named: make(map[string]bool)}
	s.mux.HandleFunc("GET /metrics", s.metrics)
	s.mux.HandleFunc("GET /healthz", s.healthz)
	s.mux.HandleFunc("GET /readyz", s.readyz)
	for pattern, h := range o.Page {
		s.mux.HandleFunc(pattern, h)
	}
	return s
}

// ServeHTTP implements http.Handler.
func (s *Web) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer") // a search has its number in the address
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Security-Policy", policy)
	if s.hosts.admits(w, r) {
		s.mux.ServeHTTP(w, r)
	}
}

func (s *Web) metrics(w http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	s.mu.Lock()
	s.writeMetrics(&b)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(withHelp(b.Bytes())) // a client that left is not our fault
}

func (s *Web) healthz(w http.ResponseWriter, _ *http.Request) {
	_ = writeJSON(w, map[string]string{"status": "alive"}) // it encodes
}

// Readiness is the answer of /readyz: 200 if Ready, else 503.
type Readiness struct {
	Ready    bool     `json:"ready"`
	Why      []string `json:"why"`       // what is missing, while not ready
	Divert   string   `json:"divert"`    // on, shadow or off
	FailOpen []string `json:"fail_open"` // why nothing is diverted at the moment; messages pass all the same
}

// ReadinessOf judges whether peers should come here: messages get through, as the
// index is there, and an upstream is bound, or there is no bind of our own that
// would show that the SMSC is away; and the node is not being drained.
func ReadinessOf(st *Status) Readiness {
	r := Readiness{Why: []string{}, Divert: st.Divert, FailOpen: append([]string{}, st.FailOpen...)}
	if st.Drain {
		r.Why = append(r.Why, "draining")
	}
	if !st.IndexReady && !st.Transit {
		r.Why = append(r.Why, "index-loading")
	}
	up := st.Binds.Upstream > 0 || len(st.Own) == 0
	for i := range st.Own {
		up = up || st.Own[i].State != "unbound"
	}
	if !up {
		r.Why = append(r.Why, "no-upstream")
	}
	r.Ready = len(r.Why) == 0
	return r
}

func (s *Web) readyz(w http.ResponseWriter, _ *http.Request) {
	st := s.o.Gateway.Status()
	r := ReadinessOf(&st)
	if !r.Ready {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = writeJSON(w, r) // it encodes
}

// ServeOn answers on l until ctx ends and returns nil then. Any other end is an
// error. It closes l.
func (s *Web) ServeOn(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler: s, ReadHeaderTimeout: webReadWithin, ReadTimeout: webReadWithin, WriteTimeout: webWriteWithin,
		IdleTimeout: idleFor, MaxHeaderBytes: webMaxHeader,
		ErrorLog: slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
	}
	release := context.AfterFunc(ctx, func() { _ = srv.Close() }) // whoever looks on loses nothing
	err := srv.Serve(l)
	if release() {
		return fmt.Errorf("noc.listen %s: %w", l.Addr(), err)
	}
	return nil
}
