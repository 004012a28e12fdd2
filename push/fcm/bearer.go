package fcm

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/jwt"

	"shunt/push"
)

const (
	scope = "https://www.googleapis.com/auth/firebase.messaging"

	fetchTimeout   = 10 * time.Second
	minFetchPause  = 250 * time.Millisecond // after a failed fetch, doubled for each further one
	maxFetchPause  = 30 * time.Second
	minRefusal     = 30 * time.Second // a 401 causes at most one fetch in this time
	defaultExpiry  = time.Hour        // of a token whose answer does not say
	expiryMargin   = 10 * time.Second // a token is not used in its last seconds
	maxTokenReply  = 64 << 10
	longestRefresh = 45 * time.Minute
)

// bearer is one state of the OAuth token. It never changes; its successor is
// published before next is closed.
type bearer struct {
	value   string // "" = none
	issued  time.Time
	expires time.Time
	denied  string // the token endpoint's code when it refused our credentials
	next    chan struct{}
}

func (b *bearer) valid(now time.Time) bool { return b.value != "" && now.Before(b.expires) }

// grant is a service account as tokens are asked for.
type grant struct {
	conf jwt.Config
	told atomic.Bool // it was tried in vain, which is logged once
}

func newGrant(a *account) *grant {
	return &grant{conf: jwt.Config{
		Email:        a.ClientEmail,
		PrivateKey:   []byte(a.PrivateKey),
		PrivateKeyID: a.PrivateKeyID,
		Scopes:       []string{scope},
		TokenURL:     a.TokenURI,
	}}
}

func (g *grant) equal(h *grant) bool {
	return g.conf.Email == h.conf.Email && g.conf.PrivateKeyID == h.conf.PrivateKeyID &&
		g.conf.TokenURL == h.conf.TokenURL && bytes.Equal(g.conf.PrivateKey, h.conf.PrivateKey)
}

// bearers keeps a token ready. Its one goroutine, run, owns the fetching and
// publishes through cur; senders only read cur, and wait on its successor
// when it is of no use.
type bearers struct {
	inUse  atomic.Pointer[grant] // its token is in use
	next   atomic.Pointer[grant] // another content of the file, until Google has given a token for it; nil: none
	look   func()                // looks whether the file has changed; may be nil
	client *http.Client
	log    *slog.Logger

	cur    atomic.Pointer[bearer]
	kick   chan struct{} // 1: fetch now
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex // guards publishing and refused
	refused time.Time  // the last 401 that caused a fetch
}

func newBearers(a *account, cas *x509.CertPool, log *slog.Logger) *bearers {
	b := &bearers{log: log, kick: make(chan struct{}, 1), done: make(chan struct{})}
	b.inUse.Store(newGrant(a))
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.cur.Store(&bearer{next: make(chan struct{})})
	b.client = &http.Client{
		Timeout: fetchTimeout,
		Transport: bound{b.ctx, &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        &tls.Config{RootCAs: cas, MinVersion: tls.VersionTLS12},
			DisableKeepAlives:      true, // one fetch in 45 minutes
			MaxResponseHeaderBytes: maxTokenReply,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return b
}

// bound ends requests with ctx; the OAuth library gives them no context.
type bound struct {
	ctx  context.Context
	base http.RoundTripper
}

func (t bound) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	stop := context.AfterFunc(t.ctx, func() { cancel(t.ctx.Err()) })
	resp, err := t.base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		stop()
		cancel(nil)
		return nil, err
	}
	resp.Body = &boundBody{resp.Body, func() { stop(); cancel(nil) }}
	return resp, nil
}

// boundBody frees the request's context with its body.
type boundBody struct {
	io.ReadCloser
	free func()
}

func (b *boundBody) Close() error {
	defer b.free()
	return b.ReadCloser.Close()
}

func (b *bearers) start() { go b.run() }

func (b *bearers) close() {
	b.cancel()
	<-b.done
}

// replace has the next token fetched for another service account. The token in
// use stays until then.
func (b *bearers) replace(a *account) {
	g := newGrant(a)
	if g.equal(b.inUse.Load()) {
		b.next.Store(nil)
		return
	}
	b.next.Store(g)
	b.mu.Lock()
	b.refused = time.Time{} // what was refused was the other one's
	b.mu.Unlock()
	b.wake()
}

func (b *bearers) wake() {
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

// run fetches a token at the start, after three quarters of its life, after a
// 401, for a new service account and, with a growing pause, after a failure. It
// ends with close.
func (b *bearers) run() {
	defer close(b.done)
	var pause time.Duration
	var due time.Time // of the token in use
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-b.ctx.Done():
			return
		case <-timer.C:
		case <-b.kick:
		}
		next, err := b.refresh(due)
		if b.ctx.Err() != nil {
			return
		}
		if err != nil {
			pause = min(max(2*pause, minFetchPause), maxFetchPause)
			b.failed(err, pause)
			timer.Reset(pause)
			continue
		}
		pause = 0
		if next != nil {
			b.publish(next)
			life := next.expires.Sub(next.issued)
			due = time.Now().Add(min(max(life*3/4, time.Second), longestRefresh))
			b.log.Debug("oauth token fetched", "life", life)
		}
		wait := time.Until(due)
		if b.next.Load() != nil {
			wait = min(wait, maxFetchPause)
		}
		timer.Reset(wait)
	}
}

