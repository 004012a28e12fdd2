package page

import (
	"errors"
	"net/http"
	"strings"

	"shunt/gateway/noc"
	"shunt/store/spool"
)

const (
	maxWhat   = 65 // octets of a message_id (SMPP v3.4 §4.4.2), and of everything that is shorter
	maxTraces = 20
)

// found is what a search brought, numbers masked.
type found struct {
	frame
	Messages []noc.Trace
	Full     bool // there may be more
}

// message shows one message by its id, or the last ones to a number. What was
// asked for is not repeated: it may be a number.
func (p *Page) message(w http.ResponseWriter, r *http.Request) {
	what := strings.TrimSpace(r.URL.Query().Get("id"))
	// A "+" that nobody encoded has become a space.
	if raw := r.URL.Query().Get("id"); strings.HasPrefix(raw, " ") && what != "" {
		what = "+" + what
	}
	switch {
	case what == "":
		p.say(w, r, http.StatusBadRequest, "Enter a message id or a number.")
		return
	case len(what) > maxWhat:
		p.say(w, r, http.StatusBadRequest, "That is too long for a message id (64 characters) or a number.")
		return
	case strings.ContainsFunc(what, func(c rune) bool { return c < ' ' || c > '~' }):
		p.say(w, r, http.StatusBadRequest, "A message id or a number is printable ASCII.")
		return
	}
	select {
	case p.searches <- struct{}{}:
		defer func() { <-p.searches }()
	default:
		w.Header().Set("Retry-After", "1")
		p.say(w, r, http.StatusServiceUnavailable, "Other searches are under way: try again.")
		return
	}
	all, err := noc.FindTraces(p.o.Spool, p.o.Country, what, maxTraces, false)
	var problem *noc.Problem
	switch {
	case errors.Is(err, spool.ErrNotFound), errors.As(err, &problem) && problem.Status == http.StatusNotFound:
		p.say(w, r, http.StatusNotFound, "No diverted message has that id or number. Finished ones are kept for [retention] messages; a forwarded one is never stored.")
		return
	case errors.Is(err, spool.ErrClosed):
		p.say(w, r, http.StatusServiceUnavailable, "The stores are not open: the gateway is stopping, or was started on a full disk. Try again once it has started.")
		return
	case err != nil:
		p.fail(w, r, err)
		return
	}
	b, err := p.render("message.html", found{p.frame, all, len(all) == maxTraces})
	if err != nil {
		p.fail(w, r, err)
		return
	}
	writeHTML(w, http.StatusOK, b)
}
