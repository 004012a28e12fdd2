package dispatch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"shunt/gateway/msg"
	"shunt/push"
	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/store/registry"
	"shunt/store/spool"
)

const subscriber msg.Number = 447700900042

// box is a Dispatcher on a real spool and a real registry, between a scripted
// provider and a scripted carrier. Tests run it in a bubble, whose clock is
// theirs.
type box struct {
	t        testing.TB
	d        *Dispatcher
	spool    *spool.Spool
	flaky    *flaky
	registry *registry.Registry
	carrier  *carrier
	provider *provider
	cancel   context.CancelFunc
	ended    chan struct{}
	closed   bool
	ahead    atomic.Int64 // how far the registry's clock is, in nanoseconds

	mu       sync.Mutex
	receipts []spool.Record // final, to be told to the ESME
	finished []msg.State
}

var errDisk = errors.New("input/output error")

// flaky is the spool with a disk that fails as a test says.
type flaky struct {
	*spool.Spool
	mu   sync.Mutex
	fail func(spool.Event) error // nil: never
}

func (f *flaky) Post(e spool.Event, done func(spool.Result)) {
	f.mu.Lock()
	fail := f.fail
	f.mu.Unlock()
	if fail != nil {
		if err := fail(e); err != nil {
			if done != nil {
				done(spool.Result{Err: err})
			}
			return
		}
	}
	f.Spool.Post(e, done)
}

func (f *flaky) Do(ctx context.Context, e spool.Event) spool.Result {
	f.mu.Lock()
	fail := f.fail
	f.mu.Unlock()
	if fail != nil {
		if err := fail(e); err != nil {
			return spool.Result{Err: err}
		}
	}
	return f.Spool.Do(ctx, e)
}

func (f *flaky) set(fail func(spool.Event) error) {
	f.mu.Lock()
	f.fail = fail
	f.mu.Unlock()
}

// open opens what is in dir and resumes it, but does not run yet.
func open(t testing.TB, dir string, set func(*Options)) *box {
	t.Helper()
	b := &box{t: t, carrier: newCarrier(), provider: &provider{}, flaky: &flaky{}, ended: make(chan struct{})}
	var err error
	now := func() time.Time { return time.Now().Add(time.Duration(b.ahead.Load())) }
	if b.registry, err = registry.Open(registry.Options{Dir: filepath.Join(dir, "reg"), Now: now}); err != nil {
		t.Fatalf("registry.Open() = %v", err)
	}
	o := Options{
		Spool: b.flaky, Registry: b.registry, Carrier: b.carrier,
		Apps:    []App{{ID: "chat", Senders: map[registry.Platform]push.Sender{registry.APNs: b.provider}, Workers: 4}},
		Receipt: func(r spool.Record, _ msg.Notice) { b.note(&r, true) }, Finished: func(r *spool.Record) { b.note(r, false) },
		Log: slog.New(slog.DiscardHandler),
	}
	if set != nil {
		set(&o)
	}
	b.d = New(o)
	if b.spool, err = spool.Open(spool.Options{Dir: filepath.Join(dir, "spool"), ReceiptGrace: time.Minute, Observe: b.d.Observe}); err != nil {
		t.Fatalf("spool.Open() = %v", err)
	}
	b.flaky.Spool = b.spool
	for r := range b.spool.Live {
		b.d.Resume(r)
	}
	t.Cleanup(b.close)
	return b
}

// run starts everything.
func (b *box) run() {
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	b.spool.Start()
	go func() {
		b.d.Run(ctx)
		close(b.ended)
	}()
}

func start(t testing.TB, set func(*Options)) *box {
	t.Helper()
	b := open(t, t.TempDir(), set)
	b.run()
	return b
}

// close stops in the order of the gateway.
func (b *box) close() {
	if b.closed {
		return
	}
	b.closed = true
	if b.cancel != nil {
		b.cancel()
		<-b.ended
	}
	if err := b.spool.Close(); err != nil {
		b.t.Errorf("spool.Close() = %v", err)
	}
	if err := b.registry.Close(); err != nil {
		b.t.Errorf("registry.Close() = %v", err)
	}
}

