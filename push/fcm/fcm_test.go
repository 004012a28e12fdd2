package fcm

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

	"github.com/google/go-cmp/cmp"

	"shunt/push"
	simfcm "shunt/test/sim/fcm"
	"shunt/test/sim/provider"
)

// simulator runs a simulated FCM and a Sender that pushes to it. Everything
// that the Sender logs is in log.
type simulator struct {
	*simfcm.Server
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

func start(t testing.TB, so simfcm.Options, o Options) *simulator {
	t.Helper()
	so.PKI = t.TempDir()
	srv, err := simfcm.New(so)
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	buf := &lockedBuffer{}
	return &simulator{srv, newSender(t, srv.Info(), o, buf), buf}
}

func newSender(t testing.TB, info provider.Info, o Options, buf *lockedBuffer) *Sender {
	t.Helper()
	o.Logger = slog.New(slog.NewTextHandler(buf, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.ServiceAccountFile, o.CAFile, o.Endpoint = info.KeyFile, info.CAFile, info.URL
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	s, err := New(t.Context(), o)
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
	s := start(t, simfcm.Options{}, Options{})
	for i, tt := range []struct {
		status int
		reason string
		want   push.Outcome
	}{
		{404, "UNREGISTERED", push.TokenDead},
		{404, "NOT_FOUND", push.Rejected},
		{403, "SENDER_ID_MISMATCH", push.Rejected},
		{400, "INVALID_ARGUMENT", push.Rejected},
		{403, "PERMISSION_DENIED", push.Denied},
		{401, "THIRD_PARTY_AUTH_ERROR", push.Denied},
		{429, "QUOTA_EXCEEDED", push.Busy},
		{429, "RESOURCE_EXHAUSTED", push.Busy},
		{500, "INTERNAL", push.Busy},
		{503, "UNAVAILABLE", push.Busy},
		{504, "DEADLINE_EXCEEDED", push.Unknown},
		{302, "FOUND", push.Unknown},
	} {
		token := fmt.Sprintf("dead%04d", i)
		s.update(t, map[string]any{"rules": []provider.Rule{{Token: token, Status: tt.status, Reason: tt.reason}}})
		before := s.Stats()
		got := s.sender.Send(t.Context(), note(token))
		if want := (push.Result{Outcome: tt.want, Reason: tt.reason}); got != want {
			t.Errorf("Send, reply %d %s: got %+v, want %+v", tt.status, tt.reason, got, want)
		}
		if n := s.Stats().Requests - before.Requests; n != 1 {
			t.Errorf("Send, reply %d %s: made %d requests, want 1", tt.status, tt.reason, n)
		}
		if strings.Contains(s.log.String(), token) {
			t.Errorf("the log holds the token %s:\n%s", token, s.log)
		}
	}
	if got := s.sender.Send(t.Context(), note("cafe01")); got != (push.Result{Outcome: push.Accepted}) {
		t.Errorf("Send after all faults: got %+v, want accepted", got)
	}
	if st := s.Stats(); st.TokenGrants != 1 {
		t.Errorf("%d OAuth tokens were fetched, want 1", st.TokenGrants)
	}
}

func TestMalformedTokenIsDead(t *testing.T) {
	for _, tt := range []struct {
		fields []string
		want   push.Outcome
	}{
		{[]string{"message.token"}, push.TokenDead},
		{[]string{"message.token", "message.data"}, push.Rejected},
		{[]string{"message.data"}, push.Rejected},
		{nil, push.Rejected},
	} {
		var e apiError
		b, _ := json.Marshal(map[string]any{"error": map[string]any{"status": "INVALID_ARGUMENT", "details": []any{
			map[string]any{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "INVALID_ARGUMENT"},
			map[string]any{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations(tt.fields)},
		}}})
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		if got := ofReply(400, &e); got != tt.want {
			t.Errorf("ofReply, violations %q: got %v, want %v", tt.fields, got, tt.want)
		}
	}
}

func violations(fields []string) []map[string]string {
	all := []map[string]string{}
	for _, f := range fields {
		all = append(all, map[string]string{"field": f, "description": "bad"})
	}
	return all
}

func TestRetryAfter(t *testing.T) {
	s := start(t, simfcm.Options{}, Options{})
	for _, tt := range []struct {
		status int
		reason string
	}{{429, "QUOTA_EXCEEDED"}, {503, "UNAVAILABLE"}} {
		s.update(t, map[string]any{"rules": []provider.Rule{{Token: "*", Status: tt.status, Reason: tt.reason, RetryAfter: 7}}})
		want := push.Result{Outcome: push.Busy, Reason: tt.reason, RetryAfter: 7 * time.Second}
		if got := s.sender.Send(t.Context(), note("cafe")); got != want {
			t.Errorf("Send, reply %d: got %+v, want %+v", tt.status, got, want)
		}
	}
	if n := s.Stats().Requests; n != 2 {
		t.Errorf("%d requests for 2 Sends", n)
	}
}

func TestRevokedTokenIsRenewedOnce(t *testing.T) {
	s := start(t, simfcm.Options{}, Options{})
	if got := s.sender.Send(t.Context(), note("cafe")); got.Outcome != push.Accepted {
		t.Fatalf("first Send: got %+v, want accepted", got)
	}
	s.Revoke()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got := s.sender.Send(context.Background(), note("cafe")); got.Outcome != push.Accepted {
				t.Errorf("Send with a revoked OAuth token: got %+v, want accepted", got)
			}
		})
	}
	wg.Wait()
	st := s.Stats()
	if st.TokenGrants != 2 || st.Requests != 21+st.Faults["UNAUTHENTICATED"] {
		t.Errorf("stats %+v: want 2 grants and one repetition for each refusal", st)
	}
	// Refused again at once: it is not the token's age. No storm.
	s.Revoke()
	want := push.Result{Outcome: push.Denied, Reason: "UNAUTHENTICATED"}
	if got := s.sender.Send(t.Context(), note("cafe")); got != want {
		t.Errorf("Send, revoked again at once: got %+v, want %+v", got, want)
	}
	if n := s.Stats().TokenGrants; n != 2 {
		t.Errorf("%d OAuth tokens were fetched, want 2", n)
	}
}

