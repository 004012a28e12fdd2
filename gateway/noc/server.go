package noc

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"shunt/gateway/audit"
	"shunt/gateway/number"
)

// Options are what NewServer needs; all of it is required.
type Options struct {
	Gateway  Gateway
	Registry Registry
	Spool    Spool
	Alarms   Alarms
	Audit    *audit.Log
	Log      *slog.Logger

	// Country is the country whose national numbers operators write, for an app or
	// for "". nil: none.
	Country func(app string) number.Country

	// TempDir takes an import while it is checked, in files that have no name;
	// "" = os.TempDir.
	TempDir string
}

// Server answers operators. Who is root, the gateway's own user or in the
// socket's group may do everything, and what is changed is audited. It is safe for concurrent use;
// what changes while it runs belongs to the gateway, registry and spool.
type Server struct {
	o       Options
	mux     *http.ServeMux
	cursor  cipher.Block  // seals the cursors of masked lists, for this run
	imports chan struct{} // holds a token while an import runs: one at a time

	strangers *rate.Limiter // lines of the audit about requests of who may do nothing
}

// Limits of a request.
const (
	maxBody     = 64 << 10 // octets, but for an import
	readWithin  = 10 * time.Second
	writeWithin = 30 * time.Second
)

// NewServer prepares the control server. It starts no goroutine; see Serve.
func NewServer(o Options) *Server {
	var key [16]byte
	_, _ = rand.Read(key[:]) // never fails (crypto/rand)
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(fmt.Sprintf("noc: %v", err)) // only for a key of another length
	}
	if o.Country == nil {
		o.Country = func(string) number.Country { return number.Country{} }
	}
	s := &Server{o: o, mux: http.NewServeMux(), cursor: block, imports: make(chan struct{}, 1), strangers: rate.NewLimiter(rate.Every(strangerEvery), strangersAtOnce)}
	for pattern, h := range map[string]handler{
		"GET /v1/status":                   s.status,
		"GET /v1/sessions":                 s.sessions,
		"GET /v1/divert":                   s.divert,
		"PUT /v1/divert":                   s.setDivert,
		"GET /v1/drain":                    s.drain,
		"PUT /v1/drain":                    s.setDrain,
		"GET /v1/queue":                    s.queue,
		"POST /v1/reload":                  s.reload,
		"POST /v1/selftest":                s.selftest,
		"GET /v1/registry":                 s.list,
		"GET /v1/registry/count":           s.count,
		"POST /v1/registry/import":         s.importFile,
		"GET /v1/registry/export":          s.exportFile,
		"GET /v1/backup":                   s.backup,
		"GET /v1/registry/{number}":        s.get,
		"PUT /v1/registry/{number}":        s.put,
		"DELETE /v1/registry/{number}":     s.remove,
		"POST /v1/registry/{number}/erase": s.erase,
		"GET /v1/watch/{number}":           s.watch,
		"GET /v1/trace/{what}":             s.trace,
		"GET /v1/names/{kind}":             s.names,
		"POST /v1/explain":                 s.explain,
		"GET /v1/alarms":                   s.alarms,
		"GET /v1/audit":                    s.auditLines,
		"GET /v1/audit/verify":             s.auditVerify,
	} {
		if name := actions[pattern]; name != "" {
			h = s.audited(name, h)
		}
		s.mux.Handle(pattern, s.wrap(h))
	}
	return s
}

// handler answers with a value to be written as JSON, or an error.
type handler func(w http.ResponseWriter, r *http.Request) (any, error)

// ServeHTTP turns the mux's plain refusals into problems.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", serverName)
	w.Header().Set("Cache-Control", "no-store")
	if !s.admit(w, r) {
		return
	}
	refusal, pattern := s.mux.Handler(r)
	if pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	probe := &refused{h: http.Header{}}
	refusal.ServeHTTP(probe, r)
	if allow := probe.h.Get("Allow"); probe.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", allow)
		problemf(http.StatusMethodNotAllowed, CodeMethod, "%s takes only %s", r.URL.Path, allow).write(w)
		return
	}
	problemf(http.StatusNotFound, CodeNotFound, "this gateway has no such path: `shunt version` and the gateway's version may differ").write(w)
}

// refused notes how the mux refuses.
type refused struct {
	h      http.Header
	status int
}

func (p *refused) Header() http.Header         { return p.h }
func (p *refused) Write(b []byte) (int, error) { return len(b), nil }
func (p *refused) WriteHeader(status int)      { p.status = status }

