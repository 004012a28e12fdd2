package api

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"shunt/gateway/receipt"
	"shunt/smpp/coding"
	"shunt/store/spool"
)

func (r *rig) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (r *rig) withReplies(rate int) {
	compose := func(rec *spool.Record, m *spool.Message, text string) ([][]byte, error) {
		return receipt.BuildReply(rec, m.PDU, coding.GSM7, text, 1)
	}
	r.base = r.serve(New(Options{
		Spool: r.spool, Devices: r.reg, Text: textOf, Log: r.logger(), Rate: func(string) int { return rate }, Origins: []string{"https://app.example.com"},
		Replies: &Replies{Spool: r.spool, Compose: compose, Validity: time.Hour},
	}), r.logger())
}

func (r *rig) post(body, key, bearer string) answer {
	r.t.Helper()
	req, err := http.NewRequest("POST", r.base+"/v1/replies", strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set(headerOnce, key)
	}
	return r.send(req)
}

// TestReply: accepted once for its key, whatever is repeated and whoever asks;
// refused in words for all that is wrong, and then nothing waits.
func TestReply(t *testing.T) {
	r := newRig(t)
	r.withReplies(0)
	id, unclaimed := r.message(alice), r.message(alice)
	body := fmt.Sprintf(`{"message_id":%q,"text":"Gerne 👍"}`, id)
	wantProblem(t, "reply before the claim", r.post(body, "k", bearerA), 409, codeNotClaimed)
	if a := r.do("POST", path(id, "/claim"), bearerA, nil); a.status != 200 {
		t.Fatalf("claim = %d", a.status)
	}
	for name, c := range map[string]struct {
		body, bearer, code string
		status             int
	}{
		"by another number": {body, bearerBob, codeNotFound, 404},
		"by another app":    {body, bearerOther, codeNotFound, 404},
		"by nobody":         {body, "forged-bearer-forged", codeUnauthorized, 401},
		"to nothing":        {`{"text":"x"}`, bearerA, codeInvalid, 422},
		"to two":            {fmt.Sprintf(`{"message_id":%q,"to":"x","text":"x"}`, id), bearerA, codeInvalid, 422},
		"without a text":    {fmt.Sprintf(`{"message_id":%q}`, id), bearerA, codeInvalid, 422},
		"empty":             {fmt.Sprintf(`{"message_id":%q,"text":""}`, id), bearerA, codeInvalid, 422},
		"too long":          {fmt.Sprintf(`{"message_id":%q,"text":%q}`, id, strings.Repeat("x", 1001)), bearerA, codeInvalid, 422},
		"unknown field":     {fmt.Sprintf(`{"message_id":%q,"text":"x","more":1}`, id), bearerA, codeInvalid, 422},
		"to a stranger":     {`{"to":"NOBODY","text":"x"}`, bearerA, codeNotFound, 404},
		"not claimed":       {fmt.Sprintf(`{"message_id":%q,"text":"x"}`, unclaimed), bearerA, codeNotClaimed, 409},
		"huge":              {`{"text":"` + strings.Repeat("x", maxBody) + `"}`, bearerA, codeTooLarge, 413},
	} {
		wantProblem(t, name, r.post(c.body, "", c.bearer), c.status, c.code)
	}
	if n := r.spool.WaitingReplies(); n != 0 {
		t.Fatalf("%d replies wait after those that were refused", n)
	}
	first := r.post(body, "key-1", bearerA)
	if first.status != 202 || first.fields["message_id"] != id.String() {
		t.Fatalf("reply = %d %s, want 202", first.status, first.body)
	}
	if again := r.post(body, "key-1", bearerA); again.status != 202 || again.body != first.body {
		t.Errorf("again = %d %s, want %s", again.status, again.body, first.body)
	}
	r.withReplies(0) // another process: only what is on disk is known
	if again := r.post(body, "key-1", bearerA); again.status != 202 || again.body != first.body {
		t.Errorf("again after a restart = %d %s, want %s", again.status, again.body, first.body)
	}
	wantProblem(t, "the key with another text", r.post(strings.Replace(body, "Gerne", "Nej", 1), "key-1", bearerA), 422, codeKeyReused)
	if n := r.spool.WaitingReplies(); n != 1 {
		t.Errorf("%d replies wait, want one", n)
	}
	if a := r.post(fmt.Sprintf(`{"to":%q,"text":"x"}`, senderOf(id)), "key-2", bearerB); a.status != 202 || a.fields["message_id"] != id.String() {
		t.Errorf("to a sender = %d %s, want 202 and the message of its thread", a.status, a.body)
	}
	if log := r.log.String(); strings.Contains(log, "Gerne") || strings.Contains(log, alice.String()) {
		t.Error("the log holds a reply's text or a whole number")
	}
}

// TestRateLimit: a device has its quota, and each its own.
func TestRateLimit(t *testing.T) {
	r := newRig(t)
	r.withReplies(1) // ten at once
	var a answer
	for i := range 12 {
		if a = r.do("PUT", path(r.spool.NewID(), "/receipts/read"), bearerA, nil); a.status == 429 {
			if i < 10 {
				t.Errorf("refused after %d", i)
			}
			break
		}
		if a.header.Get("RateLimit-Policy") != `"device";q=10;w=10` || !strings.HasPrefix(a.header.Get("RateLimit"), `"device";r=`) {
			t.Errorf("headers %v", a.header)
		}
	}
	wantProblem(t, "one too many", a, 429, codeTooMany)
	if a.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After = %q, want 1", a.header.Get("Retry-After"))
	}
	wantProblem(t, "in the general way", r.do("GET", "/v1/messages", bearerA, nil), 429, codeTooMany)
	if a := r.do("GET", "/v1/messages", bearerB, nil); a.status != 200 {
		t.Errorf("the other device = %d", a.status)
	}
}

// TestCORS: only for a listed origin.
func TestCORS(t *testing.T) {
	r := newRig(t)
	r.withReplies(0)
	for origin, want := range map[string]string{"https://app.example.com": "https://app.example.com", "https://evil.example": "", "null": ""} {
		req, _ := http.NewRequest("OPTIONS", r.base+"/v1/replies", nil)
		req.Header.Set("Origin", origin)
		req.Header.Set("Access-Control-Request-Method", "POST")
		a := r.send(req)
		if got := a.header.Get("Access-Control-Allow-Origin"); got != want || (a.status == 204) != (want != "") {
			t.Errorf("preflight of %s = %d, allowed %q, want %q", origin, a.status, got, want)
		}
	}
}
