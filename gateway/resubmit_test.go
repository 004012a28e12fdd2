package gateway

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/gateway/resubmit"
	"shunt/gateway/upstream"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// rawESME is an ESME that has its connection in its own hands.
type rawESME struct {
	t    testing.TB
	conn *net.TCPConn
}

// bindRaw binds. With a small buffer the ESME's system takes little of what
// the ESME does not read.
func bindRaw(t testing.TB, addr, systemID string, small bool) *rawESME {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	e := &rawESME{t, conn.(*net.TCPConn)}
	if small {
		if err := e.conn.SetReadBuffer(2048); err != nil {
			t.Fatal(err)
		}
	}
	b := pdu.Bind{SystemID: systemID, Password: "pw", InterfaceVersion: pdu.Version34}
	e.write(b.Append(nil, pdu.BindTransceiver, 1))
	if p := e.read(); p.Status() != pdu.ROK {
		t.Fatalf("bind: %s", p.Status())
	}
	return e
}

func (e *rawESME) write(p []byte) {
	e.t.Helper()
	if _, err := e.conn.Write(p); err != nil {
		e.t.Fatal(err)
	}
}

// submit sends p under that sequence_number.
func (e *rawESME) submit(p pdu.PDU, seq uint32) {
	e.t.Helper()
	p = bytes.Clone(p)
	p.SetSeq(seq)
	e.write(p)
}

func (e *rawESME) read() pdu.PDU {
	e.t.Helper()
	_ = e.conn.SetReadDeadline(time.Now().Add(patience))
	p := make(pdu.PDU, pdu.HeaderLen)
	if _, err := io.ReadFull(e.conn, p); err != nil {
		e.t.Fatal(err)
	}
	p = append(p, make([]byte, int(p.Len())-len(p))...)
	if _, err := io.ReadFull(e.conn, p[pdu.HeaderLen:]); err != nil {
		e.t.Fatal(err)
	}
	return p
}

// answer reads the message_id of the next answer, past all others.
func (e *rawESME) answer() string {
	e.t.Helper()
	for {
		p := e.read()
		if p.ID() == pdu.EnquireLinkResp {
			continue
		}
		id, err := pdu.MessageID(p)
		if err != nil || p.Status() != pdu.ROK {
			e.t.Fatalf("%s: %s, %v", p.ID(), p.Status(), err)
		}
		return id
	}
}

// cut ends the connection with an RST.
func (e *rawESME) cut() {
	e.t.Helper()
	_ = e.conn.SetLinger(0)
	_ = e.conn.Close()
}

// hold keeps the spool's committer busy, as a disk that does not answer would,
// until release is called.
func (n *node) hold() (release func()) {
	held, done := make(chan struct{}), make(chan struct{})
	n.g.spool.Post(spool.Event{ID: n.g.spool.NewID(), Kind: msg.EvCancel}, func(spool.Result) {
		close(held)
		<-done
	})
	<-held
	release = sync.OnceFunc(func() { close(done) })
	n.t.Cleanup(release)
	return release
}

// only waits for the one bind that is up: an ESME has its answer a little
// before the gateway knows it by its name.
func (n *node) only() (b *upstream.Bind) {
	n.t.Helper()
	n.until("one ESME is bound", func() bool {
		all := n.g.hub.Binds()
		if len(all) == 1 {
			b = all[0]
		}
		return len(all) == 1
	})
	return b
}

// alone waits until no ESME is bound, so that the gateway knows of the loss.
func (n *node) alone() {
	n.t.Helper()
	n.until("no ESME is bound", func() bool { return len(n.g.hub.Binds()) == 0 })
}

