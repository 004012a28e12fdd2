// Package apns pushes through Apple's push service. It exists because the
// client library renews no refused token, bounds no stream and loses Retry-After.
package apns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sideshow/apns2"

	"shunt/push"
)

// Options configure a Sender. TeamID, KeyID, KeyFile and Topic are required.
type Options struct {
	TeamID  string // ten characters, from the developer account
	KeyID   string // ten characters, of the key in KeyFile
	KeyFile string // the .p8 file as Apple gives it: PEM, PKCS #8, P-256
	Topic   string // the app's bundle id

	Endpoint string // "" = Apple's production and sandbox; else one https URL for both
	CAFile   string // PEM; "" = the system's CAs

	MaxStreams int           // requests under way on the one connection to each environment; default 100
	Timeout    time.Duration // of a Send with all its retries; default 2 s
	Logger     *slog.Logger  // nil = slog.Default
}

// Sender pushes to the devices of one app. Each environment has a link of its
// own, with its own bound on streams: what stands still in the sandbox holds
// nothing back in production. A link connects with the first push, or with
// Warm.
//
// A push waits for a free stream until its deadline and then ends as Busy:
// a full lane holds its callers back before it turns them away. The key file
// is read again while the Sender is in use; a push that is under way keeps the
// key that it has. Safe for concurrent use; it owns no goroutine but those of
// its links.
type Sender struct {
	topic, team, keyID string
	timeout            time.Duration
	log                *slog.Logger
	file               *push.File
	production         endpoint
	sandbox            endpoint

	credentials atomic.Pointer[credentials]
	mu          sync.Mutex // guards replacing the credentials, and closed
	closed      bool
}

var _ push.Sender = (*Sender)(nil)

// endpoint is one environment of Apple's.
type endpoint struct {
	host string
	link *push.Link
}

// credentials are a provider token and the clients that send it. They do not
// change: a new key makes new ones.
type credentials struct {
	key                 *sharedToken
	production, sandbox *apns2.Client
}

func (c *credentials) client(sandbox bool) *apns2.Client {
	if sandbox {
		return c.sandbox
	}
	return c.production
}

// New reads the key and makes a Sender. It does not connect. Errors name the
// option or the file and what is wrong with it.
func New(o Options) (*Sender, error) {
	for _, f := range []struct{ name, value string }{
		{"team_id", o.TeamID}, {"key_id", o.KeyID}, {"key_file", o.KeyFile}, {"topic", o.Topic},
	} {
		if f.value == "" {
			return nil, fmt.Errorf("apns: %s is missing", f.name)
		}
	}
	if o.Timeout <= 0 {
		o.Timeout = 2 * time.Second
	}
	if o.MaxStreams <= 0 {
		o.MaxStreams = 100
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.Logger = o.Logger.With("provider", "apns", "topic", o.Topic)
	s := &Sender{topic: o.Topic, team: o.TeamID, keyID: o.KeyID, timeout: o.Timeout, log: o.Logger}
	if err := s.open(&o); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("apns: %w", err)
	}
	return s, nil
}

func (s *Sender) open(o *Options) error {
	cas, err := push.RootCAs(o.CAFile)
	if err != nil {
		return err
	}
	production, sandbox := o.Endpoint, o.Endpoint
	if o.Endpoint == "" {
		production, sandbox = apns2.HostProduction, apns2.HostDevelopment
	}
	for _, e := range []struct {
		url  string
		into *endpoint
	}{{production, &s.production}, {sandbox, &s.sandbox}} {
		if e.into.host, err = hostOf(e.url); err != nil {
			return err
		}
		if e.into.link, err = push.NewLink(push.LinkOptions{
			URL: e.into.host, Streams: o.MaxStreams, DialTimeout: o.Timeout, RootCAs: cas, Logger: o.Logger,
		}); err != nil {
			return err
		}
	}
	s.file, err = push.OpenFile("key_file", o.KeyFile, maxKeyFile, o.Logger, s.useKey)
	return err
}

// useKey takes the content of the key file into use.
func (s *Sender) useKey(content []byte) error {
	parsed, err := parseKey(content)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	key, err := acquireToken(s.team, s.keyID, parsed)
	if err != nil {
		return err
	}
	old := s.credentials.Load()
	if old != nil && old.key == key { // the file was written again, the key is the same
		key.release()
		return nil
	}
	s.credentials.Store(&credentials{key: key, production: s.production.client(key), sandbox: s.sandbox.client(key)})
	if old != nil {
		old.key.release()
		s.log.Info("APNs key reloaded", "key_id", s.keyID)
	}
	return nil
}

