package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/errors"

	"shunt/gateway/msg"
	"shunt/gateway/prove"
	"shunt/gateway/receipt"
	"shunt/smpp/coding"
	"shunt/store/spool"
)

// document is /openapi.json, read by a library that this program does not use.
func (r *rig) document() (raw map[string]any, v validator.Validator) {
	r.t.Helper()
	resp, err := r.http.Get(r.base + "/openapi.json")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		r.t.Fatal(err)
	}
	doc, err := libopenapi.NewDocument(b)
	if err != nil {
		r.t.Fatalf("the document: %v", err)
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		r.t.Fatalf("the document: %v", errs)
	}
	return raw, v
}

// whole is the API with all that it can offer.
func whole(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	log := r.logger()
	service := prove.New(prove.Options{
		Registry: r.reg, Key: []byte("a key of the test"), Sender: "ACME", ShortCode: "60555", StopWords: []string{"STOP"},
		Text: "{app}: {code}", Send: func(string, msg.Number, string) {}, Log: log,
		Alarms: prove.AlarmLimits{PrefixDigits: 6, Sequence: 10, Sent: 50},
	})
	compose := func(rec *spool.Record, m *spool.Message, text string) ([][]byte, error) {
		return receipt.BuildReply(rec, m.PDU, coding.GSM7, text, 1)
	}
	r.base = r.serve(New(Options{
		Spool: r.spool, Devices: r.reg, Text: textOf, Log: log,
		Owners:  Owners{Prove: service, Registry: r.reg, Apps: func(id string) bool { return id == "chat" }, Grace: time.Minute},
		Replies: &Replies{Spool: r.spool, Compose: compose, Validity: time.Hour},
		Streams: NewStreams(8),
	}), log)
	return r
}

// operation is one of the document.
type operation struct {
	method, path string
	fields       map[string]any
}

func operationsOf(raw map[string]any) (all []operation) {
	paths := raw["paths"].(map[string]any)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item := paths[path].(map[string]any)
		for _, method := range slices.Sorted(maps.Keys(item)) {
			if fields, ok := item[method].(map[string]any); ok && fields["operationId"] != nil {
				all = append(all, operation{strings.ToUpper(method), path, fields})
			}
		}
	}
	return all
}

// TestDocument: the document is a valid OpenAPI 3.1 document; every request,
// answer and problem has an example, and every example fits its schema.
func TestDocument(t *testing.T) {
	r := whole(t)
	raw, v := r.document()
	if ok, errs := v.ValidateDocument(); !ok {
		for _, e := range errs {
			t.Errorf("the document: %s: %s", e.Message, e.Reason)
		}
	}
	all := operationsOf(raw)
	if len(all) != 13 {
		t.Fatalf("%d operations in the document", len(all))
	}
	for _, op := range all {
		name := op.method + " " + op.path
		request := exampleIn(t, name+" request", op.fields["requestBody"], "application/json")
		for status, response := range op.fields["responses"].(map[string]any) {
			what := fmt.Sprintf("%s: %s", name, status)
			content, _ := response.(map[string]any)["content"].(map[string]any)
			for kind := range content {
				example := exampleIn(t, what, response, kind)
				if example == nil || kind == "text/event-stream" {
					continue
				}
				var code int
				if _, err := fmt.Sscan(status, &code); err != nil {
					t.Errorf("%s is no status", what)
					continue
				}
				req := exampleRequest(r, op, request)
				resp := &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(bytes.NewReader(example))}
				if ok, errs := v.ValidateHttpResponse(req, resp); !ok {
					for _, e := range errs {
						t.Errorf("%s: the example %s does not fit: %s: %s", what, example, e.Message, e.Reason)
					}
				}
			}
		}
		if request != nil {
			if ok, errs := v.ValidateHttpRequest(exampleRequest(r, op, request)); !ok {
				for _, e := range errs {
					t.Errorf("%s: the example %s does not fit: %s: %s", name, request, e.Message, e.Reason)
				}
			}
		}
	}
}

func reasons(all []*errors.SchemaValidationFailure) (list []string) {
	for _, f := range all {
		list = append(list, f.FieldPath+": "+f.Reason)
	}
	return list
}

// exampleIn is the example of a body; nil where it has none of that kind.
func exampleIn(t *testing.T, what string, body any, kind string) []byte {
	t.Helper()
	b, _ := body.(map[string]any)
	content, _ := b["content"].(map[string]any)
	media, _ := content[kind].(map[string]any)
	if media == nil {
		return nil
	}
	if media["example"] == nil {
		t.Errorf("%s: no example of %s", what, kind)
		return nil
	}
	example, err := json.Marshal(media["example"])
	if err != nil {
		t.Fatal(err)
	}
	return example
}

