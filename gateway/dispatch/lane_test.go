package dispatch

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"shunt/gateway/msg"
	"shunt/push"
	"shunt/store/registry"
	"shunt/store/spool"
)

// claimTime is that of the built-in plan.
const claimTime = 30 * time.Second

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
		if b.d.Available("chat", claimTime) {
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
		if !b.d.Available("chat", claimTime) {
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
		if !b.d.Available("chat", claimTime) {
			t.Error("one token closed the lane")
		}
		time.Sleep(20 * time.Second)
		b.wantState(b.put(b.message()), msg.Fallback)
		if n := len(b.provider.pushes()); n != 2 {
			t.Errorf("%d pushes after the rest, want 2", n)
		}
	})
}

// patient is a message that may wait for its push as long as one of the built-in
// plan.
func (b *box) patient() *spool.Message {
	m := b.message()
	m.ClaimBy = m.ReceivedAt.Add(maxWait + pushTime)
	return m
}

// fill puts n messages, whose pushes do not end, and gives their ids.
func (b *box) fill(n int) (ids []msg.ID) {
	b.t.Helper()
	for range n {
		ids = append(ids, b.put(b.patient()))
	}
	synctest.Wait()
	return ids
}

// TestLaneFull: with four workers and 100 ms a push, 800 messages that wait are
// twenty seconds. More are not accepted for the app, and what was accepted falls
// back at once; all is well again when the queue is short.
func TestLaneFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b := start(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		b.device("phone", nil)
		answer := make(chan push.Outcome)
		b.provider.script = func(push.Notification, int) push.Result { return push.Result{Outcome: <-answer} }
		const room = 4 * int(maxWait/defaultTook)
		b.fill(4 + room)
		if !b.d.Available("chat", claimTime) {
			t.Errorf("not Available() with %d messages in the queue", room)
		}
		b.fill(1)
		if b.d.Available("chat", claimTime) {
			t.Errorf("Available() with %d messages in the queue", room+1)
		}
		if b.d.Available("chat", claimTime/2) || !b.d.Available("chat", 2*claimTime) {
			t.Error("what has longer to be claimed may not wait longer")
		}
		late := b.put(b.patient())
		b.wantState(late, msg.Fallback)
		if reason, _ := b.reason(late, msg.EvPushDead); reason != msg.ReasonLaneFull {
			t.Errorf("fell back for %s, want %s", reason, msg.ReasonLaneFull)
		}
		if n := b.events(late, msg.EvPushBegin); n != 0 {
			t.Errorf("a push was begun for a full lane")
		}
		if waiting, _ := b.d.Queued(); waiting != room+1 {
			t.Errorf("%d messages wait for a push, want %d", waiting, room+1)
		}
		for range 4 + room + 1 {
			answer <- push.Accepted
		}
		synctest.Wait()
		if !b.d.Available("chat", claimTime) {
			t.Error("not Available() with an empty queue")
		}
		if s := log.String(); strings.Count(s, "push lane is full") != 1 || strings.Count(s, "push lane has room again") != 1 {
			t.Errorf("log:\n%s\nwant one line when it is full and one when it has room", s)
		}
	})
}

// TestLaneMeasures: how much may wait depends on how long pushes take.
func TestLaneMeasures(t *testing.T) {
	l := &lane{workers: 100}
	limit := func() (n int64) {
		for n = 1; !l.full(n, maxWait); n++ {
		}
		return n - 1
	}
	l.took.Store(int64(defaultTook))
	if n := limit(); n != 20000 {
		t.Errorf("%d may wait at the start, want 20000", n)
	}
	for range 100 {
		l.measure(50 * time.Millisecond)
	}
	if n := limit(); n < 39300 || n > 40000 {
		t.Errorf("%d may wait at 50 ms a push, want 40000", n)
	}
	for range 100 {
		l.measure(2 * time.Second)
	}
	if n := limit(); n < 1000 || n > 1020 {
		t.Errorf("%d may wait at 2 s a push, want 1000", n)
	}
	for range 100 {
		l.measure(time.Minute)
	}
	if n := limit(); n != 100 {
		t.Errorf("%d may wait at a minute a push, want one for each worker", n)
	}
	for range 200 {
		l.measure(0)
	}
	if l.full(1e9, maxWait) {
		t.Error("a lane that takes no time is full")
	}
}

