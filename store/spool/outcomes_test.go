package spool

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dgraph-io/badger/v4"
	"pgregory.net/rapid"

	"shunt/gateway/msg"
)

// allOutcomes are the ends that nobody has taken, which must be numbered without
// a gap from the last one taken on.
func allOutcomes(t rapid.TB, s *Spool) []Outcome {
	t.Helper()
	list, err := s.Outcomes(0, 1<<20)
	if err != nil {
		t.Fatalf("Outcomes = %v", err)
	}
	st := s.Stats()
	for i, o := range list {
		if want := st.OutcomesTaken + uint64(i) + 1; o.Seq != want {
			t.Fatalf("outcome %d of %d has the number %d, want %d", i, len(list), o.Seq, want)
		}
	}
	if last := st.OutcomesTaken + uint64(len(list)); st.Outcomes != last {
		t.Fatalf("Stats: %d outcomes, the last is %d", st.Outcomes, last)
	}
	return list
}

// What every way to an end says of it.
func TestOutcomeOfEveryEnd(t *testing.T) {
	dir := t.TempDir()
	s := started(t, Options{Dir: dir})
	at := time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)
	var want []Outcome
	for _, w := range ways {
		m := message(s, time.Now())
		m.Prefer = w.prefer
		put(t, s, m)
		for i, e := range path(m.ID, w.events...) {
			e.At, e.Reason = at.Add(time.Duration(i)*time.Second), msg.ReasonApp
			before := get(t, s, m.ID).State
			if r := do(t, s, e); r.State.Final() && !before.Final() {
				want = append(want, Outcome{Seq: uint64(len(want) + 1), ID: m.ID, Event: e.Kind, Reason: e.Reason, At: e.At})
			}
		}
	}
	cancelled, withdrawn := message(s, time.Now()), message(s, time.Now())
	done := at.Add(-time.Minute)
	put(t, s, cancelled)
	do(t, s, Event{ID: cancelled.ID, Kind: msg.EvCancel, At: at, DoneAt: done, Reason: msg.ReasonESME})
	want = append(want, Outcome{uint64(len(want) + 1), cancelled.ID, msg.EvCancel, msg.ReasonESME, done})
	put(t, s, withdrawn)
	do(t, s, Event{ID: withdrawn.ID, Kind: msg.EvWithdraw})
	for _, id := range letterOf(t, s, time.Now(), 1, 2, 3) {
		want = append(want, Outcome{uint64(len(want) + 1), id, msg.EvCancel, msg.ReasonESME, at})
	}
	do(t, s, Event{ID: want[len(want)-3].ID, Kind: msg.EvCancel, At: at, Reason: msg.ReasonESME})
	compareAll := func(what string, want []Outcome) {
		t.Helper()
		got := allOutcomes(t, s)
		if len(got) != len(want) {
			t.Fatalf("%s: %d outcomes, want %d", what, len(got), len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: %+v, want %+v", what, got[i], want[i])
			}
		}
	}
	compareAll("at once", want)
	if some, err := s.Outcomes(3, 2); err != nil || len(some) != 2 || some[0] != want[3] {
		t.Errorf("Outcomes(3, 2) = %v, %v", some, err)
	}
	if err := s.OutcomesTaken(4); err != nil {
		t.Fatalf("OutcomesTaken = %v", err)
	}
	compareAll("four taken", want[4:])
	shut(t, s)
	s = started(t, Options{Dir: dir})
	compareAll("four taken, after a restart", want[4:])
	for range 2 { // no more are taken than there are
		if err := s.OutcomesTaken(1000); err != nil {
			t.Fatalf("OutcomesTaken = %v", err)
		}
		shut(t, s)
		s = started(t, Options{Dir: dir})
		compareAll("all taken", nil)
		m := message(s, time.Now())
		put(t, s, m)
		do(t, s, Event{ID: m.ID, Kind: msg.EvCancel})
		if got := allOutcomes(t, s); len(got) != 1 || got[0].ID != m.ID {
			t.Errorf("the next one: %v", got)
		}
	}
	shut(t, s)
	wantErr(t, "OutcomesTaken", s.OutcomesTaken(1), ErrClosed)
	_, err := s.Outcomes(0, 1)
	wantErr(t, "Outcomes", err, ErrClosed)
}

