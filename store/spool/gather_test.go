package spool

import (
	"errors"
	"sync"
	"testing"
	"time"
)

// TestGather holds that many callers share commits that begin Gather apart, and
// that one who waits for each answer does not wait for Gather.
func TestGather(t *testing.T) {
	t.Parallel()
	t.Run("many", func(t *testing.T) {
		const gap, callers, each = 40 * time.Millisecond, 50, 8
		s := started(t, Options{Gather: gap})
		begun := time.Now()
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range each {
					if err := tryPut(s, message(s, time.Now())); err != nil {
						t.Errorf("Put() = %v", err)
					}
				}
			})
		}
		wg.Wait()
		// Each of few changes may be followed by one at once: the first callers
		// do not come all together, nor do the last.
		most := 2 * (uint64(time.Since(begun)/gap) + 2)
		if c := s.Stats().Commits; c > most {
			t.Errorf("%d commits for %d puts in %s, at most %d are %s apart", c, callers*each, time.Since(begun), most, gap)
		}
	})
	t.Run("one", func(t *testing.T) {
		s := started(t, Options{Gather: time.Hour})
		for range 20 {
			put(t, s, message(s, time.Now()))
		}
	})
}

// TestFailPause: a caller that comes again at once whatever it is told does not
// have the committer try the disk as fast as a processor can.
func TestFailPause(t *testing.T) {
	t.Parallel()
	full := errors.New("no room")
	s := started(t, Options{Room: func() error { return full }})
	m := message(s, time.Now())
	begun := time.Now()
	for time.Since(begun) < 200*time.Millisecond {
		if err := tryPut(s, m); !errors.Is(err, full) && !errors.Is(err, ErrFailing) {
			t.Fatalf("Put() = %v, want %v", err, full)
		}
	}
	if n, most := s.Stats().Failures, uint64(time.Since(begun)/failPause)+2; n == 0 || n > most {
		t.Errorf("%d commits failed in %s, want 1 to %d", n, time.Since(begun), most)
	}
}
