package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
	"shunt/push"
	"shunt/store/registry"
	"shunt/store/spool"
)

// outcomes answers by token: one outcome an attempt, the last for the rest.
func outcomes(by map[string][]push.Outcome) func(push.Notification, int) push.Result {
	return func(n push.Notification, attempt int) push.Result {
		list := by[n.Token]
		return push.Result{Outcome: list[min(attempt, len(list))-1], Reason: "TheirReason"}
	}
}

func TestPushOutcomes(t *testing.T) {
	const accepted, unknown, dead, busy, rejected, denied = push.Accepted, push.Unknown, push.TokenDead, push.Busy, push.Rejected, push.Denied
	type answers = map[string][]push.Outcome
	for _, c := range []struct {
		name    string
		answers answers // devices are registered in the order of their names
		state   msg.State
		pushes  int
		event   msg.Event
		reason  msg.Reason
		detail  string
		left    []string // devices
	}{
		{"accepted", answers{"token-a": {accepted}}, msg.Pushed, 1, msg.EvPushAccepted, 0, "apns", []string{"a"}},
		{"unknown is never failed", answers{"token-a": {unknown}}, msg.Pushing, 2, msg.EvPushBegin, 0, "", []string{"a"}},
		{"unknown, then accepted", answers{"token-a": {unknown, accepted}}, msg.Pushed, 2, msg.EvPushAccepted, 0, "apns", []string{"a"}},
		{"unknown, then busy", answers{"token-a": {unknown, busy}}, msg.Fallback, 2, msg.EvPushDead, msg.ReasonProviderBusy, "TheirReason", []string{"a"}},
		{"dead", answers{"token-a": {dead}}, msg.Fallback, 1, msg.EvPushDead, msg.ReasonTokenDead, "TheirReason", nil},
		{"busy", answers{"token-a": {busy}}, msg.Fallback, 1, msg.EvPushDead, msg.ReasonProviderBusy, "TheirReason", []string{"a"}},
		{"rejected", answers{"token-a": {rejected}}, msg.Fallback, 1, msg.EvPushDead, msg.ReasonRejected, "TheirReason", []string{"a"}},
		{"denied", answers{"token-a": {denied}}, msg.Fallback, 1, msg.EvPushDead, msg.ReasonRejected, "TheirReason", []string{"a"}},
		{"two accept", answers{"token-a": {accepted}, "token-b": {accepted}}, msg.Pushed, 2, msg.EvPushAccepted, 0, "apns", []string{"a", "b"}},
		{"dead and accepted", answers{"token-a": {dead}, "token-b": {accepted}}, msg.Pushed, 2, msg.EvPushAccepted, 0, "apns", []string{"b"}},
		{"accepted and dead", answers{"token-a": {accepted}, "token-b": {dead}}, msg.Pushed, 2, msg.EvPushAccepted, 0, "apns", []string{"a"}},
		{"dead and unknown", answers{"token-a": {dead}, "token-b": {unknown}}, msg.Pushing, 3, msg.EvPushBegin, 0, "", []string{"b"}},
		{"unknown and rejected", answers{"token-a": {unknown}, "token-b": {rejected}}, msg.Pushing, 3, msg.EvPushBegin, 0, "", []string{"a", "b"}},
		{"both dead", answers{"token-a": {dead}, "token-b": {dead}}, msg.Fallback, 2, msg.EvPushDead, msg.ReasonTokenDead, "TheirReason", nil},
		{"busy and dead", answers{"token-a": {busy}, "token-b": {dead}}, msg.Fallback, 2, msg.EvPushDead, msg.ReasonTokenDead, "TheirReason", []string{"a"}},
		{"no device", nil, msg.Fallback, 0, msg.EvPushDead, msg.ReasonNoDevice, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, nil)
				b.provider.script = outcomes(c.answers)
				for _, name := range []string{"a", "b"} {
					if c.answers["token-"+name] != nil {
						b.device(name, nil)
					}
				}
				time.Sleep(time.Second) // the tokens are older than the message
				id := b.put(b.message())
				b.wantState(id, c.state)
				if n := len(b.provider.pushes()); n != c.pushes {
					t.Errorf("%d pushes, want %d", n, c.pushes)
				}
				if reason, detail := b.reason(id, c.event); reason != c.reason || detail != c.detail {
					t.Errorf("%s: %s %q, want %s %q", c.event, reason, detail, c.reason, c.detail)
				}
				var left []string
				if reg, err := b.registry.Get(subscriber); err == nil {
					for _, d := range reg.Devices {
						left = append(left, d.ID)
					}
				}
				if diff := cmp.Diff(c.left, left); diff != "" {
					t.Errorf("devices that are left (-want +got):\n%s", diff)
				}
				var counted uint64
				for i := range b.d.Counters.Pushes {
					counted += b.d.Counters.Pushes[i].Load()
				}
				if counted != uint64(c.pushes) || b.d.Counters.TokensDropped.Load() != uint64(len(c.answers)-len(c.left)) {
					t.Errorf("%d pushes and %d dropped tokens were counted, want %d and %d",
						counted, b.d.Counters.TokensDropped.Load(), c.pushes, len(c.answers)-len(c.left))
				}
				// Whatever the push came to, without a claim there is one SMS.
				time.Sleep(11 * time.Second)
				b.wantState(id, msg.Fallback)
				if n := len(b.carrier.submits()); n != 1 {
					t.Errorf("%d SMS after the claim deadline, want 1", n)
				}
			})
		})
	}
}

