package gateway

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"shunt/gateway/config"
	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/store/registry"
)

const (
	patience              = 10 * time.Second
	subscriber msg.Number = 447700900042
	stranger              = "447700900099"
)

// center is an SMSC that takes every bind and every message. It keeps what it
// took.
type center struct {
	t  testing.TB
	l  net.Listener
	wg sync.WaitGroup

	mu       sync.Mutex
	sessions map[*smpp.Session]string // their system_ids
	took     []took
	taken    int                                         // subscribers' SMS that were taken
	multi    pdu.Status                                  // of submit_multi_resp
	judge    func(systemID string, p pdu.PDU) pdu.Status // of submit_sm_resp; nil: ESME_ROK
}

type took struct {
	systemID string
	p        pdu.PDU
}

func newCenter(t testing.TB) *center {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &center{t: t, l: l, sessions: make(map[*smpp.Session]string)}
	c.wg.Go(c.accept)
	t.Cleanup(c.close)
	return c
}

func (c *center) accept() {
	for {
		conn, err := c.l.Accept()
		if err != nil {
			return
		}
		s := smpp.NewSession(conn, smpp.Config{})
		c.mu.Lock()
		c.sessions[s] = ""
		c.mu.Unlock()
		c.wg.Go(func() { _ = s.Serve(&centerSession{c: c, s: s}) })
	}
}

func (c *center) close() {
	_ = c.l.Close()
	c.mu.Lock()
	for s := range c.sessions {
		s.Close(smpp.ErrClosed)
	}
	c.mu.Unlock()
	c.wg.Wait()
}

// hangUp ends all binds of that system_id, and takes no new ones of anybody.
func (c *center) hangUp(systemID string) {
	_ = c.l.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for s, id := range c.sessions {
		if id == systemID {
			s.Close(smpp.ErrClosed)
		}
	}
}

// judging sets the judge.
func (c *center) judging(judge func(systemID string, p pdu.PDU) pdu.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.judge = judge
}

// of are the messages that came on binds of that system_id.
func (c *center) of(systemID string) []pdu.PDU {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []pdu.PDU
	for _, x := range c.took {
		if x.systemID == systemID {
			all = append(all, x.p)
		}
	}
	return all
}

type centerSession struct {
	c        *center
	s        *smpp.Session
	systemID string
}

func (h *centerSession) HandleRequest(p pdu.PDU) {
	switch id := p.ID(); {
	case id.IsBind():
		var b pdu.Bind
		_ = b.Decode(p)
		h.systemID = b.SystemID
		h.c.mu.Lock()
		h.c.sessions[h.s] = b.SystemID
		h.c.mu.Unlock()
		_ = h.s.Send((&pdu.BindResp{SystemID: "SMSC", SCVersion: 0x34}).Append(nil, id, pdu.ROK, p.Seq()))
	case id == pdu.SubmitSM:
		h.c.mu.Lock()
		h.c.took = append(h.c.took, took{h.systemID, bytes.Clone(p)})
		n, status := len(h.c.took), pdu.ROK
		if h.c.judge != nil {
			status = h.c.judge(h.systemID, p)
		}
		h.c.mu.Unlock()
		if status != pdu.ROK {
			_ = h.s.Send(pdu.AppendHeader(nil, pdu.SubmitSMResp, status, p.Seq()))
			return
		}
		_ = h.s.Send(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, p.Seq(), fmt.Sprintf("smsc-%d", n)))
	case id == pdu.SubmitMulti:
		h.c.mu.Lock()
		h.c.took = append(h.c.took, took{h.systemID, bytes.Clone(p)})
		n, status := len(h.c.took), h.c.multi
		h.c.mu.Unlock()
		var resp pdu.MultiResp
		if status == pdu.ROK {
			resp.MessageID = fmt.Appendf(nil, "smsc-%d", n)
		}
		_ = h.s.Send(resp.Append(nil, status, p.Seq()))
	case id == pdu.Unbind:
		_ = h.s.Send(pdu.AppendHeader(nil, id.Response(), pdu.ROK, p.Seq()))
		h.s.Finish()
	default:
		h.c.mu.Lock()
		h.c.took = append(h.c.took, took{h.systemID, bytes.Clone(p)})
		h.c.mu.Unlock()
		_ = h.s.Send(pdu.AppendHeader(nil, id.Response(), pdu.ROK, p.Seq()))
	}
}

func (h *centerSession) HandleResponse(pdu.PDU) {}
func (h *centerSession) HandleBatch()           {}

// esme is a bound ESME.
type esme struct {
	t testing.TB
	s *smpp.Session
}

