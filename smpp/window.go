package smpp

import (
	"math/bits"
	"sync/atomic"

	"shunt/smpp/pdu"
)

// window remembers, by sequence_number, the requests that this side sent and
// that are not answered yet: a power-of-two ring of one word a slot,
//
//	bit  63     the request is this side's own (a call), not a forwarded one
//	bits 62-32  the sequence_number that it was sent under, never 0
//	bits 31-0   the sequence_number that it came with, to be restored
//
// A free slot is 0. reserve is called under the session's lock, release from
// the reader and expire under the lock: taking a slot out is one
// compare-and-swap, so the reader needs no lock.
type window struct {
	slots []atomic.Uint64
	mask  uint32
	limit uint32
	last  uint32 // the sequence given last; under the session's lock
	taken uint32 // reserved so far; under the session's lock, modulo 2^32
	_     [44]byte
	freed atomic.Uint32 // released or expired so far, modulo 2^32
	_     [60]byte
}

const ownCall = 1 << 63

func newWindow(limit int) window {
	limit = max(limit, 1)
	size := 1 << bits.Len(uint(limit-1)) // the power of two at or above limit
	return window{slots: make([]atomic.Uint64, size), mask: uint32(size - 1), limit: uint32(limit)}
}

// inUse is the number of outstanding requests.
func (w *window) inUse() uint32 { return w.taken - w.freed.Load() }

// full tells whether no further request may be sent.
func (w *window) full() bool { return w.taken-w.freed.Load() >= w.limit }

// reserve takes the next free sequence_number, 1 to 0x7FFFFFFF, skipping the
// outstanding ones (SMPP v3.4 §5.1.4). The window must not be full.
func (w *window) reserve(orig uint32, own bool) uint32 {
	word := uint64(orig)
	if own {
		word |= ownCall
	}
	for {
		w.last++
		if w.last > pdu.MaxSequence {
			w.last = 1
		}
		slot := &w.slots[w.last&w.mask]
		if slot.Load() == 0 {
			slot.Store(word | uint64(w.last)<<32)
			w.taken++
			return w.last
		}
	}
}

// skip takes a sequence_number that no answer is awaited under, without a slot
// and therefore even when the window is full.
func (w *window) skip() uint32 {
	for {
		w.last++
		if w.last > pdu.MaxSequence {
			w.last = 1
		}
		if uint32(w.slots[w.last&w.mask].Load()>>32)&pdu.MaxSequence != w.last {
			return w.last
		}
	}
}

// release takes the request of that sequence_number out of the window. ok is
// false for one that is not outstanding.
func (w *window) release(seq uint32) (orig uint32, own, ok bool) {
	if seq == 0 || seq > pdu.MaxSequence {
		return 0, false, false
	}
	slot := &w.slots[seq&w.mask]
	word := slot.Load()
	if uint32(word>>32)&pdu.MaxSequence != seq || word == 0 || !slot.CompareAndSwap(word, 0) {
		return 0, false, false
	}
	w.freed.Add(1)
	return uint32(word), word&ownCall != 0, true
}

// expire frees the forwarded requests that were sent at or before the
// sequence_number before, and returns how many. Calls have deadlines of their
// own.
func (w *window) expire(before uint32) int {
	n := 0
	for i := range w.slots {
		word := w.slots[i].Load()
		if word == 0 || word&ownCall != 0 {
			continue
		}
		age := (w.last - uint32(word>>32)) & pdu.MaxSequence
		if age >= (w.last-before)&pdu.MaxSequence && w.slots[i].CompareAndSwap(word, 0) {
			w.freed.Add(1)
			n++
		}
	}
	return n
}
