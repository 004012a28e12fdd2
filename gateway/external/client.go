package external

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"shunt/gateway/msg"
	"shunt/push"
	"shunt/store/registry"
)

// Options of one registry that is asked.
type Options struct {
	Name  string
	URL   string   // with {number} once
	CA    []byte   // PEM of the only certificates to trust; empty: the system's
	Token string   // bearer that Shunt shows; "": none
	To    []string // prefixes of the numbers that it is asked about, each "+" and digits; empty: all

	Timeout     time.Duration // of one look-up, its connection included
	Concurrency int           // look-ups at a time
	Cache       int           // numbers that are remembered

	PositiveTTL, NegativeTTL time.Duration
}

// Outcome of a look-up. The zero Outcome says nothing.
type Outcome uint8

const (
	_           Outcome = iota
	Known               // the registry has devices of the number
	Unknown             // it has none
	Busy                // not asked: as many look-ups as may be are under way
	Down                // not asked: its breaker is open
	Timeout             // no answer in time
	Unreachable         // no connection, or none that lasted
	BadStatus           // an HTTP status other than 200 and 404
	Oversized           // a body that is too long
	Malformed           // one that is not the JSON that was asked for
	Invalid             // one that says what cannot be, such as an app that is not configured
	NotStored           // known, but the registry here did not take it
	numOutcomes
)

var outcomeNames = [numOutcomes]string{
	"", "known", "unknown", "busy", "down", "timeout", "unreachable", "status", "oversized", "malformed", "invalid", "not-stored",
}

func (o Outcome) String() string { return outcomeNames[o] }

// reasons why a message stays with the carrier.
var reasons = [numOutcomes]msg.Reason{
	Unknown: msg.ReasonUnregistered, Busy: msg.ReasonExternalBusy, Down: msg.ReasonExternalDown, Timeout: msg.ReasonExternalTimeout,
	Unreachable: msg.ReasonExternalDown, BadStatus: msg.ReasonExternalFault, Oversized: msg.ReasonExternalFault,
	Malformed: msg.ReasonExternalFault, Invalid: msg.ReasonExternalFault, NotStored: msg.ReasonExternalFault,
}

// breaks tells whether the registry as a whole does not work.
func (o Outcome) breaks() bool { return o >= Timeout && o <= Malformed }

// client asks one registry. It is safe for concurrent use.
type client struct {
	o       Options
	apps    *atomic.Pointer[[]string] // that an answer may name
	log     *slog.Logger
	http    *http.Client
	cache   *cache
	slots   chan struct{} // look-ups under way
	breaker push.Breaker

	outcomes [numOutcomes]atomic.Uint64 // of look-ups, and of what was not asked
	cached   [numOutcomes]atomic.Uint64 // answered from the cache
	latency  latency
}

const (
	idleFor    = 90 * time.Second
	mostHeader = 16 << 10 // octets
	mostAskOff = time.Minute
)