// wrap bounds the request's time, writes the answer, and keeps a panic from
// ending more than its request.
func (s *Server) wrap(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v == http.ErrAbortHandler {
				panic(v) // it has said why
			} else if v != nil {
				// The value of a panic may quote anything, so only its type is logged.
				s.o.Log.Error("control socket: request panicked", "route", r.Pattern, "panic", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
				panic(http.ErrAbortHandler)
			}
		}()
		extend(w)
		v, err := h(w, r)
		extend(w)
		if _, ok := v.(streamed); ok {
			return
		}
		if err == nil {
			err = writeJSON(w, v)
		}
		if err != nil {
			p := problemOf(err)
			if p.Status >= http.StatusInternalServerError {
				s.o.Log.Error("control socket: request failed", "route", r.Pattern, "error", err)
			}
			p.write(w)
		}
	})
}

// extend gives a request time from now on; an import asks for it with every read.
func extend(w http.ResponseWriter) {
	rc := http.NewResponseController(w)
	now := time.Now()
	_ = rc.SetReadDeadline(now.Add(readWithin)) // refused only where there is no connection to guard
	_ = rc.SetWriteDeadline(now.Add(readWithin + writeWithin))
}

// answering gives an answer whose request is here whole that long to be written.
// Nothing more is read but the client's going: a deadline for that would end the
// request's context.
func answering(w http.ResponseWriter, within time.Duration) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // refused only where there is no connection to guard
	_ = rc.SetWriteDeadline(time.Now().Add(within))
}

// writeJSON encodes first and writes then, so that a value that does not
// encode is still answered with a problem.
func writeJSON(w http.ResponseWriter, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	_, _ = w.Write(b.Bytes()) // a client that left is not our fault
	return nil
}

// readJSON reads a body of one JSON value and nothing else.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
		return problemf(http.StatusRequestEntityTooLarge, CodeTooLarge, "the body is longer than %d octets", maxBody)
	}
	if err != nil {
		return problemf(http.StatusBadRequest, CodeInvalid, "the body could not be read: %v", err)
	}
	if err := decodeStrict(b, v); err != nil {
		return problemf(http.StatusBadRequest, CodeInvalid, "the body is not the JSON that is wanted: %v", err)
	}
	return nil
}

// decodeStrict reads one JSON value that has no unknown field and nothing
// behind it. Its errors do not repeat values.
func decodeStrict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("it breaks off")
		}
		if wrong := new(json.UnmarshalTypeError); errors.As(err, &wrong) {
			return fmt.Errorf("%s: want a %s", wrong.Field, wrong.Type)
		}
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something behind it")
	}
	return nil
}

func (s *Server) status(http.ResponseWriter, *http.Request) (any, error) {
	return s.o.Gateway.Status(), nil
}

func (s *Server) sessions(http.ResponseWriter, *http.Request) (any, error) {
	all := s.o.Gateway.Sessions()
	if all == nil {
		all = []Session{}
	}
	return sessionsBody{all}, nil
}

func (s *Server) divert(http.ResponseWriter, *http.Request) (any, error) {
	return divertBody{s.o.Gateway.Divert()}, nil
}

func (s *Server) setDivert(w http.ResponseWriter, r *http.Request) (any, error) {
	var b divertBody
	if err := readJSON(w, r, &b); err != nil {
		return nil, err
	}
	if err := CheckMode(b.Mode); err != nil {
		return nil, err
	}
	if err := s.begin(r, "mode="+b.Mode, b.Mode == "off"); err != nil {
		return nil, err
	}
	if err := SetDivert(r.Context(), s.o.Gateway, b.Mode); err != nil {
		return nil, err
	}
	return divertBody{s.o.Gateway.Divert()}, nil
}

// Switch is the part of Gateway that diverts or does not.
type Switch interface {
	Divert() string
	SetDivert(ctx context.Context, mode string) error
}

// CheckMode tells what is wrong with a place of the switch.
func CheckMode(mode string) error {
	switch mode {
	case "on", "shadow", "off":
		return nil
	}
	return problemf(http.StatusBadRequest, CodeInvalid, "mode: want on, shadow or off")
}

// SetDivert sets the switch for whoever may. Its error is a *Problem.
func SetDivert(ctx context.Context, s Switch, mode string) error {
	if err := CheckMode(mode); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	if err := s.SetDivert(ctx, mode); err != nil {
		return problemf(http.StatusConflict, CodeConflict, "divert is %s: %v", s.Divert(), err)
	}
	return nil
}

func (s *Server) reload(_ http.ResponseWriter, r *http.Request) (any, error) {
	if err := s.begin(r, "", false); err != nil {
		return nil, err
	}
	return s.o.Gateway.Reload(r.Context())
}
