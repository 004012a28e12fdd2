package dispatch

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/push"
	"shunt/push/apns"
	"shunt/push/fcm"
	"shunt/store/registry"
	"shunt/store/spool"
	simapns "shunt/test/sim/apns"
	simfcm "shunt/test/sim/fcm"
	simprovider "shunt/test/sim/provider"
)

// providers is a box between the real push clients and simulated providers. It
// runs by the real clock: tests wait for what happens.
type providers struct {
	*box
	apns *simapns.Server
	fcm  *simfcm.Server
	log  lockedBuffer // everything that box and clients log
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startProviders(t *testing.T, set func(*Options)) *providers {
	t.Helper()
	p := &providers{}
	log := slog.New(slog.NewTextHandler(&p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if p.apns, err = simapns.New(simapns.Options{Options: simprovider.Options{PKI: t.TempDir()}}); err != nil {
		t.Fatal(err)
	}
	if p.fcm, err = simfcm.New(simfcm.Options{Options: simprovider.Options{PKI: t.TempDir()}}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []interface {
		Start(context.Context) error
		Close() error
	}{p.apns, p.fcm} {
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
	}
	a := p.apns.Info()
	viaAPNs, err := apns.New(apns.Options{
		TeamID: "ABCDE12345", KeyID: "FGHIJ67890", KeyFile: a.KeyFile, Topic: "com.example.chat",
		Endpoint: a.URL, CAFile: a.CAFile, Timeout: 10 * time.Second, Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = viaAPNs.Close() })
	f := p.fcm.Info()
	viaFCM, err := fcm.New(t.Context(), fcm.Options{
		ServiceAccountFile: f.KeyFile, Endpoint: f.URL, CAFile: f.CAFile, Timeout: 10 * time.Second, Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = viaFCM.Close() })
	p.box = start(t, func(o *Options) {
		o.Apps[0].Senders = map[registry.Platform]push.Sender{registry.APNs: viaAPNs, registry.FCM: viaFCM}
		o.Log = log
		if set != nil {
			set(o)
		}
	})
	return p
}

// rule has a provider answer so to that token.
func (p *providers) rule(pl registry.Platform, r simprovider.Rule) {
	p.t.Helper()
	patch, err := json.Marshal(map[string]any{"rules": []simprovider.Rule{r}})
	if err == nil && pl == registry.APNs {
		_, err = p.apns.Update(patch)
	} else if err == nil {
		_, err = p.fcm.Update(patch)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// await is wantState by the real clock.
func (p *providers) await(id msg.ID, want msg.State) {
	p.t.Helper()
	waitFor(p.t, "the state "+want.String(), func() bool { return p.get(id).State == want })
}

// waitFor returns once ok does, which another goroutine causes.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline, tick := time.NewTimer(30*time.Second), time.NewTicker(time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// long is a message that the app has a long time for.
func (p *providers) long() *spool.Message {
	m := p.message()
	m.ClaimBy, m.ExpiresAt = m.ReceivedAt.Add(10*time.Minute), m.ReceivedAt.Add(time.Hour)
	return m
}

// TestTokensArePruned: a device goes when its token is at fault, and for nothing
// else that a provider says.
func TestTokensArePruned(t *testing.T) {
	p := startProviders(t, nil)
	for _, c := range []struct {
		platform registry.Platform
		status   int
		reason   string
		age      time.Duration // of the registration; negative: later than what the provider knows
		gone     bool
	}{
		{registry.APNs, 400, "BadDeviceToken", time.Hour, true},
		{registry.APNs, 410, "Unregistered", time.Hour, true},
		{registry.APNs, 410, "Unregistered", -time.Hour, false},
		{registry.APNs, 410, "ExpiredToken", -time.Hour, false},
		{registry.APNs, 413, "PayloadTooLarge", time.Hour, false},
		{registry.APNs, 400, "BadTopic", time.Hour, false},
		{registry.APNs, 400, "DeviceTokenNotForTopic", time.Hour, false},
		{registry.FCM, 404, "UNREGISTERED", time.Hour, true},
		{registry.FCM, 404, "NOT_FOUND", time.Hour, false},
		{registry.FCM, 400, "INVALID_ARGUMENT", time.Hour, false},
		{registry.FCM, 403, "SENDER_ID_MISMATCH", time.Hour, false},
	} {
		p.rule(c.platform, simprovider.Rule{Token: "*", Status: c.status, Reason: c.reason})
		p.ahead.Store(-int64(c.age))
		p.device("phone", func(r *registry.Put) { r.Platform = c.platform })
		id := p.put(p.long())
		p.await(id, msg.Fallback)
		reg, err := p.registry.Get(subscriber)
		if gone := err != nil || len(reg.Devices) == 0; gone != c.gone {
			t.Errorf("%s, %d %s, registered %s before: device gone: %t, want %t", c.platform, c.status, c.reason, c.age, gone, c.gone)
		}
		if _, err := p.registry.Remove(context.Background(), subscriber, ""); err != nil && !c.gone {
			t.Fatalf("Remove() = %v", err)
		}
	}
	if s := p.log.String(); strings.Contains(s, "token-phone") {
		t.Errorf("the log holds a token:\n%s", s)
	}
}

// TestRetryAfterOfProviders: a lane is left alone as long as its provider asks,
// and so is a token that is meant alone.
func TestRetryAfterOfProviders(t *testing.T) {
	for _, c := range []struct {
		platform registry.Platform
		status   int
		reason   string
		lane     bool
	}{
		{registry.APNs, 503, "ServiceUnavailable", true},
		{registry.APNs, 429, "TooManyProviderTokenUpdates", true},
		{registry.APNs, 429, "TooManyRequests", false},
		{registry.FCM, 503, "UNAVAILABLE", true},
		{registry.FCM, 429, "QUOTA_EXCEEDED", true},
	} {
		t.Run(c.platform.String()+" "+c.reason, func(t *testing.T) {
			p := startProviders(t, func(o *Options) {
				for pl := range o.Apps[0].Senders {
					if pl != c.platform {
						delete(o.Apps[0].Senders, pl)
					}
				}
			})
			p.rule(c.platform, simprovider.Rule{Token: "token-phone", Status: c.status, Reason: c.reason, RetryAfter: 600})
			p.device("phone", func(r *registry.Put) { r.Platform = c.platform })
			begin := time.Now()
			for range 3 {
				p.await(p.put(p.long()), msg.Fallback)
			}
			if n := p.apns.Stats().Requests + p.fcm.Stats().Requests; n != 1 {
				t.Errorf("%d pushes, want 1: the provider asked for ten minutes", n)
			}
			if p.d.Available("chat", claimTime) == c.lane {
				t.Errorf("Available() = %t", !c.lane)
			}
			s := p.d.Lanes()[0].Breaker
			if wait := s.Until.Sub(begin); c.lane && (s.State != push.BreakerOpen || wait < 600*time.Second || wait > 660*time.Second) {
				t.Errorf("breaker %+v, want it open for ten minutes", s)
			}
			if c.lane {
				return
			}
			p.device("phone", func(r *registry.Put) { r.Platform, r.Token = c.platform, "token-new" })
			p.await(p.put(p.long()), msg.Pushed)
		})
	}
}

// TestTextOnTheWire: the text is in the notification of either provider; one
// that does not fit is left out, and nothing of it is logged.
func TestTextOnTheWire(t *testing.T) {
	var text string
	p := startProviders(t, func(o *Options) {
		o.Apps[0].Text = true
		o.Text = func(msg.ID) (string, error) { return text, nil }
	})
	p.device("phone", nil)
	p.device("android", func(r *registry.Put) { r.Platform = registry.FCM })
	streams := []*json.Decoder{p.pushes(p.apns.ControlAddr()), p.pushes(p.fcm.ControlAddr())}
	for _, c := range []struct {
		text, want string
		prefer     msg.Prefer
	}{
		{"Your <parcel> comes on Monday.", "Your <parcel> comes on Monday.", msg.PossibleDuplicate},
		{strings.Repeat("Your parcel comes. ", 300), "", msg.PossibleDuplicate},
		{"Your parcel comes on Tuesday.", "", msg.PossibleLoss},
	} {
		text = c.text
		m := p.long()
		m.Prefer = c.prefer
		p.await(p.put(m), msg.Pushed)
		for _, s := range streams {
			var got simprovider.Push
			if err := s.Decode(&got); err != nil {
				t.Fatal(err)
			}
			if got.ID != m.ID.String() || got.Body != c.want {
				t.Errorf("push of %.20q: id %s, body %q; want %s, %q", c.text, got.ID, got.Body, m.ID, c.want)
			}
		}
	}
	if n := p.d.Counters.BodiesLeft.Load(); n != 2 {
		t.Errorf("%d bodies were counted as left out, want 2", n)
	}
	for _, st := range []simprovider.Stats{p.apns.Stats(), p.fcm.Stats()} {
		if len(st.Faults) != 0 {
			t.Errorf("the simulator found faults: %v", st.Faults)
		}
	}
	for _, secret := range []string{"parcel", "token-"} {
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("the log holds %q:\n%s", secret, p.log.String())
		}
	}
}

// pushes is the stream of what a simulator accepts.
func (p *providers) pushes(control string) *json.Decoder {
	p.t.Helper()
	resp, err := http.Get("http://" + control + "/pushes")
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = resp.Body.Close() })
	return json.NewDecoder(resp.Body)
}

// TestBrokenTwice: a push whose connection broke is repeated once in all, with
// the same collapse id, whoever repeats it.
func TestBrokenTwice(t *testing.T) {
	p := startProviders(t, func(o *Options) { o.Apps[0].Workers = 1 })
	p.device("phone", nil)
	p.rule(registry.APNs, simprovider.Rule{Token: "token-phone", Times: 2}) // never answers the first two
	first := p.put(p.long())
	for i := range int64(2) {
		waitFor(t, "the push to be under way", func() bool { return p.apns.Stats().Frozen == 1+i })
		p.apns.Disconnect()
	}
	// The lane has one worker: when the next message is pushed it is done with this one.
	p.await(p.put(p.long()), msg.Pushed)
	if s := p.get(first).State; s != msg.Pushing {
		t.Errorf("state %s, want %s: what broke twice is unknown", s, msg.Pushing)
	}
	st := p.apns.Stats()
	if st.Requests != 3 || st.Faults["CollapseIDNotID"] != 0 {
		t.Errorf("%d requests, faults %v; want two for the first message and one for the second", st.Requests, st.Faults)
	}
}