func exampleRequest(r *rig, op operation, body []byte) *http.Request {
	path := strings.NewReplacer("{id}", exampleID).Replace(op.path)
	req, err := http.NewRequest(op.method, r.base+path, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer example")
	return req
}

// TestFuzzFromDocument sends what the document allows and what it does not:
// every answer is one that the document names and fits its schema, none is the
// gateway's failure, and nothing of what was refused takes effect.
func TestFuzzFromDocument(t *testing.T) {
	r := whole(t)
	raw, v := r.document()
	ids := []string{r.message(alice).String(), r.message(bob).String(), "phone", "phone", "new", exampleID, "x", "%00", "..%2f", strings.Repeat("9", 200), "%e2%82%ac"}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	g := &generator{rand.New(rand.NewPCG(seed, 1)), raw, ids[0]}
	seen := make(map[string]int)
	all := operationsOf(raw)
	for range 4000 {
		op := all[g.IntN(len(all))]
		if op.path == "/v1/stream" && g.IntN(50) > 0 {
			continue // an open stream lasts
		}
		id := ids[g.IntN(len(ids))]
		if op.method == http.MethodDelete && id == "phone" {
			continue // it is needed
		}
		body := g.body(op)
		path := strings.ReplaceAll(op.path, "{id}", id) + g.query(op)
		req, err := http.NewRequest(op.method, r.base+path, bytes.NewReader(body))
		if err != nil {
			t.Fatalf("%s %s: %v", op.method, path, err)
		}
		g.headers(req, op)
		what := fmt.Sprintf("%s %s %q %q", op.method, path, req.Header.Get("Authorization"), body)
		if len(what) > 400 {
			what = what[:400]
		}
		resp, err := r.http.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if resp.Header.Get("Content-Type") == "text/event-stream" {
			_ = resp.Body.Close()
			continue
		}
		answer, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		seen[fmt.Sprintf("%s %s %d", op.method, op.path, resp.StatusCode)]++
		if op.fields["responses"].(map[string]any)[fmt.Sprint(resp.StatusCode)] == nil {
			t.Errorf("%s: status %d is not in the document (seed %d): %s", what, resp.StatusCode, seed, answer)
			continue
		}
		if resp.StatusCode == http.StatusInternalServerError {
			t.Errorf("%s: the gateway failed (seed %d): %s", what, seed, answer)
		}
		resp.Body = io.NopCloser(bytes.NewReader(answer))
		if ok, errs := v.ValidateHttpResponse(exampleRequest(r, op, nil), resp); !ok {
			for _, e := range errs {
				t.Errorf("%s: %d %s does not fit (seed %d): %s: %s: %+v", what, resp.StatusCode, answer, seed, e.Message, e.Reason, reasons(e.SchemaValidationErrors))
			}
		}
	}
	for _, op := range all {
		good, bad := 0, 0
		for k, n := range seen {
			if name, status, _ := strings.Cut(strings.TrimPrefix(k, op.method+" "), " "); strings.HasPrefix(k, op.method+" ") && name == op.path {
				if status < "3" {
					good += n
				} else {
					bad += n
				}
			}
		}
		if op.path != "/v1/stream" && bad == 0 {
			t.Errorf("%s %s was never refused: the generator is too kind", op.method, op.path)
		}
		t.Logf("%-5s %-38s %4d well, %4d refused", op.method, op.path, good, bad)
	}
	if text := r.log.String(); strings.Contains(text, "panic") {
		t.Error("a handler panicked: see the log")
	}
	for _, other := range []string{"tablet", "banking"} { // no bearer of theirs was used
		if reg, err := r.reg.Get(alice); err != nil {
			t.Error(err)
		} else if _, ok := reg.Device(other); !ok {
			t.Errorf("alice's %s is gone", other)
		}
	}
}

// generator makes requests from schemas.
type generator struct {
	*rand.Rand
	raw     map[string]any
	message string // the id of one that the first bearer may claim
}

func (g *generator) oneIn(n int) bool { return g.IntN(n) == 0 }

func (g *generator) resolve(schema any) map[string]any {
	s, _ := schema.(map[string]any)
	if ref, ok := s["$ref"].(string); ok {
		at := any(g.raw)
		for _, part := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
			at = at.(map[string]any)[part]
		}
		return g.resolve(at)
	}
	return s
}

