package spool

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A ping comes back from an idle committer at once, not from one whose disk
// stands still, and from a closed spool never.
func TestPing(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s, disk, _ := onSlowDisk(t, dir)
		ping := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			return s.Ping(ctx)
		}
		began := time.Now()
		for range 3 {
			if err := ping(); err != nil || time.Since(began) > 0 {
				t.Errorf("Ping() = %v after %v, want nil at once", err, time.Since(began))
			}
		}
		disk.stall()
		s.Put(message(s, began), func(error) {})
		synctest.Wait()
		if err := ping(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Ping() while a commit hangs = %v, want that time ran out", err)
		}
		if !s.Stalled() {
			t.Error("the spool does not say that it is stalled")
		}
		disk.answer()
		if err := ping(); err != nil {
			t.Errorf("Ping() after that = %v, want nil", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := ping(); !errors.Is(err, ErrClosed) {
			t.Errorf("Ping() of a closed spool = %v, want ErrClosed", err)
		}
	})
}
