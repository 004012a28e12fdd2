package noc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/alarm"
	"shunt/gateway/audit"
	"shunt/gateway/msg"
	"shunt/store/registry"
	"shunt/store/spool"
)

const (
	alice msg.Number = 447700900042
	bob   msg.Number = 447700900043
)

// testGateway is what the gateway above this package tells and takes.
type testGateway struct {
	mu     sync.Mutex
	mode   string
	refuse error
	erased []msg.Number
	drain  Drain
	panics bool
	status Status
	apps   []string
}

func (g *testGateway) Status() Status {
	if g.panics {
		panic("secret")
	}
	return g.status
}

func (g *testGateway) Sessions() []Session {
	return []Session{{SystemID: "bank", Bind: "transceiver", State: "bound", Version: 0x34, Peer: "192.0.2.1:4711", Upstream: "smsc-a", Since: time.Unix(1_750_000_000, 0).UTC(), PDUsIn: 7, PDUsOut: 8, WindowIn: 1, WindowOut: 2, LastError: "none"}}
}

func (g *testGateway) Divert() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mode
}

func (g *testGateway) SetDivert(_ context.Context, mode string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refuse != nil {
		return g.refuse
	}
	g.mode = mode
	return nil
}

func (g *testGateway) Drain() Drain {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.drain
}

func (g *testGateway) SetDrain(on bool) Drain {
	g.mu.Lock()
	g.drain.Draining = on
	g.mu.Unlock()
	return g.Drain()
}

func (g *testGateway) Queue() []Queue { return nil }

func (g *testGateway) Watch(ctx context.Context, n msg.Number, see func(*Passed) error) error {
	if g.refuse != nil {
		return g.refuse
	}
	for _, p := range []*Passed{nil, {PDU: "submit_sm", From: "447700900043", To: n.String()}} {
		if err := see(p); err != nil {
			return err
		}
	}
	return nil
}

func (g *testGateway) Erase(_ context.Context, n msg.Number) (Erased, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.erased = append(g.erased, n)
	if g.refuse != nil {
		return Erased{}, g.refuse
	}
	return Erased{Registered: true, Messages: 3, Pending: 1}, nil
}

func (g *testGateway) Prove(context.Context) (Proof, bool) { return Proof{}, true }

func (g *testGateway) Names() (accounts, apps []string) {
	return []string{"bank", "shop"}, g.apps
}

func (g *testGateway) Reload(context.Context) (Reload, error) {
	return Reload{Changed: []string{"policy.share"}}, g.refuse
}

// Explain repeats what it was asked, but for the text.
func (g *testGateway) Explain(q *ExplainRequest, show func(string) string) (Explanation, error) {
	if g.refuse != nil {
		return Explanation{}, g.refuse
	}
	e := Explanation{
		Verdict: VerdictForward, Reason: msg.ReasonProtocolID, From: show(q.From), To: show(q.To), ESME: q.ESME, Divert: "on", App: "chat", Plan: "news",
		At: time.Unix(1_750_000_000, 0).UTC(), ClaimBy: time.Unix(1_750_000_030, 0).UTC(), ExpiresAt: time.Unix(1_750_003_600, 0).UTC(),
		Checks: []Check{
			{Check: "destination", Outcome: OutcomePassed, Value: show(q.To)},
			{Check: "protocol-id", Outcome: OutcomeFailed, Reason: msg.ReasonProtocolID, Decides: true, Value: fmt.Sprintf("protocol_id 0x%02X", q.ProtocolID)},
			{Check: "share", Outcome: OutcomeFailed, Reason: msg.ReasonCanary, After: true, Value: "slice 17"},
		},
	}
	if q.Text != nil {
		e.Checks = append(e.Checks, Check{Check: "text", Outcome: OutcomeSkipped, After: true, Value: fmt.Sprintf("%d octets", len(*q.Text))})
	}
	return e, nil
}

