package smsc

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/test/sim/books"
)

const patience = 10 * time.Second

func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// client is an ESME at the level of PDUs.
type client struct {
	t    *testing.T
	s    *smpp.Session
	resp pdu.BindResp
	reqs chan pdu.PDU // deliver_sm and others; answered by the test
}

func dial(t *testing.T, s *Server, id pdu.ID, systemID, password string, version byte) (*client, error) {
	t.Helper()
	c := &client{t: t, reqs: make(chan pdu.PDU, 100)}
	var err error
	c.s, c.resp, err = smpp.Dial(t.Context(), s.Addr().String(), id,
		pdu.Bind{SystemID: systemID, Password: password, InterfaceVersion: version}, smpp.Config{Response: patience})
	if err != nil {
		return nil, err
	}
	go func() { _ = c.s.Serve(c) }()
	t.Cleanup(func() {
		c.s.Close(nil)
		<-c.s.Done()
	})
	return c, nil
}

func bind(t *testing.T, s *Server, id pdu.ID) *client {
	t.Helper()
	c, err := dial(t, s, id, "bank", "pw", pdu.Version34)
	if err != nil {
		t.Fatalf("bind: %v", err)
	}
	return c
}

func (c *client) HandleRequest(p pdu.PDU) {
	if p.ID() == pdu.Unbind {
		_ = c.s.Send(pdu.AppendHeader(nil, pdu.UnbindResp, pdu.ROK, p.Seq()))
		c.s.Finish()
		return
	}
	c.reqs <- append(pdu.PDU(nil), p...)
}

func (c *client) HandleResponse(p pdu.PDU) {}
func (c *client) HandleBatch()             {}

// call sends p and returns its answer.
func (c *client) call(p pdu.PDU) pdu.PDU {
	c.t.Helper()
	got := make(chan pdu.PDU, 1)
	err := c.s.Call(p, func(p pdu.PDU, err error) {
		if err != nil {
			p = nil
		}
		got <- append(pdu.PDU(nil), p...)
	})
	if err != nil {
		c.t.Fatalf("Call: %v", err)
	}
	answer := <-got
	if len(answer) == 0 {
		c.t.Fatalf("%s: no answer", p.ID())
	}
	return answer
}

// next takes the next request of the SMSC and answers it with status.
func (c *client) next(status pdu.Status) pdu.SM {
	c.t.Helper()
	select {
	case p := <-c.reqs:
		var m pdu.SM
		if p.ID() != pdu.DeliverSM || m.Decode(p) != nil {
			c.t.Fatalf("request %s: want a deliver_sm that decodes", p.ID())
		}
		_ = c.s.Respond(pdu.AppendMessageResp(nil, pdu.DeliverSMResp, status, p.Seq(), ""))
		return m
	case <-time.After(patience):
		c.t.Fatal("no deliver_sm came")
	}
	return pdu.SM{}
}

func submitSM(registered byte, text string) pdu.PDU {
	return pdu.AppendSM(nil, pdu.SubmitSM, 0, &pdu.SM{
		Source: pdu.Address{TON: 5, Addr: []byte("CHAT")}, Dest: pdu.Address{TON: 1, NPI: 1, Addr: []byte("447700900042")},
		RegisteredDelivery: registered, ShortMessage: []byte(text),
	})
}

func withID(id pdu.ID, fields ...string) pdu.PDU {
	b := pdu.Begin(nil, id, pdu.ROK, 0)
	for _, f := range fields {
		b = append(append(b, f...), 0)
	}
	return pdu.End(b, 0)
}

func TestBinds(t *testing.T) {
	s := start(t, Options{Accounts: map[string]string{"bank": "pw"}})
	for _, tc := range []struct {
		id, password string
		version      byte
		want         pdu.Status
		sc           byte
	}{
		{"bank", "pw", pdu.Version33, pdu.ROK, 0},
		{"bank", "pw", pdu.Version34, pdu.ROK, pdu.Version50},
		{"bank", "pw", pdu.Version50, pdu.ROK, pdu.Version50},
		{"bank", "no", pdu.Version34, pdu.RINVPASWD, 0},
		{"shop", "pw", pdu.Version34, pdu.RINVSYSID, 0},
	} {
		c, err := dial(t, s, pdu.BindTransceiver, tc.id, tc.password, tc.version)
		got := pdu.ROK
		var refused *smpp.BindError
		if errors.As(err, &refused) {
			got = refused.Status
		} else if err != nil {
			t.Fatalf("bind %q %q: %v", tc.id, tc.password, err)
		}
		if got != tc.want || err == nil && c.resp.SCVersion != tc.sc {
			t.Errorf("bind %q %q %#x = %v, want %v with sc_interface_version %#x", tc.id, tc.password, tc.version, got, tc.want, tc.sc)
		}
	}
}

