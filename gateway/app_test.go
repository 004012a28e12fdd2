package gateway

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/store/registry"
)

// provider is a push provider that takes every push. It keeps what they were
// about, in their order.
type provider struct {
	url, ca string

	mu     sync.Mutex
	pushed []string // collapse ids
}

func newProvider(t testing.TB) *provider {
	t.Helper()
	p := &provider{}
	s := httptest.NewUnstartedServer(p)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	p.url, p.ca = s.URL, filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(p.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pushed = append(p.pushed, r.Header.Get("apns-collapse-id"))
	w.WriteHeader(http.StatusOK)
}

// took are the ids of the messages that were pushed.
func (p *provider) took() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.pushed)
}

// appNode is a node whose provider takes everything, with one handset.
type appNode struct {
	*node
	provider *provider
	bearer   string // of subscriber's handset
}

// newAppNode makes and runs it. Unless edit says otherwise a message has a
// minute to be claimed.
func newAppNode(t testing.TB, edit func(text string) string) *appNode {
	t.Helper()
	p := newProvider(t)
	n := newNode(t, func(text string) string {
		text = strings.Replace(text, `endpoint = "https://127.0.0.1:1"`, `endpoint = "`+p.url+`", ca_file = "`+p.ca+`"`, 1)
		if edit != nil {
			text = edit(text)
		}
		if !strings.Contains(text, "claim_within") {
			text += "[[plan]]\nname = \"app\"\nmatch = {}\nclaim_within = \"60s\"\n"
		}
		return text
	}).run()
	a := &appNode{node: n, provider: p}
	a.bearer = a.handset(subscriber)
	return a
}

// handset registers a number and returns its device's bearer.
func (a *appNode) handset(number msg.Number) string {
	a.t.Helper()
	res, err := a.g.registry.Put(a.t.Context(), registry.Put{
		Number: number, App: "chat", Platform: registry.APNs, Token: strings.Repeat("0a", 32), Device: "phone", Active: true,
	})
	if err != nil {
		a.t.Fatalf("registry.Put() = %v", err)
	}
	return res.Bearer
}

// next is the node's next process, after a stop.
func (a *appNode) next() *appNode {
	a.t.Helper()
	a.halt()
	return &appNode{node: a.again(), provider: a.provider, bearer: a.bearer}
}

// call calls the app's API and decodes what it answers.
func (a *appNode) call(bearer, method, path string, into any) int {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), method, "http://"+a.g.apiListener.Addr().String()+"/v1/messages"+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && into != nil && resp.StatusCode == http.StatusOK {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode
}

// listed are the ids that the handset sees.
func (a *appNode) listed(bearer string) (ids []string) {
	a.t.Helper()
	var list struct {
		Messages []struct {
			ID string `json:"id"`
		} `json:"messages"`
	}
	if st := a.call(bearer, http.MethodGet, "", &list); st != http.StatusOK {
		a.t.Fatalf("list: %d", st)
	}
	for _, m := range list.Messages {
		ids = append(ids, m.ID)
	}
	return ids
}

// claim claims a message and gives its text.
func (a *appNode) claim(id string) string {
	a.t.Helper()
	var m struct {
		Text string `json:"text"`
	}
	if st := a.call(a.bearer, http.MethodPost, "/"+id+"/claim", &m); st != http.StatusOK {
		a.t.Fatalf("claim of %s: %d", id, st)
	}
	return m.Text
}

// acknowledge says that a message is delivered, or read.
func (a *appNode) acknowledge(id, what string) {
	a.t.Helper()
	if st := a.call(a.bearer, http.MethodPut, "/"+id+"/receipts/"+what, nil); st != http.StatusNoContent {
		a.t.Fatalf("%s of %s: %d", what, id, st)
	}
}

// state is where a message stands.
func (n *node) state(wireID string) msg.State {
	n.t.Helper()
	id, err := msg.ParseID(wireID)
	if err != nil {
		n.t.Fatalf("message_id %q: %v, want one of ours", wireID, err)
	}
	r, err := n.g.spool.Get(id)
	if err != nil {
		n.t.Fatalf("Get(%s) = %v", wireID, err)
	}
	return r.State
}

// await waits for a state.
func (n *node) await(wireID string, want msg.State) {
	n.t.Helper()
	n.until(wireID+" is "+want.String(), func() bool { return n.state(wireID) == want })
}

// ours tells whether Shunt gave a message_id.
func ours(wireID string) bool {
	_, err := msg.ParseID(wireID)
	return err == nil
}

// pending is the answer that submitAsync waits for.
type pendingAnswer struct {
	e   *esme
	got chan string
}

// send sends p and does not wait; the answer's message_id comes later, or its
// status.
func (e *esme) send(p pdu.PDU) *pendingAnswer {
	e.t.Helper()
	a := &pendingAnswer{e: e, got: make(chan string, 1)}
	if err := e.s.Call(p, func(p pdu.PDU, err error) {
		switch {
		case err != nil:
			a.got <- err.Error()
		case p.Status() != pdu.ROK:
			a.got <- p.Status().String()
		default:
			id, err := pdu.MessageID(p)
			if err != nil {
				id = err.Error()
			}
			a.got <- id
		}
	}); err != nil {
		e.t.Fatalf("Call() = %v", err)
	}
	return a
}

