package upstream

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/smpp"
	"shunt/smpp/pdu"
)

var ownBind = pdu.Bind{SystemID: "shunt", Password: "s3cret", InterfaceVersion: 0x34}

// ownRig is a running Own and its SMSC.
type ownRig struct {
	t     testing.TB
	own   *Own
	smsc  *center
	stop  context.CancelFunc
	ended chan struct{}
}

func newOwnRig(t testing.TB, set func(*OwnOptions)) *ownRig {
	t.Helper()
	r := &ownRig{t: t, smsc: newCenter(t), ended: make(chan struct{})}
	o := OwnOptions{
		SMSC: "smsc-own", Addr: r.smsc.addr(), Bind: ownBind, Sessions: 1, Window: 10,
		SMPP: smpp.Config{Response: patience}, Log: slog.New(slog.DiscardHandler),
	}
	if set != nil {
		set(&o)
	}
	r.own = NewOwn(o)
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() {
		r.own.Run(ctx)
		close(r.ended)
	}()
	t.Cleanup(func() {
		stop()
		_ = r.smsc.l.Close()
	})
	return r
}

// bind takes the next bind and accepts it.
func (r *ownRig) bind(want pdu.ID) *peer {
	r.t.Helper()
	p := r.smsc.accept()
	req := p.next()
	if req.ID() != want {
		r.t.Fatalf("bind: %s, want %s", show(req), want)
	}
	p.send((&pdu.BindResp{SystemID: "SMSC", SCVersion: 0x34}).Append(nil, req.ID(), pdu.ROK, req.Seq()))
	return p
}

// ready waits until n transmitting binds are up.
func (r *ownRig) ready(n int) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); r.own.State().Bound != n; yield() {
		if time.Now().After(deadline) {
			r.t.Fatalf("%d binds are up, want %d", r.own.State().Bound, n)
		}
	}
}

func (r *ownRig) acquire() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.own.Acquire(ctx); err != nil {
		r.t.Fatalf("Acquire() = %v", err)
	}
}

// submit sends one message after an Acquire.
func (r *ownRig) submit() chan Result {
	r.t.Helper()
	r.acquire()
	done := make(chan Result, 1)
	r.own.Submit(sms(pdu.SubmitSM, nil), func(res Result) { done <- res })
	return done
}

func (r *ownRig) result(c chan Result) Result {
	r.t.Helper()
	select {
	case res := <-c:
		return res
	case <-time.After(patience):
		r.t.Fatal("no result")
	}
	return Result{}
}

func TestOwnSubmits(t *testing.T) {
	r := newOwnRig(t, nil)
	if r.own.Ready() || r.own.SMSC() != "smsc-own" {
		t.Errorf("Ready() = %t before a bind, SMSC() = %q", r.own.Ready(), r.own.SMSC())
	}
	smsc := r.smsc.accept()
	smsc.want(ownBind.Append(nil, pdu.BindTransceiver, 1))
	smsc.send((&pdu.BindResp{SystemID: "SMSC"}).Append(nil, pdu.BindTransceiver, pdu.ROK, 1))
	r.ready(1)
	for _, c := range []struct {
		name string
		resp pdu.PDU
		want Result
	}{
		{"accepted", pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, 0, "4F2A"), Result{Sent: true, MessageID: "4F2A"}},
		{"accepted without an id", raw(pdu.SubmitSMResp), Result{Sent: true}},
		{"accepted with a broken id", rawText(pdu.SubmitSMResp, "no NUL"), Result{Sent: true}},
		{"throttled", pdu.AppendHeader(nil, pdu.SubmitSMResp, pdu.RTHROTTLED, 0), Result{Sent: true, Status: pdu.RTHROTTLED}},
		{"queue full", pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.RMSGQFUL, 0, ""), Result{Sent: true, Status: pdu.RMSGQFUL}},
		{"refused, with an id", pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.RINVDSTADR, 0, "4F2A"), Result{Sent: true, Status: pdu.RINVDSTADR}},
		{"vendor status", pdu.AppendHeader(nil, pdu.SubmitSMResp, 0x4A1, 0), Result{Sent: true, Status: 0x4A1}},
		{"generic_nack", pdu.AppendHeader(nil, pdu.GenericNack, pdu.RINVCMDLEN, 0), Result{Sent: true, Status: pdu.RINVCMDLEN}},
		{"generic_nack ESME_ROK", pdu.AppendHeader(nil, pdu.GenericNack, pdu.ROK, 0), Result{Sent: true, Status: pdu.RINVCMDID}},
	} {
		done := r.submit()
		got := smsc.next()
		if !equalButSeq(got, sms(pdu.SubmitSM, nil)) {
			t.Fatalf("%s: to the SMSC: %s", c.name, show(got))
		}
		smsc.send(withSeq(c.resp, got.Seq()))
		if diff := cmp.Diff(c.want, r.result(done)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	if st := r.own.State(); st.Window != 0 || st.Bound != 1 || st.Want != 1 || st.LastError != "" {
		t.Errorf("State() = %+v, want an empty window of one bind", st)
	}
}

func equalButSeq(a, b pdu.PDU) bool { return string(withSeq(a, 0)) == string(withSeq(b, 0)) }

// TestOwnRebinds after refusals, hang-ups and a lost bind, each time later.
func TestOwnRebinds(t *testing.T) {
	r := newOwnRig(t, nil)
	start := time.Now()
	p := r.smsc.accept()
	p.send(pdu.AppendHeader(nil, pdu.BindTransceiverResp, pdu.RALYBND, p.next().Seq()))
	p.wantEnd()
	p = r.smsc.accept()
	if took := time.Since(start); took < firstBackoff/2 {
		t.Errorf("a second bind after %s, want at least half of %s", took, firstBackoff)
	}
	if st := r.own.State(); st.Bound != 0 || st.LastError != `bind as "shunt" refused: `+pdu.RALYBND.String() {
		t.Errorf("State() = %+v, want the refusal", st)
	}
	_ = p.conn.Close()
	start = time.Now()
	smsc := r.bind(pdu.BindTransceiver)
	if took := time.Since(start); took < firstBackoff {
		t.Errorf("a third bind after %s, want at least half of twice %s", took, firstBackoff)
	}
	r.ready(1)
	_ = smsc.conn.Close()
	smsc = r.bind(pdu.BindTransceiver)
	r.ready(1)
	done := r.submit()
	smsc.send(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, smsc.next().Seq(), "id"))
	if res := r.result(done); res.MessageID != "id" {
		t.Errorf("after the rebind: %+v", res)
	}
}

