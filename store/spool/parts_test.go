package spool

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dgraph-io/badger/v4"
	"pgregory.net/rapid"

	"shunt/gateway/msg"
)

// part is part number of total of a long message, of which group is the ID;
// the zero group makes it the first.
func part(s *Spool, now time.Time, group msg.ID, number, total byte) *Message {
	m := message(s, now)
	if m.Group = group; group.IsZero() {
		m.Group = m.ID
	}
	m.Number, m.Total = number, total
	m.HoldBy = now.Add(20 * time.Second).UTC().Round(0)
	m.PDU = append(m.PDU, number)
	return m
}

// letterOf puts all parts of a long message in that order; the first is the
// lead.
func letterOf(t testing.TB, s *Spool, now time.Time, order ...byte) (ids []msg.ID) {
	t.Helper()
	var group msg.ID
	for _, n := range order {
		m := part(s, now, group, n, byte(len(order)))
		group = m.Group
		put(t, s, m)
		ids = append(ids, m.ID)
	}
	return ids
}

func wantStates(t testing.TB, s *Spool, ids []msg.ID, want ...msg.State) {
	t.Helper()
	for i, id := range ids {
		if got := get(t, s, id).State; got != want[min(i, len(want)-1)] {
			t.Errorf("part %d is %s, want %s", i, got, want[min(i, len(want)-1)])
		}
	}
}

// A long message is one message from its last part on: every event of the
// app's side happens to all parts, in whatever order they came.
func TestPartsShareTheirFate(t *testing.T) {
	for _, c := range []struct {
		name   string
		prefer msg.Prefer
		events []msg.Event
		want   msg.State
	}{
		{"complete", 0, nil, msg.Accepted},
		{"claim", 0, []msg.Event{msg.EvClaim}, msg.Claimed},
		{"delivered", 0, []msg.Event{msg.EvClaim, msg.EvDelivered}, msg.Delivered},
		{"read", 0, []msg.Event{msg.EvClaim, msg.EvRead}, msg.Delivered},
		{"push dead", 0, []msg.Event{msg.EvPushDead}, msg.Fallback},
		{"claim deadline", 0, []msg.Event{msg.EvPushBegin, msg.EvClaimDeadline}, msg.Fallback},
		{"validity", 0, []msg.Event{msg.EvValidity}, msg.Expired},
		{"claimed, then validity", 0, []msg.Event{msg.EvClaim, msg.EvValidity}, msg.Unknown},
		{"cancel", 0, []msg.Event{msg.EvCancel}, msg.Cancelled},
		{"lease", msg.PossibleDuplicate, []msg.Event{msg.EvClaim, msg.EvLease}, msg.Fallback},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := started(t, Options{Dir: dir})
			now := time.Now()
			var group msg.ID
			var ids []msg.ID
			for _, n := range []byte{2, 3, 1} {
				m := part(s, now, group, n, 3)
				m.Prefer = c.prefer
				group = m.Group
				put(t, s, m)
				ids = append(ids, m.ID)
				if len(ids) < 3 {
					wantStates(t, s, ids, msg.Held)
				}
			}
			for _, e := range path(group, c.events...) {
				do(t, s, e)
			}
			if c.want == msg.Accepted || c.want == msg.Fallback && len(c.events) == 1 {
				wantStates(t, s, ids, c.want)
			}
			shut(t, s)
			s = started(t, Options{Dir: dir}) // and it stays so
			wantStates(t, s, ids, c.want)
			for _, id := range ids {
				if r := get(t, s, id); r.Group != group || r.Total != 3 || r.Follows() != (id != group) {
					t.Errorf("record after a restart: %+v", r)
				}
			}
			parts, err := s.Messages(ids[1])
			if err != nil || len(parts) != 3 || parts[0].Number != 1 || parts[1].Number != 2 || parts[2].Number != 3 {
				t.Errorf("Messages() = %d parts, %v", len(parts), err)
			}
		})
	}
}

