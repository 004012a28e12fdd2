// Package fcm simulates Firebase Cloud Messaging and its token endpoint: it
// judges requests as strictly as Google does and answers in Google's words.
package fcm

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"shunt/test/sim/pki"
	"shunt/test/sim/provider"
)

const (
	maxPayload     = 4096 // octets of keys and values together
	maxBody        = 64 << 10
	maxTTL         = 28 * 24 * time.Hour
	defaultProject = "shunt-sim"
)

// Options configure a Server.
type Options struct {
	provider.Options
	ServiceAccountFile string        // made if missing, with this simulator's token_uri; default fcm.json in the PKI directory
	ProjectID          string        // default shunt-sim
	TokenTTL           time.Duration // life of an OAuth token; default 1 h
}

// Server is a simulated FCM. Its goroutines end with Close or with the
// context of Start.
type Server struct {
	*provider.Bench
	opts   Options
	grants *grants
}

// New makes the keys and opens the listeners.
func New(o Options) (*Server, error) {
	if o.ServiceAccountFile == "" {
		o.ServiceAccountFile = filepath.Join(o.PKI, pki.ServiceAccountFile)
	}
	if o.ProjectID == "" {
		o.ProjectID = defaultProject
	}
	if o.TokenTTL <= 0 {
		o.TokenTTL = time.Hour
	}
	bench, err := provider.NewBench(o.Options)
	if err != nil {
		return nil, fmt.Errorf("fcm simulator: %w", err)
	}
	s := &Server{Bench: bench, opts: o}
	var account pki.Account
	var key *rsa.PublicKey
	if err = pki.WriteServiceAccount(o.ServiceAccountFile, "https://"+s.Addr()+"/token", o.ProjectID); err == nil {
		account, key, err = pki.ServiceAccount(o.ServiceAccountFile)
	}
	if err != nil {
		_ = bench.Close()
		return nil, fmt.Errorf("fcm simulator: %w", err)
	}
	s.grants = &grants{key: key, account: account, ttl: o.TokenTTL, given: make(map[string]grant)}
	return s, nil
}

// Start serves until ctx ends or Close is called.
func (s *Server) Start(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", s.token)
	mux.HandleFunc("/", s.serve)
	return s.Serve(ctx, mux)
}

// Info is what a client needs to know.
func (s *Server) Info() provider.Info {
	return provider.Info{
		Addr: s.Addr(), Control: s.ControlAddr(), URL: "https://" + s.Addr() + "/v1",
		CAFile: s.CA().File(), KeyFile: s.opts.ServiceAccountFile,
	}
}

// Revoke forgets every OAuth token that was given.
func (s *Server) Revoke() { s.grants.revoke() }

// refusal is an answer of Google's other than 200 (google.rpc.Status).
type refusal struct {
	status int
	name   string // google.rpc.Code
	code   string // FCM's own; "" = none
	field  string // the field that is at fault; "" = none
	text   string
}

func invalid(field, text string) *refusal {
	return &refusal{http.StatusBadRequest, "INVALID_ARGUMENT", "INVALID_ARGUMENT", field, text}
}

// fault is the refusal's name among the counters.
func (f *refusal) fault() string {
	if f.code != "" {
		return f.code
	}
	return f.name
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	defer s.Begin()()
	p, bad := s.examine(r)
	if bad != nil {
		s.Fault(bad.fault())
		if bad.field != "" {
			s.Fault(bad.fault() + " " + bad.field)
		}
		s.answer(w, bad, 0)
		return
	}
	v, ok := s.Judge(r.Context(), p.Token)
	if !ok {
		panic(http.ErrAbortHandler) // no answer at all, not an implicit 200
	}
	if v.Status != 0 {
		s.answer(w, verdict(v), v.RetryAfter)
		return
	}
	p.At = time.Now().UTC()
	s.Accept(p)
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	_ = json.NewEncoder(w).Encode(map[string]string{
		"name": "projects/" + s.opts.ProjectID + "/messages/" + ulid.Make().String(),
	})
}

// names are FCM's codes with the google.rpc.Code that comes with them.
var names = map[string]string{
	"UNREGISTERED": "NOT_FOUND", "SENDER_ID_MISMATCH": "PERMISSION_DENIED", "QUOTA_EXCEEDED": "RESOURCE_EXHAUSTED",
	"UNAVAILABLE": "UNAVAILABLE", "INTERNAL": "INTERNAL", "THIRD_PARTY_AUTH_ERROR": "UNAUTHENTICATED",
	"INVALID_ARGUMENT": "INVALID_ARGUMENT",
}

// verdict puts a rule's outcome in Google's words. A reason that is not one
// of FCM's codes is taken for a google.rpc.Code without details.
func verdict(v provider.Verdict) *refusal {
	f := &refusal{status: v.Status, code: v.Reason, text: "The simulator was told to."}
	switch v.Reason {
	case provider.ReasonError:
		f.code = "INTERNAL"
	case provider.ReasonThrottle:
		f.code = "QUOTA_EXCEEDED"
	}
	name, ok := names[f.code]
	if !ok {
		name, f.code = f.code, ""
	}
	f.name = name
	return f
}

func (s *Server) answer(w http.ResponseWriter, f *refusal, retryAfter int) {
	s.Refused(f.fault())
	if retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	details := []any{}
	if f.code != "" {
		details = append(details, map[string]string{
			"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": f.code,
		})
	} else {
		details = append(details, map[string]any{
			"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": f.name, "domain": "googleapis.com",
		})
	}
	if f.field != "" {
		details = append(details, map[string]any{
			"@type":           "type.googleapis.com/google.rpc.BadRequest",
			"fieldViolations": []any{map[string]string{"field": f.field, "description": f.text}},
		})
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(f.status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{
		"code": f.status, "message": f.text, "status": f.name, "details": details,
	}})
}

// examine checks a request: path, token, message.
func (s *Server) examine(r *http.Request) (p provider.Push, bad *refusal) {
	project, ok := strings.CutPrefix(r.URL.Path, "/v1/projects/")
	project, send := strings.CutSuffix(project, "/messages:send")
	if !ok || !send || r.Method != http.MethodPost {
		return p, &refusal{http.StatusNotFound, "NOT_FOUND", "", "", "Method not found."}
	}
	fresh, ok := s.grants.valid(r.Header.Get("Authorization"), time.Now())
	if !ok {
		return p, &refusal{
			http.StatusUnauthorized, "UNAUTHENTICATED", "", "",
			"Request had invalid authentication credentials.",
		}
	}
	if fresh {
		s.Count(func(st *provider.Stats) { st.Bearers++ })
	}
	if project != s.opts.ProjectID {
		return p, &refusal{
			http.StatusForbidden, "PERMISSION_DENIED", "", "",
			"Permission 'cloudmessaging.messages.create' denied.",
		}
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return p, invalid("", "The body did not arrive.")
	}
	return s.message(b)
}