func TestStalledTokenEndpointBlocksNobody(t *testing.T) {
	s := start(t, simfcm.Options{Options: provider.Options{Behaviour: provider.Behaviour{TokenFrozen: true}}},
		Options{Timeout: 300 * time.Millisecond})
	begin := time.Now()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if got, want := s.sender.Send(context.Background(), note("cafe")), (push.Result{Outcome: push.Busy, Reason: "no-oauth-token"}); got != want {
				t.Errorf("Send without a token: got %+v, want %+v", got, want)
			}
		})
	}
	wg.Wait()
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("50 Sends took %v with a time-out of 300 ms", took)
	}
	if n := s.Stats().Requests; n != 0 {
		t.Errorf("%d requests, want none", n)
	}
	s.update(t, map[string]any{"token_frozen": false})
	waitFor(t, "the token", func() bool { return s.sender.bearers.cur.Load().value != "" })
	if got := s.sender.Send(t.Context(), note("cafe")); got.Outcome != push.Accepted {
		t.Errorf("Send after the thaw: got %+v, want accepted", got)
	}

	// With a token in hand a stall of the endpoint is not even noticed.
	s.update(t, map[string]any{"token_frozen": true})
	s.sender.bearers.kick <- struct{}{}
	if got := s.sender.Send(t.Context(), note("cafe")); got.Outcome != push.Accepted {
		t.Errorf("Send during a refresh that stalls: got %+v, want accepted", got)
	}
}

