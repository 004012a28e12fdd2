package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"shunt/gateway/msg"
	"shunt/gateway/number"
	"shunt/gateway/prove"
	"shunt/store/registry"
)

// Owners are what the operations about the ownership of numbers need.
type Owners struct {
	Prove    *prove.Service       // nil: no number can be proven
	Registry Registrar            // nil: no device can be put
	Apps     func(id string) bool // tells whether an app is configured
	EvictAll bool                 // a proof evicts the devices of other apps too
	Grace    time.Duration        // of the bearer before a rotated one
	// Country is the country whose national numbers an app's users write. nil: none.
	Country func(app string) number.Country
	// Evidence is told of every authenticated call. It must not block. nil: nobody.
	Evidence func(n msg.Number, device, app string)
}

// authenticate finds the caller before anything else of the request is looked
// at. An operation without security has none.
func (h *handlers) authenticate(ctx huma.Context, next func(huma.Context)) {
	r := requestOf(ctx)
	ctx = huma.WithValue(ctx, requestKey{}, r)
	security := ctx.Operation().Security
	if len(security) == 0 || len(security[0]) == 0 && ctx.Header("Authorization") == "" {
		next(ctx)
		return
	}
	_, w := humago.Unwrap(ctx)
	c, refused := h.admitted(r, ctx.Header("Authorization"), w.Header())
	if refused != nil {
		refuse(ctx, refused)
		return
	}
	next(huma.WithValue(ctx, callerKey{}, c))
}

// admitted is the caller, within its quota, whose headers it sets. What it asked
// for is evidence that it is there.
func (h *handlers) admitted(r *request, authorization string, headers http.Header) (caller, *problem) {
	c, refused := h.caller(r, authorization)
	if refused == nil {
		refused = h.limits.admit(headers, c.number, c.device.App, c.device.ID)
	}
	if refused == nil && h.Evidence != nil {
		h.Evidence(c.number, c.device.ID, c.device.App)
	}
	return c, refused
}

// request is what an operation needs of the request beside its input.
type request struct {
	method, url, remote string
	proofs              []string // DPoP headers
	using               [32]byte // SHA-256 of the bearer
}

type requestKey struct{}

func requestOf(ctx huma.Context) *request {
	r := &request{method: ctx.Method(), remote: ctx.RemoteAddr()}
	u := ctx.URL()
	scheme := "http"
	if ctx.TLS() != nil {
		scheme = "https"
	}
	r.url = scheme + "://" + ctx.Host() + u.EscapedPath()
	ctx.EachHeader(func(name, value string) {
		if strings.EqualFold(name, "DPoP") {
			r.proofs = append(r.proofs, value)
		}
	})
	return r
}

func requestIn(ctx context.Context) *request { return ctx.Value(requestKey{}).(*request) }

const dpopScheme = "dpop"

// caller reads an Authorization header (RFC 6750 §2.1, RFC 9449 §7.1). The
// problem is the same whether there is no bearer, one of no use or one that
// nobody has; only whoever was evicted is told so. The bearer of a device with a
// key is nothing without a proof of that key.
func (h *handlers) caller(r *request, authorization string) (c caller, refused *problem) {
	scheme, bearer, _ := strings.Cut(authorization, " ")
	bearer = strings.TrimSpace(bearer)
	bound := strings.EqualFold(scheme, dpopScheme)
	if !bound && !strings.EqualFold(scheme, bearerScheme) || bearer == "" || len(bearer) > maxBearer {
		return c, nobody()
	}
	n, device, err := h.Devices.ByBearer(bearer)
	switch {
	case errors.Is(err, registry.ErrEvicted):
		return c, newProblem(http.StatusUnauthorized, codeEvicted, "somebody else has proven the number since: this device gets nothing more until its user proves it again")
	case errors.Is(err, registry.ErrNotFound):
		return c, nobody()
	case err != nil:
		h.Log.Error("registry did not answer an app", "error", err)
		return c, tryAgain()
	}
	r.using = sha256.Sum256([]byte(bearer))
	if bound != (device.Thumbprint != [32]byte{}) {
		return c, nobody()
	}
	if bound {
		thumbprint, err := h.proven(r, bearer)
		if err != nil {
			return c, newProblem(http.StatusUnauthorized, codeDPoP, "DPoP header: "+err.Error())
		}
		if thumbprint != device.Thumbprint {
			return c, nobody()
		}
	}
	return caller{n, device}, nil
}

func nobody() *problem {
	return newProblem(http.StatusUnauthorized, codeUnauthorized, "send the device's bearer as Authorization: Bearer …, or DPoP … for a device with a key")
}
