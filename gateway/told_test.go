package gateway

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/external"
	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/gateway/route"
	"shunt/gateway/upstream"
	"shunt/smpp/pdu"
	"shunt/store/registry"
)

// second is a registry beside the one here, which knows some numbers.
type second struct {
	url string

	mu     sync.Mutex
	known  map[string]string // bearers, by number with +
	broken bool              // it answers 500
	gate   chan struct{}     // while it is not nil answers wait until it is closed
	asked  []string
}

func newSecond(t testing.TB) *second {
	t.Helper()
	s := &second{known: map[string]string{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *second) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	number := r.URL.Path[1:]
	s.mu.Lock()
	s.asked = append(s.asked, number)
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		<-gate
	}
	s.mu.Lock()
	bearer, known, broken := s.known[number], s.known[number] != "", s.broken
	s.mu.Unlock()
	switch {
	case broken:
		w.WriteHeader(http.StatusInternalServerError)
	case !known:
		w.WriteHeader(http.StatusNotFound)
	default:
		fmt.Fprintf(w, `{"registrations":[{"number":%q,"app":"chat","platform":"apns","token":%q,"device":"far","bearer":"sha256:%x"}]}`,
			number, strings.Repeat("0b", 32), sha256.Sum256([]byte(bearer)))
	}
}

func (s *second) knows(n msg.Number, bearer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[n.String()] = bearer
}

func (s *second) breaks(broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

// hold lets nothing be answered until release.
func (s *second) hold() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gate := make(chan struct{})
	s.gate = gate
	return sync.OnceFunc(func() {
		s.mu.Lock()
		s.gate = nil
		s.mu.Unlock()
		close(gate)
	})
}

// silent is a node that asks s, which answers nothing until release, and an ESME.
func (s *second) silent(t *testing.T) (a *appNode, e *esme, release func()) {
	t.Helper()
	release = s.hold()
	a = newAppNode(t, s.config)
	t.Cleanup(release) // before the node ends
	return a, bind(t, a.addr(), "parcels", 0x34), release
}

func (s *second) of(n msg.Number) (times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.asked {
		if a == n.String() {
			times++
		}
	}
	return times
}

// config is the section that has it asked. Time-outs are long, so that a slow
// machine is not taken for a slow registry.
func (s *second) config(text string) string {
	return text + "[[registry.external]]\nname = \"far\"\nurl = \"" + s.url + "/{number}\"\ntimeout = \"2s\"\nmatch = { to = [\"+4477\"] }\n"
}

const (
	elsewhere  = subscriber + 10 // that the second registry alone knows
	farBearer  = "the-bearer-of-a-device-elsewhere"
	nobodyHere = subscriber + 20 // and up: that nobody knows
)

func to(n msg.Number, set func(*pdu.SM)) pdu.PDU { return submitTo(n.String()[1:], set) }

// reasoned counts submits under a reason.
func (n *node) reasoned(r msg.Reason) uint64 { return n.g.counters().Reasons[r.String()] }

