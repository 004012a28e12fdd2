package spool

import (
	"iter"
	"testing"

	"pgregory.net/rapid"

	"shunt/gateway/msg"
)

// all are the entries, in no order.
func (t *table[K]) all() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for i := range t.shards {
			for _, e := range t.shards[i].slots {
				if e != nil && !yield(e) {
					return
				}
			}
		}
	}
}

// The table against Go's map, through growth to some dozen entries a shard and
// back.
func TestTableAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const keys = 4000
		number := rapid.Custom(func(t *rapid.T) msg.Number { return msg.Number(rapid.IntRange(1, keys).Draw(t, "n")) })
		x := newTable(func(e *entry) msg.Number { return e.to })
		model := map[msg.Number]*entry{}
		put := func(n msg.Number) {
			e := &entry{to: n}
			x.put(e)
			model[n] = e
		}
		remove := func(n msg.Number) {
			x.remove(n)
			delete(model, n)
		}
		t.Repeat(map[string]func(*rapid.T){
			"put":    func(t *rapid.T) { put(number.Draw(t, "number")) },
			"remove": func(t *rapid.T) { remove(number.Draw(t, "number")) },
			"put many": func(t *rapid.T) {
				for n := number.Draw(t, "first"); n <= keys; n += 3 {
					put(n)
				}
			},
			"remove many": func(t *rapid.T) {
				for n := number.Draw(t, "first"); n <= keys; n += 2 {
					remove(n)
				}
			},
			"": func(t *rapid.T) {
				if x.len() != len(model) {
					t.Fatalf("%d entries, want %d", x.len(), len(model))
				}
				for n := msg.Number(1); n <= keys; n++ {
					if got := x.get(n); got != model[n] {
						t.Fatalf("%d: %p, want %p", n, got, model[n])
					}
				}
				for i := range x.shards {
					if s := &x.shards[i]; len(s.slots) > minTableSlots && 8*s.held < len(s.slots) || 4*s.held > 3*len(s.slots) {
						t.Fatalf("%d entries in %d slots", s.held, len(s.slots))
					}
				}
			},
		})
		found := 0
		for e := range x.all() {
			if found++; model[e.to] != e {
				t.Fatalf("%d is not in the map", e.to)
			}
		}
		if found != len(model) {
			t.Fatalf("%d entries were found, want %d", found, len(model))
		}
	})
}
