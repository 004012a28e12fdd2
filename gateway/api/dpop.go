package api

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// What a DPoP proof may be (RFC 9449 §4.3, §11.1): ES256 alone, made within so
// much before or after our clock, and used once.
const (
	maxDPoP     = 4096 // octets
	dpopWindow  = 2 * time.Minute
	maxReplays  = 100_000
	maxProofJTI = 256
)

// claims are those of a proof (RFC 9449 §4.2).
type claims struct {
	JTI string  `json:"jti"`
	HTM string  `json:"htm"`
	HTU string  `json:"htu"`
	IAT float64 `json:"iat"`
	ATH string  `json:"ath"`
}

// proven checks the one DPoP proof of a request and returns its key's
// thumbprint (RFC 7638). bearer is the access token that it has to be for; "" at
// a registration, which has none yet. Errors repeat nothing of the proof.
func (h *handlers) proven(r *request, bearer string) (thumbprint [32]byte, err error) {
	if len(r.proofs) != 1 || len(r.proofs[0]) > maxDPoP {
		return thumbprint, errors.New("want one proof")
	}
	sig, err := jose.ParseSignedCompact(r.proofs[0], []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || len(sig.Signatures) != 1 {
		return thumbprint, errors.New("want a JWS signed with ES256")
	}
	header := sig.Signatures[0].Protected
	key := header.JSONWebKey
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); typ != "dpop+jwt" {
		return thumbprint, errors.New(`want typ "dpop+jwt"`)
	}
	if key == nil || !key.IsPublic() || !key.Valid() {
		return thumbprint, errors.New("want the public key as jwk")
	}
	payload, err := sig.Verify(key)
	if err != nil {
		return thumbprint, errors.New("the signature does not fit the key")
	}
	var c claims
	if json.Unmarshal(payload, &c) != nil {
		return thumbprint, errors.New("claims cannot be read")
	}
	now := time.Now()
	if err := c.fit(r, bearer, now); err != nil {
		return thumbprint, err
	}
	b, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return thumbprint, errors.New("the key has no thumbprint")
	}
	copy(thumbprint[:], b)
	if !h.replays.first(sha256.Sum256(append(b, c.JTI...)), now) {
		return thumbprint, errors.New("this proof was used before: make a new one for every call")
	}
	return thumbprint, nil
}

func (c *claims) fit(r *request, bearer string, now time.Time) error {
	made := time.Unix(int64(c.IAT), 0)
	hash := sha256.Sum256([]byte(bearer))
	switch {
	case c.JTI == "" || len(c.JTI) > maxProofJTI:
		return errors.New("want a jti")
	case c.HTM != r.method:
		return errors.New("htm is not this method")
	case !sameURL(c.HTU, r.url):
		return errors.New("htu is not this URL without its query")
	case made.Before(now.Add(-dpopWindow)) || made.After(now.Add(dpopWindow)):
		return errors.New("iat is not now")
	case bearer != "" && c.ATH != base64.RawURLEncoding.EncodeToString(hash[:]):
		return errors.New("ath is not the hash of this bearer")
	}
	return nil
}

// sameURL compares as RFC 9449 §4.3 says, without query and fragment. A proxy
// before us may have ended TLS, so the scheme does not count.
func sameURL(a, b string) bool {
	x, err := url.Parse(a)
	y, err2 := url.Parse(b)
	return err == nil && err2 == nil && strings.EqualFold(hostOf(x), hostOf(y)) && x.EscapedPath() == y.EscapedPath()
}

func hostOf(u *url.URL) string {
	h := strings.TrimSuffix(u.Host, ":443")
	return strings.TrimSuffix(h, ":80")
}

// replays remembers the proofs that were used, for as long as they could be used
// again: two generations, each of a window to both sides. One that is full
// refuses what it cannot remember.
type replays struct {
	mu       sync.Mutex
	now, old map[[32]byte]struct{}
	since    time.Time
}

func (r *replays) first(id [32]byte, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.since) > 2*dpopWindow || r.now == nil {
		r.now, r.old, r.since = map[[32]byte]struct{}{}, r.now, now
	}
	_, a := r.now[id]
	_, b := r.old[id]
	if a || b || len(r.now) >= maxReplays {
		return false
	}
	r.now[id] = struct{}{}
	return true
}