func TestStates(t *testing.T) {
	s := start(t, Options{})
	tx, rx := bind(t, s, pdu.BindTransmitter), bind(t, s, pdu.BindReceiver)
	for _, tc := range []struct {
		name   string
		c      *client
		p      pdu.PDU
		id     pdu.ID
		status pdu.Status
	}{
		{"submit_sm on a receiver", rx, submitSM(0, "x"), pdu.SubmitSMResp, pdu.RINVBNDSTS},
		{"second bind", tx, (&pdu.Bind{SystemID: "bank"}).Append(nil, pdu.BindTransmitter, 0), pdu.BindTransmitterResp, pdu.RALYBND},
		{"unknown command", tx, pdu.AppendHeader(nil, 0x00010203, 0, 0), pdu.GenericNack, pdu.RINVCMDID},
		{"submit_sm cut short", tx, pdu.AppendHeader(nil, pdu.SubmitSM, 0, 0), pdu.SubmitSMResp, pdu.RINVMSGLEN},
		{"replace_sm", tx, withID(pdu.ReplaceSM, "1"), pdu.ReplaceSM.Response(), rReplaceFail},
		{"query_sm of nothing", tx, withID(pdu.QuerySM, "1"), pdu.QuerySM.Response(), rQueryFail},
		{"cancel_sm of nothing", tx, withID(pdu.CancelSM, "", "1"), pdu.CancelSM.Response(), rCancelFail},
		{"unbind", tx, pdu.AppendHeader(nil, pdu.Unbind, 0, 0), pdu.UnbindResp, pdu.ROK},
	} {
		if got := tc.c.call(tc.p); got.ID() != tc.id || got.Status() != tc.status {
			t.Errorf("%s: answered %s %v, want %s %v", tc.name, got.ID(), got.Status(), tc.id, tc.status)
		}
	}
	<-tx.s.Done()
}

func TestBeforeTheBind(t *testing.T) {
	s := start(t, Options{})
	nc, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_ = nc.SetDeadline(time.Now().Add(patience))
	var all []byte
	for i, p := range []pdu.PDU{submitSM(0, "x"), pdu.AppendHeader(nil, pdu.EnquireLink, 0, 0), pdu.AppendHeader(nil, 0x7777, 0, 0), pdu.AppendHeader(nil, pdu.Unbind, 0, 0)} {
		p.SetSeq(uint32(i + 1))
		all = append(all, p...)
	}
	if _, err := nc.Write(all); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(nc)
	if err != nil {
		t.Fatal(err)
	}
	want := "00000010 80000004 00000004 00000001" + "00000010 80000015 00000000 00000002" +
		"00000010 80000000 00000003 00000003" + "00000010 80000006 00000000 00000004"
	if hex.EncodeToString(got) != strings.ReplaceAll(want, " ", "") {
		t.Errorf("answers before a bind:\ngot  %x\nwant %s", got, want)
	}
}

func TestIDsAndReceipts(t *testing.T) {
	for form, want := range map[IDForm][2]string{
		IDHex: {"00100001", "00100001"}, IDDec: {"0001048577", "0001048577"},
		IDHexThenDe: {"00100001", "0001048577"}, IDDecThenHe: {"0001048577", "00100001"},
	} {
		s := start(t, Options{ID: form, Seed: 1})
		c := bind(t, s, pdu.BindTransceiver)
		id, err := pdu.MessageID(c.call(submitSM(1, "hello")))
		if err != nil || id != want[0] {
			t.Errorf("%s: message_id %q, %v, want %q", form, id, err, want[0])
		}
		m := c.next(pdu.ROK)
		r, ok := smpp.ParseReceipt(&m)
		if !ok || !smpp.IsReceipt(&m) || r.ID != want[1] || r.State != smpp.StateDelivered {
			t.Errorf("%s: receipt %q %v, want %q delivered", form, r.ID, r.State, want[1])
		}
		if string(m.Source.Addr) != "447700900042" || string(m.Dest.Addr) != "CHAT" {
			t.Errorf("%s: receipt from %s to %s, want them swapped", form, m.Source.Addr, m.Dest.Addr)
		}
	}
	s := start(t, Options{ID: IDULID})
	id, _ := pdu.MessageID(bind(t, s, pdu.BindTransmitter).call(submitSM(0, "x")))
	if len(id) != 26 {
		t.Errorf("ulid: message_id %q, want 26 characters", id)
	}
}

