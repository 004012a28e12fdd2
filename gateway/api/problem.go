package api

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// Codes of problems: apps switch on them, so they never change.
const (
	codeInvalid      = "invalid-request"
	codeUnauthorized = "unauthorized"
	codeNotFound     = "not-found"
	codeMethod       = "method-not-allowed"
	codeSuperseded   = "superseded"
	codeNotClaimed   = "not-claimed"
	codeTooLarge     = "too-large"
	codeMediaType    = "unsupported-media-type"
	codeKeyReused    = "key-reused"
	codeInFlight     = "in-flight"
	codeTooMany      = "too-many-requests"
	codeInternal     = "internal"
	codeUnavailable  = "unavailable"
	codeEvicted      = "evicted"
	codeProof        = "invalid-proof"
	codeDPoP         = "invalid-dpop-proof"
	codeNotOffered   = "not-offered"
	codeWrongCode    = "wrong-code"
	codePending      = "pending"
	codeExpired      = "expired"
	codeInUse        = "device-in-use"
	codeDevices      = "too-many-devices"
	codeLimit        = "limit-" // and which
)

// problem is an RFC 9457 problem. It never repeats a value that the request
// held: that could be a token.
type problem struct {
	Type   string  `json:"type" format:"uri" doc:"urn:shunt:problem: and the code" example:"urn:shunt:problem:superseded"`
	Title  string  `json:"title" doc:"The status in words"`
	Status int     `json:"status" doc:"The HTTP status"`
	Code   string  `json:"code" doc:"What happened, as a stable code" enum:"invalid-request,unauthorized,not-found,method-not-allowed,superseded,not-claimed,too-large,unsupported-media-type,key-reused,in-flight,too-many-requests,internal,unavailable,evicted,invalid-proof,invalid-dpop-proof,not-offered,wrong-code,pending,expired,device-in-use,too-many-devices,limit-resend,limit-number,limit-address,limit-subnet,limit-prefix,limit-app"`
	Detail string  `json:"detail" doc:"What happened, and what to do"`
	Errors []fault `json:"errors,omitempty" doc:"Which parts of the request are wrong"`

	retryAfter int    // seconds; 0 = no header
	allow      string // the Allow header of a 405
}

type fault struct {
	Location string `json:"location,omitempty" doc:"For example query.limit"`
	Message  string `json:"message"`
}

func newProblem(status int, code, detail string) *problem {
	return &problem{Type: "urn:shunt:problem:" + code, Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

func (p *problem) Error() string  { return p.Code + ": " + p.Detail }
func (p *problem) GetStatus() int { return p.Status }

// ContentType is RFC 9457 §3's.
func (p *problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders are the headers that go with the problem.
func (p *problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="shunt", DPoP algs="ES256"`) // RFC 6750 §3, RFC 9449 §7.1
	}
	if p.allow != "" {
		h.Set("Allow", p.allow)
	}
	return h
}

// write answers with p outside of huma's operations.
func (p *problem) write(w http.ResponseWriter) {
	for k, v := range p.GetHeaders() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // a client that left is not our fault
}

// codeOf is the code of what huma itself refuses.
func codeOf(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return codeUnauthorized
	case status == http.StatusNotFound:
		return codeNotFound
	case status == http.StatusConflict:
		return codeSuperseded
	case status == http.StatusMethodNotAllowed:
		return codeMethod
	case status == http.StatusRequestEntityTooLarge:
		return codeTooLarge
	case status == http.StatusUnsupportedMediaType:
		return codeMediaType
	case status == http.StatusTooManyRequests:
		return codeTooMany
	case status == http.StatusServiceUnavailable:
		return codeUnavailable
	case status >= 500:
		return codeInternal
	}
	return codeInvalid
}

// init makes huma's own refusals problems of ours, in its answers and in its
// OpenAPI document alike. huma offers no other place for it than this
// variable, and this package is its only user.
func init() {
	huma.NewError = func(status int, text string, errs ...error) huma.StatusError {
		p := newProblem(status, codeOf(status), text)
		if status >= 500 {
			p.Detail = "the gateway failed; its log says why"
			return p
		}
		for _, err := range errs {
			if d, ok := err.(huma.ErrorDetailer); ok {
				p.Errors = append(p.Errors, fault{Location: d.ErrorDetail().Location, Message: d.ErrorDetail().Message})
			}
		}
		return p
	}
}
