package otel

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
)

// Bounds of what a collector says back. The exporter reads all of an answer.
const (
	maxAnswer = 64 << 10
	maxReason = 200 // octets of it in the log
)

var errAnswerTooLong = errors.New("the collector's answer is longer than 64 KiB")

// client asks a collector and nobody that it points to.
func client(c *tls.Config) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	if c != nil {
		t.TLSClientConfig = c
	}
	return &http.Client{
		Transport: bounded{t}, Timeout: sendWithin,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// bounded gives no more than maxAnswer octets of each answer.
type bounded struct{ next *http.Transport }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := b.next.RoundTrip(r)
	if err == nil {
		res.Body = &answer{ReadCloser: res.Body, left: maxAnswer}
	}
	return res, err
}

// CloseIdleConnections is what http.Client looks for.
func (b bounded) CloseIdleConnections() { b.next.CloseIdleConnections() }

// answer is a body of at most left octets.
type answer struct {
	io.ReadCloser
	left int
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p[:min(len(p), a.left+1)])
	if n > a.left {
		n, err = a.left, errAnswerTooLong
	}
	a.left -= n
	return n, err
}

// brief is an error for a line of the log: what a collector says may be long.
func brief(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "") + "…"
	}
	return s
}
