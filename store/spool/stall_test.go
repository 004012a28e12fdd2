package spool

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dgraph-io/badger/v4"
	"pgregory.net/rapid"

	"shunt/gateway/msg"
)

const testStall, testGiveUp = 2 * time.Second, 10 * time.Second

// slowDisk is a disk that does not answer while it is held; then it may fail.
type slowDisk struct {
	failing
	mu   sync.Mutex
	hold chan struct{}
}

func (d *slowDisk) commit(txn *badger.Txn) error {
	d.mu.Lock()
	hold := d.hold
	d.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return d.failing.commit(txn)
}

func (d *slowDisk) stall() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hold = make(chan struct{})
}

// answer lets the commit under way, and all later ones, go on.
func (d *slowDisk) answer() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.hold != nil {
		close(d.hold)
		d.hold = nil
	}
}

// told collects what the observer is told of each message.
type told struct {
	mu    sync.Mutex
	lines map[msg.ID][]string
}

func (l *told) observe(c *Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines == nil {
		l.lines = map[msg.ID][]string{}
	}
	l.lines[c.Record.ID] = append(l.lines[c.Record.ID], fmt.Sprintf("%s: %s → %s", c.Event.Kind, c.From, c.To))
}

func (l *told) of(id msg.ID) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines[id])
}

func (l *told) want(t testing.TB, what string, id msg.ID, want ...string) {
	t.Helper()
	if got := l.of(id); !slices.Equal(got, want) {
		t.Errorf("of %s the observer was told %q, want %q", what, got, want)
	}
}

// onSlowDisk is a spool that runs on one.
func onSlowDisk(t testing.TB, dir string) (*Spool, *slowDisk, *told) {
	d, l := new(slowDisk), new(told)
	s := open(t, Options{Dir: dir, Stall: testStall, GiveUp: testGiveUp, Observe: l.observe})
	s.commit = d.commit
	s.Start()
	return s, d, l
}

// answers are what puts came to, and when.
type answers struct {
	mu    sync.Mutex
	start time.Time
	err   map[msg.ID]error
	after map[msg.ID]time.Duration
}

func newAnswers() *answers {
	return &answers{start: time.Now(), err: map[msg.ID]error{}, after: map[msg.ID]time.Duration{}}
}

func (a *answers) put(t testing.TB, s *Spool, m *Message) {
	at := time.Now()
	s.Put(m, func(err error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if _, ok := a.err[m.ID]; ok {
			t.Errorf("Put of %s was answered twice", m.ID)
		}
		a.err[m.ID], a.after[m.ID] = err, time.Since(at)
	})
}

func (a *answers) of(id msg.ID) (err error, answered bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	err, answered = a.err[id]
	return err, answered
}

func notThere(t testing.TB, s *Spool, what string, id msg.ID) {
	t.Helper()
	_, err := s.Get(id)
	wantErr(t, "Get of "+what, err, ErrNotFound)
	_, err = s.Message(id)
	wantErr(t, "Message of "+what, err, ErrNotFound)
}

// exact compares the places with what is there.
func exact(t rapid.TB, s *Spool) {
	t.Helper()
	if n := s.Stats().LiveTotal; int(s.slots.Load()) != n {
		t.Fatalf("%d places for %d live messages", s.slots.Load(), n)
	}
}

