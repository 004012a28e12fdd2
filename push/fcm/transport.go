package fcm

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"shunt/push"
)

// statusNoReply is the synthetic status of a request that got no reply. The
// library repeats network errors and 503 up to four times; it repeats neither
// this status nor 500.
const statusNoReply = 520

const (
	headerStatus  = "X-Shunt-Status"  // the status that the provider really sent
	headerOutcome = "X-Shunt-Outcome" // of a request without a reply: the push.Outcome as a number …
	headerReason  = "X-Shunt-Reason"  // … the reason …
	headerTwice   = "X-Shunt-Twice"   // … and, if there, that it was sent twice
)

// transport puts the OAuth token on a request and hides from the library what
// would make it repeat the request. It never returns an error.
type transport struct {
	link    *push.Link
	bearers *bearers
	look    func(refused bool) // whether the service account has changed
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, bearer, result := t.try(req)
	if resp != nil && resp.StatusCode == http.StatusUnauthorized && !thirdParty(resp) {
		t.look(true)
		if t.bearers.refuse(bearer, time.Now()) {
			// Refused before it was looked at: repeating it cannot double it.
			resp, _, result = t.try(req)
		}
	}
	if resp == nil {
		return noReply(req, result), nil
	}
	h := resp.Header
	h.Del(headerOutcome)
	h.Del(headerReason)
	h.Del(headerTwice)
	h.Set(headerStatus, strconv.Itoa(resp.StatusCode))
	switch {
	case resp.StatusCode == http.StatusServiceUnavailable:
		resp.StatusCode = http.StatusInternalServerError
	case resp.StatusCode != http.StatusOK && resp.StatusCode < 400:
		resp.StatusCode = statusNoReply // the library would call it a success
	}
	return resp, nil
}

// try sends req once with the current token. Without a reply the Result says
// why.
func (t *transport) try(req *http.Request) (*http.Response, string, push.Result) {
	bearer, err := t.bearers.get(req.Context())
	var denied deniedError
	switch {
	case errors.As(err, &denied):
		return nil, "", push.Result{Outcome: push.Denied, Reason: denied.code}
	case err != nil && errors.Is(req.Context().Err(), context.Canceled):
		return nil, "", push.Result{Outcome: push.Unknown, Reason: "cancelled"}
	case err != nil:
		return nil, "", push.Result{Outcome: push.Busy, Reason: "no-oauth-token"}
	}
	r := *req // the library has its own header back
	r.Header = make(http.Header, len(req.Header)+1)
	maps.Copy(r.Header, req.Header)
	if req.GetBody != nil {
		if r.Body, err = req.GetBody(); err != nil {
			return nil, "", push.Result{Outcome: push.Rejected, Reason: "bad-request"}
		}
	}
	r.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := t.link.RoundTrip(&r)
	if err == nil {
		return resp, bearer, push.Result{}
	}
	var lerr *push.LinkError
	if errors.As(err, &lerr) {
		return nil, "", lerr.Result()
	}
	return nil, "", push.Result{Outcome: push.Unknown, Reason: "broken"}
}

func noReply(req *http.Request, r push.Result) *http.Response {
	h := make(http.Header)
	h.Set(headerOutcome, strconv.Itoa(int(r.Outcome)))
	h.Set(headerReason, r.Reason)
	if r.Repeated {
		h.Set(headerTwice, "yes")
	}
	return &http.Response{
		Status: strconv.Itoa(statusNoReply) + " No Reply", StatusCode: statusNoReply,
		Proto: "HTTP/2.0", ProtoMajor: 2, Header: h, Request: req,
		Body: io.NopCloser(strings.NewReader("")),
	}
}
