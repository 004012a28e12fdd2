package api

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"shunt/gateway/msg"
	"shunt/gateway/prove"
	"shunt/store/registry"
)

// owners is the API with proofs in front of a real registry; sms are the texts
// that would go out.
func owners(t *testing.T) (r *rig, sms chan string) {
	t.Helper()
	r = newRig(t)
	sms = make(chan string, 16)
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	service := prove.New(prove.Options{
		Registry: r.reg, Key: []byte("a key of the test"), Sender: "ACME", ShortCode: "60555", StopWords: []string{"STOP"},
		Text: "{app}: {code}", Send: func(_ string, _ msg.Number, text string) { sms <- text }, Log: log,
		Alarms: prove.AlarmLimits{PrefixDigits: 6, Sequence: 10, Sent: 50},
	})
	r.base = r.serve(New(Options{
		Spool: r.spool, Devices: r.reg, Text: textOf, Log: log,
		Owners: Owners{Prove: service, Registry: r.reg, Apps: func(id string) bool { return id == "chat" }, Grace: time.Minute},
	}), log)
	return r, sms
}

// call makes a call with a JSON body and headers.
func (r *rig) call(method, path, body string, headers ...string) answer {
	r.t.Helper()
	req, err := http.NewRequest(method, r.base+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	a, err := r.trySend(req)
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

var sixDigits = regexp.MustCompile(`[0-9]{6}`)

// proof proves carol's number and returns the proof.
func (r *rig) proof(t *testing.T, sms chan string, number msg.Number) string {
	r.t.Helper()
	a := r.call("POST", "/v1/verifications", fmt.Sprintf(`{"number":%q,"app":"chat"}`, number.String()))
	if a.status != http.StatusAccepted {
		r.t.Fatalf("POST /v1/verifications = %d %v", a.status, a.fields)
	}
	check := "/v1/verifications/" + a.fields["id"].(string) + "/check"
	code := sixDigits.FindString(<-sms)
	wrong := "000000"
	if code == wrong {
		wrong = "000001"
	}
	wantProblem(t, "a wrong code", r.call("POST", check, `{"code":"`+wrong+`"}`), http.StatusUnprocessableEntity, "wrong-code")
	a = r.call("POST", check, `{"code":"`+code+`"}`)
	if a.status != http.StatusOK {
		r.t.Fatalf("check = %d %v", a.status, a.fields)
	}
	wantProblem(t, "a code that was used", r.call("POST", check, `{"code":"`+code+`"}`), http.StatusGone, "expired")
	return a.fields["proof"].(string)
}

const carol msg.Number = 447700900777

func put(proof, token, more string) string {
	return fmt.Sprintf(`{"proof":%q,"app":"chat","platform":"fcm","token":%q%s}`, proof, token, more)
}

func TestProofRegistersAndEvicts(t *testing.T) {
	r, sms := owners(t)
	wantProblem(t, "a device without proof", r.call("PUT", "/v1/devices/d1", put("", "t1", "")), http.StatusUnauthorized, "unauthorized")
	wantProblem(t, "a forged proof", r.call("PUT", "/v1/devices/d1", put("forged", "t1", "")), http.StatusForbidden, "invalid-proof")
	proof := r.proof(t, sms, carol)
	a := r.call("PUT", "/v1/devices/d1", put(proof, "t1", `,"features":["read"]`))
	if a.status != http.StatusOK {
		t.Fatalf("PUT = %d %v", a.status, a.fields)
	}
	first := a.fields["bearer"].(string)
	wantProblem(t, "the proof for another device", r.call("PUT", "/v1/devices/d2", put(proof, "t2", "")), http.StatusForbidden, "invalid-proof")
	if e := r.reg.Lookup(carol); !e.Active() || !e.NoReceipts() {
		t.Errorf("Lookup = %x, want active and without receipts", e)
	}

	a = r.call("PUT", "/v1/devices/d1", put("", "t1-new", `,"rotate":true`), "Authorization", "Bearer "+first)
	second, _ := a.fields["bearer"].(string)
	if a.status != http.StatusOK || second == "" || second == first {
		t.Fatalf("rotate = %d %v, want another bearer", a.status, a.fields)
	}
	for _, b := range []string{first, second} { // both, within the grace
		if a := r.call("GET", "/v1/devices/d1", "", "Authorization", "Bearer "+b); a.status != http.StatusOK {
			t.Errorf("GET after the rotation = %d %v", a.status, a.fields)
		}
	}

	// Another installation proves the number: 30 s must pass for carol, so that
	// the registry is asked directly.
	hash := r.provenDirectly(carol)
	res, err := r.reg.Put(t.Context(), registry.Put{
		Device: "thief-or-heir", App: "chat", Platform: registry.FCM, Token: "t9", Active: true,
		Authority: registry.Authority{ProofHash: hash},
	})
	if err != nil || res.Evicted != 1 || len(res.Registration.Devices) != 1 {
		t.Fatalf("Put by a new proof = %+v, %v, want the old device evicted", res, err)
	}
	for _, b := range []string{first, second} {
		wantProblem(t, "an evicted bearer", r.call("GET", "/v1/messages", "", "Authorization", "Bearer "+b), http.StatusUnauthorized, "evicted")
	}
	a = r.call("DELETE", "/v1/devices/thief-or-heir", "", "Authorization", "Bearer "+res.Bearer)
	if e := r.reg.Lookup(carol); a.status != http.StatusNoContent || e.Registered() {
		t.Errorf("DELETE = %d, Lookup = %x, want nothing registered", a.status, e)
	}
	if log := r.log.String(); strings.Contains(log, proof) || strings.Contains(log, first) || strings.Contains(log, carol.String()) {
		t.Error("the log holds a proof, a bearer or a number")
	}
}

// provenDirectly makes a proof in the registry.
func (r *rig) provenDirectly(n msg.Number) (hash [32]byte) {
	r.t.Helper()
	v := registry.Verification{ID: [16]byte{1}, Number: n, App: "chat", MAC: [32]byte{2}, Expires: time.Now().Add(time.Minute)}
	if err := r.reg.Begin(r.t.Context(), v); err != nil {
		r.t.Fatal(err)
	}
	hash = sha256.Sum256([]byte("another proof"))
	if _, err := r.reg.Check(r.t.Context(), v.ID, v.MAC, hash, time.Minute); err != nil {
		r.t.Fatal(err)
	}
	return hash
}

func TestFiveWrongCodesBurn(t *testing.T) {
	r, sms := owners(t)
	a := r.call("POST", "/v1/verifications", `{"number":"+447700900777","app":"chat"}`)
	check := "/v1/verifications/" + a.fields["id"].(string) + "/check"
	code := sixDigits.FindString(<-sms)
	wrong := "123456"
	if code == wrong {
		wrong = "654321"
	}
	for range registry.MaxChecks {
		wantProblem(t, "a wrong code", r.call("POST", check, `{"code":"`+wrong+`"}`), http.StatusUnprocessableEntity, "wrong-code")
	}
	wantProblem(t, "the right code after five", r.call("POST", check, `{"code":"`+code+`"}`), http.StatusGone, "expired")
	again := r.call("POST", "/v1/verifications", `{"number":"+447700900777","app":"chat"}`)
	wantProblem(t, "a code again at once", again, http.StatusTooManyRequests, "limit-resend")
	if again.header.Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
	known := r.call("POST", "/v1/verifications", fmt.Sprintf(`{"number":%q,"app":"chat"}`, alice.String()))
	if known.status != a.status || len(known.fields) != len(a.fields) {
		t.Errorf("a registered number is answered %d %v, one that is not %d", known.status, known.fields, a.status)
	}
}

// dpop makes a proof of RFC 9449.
func dpop(t *testing.T, key *ecdsa.PrivateKey, method, url, jti, bearer string, at time.Time) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key},
		(&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
	if err != nil {
		t.Fatal(err)
	}
	ath := sha256.Sum256([]byte(bearer))
	jws, err := s.Sign(fmt.Appendf(nil, `{"jti":%q,"htm":%q,"htu":%q,"iat":%d,"ath":%q}`,
		jti, method, url, at.Unix(), base64.RawURLEncoding.EncodeToString(ath[:])))
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestDPoP(t *testing.T) {
	r, sms := owners(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	url, now := r.base+"/v1/devices/d1", time.Now()
	a := r.call("PUT", "/v1/devices/d1", put(r.proof(t, sms, carol), "t1", ""), "DPoP", dpop(t, key, "PUT", url, "j1", "", now))
	if a.status != http.StatusOK || a.fields["token_type"] != "DPoP" {
		t.Fatalf("PUT with a key = %d %v", a.status, a.fields)
	}
	bearer := a.fields["bearer"].(string)
	get := func(proof string) answer {
		return r.call("GET", "/v1/devices/d1", "", "Authorization", "DPoP "+bearer, "DPoP", proof)
	}
	good := dpop(t, key, "GET", url, "j2", bearer, now)
	if a := get(good); a.status != http.StatusOK {
		t.Fatalf("GET with a proof = %d %v", a.status, a.fields)
	}
	wantProblem(t, "a replayed proof", get(good), http.StatusUnauthorized, "invalid-dpop-proof")
	wantProblem(t, "a bearer alone", r.call("GET", "/v1/devices/d1", "", "Authorization", "Bearer "+bearer), http.StatusUnauthorized, "unauthorized")
	for what, proof := range map[string]string{
		"another method": dpop(t, key, "POST", url, "j3", bearer, now), "another URL": dpop(t, key, "GET", url+"x", "j4", bearer, now),
		"another bearer": dpop(t, key, "GET", url, "j5", "b", now), "an old one": dpop(t, key, "GET", url, "j6", bearer, now.Add(-time.Hour)),
		"none": "", "no JWS": "a.b.c",
	} {
		wantProblem(t, what, get(proof), http.StatusUnauthorized, "invalid-dpop-proof")
	}
	wantProblem(t, "another key", get(dpop(t, other, "GET", url, "j7", bearer, now)), http.StatusUnauthorized, "unauthorized")
	_, d, err := r.reg.ByBearer(bearer)
	thumbprint, _ := (&jose.JSONWebKey{Key: &key.PublicKey}).Thumbprint(crypto.SHA256)
	if err != nil || string(d.Thumbprint[:]) != string(thumbprint) {
		t.Errorf("the device has thumbprint %x, %v, want %x", d.Thumbprint, err, thumbprint)
	}
}