// TestOwnWindow: no session has more submits than its window, and those who
// wait get room when there is some, on binds that are up only.
func TestOwnWindow(t *testing.T) {
	r := newOwnRig(t, func(o *OwnOptions) { o.Sessions, o.Window = 2, 3 })
	first := r.bind(pdu.BindTransceiver)
	r.ready(1)
	var done []chan Result
	for range 3 {
		done = append(done, r.submit())
	}
	if r.full() {
		t.Fatal("a fourth submit got room in a window of three")
	}
	second := r.bind(pdu.BindTransceiver)
	r.ready(2)
	for range 3 {
		done = append(done, r.submit())
	}
	if r.full() {
		t.Fatal("a seventh submit got room in two windows of three")
	}
	if n := r.own.State().Window; n != 6 {
		t.Errorf("State().Window = %d, want 6", n)
	}
	for _, p := range []*peer{first, second} {
		var seqs []uint32
		for range 3 {
			seqs = append(seqs, p.next().Seq())
		}
		p.wantNothing()
		for _, seq := range seqs {
			p.send(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, seq, "id"))
		}
	}
	for _, d := range done {
		if res := r.result(d); res.MessageID != "id" {
			t.Errorf("result %+v", res)
		}
	}
	// In turn: two more submits, one on each.
	for range 2 {
		r.submit()
	}
	for _, p := range []*peer{first, second} {
		if got := p.next(); got.ID() != pdu.SubmitSM {
			t.Errorf("got %s", show(got))
		}
		p.wantNothing()
	}
}

// TestOwnLinkRoom: an enquire_link that is out takes no submit's place.
func TestOwnLinkRoom(t *testing.T) {
	r := newOwnRig(t, func(o *OwnOptions) { o.Window, o.SMPP.EnquireLink = 1, 100*time.Millisecond })
	smsc := r.bind(pdu.BindTransceiver)
	r.ready(1)
	link := smsc.next()
	if link.ID() != pdu.EnquireLink {
		t.Fatalf("into silence: %s, want enquire_link", show(link))
	}
	done := r.submit()
	got := smsc.next()
	for got.ID() == pdu.EnquireLink {
		got = smsc.next()
	}
	smsc.send(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, got.Seq(), "id"))
	if res := r.result(done); res.MessageID != "id" {
		t.Errorf("result %+v", res)
	}
}

// full tells that Acquire did not wait.
func (r *ownRig) full() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	err := r.own.Acquire(ctx)
	if err == nil {
		return true
	}
	return !errors.Is(err, context.DeadlineExceeded)
}

// TestOwnAcquireWaits for a bind, and for room.
func TestOwnAcquireWaits(t *testing.T) {
	r := newOwnRig(t, func(o *OwnOptions) { o.Window = 1 })
	got := make(chan error, 1)
	go func() { got <- r.own.Acquire(context.Background()) }()
	smsc := r.bind(pdu.BindTransceiver)
	if err := <-got; err != nil {
		t.Fatalf("Acquire() = %v", err)
	}
	go func() { got <- r.own.Acquire(context.Background()) }()
	r.own.Release()
	if err := <-got; err != nil {
		t.Fatalf("second Acquire() = %v", err)
	}
	done := make(chan Result, 1)
	r.own.Submit(sms(pdu.SubmitSM, nil), func(res Result) { done <- res })
	go func() { got <- r.own.Acquire(context.Background()) }()
	smsc.send(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, smsc.next().Seq(), "id"))
	if err := <-got; err != nil {
		t.Fatalf("third Acquire() = %v", err)
	}
	r.result(done)
	r.own.Release()
}

