package noc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Passed is a PDU that somebody watched pass. It holds no text.
type Passed struct {
	At      time.Time `json:"at"`
	ESME    string    `json:"esme"`               // system_id of the bind
	Way     string    `json:"way"`                // esme-to-smsc, smsc-to-esme, esme-to-shunt or shunt-to-esme
	PDU     string    `json:"pdu"`                // its command_id, as submit_sm
	From    string    `json:"from,omitempty"`     // source_addr, masked unless asked for
	To      string    `json:"to,omitempty"`       // destination_addr, likewise
	ESM     int       `json:"esm_class"`          // of a request
	Status  string    `json:"status,omitempty"`   // of an answer, as ESME_ROK
	Message string    `json:"message_id"`         // of an answer or a receipt
	TookMS  float64   `json:"took_ms,omitempty"`  // of an answer: since its request
	Dropped uint64    `json:"dropped,omitempty"`  // so many before this one were not shown: too many at once
	Seq     uint32    `json:"sequence,omitempty"` // as the peer gave it
}

// ErrTooManyWatches says that no further number can be watched.
var ErrTooManyWatches = errors.New("enough numbers are watched already")

// Bounds of one watch.
const (
	defaultWatch = time.Hour
	maxWatch     = 24 * time.Hour
)

// watch answers with a line for each PDU, until the time is over or the operator
// goes.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) (any, error) {
	n, err := s.numberIn(r)
	if err != nil {
		return nil, err
	}
	d := defaultWatch
	if text := r.URL.Query().Get("seconds"); text != "" {
		seconds, err := strconv.Atoi(text)
		if d = time.Duration(seconds) * time.Second; err != nil || d <= 0 || d > maxWatch {
			return nil, problemf(http.StatusBadRequest, CodeInvalid, "seconds: want 1 to %d", int(maxWatch/time.Second))
		}
	}
	if err := s.begin(r, fmt.Sprintf("number=%s for=%s", n.Masked(), d), false); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), d)
	defer cancel()
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := &patientWriter{w}
	begun := false
	begin := func() error {
		begun = true
		answering(w, writeWithin)
		w.WriteHeader(http.StatusOK)
		return rc.Flush()
	}
	e := json.NewEncoder(out)
	clear := unmask(r)
	err = s.o.Gateway.Watch(ctx, n, func(p *Passed) error {
		if !begun {
			if err := begin(); err != nil {
				return err
			}
		}
		if p == nil { // it has begun
			return nil
		}
		p.From, p.To = sender(p.From, clear), sender(p.To, clear)
		if err := e.Encode(p); err != nil {
			return err
		}
		return rc.Flush()
	})
	if !begun {
		if errors.Is(err, ErrTooManyWatches) {
			return nil, problemf(http.StatusConflict, CodeConflict, "%v: end one of them", err)
		}
		return nil, err
	}
	return streamed{}, nil
}

// Watch tells each of what passes to and from a number for that long, or until
// ctx is done.
func (c *Client) Watch(ctx context.Context, number string, d time.Duration, unmask bool, each func(*Passed) error) error {
	q := url.Values{"seconds": {strconv.Itoa(int(d / time.Second))}}
	err := c.stream(ctx, http.MethodGet, "/v1/watch/"+url.PathEscape(number)+"?"+unmasked(q, unmask).Encode(), nil, func(r *http.Response) error {
		var unheard error // of each
		err := events(r.Body, func(p *Passed) (bool, error) {
			unheard = each(p)
			return unheard != nil, nil
		})
		switch {
		case unheard != nil, errors.Is(err, io.EOF):
			return unheard
		case err != nil:
			return fmt.Errorf("control socket %s: the gateway's answer breaks off (%w): see its log", c.socket, plainCause(err))
		}
		return nil
	})
	if ctx.Err() != nil {
		return nil // the operator has seen enough
	}
	return err
}