// rig is a control server on a real socket, with a real registry and spool.
type rig struct {
	*Client
	t       testing.TB
	gateway *testGateway
	reg     *registry.Registry
	spool   *spool.Spool
	audit   *audit.Log
	server  *Server
	socket  string
	log     *logBuffer
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newRig(t testing.TB) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, gateway: &testGateway{mode: "on", apps: []string{"chat", "bank", "bavard"}}, log: &logBuffer{}, socket: filepath.Join(dir, "run", "noc.sock")}
	var err error
	if r.reg, err = registry.Open(registry.Options{Dir: filepath.Join(dir, "registry")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustClose(t, r.reg) })
	if err := r.reg.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.spool, err = spool.Open(spool.Options{Dir: filepath.Join(dir, "spool")}); err != nil {
		t.Fatal(err)
	}
	r.spool.Start()
	t.Cleanup(func() { mustClose(t, r.spool) })
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.audit = audit.Open(filepath.Join(dir, "audit"), audit.Options{}, log)
	t.Cleanup(func() { mustClose(t, r.audit) })
	r.server = NewServer(Options{
		Gateway: r.gateway, Registry: r.reg, Spool: r.spool, Alarms: alarm.Open(alarm.Options{Log: log}), Audit: r.audit, Log: log, TempDir: t.TempDir(),
	})
	l, err := Listen(r.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.server.ServeOn(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ServeOn: %v", err)
		}
	})
	r.Client = New(r.socket)
	t.Cleanup(r.Close)
	return r
}

func mustClose(t testing.TB, c io.Closer) {
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// raw sends a request as it stands and returns status and body.
func (r *rig) raw(method, path, body string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, "http://noc"+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := r.http.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func (r *rig) put(n msg.Number, p Put) PutAnswer {
	r.t.Helper()
	a, err := r.Put(r.t.Context(), n.String(), p, false)
	if err != nil {
		r.t.Fatalf("put: %v", err)
	}
	return a
}

// wantProblem checks a refusal, and that it says what to do.
func wantProblem(t *testing.T, what string, err error, status int, code string, words ...string) {
	t.Helper()
	var p *Problem
	if !errors.As(err, &p) || p.Status != status || p.Code != code {
		t.Errorf("%s = %+v, want a problem %d %s", what, err, status, code)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s = %q, want it to say %q", what, err, w)
		}
	}
}

// message spools a message.
func (r *rig) message(to msg.Number, from, wire string) msg.ID {
	r.t.Helper()
	now := time.Now()
	m := &spool.Message{
		ID: r.spool.NewID(), WireID: wire, Account: msg.Account{SystemID: "bank"}, To: to, App: "chat", From: from,
		PDU: []byte("the text is secret"), RegisteredDelivery: 1,
		ReceivedAt: now, ClaimBy: now.Add(time.Hour), ExpiresAt: now.Add(2 * time.Hour),
	}
	done := make(chan error, 1)
	r.spool.Put(m, func(err error) { done <- err })
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
	return m.ID
}

func TestStatus(t *testing.T) {
	r := newRig(t)
	when := time.Unix(1_750_000_000, 0).UTC()
	r.gateway.status = Status{
		Version: "1.2.3", Node: "edge-1", Started: when, Divert: "shadow", IndexReady: true, IndexBytes: 4096,
		Registered: registry.Count{Numbers: 3, Active: 2, Devices: 4, Corrupt: 1, External: 1},
		Listen:     []string{"0.0.0.0:2775"}, API: []string{"127.0.0.1:8443"},
		Answers:      []Answers{{Leg: "smpp", Count: 7, P50: 0.001, P99: 0.02}},
		Alarms:       []alarm.Alarm{{Name: alarm.DiskLow, Severity: alarm.Critical, State: alarm.Raised, Since: time.Unix(1_750_000_000, 0).UTC(), Text: "t", WhatToDo: "w"}},
		AlarmsRaised: 3, UpstreamError: "refused", UpstreamErrorAt: time.Unix(1_750_000_001, 0).UTC(),
		Binds: BindCounts{1, 2, 3, 6}, Own: []OwnBind{{"smsc-own", "bound", "reset", 5, 100}},
		Push: []PushLane{{App: "chat", Provider: "apns", Breaker: "open", Until: when, Reason: "http-503", Trips: 2}},
		External: []ExternalRegistry{{
			Name: "far", Breaker: "open", Until: when, Reason: "timeout", Trips: 3, Asking: 1, Cached: 4,
			Lookups: map[string]uint64{"known": 5}, Latency: []LatencyBucket{{0.005, 2}, {0.01, 5}}, Seconds: 1.5, Count: 6,
		}},
		Spool: spool.Stats{
			Live: map[msg.State]int{msg.Pushed: 2}, LiveTotal: 2, ReceiptsDue: 1, Queued: 3, Max: 9, Puts: 10, Events: 11, Replays: 12,
			Refused: 13, Superseded: 14, Full: 15, Finals: map[msg.State]uint64{msg.Delivered: 16}, Commits: 17, Replies: 18, RepliesDelivered: 19, RepliesRefused: 20, RepliesGivenUp: 21,
			CommitTime: 1500 * time.Millisecond, CommitMax: 20 * time.Millisecond, CommitLast: 3 * time.Microsecond,
			Failures: 1, Doubtful: 2, SetAside: 3, LastError: errors.New("disk full"), LastErrorAt: when,
		},
		Counters: Counters{
			SubmitsIn: 1, Forwarded: 2, Diverted: 3, Shadow: 4, Reasons: map[string]uint64{"divert": 3}, Pushes: map[string]uint64{"accepted": 2},
			Edge:         map[string]uint64{"binds-failed": 3},
			FallbackSent: 5, FallbackRetried: 6, FallbackResubmitted: 7, ReceiptsSent: 8, ReceiptsWaiting: 9,
		},
		FailOpen: []string{"index-loading"},
	}
	got, err := r.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sameText := cmp.Comparer(func(a, b error) bool { return a.Error() == b.Error() })
	if diff := cmp.Diff(r.gateway.status, got, sameText); diff != "" {
		t.Errorf("Status (-want +got):\n%s", diff)
	}
	_, body := r.raw("GET", "/v1/status", "")
	for _, want := range []string{`"registered":{"numbers":3,`, `"live":{"PUSHED":2}`, `"last_error":"disk full"`, `"commit_seconds":1.5`, `"submits_in":1`} {
		if !strings.Contains(body, want) {
			t.Errorf("GET /v1/status = %s, want %s in it", body, want)
		}
	}
	r.gateway.status = Status{}
	if _, body = r.raw("GET", "/v1/status", ""); strings.Contains(body, "null") {
		t.Errorf("GET /v1/status of nothing = %s, want no null", body)
	}
}

func TestSessions(t *testing.T) {
	r := newRig(t)
	got, err := r.Sessions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r.gateway.Sessions(), got); diff != "" {
		t.Errorf("Sessions (-want +got):\n%s", diff)
	}
	if _, body := r.raw("GET", "/v1/sessions", ""); !strings.Contains(body, `"version":"3.4"`) {
		t.Errorf("GET /v1/sessions = %s, want version 3.4", body)
	}
}