func (b *box) note(r *spool.Record, receipt bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if receipt {
		b.receipts = append(b.receipts, *r)
	} else {
		b.finished = append(b.finished, r.State)
	}
}

// told are the receipts so far.
func (b *box) told() []spool.Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.receipts
}

// device registers a device of the subscriber, and gives its bearer's owner.
func (b *box) device(name string, set func(*registry.Put)) {
	b.t.Helper()
	p := registry.Put{Number: subscriber, App: "chat", Platform: registry.APNs, Token: "token-" + name, Device: name, Active: true}
	if set != nil {
		set(&p)
	}
	if _, err := b.registry.Put(context.Background(), p); err != nil {
		b.t.Fatalf("registry.Put() = %v", err)
	}
}

func (b *box) remove(name string) {
	b.t.Helper()
	if ok, err := b.registry.Remove(context.Background(), subscriber, name); !ok || err != nil {
		b.t.Fatalf("registry.Remove(%s) = %t, %v", name, ok, err)
	}
}

// submitSM is the message of every test.
func submitSM(set func(*pdu.SM)) pdu.PDU {
	m := pdu.SM{
		Source:       pdu.Address{TON: pdu.TONAlphanumeric, Addr: []byte("Parcel24")},
		Dest:         pdu.Address{TON: pdu.TONInternational, NPI: pdu.NPIISDN, Addr: []byte("447700900042")},
		ShortMessage: []byte("Your parcel comes on Monday."), RegisteredDelivery: 1,
	}
	if set != nil {
		set(&m)
	}
	return pdu.AppendSM(nil, pdu.SubmitSM, 0x4711, &m)
}

// message is one that the app has ten seconds for and the carrier an hour, from
// a sender of its own: it waits for no other.
func (b *box) message() *spool.Message {
	now := time.Now()
	id := b.spool.NewID()
	return &spool.Message{
		ID: id, WireID: id.String(), Account: msg.Account{SystemID: "bank"}, To: subscriber, App: "chat", From: "Parcel24-" + id.String()[20:],
		PDU: submitSM(nil), Version: 0x34, RegisteredDelivery: 1,
		ReceivedAt: now, ClaimBy: now.Add(10 * time.Second), ExpiresAt: now.Add(time.Hour), Lease: 5 * time.Second,
	}
}

// put spools a message and gives its id.
func (b *box) put(m *spool.Message) msg.ID {
	b.t.Helper()
	done := make(chan error, 1)
	b.spool.Put(m, func(err error) { done <- err })
	if err := <-done; err != nil {
		b.t.Fatalf("Put() = %v", err)
	}
	return m.ID
}

func (b *box) do(e spool.Event) spool.Result {
	b.t.Helper()
	return b.spool.Do(context.Background(), e)
}

func (b *box) get(id msg.ID) spool.Record {
	b.t.Helper()
	r, err := b.spool.Get(id)
	if err != nil {
		b.t.Fatalf("Get(%s) = %v", id, err)
	}
	return r
}

func (b *box) wantState(id msg.ID, want msg.State) spool.Record {
	b.t.Helper()
	synctest.Wait()
	r := b.get(id)
	if r.State != want {
		b.t.Fatalf("state %s, want %s; trace:%s", r.State, want, b.trace(id))
	}
	return r
}

// trace is the message's trace, a line a step.
func (b *box) trace(id msg.ID) string {
	b.t.Helper()
	steps, err := b.spool.Trace(id)
	if err != nil {
		b.t.Fatalf("Trace(%s) = %v", id, err)
	}
	var s bytes.Buffer
	for _, st := range steps {
		fmt.Fprintf(&s, "\n%s → %s: %s %s %s", st.From, st.To, st.Event, st.Reason, st.Detail)
	}
	return s.String()
}

// reason is why the first event of that kind happened, and its detail.
func (b *box) reason(id msg.ID, kind msg.Event) (msg.Reason, string) {
	b.t.Helper()
	steps, err := b.spool.Trace(id)
	if err != nil {
		b.t.Fatalf("Trace(%s) = %v", id, err)
	}
	for _, st := range steps {
		if st.Event == kind {
			return st.Reason, st.Detail
		}
	}
	b.t.Fatalf("no %s in the trace:%s", kind, b.trace(id))
	return 0, ""
}

