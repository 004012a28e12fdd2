package registry

import (
	"sync"

	"shunt/gateway/msg"
)

// index answers Lookup from RAM, in two steps. An exact bitmap of the
// registered numbers, in pages of 64, answers the misses, which are most of
// the traffic: numbers of one operator lie close together, so that its pages
// stay in the processor's cache long after the entries do not fit it. The
// entries then answer the hits.
//
// The bitmap means "registered", not "registered and active": a number that
// is registered but inactive has a reason of its own in traces and counters.
//
// Pages have 64 numbers, not a cache line's 512, because a page then is one
// word: scattered numbers cost 16 octets each instead of 64, and one map
// serves both steps. For scattered numbers it is then the filter of the pages
// (see table) that answers most misses from the cache.
//
// Readers take no lock. Writers, which are the committer and, until the index
// is complete, the scan, hold mu.
type index struct {
	pages   pairs // number / 64 -> one bit a number
	entries pairs // number -> msg.Entry and the count of devices

	mu    sync.Mutex
	count Count
}

// The word of an entry is its msg.Entry with the number of devices in bits
// 24-28, which msg.Entry leaves unused; lookup takes them out again.
const (
	devicesShift = 24
	devicesMask  = 0x1F << devicesShift
)

// word packs what the index holds of a number; no device at all is zero.
func word(e msg.Entry, devices int) uint64 {
	if devices == 0 {
		return 0
	}
	return uint64(e) | uint64(devices)<<devicesShift
}

// init comes before the first use.
func (x *index) init() { x.pages.filtered = true }

func (x *index) lookup(n msg.Number) msg.Entry {
	if x.pages.get(uint64(n)>>6)>>(n&63)&1 == 0 {
		return 0
	}
	return msg.Entry(x.entries.get(uint64(n)) &^ devicesMask)
}

// set replaces the word of n; zero removes n. A reader sees the state before
// or after. The caller holds mu.
func (x *index) set(n msg.Number, w uint64) {
	old := x.entries.get(uint64(n))
	page, bit := uint64(n)>>6, uint64(1)<<(n&63)
	switch {
	case old == 0 && w != 0: // the entry first: who sees the bit finds it
		x.entries.set(uint64(n), w)
		x.pages.set(page, x.pages.get(page)|bit)
	case old != 0 && w == 0: // the bit first, likewise
		x.pages.set(page, x.pages.get(page)&^bit)
		x.entries.set(uint64(n), 0)
	case old != w:
		x.entries.set(uint64(n), w)
	}
	x.count.add(old, -1)
	x.count.add(w, 1)
}

func (c *Count) add(w uint64, sign int) {
	if w == 0 {
		return
	}
	c.Numbers += sign
	c.Devices += sign * int(w&devicesMask>>devicesShift)
	if msg.Entry(w).Active() {
		c.Active += sign
	}
}

// totals is a consistent copy of the counts.
func (x *index) totals() Count {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.count
}

// bytes is the index's memory in octets.
func (x *index) bytes() int64 { return x.pages.bytes() + x.entries.bytes() }