// What a disk has spoiled costs the ends of one commit, whose numbers stay, and no
// later one.
func TestOutcomesUnreadable(t *testing.T) {
	var log bytes.Buffer
	s := started(t, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	var ids []msg.ID
	for range 4 {
		m := message(s, time.Now())
		put(t, s, m)
		do(t, s, Event{ID: m.ID, Kind: msg.EvCancel, Reason: msg.ReasonESME})
		ids = append(ids, m.ID)
	}
	err := s.db.Update(func(txn *badger.Txn) error { return txn.Set(outcomeKey(nil, 2), []byte("spoiled")) })
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range allOutcomes(t, s) {
		want := Outcome{Seq: uint64(i) + 1}
		if i != 1 {
			want.ID, want.Event, want.Reason, want.At = ids[i], msg.EvCancel, msg.ReasonESME, o.At
		}
		if o != want {
			t.Errorf("outcome %d: %+v, want %+v", i+1, o, want)
		}
	}
	if n := s.Stats().SetAside; n != 1 || !strings.Contains(log.String(), "first_seq=2 last_seq=2") {
		t.Errorf("%d set aside; the log says\n%s", n, log.String())
	}
	if err := s.OutcomesTaken(4); err != nil {
		t.Fatal(err)
	}
	if left := allOutcomes(t, s); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
	shut(t, s)
}

// Ends that do not fit one transaction are numbered in their order, and nothing
// that was never written stands in their way.
func TestOutcomesTooManyForATransaction(t *testing.T) {
	s := open(t, Options{memTable: 1 << 20}) // a transaction of 1600 entries
	const letters, parts = 28, 60
	errs := make(chan error, letters*parts)
	var groups []msg.ID
	for range letters {
		var group msg.ID
		for n := range byte(parts) {
			m := part(s, time.Now(), group, n+1, parts)
			if group = m.Group; n == 0 {
				groups = append(groups, group)
			}
			s.Put(m, func(err error) { errs <- err })
		}
	}
	s.Start()
	for range letters * parts {
		if err := <-errs; err != nil {
			t.Fatalf("Put = %v", err)
		}
	}
	var all []any
	for _, g := range groups {
		all = append(all, Event{ID: g, Kind: msg.EvCancel})
	}
	for i, r := range putAll(s, all...) {
		if r.Err != nil {
			t.Fatalf("cancel %d = %v", i, r.Err)
		}
	}
	got := allOutcomes(t, s)
	if len(got) != letters*parts {
		t.Fatalf("%d outcomes, want %d", len(got), letters*parts)
	}
	for i, o := range got {
		if r := get(t, s, o.ID); r.Group != groups[i/parts] {
			t.Fatalf("outcome %d is of another long message", i)
		}
	}
	put(t, s, message(s, time.Now()))
	if n := s.Stats().Failures; n != 0 {
		t.Errorf("%d commits failed", n)
	}
}

// outcomeWorld ends messages at random over a disk that fails at random.
type outcomeWorld struct {
	s     *Spool
	f     failing
	dir   string
	ids   []msg.ID
	ended map[msg.ID]bool // of those that were taken
}

func (w *outcomeWorld) open(t *rapid.T) {
	s, err := Open(Options{Dir: w.dir, memTable: testMemTable, Stall: time.Hour})
	if err != nil {
		t.Fatalf("Open = %v", err)
	}
	w.s, s.commit = s, w.f.commit
	s.Start()
}

// batch puts and posts some at once. Where the disk fails nothing has ended.
func (w *outcomeWorld) batch(t *rapid.T) {
	synctest.Wait()
	w.f.on.Store(rapid.IntRange(0, 2).Draw(t, "fails") == 0)
	w.f.ghost.Store(rapid.Bool().Draw(t, "ghost"))
	before := len(allOutcomes(t, w.s))
	var all []any
	for range rapid.IntRange(1, 8).Draw(t, "n") {
		if len(w.ids) == 0 || rapid.IntRange(0, 2).Draw(t, "put") == 0 {
			m := message(w.s, time.Now())
			m.RegisteredDelivery = rapid.SampledFrom([]byte{0, 1, 9}).Draw(t, "registered")
			all = append(all, m)
			w.ids = append(w.ids, m.ID)
			continue
		}
		all = append(all, Event{
			ID: rapid.SampledFrom(w.ids).Draw(t, "id"), Device: "phone",
			Kind: rapid.SampledFrom([]msg.Event{
				msg.EvClaim, msg.EvDelivered, msg.EvRead, msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSPermanent,
				msg.EvValidity, msg.EvCancel, msg.EvWithdraw, msg.EvReceiptDone, msg.EvReceiptTried,
			}).Draw(t, "event"),
		})
	}
	putAll(w.s, all...)
	if w.f.on.Load() {
		if n := len(allOutcomes(t, w.s)); n != before {
			t.Fatalf("%d outcomes after a commit that failed, %d before", n, before)
		}
	}
	w.f.on.Store(false)
	if rapid.Bool().Draw(t, "wait") {
		time.Sleep(2 * retryAfter)
	}
}

// check: every message that has ended has one number, and no other has one.
func (w *outcomeWorld) check(t *rapid.T) {
	synctest.Wait()
	seen := map[msg.ID]bool{}
	for _, o := range allOutcomes(t, w.s) {
		r, err := w.s.Get(o.ID)
		switch {
		case seen[o.ID] || w.ended[o.ID]:
			t.Fatalf("%s has two outcomes", o.ID)
		case err != nil || !r.State.Final() || !r.DoneAt.Equal(o.At):
			t.Fatalf("outcome %+v of a message that is %s, %v", o, r.State, err)
		}
		seen[o.ID] = true
	}
	if w.s.Stats().Doubtful > 0 {
		return // what failed commits left is not yet taken back
	}
	for _, id := range w.ids {
		r, err := w.s.Get(id)
		if err != nil { // its put failed
			continue
		}
		if has := seen[id] || w.ended[id]; has != (r.State.Final() && !withdrawn(t, w.s, id)) {
			t.Fatalf("%s is %s: an outcome %t", id, r.State, has)
		}
	}
}

// withdrawn tells it by the trace: a commit that failed may have reached the
// disk before a stop.
func withdrawn(t *rapid.T, s *Spool, id msg.ID) bool {
	steps, err := s.Trace(id)
	if err != nil {
		t.Fatalf("Trace = %v", err)
	}
	for _, st := range steps {
		if st.To == msg.Cancelled && st.From != msg.Cancelled {
			return st.Event == msg.EvWithdraw
		}
	}
	return false
}

// Numbers 1 to n, each once, for exactly what has ended: over commits that fail
// before the octets reached the disk and after, over stops in good order and
// others.
func TestOutcomesAgainstTheirPromise(t *testing.T) {
	dirs := t.TempDir()
	round := 0
	checkInBubbles(t, func(t *rapid.T) {
		round++
		w := &outcomeWorld{dir: fmt.Sprintf("%s/%d", dirs, round), ended: map[msg.ID]bool{}}
		w.open(t)
		defer func() { _ = w.s.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"batch": w.batch,
			"taken": func(t *rapid.T) {
				synctest.Wait()
				list := allOutcomes(t, w.s)
				n := rapid.IntRange(0, len(list)).Draw(t, "n")
				for _, o := range list[:n] {
					w.ended[o.ID] = true
				}
				if n > 0 {
					if err := w.s.OutcomesTaken(list[n-1].Seq); err != nil {
						t.Fatalf("OutcomesTaken = %v", err)
					}
				}
			},
			"stop": func(t *rapid.T) {
				if rapid.IntRange(0, 3).Draw(t, "really") > 0 {
					return
				}
				w.f.ghost.Store(false)
				w.f.on.Store(rapid.Bool().Draw(t, "dead disk")) // nothing more is written, as after a crash
				err := w.s.Close()
				if err != nil && !w.f.on.Load() {
					t.Fatalf("Close = %v", err)
				}
				w.f.on.Store(false)
				w.open(t)
			},
			"": w.check,
		})
	})
}
