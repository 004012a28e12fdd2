package smsc

import (
	"container/heap"
	"sync"
	"time"
)

// schedule runs functions at their times, in order, on one goroutine that
// start begins and stop ends. What is then still due is not run.
type schedule struct {
	mu     sync.Mutex
	due    dueHeap
	n      uint64
	wake   chan struct{}
	quit   chan struct{}
	ended  chan struct{}
	closed bool
}

type dueItem struct {
	at time.Time
	n  uint64 // order of items of one time
	do func()
}

type dueHeap []dueItem

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].n < h[j].n
}
func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)   { *h = append(*h, x.(dueItem)) }
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	(*h)[last] = dueItem{}
	*h = (*h)[:last]
	return x
}

func newSchedule() *schedule {
	return &schedule{wake: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{})}
}

// at runs do at t; what is due already runs as soon as the goroutine comes to it.
func (s *schedule) at(t time.Time, do func()) {
	s.mu.Lock()
	s.n++
	heap.Push(&s.due, dueItem{t, s.n, do})
	first := s.due[0].n == s.n
	s.mu.Unlock()
	if first {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// len is the number of functions that wait.
func (s *schedule) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.due)
}

func (s *schedule) run() {
	defer close(s.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		do, wait := s.next(time.Now())
		if do != nil {
			do()
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-s.wake:
		case <-s.quit:
			return
		}
	}
}

// next takes out the function that is due at now, or says how long to wait.
func (s *schedule) next(now time.Time) (do func(), wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.quit:
		return nil, time.Hour
	default:
	}
	if len(s.due) == 0 {
		return nil, time.Hour
	}
	if wait := s.due[0].at.Sub(now); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&s.due).(dueItem).do, 0
}

// stop ends the goroutine and waits for it.
func (s *schedule) stop() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.quit)
	}
	s.mu.Unlock()
	<-s.ended
}