// From FALLBACK on every part goes alone.
func TestPartsByCarrier(t *testing.T) {
	s := started(t, Options{})
	ids := letterOf(t, s, time.Now(), 1, 2)
	do(t, s, Event{ID: ids[0], Kind: msg.EvPushDead})
	do(t, s, Event{ID: ids[1], Kind: msg.EvSMSBegin})
	do(t, s, Event{ID: ids[1], Kind: msg.EvSMSAccepted, Peer: "own", SMSID: "7"})
	do(t, s, Event{ID: ids[0], Kind: msg.EvValidity})
	wantStates(t, s, ids, msg.Expired, msg.SMSSubmitted)
	do(t, s, Event{ID: ids[1], Kind: msg.EvSMSDelivered})
	wantStates(t, s, ids, msg.Expired, msg.SMSDelivered)
	for _, id := range ids {
		if !get(t, s, id).ReceiptDue {
			t.Errorf("no receipt is due for %s", id)
		}
		do(t, s, Event{ID: id, Kind: msg.EvReceiptDone})
	}
	if len(s.index.groups) != 0 {
		t.Errorf("%d long messages are remembered after the end", len(s.index.groups))
	}
}

// A part that its ESME repeats goes where the others are.
func TestRepeatedPart(t *testing.T) {
	for _, c := range []struct {
		name   string
		events []msg.Event
		want   msg.State
	}{
		{"undecided", nil, msg.Accepted},
		{"claimed", []msg.Event{msg.EvClaim}, msg.Claimed},
		{"delivered", []msg.Event{msg.EvClaim, msg.EvDelivered}, msg.Delivered},
		{"fallen back", []msg.Event{msg.EvPushDead}, msg.Fallback},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := started(t, Options{})
			now := time.Now()
			ids := letterOf(t, s, now, 1, 2)
			for _, e := range path(ids[0], c.events...) {
				do(t, s, e)
			}
			again := part(s, now, ids[0], 2, 2)
			put(t, s, again)
			r := get(t, s, again.ID)
			if r.State != c.want || c.want == msg.Delivered && !r.ReceiptDue || c.want == msg.Claimed && r.Device != "phone" {
				t.Errorf("the repeated part is %s: %+v, want %s", r.State, r, c.want)
			}
		})
	}
	t.Run("held", func(t *testing.T) {
		s := started(t, Options{})
		now := time.Now()
		first := part(s, now, msg.ID{}, 1, 2)
		put(t, s, first)
		again := part(s, now, first.ID, 1, 2)
		put(t, s, again)
		last := part(s, now, first.ID, 2, 2)
		put(t, s, last)
		wantStates(t, s, []msg.ID{first.ID, again.ID, last.ID}, msg.Accepted)
		if parts, err := s.Messages(first.ID); err != nil || len(parts) != 2 {
			t.Errorf("Messages() = %d parts, %v; want each once", len(parts), err)
		}
	})
}

// Timers act once, for all parts, and leave time for the SMS.
func TestPartTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clock{start: time.Now()}
		s := started(t, Options{Observe: c.observe})
		now := time.Now()
		m := part(s, now, msg.ID{}, 1, 3)
		put(t, s, m)
		put(t, s, part(s, now, m.ID, 3, 3))
		time.Sleep(25 * time.Second)
		synctest.Wait()
		whole := letterOf(t, s, time.Now(), 2, 1)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		want := []string{
			"20s hold-deadline: HELD → FALLBACK", "20s hold-deadline: HELD → FALLBACK",
			"55s claim-deadline: ACCEPTED → FALLBACK", "55s claim-deadline: ACCEPTED → FALLBACK",
		}
		if got := c.seen(); !slices.Equal(got, want) {
			t.Errorf("timers:\n got %q\nwant %q", got, want)
		}
		wantStates(t, s, whole, msg.Fallback)
	})
}

func TestClaimByOfALetter(t *testing.T) {
	s := started(t, Options{})
	now := time.Now()
	first := part(s, now, msg.ID{}, 1, 2)
	first.ExpiresAt = now.Add(40 * time.Second)
	put(t, s, first)
	last := part(s, now, first.ID, 2, 2)
	last.ClaimBy = now.Add(10 * time.Minute)
	put(t, s, last)
	for _, id := range []msg.ID{first.ID, last.ID} {
		if left := first.ExpiresAt.Sub(get(t, s, id).ClaimBy); left < 9*time.Second || left > 11*time.Second {
			t.Errorf("claim by %s before the shortest validity ends, want a quarter of it", left)
		}
	}
}