// TestNumberOfASecondRegistry: a number that only the second registry knows is
// diverted, pushed, claimed by its device, also after a restart without that
// registry, and receipted.
func TestNumberOfASecondRegistry(t *testing.T) {
	s := newSecond(t)
	s.knows(elsewhere, farBearer)
	a := newAppNode(t, s.config)
	esme := bindReceiver(t, a.addr(), "parcels", 0x34)

	id := esme.submit(to(elsewhere, func(m *pdu.SM) { m.RegisteredDelivery = 1 }))
	if !ours(id) {
		t.Fatalf("message_id %q, want one of Shunt's", id)
	}
	a.until("it is pushed", func() bool { return slices.Contains(a.provider.took(), id) })
	a.until("nothing is held", func() bool { return !a.g.hub.Binds()[0].Holds() })
	if st := a.call(a.bearer, http.MethodPost, "/"+id+"/claim", nil); st != http.StatusNotFound {
		t.Errorf("claim by another number's device: %d, want 404", st)
	}
	a.bearer = farBearer
	if text := a.claim(id); text != "Your parcel comes on Monday." {
		t.Errorf("claim: %q", text)
	}
	a.acknowledge(id, "delivered")
	esme.until(t, "the receipt", func() bool { return slices.Contains(esme.said(), "receipt DELIVRD "+id) })

	// The next one is not asked about: it is remembered.
	if id = esme.submit(to(elsewhere, nil)); !ours(id) || s.of(elsewhere) != 1 {
		t.Errorf("message_id %q, asked %d times; want one of Shunt's, once", id, s.of(elsewhere))
	}
	if n := len(a.smsc.of("parcels")); n != 0 {
		t.Errorf("the SMSC has %d of the diverted messages too", n)
	}
	reg, err := a.g.registry.Get(elsewhere)
	if err != nil || !reg.External() || reg.Devices[0].Source != "far" {
		t.Errorf("Get() = %+v, %v", reg, err)
	}

	// Its push is out before its device goes.
	a.until("it is pushed", func() bool { return slices.Contains(a.provider.took(), id) })

	// Taken off here: not diverted while the answer of before is remembered.
	token := reg.Devices[0].Token
	if ok, err := a.g.registry.DropToken(t.Context(), elsewhere, "far", token, reg.Devices[0].UpdatedAt.Add(1)); !ok || err != nil {
		t.Fatalf("DropToken() = %t, %v", ok, err)
	}
	if _, r := a.g.told(elsewhere, msg.NoReason); r != msg.ReasonUnregistered {
		t.Errorf("taken off here: %q", r)
	}
	if got := esme.submit(to(elsewhere, nil)); ours(got) || s.of(elsewhere) != 1 {
		t.Errorf("taken off here: message_id %q, asked %d times", got, s.of(elsewhere))
	}
	if err := a.g.registry.Tell(t.Context(), elsewhere, "far", []registry.Told{{
		Device: "far", App: "chat", Platform: registry.APNs, Token: token, Active: true, BearerHash: reg.Devices[0].BearerHash,
	}}); err != nil {
		t.Fatal(err)
	}

	// Between push and claim: the next process, and no second registry.
	s.breaks(true)
	a = a.next()
	if text := a.claim(id); text != "Your parcel comes on Monday." {
		t.Errorf("claim after a restart: %q", text)
	}
	again := bind(t, a.addr(), "parcels", 0x34)
	if id := again.submit(to(elsewhere, nil)); ours(id) || a.reasoned(msg.ReasonExternalFault) != 1 {
		t.Errorf("with the second registry down: message_id %q, %v; want the SMSC's", id, a.g.counters().Reasons)
	}

	// It says that nobody has the number any more.
	s.breaks(false)
	s.knows(elsewhere, "")
	if id := again.submit(to(elsewhere, nil)); ours(id) {
		t.Errorf("not known any more: message_id %q", id)
	}
	a.until("its registration has ended", func() bool { return !a.g.registry.Lookup(elsewhere).Registered() })
	if st := a.call(farBearer, http.MethodGet, "", nil); st != http.StatusUnauthorized {
		t.Errorf("its device: %d, want 401", st)
	}
}

// TestSecondRegistryIsAskedForWhatMatters: not about numbers that are registered
// here, or of other prefixes, or that policy keeps with the carrier anyway.
func TestSecondRegistryIsAskedForWhatMatters(t *testing.T) {
	s := newSecond(t)
	a := newAppNode(t, s.config)
	esme := bind(t, a.addr(), "parcels", 0x34)
	if id := esme.submit(to(subscriber, nil)); !ours(id) {
		t.Errorf("registered here: message_id %q", id)
	}
	for _, p := range []pdu.PDU{
		to(353861234567, nil),
		to(nobodyHere, func(m *pdu.SM) { m.ShortMessage = []byte("Your code is 481516") }),
		to(nobodyHere, func(m *pdu.SM) { m.DataCoding = 4 }),
	} {
		if id := esme.submit(p); ours(id) {
			t.Errorf("message_id %q, want the SMSC's", id)
		}
	}
	if s.of(subscriber)+s.of(353861234567)+s.of(nobodyHere) != 0 {
		t.Error("it was asked")
	}
	for range 3 {
		esme.submit(to(nobodyHere, nil))
	}
	if s.of(nobodyHere) != 1 || a.reasoned(msg.ReasonUnregistered) != 4 || a.reasoned(msg.ReasonOneTimeCode) != 1 {
		t.Errorf("asked %d times, %v", s.of(nobodyHere), a.g.counters().Reasons)
	}
	// Registered here meanwhile: what is remembered of it does not count.
	a.register(nobodyHere, nil)
	if id := esme.submit(to(nobodyHere, nil)); !ours(id) {
		t.Errorf("registered here since: message_id %q", id)
	}
}

