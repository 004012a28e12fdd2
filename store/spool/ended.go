package spool

import (
	"sync"
	"time"

	"shunt/gateway/msg"
)

// ended are the records of the messages that ended last, for a few seconds: what
// follows from an end, its call detail record above all, need not be read from
// disk. It is safe for concurrent use.
type ended struct {
	mu    sync.Mutex
	byID  map[msg.ID]*lately
	order [maxEnded]msg.ID // a ring; next is the oldest
	next  int
}

type lately struct {
	r     Record
	until time.Time
}

const (
	maxEnded = 4096
	endedFor = 5 * time.Second
)

func (x *ended) add(r *Record, until time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.byID == nil {
		x.byID = make(map[msg.ID]*lately)
	}
	if l := x.byID[r.ID]; l != nil { // it ended, and was read later
		*l = lately{*r, until}
		return
	}
	delete(x.byID, x.order[x.next])
	x.byID[r.ID] = &lately{*r, until}
	x.order[x.next] = r.ID
	x.next = (x.next + 1) % maxEnded
}

func (x *ended) get(id msg.ID, now time.Time) (Record, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if l := x.byID[id]; l != nil && now.Before(l.until) {
		return l.r, true
	}
	return Record{}, false
}

// drop lets go of one message, one that lives again or is erased.
func (x *ended) drop(id msg.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.byID, id) // its place in the ring runs out by itself
}

// clear lets go of all of them.
func (x *ended) clear() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.byID = nil
}
