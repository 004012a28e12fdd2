package spool

import (
	"slices"
	"sync/atomic"
	"time"

	"shunt/gateway/msg"
)

// A message that is put and waits too long for its disk is given back to whoever
// put it, so that it can go by carrier within the same submit. That is safe only
// as long as the committer has not handed it to Badger: from then on nobody
// knows what of it is on disk. Such a message waits longer; then its ESME is
// told that it was not taken, and if the commit succeeds after all, the next one
// ends the message before anything has come of it.

// Where a put stands.
const (
	putQueued    = iota
	putBegun     // handed to Badger
	putAnswered  // its caller knows what came of it
	putWithdrawn // answered with ErrStalled before it begun
	putGivenUp   // answered with ErrUnsure while it was begun
)

// ticket is the caller's side of a message that is put. Its state is shared by the
// committer and the watcher.
type ticket struct {
	done  func(error)
	since time.Time // when it was queued, on the monotonic clock
	state atomic.Uint32
}

// begin is the committer's: from here on the put cannot be withdrawn.
func (p *ticket) begin() bool {
	return p.state.CompareAndSwap(putQueued, putBegun) || p.state.Load() != putWithdrawn
}

// answer is the committer's: false if the caller was told otherwise before.
func (p *ticket) answer(err error) bool {
	if !p.state.CompareAndSwap(putBegun, putAnswered) {
		return false
	}
	p.done(err)
	return true
}

// withdraw and giveUp are the watcher's.
func (p *ticket) withdraw() bool {
	if !p.state.CompareAndSwap(putQueued, putWithdrawn) {
		return false
	}
	p.done(ErrStalled)
	return true
}

func (p *ticket) giveUp() bool {
	if !p.state.CompareAndSwap(putBegun, putGivenUp) {
		return false
	}
	p.done(ErrUnsure)
	return true
}

// watch looks after the puts that wait until the spool closes.
func (s *Spool) watch() {
	tick := time.NewTicker(max(s.o.Stall/4, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.relieve(time.Now())
		case <-s.stopped:
			return
		}
	}
}

// commitEnded is the committer's.
func (s *Spool) commitEnded() {
	s.commitBegan.Store(nil)
	if s.stalled.CompareAndSwap(true, false) {
		s.o.Logger.Info("spool's disk answers again")
	}
}

// relieve takes back what has waited for longer than the limits, and has new
// puts refused at once while one commit takes that long.
func (s *Spool) relieve(now time.Time) {
	took := time.Duration(0)
	if began := s.commitBegan.Load(); began != nil {
		took = now.Sub(*began)
	}
	stalled := took > s.o.Stall
	if stalled && s.stalled.CompareAndSwap(false, true) {
		s.o.Logger.Error("spool's disk does not answer, new messages are refused until it does", "for", took)
	}
	var late, unsure []*ticket
	s.queueMu.Lock()
	for _, items := range [...][]item{s.underWay, s.queue} {
		for i := range items {
			p := items[i].put
			switch {
			case p == nil:
			case p.state.Load() == putBegun && took > s.o.GiveUp:
				unsure = append(unsure, p)
			case p.state.Load() == putQueued && (stalled || now.Sub(p.since) > s.o.Stall):
				late = append(late, p)
			}
		}
	}
	s.queueMu.Unlock()
	for _, p := range late {
		if p.withdraw() {
			s.slots.Add(-1)
			s.stats.withdrawn.Add(1)
		}
	}
	for _, p := range unsure {
		if p.giveUp() {
			s.stats.givenUp.Add(1)
		}
	}
	if s.commitBegan.Load() == nil && s.stalled.CompareAndSwap(true, false) { // it ended while this looked
		s.o.Logger.Info("spool's disk answers again")
	}
}

// unsure tells whether a message is on disk whose ESME was told that it was not
// taken. Until it has ended the observer is not told of it.
func (s *Spool) unsure(id msg.ID) bool {
	return slices.ContainsFunc(s.takenBack, func(r Record) bool { return r.ID == id })
}

// takeBack ends the messages that reached the disk after their ESME was told
// otherwise. The other parts of a long message go by carrier, as these will when
// the ESME submits them again.
func (s *Spool) takeBack() {
	if len(s.takenBack) == 0 {
		return
	}
	for i := range s.takenBack {
		s.follow(Event{ID: s.takenBack[i].ID, Kind: msg.EvWithdraw, Reason: msg.ReasonSpoolStalled})
	}
	for i := range s.takenBack {
		r := &s.takenBack[i]
		if !r.Part() {
			continue
		}
		for _, e := range s.index.groups[r.Group] {
			if s.unsure(e.id) {
				continue
			}
			kind := msg.EvPushDead
			if e.hold() == msg.HoldParts {
				kind = msg.EvHoldDeadline
			}
			s.follow(Event{ID: e.id, Kind: kind, Reason: msg.ReasonIncomplete})
			break // it happens to all
		}
	}
	clear(s.takenBack)
	s.takenBack = s.takenBack[:0]
}

// follow has an event come right after the commit under way.
func (s *Spool) follow(e Event) { s.must = append(s.must, item{event: e, must: true}) }

// Stalled tells whether the disk does not answer: puts are refused.
func (s *Spool) Stalled() bool { return s.stalled.Load() }
