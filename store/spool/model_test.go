package spool

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shunt/gateway/msg"
)

// model is what a spool must look like: records and the number of their steps,
// by the table alone.
type model struct {
	records map[msg.ID]*Record
	bodies  map[msg.ID]*Message
	order   []msg.ID
	steps   map[msg.ID]int
}

func newModel() *model {
	return &model{records: map[msg.ID]*Record{}, bodies: map[msg.ID]*Message{}, steps: map[msg.ID]int{}}
}

// post is what Post must answer.
func (m *model) post(e Event) (err error, replay bool) {
	r := m.records[e.ID]
	if r == nil {
		return ErrNotFound, false
	}
	switch r.step(e) {
	case Applied:
		m.steps[e.ID]++
		return nil, false
	case Replayed:
		return nil, true
	case Superseded:
		return ErrSuperseded, false
	}
	return ErrRefused, false
}

// The real spool on a real disk against the model: any events, in batches of
// any size, with stops and starts between them.
func TestAgainstModel(t *testing.T) {
	dir := t.TempDir()
	s := started(t, Options{Dir: dir})
	defer func() { shut(t, s) }()
	base := time.Now().Add(24 * time.Hour).UTC().Round(0)
	rapid.Check(t, func(t *rapid.T) {
		m := newModel()
		clock := base
		drawEvent := func(t *rapid.T) Event {
			clock = clock.Add(time.Second)
			e := Event{
				Kind:   rapid.SampledFrom(msg.Events()).Draw(t, "event"),
				Device: rapid.SampledFrom([]string{"phone", "tablet"}).Draw(t, "device"),
				At:     clock, SMSErr: rapid.SampledFrom([]string{"", "011"}).Draw(t, "err"),
			}
			if len(m.order) > 0 && rapid.IntRange(0, 19).Draw(t, "known") > 0 {
				e.ID = rapid.SampledFrom(m.order).Draw(t, "id")
			} else {
				e.ID = s.NewID()
			}
			if e.Kind == msg.EvReplace {
				x := Message{ID: e.ID, ExpiresAt: base.Add(2 * time.Hour)}
				if old := m.bodies[e.ID]; old != nil {
					x = *old
				}
				x.RegisteredDelivery = rapid.ByteRange(0, 3).Draw(t, "registered")
				e.Replace = &x
			}
			if e.Kind == msg.EvSMSAccepted {
				e.Peer, e.SMSID = "own", e.ID.String()
			}
			return e
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				x := message(s, base)
				x.ExpiresAt, x.ClaimBy = base.Add(time.Hour), base.Add(time.Hour)
				x.RegisteredDelivery = rapid.ByteRange(0, 3).Draw(t, "registered")
				x.Prefer = rapid.SampledFrom([]msg.Prefer{msg.PossibleLoss, msg.PossibleDuplicate}).Draw(t, "prefer")
				if err := tryPut(s, x); err != nil {
					t.Fatalf("Put = %v", err)
				}
				got, err := s.Get(x.ID)
				want := newRecord(x)
				want.State, want.Since = msg.Accepted, got.Since
				if err != nil || got != want {
					t.Fatalf("Get after Put = %v (-want +got):\n%s", err, cmp.Diff(want, got))
				}
				m.bodies[x.ID] = x
				m.records[x.ID], m.order = &want, append(m.order, x.ID)
				m.steps[x.ID] = 1
			},
			"post": func(t *rapid.T) {
				n := rapid.IntRange(1, 20).Draw(t, "n")
				got := make(chan Result, n)
				var want []Result
				for range n {
					e := drawEvent(t)
					err, replay := m.post(e)
					w := Result{Err: err, Replay: replay}
					if r := m.records[e.ID]; r != nil {
						w.Record = *r
					}
					want = append(want, w)
					s.Post(e, func(r Result) { got <- r })
				}
				for i, w := range want {
					g := <-got
					if !errors.Is(g.Err, w.Err) || g.Replay != w.Replay || g.Record != w.Record {
						t.Fatalf("event %d of %d: %v, replay %t; want %v, %t (-want +got):\n%s",
							i, n, g.Err, g.Replay, w.Err, w.Replay, cmp.Diff(w.Record, g.Record))
					}
				}
			},
			"reopen": func(t *rapid.T) {
				if rapid.IntRange(0, 19).Draw(t, "really") > 0 {
					return
				}
				if err := s.Close(); err != nil {
					t.Fatalf("Close = %v", err)
				}
				var err error
				if s, err = Open(Options{Dir: dir, memTable: testMemTable}); err != nil {
					t.Fatalf("Open = %v", err)
				}
				s.Start()
			},
			"": func(t *rapid.T) { m.check(t, s) },
		})
		for _, id := range m.order {
			steps, err := s.Trace(id)
			if err != nil || len(steps) != m.steps[id] {
				t.Fatalf("Trace(%s): %d steps, %v; want %d", id, len(steps), err, m.steps[id])
			}
			checkTrace(t, steps)
			// The next round begins with an empty live set.
			for _, e := range []Event{{Kind: msg.EvSMSPermanent}, {Kind: msg.EvValidity}, {Kind: msg.EvReceiptDone}} {
				e.ID = id
				s.Do(context.Background(), e)
			}
		}
	})
}