// What waits while the disk does not answer is given back and is never in the
// spool; what is under way is given up, and ended once the disk answers.
func TestStall(t *testing.T) {
	for _, how := range []string{"succeeds", "fails", "fails with its octets on disk"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s, d, l := onSlowDisk(t, dir)
				a := newAnswers()
				old := message(s, a.start)
				put(t, s, old)
				d.stall()
				begun, waits := message(s, a.start), message(s, a.start)
				a.put(t, s, begun)
				synctest.Wait()
				a.put(t, s, waits)
				claim := make(chan Result, 1)
				s.Post(Event{ID: old.ID, Kind: msg.EvClaim, Device: "phone"}, func(r Result) { claim <- r })
				time.Sleep(testStall)
				synctest.Wait()
				if _, ok := a.of(waits.ID); ok || s.Stats().Stalled {
					t.Error("a put was given back early")
				}
				time.Sleep(testStall / 4)
				synctest.Wait()
				err, _ := a.of(waits.ID)
				wantErr(t, "the put that waits", err, ErrStalled)
				if _, ok := a.of(begun.ID); ok || !s.Stats().Stalled {
					t.Error("the put under way was answered early, or the spool does not say that it stalls")
				}
				refused := message(s, a.start)
				a.put(t, s, refused)
				err, _ = a.of(refused.ID)
				wantErr(t, "a put while it stalls", err, ErrStalled)
				time.Sleep(testGiveUp - testStall)
				synctest.Wait()
				err, _ = a.of(begun.ID)
				wantErr(t, "the put under way", err, ErrUnsure)
				if st := s.Stats(); st.Withdrawn != 1 || st.GivenUp != 1 || s.slots.Load() != 2 {
					t.Errorf("%d withdrawn, %d given up, %d places; want 1, 1, 2", st.Withdrawn, st.GivenUp, s.slots.Load())
				}
				d.on.Store(how != "succeeds")
				d.ghost.Store(how != "fails")
				time.Sleep(time.Minute)
				d.answer()
				synctest.Wait()
				d.on.Store(false)
				if r := <-claim; how == "succeeds" && r.Err != nil {
					t.Errorf("the claim that waited = %v", r.Err)
				}
				time.Sleep(2 * retryAfter)
				put(t, s, message(s, time.Now()))
				if how == "succeeds" {
					r := get(t, s, begun.ID)
					if r.State != msg.Cancelled || r.ReceiptDue || r.Cause != msg.ReasonSpoolStalled {
						t.Errorf("the message that was given up: %+v", r)
					}
					l.want(t, "what was given up", begun.ID, "withdraw: ACCEPTED → CANCELLED")
				} else {
					l.want(t, "what was given up", begun.ID)
				}
				l.want(t, "what was given back", waits.ID)
				for range 2 {
					exact(t, s)
					notThere(t, s, "what was given back", waits.ID)
					notThere(t, s, "what was refused", refused.ID)
					if how != "succeeds" {
						notThere(t, s, "what was given up", begun.ID)
					} else {
						wantState(t, s, "what was given up", begun.ID, msg.Cancelled)
					}
					if st := s.Stats(); st.LiveTotal != 2 || st.Stalled || len(allOutcomes(t, s)) != 0 {
						t.Errorf("%d live, stalled %t, %d outcomes", st.LiveTotal, st.Stalled, len(allOutcomes(t, s)))
					}
					shut(t, s)
					s = started(t, Options{Dir: dir, Stall: testStall})
					time.Sleep(testStall)
					synctest.Wait()
				}
				shut(t, s)
			})
		})
	}
}

// What was given up is ended also if the commit that does so fails, or if the
// spool is closing.
func TestTakenBackWhateverHappens(t *testing.T) {
	for _, how := range []string{"fails", "fails with its octets on disk", "closing", "closing and fails"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s, d, l := onSlowDisk(t, dir)
				a := newAnswers()
				d.stall()
				m := message(s, a.start)
				m.ClaimBy = a.start.Add(testGiveUp + 5*time.Second)
				a.put(t, s, m)
				time.Sleep(testGiveUp + testStall)
				synctest.Wait()
				err, _ := a.of(m.ID)
				wantErr(t, "Put", err, ErrUnsure)
				second := make(chan struct{})
				commits := 0
				s.commit = func(txn *badger.Txn) error { // read by the committer only after the one under way
					if commits++; commits == 1 && how != "closing" {
						close(second)
						if how == "fails with its octets on disk" {
							return errors.Join(txn.Commit(), errDisk)
						}
						return errDisk
					}
					return txn.Commit()
				}
				if how == "closing" || how == "closing and fails" {
					closed := make(chan error)
					go func() { closed <- s.Close() }()
					synctest.Wait()
					d.answer()
					if err := <-closed; err != nil {
						t.Errorf("Close = %v", err)
					}
				} else {
					d.answer()
					<-second
					time.Sleep(10 * time.Second) // its claim timer is over, too
					synctest.Wait()
					shut(t, s)
				}
				for _, line := range l.of(m.ID) {
					if line == "accept: NONE → ACCEPTED" || line == "turn: FALLBACK → FALLBACK" {
						t.Errorf("the observer was told %q", l.of(m.ID))
					}
				}
				s = started(t, Options{Dir: dir})
				synctest.Wait()
				wantState(t, s, "what was given up", m.ID, msg.Cancelled)
				exact(t, s)
				if n := len(allOutcomes(t, s)); n != 0 || s.Stats().LiveTotal != 0 {
					t.Errorf("%d outcomes, %d live", n, s.Stats().LiveTotal)
				}
				shut(t, s)
			})
		})
	}
}

