package main

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestScheduleReplays(t *testing.T) {
	one := schedule(7, deck, 5*time.Minute, 4*time.Second)
	if d := cmp.Diff(one, schedule(7, deck, 5*time.Minute, 4*time.Second)); d != "" {
		t.Errorf("schedule of the same seed (-first +second):\n%s", d)
	}
	if cmp.Equal(one, schedule(8, deck, 5*time.Minute, 4*time.Second)) {
		t.Error("schedules of two seeds are alike")
	}
	// A shorter run of the same seed is the beginning of a longer one.
	short := schedule(7, deck, time.Minute, 4*time.Second)
	if d := cmp.Diff(one[:len(short)], short); d != "" {
		t.Errorf("the first minute (-of five +alone):\n%s", d)
	}
	if n := len(one); n < 60 || n > 90 {
		t.Errorf("%d faults in 5 minutes, want about 75", n)
	}
}

// Every round has every kind, and a fault has what its kind needs.
func TestScheduleHasEveryKind(t *testing.T) {
	all := schedule(3, deck, 10*time.Minute, time.Second)
	last := time.Duration(0)
	for i, f := range all {
		if f.At <= last || f.At >= 10*time.Minute || f.Number != i+1 {
			t.Errorf("fault %d: %s after %s, number %d", i, f, last, f.Number)
		}
		last = f.At
		onLeg := f.Kind == cut || f.Kind == stall || f.Kind == delay
		if onLeg != slices.Contains(legs, f.Leg) || (f.For > 0) == (f.Kind == cut) || (f.By > 0) != (f.Kind == delay || f.Kind == fsyncStall) {
			t.Errorf("%s: a leg, a length or a delay is missing, or one too many", f)
		}
	}
	for ; len(all) >= len(deck); all = all[len(deck):] {
		var got []kind
		for _, f := range all[:len(deck)] {
			got = append(got, f.Kind)
		}
		want := slices.Sorted(slices.Values(deck))
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("round %v, want %v", got, want)
		}
	}
}

func TestKinds(t *testing.T) {
	for list, want := range map[string]int{
		"all": len(deck), "none": 0, "all,-cut": len(deck) - 3, "all,-disk-full,-disk-low": len(deck) - 2, "cut,stall": 2,
	} {
		if got, err := kindsOf(list); err != nil || len(got) != want {
			t.Errorf("kindsOf(%q) = %v, %v; want %d kinds", list, got, err, want)
		}
	}
	for _, list := range []string{"", "every", "all,-every"} {
		if got, err := kindsOf(list); err == nil {
			t.Errorf("kindsOf(%q) = %v, want an error", list, got)
		}
	}
	if got := schedule(1, nil, time.Minute, time.Second); len(got) != 0 {
		t.Errorf("schedule of no kinds: %v", got)
	}
}
