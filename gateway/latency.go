package gateway

import (
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"shunt/gateway/noc"
)

// answersWindow is how far back the quantiles of answers look, in looks that are
// a second apart.
const answersWindow = 60

// latency counts what answers took, by the bounds of answerBounds; the last
// count is of those above all. It is safe for concurrent use.
type latency struct {
	counts [answerBuckets]atomic.Uint64

	mu    sync.Mutex
	looks [answersWindow][answerBuckets]uint64 // the counts at the last looks, as a ring
	at    int                                  // of the next look
}

const answerBuckets = 18 // len(answerBounds) + 1

func (l *latency) add(took time.Duration) {
	l.counts[sort.SearchFloat64s(answerBounds, took.Seconds())].Add(1)
}

// look notes the counts. It is called once a second.
func (l *latency) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.counts {
		l.looks[l.at][i] = l.counts[i].Load()
	}
	l.at = (l.at + 1) % answersWindow
}

// last are the figures of the last minute.
func (l *latency) last(leg string) noc.Answers {
	var n [answerBuckets]uint64
	a := noc.Answers{Leg: leg}
	l.mu.Lock()
	oldest := &l.looks[l.at] // zero until the ring is full
	for i := range l.counts {
		n[i] = l.counts[i].Load() - oldest[i]
		a.Count += n[i]
	}
	l.mu.Unlock()
	a.P50, a.P99 = quantile(&n, a.Count, 0.50), quantile(&n, a.Count, 0.99)
	return a
}

// quantile is what a share of so many took at most, in seconds: within its bucket
// by the rule of three, and above the last bound that bound.
func quantile(n *[answerBuckets]uint64, all uint64, share float64) float64 {
	if all == 0 {
		return 0
	}
	rank, below := share*float64(all), 0.0
	for i, c := range n {
		if c == 0 || below+float64(c) < rank {
			below += float64(c)
			continue
		}
		if i == len(answerBounds) {
			break
		}
		from := 0.0
		if i > 0 {
			from = answerBounds[i-1]
		}
		return from + (answerBounds[i]-from)*(rank-below)/float64(c)
	}
	return answerBounds[len(answerBounds)-1]
}
