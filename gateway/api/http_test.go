package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
	"shunt/store/registry"
	"shunt/store/spool"
)

func TestList(t *testing.T) {
	r := newRig(t)
	empty := r.do("GET", "/v1/messages", bearerA, nil)
	if empty.status != 200 || strings.TrimSpace(empty.body) != `{"messages":[]}` {
		t.Errorf("empty list = %d %s, want 200 and an empty array", empty.status, empty.body)
	}
	var want []string
	for i := range 9 {
		id := r.message(alice)
		switch i {
		case 2: // the other device has it
			r.do("POST", path(id, "/claim"), bearerB, nil)
			continue
		case 4: // the carrier has it
			r.event(id, msg.EvClaimDeadline)
			continue
		case 6: // our own
			r.do("POST", path(id, "/claim"), bearerA, nil)
		}
		want = append(want, id.String())
	}
	r.message(bob)
	r.message(alice, func(m *spool.Message) { m.App = "bank" })

	var got []string
	after, pages := "", 0
	for {
		a := r.do("GET", "/v1/messages?limit=3&after="+after, bearerA, nil)
		var page struct {
			Messages []struct{ ID, From, State, ReceivedAt, ClaimBy string }
			Next     string
		}
		if err := json.Unmarshal([]byte(strings.NewReplacer("received_at", "ReceivedAt", "claim_by", "ClaimBy").Replace(a.body)), &page); err != nil {
			t.Fatalf("page %q: %v", a.body, err)
		}
		if strings.Contains(a.body, theText) || strings.Contains(a.body, `"text"`) {
			t.Errorf("list = %s, want no text", a.body)
		}
		for _, m := range page.Messages {
			if !strings.HasPrefix(m.From, "ACME-") || !strings.HasSuffix(m.ReceivedAt, "Z") || !strings.HasSuffix(m.ClaimBy, "Z") {
				t.Errorf("listed %+v, want from its sender and times in UTC", m)
			}
			got = append(got, m.ID)
		}
		if pages++; page.Next == "" || pages > 9 {
			break
		}
		after = page.Next
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("list over %d pages (-want +got):\n%s", pages, diff)
	}
	if a := r.do("GET", "/v1/messages?after="+want[len(want)-1], bearerA, nil); strings.TrimSpace(a.body) != `{"messages":[]}` {
		t.Errorf("list behind the last = %s, want none", a.body)
	}
}

// Messages of other apps fill whole pages of the spool's list.
func TestListSkipsManyOfOtherApps(t *testing.T) {
	r := newRig(t)
	for range maxList + 5 {
		r.message(alice, func(m *spool.Message) { m.App = "bank" })
	}
	id := r.message(alice)
	a := r.do("GET", "/v1/messages?limit=1", bearerA, nil)
	if !strings.Contains(a.body, id.String()) {
		t.Errorf("list = %s, want %s", a.body, id)
	}
}

func TestWrongRequests(t *testing.T) {
	r := newRig(t)
	id := r.message(alice)
	for _, q := range []string{"limit=0", "limit=201", "limit=-1", "limit=x", "after=x", "after=s01", "after=" + strings.Repeat("s", 500)} {
		wantProblem(t, "list with "+q, r.do("GET", "/v1/messages?"+q, bearerA, nil), 422, codeInvalid)
	}
	if a := r.do("GET", "/v1/messages?limit=secret-value", bearerA, nil); strings.Contains(a.body, "secret-value") {
		t.Errorf("problem = %s, want it not to repeat what was sent", a.body)
	}
	for _, c := range []struct {
		method, path, allow string
		status              int
	}{
		{"DELETE", "/v1/messages", "GET, HEAD", 405},
		{"POST", path(id, ""), "GET, HEAD", 405},
		{"GET", path(id, "/claim"), "POST", 405},
		{"POST", path(id, "/receipts/read"), "PUT", 405},
		{"PUT", path(id, "/receipts/seen"), "", 404},
		{"GET", "/", "", 404},
		{"GET", "/docs", "", 404},
		{"GET", "/openapi.yaml", "", 404},
		{"GET", "/v2/messages", "", 404},
	} {
		a := r.do(c.method, c.path, bearerA, nil)
		code := codeNotFound
		if c.status == 405 {
			code = codeMethod
		}
		wantProblem(t, c.method+" "+c.path, a, c.status, code)
		if got := a.header.Get("Allow"); got != c.allow {
			t.Errorf("%s %s: Allow = %q, want %q", c.method, c.path, got, c.allow)
		}
	}
}

