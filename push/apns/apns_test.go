package apns

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v4"
	"github.com/google/go-cmp/cmp"

	"shunt/push"
	simapns "shunt/test/sim/apns"
	"shunt/test/sim/provider"
)

// simulator runs a simulated APNs and a Sender that pushes to it. Everything
// that either logs is in log.
type simulator struct {
	*simapns.Server
	sender *Sender
	log    *lockedBuffer
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

const (
	team  = "ABCDE12345"
	keyID = "FGHIJ67890"
	topic = "com.example.chat"
)

func start(t testing.TB, so simapns.Options, o Options) *simulator {
	t.Helper()
	so.PKI = t.TempDir()
	so.TeamID, so.KeyID, so.Topic = team, keyID, topic
	srv, err := simapns.New(so)
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	return &simulator{srv, newSender(t, srv.Info(), &o), o.Logger.Handler().(*logHandler).buf}
}

// logHandler keeps everything that is logged, at every level.
type logHandler struct {
	slog.Handler
	buf *lockedBuffer
}

func newSender(t testing.TB, info provider.Info, o *Options) *Sender {
	t.Helper()
	buf := &lockedBuffer{}
	o.Logger = slog.New(&logHandler{slog.NewTextHandler(buf, &slog.HandlerOptions{Level: slog.LevelDebug}), buf})
	o.TeamID, o.KeyID, o.Topic = team, keyID, topic
	o.KeyFile, o.CAFile, o.Endpoint = info.KeyFile, info.CAFile, info.URL
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	s, err := New(*o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (s *simulator) update(t testing.TB, b map[string]any) {
	t.Helper()
	patch, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(patch); err != nil {
		t.Fatal(err)
	}
}

func note(token string) push.Notification {
	return push.Notification{
		ID: "s01JZZZZZZZZZZZZZZZZZZZZZZZ", From: "ACME", Token: token,
		Expires: time.Now().Add(30 * time.Second),
	}
}

func TestOutcomes(t *testing.T) {
	s := start(t, simapns.Options{}, Options{})
	tests := []struct {
		status int
		reason string
		want   push.Outcome
	}{
		{400, "BadDeviceToken", push.TokenDead},
		{410, "Unregistered", push.TokenDead},
		{410, "ExpiredToken", push.TokenDead},
		{400, "DeviceTokenNotForTopic", push.Rejected},
		{400, "TopicDisallowed", push.Rejected},
		{400, "BadTopic", push.Rejected},
		{400, "BadCollapseId", push.Rejected},
		{400, "IdleTimeout", push.Busy},
		{404, "BadPath", push.Rejected},
		{413, "PayloadTooLarge", push.Rejected},
		{403, "InvalidProviderToken", push.Denied},
		{403, "MissingProviderToken", push.Denied},
		{403, "BadCertificate", push.Denied},
		{403, "Forbidden", push.Denied},
		{429, "TooManyRequests", push.Busy},
		{429, "TooManyProviderTokenUpdates", push.Busy},
		{500, "InternalServerError", push.Busy},
		{503, "ServiceUnavailable", push.Busy},
		{503, "Shutdown", push.Busy},
		{504, "GatewayTimeout", push.Unknown},
	}
	for i, tt := range tests {
		token := fmt.Sprintf("dead%04d", i)
		s.update(t, map[string]any{"rules": []provider.Rule{{Token: token, Status: tt.status, Reason: tt.reason}}})
		before := s.Stats().Requests
		got := s.sender.Send(t.Context(), note(token))
		if got.Outcome != tt.want || got.Reason != tt.reason {
			t.Errorf("Send, reply %d %s: got %v %q, want %v %q", tt.status, tt.reason, got.Outcome, got.Reason, tt.want, tt.reason)
		}
		if n := s.Stats().Requests - before; n != 1 {
			t.Errorf("Send, reply %d %s: made %d requests, want 1", tt.status, tt.reason, n)
		}
		if dead := time.Since(got.DeadSince); tt.status == 410 && (dead < 0 || dead > time.Minute) {
			t.Errorf("Send, reply 410 %s: DeadSince %v, want now", tt.reason, got.DeadSince)
		}
		if tt.status != 410 && !got.DeadSince.IsZero() {
			t.Errorf("Send, reply %d %s: DeadSince %v, want none", tt.status, tt.reason, got.DeadSince)
		}
		if strings.Contains(s.log.String(), token) {
			t.Errorf("the log holds the token %s:\n%s", token, s.log)
		}
	}
	if got := s.sender.Send(t.Context(), note("cafe01")); got != (push.Result{Outcome: push.Accepted}) {
		t.Errorf("Send after all faults: got %+v, want accepted", got)
	}
	if st := s.Stats(); st.Connections != 1 {
		t.Errorf("%d connections were opened, want 1", st.Connections)
	}
}

func TestRetryAfter(t *testing.T) {
	s := start(t, simapns.Options{}, Options{})
	s.update(t, map[string]any{"rules": []provider.Rule{{Token: "*", Status: 429, Reason: "TooManyRequests", RetryAfter: 7}}})
	want := push.Result{Outcome: push.Busy, Reason: "TooManyRequests", RetryAfter: 7 * time.Second, TokenBusy: true}
	if got := s.sender.Send(t.Context(), note("cafe")); got != want {
		t.Errorf("Send: got %+v, want %+v", got, want)
	}
}

// expire puts a token in place that the library holds for fresh and Apple
// does not: its iat is two hours old.
func (s *Sender) expire(t *testing.T) {
	t.Helper()
	j := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": team, "iat": time.Now().Add(-2 * time.Hour).Unix()})
	j.Header["kid"] = keyID
	tok := s.credentials.Load().key.token
	tok.Lock()
	defer tok.Unlock()
	bearer, err := j.SignedString(tok.AuthKey)
	if err != nil {
		t.Fatal(err)
	}
	tok.Bearer, tok.IssuedAt = bearer, time.Now().Unix()
}

func TestExpiredProviderTokenIsRenewedOnce(t *testing.T) {
	s := start(t, simapns.Options{}, Options{})
	s.sender.expire(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got := s.sender.Send(context.Background(), note("cafe")); got.Outcome != push.Accepted {
				t.Errorf("Send with an expired provider token: got %+v, want accepted", got)
			}
		})
	}
	wg.Wait()
	st := s.Stats()
	if st.Bearers != 1 {
		t.Errorf("the simulator saw %d good provider tokens, want 1: Apple counts updates", st.Bearers)
	}
	if st.Faults["ExpiredProviderToken"] == 0 || st.Requests != 20+st.Faults["ExpiredProviderToken"] {
		t.Errorf("stats %+v: want one repetition for each refusal", st)
	}

	// Within the next 20 minutes Apple would refuse another update.
	s.sender.expire(t)
	want := push.Result{Outcome: push.Denied, Reason: "ExpiredProviderToken"}
	if got := s.sender.Send(t.Context(), note("cafe")); got != want {
		t.Errorf("Send, expired again at once: got %+v, want %+v", got, want)
	}
	if n := s.Stats().Requests - st.Requests; n != 1 {
		t.Errorf("expired again at once: %d requests, want 1", n)
	}
}

func TestRefusedAfterRenewalIsDenied(t *testing.T) {
	s := start(t, simapns.Options{}, Options{})
	s.update(t, map[string]any{"rules": []provider.Rule{{Token: "*", Status: 403, Reason: "ExpiredProviderToken"}}})
	want := push.Result{Outcome: push.Denied, Reason: "ExpiredProviderToken"}
	if got := s.sender.Send(t.Context(), note("cafe")); got != want {
		t.Errorf("Send: got %+v, want %+v", got, want)
	}
	if n := s.Stats().Requests; n != 2 {
		t.Errorf("%d requests, want 2: one renewal, one repetition", n)
	}
}

func TestConcurrentSendsStayOnOneConnection(t *testing.T) {
	for _, streams := range []int{0, 10, 1} { // the peer's limit; 0 = 250
		t.Run(fmt.Sprint("peer allows ", streams), func(t *testing.T) {
			s := start(t, simapns.Options{Options: provider.Options{MaxStreams: streams}}, Options{Timeout: time.Minute})
			const n = 500
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					if got := s.sender.Send(context.Background(), note(fmt.Sprintf("cafe%04d", i))); got.Outcome != push.Accepted {
						t.Errorf("Send %d: got %+v, want accepted", i, got)
					}
				})
			}
			wg.Wait()
			st := s.Stats()
			if st.Connections != 1 || st.Requests != n || st.Accepted != n {
				t.Errorf("%d connections, %d requests, %d accepted; want 1, %d, %d", st.Connections, st.Requests, st.Accepted, n, n)
			}
			if limit := int64(100); st.PeakStreams > limit || streams > 0 && st.PeakStreams > int64(streams) {
				t.Errorf("%d streams at once, want at most %d of ours and %d of the peer's", st.PeakStreams, limit, streams)
			}
		})
	}
}

