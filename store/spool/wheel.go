package spool

import (
	"math/bits"
	"time"
)

// tick is the wheel's resolution. A timer fires at the first whole tick at or
// after its time: never early, late by less than a tick and a wake-up.
const tick = 100 * time.Millisecond

// Six levels of 64 slots span 2^36 ticks: all times from 1970 to 2187, so that
// a tick's place follows from its digits in base 64 and nothing overflows.
const (
	wheelBits   = 6
	wheelSlots  = 1 << wheelBits
	wheelLevels = 6
	lastTick    = 1<<(wheelBits*wheelLevels) - 1
)

// timer is the place in the wheel of the entry that it is part of: the ring of
// a slot, whose head is an entry of no message. The zero timer is not set.
type timer struct {
	next, prev *entry
	tick       int64
}

// wheel is a hierarchical timing wheel: setting and stopping a timer cost a few
// pointers, whatever their number. It reads no clock. The committer owns it.
//
// A timer lies at the level of the highest base-64 digit in which its tick
// differs from the wheel's; when the wheel reaches its slot it moves down.
type wheel struct {
	now   int64 // the tick that Advance reached
	slots [wheelLevels][wheelSlots]entry
	used  [wheelLevels]uint64 // slots that may hold timers; cleared when visited
	ready entry               // due, not yet returned
	buf   []*entry
}

func newWheel(now time.Time) *wheel {
	w := &wheel{now: floorTick(now.UnixNano())}
	for l := range w.slots {
		for i := range w.slots[l] {
			w.slots[l][i].clearTimer()
		}
	}
	w.ready.clearTimer()
	return w
}

func floorTick(ns int64) int64 { return min(max(ns, 0)/int64(tick), lastTick) }

func ceilTick(ns int64) int64 {
	t := floorTick(ns)
	if t*int64(tick) < ns {
		t++
	}
	return min(t, lastTick)
}

func (e *entry) clearTimer()    { e.timer.next, e.timer.prev = e, e }
func (e *entry) noTimers() bool { return e.timer.next == e }
func (e *entry) timerSet() bool { return e.timer.next != nil }

func (e *entry) insertTimer(before *entry) {
	e.timer.prev, e.timer.next = before.timer.prev, before
	e.timer.prev.timer.next, before.timer.prev = e, e
}

// stopTimer takes e out of the wheel; without effect where it is not set.
func (e *entry) stopTimer() {
	if t := &e.timer; t.next != nil {
		t.prev.timer.next, t.next.timer.prev = t.next, t.prev
		t.next, t.prev = nil, nil
	}
}

// Set makes e due at ns, nanoseconds since 1970, in place of any earlier time.
func (w *wheel) Set(e *entry, ns int64) {
	e.stopTimer()
	e.timer.tick = ceilTick(ns)
	w.place(e)
}

// place links e where its tick belongs as seen from w.now.
func (w *wheel) place(e *entry) {
	at := e.timer.tick
	if at <= w.now {
		e.insertTimer(&w.ready)
		return
	}
	level := (bits.Len64(uint64(at^w.now)) - 1) / wheelBits
	slot := at >> (level * wheelBits) & (wheelSlots - 1)
	w.used[level] |= 1 << slot
	e.insertTimer(&w.slots[level][slot])
}

// first is the earliest slot that may hold a timer, and the tick at which it
// begins. Lower levels lie before higher ones.
func (w *wheel) first() (level, slot int, begins int64, ok bool) {
	for level = range wheelLevels {
		if w.used[level] == 0 {
			continue
		}
		slot = bits.TrailingZeros64(w.used[level])
		shift := level * wheelBits
		begins = (w.now>>shift&^(wheelSlots-1) | int64(slot)) << shift
		return level, slot, begins, true
	}
	return 0, 0, 0, false
}

// Advance moves the wheel to now and returns at most limit entries that are due
// and no longer set; the rest comes with the next call. The slice is good
// until then. A time before the wheel's own changes nothing.
func (w *wheel) Advance(now time.Time, limit int) []*entry {
	target := floorTick(now.UnixNano())
	for w.now < target {
		level, slot, begins, ok := w.first()
		if !ok || begins > target {
			w.now = target
			break
		}
		w.now = begins
		w.used[level] &^= 1 << slot
		for head := &w.slots[level][slot]; !head.noTimers(); {
			e := head.timer.next
			e.stopTimer()
			w.place(e)
		}
	}
	w.buf = w.buf[:0]
	for len(w.buf) < limit && !w.ready.noTimers() {
		e := w.ready.timer.next
		e.stopTimer()
		w.buf = append(w.buf, e)
	}
	return w.buf
}

// Next is the time before which Advance has nothing to do; false: never. It
// may be earlier than the first timer, by the size of its slot.
func (w *wheel) Next() (time.Time, bool) {
	if !w.ready.noTimers() {
		return time.Unix(0, w.now*int64(tick)), true
	}
	_, _, begins, ok := w.first()
	return time.Unix(0, begins*int64(tick)), ok
}

// Behind tells that now lies before the wheel: the clock was set back, and the
// timers must be set anew.
func (w *wheel) Behind(now time.Time) bool { return floorTick(now.UnixNano()) < w.now }
