package spool

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"shunt/gateway/msg"
)

func TestEnded(t *testing.T) {
	var x ended
	now := time.Now()
	id := func(n int) (id msg.ID) {
		id[14], id[15] = byte(n>>8), byte(n)
		return id
	}
	for n := range maxEnded + 10 {
		x.add(&Record{ID: id(n + 1), State: msg.Delivered}, now.Add(time.Second))
	}
	if len(x.byID) != maxEnded {
		t.Errorf("%d are kept, want %d", len(x.byID), maxEnded)
	}
	if _, ok := x.get(id(10), now); ok {
		t.Error("the tenth is kept, want it gone for the last one")
	}
	if r, ok := x.get(id(11), now); !ok || r.ID != id(11) {
		t.Errorf("the eleventh: %v, %t", r.ID, ok)
	}
	if _, ok := x.get(id(11), now.Add(time.Second)); ok {
		t.Error("the eleventh is there after its time")
	}
	x.add(&Record{ID: id(11), State: msg.Delivered, Read: true}, now.Add(time.Minute))
	if r, ok := x.get(id(11), now.Add(time.Second)); !ok || !r.Read || len(x.byID) != maxEnded {
		t.Errorf("the eleventh once more: read %t, %t; %d are kept", r.Read, ok, len(x.byID))
	}
	x.drop(id(11))
	if _, ok := x.get(id(11), now); ok {
		t.Error("what was dropped is there")
	}
	x.clear()
	x.add(&Record{ID: id(11)}, now.Add(time.Second))
	if len(x.byID) != 1 {
		t.Errorf("%d after all were dropped, want one", len(x.byID))
	}
}

// What ended lately reads as what the disk has.
func TestEndedAsOnDisk(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := started(t, Options{Dir: dir})
		m := message(s, time.Now())
		put(t, s, m)
		do(t, s, Event{ID: m.ID, Kind: msg.EvClaim, Device: "phone"})
		do(t, s, Event{ID: m.ID, Kind: msg.EvDelivered, Device: "phone"})
		do(t, s, Event{ID: m.ID, Kind: msg.EvReceiptDone})
		same := func(what string) {
			t.Helper()
			lately, ok := s.ended.get(m.ID, time.Now())
			onDisk, _, err := s.loadFinished(m.ID)
			if !ok || err != nil || lately != onDisk {
				t.Errorf("%s: %+v, %t; on disk %+v, %v", what, lately, ok, onDisk, err)
			}
		}
		same("after the end")
		if r := s.Do(context.Background(), Event{ID: m.ID, Kind: msg.EvRead, Device: "phone"}); r.Err != nil || !r.Record.Read {
			t.Fatalf("read = %+v", r)
		}
		same("read after the end")
		shut(t, s)
	})
}
