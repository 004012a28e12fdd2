package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dgraph-io/badger/v4"
	"pgregory.net/rapid"

	"shunt/gateway/msg"
)

// ends in tests: two senders, two recipients.
const otherNumber msg.Number = 447700900043

// between is a message from one sender, so that others of it wait for it.
func between(s *Spool, now time.Time, from string) *Message {
	m := message(s, now)
	m.From = from
	return m
}

// putAll queues messages and events so that the committer takes them as one
// batch, and waits for it. Of a put the result has an error alone.
func putAll(s *Spool, what ...any) []Result {
	results := make([]Result, len(what))
	done := make(chan struct{}, len(what))
	var items []item
	for i, w := range what {
		switch w := w.(type) {
		case *Message:
			s.slots.Add(1)
			items = append(items, item{body: w, put: &ticket{since: time.Now(), done: func(err error) {
				results[i].Err = err
				done <- struct{}{}
			}}})
		case Event:
			items = append(items, item{event: w, done: func(r Result) { results[i] = r; done <- struct{}{} }})
		}
	}
	s.queueMu.Lock()
	s.queue = append(s.queue, items...)
	s.queueMu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	for range what {
		<-done
	}
	return results
}

// turnLog is what the observer is told, in short.
type turnLog struct{ lines []string }

func (l *turnLog) observe(c *Change) {
	if c.From != c.To || c.Event.Kind == msg.EvTurn {
		l.lines = append(l.lines, fmt.Sprintf("%s %s", c.Event.Kind, c.Record.WireID))
	}
}

func (l *turnLog) of(kind msg.Event) (ids []string) {
	for _, line := range l.lines {
		if k, id, _ := strings.Cut(line, " "); k == kind.String() {
			ids = append(ids, id)
		}
	}
	return ids
}

func wantState(t testing.TB, s *Spool, what string, id msg.ID, want msg.State) {
	t.Helper()
	if got := get(t, s, id).State; got != want {
		t.Errorf("%s is %s, want %s", what, got, want)
	}
}

// Whatever decides the first message lets the next one go on, also across a
// restart; what decides nothing does not.
func TestTurnComesWithTheDecision(t *testing.T) {
	for _, c := range []struct {
		name   string
		prefer msg.Prefer
		events []msg.Event
		goes   bool
	}{
		{"nothing", 0, nil, false},
		{"push", 0, []msg.Event{msg.EvPushBegin, msg.EvPushAccepted}, false},
		{"claim", 0, []msg.Event{msg.EvClaim}, true},
		{"delivered", 0, []msg.Event{msg.EvClaim, msg.EvDelivered}, true},
		{"fallback", 0, []msg.Event{msg.EvPushDead}, false},
		{"fallback begun", 0, []msg.Event{msg.EvPushDead, msg.EvSMSBegin}, false},
		{"temporary", 0, []msg.Event{msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSTemporary}, false},
		{"permanent", 0, []msg.Event{msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSPermanent}, true},
		{"lost", 0, []msg.Event{msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSLost}, true},
		{"resubmitted", 0, []msg.Event{msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSLost, msg.EvSMSResubmit}, true},
		{"submitted", 0, []msg.Event{msg.EvPushDead, msg.EvSMSBegin, msg.EvSMSAccepted}, true},
		{"validity", 0, []msg.Event{msg.EvValidity}, true},
		{"cancel", 0, []msg.Event{msg.EvCancel}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := started(t, Options{Dir: dir})
				now := time.Now()
				first, second, third := between(s, now, "Bank"), between(s, now, "Bank"), between(s, now, "Bank")
				other, elsewhere := between(s, now, "Shop"), between(s, now, "Bank")
				elsewhere.To = otherNumber
				for _, m := range []*Message{first, second, third, other, elsewhere} {
					put(t, s, m)
				}
				wantState(t, s, "another sender's", other.ID, msg.Accepted)
				wantState(t, s, "another recipient's", elsewhere.ID, msg.Accepted)
				want := msg.Held
				if c.goes {
					want = msg.Accepted
				}
				for _, e := range path(first.ID, c.events...) {
					do(t, s, e)
				}
				synctest.Wait()
				wantState(t, s, "the second", second.ID, want)
				wantState(t, s, "the third", third.ID, msg.Held)
				shut(t, s)
				s = started(t, Options{Dir: dir})
				synctest.Wait()
				wantState(t, s, "after a restart the second", second.ID, want)
				wantState(t, s, "after a restart the third", third.ID, msg.Held)
				shut(t, s)
			})
		})
	}
}