func TestVersion(t *testing.T) {
	for v, text := range map[Version]string{0: "", 0x33: "3.3", 0x34: "3.4", 0x50: "5.0", 0xAF: "a.f"} {
		if v.String() != text {
			t.Errorf("Version(%#x).String() = %q, want %q", byte(v), v, text)
		}
		var back Version
		if err := back.UnmarshalText([]byte(text)); err != nil || back != v {
			t.Errorf("UnmarshalText(%q) = %#x, %v, want %#x", text, byte(back), err, byte(v))
		}
	}
	for _, bad := range []string{"3", "3.44", "34", "x.y", "3.4 "} {
		if err := new(Version).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("UnmarshalText(%q) = nil, want an error", bad)
		}
	}
}

func TestDivert(t *testing.T) {
	r := newRig(t)
	for _, mode := range []string{"shadow", "off", "on"} {
		if got, err := r.SetDivert(t.Context(), mode); got != mode || err != nil {
			t.Errorf("SetDivert(%s) = %s, %v", mode, got, err)
		}
		if got, err := r.Divert(t.Context()); got != mode || err != nil {
			t.Errorf("Divert = %s, %v, want %s", got, err, mode)
		}
	}
	_, err := r.SetDivert(t.Context(), "maybe")
	wantProblem(t, "SetDivert(maybe)", err, 400, CodeInvalid, "on, shadow or off")
	r.gateway.refuse = errors.New("needs intercept.fallback_smsc in the configuration")
	_, err = r.SetDivert(t.Context(), "off")
	wantProblem(t, "SetDivert refused", err, 409, CodeConflict, "divert is on", "fallback_smsc")
}

