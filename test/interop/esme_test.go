//go:build interop

package interop

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"testing"
)

// words are the parameters of an operation in the words of npm's smpp.
type words map[string]any

// with is all of several words; the later ones win.
func with(list ...words) words {
	all := words{}
	for _, w := range list {
		maps.Copy(all, w)
	}
	return all
}

// source is the node ESME's address.
func source() words { return words{"source_addr_ton": 5, "source_addr": "NODE"} }

// dest is an international number as destination.
func dest(number string) words {
	return words{"dest_addr_ton": 1, "dest_addr_npi": 1, "destination_addr": number}
}

// basics are what every message to that number has; it asks for a receipt.
func basics(to string) words {
	return with(source(), dest(to), words{"registered_delivery": 1, "data_coding": 0})
}

// client is the node ESME, which does as it is told. It belongs to the test.
type client struct {
	*part
	asked int // requests so far
}

// startESME returns when the node ESME is bound.
func startESME(t *testing.T, s *scene) *client {
	t.Helper()
	c := &client{part: run(t, s.dir, "node-esme", need(t, "node", "nodejs"), "esme.js", s.listen)}
	s.esme = c.part
	c.until(t, "the bind", func() bool { return len(c.all("bound")) > 0 })
	if bound := c.all("bound")[0]; bound.Status != 0 {
		t.Fatalf("bind_transceiver_resp: status %#x", bound.Status)
	}
	return c
}

// ask sends a request and returns the number that its answer will have.
func (c *client) ask(t *testing.T, command string, options words) int {
	t.Helper()
	return c.line(t, words{"command": command, "options": options})
}

// octets sends a request that the library has no words for.
func (c *client) octets(t *testing.T, b []byte) int {
	t.Helper()
	return c.line(t, words{"raw": hex.EncodeToString(b)})
}

func (c *client) line(t *testing.T, w words) (n int) {
	t.Helper()
	n = c.asked
	c.asked++
	b, err := json.Marshal(with(w, words{"n": n}))
	if err == nil {
		_, err = c.stdin.Write(append(b, '\n'))
	}
	if err != nil {
		t.Fatalf("request %d: %v", n, err)
	}
	return n
}

// answer waits for the answer to a request.
func (c *client) answer(t *testing.T, n int) (e event) {
	t.Helper()
	c.until(t, "an answer", func() bool {
		for _, e = range c.all("answer") {
			if e.N == n {
				return true
			}
		}
		return false
	})
	return e
}

// end unbinds and stops everybody; nobody may have met an error.
func (c *client) end(t *testing.T, s *scene) {
	t.Helper()
	c.stop()
	if un := c.all("unbound"); len(un) != 1 || un[0].Status != 0 {
		t.Errorf("unbind: %+v, want one answer with status 0", un)
	}
	for _, p := range []*part{s.phones, s.gateway, s.smsc} {
		p.stop()
	}
	for _, p := range []*part{c.part, s.smsc} {
		for _, e := range p.all("error") {
			t.Errorf("%s met an error: %s", p.name, e.Error)
		}
	}
}
