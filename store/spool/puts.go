package spool

import (
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
}

// takeBack ends a message that reached the disk after its ESME was told
// otherwise. Whatever was to follow from it has not been told to the observer.
// The other parts of a long message go by carrier, as this one will when its
// ESME submits it again.
func (s *Spool) takeBack(r *Record) {
	s.push(item{event: Event{ID: r.ID, Kind: msg.EvWithdraw, Reason: msg.ReasonSpoolStalled}})
	if r.Part() {
		s.push(item{event: Event{ID: r.Group, Kind: msg.EvPushDead, Reason: msg.ReasonIncomplete}})
	}
}

// Stalled tells whether the disk does not answer: puts are refused.
func (s *Spool) Stalled() bool { return s.stalled.Load() }