func TestWrongRequests(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"GET", "/", "", 404, CodeNotFound},
		{"GET", "/v1/nothing", "", 404, CodeNotFound},
		{"POST", "/v1/status", "", 405, CodeMethod},
		{"DELETE", "/v1/divert", "", 405, CodeMethod},
		{"PUT", "/v1/divert", "", 400, CodeInvalid},
		{"PUT", "/v1/divert", "[]", 400, CodeInvalid},
		{"PUT", "/v1/divert", `{"mode":"on"`, 400, CodeInvalid},
		{"PUT", "/v1/divert", `{"mode":"on"}{}`, 400, CodeInvalid},
		{"PUT", "/v1/divert", `{"mode":"on","also":1}`, 400, CodeInvalid},
		{"PUT", "/v1/divert", `{"mode":` + strings.Repeat(" ", maxBody) + `"on"}`, 413, CodeTooLarge},
		{"GET", "/v1/explain", "", 405, CodeMethod},
		{"POST", "/v1/explain", "", 400, CodeInvalid},
		{"POST", "/v1/explain", `{"from":"447700900099"}`, 400, CodeInvalid},
		{"POST", "/v1/explain", `{"from":"447700900099","to":447700900042}`, 400, CodeInvalid},
		{"POST", "/v1/explain", `{"from":"447700900099","to":"+447700900042","text":1}`, 400, CodeInvalid},
		{"POST", "/v1/explain", `{"from":"447700900099","to":"+447700900042","texts":"447700"}`, 400, CodeInvalid},
		{"POST", "/v1/explain", `{"from":"447700900099447700900099","to":"+447700900042"}`, 400, CodeInvalid},
		{"POST", "/v1/explain", `{"from":"4477\u0000","to":"+447700900042"}`, 400, CodeInvalid},
		{"POST", "/v1/explain", `{"from":"4477","to":"+447700900042","esme":"a-long-system-id"}`, 400, CodeInvalid},
		{"POST", "/v1/explain", `{"from":"4477","to":"+447700900042","service_type":"TOOLONG"}`, 400, CodeInvalid},
		{"POST", "/v1/explain", `{"from":"4477","to":"+447700900042","data_coding":256}`, 400, CodeInvalid},
		{"POST", "/v1/explain", `{"from":"4477","to":"+447700900042","text":"` + strings.Repeat("x", maxBody) + `"}`, 413, CodeTooLarge},
		{"GET", "/v1/registry/12", "", 400, CodeInvalid},
		{"GET", "/v1/registry/0447700900042", "", 400, CodeInvalid},
		{"GET", "/v1/registry?limit=0", "", 400, CodeInvalid},
		{"GET", "/v1/registry?limit=1001", "", 400, CodeInvalid},
		{"GET", "/v1/registry?after=zzz", "", 400, CodeInvalid},
		{"GET", "/v1/trace/x?limit=0", "", 400, CodeInvalid},
		{"PUT", "/v1/registry/+447700900042", `{"app":"chat","platform":"pager","token":"t"}`, 400, CodeInvalid},
		{"PUT", "/v1/registry/+447700900042", `{"app":"chat","platform":"fcm","token":"t","state":"asleep"}`, 400, CodeInvalid},
		{"PUT", "/v1/registry/+447700900042", `{"app":"a b","platform":"fcm","token":"t"}`, 400, CodeInvalid},
		{"PUT", "/v1/registry/+447700900042", `{"app":"chat","platform":"fcm","token":447700}`, 400, CodeInvalid},
		{"PUT", "/v1/registry/+447700900042", `{"app":"chat","platform":"fcm"}`, 400, CodeInvalid},
	} {
		status, body := r.raw(c.method, c.path, c.body)
		if status != c.status || !strings.Contains(body, `"code":"`+c.code+`"`) || strings.Contains(body, "447700") {
			t.Errorf("%s %s %.60s = %d %s, want %d %s and nothing of what was sent", c.method, c.path, c.body, status, body, c.status, c.code)
		}
	}
	if got := r.gateway.Divert(); got != "on" {
		t.Errorf("divert after all that = %s, want on", got)
	}
	if n := r.reg.Count(); n.Devices != 0 {
		t.Errorf("devices after all that = %d, want 0", n.Devices)
	}
}

