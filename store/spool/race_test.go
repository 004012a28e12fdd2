package spool

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shunt/gateway/msg"
)

// 10,000 messages, each with claims of two devices racing against the claim
// timer: exactly one wins, and it is the first that was queued.
func TestOneWinner(t *testing.T) {
	const messages = 10_000
	s := open(t, Options{memTable: 64 << 20})
	ids := make([]msg.ID, messages)
	var stored sync.WaitGroup
	stored.Add(messages)
	for i := range ids {
		m := message(s, time.Now())
		ids[i] = m.ID
		s.Put(m, func(err error) {
			if err != nil {
				t.Errorf("Put = %v", err)
			}
			stored.Done()
		})
	}
	s.Start()
	stored.Wait()
	racers := []Event{
		{Kind: msg.EvClaim, Device: "phone"}, {Kind: msg.EvClaim, Device: "tablet"}, {Kind: msg.EvClaimDeadline},
	}
	// first is the racer whose answer came first: answers come in the order of
	// the queue.
	first := make([]atomic.Int32, messages)
	wins := make([]atomic.Int32, messages)
	var answered, posted sync.WaitGroup
	answered.Add(messages * len(racers))
	for k, racer := range racers {
		// Each racer comes to the messages in an order of its own, and lets the
		// others run after each: who is first is open, however the scheduler
		// treats the goroutines.
		order := rand.New(rand.NewPCG(1, uint64(k))).Perm(messages)
		for part := range 4 {
			posted.Go(func() {
				for _, i := range order[part*messages/4 : (part+1)*messages/4] {
					runtime.Gosched()
					e := racer
					e.ID = ids[i]
					s.Post(e, func(r Result) {
						defer answered.Done()
						isFirst := first[i].CompareAndSwap(0, int32(k+1))
						won := r.Err == nil
						if won {
							wins[i].Add(1)
						}
						if won != isFirst {
							t.Errorf("message %d: %s by %q: first %t, won %t", i, e.Kind, e.Device, isFirst, won)
						}
						lost := errors.Is(r.Err, ErrSuperseded) || errors.Is(r.Err, ErrRefused)
						if !won && !lost {
							t.Errorf("message %d: %v", i, r.Err)
						}
					})
				}
			})
		}
	}
	posted.Wait()
	answered.Wait()
	tally := map[msg.State]int{}
	for i, id := range ids {
		r := get(t, s, id)
		tally[r.State]++
		k := first[i].Load() - 1
		want := msg.Claimed
		if racers[k].Kind == msg.EvClaimDeadline {
			want = msg.Fallback
		}
		if wins[i].Load() != 1 || r.State != want || r.Device != racers[k].Device {
			t.Fatalf("message %d: %d winners, %s by %q; the first was %s by %q", i, wins[i].Load(), r.State, r.Device, racers[k].Kind, racers[k].Device)
		}
	}
	if tally[msg.Claimed] == 0 || tally[msg.Fallback] == 0 {
		t.Errorf("%v: no race was run", tally)
	}
}

// Within one batch as within many: the queue's order decides.
func TestFirstQueuedWinsWithinABatch(t *testing.T) {
	for _, claimFirst := range []bool{true, false} {
		s := open(t, Options{})
		m := message(s, time.Now())
		s.Put(m, nil)
		events := []Event{{ID: m.ID, Kind: msg.EvClaim, Device: "phone"}, {ID: m.ID, Kind: msg.EvClaimDeadline}}
		want, lost := msg.Claimed, ErrRefused
		if !claimFirst {
			events[0], events[1] = events[1], events[0]
			want, lost = msg.Fallback, ErrSuperseded
		}
		got := make(chan error, 2)
		for _, e := range events {
			s.Post(e, func(r Result) { got <- r.Err })
		}
		s.Start()
		wantErr(t, "the first", <-got, nil)
		wantErr(t, "the second", <-got, lost)
		if r := get(t, s, m.ID); r.State != want {
			t.Errorf("state = %s, want %s", r.State, want)
		}
		if c := s.Stats().Commits; c != 1 {
			t.Errorf("%d commits, want one", c)
		}
	}
}

// Readers of every kind while the committer works.
func TestReadersAreSafe(t *testing.T) {
	s := started(t, Options{})
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	var reads atomic.Int64
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var last msg.ID
				for r := range s.Live {
					if compare(r.ID, last) <= 0 {
						t.Errorf("Live: %s after %s", r.ID, last)
					}
					last = r.ID
					if _, err := s.Get(r.ID); err != nil {
						t.Errorf("Get of what was live = %v", err)
					}
				}
				s.ByNumber(testNumber, msg.ID{}, 10)
				s.Correlate("smsc-own", "7")
				s.Stats()
				if _, err := s.Recent(testNumber, 3); err != nil {
					t.Errorf("Recent = %v", err)
				}
				reads.Add(1)
			}
		})
	}
	for w := range 4 {
		writers.Go(func() {
			for i := range 50 {
				m := message(s, time.Now())
				put(t, s, m)
				kinds := []msg.Event{msg.EvClaim, msg.EvDelivered, msg.EvReceiptDone}
				if (i+w)%2 == 0 {
					kinds = []msg.Event{msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSAccepted, msg.EvSMSDelivered, msg.EvReceiptDone}
				}
				for _, e := range path(m.ID, kinds...) {
					if r := s.Do(context.Background(), e); r.Err != nil {
						t.Errorf("%s = %v", e.Kind, r.Err)
					}
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	if st := s.Stats(); st.LiveTotal != 0 || st.Finals[msg.Delivered] != 100 || st.Finals[msg.SMSDelivered] != 100 || reads.Load() == 0 {
		t.Errorf("Stats: %d live, finals %v, %d reads; want 0, 100 of each", st.LiveTotal, st.Finals, reads.Load())
	}
}
