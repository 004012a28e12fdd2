package noc

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Erased is what the erasure of one person did.
type Erased struct {
	Number     string `json:"number"` // masked unless asked for
	Registered bool   `json:"registered"`
	Messages   int    `json:"messages"`  // of the spool
	Replies    int    `json:"replies"`   // of the app's
	CDRLines   int    `json:"cdr_lines"` // out of which the number was taken
	// Pending are messages that have no outcome yet, receipts and replies that
	// their ESME has not taken: they stay, and the same call erases them later.
	Pending int       `json:"pending"`
	At      time.Time `json:"at"` // backups that were made before still hold the number
}

// eraseWithin bounds an erasure: it reads every record once.
const eraseWithin = 30 * time.Minute

// erase answers once nothing of the number is left but what is pending.
func (s *Server) erase(w http.ResponseWriter, r *http.Request) (any, error) {
	n, err := s.numberIn(r)
	if err != nil {
		return nil, err
	}
	if err := s.begin(r, "number="+n.Masked(), false); err != nil {
		return nil, err
	}
	answering(w, eraseWithin+writeWithin)
	ctx, cancel := context.WithTimeout(r.Context(), eraseWithin)
	defer cancel()
	e, err := s.o.Gateway.Erase(ctx, n)
	if err != nil {
		s.o.Log.Error("control socket: a number was not erased whole, erase it again", "number", n.Masked(), "error", err)
		return nil, problemf(http.StatusInternalServerError, CodeInternal, "some of %s may be left (%v): see to the cause, then erase it again", shown(n, unmask(r)), err)
	}
	e.Number = shown(n, unmask(r))
	s.o.Log.Warn("control socket: a number was erased", "number", n.Masked(), "registered", e.Registered,
		"messages", e.Messages, "replies", e.Replies, "cdr_lines", e.CDRLines, "pending", e.Pending)
	return e, nil
}

// Erase removes a person everywhere; see Erased. ctx alone bounds its time.
func (c *Client) Erase(ctx context.Context, number string, unmask bool) (e Erased, err error) {
	if err := c.there(ctx); err != nil {
		return e, err
	}
	path := "/v1/registry/" + url.PathEscape(number) + "/erase"
	if q := unmasked(nil, unmask); q != nil {
		path += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://noc"+path, nil)
	if err != nil {
		return e, err
	}
	return e, c.do(req, &e)
}