// A message that waits falls back at its own time, and its SMS waits for the
// message before it; SMS go in their order, each announced once, again after a
// restart.
func TestFallbacksGoOneAfterTheOther(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log turnLog
		s := started(t, Options{Dir: dir, Observe: log.observe})
		now := time.Now()
		first := between(s, now, "Bank")
		first.ClaimBy = now.Add(40 * time.Second)
		put(t, s, first)
		var rest []*Message
		for i := range 3 {
			m := between(s, now, "Bank")
			m.ClaimBy = now.Add(time.Duration(30-i) * time.Second) // the later ones fall back first
			put(t, s, m)
			rest = append(rest, m)
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		for i, m := range rest {
			wantState(t, s, fmt.Sprint("message ", i+1), m.ID, msg.Fallback)
		}
		if got := log.of(msg.EvTurn); len(got) != 0 {
			t.Errorf("before the first is decided: SMS of %v may go", got)
		}
		do(t, s, Event{ID: first.ID, Kind: msg.EvClaim, Device: "phone"})
		synctest.Wait()
		if got := log.of(msg.EvTurn); !slices.Equal(got, []string{rest[0].WireID}) {
			t.Errorf("SMS of %v may go, want that of the second message", got)
		}
		for _, e := range path(rest[0].ID, msg.EvSMSBegin, msg.EvSMSTemporary, msg.EvSMSBegin, msg.EvSMSAccepted) {
			do(t, s, e)
		}
		synctest.Wait()
		want := []string{rest[0].WireID, rest[1].WireID}
		if got := log.of(msg.EvTurn); !slices.Equal(got, want) {
			t.Errorf("SMS of %v may go, want %v", got, want)
		}
		shut(t, s)
		log = turnLog{}
		s = started(t, Options{Dir: dir, Observe: log.observe})
		synctest.Wait()
		for _, m := range rest[1:] {
			for _, e := range path(m.ID, msg.EvSMSBegin, msg.EvSMSAccepted) {
				do(t, s, e)
			}
		}
		synctest.Wait()
		want = []string{rest[1].WireID, rest[2].WireID}
		if got := log.of(msg.EvTurn); !slices.Equal(got, want) {
			t.Errorf("after a restart: SMS of %v may go, want %v", got, want)
		}
		shut(t, s)
	})
}

// Two that come in one commit are not both first, whatever else is in it.
func TestTurnsWithinABatch(t *testing.T) {
	s := started(t, Options{})
	now := time.Now()
	claimed := between(s, now, "Bank")
	put(t, s, claimed)
	do(t, s, Event{ID: claimed.ID, Kind: msg.EvClaim, Device: "phone"})
	second, third := between(s, now, "Bank"), between(s, now, "Bank")
	putAll(s, Event{ID: claimed.ID, Kind: msg.EvDelivered, Device: "phone"}, second, third)
	wantState(t, s, "the second", second.ID, msg.Accepted)
	wantState(t, s, "the third", third.ID, msg.Held)
	// Decided in the commit that brings it: the next one goes on.
	fourth := between(s, now, "Bank")
	putAll(s, Event{ID: second.ID, Kind: msg.EvClaim, Device: "phone"}, fourth,
		Event{ID: third.ID, Kind: msg.EvCancel})
	s.Do(context.Background(), Event{ID: s.NewID(), Kind: msg.EvClaim, Device: "phone"})
	wantState(t, s, "the fourth", fourth.ID, msg.Accepted)
}

// Nothing overtakes the message that is under way: not one that was put with an
// earlier id, nor one that was due before.
func TestNothingOvertakesWhatIsUnderWay(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := started(t, Options{Dir: dir})
		now := time.Now()
		early, late := between(s, now, "Bank"), between(s, now, "Bank")
		put(t, s, late)
		put(t, s, early)
		synctest.Wait()
		wantState(t, s, "the first that was put", late.ID, msg.Accepted)
		wantState(t, s, "the one with the earlier id", early.ID, msg.Held)
		shut(t, s)
		s = started(t, Options{Dir: dir})
		synctest.Wait()
		wantState(t, s, "after a restart the one with the earlier id", early.ID, msg.Held)
		do(t, s, Event{ID: late.ID, Kind: msg.EvClaim, Device: "phone"})
		synctest.Wait()
		wantState(t, s, "the one with the earlier id", early.ID, msg.Accepted)
		shut(t, s)
	})
}