// TestNotification: a doorbell, never the text.
func TestNotification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.device("phone", func(p *registry.Put) { p.Sandbox = true })
		m := b.message()
		b.put(m)
		synctest.Wait()
		want := []push.Notification{{ID: m.ID.String(), From: m.From, Token: "token-phone", Sandbox: true, Expires: m.ClaimBy}}
		got := b.provider.pushes()
		if len(got) != 1 || !got[0].Expires.Equal(m.ClaimBy) {
			t.Fatalf("pushes %+v, want one that expires at %s", got, m.ClaimBy)
		}
		got[0].Expires = m.ClaimBy
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("notification (-want +got):\n%s", diff)
		}
	})
}

// TestDevicesThatCannot: inactive ones, those of another app and those of a
// provider that the app has no access to.
func TestDevicesThatCannot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.device("sleeping", func(p *registry.Put) { p.Active = false })
		b.device("elsewhere", func(p *registry.Put) { p.App = "rail" })
		b.device("android", func(p *registry.Put) { p.Platform = registry.FCM })
		id := b.put(b.message())
		b.wantState(id, msg.Fallback)
		if reason, _ := b.reason(id, msg.EvPushDead); reason != msg.ReasonNoDevice || len(b.provider.pushes()) != 0 {
			t.Errorf("%s after %d pushes, want %s after none", reason, len(b.provider.pushes()), msg.ReasonNoDevice)
		}
		m := b.message()
		m.App = "gone"
		id = b.put(m)
		b.wantState(id, msg.Fallback)
		if reason, _ := b.reason(id, msg.EvPushDead); reason != msg.ReasonAppDown {
			t.Errorf("an app that is not configured: %s, want %s", reason, msg.ReasonAppDown)
		}
	})
}

// TestOldDeath: a provider's word about a token's past drops no token that was
// registered since, and the message still falls back.
func TestOldDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		before := time.Now()
		time.Sleep(time.Minute)
		b.device("phone", nil)
		b.provider.script = func(push.Notification, int) push.Result {
			return push.Result{Outcome: push.TokenDead, DeadSince: before}
		}
		b.wantState(b.put(b.message()), msg.Fallback)
		if _, err := b.registry.Get(subscriber); err != nil || b.d.Counters.TokensDropped.Load() != 0 {
			t.Errorf("Get() = %v, %d dropped; want the device kept", err, b.d.Counters.TokensDropped.Load())
		}
	})
}

// TestLateQueue: what the claim timer has already, or has nearly, is not pushed
// (again).
func TestLateQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.device("phone", nil)
		b.provider.script = outcomes(map[string][]push.Outcome{"token-phone": {push.Unknown}})
		m := b.message()
		m.ClaimBy = time.Now().Add(900 * time.Millisecond)
		b.put(m)
		synctest.Wait()
		if n := len(b.provider.pushes()); n != 1 {
			t.Errorf("%d pushes 0.9 s before the deadline, want 1 without a second try", n)
		}
		m = b.message()
		m.ClaimBy = time.Now()
		b.put(m)
		synctest.Wait()
		if n := len(b.provider.pushes()); n != 1 {
			t.Errorf("%d pushes, want none after the deadline", n-1)
		}
	})
}