// spooled are the messages that the spool has for the subscriber, oldest first.
func (n *node) recent() (ids []string) {
	n.t.Helper()
	list, err := n.g.spool.Recent(subscriber, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	for i := len(list) - 1; i >= 0; i-- {
		ids = append(ids, list[i].WireID)
	}
	return ids
}

// unanswered submits p on a connection of its own that is lost before the
// answer is, and gives the message_id that was lost with it.
func (n *node) unanswered(systemID string, p pdu.PDU, lose func(*rawESME)) string {
	n.t.Helper()
	before := len(n.recent())
	e := bindRaw(n.t, n.addr(), systemID, false)
	in := n.only()
	release := n.hold()
	e.submit(p, 7)
	n.until("it is read", in.Holds)
	lose(e)
	n.alone()
	release()
	n.until("it is stored", func() bool { return len(n.recent()) == before+1 })
	return n.recent()[before]
}

// TestResubmit: a submit whose answer was lost with its connection is the same
// message when it comes again, once.
func TestResubmit(t *testing.T) {
	for what, p := range map[string]pdu.PDU{
		"submit_sm": saying("Your parcel is here.", nil), "data_sm": dataTo(registeredNumber, nil), "part": partTo(1, 1, "half"),
	} {
		for how, lose := range map[string]func(*rawESME){"RST": (*rawESME).cut, "FIN": func(e *rawESME) { _ = e.conn.Close() }} {
			t.Run(what+", "+how, func(t *testing.T) {
				a := newAppNode(t, nil)
				lost := a.unanswered("parcels", p, lose)
				e := bindRaw(t, a.addr(), "parcels", false)
				e.submit(p, 1234)
				if id := e.answer(); id != lost {
					t.Errorf("again: message_id %q, want %q", id, lost)
				}
				if got := a.recent(); len(got) != 1 {
					t.Errorf("%d messages are stored, want one", len(got))
				}
				e.submit(p, 1235)
				if id := e.answer(); id == lost || !ours(id) {
					t.Errorf("a third time: message_id %q, want a new message", id)
				}
				c := a.g.counters()
				if c.SubmitsIn != 3 || c.Diverted != 2 || c.Forwarded != 0 || c.Reasons[msg.ReasonResubmit.String()] != 1 {
					t.Errorf("counters %+v", c)
				}
			})
		}
	}
}

// TestResubmitOfAnother: what another account submits, or on another text, or
// what goes elsewhere, is none; it has no part in the doubt.
func TestResubmitOfAnother(t *testing.T) {
	a := newAppNode(t, nil)
	p := saying("Your parcel is here.", nil)
	lost := a.unanswered("parcels", p, (*rawESME).cut)
	for what, id := range map[string]string{
		"another account": bind(t, a.addr(), "shop", 0x34).submit(bytes.Clone(p)),
		"another text":    bind(t, a.addr(), "parcels", 0x34).submit(saying("Your parcel is there.", nil)),
	} {
		if id == lost || !ours(id) {
			t.Errorf("%s: message_id %q, want a new message", what, id)
		}
	}
	e := bind(t, a.addr(), "parcels", 0x34)
	if id := e.submit(submitTo(stranger, nil)); ours(id) {
		t.Errorf("message_id %q of what is forwarded", id)
	}
	if id := e.submit(bytes.Clone(p)); id != lost {
		t.Errorf("again: message_id %q, want %q", id, lost)
	}
}

// TestTwinsResubmitted: two submits of the same octets are two messages, and
// each has its own answer when both come again.
func TestTwinsResubmitted(t *testing.T) {
	a := newAppNode(t, nil)
	p := saying("Your parcel is here.", nil)
	e := bindRaw(t, a.addr(), "parcels", false)
	release := a.hold()
	in := a.only()
	e.submit(p, 7)
	e.submit(p, 8)
	e.submit(submitTo(stranger, nil), 9)
	a.until("all are read", func() bool { return in.Holds() && len(a.smsc.of("parcels")) == 1 })
	e.cut()
	a.alone()
	release()
	a.until("both are stored", func() bool { return len(a.recent()) == 2 })
	lost := a.recent()
	e = bindRaw(t, a.addr(), "parcels", false)
	var again []string
	for seq := range uint32(2) {
		e.submit(p, 10+seq)
		again = append(again, e.answer())
	}
	if again[0] != lost[0] || again[1] != lost[1] {
		t.Errorf("again: %q, want %q", again, lost)
	}
	if got := a.recent(); len(got) != 2 {
		t.Errorf("%d messages are stored, want two", len(got))
	}
}

// TestResubmitDuringCommit: one that comes while the first is still on its way
// to the disk waits for it.
func TestResubmitDuringCommit(t *testing.T) {
	a := newAppNode(t, nil)
	p := saying("Your parcel is here.", nil)
	e := bindRaw(t, a.addr(), "parcels", false)
	release := a.hold()
	in := a.only()
	e.submit(p, 7)
	a.until("it is read", in.Holds)
	e.cut()
	a.alone()
	e = bindRaw(t, a.addr(), "parcels", false)
	in = a.only()
	e.submit(p, 8)
	a.until("it is read again", in.Holds)
	release()
	id := e.answer()
	if got := a.recent(); len(got) != 1 || got[0] != id {
		t.Errorf("stored %q, answered %q, want the one", got, id)
	}
}

// TestNoResubmit: what was answered beyond doubt is a new message the next time,
// however the session ended, and so is what comes again after an unbind.
func TestNoResubmit(t *testing.T) {
	a := newAppNode(t, nil)
	p := saying("Your parcel is here.", nil)
	seen := make(map[string]bool)
	for _, c := range []struct {
		what string
		end  func(*rawESME)
	}{
		{"read, RST", func(e *rawESME) { // an RST acknowledges nothing: what was read just before stays in doubt
			e.write(pdu.AppendHeader(nil, pdu.EnquireLink, pdu.ROK, 98))
			e.read()
			e.cut()
		}},
		{"read, FIN", func(e *rawESME) { _ = e.conn.Close() }},
		{"unbind", func(e *rawESME) {
			e.write(pdu.AppendHeader(nil, pdu.Unbind, pdu.ROK, 99))
			for e.read().ID() != pdu.UnbindResp { // all answers come before it
			}
			e.cut()
		}},
		{"nothing", func(*rawESME) {}},
	} {
		e := bindRaw(t, a.addr(), "parcels", false)
		e.submit(p, 7)
		id := e.answer()
		if seen[id] {
			t.Errorf("before %s: message_id %q for the second time", c.what, id)
		}
		seen[id] = true
		c.end(e)
		if c.what != "nothing" {
			a.alone()
		}
	}
}

// TestAnswerInTheBuffer: an answer that was sent, and that the ESME's system
// never took, is in doubt; those before it, which it took, are not.
func TestAnswerInTheBuffer(t *testing.T) {
	a := newAppNode(t, nil)
	early, late := saying("early", nil), saying("late", nil)
	e := bindRaw(t, a.addr(), "parcels", true)
	e.submit(early, 1)
	first := e.answer()
	var burst []byte
	for seq := range uint32(1000) { // more answers than the ESME's system takes
		burst = pdu.AppendHeader(burst, pdu.EnquireLink, pdu.ROK, 100+seq)
	}
	late.SetSeq(2)
	e.write(append(burst, late...))
	a.until("it is stored", func() bool { return len(a.recent()) == 2 })
	in := a.only()
	a.until("it is answered", func() bool { return !in.Holds() })
	lost := a.recent()[1]
	e.cut()
	a.alone()
	e = bindRaw(t, a.addr(), "parcels", false)
	e.submit(late, 3)
	if id := e.answer(); id != lost {
		t.Errorf("the late one again: message_id %q, want %q", id, lost)
	}
	e.submit(early, 4)
	if id := e.answer(); id == first || id == lost || !ours(id) {
		t.Errorf("the early one again: message_id %q, want a new message", id)
	}
}

// TestTooLateForAResubmit: after a minute it is a new message.
func TestTooLateForAResubmit(t *testing.T) {
	a := newAppNode(t, nil)
	p := saying("Your parcel is here.", nil)
	key := resubmit.KeyOf(msg.Account{SystemID: "parcels"}, p)
	a.g.resubmits.Restore(key, "first", time.Now().Add(-resubmit.Within-time.Second))
	if id := bind(t, a.addr(), "parcels", 0x34).submit(bytes.Clone(p)); !ours(id) {
		t.Errorf("message_id %q, want a new one", id)
	}
	p = saying("Another.", nil)
	a.g.resubmits.Restore(resubmit.KeyOf(msg.Account{SystemID: "parcels"}, p), "first", time.Now().Add(-resubmit.Within+patience))
	if id := bind(t, a.addr(), "parcels", 0x34).submit(bytes.Clone(p)); id != "first" {
		t.Errorf("message_id %q, want the first one's", id)
	}
}

// TestResubmitAfterARestart: who stopped in an orderly way has answered
// everything, and knows it.
func TestResubmitAfterARestart(t *testing.T) {
	a := newAppNode(t, nil)
	p := saying("Your parcel is here.", nil)
	first := bind(t, a.addr(), "parcels", 0x34).submit(bytes.Clone(p))
	b := a.next()
	second := bind(t, b.addr(), "parcels", 0x34).submit(bytes.Clone(p))
	if second == first || !ours(second) {
		t.Errorf("the same text after an orderly stop: message_id %q, want a new message", second)
	}
	b.halt()
	if err := os.Remove(b.g.stoppedFile()); err != nil { // as after a kill
		t.Fatal(err)
	}
	c := &appNode{node: b.again(), provider: b.provider, bearer: b.bearer}
	e := bind(t, c.addr(), "parcels", 0x34)
	for _, want := range []string{first, second} {
		if id := e.submit(bytes.Clone(p)); id != want {
			t.Errorf("the same text after a kill: message_id %q, want %q", id, want)
		}
	}
	if id := e.submit(bytes.Clone(p)); id == first || id == second || !ours(id) {
		t.Errorf("and once more: message_id %q, want a new message", id)
	}
}

// TestDoubtsOutliveAStop: what is in doubt at an orderly stop is so afterwards.
func TestDoubtsOutliveAStop(t *testing.T) {
	a := newAppNode(t, nil)
	p := saying("Your parcel is here.", nil)
	lost := a.unanswered("parcels", p, (*rawESME).cut)
	b := a.next()
	if id := bind(t, b.addr(), "parcels", 0x34).submit(bytes.Clone(p)); id != lost {
		t.Errorf("message_id %q, want %q", id, lost)
	}
}
