package noc

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"shunt/gateway/msg"
)

// Drain is how far a node is that finishes what it has and takes nothing new.
type Drain struct {
	Draining     bool   `json:"draining"`
	Done         bool   `json:"done"`          // nothing is left that this node can finish
	Pending      int    `json:"pending"`       // diverted messages that have not ended
	Unanswered   int    `json:"unanswered"`    // requests on ESMEs' binds without a response
	Receipts     int    `json:"receipts"`      // receipts that a bound ESME can take
	ReceiptsKept int    `json:"receipts_kept"` // receipts of ESMEs without a bind that receives: they stay on disk
	Binds        int    `json:"binds"`         // of ESMEs
	Refused      uint64 `json:"refused"`       // submits, since the start of the process
	BindsRefused uint64 `json:"binds_refused"`
}

// QueueKey is what a row of the queue is about.
type QueueKey struct {
	State   msg.State `json:"state"`
	Plan    string    `json:"plan"` // by whose name they were diverted; "" if an earlier version did
	App     string    `json:"app"`
	Account string    `json:"account"`
}

// Queue counts the live messages of one state, plan, app and account.
type Queue struct {
	QueueKey
	Messages    int       `json:"messages"`
	ReceiptsDue int       `json:"receipts_due"` // ended, and only the receipt is left
	Oldest      time.Time `json:"oldest"`
}

// SortQueue orders rows by state, plan, app and account.
func SortQueue(all map[QueueKey]*Queue) []Queue {
	rows := make([]Queue, 0, len(all))
	for q := range maps.Values(all) {
		rows = append(rows, *q)
	}
	slices.SortFunc(rows, func(a, b Queue) int {
		return cmp.Or(cmp.Compare(a.State, b.State), cmp.Compare(a.Plan, b.Plan), cmp.Compare(a.App, b.App), cmp.Compare(a.Account, b.Account))
	})
	return rows
}

type (
	drainBody struct {
		Drain bool `json:"drain"`
	}
	queueBody struct {
		Queue []Queue `json:"queue"`
	}
)

func (s *Server) drain(http.ResponseWriter, *http.Request) (any, error) {
	return s.o.Gateway.Drain(), nil
}

func (s *Server) setDrain(w http.ResponseWriter, r *http.Request) (any, error) {
	var b drainBody
	if err := readJSON(w, r, &b); err != nil {
		return nil, err
	}
	if !b.Drain {
		deedOf(r).name = "undrain"
	}
	if err := s.begin(r, "", b.Drain); err != nil {
		return nil, err
	}
	return s.o.Gateway.SetDrain(b.Drain), nil
}

func (s *Server) queue(http.ResponseWriter, *http.Request) (any, error) {
	return queueBody{s.o.Gateway.Queue()}, nil
}

// Drain tells how far the node is.
func (c *Client) Drain(ctx context.Context) (d Drain, err error) {
	return d, c.call(ctx, http.MethodGet, "/v1/drain", nil, nil, &d)
}

// SetDrain has the node take nothing new, or again.
func (c *Client) SetDrain(ctx context.Context, on bool) (d Drain, err error) {
	return d, c.call(ctx, http.MethodPut, "/v1/drain", nil, drainBody{on}, &d)
}

// Queue is what has not ended.
func (c *Client) Queue(ctx context.Context) ([]Queue, error) {
	var b queueBody
	err := c.call(ctx, http.MethodGet, "/v1/queue", nil, nil, &b)
	return b.Queue, err
}