func TestTokenIsRefreshedBeforeItExpires(t *testing.T) {
	s := start(t, simfcm.Options{TokenTTL: 3 * time.Second}, Options{})
	first := ""
	waitFor(t, "the first token", func() bool { first = s.sender.bearers.cur.Load().value; return first != "" })
	waitFor(t, "its successor", func() bool { return s.sender.bearers.cur.Load().value != first })
	if got := s.sender.Send(t.Context(), note("cafe")); got.Outcome != push.Accepted {
		t.Errorf("Send: got %+v, want accepted", got)
	}
	if st := s.Stats(); st.Faults["UNAUTHENTICATED"] != 0 || st.TokenGrants < 2 {
		t.Errorf("stats %+v: want a second grant and no refusal", st)
	}
}

func TestRefusedAccountIsDenied(t *testing.T) {
	a := start(t, simfcm.Options{}, Options{})
	b := start(t, simfcm.Options{}, Options{})
	// The other simulator's account: its key signs for the wrong endpoint.
	info := b.Info()
	info.KeyFile, info.CAFile = writeAccount(t, a.Info(), b.Info()), b.CA().File()
	buf := &lockedBuffer{}
	s := newSender(t, info, Options{}, buf)
	want := push.Result{Outcome: push.Denied, Reason: "invalid_grant"}
	if got := s.Send(t.Context(), note("cafe")); got != want {
		t.Errorf("Send with a refused service account: got %+v, want %+v", got, want)
	}
	if !strings.Contains(buf.String(), "oauth token refused") || strings.Contains(buf.String(), "PRIVATE KEY") {
		t.Errorf("log:\n%s\nwant the refusal and no key", buf)
	}
}

func TestConcurrentSendsStayOnTheirConnections(t *testing.T) {
	for _, streams := range []int{0, 10, 1} { // the peer's limit; 0 = 250
		t.Run(fmt.Sprint("peer allows ", streams), func(t *testing.T) {
			s := start(t, simfcm.Options{Options: provider.Options{MaxStreams: streams}}, Options{Timeout: time.Minute})
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
			// Four for messages and one that fetched the OAuth token.
			if st.Connections > 5 || st.Requests != n || st.Accepted != n {
				t.Errorf("%d connections, %d requests, %d accepted; want at most 5, %d, %d", st.Connections, st.Requests, st.Accepted, n, n)
			}
		})
	}
}