// The parts of a long message that fell back go before what came between them.
func TestNothingComesBetweenTheParts(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log turnLog
		s := started(t, Options{Dir: dir, Observe: log.observe})
		now := time.Now()
		one := part(s, now, msg.ID{}, 1, 2)
		middle := between(s, now, "Bank")
		two := part(s, now, one.ID, 2, 2)
		one.From, two.From = "Bank", "Bank"
		for _, m := range []*Message{one, middle, two} {
			put(t, s, m)
		}
		wantStates(t, s, []msg.ID{one.ID, middle.ID, two.ID}, msg.Accepted, msg.Held, msg.Accepted)
		do(t, s, Event{ID: one.ID, Kind: msg.EvPushDead})
		for _, m := range []*Message{one, two} {
			for _, e := range path(m.ID, msg.EvSMSBegin, msg.EvSMSAccepted) {
				synctest.Wait()
				wantState(t, s, "what came between the parts", middle.ID, msg.Held)
				do(t, s, e)
			}
		}
		synctest.Wait()
		wantState(t, s, "what came between the parts", middle.ID, msg.Accepted)
		if got, want := log.of(msg.EvTurn), []string{one.WireID, two.WireID, middle.WireID}; !slices.Equal(got, want) {
			t.Errorf("turns of %v, want %v", got, want)
		}
		shut(t, s)
	})
}

// One that an app had and did not acknowledge comes back behind the one under
// way, and goes next.
func TestTurnAfterTheLease(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log turnLog
		s := started(t, Options{Dir: dir, Observe: log.observe})
		now := time.Now()
		first, second, third := between(s, now, "Bank"), between(s, now, "Bank"), between(s, now, "Bank")
		first.Prefer = msg.PossibleDuplicate
		for _, m := range []*Message{first, second, third} {
			put(t, s, m)
		}
		do(t, s, Event{ID: first.ID, Kind: msg.EvClaim, Device: "phone"})
		time.Sleep(11 * time.Second)
		synctest.Wait()
		wantStates(t, s, []msg.ID{first.ID, second.ID, third.ID}, msg.Fallback, msg.Accepted, msg.Held)
		if got := log.of(msg.EvTurn); !slices.Equal(got, []string{second.WireID}) {
			t.Errorf("turns of %v while the second is under way, want its own", got)
		}
		do(t, s, Event{ID: second.ID, Kind: msg.EvPushDead})
		synctest.Wait()
		for _, m := range []*Message{first, second} {
			for _, e := range path(m.ID, msg.EvSMSBegin, msg.EvSMSAccepted) {
				do(t, s, e)
			}
			synctest.Wait()
		}
		// The second: from HELD, then its SMS.
		if got, want := log.of(msg.EvTurn), []string{second.WireID, first.WireID, second.WireID, third.WireID}; !slices.Equal(got, want) {
			t.Errorf("turns of %v, want %v", got, want)
		}
		shut(t, s)
	})
}

// A turn whose commit fails comes again.
func TestTurnSurvivesAFailedCommit(t *testing.T) {
	for _, ghost := range []bool{false, true} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			var f failing
			f.ghost.Store(ghost)
			s := open(t, Options{Dir: dir})
			var failNext atomic.Bool
			s.commit = func(txn *badger.Txn) error {
				err := f.commit(txn)
				if failNext.Load() {
					f.on.Store(true) // from the next one on
				}
				return err
			}
			s.Start()
			now := time.Now()
			first, second := between(s, now, "Bank"), between(s, now, "Bank")
			put(t, s, first)
			put(t, s, second)
			failNext.Store(true)
			do(t, s, Event{ID: first.ID, Kind: msg.EvClaim, Device: "phone"})
			synctest.Wait()
			wantState(t, s, "while the disk fails the second", second.ID, msg.Held)
			failNext.Store(false)
			f.on.Store(false)
			time.Sleep(2 * retryAfter)
			synctest.Wait()
			wantState(t, s, "afterwards the second", second.ID, msg.Accepted)
			shut(t, s)
		})
	}
}

