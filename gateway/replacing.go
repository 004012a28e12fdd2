package gateway

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"shunt/gateway/msg"
	"shunt/gateway/upstream"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// replaceWithin is how long a message with replace_if_present_flag waits for
// the disk: a little longer than a message that is put.
const replaceWithin = 3 * time.Second

// divertReplacing takes a message with replace_if_present_flag: it goes the way
// of any other, but for the messages that it replaces, those of the same
// account, source, destination and service_type that nobody has yet (SMPP v3.4
// §5.2.18). They are cancelled, and have their receipts. If there are none, the
// SMSC may have what is to be replaced, and gets it.
//
// An ESME waits for no answer: what it submitted before on this bind may be on
// its way to the disk, and is replaced like the rest.
func (g *Gateway) divertReplacing(s *submission, p pdu.PDU) bool {
	b := s.bind
	k := replacingKey{b.Account, s.to}
	if !b.Holds() && !g.replacing.has(k) && len(g.unheard(b, s.to, s.m)) == 0 {
		g.forward(b, p, msg.ReasonReplace)
		return false
	}
	b.Hold()
	select {
	case g.lookups <- struct{}{}:
	default:
		b.Answer(pdu.AppendHeader(nil, p.ID().Response(), pdu.RTHROTTLED, p.Seq()))
		return true
	}
	p = bytes.Clone(p)
	before, end := g.replacing.begin(k)
	go func() { // it waits for the disk
		defer func() { <-g.lookups }()
		defer end()
		if before != nil {
			<-before
		}
		g.replaceThem(s, p)
	}()
	return true
}

// unheard are the messages of the account with the ends of m that nobody has.
func (g *Gateway) unheard(b *upstream.Bind, to msg.Number, m *pdu.SM) (ids []msg.ID) {
	for _, r := range g.spool.ByNumber(to, msg.ID{}, 0) {
		if r.Account == b.Account && r.From == sender(m.Source) && r.State != msg.Claimed {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// replaceThem replaces those of the messages that fit; s is held, and p is ours.
// It returns when the spool has the new one in its queue, or it went to the SMSC.
func (g *Gateway) replaceThem(s *submission, p pdu.PDU) {
	var m pdu.SM
	_ = m.DecodeMessage(p) // it did before
	s.m = &m
	byCarrier := func(r msg.Reason) {
		g.forward(s.bind, p, r)
		s.bind.Pass(p)
	}
	ctx, cancel := context.WithTimeout(context.Background(), replaceWithin)
	defer cancel()
	if g.spool.Stalled() {
		cancel() // what it waits for takes effect later
	}
	sure := g.settled(ctx)
	var ids []msg.ID
	for _, id := range g.unheard(s.bind, s.to, &m) {
		if g.ofService(id, string(m.ServiceType)) {
			ids = append(ids, id)
		}
	}
	taken, all := g.takeBackAll(ctx, ids)
	switch {
	case !sure, !all: // the old ones are taken back when the disk answers
		byCarrier(msg.ReasonSpoolStalled)
		return
	case taken == 0:
		byCarrier(msg.ReasonReplace)
		return
	}
	m.ReplaceIfPresent = 0 // it has
	v := g.judge(s)
	if !v.Divert {
		byCarrier(v.Reason)
		return
	}
	g.spoolHeld(s.bind, p.ID().Response(), p.Seq(), g.message(s, &v, p), nil)
}

// settled waits until all that was put so far is in the index, or refused: an
// event about nothing comes back behind it.
func (g *Gateway) settled(ctx context.Context) bool {
	r := g.spool.Do(ctx, spool.Event{ID: g.spool.NewID(), Kind: msg.EvCancel})
	return errors.Is(r.Err, spool.ErrNotFound)
}

// takeBackAll cancels messages, and tells how many of them nobody had, and
// whether that is known of all when ctx ends.
func (g *Gateway) takeBackAll(ctx context.Context, ids []msg.ID) (taken int, all bool) {
	done := make(chan bool, len(ids))
	for _, id := range ids {
		g.spool.Post(spool.Event{ID: id, Kind: msg.EvCancel, Reason: msg.ReasonReplaced}, func(r spool.Result) {
			done <- r.Err == nil && !r.Replay
		})
	}
	for range ids {
		select {
		case ok := <-done:
			if ok {
				taken++
			}
		case <-ctx.Done():
			return taken, false
		}
	}
	return taken, true
}

// replacing lets messages with replace_if_present_flag between the same ends go
// one after the other, in the order in which they came. The zero replacing is
// empty. It is safe for concurrent use.
type replacing struct {
	mu   sync.Mutex
	last map[replacingKey]chan struct{} // closed when the last one has ended
}

type replacingKey struct {
	account msg.Account
	to      msg.Number
}

func (r *replacing) has(k replacingKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last[k] != nil
}

// begin queues one: before, if it is not nil, is closed when those before it
// have ended. end ends it.
func (r *replacing) begin(k replacingKey) (before <-chan struct{}, end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = make(map[replacingKey]chan struct{})
	}
	mine := make(chan struct{})
	if last := r.last[k]; last != nil {
		before = last
	}
	r.last[k] = mine
	return before, func() {
		close(mine)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.last[k] == mine {
			delete(r.last, k)
		}
	}
}
