package otel

import (
	"compress/gzip"
	"context"
	"encoding/pem"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	wire "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"shunt/gateway/msg"
	"shunt/store/spool"
)

// endpoint is a collector that keeps what it is sent.
type endpoint struct {
	*httptest.Server
	t     *testing.T
	hold  chan struct{} // nil: it answers at once
	asked chan struct{}

	mu     sync.Mutex
	paths  []string
	auth   string
	spans  []*wire.Span
	labels map[string]string // of the resource
}

func newEndpoint(t *testing.T, hold chan struct{}) *endpoint {
	e := &endpoint{t: t, hold: hold, asked: make(chan struct{}, 100), labels: make(map[string]string)}
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := gzip.NewReader(r.Body)
	if err != nil {
		e.t.Errorf("gzip: %v", err)
		return
	}
	b, err := io.ReadAll(body)
	var req collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(b, &req)
	}
	if err != nil {
		e.t.Errorf("request: %v", err)
	}
	e.asked <- struct{}{}
	if e.hold != nil {
		<-e.hold
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.paths, e.auth = append(e.paths, r.Method+" "+r.URL.Path), r.Header.Get("Authorization")
	for _, rs := range req.ResourceSpans {
		for _, a := range rs.Resource.Attributes {
			e.labels[a.Key] = a.Value.GetStringValue()
		}
		for _, ss := range rs.ScopeSpans {
			e.spans = append(e.spans, ss.Spans...)
		}
	}
}

// run runs a Tracer until stop, which waits for its end.
func run(t *testing.T, o Options) (tr *Tracer, stop func()) {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	tr, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		tr.Run(ctx)
		close(ended)
	}()
	return tr, sync.OnceFunc(func() {
		cancel()
		<-ended
	})
}

var record = spool.Record{
	ID: msg.ID{0x01, 0x9a, 15: 7}, Account: msg.Account{SystemID: "shop"}, To: 447700900042, App: "chat", From: "SENDER", WireID: "WIRE",
	SMSID: "SMSID", ReceivedAt: time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC),
}

// TestTrace: what the spool observes of a message is one trace, the message's
// stages below it, each from the end of the one before.
func TestTrace(t *testing.T) {
	e := newEndpoint(t, nil)
	tr, stop := run(t, Options{Endpoint: e.URL, Token: "t0ken", Node: "edge-1", Version: "v1"})
	r := record
	r.ReceivedAt = time.Now()
	for _, c := range []struct {
		event    msg.Event
		from, to msg.State
		due      bool
	}{
		{msg.EvAccept, msg.None, msg.Accepted, false},
		{msg.EvPushBegin, msg.Accepted, msg.Pushing, false},
		{msg.EvPushAccepted, msg.Pushing, msg.Pushed, false},
		{msg.EvClaim, msg.Pushed, msg.Claimed, false},
		{msg.EvDelivered, msg.Claimed, msg.Delivered, true},
		{msg.EvRead, msg.Delivered, msg.Delivered, true},
		{msg.EvReceiptDone, msg.Delivered, msg.Delivered, false},
	} {
		r.State, r.ReceiptDue = c.to, c.due
		tr.Observe(&spool.Change{Event: spool.Event{Kind: c.event, Detail: "detail"}, From: c.from, To: c.to, Record: r})
		tr.Observe(&spool.Change{Event: spool.Event{Kind: c.event}, From: c.from, To: c.to, Record: r, Replay: true})
	}
	stop()
	var names []string
	byName := make(map[string]*wire.Span)
	for _, s := range e.spans {
		names = append(names, s.Name)
		byName[s.Name] = s
	}
	if want := []string{"spool", "queue", "push", "claim", "deliver", "message", "receipt"}; !slices.Equal(names, want) {
		t.Fatalf("spans %q, want %q", names, want)
	}
	root := byName["message"]
	if len(root.ParentSpanId) != 0 || string(root.TraceId) != string(r.ID[:]) {
		t.Errorf("root of trace %x has parent %x, want none and trace %x", root.TraceId, root.ParentSpanId, r.ID)
	}
	before := "spool"
	for _, name := range []string{"queue", "push", "claim", "deliver", "receipt"} {
		if s := byName[name]; string(s.TraceId) != string(root.TraceId) || string(s.ParentSpanId) != string(root.SpanId) || s.StartTimeUnixNano != byName[before].EndTimeUnixNano {
			t.Errorf("%s: trace %x, parent %x, from %d; want those of the root, and the end of %s", name, s.TraceId, s.ParentSpanId, s.StartTimeUnixNano, before)
		}
		before = name
	}
	if byName["spool"].StartTimeUnixNano != root.StartTimeUnixNano || byName["deliver"].EndTimeUnixNano != root.EndTimeUnixNano {
		t.Error("the root is not from the submit to the outcome")
	}
	all := ""
	for _, s := range e.spans {
		all += s.String()
	}
	for _, secret := range []string{"SENDER", "WIRE", "SMSID", "447700900042"} {
		if strings.Contains(all, secret) {
			t.Errorf("spans hold %s", secret)
		}
	}
	for _, want := range []string{"+4477••••0042", "shop", "chat", "DELIVERED", "detail", r.ID.String()} {
		if !strings.Contains(all, want) {
			t.Errorf("spans lack %s", want)
		}
	}
	if e.auth != "Bearer t0ken" || e.paths[0] != "POST /v1/traces" || e.labels["service.instance.id"] != "edge-1" || e.labels["service.name"] != "shunt" {
		t.Errorf("%q with %q from %v", e.paths, e.auth, e.labels)
	}
	if tr.Sent.Load() != 7 || tr.Dropped.Load() != 0 || len(tr.since) != 0 {
		t.Errorf("%d sent, %d dropped, %d remembered: want 7, 0, 0", tr.Sent.Load(), tr.Dropped.Load(), len(tr.since))
	}
}