// letterModel is what the test knows of one message or long message.
type letterModel struct {
	id    msg.ID
	from  string
	to    msg.Number
	total byte // 0: an ordinary message
	due   time.Time
	parts []*Message
}

// turnWorld drives a spool at random and holds it against what the order between
// two ends promises.
type turnWorld struct {
	s       *Spool
	dir     string
	f       failing
	letters []*letterModel

	mu    sync.Mutex
	told  map[msg.ID]int // EvTurn of each since it came into FALLBACK
	wrong error          // what the observer saw that must not be
}

func (w *turnWorld) open(t *rapid.T) {
	w.mu.Lock()
	w.told = map[msg.ID]int{}
	w.mu.Unlock()
	s, err := Open(Options{Dir: w.dir, memTable: testMemTable, Stall: time.Hour, Observe: w.observe})
	if err != nil {
		t.Fatalf("Open = %v", err)
	}
	w.s = s
	s.commit = w.f.commit
	s.Start()
	synctest.Wait()
}

// observe runs on the committer.
func (w *turnWorld) observe(c *Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := c.Record.ID
	switch {
	case c.Event.Kind == msg.EvTurn && c.From == msg.Fallback:
		w.told[id]++
		if w.told[id] != 1 {
			w.wrong = errors.Join(w.wrong, fmt.Errorf("%s: its SMS was announced %d times", id, w.told[id]))
		}
		if e := w.s.index.byID.get(id); e != nil {
			w.goesFirst(e)
		}
	case c.To == msg.Fallback && c.From != msg.Fallback:
		w.told[id] = 0
	}
}

// earlier is the order between two ends: a scheduled message goes by its hour, a
// part by the first that came of its letter.
func earlier(a, b *entry) bool {
	place := func(e *entry) int64 {
		if r := e.record(); !r.DueAt.IsZero() {
			return r.DueAt.UnixMilli()
		}
		return e.letter().UnixMilli()
	}
	return cmp.Or(cmp.Compare(place(a), place(b)), compare(a.letter(), b.letter())) < 0
}

// goesFirst: the SMS of e may go, so nothing of another letter is before it.
func (w *turnWorld) goesFirst(e *entry) {
	for _, o := range w.s.index.groups[e.letter()] { // it goes with its letter
		if o != e && o.state == msg.Fallback && (w.told[o.id] > 0 || o.flags&flagBegun != 0) {
			return
		}
	}
	for o := range w.s.index.byID.all() {
		if o.from == e.from && o.to == e.to && o.inTurn() && o.letter() != e.letter() && (undecided(o.state) || earlier(o, e)) {
			w.wrong = errors.Join(w.wrong, fmt.Errorf("SMS of %s was announced before %s in %s", e.id, o.id, o.state))
		}
	}
}

// check looks at the spool at rest.
func (w *turnWorld) check(t *rapid.T) {
	synctest.Wait()
	if w.f.on.Load() {
		return
	}
	w.checkPairs(t)
	for _, l := range w.letters {
		w.together(t, l)
	}
	exact(t, w.s)
}

// checkPairs: between two ends one letter is under way, or the first waits for
// its parts.
func (w *turnWorld) checkPairs(t *rapid.T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.s.index.mu.RLock()
	defer w.s.index.mu.RUnlock()
	if w.wrong != nil {
		t.Fatal(w.wrong)
	}
	type pairState struct {
		going, asleep map[msg.ID]bool
		first         *entry
	}
	pairs := map[ends]*pairState{}
	for e := range w.s.index.byID.all() {
		if !e.inTurn() {
			continue
		}
		p := pairs[ends{e.from, e.to}]
		if p == nil {
			p = &pairState{map[msg.ID]bool{}, map[msg.ID]bool{}, nil}
			pairs[ends{e.from, e.to}] = p
		}
		told := e.state == msg.Fallback && w.told[e.id] > 0
		switch {
		case undecided(e.state), told, e.flags&flagBegun != 0:
			p.going[e.letter()] = true
		case e.state == msg.Held && e.hold() == msg.HoldParts:
			p.asleep[e.letter()] = true
		}
		if p.first == nil || earlier(e, p.first) {
			p.first = e
		}
	}
	for ends, p := range pairs {
		if len(p.going) > 1 {
			t.Fatalf("from %s: %d letters are under way at once", ends.from.Value(), len(p.going))
		}
		if len(p.going) == 0 && !p.asleep[p.first.letter()] {
			t.Fatalf("from %s: nothing goes on, the first is %s in %s", ends.from.Value(), p.first.id, p.first.state)
		}
	}
}

