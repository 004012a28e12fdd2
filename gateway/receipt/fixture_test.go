package receipt

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

var bank = msg.Account{SystemID: "bank", SystemType: "ota", AddressRange: "^44"}

// fixture is a Deliverer on a real spool, with binds that a test puts up.
type fixture struct {
	t     testing.TB
	spool *spool.Spool
	d     *Deliverer
	stop  context.CancelFunc
	ended chan struct{}
	ahead atomic.Int64 // how far the Deliverer's clock is

	mu    sync.Mutex
	binds map[msg.Account]Bind
	look  func()        // called at every look for a bind
	fails int           // events that the disk refuses
	left  int           // receipts to be taken before settled
	all   chan struct{} // closed then
}

func start(t testing.TB, dir string, window int) *fixture {
	t.Helper()
	f := &fixture{t: t, binds: make(map[msg.Account]Bind), ended: make(chan struct{})}
	f.d = New(Options{
		Spool: lateSpool{f}, Replies: lateSpool{f}, Receiver: f.receiver, Window: window, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Now().Add(time.Duration(f.ahead.Load())) },
	})
	var err error
	f.spool, err = spool.Open(spool.Options{Dir: dir, Replied: func(r *spool.Reply) { f.d.AddReply(r) }, Observe: func(c *spool.Change) {
		if c.To.Final() && !c.From.Final() && c.Record.ReceiptDue {
			f.d.Add(c.Record, 0)
		}
	}})
	if err != nil {
		t.Fatalf("spool.Open() = %v", err)
	}
	for r := range f.spool.Live {
		if r.State.Final() && r.ReceiptDue {
			f.d.Add(r, 0)
		}
	}
	for r := range f.spool.Replies {
		f.d.AddReply(r)
	}
	f.spool.Start()
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	go func() {
		f.d.Run(ctx)
		close(f.ended)
	}()
	t.Cleanup(f.close)
	return f
}

// lateSpool is the fixture's spool, which is made after the Deliverer.
type lateSpool struct{ f *fixture }

func (s lateSpool) Get(id msg.ID) (spool.Record, error) { return s.f.spool.Get(id) }

func (s lateSpool) Message(id msg.ID) (*spool.Message, error) { return s.f.spool.Message(id) }

func (s lateSpool) Reply(id msg.ID) (*spool.Reply, error) { return s.f.spool.Reply(id) }

func (s lateSpool) ReplyTaken(t spool.Taken, done func(error)) { s.f.spool.ReplyTaken(t, done) }

func (s lateSpool) Post(e spool.Event, done func(spool.Result)) {
	s.f.mu.Lock()
	fail := s.f.fails > 0
	if fail {
		s.f.fails--
	}
	s.f.mu.Unlock()
	if fail {
		done(spool.Result{Err: syscall.EIO})
		return
	}
	s.f.spool.Post(e, func(r spool.Result) {
		if e.Kind == msg.EvReceiptTried {
			return // only told; nobody waits for it
		}
		if r.Err != nil {
			s.f.t.Errorf("%s of a receipt: %v", e.Kind, r.Err)
		}
		s.f.mu.Lock()
		if s.f.left--; s.f.left == 0 {
			close(s.f.all)
		}
		s.f.mu.Unlock()
		if done != nil {
			done(r)
		}
	})
}

func (f *fixture) close() {
	f.stop()
	<-f.ended
	if err := f.spool.Close(); err != nil {
		f.t.Errorf("spool.Close() = %v", err)
	}
}

func (f *fixture) receiver(a msg.Account) (Bind, bool) {
	f.mu.Lock()
	b, ok := f.binds[a]
	look := f.look
	f.mu.Unlock()
	if ok && look != nil {
		look()
	}
	return b, ok
}

// up puts a bind of the account up, or with nil takes it down.
func (f *fixture) up(a msg.Account, b Bind) {
	f.mu.Lock()
	delete(f.binds, a)
	if b != nil {
		f.binds[a] = b
	}
	f.mu.Unlock()
	if b != nil {
		f.d.Receivable(a)
	}
}

// finish spools messages of the account and lets them end as delivered in the
// app, one after the other.
func (f *fixture) finish(a msg.Account, n int) []string {
	f.t.Helper()
	var ids []string
	for range n {
		id := f.spool.NewID()
		ids = append(ids, id.String())
		m := &spool.Message{
			ID: id, WireID: id.String(), Account: a, To: 447700900042, App: "chat", From: "Parcel24-" + id.String()[20:], // no other waits for it

			PDU: submitSM(original()), Version: 0x34, RegisteredDelivery: 1, ReceivedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour),
		}
		put := make(chan error, 1)
		f.spool.Put(m, func(err error) { put <- err })
		if err := <-put; err != nil {
			f.t.Fatalf("Put() = %v", err)
		}
		for _, kind := range []msg.Event{msg.EvClaim, msg.EvDelivered} {
			if r := f.spool.Do(context.Background(), spool.Event{ID: id, Kind: kind, Device: "phone"}); r.Err != nil {
				f.t.Fatalf("Do(%s) = %v", kind, r.Err)
			}
		}
	}
	return ids
}

// receiptsDue is what the spool still has to deliver.
func (f *fixture) receiptsDue() int { return f.spool.Stats().ReceiptsDue }

// scripted is a bind whose answers a test gives.
type scripted struct {
	version byte
	mu      sync.Mutex
	sent    []delivery
	err     error // of the next Deliver
}

type delivery struct {
	id    string
	class byte // esm_class
	text  []byte
	tlvs  bool // it has some
	done  func(pdu.PDU, error)
}

func (b *scripted) InterfaceVersion() byte { return b.version }
func (b *scripted) String() string         { return "bind=7 rx 192.0.2.1:4711" }

func (b *scripted) Deliver(p pdu.PDU, done func(pdu.PDU, error)) error {
	var m pdu.SM
	if err := m.Decode(p); err != nil {
		return err
	}
	r, _ := smpp.ParseReceipt(&m)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	b.sent = append(b.sent, delivery{r.ID, m.ESMClass, m.ShortMessage, len(m.TLVs) > 0, done})
	return nil
}

// take are the receipts that were sent since the last take.
func (b *scripted) take() []delivery {
	b.mu.Lock()
	defer b.mu.Unlock()
	sent := b.sent
	b.sent = nil
	return sent
}

func ids(ds []delivery) []string {
	var list []string
	for _, d := range ds {
		list = append(list, d.id)
	}
	return list
}

func (d delivery) answer(st pdu.Status) {
	d.done(pdu.AppendMessageResp(nil, pdu.DeliverSMResp, st, 1, ""), nil)
}

func wantIDs(t testing.TB, what string, got []delivery, want []string) {
	t.Helper()
	if diff := cmp.Diff(want, ids(got)); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}