func (e *endpoint) client(key *sharedToken) *apns2.Client {
	c := apns2.NewTokenClient(key.token)
	// Host is set once: Production and Development would change it for every
	// other user of the client.
	c.Host = e.host
	c.HTTPClient = &http.Client{
		Transport:     transport{e.link},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c
}

// hostOf is the scheme and host of an endpoint; the path is the API's.
func hostOf(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", fmt.Errorf("endpoint: %w", err)
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("endpoint %q: want https://HOST[:PORT] without a path", endpoint)
	}
	return u.Scheme + "://" + u.Host, nil
}

// Warm connects to the production environment in the background. Hardly a
// device is in the sandbox, which is connected with its first push.
func (s *Sender) Warm() { s.production.link.Warm() }

// Close ends the Sender's connections. It may be called more than once.
func (s *Sender) Close() error {
	var errs []error
	for _, e := range []endpoint{s.production, s.sandbox} {
		if e.link != nil {
			errs = append(errs, e.link.Close())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.credentials.Load(); c != nil && !s.closed {
		c.key.release()
	}
	s.closed = true
	return errors.Join(errs...)
}

// Send pushes n and tells how it ended; see push.Sender. When Apple refuses
// the provider token and there is a newer key on disk, or the token is expired
// and can be renewed, the push is repeated once, within the same time-out.
func (s *Sender) Send(ctx context.Context, n push.Notification) push.Result {
	if r, ok := n.Check(); !ok {
		return r
	}
	note, bodyLeft, r := s.encode(n)
	if note == nil {
		return r
	}
	s.file.Poll(time.Now(), false, s.useKey)
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	c := s.credentials.Load()
	r, bearer := s.exchange(ctx, c.client(n.Sandbox), note)
	if next := s.renewed(c, bearer, r); next != nil {
		r, _ = s.exchange(ctx, next.client(n.Sandbox), note)
	}
	r.BodyLeft = bodyLeft
	return r
}

// renewed gives credentials that Apple has not refused yet, after r; nil if
// there are none, or r is no such refusal.
func (s *Sender) renewed(c *credentials, bearer string, r push.Result) *credentials {
	expired := r.Reason == apns2.ReasonExpiredProviderToken
	if r.Outcome != push.Denied || !expired && r.Reason != apns2.ReasonInvalidProviderToken {
		return nil
	}
	s.file.Poll(time.Now(), true, s.useKey)
	if next := s.credentials.Load(); next != c {
		return next
	}
	if !expired {
		return nil
	}
	renewed, err := c.key.renew(bearer, time.Now())
	if err != nil {
		s.log.Error("provider token cannot be renewed", "err", err)
	}
	if !renewed {
		return nil
	}
	s.log.Info("provider token renewed", "reason", r.Reason)
	return c
}

// encode is n for the wire, without its body if that makes it too long. The
// Result is final when there is nothing to send.
func (s *Sender) encode(n push.Notification) (note *apns2.Notification, bodyLeft bool, r push.Result) {
	for {
		note, err := s.notification(n)
		switch {
		case err != nil:
			return nil, false, push.Result{Outcome: push.Rejected, Reason: "PayloadInvalid"}
		case len(note.Payload.([]byte)) <= push.MaxPayload:
			return note, bodyLeft, push.Result{}
		case n.Body == "":
			return nil, false, push.Result{Outcome: push.Rejected, Reason: apns2.ReasonPayloadTooLarge}
		}
		n.Body, bodyLeft = "", true
	}
}

// exchange makes one request and names its outcome and the bearer it carried.
func (s *Sender) exchange(ctx context.Context, c *apns2.Client, note *apns2.Notification) (push.Result, string) {
	x := &exchange{}
	resp, err := c.PushWithContext(context.WithValue(ctx, exchangeKey{}, x), note)
	if x.status == 0 {
		var lerr *push.LinkError
		if errors.As(err, &lerr) {
			return lerr.Result(), x.bearer
		}
		return push.Result{Outcome: push.Rejected, Reason: "bad-request"}, x.bearer
	}
	if err != nil { // a reply that is not JSON: the status decides alone
		resp = nil
	}
	return outcome(x, resp), x.bearer
}

// exchange is what the library loses of a request and its reply.
type exchange struct {
	bearer     string
	status     int // 0 = no reply
	retryAfter time.Duration
}

type exchangeKey struct{}

// transport notes the exchange on its way through the link.
type transport struct{ link *push.Link }

func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	x, _ := req.Context().Value(exchangeKey{}).(*exchange)
	if x == nil {
		x = &exchange{}
	}
	x.bearer = strings.TrimPrefix(req.Header.Get("Authorization"), "bearer ")
	resp, err := t.link.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	x.status = resp.StatusCode
	x.retryAfter = push.RetryAfter(resp.Header, time.Now())
	return resp, nil
}