// The other parts of a long message of which one was given up go by carrier,
// whichever it was, and whether all were there.
func TestPartGivenUp(t *testing.T) {
	for _, total := range []byte{2, 3} {
		t.Run(fmt.Sprintf("the second of %d", total), func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s, d, l := onSlowDisk(t, dir)
				a := newAnswers()
				one := part(s, a.start, msg.ID{}, 1, total)
				one.HoldBy = a.start.Add(10 * time.Minute)
				put(t, s, one)
				d.stall()
				two := part(s, a.start, one.ID, 2, total)
				a.put(t, s, two)
				time.Sleep(testGiveUp + testStall)
				synctest.Wait()
				d.answer()
				synctest.Wait()
				wantStates(t, s, []msg.ID{one.ID, two.ID}, msg.Fallback, msg.Cancelled)
				for _, line := range l.of(two.ID) {
					if line != "withdraw: ACCEPTED → CANCELLED" && line != "withdraw: HELD → CANCELLED" {
						t.Errorf("of what was given up the observer was told %q", l.of(two.ID))
					}
				}
				exact(t, s)
				shut(t, s)
			})
		})
	}
	// It is withdrawn before what was queued meanwhile.
	t.Run("the second, and a claim waits behind it", func(t *testing.T) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			s, d, _ := onSlowDisk(t, dir)
			a := newAnswers()
			one := part(s, a.start, msg.ID{}, 1, 2)
			one.HoldBy = a.start.Add(10 * time.Minute)
			put(t, s, one)
			d.stall()
			two := part(s, a.start, one.ID, 2, 2)
			a.put(t, s, two)
			synctest.Wait() // the put alone is under way
			claim := make(chan error, 1)
			s.Post(Event{ID: one.ID, Kind: msg.EvClaim, Device: "phone"}, func(r Result) { claim <- r.Err })
			time.Sleep(testGiveUp + testStall)
			synctest.Wait()
			d.answer()
			wantErr(t, "the claim", <-claim, ErrSuperseded)
			wantStates(t, s, []msg.ID{one.ID, two.ID}, msg.Fallback, msg.Cancelled)
			exact(t, s)
			shut(t, s)
		})
	})
	// Both in one commit, and it succeeds while the watcher goes through them.
	t.Run("the first, and the second was answered", func(t *testing.T) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			s, d, l := onSlowDisk(t, dir)
			now := time.Now()
			one := part(s, now, msg.ID{}, 1, 2)
			two := part(s, now, one.ID, 2, 2)
			first := &ticket{since: now, done: func(error) {}}
			second := make(chan error, 1)
			d.stall()
			s.slots.Add(2)
			s.queueMu.Lock()
			s.queue = append(s.queue, item{body: one, put: first},
				item{body: two, put: &ticket{since: now, done: func(err error) { second <- err }}})
			s.queueMu.Unlock()
			s.wake <- struct{}{}
			synctest.Wait()
			if !first.giveUp() {
				t.Error("the first part is not under way")
			}
			d.answer()
			wantErr(t, "Put of the second", <-second, nil)
			synctest.Wait()
			wantStates(t, s, []msg.ID{one.ID, two.ID}, msg.Cancelled, msg.Fallback)
			l.want(t, "what was given up", one.ID, "withdraw: ACCEPTED → CANCELLED")
			exact(t, s)
			shut(t, s)
		})
	})
}

// What was given up holds up nobody.
func TestTurnBehindWhatWasGivenUp(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, d, l := onSlowDisk(t, dir)
		a := newAnswers()
		before := between(s, a.start, "Bank")
		put(t, s, before)
		d.stall()
		m := between(s, a.start, "Bank")
		a.put(t, s, m)
		s.Post(Event{ID: before.ID, Kind: msg.EvClaim, Device: "phone"}, nil)
		time.Sleep(testGiveUp + testStall)
		synctest.Wait()
		d.answer()
		synctest.Wait()
		after := between(s, time.Now(), "Bank")
		put(t, s, after)
		synctest.Wait()
		wantStates(t, s, []msg.ID{before.ID, m.ID, after.ID}, msg.Claimed, msg.Cancelled, msg.Accepted)
		for _, line := range l.of(m.ID) {
			if line != "withdraw: ACCEPTED → CANCELLED" && line != "withdraw: HELD → CANCELLED" {
				t.Errorf("of what was given up the observer was told %q", l.of(m.ID))
			}
		}
		shut(t, s)
	})
}