// TestSecondRegistryDown: its numbers stay with the carrier, at once when its
// breaker has opened, and it comes back by itself.
func TestSecondRegistryDown(t *testing.T) {
	s := newSecond(t)
	s.knows(elsewhere, farBearer)
	s.breaks(true)
	a := newAppNode(t, s.config)
	esme := bind(t, a.addr(), "parcels", 0x34)
	for i := range msg.Number(5) {
		if id := esme.submit(to(nobodyHere+i, nil)); ours(id) {
			t.Errorf("message_id %q, want the SMSC's", id)
		}
	}
	st := (&control{a.g}).Status().External
	if len(st) != 1 || st[0].Name != "far" || st[0].Breaker == "closed" || st[0].Lookups["status"] != 5 || st[0].Count != 5 {
		t.Fatalf("status %+v, want an open breaker", st)
	}
	if id := esme.submit(to(elsewhere, nil)); ours(id) || s.of(elsewhere) != 0 {
		t.Errorf("breaker open: message_id %q, asked %d times", id, s.of(elsewhere))
	}
	if a.reasoned(msg.ReasonExternalFault) != 5 || a.reasoned(msg.ReasonExternalDown) != 1 {
		t.Errorf("reasons %v", a.g.counters().Reasons)
	}
	s.breaks(false)
	a.until("it is diverted again", func() bool { return ours(esme.submit(to(elsewhere, nil))) })
	if st := (&control{a.g}).Status().External; st[0].Breaker != "closed" || st[0].Trips != 1 {
		t.Errorf("status %+v, want a closed breaker", st)
	}
}

// TestWaitingKeepsTheOrder: messages for one number wait for its look-up and go
// on in their order; those for others do not wait.
func TestWaitingKeepsTheOrder(t *testing.T) {
	s := newSecond(t)
	release := s.hold()
	defer release()
	n := newNode(t, s.config).run()
	esme := bind(t, n.addr(), "parcels", 0x34)
	var waiting []*pendingAnswer
	var want []string
	for i := range 20 {
		text := fmt.Sprintf("number %d of these", i)
		want = append(want, text)
		waiting = append(waiting, esme.send(to(nobodyHere, func(m *pdu.SM) { m.ShortMessage = []byte(text) })))
	}
	n.until("it is asked", func() bool { return s.of(nobodyHere) == 1 })
	if id := esme.submit(to(353861234567, func(m *pdu.SM) { m.ShortMessage = []byte("first") })); ours(id) {
		t.Errorf("message_id %q, want the SMSC's", id)
	}
	if got := texts(t, n.smsc.of("parcels")); !slices.Equal(got, []string{"first"}) {
		t.Errorf("before the answer the SMSC has %q", got)
	}
	release()
	for _, w := range waiting {
		if id := w.id(); !strings.HasPrefix(id, "smsc-") {
			t.Errorf("answer %q, want the SMSC's", id)
		}
	}
	if got := texts(t, n.smsc.of("parcels"))[1:]; !slices.Equal(got, want) || s.of(nobodyHere) != 1 {
		t.Errorf("the SMSC has, after %d look-ups, %q", s.of(nobodyHere), got)
	}
}

// TestUnbindWaitsForTheLookup: an ESME that ends its session has its answer first.
func TestUnbindWaitsForTheLookup(t *testing.T) {
	s := newSecond(t)
	s.knows(elsewhere, farBearer)
	a, esme, release := s.silent(t)
	answer := esme.send(to(elsewhere, nil))
	a.until("it is asked", func() bool { return s.of(elsewhere) == 1 })
	unbound := make(chan error, 1)
	if err := esme.s.Call(pdu.AppendHeader(nil, pdu.Unbind, pdu.ROK, 0), func(_ pdu.PDU, err error) { unbound <- err }); err != nil {
		t.Fatal(err)
	}
	release()
	if id := answer.id(); !ours(id) {
		t.Errorf("message_id %q, want one of Shunt's", id)
	}
	if err := <-unbound; err != nil {
		t.Errorf("unbind: %v", err)
	}
}