func TestFrozenProviderIsUnknown(t *testing.T) {
	s := start(t, simapns.Options{}, Options{Timeout: 300 * time.Millisecond})
	s.update(t, map[string]any{"frozen": true})
	begin := time.Now()
	got := s.sender.Send(t.Context(), note("cafe"))
	if want := (push.Result{Outcome: push.Unknown, Reason: "timeout"}); got != want {
		t.Errorf("Send: got %+v, want %+v", got, want)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("Send took %v with a time-out of 300 ms", took)
	}
	if n := s.Stats().Requests; n != 1 {
		t.Errorf("%d requests, want 1: a time-out is not repeated", n)
	}
	s.update(t, map[string]any{"frozen": false})
	if got := s.sender.Send(t.Context(), note("cafe")); got.Outcome != push.Accepted {
		t.Errorf("Send after the thaw: got %+v, want accepted", got)
	}
}

func TestFullLaneIsBusy(t *testing.T) {
	s := start(t, simapns.Options{}, Options{MaxStreams: 1, Timeout: 10 * time.Second})
	s.update(t, map[string]any{"rules": []provider.Rule{{Token: "stuck", Status: 0}}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan push.Result, 1)
	go func() { ended <- s.sender.Send(ctx, note("stuck")) }()
	waitFor(t, "the first push to hold the lane", func() bool { return s.Stats().Frozen == 1 })

	short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if got, want := s.sender.Send(short, note("cafe")), (push.Result{Outcome: push.Busy, Reason: "lane-full"}); got != want {
		t.Errorf("Send on a full lane: got %+v, want %+v", got, want)
	}
	cancel()
	if got, want := <-ended, (push.Result{Outcome: push.Unknown, Reason: "cancelled"}); got != want {
		t.Errorf("cancelled Send: got %+v, want %+v", got, want)
	}
	if n := s.Stats().Requests; n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestBrokenConnectionIsRepeatedOnce(t *testing.T) {
	s := start(t, simapns.Options{}, Options{})
	if got := s.sender.Send(t.Context(), note("cafe")); got.Outcome != push.Accepted {
		t.Fatalf("first Send: got %+v", got)
	}
	s.update(t, map[string]any{"rules": []provider.Rule{{Token: "slow", Status: 0, Times: 1}}})
	ended := make(chan push.Result, 1)
	go func() { ended <- s.sender.Send(context.Background(), note("slow")) }()
	waitFor(t, "the push to be under way", func() bool { return s.Stats().Frozen == 1 })
	s.Disconnect()
	if got := <-ended; got.Outcome != push.Accepted {
		t.Errorf("Send over a connection that broke: got %+v, want accepted", got)
	}
	st := s.Stats()
	if st.Requests != 3 || st.Connections != 2 || st.Faults["CollapseIDNotID"] != 0 {
		t.Errorf("%d requests, %d connections, faults %v; want 3, 2 and none", st.Requests, st.Connections, st.Faults)
	}

	// It breaks every time: no third try, and nothing is known.
	s.update(t, map[string]any{"rules": []provider.Rule{{Token: "slow", Status: 0}}})
	go func() { ended <- s.sender.Send(context.Background(), note("slow")) }()
	for i := range int64(2) {
		waitFor(t, "the push to be under way", func() bool { return s.Stats().Frozen == 2+i })
		s.Disconnect()
	}
	if got := <-ended; got.Outcome != push.Unknown {
		t.Errorf("Send over two connections that broke: got %+v, want unknown", got)
	}
}

func TestUnreachableIsBusy(t *testing.T) {
	s := start(t, simapns.Options{}, Options{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for range 3 { // the first dials, the others do not
		if got, want := s.sender.Send(t.Context(), note("cafe")), (push.Result{Outcome: push.Busy, Reason: "unreachable"}); got != want {
			t.Errorf("Send to nobody: got %+v, want %+v", got, want)
		}
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("three Sends to nobody took %v", took)
	}
}

// What does not fit, after encoding, goes without its body.
func TestPayloadLimitIsAfterEncoding(t *testing.T) {
	s := start(t, simapns.Options{}, Options{})
	n := note("cafe")
	n.Body = strings.Repeat("<", 700) // 700 octets, 4200 on the wire
	doorbell := push.Result{Outcome: push.Accepted, BodyLeft: true}
	if got := s.sender.Send(t.Context(), n); got != doorbell {
		t.Errorf("Send, 4200 octets: got %+v, want %+v", got, doorbell)
	}
	n.Body = ""
	wire, err := s.sender.notification(n)
	if err != nil {
		t.Fatal(err)
	}
	// What is left, less `,"body":""` in the alert.
	room := push.MaxPayload - len(wire.Payload.([]byte)) - len(`,"body":""`)
	n.Body = strings.Repeat("x", room)
	if got, want := s.sender.Send(t.Context(), n), (push.Result{Outcome: push.Accepted}); got != want {
		t.Errorf("Send, 4096 octets exactly: got %+v, want %+v", got, want)
	}
	n.Body += "x"
	if got := s.sender.Send(t.Context(), n); got != doorbell {
		t.Errorf("Send, 4097 octets: got %+v, want %+v", got, doorbell)
	}
	if st := s.Stats(); st.Requests != 3 || st.Accepted != 3 {
		t.Errorf("%d requests, %d accepted; want 3 of each", st.Requests, st.Accepted)
	}
	n.From = strings.Repeat("<", 700) // the doorbell itself
	if got, want := s.sender.Send(t.Context(), n), (push.Result{Outcome: push.Rejected, Reason: "PayloadTooLarge"}); got != want {
		t.Errorf("Send, a doorbell of more than 4096 octets: got %+v, want %+v", got, want)
	}
	if got := s.Stats().Requests; got != 3 {
		t.Errorf("%d requests, want none for what cannot be sent", got-3)
	}
}

func TestBadNotificationsCostNoRequest(t *testing.T) {
	s := start(t, simapns.Options{}, Options{})
	for _, tt := range []struct {
		name string
		n    push.Notification
		want push.Result
	}{
		{"no token", push.Notification{ID: "s1"}, push.Result{Outcome: push.Rejected, Reason: "MissingDeviceToken"}},
		{"no id", push.Notification{Token: "cafe"}, push.Result{Outcome: push.Rejected, Reason: "MissingID"}},
		{"id too long", push.Notification{Token: "cafe", ID: strings.Repeat("x", 65)}, push.Result{Outcome: push.Rejected, Reason: "BadCollapseId"}},
		{"path in the token", push.Notification{Token: "../x", ID: "s1"}, push.Result{Outcome: push.TokenDead, Reason: "BadDeviceToken"}},
		{"dots for a token", push.Notification{Token: "..", ID: "s1"}, push.Result{Outcome: push.TokenDead, Reason: "BadDeviceToken"}},
		{"line in the token", push.Notification{Token: "a\r\nb", ID: "s1"}, push.Result{Outcome: push.TokenDead, Reason: "BadDeviceToken"}},
		{"token too long", push.Notification{Token: strings.Repeat("a", 1025), ID: "s1"}, push.Result{Outcome: push.TokenDead, Reason: "BadDeviceToken"}},
	} {
		if got := s.sender.Send(t.Context(), tt.n); got != tt.want {
			t.Errorf("Send, %s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
	if got := s.Stats().Requests; got != 0 {
		t.Errorf("%d requests, want none", got)
	}
}

func TestPushReachesTheStream(t *testing.T) {
	s := start(t, simapns.Options{}, Options{})
	resp, err := http.Get("http://" + s.ControlAddr() + "/pushes")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n := note("cafe")
	n.Body, n.Sandbox = "hello <you>", true
	if got := s.sender.Send(t.Context(), n); got.Outcome != push.Accepted {
		t.Fatalf("Send: got %+v, want accepted", got)
	}
	var got provider.Push
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := provider.Push{
		Token: n.Token, ID: n.ID, From: n.From, Body: n.Body, At: got.At,
		Expires: n.Expires.Truncate(time.Second).UTC(),
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("GET /pushes (-want +got):\n%s", d)
	}
	if st := s.Stats(); len(st.Faults) != 0 {
		t.Errorf("the simulator found faults: %v", st.Faults)
	}
	for _, secret := range []string{n.Body, s.sender.credentials.Load().key.token.Bearer} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

// waitFor returns once ok does, which a signal of another goroutine causes.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline, tick := time.NewTimer(10*time.Second), time.NewTicker(time.Millisecond)
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