func TestHead(t *testing.T) {
	r := newRig(t)
	id := r.message(alice)
	for _, c := range []struct {
		path, bearer, kind string
		status             int
	}{
		{path(id, ""), bearerA, "application/json", 200},
		{path(id, ""), "", "application/problem+json", 401},
		{path(id, ""), bearerBob, "application/problem+json", 404},
		{path(id, "/claim"), bearerA, "application/problem+json", 405},
	} {
		a := r.do("HEAD", c.path, c.bearer, nil)
		if a.status != c.status || a.header.Get("Content-Type") != c.kind || a.body != "" {
			t.Errorf("HEAD %s = %d %s %q, want %d %s and no body", c.path, a.status, a.header.Get("Content-Type"), a.body, c.status, c.kind)
		}
	}
	if rec, err := r.spool.Get(id); err != nil || rec.State != msg.Accepted {
		t.Errorf("after HEAD: %+v, %v, want ACCEPTED", rec, err)
	}
}

func TestBodyLimit(t *testing.T) {
	r := newRig(t)
	id := r.message(alice)
	big := strings.Repeat("x", maxBody+1)
	wantProblem(t, "claim with a long body", r.do("POST", path(id, "/claim"), bearerA, strings.NewReader(big)), 413, codeTooLarge)
	chunked := struct{ io.Reader }{strings.NewReader(big)} // no length announced
	wantProblem(t, "claim with a long chunked body", r.do("POST", path(id, "/claim"), bearerA, chunked), 413, codeTooLarge)
	if rec, err := r.spool.Get(id); err != nil || rec.State != msg.Accepted {
		t.Errorf("after the long bodies: %+v, %v, want ACCEPTED", rec, err)
	}
	if a := r.do("POST", path(id, "/claim"), bearerA, strings.NewReader(big[:maxBody])); a.status != 200 {
		t.Errorf("claim with a body of %d octets = %d %s, want 200", maxBody, a.status, a.body)
	}
}