func (a *pendingAnswer) id() string {
	a.e.t.Helper()
	select {
	case id := <-a.got:
		return id
	case <-time.After(patience):
		a.e.t.Fatal("no answer")
	}
	return ""
}

// texts are the short_messages of some submits, in their order.
func texts(t testing.TB, all []pdu.PDU) (list []string) {
	t.Helper()
	for _, p := range all {
		var m pdu.SM
		if err := m.DecodeMessage(p); err != nil {
			t.Fatal(err)
		}
		b, _ := m.Payload()
		list = append(list, string(b))
	}
	return list
}

// saying is a submit_sm to the subscriber with that text, which asks for a
// receipt.
func saying(text string, set func(*pdu.SM)) pdu.PDU {
	return submitTo(registeredNumber, func(m *pdu.SM) {
		m.ShortMessage, m.RegisteredDelivery = []byte(text), 1
		if set != nil {
			set(m)
		}
	})
}

// receiver is a bound ESME that keeps the deliver_sm which it takes.
type receiver struct {
	*esme
	mu   sync.Mutex
	took []pdu.SM
	resp func(n int) pdu.Status // of the answer to the nth from 0; nil: ESME_ROK
}

func bindReceiver(t testing.TB, addr, systemID string, version byte) *receiver {
	t.Helper()
	s, _, err := smpp.Dial(t.Context(), addr, pdu.BindTransceiver, pdu.Bind{SystemID: systemID, Password: "pw", InterfaceVersion: version}, smpp.Config{})
	if err != nil {
		t.Fatalf("Dial() = %v", err)
	}
	r := &receiver{esme: &esme{t, s}}
	ended := make(chan struct{})
	go func() {
		_ = s.Serve(r)
		close(ended)
	}()
	t.Cleanup(func() {
		s.Close(smpp.ErrClosed)
		<-ended
	})
	return r
}

// HandleRequest keeps a deliver_sm before it answers it.
func (r *receiver) HandleRequest(p pdu.PDU) {
	status := pdu.ROK
	if p.ID() == pdu.DeliverSM {
		var m pdu.SM
		if err := m.Decode(append(pdu.PDU(nil), p...)); err != nil {
			r.t.Errorf("deliver_sm: %v", err)
		}
		r.mu.Lock()
		if r.resp != nil {
			status = r.resp(len(r.took))
		}
		r.took = append(r.took, m)
		r.mu.Unlock()
	}
	_ = r.s.Send(pdu.AppendHeader(nil, p.ID().Response(), status, p.Seq()))
	if p.ID() == pdu.Unbind {
		r.s.Finish()
	}
}

func (r *receiver) HandleResponse(pdu.PDU) {}
func (r *receiver) HandleBatch()           {}

// all are the deliver_sm so far.
func (r *receiver) all() []pdu.SM {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.took)
}

// said are the receipts so far, as "esm_class stat id".
func (r *receiver) said() (list []string) {
	for _, m := range r.all() {
		rec, _ := smpp.ParseReceipt(&m)
		list = append(list, strings.Join([]string{classes[m.ESMClass], rec.State.Stat(), rec.ID}, " "))
	}
	return list
}

var classes = map[byte]string{smpp.ESMReceipt: "receipt", smpp.ESMAcknowledged: "read", smpp.ESMIntermediate: "notice"}

// until waits for what the ESME is to see.
func (r *receiver) until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	(&node{t: t}).until(what, ok)
}

// holding is a bound ESME that answers a deliver_sm when its test says so.
type holding struct {
	*esme
	mu   sync.Mutex
	seqs map[string]uint32 // by what said would say
	list []string
}

func holdingReceiver(t testing.TB, addr, systemID string) *holding {
	t.Helper()
	s, _, err := smpp.Dial(t.Context(), addr, pdu.BindReceiver, pdu.Bind{SystemID: systemID, Password: "pw", InterfaceVersion: 0x34}, smpp.Config{})
	if err != nil {
		t.Fatalf("Dial() = %v", err)
	}
	h := &holding{esme: &esme{t, s}, seqs: make(map[string]uint32)}
	ended := make(chan struct{})
	go func() {
		_ = s.Serve(h)
		close(ended)
	}()
	t.Cleanup(func() {
		s.Close(smpp.ErrClosed)
		<-ended
	})
	return h
}

func (h *holding) HandleRequest(p pdu.PDU) {
	var m pdu.SM
	if err := m.Decode(p); err != nil {
		h.t.Errorf("%s: %v", p.ID(), err)
		return
	}
	rec, _ := smpp.ParseReceipt(&m)
	said := strings.Join([]string{classes[m.ESMClass], rec.State.Stat(), rec.ID}, " ")
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seqs[said] = p.Seq()
	h.list = append(h.list, said)
}

func (h *holding) HandleResponse(pdu.PDU) {}
func (h *holding) HandleBatch()           {}

func (h *holding) got() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.list)
}

func (h *holding) answer(said string) {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.s.Respond(pdu.AppendMessageResp(nil, pdu.DeliverSMResp, pdu.ROK, h.seqs[said], "")); err != nil {
		h.t.Errorf("Respond() = %v", err)
	}
}
