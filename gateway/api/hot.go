package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Claims and acknowledgements are nearly all that is asked of the API. They take
// nothing but an id, and are answered without the general way from a request to
// an operation and back: its reflection costs more than the operation does. What
// they answer, and what the document says of them, is the same either way; a
// test asks both.

// hotOp is an operation on the short way. Its body is nil for an answer without
// one.
type hotOp struct {
	method, path string // what follows the id in the path
	do           func(*handlers, context.Context, *idInput) (any, error)
}

var hotOps = [...]hotOp{
	{http.MethodPost, "/claim", func(h *handlers, ctx context.Context, in *idInput) (any, error) {
		out, err := h.claim(ctx, in)
		if err != nil {
			return nil, err
		}
		return &out.Body, nil
	}},
	{http.MethodPut, "/receipts/delivered", func(h *handlers, ctx context.Context, in *idInput) (any, error) {
		_, err := h.delivered(ctx, in)
		return nil, err
	}},
	{http.MethodPut, "/receipts/read", func(h *handlers, ctx context.Context, in *idInput) (any, error) {
		_, err := h.read(ctx, in)
		return nil, err
	}},
}

const (
	pathMessages = "/v1/messages/"
	longestID    = 64 // the same number stands in idInput's tag
)

// hot is the operation that a request asks for, with the id in its path; nil if
// it takes the general way.
func hot(r *http.Request) (op *hotOp, id string) {
	if r.ContentLength != 0 || r.URL.RawPath != "" || r.URL.RawQuery != "" {
		return nil, ""
	}
	if accept := r.Header.Get("Accept"); accept != "" && accept != "*/*" {
		return nil, ""
	}
	if scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " "); !strings.EqualFold(scheme, bearerScheme) {
		return nil, "" // nobody, or a device with a key: the proof is of the whole request
	}
	rest, ok := strings.CutPrefix(r.URL.Path, pathMessages)
	if !ok {
		return nil, ""
	}
	slash := strings.IndexByte(rest, '/')
	if slash < 1 || slash > longestID {
		return nil, ""
	}
	for i := range hotOps {
		if op := &hotOps[i]; op.method == r.Method && op.path == rest[slash:] {
			return op, rest[:slash]
		}
	}
	return nil, ""
}

// serveHot answers a request that hot took.
func (h *handlers) serveHot(w http.ResponseWriter, r *http.Request, op *hotOp, id string) {
	c, refused := h.admitted(&request{}, r.Header.Get("Authorization"), w.Header())
	if refused != nil {
		refused.write(w)
		return
	}
	body, err := op.do(h, context.WithValue(r.Context(), callerKey{}, c), &idInput{id})
	if err != nil {
		problemOf(err).write(w)
		return
	}
	if body == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	b, err := json.Marshal(body)
	if err != nil {
		problemOf(err).write(w)
		return
	}
	w.Header()["Content-Type"] = asJSON
	_, _ = w.Write(append(b, '\n')) // a client that left is not our fault
}

// problemOf is the problem that an operation's error is answered with.
func problemOf(err error) *problem {
	if p, ok := err.(*problem); ok { //nolint:errorlint // operations return it as it is
		return p
	}
	return huma.NewError(http.StatusInternalServerError, "").(*problem)
}
