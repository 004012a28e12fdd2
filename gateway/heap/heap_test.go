package heap

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 400, 16 << 20: 400, 32 << 20: 200, 64 << 20: 100, 128 << 20: 50, 256 << 20: 25, 10 << 30: 20} {
		if got := Percent(live); got != want {
			t.Errorf("Percent(%d MiB) = %d, want %d", live>>20, got, want)
		}
	}
}

// gogc is the collector's target now.
func gogc() int {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64())
}

// The target follows a heap that grows, and an operator's own is left alone.
func TestFollow(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(standard))
	big := make([]byte, 256<<20)
	runtime.GC() // the live heap is known after a collection
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	run := func() (percent int) {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			Follow(ctx)
			close(done)
		}()
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); runtime.Gosched() {
			if percent = gogc(); percent != standard {
				break
			}
		}
		stop()
		<-done
		return percent
	}
	if p := run(); p < 20 || p > 25 {
		t.Errorf("beside 256 MiB the target is %d %%, want 25 %%", p)
	}
	runtime.KeepAlive(big)
	debug.SetGCPercent(standard)
	t.Setenv("GOGC", "100")
	Follow(t.Context()) // returns at once
	if p := gogc(); p != standard {
		t.Errorf("the operator's GOGC became %d", p)
	}
}
