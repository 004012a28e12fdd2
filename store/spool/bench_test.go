package spool

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"shunt/gateway/msg"
)

// benchPDU is a submit_sm of usual length.
var benchPDU = make([]byte, 200)

var benchNumber atomic.Uint64

// benchMessage is for a number of its own, about: many open messages to one number
// are slow to be put and do not happen (gateway's maxOpen).
func benchMessage(s *Spool) *Message {
	m := message(s, time.Now())
	m.To += msg.Number(benchNumber.Add(1) % 1_000_000)
	m.PDU = benchPDU
	return m
}

// BenchmarkPut is the rate of acknowledged puts with 256 submitters, with and
// without encryption at rest.
func BenchmarkPut(b *testing.B) {
	for name, key := range map[string][]byte{"plain": nil, "encrypted": make([]byte, 32)} {
		b.Run(name, func(b *testing.B) {
			s := started(b, Options{Max: 1 << 30, memTable: 64 << 20, Key: key})
			b.SetParallelism(256 / runtime.GOMAXPROCS(0))
			b.ReportAllocs()
			b.ResetTimer()
			used := spent()
			b.RunParallel(func(p *testing.PB) {
				done := make(chan error, 1)
				for p.Next() {
					s.Put(benchMessage(s), func(err error) { done <- err })
					if err := <-done; err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64((spent()-used).Nanoseconds())/float64(b.N), "cpu-ns/op")
			report(b, s)
		})
	}
}

// BenchmarkLife is the rate of whole lives with 256 of them at a time: put,
// push, claim, delivered, receipt taken; each waits for the disk.
func BenchmarkLife(b *testing.B) {
	s := started(b, Options{Max: 1 << 30, memTable: 64 << 20})
	b.SetParallelism(256 / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(p *testing.PB) {
		done := make(chan error, 1)
		for p.Next() {
			m := benchMessage(s)
			s.Put(m, func(err error) { done <- err })
			if err := <-done; err != nil {
				b.Error(err)
			}
			for _, e := range path(m.ID, msg.EvPushBegin, msg.EvPushAccepted, msg.EvClaim, msg.EvDelivered, msg.EvReceiptDone) {
				if r := s.Do(context.Background(), e); r.Err != nil {
					b.Error(r.Err)
				}
			}
		}
	})
	report(b, s)
}

// spent is the processors' time that this process has taken.
func spent() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func report(b *testing.B, s *Spool) {
	b.StopTimer()
	st := s.Stats()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64(st.Puts+st.Events)/float64(st.Commits), "items/commit")
	b.ReportMetric(float64(st.CommitTime.Microseconds())/float64(st.Commits), "µs/commit")
}

// What a live message costs in RAM, index, order and timer included.
func TestMemoryOfALiveMessage(t *testing.T) {
	const n = 200_000
	measure := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := measure()
	x, w := newIndex(), newWheel(time.Now())
	for i := range n {
		r := Record{
			To: testNumber + msg.Number(i), App: "chat", From: fmt.Sprintf("Bank%d", i%100), State: msg.Pushed,
			Account: msg.Account{SystemID: fmt.Sprintf("bank%d", i%50)}, ExpiresAt: time.Now().Add(time.Hour),
		}
		binary.BigEndian.PutUint64(r.ID[8:], uint64(i))
		r.WireID = r.ID.String()
		e := x.insert(&r, trail{strings.Repeat("x", 45), 3}) // accepted, begun, pushed
		w.Set(e, time.Now().Add(time.Duration(i)*time.Millisecond).UnixNano())
	}
	each := (measure() - before) / n
	runtime.KeepAlive(x)
	runtime.KeepAlive(w)
	if each > 260 {
		t.Errorf("a live message takes %d octets, want 260 or fewer", each)
	}
}