// TestSlowCollector: while it does not answer nobody waits, what has no room is
// counted, and it is all accounted for.
func TestSlowCollector(t *testing.T) {
	hold := make(chan struct{})
	e := newEndpoint(t, hold)
	tr, stop := run(t, Options{Endpoint: e.URL + "/custom"})
	c := &spool.Change{Event: spool.Event{Kind: msg.EvAccept}, To: msg.Accepted, Record: record}
	tr.Observe(c)
	<-e.asked // and stands still
	for range queued + 100 {
		tr.Observe(c)
	}
	if got := tr.Dropped.Load(); got != 100 {
		t.Errorf("%d dropped, want the 100 that had no room", got)
	}
	close(hold)
	tick, late := time.NewTicker(5*time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for tr.Sent.Load() < queued+1 {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%d sent after a minute, want %d", tr.Sent.Load(), queued+1)
		}
	}
	stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	if got := tr.Sent.Load(); got != queued+1 || e.paths[0] != "POST /custom" {
		t.Errorf("%d sent to %q, want %d to the endpoint's own path", got, e.paths[0], queued+1)
	}
}

// TestNoCollector: what nobody takes is counted, and the stop does not wait.
func TestNoCollector(t *testing.T) {
	e := newEndpoint(t, nil)
	url := e.URL
	e.Close()
	tr, stop := run(t, Options{Endpoint: url})
	for range 10 {
		tr.Observe(&spool.Change{Event: spool.Event{Kind: msg.EvAccept}, To: msg.Accepted, Record: record})
	}
	stop()
	if s, d := tr.Sent.Load(), tr.Dropped.Load(); s != 0 || d != 10 {
		t.Errorf("%d sent, %d dropped, want 0 and 10", s, d)
	}
}

// TestHostileCollector: one that answers without end costs no memory, one that
// points elsewhere is not followed, and the log has little of what they say.
func TestHostileCollector(t *testing.T) {
	elsewhere := newEndpoint(t, nil)
	for name, answers := range map[string]func(w http.ResponseWriter){
		"without end": func(w http.ResponseWriter) {
			for part := make([]byte, 32<<10); ; {
				if _, err := w.Write(part); err != nil {
					return
				}
			}
		},
		"long": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, strings.Repeat("no, never\n", 1000))
		},
		"redirect": func(w http.ResponseWriter) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answers(w) }))
			defer s.Close()
			var said strings.Builder
			tr, err := New(Options{Endpoint: s.URL, Log: slog.New(slog.NewTextHandler(&said, nil))})
			if err != nil {
				t.Fatal(err)
			}
			tr.take(&change{id: record.ID, event: msg.EvAccept, state: msg.Accepted})
			began := time.Now()
			tr.send(t.Context())
			if tr.Sent.Load() != 0 || tr.Dropped.Load() != 1 || time.Since(began) > sendWithin {
				t.Errorf("%d sent, %d dropped after %v, want 0 and 1 before %v", tr.Sent.Load(), tr.Dropped.Load(), time.Since(began), sendWithin)
			}
			if got := said.String(); strings.Count(got, "\n") != 1 || len(got) > 500 {
				t.Errorf("the log has %q, want one short line", got)
			}
		})
	}
	if len(elsewhere.paths) != 0 {
		t.Error("a redirect was followed")
	}
}

// TestCollectorByTLS: only the certificates of ca_file are trusted, and the token
// is shown.
func TestCollectorByTLS(t *testing.T) {
	auth := make(chan string, 10)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { auth <- r.Header.Get("Authorization") }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	for name, c := range map[string]struct {
		ca   []byte
		sent uint64
	}{"its own": {own, 1}, "the system's": {nil, 0}} {
		tr, stop := run(t, Options{Endpoint: s.URL, CA: c.ca, Token: "t0ken"})
		tr.Observe(&spool.Change{Event: spool.Event{Kind: msg.EvAccept}, To: msg.Accepted, Record: record})
		stop()
		if tr.Sent.Load() != c.sent || tr.Dropped.Load() != 1-c.sent {
			t.Errorf("%s: %d sent, %d dropped, want %d sent", name, tr.Sent.Load(), tr.Dropped.Load(), c.sent)
		}
	}
	if len(auth) != 1 || <-auth != "Bearer t0ken" {
		t.Error("the collector did not get the token, once")
	}
	if _, err := New(Options{Endpoint: s.URL, CA: []byte("none")}); err == nil {
		t.Error("a file without certificates is taken for one")
	}
}

// TestObserveAllocatesNothing, on or off: it runs on the spool's committer.
func TestObserveAllocatesNothing(t *testing.T) {
	on, err := New(Options{Endpoint: "http://127.0.0.1:1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	c := &spool.Change{Event: spool.Event{Kind: msg.EvAccept}, To: msg.Accepted, Record: record}
	for name, tr := range map[string]*Tracer{"off": nil, "on": on} {
		if n := testing.AllocsPerRun(1000, func() { tr.Observe(c) }); n != 0 {
			t.Errorf("%s: Observe() allocates %v times", name, n)
		}
	}
}

func BenchmarkObserveOff(b *testing.B) {
	var tr *Tracer
	c := &spool.Change{Event: spool.Event{Kind: msg.EvAccept}, To: msg.Accepted, Record: record}
	for b.Loop() {
		tr.Observe(c)
	}
}
