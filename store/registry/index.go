package registry

import (
	"sync"

	"shunt/gateway/msg"
)

// index answers Lookup from RAM. Most of the traffic is for numbers that nobody
// registered: the filter of the entries (see table) answers nearly all of it
// with one look at a sixteenth of the memory, whatever the numbers are like. The
// entries then answer the hits.
//
// A number that is registered but inactive has an entry: it has a reason of its
// own in traces and counters.
//
// Readers take no lock. Writers, which are the committer and, until the index
// is complete, the scan, hold mu.
type index struct {
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

func (x *index) lookup(n msg.Number) msg.Entry {
	return msg.Entry(x.entries.get(uint64(n)) &^ devicesMask)
}

// set replaces the word of n; zero removes n. A reader sees the state before
// or after. The caller holds mu.
func (x *index) set(n msg.Number, w uint64) {
	old := x.entries.set(uint64(n), w)
	x.count.add(old, -1)
	x.count.add(w, 1)
}

// clear forgets everything. The caller holds mu.
func (x *index) clear() {
	for i := range x.entries.tables {
		if t := x.entries.tables[i].Swap(nil); t != nil {
			x.entries.octets.Add(-t.bytes())
		}
		x.entries.used[i], x.entries.live[i] = 0, 0
	}
	x.count = Count{}
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
	if msg.Entry(w).External() {
		c.External += sign
	}
}

// totals is a consistent copy of the counts.
func (x *index) totals() Count {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.count
}

// bytes is the index's memory in octets.
func (x *index) bytes() int64 { return x.entries.bytes() }
