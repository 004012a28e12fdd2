package apns

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"shunt/push"
	simapns "shunt/test/sim/apns"
	"shunt/test/sim/provider"
)

// simulatorArgs in the environment make the test binary the simulator, so
// that the benchmark measures the sender's process alone.
const simulatorArgs = "SHUNT_TEST_SIMULATOR_ARGS"

func TestMain(m *testing.M) {
	v, ok := os.LookupEnv(simulatorArgs)
	if !ok {
		os.Exit(m.Run())
	}
	var args []string
	err := json.Unmarshal([]byte(v), &args)
	if err == nil {
		cmd := simapns.Command()
		cmd.SetArgs(args)
		err = cmd.Execute()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// process starts the simulator as a process of its own and returns once it
// serves.
func process(b *testing.B, args ...string) provider.Info {
	b.Helper()
	dir := b.TempDir()
	file := filepath.Join(dir, "addr.json")
	env, err := json.Marshal(append(args, "--pki", dir, "--addr-file", file))
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), simulatorArgs+"="+string(env))
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := <-ended; err != nil {
			b.Errorf("simulator: %v", err)
		}
	})
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if text, err := os.ReadFile(file); err == nil {
			var info provider.Info
			if err := json.Unmarshal(text, &info); err != nil {
				b.Fatal(err)
			}
			return info
		}
		select {
		case err := <-ended:
			ended <- err
			b.Fatalf("simulator ended early: %v", err)
		case <-tick.C:
		}
	}
}

// BenchmarkSend pushes with 100 senders to a provider that takes 50 ms.
func BenchmarkSend(b *testing.B) {
	info := process(b, "--latency", "50ms")
	var o Options
	s := newSender(b, info, &o)
	work := make(chan int)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for i := range work {
				if got := s.Send(context.Background(), note(fmt.Sprintf("cafe%08d", i))); got.Outcome != push.Accepted {
					b.Errorf("Send: got %+v, want accepted", got)
				}
			}
		})
	}
	cpu := cpuTime(b)
	b.ResetTimer()
	for i := range b.N {
		work <- i
	}
	close(work)
	wg.Wait()
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-µs/push")
}

// cpuTime is the CPU time of this process so far.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
