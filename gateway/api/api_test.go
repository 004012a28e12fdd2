package api

import (
	"bytes"
	"context"
	"encoding/json"
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

	"shunt/gateway/msg"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
	"shunt/store/registry"
	"shunt/store/spool"
)

const (
	alice   msg.Number = 447700900042
	bob     msg.Number = 447700900043
	theText            = "Mødet er flyttet til kl. 9 €"

	bearerA     = "bearer-of-alices-first-phone"
	bearerB     = "bearer-of-alices-other-phone"
	bearerOther = "bearer-of-alices-other-app-1"
	bearerBob   = "bearer-of-bobs-only-phone-01"
)

// rig is the API on a real listener, in front of a real registry and spool.
type rig struct {
	t       testing.TB
	spool   *spool.Spool
	reg     *registry.Registry
	base    string
	handler http.Handler
	http    *http.Client
	log     *logBuffer
}

// logBuffer collects the log at every level.
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
	r := &rig{t: t, http: &http.Client{}, log: &logBuffer{}}
	dir := t.TempDir()
	var err error
	if r.reg, err = registry.Open(registry.Options{Dir: filepath.Join(dir, "registry")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustClose(t, r.reg) })
	if r.spool, err = spool.Open(spool.Options{Dir: filepath.Join(dir, "spool")}); err != nil {
		t.Fatal(err)
	}
	r.spool.Start()
	t.Cleanup(func() { mustClose(t, r.spool) })
	_, err = r.reg.PutAll(t.Context(), []registry.Put{
		{Number: alice, App: "chat", Platform: registry.APNs, Token: "tok-a", Device: "phone", Bearer: bearerA, Active: true},
		{Number: alice, App: "chat", Platform: registry.FCM, Token: "tok-b", Device: "tablet", Bearer: bearerB, Active: true},
		{Number: alice, App: "bank", Platform: registry.FCM, Token: "tok-c", Device: "banking", Bearer: bearerOther, Active: true},
		{Number: bob, App: "chat", Platform: registry.FCM, Token: "tok-d", Device: "phone", Bearer: bearerBob, Active: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.handler = New(Options{Spool: r.spool, Devices: r.reg, Text: textOf, Log: log})
	r.base = r.serve(r.handler, log)
	return r
}

// serve runs Serve until the test ends, and sees that it then ends in peace.
func (r *rig) serve(h http.Handler, log *slog.Logger) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, h, log) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			r.t.Errorf("Serve: %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

func mustClose(t testing.TB, c io.Closer) {
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// textOf decodes the submit_sm's text.
func textOf(parts []*spool.Message) (string, error) {
	m := parts[0]
	var sm pdu.SM
	if err := sm.Decode(m.PDU); err != nil {
		return "", err
	}
	return coding.Decode(coding.Alphabet(m.Alphabet), sm.ShortMessage)
}

// senderOf is the sender of a message: each its own, so that none waits for
// another.
func senderOf(id msg.ID) string { return "ACME-" + id.String()[20:] }

// message spools a message for a number and returns its id.
func (r *rig) message(to msg.Number, change ...func(*spool.Message)) msg.ID {
	r.t.Helper()
	text, err := coding.Encode(coding.GSM7, theText)
	if err != nil {
		r.t.Fatal(err)
	}
	sm := pdu.SM{ShortMessage: text, Dest: pdu.Address{TON: pdu.TONInternational, NPI: pdu.NPIISDN, Addr: []byte(to.String()[1:])}}
	now, id := time.Now(), r.spool.NewID()
	m := &spool.Message{
		ID: id, Account: msg.Account{SystemID: "bank"}, To: to, App: "chat", From: senderOf(id),
		PDU: pdu.AppendSM(nil, pdu.SubmitSM, 1, &sm), Alphabet: uint8(coding.GSM7), Version: 0x34, RegisteredDelivery: 1,
		ReceivedAt: now, ClaimBy: now.Add(time.Hour), ExpiresAt: now.Add(2 * time.Hour),
	}
	for _, f := range change {
		f(m)
	}
	done := make(chan error, 1)
	r.spool.Put(m, func(err error) { done <- err })
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
	return m.ID
}

func (r *rig) event(id msg.ID, kind msg.Event) {
	r.t.Helper()
	if res := r.spool.Do(r.t.Context(), spool.Event{ID: id, Kind: kind}); res.Err != nil {
		r.t.Fatalf("event %s: %v", kind, res.Err)
	}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
	fields map[string]any
}

func (a answer) code() string { s, _ := a.fields["code"].(string); return s }

func (r *rig) do(method, path, bearer string, body io.Reader) answer {
	r.t.Helper()
	a, err := r.try(method, path, bearer, body)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (r *rig) try(method, path, bearer string, body io.Reader) (answer, error) {
	req, err := http.NewRequest(method, r.base+path, body)
	if err != nil {
		return answer{}, err
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	return r.trySend(req)
}

func (r *rig) send(req *http.Request) answer {
	r.t.Helper()
	a, err := r.trySend(req)
	if err != nil {
		r.t.Fatalf("%s %s: %v", req.Method, req.URL.Path, err)
	}
	return a
}

func (r *rig) trySend(req *http.Request) (answer, error) {
	res, err := r.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: res.StatusCode, header: res.Header, body: string(b)}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &a.fields); err != nil {
			return a, fmt.Errorf("body %q: %w", b, err)
		}
	}
	return a, nil
}

// wantProblem checks an RFC 9457 problem with its code.
func wantProblem(t *testing.T, what string, a answer, status int, code string) {
	t.Helper()
	if a.status != status || a.code() != code {
		t.Errorf("%s = %d %q, want %d with the code %q", what, a.status, a.body, status, code)
		return
	}
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("%s: Content-Type = %q, want application/problem+json", what, ct)
	}
	want := map[string]any{"type": "urn:shunt:problem:" + code, "title": http.StatusText(status), "status": float64(status), "code": code, "detail": a.fields["detail"]}
	delete(a.fields, "errors")
	if diff := cmp.Diff(want, a.fields); diff != "" || a.fields["detail"] == "" {
		t.Errorf("%s: problem (-want +got):\n%s", what, diff)
	}
}

func path(id msg.ID, rest string) string { return "/v1/messages/" + id.String() + rest }

func TestClaimAndReceipts(t *testing.T) {
	r := newRig(t)
	id := r.message(alice)

	before := r.do("GET", path(id, ""), bearerA, nil)
	if before.status != 200 || before.fields["state"] != "ACCEPTED" || before.fields["from"] != senderOf(id) {
		t.Errorf("GET before the claim = %d %s, want 200, ACCEPTED, from its sender", before.status, before.body)
	}
	if _, there := before.fields["text"]; there {
		t.Errorf("GET before the claim = %s, want no text", before.body)
	}
	wantProblem(t, "delivered before the claim", r.do("PUT", path(id, "/receipts/delivered"), bearerA, nil), 409, codeNotClaimed)

	claim := r.do("POST", path(id, "/claim"), bearerA, nil)
	rec, err := r.spool.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"id": id.String(), "from": senderOf(id), "text": theText,
		"received_at": rec.ReceivedAt.UTC().Truncate(time.Millisecond).Format(time.RFC3339Nano),
	}
	if diff := cmp.Diff(want, claim.fields); claim.status != 200 || diff != "" {
		t.Fatalf("claim = %d, body (-want +got):\n%s", claim.status, diff)
	}
	if cc := claim.header.Get("Cache-Control"); cc != "no-store" {
		t.Errorf("claim: Cache-Control = %q, want no-store", cc)
	}
	replay := r.do("POST", path(id, "/claim"), bearerA, nil)
	if replay.status != 200 || replay.body != claim.body {
		t.Errorf("replay of the claim = %d %s, want the same as before: %s", replay.status, replay.body, claim.body)
	}
	wantProblem(t, "claim by the other device", r.do("POST", path(id, "/claim"), bearerB, nil), 409, codeSuperseded)
	wantProblem(t, "delivered by the other device", r.do("PUT", path(id, "/receipts/delivered"), bearerB, nil), 409, codeSuperseded)
	if a := r.do("GET", path(id, ""), bearerA, nil); a.fields["text"] != theText || a.fields["state"] != "CLAIMED" {
		t.Errorf("GET by the winner = %s, want the text and CLAIMED", a.body)
	}
	if a := r.do("GET", path(id, ""), bearerB, nil); a.status != 200 || a.fields["text"] != nil {
		t.Errorf("GET by the loser = %d %s, want 200 without text", a.status, a.body)
	}
	for range 2 {
		if a := r.do("PUT", path(id, "/receipts/delivered"), bearerA, nil); a.status != 204 || a.body != "" {
			t.Errorf("delivered = %d %q, want 204 without a body", a.status, a.body)
		}
		if a := r.do("PUT", path(id, "/receipts/read"), bearerA, nil); a.status != 204 || a.body != "" {
			t.Errorf("read = %d %q, want 204 without a body", a.status, a.body)
		}
	}
	r.event(id, msg.EvReceiptDone) // the message leaves the live set
	if rec, err = r.spool.Get(id); err != nil || rec.State != msg.Delivered || !rec.Read || rec.Device != "phone" {
		t.Errorf("record = %+v, %v, want DELIVERED, read, by phone", rec, err)
	}
	late := r.do("POST", path(id, "/claim"), bearerA, nil)
	if late.status != 200 || late.body != claim.body {
		t.Errorf("replay of the claim after the end = %d %s, want the same as before: %s", late.status, late.body, claim.body)
	}
	if a := r.do("PUT", path(id, "/receipts/read"), bearerA, nil); a.status != 204 {
		t.Errorf("read after the end = %d %s, want 204", a.status, a.body)
	}
}

