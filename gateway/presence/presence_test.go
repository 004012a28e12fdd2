package presence

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"shunt/gateway/msg"
	"shunt/store/registry"
)

const subscriber msg.Number = 447700900042

func TestTransitions(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		reg, err := registry.Open(registry.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := reg.Put(t.Context(), registry.Put{Number: subscriber, App: "chat", Platform: registry.FCM, Token: "t", Device: "d", Active: true}); err != nil {
			t.Fatal(err)
		}
		if err := reg.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		tracker := New(Options{
			Registry: reg, Log: slog.New(slog.DiscardHandler),
			Apps: map[string]Limits{"chat": {ActiveFor: 24 * time.Minute, InactiveAfter: 7 * 24 * time.Minute, MissedClaims: 3}},
		})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { tracker.Run(ctx); close(done) }()
		want := func(when string, active, stale bool) {
			t.Helper()
			if e := reg.Lookup(subscriber); e.Active() != active || e.Stale() != stale {
				t.Errorf("%s: active %t, stale %t, want %t, %t", when, e.Active(), e.Stale(), active, stale)
			}
		}
		after := func(d time.Duration) { time.Sleep(d); synctest.Wait() }

		after(23 * time.Minute)
		want("after 23 min", true, false)
		tracker.Evidence(subscriber, "d", "chat")
		after(23 * time.Minute)
		want("23 min after a heartbeat", true, false)
		generation := reg.Lookup(subscriber).Generation()
		after(5 * time.Minute)
		want("28 min after it", true, true)
		if g := reg.Lookup(subscriber).Generation(); g != generation+1 {
			t.Errorf("the transition wrote %d times, want once", g-generation)
		}
		after(6 * 24 * time.Minute)
		want("after a long time", false, false)
		tracker.Evidence(subscriber, "d", "chat")
		after(4 * time.Minute)
		want("after evidence", true, false)
		for range 3 {
			tracker.Missed(subscriber, "chat")
		}
		synctest.Wait()
		want("after three missed claims", false, false)
		time.Sleep(time.Second)
		tracker.Evidence(subscriber, "d", "chat")
		after(4 * time.Minute)
		want("after evidence again", true, false)
		stop()
		<-done
		if err := reg.Close(); err != nil {
			t.Error(err)
		}
	})
}
