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
// compare-and-swap, so the reader needs no lock. The ring begins small, for
// most sessions are idle, and grows to the limit; while it does a release may
// find nothing, and is to be repeated under the lock before that is believed.
type window struct {
	ring  atomic.Pointer[[]atomic.Uint64] // replaced under the session's lock
	limit uint32
	last  uint32 // the sequence given last; under the session's lock
	taken uint32 // reserved so far; under the session's lock, modulo 2^32
	_     [44]byte
	freed atomic.Uint32 // released or expired so far, modulo 2^32
	_     [60]byte
}

const ownCall = 1 << 63

// firstSlots is how many slots a window begins with.
const firstSlots = 32

func (w *window) init(limit int) {
	w.limit = uint32(max(limit, 1))
	ring := make([]atomic.Uint64, w.slots(firstSlots))
	w.ring.Store(&ring)
}

// slots is the power of two at or above n, or above the limit where that is
// less.
func (w *window) slots(n uint32) int { return 1 << bits.Len32(min(n, w.limit)-1) }

// grow moves what is outstanding to a larger ring. Two sequence_numbers that
// share a slot of a ring share one of every smaller ring too, so each finds its
// own free.
func (w *window) grow() []atomic.Uint64 {
	old := *w.ring.Load()
	larger := make([]atomic.Uint64, w.slots(uint32(4*len(old))))
	for i := range old {
		if word := old[i].Swap(0); word != 0 {
			larger[uint32(word>>32)&pdu.MaxSequence&uint32(len(larger)-1)].Store(word)
		}
	}
	w.ring.Store(&larger)
	return larger
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
	ring := *w.ring.Load()
	if int(w.inUse()) >= len(ring)-len(ring)/4 && len(ring) < int(w.limit) {
		ring = w.grow()
	}
	for {
		w.last++
		if w.last > pdu.MaxSequence {
			w.last = 1
		}
		slot := &ring[w.last&uint32(len(ring)-1)]
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
	ring := *w.ring.Load()
	for {
		w.last++
		if w.last > pdu.MaxSequence {
			w.last = 1
		}
		if uint32(ring[w.last&uint32(len(ring)-1)].Load()>>32)&pdu.MaxSequence != w.last {
			return w.last
		}
	}
}

// release takes the request of that sequence_number out of the window. ok is
// false for one that is not outstanding, which only a caller under the lock can
// be sure of.
func (w *window) release(seq uint32) (orig uint32, own, ok bool) {
	if seq == 0 || seq > pdu.MaxSequence {
		return 0, false, false
	}
	ring := *w.ring.Load()
	slot := &ring[seq&uint32(len(ring)-1)]
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
	ring := *w.ring.Load()
	for i := range ring {
		word := ring[i].Load()
		if word == 0 || word&ownCall != 0 {
			continue
		}
		age := (w.last - uint32(word>>32)) & pdu.MaxSequence
		if age >= (w.last-before)&pdu.MaxSequence && ring[i].CompareAndSwap(word, 0) {
			w.freed.Add(1)
			n++
		}
	}
	return n
}
