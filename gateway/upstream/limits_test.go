package upstream

import (
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func source4(n uint32) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}), 32)
}

// newTestGate is a gate whose connections, when they are closed, say so.
func newTestGate(l Limits) *gate { return newGate(l, &Counters{}) }

func (g *gate) mustEnter(t *testing.T, p netip.Prefix) *waiting {
	t.Helper()
	w, ok := g.enter(p, time.Now(), func() {})
	if !ok {
		t.Fatalf("a connection from %s was refused", p)
	}
	return w
}

func TestSourceOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.1:5":              "192.0.2.1/32",
		"[::ffff:192.0.2.1]:5":     "192.0.2.1/32",
		"[2001:db8:1:2:3:4:5:6]:5": "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::1]:5": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:5":         "fe80::/64",
	} {
		if got := sourceOf(tcpAddr(addr)); got.String() != want {
			t.Errorf("sourceOf(%s) = %s, want %s", addr, got, want)
		}
	}
}

// TestConnectRate: a burst of five seconds, then the rate, to the millisecond.
func TestConnectRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGate(Limits{ConnectRate: 10})
		enter := func(p netip.Prefix) bool {
			w, ok := g.enter(p, time.Now(), func() {})
			w.leave()
			return ok
		}
		a, b := source4(1), source4(2)
		for i := range 50 {
			if !enter(a) {
				t.Fatalf("connection %d of the burst was refused", i)
			}
		}
		if enter(a) {
			t.Error("a 51st connection at once was taken")
		}
		if !enter(b) {
			t.Error("another source pays for it")
		}
		time.Sleep(99 * time.Millisecond)
		if enter(a) {
			t.Error("a connection after 99 ms was taken")
		}
		time.Sleep(time.Millisecond)
		if !enter(a) || enter(a) {
			t.Error("after 100 ms: want one connection")
		}
		time.Sleep(time.Hour)
		n := 0
		for enter(a) {
			n++
		}
		if n != 50 {
			t.Errorf("a burst after an hour has %d connections, want 50", n)
		}
		if got := g.n.ConnectsRefused.Load(); got != 4 {
			t.Errorf("ConnectsRefused = %d, want 4", got)
		}
	})
}

// TestUnbound: of one source the newest goes, in all the oldest that has not
// sent a bind.
func TestUnbound(t *testing.T) {
	g := newTestGate(Limits{Unbound: 3, UnboundPerSource: 2})
	var closed []string
	enter := func(name string, p netip.Prefix) (*waiting, bool) {
		return g.enter(p, time.Now(), func() { closed = append(closed, name) })
	}
	first, _ := enter("first", source4(1))
	second, _ := enter("second", source4(1))
	if _, ok := enter("third of a source", source4(1)); ok {
		t.Error("a third connection of one source was taken")
	}
	first.asks(true) // waits for its SMSC
	third, _ := enter("third", source4(2))
	if _, ok := enter("fourth", source4(3)); !ok || len(closed) != 1 || closed[0] != "second" || !second.gone() {
		t.Errorf("the fourth was taken: %t, closed: %v, want the second closed", ok, closed)
	}
	third.asks(true)
	closed = nil
	fifth, ok := enter("fifth", source4(4))
	if !ok || len(closed) != 1 || closed[0] != "fourth" {
		t.Errorf("the fifth was taken: %t, closed: %v, want the fourth closed", ok, closed)
	}
	fifth.asks(true)
	if _, ok := enter("sixth", source4(5)); ok {
		t.Error("a connection was taken though all wait for the SMSC")
	}
	first.leave()
	first.leave() // once is enough
	second.leave()
	if _, ok := enter("seventh", source4(1)); !ok || g.unbound.Len() != 3 {
		t.Errorf("after an end: taken %t, %d are there", ok, g.unbound.Len())
	}
	// Behind a balancer the source is known later.
	third.leave()
	late, ok := enter("late", netip.Prefix{})
	if !ok || !late.identify(source4(1), time.Now()) {
		t.Error("a second connection of a source was refused behind its header")
	}
	fifth.leave()
	third, _ = enter("later", netip.Prefix{})
	if third.identify(source4(1), time.Now()) {
		t.Error("a third connection of a source was taken behind its header")
	}
}