// The end of a hold finds the parts also where the one that gave the group its
// ID was never put.
func TestHoldEndsWithoutItsFirstPart(t *testing.T) {
	s := started(t, Options{})
	now := time.Now()
	lost := s.NewID()
	m := part(s, now, lost, 2, 2)
	put(t, s, m)
	do(t, s, Event{ID: lost, Kind: msg.EvHoldDeadline, Reason: msg.ReasonIncomplete})
	wantStates(t, s, []msg.ID{m.ID}, msg.Fallback)
	r := s.Do(context.Background(), Event{ID: s.NewID(), Kind: msg.EvHoldDeadline})
	wantErr(t, "hold-deadline of nothing", r.Err, ErrNotFound)
}

// A commit that fails changes no part.
func TestPartsOfAFailedCommit(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { partsOfAFailedCommit(t, dir) })
}

func partsOfAFailedCommit(t *testing.T, dir string) {
	s := open(t, Options{Dir: dir})
	var mu sync.Mutex
	broken := false
	s.commit = func(txn *badger.Txn) error {
		mu.Lock()
		defer mu.Unlock()
		if broken {
			return errDisk
		}
		return txn.Commit()
	}
	s.Start()
	set := func(b bool) { mu.Lock(); broken = b; mu.Unlock() }
	now := time.Now()
	first := part(s, now, msg.ID{}, 1, 2)
	put(t, s, first)
	set(true)
	last := part(s, now, first.ID, 2, 2)
	wantErr(t, "Put of the last part", tryPut(s, last), errDisk)
	wantStates(t, s, []msg.ID{first.ID}, msg.Held)
	set(false)
	time.Sleep(2 * retryAfter)
	last = part(s, now, first.ID, 2, 2)
	put(t, s, last)
	ids := []msg.ID{first.ID, last.ID}
	wantStates(t, s, ids, msg.Accepted)
	set(true)
	r := s.Do(context.Background(), Event{ID: first.ID, Kind: msg.EvClaim, Device: "phone"})
	wantErr(t, "claim", r.Err, errDisk)
	wantStates(t, s, ids, msg.Accepted)
	set(false)
	if parts, err := s.Messages(first.ID); err != nil || len(parts) != 2 {
		t.Errorf("Messages() = %d parts, %v", len(parts), err)
	}
	shut(t, s)
}

// replace_sm changes a message that nobody has yet, durably.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	s := started(t, Options{Dir: dir})
	now := time.Now()
	m := message(s, now)
	put(t, s, m)
	changed := *m
	changed.PDU, changed.RegisteredDelivery = []byte("another one"), 0
	changed.ExpiresAt = now.Add(20 * time.Second).UTC().Round(0)
	do(t, s, Event{ID: m.ID, Kind: msg.EvReplace, Replace: &changed})
	shut(t, s)
	s = started(t, Options{Dir: dir})
	r := get(t, s, m.ID)
	if r.Edition != 1 || r.RegisteredDelivery != 0 || !r.ExpiresAt.Equal(changed.ExpiresAt) || !r.ClaimBy.Before(changed.ExpiresAt) {
		t.Errorf("record %+v", r)
	}
	if got, err := s.Message(m.ID); err != nil || string(got.PDU) != "another one" {
		t.Errorf("Message() = %v, %v", got, err)
	}
	do(t, s, Event{ID: m.ID, Kind: msg.EvClaim, Device: "phone"})
	res := s.Do(context.Background(), Event{ID: m.ID, Kind: msg.EvReplace, Replace: &changed})
	wantErr(t, "replace after a claim", res.Err, ErrRefused)
	other := changed
	other.ID = s.NewID()
	res = s.Do(context.Background(), Event{ID: m.ID, Kind: msg.EvReplace, Replace: &other})
	wantErr(t, "replace by another message", res.Err, ErrRefused)
}

