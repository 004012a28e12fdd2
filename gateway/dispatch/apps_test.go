package dispatch

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"shunt/gateway/msg"
	"shunt/push"
	"shunt/store/registry"
)

// TestSetAppsFinishesWhatIsUnderWay: a push that is under way ends with the
// sender it began with, and so does what waits behind it; what comes later goes
// to the new one, and of an app that is gone to the carrier.
func TestSetAppsFinishesWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := &provider{}
		begun, hold := make(chan struct{}, 2), make(chan struct{})
		old.script = func(push.Notification, int) push.Result {
			begun <- struct{}{}
			<-hold
			return push.Result{Outcome: push.Accepted}
		}
		b := start(t, func(o *Options) {
			o.Apps = []App{{ID: "chat", Senders: map[registry.Platform]push.Sender{registry.APNs: old}, Workers: 1}}
		})
		b.device("a", nil)
		first := b.put(b.message())
		<-begun
		second := b.put(b.message()) // waits for the one worker
		synctest.Wait()

		next := &provider{script: outcomes(map[string][]push.Outcome{"token-a": {push.Accepted}})}
		done := b.d.SetApps([]App{{ID: "chat", Senders: map[registry.Platform]push.Sender{registry.APNs: next}}})
		third := b.put(b.message())
		b.wantState(third, msg.Pushed)
		select {
		case <-done:
			t.Error("the old sender is of no more use while its push is under way")
		default:
		}
		if err := b.d.Ping(t.Context()); err != nil {
			t.Errorf("Ping() = %v", err)
		}
		close(hold)
		<-done
		b.wantState(first, msg.Pushed)
		b.wantState(second, msg.Pushed)
		if o, n := len(old.pushes()), len(next.pushes()); o != 2 || n != 1 {
			t.Errorf("%d pushes the old way and %d the new one, want 2 and 1", o, n)
		}

		<-b.d.SetApps(nil)
		if b.d.Available("chat", claimTime) {
			t.Error("an app that is gone is available")
		}
		late := b.put(b.message())
		synctest.Wait()
		if reason, _ := b.reason(late, msg.EvPushDead); reason != msg.ReasonAppDown {
			t.Errorf("a message of an app that is gone: %s, want %s", reason, msg.ReasonAppDown)
		}
		if len(next.pushes()) != 1 {
			t.Errorf("%d pushes, want none more", len(next.pushes()))
		}
	})
}

// TestSetAppsKeeps an app whose senders are the same: its breaker, for one.
func TestSetAppsKeeps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{}
		all := []App{{ID: "chat", Senders: map[registry.Platform]push.Sender{registry.APNs: p}}}
		b := start(t, func(o *Options) { o.Apps = all })
		was := b.d.apps.named("chat")
		all[0].Text = true
		<-b.d.SetApps(append(all, App{ID: "news", Senders: map[registry.Platform]push.Sender{registry.APNs: p}}))
		if now := b.d.apps.named("chat"); now != was || !now.text.Load() {
			t.Errorf("same app %t, text %t: want both", now == was, now.text.Load())
		}
		if !b.d.Available("news", claimTime) {
			t.Error("the new app is not available")
		}
	})
}

// A ping that meets an app which is replaced is answered all the same: the
// watchdog would end the process.
func TestPingMeetsSetApps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ended := make(chan error, 1)
		go func() {
			for range 1000 {
				if err := b.d.Ping(ctx); err != nil {
					ended <- err
					return
				}
			}
			ended <- nil
		}()
		for range 1000 {
			b.d.SetApps([]App{{ID: "chat", Senders: map[registry.Platform]push.Sender{registry.APNs: &provider{}}, Workers: 1}})
		}
		if err := <-ended; err != nil {
			t.Errorf("Ping() = %v", err)
		}
	})
}
