package fcm

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v4"

	"shunt/test/sim/pki"
	"shunt/test/sim/provider"
)

const (
	grantType    = "urn:ietf:params:oauth:grant-type:jwt-bearer" // RFC 7523 §2.1
	maxAssertion = time.Hour
	maxForm      = 64 << 10
	maxGrants    = 1024
	clockSkew    = time.Minute
)

// grant is an OAuth token that was given.
type grant struct {
	expires time.Time
	used    bool
}

// grants gives and checks OAuth tokens. mu guards given.
type grants struct {
	key     *rsa.PublicKey
	account pki.Account
	ttl     time.Duration

	mu    sync.Mutex
	given map[string]grant
}

// token serves POST /token.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	if !s.AwaitTokenEndpoint(r.Context()) {
		panic(http.ErrAbortHandler)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	token, err := s.grants.exchange(r, time.Now())
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	if err != nil {
		s.Fault("TokenGrant")
		s.Count(func(st *provider.Stats) { st.TokenFaults++ })
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": "invalid_grant", "error_description": err.Error()})
		return
	}
	s.Count(func(st *provider.Stats) { st.TokenGrants++ })
	_ = json.NewEncoder(w).Encode(map[string]any{
		"access_token": token, "token_type": "Bearer", "expires_in": int(s.opts.TokenTTL / time.Second),
	})
}

// exchange checks a JWT-bearer grant (RFC 7523 §3) and gives a token for it.
func (g *grants) exchange(r *http.Request, now time.Time) (string, error) {
	if err := r.ParseForm(); err != nil {
		return "", errors.New("the form does not parse")
	}
	if r.PostForm.Get("grant_type") != grantType {
		return "", fmt.Errorf("grant_type: want %s", grantType)
	}
	var claims struct {
		jwt.RegisteredClaims
		Scope string `json:"scope"`
	}
	p := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithoutClaimsValidation())
	if _, err := p.ParseWithClaims(r.PostForm.Get("assertion"), &claims, func(*jwt.Token) (any, error) {
		return g.key, nil
	}); err != nil {
		return "", errors.New("assertion: invalid JWT signature")
	}
	if claims.Issuer != g.account.ClientEmail {
		return "", errors.New("assertion: iss is not the service account")
	}
	if len(claims.Audience) != 1 || claims.Audience[0] != g.account.TokenURI {
		return "", errors.New("assertion: aud is not the token endpoint")
	}
	if claims.IssuedAt == nil || claims.ExpiresAt == nil {
		return "", errors.New("assertion: iat and exp are required")
	}
	iat, exp := claims.IssuedAt.Time, claims.ExpiresAt.Time
	if exp.Before(now) || iat.After(now.Add(clockSkew)) || exp.Sub(iat) > maxAssertion {
		return "", errors.New("assertion: want iat now and exp within an hour")
	}
	if !hasScope(claims.Scope) {
		return "", errors.New("assertion: scope allows no messaging")
	}
	token := "ya29." + rand.Text() + rand.Text()
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.given) >= maxGrants {
		clear(g.given)
	}
	g.given[token] = grant{expires: now.Add(g.ttl)}
	return token, nil
}

func hasScope(scopes string) bool {
	for s := range strings.FieldsSeq(scopes) {
		switch s {
		case "https://www.googleapis.com/auth/firebase.messaging", "https://www.googleapis.com/auth/cloud-platform":
			return true
		}
	}
	return false
}

// valid checks an Authorization header; fresh tells that the token is used
// for the first time.
func (g *grants) valid(header string, now time.Time) (fresh, ok bool) {
	token, ok := strings.CutPrefix(header, "Bearer ")
	if !ok {
		return false, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	t, ok := g.given[token]
	if !ok || now.After(t.expires) {
		return false, false
	}
	if !t.used {
		t.used = true
		g.given[token] = t
		return true, true
	}
	return false, true
}

func (g *grants) revoke() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.given)
}
