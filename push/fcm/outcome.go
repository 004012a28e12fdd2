package fcm

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"firebase.google.com/go/v4/errorutils"

	"shunt/push"
)

// FCM's error codes (google.firebase.fcm.v1.FcmError) and the status names of
// Google's APIs (google.rpc.Code).
const (
	codeUnregistered    = "UNREGISTERED"
	codeInvalidArgument = "INVALID_ARGUMENT"
	codeSenderMismatch  = "SENDER_ID_MISMATCH"
	codeQuota           = "QUOTA_EXCEEDED"
	codeUnavailable     = "UNAVAILABLE"
	codeInternal        = "INTERNAL"
	codeThirdParty      = "THIRD_PARTY_AUTH_ERROR"
)

// apiError is the body of a refusal.
type apiError struct {
	Error struct {
		Message string `json:"message"`
		Status  string `json:"status"`
		Details []struct {
			Type      string `json:"@type"`
			ErrorCode string `json:"errorCode"`
			Reason    string `json:"reason"`
			Fields    []struct {
				Field string `json:"field"`
			} `json:"fieldViolations"`
			Quotas []struct {
				Subject     string `json:"subject"`
				Description string `json:"description"`
			} `json:"violations"`
		} `json:"details"`
	} `json:"error"`
}

// code is FCM's own code, or "".
func (e *apiError) code() string {
	for _, d := range e.Error.Details {
		if strings.HasSuffix(d.Type, "google.firebase.fcm.v1.FcmError") {
			return d.ErrorCode
		}
	}
	return ""
}

// badToken is FCM's sentence about a token that no app was ever given
// ("FCM error codes", second example): that refusal names no field.
const badToken = "The registration token is not a valid FCM registration token"

// onlyToken tells whether the token is the one thing that FCM objects to.
func (e *apiError) onlyToken() bool {
	found := e.code() == codeInvalidArgument && e.Error.Message == badToken
	for _, d := range e.Error.Details {
		for _, f := range d.Fields {
			if f.Field != "message.token" {
				return false
			}
			found = true
		}
	}
	return found
}

// onlyDevice tells whether the quota that is used up is this device's: Google
// says so in a google.rpc.QuotaFailure. Any other quota is the project's.
func (e *apiError) onlyDevice() bool {
	found := false
	for _, d := range e.Error.Details {
		for _, q := range d.Quotas {
			if !strings.Contains(strings.ToLower(q.Subject+" "+q.Description), "device") {
				return false
			}
			found = true
		}
	}
	return found
}

// reason is the most exact name of the fault.
func (e *apiError) reason(status int) string {
	c := e.code()
	for _, d := range e.Error.Details {
		if c == "" && strings.HasSuffix(d.Type, "google.rpc.ErrorInfo") {
			c = push.Code(d.Reason, "")
		}
	}
	if c == "" {
		c = e.Error.Status
	}
	return push.Code(c, push.HTTPStatus(status))
}

// outcome names what the library returned. It reads the reply itself: the
// library's IsX helpers miss wrapped errors and know no Retry-After.
func outcome(name string, err error, now time.Time) push.Result {
	if err == nil {
		if name == "" {
			return push.Result{Outcome: push.Unknown, Reason: "bad-reply"}
		}
		return push.Result{Outcome: push.Accepted}
	}
	resp := errorutils.HTTPResponse(err)
	if resp == nil {
		// The library's own check of the message is ours too, so this is a
		// 200 whose body is not FCM's.
		return push.Result{Outcome: push.Unknown, Reason: "bad-reply"}
	}
	h := resp.Header
	if o, e := strconv.ParseUint(h.Get(headerOutcome), 10, 8); e == nil {
		return push.Result{Outcome: push.Outcome(o), Reason: h.Get(headerReason), Repeated: h.Get(headerTwice) != ""}
	}
	status, e := strconv.Atoi(h.Get(headerStatus))
	if e != nil {
		status = resp.StatusCode
	}
	b, _ := io.ReadAll(resp.Body) // in memory: it cannot fail
	var body apiError
	_ = json.Unmarshal(b, &body) // what is not JSON has no code, and the status decides
	r := push.Result{
		Outcome:    ofReply(status, &body),
		Reason:     body.reason(status),
		RetryAfter: push.RetryAfter(h, now),
	}
	r.TokenBusy = r.Outcome == push.Busy && status == http.StatusTooManyRequests && body.onlyDevice()
	return r
}

// ofReply is the outcome of a refusal.
//
// A 404 without FCM's own code is a wrong project or URL, not a dead token.
// SENDER_ID_MISMATCH is a token of another Firebase project: either our
// service account is the wrong one, which must not empty the registry, or
// one device registered a foreign token, which must not close the lane; so
// it is the request's fault. INVALID_ARGUMENT is the token's own when FCM
// names no other field.
func ofReply(status int, e *apiError) push.Outcome {
	switch e.code() {
	case codeUnregistered:
		return push.TokenDead
	case codeInvalidArgument, "":
		if status == http.StatusBadRequest && e.onlyToken() {
			return push.TokenDead
		}
	case codeSenderMismatch:
		return push.Rejected
	case codeQuota, codeUnavailable, codeInternal:
		return push.Busy
	case codeThirdParty:
		return push.Denied
	}
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return push.Denied
	case status == http.StatusTooManyRequests:
		return push.Busy
	case status == http.StatusBadGateway, status == http.StatusGatewayTimeout, status == http.StatusRequestTimeout:
		return push.Unknown // a relay lost it, perhaps after it arrived
	case status >= 500:
		return push.Busy
	case status >= 400:
		return push.Rejected
	}
	return push.Unknown
}

// thirdParty tells whether a 401 is about the app's APNs key at Firebase and
// not about our token. It leaves the body readable.
func thirdParty(resp *http.Response) bool {
	b, _ := io.ReadAll(resp.Body) // in memory: it cannot fail
	resp.Body = io.NopCloser(strings.NewReader(string(b)))
	var e apiError
	_ = json.Unmarshal(b, &e)
	return e.code() == codeThirdParty
}