func TestRegisteredDelivery(t *testing.T) {
	for _, tc := range []struct {
		registered byte
		fail       float64
		want       string
	}{
		{0, 0, ""},
		{1, 0, "DELIVRD"},
		{2, 0, ""},
		{3, 0, "DELIVRD"},
		{1, 1, "UNDELIV"},
		{2, 1, "UNDELIV"},
		{3, 1, ""},
	} {
		book := filepath.Join(t.TempDir(), "book")
		s := start(t, Options{FailRate: tc.fail, Book: book})
		c := bind(t, s, pdu.BindTransceiver)
		c.call(submitSM(tc.registered, "first"))
		c.call(submitSM(1, "second")) // its receipt comes after the first's, if any
		var got string
		for {
			m := c.next(pdu.ROK)
			r, _ := smpp.ParseReceipt(&m)
			if string(r.ID) == "00000002" {
				break
			}
			got = r.State.Stat()
		}
		if got != tc.want {
			t.Errorf("registered_delivery %d, failing %v: receipt %q, want %q", tc.registered, tc.fail, got, tc.want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		lines, err := books.Read[books.SMSCLine](book)
		if err != nil || len(lines) != 2 || lines[0].Final == "" || lines[0].Asked != (tc.registered != 0) {
			t.Errorf("book: %+v, %v, want two lines with their final state", lines, err)
		}
	}
}

// A receipt waits for a bind that may receive, goes again when its answer was
// cut off, and has TLVs only from v3.4 on.
func TestReceiptWaitsAndGoesAgain(t *testing.T) {
	s := start(t, Options{})
	tx := bind(t, s, pdu.BindTransmitter)
	tx.call(submitSM(1, "x"))
	if n := s.Summary().ReceiptsOpen; n != 1 {
		t.Errorf("open receipts %d, want 1", n)
	}
	first, err := dial(t, s, pdu.BindReceiver, "bank", "pw", pdu.Version33)
	if err != nil {
		t.Fatal(err)
	}
	p := <-first.reqs
	var m pdu.SM
	if m.Decode(p) != nil || len(m.TLVs) != 0 {
		t.Errorf("receipt for v3.3 has TLVs %x", []byte(m.TLVs))
	}
	first.s.Close(nil) // without an answer
	second, err := dial(t, s, pdu.BindReceiver, "bank", "pw", pdu.Version34)
	if err != nil {
		t.Fatal(err)
	}
	m = second.next(pdu.ROK)
	if _, ok := m.TLVs.Find(pdu.TagReceiptedMessageID); !ok {
		t.Error("receipt for v3.4 has no receipted_message_id")
	}
	other, err := dial(t, s, pdu.BindReceiver, "shop", "pw", pdu.Version34)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if sum := s.Summary(); sum.ReceiptsTaken != 1 || sum.ReceiptsAgain != 1 || sum.ReceiptsOpen != 0 {
		t.Errorf("summary %+v, want one receipt taken, one sent again, none open", sum)
	}
	for len(other.reqs) > 0 {
		if p := <-other.reqs; p.ID() == pdu.DeliverSM {
			t.Error("another account got the receipt")
		}
	}
}

func TestFaultsOnRequest(t *testing.T) {
	s := start(t, Options{ThrottleRate: 1})
	if got := bind(t, s, pdu.BindTransmitter).call(submitSM(1, "x")).Status(); got != pdu.RTHROTTLED {
		t.Errorf("throttled: %v", got)
	}
	s = start(t, Options{ErrorRate: 1, ErrorStatus: 0x14})
	if got := bind(t, s, pdu.BindTransmitter).call(submitSM(1, "x")).Status(); got != pdu.RMSGQFUL {
		t.Errorf("error-status 0x14: %v", got)
	}
	s = start(t, Options{Held: 1, ReceiptDelay: time.Hour})
	c := bind(t, s, pdu.BindTransmitter)
	if a, b := c.call(submitSM(1, "x")).Status(), c.call(submitSM(1, "y")).Status(); a != pdu.ROK || b != pdu.RMSGQFUL {
		t.Errorf("one held at most: %v, %v, want ROK and RMSGQFUL", a, b)
	}
	book := filepath.Join(t.TempDir(), "book")
	s = start(t, Options{Unacked: true, Book: book})
	c = bind(t, s, pdu.BindTransceiver)
	_ = c.s.Call(submitSM(1, "x"), func(_ pdu.PDU, err error) {
		if err == nil {
			t.Error("unacked: a submit_sm was answered")
		}
	})
	c.next(pdu.ROK)
	_ = s.Close()
	if lines, err := books.Read[books.SMSCLine](book); err != nil || len(lines) != 1 || !lines[0].Unanswered {
		t.Errorf("unacked: book %+v, %v", lines, err)
	}
	for _, o := range []Options{{ID: "x"}, {ErrorRate: 2}, {FailRate: 0.6, ExpireRate: 0.6}, {MORate: -1}} {
		if _, err := New(o); err == nil {
			t.Errorf("New(%+v): no error", o)
		}
	}
}

// Trap 3: the receipt overtakes the response.
func TestReceiptBeforeResponse(t *testing.T) {
	s := start(t, Options{ReceiptBeforeResp: 1})
	c := bind(t, s, pdu.BindTransceiver)
	order := make(chan string, 2)
	if err := c.s.Call(submitSM(1, "x"), func(pdu.PDU, error) { order <- "response" }); err != nil {
		t.Fatal(err)
	}
	c.next(pdu.ROK)
	select {
	case <-order:
		t.Error("the response came before the receipt")
	default:
	}
	if got := <-order; got != "response" {
		t.Errorf("then came %s", got)
	}
}

func TestQueryAndCancel(t *testing.T) {
	s := start(t, Options{ReceiptDelay: time.Hour})
	c := bind(t, s, pdu.BindTransceiver)
	id, _ := pdu.MessageID(c.call(submitSM(1, "x")))
	state := func() byte {
		p := c.call(withID(pdu.QuerySM, id))
		return p[pdu.HeaderLen+len(id)+2]
	}
	if got := state(); got != byte(smpp.StateEnroute) {
		t.Errorf("query_sm: state %d, want ENROUTE", got)
	}
	if got := c.call(withID(pdu.CancelSM, "", id)).Status(); got != pdu.ROK {
		t.Errorf("cancel_sm: %v", got)
	}
	m := c.next(pdu.ROK)
	if r, _ := smpp.ParseReceipt(&m); r.State != smpp.StateDeleted {
		t.Errorf("receipt after cancel_sm: %v", r.State)
	}
	if got := state(); got != byte(smpp.StateDeleted) {
		t.Errorf("query_sm: state %d, want DELETED", got)
	}
	if got := c.call(withID(pdu.CancelSM, "", id)).Status(); got != rCancelFail {
		t.Errorf("second cancel_sm: %v", got)
	}
}

func TestOriginated(t *testing.T) {
	s := start(t, Options{MORate: 200})
	c := bind(t, s, pdu.BindReceiver)
	for range 3 {
		if m := c.next(pdu.ROK); smpp.IsReceipt(&m) || string(m.Dest.Addr) != "80123" {
			t.Errorf("originated: receipt %t to %s", smpp.IsReceipt(&m), m.Dest.Addr)
		}
	}
}

func TestSink(t *testing.T) {
	s := start(t, Options{Sink: true})
	c := bind(t, s, pdu.BindTransmitter)
	for n := 1; n <= 20; n++ {
		id, err := pdu.MessageID(c.call(submitSM(1, "x")))
		if want := fmt.Sprintf("%08x", n); err != nil || id != want {
			t.Errorf("sink: message_id %q, %v, want %q", id, err, want)
		}
	}
	local, remote := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, remote) }()
	sess := smpp.NewSession(local, smpp.Config{})
	defer sess.Close(nil)
	k := newSink(&conn{srv: s, s: sess})
	p := submitSM(1, "x")
	if n := testing.AllocsPerRun(2000, func() {
		k.HandleRequest(p)
		sess.Flush()
	}); n >= 1 {
		t.Errorf("sink: %v allocations a message, want none", n)
	}
}

func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSchedule()
		go s.run()
		begun := time.Now()
		var mu sync.Mutex
		var got []time.Duration
		note := func() {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, time.Since(begun))
		}
		for _, d := range []time.Duration{3, 1, 2, 0, 5000} {
			s.at(begun.Add(d*time.Second), note)
		}
		time.Sleep(10 * time.Second)
		s.stop()
		s.stop()
		want := fmt.Sprint([]time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second})
		if fmt.Sprint(got) != want {
			t.Errorf("ran at %v, want %v", got, want)
		}
	})
}

func TestCommandWritesAddressAndSummary(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	file := filepath.Join(t.TempDir(), "addr")
	cmd := Command()
	var out, log strings.Builder
	cmd.SetOut(&out)
	cmd.SetErr(writer(func(b []byte) { log.Write(b); cancel() })) // it says that it listens
	cmd.SetArgs([]string{"--addr-file", file, "--accounts", "a:b", "--seed", "7"})
	if err := cmd.ExecuteContext(ctx); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `"seed":7`) {
		t.Errorf("stdout %q, want a summary with the seed", out.String())
	}
	if _, err := ParseAccounts("a"); err == nil {
		t.Error(`ParseAccounts("a"): no error`)
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}