func TestHeaderLimit(t *testing.T) {
	r := newRig(t)
	c, err := net.Dial("tcp", strings.TrimPrefix(r.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go fmt.Fprintf(c, "GET /v1/messages HTTP/1.1\r\nHost: x\r\nX-Long: %s\r\n\r\n", strings.Repeat("x", 64<<10)) // ends when c does
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("64 KiB of header = %d, want 431", res.StatusCode)
	}
}

func TestOpenAPI(t *testing.T) {
	r := newRig(t)
	a := r.do("GET", "/openapi.json", "", nil)
	if a.status != 200 || a.header.Get("Content-Type") != "application/openapi+json" || a.fields["openapi"] != "3.1.0" {
		t.Fatalf("GET /openapi.json = %d %s %v, want OpenAPI 3.1.0", a.status, a.header.Get("Content-Type"), a.fields["openapi"])
	}
	paths := a.fields["paths"].(map[string]any)
	for p, method := range map[string]string{
		"/v1/messages": "get", "/v1/messages/{id}": "get", "/v1/messages/{id}/claim": "post",
		"/v1/messages/{id}/receipts/delivered": "put", "/v1/messages/{id}/receipts/read": "put",
	} {
		op, ok := paths[p].(map[string]any)[method].(map[string]any)
		if !ok {
			t.Errorf("openapi.json: no %s %s", method, p)
			continue
		}
		if op["security"] == nil || op["requestBody"] != nil {
			t.Errorf("openapi.json: %s %s: security %v, requestBody %v, want a bearer and no body", method, p, op["security"], op["requestBody"])
		}
		refused, _ := json.Marshal(op["responses"].(map[string]any)["401"])
		if !strings.Contains(string(refused), "application/problem+json") || !strings.Contains(string(refused), "schemas/Problem") {
			t.Errorf("openapi.json: %s %s: 401 is %s, want a Problem", method, p, refused)
		}
	}
	if len(paths) != 9 {
		t.Errorf("openapi.json: %d paths, want 9", len(paths))
	}
	schema, _ := json.Marshal(a.fields["components"].(map[string]any)["schemas"])
	words := []string{`"superseded"`, `"claim_by"`, `"received_at"`}
	for _, state := range msg.States()[1:] {
		if state == msg.Held { // no app sees it
			continue
		}
		words = append(words, `"`+state.String()+`"`)
	}
	for _, word := range words {
		if !strings.Contains(string(schema), word) {
			t.Errorf("openapi.json: the schemas do not name %s", word)
		}
	}
}

// broken fails like a disk would, and as the text of a message would if it
// were ever an error's.
type broken struct {
	Spool
	panics bool
}

var errDisk = errors.New("disk: input/output error")

func (b broken) DoWithin(context.Context, time.Duration, spool.Event) spool.Result {
	if b.panics {
		panic(theText)
	}
	return spool.Result{Err: errDisk}
}

type noDevices struct{}

func (noDevices) ByBearer(string) (msg.Number, registry.Device, error) {
	return 0, registry.Device{}, errDisk
}

func TestFailuresBehind(t *testing.T) {
	r := newRig(t)
	id := r.message(alice)
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	whole := r.base
	serve := func(o Options) {
		o.Log = log
		r.base = r.serve(New(o), log)
	}

	serve(Options{Spool: broken{Spool: r.spool}, Devices: r.reg, Text: textOf})
	a := r.do("POST", path(id, "/claim"), bearerA, nil)
	wantProblem(t, "claim with a failing disk", a, 503, codeUnavailable)
	if a.header.Get("Retry-After") == "" {
		t.Error("claim with a failing disk: no Retry-After")
	}
	serve(Options{Spool: broken{r.spool, true}, Devices: r.reg, Text: textOf})
	wantProblem(t, "claim that panics", r.do("POST", path(id, "/claim"), bearerA, nil), 500, codeInternal)
	serve(Options{Spool: r.spool, Devices: noDevices{}, Text: textOf})
	wantProblem(t, "claim with a failing registry", r.do("POST", path(id, "/claim"), bearerA, nil), 503, codeUnavailable)
	serve(Options{Spool: r.spool, Devices: r.reg, Text: func([]*spool.Message) (string, error) { return "", errors.New("data_coding 0xF5") }})
	wantProblem(t, "claim of a message without a text", r.do("POST", path(id, "/claim"), bearerA, nil), 500, codeInternal)

	if rec, err := r.spool.Get(id); err != nil || rec.State != msg.Accepted {
		t.Errorf("after the failures: %+v, %v, want ACCEPTED", rec, err)
	}
	r.base = whole
	if a := r.do("POST", path(id, "/claim"), bearerA, nil); a.status != 200 {
		t.Errorf("claim after the failures = %d %s, want 200", a.status, a.body)
	}
}

// Whatever happens, the log holds neither text nor bearer nor a whole number.
func TestLogHoldsNoSecrets(t *testing.T) {
	r := newRig(t)
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	id := r.message(alice)
	r.do("POST", path(id, "/claim"), bearerA, nil)
	r.do("POST", path(id, "/claim"), bearerB, nil)
	r.do("GET", path(id, ""), "forged-bearer-forged-bearer", nil)
	r.base = r.serve(New(Options{Spool: broken{r.spool, true}, Devices: r.reg, Text: textOf, Log: log}), log)
	r.do("PUT", path(id, "/receipts/read"), bearerA, nil)
	text := r.log.String()
	if !strings.Contains(text, "panicked") || !strings.Contains(text, "status=409") {
		t.Errorf("log = %s, want it to tell of the panic and the 409", text)
	}
	for _, secret := range []string{theText, "Mødet", bearerA, bearerB, "forged-bearer", alice.String()[1:]} {
		if strings.Contains(text, secret) {
			t.Errorf("the log holds %q:\n%s", secret, text)
		}
	}
}

// Serve reports a listener that dies, and ends in peace with its context.
func TestServeEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	log := slog.New(slog.DiscardHandler)
	if err := Serve(t.Context(), l, http.NotFoundHandler(), log); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve on a closed listener = %v, want net.ErrClosed", err)
	}
}