// refresh fetches a token for the service account that waits for its first
// one, and if there is none, or Google does not take it yet, for the one in
// use. Without an error nil means that the token in use is still good.
func (b *bearers) refresh(due time.Time) (*bearer, error) {
	if b.look != nil {
		b.look()
	}
	g := b.next.Load()
	if g == nil {
		return b.fetch(b.inUse.Load())
	}
	next, err := b.fetch(g)
	if err == nil {
		b.inUse.Store(g)
		b.next.CompareAndSwap(g, nil)
		b.log.Info("FCM service account reloaded")
		return next, nil
	}
	if b.ctx.Err() == nil && !g.told.Swap(true) {
		_, why := reasonOf(err)
		b.log.Error("no oauth token for the new service account, the old one stays in use; it is tried again", "reason", why)
	}
	if now := time.Now(); b.cur.Load().valid(now) && now.Before(due) {
		return nil, nil
	}
	return b.fetch(b.inUse.Load())
}

// fetch gets one token (RFC 7523 §2.1).
func (b *bearers) fetch(g *grant) (*bearer, error) {
	issued := time.Now()
	ctx := context.WithValue(b.ctx, oauth2.HTTPClient, b.client)
	t, err := g.conf.TokenSource(ctx).Token()
	if err != nil {
		return nil, err
	}
	if t.AccessToken == "" {
		return nil, errors.New("token endpoint answered without access_token")
	}
	expires := t.Expiry
	if expires.IsZero() {
		expires = issued.Add(defaultExpiry)
	}
	return &bearer{
		value: t.AccessToken, issued: issued, next: make(chan struct{}),
		expires: expires.Add(-min(expiryMargin, expires.Sub(issued)/4)),
	}, nil
}

// failed logs a failed fetch, without the reply's text, and tells the waiting
// senders when it was a refusal of our credentials: no waiting cures that.
func (b *bearers) failed(err error, again time.Duration) {
	status, code := reasonOf(err)
	if status == 0 {
		b.log.Warn("oauth token cannot be fetched", "err", code, "again", again)
		return
	}
	b.log.Warn("oauth token refused", "status", status, "code", code, "again", again)
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
	default:
		return
	}
	cur := b.cur.Load()
	b.publish(&bearer{
		value: cur.value, issued: cur.issued, expires: cur.expires,
		denied: code, next: make(chan struct{}),
	})
}

// reasonOf tells why a fetch failed, without the reply's text; the status is 0
// without a reply.
func reasonOf(err error) (status int, reason string) {
	var re *oauth2.RetrieveError
	if !errors.As(err, &re) || re.Response == nil {
		return 0, err.Error()
	}
	status = re.Response.StatusCode
	return status, push.Code(oauthCode(re.Body), push.HTTPStatus(status))
}

// oauthCode is the "error" of a token endpoint's refusal (RFC 6749 §5.2).
func oauthCode(body []byte) string {
	var e struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &e) != nil {
		return ""
	}
	return e.Error
}

func (b *bearers) publish(next *bearer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.cur.Swap(next).next)
}

// errNoBearer says that no token came by the deadline.
var errNoBearer = errors.New("no oauth token")

// deniedError is the token endpoint's refusal of our credentials.
type deniedError struct{ code string }

func (e deniedError) Error() string { return "oauth token refused: " + e.code }

// get returns a token that is valid now, waiting for one until ctx ends.
func (b *bearers) get(ctx context.Context) (string, error) {
	for {
		cur := b.cur.Load()
		if cur.valid(time.Now()) {
			return cur.value, nil
		}
		if g := b.next.Load(); cur.denied != "" && (g == nil || g.told.Load()) {
			return "", deniedError{cur.denied}
		}
		select {
		case <-cur.next:
		case <-b.ctx.Done():
			return "", push.ErrClosed
		case <-ctx.Done():
			return "", errNoBearer
		}
	}
}

// refuse takes a token that FCM answered with 401 out of use and has a new
// one fetched. It tells whether a newer one is there or on its way.
func (b *bearers) refuse(value string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	cur := b.cur.Load()
	if cur.value != value {
		return true
	}
	if !b.refused.IsZero() && now.Sub(b.refused) < minRefusal {
		return false
	}
	b.refused = now
	close(b.cur.Swap(&bearer{next: make(chan struct{})}).next)
	b.wake()
	return true
}
