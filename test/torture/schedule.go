package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// kind is what a fault does.
type kind string

const (
	killGateway kind = "kill-gateway" // SIGKILL; it stays away for so long
	killSMSC    kind = "kill-smsc"
	killAPNs    kind = "kill-apns"
	killFCM     kind = "kill-fcm"
	cut         kind = "cut"         // every connection of a leg is reset
	stall       kind = "stall"       // a leg passes nothing on
	delay       kind = "delay"       // a leg passes everything on later
	diskLow     kind = "disk-low"    // a filler leaves one twentieth of the data volume
	diskFull    kind = "disk-full"   // a filler takes the last octet of it
	fsyncStall  kind = "fsync-stall" // every msync, fsync and fdatasync of the gateway takes so much longer
	fsyncFail   kind = "fsync-fail"  // they fail with EIO
)

// deck holds every kind as often as it is drawn in one round.
var deck = []kind{
	killGateway, killGateway, killSMSC, killAPNs, killFCM, cut, cut, cut, stall, stall, delay,
	diskLow, diskFull, fsyncStall, fsyncFail,
}

// privileged kinds need root: for a file system of their own, and to trace.
var privileged = []kind{diskLow, diskFull, fsyncStall, fsyncFail}

// legs are the gateway's connections, each through a proxy of its own.
var legs = []string{"esme", "smsc", "own", "apns", "fcm", "api"}

// fault is one fault of the schedule.
type fault struct {
	Number int           `json:"number"` // counted from 1
	At     time.Duration `json:"at"`     // after the load began
	Kind   kind          `json:"kind"`
	Leg    string        `json:"leg,omitempty"`
	For    time.Duration `json:"for,omitempty"` // how long it lasts
	By     time.Duration `json:"by,omitempty"`  // how much later, of delay and fsync-stall
}

func (f fault) String() string {
	s := fmt.Sprintf("%6.1fs  %s", f.At.Seconds(), f.Kind)
	if f.Leg != "" {
		s += " " + f.Leg
	}
	if f.By > 0 {
		s += " by " + f.By.String()
	}
	if f.For > 0 {
		s += " for " + f.For.String()
	}
	return s
}

// schedule draws the faults of a load of length d, one about every gap: rounds
// in which every kind comes as often as in the deck, so that a short run meets
// each of them too. The same arguments give the same faults.
func schedule(seed uint64, kinds []kind, d, gap time.Duration) []fault {
	rng := rand.New(rand.NewPCG(seed, 0x544f5254))
	between := func(lo, hi time.Duration) time.Duration {
		return (lo + time.Duration(rng.Int64N(int64(hi-lo)))).Round(10 * time.Millisecond)
	}
	var all []fault
	var round []kind
	if len(kinds) == 0 {
		return nil
	}
	for at := between(gap/2, gap); at < d; at += between(gap/2, gap+gap/2) {
		if len(round) == 0 {
			round = slices.Clone(kinds)
			rng.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		}
		f := fault{Number: len(all) + 1, At: at, Kind: round[0]}
		round = round[1:]
		switch f.Kind {
		case killGateway, killSMSC, killAPNs, killFCM:
			f.For = between(10*time.Millisecond, 3*time.Second)
		case cut:
			f.Leg = legs[rng.IntN(len(legs))]
		case stall: // beyond smpp.response, and short of it
			f.Leg, f.For = legs[rng.IntN(len(legs))], between(time.Second, 9*time.Second)
		case delay:
			f.Leg, f.For, f.By = legs[rng.IntN(len(legs))], between(2*time.Second, 10*time.Second), between(20*time.Millisecond, 500*time.Millisecond)
		case diskLow: // the gateway looks at the disk every five seconds
			f.For = between(6*time.Second, 9*time.Second)
		case diskFull:
			f.For = between(2*time.Second, 8*time.Second)
		case fsyncStall:
			f.For, f.By = between(2*time.Second, 6*time.Second), between(200*time.Millisecond, 3*time.Second)
		case fsyncFail:
			f.For = between(time.Second, 4*time.Second)
		}
		all = append(all, f)
	}
	return all
}

// kindsOf reads a list of kinds, "all" or "all,-disk-full".
func kindsOf(list string) ([]kind, error) {
	var use []kind
	for _, name := range strings.Split(list, ",") {
		without, minus := strings.CutPrefix(name, "-")
		switch k := kind(without); {
		case name == "all":
			use = append(use, deck...)
		case name == "none":
		case !slices.Contains(deck, k):
			return nil, fmt.Errorf("faults: %q: want all, none, or some of %v, each with a - to leave it out", name, slices.Compact(slices.Clone(deck)))
		case minus:
			use = slices.DeleteFunc(use, func(u kind) bool { return u == k })
		default:
			use = append(use, k)
		}
	}
	return use, nil
}
