package apns

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v4"

	"shunt/test/sim/provider"
)

const (
	team  = "ABCDE12345"
	keyID = "FGHIJ67890"
	topic = "com.example.chat"
)

func start(t *testing.T, o Options) (*Server, *http.Client) {
	t.Helper()
	o.PKI = t.TempDir()
	o.TeamID, o.KeyID, o.Topic = team, keyID, topic
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.CA().Pool()}, ForceAttemptHTTP2: true}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		_ = s.Close()
	})
	return s, &http.Client{Transport: tr}
}

func privateKey(t *testing.T, file string) *ecdsa.PrivateKey {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return k.(*ecdsa.PrivateKey)
}

func sign(t *testing.T, m jwt.SigningMethod, key any, kid, iss string, age time.Duration) string {
	t.Helper()
	j := jwt.NewWithClaims(m, jwt.MapClaims{"iss": iss, "iat": time.Now().Add(-age).Unix()})
	j.Header["kid"] = kid
	s, err := j.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return "bearer " + s
}

const payload = `{"aps":{"alert":{"title":"ACME","body":"hi"},"mutable-content":1},"id":"s1","from":"ACME"}`

// Every request differs from a good one in a single point.
func TestChecks(t *testing.T) {
	s, c := start(t, Options{})
	key := privateKey(t, s.Info().KeyFile)
	foreign, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := func(k, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(k, v) } }
	body := func(b string) func(*http.Request) {
		return func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(b)), int64(len(b))
		}
	}
	auth := func(key *ecdsa.PrivateKey, kid, iss string, age time.Duration) func(*http.Request) {
		return set("Authorization", sign(t, jwt.SigningMethodES256, key, kid, iss, age))
	}
	for _, tt := range []struct {
		name   string
		change func(*http.Request)
		status int
		reason string
	}{
		{"good", func(*http.Request) {}, 200, ""},
		{"method", func(r *http.Request) { r.Method = http.MethodPut }, 405, "MethodNotAllowed"},
		{"path", func(r *http.Request) { r.URL.Path = "/4/device/cafe" }, 404, "BadPath"},
		{"long path", func(r *http.Request) { r.URL.Path += "/x" }, 404, "BadPath"},
		{"no token", func(r *http.Request) { r.URL.Path = "/3/device/" }, 400, "MissingDeviceToken"},
		{"no bearer", func(r *http.Request) { r.Header.Del("Authorization") }, 403, "MissingProviderToken"},
		{"not a JWT", set("Authorization", "bearer x"), 403, "InvalidProviderToken"},
		{"foreign key", auth(foreign, keyID, team, 0), 403, "InvalidProviderToken"},
		{"other kid", auth(key, "OTHER", team, 0), 403, "InvalidProviderToken"},
		{"other team", auth(key, keyID, "OTHER", 0), 403, "InvalidProviderToken"},
		{"other alg", set("Authorization", sign(t, jwt.SigningMethodHS256, []byte("x"), keyID, team, 0)), 403, "InvalidProviderToken"},
		{"old", auth(key, keyID, team, 61*time.Minute), 403, "ExpiredProviderToken"},
		{"of the future", auth(key, keyID, team, -10*time.Minute), 403, "InvalidProviderToken"},
		{"nearly old", auth(key, keyID, team, 59*time.Minute), 200, ""},
		{"no topic", func(r *http.Request) { r.Header.Del("apns-topic") }, 400, "MissingTopic"},
		{"other topic", set("apns-topic", "com.example.other"), 400, "TopicDisallowed"},
		{"no push type", func(r *http.Request) { r.Header.Del("apns-push-type") }, 400, "InvalidPushType"},
		{"priority", set("apns-priority", "11"), 400, "BadPriority"},
		{"background at 10", set("apns-push-type", "background"), 400, "BadPriority"},
		{"expiration", set("apns-expiration", "soon"), 400, "BadExpirationDate"},
		{"collapse id", set("apns-collapse-id", strings.Repeat("x", 65)), 400, "BadCollapseId"},
		{"repeated", func(r *http.Request) { r.Header.Add("apns-priority", "5") }, 400, "DuplicateHeaders"},
		{"no payload", body(""), 400, "PayloadEmpty"},
		{"no aps", body(`{"id":"s1"}`), 400, "PayloadEmpty"},
		{"not JSON", body("{"), 400, "PayloadEmpty"},
		{"too large", body(`{"aps":{},"id":"s1","x":"` + strings.Repeat("x", 4096) + `"}`), 413, "PayloadTooLarge"},
	} {
		r, err := http.NewRequest(http.MethodPost, "https://"+s.Addr()+"/3/device/cafe", bytes.NewReader([]byte(payload)))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range map[string]string{
			"apns-topic": topic, "apns-push-type": "alert", "apns-priority": "10",
			"apns-expiration": "1900000000", "apns-collapse-id": "s1",
		} {
			r.Header.Set(k, v)
		}
		auth(key, keyID, team, 0)(r)
		tt.change(r)
		before := s.Stats()
		resp, err := c.Do(r)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		var reply struct{ Reason string }
		_ = json.NewDecoder(resp.Body).Decode(&reply) // a 200 has no body
		_ = resp.Body.Close()
		if resp.StatusCode != tt.status || reply.Reason != tt.reason || resp.Header.Get("apns-id") == "" {
			t.Errorf("%s: got %d %q, apns-id %q; want %d %q", tt.name, resp.StatusCode, reply.Reason, resp.Header.Get("apns-id"), tt.status, tt.reason)
		}
		now := s.Stats()
		if tt.reason != "" && now.Faults[tt.reason] != before.Faults[tt.reason]+1 {
			t.Errorf("%s: faults %v, want one more %s", tt.name, now.Faults, tt.reason)
		}
		if accepted := now.Accepted > before.Accepted; accepted != (tt.status == 200) {
			t.Errorf("%s: accepted is %v", tt.name, accepted)
		}
	}
}

func TestCommand(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "addr.json")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errs bytes.Buffer
	cmd := Command()
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetArgs([]string{"--pki", dir, "--addr-file", file, "--latency", "5ms", "--outcome", "dead*=410:Unregistered", "--seed", "3"})
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	var info provider.Info
	for tick := time.NewTicker(time.Millisecond); ; {
		if b, err := os.ReadFile(file); err == nil {
			if err := json.Unmarshal(b, &info); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			tick.Stop()
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("the command ended early: %v", err)
		case <-tick.C:
		}
	}
	resp, err := http.Get("http://" + info.Control + "/stats")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if info.URL != "https://"+info.Addr || info.KeyFile != filepath.Join(dir, "apns.p8") || info.CAFile != filepath.Join(dir, "ca.pem") {
		t.Errorf("address file: got %+v", info)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the command: %v", err)
	}
	var summary provider.Stats
	if err := json.Unmarshal(out.Bytes(), &summary); err != nil {
		t.Errorf("summary %q: %v", out.String(), err)
	}
	for _, args := range [][]string{{}, {"--pki", dir, "--outcome", "x"}, {"--pki", dir, "--error-rate", "2"}, {"--pki", dir, "extra"}} {
		cmd := Command()
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		cmd.SetArgs(args)
		if err := cmd.ExecuteContext(t.Context()); err == nil {
			t.Errorf("the command with %q succeeded, want an error", args)
		}
	}
}