// together: the parts of a letter are HELD, or undecided, or claimed, all of
// them.
func (w *turnWorld) together(t *rapid.T, l *letterModel) {
	held, waiting, open := 0, 0, 0
	for _, m := range l.parts {
		switch r, ok := w.s.index.get(m.ID); {
		case !ok:
		case r.State == msg.Held:
			held++
			if r.Hold == msg.HoldTurn {
				waiting++
			}
		case undecided(r.State), r.State == msg.Claimed:
			open++
		}
	}
	if held > 0 && open > 0 || waiting > 0 && waiting != held {
		t.Fatalf("a torn letter: %d parts HELD, %d of them for their turn, %d are further", held, waiting, open)
	}
}

// one draws any live message.
func (w *turnWorld) one(t *rapid.T) (msg.ID, bool) {
	var ids []msg.ID
	for r := range w.s.Live {
		ids = append(ids, r.ID)
	}
	if len(ids) == 0 {
		return msg.ID{}, false
	}
	return rapid.SampledFrom(ids).Draw(t, "id"), true
}

func (w *turnWorld) newLetter(t *rapid.T) *letterModel {
	l := &letterModel{
		from: rapid.SampledFrom([]string{"Bank", "Shop"}).Draw(t, "from"),
		to:   rapid.SampledFrom([]msg.Number{testNumber, otherNumber}).Draw(t, "to"),
	}
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		l.total = rapid.ByteRange(2, 3).Draw(t, "total")
	case 1:
		l.due = time.Now().Add(time.Duration(rapid.IntRange(1, 20).Draw(t, "due")) * 500 * time.Millisecond)
	}
	w.letters = append(w.letters, l)
	return l
}

// next is the next part of a letter, or the message.
func (w *turnWorld) next(t *rapid.T, l *letterModel) *Message {
	now := time.Now()
	var m *Message
	if l.total > 0 {
		m = part(w.s, now, l.id, byte(len(l.parts)%int(l.total))+1, l.total)
		m.HoldBy = now.Add(time.Duration(rapid.IntRange(2, 20).Draw(t, "hold")) * time.Second)
	} else {
		m = message(w.s, now)
		m.DueAt = l.due
	}
	m.From, m.To = l.from, l.to
	m.RegisteredDelivery = rapid.ByteRange(0, 1).Draw(t, "registered")
	m.ClaimBy = now.Add(time.Duration(rapid.IntRange(10, 40).Draw(t, "claim")) * time.Second)
	m.ExpiresAt = now.Add(time.Duration(rapid.IntRange(15, 90).Draw(t, "validity")) * time.Second)
	if l.id.IsZero() {
		l.id = m.ID
	}
	return m
}

// mayGo tells that the SMS of a message was announced.
func (w *turnWorld) mayGo(id msg.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.told[id] > 0
}

func (w *turnWorld) event(t *rapid.T, id msg.ID) Event {
	e := Event{ID: id, Kind: rapid.SampledFrom([]msg.Event{
		msg.EvPushBegin, msg.EvPushAccepted, msg.EvPushDead, msg.EvClaim, msg.EvClaim, msg.EvDelivered, msg.EvSMSBegin, msg.EvSMSBegin,
		msg.EvSMSAccepted, msg.EvSMSAccepted, msg.EvSMSTemporary, msg.EvSMSPermanent, msg.EvSMSLost, msg.EvSMSResubmit,
		msg.EvSMSDelivered, msg.EvCancel, msg.EvWithdraw, msg.EvReceiptDone, msg.EvReceiptTried, msg.EvReplace,
	}).Draw(t, "event"), Device: "phone", Peer: "own", SMSID: id.String()}
	if e.Kind == msg.EvSMSBegin && !w.mayGo(id) {
		e.Kind = msg.EvClaim // nobody begins before its turn
	}
	if e.Kind == msg.EvReplace {
		m, err := w.s.Message(id)
		if err != nil {
			t.Fatalf("Message = %v", err)
		}
		changed := *m
		changed.HoldBy = m.ExpiresAt
		e.Replace = &changed
	}
	return e
}

