package dispatch

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"shunt/gateway/msg"
	"shunt/push"
	"shunt/store/registry"
)

// TestBreakerOpens: a provider that takes nothing costs five pushes. After
// that messages fall back at once, none is accepted for the app, and one probe
// a pause brings it back.
func TestBreakerOpens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.device("phone", nil)
		var down atomic.Bool
		down.Store(true)
		b.provider.script = func(push.Notification, int) push.Result {
			if down.Load() {
				return push.Result{Outcome: push.Busy, Reason: "http-503"}
			}
			return push.Result{Outcome: push.Accepted}
		}
		for range 5 {
			b.wantState(b.put(b.message()), msg.Fallback)
		}
		if b.d.Available("chat") {
			t.Error("Available() with an open breaker")
		}
		id := b.put(b.message())
		b.wantState(id, msg.Fallback)
		if reason, detail := b.reason(id, msg.EvPushDead); reason != msg.ReasonProviderBusy || !strings.Contains(detail, breakerOpen) {
			t.Errorf("fell back for %s, %q", reason, detail)
		}
		if n := len(b.provider.pushes()); n != 5 {
			t.Errorf("%d pushes, want 5", n)
		}
		l := b.d.Lanes()
		if len(l) != 1 || l[0].App != "chat" || l[0].Platform != registry.APNs || l[0].Breaker.State != push.BreakerOpen || l[0].Breaker.Trips != 1 {
			t.Errorf("Lanes() = %+v", l)
		}
		down.Store(false)
		time.Sleep(2 * time.Second) // of the bubble's clock: beyond the first pause
		if !b.d.Available("chat") {
			t.Error("not Available() for a probe")
		}
		b.wantState(b.put(b.message()), msg.Pushed)
		if s := b.d.Lanes()[0].Breaker; s.State != push.BreakerClosed {
			t.Errorf("breaker after a probe that was accepted: %+v", s)
		}
	})
}

// TestRestingToken: a token that its provider wants left alone rests by itself;
// the lane goes on.
func TestRestingToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.device("phone", nil)
		b.provider.script = func(push.Notification, int) push.Result {
			return push.Result{Outcome: push.Busy, Reason: "TooManyRequests", TokenBusy: true, RetryAfter: 20 * time.Second}
		}
		for range 10 {
			b.wantState(b.put(b.message()), msg.Fallback)
		}
		if n := len(b.provider.pushes()); n != 1 {
			t.Errorf("%d pushes to a resting token, want 1", n)
		}
		if !b.d.Available("chat") {
			t.Error("one token closed the lane")
		}
		time.Sleep(20 * time.Second)
		b.wantState(b.put(b.message()), msg.Fallback)
		if n := len(b.provider.pushes()); n != 2 {
			t.Errorf("%d pushes after the rest, want 2", n)
		}
	})
}

func TestRestingIsBounded(t *testing.T) {
	var r resting
	now := time.Unix(1, 0)
	for i := range maxResting + 10 {
		r.add(strings.Repeat("x", i%7)+string(rune(i)), now, time.Minute)
	}
	if len(r.until) > maxResting {
		t.Errorf("%d tokens rest, at most %d", len(r.until), maxResting)
	}
	r.add("late", now.Add(time.Hour), 0)
	if len(r.until) != 1 {
		t.Errorf("%d tokens after all rests were over, want 1", len(r.until))
	}
}
