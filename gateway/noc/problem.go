package noc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"shunt/store/registry"
	"shunt/store/spool"
)

// Problem is how the control server refuses (RFC 9457). Its detail says what
// to do next.
type Problem struct {
	Type   string   `json:"type"`
	Title  string   `json:"title"`
	Status int      `json:"status"`
	Code   string   `json:"code"`
	Detail string   `json:"detail"`
	Faults []string `json:"faults,omitempty"` // of a configuration
}

// LineFault is what is wrong with one line of an import.
type LineFault struct {
	Line   int    `json:"line"`             // from 1
	Column int    `json:"column,omitempty"` // of CSV, from 1; 0: no certain one
	Text   string `json:"text"`
}

// Codes of problems.
const (
	CodeInvalid     = "invalid-request"
	CodeNotFound    = "not-found"
	CodeForbidden   = "forbidden"
	CodeMethod      = "method-not-allowed"
	CodeConflict    = "conflict"
	CodeTooLarge    = "too-large"
	CodeInternal    = "internal"
	CodeUnavailable = "unavailable"
)

// Error is the detail, and a line for each fault of a configuration.
func (p *Problem) Error() string {
	s := p.Detail
	for _, f := range p.Faults {
		s += "\n" + f
	}
	return s
}

func problemf(status int, code, format string, a ...any) *Problem {
	return &Problem{
		Type: "urn:shunt:problem:" + code, Title: http.StatusText(status), Status: status, Code: code,
		Detail: fmt.Sprintf(format, a...),
	}
}

func (p *Problem) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // a client that left is not our fault
}

// problemOf puts an error into an operator's words.
func problemOf(err error) *Problem {
	var p *Problem
	var bad *Refused
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &bad):
		p = problemf(http.StatusUnprocessableEntity, CodeInvalid, "the configuration is refused, nothing has changed")
		p.Faults = bad.Faults
		return p
	case errors.Is(err, registry.ErrInvalid):
		return problemf(http.StatusBadRequest, CodeInvalid, "%v", err)
	case errors.Is(err, registry.ErrNotFound):
		return problemf(http.StatusNotFound, CodeNotFound, "%v: `shunt registry put` registers it", err)
	case errors.Is(err, registry.ErrTooManyDevices):
		return problemf(http.StatusConflict, CodeConflict, "%v: remove one with `shunt registry rm NUMBER --device D`", err)
	case errors.Is(err, registry.ErrBearerInUse):
		return problemf(http.StatusConflict, CodeConflict, "%v: give another, or none to have one made", err)
	case errors.Is(err, registry.ErrTooManyApps):
		return problemf(http.StatusConflict, CodeConflict, "%v: use one of the apps that exist", err)
	case errors.Is(err, registry.ErrCorrupt):
		return problemf(http.StatusInternalServerError, CodeInternal, "%v: remove the number with `shunt registry rm NUMBER` and put it again", err)
	case errors.Is(err, registry.ErrClosed), errors.Is(err, spool.ErrClosed):
		return problemf(http.StatusServiceUnavailable, CodeUnavailable, "%v: the gateway is stopping; try again once it has started", err)
	case errors.Is(err, spool.ErrNotFound):
		return problemf(http.StatusNotFound, CodeNotFound, "%v: finished messages are kept for [retention] messages; a forwarded one is never stored", err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return problemf(http.StatusServiceUnavailable, CodeUnavailable, "the gateway did not finish in time: look whether the change is there before you repeat it")
	}
	return problemf(http.StatusInternalServerError, CodeInternal, "%v: see the gateway's log", err)
}