// TestClaimDuringPush: the app is quicker than the provider's answer.
func TestClaimDuringPush(t *testing.T) {
	for _, late := range []push.Outcome{push.Accepted, push.Busy, push.Unknown} {
		t.Run(late.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, nil)
				b.device("phone", nil)
				answer := make(chan push.Outcome)
				b.provider.script = func(push.Notification, int) push.Result { return push.Result{Outcome: <-answer} }
				id := b.put(b.message())
				b.wantState(id, msg.Pushing)
				if r := b.do(spool.Event{ID: id, Kind: msg.EvClaim, Device: "phone"}); r.Err != nil {
					t.Fatalf("claim: %v", r.Err)
				}
				answer <- late
				if late == push.Unknown {
					answer <- late // its one retry
				}
				b.wantState(id, msg.Claimed)
				if r := b.do(spool.Event{ID: id, Kind: msg.EvDelivered, Device: "phone"}); r.Err != nil {
					t.Fatalf("delivered: %v", r.Err)
				}
				time.Sleep(5 * time.Minute)
				b.wantState(id, msg.Delivered)
				if n := len(b.carrier.submits()); n != 0 {
					t.Errorf("%d SMS for a message that the app has", n)
				}
				if told := b.told(); len(told) != 1 || told[0].State != msg.Delivered {
					t.Errorf("receipts %+v, want one of DELIVERED", told)
				}
			})
		})
	}
}

// TestClaimInTheQueue: a message that was claimed before its worker came to it is
// not pushed.
func TestClaimInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.device("phone", nil)
		block := make(chan push.Outcome)
		b.provider.script = func(push.Notification, int) push.Result { return push.Result{Outcome: <-block} }
		var ids []msg.ID
		for range 4 { // all workers are busy
			ids = append(ids, b.put(b.message()))
		}
		synctest.Wait()
		late := b.put(b.message())
		synctest.Wait() // the observer comes after the answer
		if pushes, _ := b.d.Queued(); pushes != 1 {
			t.Errorf("%d messages wait for a push, want 1", pushes)
		}
		if r := b.do(spool.Event{ID: late, Kind: msg.EvClaim, Device: "phone"}); r.Err != nil {
			t.Fatalf("claim: %v", r.Err)
		}
		for range ids {
			block <- push.Accepted
		}
		b.wantState(late, msg.Claimed)
		if n := len(b.provider.pushes()); n != 4 {
			t.Errorf("%d pushes, want 4: the fifth message was claimed before", n)
		}
	})
}

// TestRemovedInTheQueue: a device that is taken off its number while its push
// waits in the lane gets none. The message goes to what is registered instead,
// to a token that is new, or as SMS.
func TestRemovedInTheQueue(t *testing.T) {
	for _, c := range []struct {
		name   string
		before []string // devices
		change func(b *box)
		want   []string // tokens
		state  msg.State
	}{
		{"the only one", []string{"phone"}, func(b *box) { b.remove("phone") }, nil, msg.Fallback},
		{"one of two", []string{"phone", "tablet"}, func(b *box) { b.remove("phone") }, []string{"token-tablet"}, msg.Pushed},
		{"replaced by another", []string{"phone"}, func(b *box) { b.remove("phone"); b.device("new-phone", nil) }, []string{"token-new-phone"}, msg.Pushed},
		{"a new token", []string{"phone"}, func(b *box) { b.device("phone", func(p *registry.Put) { p.Token = "token-of-today" }) }, []string{"token-of-today"}, msg.Pushed},
		{"switched off", []string{"phone"}, func(b *box) { b.device("phone", func(p *registry.Put) { p.Active = false }) }, nil, msg.Fallback},
		{"something else changed", []string{"phone"}, func(b *box) { b.device("tablet", nil) }, []string{"token-phone"}, msg.Pushed},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, nil)
				b.device("busy", nil)
				block := make(chan struct{})
				b.provider.script = func(push.Notification, int) push.Result {
					<-block
					return push.Result{Outcome: push.Accepted}
				}
				for range 4 { // all workers are busy
					b.put(b.message())
				}
				synctest.Wait()
				for _, name := range c.before {
					b.device(name, nil)
				}
				b.remove("busy")
				late := b.put(b.message())
				synctest.Wait()
				if pushes, _ := b.d.Queued(); pushes != 1 {
					t.Fatalf("%d messages wait for a push, want 1", pushes)
				}
				c.change(b)
				before := len(b.provider.pushes())
				close(block)
				b.wantState(late, c.state)
				synctest.Wait()
				var tokens []string
				for _, n := range b.provider.pushes()[before:] {
					if n.ID == late.String() {
						tokens = append(tokens, n.Token)
					}
				}
				if diff := cmp.Diff(c.want, tokens); diff != "" {
					t.Errorf("pushed to (-want +got):\n%s", diff)
				}
				if c.state == msg.Fallback {
					if reason, _ := b.reason(late, msg.EvPushDead); reason != msg.ReasonNoDevice {
						t.Errorf("reason %s, want %s", reason, msg.ReasonNoDevice)
					}
				}
			})
		})
	}
}

