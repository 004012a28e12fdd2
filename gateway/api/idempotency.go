package api

import (
	"bytes"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"shunt/store/spool"
)

// An Idempotency-Key makes a POST that creates something take effect once: the
// same request with the same key gets the same answer again
// (draft-ietf-httpapi-idempotency-key-header).
const (
	headerOnce = "Idempotency-Key"
	maxOnce    = 255            // octets of a key
	onceFor    = 24 * time.Hour // how long its answer is kept
	onceKept   = 8192           // answers in memory
)

// durable marks, in huma.Operation.Metadata, an operation that stores its answer
// with what it did: see onceOf.
const durable = "durable-idempotency"

// onceParameter is the header in the document.
func onceParameter() *huma.Param {
	most := maxOnce
	return &huma.Param{
		Name: headerOnce, In: "header", Example: "7e2f0b0a-6d2c-4a4e-9f0e-3f4f1b1f5a10",
		Description: "Chosen by the client, new for each request. The same request with the same key takes effect once, and gets the same answer for 24 hours.",
		Schema:      &huma.Schema{Type: huma.TypeString, MaxLength: &most},
	}
}

// onceTable keeps what is under way and the last answers. It is safe for
// concurrent use.
type onceTable struct {
	mu      sync.Mutex
	entries map[[32]byte]*list.Element
	order   list.List // of *onceEntry, those that are done, oldest first
}

type onceEntry struct {
	key, request [32]byte
	until        time.Time // zero: under way
	answer       onceAnswer
}

// onceAnswer is what was answered.
type onceAnswer struct {
	status int
	header http.Header // Content-Type and Location
	body   []byte
}

func newOnceTable() *onceTable { return &onceTable{entries: make(map[[32]byte]*list.Element)} }

// begin tells what is known of a key; nil and true if the caller is the first,
// who then has to call end.
func (t *onceTable) begin(key, request [32]byte, now time.Time) (e *onceEntry, first bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for front := t.order.Front(); front != nil; front = t.order.Front() {
		old := front.Value.(*onceEntry)
		if t.order.Len() <= onceKept && now.Before(old.until) {
			break
		}
		delete(t.entries, old.key)
		t.order.Remove(front)
	}
	if at := t.entries[key]; at != nil {
		copied := *at.Value.(*onceEntry)
		return &copied, false
	}
	t.entries[key] = &list.Element{Value: &onceEntry{key: key, request: request}}
	return nil, true
}

// end keeps the answer of what begin began; a nil one lets the next try.
func (t *onceTable) end(key [32]byte, answer *onceAnswer, until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[key].Value.(*onceEntry)
	if answer == nil {
		delete(t.entries, key)
		return
	}
	e.answer, e.until = *answer, until
	t.entries[key] = t.order.PushBack(e)
}

type onceKey struct{}

// onceOf is what a durable operation stores with its effect and its Answer; nil
// if the request has no key.
func onceOf(ctx context.Context) *spool.Once {
	o, _ := ctx.Value(onceKey{}).(*spool.Once)
	return o
}

// idempotent is the middleware of operations that create something. It comes
// after the authentication, if there is one: a key is its device's own.
func (h *handlers) idempotent(ctx huma.Context, next func(huma.Context)) {
	name := ctx.Header(headerOnce)
	if name == "" {
		next(ctx)
		return
	}
	if len(name) > maxOnce {
		refuse(ctx, newProblem(http.StatusUnprocessableEntity, codeInvalid, "Idempotency-Key: is longer than 255 octets"))
		return
	}
	r, _ := humago.Unwrap(ctx)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		refuse(ctx, newProblem(http.StatusBadRequest, codeInvalid, "the body could not be read"))
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	key, request := onceKeyOf(ctx, name), sha256.Sum256(append([]byte(r.URL.RequestURI()+"\n"), body...))
	known, first := h.once.begin(key, request, h.Now())
	if !first {
		replay(ctx, known, request)
		return
	}
	var answer *onceAnswer
	defer func() { h.once.end(key, answer, h.Now().Add(onceFor)) }() // also after a panic
	if _, ok := ctx.Operation().Metadata[durable]; ok {
		stored, err := h.Replies.Spool.Once(key)
		switch {
		case err == nil:
			replay(ctx, &onceEntry{request: stored.Request, until: h.Now(), answer: onceAnswer{
				ctx.Operation().DefaultStatus, http.Header{"Content-Type": {"application/json"}}, stored.Answer,
			}}, request)
			return
		case !errors.Is(err, spool.ErrNotFound):
			refuse(ctx, h.failed("idempotency-key", err))
			return
		}
	}
	copied := &copiedContext{humaContext: ctx}
	next(huma.WithValue(copied, onceKey{}, &spool.Once{Key: key, Request: request, Until: h.Now().Add(onceFor)}))
	if copied.status >= 200 && copied.status < 300 {
		answer = &onceAnswer{copied.status, copied.header, copied.body.Bytes()}
	}
}

// onceKeyOf is the key of a caller's key: two devices never share one.
func onceKeyOf(ctx huma.Context, name string) [32]byte {
	b := append([]byte(ctx.Operation().OperationID), 0)
	if c, ok := ctx.Context().Value(callerKey{}).(caller); ok {
		b = binary.BigEndian.AppendUint64(b, uint64(c.number))
		b = append(append(b, c.device.App...), 0)
		b = append(append(b, c.device.ID...), 0)
	}
	return sha256.Sum256(append(b, name...))
}

// replay answers a request whose key is known.
func replay(ctx huma.Context, known *onceEntry, request [32]byte) {
	switch {
	case known.request != request:
		refuse(ctx, newProblem(http.StatusUnprocessableEntity, codeKeyReused, "this Idempotency-Key came with another request before: take a new one for each"))
	case known.until.IsZero():
		p := newProblem(http.StatusConflict, codeInFlight, "the first request with this Idempotency-Key is still under way: repeat the same call")
		p.retryAfter = 1
		refuse(ctx, p)
	default:
		for k, v := range known.answer.header {
			ctx.SetHeader(k, v[0])
		}
		ctx.SetStatus(known.answer.status)
		_, _ = ctx.BodyWriter().Write(known.answer.body) // a client that left is not our fault
	}
}

// refuse answers with a problem in a middleware.
func refuse(ctx huma.Context, p *problem) {
	for k, v := range p.GetHeaders() {
		ctx.SetHeader(k, v[0])
	}
	ctx.SetHeader("Content-Type", p.ContentType(""))
	ctx.SetStatus(p.Status)
	_ = huma.DefaultJSONFormat.Marshal(ctx.BodyWriter(), p) // a client that left is not our fault
}

// humaContext lets a struct embed what has a method of its own name.
type humaContext = huma.Context

// copiedContext keeps a copy of what is answered.
type copiedContext struct {
	humaContext
	status int
	header http.Header
	body   bytes.Buffer
}

func (c *copiedContext) Unwrap() huma.Context { return c.humaContext }

func (c *copiedContext) SetStatus(status int) {
	c.status = status
	c.humaContext.SetStatus(status)
}

func (c *copiedContext) Status() int { return c.status }

func (c *copiedContext) SetHeader(name, value string) {
	if strings.EqualFold(name, "Content-Type") || strings.EqualFold(name, "Location") {
		if c.header == nil {
			c.header = http.Header{}
		}
		c.header.Set(name, value)
	}
	c.humaContext.SetHeader(name, value)
}

func (c *copiedContext) BodyWriter() io.Writer {
	return io.MultiWriter(&c.body, c.humaContext.BodyWriter())
}
