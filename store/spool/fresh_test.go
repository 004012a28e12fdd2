package spool

import (
	"encoding/binary"
	"testing"
	"time"

	"shunt/gateway/msg"
)

func TestFresh(t *testing.T) {
	var f fresh
	sized := func(i uint64, octets int) *Message {
		m := &Message{PDU: make([]byte, octets)}
		binary.BigEndian.PutUint64(m.ID[8:], i)
		return m
	}
	const size, all = 1000, 20_000
	for i := range uint64(all) {
		m := sized(i+1, size)
		f.add(m)
		if f.get(m.ID) != m {
			t.Fatalf("message %d is not kept", i)
		}
		if i%3 == 0 {
			f.drop(m.ID)
		}
	}
	sum := 0
	for id, m := range f.byID {
		if sum += m.octets(); id != m.ID {
			t.Fatalf("%s is kept as %s", m.ID, id)
		}
	}
	if sum != f.octets || sum > maxFresh || sum < maxFresh*9/10 {
		t.Errorf("%d octets are kept, counted as %d; want nearly %d", sum, f.octets, maxFresh)
	}
	if left := len(f.order) - f.head; left > 2*len(f.byID) {
		t.Errorf("%d ids in order for %d messages", left, len(f.byID))
	}
	last := sized(all, 2*size)
	f.add(last)
	if f.get(last.ID) != last || f.octets > maxFresh {
		t.Errorf("a message that changed: %p, want %p; %d octets", f.get(last.ID), last, f.octets)
	}
	if first := sized(1, size); f.get(first.ID) != nil {
		t.Errorf("the first message is still kept")
	}
	if got := f.get(msg.ID{}); got != nil {
		t.Errorf("no message: %v", got)
	}
	huge := sized(all+1, maxFresh)
	f.add(huge)
	if f.get(huge.ID) != nil || f.octets != 0 || len(f.byID) != 0 {
		t.Errorf("one beyond the limit: %d octets and %d messages are kept, want none", f.octets, len(f.byID))
	}
}

// What is in RAM is what is on disk, also after a replace_sm.
func TestFreshMessageIsTheOneOnDisk(t *testing.T) {
	s := started(t, Options{Dir: t.TempDir()})
	m := message(s, time.Now())
	put(t, s, m)
	changed := *m
	changed.PDU = append([]byte(nil), m.PDU...)
	changed.PDU[len(changed.PDU)-1]++
	if res := s.Do(t.Context(), Event{ID: m.ID, Kind: msg.EvReplace, Replace: &changed}); res.Err != nil {
		t.Fatal(res.Err)
	}
	ram, err := s.Message(m.ID)
	if err != nil {
		t.Fatal(err)
	}
	s.fresh.drop(m.ID)
	disk, err := s.Message(m.ID)
	if err != nil || ram == disk || string(ram.PDU) != string(disk.PDU) || string(disk.PDU) != string(changed.PDU) {
		t.Errorf("%v; in RAM %x, on disk %x, want %x", err, ram.PDU, disk.PDU, changed.PDU)
	}
}
