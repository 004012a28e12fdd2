package letter

import (
	"sync"
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
)

var t0 = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func key(ref uint16, total byte) Key {
	m := pdu.SM{Source: pdu.Address{TON: 5, Addr: []byte("Bank")}, Dest: pdu.Address{TON: 1, NPI: 1, Addr: []byte("447700900042")}}
	return KeyOf(msg.Account{SystemID: "bank"}, &m, &coding.Segment{Form: coding.UDH8, Part: coding.Part{Reference: ref, Total: total, Number: 1}})
}

// ask asks for a part and tells whether the first part's decision was wanted.
func ask(t *Table[string], k Key, number byte, text string, at time.Time, decision Path[string]) (p Path[string], first bool) {
	p = t.Part(k, number, []byte(text), at, at.Add(30*time.Second), func() Path[string] {
		first = true
		return decision
	})
	return p, first
}

func app(n byte) Path[string] { return Path[string]{Group: msg.ID{n}, Plan: "plan"} }

func TestFirstPartDecides(t *testing.T) {
	var x Table[string]
	if p, first := ask(&x, key(1, 3), 2, "two", t0, app(1)); !first || p != app(1) {
		t.Fatalf("first part: %+v, %t", p, first)
	}
	if p, first := ask(&x, key(1, 3), 1, "one", t0.Add(29*time.Second), Path[string]{}); first || p != app(1) {
		t.Errorf("second part: %+v, %t; want the first's way", p, first)
	}
	if p, first := ask(&x, key(2, 3), 1, "one", t0, Path[string]{}); !first || p.App() {
		t.Errorf("another reference: %+v, %t", p, first)
	}
	if p, first := ask(&x, key(2, 3), 2, "two", t0, app(2)); first || p.App() {
		t.Errorf("the carrier's way was not kept: %+v, %t", p, first)
	}
	if p, first := ask(&x, key(1, 3), 3, "three", t0, Path[string]{}); first || p != app(1) {
		t.Errorf("last part: %+v, %t", p, first)
	}
	if p, first := ask(&x, key(1, 3), 3, "three", t0, app(3)); !first || p != app(3) {
		t.Errorf("a part after the last: %+v, %t; want a new long message", p, first)
	}
}

func TestKeys(t *testing.T) {
	base := key(1, 2)
	m := pdu.SM{Source: pdu.Address{TON: 5, Addr: []byte("Bank")}, Dest: pdu.Address{TON: 1, NPI: 1, Addr: []byte("447700900042")}}
	s := coding.Segment{Form: coding.UDH8, Part: coding.Part{Reference: 1, Total: 2, Number: 2}}
	if k := KeyOf(msg.Account{SystemID: "bank"}, &m, &s); k != base {
		t.Errorf("another part of the same: %+v, want %+v", k, base)
	}
	for name, k := range map[string]Key{
		"account":   KeyOf(msg.Account{SystemID: "shop"}, &m, &s),
		"form":      KeyOf(msg.Account{SystemID: "bank"}, &m, &coding.Segment{Form: coding.UDH16, Part: s.Part}),
		"reference": key(2, 2),
		"total":     key(1, 3),
		"source":    KeyOf(msg.Account{SystemID: "bank"}, &pdu.SM{Source: pdu.Address{TON: 1, Addr: []byte("Bank")}, Dest: m.Dest}, &s),
		"dest":      KeyOf(msg.Account{SystemID: "bank"}, &pdu.SM{Source: m.Source}, &s),
	} {
		if k == base {
			t.Errorf("another %s has the same key", name)
		}
	}
}

// The same octets again are the same part; others under its number are a new
// long message.
func TestRepeatedParts(t *testing.T) {
	var x Table[string]
	ask(&x, key(1, 2), 1, "one", t0, app(1))
	if p, first := ask(&x, key(1, 2), 1, "one", t0, app(2)); first || p != app(1) {
		t.Errorf("repeated: %+v, %t", p, first)
	}
	if p, first := ask(&x, key(1, 2), 1, "another", t0, app(3)); !first || p != app(3) {
		t.Errorf("with other octets: %+v, %t", p, first)
	}
	if p, first := ask(&x, key(1, 2), 2, "two", t0, app(4)); first || p != app(3) {
		t.Errorf("the rest: %+v, %t; want the newer one's", p, first)
	}
}