// A request that panics costs its own connection; the value is not logged.
func TestPanic(t *testing.T) {
	r := newRig(t)
	r.gateway.panics = true
	_, err := r.Status(t.Context())
	if err == nil || !strings.Contains(err.Error(), "see the gateway's log") {
		t.Errorf("Status = %v, want an error that points to the log", err)
	}
	if _, err := r.Divert(t.Context()); err != nil {
		t.Errorf("Divert after the panic: %v", err)
	}
	if text := r.log.String(); !strings.Contains(text, "panicked") || strings.Contains(text, "secret") {
		t.Errorf("log = %s, want the panic without its value", text)
	}
}

func TestTrace(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	first := r.message(alice, "+447700900099", "0000002a")
	second := r.message(alice, "ACME", "")
	r.message(bob, "ACME", "")
	for _, e := range []spool.Event{
		{ID: second, Kind: msg.EvPushBegin},
		{ID: second, Kind: msg.EvClaim, Device: "phone", Reason: msg.ReasonApp},
		{ID: second, Kind: msg.EvDelivered, Device: "phone", Reason: msg.ReasonApp},
		{ID: second, Kind: msg.EvReceiptDone},
	} {
		if res := r.spool.Do(ctx, e); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	ids := func(what string, unmask bool) (out []string) {
		t.Helper()
		all, err := r.Trace(ctx, what, unmask)
		if err != nil {
			t.Fatalf("Trace(%s): %v", what, err)
		}
		for _, tr := range all {
			out = append(out, tr.ID)
		}
		return out
	}
	for what, want := range map[string][]string{
		first.String():  {first.String()},
		second.String(): {second.String()},
		"0000002a":      {first.String()},
		alice.String():  {second.String(), first.String()},
		"447700900042":  {second.String(), first.String()},
	} {
		if diff := cmp.Diff(want, ids(what, false)); diff != "" {
			t.Errorf("Trace(%s) (-want +got):\n%s", what, diff)
		}
	}

	got, err := r.Trace(ctx, second.String(), false)
	if err != nil {
		t.Fatal(err)
	}
	tr := got[0]
	if tr.Number != alice.Masked() || tr.From != "ACME" || tr.State != msg.Delivered || tr.Device != "phone" || tr.DoneAt.IsZero() || tr.ReceiptDue {
		t.Errorf("trace = %+v, want the number masked, from ACME, DELIVERED by phone", tr)
	}
	var events []msg.Event
	for _, s := range tr.Steps {
		events = append(events, s.Event)
	}
	if diff := cmp.Diff([]msg.Event{msg.EvAccept, msg.EvPushBegin, msg.EvClaim, msg.EvDelivered, msg.EvReceiptDone}, events); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}

	_, masked := r.raw("GET", "/v1/trace/"+first.String(), "")
	for _, hidden := range []string{"447700900042", "447700900099", "secret"} {
		if strings.Contains(masked, hidden) {
			t.Errorf("trace = %s, want %s hidden", masked, hidden)
		}
	}
	_, clear := r.raw("GET", "/v1/trace/"+first.String()+"?unmask=1", "")
	if !strings.Contains(clear, `"+447700900042"`) || !strings.Contains(clear, `"+447700900099"`) || strings.Contains(clear, "secret") {
		t.Errorf("unmasked trace = %s, want both numbers and no text", clear)
	}

	_, err = r.Trace(ctx, r.spool.NewID().String(), false)
	wantProblem(t, "trace of an unknown id", err, 404, CodeNotFound, "retention")
	_, err = r.Trace(ctx, "+447700900077", false)
	wantProblem(t, "trace of a number without messages", err, 404, CodeNotFound, "+4477••••0077", "forwarded")
	_, err = r.Trace(ctx, "what is this/that", false)
	wantProblem(t, "trace of nonsense", err, 404, CodeNotFound, "no message")
}

func TestSenderMask(t *testing.T) {
	for from, want := range map[string]string{
		"ACME": "ACME", "112": "112", "": "", "+447700900042": "+4477••••0042", "447700900042": "44770••••0042",
		"07700900042": "07700••••0042", "1234567": "••••", "Bank24x7Info": "Bank24x7Info",
	} {
		if got := sender(from, false); got != want {
			t.Errorf("sender(%q) = %q, want %q", from, got, want)
		}
		if got := sender(from, true); got != from {
			t.Errorf("sender(%q), unmasked = %q", from, got)
		}
	}
}

// answerWith is a client of a server that serves each connection this way.
func answerWith(t *testing.T, serve func(net.Conn)) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return New(path)
}