func newClient(o Options, apps *atomic.Pointer[[]string], log *slog.Logger) (*client, error) {
	t := &http.Transport{
		DialContext:  (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		MaxIdleConns: o.Concurrency, MaxIdleConnsPerHost: o.Concurrency, MaxConnsPerHost: o.Concurrency,
		IdleConnTimeout: idleFor, MaxResponseHeaderBytes: mostHeader,
		ForceAttemptHTTP2: true, DisableCompression: true, // a short body stays short
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if len(o.CA) > 0 {
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(o.CA) {
			return nil, fmt.Errorf("external registry %s: no certificate in its CA file", o.Name)
		}
	}
	return &client{
		o: o, apps: apps, log: log, cache: newCache(o.Cache), slots: make(chan struct{}, o.Concurrency),
		http: &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// covers tells whether the registry is asked about n. It does not allocate.
func (c *client) covers(n msg.Number) bool {
	if len(c.o.To) == 0 {
		return true
	}
	var digits [20]byte
	d := strconv.AppendUint(digits[:0], uint64(n), 10)
	for _, p := range c.o.To {
		if p = p[1:]; len(d) >= len(p) && string(d[:len(p)]) == p {
			return true
		}
	}
	return false
}

// ready is a verdict that is there without a look-up; 0: none is.
func (c *client) ready(n msg.Number, now time.Time) Outcome {
	if o, ok := c.cache.get(n, now); ok {
		return o
	}
	switch {
	case !c.breaker.Ready(now):
		return Down
	case len(c.slots) == cap(c.slots):
		return Busy
	}
	return 0
}

// ask looks n up, or says what is known of it already; told is set for a number
// that was found just now. A known number holds only once keep has taken it.
func (c *client) ask(ctx context.Context, n msg.Number, keep func([]registry.Told) error) Outcome {
	now := time.Now()
	if o, ok := c.cache.get(n, now); ok {
		c.cached[o].Add(1)
		return o
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	default:
		return c.count(Busy)
	}
	probe, ok := c.breaker.Allow(now)
	if !ok {
		return c.count(Down)
	}
	f := c.fetch(ctx, n)
	c.latency.add(time.Since(now))
	now = time.Now()
	c.settle(now, probe, &f)
	if f.outcome == Known {
		if err := keep(f.told); err != nil {
			return c.count(c.unkept(n, err))
		}
	}
	if f.ttl > 0 {
		c.cache.put(n, f.outcome, now.Add(f.ttl))
	}
	return c.count(f.outcome)
}

func (c *client) count(o Outcome) Outcome {
	c.outcomes[o].Add(1)
	return o
}

// unkept is the outcome where the registry here did not take what was told.
func (c *client) unkept(n msg.Number, err error) Outcome {
	c.log.Warn("external registry's answer was not taken, the number's messages go as plain SMS", "registry", c.o.Name, "number", n.Masked(), "error", err)
	if errors.Is(err, registry.ErrInvalid) || errors.Is(err, registry.ErrBearerInUse) {
		c.cache.put(n, Invalid, time.Now().Add(c.o.NegativeTTL)) // it would not be taken the next time either
		return Invalid
	}
	return NotStored
}

// settle tells the breaker, and the log if that opened or closed.
func (c *client) settle(now time.Time, probe bool, f *fetched) {
	r := push.Result{Outcome: push.Accepted}
	if f.outcome.breaks() {
		r = push.Result{Outcome: push.Unknown, Reason: f.outcome.String(), RetryAfter: f.retryAfter}
	}
	if !c.breaker.Done(now, probe, r) {
		return
	}
	if f.outcome.breaks() {
		c.log.Error("external registry does not answer, its numbers go as plain SMS; it is tried again", "registry", c.o.Name, "outcome", f.outcome.String(), "error", f.err)
		return
	}
	c.log.Info("external registry answers again", "registry", c.o.Name)
}

// fetched is what came of one request.
type fetched struct {
	outcome    Outcome
	told       []registry.Told
	ttl        time.Duration // 0: it is not remembered
	retryAfter time.Duration
	err        error // of a fault; never with a number or anything of the answer
}

// fetch asks once, within the time-out.
func (c *client) fetch(ctx context.Context, n msg.Number) (f fetched) {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	u := strings.Replace(c.o.URL, "{number}", "%2B"+n.String()[1:], 1)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return fetched{outcome: Unreachable, err: errors.New("no request can be made of its url")}
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "shunt")
	if c.o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.o.Token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return failed(ctx, err)
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusNotFound:
		_, _ = io.CopyN(io.Discard, res.Body, 4<<10) // so that the connection can be used again
		return fetched{outcome: Unknown, ttl: ttl(res.Header, c.o.NegativeTTL)}
	case http.StatusOK:
	default:
		return fetched{outcome: BadStatus, err: fmt.Errorf("HTTP status %d", res.StatusCode), retryAfter: askedOff(res)}
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return failed(ctx, err)
	}
	told, bad := decode(body, n, *c.apps.Load())
	switch {
	case bad != nil && bad.outcome == Invalid: // of this number alone
		return fetched{outcome: Invalid, ttl: c.o.NegativeTTL, err: bad}
	case bad != nil:
		return fetched{outcome: bad.outcome, err: bad}
	case len(told) == 0:
		return fetched{outcome: Unknown, ttl: ttl(res.Header, c.o.NegativeTTL)}
	}
	return fetched{outcome: Known, told: told, ttl: ttl(res.Header, c.o.PositiveTTL)}
}

// failed is a request without a whole answer. The URL, which holds the number,
// is not repeated.
func failed(ctx context.Context, err error) fetched {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	var timeout net.Error
	if ctx.Err() != nil || errors.As(err, &timeout) && timeout.Timeout() {
		return fetched{outcome: Timeout, err: errors.New("no answer in time")}
	}
	return fetched{outcome: Unreachable, err: err}
}

// askedOff is how long a 429 or 503 asks to be left alone, up to a minute.
func askedOff(res *http.Response) time.Duration {
	if res.StatusCode != http.StatusTooManyRequests && res.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	s, err := strconv.ParseUint(res.Header.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return min(time.Duration(s)*time.Second, mostAskOff)
}
