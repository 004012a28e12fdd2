package gateway

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shunt/gateway/cdr"
	"shunt/gateway/msg"
	"shunt/smpp/pdu"
)

// recorded is any line of the call detail records.
type recorded struct {
	cdr.Message
	Diverted, Forwarded uint64
	Reasons             map[string]uint64
}

// records reads all lines, and makes sure that none holds one of those texts.
func (n *node) records(texts ...string) (all []recorded) {
	n.t.Helper()
	names, err := cdr.Files(filepath.Join(n.g.cfg.Node.DataDir, "cdr"))
	if err != nil {
		n.t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			n.t.Fatal(err)
		}
		for _, text := range texts {
			if strings.Contains(string(b), text) {
				n.t.Errorf("%s holds the text %q", name, text)
			}
		}
		for line := range strings.Lines(string(b)) {
			var r recorded
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				n.t.Fatalf("%s: %q: %v", name, line, err)
			}
			all = append(all, r)
		}
	}
	return all
}

// TestRecords: every end of a diverted message is one line, over a restart too,
// with what became of it; the sums add up with what was submitted.
func TestRecords(t *testing.T) {
	a := newAppNode(t, func(text string) string { return text + "[cdr]\nforwarded = true\n" })
	e := bind(t, a.addr(), "parcels", 0x34)
	const text = "a very private text"
	type line struct{ state, channel, event string }
	want := make(map[string]line)
	submit := func(from string, set func(*pdu.SM)) string {
		return e.submit(saying(text, func(m *pdu.SM) {
			m.Source.Addr = []byte(from)
			if set != nil {
				set(m)
			}
		}))
	}
	claimed := submit("Claimed", nil)
	a.await(claimed, msg.Pushed)
	a.claim(claimed)
	a.acknowledge(claimed, "delivered")
	want[claimed] = line{"DELIVERED", "app", "delivered"}
	cancelled := submit("Parcel24", ahead(patience))
	e.cancel(cancelled)
	want[cancelled] = line{"CANCELLED", "", "cancel"}
	old := submit("Replaced", nil)
	fresh := submit("Replaced", func(m *pdu.SM) { m.ReplaceIfPresent = 1 })
	want[old] = line{"CANCELLED", "", "cancel"}
	lost := a.lostAndFound("parcels", saying(text, func(m *pdu.SM) { m.Source.Addr = []byte("Lost") }))
	for range 3 {
		e.submit(submitTo(stranger, nil))
	}
	e.submit(saying("Your code is 481516", nil))
	a.until("three ends are on record", func() bool { return a.g.records.Written.Load() >= 3 })
	first := a.records(text)

	b := a.next()
	e = bind(t, b.addr(), "parcels", 0x34)
	for _, id := range []string{fresh, lost} {
		b.await(id, msg.Pushed)
		b.claim(id)
		b.acknowledge(id, "read")
		want[id] = line{"DELIVERED", "app", "read"}
	}
	b.until("the rest is on record", func() bool { return b.g.records.Written.Load() >= 2 })
	e.submit(submitTo(stranger, nil))
	b.halt()
	all := b.records(text)
	if len(first) == 0 || len(all) <= len(first) {
		t.Errorf("%d lines before the restart, %d in all", len(first), len(all))
	}
	seq := uint64(0)
	var diverted, forwarded, single uint64
	for _, r := range all {
		switch r.Type {
		case cdr.TypeMessage:
			if seq++; r.Seq != seq {
				t.Errorf("line %d has number %d", seq, r.Seq)
			}
			if got := (line{r.State, r.Channel, r.Event}); got != want[r.ID] {
				t.Errorf("%s: %+v, want %+v", r.ID, got, want[r.ID])
			}
			if r.WireID != r.ID || r.Account != "parcels" || r.To != subscriber.String() || r.App != "chat" || r.Registered != 1 {
				t.Errorf("line %+v", r.Message)
			}
			delete(want, r.ID)
		case cdr.TypeForwarded:
			single++
		case cdr.TypeSums:
			diverted, forwarded = diverted+r.Diverted, forwarded+r.Forwarded
			if r.Account != "parcels" {
				t.Errorf("sums of %q", r.Account)
			}
		}
	}
	if len(want) != 0 {
		t.Errorf("no line of %+v", want)
	}
	if diverted != 6 || forwarded != 5 || single != 5 { // the lost one was submitted twice
		t.Errorf("sums: %d diverted, %d forwarded, %d lines of forwarded ones; want 6, 5, 5", diverted, forwarded, single)
	}
}

// lostAndFound submits p, loses the answer, and has it on another connection.
func (n *node) lostAndFound(systemID string, p pdu.PDU) string {
	n.t.Helper()
	before := len(n.recent())
	e := bindRaw(n.t, n.addr(), systemID, false)
	n.until("two are bound", func() bool { return len(n.g.hub.Binds()) == 2 })
	in := n.g.hub.Binds()[1]
	release := n.hold()
	e.submit(p, 7)
	n.until("it is read", in.Holds)
	e.cut()
	n.until("one is bound", func() bool { return len(n.g.hub.Binds()) == 1 })
	release()
	n.until("it is stored", func() bool { return len(n.recent()) == before+1 })
	e = bindRaw(n.t, n.addr(), systemID, false)
	e.submit(p, 8)
	id := e.answer()
	if want := n.recent()[before]; id != want {
		n.t.Errorf("again: message_id %q, want %q", id, want)
	}
	e.write(pdu.AppendHeader(nil, pdu.Unbind, pdu.ROK, 9))
	for e.read().ID() != pdu.UnbindResp {
	}
	e.cut()
	return id
}
