package apns

import (
	"syscall"
	"testing"
	"time"
)

// cpuTime is the CPU time of this process so far: the sender's and, because
// it runs in the same process, the simulator's.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
