package spool

import (
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"shunt/gateway/msg"
)

// Stats is what a spool did since Open and what it holds now.
type Stats struct {
	Live        map[msg.State]int // live messages by state; states with none are missing
	LiveTotal   int
	ReceiptsDue int // live messages of which only the receipt is left
	Queued      int // items that wait for the committer
	Max         int // live messages that fit

	Puts, Events, Replays, Refused, Superseded uint64
	Full                                       uint64 // puts refused because the spool was full
	Withdrawn                                  uint64 // puts given back because the disk did not answer
	GivenUp                                    uint64 // puts answered while their commit was under way
	Stalled                                    bool   // the disk does not answer
	Outcomes, OutcomesTaken                    uint64 // numbers of the last end, and of the last that is on record elsewhere
	Finals                                     map[msg.State]uint64

	Replies                                          int    // of the app's, that no ESME has taken yet
	RepliesDelivered, RepliesRefused, RepliesGivenUp uint64 // by their last part; given up: nobody took them in time

	Commits     uint64
	CommitTime  time.Duration // of all commits, the fsync included
	CommitMax   time.Duration
	CommitLast  time.Duration
	Failures    uint64 // commits and reservations that failed
	Doubtful    int    // messages whose state on disk a failed commit left open
	SetAside    uint64 // records that could not be read
	LastError   error
	LastErrorAt time.Time
}

// counters are the sums behind Stats. The committer adds, anyone reads.
type counters struct {
	full, bad          atomic.Uint64
	withdrawn, givenUp atomic.Uint64

	mu  sync.Mutex
	sum Stats
}

func (c *counters) init() { c.sum.Finals = make(map[msg.State]uint64) }

// batch adds a batch that was committed, or needed no commit.
func (c *counters) batch(b *batch, wrote bool, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wrote {
		c.sum.Commits++
		c.sum.CommitTime += took
		c.sum.CommitLast = took
		c.sum.CommitMax = max(c.sum.CommitMax, took)
	}
	for i := range b.outs {
		c.outcome(&b.outs[i])
	}
	for i := range b.also {
		c.outcome(&b.also[i])
	}
}

func (c *counters) outcome(o *outcome) {
	switch {
	case o.dead:
	case o.changed && o.from == msg.None:
		c.sum.Puts++
	case o.changed:
		c.sum.Events++
	case o.replayed:
		c.sum.Replays++
	case errors.Is(o.err, ErrSuperseded):
		c.sum.Superseded++
	case o.err != nil:
		c.sum.Refused++
	}
	if o.changed && o.rec.State != o.from && o.rec.State.Final() {
		c.sum.Finals[o.rec.State]++
	}
}

// settled notes that nothing is doubtful any more.
func (c *counters) settled() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sum.Doubtful = 0
}

// failed notes what the disk said; doubtful is left as it is where negative.
func (c *counters) failed(err error, at time.Time, doubtful int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sum.Failures++
	if doubtful >= 0 {
		c.sum.Doubtful = doubtful
	}
	c.sum.LastError, c.sum.LastErrorAt = err, at
}

// Stats is a snapshot; it costs a few map entries.
func (s *Spool) Stats() Stats {
	s.stats.mu.Lock()
	st := s.stats.sum
	st.Finals = maps.Clone(st.Finals)
	s.stats.mu.Unlock()
	st.Full, st.SetAside, st.Max = s.stats.full.Load(), s.stats.bad.Load(), s.o.Max
	st.Withdrawn, st.GivenUp, st.Stalled = s.stats.withdrawn.Load(), s.stats.givenUp.Load(), s.stalled.Load()
	st.Outcomes, st.OutcomesTaken = s.outcomeSeq.Load(), s.outcomesTaken.Load()
	s.queueMu.Lock()
	st.Queued = len(s.queue)
	s.queueMu.Unlock()
	s.replies.mu.Lock()
	st.Replies, st.RepliesDelivered, st.RepliesRefused, st.RepliesGivenUp = len(s.replies.live), s.replies.delivered, s.replies.refused, s.replies.givenUp
	s.replies.mu.Unlock()
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	st.Live = make(map[msg.State]int)
	for state, n := range s.index.states {
		if n > 0 {
			st.Live[msg.State(state)] = n
		}
	}
	st.LiveTotal, st.ReceiptsDue = s.index.byID.len(), s.index.receipts
	return st
}
