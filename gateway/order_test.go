package gateway

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"shunt/gateway/msg"
	"shunt/smpp/pdu"
)

// TestOrder: between a sender and a recipient the later message does not exist
// for the app before the earlier one is with it.
func TestOrder(t *testing.T) {
	a := newAppNode(t, nil)
	e := bind(t, a.addr(), "parcels", 0x34)
	first := e.submit(saying("first", nil))
	second := e.submit(saying("second", nil))
	third := e.submit(saying("third", nil))
	other := e.submit(saying("another sender", func(m *pdu.SM) { m.Source.Addr = []byte("Other") }))
	elsewhere := a.handset(subscriber + 7)
	abroad := e.submit(submitTo((subscriber + 7).String(), nil))
	if id := e.submit(saying("Your code is 481516", nil)); ours(id) { // forwarded, and waits for nobody
		t.Errorf("message_id %q of a one-time code", id)
	}
	for _, id := range []string{first, other, abroad} {
		a.await(id, msg.Pushed)
	}
	for _, id := range []string{second, third} {
		if st := a.call(a.bearer, http.MethodGet, "/"+id, nil); st != http.StatusNotFound {
			t.Errorf("GET before its turn: %d, want 404", st)
		}
		if st := a.call(a.bearer, http.MethodPost, "/"+id+"/claim", nil); st != http.StatusNotFound {
			t.Errorf("claim before its turn: %d, want 404", st)
		}
	}
	if got := a.listed(a.bearer); !slices.Equal(got, []string{first, other}) {
		t.Errorf("listed %q, want %q", got, []string{first, other})
	}
	if got := a.listed(elsewhere); !slices.Equal(got, []string{abroad}) {
		t.Errorf("listed elsewhere %q, want %q", got, abroad)
	}
	a.claim(first)
	a.await(second, msg.Pushed)
	if s := a.state(third); s != msg.Held {
		t.Errorf("the third is %s while the second is open, want HELD", s)
	}
	if st := e.cancel(second); st != pdu.ROK { // so is it when the ESME takes it back
		t.Errorf("cancel_sm: %s", st)
	}
	a.await(third, msg.Pushed)
	a.claim(third)
	pushed := slices.DeleteFunc(a.provider.took(), func(id string) bool { return id == other || id == abroad })
	if want := []string{first, second, third}; !slices.Equal(pushed, want) {
		t.Errorf("pushed %q, want %q", pushed, want)
	}
}

// TestOrderOfFallbacks: an SMS that is throttled is not overtaken by the next
// one of its pair, but by all others.
func TestOrderOfFallbacks(t *testing.T) {
	n := newNode(t, nil)
	throttled := 0
	n.smsc.judging(func(systemID string, p pdu.PDU) pdu.Status {
		if systemID != "shunt" || !strings.HasPrefix(texts(t, []pdu.PDU{p})[0], "a1") || throttled == 2 {
			return pdu.ROK
		}
		throttled++
		return pdu.RTHROTTLED
	})
	n.run()
	n.register(subscriber, nil)
	e := bind(t, n.addr(), "parcels", 0x34)
	from := func(s string) func(*pdu.SM) { return func(m *pdu.SM) { m.Source.Addr = []byte(s) } }
	for i := range 3 {
		for _, s := range []string{"a", "b"} {
			e.submit(saying(fmt.Sprintf("%s%d", s, i+1), from(s)))
		}
	}
	got := texts(t, n.fallbacks(8))
	of := func(s string) (list []string) {
		for _, x := range got {
			if strings.HasPrefix(x, s) {
				list = append(list, x)
			}
		}
		return list
	}
	if want := []string{"a1", "a1", "a1", "a2", "a3"}; !slices.Equal(of("a"), want) {
		t.Errorf("SMS of the throttled pair %q, want %q", of("a"), want)
	}
	if want := []string{"b1", "b2", "b3"}; !slices.Equal(of("b"), want) {
		t.Errorf("SMS of the other pair %q, want %q", of("b"), want)
	}
	if slices.Index(got, "b3") > slices.Index(got, "a2") {
		t.Errorf("SMS %q: the other pair waited", got)
	}
}

// TestOrderOfPairs submits to several pairs at once, from several binds, with
// handsets that claim some and leave others to the carrier. In the app and as
// SMS each pair keeps its order.
func TestOrderOfPairs(t *testing.T) {
	a := newAppNode(t, func(text string) string {
		return text + "[[plan]]\nname = \"app\"\nmatch = {}\nclaim_within = \"1s\"\n"
	})
	const pairs, each = 6, 8
	random := rand.New(rand.NewPCG(1, 2)) // the same every time
	binds := []*esme{bind(t, a.addr(), "parcels", 0x34), bind(t, a.addr(), "parcels", 0x34)}
	sent := make(map[string]string) // id → text
	next := make([]int, pairs)
	for range pairs * each {
		p := random.IntN(pairs)
		for next[p] == each {
			p = (p + 1) % pairs
		}
		next[p]++
		text := fmt.Sprintf("%c%d", 'a'+p, next[p])
		sent[binds[random.IntN(2)].submit(saying(text, func(m *pdu.SM) { m.Source.Addr = []byte(text[:1]) }))] = text
	}
	ways := make(map[string][]string) // by pair and way, in order
	seen := make(map[string]bool)
	a.until("all are with the app or the carrier", func() bool {
		for _, id := range a.listed(a.bearer) {
			text := sent[id]
			if seen[text] || random.IntN(3) == 0 {
				continue // left to the carrier, perhaps
			}
			if st := a.call(a.bearer, http.MethodPost, "/"+id+"/claim", nil); st == http.StatusOK {
				seen[text] = true
				ways[text[:1]+" app"] = append(ways[text[:1]+" app"], text)
			}
		}
		return len(seen)+len(a.smsc.of("shunt")) >= pairs*each
	})
	for _, text := range texts(t, a.smsc.of("shunt")) {
		if seen[text] {
			t.Errorf("%s came in the app and as SMS", text)
		}
		ways[text[:1]+" SMS"] = append(ways[text[:1]+" SMS"], text)
	}
	for way, list := range ways {
		if !slices.IsSorted(list) {
			t.Errorf("%s: %q", way, list)
		}
	}
}
