package external

import (
	"sync"
	"time"

	"shunt/gateway/msg"
)

// cache remembers what was said of numbers, up to a fixed number of them. It
// is safe for concurrent use.
type cache struct{ shards [cacheShards]cacheShard }

const (
	cacheShards = 16
	cacheTries  = 8 // of whom the one that ends first makes room
)

type cacheShard struct {
	mu   sync.Mutex
	most int
	m    map[msg.Number]cached
}

// cached is an outcome, and until when it holds.
type cached struct {
	until   int64 // unix nanoseconds
	outcome Outcome
}

func newCache(most int) *cache {
	c := &cache{}
	for i := range c.shards {
		c.shards[i].most = max(most/cacheShards, 1)
		c.shards[i].m = make(map[msg.Number]cached)
	}
	return c
}

func (c *cache) shard(n msg.Number) *cacheShard {
	return &c.shards[uint64(n)*0x9E3779B97F4A7C15>>60]
}

// get is what holds of n now. It does not allocate.
func (c *cache) get(n msg.Number, now time.Time) (Outcome, bool) {
	s := c.shard(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.m[n]
	return v.outcome, ok && now.UnixNano() < v.until
}

func (c *cache) put(n msg.Number, o Outcome, until time.Time) {
	s := c.shard(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.m[n]; !there && len(s.m) >= s.most {
		s.makeRoom()
	}
	s.m[n] = cached{until.UnixNano(), o}
}

// makeRoom forgets the one of some that ends first; a map gives them in no order.
func (s *cacheShard) makeRoom() {
	var victim msg.Number
	first, tries := int64(0), 0
	for n, v := range s.m {
		if victim == 0 || v.until < first {
			victim, first = n, v.until
		}
		if tries++; tries == cacheTries {
			break
		}
	}
	delete(s.m, victim)
}

func (c *cache) len() (n int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		n += len(s.m)
		s.mu.Unlock()
	}
	return n
}
