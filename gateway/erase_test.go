package gateway

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"shunt/gateway/msg"
	"shunt/smpp/pdu"
)

// dataHolds are the files of the data directory in which one of the texts is.
func (n *node) dataHolds(texts ...string) (found []string) {
	n.t.Helper()
	dir := n.g.cfg.Node.DataDir
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, x := range texts {
			if bytes.Contains(b, []byte(x)) {
				found = append(found, filepath.Base(path)+": "+x)
			}
		}
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return found
}

// TestErase: a person is in no file of the data directory after the erasure, but
// for what is pending, and in none at all after the next.
func TestErase(t *testing.T) {
	a := newAppNode(t, func(text string) string { return text + "[cdr]\nforwarded = true\n" })
	e := bind(t, a.addr(), "parcels", 0x34)
	const text, waiting = "a text that nobody may find", "one that has no outcome yet"
	id := e.submit(saying(text, nil))
	a.await(id, msg.Pushed)
	a.claim(id)
	a.acknowledge(id, "delivered")
	a.await(id, msg.Delivered)
	if ours(e.submit(submitTo(stranger, func(m *pdu.SM) { m.Source.Addr = []byte(subscriber.String()[1:]) }))) {
		t.Fatal("a message to a stranger was diverted")
	}
	pending := e.submit(saying(waiting, nil))
	a.await(pending, msg.Pushed)
	person := []string{
		subscriber.String()[1:], string(binary.BigEndian.AppendUint64(nil, uint64(subscriber))), text,
	}
	if err := a.g.records.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, x := range person {
		if len(a.dataHolds(x)) == 0 {
			t.Fatalf("no file holds %q: the test sees nothing", x)
		}
	}
	c := &control{a.g}
	got, err := c.Erase(t.Context(), subscriber)
	if err != nil || !got.Registered || got.Messages != 1 || got.Pending != 1 || got.CDRLines != 2 {
		t.Fatalf("Erase() = %+v, %v; want registered, one message, one pending, two lines", got, err)
	}
	if found := a.dataHolds(text); len(found) > 0 {
		t.Errorf("after the erasure: %q", found)
	}
	if id := e.submit(saying("the next one", nil)); ours(id) {
		t.Error("the next message was diverted")
	}
	if st := e.cancel(pending); st != pdu.ROK {
		t.Fatalf("cancel_sm = %v", st)
	}
	a.await(pending, msg.Cancelled)
	a.until("everything to be erased", func() bool {
		got, err = c.Erase(t.Context(), subscriber)
		if err != nil {
			t.Fatalf("Erase() = %v", err)
		}
		return got.Pending == 0
	})
	if found := a.dataHolds(append(person, waiting, "the next one")...); len(found) > 0 {
		t.Errorf("after all had ended: %q", found)
	}
	a.halt()
	if found := a.dataHolds(append(person, waiting)...); len(found) > 0 {
		t.Errorf("after the stop: %q", found)
	}
}
