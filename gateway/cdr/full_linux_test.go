package cdr

import (
	"errors"
	"os/signal"
	"slices"
	"syscall"
	"testing"
	"time"
)

// A disk that is full in the middle of a line leaves none of it, and what could
// not be written is once there is room.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	s := &source{}
	w := writer(t, dir, s, nil)
	// The limit is the process's: it must be above what the test's own files need.
	const before = 3000
	for range before {
		s.end()
	}
	write(t, w, noon)
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ)
	room := func(octets uint64) {
		t.Helper()
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: octets, Max: was.Max}); err != nil {
			t.Fatal(err)
		}
	}
	defer room(was.Cur)
	size := w.files.size
	room(uint64(size) + 700) // a line and a half
	for range 3 {
		s.end()
	}
	for range 2 {
		err := w.ends(noon.Add(time.Second))
		w.note(err)
		if !errors.Is(err, syscall.EFBIG) || !w.Failing.Load() || s.taken != before || w.files.size != size {
			t.Fatalf("ends() = %v, failing %t, %d forgotten, %d octets; want EFBIG, true, %d, %d", err, w.Failing.Load(), s.taken, w.files.size, before, size)
		}
		if got := seqs(t, dir); len(got) != before {
			t.Fatalf("%d numbers on the full disk, want %d", len(got), before)
		}
	}
	room(was.Cur)
	w.note(w.ends(noon.Add(2 * time.Second)))
	if got := seqs(t, dir); !slices.Equal(got[before-1:], []uint64{before, before + 1, before + 2, before + 3}) || s.taken != before+3 || w.Failing.Load() {
		t.Errorf("numbers %v, %d forgotten, failing %t; want the last four, all, false", got[before-1:], s.taken, w.Failing.Load())
	}
}
