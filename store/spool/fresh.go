package spool

import (
	"sync"

	"shunt/gateway/msg"
)

// fresh are the messages that were put last, up to a number of octets: most are
// pushed, claimed and read within seconds, and need not be read from disk for
// that. It is safe for concurrent use.
type fresh struct {
	mu     sync.Mutex
	byID   map[msg.ID]*Message
	order  []msg.ID // oldest first, from head on
	head   int
	octets int
}

const (
	maxFresh    = 16 << 20 // octets
	freshMargin = 400      // of a message beside its PDU, roughly
)

func (m *Message) octets() int { return len(m.PDU) + freshMargin }

// add keeps m, or m instead of what was kept under its id, and lets go of the
// oldest where there is no room for it.
func (f *fresh) add(m *Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byID == nil {
		f.byID = make(map[msg.ID]*Message)
	}
	if old := f.byID[m.ID]; old != nil {
		f.octets -= old.octets()
	} else {
		f.order = append(f.order, m.ID)
	}
	f.byID[m.ID] = m
	f.octets += m.octets()
	for f.octets > maxFresh {
		f.dropOldest()
	}
}

func (f *fresh) dropOldest() {
	id := f.order[f.head]
	if f.head++; f.head > len(f.order)/2 && f.head > 1024 {
		f.order = append(f.order[:0], f.order[f.head:]...)
		f.head = 0
	}
	if m := f.byID[id]; m != nil {
		f.octets -= m.octets()
		delete(f.byID, id)
	}
}

func (f *fresh) get(id msg.ID) *Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.byID[id]
}

// drop lets go of one message.
func (f *fresh) drop(id msg.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.byID[id]; m != nil {
		f.octets -= m.octets()
		delete(f.byID, id)
	}
}