// TestBlock: the thresholds, the lengths and their end, exact to the second.
func TestBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Limits{BindFailures: 3, BindFailureWindow: time.Minute, BlockFirst: 10 * time.Second, BlockMost: 30 * time.Second}
		g := newTestGate(l)
		start := time.Now()
		type event struct {
			at, length time.Duration // length 0: the end
		}
		var mu sync.Mutex
		var got []event
		told := func(length time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, event{time.Since(start), length})
		}
		g.blocked = func(_ netip.Prefix, d time.Duration) { told(d) }
		g.freed = func(netip.Prefix) { told(0) }
		bad, good := g.mustEnter(t, source4(1)), g.mustEnter(t, source4(2))
		fail := func() { bad.failed(time.Now()) }
		at := func(s int) {
			time.Sleep(time.Until(start.Add(time.Duration(s) * time.Second)))
			synctest.Wait() // for what else happens at that moment
		}
		isBlocked := func(want bool) {
			t.Helper()
			if got := bad.isBlocked(time.Now()); got != want {
				t.Errorf("after %s: blocked %t, want %t", time.Since(start), got, want)
			}
		}
		fail()
		fail()
		at(60) // the window has ended
		fail()
		fail()
		isBlocked(false)
		fail() // blocked for 10 s
		isBlocked(true)
		fail() // of a bind that was under way: does not count
		if good.isBlocked(time.Now()) {
			t.Error("another source is blocked")
		}
		at(70)
		isBlocked(false)
		fail() // one is enough now: 20 s
		at(90)
		isBlocked(false)
		fail() // 30 s, the most
		at(120)
		fail() // 30 s again
		at(150 + 30)
		fail() // it has behaved long enough: the first of three
		isBlocked(false)
		fail()
		fail() // 10 s
		at(185)
		bad.succeeded() // of a bind that was under way
		isBlocked(false)
		at(1000)
		mu.Lock()
		defer mu.Unlock()
		s := func(n time.Duration) time.Duration { return n * time.Second }
		want := []event{
			{s(60), s(10)},
			{s(70), 0},
			{s(70), s(20)},
			{s(90), 0},
			{s(90), s(30)},
			{s(120), 0},
			{s(120), s(30)},
			{s(150), 0},
			{s(180), s(10)},
			{s(185), 0},
		}
		if len(got) != len(want) {
			t.Fatalf("blocks began and ended %v, want %v", got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("event %d: %v, want %v", i, got[i], want[i])
			}
		}
		if n := g.n.Blocks.Load(); n != 5 {
			t.Errorf("Blocks = %d, want 5", n)
		}
	})
}

// TestSourcesAreBounded: a million sources take no more memory than the table.
// One that has a connection is never forgotten.
func TestSourcesAreBounded(t *testing.T) {
	g := newTestGate(Limits{ConnectRate: 10, BindFailures: 1, BindFailureWindow: time.Hour, BlockFirst: time.Hour, BlockMost: time.Hour})
	ended := 0
	g.freed = func(netip.Prefix) { ended++ }
	stays := g.mustEnter(t, source4(0xFFFFFFFF))
	stays.failed(time.Now())
	goes := g.mustEnter(t, source4(0xFFFFFFFE))
	goes.failed(time.Now())
	goes.leave()
	const n = 1_000_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range uint32(n) {
		g.mustEnter(t, source4(i)).leave()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if got := len(g.sources); got != maxSources+1 || g.idle.Len() != maxSources || g.unbound.Len() != 1 {
		t.Errorf("%d sources, %d idle, %d connections; want %d, %d and 1", got, g.idle.Len(), g.unbound.Len(), maxSources+1, maxSources)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > maxSources*512 {
		t.Errorf("the heap has grown by %d octets for %d sources", grown, n)
	}
	if !stays.isBlocked(time.Now()) || ended != 1 {
		t.Errorf("blocked %t, %d blocks ended; want true and the one of the source that went", stays.isBlocked(time.Now()), ended)
	}
	g.close()
	runtime.KeepAlive(g)
}

// TestNoLimits: nothing is refused where nothing is limited.
func TestNoLimits(t *testing.T) {
	g := newTestGate(Limits{})
	for range 10_000 {
		g.mustEnter(t, source4(1)).failed(time.Now())
	}
	if w := g.mustEnter(t, source4(1)); w.isBlocked(time.Now()) {
		t.Error("blocked without a limit")
	}
	var none *waiting // of a connection that we made
	none.leave()
	none.asks(true)
	none.failed(time.Now())
	none.succeeded()
	if none.isBlocked(time.Now()) || none.gone() || !none.identify(source4(1), time.Now()) {
		t.Error("a connection of our own is limited")
	}
}

// TestBackoff: the pauses grow while sessions die young, and begin anew after
// one that lived.
func TestBackoff(t *testing.T) {
	var b backoff
	for i, lived := range []time.Duration{0, 0, stableAfter - 1, 0, 0, 0, 0, 0, 0, 0} {
		base := min(firstBackoff<<i, lastBackoff)
		if got := b.next(lived); got < base/2 || got > base*3/2 {
			t.Errorf("pause %d is %s, want %s to %s", i, got, base/2, base*3/2)
		}
	}
	if got := b.next(stableAfter); got > firstBackoff*3/2 {
		t.Errorf("the pause after a session of %s is %s, want it to begin anew", stableAfter, got)
	}
	if got := b.next(0); got < firstBackoff || got > firstBackoff*3 {
		t.Errorf("the second pause is %s", got)
	}
}

// TestTrap09BackoffSpreads: of a thousand binds that were lost at one moment no tenth
// of the range has many times its part, at any stage.
func TestTrap09BackoffSpreads(t *testing.T) {
	const binds = 1000
	all := make([]backoff, binds)
	for stage := range 8 {
		base := min(firstBackoff<<stage, lastBackoff)
		var tenths [10]int
		for i := range all {
			wait := all[i].next(0)
			tenths[min(int(10*(wait-base/2)/base), 9)]++
		}
		for i, n := range tenths {
			if n < 40 || n > 200 { // a hundred, within six standard deviations below and ten above
				t.Errorf("pause %d: %d of %d binds return in tenth %d of its range", stage, n, binds, i)
			}
		}
	}
}