func bind(t testing.TB, addr, systemID string, version byte) *esme {
	t.Helper()
	s, _, err := smpp.Dial(t.Context(), addr, pdu.BindTransceiver, pdu.Bind{SystemID: systemID, Password: "pw", InterfaceVersion: version}, smpp.Config{})
	if err != nil {
		t.Fatalf("Dial() = %v", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = s.Serve(&esmeSession{s})
		close(ended)
	}()
	t.Cleanup(func() {
		s.Close(smpp.ErrClosed)
		<-ended
	})
	return &esme{t, s}
}

// esmeSession answers whatever the gateway sends.
type esmeSession struct{ s *smpp.Session }

func (h *esmeSession) HandleRequest(p pdu.PDU) {
	_ = h.s.Send(pdu.AppendHeader(nil, p.ID().Response(), pdu.ROK, p.Seq()))
	if p.ID() == pdu.Unbind {
		h.s.Finish()
	}
}

func (h *esmeSession) HandleResponse(pdu.PDU) {}
func (h *esmeSession) HandleBatch()           {}

// ask sends p and gives the whole answer.
func (e *esme) ask(p pdu.PDU) pdu.PDU {
	e.t.Helper()
	got := make(chan pdu.PDU, 1)
	err := e.s.Call(p, func(p pdu.PDU, err error) {
		if err != nil {
			e.t.Errorf("answer: %v", err)
		}
		got <- bytes.Clone(p)
	})
	if err != nil {
		e.t.Fatalf("Call() = %v", err)
	}
	select {
	case p := <-got:
		return p
	case <-time.After(patience):
		e.t.Fatal("no answer")
	}
	return nil
}

// submit sends p and gives the message_id of its answer.
func (e *esme) submit(p pdu.PDU) string {
	e.t.Helper()
	type answer struct {
		id  string
		st  pdu.Status
		err error
	}
	got := make(chan answer, 1)
	err := e.s.Call(p, func(p pdu.PDU, err error) {
		a := answer{err: err}
		if err == nil {
			a.st = p.Status()
			a.id, a.err = pdu.MessageID(p)
		}
		got <- a
	})
	if err != nil {
		e.t.Fatalf("Call() = %v", err)
	}
	select {
	case a := <-got:
		if a.err != nil || a.st != pdu.ROK {
			e.t.Fatalf("submit_sm_resp: %s, %v", a.st, a.err)
		}
		return a.id
	case <-time.After(patience):
		e.t.Fatal("submit_sm was not answered")
	}
	return ""
}

func submitTo(number string, set func(*pdu.SM)) pdu.PDU {
	m := pdu.SM{
		Source: pdu.Address{TON: pdu.TONAlphanumeric, Addr: []byte("Parcel24")}, Dest: pdu.Address{TON: 1, NPI: 1, Addr: []byte(number)},
		ShortMessage: []byte("Your parcel comes on Monday."),
	}
	if set != nil {
		set(&m)
	}
	return pdu.AppendSM(nil, pdu.SubmitSM, 0, &m)
}

// node is a gateway that runs on a configuration file of its own, in front of
// one SMSC, with one app whose provider cannot be reached.
type node struct {
	t    testing.TB
	g    *Gateway
	smsc *center
	said logged
	stop context.CancelFunc
	done chan error
}

// newNode makes it; run starts it.
func newNode(t testing.TB, edit func(text string) string) *node {
	t.Helper()
	n := &node{t: t, smsc: newCenter(t), done: make(chan error, 1)}
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`
[node]
id = "edge-1"
data_dir = "data"
[[listen]]
addr = "127.0.0.1:0"
[intercept]
upstream = "smsc-a"
divert = "on"
fallback_smsc = "smsc-a"
[[smsc]]
name = "smsc-a"
addr = %q
system_id = "shunt"
password_file = "own.password"
[[app]]
id = "chat"
apns = { team_id = "ABCDE12345", key_id = "FGHIJ67890", key_file = "chat.p8", topic = "com.example.chat", endpoint = "https://127.0.0.1:1" }
[policy]
divert_from = ["*"]
[api]
listen = "127.0.0.1:0"
[noc]
socket = "noc.sock"
`, n.smsc.l.Addr().String())
	if edit != nil {
		text = edit(text)
	}
	for name, content := range map[string]string{
		"shunt.toml": text, "own.password": "secret",
		"chat.p8": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	cfg, faults, err := config.Load(filepath.Join(dir, "shunt.toml"))
	if err != nil || config.Fatal(faults) {
		t.Fatalf("config.Load() = %v\n%s", err, config.Text(faults))
	}
	if n.g, err = New(cfg, slog.New(slog.NewJSONHandler(&n.said, nil)), "test"); err != nil {
		t.Fatalf("New() = %v", err)
	}
	return n
}

// logged is what a node said at level info and above, a line of JSON each.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

// has tells whether one line has all these words.
func (l *logged) has(words ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.lines, func(line string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) })
	})
}

func (n *node) run() *node {
	n.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	go func() { n.done <- n.g.Run(ctx) }()
	n.t.Cleanup(func() {
		stop()
		if err := <-n.done; err != nil {
			n.t.Errorf("Run() = %v", err)
		}
	})
	n.until("the index is complete", n.g.registry.Ready)
	if n.g.own != nil {
		n.until("the own bind is up", n.g.own.Ready)
	}
	return n
}

// halt stops it in an orderly way.
func (n *node) halt() {
	n.t.Helper()
	n.stop()
	select {
	case err := <-n.done:
		n.done <- err // for the clean-up
	case <-time.After(2 * patience):
		n.t.Fatal("the node does not stop")
	}
}

// again is the next process on the same configuration and disk.
func (n *node) again() *node {
	n.t.Helper()
	next := &node{t: n.t, smsc: n.smsc, done: make(chan error, 1)}
	var err error
	if next.g, err = New(n.g.cfg, slog.New(slog.DiscardHandler), "test"); err != nil {
		n.t.Fatalf("New() = %v", err)
	}
	return next.run()
}

func (n *node) addr() string { return n.g.addrs()[0] }

func (n *node) until(what string, ok func() bool) {
	n.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			n.t.Fatalf("not in time: %s", what)
		}
		timer := time.NewTimer(time.Millisecond)
		<-timer.C
	}
}

func (n *node) register(number msg.Number, set func(*registry.Put)) {
	n.t.Helper()
	p := registry.Put{Number: number, App: "chat", Platform: registry.APNs, Token: strings.Repeat("0a", 32), Device: "phone", Active: true}
	if set != nil {
		set(&p)
	}
	if _, err := n.g.registry.Put(context.Background(), p); err != nil {
		n.t.Fatalf("registry.Put() = %v", err)
	}
}
