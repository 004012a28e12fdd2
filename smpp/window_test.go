package smpp

import (
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"shunt/smpp/pdu"
)

// TestWindowModel drives a window and a plain map with the same steps, around
// the end of the sequence space too.
func TestWindowModel(t *testing.T) {
	type request struct {
		orig uint32
		own  bool
	}
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.OneOf(rapid.IntRange(1, 20), rapid.IntRange(30, 300)).Draw(t, "limit")
		var w window
		w.init(limit)
		w.last = rapid.OneOf(rapid.Just(uint32(0)), rapid.Uint32Range(pdu.MaxSequence-30, pdu.MaxSequence)).Draw(t, "last")
		model := map[uint32]request{}
		var order []uint32 // as they were sent
		given := w.last
		next := func(seq uint32) {
			if seq < 1 || seq > pdu.MaxSequence {
				t.Fatalf("sequence_number %#x", seq)
			}
			if _, dup := model[seq]; dup {
				t.Fatalf("sequence_number %d is outstanding", seq)
			}
			given = seq
		}
		t.Repeat(map[string]func(*rapid.T){
			"reserve": func(t *rapid.T) {
				if len(model) == limit {
					t.Skip("full")
				}
				for range rapid.IntRange(1, 60).Draw(t, "n") { // the ring grows
					if len(model) == limit {
						break
					}
					r := request{rapid.Uint32().Draw(t, "orig"), rapid.Bool().Draw(t, "own")}
					seq := w.reserve(r.orig, r.own)
					next(seq)
					model[seq] = r
					order = append(order, seq)
				}
			},
			"skip": func(t *rapid.T) { next(w.skip()) },
			"release": func(t *rapid.T) {
				if len(order) == 0 {
					t.Skip("empty")
				}
				i := rapid.IntRange(0, len(order)-1).Draw(t, "which")
				seq := order[i]
				order = slices.Delete(order, i, i+1)
				orig, own, ok := w.release(seq)
				if want := model[seq]; !ok || orig != want.orig || own != want.own {
					t.Fatalf("release(%d) = %d, %v, %v, want %+v", seq, orig, own, ok, want)
				}
				delete(model, seq)
			},
			"release unknown": func(t *rapid.T) {
				seq := rapid.OneOf(rapid.Uint32(), rapid.Just(uint32(0)), rapid.Just(given|1<<31), rapid.Just(given+uint32(len(*w.ring.Load())))).Draw(t, "seq")
				if _, known := model[seq]; known {
					t.Skip("known")
				}
				if orig, own, ok := w.release(seq); ok {
					t.Fatalf("release(%d) = %d, %v, want none", seq, orig, own)
				}
			},
			"expire": func(t *rapid.T) {
				if len(order) == 0 {
					t.Skip("empty")
				}
				i := rapid.IntRange(0, len(order)-1).Draw(t, "up to")
				want := 0
				for _, seq := range order[:i+1] {
					if !model[seq].own {
						want++
						delete(model, seq)
					}
				}
				got := w.expire(order[i])
				order = slices.DeleteFunc(order, func(seq uint32) bool { _, left := model[seq]; return !left })
				if got != want {
					t.Fatalf("expire = %d, want %d", got, want)
				}
			},
			"": func(t *rapid.T) {
				if int(w.inUse()) != len(model) || w.full() != (len(model) >= limit) {
					t.Fatalf("inUse = %d, full %v, want %d of %d", w.inUse(), w.full(), len(model), limit)
				}
				held := 0
				ring := *w.ring.Load()
				for i := range ring {
					if ring[i].Load() != 0 {
						held++
					}
				}
				if held != len(model) {
					t.Fatalf("%d slots are taken, want %d", held, len(model))
				}
			},
		})
	})
}

// The limit is the configured one, whatever the ring's size.
func TestWindowLimit(t *testing.T) {
	for _, c := range []struct{ limit, want, ring int }{{-1, 1, 1}, {0, 1, 1}, {1, 1, 1}, {2, 2, 2}, {3, 3, 4}, {100, 100, 128}, {4096, 4096, 4096}, {4097, 4097, 8192}} {
		var w window
		w.init(c.limit)
		n := 0
		for ; !w.full(); n++ {
			w.reserve(uint32(n), false)
		}
		if ring := len(*w.ring.Load()); n != c.want || ring != c.ring {
			t.Errorf("window of %d: %d requests in a ring of %d, want %d in %d", c.limit, n, ring, c.want, c.ring)
		}
	}
}

// Release and expire race for the same slots: each is freed once. The race
// detector watches.
func TestWindowRace(t *testing.T) {
	const rounds, size = 200, 256
	var w window
	w.init(size)
	for range rounds {
		var seqs []uint32
		for !w.full() {
			seqs = append(seqs, w.reserve(1, false))
		}
		var wg sync.WaitGroup
		released, expired := 0, 0
		wg.Go(func() {
			for _, seq := range seqs {
				if _, _, ok := w.release(seq); ok {
					released++
				}
			}
		})
		wg.Go(func() { expired = w.expire(seqs[len(seqs)-1]) })
		wg.Wait()
		if released+expired != size || w.inUse() != 0 {
			t.Fatalf("%d released and %d expired of %d, %d in use", released, expired, size, w.inUse())
		}
	}
}

// What a release does not find while the ring grows, it finds under the lock:
// nothing that was reserved is lost, and nothing is released twice.
func TestWindowGrowsUnderRelease(t *testing.T) {
	const requests = 4096
	for range 50 {
		var w window
		w.init(requests)
		var mu sync.Mutex
		sent := make(chan uint32, requests)
		go func() {
			defer close(sent)
			for range requests {
				mu.Lock()
				seq := w.reserve(7, false)
				mu.Unlock()
				sent <- seq
			}
		}()
		for seq := range sent {
			orig, _, ok := w.release(seq)
			if !ok {
				mu.Lock()
				orig, _, ok = w.release(seq)
				mu.Unlock()
			}
			if !ok || orig != 7 {
				t.Fatalf("release(%d) = %d, %t under the lock", seq, orig, ok)
			}
		}
		if w.inUse() != 0 {
			t.Fatalf("%d in use after all were released", w.inUse())
		}
	}
}

func TestWindowNoAllocation(t *testing.T) {
	var w window
	w.init(64)
	if n := testing.AllocsPerRun(1000, func() { w.release(w.reserve(1, false)) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
