package registry

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"shunt/gateway/msg"
)

// change is index.set with its lock.
func (x *index) change(n msg.Number, w uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.set(n, w)
}

func TestIndexAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := new(index)
		type state struct {
			e       msg.Entry
			devices int
		}
		model := map[msg.Number]state{}
		// A few dense ranges, so that pages are shared and numbers come back.
		number := rapid.Custom(func(t *rapid.T) msg.Number {
			base := rapid.SampledFrom([]msg.Number{msg.MinNumber, 447700900000, 353861230000, msg.MaxNumber - 400}).Draw(t, "range")
			return base + msg.Number(rapid.IntRange(0, 400).Draw(t, "offset"))
		})
		set := func(t *rapid.T, n msg.Number, s state) {
			x.change(n, word(s.e, s.devices))
			if s.devices == 0 {
				delete(model, n)
			} else {
				model[n] = s
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				set(t, number.Draw(t, "number"), state{
					msg.MakeEntry(rapid.Bool().Draw(t, "active"), rapid.Uint16().Draw(t, "app"), rapid.Uint32().Draw(t, "generation")),
					rapid.IntRange(1, MaxDevices).Draw(t, "devices"),
				})
			},
			"setRun": func(t *rapid.T) {
				from, run := number.Draw(t, "number"), rapid.IntRange(1, 300).Draw(t, "run")
				for i := range run {
					set(t, from+msg.Number(i), state{msg.MakeEntry(i%2 == 0, uint16(i), uint32(i)), 1 + i%MaxDevices})
				}
			},
			"remove": func(t *rapid.T) { set(t, number.Draw(t, "number"), state{}) },
			"removeRun": func(t *rapid.T) {
				from, run := number.Draw(t, "number"), rapid.IntRange(1, 300).Draw(t, "run")
				for i := range run {
					set(t, from+msg.Number(i), state{})
				}
			},
			"": func(t *rapid.T) {
				n := number.Draw(t, "number")
				if got, want := x.lookup(n), model[n].e; got != want {
					t.Fatalf("lookup(%d) = %#x, want %#x", n, got, want)
				}
				var want Count
				for n, s := range model {
					want.Numbers++
					want.Devices += s.devices
					if s.e.Active() {
						want.Active++
					}
					if got := x.lookup(n); got != s.e {
						t.Fatalf("lookup(%d) = %#x, want %#x", n, got, s.e)
					}
				}
				if got := x.totals(); got != want {
					t.Fatalf("totals() = %+v, want %+v", got, want)
				}
			},
		})
	})
}

// Removed keys must neither fill the tables nor keep them large.
func TestIndexGivesMemoryBack(t *testing.T) {
	const (
		numbers = 40_000
		base    = msg.Number(447700000000)
		small   = 300_000 // octets: little more than the smallest tables of all shards
	)
	x := new(index)
	fill := func(from msg.Number, w uint64) {
		for i := range msg.Number(numbers) {
			x.change(from+i*7, w)
		}
	}
	present := word(msg.MakeEntry(true, 1, 1), 1)
	fill(base, present)
	if per := x.bytes() / numbers; per < 16 || per > 32 {
		t.Errorf("bytes() = %d for %d numbers, %d each, want 16 to 32", x.bytes(), numbers, per)
	}
	for round := range msg.Number(4) {
		fill(base+round*1_000_000, present)
		fill(base+round*1_000_000, 0)
		if got := x.bytes(); got > small {
			t.Errorf("bytes() after removing all, round %d = %d, want at most %d", round, got, small)
		}
	}
	if got := x.totals(); got != (Count{}) {
		t.Errorf("totals() = %+v, want none", got)
	}
}

// The filter must pass every key that is there and few that are not.
func TestFilter(t *testing.T) {
	const keys = 50_000
	p := new(pairs)
	passes := func(key uint64) bool {
		h := hash(key)
		f := p.tables[h%numShards].Load().filter
		return f[home(h, len(f))].Load()&filterBits(h) == filterBits(h)
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range uint64(keys) {
		p.set(1+i<<30|uint64(rnd.Uint32())>>2, i+1)
	}
	for i := range p.tables {
		for j := range p.tables[i].Load().slots {
			if k := p.tables[i].Load().slots[j].key.Load(); k != 0 && !passes(k) {
				t.Fatalf("key %#x is there and does not pass", k)
			}
		}
	}
	passed := 0
	for range keys {
		if passes(1<<60 | rnd.Uint64()>>8) {
			passed++
		}
	}
	if passed > keys*4/100 {
		t.Errorf("%d of %d absent keys pass, want at most 4 in a hundred", passed, keys)
	}
}

// TestIndexReaders runs readers against one writer that grows, shrinks and
// rebuilds the tables. A reader must never see another number's entry, nor
// miss a number that is always there.
func TestIndexReaders(t *testing.T) {
	const (
		base    = msg.Number(447700900000)
		span    = 4096
		stable  = 16 // each number whose offset divides by it stays
		readers = 4
		changes = 60_000
	)
	x := new(index)
	entry := func(n msg.Number, active bool) msg.Entry {
		return msg.MakeEntry(active, uint16(n), uint32(n*2654435761))
	}
	for i := msg.Number(0); i < span; i += stable {
		x.change(base+i, word(entry(base+i, true), 1))
	}
	var stop atomic.Bool
	var reads [readers]int
	var started, ended sync.WaitGroup
	started.Add(readers)
	for r := range readers {
		ended.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(r), 1))
			for first := true; !stop.Load(); reads[r]++ {
				n := base + msg.Number(rnd.IntN(span))
				e := x.lookup(n)
				switch {
				case e != 0 && e != entry(n, true) && e != entry(n, false):
					t.Errorf("lookup(%d) = %#x, which is no entry of this number", n, e)
					return
				case (n-base)%stable == 0 && !e.Active():
					t.Errorf("lookup(%d) = %#x, want the entry that is always there", n, e)
					return
				}
				if first {
					first = false
					started.Done()
				}
			}
		})
	}
	started.Wait()
	rnd := rand.New(rand.NewPCG(7, 7))
	for i := range changes {
		n := base + msg.Number(rnd.IntN(span))
		if (n-base)%stable == 0 {
			continue
		}
		// Waves of mostly adding and mostly removing.
		w := uint64(0)
		if rnd.IntN(10) < 2+6*(i/10_000%2) {
			w = word(entry(n, rnd.IntN(2) == 0), 1+rnd.IntN(MaxDevices))
		}
		x.change(n, w)
	}
	stop.Store(true)
	ended.Wait()
	for r, n := range reads {
		if n == 0 {
			t.Errorf("reader %d made no look-up", r)
		}
	}
}

