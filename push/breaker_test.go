package push

import (
	"sync"
	"testing"
	"time"
)

var t0 = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func fail(b *Breaker, at time.Time, n int) (changed bool) {
	for range n {
		if probe, ok := b.Allow(at); ok {
			changed = b.Done(at, probe, Result{Outcome: Unknown, Reason: "timeout"})
		}
	}
	return changed
}

func TestBreakerOpensAndProbes(t *testing.T) {
	var b Breaker
	if fail(&b, t0, tripAfter-1) || !b.Ready(t0) {
		t.Fatal("opened too early")
	}
	if !fail(&b, t0, 1) || b.Ready(t0) || allowed(&b, t0) {
		t.Fatal("five failures in a row did not open it")
	}
	if s := b.Status(t0); s.State != BreakerOpen || s.Reason != "timeout" || s.Trips != 1 {
		t.Errorf("Status() = %+v", s)
	}
	pause := firstPause
	at := t0
	for range 10 { // each failed probe makes the pause twice as long, to a minute
		until := b.Status(at).Until
		if d := until.Sub(at); d < pause/2 || d > pause*3/2 {
			t.Fatalf("open for %s, want %s by a factor of 0.5 to 1.5", d, pause)
		}
		if allowed(&b, until.Add(-time.Nanosecond)) {
			t.Fatal("a push before the pause was over")
		}
		at = until
		if s := b.Status(at); s.State != BreakerHalfOpen {
			t.Fatalf("Status() = %+v, want half-open", s)
		}
		if !b.Ready(at) || !allowed(&b, at) || allowed(&b, at) || b.Ready(at) {
			t.Fatal("want one probe, and one alone")
		}
		if b.Done(at, true, Result{Outcome: Busy, Reason: "http-503"}) {
			t.Fatal("a failed probe is no change")
		}
		pause = min(2*pause, lastPause)
	}
	at = b.Status(at).Until
	if !allowed(&b, at) || !b.Done(at, true, Result{Outcome: Accepted}) || !b.Ready(at) {
		t.Fatal("a probe that was accepted did not close it")
	}
	if fail(&b, at, tripAfter-1) || !b.Ready(at) {
		t.Error("failures before the pause count still")
	}
	if s := b.Status(at); s.Trips != 1 {
		t.Errorf("%d trips, want 1", s.Trips)
	}
}

func TestBreakerOutcomes(t *testing.T) {
	for _, c := range []struct {
		name  string
		r     Result
		trips bool
	}{
		{"accepted", Result{Outcome: Accepted}, false},
		{"dead token", Result{Outcome: TokenDead}, false},
		{"this request", Result{Outcome: Rejected}, false},
		{"this token", Result{Outcome: Busy, TokenBusy: true}, false},
		{"time-out", Result{Outcome: Unknown}, true},
		{"busy", Result{Outcome: Busy}, true},
		{"denied", Result{Outcome: Denied}, true},
	} {
		var b Breaker
		for range tripAfter {
			if probe, ok := b.Allow(t0); ok {
				b.Done(t0, probe, c.r)
			}
		}
		if b.Ready(t0) == c.trips {
			t.Errorf("%s five times: ready %t", c.name, b.Ready(t0))
		}
	}
}

// A provider that names a time is left alone at once, and as long as it says.
func TestBreakerRetryAfter(t *testing.T) {
	var b Breaker
	b.Allow(t0)
	if !b.Done(t0, false, Result{Outcome: Busy, RetryAfter: 90 * time.Second}) {
		t.Fatal("Retry-After did not open it")
	}
	if b.Ready(t0.Add(90*time.Second-1)) || !b.Ready(t0.Add(90*time.Second)) {
		t.Errorf("open until %s, want 90 s", b.Status(t0).Until)
	}
}

// What was sent before the breaker opened says nothing of the provider now,
// not even while a probe is under way.
func TestBreakerIgnoresLateAnswers(t *testing.T) {
	var b Breaker
	for range 10 {
		b.Allow(t0)
	}
	for range tripAfter {
		b.Done(t0, false, Result{Outcome: Unknown})
	}
	until := b.Status(t0).Until
	for _, r := range []Result{{Outcome: Accepted}, {Outcome: Unknown}} {
		if b.Done(t0, false, r) || b.Ready(t0) || b.Status(t0).Until != until {
			t.Errorf("a late %s moved the breaker", r.Outcome)
		}
	}
	b.Allow(until)
	if b.Done(until, false, Result{Outcome: Accepted}) || allowed(&b, until) {
		t.Error("a late answer passed for that of the probe")
	}
}

func allowed(b *Breaker, at time.Time) bool {
	_, ok := b.Allow(at)
	return ok
}

func TestBreakerRace(t *testing.T) {
	var b Breaker
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			at := t0
			for range 2000 {
				at = at.Add(50 * time.Millisecond)
				b.Ready(at)
				if probe, ok := b.Allow(at); ok {
					r := Result{Outcome: Accepted}
					if i%2 == 0 {
						r.Outcome = Unknown
					}
					b.Done(at, probe, r)
				}
				b.Status(at)
			}
		})
	}
	wg.Wait()
}

// The decision asks Ready for every message to a registered number.
func TestReadyIsCheap(t *testing.T) {
	var b Breaker
	fail(&b, t0, tripAfter)
	if n := testing.AllocsPerRun(100, func() { b.Ready(t0) }); n != 0 {
		t.Errorf("Ready allocates %v times", n)
	}
}

func BenchmarkReady(b *testing.B) {
	var br Breaker
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			br.Ready(t0)
		}
	})
}
