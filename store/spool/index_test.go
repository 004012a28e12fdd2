package spool

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"shunt/gateway/msg"
)

func TestByNumberAndRecent(t *testing.T) {
	s := started(t, Options{})
	const other = testNumber + 1
	var all []msg.ID
	for i := range 9 {
		m := message(s, time.Now())
		if i == 4 {
			m.To = other
		}
		put(t, s, m)
		all = append(all, m.ID)
	}
	do(t, s, Event{ID: all[0], Kind: msg.EvPushDead})              // the carrier's
	do(t, s, Event{ID: all[1], Kind: msg.EvClaim, Device: "a"})    // still in the list
	for _, e := range path(all[2], msg.EvClaim, msg.EvDelivered) { // acknowledged
		do(t, s, e)
	}
	for _, e := range path(all[3], msg.EvClaim, msg.EvDelivered, msg.EvReceiptDone) { // finished
		do(t, s, e)
	}
	list := func(rs []Record) (n []int) {
		for _, r := range rs {
			n = append(n, slices.Index(all, r.ID))
		}
		return n
	}
	for _, c := range []struct {
		n     msg.Number
		after msg.ID
		limit int
		want  []int
	}{
		{testNumber, msg.ID{}, 0, []int{1, 5, 6, 7, 8}},
		{testNumber, all[5], 2, []int{6, 7}},
		{testNumber, all[8], 5, nil},
		{other, msg.ID{}, 10, []int{4}},
		{other + 1, msg.ID{}, 0, nil},
	} {
		if got := list(s.ByNumber(c.n, c.after, c.limit)); !slices.Equal(got, c.want) {
			t.Errorf("ByNumber(%s, %s, %d) = %v, want %v", c.n.Masked(), c.after, c.limit, got, c.want)
		}
	}
	recent := func(n msg.Number, limit int) []int {
		rs, err := s.Recent(n, limit)
		if err != nil {
			t.Errorf("Recent = %v", err)
		}
		return list(rs)
	}
	if got, want := recent(testNumber, 0), []int{8, 7, 6, 5, 3, 2, 1, 0}; !slices.Equal(got, want) {
		t.Errorf("Recent = %v, want %v", got, want)
	}
	if got, want := recent(testNumber, 3), []int{8, 7, 6}; !slices.Equal(got, want) {
		t.Errorf("Recent(3) = %v, want %v", got, want)
	}
	if got, want := recent(other, 3), []int{4}; !slices.Equal(got, want) {
		t.Errorf("Recent of the other = %v, want %v", got, want)
	}
}

// Ids need not come in order: the lists are by id nevertheless.
func TestIndexOrder(t *testing.T) {
	x := newIndex()
	var want []msg.ID
	for _, n := range []byte{5, 2, 9, 1, 7, 3, 8, 4, 6} {
		r := Record{ID: msg.ID{15: n}, To: testNumber, State: msg.Accepted}
		x.insert(&r, trail{})
		want = append(want, r.ID)
	}
	slices.SortFunc(want, compare)
	check := func(what string) {
		t.Helper()
		var walk, waiting []msg.ID
		for _, r := range x.after(msg.ID{}, make([]Record, 0, 100)) {
			walk = append(walk, r.ID)
		}
		for _, r := range x.waiting(testNumber, msg.ID{}, 0) {
			waiting = append(waiting, r.ID)
		}
		if !slices.Equal(walk, want) || !slices.Equal(waiting, want) || x.open(testNumber, 100) != len(want) || x.open(testNumber, 2) != min(2, len(want)) {
			t.Errorf("%s: after = %v, waiting = %v, %d open, want %v", what, walk, waiting, x.open(testNumber, 100), want)
		}
	}
	check("all")
	for _, n := range []byte{9, 1, 5} {
		x.remove(x.byID.get(msg.ID{15: n}))
		want = slices.DeleteFunc(want, func(id msg.ID) bool { return id[15] == n })
		check(fmt.Sprintf("without %d", n))
	}
	for len(want) > 0 {
		x.remove(x.byID.get(want[0]))
		want = want[1:]
		check("from the front")
	}
	if x.byNumber.len() != 0 || x.byID.len() != 0 {
		t.Errorf("the empty index holds %d numbers, %d ids", x.byNumber.len(), x.byID.len())
	}
}

// The index tidies itself: what left long ago costs nothing.
func TestIndexForgets(t *testing.T) {
	x := newIndex()
	for i := range 100_000 {
		r := Record{To: msg.Number(i), State: msg.Accepted}
		binary.BigEndian.PutUint64(r.ID[8:], uint64(i))
		e := x.insert(&r, trail{})
		if i != 50 {
			x.remove(e)
		}
	}
	if x.byID.len() != 1 || len(x.order) > 200 || cap(x.order) > 1000 {
		t.Errorf("one message is left; order has %d entries of %d", len(x.order), cap(x.order))
	}
}

func TestIDsGrow(t *testing.T) {
	var g idSource
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	last := g.next(now)
	for i := range 100_000 {
		switch {
		case i%1000 == 0:
			now = now.Add(time.Millisecond)
		case i == 5500:
			now = now.Add(-time.Hour)
		}
		id := g.next(now)
		if compare(id, last) <= 0 {
			t.Fatalf("id %d, %s, does not follow %s", i, id, last)
		}
		last = id
	}
	g.seen(msg.ID{0xff})
	if id := g.next(now); id[0] != 0xff {
		t.Errorf("after a greater id was seen: %s", id)
	}
	full := msg.ID{5: 1, 6: 0xff, 7: 0xff, 8: 0xff, 9: 0xff, 10: 0xff, 11: 0xff, 12: 0xff, 13: 0xff, 14: 0xff, 15: 0xff}
	add(&full, 1)
	if want := (msg.ID{5: 2}); full != want {
		t.Errorf("an overflow gives %x, want %x", full, want)
	}
}

func TestIDsAreUnique(t *testing.T) {
	s := open(t, Options{})
	const workers, each = 8, 2000
	ids, shorts := make([][]msg.ID, workers), make([][]string, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range each {
				ids[w], shorts[w] = append(ids[w], s.NewID()), append(shorts[w], s.ShortID())
			}
		})
	}
	wg.Wait()
	id, short := map[msg.ID]bool{}, map[string]bool{}
	for w := range workers {
		if !slices.IsSortedFunc(ids[w], compare) {
			t.Errorf("a caller's ids do not grow")
		}
		for i := range each {
			id[ids[w][i]], short[shorts[w][i]] = true, true
		}
	}
	if len(id) != workers*each || len(short) != workers*each {
		t.Errorf("%d ids, %d short ids; want %d of each", len(id), len(short), workers*each)
	}
}

func TestShortIDsAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	seen := map[string]bool{}
	for run := range 3 {
		s := open(t, Options{Dir: dir})
		n := shortBlock + 10
		if run == 1 {
			n = 3
		}
		for range n {
			id := s.ShortID()
			if seen[id] || len(id) != 8 || strings.Trim(id, "0123456789abcdef") != "" {
				t.Fatalf("run %d: ShortID() = %q: repeated, or not eight hex digits", run, id)
			}
			if len(seen) == 0 && id < "80000000" {
				t.Errorf("a new spool begins at %q, want it far from where SMSCs begin to count", id)
			}
			seen[id] = true
		}
		shut(t, s)
	}
}