// A commit that ends while the watcher looks at it leaves no refusal behind.
func TestStallIsNotForgotten(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := onSlowDisk(t, dir)
		s.stalled.Store(true)
		time.Sleep(testStall / 2)
		synctest.Wait()
		put(t, s, message(s, time.Now()))
		shut(t, s)
	})
}

// Any puts over a disk that stalls and fails at any time: each is answered once,
// in time, and the answer is true.
func TestStallsAgainstTheirPromise(t *testing.T) {
	dirs := t.TempDir()
	round := 0
	outer := t
	checkInBubbles(t, func(t *rapid.T) {
		round++
		o := Options{Dir: fmt.Sprintf("%s/%d", dirs, round), memTable: testMemTable, Stall: testStall, GiveUp: testGiveUp, Max: 12}
		d, l, a := new(slowDisk), new(told), newAnswers()
		o.Observe = l.observe
		start := func() *Spool {
			s, err := Open(o)
			if err != nil {
				t.Fatalf("Open = %v", err)
			}
			s.commit = d.commit
			s.Start()
			return s
		}
		s := start()
		defer func() { d.answer(); _ = s.Close() }()
		var all []*Message
		at := map[msg.ID]time.Time{}
		check := func(t *rapid.T) {
			for _, m := range all {
				lines := l.of(m.ID) // the observer comes after the answer
				err, answered := a.of(m.ID)
				_, getErr := s.Get(m.ID)
				switch {
				case !answered:
					if time.Since(at[m.ID]) > testGiveUp+testStall {
						t.Fatalf("Put of %s has no answer after %s", m.ID, time.Since(at[m.ID]))
					}
				case errors.Is(err, ErrStalled), errors.Is(err, ErrFull), errors.Is(err, errDisk):
					if !errors.Is(getErr, ErrNotFound) {
						t.Fatalf("Put of %s = %v, and it is there", m.ID, err)
					}
				case err == nil:
					if getErr != nil {
						t.Fatalf("%s was acknowledged: %v", m.ID, getErr)
					}
				}
				if (err != nil || !answered) && slices.Contains(lines, "accept: NONE → ACCEPTED") {
					t.Fatalf("Put of %s = %v, the observer was told %q", m.ID, err, lines)
				}
			}
		}
		rest := func(t *rapid.T) {
			d.answer()
			synctest.Wait()
			d.on.Store(false)
			time.Sleep(2*retryAfter + testStall)
			synctest.Wait()
			exact(t, s)
			for _, m := range all {
				err, answered := a.of(m.ID)
				r, getErr := s.Get(m.ID)
				if !answered || errors.Is(err, ErrUnsure) && getErr == nil && (r.State != msg.Cancelled || r.ReceiptDue) {
					t.Fatalf("Put of %s = %v, answered %t: %s", m.ID, err, answered, r.State)
				}
			}
			if st := s.Stats(); st.Stalled || st.Queued != 0 || st.Doubtful != 0 {
				t.Fatalf("at rest: %+v", st)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				for range rapid.IntRange(1, 3).Draw(t, "n") {
					m := message(s, time.Now())
					m.ClaimBy = m.ExpiresAt
					all = append(all, m)
					at[m.ID] = time.Now()
					a.put(outer, s, m)
				}
				if rapid.Bool().Draw(t, "wait") {
					synctest.Wait()
				}
			},
			"end": func(t *rapid.T) {
				for r := range s.Live {
					s.Post(Event{ID: r.ID, Kind: msg.EvCancel}, nil)
					s.Post(Event{ID: r.ID, Kind: msg.EvReceiptDone}, nil)
					break
				}
			},
			"time": func(t *rapid.T) {
				time.Sleep(time.Duration(rapid.IntRange(1, 30).Draw(t, "tenths")) * 500 * time.Millisecond)
				synctest.Wait()
			},
			"stall": func(*rapid.T) { d.answer(); d.stall() },
			"disk": func(t *rapid.T) {
				d.on.Store(rapid.Bool().Draw(t, "fails"))
				d.ghost.Store(rapid.Bool().Draw(t, "ghost"))
			},
			"answer": func(*rapid.T) { d.answer(); synctest.Wait() },
			"rest":   rest,
			"reopen": func(t *rapid.T) {
				if rapid.Bool().Draw(t, "really") {
					d.on.Store(false)
					d.answer()
					if err := s.Close(); err != nil {
						t.Fatalf("Close = %v", err)
					}
					s = start()
					rest(t)
				}
			},
			"": check,
		})
		rest(t)
	})
}