func TestTheHoldEnds(t *testing.T) {
	var x Table[string]
	ask(&x, key(1, 3), 1, "one", t0, app(1))
	late := t0.Add(30 * time.Second)
	if p, first := ask(&x, key(1, 3), 2, "two", late, app(2)); first || p.App() {
		t.Errorf("after the hold: %+v, %t; want the carrier", p, first)
	}
	if p, first := ask(&x, key(1, 3), 1, "other", late, app(3)); first || p.App() {
		t.Errorf("the carrier's way takes all octets: %+v, %t", p, first)
	}
	ask(&x, key(9, 2), 1, "x", late.Add(time.Hour), app(4)) // sweeps
	if x.Len() != 1 {
		t.Errorf("%d long messages are remembered, want 1", x.Len())
	}
	if p, first := ask(&x, key(1, 3), 3, "three", late.Add(time.Hour), app(5)); !first || p != app(5) {
		t.Errorf("an hour later: %+v, %t", p, first)
	}
}

func TestGiveUp(t *testing.T) {
	var x Table[string]
	ask(&x, key(1, 3), 1, "one", t0, app(1))
	x.Carrier(key(1, 3), msg.ID{9}, t0) // another one's failure
	if p, _ := ask(&x, key(1, 3), 2, "two", t0, app(2)); p != app(1) {
		t.Errorf("%+v after the failure of another", p)
	}
	x.Carrier(key(1, 3), msg.ID{1}, t0)
	if p, first := ask(&x, key(1, 3), 3, "three", t0, app(3)); first || p.App() {
		t.Errorf("%+v, %t after a failure, want the carrier", p, first)
	}
}

func TestResume(t *testing.T) {
	var x Table[string]
	x.Resume(key(1, 3), 1, []byte("one"), t0.Add(10*time.Second), app(1))
	x.Resume(key(1, 3), 3, []byte("three"), t0.Add(10*time.Second), app(1))
	if p, first := ask(&x, key(1, 3), 1, "one", t0, app(2)); first || p != app(1) {
		t.Errorf("repeated after a start: %+v, %t", p, first)
	}
	if p, first := ask(&x, key(1, 3), 2, "two", t0, app(2)); first || p != app(1) || x.Len() != 0 {
		t.Errorf("completed after a start: %+v, %t, %d left", p, first, x.Len())
	}
}

func TestBound(t *testing.T) {
	var x Table[string]
	for i := range maxLetters {
		k := key(uint16(i), 2)
		k.Dest = string(rune(i))
		ask(&x, k, 1, "one", t0, app(1))
	}
	if p, first := ask(&x, key(1, 9), 1, "one", t0, app(2)); first || p.App() || x.Len() != maxLetters {
		t.Errorf("one more: %+v, %t, %d remembered; want the carrier, undecided", p, first, x.Len())
	}
}

// Parts on many binds at once: one decides, and all go its way.
func TestConcurrentParts(t *testing.T) {
	const total = 64
	for round := range 50 {
		var x Table[string]
		var mu sync.Mutex
		decided := 0
		got := map[msg.ID]int{}
		var wg sync.WaitGroup
		for n := range total {
			wg.Go(func() {
				p := x.Part(key(uint16(round), total), byte(n+1), []byte{byte(n)}, t0, t0.Add(time.Minute), func() Path[string] {
					mu.Lock()
					defer mu.Unlock()
					decided++
					return app(byte(n + 1))
				})
				mu.Lock()
				got[p.Group]++
				mu.Unlock()
			})
		}
		wg.Wait()
		if decided != 1 || len(got) != 1 || x.Len() != 0 {
			t.Fatalf("%d decided, %d ways, %d left", decided, len(got), x.Len())
		}
	}
}
