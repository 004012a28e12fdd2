package spool

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
)

// spread lets what happened to a part happen to the other parts of its long
// message, in the same commit: the committer takes the letter as one message
// until the carrier has it.
func (b *batch) spread(it *item, out *outcome) {
	if it.body != nil {
		b.join(out)
		return
	}
	if !shared(out.from, it.event.Kind) {
		return
	}
	for _, i := range b.members(out.rec.Group) {
		if i != out.at {
			b.toPart(i, it.event)
		}
	}
}

// join takes a new part into its long message. If it is the last that was
// missing, all of them become one message for the app. A part that comes when
// the others have gone further, one that its ESME repeats, goes after them.
func (b *batch) join(out *outcome) {
	members := b.members(out.rec.Group)
	for _, i := range members {
		if r := b.drafts[i].rec; i != out.at && (r.State != msg.Held || r.Hold == msg.HoldTurn) {
			b.follow(out.at, &r)
			return
		}
	}
	var there [256]bool
	missing := int(out.rec.Total)
	earliest := out.rec.ExpiresAt
	for _, i := range members {
		r := &b.drafts[i].rec
		if r.Total == out.rec.Total && !there[r.Number] {
			there[r.Number] = true
			missing--
		}
		if r.ExpiresAt.Before(earliest) {
			earliest = r.ExpiresAt
		}
	}
	if missing > 0 {
		return
	}
	e := Event{
		Kind: msg.EvComplete, ClaimBy: claimBefore(b.drafts[out.at].body.ClaimBy, earliest, b.now),
		Wait: b.waits(&b.drafts[out.at].rec),
	}
	for _, i := range members {
		b.toPart(i, e)
	}
}

// claimBefore keeps a quarter of what is left of the shortest validity for the
// SMS.
func claimBefore(claimBy, expires, now time.Time) time.Time {
	if limit := expires.Add(-expires.Sub(now) / 4); limit.Before(claimBy) {
		return limit
	}
	return claimBy
}

// follow lets the part i go the way of another part r of its long message.
func (b *batch) follow(i int, r *Record) {
	events := []Event{{Kind: msg.EvComplete, ClaimBy: r.ClaimBy, Wait: r.State == msg.Held}}
	switch {
	case undecided(r.State), r.State == msg.Held:
	case r.State == msg.Claimed:
		events = append(events, Event{Kind: msg.EvClaim, Device: r.Device})
	case r.State == msg.Delivered:
		events = append(events, Event{Kind: msg.EvClaim, Device: r.Device},
			Event{Kind: msg.EvDelivered, Device: r.Device, DoneAt: r.DoneAt})
	default:
		events = []Event{{Kind: msg.EvHoldDeadline, Reason: msg.ReasonIncomplete}}
	}
	for _, e := range events {
		b.toPart(i, e)
	}
}

// toPart applies an event to one part, where the table has it.
func (b *batch) toPart(i int, e Event) {
	d := &b.drafts[i]
	e.ID = d.rec.ID
	if e.At.IsZero() {
		e.At = b.now
	}
	from := d.rec.State
	to, verdict := Next(&d.rec, &e)
	if verdict != Applied {
		return
	}
	d.rec.apply(&e, to)
	b.changed(i, &e, from)
	b.also = append(b.also, outcome{at: i, rec: b.drafts[i].rec, from: from, changed: true, event: e})
}

// members are the drafts of the live parts of a long message, by number.
func (b *batch) members(group msg.ID) []int {
	all := slices.Clone(b.parts[group])
	for _, e := range b.s.index.groups[group] {
		if i, err := b.find(e.id); err == nil {
			all = append(all, i)
		}
	}
	slices.SortFunc(all, func(x, y int) int {
		p, q := &b.drafts[x].rec, &b.drafts[y].rec
		return cmp.Or(cmp.Compare(p.Number, q.Number), compare(p.ID, q.ID))
	})
	return all
}

// Messages is what an app is to read of a message: the message as
// it was put, or all parts of its long message by number, of a part that came
// twice the first. The parts may lack one that is not there.
func (s *Spool) Messages(id msg.ID) ([]*Message, error) {
	m, err := s.Message(id)
	if err != nil || m.Total == 0 {
		return []*Message{m}, err
	}
	var parts []*Message
	err = s.view(func(txn *badger.Txn) error {
		prefix := idKey(kGroup, m.Group)
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			id, ok := idOf(it.Item().Key(), len(prefix))
			if !ok {
				return errShort
			}
			fields, err := getFields(txn, idKey(kBody, id))
			if errors.Is(err, ErrNotFound) { // of a put that failed, or past its retention
				continue
			}
			if err != nil {
				return err
			}
			p, err := decodeBody(id, fields)
			if err != nil {
				return err
			}
			parts = append(parts, p)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("parts of %s: %w", m.Group, err)
	}
	slices.SortStableFunc(parts, func(p, q *Message) int { return cmp.Compare(p.Number, q.Number) })
	return slices.CompactFunc(parts, func(p, q *Message) bool { return p.Number == q.Number }), nil
}
