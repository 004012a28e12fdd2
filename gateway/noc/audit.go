package noc

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"shunt/gateway/audit"
)

// actions are the routes that change something, or give numbers and tokens
// away, by what the audit calls them.
var actions = map[string]string{
	"PUT /v1/divert":                   "divert",
	"PUT /v1/drain":                    "drain",
	"POST /v1/reload":                  "reload",
	"PUT /v1/registry/{number}":        "registry put",
	"DELETE /v1/registry/{number}":     "registry rm",
	"POST /v1/registry/{number}/erase": "registry erase",
	"GET /v1/watch/{number}":           "watch",
	"POST /v1/registry/import":         "registry import",
	"GET /v1/registry/export":          "registry export",
	"GET /v1/backup":                   "backup",
}

// deed is a request on its way through the audit. It belongs to the request's
// goroutine.
type deed struct {
	name    string
	begun   *audit.Action
	outcome string // what the last line says instead of what the first one does
	result  string // if the handler knows better than its error
	mute    bool   // it was refused because nothing can be recorded
}

type deedKey struct{}

func deedOf(r *http.Request) *deed { return r.Context().Value(deedKey{}).(*deed) }

// begin records what a request is about to do: without it, it must not. What
// only makes things safe goes on where it cannot be recorded.
func (s *Server) begin(r *http.Request, detail string, safe bool) (err error) {
	d := deedOf(r)
	if d.begun, err = s.o.Audit.Begin(actorOf(r), d.name, detail, safe); err != nil {
		d.mute = true
		return problemf(http.StatusServiceUnavailable, CodeUnavailable,
			"%v: nothing was done. See shunt alarms; divert off and drain are obeyed all the same", err)
	}
	return nil
}

func actorOf(r *http.Request) audit.Actor {
	if p, ok := r.Context().Value(peerKey{}).(*peer); ok {
		return p.Actor
	}
	return audit.Actor{UID: -1}
}

// audited has a line written of what becomes of a request, also of one that is
// refused before it begins.
func (s *Server) audited(name string, h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) (v any, err error) {
		d := &deed{name: name}
		ended := false
		defer func() {
			if !ended { // it panicked: a long answer breaks off so
				s.end(r, d, "failed: broken off")
			}
		}()
		v, err = h(w, r.WithContext(context.WithValue(r.Context(), deedKey{}, d)))
		ended = true
		result := d.result
		if result == "" {
			result = ResultOf(err)
		}
		s.end(r, d, result)
		return v, err
	}
}

func (s *Server) end(r *http.Request, d *deed, result string) {
	switch {
	case d.mute:
		return
	case d.begun != nil:
		d.begun.End(d.outcome, result)
		return
	}
	_ = s.o.Audit.Note(actorOf(r), d.name, d.outcome, result) // nothing was done; it logs its own failure
}

// ResultOf is an error as a line has it: by its code, as its text may quote what
// the operator wrote.
func ResultOf(err error) string {
	if err == nil {
		return audit.Done
	}
	p := problemOf(err)
	if p.Status >= http.StatusInternalServerError {
		return "failed: " + p.Code
	}
	return "refused: " + p.Code
}

// AuditLines is a part of the audit.
type AuditLines struct {
	Lines []audit.Entry `json:"lines"` // the oldest first
}

const (
	defaultAudit = 20
	// MaxAudit is the most lines that are shown at once.
	MaxAudit = 10_000
)

func (s *Server) auditLines(_ http.ResponseWriter, r *http.Request) (any, error) {
	limit, err := limitOf(r, defaultAudit, MaxAudit)
	if err != nil {
		return nil, err
	}
	all, err := s.o.Audit.Last(limit)
	if err != nil {
		return nil, auditUnread(err)
	}
	return AuditLines{all}, nil
}

func (s *Server) auditVerify(http.ResponseWriter, *http.Request) (any, error) {
	rep, err := s.o.Audit.Verify()
	if err != nil {
		return nil, auditUnread(err)
	}
	return rep, nil
}

func auditUnread(err error) error {
	return problemf(http.StatusServiceUnavailable, CodeUnavailable, "the audit cannot be read: %v", err)
}

// AuditLines are the last n lines of the audit, the oldest first.
func (c *Client) AuditLines(ctx context.Context, n int) ([]audit.Entry, error) {
	var b AuditLines
	err := c.call(ctx, http.MethodGet, "/v1/audit", url.Values{"limit": {strconv.Itoa(n)}}, nil, &b)
	return b.Lines, err
}

// AuditVerify has the gateway read the whole chain, whose end it knows.
func (c *Client) AuditVerify(ctx context.Context) (rep audit.Report, err error) {
	return rep, c.call(ctx, http.MethodGet, "/v1/audit/verify", nil, nil, &rep)
}