func TestFrozenProviderIsUnknown(t *testing.T) {
	s := start(t, simfcm.Options{}, Options{Timeout: 400 * time.Millisecond})
	waitFor(t, "the token", func() bool { return s.sender.bearers.cur.Load().value != "" })
	s.update(t, map[string]any{"frozen": true})
	begin := time.Now()
	if got, want := s.sender.Send(t.Context(), note("cafe")), (push.Result{Outcome: push.Unknown, Reason: "timeout"}); got != want {
		t.Errorf("Send: got %+v, want %+v", got, want)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("Send took %v with a time-out of 400 ms", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan push.Result, 1)
	go func() { ended <- s.sender.Send(ctx, note("cafe")) }()
	waitFor(t, "the second push to be under way", func() bool { return s.Stats().Frozen == 2 })
	cancel()
	if got, want := <-ended, (push.Result{Outcome: push.Unknown, Reason: "cancelled"}); got != want {
		t.Errorf("cancelled Send: got %+v, want %+v", got, want)
	}
	if n := s.Stats().Requests; n != 2 {
		t.Errorf("%d requests, want 2: the library repeated a time-out", n)
	}
}

func TestBrokenConnectionIsRepeatedOnce(t *testing.T) {
	s := start(t, simfcm.Options{}, Options{Connections: 1})
	s.update(t, map[string]any{"rules": []provider.Rule{{Token: "slow", Status: 0}}})
	ended := make(chan push.Result, 1)
	go func() { ended <- s.sender.Send(context.Background(), note("slow")) }()
	for i := range int64(2) {
		waitFor(t, "the push to be under way", func() bool { return s.Stats().Frozen == 1+i })
		s.Disconnect()
	}
	if got := <-ended; got.Outcome != push.Unknown {
		t.Errorf("Send over two connections that broke: got %+v, want unknown", got)
	}
	if n := s.Stats().Requests; n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
	if err := s.Server.Close(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if got := s.sender.Send(t.Context(), note("cafe")); got.Outcome != push.Busy || got.Reason != "unreachable" {
		t.Errorf("Send to nobody: got %+v, want busy, unreachable", got)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("Send to nobody took %v", took)
	}
}

func TestPushReachesTheStream(t *testing.T) {
	s := start(t, simfcm.Options{}, Options{})
	resp, err := http.Get("http://" + s.ControlAddr() + "/pushes")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n := note("cafe")
	n.Body = "hello <you>"
	if got := s.sender.Send(t.Context(), n); got.Outcome != push.Accepted {
		t.Fatalf("Send: got %+v, want accepted", got)
	}
	var got provider.Push
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if late := got.Expires.Sub(n.Expires); late > time.Second || late < -3*time.Second {
		t.Errorf("expires %v, want %v", got.Expires, n.Expires)
	}
	want := provider.Push{Token: n.Token, ID: n.ID, From: n.From, Body: n.Body, At: got.At, Expires: got.Expires}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("GET /pushes (-want +got):\n%s", d)
	}
	if st := s.Stats(); len(st.Faults) != 0 {
		t.Errorf("the simulator found faults: %v", st.Faults)
	}
	for _, secret := range []string{n.Body, s.sender.bearers.cur.Load().value} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

// FCM refuses data with the key "from"; the simulator must, and the Sender
// must not use it.
func TestFromIsReserved(t *testing.T) {
	s := start(t, simfcm.Options{}, Options{SenderKey: "from"})
	if got := s.sender.Send(t.Context(), note("cafe")); got.Outcome != push.Rejected {
		t.Errorf("Send with the data key from: got %+v, want rejected", got)
	}
}

func TestLimitsCostNoRequest(t *testing.T) {
	s := start(t, simfcm.Options{}, Options{})
	if got, want := s.sender.Send(t.Context(), push.Notification{ID: "s1"}), (push.Result{Outcome: push.Rejected, Reason: "MissingDeviceToken"}); got != want {
		t.Errorf("Send without a token: got %+v, want %+v", got, want)
	}
	n := note("cafe")
	n.From = strings.Repeat("x", 2100) // in the data and in the notification
	if got, want := s.sender.Send(t.Context(), n), (push.Result{Outcome: push.Rejected, Reason: "PayloadTooLarge"}); got != want {
		t.Errorf("Send, a doorbell of 4200 octets: got %+v, want %+v", got, want)
	}
	if got := s.Stats().Requests; got != 0 {
		t.Errorf("%d requests, want none", got)
	}
}

// What does not fit, after encoding, goes without its body.
func TestPayloadLimitIsAfterEncoding(t *testing.T) {
	s := start(t, simfcm.Options{}, Options{})
	n := note("cafe")
	n.Body = "x"
	_, size := s.sender.message(n, time.Now())
	room := (push.MaxPayload-size)/2 + 1 // the body is in the data and in the notification
	for _, tt := range []struct {
		name, body string
		left       bool
	}{
		{"4096 octets", strings.Repeat("x", room), false},
		{"4098 octets", strings.Repeat("x", room+1), true},
		{"4200 octets when escaped", strings.Repeat("<", 350), true},
	} {
		n.Body = tt.body
		if got, want := s.sender.Send(t.Context(), n), (push.Result{Outcome: push.Accepted, BodyLeft: tt.left}); got != want {
			t.Errorf("Send, %s: got %+v, want %+v", tt.name, got, want)
		}
	}
	if st := s.Stats(); st.Requests != 3 || st.Accepted != 3 {
		t.Errorf("%d requests, %d accepted; want 3 of each", st.Requests, st.Accepted)
	}
}

// waitFor returns once ok does, which another goroutine causes.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline, tick := time.NewTimer(15*time.Second), time.NewTicker(time.Millisecond)
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
