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

	MaxStreams int           // requests under way on the one connection to an environment; default 100
	Timeout    time.Duration // of a Send with all its retries; default 2 s
	Logger     *slog.Logger  // nil = slog.Default
}

// Sender pushes to the devices of one app. It keeps one connection to each
// environment, opened with the first push to it.
//
// A push waits for a free stream until its deadline and then ends as Busy:
// a full lane holds its callers back before it turns them away. Safe for
// concurrent use; it owns no goroutine but those of its links.
type Sender struct {
	topic      string
	timeout    time.Duration
	log        *slog.Logger
	key        *sharedToken
	production *apns2.Client
	sandbox    *apns2.Client
	links      []*push.Link
	closing    sync.Once
}

var _ push.Sender = (*Sender)(nil)

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
	cas, err := push.RootCAs(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("apns: %w", err)
	}
	key, err := acquireToken(o.TeamID, o.KeyID, o.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("apns: %w", err)
	}
	s := &Sender{topic: o.Topic, timeout: o.Timeout, log: o.Logger, key: key}
	connect := func(endpoint string) (*apns2.Client, error) {
		host, err := hostOf(endpoint)
		if err != nil {
			return nil, err
		}
		link, err := push.NewLink(push.LinkOptions{
			URL: host, Streams: o.MaxStreams, DialTimeout: o.Timeout, RootCAs: cas, Logger: o.Logger,
		})
		if err != nil {
			return nil, err
		}
		s.links = append(s.links, link)
		c := apns2.NewTokenClient(key.token)
		// Host is set once: Production and Development would change it for
		// every other user of the client.
		c.Host = host
		c.HTTPClient = &http.Client{
			Transport:     transport{link},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		return c, nil
	}
	if o.Endpoint != "" {
		s.production, err = connect(o.Endpoint)
		s.sandbox = s.production
	} else if s.production, err = connect(apns2.HostProduction); err == nil {
		s.sandbox, err = connect(apns2.HostDevelopment)
	}
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("apns: %w", err)
	}
	return s, nil
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

// Close ends the Sender's connections. It may be called more than once.
func (s *Sender) Close() error {
	var errs []error
	for _, l := range s.links {
		errs = append(errs, l.Close())
	}
	s.closing.Do(s.key.release)
	return errors.Join(errs...)
}

// Send pushes n and tells how it ended; see push.Sender. A provider token
// that Apple calls expired is renewed once and the push repeated, within the
// same time-out.
func (s *Sender) Send(ctx context.Context, n push.Notification) push.Result {
	if r, ok := n.Check(); !ok {
		return r
	}
	note, err := s.notification(n)
	if err != nil {
		return push.Result{Outcome: push.Rejected, Reason: "PayloadInvalid"}
	}
	if len(note.Payload.([]byte)) > push.MaxPayload {
		return push.Result{Outcome: push.Rejected, Reason: apns2.ReasonPayloadTooLarge}
	}
	client := s.production
	if n.Sandbox {
		client = s.sandbox
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	r, bearer := s.exchange(ctx, client, note)
	if r.Outcome != push.Denied || r.Reason != apns2.ReasonExpiredProviderToken {
		return r
	}
	renewed, err := s.key.renew(bearer, time.Now())
	if err != nil {
		s.log.Error("provider token cannot be renewed", "err", err)
	}
	if !renewed {
		return r
	}
	s.log.Info("provider token renewed", "reason", r.Reason)
	r, _ = s.exchange(ctx, client, note)
	return r
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
