package page

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"shunt/gateway/audit"
	"shunt/gateway/noc"
)

const (
	maxForm     = 4 << 10
	triesAtOnce = 5
	triesEvery  = 10 * time.Second
	maxSources  = 1024
)

// tries bounds how often an address may type a token. It is kept in memory; an
// address that finds no room shares one limit with all of its kind.
type tries struct {
	mu      sync.Mutex
	sources map[netip.Prefix]*rate.Limiter
	rest    *rate.Limiter
}

func newLimit() *rate.Limiter { return rate.NewLimiter(rate.Every(triesEvery), triesAtOnce) }

func (t *tries) allow(addr string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sources == nil {
		t.sources, t.rest = make(map[netip.Prefix]*rate.Limiter), newLimit()
	}
	p := sourceOf(addr)
	l := t.sources[p]
	if l == nil && len(t.sources) >= maxSources {
		for q, old := range t.sources {
			if old.TokensAt(now) >= triesAtOnce { // as good as new
				delete(t.sources, q)
			}
		}
	}
	switch {
	case l != nil:
	case len(t.sources) >= maxSources:
		l = t.rest
	default:
		l = newLimit()
		t.sources[p] = l
	}
	return l.AllowN(now, 1)
}

// sourceOf is an IPv4 address or an IPv6 /64, as for the limits of binds.
func sourceOf(addr string) netip.Prefix {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := a.Addr().Unmap().WithZone(""), 64
	if ip.Is4() {
		bits = 32
	}
	p, _ := ip.Prefix(bits) // the bits are right
	return p
}

// act guards what an operator switches: the request comes from the page itself,
// its address has tries left, and the token is right. Then it goes the way of
// the control socket, with a line of the audit before and after it.
func (p *Page) act(name string, do func(ctx context.Context, r *http.Request) error) http.HandlerFunc {
	sameOrigin := http.NewCrossOriginProtection()
	return func(w http.ResponseWriter, r *http.Request) {
		if err := sameOrigin.Check(r); err != nil {
			p.say(w, r, http.StatusForbidden, "That did not come from this page: nothing was changed.")
			return
		}
		if !p.tries.allow(r.RemoteAddr, time.Now()) {
			w.Header().Set("Retry-After", "10")
			p.say(w, r, http.StatusTooManyRequests, "Too many tries from this address: nothing was changed. Wait ten seconds.")
			return
		}
		kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil || kind != "application/x-www-form-urlencoded" {
			p.say(w, r, http.StatusBadRequest, "That is not what the form of this page sends: nothing was changed.")
			return
		}
		got := sha256.Sum256([]byte(r.PostForm.Get("token")))
		if subtle.ConstantTimeCompare(got[:], p.token[:]) != 1 {
			p.o.Log.Warn("page: wrong token, nothing was switched", "source", sourceOf(r.RemoteAddr).String(), "route", r.Pattern)
			p.say(w, r, http.StatusForbidden, "The token is wrong: nothing was changed.")
			return
		}
		if err := p.recorded(name, r, do); err != nil {
			status := http.StatusInternalServerError
			if problem := new(noc.Problem); errors.As(err, &problem) {
				status = problem.Status
			}
			p.say(w, r, status, err.Error())
			return
		}
		p.o.Log.Info("switched on the page", "source", sourceOf(r.RemoteAddr).String(), "route", r.Pattern)
		p.stale()
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}

// recorded does what the audit has taken down: without that it must not be done,
// unless it only makes things safe.
func (p *Page) recorded(name string, r *http.Request, do func(ctx context.Context, r *http.Request) error) error {
	if p.o.Audit == nil {
		return do(r.Context(), r)
	}
	detail, safe := "", name == "drain"
	if name == "divert" {
		mode := r.PostForm.Get("mode")
		if err := noc.CheckMode(mode); err != nil {
			return err
		}
		detail, safe = "mode="+mode, mode == "off"
	}
	who := audit.Actor{UID: -1, User: "(page) " + sourceOf(r.RemoteAddr).String()}
	action, err := p.o.Audit.Begin(who, name, detail, safe)
	if err != nil {
		return fmt.Errorf("%w: nothing was changed. Divert off and drain are obeyed all the same", err)
	}
	err = do(r.Context(), r)
	action.End("", noc.ResultOf(err))
	return err
}

// stale has the next look take a new snapshot.
func (p *Page) stale() {
	p.mu.Lock()
	p.last = nil
	p.mu.Unlock()
}

func (p *Page) divert(ctx context.Context, r *http.Request) error {
	return noc.SetDivert(ctx, p.o.Gateway, r.PostForm.Get("mode"))
}

func (p *Page) drain(on bool) func(context.Context, *http.Request) error {
	return func(context.Context, *http.Request) error {
		p.o.Gateway.SetDrain(on)
		return nil
	}
}