// events is how often that kind of event was applied.
func (b *box) events(id msg.ID, kind msg.Event) (n int) {
	steps, err := b.spool.Trace(id)
	if err != nil {
		b.t.Fatalf("Trace(%s) = %v", id, err)
	}
	for _, st := range steps {
		if st.Event == kind {
			n++
		}
	}
	return n
}

// provider is a scripted push.Sender: it answers each device by its token.
type provider struct {
	mu     sync.Mutex
	sent   []push.Notification
	script func(n push.Notification, attempt int) push.Result // nil: accepts; attempt counts from 1, by token
	tries  map[string]int
}

func (p *provider) Send(_ context.Context, n push.Notification) push.Result {
	p.mu.Lock()
	p.sent = append(p.sent, n)
	if p.tries == nil {
		p.tries = make(map[string]int)
	}
	p.tries[n.Token]++
	attempt, script := p.tries[n.Token], p.script
	p.mu.Unlock()
	if script == nil {
		return push.Result{Outcome: push.Accepted}
	}
	return script(n, attempt)
}

func (p *provider) Close() error { return nil }

func (p *provider) pushes() []push.Notification {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}

// carrier is a scripted way to the SMSC.
type carrier struct {
	mu     sync.Mutex
	down   bool
	window int
	taken  int
	room   chan struct{}
	sent   []written
	script func(n int, w written) // what the SMSC does with its nth SMS, from 1; nil: it holds it
}

type written struct {
	p    pdu.PDU
	at   time.Time
	done func(Submitted)
}

func newCarrier() *carrier { return &carrier{window: 100, room: make(chan struct{})} }

func (c *carrier) SMSC() string { return "smsc-own" }

func (c *carrier) Ready() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.down
}

func (c *carrier) setDown(down bool) {
	c.mu.Lock()
	c.down = down
	c.wake()
	c.mu.Unlock()
}

func (c *carrier) wake() {
	close(c.room)
	c.room = make(chan struct{})
}

func (c *carrier) Acquire(ctx context.Context) error {
	for {
		c.mu.Lock()
		if !c.down && c.taken < c.window {
			c.taken++
			c.mu.Unlock()
			return nil
		}
		room := c.room
		c.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *carrier) Release() {
	c.mu.Lock()
	c.taken--
	c.wake()
	c.mu.Unlock()
}

func (c *carrier) Submit(p pdu.PDU, done func(Submitted)) {
	c.mu.Lock()
	w := written{bytes.Clone(p), time.Now(), func(s Submitted) {
		c.Release()
		done(s)
	}}
	c.sent = append(c.sent, w)
	n, script := len(c.sent), c.script
	c.mu.Unlock()
	if script != nil {
		script(n, w)
	}
}

func (c *carrier) submits() []written {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}

func (c *carrier) inUse() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken
}

// accept is the SMSC's ESME_ROK with an id of its own, from 1.
func accept(n int, w written) {
	w.done(Submitted{Sent: true, MessageID: fmt.Sprintf("id%d", n)})
}

// receipt lets the SMSC report on one of its ids, and gives the answer once it
// is there.
func (b *box) receipt(id string, st smpp.MessageState, errText string) chan pdu.Status {
	answer := make(chan pdu.Status, 2)
	b.d.OnReceipt(CarrierReceipt{SMSC: "smsc-own", ID: id, State: st, Err: errText, Done: time.Now().Add(-time.Second)},
		func(s pdu.Status) { answer <- s })
	return answer
}

// wantAnswer: the SMSC got that answer, and no other.
func (b *box) wantAnswer(c chan pdu.Status, want pdu.Status) {
	b.t.Helper()
	synctest.Wait()
	select {
	case got := <-c:
		if got != want {
			b.t.Fatalf("receipt was answered %s, want %s", got, want)
		}
	default:
		b.t.Fatalf("receipt was not answered, want %s", want)
	}
}

func (b *box) wantNoAnswer(c chan pdu.Status) {
	b.t.Helper()
	synctest.Wait()
	select {
	case got := <-c:
		b.t.Fatalf("receipt was answered %s, want no answer yet", got)
	default:
	}
}
