package apns

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sideshow/apns2/token"
)

// maxKeyFile caps the key file; Apple's has some 260 octets.
const maxKeyFile = 16 << 10

// minRenewal is how often a token that Apple calls expired is replaced. Apple
// allows an update every 20 minutes (TooManyProviderTokenUpdates); a second
// refusal in that time means that the clock is wrong, and is for a person.
const minRenewal = 20 * time.Minute

// parseKey reads the content of a .p8 file. Its errors quote nothing of it.
func parseKey(b []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(b)
	switch {
	case len(b) == 0:
		return nil, errors.New("is empty")
	case block == nil:
		return nil, errors.New(`holds no PEM block: want "-----BEGIN PRIVATE KEY-----"`)
	case block.Type != "PRIVATE KEY":
		return nil, fmt.Errorf(`holds a PEM block %q: want "PRIVATE KEY"`, block.Type)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("PKCS #8: %w", err)
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("holds a key of type %T: want ECDSA P-256", k)
	}
	if key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("holds a key on curve %s: want P-256", key.Curve.Params().Name)
	}
	return key, nil
}

// sharedToken is the provider token of one (team, key): Apple counts updates
// for the key, so every Sender that uses it must use the same token. The
// library's token has its own lock; mu of tokens guards the rest.
type sharedToken struct {
	token   *token.Token
	id      tokenID
	users   int
	renewed time.Time // last renewal that a refusal caused
}

type tokenID struct {
	team, key string
	public    [65]byte // the key itself, so that a replaced file is another token
}

var tokens = struct {
	sync.Mutex
	m map[tokenID]*sharedToken
}{m: make(map[tokenID]*sharedToken)}

// acquireToken is the token of (team, key), shared with every Sender that has
// it open. The token is signed here once, because the library drops the
// errors of signing later.
func acquireToken(team, keyID string, key *ecdsa.PrivateKey) (*sharedToken, error) {
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	id := tokenID{team: team, key: keyID}
	copy(id.public[:], point)
	tokens.Lock()
	defer tokens.Unlock()
	t := tokens.m[id]
	if t == nil {
		t = &sharedToken{id: id, token: &token.Token{AuthKey: key, KeyID: keyID, TeamID: team}}
		if _, err := t.token.Generate(); err != nil {
			return nil, fmt.Errorf("signing a provider token: %w", err)
		}
		tokens.m[id] = t
	}
	t.users++
	return t, nil
}

func (t *sharedToken) release() {
	tokens.Lock()
	defer tokens.Unlock()
	if t.users--; t.users == 0 {
		delete(tokens.m, t.id)
	}
}

// renew replaces the token if refused is still the current one, at most every
// minRenewal. It tells whether there is a newer token than refused.
func (t *sharedToken) renew(refused string, now time.Time) (bool, error) {
	tokens.Lock()
	defer tokens.Unlock()
	t.token.Lock()
	defer t.token.Unlock()
	if t.token.Bearer != refused {
		return true, nil // somebody was first
	}
	if !t.renewed.IsZero() && now.Sub(t.renewed) < minRenewal {
		return false, nil
	}
	t.renewed = now
	return t.token.Generate()
}
