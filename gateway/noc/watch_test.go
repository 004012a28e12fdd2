package noc

import (
	"testing"
	"time"
)

func TestWatchMasks(t *testing.T) {
	r := newRig(t)
	for _, clear := range []bool{false, true} {
		var got []Passed
		err := r.Watch(t.Context(), alice.String(), time.Minute, clear, func(p *Passed) error {
			got = append(got, *p)
			return nil
		})
		want := alice.Masked()
		if clear {
			want = alice.String()
		}
		if err != nil || len(got) != 1 || got[0].To != want || (got[0].From == "447700900043") != clear {
			t.Errorf("watch, unmask %t = %+v, %v, want %s", clear, got, err, want)
		}
	}
	r.gateway.refuse = ErrTooManyWatches
	err := r.Watch(t.Context(), alice.String(), time.Minute, false, nil)
	wantProblem(t, "one watch too many", err, 409, CodeConflict, "watched already")
	err = r.Watch(t.Context(), alice.String(), 48*time.Hour, false, nil)
	wantProblem(t, "too long", err, 400, CodeInvalid, "seconds")
}
