package apns

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"shunt/push"
	simapns "shunt/test/sim/apns"
	"shunt/test/sim/pki"
)

// newKey is the content of another .p8 file.
func newKey(t *testing.T) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), pki.APNsKeyFile)
	if err := pki.WriteAPNsKey(file); err != nil {
		t.Fatal(err)
	}
	return read(t, file)
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A key that Apple refuses is looked up on disk again at once: the push that
// meets the refusal goes out with the new one.
func TestKeyIsReloadedAfterARefusal(t *testing.T) {
	s := start(t, simapns.Options{}, Options{})
	file := s.Info().KeyFile
	good := read(t, file)
	write(t, file, newKey(t)) // the simulator has read its own before
	o := Options{}
	sender := newSender(t, s.Info(), &o)
	log := o.Logger.Handler().(*logHandler).buf
	if got, want := sender.Send(t.Context(), note("cafe")), (push.Result{Outcome: push.Denied, Reason: "InvalidProviderToken"}); got != want {
		t.Errorf("Send with a wrong key: got %+v, want %+v", got, want)
	}
	refused := s.Stats().Requests
	if refused != 1 {
		t.Errorf("%d requests, want 1: there was no other key", refused)
	}
	write(t, file, good)
	var got push.Result
	waitFor(t, "the key to be looked up again", func() bool { // a second after the last refusal at the latest
		got = sender.Send(t.Context(), note("cafe"))
		return got.Outcome != push.Denied
	})
	if got.Outcome != push.Accepted {
		t.Errorf("Send with the right key on disk: got %+v, want accepted", got)
	}
	if !strings.Contains(log.String(), "APNs key reloaded") || strings.Contains(log.String(), "PRIVATE KEY") {
		t.Errorf("log:\n%s\nwant the reload and no key", log)
	}
	if st := s.Stats(); st.Connections != 1 || st.Bearers != 1 {
		t.Errorf("%d connections, %d good provider tokens; want 1 of each", st.Connections, st.Bearers)
	}
}

// A new key is taken up while pushes are under way, and each of them ends with
// the answer that it gets.
func TestKeyIsReloadedWhileInUse(t *testing.T) {
	var bearers atomic.Pointer[map[string]bool]
	under, release := make(chan struct{}), make(chan struct{})
	r := newRelay(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/slow") {
			under <- struct{}{}
			<-release
		}
		for { // a set that only grows
			old := bearers.Load()
			next := map[string]bool{r.Header.Get("Authorization"): true}
			if old != nil {
				for b := range *old {
					next[b] = true
				}
			}
			if bearers.CompareAndSwap(old, &next) {
				return
			}
		}
	}))
	slow := make(chan push.Result, 1)
	send := func(token string) push.Result { return r.sender.Send(context.Background(), note(token)) }
	if got := send("cafe"); got.Outcome != push.Accepted { // the connection is proven
		t.Fatalf("Send: got %+v, want accepted", got)
	}
	go func() { slow <- send("slow") }()
	<-under
	before := r.sender.credentials.Load()
	write(t, r.key, newKey(t))
	r.sender.file.Poll(time.Now().Add(time.Minute), false, r.sender.useKey)
	if r.sender.credentials.Load() == before {
		t.Fatal("the new key is not in use")
	}
	if got := send("cafe"); got.Outcome != push.Accepted {
		t.Errorf("Send with the new key: got %+v, want accepted", got)
	}
	close(release)
	if got := <-slow; got.Outcome != push.Accepted {
		t.Errorf("Send that was under way: got %+v, want accepted", got)
	}
	if n := len(*bearers.Load()); n != 2 {
		t.Errorf("%d provider tokens were seen, want 2", n)
	}
	if n := len(tokens.m); n != 1 {
		t.Errorf("%d provider tokens are held, want the new one alone", n)
	}
}

// An unfit file keeps the key and is said once; the same key written again is
// no new one.
func TestUnfitKeyKeepsTheOldOne(t *testing.T) {
	s := start(t, simapns.Options{}, Options{})
	file := s.Info().KeyFile
	good := read(t, file)
	before := s.sender.credentials.Load()
	at := time.Now()
	for _, content := range []string{"", "torn", "torn", string(good) + "\n"} {
		write(t, file, []byte(content))
		at = at.Add(time.Minute)
		s.sender.file.Poll(at, false, s.sender.useKey)
		if got := s.sender.Send(t.Context(), note("cafe")); got.Outcome != push.Accepted {
			t.Errorf("Send with %q on disk: got %+v, want accepted", content, got)
		}
	}
	if s.sender.credentials.Load() != before {
		t.Error("the key was replaced")
	}
	log := s.log.String()
	if strings.Count(log, "is empty") != 1 || strings.Count(log, "holds no PEM block") != 1 || strings.Contains(log, "torn") ||
		strings.Contains(log, "reloaded") {
		t.Errorf("log:\n%s\nwant each fault once, without the content, and no reload", log)
	}
}

// The environments share nothing but the key: a sandbox that stands still holds
// back no production push, not even with one endpoint for both.
func TestEnvironmentsAreSeparate(t *testing.T) {
	under, release := make(chan struct{}), make(chan struct{})
	r := newRelay(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/slow") {
			under <- struct{}{}
			<-release
		}
	}))
	n := note("slow")
	n.Sandbox = true
	slow := make(chan push.Result, r.streams)
	for range r.streams {
		go func() { slow <- r.sender.Send(context.Background(), n) }()
	}
	<-under // the first request alone is on the wire: its connection is new
	if got := r.sender.Send(t.Context(), note("cafe")); got.Outcome != push.Accepted {
		t.Errorf("production push while the sandbox stands still: got %+v, want accepted", got)
	}
	close(release)
	for range r.streams - 1 {
		<-under
	}
	for range r.streams {
		if got := <-slow; got.Outcome != push.Accepted {
			t.Errorf("sandbox push: got %+v, want accepted", got)
		}
	}
	if r.sender.production.link == r.sender.sandbox.link {
		t.Error("one link for both environments")
	}
}

// Apple says since when a token is dead; what it says is handed on as it is,
// and nothing is invented when it does not say.
func TestDeadSince(t *testing.T) {
	var body atomic.Value
	s := newRelay(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusGone)
		_, _ = w.Write([]byte(body.Load().(string)))
	})).sender
	for _, tt := range []struct {
		body string
		want push.Result
	}{
		{
			`{"reason":"Unregistered","timestamp":1700000000000}`,
			push.Result{Outcome: push.TokenDead, Reason: "Unregistered", DeadSince: time.Unix(1_700_000_000, 0)},
		},
		{`{"reason":"Unregistered"}`, push.Result{Outcome: push.TokenDead, Reason: "Unregistered"}},
	} {
		body.Store(tt.body)
		got := s.Send(t.Context(), note("cafe"))
		if !got.DeadSince.Equal(tt.want.DeadSince) {
			t.Errorf("Send, 410 %s: DeadSince %v, want %v", tt.body, got.DeadSince, tt.want.DeadSince)
		}
		got.DeadSince = tt.want.DeadSince
		if got != tt.want {
			t.Errorf("Send, 410 %s: got %+v, want %+v", tt.body, got, tt.want)
		}
	}
}
