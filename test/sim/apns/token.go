package apns

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"sync"
	"time"
)

const (
	maxTokenAge = time.Hour
	clockSkew   = time.Minute
	keptTokens  = 64 // verified tokens that are remembered
	maxToken    = 4096
)

// verifier checks provider tokens: JSON Web Tokens signed with ES256 (RFC
// 7515, RFC 7518 §3.4). mu guards seen.
type verifier struct {
	key         *ecdsa.PublicKey
	team, keyID string

	mu   sync.Mutex
	seen map[string]time.Time // a verified token → its iat; its signature is checked once
}

// check returns Apple's reason for refusing the Authorization header, or "".
// fresh tells that the token was not seen before.
func (v *verifier) check(header string, now time.Time) (fresh bool, reason string) {
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		return false, "MissingProviderToken"
	}
	v.mu.Lock()
	issued, known := v.seen[token]
	v.mu.Unlock()
	if !known {
		var ok bool
		if issued, ok = v.verify(token); !ok {
			return false, "InvalidProviderToken"
		}
	}
	switch age := now.Sub(issued); {
	case age > maxTokenAge:
		return false, "ExpiredProviderToken"
	case age < -clockSkew:
		return false, "InvalidProviderToken"
	}
	if known {
		return false, ""
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, raced := v.seen[token]; raced {
		return false, ""
	}
	if v.seen == nil || len(v.seen) >= keptTokens {
		v.seen = make(map[string]time.Time)
	}
	v.seen[token] = issued
	return true, ""
}

// verify checks the header, the claims and the signature of a token.
func (v *verifier) verify(token string) (issued time.Time, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 || len(token) > maxToken {
		return issued, false
	}
	var header struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
	}
	var claims struct {
		Iss string `json:"iss"`
		Iat int64  `json:"iat"`
	}
	if !decode(parts[0], &header) || !decode(parts[1], &claims) {
		return issued, false
	}
	if header.Alg != "ES256" || header.Kid == "" || claims.Iss == "" ||
		v.keyID != "" && header.Kid != v.keyID || v.team != "" && claims.Iss != v.team {
		return issued, false
	}
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(sig) != 64 {
		return issued, false
	}
	hash := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	return time.Unix(claims.Iat, 0), ecdsa.Verify(v.key, hash[:], r, s)
}

func decode(part string, into any) bool {
	b, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(b, into) == nil
}