// multiTo is a submit_multi to numbers.
func multiTo(all ...msg.Number) pdu.PDU {
	m := pdu.Multi{Source: pdu.Address{TON: 5, Addr: []byte("Parcel24")}, ShortMessage: []byte("To all of you.")}
	for _, n := range all {
		m.Dests = pdu.DestAddress{Flag: pdu.DestSME, Address: pdu.Address{TON: 1, NPI: 1, Addr: []byte(n.String()[1:])}}.Append(m.Dests)
	}
	return m.Append(nil, 0)
}

// sendMulti submits without waiting; the channel has the answer, nil without any.
func (e *esme) sendMulti(p pdu.PDU) <-chan pdu.PDU {
	e.t.Helper()
	answer := make(chan pdu.PDU, 1)
	if err := e.s.Call(p, func(p pdu.PDU, _ error) { answer <- bytes.Clone(p) }); err != nil {
		e.t.Fatal(err)
	}
	return answer
}

// destsOf are the destinations of a submit_multi, or the one of a submit_sm.
func destsOf(t *testing.T, p pdu.PDU) (all []string) {
	t.Helper()
	if p.ID() == pdu.SubmitSM {
		var m pdu.SM
		if err := m.DecodeMessage(p); err != nil {
			t.Fatal(err)
		}
		return []string{string(m.Dest.Addr)}
	}
	var m pdu.Multi
	if err := m.Decode(p); err != nil {
		t.Fatal(err)
	}
	for d := range m.Dests.All() {
		all = append(all, string(d.Address.Addr))
	}
	return all
}

// digits is a number as an address has it.
func digits(n msg.Number) string { return n.String()[1:] }

// TestSubmitMultiWaits: a submit_multi waits for the look-ups of its destinations,
// which are made at the same time, each once; who is known then has a message,
// the SMSC the rest. What comes for these numbers meanwhile goes after it, what
// comes for others does not wait.
func TestSubmitMultiWaits(t *testing.T) {
	s := newSecond(t)
	s.knows(elsewhere, farBearer)
	s.knows(elsewhere+1, farBearer+"-2")
	a, esme, release := s.silent(t)
	far := msg.Number(33612345678) // which the second registry is not asked about
	multi := esme.sendMulti(multiTo(far, elsewhere, nobodyHere, elsewhere, subscriber, elsewhere+1))
	a.until("all are asked", func() bool { return s.of(elsewhere) == 1 && s.of(elsewhere+1) == 1 && s.of(nobodyHere) == 1 })
	later := esme.send(to(nobodyHere, nil))
	if id := esme.submit(to(far, nil)); ours(id) {
		t.Errorf("to a number that is not asked about: message_id %q", id)
	}
	if took := a.smsc.of("parcels"); len(took) != 1 {
		t.Errorf("the SMSC got %d before the answer, want the one that does not wait", len(took))
	}
	release()
	if id := later.id(); ours(id) {
		t.Errorf("to a number that nobody knows: message_id %q", id)
	}
	var r pdu.MultiResp
	if p := <-multi; p.Status() != pdu.ROK || r.Decode(p) != nil || r.Unsuccess.Len() != 0 || ours(string(r.MessageID)) {
		t.Fatalf("submit_multi_resp %X, want the SMSC's message_id", p)
	}
	var got [][]string
	for _, p := range a.smsc.of("parcels") {
		got = append(got, destsOf(t, p))
	}
	if diff := cmp.Diff([][]string{{digits(far)}, {digits(far), digits(nobodyHere)}, {digits(nobodyHere)}}, got); diff != "" {
		t.Errorf("at the SMSC (-want +got):\n%s", diff)
	}
	a.until("four messages are put", func() bool { return a.g.spool.Stats().Puts == 4 })
	if s.of(elsewhere) != 1 || s.of(elsewhere+1) != 1 || s.of(nobodyHere) != 1 || s.of(subscriber) != 0 || s.of(far) != 0 {
		t.Errorf("asked for %q, want each unknown one once", s.asked)
	}
	if n, d := a.reasoned(msg.ReasonUnregistered), a.reasoned(msg.ReasonDivert); n != 4 || d != 4 {
		t.Errorf("%d unregistered, %d diverted; want 4 and 4", n, d)
	}
	// What is known now takes no look-up, and all of it is for the app.
	if p := esme.ask(multiTo(elsewhere, elsewhere+1)); p.Status() != pdu.ROK || r.Decode(p) != nil || !ours(string(r.MessageID)) || len(s.asked) != 3 {
		t.Errorf("what is known: %X after %d questions", p, len(s.asked))
	}
	a.until("nothing is held", func() bool { return !a.g.hub.Binds()[0].Holds() })
}

