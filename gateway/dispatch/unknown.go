package dispatch

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"shunt/gateway/msg"
	"shunt/store/spool"
)

const (
	// unknownRest is how long an SMS of unknown fate waits for a receipt that
	// tells of it, before it is sent again; longestUnknown is the longest that
	// doubling makes of it.
	unknownRest    = 10 * time.Second
	longestUnknown = 10 * time.Minute
	// unclaimedAfter is how long a receipt with an id that nobody knows is left
	// to a submit_sm_resp that may be late, before its addresses count.
	unclaimedAfter = 2 * time.Second
	// suspectGrace is how long after a message's validity a receipt of its SMS
	// may still come.
	suspectGrace = 10 * time.Minute
)

// pair is the recipient and the sender of an SMS, digits without "+".
type pair struct{ to, from string }

func pairOf(to, from string) pair {
	return pair{strings.TrimPrefix(to, "+"), strings.TrimPrefix(from, "+")}
}

func pairOfRecord(r *spool.Record) pair {
	return pairOf(strconv.FormatUint(uint64(r.To), 10), r.From)
}

// unknowns are the messages of which an SMS was written and never answered, by
// their addresses. The SMSC may have taken such an SMS under an id that never
// came: then a receipt with an unknown id comes from its recipient to its
// sender. A message that was sent again stays, until its validity is over: a
// receipt of its first copy must not be taken for that of another message.
type unknowns struct {
	mu sync.Mutex
	m  map[pair][]suspect
}

type suspect struct {
	id   msg.ID
	open bool // its fate is unknown; else it was sent again, or has its outcome
}

// set notes a message, and tells whether it is new.
func (u *unknowns) set(p pair, id msg.ID, open bool) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.m == nil {
		u.m = make(map[pair][]suspect)
	}
	for i := range u.m[p] {
		if s := &u.m[p][i]; s.id == id {
			s.open = open
			return false
		}
	}
	u.m[p] = append(u.m[p], suspect{id, open})
	return true
}

// take finds the message that a receipt tells of. Several messages between
// the same two cannot be told apart: then it finds none, and they are sent
// again.
func (u *unknowns) take(p pair) (msg.ID, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.m[p]
	if len(s) != 1 || !s[0].open {
		return msg.ID{}, false
	}
	s[0].open = false
	return s[0].id, true
}

// drop forgets a message: no receipt of any copy is to be expected any more.
func (u *unknowns) drop(p pair, id msg.ID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	left := slices.DeleteFunc(u.m[p], func(s suspect) bool { return s.id == id })
	if len(left) == 0 {
		delete(u.m, p)
	} else {
		u.m[p] = left
	}
}