// Any parts and events, in any order, with restarts: what belongs together
// stays together, and every part comes to one end.
func TestLettersAgainstTheirPromise(t *testing.T) {
	dir := t.TempDir()
	s := started(t, Options{Dir: dir})
	defer func() { shut(t, s) }()
	base := time.Now().Add(24 * time.Hour).UTC().Round(0)
	rapid.Check(t, func(t *rapid.T) {
		type letter struct {
			id    msg.ID
			total byte
			ids   []msg.ID
		}
		var letters []*letter
		class := func(r *Record) string {
			switch {
			case r.State == msg.Held:
				return "held"
			case undecided(r.State):
				return "undecided"
			case r.State == msg.Claimed:
				return "claimed"
			case r.Device != "" && r.State == msg.Delivered:
				return "delivered"
			}
			return "" // alone, or at an end of its own
		}
		t.Repeat(map[string]func(*rapid.T){
			"part": func(t *rapid.T) {
				var l *letter
				if len(letters) == 0 || rapid.IntRange(0, 3).Draw(t, "new") == 0 {
					l = &letter{total: rapid.ByteRange(1, 4).Draw(t, "total")}
					letters = append(letters, l)
				} else {
					l = rapid.SampledFrom(letters).Draw(t, "letter")
				}
				m := part(s, base, l.id, rapid.ByteRange(1, l.total).Draw(t, "number"), l.total)
				m.ExpiresAt, m.ClaimBy, m.HoldBy = base.Add(time.Hour), base.Add(time.Hour), base.Add(time.Hour)
				m.RegisteredDelivery = rapid.ByteRange(0, 1).Draw(t, "registered")
				l.id = m.Group
				if err := tryPut(s, m); err != nil {
					t.Fatalf("Put: %v", err)
				}
				l.ids = append(l.ids, m.ID)
			},
			"event": func(t *rapid.T) {
				if len(letters) == 0 {
					t.Skip("none")
				}
				l := rapid.SampledFrom(letters).Draw(t, "letter")
				kinds := slices.DeleteFunc(msg.Events(), func(k msg.Event) bool { return k == msg.EvReplace || k == msg.EvComplete || k == msg.EvAccept })
				e := Event{ID: rapid.SampledFrom(l.ids).Draw(t, "id"), Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), Device: "phone", Peer: "own"}
				e.SMSID = e.ID.String()
				s.Do(context.Background(), e)
			},
			"reopen": func(t *rapid.T) {
				if rapid.IntRange(0, 19).Draw(t, "really") > 0 {
					return
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				var err error
				if s, err = Open(Options{Dir: dir, memTable: testMemTable}); err != nil {
					t.Fatal(err)
				}
				s.Start()
			},
			"": func(t *rapid.T) {
				for _, l := range letters {
					classes := map[string]bool{}
					var seen []string
					for _, id := range l.ids {
						r, err := s.Get(id)
						if err != nil {
							t.Fatal(err)
						}
						if r.live() { // what has left RAM was final
							classes[class(&r)] = true
						}
						seen = append(seen, fmt.Sprintf("%d:%s", r.Number, r.State))
					}
					if len(classes) > 1 && (classes["held"] && (classes["undecided"] || classes["claimed"]) ||
						classes["undecided"] && classes["claimed"]) {
						t.Fatalf("a torn letter: %s", strings.Join(seen, " "))
					}
				}
			},
		})
		for _, l := range letters {
			for _, k := range []msg.Event{msg.EvHoldDeadline, msg.EvClaimDeadline, msg.EvValidity} {
				for _, id := range l.ids {
					s.Do(context.Background(), Event{ID: id, Kind: k})
				}
			}
			for _, id := range l.ids {
				for _, k := range []msg.Event{msg.EvSMSPermanent, msg.EvSMSLost, msg.EvValidity, msg.EvReceiptDone} {
					s.Do(context.Background(), Event{ID: id, Kind: k})
				}
				r, err := s.Get(id)
				steps, traceErr := s.Trace(id)
				if err != nil || traceErr != nil || !r.State.Final() {
					t.Fatalf("part %d ended as %s: %v %v", r.Number, r.State, err, traceErr)
				}
				checkTrace(t, steps)
			}
		}
		if n := s.Stats().LiveTotal; n != 0 || len(s.index.groups) != 0 {
			t.Fatalf("%d messages and %d letters are left", n, len(s.index.groups))
		}
	})
}
