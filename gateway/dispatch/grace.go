package dispatch

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"shunt/gateway/msg"
	"shunt/store/spool"
)

// arrival is a message that is to be pushed.
type arrival struct {
	r         spool.Record
	announced bool // on a stream, and its grace is over
}

// graceShare is the largest part of its claim time that a message waits for a
// stream: the push needs the rest.
const graceShare = 4

// grace are the messages that were announced on a stream and have not been
// pushed: they stay ACCEPTED. Whoever adds one does not block; runGrace takes
// them out.
type grace struct {
	mu   sync.Mutex
	heap delayed
	wake chan struct{} // holds one when the first may be another
}

// delay is a message and when it is pushed.
type delay struct {
	r   spool.Record
	due time.Time
}

type delayed []delay

func (h delayed) Len() int           { return len(h) }
func (h delayed) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h delayed) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *delayed) Push(x any)        { *h = append(*h, x.(delay)) }
func (h *delayed) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	(*h)[last] = delay{}
	*h = (*h)[:last]
	return x
}

func newGrace() grace { return grace{wake: make(chan struct{}, 1)} }

// arrived takes a message that may be claimed from now on. A long one is judged
// before anybody is told of it: see routeOne.
func (d *Dispatcher) arrived(r spool.Record) {
	if !r.Part() && d.announce(&r) {
		return
	}
	d.push(r)
}

// announce tells the streams of a message, and if one of its number and app is
// open lets it wait for a claim before any device gets a push.
func (d *Dispatcher) announce(r *spool.Record) bool {
	if d.o.Streams == nil || !d.o.Streams.Announce(r) {
		return false
	}
	d.Counters.Announced.Add(1)
	now := d.o.Now()
	wait := d.o.Grace
	if most := r.ClaimBy.Sub(now) / graceShare; !r.ClaimBy.IsZero() && wait > most {
		wait = most
	}
	g := &d.grace
	g.mu.Lock()
	heap.Push(&g.heap, delay{*r, now.Add(wait)})
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
	return true
}

// runGrace pushes what nobody has claimed in its time, until ctx is done. What
// waits then is ACCEPTED, and the next start pushes it.
func (d *Dispatcher) runGrace(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := d.release()
		timer.Reset(wait)
		select {
		case <-d.grace.wake:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// release pushes what is due and tells how long the next one waits.
func (d *Dispatcher) release() time.Duration {
	g := &d.grace
	now := d.o.Now()
	var due []spool.Record
	wait := time.Hour
	g.mu.Lock()
	for len(g.heap) > 0 {
		if left := g.heap[0].due.Sub(now); left > 0 {
			wait = left
			break
		}
		due = append(due, heap.Pop(&g.heap).(delay).r)
	}
	g.mu.Unlock()
	for i := range due {
		if r, err := d.o.Spool.Get(due[i].ID); err == nil && r.State != msg.Accepted {
			continue // claimed, most likely: no push
		}
		d.pushAfter(due[i], true)
	}
	return wait
}
