// Package letter remembers which way the parts of each long message go. The
// first part fixes the way for all of them, whatever binds the others come on:
// a handset cannot join what came by SMS with what came through an app.
package letter

import (
	"hash/maphash"
	"sync"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
)

// Key is what the parts of a long message have in common (3GPP TS 23.040
// §9.2.3.24.1). References of different forms are different spaces.
type Key struct {
	Account      msg.Account
	Source, Dest string // type of number, numbering plan and digits
	Form         coding.Form
	Reference    uint16
	Total        byte
}

// KeyOf is the key of a part that an account submitted.
func KeyOf(a msg.Account, m *pdu.SM, s *coding.Segment) Key {
	return Key{
		Account: a, Source: address(m.Source), Dest: address(m.Dest),
		Form: s.Form, Reference: s.Part.Reference, Total: s.Part.Total,
	}
}

func address(a pdu.Address) string { return string([]byte{a.TON, a.NPI}) + string(a.Addr) }

// Path is the way of a long message; the zero Path is the carrier's.
type Path[T any] struct {
	Group msg.ID // names the long message: the ID of its first part
	Plan  T      // what was decided beside
}

// App tells whether the parts are held for an app.
func (p *Path[T]) App() bool { return !p.Group.IsZero() }

const (
	// remember is how long the carrier's way is remembered after its last part.
	remember = 5 * time.Minute
	// maxLetters bounds the long messages remembered. Beyond it they take the
	// carrier's way; a part that comes when there is room again is held until
	// its time is over, and goes there too.
	maxLetters = 100_000
	sweepEvery = 10 * time.Second
)

// Table is the long messages of which parts are still to come. Its methods are
// safe for concurrent use. The zero Table is empty. T is what the first part's
// decision wants to have again for the others.
type Table[T any] struct {
	mu     sync.Mutex
	m      map[Key]*entry[T]
	swept  time.Time
	digest maphash.Hash
}

type entry[T any] struct {
	path  Path[T]
	parts map[byte]uint64 // number → digest of its octets
	until time.Time       // the app's way is open; then the carrier's is remembered
}

// Part finds the way of part number of a long message, text being its octets:
// that of the parts before it or, for a first part, the one that first decides,
// which runs under the table's lock. holdBy is until when parts are held. A
// part that came before with other octets begins a new long message: the peer
// has used its reference again.
func (t *Table[T]) Part(k Key, number byte, text []byte, now, holdBy time.Time, first func() Path[T]) Path[T] {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(now)
	sum := t.sum(text)
	e := t.m[k]
	if e != nil {
		e.age(now)
	}
	if e != nil && e.path.App() {
		if s, again := e.parts[number]; again && s != sum {
			e = nil
		}
	}
	if e == nil {
		if len(t.m) >= maxLetters {
			return Path[T]{}
		}
		e = &entry[T]{path: first(), parts: make(map[byte]uint64), until: holdBy}
		if t.m == nil {
			t.m = make(map[Key]*entry[T])
		}
		t.m[k] = e
	}
	e.parts[number] = sum
	if !e.path.App() {
		e.until = now.Add(remember)
	}
	if len(e.parts) == int(k.Total) { // complete: whatever comes now is of another one
		delete(t.m, k)
	}
	return e.path
}

// Resume takes a part that was held when the gateway stopped.
func (t *Table[T]) Resume(k Key, number byte, text []byte, holdBy time.Time, p Path[T]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.m[k]
	if e == nil || e.path.Group != p.Group {
		e = &entry[T]{path: p, parts: make(map[byte]uint64), until: holdBy}
		if t.m == nil {
			t.m = make(map[Key]*entry[T])
		}
		t.m[k] = e
	}
	e.parts[number] = t.sum(text)
}

// Carrier sends what is still to come of a long message the carrier's way, for
// a part of it could not be held.
func (t *Table[T]) Carrier(k Key, group msg.ID, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.m[k]; e != nil && e.path.Group == group {
		e.path, e.until = Path[T]{}, now.Add(remember)
	}
}

// Len is the number of long messages remembered.
func (t *Table[T]) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.m)
}

// age ends the app's way of a long message whose parts are no longer held.
func (e *entry[T]) age(now time.Time) {
	if e.path.App() && !now.Before(e.until) {
		e.path, e.until = Path[T]{}, e.until.Add(remember)
	}
}

// sweep forgets, now and then, what is over.
func (t *Table[T]) sweep(now time.Time) {
	if since := now.Sub(t.swept); since >= 0 && since < sweepEvery {
		return
	}
	t.swept = now
	for k, e := range t.m {
		e.age(now)
		if !e.path.App() && !now.Before(e.until) {
			delete(t.m, k)
		}
	}
}

func (t *Table[T]) sum(text []byte) uint64 {
	t.digest.Reset()
	_, _ = t.digest.Write(text) // never fails (hash/maphash)
	return t.digest.Sum64()
}
