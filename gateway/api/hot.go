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

const (
	pathMessages  = "/v1/messages/"
	pathClaim     = "/claim"
	pathDelivered = "/receipts/delivered"
	pathRead      = "/receipts/read"
)

// hot is the operation that a request asks for, with the id in its path; nil if
// it takes the general way.
func (h *handlers) hot(r *http.Request) (op func(context.Context, *idInput) (any, error), id string) {
	if r.URL.RawPath != "" || r.URL.RawQuery != "" || r.Header.Get("Accept") != "" && r.Header.Get("Accept") != "*/*" {
		return nil, ""
	}
	rest, ok := strings.CutPrefix(r.URL.Path, pathMessages)
	if !ok {
		return nil, ""
	}
	id, what := rest, ""
	if slash := strings.IndexByte(rest, '/'); slash >= 0 {
		id, what = rest[:slash], rest[slash:]
	}
	if id == "" || len(id) > 64 {
		return nil, ""
	}
	switch {
	case r.Method == http.MethodPost && what == pathClaim:
		return func(ctx context.Context, in *idInput) (any, error) {
			out, err := h.claim(ctx, in)
			if err != nil {
				return nil, err
			}
			return &out.Body, nil
		}, id
	case r.Method == http.MethodPut && what == pathDelivered:
		return nothing(h.delivered), id
	case r.Method == http.MethodPut && what == pathRead:
		return nothing(h.read), id
	}
	return nil, ""
}

func nothing(op func(context.Context, *idInput) (*struct{}, error)) func(context.Context, *idInput) (any, error) {
	return func(ctx context.Context, in *idInput) (any, error) {
		_, err := op(ctx, in)
		return nil, err
	}
}

// serveHot answers a request that hot took.
func (h *handlers) serveHot(w http.ResponseWriter, r *http.Request, op func(context.Context, *idInput) (any, error), id string) {
	number, device, refused := h.device(r.Header.Get("Authorization"))
	if refused != nil {
		refused.write(w)
		return
	}
	body, err := op(context.WithValue(r.Context(), callerKey{}, caller{number, device}), &idInput{id})
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
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n')) // a client that left is not our fault
}

// problemOf is the problem that an operation's error is answered with.
func problemOf(err error) *problem {
	if p, ok := err.(*problem); ok { //nolint:errorlint // operations return it as it is
		return p
	}
	return huma.NewError(http.StatusInternalServerError, "").(*problem)
}
