package alarm

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const token = "t0ken-of-the-receiver"

// receiver is a TLS server that answers each POST with the next of its answers.
type receiver struct {
	*httptest.Server
	roots *x509.CertPool
	got   chan got
	reply chan int
}

type got struct {
	auth, kind string
	body       map[string]any
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{got: make(chan got), reply: make(chan int)}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		b, _ := io.ReadAll(req.Body)
		g := got{auth: req.Header.Get("Authorization"), kind: req.Header.Get("Content-Type")}
		if err := json.Unmarshal(b, &g.body); err != nil || req.Method != http.MethodPost {
			t.Errorf("%s %q: %v, want a POST of JSON", req.Method, b, err)
		}
		r.got <- g
		status := <-r.reply
		if status == http.StatusTemporaryRedirect {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(r.Close)
	r.roots = x509.NewCertPool()
	r.roots.AddCert(r.Certificate())
	return r
}

// next takes a POST, does f while it waits for its answer, and answers.
func (r *receiver) next(t *testing.T, status int, f func()) got {
	t.Helper()
	select {
	case g := <-r.got:
		if f != nil {
			f()
		}
		r.reply <- status
		return g
	case <-time.After(30 * time.Second):
		t.Fatal("no POST came")
		return got{}
	}
}

// locked is a log that a test reads.
type locked struct {
	mu    sync.Mutex
	b     bytes.Buffer
	lines chan string // the latest, as they come
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.lines <- string(b):
	default: // no test waits for so many
	}
	return l.b.Write(b)
}

// await takes lines until one has what in it.
func (l *locked) await(t *testing.T, what string) {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		select {
		case line := <-l.lines:
			if strings.Contains(line, what) {
				return
			}
		case <-late:
			t.Fatalf("no line of the log has %q:\n%s", what, l)
		}
	}
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t *testing.T, o WebhookOptions) (*Webhook, *locked) {
	log := &locked{lines: make(chan string, 64)}
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	w := NewWebhook(o)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return w, log
}

func down(subject string, s State) Alarm {
	return Alarm{Name: OwnBindDown, Subject: subject, Severity: Critical, State: s, Since: begin, Text: "refused", WhatToDo: "Check."}
}

func TestWebhook(t *testing.T) {
	r := newReceiver(t)
	w, log := start(t, WebhookOptions{Node: "edge-1", URL: r.URL + "/hook?key=s3cret", Token: token, Roots: r.roots})
	w.Queue(down("smsc-a", Raised))
	first := r.next(t, http.StatusServiceUnavailable, func() { w.Queue(down("smsc-b", Raised)) })
	want := map[string]any{
		"node": "edge-1", "alarm": "own-bind-down", "subject": "smsc-a", "severity": "critical", "state": "raised",
		"since": "2026-11-26T12:00:00Z", "text": "refused", "what_to_do": "Check.",
	}
	if d := cmp.Diff(want, first.body); d != "" || first.auth != "Bearer "+token || first.kind != "application/json" {
		t.Errorf("POST with %q, %q (-want +got):\n%s", first.auth, first.kind, d)
	}
	// What was refused comes again, and the other one after it.
	for _, want := range []string{"smsc-a", "smsc-b"} {
		if g := r.next(t, http.StatusNoContent, nil); g.body["subject"] != want {
			t.Errorf("POST about %v, want %s", g.body["subject"], want)
		}
	}
	// A change while the one before is on its way goes after it; of two that wait,
	// only the later.
	w.Queue(down("smsc-a", Raised))
	r.next(t, http.StatusOK, func() {
		w.Queue(down("smsc-a", Cleared))
		w.Queue(down("smsc-a", Raised))
		w.Queue(down("smsc-a", Cleared))
	})
	if g := r.next(t, http.StatusOK, nil); g.body["state"] != "cleared" {
		t.Errorf("POST = %v, want the last change", g.body)
	}
	w.Queue(down("smsc-c", Raised)) // the next one that comes: nothing was between
	if g := r.next(t, http.StatusOK, nil); g.body["subject"] != "smsc-c" {
		t.Errorf("POST = %v, want smsc-c", g.body)
	}
	for _, secret := range []string{token, "s3cret"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds the secret %s:\n%s", secret, log)
		}
	}
	if got := log.String(); strings.Count(got, "does not take alarms") != 1 || strings.Count(got, "takes alarms again") != 1 {
		t.Errorf("log =\n%swant one line for the failure and one for its end", got)
	}
}

// TestWebhookIsParticular: neither a stranger's certificate nor a redirect gets
// the token, and one alarm that is refused holds up no other.
func TestWebhookIsParticular(t *testing.T) {
	r := newReceiver(t)
	stranger, log := start(t, WebhookOptions{URL: r.URL, Token: token, Roots: x509.NewCertPool()})
	stranger.Queue(down("smsc-a", Raised))
	log.await(t, "certificate")
	if !stranger.Failing.Load() || stranger.Pending() != 1 {
		t.Errorf("failing %t, Pending() = %d, want true and 1", stranger.Failing.Load(), stranger.Pending())
	}
	w, _ := start(t, WebhookOptions{URL: r.URL, Token: token, Roots: r.roots})
	w.Queue(down("smsc-a", Raised))
	r.next(t, http.StatusTemporaryRedirect, func() { w.Queue(down("smsc-b", Raised)) })
	// With the redirect followed, smsc-a would come from /elsewhere and be taken.
	if g := r.next(t, http.StatusBadRequest, nil); g.body["subject"] != "smsc-a" {
		t.Errorf("POST about %v, want smsc-a again", g.body["subject"])
	}
	if g := r.next(t, http.StatusOK, nil); g.body["subject"] != "smsc-b" {
		t.Errorf("POST about %v, want smsc-b", g.body["subject"])
	}
	if g := r.next(t, http.StatusOK, nil); g.body["subject"] != "smsc-a" {
		t.Errorf("POST about %v, want smsc-a", g.body["subject"])
	}
	w.Queue(down("smsc-c", Raised))
	r.next(t, http.StatusOK, func() { // the ones before it are done with
		if n := w.Pending(); n != 1 {
			t.Errorf("Pending() = %d during the last, want 1", n)
		}
	})
}

func TestWebhookIsBounded(t *testing.T) {
	w := NewWebhook(WebhookOptions{Log: quiet()})
	for i := range maxPending + 7 {
		w.Queue(down(strings.Repeat("x", i), Raised))
	}
	if w.Pending() != maxPending || w.Dropped.Load() != 7 || len(w.pending[0].Subject) != 7 {
		t.Errorf("%d wait, %d dropped, the oldest is %d, want %d, 7 and 7", w.Pending(), w.Dropped.Load(), len(w.pending[0].Subject), maxPending)
	}
}
