package spool

import "hash/maphash"

// table finds an entry by a key that the entry carries. A slot is one pointer,
// where a Go map keeps the key as well: a million entries take about half of
// what a map would. It is split into shards, so that growing stops the committer
// for one shard's few thousand entries and not for all. The hash is seeded: who
// chooses the keys cannot choose where they lie. One writer, or any number of
// readers, at a time.
type table[K comparable] struct {
	key    func(*entry) K
	seed   maphash.Seed
	shards [tableShards]shard
	held   int
}

// shard is open-addressed: an entry lies in the first slot that was free from
// the one of its hash on. The number of slots is a power of two.
type shard struct {
	slots []*entry
	held  int
}

const (
	tableShards   = 256 // by the high octet of the hash
	minTableSlots = 8
)

func newTable[K comparable](key func(*entry) K) *table[K] {
	return &table[K]{key: key, seed: maphash.MakeSeed()}
}

func (t *table[K]) len() int { return t.held }

// find is the shard of k and the slot that holds it, or the free one where it
// would lie; -1 where the shard has no slots yet.
func (t *table[K]) find(k K) (s *shard, at int) {
	h := maphash.Comparable(t.seed, k)
	s = &t.shards[h>>56]
	if len(s.slots) == 0 {
		return s, -1
	}
	mask := len(s.slots) - 1
	for at = int(h) & mask; s.slots[at] != nil && t.key(s.slots[at]) != k; {
		at = (at + 1) & mask
	}
	return s, at
}

// get is the entry of k, nil where there is none.
func (t *table[K]) get(k K) *entry {
	if s, at := t.find(k); at >= 0 {
		return s.slots[at]
	}
	return nil
}

// put adds e, in place of any entry of the same key.
func (t *table[K]) put(e *entry) {
	s, at := t.find(t.key(e))
	if at >= 0 && s.slots[at] != nil {
		s.slots[at] = e
		return
	}
	if 4*(s.held+1) > 3*len(s.slots) {
		t.resize(s, max(minTableSlots, 2*len(s.slots)))
		_, at = t.find(t.key(e))
	}
	s.slots[at] = e
	s.held++
	t.held++
}

// remove takes the entry of k out; without effect where there is none. What lies
// behind it moves up, so that no slot is ever a tombstone.
func (t *table[K]) remove(k K) {
	s, free := t.find(k)
	if free < 0 || s.slots[free] == nil {
		return
	}
	mask := len(s.slots) - 1
	for at := (free + 1) & mask; s.slots[at] != nil; at = (at + 1) & mask {
		home := int(maphash.Comparable(t.seed, t.key(s.slots[at]))) & mask
		if (at-home)&mask >= (at-free)&mask { // free lies between its home and where it is
			s.slots[free], free = s.slots[at], at
		}
	}
	s.slots[free] = nil
	s.held--
	t.held--
	if len(s.slots) > minTableSlots && 8*s.held < len(s.slots) { // after a peak
		t.resize(s, len(s.slots)/2)
	}
}

func (t *table[K]) resize(s *shard, n int) {
	old := s.slots
	s.slots = make([]*entry, n)
	for _, e := range old {
		if e != nil {
			_, at := t.find(t.key(e))
			s.slots[at] = e
		}
	}
}
