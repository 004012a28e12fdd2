package registry

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"shunt/gateway/msg"
)

// BenchmarkScan rebuilds the index of 500,000 numbers: cpu-ns/number is what all
// processors together had to do.
func BenchmarkScan(b *testing.B) {
	const numbers = 500_000
	r := start(b, Options{})
	l := r.NewLoad(b.TempDir())
	defer l.Close()
	for i := range numbers {
		p := samplePut(testNumber+msg.Number(i), "phone")
		p.Token, p.Bearer = fmt.Sprintf("%064x", i), fmt.Sprintf("bench-bearer-%015d", i)
		if err := l.Add(i, &p); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Judge(context.Background(), func(_ int, err error) error { return err }); err != nil {
		b.Fatal(err)
	}
	if _, err := l.Apply(context.Background(), func(int) {}); err != nil {
		b.Fatal(err)
	}
	before := spent()
	b.ReportAllocs()
	for b.Loop() {
		r.index.mu.Lock()
		r.index.clear()
		r.index.mu.Unlock()
		txn := r.db.NewTransaction(false)
		if _, err := r.scan(txn); err != nil {
			b.Fatal(err)
		}
		txn.Discard()
		if got := r.Count().Numbers; got != numbers {
			b.Fatalf("%d numbers after the scan, want %d", got, numbers)
		}
	}
	b.ReportMetric(float64(spent()-before)/float64(b.N)/numbers, "cpu-ns/number")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/numbers, "ns/number")
}

// spent is the processors' time that this process has taken.
func spent() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