// TestOwnLinkLost: what was written is of unknown outcome; what was not is
// certainly not sent.
func TestOwnLinkLost(t *testing.T) {
	r := newOwnRig(t, func(o *OwnOptions) { o.Window = 5 })
	smsc := r.bind(pdu.BindTransceiver)
	r.ready(1)
	var done []chan Result
	for range 4 {
		done = append(done, r.submit())
	}
	r.acquire() // and has not submitted yet
	for range 4 {
		smsc.next()
	}
	_ = smsc.conn.Close()
	for _, d := range done {
		if res := r.result(d); !res.Sent || res.Err == nil {
			t.Errorf("outstanding at the loss: %+v, want sent, with an error", res)
		}
	}
	r.ready(0)
	late := make(chan Result, 1)
	r.own.Submit(sms(pdu.SubmitSM, nil), func(res Result) { late <- res })
	if res := r.result(late); res.Sent || res.Err == nil {
		t.Errorf("submitted after the loss: %+v, want not sent, with an error", res)
	}
	if n := r.own.State().Window; n != 0 {
		t.Errorf("%d submits are outstanding after the loss, want 0", n)
	}
}

func TestOwnTimeout(t *testing.T) {
	r := newOwnRig(t, func(o *OwnOptions) { o.SMPP.Response = 2 * time.Second })
	smsc := r.bind(pdu.BindTransceiver)
	r.ready(1)
	done := r.submit()
	late := smsc.next()
	if res := r.result(done); !res.Sent || !errors.Is(res.Err, smpp.ErrTimeout) {
		t.Errorf("never answered: %+v, want sent, %v", res, smpp.ErrTimeout)
	}
	smsc.send(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, late.Seq(), "late"))
	done = r.submit()
	smsc.send(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, smsc.next().Seq(), "id"))
	if res := r.result(done); res.MessageID != "id" {
		t.Errorf("after a late answer: %+v", res)
	}
}

// TestOwnUnbindFromTheSMSC: answered, outstanding submits are unknown, and the
// bind comes back.
func TestOwnUnbindFromTheSMSC(t *testing.T) {
	r := newOwnRig(t, nil)
	smsc := r.bind(pdu.BindTransceiver)
	r.ready(1)
	done := r.submit()
	smsc.next()
	smsc.send(pdu.AppendHeader(nil, pdu.Unbind, pdu.ROK, 9))
	smsc.wantHeader(pdu.UnbindResp, pdu.ROK, 9)
	smsc.wantEnd()
	if res := r.result(done); !res.Sent || res.Err == nil {
		t.Errorf("outstanding at the unbind: %+v, want sent, with an error", res)
	}
	r.bind(pdu.BindTransceiver)
	r.ready(1)
}

// TestOwnStops: an unbind, room for it even when the window is full, and what
// the SMSC still answers counts.
func TestOwnStops(t *testing.T) {
	r := newOwnRig(t, func(o *OwnOptions) { o.Window = 1 })
	smsc := r.bind(pdu.BindTransceiver)
	r.ready(1)
	done := r.submit()
	seq := smsc.next().Seq()
	r.stop()
	unbind := smsc.next()
	if unbind.ID() != pdu.Unbind {
		t.Fatalf("at the stop: %s, want unbind", show(unbind))
	}
	smsc.send(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, seq, "id"),
		pdu.AppendHeader(nil, pdu.UnbindResp, pdu.ROK, unbind.Seq()))
	smsc.wantEnd()
	if res := r.result(done); res.MessageID != "id" {
		t.Errorf("answered before the end: %+v", res)
	}
	select {
	case <-r.ended:
	case <-time.After(patience):
		t.Fatal("Run() does not return")
	}
}

// TestOwnStopsUnbound: between attempts, and while the SMSC is mute.
func TestOwnStopsUnbound(t *testing.T) {
	for name, prepare := range map[string]func(*ownRig){
		"mute":       func(r *ownRig) { r.smsc.accept().next() },
		"hanging up": func(r *ownRig) { _ = r.smsc.accept().conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			r := newOwnRig(t, nil)
			prepare(r)
			r.stop()
			select {
			case <-r.ended:
			case <-time.After(patience):
				t.Fatal("Run() does not return")
			}
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if err := r.own.Acquire(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("Acquire() without a bind = %v, want %v", err, context.Canceled)
			}
		})
	}
}