// TestSubmitMultiBesideAFault: what cannot be said is the SMSC's, and the rest goes
// on; an unbind waits for the answer.
func TestSubmitMultiBesideAFault(t *testing.T) {
	s := newSecond(t)
	s.breaks(true)
	a, esme, release := s.silent(t)
	multi := esme.sendMulti(multiTo(elsewhere, subscriber))
	a.until("it is asked", func() bool { return s.of(elsewhere) == 1 })
	if !a.g.hub.Binds()[0].Holds() {
		t.Error("an unbind would not wait for the answer")
	}
	unbound := make(chan error, 1)
	if err := esme.s.Call(pdu.AppendHeader(nil, pdu.Unbind, pdu.ROK, 0), func(_ pdu.PDU, err error) { unbound <- err }); err != nil {
		t.Fatal(err)
	}
	release()
	if p := <-multi; p.Status() != pdu.ROK {
		t.Errorf("submit_multi_resp %X", p)
	}
	if err := <-unbound; err != nil {
		t.Errorf("unbind: %v", err)
	}
	if got := destsOf(t, a.smsc.of("parcels")[0]); len(got) != 1 || got[0] != digits(elsewhere) {
		t.Errorf("the SMSC got %q, want the one that could not be looked up", got)
	}
	if n, d := a.reasoned(msg.ReasonExternalFault), a.reasoned(msg.ReasonDivert); n != 1 || d != 1 {
		t.Errorf("%d faults, %d diverted, want one of each", n, d)
	}
}

// TestSubmitMultiOfALostBind: an ESME that has gone while its submit_multi waited has
// no answer and submits it again; nothing was taken.
func TestSubmitMultiOfALostBind(t *testing.T) {
	s := newSecond(t)
	s.knows(elsewhere, farBearer)
	a, esme, release := s.silent(t)
	esme.sendMulti(multiTo(elsewhere, subscriber))
	a.until("it is asked", func() bool { return s.of(elsewhere) == 1 })
	gone := a.g.hub.Binds()[0]
	esme.s.Close(nil)
	a.until("its bind is lost", func() bool { return len(a.g.hub.Binds()) == 0 })
	release()
	a.until("nothing is held", func() bool { return !gone.Holds() })
	if n, l := a.g.spool.Stats().Puts, a.reasoned(msg.ReasonLinkLost); n != 0 || l != 2 {
		t.Errorf("%d messages were taken, %d counted as lost; want none and 2", n, l)
	}
}

// TestSubmitMultiAsksNotForNothing: who is the SMSC's anyway is not asked about,
// and a submit_multi of these alone passes as it came.
func TestSubmitMultiAsksNotForNothing(t *testing.T) {
	s := newSecond(t)
	s.knows(elsewhere, farBearer)
	a := newAppNode(t, s.config)
	esme := bind(t, a.addr(), "parcels", 0x34)
	m := pdu.Multi{
		Source: pdu.Address{TON: 5, Addr: []byte("Parcel24")}, ESMClass: 0x40, ShortMessage: []byte("\x05\x00\x03\x07\x02\x01a part"),
		Dests: pdu.DestAddress{Flag: pdu.DestSME, Address: pdu.Address{TON: 1, NPI: 1, Addr: []byte(digits(elsewhere))}}.Append(nil),
	}
	if p := esme.ask(m.Append(nil, 0)); p.Status() != pdu.ROK || len(s.asked) != 0 || a.reasoned(msg.ReasonLongMessage) != 1 {
		t.Errorf("a part: %X, asked %q, %v", p, s.asked, a.g.counters().Reasons)
	}
	if err := a.g.mode.set(route.Off); err != nil {
		t.Fatal(err)
	}
	if p := esme.ask(multiTo(elsewhere, nobodyHere)); p.Status() != pdu.ROK || len(s.asked) != 0 {
		t.Errorf("with the switch off: %X, asked %q", p, s.asked)
	}
}

