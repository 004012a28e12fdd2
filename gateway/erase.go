package gateway

import (
	"context"
	"time"

	"shunt/gateway/msg"
	"shunt/gateway/noc"
)

// Erase implements noc.Gateway. The registry comes first: from then on nothing
// new is diverted to the number. Call detail records come before the spool, which
// they are written from, and after it, to lose what they hold.
func (c *control) Erase(ctx context.Context, n msg.Number) (e noc.Erased, err error) {
	g := c.g
	if e.Registered, err = g.registry.Erase(ctx, n); err != nil {
		return e, err
	}
	if err = g.records.Settle(ctx); err != nil {
		return e, err
	}
	s, err := g.spool.Erase(ctx, n)
	e.Messages, e.Replies, e.Pending = s.Messages, s.Replies, s.Pending
	if err != nil {
		return e, err
	}
	e.CDRLines, err = g.records.Erase(ctx, n)
	e.At = time.Now().UTC()
	return e, err
}
