package push

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter caps what a provider can ask for: a lane must not be silenced
// for days by one wrong header.
const maxRetryAfter = time.Hour

// RetryAfter reads a Retry-After header (RFC 9110 §10.2.3): seconds or a
// date, at most an hour; 0 when it is absent, malformed or past.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if s, err := strconv.ParseUint(v, 10, 32); err == nil {
		return min(time.Duration(s)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, min(at.Sub(now), maxRetryAfter))
	}
	return 0
}

// Code makes a Result.Reason of what a provider sent: its code if it looks
// like one, else fallback. Free text is refused because it may quote a token.
func Code(s, fallback string) string {
	if s == "" || len(s) > MaxReason {
		return fallback
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c == '_', c == '-':
		case c >= '0' && c <= '9' && i > 0:
		default:
			return fallback
		}
	}
	return s
}

// HTTPStatus is the reason for a reply that names none: "http-502".
func HTTPStatus(status int) string { return "http-" + strconv.Itoa(status) }