// TestPushBeginNotDurable: no push without its synced beginning; the timer
// still brings the message to the carrier.
func TestPushBeginNotDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.carrier.script = accept
		b.device("phone", nil)
		b.flaky.set(func(e spool.Event) error {
			if e.Kind == msg.EvPushBegin {
				return errDisk
			}
			return nil
		})
		id := b.put(b.message())
		b.wantState(id, msg.Accepted)
		time.Sleep(11 * time.Second)
		b.wantState(id, msg.SMSSubmitted)
		if n := len(b.provider.pushes()); n != 0 {
			t.Errorf("%d pushes before their beginning was durable", n)
		}
	})
}

// TestStopDuringPush: the attempt under way ends as it ends, and what waits is
// left to the next start.
func TestStopDuringPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := open(t, dir, func(o *Options) { o.Apps[0].Workers = 1 })
		b.device("phone", nil)
		b.device("tablet", nil)
		answer := make(chan push.Outcome)
		b.provider.script = func(push.Notification, int) push.Result { return push.Result{Outcome: <-answer} }
		b.run()
		under := b.put(b.message())
		waits := b.put(b.message())
		b.wantState(under, msg.Pushing)
		b.cancel()
		synctest.Wait()
		select {
		case <-b.ended:
			t.Fatal("Run() ended while an attempt was under way")
		default:
		}
		answer <- push.Busy
		<-b.ended
		b.wantState(under, msg.Pushing) // the second device is still to be tried
		b.wantState(waits, msg.Accepted)
		if n := len(b.provider.pushes()); n != 1 {
			t.Errorf("%d pushes, want 1", n)
		}
		b.close()

		b = open(t, dir, nil)
		b.run()
		b.wantState(under, msg.Pushed)
		b.wantState(waits, msg.Pushed)
		if n := len(b.provider.pushes()); n != 4 {
			t.Errorf("%d pushes after the restart, want 4: two messages to two devices", n)
		}
	})
}

// TestStopWhileUnknown: no second try of an attempt that had no answer.
func TestStopWhileUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.device("phone", nil)
		answer := make(chan push.Outcome)
		b.provider.script = func(push.Notification, int) push.Result { return push.Result{Outcome: <-answer} }
		id := b.put(b.message())
		b.wantState(id, msg.Pushing)
		b.cancel()
		answer <- push.Unknown
		<-b.ended
		b.wantState(id, msg.Pushing)
		if n := len(b.provider.pushes()); n != 1 {
			t.Errorf("%d pushes, want 1", n)
		}
	})
}

func TestAvailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		if !b.d.Available("chat", claimTime) || b.d.Available("rail", claimTime) {
			t.Errorf("Available(chat) = %t, Available(rail) = %t; want true, false", b.d.Available("chat", claimTime), b.d.Available("rail", claimTime))
		}
		b.carrier.setDown(true)
		if b.d.Available("chat", claimTime) {
			t.Error("Available() without a bind to fall back on")
		}
		if d := New(Options{Apps: []App{{ID: "chat"}}}); d.Available("chat", claimTime) {
			t.Error("Available() without a carrier")
		}
	})
}
