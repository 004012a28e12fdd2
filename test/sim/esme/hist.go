package esme

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Histogram counts durations in buckets of at most 1.6 % width, from 1 µs to
// hours, in the manner of HDR histograms: 64 linear steps in every power of
// two. It may be used by many goroutines.
type Histogram struct {
	n      atomic.Uint64
	max    atomic.Int64
	counts [64 * 34]atomic.Uint32
}

const sub = 64

func bucket(us uint64) int {
	if us < 2*sub {
		return int(us)
	}
	shift := bits.Len64(us) - 7 // keeps seven significant bits
	return min(shift*sub+int(us>>shift), 64*34-1)
}

// upper is the largest duration of bucket i, in microseconds.
func upper(i int) uint64 {
	if i < 2*sub {
		return uint64(i)
	}
	shift := i/sub - 1
	return (uint64(i-shift*sub)+1)<<shift - 1
}

// Add counts d.
func (h *Histogram) Add(d time.Duration) {
	h.n.Add(1)
	h.counts[bucket(uint64(max(d, 0)/time.Microsecond))].Add(1)
	for {
		old := h.max.Load()
		if int64(d) <= old || h.max.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

// Quantile is the duration that the share q of all does not exceed.
func (h *Histogram) Quantile(q float64) time.Duration {
	want := uint64(q*float64(h.n.Load()) + 0.5)
	if want == 0 {
		want = 1
	}
	var seen uint64
	for i := range h.counts {
		seen += uint64(h.counts[i].Load())
		if seen >= want && i < len(h.counts)-1 { // the last bucket has no upper end
			return min(time.Duration(upper(i))*time.Microsecond, time.Duration(h.max.Load()))
		}
	}
	return time.Duration(h.max.Load())
}

// Latency are the percentiles of a Histogram in milliseconds.
type Latency struct {
	P50  float64 `json:"p50_ms"`
	P90  float64 `json:"p90_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
	Max  float64 `json:"max_ms"`
}

// Latency reads the usual percentiles.
func (h *Histogram) Latency() Latency {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return Latency{
		P50: ms(h.Quantile(0.5)), P90: ms(h.Quantile(0.9)), P99: ms(h.Quantile(0.99)),
		P999: ms(h.Quantile(0.999)), Max: ms(time.Duration(h.max.Load())),
	}
}
