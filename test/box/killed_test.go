package box

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shunt/gateway/cdr"
	"shunt/smpp/pdu"
)

// raw is an ESME's bind whose answers it reads when it likes.
type raw struct {
	conn net.Conn
	t    *testing.T
}

func bindRaw(t *testing.T, addr string) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	r := &raw{conn, t}
	b := pdu.Bind{SystemID: "bank", InterfaceVersion: pdu.Version34}
	r.write(b.Append(nil, pdu.BindTransmitter, 1))
	if p := r.read(); p.Status() != pdu.ROK {
		t.Fatalf("bind: %s", p.Status())
	}
	return r
}

func (r *raw) write(b []byte) {
	r.t.Helper()
	if _, err := r.conn.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) read() pdu.PDU {
	r.t.Helper()
	_ = r.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	p := make(pdu.PDU, pdu.HeaderLen)
	if _, err := io.ReadFull(r.conn, p); err != nil {
		r.t.Fatal(err)
	}
	p = append(p, make([]byte, int(p.Len())-len(p))...)
	if _, err := io.ReadFull(r.conn, p[pdu.HeaderLen:]); err != nil {
		r.t.Fatal(err)
	}
	return p
}

// numbered is a submit_sm of its own octets.
func numbered(to string, n int) pdu.PDU {
	return pdu.AppendSM(nil, pdu.SubmitSM, uint32(n+10), &pdu.SM{
		Source: pdu.Address{TON: pdu.TONAlphanumeric, Addr: fmt.Appendf(nil, "Bank%d", n)}, // no pair waits for another
		Dest:   pdu.Address{TON: 1, NPI: 1, Addr: []byte(to)}, ShortMessage: fmt.Appendf(nil, "Your table %d is booked.", n),
	})
}

// TestKilledBetweenCommitAndAnswer kills the gateway while answers are on their
// way. What the ESME did not read, it submits again to the next process: each
// message is there once, under the id that its ESME knows, and on record once,
// under numbers without a gap.
func TestKilledBetweenCommitAndAnswer(t *testing.T) {
	const number, rounds, each = "447700900042", 3, 150
	g := newSite(t, number, time.Second)

	ids := make(map[int]string) // by the message's number
	take := func(p pdu.PDU) {
		t.Helper()
		id, err := pdu.MessageID(p)
		if err != nil || p.Status() != pdu.ROK || !strings.HasPrefix(id, "s") {
			t.Fatalf("answer %X, %v", p, err)
		}
		ids[int(p.Seq())-10] = id
	}
	for round := range rounds {
		e := bindRaw(t, g.listen)
		var burst []byte
		for n := range each {
			burst = append(burst, numbered(number, round*each+n)...)
		}
		e.write(burst)
		for range 10 + 40*round { // and of the rest nobody can say how far it came
			take(e.read())
		}
		g.kill(t)
		_ = e.conn.Close()
		g.startDiverting(t)
		e = bindRaw(t, g.listen)
		for n := range each {
			if n += round * each; ids[n] == "" {
				e.write(numbered(number, n))
				take(e.read())
			}
		}
		_ = e.conn.Close()
	}
	dir := filepath.Join(g.dir, "data", "cdr")
	lines := func() (all []cdr.Message) {
		names, err := cdr.Files(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(b)) {
				var m cdr.Message
				if strings.HasSuffix(line, "\n") && json.Unmarshal([]byte(line), &m) == nil && m.Type == cdr.TypeMessage {
					all = append(all, m)
				}
			}
		}
		return all
	}
	eventually(t, "some are on record", func() bool { return len(lines()) > each })
	g.kill(t) // while they are written
	g.startDiverting(t)
	eventually(t, "all have ended", func() bool {
		st, ok := g.ctl.Status()
		return ok && st.Spool.LiveTotal == 0 && len(lines()) >= rounds*each
	})
	known := make(map[string]int)
	for n, id := range ids {
		if other, twice := known[id]; twice {
			t.Errorf("messages %d and %d have the same id", n, other)
		}
		known[id] = n
	}
	for i, m := range lines() {
		if m.Seq != uint64(i+1) {
			t.Fatalf("line %d has number %d", i+1, m.Seq)
		}
		n, ok := known[m.WireID]
		if !ok {
			t.Errorf("line %d is about %s, which its ESME does not know, or which is on record twice: %+v", i+1, m.WireID, m)
			continue
		}
		if want := fmt.Sprintf("Bank%d", n); m.From != want {
			t.Errorf("%s is from %s, want %s", m.WireID, m.From, want)
		}
		delete(known, m.WireID)
	}
	if len(known) != 0 {
		t.Errorf("%d messages are not on record", len(known))
	}
}
