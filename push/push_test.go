package push

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestOutcomeNames(t *testing.T) {
	var zero Outcome
	if zero != Unknown {
		t.Errorf("the zero Outcome is %v, want unknown", zero)
	}
	seen := map[string]bool{}
	for _, o := range Outcomes() {
		b, err := o.MarshalText()
		if err != nil || len(b) == 0 || seen[string(b)] {
			t.Errorf("MarshalText(%d): got %q, %v; want a name of its own", o, b, err)
		}
		seen[string(b)] = true
	}
	if got := Outcome(200).String(); got != "outcome(200)" {
		t.Errorf("Outcome(200): got %q", got)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		v    string
		want time.Duration
	}{
		{"", 0},
		{"0", 0},
		{"7", 7 * time.Second},
		{" 7 ", 7 * time.Second},
		{"-7", 0},
		{"x", 0},
		{"1.5", 0},
		{"99999", time.Hour},
		{"99999999999999999999", 0},
		{"Fri, 02 Jan 2026 03:04:35 GMT", 30 * time.Second},
		{"Fri, 02 Jan 2026 03:04:00 GMT", 0},
		{"Fri, 02 Jan 2099 03:04:00 GMT", time.Hour},
	} {
		if got := RetryAfter(http.Header{"Retry-After": {tt.v}}, now); got != tt.want {
			t.Errorf("RetryAfter(%q): got %v, want %v", tt.v, got, tt.want)
		}
	}
	if got := RetryAfter(http.Header{}, now); got != 0 {
		t.Errorf("RetryAfter without the header: got %v, want 0", got)
	}
}

func TestCode(t *testing.T) {
	for _, tt := range []struct{ s, want string }{
		{"Unregistered", "Unregistered"},
		{"QUOTA_EXCEEDED", "QUOTA_EXCEEDED"},
		{"http-502", "http-502"},
		{"", "f"},
		{"token cafe is bad", "f"},
		{"a\nb", "f"},
		{"0badcafe", "f"},
		{"é", "f"},
		{strings.Repeat("x", 64), strings.Repeat("x", 64)},
		{strings.Repeat("x", 65), "f"},
	} {
		if got := Code(tt.s, "f"); got != tt.want {
			t.Errorf("Code(%q): got %q, want %q", tt.s, got, tt.want)
		}
	}
}

// What was certainly not sent may go another way at once; everything else is
// unknown.
func TestLinkErrorResult(t *testing.T) {
	for _, tt := range []struct {
		e    LinkError
		want Outcome
	}{
		{LinkError{Code: codeLaneFull}, Busy},
		{LinkError{Code: codeUnreachable}, Busy},
		{LinkError{Code: codeBroken}, Busy},
		{LinkError{Code: codeClosed}, Busy},
		{LinkError{Code: codeBroken, Sent: true}, Unknown},
		{LinkError{Code: codeUnreachable, Sent: true}, Unknown},
		{LinkError{Code: codeTimeout, Sent: true}, Unknown},
		{LinkError{Code: codeCancelled}, Unknown},
		{LinkError{Code: codeBadReply, Sent: true}, Unknown},
		{LinkError{Code: codeBadRequest}, Rejected},
	} {
		if got := tt.e.Result(); got.Outcome != tt.want || got.Reason != tt.e.Code {
			t.Errorf("%+v.Result(): got %+v, want %v", tt.e, got, tt.want)
		}
	}
	cause := errors.New("cause")
	if e := (&LinkError{Code: codeBroken, Err: cause}); !errors.Is(e, cause) || e.Error() != "broken: cause" {
		t.Errorf("LinkError with a cause: got %q", e)
	}
}

func TestLinkRefusesOtherHosts(t *testing.T) {
	l, err := NewLink(LinkOptions{URL: "https://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	req, err := http.NewRequest(http.MethodPost, "https://127.0.0.1:2/", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.RoundTrip(req); !errors.Is(err, errHost) {
		t.Errorf("RoundTrip to another host: got %v, want %v", err, errHost)
	}
	for _, u := range []string{"http://h", "https://", "https://u:p@h", "h:1", "https://h:x"} {
		if _, err := NewLink(LinkOptions{URL: u}); err == nil {
			t.Errorf("NewLink(%q) succeeded, want an error", u)
		}
	}
}
