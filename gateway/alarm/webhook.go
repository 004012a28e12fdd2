package alarm

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of a webhook.
const (
	postWithin   = 10 * time.Second
	firstPause   = time.Second // after a failure; the next are twice as long
	longestPause = time.Minute
	maxPending   = 1000 // alarms that wait; beyond, the oldest goes
	maxResponse  = 64 << 10
)

// WebhookOptions say where alarms are sent.
type WebhookOptions struct {
	Node  string
	URL   string         // https, or http to a loopback address
	Token string         // sent as bearer; "": none
	Roots *x509.CertPool // the only certificates to trust; nil: the system's
	Log   *slog.Logger
}

// Notice is the body of a POST.
type Notice struct {
	Node string `json:"node"`
	Alarm
}

// Webhook sends each raise and clear until it is taken, or another change of the
// same alarm is there: the receiver gets the changes of an alarm in order, and
// may get one twice. Queue is for any goroutine, Run for one.
type Webhook struct {
	o      WebhookOptions
	client *http.Client
	wake   chan struct{}

	Sent, Failed, Dropped atomic.Uint64 // POSTs taken and not; changes given up
	Failing               atomic.Bool   // the last POST was not taken

	mu      sync.Mutex
	pending []Alarm // one for each name and subject, the oldest change first
}

// NewWebhook starts no goroutine; see Run.
func NewWebhook(o WebhookOptions) *Webhook {
	return &Webhook{o: o, wake: make(chan struct{}, 1), client: &http.Client{
		Timeout: postWithin,
		Transport: &http.Transport{
			Proxy:           http.ProxyFromEnvironment, // which leaves loopback out
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots},
			MaxIdleConns:    1, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
		},
		// A redirect would take the token somewhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Queue has a sent. It never blocks.
func (w *Webhook) Queue(a Alarm) {
	w.mu.Lock()
	w.pending = slices.DeleteFunc(w.pending, func(p Alarm) bool { return p.Name == a.Name && p.Subject == a.Subject })
	if len(w.pending) >= maxPending {
		w.pending = slices.Delete(w.pending, 0, 1)
		w.Dropped.Add(1)
	}
	w.pending = append(w.pending, a)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Pending is how many alarms wait.
func (w *Webhook) Pending() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pending)
}

// Run sends until ctx is done.
func (w *Webhook) Run(ctx context.Context) {
	defer w.client.CloseIdleConnections()
	pause := time.Duration(0)
	for {
		failed := w.round(ctx)
		if ctx.Err() != nil {
			return
		}
		if !failed {
			pause = 0
			select {
			case <-w.wake:
			case <-ctx.Done():
				return
			}
			continue
		}
		pause = min(max(2*pause, firstPause), longestPause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// round tries all that waits once: one that the receiver does not like holds up
// no other. Where there is no receiver the first says it for all.
func (w *Webhook) round(ctx context.Context) (failed bool) {
	w.mu.Lock()
	all := slices.Clone(w.pending)
	w.mu.Unlock()
	for _, a := range all {
		if !w.waits(a) {
			continue
		}
		err := w.post(ctx, a)
		if ctx.Err() != nil {
			return true
		}
		w.note(err)
		if err == nil {
			w.taken(a)
			continue
		}
		failed = true
		if _, answered := errors.AsType[*refusal](err); !answered {
			return true
		}
	}
	return failed
}

// waits tells whether a is still the latest of its alarm.
func (w *Webhook) waits(a Alarm) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.pending, a)
}

func (w *Webhook) taken(a Alarm) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending = slices.DeleteFunc(w.pending, func(p Alarm) bool { return p == a })
}

// note logs when the webhook begins to fail and when it ends: not each time, and
// not the URL, which may be a secret.
func (w *Webhook) note(err error) {
	if err != nil {
		w.Failed.Add(1)
	} else {
		w.Sent.Add(1)
	}
	switch was := w.Failing.Swap(err != nil); {
	case err != nil && !was:
		w.o.Log.Warn("alarm webhook does not take alarms; they are sent again", "error", err)
	case err == nil && was:
		w.o.Log.Info("alarm webhook takes alarms again")
	}
}

// refusal is an answer that is no 2xx.
type refusal struct{ status int }

func (r *refusal) Error() string {
	return fmt.Sprintf("it answered %d %s", r.status, http.StatusText(r.status))
}

func (w *Webhook) post(ctx context.Context, a Alarm) error {
	b, err := json.Marshal(Notice{w.o.Node, a})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.o.URL, bytes.NewReader(b))
	if err != nil {
		return errors.New("its URL cannot be used")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "shunt")
	if w.o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+w.o.Token)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL
		}
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxResponse) // so that the connection can be used again
	if resp.StatusCode/100 != 2 {
		return &refusal{resp.StatusCode}
	}
	return nil
}
