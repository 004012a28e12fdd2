package fcm

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"shunt/push"
	simfcm "shunt/test/sim/fcm"
	"shunt/test/sim/pki"
	"shunt/test/sim/provider"
)

func rewrite(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// accounts are the simulator's service account and one like it with another
// key, which its token endpoint refuses.
func accounts(t *testing.T, info provider.Info) (good, bad []byte) {
	t.Helper()
	good, err := os.ReadFile(info.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	acct, _, err := pki.ServiceAccount(info.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/other.json"
	if err := pki.WriteServiceAccount(file, acct.TokenURI, acct.ProjectID); err != nil {
		t.Fatal(err)
	}
	bad, err = os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return good, bad
}

// An account that Google refuses is looked up on disk again: the right one takes
// over without a restart.
func TestAccountIsReloadedAfterARefusal(t *testing.T) {
	s := start(t, simfcm.Options{}, Options{})
	good, bad := accounts(t, s.Info())
	file := s.Info().KeyFile
	rewrite(t, file, bad) // the simulator has read its own before
	buf := &lockedBuffer{}
	sender := newSender(t, s.Info(), Options{}, buf)
	if got, want := sender.Send(t.Context(), note("cafe")), (push.Result{Outcome: push.Denied, Reason: "invalid_grant"}); got != want {
		t.Errorf("Send with a refused account: got %+v, want %+v", got, want)
	}
	rewrite(t, file, good)
	var got push.Result
	waitFor(t, "the account to be looked up again", func() bool { // with the next try to get a token at the latest
		got = sender.Send(t.Context(), note("cafe"))
		return got.Outcome != push.Denied
	})
	if got.Outcome != push.Accepted {
		t.Errorf("Send with the right account on disk: got %+v, want accepted", got)
	}
	log := buf.String()
	if !strings.Contains(log, "service account reloaded") || strings.Contains(log, "PRIVATE KEY") {
		t.Errorf("log:\n%s\nwant the reload and no key", log)
	}
}

// A 401 has the file read at once: the push that meets it goes out with the new
// account's token.
func TestAccountIsReloadedAfterA401(t *testing.T) {
	s := start(t, simfcm.Options{}, Options{})
	good, _ := accounts(t, s.Info())
	if got := s.sender.Send(t.Context(), note("cafe")); got.Outcome != push.Accepted {
		t.Fatalf("first Send: got %+v, want accepted", got)
	}
	var acct map[string]string
	if err := json.Unmarshal(good, &acct); err != nil {
		t.Fatal(err)
	}
	acct["private_key_id"] = "another"
	b, err := json.Marshal(acct)
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, s.Info().KeyFile, b)
	s.Revoke()
	if got := s.sender.Send(t.Context(), note("cafe")); got.Outcome != push.Accepted {
		t.Errorf("Send after the key was replaced: got %+v, want accepted", got)
	}
	if id := s.sender.bearers.inUse.Load().conf.PrivateKeyID; id != "another" || s.sender.bearers.next.Load() != nil {
		t.Errorf("key %q is in use, want the new one", id)
	}
	if n := s.Stats().Faults["UNAUTHENTICATED"]; n != 1 {
		t.Errorf("%d pushes met a 401, want 1", n)
	}
}

// An unfit file, another project's account, and one for which Google gives no
// token keep the old account: nothing that is under way or comes is lost.
func TestUnfitAccountKeepsTheOldOne(t *testing.T) {
	s := start(t, simfcm.Options{}, Options{})
	good, bad := accounts(t, s.Info())
	if got := s.sender.Send(t.Context(), note("cafe")); got.Outcome != push.Accepted {
		t.Fatalf("first Send: got %+v, want accepted", got)
	}
	s.update(t, map[string]any{"rules": []provider.Rule{{Token: "slow", Status: 200, Latency: provider.Duration(200 * time.Millisecond)}}})
	slow := make(chan push.Result, 1)
	go func() { slow <- s.sender.Send(context.Background(), note("slow")) }()
	waitFor(t, "the push to be under way", func() bool { return s.Stats().Streams == 1 })
	at := time.Now()
	load := func(content []byte) {
		t.Helper()
		rewrite(t, s.Info().KeyFile, content)
		at = at.Add(time.Minute)
		s.sender.file.Poll(at, false, s.sender.use)
	}
	for _, content := range [][]byte{
		[]byte("{"), []byte("{"), []byte(strings.ReplaceAll(string(good), `"shunt-sim"`, `"elsewhere"`)), bad,
	} {
		load(content)
		if got := s.sender.Send(t.Context(), note("cafe")); got.Outcome != push.Accepted {
			t.Errorf("Send with another file on disk: got %+v, want accepted", got)
		}
	}
	waitFor(t, "the refused account to be tried", func() bool {
		g := s.sender.bearers.next.Load()
		return g != nil && g.told.Load()
	})
	s.sender.bearers.wake() // and tried again
	waitFor(t, "a second try", func() bool { return s.Stats().TokenFaults >= 2 })
	if got := s.sender.Send(t.Context(), note("cafe")); got.Outcome != push.Accepted {
		t.Errorf("Send while a refused account waits: got %+v, want accepted", got)
	}
	// The token in use is lost too: the old account gets another one.
	s.Revoke()
	if got := s.sender.Send(t.Context(), note("cafe")); got.Outcome != push.Accepted {
		t.Errorf("Send after the token was revoked: got %+v, want accepted", got)
	}
	load(good)
	if g := s.sender.bearers.next.Load(); g != nil {
		t.Error("an account waits although the file has the old one again")
	}
	if got := <-slow; got.Outcome != push.Accepted {
		t.Errorf("Send that was under way: got %+v, want accepted", got)
	}
	log := s.log.String()
	for _, want := range []string{"unexpected end", "only a restart changes the project", "no oauth token for the new service account"} {
		if n := strings.Count(log, want); n != 1 {
			t.Errorf("the log says %d times %q, want once:\n%s", n, want, log)
		}
	}
	if strings.Contains(log, "PRIVATE KEY") || strings.Contains(log, "reloaded") {
		t.Errorf("log:\n%s\nwant neither a key nor a reload", log)
	}
}

// Google names a token that never was one in a sentence of its own.
func TestTokenThatNeverWasOneIsDead(t *testing.T) {
	for _, tt := range []struct {
		message, field string
		want           push.Outcome
	}{
		{badToken, "", push.TokenDead},
		{badToken, "message.data", push.Rejected},
		{"Android message is too big", "", push.Rejected},
		{"Request contains an invalid argument.", "", push.Rejected},
	} {
		e := refusal(t, "INVALID_ARGUMENT", tt.message, map[string]any{
			"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations(strings.Fields(tt.field)),
		})
		if got := ofReply(400, &e); got != tt.want {
			t.Errorf("ofReply, %q, field %q: got %v, want %v", tt.message, tt.field, got, tt.want)
		}
	}
}

// A quota that is one device's rests the token; every other one is the lane's.
func TestQuotaOfADevice(t *testing.T) {
	for _, tt := range []struct {
		quotas []string
		want   bool
	}{
		{nil, false},
		{[]string{"Device message rate exceeded"}, true},
		{[]string{"Messages per minute and project"}, false},
		{[]string{"Device message rate exceeded", "Messages per minute and project"}, false},
	} {
		all := []map[string]string{}
		for _, q := range tt.quotas {
			all = append(all, map[string]string{"description": q})
		}
		e := refusal(t, "QUOTA_EXCEEDED", "Quota exceeded.", map[string]any{
			"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": all,
		})
		if got := e.onlyDevice(); got != tt.want || ofReply(429, &e) != push.Busy {
			t.Errorf("onlyDevice, quotas %q: got %t, want %t", tt.quotas, got, tt.want)
		}
	}
}

// refusal is one of FCM's, with one more detail.
func refusal(t *testing.T, code, message string, detail map[string]any) (e apiError) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"error": map[string]any{"message": message, "details": []any{
		map[string]any{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}, detail,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	return e
}
