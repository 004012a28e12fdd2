package api

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/gateway/prove"
)

// An Idempotency-Key: 409 while the first request is under way, then its answer
// again for a day, and after that a new request.
func TestIdempotencyKey(t *testing.T) {
	sending, release := make(chan struct{}, 1), make(chan struct{})
	var sent atomic.Int32
	r, clock, _, sms := ownersAt(t, func(o *prove.Options) {
		send := o.Send
		o.Send = func(from string, to msg.Number, text string) {
			send(from, to, text)
			if sent.Add(1) == 1 {
				sending <- struct{}{}
				<-release
			}
		}
	})
	let := sync.OnceFunc(func() { close(release) })
	t.Cleanup(let)
	const body = `{"number":"+447700900777","app":"chat"}`
	begin := func(body string) answer {
		return r.call("POST", "/v1/verifications", body, headerOnce, "key-1")
	}
	first := make(chan answer, 1)
	go func() { first <- begin(body) }()
	<-sending
	second := begin(body)
	wantProblem(t, "while the first is under way", second, http.StatusConflict, codeInFlight)
	if second.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After = %q, want 1", second.header.Get("Retry-After"))
	}
	wantProblem(t, "another request meanwhile", begin(`{"number":"+447700900778","app":"chat"}`), http.StatusUnprocessableEntity, codeKeyReused)
	if a := r.call("POST", "/v1/verifications", `{"number":"+447700900779","app":"chat"}`, headerOnce, "key-2"); a.status != http.StatusAccepted {
		t.Errorf("another key meanwhile = %d %s", a.status, a.body)
	}
	let()
	a := <-first
	if a.status != http.StatusAccepted {
		t.Fatalf("the first = %d %s", a.status, a.body)
	}
	clock.advance(onceFor - time.Second)
	if again := begin(body); again.status != a.status || again.body != a.body {
		t.Errorf("a second before the day is over = %d %s, want %s", again.status, again.body, a.body)
	}
	if len(sms) != 2 {
		t.Errorf("%d SMS, want one for each key", len(sms))
	}
	clock.advance(2 * time.Second)
	if again := begin(body); again.status != http.StatusAccepted || again.fields["id"] == a.fields["id"] {
		t.Errorf("after the day = %d %s, want a verification of its own", again.status, again.body)
	}
}

// What was refused is not kept: the next request with that key tries anew.
func TestIdempotencyKeyOfARefusal(t *testing.T) {
	r, clock, _, _ := ownersAt(t, nil)
	const body = `{"number":"+447700900777","app":"chat"}`
	if a := r.call("POST", "/v1/verifications", body); a.status != http.StatusAccepted {
		t.Fatalf("verification = %d %s", a.status, a.body)
	}
	wantProblem(t, "at once", r.call("POST", "/v1/verifications", body, headerOnce, "key-1"), http.StatusTooManyRequests, "limit-resend")
	clock.advance(31 * time.Second)
	if a := r.call("POST", "/v1/verifications", body, headerOnce, "key-1"); a.status != http.StatusAccepted {
		t.Errorf("the same key after the pause = %d %s", a.status, a.body)
	}
}
