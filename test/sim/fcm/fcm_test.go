package fcm

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v4"

	"shunt/test/sim/pki"
	"shunt/test/sim/provider"
)

func start(t *testing.T, o Options) (*Server, *http.Client) {
	t.Helper()
	o.PKI = t.TempDir()
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

func accountKey(t *testing.T, a pki.Account) *rsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode([]byte(a.PrivateKey))
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return k.(*rsa.PrivateKey)
}

// token asks for an OAuth token with the given assertion.
func token(t *testing.T, s *Server, c *http.Client, grant string, key *rsa.PrivateKey, claims jwt.MapClaims) (int, string) {
	t.Helper()
	a, err := jwt.NewWithClaims(jwt.SigningMethodRS256, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.PostForm("https://"+s.Addr()+"/token", url.Values{"grant_type": {grant}, "assertion": {a}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var reply struct {
		Token string `json:"access_token"`
		Error string `json:"error"`
		Life  int    `json:"expires_in"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode == 200 && reply.Life != 3600 {
		t.Errorf("expires_in: got %d, want 3600", reply.Life)
	}
	return resp.StatusCode, reply.Token + reply.Error
}

func TestGrants(t *testing.T) {
	s, c := start(t, Options{})
	a, _, err := pki.ServiceAccount(s.Info().KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	key := accountKey(t, a)
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for _, tt := range []struct {
		name   string
		grant  string
		key    *rsa.PrivateKey
		change func(jwt.MapClaims)
		want   int
	}{
		{"good", grantType, key, func(jwt.MapClaims) {}, 200},
		{"cloud-platform too", grantType, key, func(c jwt.MapClaims) { c["scope"] = "x https://www.googleapis.com/auth/cloud-platform" }, 200},
		{"grant type", "password", key, func(jwt.MapClaims) {}, 400},
		{"foreign key", grantType, foreign, func(jwt.MapClaims) {}, 400},
		{"iss", grantType, key, func(c jwt.MapClaims) { c["iss"] = "x" }, 400},
		{"aud", grantType, key, func(c jwt.MapClaims) { c["aud"] = "https://oauth2.googleapis.com/token" }, 400},
		{"no exp", grantType, key, func(c jwt.MapClaims) { delete(c, "exp") }, 400},
		{"expired", grantType, key, func(c jwt.MapClaims) { c["exp"] = now.Add(-time.Minute).Unix() }, 400},
		{"too long", grantType, key, func(c jwt.MapClaims) { c["exp"] = now.Add(2 * time.Hour).Unix() }, 400},
		{"of the future", grantType, key, func(c jwt.MapClaims) { c["iat"] = now.Add(10 * time.Minute).Unix() }, 400},
		{"scope", grantType, key, func(c jwt.MapClaims) { c["scope"] = "email" }, 400},
	} {
		claims := jwt.MapClaims{
			"iss": a.ClientEmail, "aud": a.TokenURI, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
			"scope": "https://www.googleapis.com/auth/firebase.messaging",
		}
		tt.change(claims)
		got, text := token(t, s, c, tt.grant, tt.key, claims)
		if got != tt.want || tt.want == 400 && text != "invalid_grant" {
			t.Errorf("%s: got %d %s, want %d", tt.name, got, text, tt.want)
		}
	}
	if st := s.Stats(); st.TokenGrants != 2 || st.TokenFaults != 9 {
		t.Errorf("%d grants, %d refused; want 2 and 9", st.TokenGrants, st.TokenFaults)
	}
}

// Every message differs from a good one in a single point.
func TestChecks(t *testing.T) {
	s, c := start(t, Options{})
	a, _, err := pki.ServiceAccount(s.Info().KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	_, bearer := token(t, s, c, grantType, accountKey(t, a), jwt.MapClaims{
		"iss": a.ClientEmail, "aud": a.TokenURI, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"scope": "https://www.googleapis.com/auth/firebase.messaging",
	})
	const path = "/v1/projects/shunt-sim/messages:send"
	const good = `{"message":{"token":"cafe","data":{"id":"s1","sender":"ACME"},` +
		`"android":{"priority":"high","ttl":"30s","notification":{"title":"ACME","tag":"s1"}}}}`
	swap := func(old, by string) string { return strings.Replace(good, old, by, 1) }
	for _, tt := range []struct {
		name, path, bearer, body string
		status                   int
		code                     string
		fault                    string
	}{
		{"good", path, bearer, good, 200, "", ""},
		{"no bearer", path, "", good, 401, "UNAUTHENTICATED", "UNAUTHENTICATED"},
		{"unknown bearer", path, "x", good, 401, "UNAUTHENTICATED", "UNAUTHENTICATED"},
		{"path", "/v2/projects/shunt-sim/messages:send", bearer, good, 404, "NOT_FOUND", "NOT_FOUND"},
		{"project", "/v1/projects/other/messages:send", bearer, good, 403, "PERMISSION_DENIED", "PERMISSION_DENIED"},
		{"no target", path, bearer, swap(`"token":"cafe",`, ""), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT message"},
		{"not JSON", path, bearer, "{", 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"},
		{"unknown member", path, bearer, swap(`"token"`, `"x":1,"token"`), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"},
		{"data is no string", path, bearer, swap(`"ACME"`, "1"), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"},
		{"reserved from", path, bearer, swap(`"sender"`, `"from"`), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT message.data"},
		{"reserved google", path, bearer, swap(`"sender"`, `"google.x"`), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT message.data"},
		{"too big", path, bearer, swap(`"ACME"`, `"`+strings.Repeat("x", 4096)+`"`), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT message"},
		{"priority", path, bearer, swap(`"high"`, `"urgent"`), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT message.android.priority"},
		{"ttl", path, bearer, swap(`"30s"`, `"30"`), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT message.android.ttl"},
		{"ttl too long", path, bearer, swap(`"30s"`, `"2419201s"`), 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT message.android.ttl"},
		// Google takes these; a gateway with deadlines may not send them.
		{"low priority", path, bearer, swap(`"high"`, `"normal"`), 200, "", "PriorityNotHigh"},
		{"no ttl", path, bearer, swap(`"ttl":"30s",`, ""), 200, "", "TTLMissing"},
		{"collapse key", path, bearer, swap(`"ttl"`, `"collapse_key":"s1","ttl"`), 200, "", "CollapseKey"},
		{"tag", path, bearer, swap(`"tag":"s1"`, `"tag":"s2"`), 200, "", "TagNotID"},
		{"no id", path, bearer, swap(`"id":"s1",`, ""), 200, "", "IDMissing"},
	} {
		r, err := http.NewRequest(http.MethodPost, "https://"+s.Addr()+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		if tt.bearer != "" {
			r.Header.Set("Authorization", "Bearer "+tt.bearer)
		}
		before := s.Stats()
		resp, err := c.Do(r)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		var reply struct {
			Name  string
			Error struct {
				Code   int
				Status string
			}
		}
		if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
			t.Errorf("%s: the reply is no JSON: %v", tt.name, err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != tt.status || reply.Error.Status != tt.code || (reply.Name != "") != (tt.status == 200) {
			t.Errorf("%s: got %d %+v, want %d %s", tt.name, resp.StatusCode, reply, tt.status, tt.code)
		}
		if now := s.Stats(); tt.fault != "" && now.Faults[tt.fault] != before.Faults[tt.fault]+1 {
			t.Errorf("%s: faults %v, want one more %q", tt.name, now.Faults, tt.fault)
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
	cmd.SetArgs([]string{"--pki", dir, "--addr-file", file, "--project", "p1", "--outcome", "dead*=404:UNREGISTERED"})
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
	a, _, err := pki.ServiceAccount(info.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if a.TokenURI != "https://"+info.Addr+"/token" || a.ProjectID != "p1" || info.URL != "https://"+info.Addr+"/v1" {
		t.Errorf("address file: got %+v, service account %s, %s", info, a.TokenURI, a.ProjectID)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("the command: %v", err)
	}
	var summary provider.Stats
	if err := json.Unmarshal(out.Bytes(), &summary); err != nil {
		t.Errorf("summary %q: %v", out.String(), err)
	}
	bad := Command()
	bad.SetOut(io.Discard)
	bad.SetErr(io.Discard)
	bad.SetArgs([]string{"--pki", dir, "--throttle-rate", "-1"})
	if err := bad.ExecuteContext(t.Context()); err == nil {
		t.Error("the command with a negative rate succeeded, want an error")
	}
}
