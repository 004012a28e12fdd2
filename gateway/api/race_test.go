package api

import (
	"net/http"
	"runtime"
	"sync"
	"testing"

	"shunt/gateway/msg"
	"shunt/store/spool"
)

// Two devices claim at once: one gets the text, the other is told so.
func TestTwoDevicesClaim(t *testing.T) {
	r := newRig(t)
	var firsts int
	for range 60 {
		id := r.message(alice)
		got := together(
			func() (answer, error) { return r.try("POST", path(id, "/claim"), bearerA, nil) },
			func() (answer, error) { return r.try("POST", path(id, "/claim"), bearerB, nil) },
		)
		winner, loser := got[0], got[1]
		if winner.status != 200 {
			winner, loser = loser, winner
		} else {
			firsts++
		}
		if winner.status != 200 || winner.fields["text"] != theText {
			t.Fatalf("no winner: %d %s and %d %s", winner.status, winner.body, loser.status, loser.body)
		}
		wantProblem(t, "the loser's claim", loser, 409, codeSuperseded)
	}
	t.Logf("the first device won %d of 60", firsts)
}

// A claim races with the deadline: the text is released exactly where the
// carrier did not win.
func TestClaimAgainstDeadline(t *testing.T) {
	r := newRig(t)
	var claims int
	for range 100 {
		id := r.message(alice)
		var fired spool.Result
		got := together(
			func() (answer, error) { return r.try("POST", path(id, "/claim"), bearerA, nil) },
			func() (answer, error) {
				fired = r.spool.Do(t.Context(), spool.Event{ID: id, Kind: msg.EvClaimDeadline})
				return answer{}, nil
			},
		)
		rec, err := r.spool.Get(id)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case got[0].status == 200 && rec.State == msg.Claimed && fired.Err != nil:
			claims++
		case got[0].status == 409 && rec.State == msg.Fallback && fired.Err == nil:
		default:
			t.Fatalf("claim = %d %s, deadline = %v, state %s: not exactly one winner", got[0].status, got[0].body, fired.Err, rec.State)
		}
	}
	t.Logf("the claim won %d of 100", claims)
}

// The winner's own claim, many times at once, is one claim.
func TestSameDeviceClaimsAtOnce(t *testing.T) {
	r := newRig(t)
	id := r.message(alice)
	claim := func() (answer, error) { return r.try("POST", path(id, "/claim"), bearerA, nil) }
	got := together(claim, claim, claim, claim, claim, claim, claim, claim)
	for i, a := range got {
		if a.status != 200 || a.body != got[0].body {
			t.Errorf("claim %d = %d %s, want 200 %s", i, a.status, a.body, got[0].body)
		}
	}
	steps, err := r.spool.Trace(id)
	if err != nil {
		t.Fatal(err)
	}
	var claims int
	for _, s := range steps {
		if s.Event == msg.EvClaim {
			claims++
		}
	}
	if claims != 1 {
		t.Errorf("claims in the trace = %d, want 1", claims)
	}
}

// together runs all calls at once; one that fails leaves a zero answer.
func together(calls ...func() (answer, error)) []answer {
	got := make([]answer, len(calls))
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i, call := range calls {
		wg.Go(func() {
			<-start
			got[i], _ = call()
		})
	}
	close(start)
	wg.Wait()
	return got
}

// BenchmarkClaim is a claim over HTTP, its commit on stable storage included,
// from 32 connections at once.
func BenchmarkClaim(b *testing.B) {
	r := newRig(b)
	r.http.Transport = &http.Transport{MaxIdleConnsPerHost: 64}
	ids := make(chan msg.ID, b.N)
	for range b.N {
		ids <- r.message(alice)
	}
	b.SetParallelism(32 / runtime.GOMAXPROCS(0))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if a, err := r.try("POST", path(<-ids, "/claim"), bearerA, nil); a.status != 200 || err != nil {
				b.Errorf("claim = %d %s, %v", a.status, a.body, err)
			}
		}
	})
}