func TestLookupDoesNotAllocate(t *testing.T) {
	x := new(index)
	for i := range msg.Number(10_000) {
		x.change(testNumber+i, word(msg.MakeEntry(true, 1, 1), 1))
	}
	r := &Registry{}
	r.ready.Store(true)
	r.index.change(testNumber, word(msg.MakeEntry(true, 1, 1), 1))
	var sum msg.Entry
	for name, lookup := range map[string]func(){
		"hit":            func() { sum |= x.lookup(testNumber + 77) },
		"miss":           func() { sum |= x.lookup(testNumber + 77_777_777) },
		"registry, hit":  func() { sum |= r.Lookup(testNumber) },
		"registry, miss": func() { sum |= r.Lookup(testNumber + 1) },
	} {
		if got := testing.AllocsPerRun(1000, lookup); got != 0 {
			t.Errorf("%s: %v allocations a look-up, want 0", name, got)
		}
	}
	if !sum.Active() {
		t.Error("the look-ups that should hit all missed")
	}
}

// benchNumbers registers ten million numbers, one in ten of a range or
// scattered over 10^11, and returns misses and hits in random order.
func benchNumbers(x *index, dense bool) (misses, hits []msg.Number) {
	const registered = 10_000_000 // the scale that is promised
	rnd := rand.New(rand.NewPCG(1, 2))
	draw := func() msg.Number {
		if dense {
			return 447700000000 + msg.Number(rnd.IntN(10*registered))
		}
		return 400000000000 + msg.Number(rnd.Int64N(100_000_000_000))
	}
	for len(hits) < registered {
		if n := draw(); x.lookup(n) == 0 {
			x.change(n, word(msg.MakeEntry(true, uint16(n%3), uint32(n)), 1))
			hits = append(hits, n)
		}
	}
	for len(misses) < registered {
		if n := draw(); x.lookup(n) == 0 {
			misses = append(misses, n)
		}
	}
	return misses, hits
}

func benchmarkLookup(b *testing.B, hit bool) {
	for _, c := range []struct {
		name  string
		dense bool
	}{{"dense", true}, {"scattered", false}} {
		b.Run(c.name, func(b *testing.B) {
			r := &Registry{}
			r.ready.Store(true)
			numbers, hits := benchNumbers(&r.index, c.dense)
			if hit {
				numbers = hits
			}
			b.ReportMetric(float64(r.IndexBytes()), "index-B")
			b.ReportAllocs()
			i, found := 0, 0
			for b.Loop() {
				if r.Lookup(numbers[i]).Active() {
					found++
				}
				if i++; i == len(numbers) {
					i = 0
				}
			}
			if hit != (found > 0) {
				b.Errorf("found %d, want hits: %v", found, hit)
			}
			b.ReportMetric(float64(r.IndexBytes()), "index-B")
		})
	}
}

func BenchmarkLookupMiss(b *testing.B) { benchmarkLookup(b, false) }
func BenchmarkLookupHit(b *testing.B)  { benchmarkLookup(b, true) }

// TestReserve: what was reserved needs no growth, finds everything, and is given
// back where it was too much.
func TestReserve(t *testing.T) {
	var p pairs
	const keys = 100_000
	p.reserve(keys)
	room := p.bytes()
	for k := uint64(1); k <= keys; k++ {
		p.set(k, k)
	}
	if got := p.bytes(); got != room {
		t.Errorf("%d octets with all keys, want the %d that were reserved", got, room)
	}
	for k := uint64(1); k <= keys; k++ {
		if got := p.get(k); got != k {
			t.Fatalf("get(%d) = %d", k, got)
		}
	}
	p.reserve(10 * keys) // none of them is empty
	if got := p.bytes(); got != room {
		t.Errorf("%d octets, want %d: a shard with keys was replaced", got, room)
	}
	var q pairs
	q.reserve(10 * keys)
	for k := uint64(1); k <= keys; k++ {
		q.set(k, k)
	}
	q.trim()
	if got := q.bytes(); got > room*11/10 {
		t.Errorf("%d octets after trim(), want about %d", got, room)
	}
	for k := uint64(1); k <= keys; k++ {
		if got := q.get(k); got != k {
			t.Fatalf("get(%d) = %d after trim()", k, got)
		}
	}
}