// Any messages, long ones and scheduled ones, of two senders for two recipients,
// in batches of any size, with failing commits and restarts: at most one letter
// is under way between two ends, none is stuck, and SMS go in their order.
func TestTurnsAgainstTheirPromise(t *testing.T) {
	dirs := t.TempDir()
	round := 0
	checkInBubbles(t, func(t *rapid.T) {
		round++
		w := &turnWorld{dir: fmt.Sprintf("%s/%d", dirs, round)}
		w.open(t)
		defer func() { _ = w.s.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"batch": w.batch,
			"time": func(t *rapid.T) {
				time.Sleep(time.Duration(rapid.IntRange(1, 80).Draw(t, "tenths")) * 100 * time.Millisecond)
			},
			"disk": func(t *rapid.T) {
				w.f.ghost.Store(rapid.Bool().Draw(t, "ghost"))
				w.f.on.Store(true)
				w.batch(t)
				synctest.Wait()
				w.f.on.Store(false)
				time.Sleep(2 * retryAfter)
			},
			"reopen": w.reopen,
			"":       w.check,
		})
		w.finish(t)
	})
}

func (w *turnWorld) reopen(t *rapid.T) {
	if rapid.IntRange(0, 4).Draw(t, "really") > 0 {
		return
	}
	if err := w.s.Close(); err != nil {
		t.Fatalf("Close = %v", err)
	}
	time.Sleep(time.Duration(rapid.IntRange(0, 20).Draw(t, "seconds")) * time.Second)
	w.open(t)
	for r := range w.s.Live { // as the dispatcher does
		if r.SMSBegun {
			w.s.Do(context.Background(), Event{ID: r.ID, Kind: msg.EvSMSLost})
		}
	}
}

// batch puts and posts some at once.
func (w *turnWorld) batch(t *rapid.T) {
	var all []any
	var of []*letterModel
	for range rapid.IntRange(1, 6).Draw(t, "n") {
		if id, ok := w.one(t); ok && rapid.Bool().Draw(t, "event") {
			all, of = append(all, w.event(t, id)), append(of, nil)
			continue
		}
		var l *letterModel
		for _, o := range w.letters { // an incomplete one, or now and then a repeated part
			if o.total > 0 && (len(o.parts) < int(o.total) || rapid.IntRange(0, 9).Draw(t, "repeat") == 0) && rapid.Bool().Draw(t, "part") {
				l = o
			}
		}
		if l == nil {
			l = w.newLetter(t)
		}
		all, of = append(all, w.next(t, l)), append(of, l)
	}
	if rapid.IntRange(0, 9).Draw(t, "shuffle") == 0 { // ids are drawn by many sessions, and put as they come
		slices.Reverse(all)
		slices.Reverse(of)
	}
	for i, r := range putAll(w.s, all...) {
		if m, ok := all[i].(*Message); ok && r.Err == nil {
			of[i].parts = append(of[i].parts, m)
		}
	}
}

// finish: with nobody doing anything but sending the SMS whose turn it is, all
// come to their end.
func (w *turnWorld) finish(t *rapid.T) {
	for range 300 {
		time.Sleep(time.Second)
		w.check(t)
		if w.s.Stats().LiveTotal == 0 {
			break
		}
		for r := range w.s.Live {
			if r.State == msg.Fallback && w.mayGo(r.ID) {
				for _, k := range []msg.Event{msg.EvSMSBegin, msg.EvSMSPermanent} {
					w.s.Do(context.Background(), Event{ID: r.ID, Kind: k})
				}
			}
			if r.ReceiptDue {
				w.s.Do(context.Background(), Event{ID: r.ID, Kind: msg.EvReceiptDone})
			}
			if r.State == msg.SMSSubmitted {
				w.s.Do(context.Background(), Event{ID: r.ID, Kind: msg.EvSMSDelivered})
			}
		}
	}
	w.s.index.mu.RLock()
	defer w.s.index.mu.RUnlock()
	if n := w.s.index.byID.len(); n != 0 || w.s.index.byNumber.len() != 0 || len(w.s.index.groups) != 0 {
		t.Fatalf("%d messages, %d numbers, %d letters are left", n, w.s.index.byNumber.len(), len(w.s.index.groups))
	}
}
