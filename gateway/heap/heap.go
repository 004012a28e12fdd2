// Package heap lets about as much garbage pile up beside a large live heap as
// beside a small one: with a million messages pending, Go's default would double
// the heap, and with few it would collect all the time.
package heap

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// slack is the garbage that may pile up beside the live heap, in octets: it
	// makes a collection rare enough at the rate at which diverted messages
	// allocate.
	slack    = 64 << 20
	standard = 100 // per cent, Go's own
	least    = 20
	most     = 400
	every    = time.Second
	release  = 15 // in how many of those memory is given back at most once
	cycles   = "/gc/cycles/total:gc-cycles"
	liveHeap = "/gc/heap/live:bytes"
	freeHeap = "/memory/classes/heap/free:bytes" // free, and not given back to the system
)

// Percent is the garbage that may pile up beside a live heap of that size, as
// debug.SetGCPercent takes it.
func Percent(live uint64) int {
	return min(max(int(standard*slack/max(live, 1)), least), most)
}

// Follow keeps the collector's target at Percent until ctx is done, and gives
// back to the system what a peak has left: Go keeps it as long as nothing makes
// it collect. An operator who sets GOGC or GOMEMLIMIT is left alone.
func Follow(ctx context.Context) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	sample := []metrics.Sample{{Name: liveHeap}, {Name: freeHeap}, {Name: cycles}}
	last := uint64(0)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for set, n := standard, 1; ; n++ {
		metrics.Read(sample)
		if p := Percent(sample[0].Value.Uint64()); p != set {
			debug.SetGCPercent(p)
			set = p
		}
		if n%release == 0 {
			live, free, ran := sample[0].Value.Uint64(), sample[1].Value.Uint64(), sample[2].Value.Uint64()
			if free > 2*slack || live > slack && ran == last {
				debug.FreeOSMemory()
				ran++
			}
			last = ran
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