func (g *generator) body(op operation) []byte {
	b, _ := op.fields["requestBody"].(map[string]any)
	if b == nil {
		if g.oneIn(8) {
			return []byte(`{"surprise":true}`)
		}
		return nil
	}
	switch g.IntN(24) {
	case 0:
		return nil
	case 1:
		return []byte([]string{"{", "null", "[]", "\"x\"", "12", "{\"a\":}", "\xff\xfe", "{}{}", strings.Repeat("[", 3000)}[g.IntN(9)])
	case 2:
		return bytes.Repeat([]byte("x"), maxBody+1+g.IntN(1<<16))
	}
	media := b["content"].(map[string]any)["application/json"].(map[string]any)
	if example := media["example"]; example != nil && g.oneIn(3) {
		out, _ := json.Marshal(example)
		return out
	}
	out, _ := json.Marshal(g.value(media["schema"], 0))
	return out
}

var strange = []any{nil, true, -1, 1e308, "", "\u0000", "é", "𝄞", strings.Repeat("a", 5000), []any{}, map[string]any{}, []any{1, "x"}}

// value fits the schema, or, one time in ten, does not.
func (g *generator) value(schema any, depth int) any {
	s := g.resolve(schema)
	if g.oneIn(25) || depth > 4 {
		return strange[g.IntN(len(strange))]
	}
	if e, ok := s["examples"].([]any); ok && len(e) > 0 && g.oneIn(2) {
		return e[0]
	}
	if e, ok := s["enum"].([]any); ok {
		return e[g.IntN(len(e))]
	}
	kind := s["type"]
	if list, ok := kind.([]any); ok {
		kind = list[g.IntN(len(list))]
	}
	switch kind {
	case "object":
		out := make(map[string]any)
		properties, _ := s["properties"].(map[string]any)
		required, _ := s["required"].([]any)
		for name, p := range properties {
			if must := slices.Contains(required, any(name)); must && !g.oneIn(20) || !must && g.oneIn(2) {
				if out[name] = g.value(p, depth+1); name == "message_id" && g.oneIn(2) {
					out[name] = g.message
				}
			}
		}
		if g.oneIn(10) {
			out["unknown"] = strange[g.IntN(len(strange))]
		}
		return out
	case "array":
		out := make([]any, g.IntN(4))
		for i := range out {
			out[i] = g.value(s["items"], depth+1)
		}
		return out
	case "integer", "number":
		return g.IntN(600) - 100
	case "boolean":
		return g.oneIn(2)
	}
	n := g.IntN(30)
	if most, ok := s["maxLength"].(float64); ok && g.oneIn(4) {
		n = int(most) + g.IntN(2)
	}
	letters := []rune("aZ09+/=-_. é")
	out := make([]rune, n)
	for i := range out {
		out[i] = letters[g.IntN(len(letters))]
	}
	return string(out)
}

func (g *generator) query(op operation) string {
	parameters, _ := op.fields["parameters"].([]any)
	var q []string
	for _, p := range parameters {
		p := p.(map[string]any)
		if p["in"] == "query" && g.oneIn(2) {
			q = append(q, fmt.Sprintf("%s=%s", p["name"], []string{"", "1", "-1", "abc", exampleID, "%00", strings.Repeat("9", 40)}[g.IntN(7)]))
		}
	}
	if len(q) == 0 {
		return ""
	}
	return "?" + strings.Join(q, "&")
}

func (g *generator) headers(req *http.Request, op operation) {
	if g.oneIn(2) {
		req.Header.Set("Authorization", "Bearer "+[]string{bearerA, bearerBob}[g.IntN(2)])
	} else if auth := []string{"", "Bearer " + bearerA, "Bearer " + bearerBob, "Bearer forged", "Basic eDp5", "DPoP x", "Bearer"}[g.IntN(7)]; auth != "" {
		req.Header.Set("Authorization", auth)
	}
	if !g.oneIn(10) {
		req.Header.Set("Content-Type", "application/json")
	} else {
		req.Header.Set("Content-Type", []string{"text/plain", "application/xml", "", "application/json; charset=latin1", "x"}[g.IntN(5)])
	}
	parameters, _ := op.fields["parameters"].([]any)
	for _, p := range parameters {
		p := p.(map[string]any)
		if p["in"] == "header" && g.oneIn(4) {
			req.Header.Set(p["name"].(string), []string{"k1", "k2", strings.Repeat("k", 300), "\"q\"", "a b"}[g.IntN(5)])
		}
	}
	if g.oneIn(12) {
		req.Header.Set("DPoP", []string{"x", "a.b.c", strings.Repeat("e", 9000)}[g.IntN(3)])
	}
}