// TestLanesAreSeparate: a provider that stands still holds back no other, nor
// does the sandbox the production.
func TestLanesAreSeparate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := &provider{}
		b := start(t, func(o *Options) { o.Apps[0].Senders[registry.FCM] = other })
		answer := make(chan push.Outcome)
		b.provider.script = func(n push.Notification, _ int) push.Result {
			if n.Sandbox {
				return push.Result{Outcome: <-answer}
			}
			return push.Result{Outcome: push.Accepted}
		}
		b.device("test", func(p *registry.Put) { p.Sandbox = true })
		stuck := b.fill(4 + 4*int(maxWait/defaultTook) + 1)
		if !b.d.Available("chat", claimTime) {
			t.Error("a full sandbox closed the app")
		}
		id := b.put(b.patient())
		b.wantState(id, msg.Fallback)
		if reason, _ := b.reason(id, msg.EvPushDead); reason != msg.ReasonLaneFull {
			t.Errorf("fell back for %s, want %s", reason, msg.ReasonLaneFull)
		}
		// The others take it, each by itself.
		b.device("phone", nil)
		b.device("android", func(p *registry.Put) { p.Platform, p.Sandbox = registry.FCM, true }) // FCM has no sandbox
		b.wantState(b.put(b.message()), msg.Pushed)
		if n := len(other.pushes()); n != 1 || other.pushes()[0].Sandbox {
			t.Errorf("%d pushes by the other provider, want 1, not to a sandbox", n)
		}
		for range stuck {
			answer <- push.Accepted
		}
	})
}

// TestPartsOfAMessage: what two lanes do of a message comes to one verdict, when
// the slower one is done.
func TestPartsOfAMessage(t *testing.T) {
	for _, c := range []struct {
		name        string
		first, late push.Outcome
		state       msg.State
		kind        msg.Event
		reason      msg.Reason
	}{
		{"one accepts", push.Busy, push.Accepted, msg.Pushed, msg.EvPushAccepted, msg.NoReason},
		{"the other accepts", push.Accepted, push.TokenDead, msg.Pushed, msg.EvPushAccepted, msg.NoReason},
		{"none accepts", push.Busy, push.TokenDead, msg.Fallback, msg.EvPushDead, msg.ReasonTokenDead},
		{"unknown and busy", push.Unknown, push.Busy, msg.Pushing, msg.EvPushBegin, msg.NoReason},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answer := make(chan push.Outcome)
				slow := &provider{script: func(push.Notification, int) push.Result { return push.Result{Outcome: <-answer} }}
				b := start(t, func(o *Options) { o.Apps[0].Senders[registry.FCM] = slow })
				b.provider.script = func(push.Notification, int) push.Result { return push.Result{Outcome: c.first, Repeated: true} }
				b.device("phone", nil)
				b.device("android", func(p *registry.Put) { p.Platform = registry.FCM })
				time.Sleep(time.Second) // the tokens are older than the message
				id := b.put(b.message())
				b.wantState(id, msg.Pushing) // one lane is not done
				answer <- c.late
				b.wantState(id, c.state)
				if reason, _ := b.reason(id, c.kind); reason != c.reason {
					t.Errorf("%s: %s, want %s", c.kind, reason, c.reason)
				}
				if n := b.events(id, msg.EvPushBegin); n != 1 {
					t.Errorf("%d beginnings, want 1", n)
				}
			})
		})
	}
}

// TestSenderRepeats: what its sender has sent twice is not sent again.
func TestSenderRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.device("phone", nil)
		b.provider.script = func(push.Notification, int) push.Result {
			return push.Result{Outcome: push.Unknown, Reason: "broken", Repeated: true}
		}
		b.wantState(b.put(b.message()), msg.Pushing)
		if n := len(b.provider.pushes()); n != 1 {
			t.Errorf("%d pushes, want 1", n)
		}
	})
}

