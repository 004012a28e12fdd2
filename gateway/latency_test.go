package gateway

import (
	"math"
	"testing"
	"time"
)

func TestLatencyOfTheLastMinute(t *testing.T) {
	if answerBuckets != len(answerBounds)+1 {
		t.Fatalf("%d buckets for %d bounds", answerBuckets, len(answerBounds))
	}
	var l latency
	if a := l.last("smpp"); a.Count != 0 || a.P50 != 0 || a.P99 != 0 || a.Leg != "smpp" {
		t.Errorf("of none: %+v", a)
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > want/1000 {
			t.Errorf("%s = %v, want %v", what, got, want)
		}
	}
	for range 98 {
		l.add(1500 * time.Microsecond) // in the bucket from 1 to 2.5 ms
	}
	l.add(300 * time.Millisecond)
	l.add(time.Hour)
	a := l.last("smpp")
	if a.Count != 100 {
		t.Errorf("%d, want 100", a.Count)
	}
	near("p50", a.P50, .001+.0015*50/98)
	near("p99", a.P99, .5) // the 99th is the one between 250 and 500 ms
	l.add(time.Hour)
	near("p99 above the last bound", l.last("").P99, 30)
	for range answersWindow - 1 {
		l.look()
	}
	if n := l.last("").Count; n != 101 {
		t.Errorf("after 59 looks %d, want all 101", n)
	}
	l.look() // the ring is full: what was before its first look is over
	l.add(10 * time.Microsecond)
	a = l.last("")
	if a.Count != 1 {
		t.Errorf("a minute later %d, want the one since", a.Count)
	}
	near("p50 of it", a.P50, .00005)
}
