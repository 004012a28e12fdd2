package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"shunt/store/registry"
)

// Limits of a request. A body beyond maxBody is refused, whatever it is for; one
// that no operation asks for is ignored.
const (
	maxBody   = 16 << 10 // octets
	maxHeader = 16 << 10 // octets
	maxBearer = registry.MaxBearer

	headerWithin = 5 * time.Second
	readWithin   = 10 * time.Second
	writeWithin  = 30 * time.Second // more than decideWithin
	idleFor      = 60 * time.Second
	drainWithin  = 5 * time.Second
)

// Serve answers on l with h, which New made, until ctx ends; then it stops
// accepting, waits up to 5 seconds for requests under way and returns nil. It
// closes l. Any other end is an error.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerWithin,
		ReadTimeout:       readWithin,
		WriteTimeout:      writeWithin,
		IdleTimeout:       idleFor,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // TLS and protocol faults of clients
	}
	if f, ok := h.(*front); ok && f.streams != nil {
		srv.RegisterOnShutdown(f.streams.Close) // they would not end by themselves
	}
	stopped := make(chan struct{})
	release := context.AfterFunc(ctx, func() {
		defer close(stopped)
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWithin)
		defer cancel()
		if srv.Shutdown(drain) != nil {
			_ = srv.Close() // whoever is still there had its time
		}
	})
	err := srv.Serve(l)
	if release() { // ctx is not done: Serve ended by itself
		return fmt.Errorf("app api on %s: %w", l.Addr(), err)
	}
	<-stopped
	return nil
}

// front stands before the mux: it bounds bodies, turns the mux's plain refusals
// into problems, and keeps a panic from ending more than its request.
type front struct {
	mux *http.ServeMux
	hot *handlers // nil: everything takes the general way
	log *slog.Logger

	origins []string
	streams *Streams // nil: there are none
}

// Values of headers that every answer has; nobody changes them in place.
var noStore, noSniff, asJSON = []string{"no-store"}, []string{"nosniff"}, []string{"application/json"}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	h := w.Header()
	h["Cache-Control"], h["X-Content-Type-Options"] = noStore, noSniff
	rec := &recorder{ResponseWriter: w}
	var route *hotOp
	defer func() { f.finish(recover(), rec, r, route, began) }()

	if cors(f.origins, rec, r) {
		return
	}
	if op, id := hot(r); op != nil && f.hot != nil {
		route = op
		f.hot.serveHot(rec, r, op, id)
		return
	}
	handler, pattern := f.mux.Handler(r)
	if pattern == "" {
		f.refuse(rec, r, handler)
		return
	}
	if err := bufferBody(rec, r); err != nil {
		if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
			newProblem(http.StatusRequestEntityTooLarge, codeTooLarge, fmt.Sprintf("the body is longer than %d octets", maxBody)).write(rec)
			return
		}
		newProblem(http.StatusBadRequest, codeInvalid, "the body could not be read").write(rec)
		return
	}
	f.mux.ServeHTTP(rec, r)
}

// finish writes the log's line and, after a panic, the answer.
func (f *front) finish(v any, w *recorder, r *http.Request, op *hotOp, began time.Time) {
	if v == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
		panic(v)
	}
	if v != nil {
		// The value of a panic may quote anything, so only its type is logged.
		f.log.Error("app api panicked", "method", r.Method, "route", routeOf(r, op), "panic", fmt.Sprintf("%T", v), "stack", string(debug.Stack()))
		if w.status != 0 {
			panic(http.ErrAbortHandler) // too late for an answer: break the connection
		}
		newProblem(http.StatusInternalServerError, codeInternal, "the gateway failed; its log says why").write(w)
	}
	if f.log.Enabled(context.Background(), slog.LevelDebug) {
		f.log.Debug("app api", "method", r.Method, "route", routeOf(r, op), "status", w.status, "took", time.Since(began))
	}
}

func routeOf(r *http.Request, op *hotOp) string {
	if op != nil {
		return op.method + " " + pathMessages + "{id}" + op.path
	}
	return r.Pattern
}

// refuse asks the mux's own refusal for its status and answers with a problem.
func (f *front) refuse(w http.ResponseWriter, r *http.Request, refusal http.Handler) {
	probe := &recorder{ResponseWriter: nowhere{http.Header{}}}
	refusal.ServeHTTP(probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		p := newProblem(http.StatusMethodNotAllowed, codeMethod, "this path takes another method: see the Allow header")
		p.allow = probe.Header().Get("Allow")
		p.write(w)
		return
	}
	newProblem(http.StatusNotFound, codeNotFound, "no such path: /openapi.json lists them").write(w)
}

// bufferBody reads the body, so that one beyond maxBody is refused before
// anything is decided.
func bufferBody(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength > maxBody {
		return &http.MaxBytesError{Limit: maxBody}
	}
	if r.ContentLength == 0 {
		return nil
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
	}
	return err
}

const bearerScheme = "bearer"

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int // 0: nothing yet
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// nowhere takes an answer that nobody will see.
type nowhere struct{ h http.Header }

func (n nowhere) Header() http.Header         { return n.h }
func (n nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n nowhere) WriteHeader(int)             {}
