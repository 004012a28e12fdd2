package registry

import (
	"math/bits"
	"sync/atomic"
)

// pairs is an open-addressed map from a word to a word, 16 octets a slot and
// free of pointers, that any number of readers may search without a lock
// while one writer changes it.
//
// The key of a slot never changes during the life of its table: a removed key
// stays, with the value zero, which means "absent". So a reader that found its
// key cannot read another key's value. Growth copies the living slots of one
// shard into a new table and publishes that with one pointer; readers that
// still hold the old table see the state before the change that made it grow.
// Shards keep those copies short.
type pairs struct {
	tables [numShards]atomic.Pointer[table]
	used   [numShards]uint32 // the writer's: slots with a key
	live   [numShards]uint32 // the writer's: slots with a value
	octets atomic.Int64      // of all tables
}

// table has a filter, since its map is asked mostly for keys that it does not
// hold: 64 bits for eight slots, of which each key sets two in one word. It is
// a sixteenth of the table's size, so that more of it stays in the processor's
// cache, and it answers all but some three in a hundred of those questions. Keys
// never leave a table, so that it needs no removal.
type table struct {
	slots  []slot
	filter []atomic.Uint64
}

// slot holds key 0 while it is free. Its value is stored before its key.
type slot struct{ key, val atomic.Uint64 }

const (
	numShards = 256
	minSlots  = 16
	slotBytes = 16

	filterSlots = 8 // slots to a word of the filter
)

// hash spreads consecutive keys over all 64 bits: the low bits choose the
// shard, the high bits the slot.
func hash(key uint64) uint64 {
	h := key * 0x9E3779B97F4A7C15
	h ^= h >> 32
	h *= 0xD6E8FEB86659FD93
	return h ^ h>>29
}

// home is the first slot to look at, of n.
func home(h uint64, n int) int {
	i, _ := bits.Mul64(h, uint64(n))
	return int(i)
}

// filterBits are the two bits of a key in its word of the filter.
func filterBits(h uint64) uint64 { return 1<<(h>>8&63) | 1<<(h>>14&63) }

// get is the value of key, or zero. It takes no lock and does not allocate.
func (p *pairs) get(key uint64) uint64 {
	h := hash(key)
	t := p.tables[h%numShards].Load()
	if t == nil {
		return 0
	}
	if bits := filterBits(h); t.filter[home(h, len(t.filter))].Load()&bits != bits {
		return 0
	}
	s := t.slots
	for i := home(h, len(s)); ; {
		switch s[i].key.Load() {
		case key:
			return s[i].val.Load()
		case 0:
			return 0
		}
		if i++; i == len(s) {
			i = 0
		}
	}
}

// set gives key (never 0) the value val, zero removes it, and returns the value
// that it had. Only one goroutine at a time may call it.
func (p *pairs) set(key, val uint64) (old uint64) {
	h := hash(key)
	n := int(h % numShards)
	t := p.tables[n].Load()
	if t != nil {
		if s := t.find(h, key); s.key.Load() == key {
			switch old = s.val.Load(); {
			case old == 0 && val != 0:
				p.live[n]++
			case old != 0 && val == 0:
				p.live[n]--
			}
			s.val.Store(val)
			if p.used[n] > minSlots && p.live[n] < p.used[n]/4 {
				p.rebuild(n)
			}
			return old
		}
	}
	if val == 0 {
		return 0
	}
	// At most four slots in five have a key: the search for an absent key
	// ends, and soon.
	if t == nil || int(p.used[n]+1)*5 > len(t.slots)*4 {
		t = p.rebuild(n)
	}
	t.place(h, key, val)
	p.used[n]++
	p.live[n]++
	return 0
}

// find is the slot of key, or the free slot where it would go.
func (t *table) find(h, key uint64) *slot {
	s := t.slots
	for i := home(h, len(s)); ; {
		if k := s[i].key.Load(); k == key || k == 0 {
			return &s[i]
		}
		if i++; i == len(s) {
			i = 0
		}
	}
}

// place stores a key that the table does not have: what readers look at first
// is set last.
func (t *table) place(h, key, val uint64) {
	s := t.find(h, key)
	s.val.Store(val)
	s.key.Store(key)
	t.filter[home(h, len(t.filter))].Or(filterBits(h))
}

// rebuild replaces a shard's table by one without removed keys, which the
// living keys fill to five eighths.
func (p *pairs) rebuild(n int) *table {
	old := p.tables[n].Load()
	slots := max(minSlots, (int(p.live[n])+1)*8/5)
	t := newTable(slots)
	p.octets.Add(t.bytes())
	if old != nil {
		for i := range old.slots {
			k, v := old.slots[i].key.Load(), old.slots[i].val.Load()
			if v == 0 {
				continue
			}
			t.place(hash(k), k, v)
		}
		p.octets.Add(-old.bytes())
	}
	p.used[n] = p.live[n]
	p.tables[n].Store(t)
	return t
}

// reserve makes room for about so many keys in shards that have none, so that
// they need not grow. Only the writer may call it.
func (p *pairs) reserve(keys int) {
	for n := range p.tables {
		if p.tables[n].Load() == nil && keys > numShards*minSlots {
			t := newTable(keys / numShards * 8 / 5)
			p.octets.Add(t.bytes())
			p.tables[n].Store(t)
		}
	}
}

// trim gives back what was reserved and is not needed.
func (p *pairs) trim() {
	for n := range p.tables {
		if t := p.tables[n].Load(); t != nil && len(t.slots) > max(minSlots, (int(p.live[n])+1)*2) {
			p.rebuild(n)
		}
	}
}

func newTable(slots int) *table {
	return &table{slots: make([]slot, slots), filter: make([]atomic.Uint64, slots/filterSlots+1)}
}

func (t *table) bytes() int64 { return int64(len(t.slots))*slotBytes + int64(len(t.filter))*8 }

// bytes is the memory that the tables take, in octets.
func (p *pairs) bytes() int64 { return p.octets.Load() }
