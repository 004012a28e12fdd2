package api

import (
	"fmt"
	"hash/maphash"
	"net/http"
	"sync"
	"time"

	"shunt/gateway/msg"
)

// A device may make so many requests in rateWindow at once, and after that one
// each time its rate allows.
const rateWindow = 10 * time.Second

const (
	rateShards = 64
	rateSlots  = 1024 // of a shard
	rateWays   = 8    // slots that a device may be in
)

// limiter bounds the requests of each device with the generic cell rate
// algorithm. Its table has a fixed size: where 65,536 devices are busy at once
// the one that was quiet the longest begins anew. It is safe for concurrent use
// and does not allocate.
type limiter struct {
	seed   maphash.Seed
	rate   func(app string) *ratePolicy // nil: without limit
	now    func() time.Time
	shards [rateShards]rateShard
}

type rateShard struct {
	mu    sync.Mutex
	slots [rateSlots]struct {
		key  uint64
		full int64 // when all of the quota is there again, in nanoseconds since 1970
	}
}

// ratePolicy is a quota, and what the headers say of it
// (draft-ietf-httpapi-ratelimit-headers), written once.
type ratePolicy struct {
	each   int64 // nanoseconds from one request to the next
	quota  int64
	policy []string   // RateLimit-Policy
	left   [][]string // RateLimit, by the requests that are left
}

// newRatePolicy is the policy of a rate in requests a second; nil for none.
func newRatePolicy(rate int) *ratePolicy {
	if rate <= 0 {
		return nil
	}
	p := &ratePolicy{each: int64(time.Second) / int64(rate), quota: int64(rate) * int64(rateWindow/time.Second)}
	p.policy = []string{fmt.Sprintf(`"device";q=%d;w=%d`, p.quota, rateWindow/time.Second)}
	p.left = make([][]string, p.quota+1)
	for r := range p.left {
		wait := time.Duration((p.quota - int64(r)) * p.each)
		p.left[r] = []string{fmt.Sprintf(`"device";r=%d;t=%d`, r, seconds(wait))}
	}
	return p
}

// seconds are whole seconds, rounded up.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// newLimiter makes a limiter with a rate in requests a second by app; nil where
// there is none.
func newLimiter(rate func(app string) int) *limiter {
	if rate == nil {
		return nil
	}
	var mu sync.Mutex
	policies := make(map[int]*ratePolicy)
	return &limiter{seed: maphash.MakeSeed(), now: time.Now, rate: func(app string) *ratePolicy {
		n := rate(app)
		mu.Lock()
		defer mu.Unlock()
		p, ok := policies[n]
		if !ok {
			p = newRatePolicy(n)
			policies[n] = p
		}
		return p
	}}
}

// admit counts a request of a device, writes the headers that tell of its quota,
// and returns the problem if there is none left.
func (l *limiter) admit(h http.Header, n msg.Number, app, device string) *problem {
	if l == nil {
		return nil
	}
	p := l.rate(app)
	if p == nil {
		return nil
	}
	left, wait := l.take(p, maphash.Comparable(l.seed, struct {
		n           msg.Number
		app, device string
	}{n, app, device}), l.now().UnixNano())
	h["Ratelimit-Policy"], h["Ratelimit"] = p.policy, p.left[left] // as http.Header keys them
	if wait == 0 {
		return nil
	}
	refused := newProblem(http.StatusTooManyRequests, codeTooMany, "too many requests of this device: see the RateLimit and Retry-After headers")
	refused.retryAfter = int(seconds(wait))
	return refused
}

// take takes one request out of the quota of key: how many are left, and if none
// was, how long to wait for the next.
func (l *limiter) take(p *ratePolicy, key uint64, now int64) (left int64, wait time.Duration) {
	s := &l.shards[key%rateShards]
	at := key / rateShards
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := &s.slots[at%rateSlots]
	for i := range uint64(rateWays) {
		other := &s.slots[(at+i)%rateSlots]
		if other.key == key {
			slot = other
			break
		}
		if other.full < slot.full {
			slot = other
		}
	}
	if slot.key != key {
		slot.key, slot.full = key, 0
	}
	full := max(slot.full, now) + p.each
	if over := full - now - p.quota*p.each; over > 0 {
		return 0, time.Duration(over)
	}
	slot.full = full
	return (p.quota*p.each - (full - now)) / p.each, 0
}
