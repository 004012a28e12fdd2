package external

import (
	"sync/atomic"
	"time"
)

// LatencyBounds are the upper bounds of Latency.Counts but the last, in seconds.
var LatencyBounds = [...]float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2}

// latency counts how long look-ups took.
type latency struct {
	counts [len(LatencyBounds) + 1]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

func (l *latency) add(d time.Duration) {
	i := 0
	for i < len(LatencyBounds) && d.Seconds() > LatencyBounds[i] {
		i++
	}
	l.counts[i].Add(1)
	l.sum.Add(int64(d))
}

// Status is a registry at a glance.
type Status struct {
	Name    string
	Breaker string // closed, open or half-open
	Until   time.Time
	Reason  string // of the last fault
	Trips   uint64 // how often the breaker opened
	Asking  int    // look-ups under way
	Cached  int    // numbers that are remembered

	Lookups map[string]uint64 // by result; "cached-…" is what was remembered
	Latency []uint64          // by LatencyBounds, and what took longer; not summed up
	Took    time.Duration     // all look-ups together
}

func (c *client) status(now time.Time) Status {
	b := c.breaker.Status(now)
	s := Status{
		Name: c.o.Name, Breaker: b.State.String(), Until: b.Until, Reason: b.Reason, Trips: b.Trips,
		Asking: len(c.slots), Cached: c.cache.len(), Lookups: make(map[string]uint64), Took: time.Duration(c.latency.sum.Load()),
	}
	for o := Known; o < numOutcomes; o++ {
		if n := c.outcomes[o].Load(); n > 0 {
			s.Lookups[o.String()] = n
		}
		if n := c.cached[o].Load(); n > 0 {
			s.Lookups["cached-"+o.String()] = n
		}
	}
	for i := range c.latency.counts {
		s.Latency = append(s.Latency, c.latency.counts[i].Load())
	}
	return s
}
