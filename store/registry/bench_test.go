package registry

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"shunt/gateway/msg"
)

// BenchmarkPut is one durable put by each of many callers, who share fsyncs, with
// and without encryption at rest.
func BenchmarkPut(b *testing.B) {
	for _, c := range []struct {
		callers int // of each processor
		key     int // octets
	}{{1, 0}, {256, 0}, {256, 32}} {
		b.Run(fmt.Sprintf("percpu=%d/key=%d", c.callers, c.key), func(b *testing.B) {
			r := start(b, Options{Key: make([]byte, c.key)})
			var next atomic.Uint64
			before := r.db.MaxVersion()
			b.SetParallelism(c.callers)
			b.ResetTimer()
			used := spent()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					n := testNumber + msg.Number(next.Add(1))
					if _, err := r.Put(context.Background(), samplePut(n, "d")); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64((spent()-used).Nanoseconds())/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(b.N)/float64(r.db.MaxVersion()-before), "puts/commit")
		})
	}
}

// BenchmarkImport is one put of many by PutAll.
func BenchmarkImport(b *testing.B) {
	r := start(b, Options{})
	ps := make([]Put, 50_000)
	next := msg.Number(0)
	for b.Loop() {
		for i := range ps {
			next++
			ps[i] = samplePut(testNumber+next, "d")
		}
		if _, err := r.PutAll(context.Background(), ps); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(next), "ns/put")
}

// BenchmarkRebuild opens a registry of 200,000 numbers until it is ready.
func BenchmarkRebuild(b *testing.B) {
	const numbers = 200_000
	dir := b.TempDir()
	r := start(b, Options{Dir: dir})
	ps := make([]Put, numbers)
	for i := range ps {
		ps[i] = samplePut(testNumber+msg.Number(i), "d")
		ps[i].Token = fmt.Sprintf("%0128d", i)
	}
	if _, err := r.PutAll(context.Background(), ps); err != nil {
		b.Fatal(err)
	}
	stop(b, r)
	for b.Loop() {
		r, err := Open(Options{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		if err := r.WaitReady(context.Background()); err != nil {
			b.Fatal(err)
		}
		if got := r.Count().Numbers; got != numbers {
			b.Fatalf("%d numbers after the scan, want %d", got, numbers)
		}
		stop(b, r)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/numbers, "ns/number")
}
