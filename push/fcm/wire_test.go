package fcm

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/push"
	simfcm "shunt/test/sim/fcm"
	"shunt/test/sim/pki"
	"shunt/test/sim/provider"
)

func TestMessage(t *testing.T) {
	now := time.Unix(1_900_000_000, 0)
	s := &Sender{senderKey: defaultSenderKey}
	for _, tt := range []struct {
		n    push.Notification
		want string
	}{
		{
			push.Notification{ID: "s1", From: "ACME", Token: "tok", Expires: now.Add(30*time.Second + time.Millisecond)},
			`{"data":{"id":"s1","sender":"ACME"},"android":{"ttl":"30s","priority":"high","notification":{"title":"ACME","tag":"s1"}},"token":"tok"}`,
		},
		{
			push.Notification{ID: "s1", From: "ACME", Token: "tok", Expires: now.Add(365 * 24 * time.Hour), Body: "hi"},
			`{"data":{"body":"hi","id":"s1","sender":"ACME"},"android":{"ttl":"2419200s","priority":"high","notification":{"title":"ACME","body":"hi","tag":"s1"}},"token":"tok"}`,
		},
		{
			push.Notification{ID: "s1", From: "ACME", Token: "tok"}, // now or never
			`{"data":{"id":"s1","sender":"ACME"},"android":{"ttl":"0s","priority":"high","notification":{"title":"ACME","tag":"s1"}},"token":"tok"}`,
		},
	} {
		m, _ := s.message(tt.n, now)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(tree(t, tt.want), tree(t, string(b))); d != "" {
			t.Errorf("message(%+v) (-want +got):\n%s", tt.n, d)
		}
	}
}

func tree(t *testing.T, s string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return v
}

// writeAccount is a's account with b's token endpoint.
func writeAccount(t *testing.T, a, b provider.Info) string {
	t.Helper()
	acct, _, err := pki.ServiceAccount(a.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	acct.TokenURI = "https://" + b.Addr + "/token"
	return writeJSON(t, acct)
}

func writeJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "account.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good.json")
	if err := pki.WriteServiceAccount(good, "https://127.0.0.1:1/token", "p"); err != nil {
		t.Fatal(err)
	}
	acct, _, err := pki.ServiceAccount(good)
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*pki.Account)) string {
		a := acct
		change(&a)
		return writeJSON(t, a)
	}
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{}, "service_account_file is missing"},
		{Options{ServiceAccountFile: "/nowhere.json"}, "service_account_file: open /nowhere.json"},
		{Options{ServiceAccountFile: writeJSON(t, []int{})}, "account.json: JSON"},
		{Options{ServiceAccountFile: writeJSON(t, strings.Repeat("x", 1<<17))}, "account.json: longer than"},
		{Options{ServiceAccountFile: with(func(a *pki.Account) { a.Type = "authorized_user" })}, `type is "authorized_user"`},
		{Options{ServiceAccountFile: with(func(a *pki.Account) { a.ProjectID = "" })}, "project_id is missing"},
		{Options{ServiceAccountFile: with(func(a *pki.Account) { a.ProjectID = "a/b" })}, "project_id: holds characters"},
		{Options{ServiceAccountFile: with(func(a *pki.Account) { a.ClientEmail = "" })}, "client_email is missing"},
		{Options{ServiceAccountFile: with(func(a *pki.Account) { a.PrivateKey = "x" })}, "private_key: holds no PEM block"},
		{Options{ServiceAccountFile: with(func(a *pki.Account) { a.PrivateKey = a.PrivateKey[:200] + a.PrivateKey[220:] })}, "private_key: "},
		{Options{ServiceAccountFile: with(func(a *pki.Account) { a.TokenURI = "http://x/token" })}, "token_uri: want an https URL"},
		{Options{ServiceAccountFile: good, CAFile: "/nowhere.pem"}, "ca_file: open /nowhere.pem"},
		{Options{ServiceAccountFile: good, Endpoint: "http://127.0.0.1:1/v1"}, "want https://HOST"},
		{Options{ServiceAccountFile: good, Endpoint: "https://127.0.0.1:1/v1?x"}, "want https://HOST[:PORT]/v1"},
	} {
		s, err := New(t.Context(), tt.o)
		if err == nil {
			_ = s.Close()
			t.Errorf("New succeeded, want an error with %q", tt.want)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("New: got error %q, want it to hold %q", err, tt.want)
		}
		if strings.Contains(err.Error(), "MII") {
			t.Errorf("New: error %q quotes the key", err)
		}
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	s := start(t, simfcm.Options{}, Options{})
	s.update(t, map[string]any{"rules": []provider.Rule{{Token: "stuck", Status: 0}}})
	for range 8 { // every connection
		if got := s.sender.Send(t.Context(), note("cafe")); got.Outcome != push.Accepted {
			t.Fatalf("Send: got %+v, want accepted", got)
		}
	}
	ended := make(chan push.Result, 1)
	go func() { ended <- s.sender.Send(context.Background(), note("stuck")) }()
	waitFor(t, "the push to be under way", func() bool { return s.Stats().Frozen == 1 })
	s.update(t, map[string]any{"token_frozen": true})
	s.sender.bearers.kick <- struct{}{} // a fetch is under way too
	for range 2 {
		if err := s.sender.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if got := <-ended; got.Outcome != push.Unknown {
		t.Errorf("Send under way at Close: got %+v, want unknown", got)
	}
	if got, want := s.sender.Send(t.Context(), note("cafe")), (push.Result{Outcome: push.Busy, Reason: "closed"}); got != want {
		t.Errorf("Send after Close: got %+v, want %+v", got, want)
	}
	if err := s.Server.Close(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "every goroutine of push and of HTTP to end", func() bool { return goroutines() == "" })
}

// goroutines are the stacks of all goroutines but the test's own that have to
// do with a push.
func goroutines() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var left []string
	for i, g := range bytes.Split(buf, []byte("\n\n")) {
		if i > 0 && (bytes.Contains(g, []byte("shunt/push")) && !bytes.Contains(g, []byte("testing.tRunner")) ||
			bytes.Contains(g, []byte("net/http.")) || bytes.Contains(g, []byte("shunt/test/sim"))) {
			left = append(left, string(g))
		}
	}
	return strings.Join(left, "\n\n")
}