// TestExplainOfASecondRegistry says what it says, and leaves nothing behind.
func TestExplainOfASecondRegistry(t *testing.T) {
	s := newSecond(t)
	s.knows(elsewhere, farBearer)
	a := newAppNode(t, s.config)
	for _, c := range []struct {
		broken  bool
		n       msg.Number
		verdict string
		reason  msg.Reason
		value   string
	}{
		{false, elsewhere, noc.VerdictDivert, msg.ReasonDivert, "not registered here; far: known"},
		{false, nobodyHere, noc.VerdictForward, msg.ReasonUnregistered, "not registered here; far: unknown"},
		{true, elsewhere, noc.VerdictForward, msg.ReasonExternalFault, "not registered here; far: status (HTTP status 500)"},
	} {
		s.breaks(c.broken)
		e := a.explain(noc.ExplainRequest{From: "Parcel24", To: c.n.String(), ESME: "parcels"})
		if got := check(t, &e, "external").Value; e.Verdict != c.verdict || e.Reason != c.reason || got != c.value {
			t.Errorf("%s: %s, %s, %q; want %s, %s, %q", c.n, e.Verdict, e.Reason, got, c.verdict, c.reason, c.value)
		}
		if c.verdict == noc.VerdictDivert && e.App != "chat" {
			t.Errorf("app %q", e.App)
		}
	}
	if st := (&control{a.g}).Status().External[0]; st.Cached != 0 || len(st.Lookups) != 0 || a.g.registry.Lookup(elsewhere).Registered() {
		t.Errorf("it has left %+v", st)
	}
	if e := a.explain(noc.ExplainRequest{From: "Parcel24", To: subscriber.String(), ESME: "parcels"}); len(e.Checks) != len(order) {
		t.Errorf("a number that is registered here: %+v", e.Checks)
	}
}

// TestNoSecondRegistry: what one has told earlier is nothing without it.
func TestNoSecondRegistry(t *testing.T) {
	a := newAppNode(t, nil)
	if err := a.g.registry.Tell(t.Context(), elsewhere, "gone", []registry.Told{{
		Device: "far", App: "chat", Platform: registry.APNs, Token: "0b0b", Active: true, BearerHash: [32]byte{1},
	}}); err != nil {
		t.Fatal(err)
	}
	if id := bind(t, a.addr(), "parcels", 0x34).submit(to(elsewhere, nil)); ours(id) || a.reasoned(msg.ReasonUnregistered) != 1 {
		t.Errorf("message_id %q, %v", id, a.g.counters().Reasons)
	}
	if e := a.explain(noc.ExplainRequest{From: "Parcel24", To: elsewhere.String()}); e.Verdict != noc.VerdictForward || e.Reason != msg.ReasonUnregistered {
		t.Errorf("explained: %s, %s", e.Verdict, e.Reason)
	}
}

// TestRememberedMissAllocatesNothing: beside a second registry a number that
// nobody knows costs no more than a look.
func TestRememberedMissAllocatesNothing(t *testing.T) {
	s := newSecond(t)
	n := newNode(t, s.config).run()
	bind(t, n.addr(), "parcels", 0x34).submit(to(nobodyHere, nil))
	var b upstream.Bind
	b.State = n.g.newSession(&b)
	p := to(nobodyHere, nil)
	n.until("its look-up has ended", func() bool {
		_, next := n.g.external.Look(nobodyHere)
		return next == external.Go
	})
	if allocs := testing.AllocsPerRun(1000, func() {
		if n.g.Divert(&b, p) {
			t.Fatal("it was diverted")
		}
	}); allocs != 0 {
		t.Errorf("%v allocations, want 0", allocs)
	}
	if s.of(nobodyHere) != 1 {
		t.Errorf("asked %d times", s.of(nobodyHere))
	}
}