// check compares everything that can be asked.
func (m *model) check(t *rapid.T, s *Spool) {
	var live, waiting []msg.ID
	for _, id := range m.order {
		r := m.records[id]
		got, err := s.Get(id)
		if err != nil || got != *r {
			t.Fatalf("Get(%s) = %v (-want +got):\n%s", id, err, cmp.Diff(*r, got))
		}
		if r.live() {
			live = append(live, id)
		}
		if undecided(r.State) || r.State == msg.Claimed {
			waiting = append(waiting, id)
		}
		corr, ok := s.Correlate("own", id.String())
		if want := r.live() && r.SMSID != ""; ok != want || ok && corr != id {
			t.Fatalf("Correlate(%s in %s) = %s, %t; want %t", id, r.State, corr, ok, want)
		}
	}
	var gotLive, gotWaiting []msg.ID
	for r := range s.Live {
		gotLive = append(gotLive, r.ID)
	}
	for _, r := range s.ByNumber(testNumber, msg.ID{}, 0) {
		gotWaiting = append(gotWaiting, r.ID)
	}
	if d := cmp.Diff(live, gotLive); d != "" {
		t.Fatalf("Live (-want +got):\n%s", d)
	}
	if d := cmp.Diff(waiting, gotWaiting); d != "" {
		t.Fatalf("ByNumber (-want +got):\n%s", d)
	}
	if st := s.Stats(); st.LiveTotal != len(live) || int(s.slots.Load()) != len(live) {
		t.Fatalf("Stats: %d live, %d places; want %d", st.LiveTotal, s.slots.Load(), len(live))
	}
}

// checkTrace holds a trace against what must be true of every message: it
// hangs together, at most one side won unless a lease ran out, and it became
// final once.
func checkTrace(t *rapid.T, steps []Step) {
	claims, falls, leases, finals := 0, 0, 0, 0
	for i, st := range steps {
		if i > 0 && st.From != steps[i-1].To {
			t.Fatalf("step %d begins in %s, the one before ended in %s", i, st.From, steps[i-1].To)
		}
		switch {
		case st.Event == msg.EvClaim:
			claims++
		case st.Event == msg.EvLease:
			leases++
		case st.To == msg.Fallback && st.From != msg.Fallback:
			falls++
		}
		if st.To.Final() && st.From != st.To {
			finals++
		}
	}
	if claims+falls > 1 || leases > claims || finals > 1 {
		t.Fatalf("%d claims, %d fallbacks, %d leases, %d ends", claims, falls, leases, finals)
	}
}