// TestUnknownStaysUnknown: a time-out that opens the breaker is no failure of
// its message, which the provider may have.
func TestUnknownStaysUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.device("phone", nil)
		b.provider.script = func(push.Notification, int) push.Result { return push.Result{Outcome: push.Unknown, Reason: "timeout"} }
		for range 3 { // two attempts each, until the fifth opens it
			b.wantState(b.put(b.message()), msg.Pushing)
		}
		if n := len(b.provider.pushes()); n != 5 || b.d.Available("chat", claimTime) {
			t.Errorf("%d pushes, available %t; want 5 and an open breaker", n, b.d.Available("chat", claimTime))
		}
		b.wantState(b.put(b.message()), msg.Fallback)
	})
}

// TestBreakerOpenIsNoPush: what finds every breaker open never begins a push.
func TestBreakerOpenIsNoPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.device("phone", nil)
		b.provider.script = func(push.Notification, int) push.Result {
			return push.Result{Outcome: push.Busy, Reason: "http-503", RetryAfter: time.Minute}
		}
		b.wantState(b.put(b.message()), msg.Fallback)
		if b.d.Available("chat", claimTime) {
			t.Error("Available() although the provider asked for a minute")
		}
		id := b.put(b.message())
		b.wantState(id, msg.Fallback)
		if n := b.events(id, msg.EvPushBegin); n != 0 {
			t.Errorf("%d pushes were begun, want none", n)
		}
		time.Sleep(59 * time.Second)
		if b.d.Available("chat", claimTime) {
			t.Error("Available() before the minute was over")
		}
		time.Sleep(time.Second)
		if !b.d.Available("chat", claimTime) {
			t.Error("not Available() after the minute")
		}
	})
}

// TestText: a push carries the text only if the app's policy says so and the
// message prefers coming twice; everything else is a doorbell.
func TestText(t *testing.T) {
	const text = "Your parcel comes on Monday."
	for _, c := range []struct {
		name   string
		allow  bool
		prefer msg.Prefer
		err    error
		want   string
	}{
		{"doorbell by default", false, msg.PossibleDuplicate, nil, ""},
		{"possible-loss", true, msg.PossibleLoss, nil, ""},
		{"possible-duplicate", true, msg.PossibleDuplicate, nil, text},
		{"unreadable", true, msg.PossibleDuplicate, errors.New("cannot be read"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				b := start(t, func(o *Options) {
					o.Apps[0].Text = c.allow
					o.Text = func(msg.ID) (string, error) { return text, c.err }
					o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
				})
				b.device("phone", nil)
				b.provider.script = func(n push.Notification, _ int) push.Result {
					return push.Result{Outcome: push.Accepted, BodyLeft: n.Body != ""}
				}
				m := b.message()
				m.Prefer = c.prefer
				b.wantState(b.put(m), msg.Pushed)
				if got := b.provider.pushes(); len(got) != 1 || got[0].Body != c.want {
					t.Errorf("pushes %+v, want one with the body %q", got, c.want)
				}
				if n := b.d.Counters.BodiesLeft.Load(); (n == 1) != (c.want != "") {
					t.Errorf("%d bodies were counted as left out", n)
				}
				if strings.Contains(log.String(), text) {
					t.Errorf("the log holds the text:\n%s", &log)
				}
			})
		})
	}
}

// TestAvailableIsCheap: the decision asks for every message to a registered
// number.
func TestAvailableIsCheap(t *testing.T) {
	d := New(Options{Carrier: newCarrier(), Apps: []App{{ID: "chat", Senders: map[registry.Platform]push.Sender{
		registry.APNs: &provider{}, registry.FCM: &provider{},
	}}}})
	if !d.Available("chat", claimTime) {
		t.Fatal("not Available()")
	}
	if n := testing.AllocsPerRun(100, func() { d.Available("chat", claimTime) }); n != 0 {
		t.Errorf("Available() allocates %v times", n)
	}
}

func BenchmarkAvailable(b *testing.B) {
	d := New(Options{Carrier: readyCarrier{}, Apps: []App{{ID: "chat", Senders: map[registry.Platform]push.Sender{
		registry.APNs: &provider{}, registry.FCM: &provider{},
	}}}})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if !d.Available("chat", claimTime) {
				b.Fatal("not Available()")
			}
		}
	})
}

// readyCarrier is ready without a lock: what is measured is the Dispatcher.
type readyCarrier struct{ Carrier }

func (readyCarrier) Ready() bool { return true }

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
