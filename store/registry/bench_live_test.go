package registry

import (
	"context"
	"fmt"
	"testing"

	"shunt/gateway/msg"
)

// load stages that many new numbers and applies them.
func benchLoad(b *testing.B, r *Registry, from, numbers int) {
	b.Helper()
	l := r.NewLoad(b.TempDir())
	defer l.Close()
	for i := range numbers {
		p := samplePut(testNumber+msg.Number(from+i), "phone")
		p.Token, p.Bearer = fmt.Sprintf("%064x", from+i), fmt.Sprintf("bench-bearer-%015d", from+i)
		if err := l.Add(i, &p); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Judge(context.Background(), func(_ int, err error) error { return err }); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
	defer b.StopTimer()
	if a, err := l.Apply(context.Background(), func(int) {}); err != nil || a.Put != numbers {
		b.Fatalf("Apply() = %+v, %v", a, err)
	}
}

// BenchmarkImportLive puts 50,000 new numbers beside a million that are there.
func BenchmarkImportLive(b *testing.B) {
	const there, numbers = 1_000_000, 50_000
	r := start(b, Options{})
	benchLoad(b, r, 0, there)
	if err := r.WaitReady(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	before := spent()
	for i := range b.N {
		b.StopTimer()
		benchLoad(b, r, there+i*numbers, numbers)
	}
	b.ReportMetric(float64(b.N)*numbers/b.Elapsed().Seconds(), "puts/s")
	b.ReportMetric(float64(spent()-before)/float64(b.N)/numbers, "cpu-ns/put")
}
