package dispatch

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"shunt/gateway/msg"
	"shunt/store/spool"
)

const (
	// unknownRest is how long an SMS of unknown fate waits for a receipt that
	// tells of it, before it is sent again.
	unknownRest = 10 * time.Second
	// unclaimedAfter is how long a receipt with an id that nobody knows is left
	// to a submit_sm_resp that may be late, before its addresses count.
	unclaimedAfter = 2 * time.Second
)

// pair is the recipient and the sender of an SMS, digits without "+".
type pair struct{ to, from string }

func pairOf(to, from string) pair {
	return pair{strings.TrimPrefix(to, "+"), strings.TrimPrefix(from, "+")}
}

func pairOfRecord(r *spool.Record) pair {
	return pairOf(strconv.FormatUint(uint64(r.To), 10), r.From)
}

// unknowns are the messages whose SMS was written and never answered, by their
// addresses. The SMSC may have taken such an SMS under an id that never came:
// then a receipt with an unknown id comes from its recipient to its sender.
type unknowns struct {
	mu sync.Mutex
	m  map[pair][]msg.ID
}

func (u *unknowns) add(r *spool.Record) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.m == nil {
		u.m = make(map[pair][]msg.ID)
	}
	p := pairOfRecord(r)
	u.m[p] = append(u.m[p], r.ID)
}

// take finds the message that a receipt tells of. Several messages between
// the same two cannot be told apart: then it finds none, and they are sent
// again.
func (u *unknowns) take(p pair) (msg.ID, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	ids := u.m[p]
	if len(ids) != 1 {
		return msg.ID{}, false
	}
	delete(u.m, p)
	return ids[0], true
}

// remove forgets a message that is about to be sent again.
func (u *unknowns) remove(r *spool.Record) {
	u.mu.Lock()
	defer u.mu.Unlock()
	p := pairOfRecord(r)
	var left []msg.ID
	for _, id := range u.m[p] {
		if id != r.ID {
			left = append(left, id)
		}
	}
	if len(left) == 0 {
		delete(u.m, p)
	} else {
		u.m[p] = left
	}
}