func TestReadImpliesDelivered(t *testing.T) {
	r := newRig(t)
	id := r.message(alice)
	r.do("POST", path(id, "/claim"), bearerA, nil)
	if a := r.do("PUT", path(id, "/receipts/read"), bearerA, nil); a.status != 204 {
		t.Fatalf("read = %d %s, want 204", a.status, a.body)
	}
	if rec, err := r.spool.Get(id); err != nil || rec.State != msg.Delivered || !rec.Read {
		t.Errorf("record = %+v, %v, want DELIVERED and read", rec, err)
	}
}

func TestWhoMaySeeAMessage(t *testing.T) {
	r := newRig(t)
	id := r.message(alice)
	calls := []struct{ method, rest string }{
		{"GET", ""},
		{"POST", "/claim"},
		{"PUT", "/receipts/delivered"},
		{"PUT", "/receipts/read"},
	}
	for _, c := range calls {
		what := c.method + " " + c.rest
		for name, bearer := range map[string]string{"absent": "", "forged": strings.Repeat("x", 43), "short": "x", "long": strings.Repeat("y", 2000)} {
			a := r.do(c.method, path(id, c.rest), bearer, nil)
			wantProblem(t, what+" with a bearer that is "+name, a, 401, codeUnauthorized)
			if w := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(w, "Bearer") {
				t.Errorf("%s: WWW-Authenticate = %q, want Bearer", what, w)
			}
		}
		wantProblem(t, what+" by another number", r.do(c.method, path(id, c.rest), bearerBob, nil), 404, codeNotFound)
		wantProblem(t, what+" by another app", r.do(c.method, path(id, c.rest), bearerOther, nil), 404, codeNotFound)
		wantProblem(t, what+" of an unknown id", r.do(c.method, path(r.spool.NewID(), c.rest), bearerA, nil), 404, codeNotFound)
		for _, bad := range []string{"x", "s01", strings.Repeat("s", 27), id.String()[1:], strings.ToLower(id.String())[:26]} {
			wantProblem(t, what+" of "+bad, r.do(c.method, "/v1/messages/"+bad+c.rest, bearerA, nil), 404, codeNotFound)
		}
	}
	if rec, err := r.spool.Get(id); err != nil || rec.State != msg.Accepted {
		t.Errorf("after all that: %+v, %v, want ACCEPTED", rec, err)
	}
	wantProblem(t, "a list without a bearer", r.do("GET", "/v1/messages", "", nil), 401, codeUnauthorized)
	req, err := http.NewRequest("GET", r.base+"/v1/messages", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("a", bearerA)
	res, err := r.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 401 {
		t.Errorf("list with Basic = %d, want 401", res.StatusCode)
	}
}

// A removed device is nobody from that moment on.
func TestRemovedDevice(t *testing.T) {
	r := newRig(t)
	id := r.message(alice)
	if ok, err := r.reg.Remove(t.Context(), alice, "phone"); !ok || err != nil {
		t.Fatalf("Remove = %v, %v", ok, err)
	}
	wantProblem(t, "claim by a removed device", r.do("POST", path(id, "/claim"), bearerA, nil), 401, codeUnauthorized)
	if a := r.do("POST", path(id, "/claim"), bearerB, nil); a.status != 200 {
		t.Errorf("claim by the device that is left = %d %s, want 200", a.status, a.body)
	}
}

func TestClaimAfterTheCarrierWon(t *testing.T) {
	r := newRig(t)
	id := r.message(alice, func(m *spool.Message) { m.ClaimBy = time.Now().Add(-time.Second) })
	// The timer is overdue and fires: until it has, a claim might still win.
	r.awaitState(id, msg.Fallback)
	wantProblem(t, "claim after the deadline", r.do("POST", path(id, "/claim"), bearerA, nil), 409, codeSuperseded)
	if a := r.do("GET", path(id, ""), bearerA, nil); a.status != 200 || a.fields["state"] != "FALLBACK" || a.fields["text"] != nil {
		t.Errorf("GET after the deadline = %d %s, want FALLBACK without text", a.status, a.body)
	}
	if a := r.do("GET", "/v1/messages", bearerA, nil); len(a.fields["messages"].([]any)) != 0 {
		t.Errorf("list after the deadline = %s, want none", a.body)
	}
}

// awaitState lets the committer go round until the timer has fired.
func (r *rig) awaitState(id msg.ID, want msg.State) {
	r.t.Helper()
	until := time.Now().Add(20 * time.Second)
	for {
		// An event that the table refuses in every state: it returns once the
		// committer has taken a turn.
		r.spool.Do(r.t.Context(), spool.Event{ID: id, Kind: msg.EvSMSAccepted})
		rec, err := r.spool.Get(id)
		if err != nil {
			r.t.Fatal(err)
		}
		if rec.State == want {
			return
		}
		if time.Now().After(until) {
			r.t.Fatalf("state = %s, want %s", rec.State, want)
		}
	}
}
