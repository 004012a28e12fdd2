package receipt

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
)

func TestOrderAndWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, t.TempDir(), 3)
		b := &scripted{version: 0x34}
		f.up(bank, b)
		all := f.finish(bank, 8)
		synctest.Wait()
		sent := b.take()
		wantIDs(t, "a window of three", sent, all[:3])
		if n := f.d.Waiting(); n != 8 {
			t.Errorf("Waiting() = %d, want 8", n)
		}
		sent[1].answer(pdu.ROK) // in any order
		synctest.Wait()
		next := b.take()
		wantIDs(t, "one answer makes room for one", next, all[3:4])
		for _, d := range append([]delivery{sent[2], sent[0]}, next...) {
			d.answer(pdu.ROK)
		}
		synctest.Wait()
		rest := b.take()
		wantIDs(t, "the next three", rest, all[4:7])
		for len(rest) > 0 {
			rest[0].answer(pdu.ROK)
			synctest.Wait()
			rest = append(rest[1:], b.take()...)
		}
		if f.d.Sent.Load() != 8 || f.d.Waiting() != 0 || f.receiptsDue() != 0 {
			t.Errorf("%d sent, %d wait, %d due in the spool; want 8, 0, 0", f.d.Sent.Load(), f.d.Waiting(), f.receiptsDue())
		}
		synctest.Wait()
		f.d.mu.Lock()
		defer f.d.mu.Unlock()
		if len(f.d.accounts) != 0 {
			t.Errorf("%d idle accounts are kept", len(f.d.accounts))
		}
	})
}

// TestAccountsAreApart: an account that takes nothing holds up no other.
func TestAccountsAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, t.TempDir(), 2)
		slow, quick := &scripted{version: 0x33}, &scripted{version: 0x34}
		other := msg.Account{SystemID: "bank", SystemType: "ota"} // not a sibling
		f.up(bank, slow)
		f.up(other, quick)
		f.finish(bank, 5)
		all := f.finish(other, 4)
		synctest.Wait()
		for _, want := range [][]string{all[:2], all[2:]} {
			sent := quick.take()
			wantIDs(t, "the quick one", sent, want)
			for _, d := range sent {
				d.answer(pdu.ROK)
			}
			synctest.Wait()
		}
		if n := len(slow.take()); n != 2 || f.d.Waiting() != 5 {
			t.Errorf("the slow one has %d, %d wait; want its window of 2, and 5", n, f.d.Waiting())
		}
	})
}

// TestRebind: without a bind receipts wait; a new one gets them in their order,
// those first whose answers were lost with the old one.
func TestRebind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, t.TempDir(), 3)
		all := f.finish(bank, 5)
		time.Sleep(time.Minute) // of the bubble's clock: ticks pass, nothing happens
		if n := f.d.Waiting(); n != 5 {
			t.Fatalf("Waiting() without a bind = %d, want 5", n)
		}
		first := &scripted{version: 0x34}
		f.up(bank, first)
		synctest.Wait()
		sent := first.take()
		wantIDs(t, "to the first bind", sent, all[:3])
		f.up(bank, nil)
		for _, i := range []int{2, 0, 1} { // as a map of calls is walked
			sent[i].done(nil, smpp.ErrClosed)
		}
		synctest.Wait()
		if f.d.Repeated.Load() != 3 || f.receiptsDue() != 5 {
			t.Errorf("%d repeated, %d due; want 3, 5", f.d.Repeated.Load(), f.receiptsDue())
		}
		second := &scripted{version: 0x34}
		f.up(bank, second)
		synctest.Wait()
		wantIDs(t, "to the second bind", second.take(), all[:3])
	})
}

// TestLostAnswerWhileSending: an answer that is lost while the next receipt is
// on its way puts its own before it, and neither is dropped or sent twice.
func TestLostAnswerWhileSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, t.TempDir(), 2)
		all := f.finish(bank, 3)
		b := &scripted{version: 0x34}
		looked := 0
		f.mu.Lock()
		f.look = func() {
			if looked++; looked == 2 {
				b.take()[0].done(nil, smpp.ErrClosed)
			}
		}
		f.mu.Unlock()
		f.up(bank, b)
		synctest.Wait()
		sent := b.take()
		wantIDs(t, "after the loss", sent, all[:2])
		for _, d := range sent {
			d.answer(pdu.ROK)
		}
		synctest.Wait()
		sent = b.take()
		wantIDs(t, "the rest", sent, all[2:])
		sent[0].answer(pdu.ROK)
		synctest.Wait()
		if f.receiptsDue() != 0 || f.d.Sent.Load() != 3 {
			t.Errorf("%d due, %d sent; want 0, 3", f.receiptsDue(), f.d.Sent.Load())
		}
	})
}

// TestFailingDisk: a receipt that the ESME took is done although the disk
// refused to say so at first, and goes only once.
func TestFailingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, t.TempDir(), 3)
		all := f.finish(bank, 1)
		f.mu.Lock()
		f.fails = 3
		f.mu.Unlock()
		b := &scripted{version: 0x34}
		f.up(bank, b)
		synctest.Wait()
		sent := b.take()
		wantIDs(t, "to the bind", sent, all)
		sent[0].answer(pdu.ROK)
		synctest.Wait()
		if n := f.receiptsDue(); n != 1 {
			t.Fatalf("%d due while the disk fails, want 1", n)
		}
		time.Sleep(4 * time.Second) // of the bubble's clock
		synctest.Wait()
		if n := f.receiptsDue(); n != 0 || f.d.Sent.Load() != 1 || len(b.take()) != 0 {
			t.Errorf("%d due, %d sent; want 0, 1", n, f.d.Sent.Load())
		}
	})
}

// TestBindThatTakesNothing: a bind that is ending, or whose window is full,
// keeps the receipt where it was, and it goes with the next look.
func TestBindThatTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, t.TempDir(), 3)
		b := &scripted{version: 0x34, err: smpp.ErrWindowFull}
		f.up(bank, b)
		all := f.finish(bank, 4)
		synctest.Wait()
		if n := f.d.Waiting(); n != 4 || len(b.take()) != 0 {
			t.Fatalf("Waiting() = %d, want 4", n)
		}
		b.mu.Lock()
		b.err = nil
		b.mu.Unlock()
		time.Sleep(time.Second)
		synctest.Wait()
		wantIDs(t, "a second later", b.take(), all[:3])
	})
}

func TestStatuses(t *testing.T) {
	for _, c := range []struct {
		st                  pdu.Status
		sent, refused, back uint64
	}{
		{pdu.ROK, 1, 0, 0},
		{pdu.RTHROTTLED, 0, 0, 1},
		{pdu.RMSGQFUL, 0, 0, 1},
		{pdu.RXTAPPN, 0, 0, 1},
		{pdu.RSYSERR, 0, 0, 1},
		{pdu.RINVBNDSTS, 0, 0, 1},
		{0x65, 0, 1, 0}, // ESME_RX_P_APPN
		{0x66, 0, 1, 0}, // ESME_RX_R_APPN
		{pdu.RINVDSTADR, 0, 1, 0},
		{0x401, 0, 1, 0}, // a vendor's
	} {
		t.Run(c.st.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := start(t, t.TempDir(), 2)
				b := &scripted{version: 0x34}
				f.up(bank, b)
				all := f.finish(bank, 3)
				synctest.Wait()
				sent := b.take()
				wantIDs(t, "first", sent, all[:2])
				sent[0].answer(c.st)
				synctest.Wait()
				if f.d.Sent.Load() != c.sent || f.d.Refused.Load() != c.refused || f.d.Repeated.Load() != c.back {
					t.Errorf("%d sent, %d refused, %d repeated; want %d, %d, %d",
						f.d.Sent.Load(), f.d.Refused.Load(), f.d.Repeated.Load(), c.sent, c.refused, c.back)
				}
				if c.back == 0 {
					wantIDs(t, "the next", b.take(), all[2:])
					if n := f.receiptsDue(); n != 2 {
						t.Errorf("%d due, want 2: this one is done", n)
					}
					return
				}
				time.Sleep(999 * time.Millisecond)
				synctest.Wait()
				wantIDs(t, "while the account rests", b.take(), nil)
				time.Sleep(1001 * time.Millisecond)
				synctest.Wait()
				wantIDs(t, "after that", b.take(), all[:1]) // the second is still out
				if n := f.receiptsDue(); n != 3 {
					t.Errorf("%d due, want 3", n)
				}
			})
		})
	}
}

// TestGenericNack: an ESME that does not know deliver_sm refuses it for good.
func TestGenericNack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, t.TempDir(), 1)
		b := &scripted{version: 0x34}
		f.up(bank, b)
		f.finish(bank, 1)
		synctest.Wait()
		b.take()[0].done(pdu.AppendHeader(nil, pdu.GenericNack, pdu.ROK, 1), nil)
		synctest.Wait()
		if f.d.Refused.Load() != 1 || f.d.Sent.Load() != 0 || f.receiptsDue() != 0 {
			t.Errorf("%d refused, %d sent, %d due; want 1, 0, 0", f.d.Refused.Load(), f.d.Sent.Load(), f.receiptsDue())
		}
	})
}

// TestAbandoned: a receipt that nobody takes ends 72 h after its message.
func TestAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, t.TempDir(), 2)
		f.finish(bank, 3)
		f.ahead.Store(int64(time.Hour + 72*time.Hour - time.Minute))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if f.d.Abandoned.Load() != 0 || f.d.Waiting() != 3 {
			t.Fatalf("a minute before: %d abandoned, %d wait; want 0, 3", f.d.Abandoned.Load(), f.d.Waiting())
		}
		f.ahead.Add(int64(time.Minute))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if f.d.Abandoned.Load() != 3 || f.d.Waiting() != 0 || f.receiptsDue() != 0 {
			t.Errorf("%d abandoned, %d wait, %d due; want 3, 0, 0", f.d.Abandoned.Load(), f.d.Waiting(), f.receiptsDue())
		}
	})
}

// TestRestart: what no ESME took is delivered by the next process, once.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f := start(t, dir, 2)
		b := &scripted{version: 0x34}
		f.up(bank, b)
		all := f.finish(bank, 4)
		synctest.Wait()
		sent := b.take()
		sent[0].answer(pdu.ROK)
		synctest.Wait()
		f.stop()
		<-f.ended
		if err := f.spool.Close(); err != nil {
			t.Fatalf("spool.Close() = %v", err)
		}
		sent[1].done(nil, smpp.ErrClosed) // after the end: nothing is lost by it
		if f.d.sendOne(f.d.accounts[bank]) {
			t.Error("a closed spool let a receipt go")
		}
		if n := f.d.Abandoned.Load(); n != 0 {
			t.Errorf("%d abandoned because the spool was closed, want 0", n)
		}
		g := start(t, dir, 10)
		b = &scripted{version: 0x34}
		g.up(bank, b)
		synctest.Wait()
		wantIDs(t, "after the restart", b.take(), all[1:])
	})
}

// session is a bind over TCP.
type session struct{ *smpp.Session }

func (session) InterfaceVersion() byte { return 0x34 }
func (session) String() string         { return "bind=7 rx 192.0.2.1:4711" }

func (s session) Deliver(p pdu.PDU, done func(pdu.PDU, error)) error { return s.Call(p, done) }

// TestConcurrently runs accounts, binds that break and messages that end at
// once, over real connections: every receipt arrives, and every one is done.
func TestConcurrently(t *testing.T) {
	const accounts, each = 4, 60
	f := start(t, t.TempDir(), 8)
	f.left, f.all = accounts*each, make(chan struct{})
	var mu sync.Mutex
	arrived := make(map[string]int)
	took := func(id string) {
		mu.Lock()
		arrived[id]++
		mu.Unlock()
	}
	var wg sync.WaitGroup
	for i := range accounts {
		a := msg.Account{SystemID: fmt.Sprintf("esme%d", i)}
		wg.Go(func() { f.finish(a, each) })
		wg.Go(func() { f.bindUntilAll(a, took) })
	}
	wg.Wait()
	if got := f.d.Sent.Load(); got != accounts*each || len(arrived) != accounts*each || f.d.Waiting() != 0 {
		t.Errorf("%d answered, %d arrived, %d wait; want %d, %[4]d, 0", got, len(arrived), f.d.Waiting(), accounts*each)
	}
	if n := f.receiptsDue(); n != 0 {
		t.Errorf("%d receipts are due in the spool, want 0", n)
	}
	if f.d.Repeated.Load() == 0 {
		t.Error("no answer was ever lost: the binds never broke in time")
	}
}

// bindUntilAll binds over TCP, breaks on every tenth receipt without answering
// it, and binds again, until all receipts of the fixture are taken.
func (f *fixture) bindUntilAll(a msg.Account, took func(id string)) {
	for {
		near, far := connect(f.t)
		e := &esme{Session: smpp.NewSession(far, smpp.Config{}), took: took}
		s := session{smpp.NewSession(near, smpp.Config{})}
		served := make(chan struct{})
		go func() {
			_ = s.Serve(nothing{})
			close(served)
		}()
		f.up(a, s)
		ended := make(chan struct{})
		go func() {
			_ = e.Serve(e)
			close(ended)
		}()
		over := false
		select {
		case <-ended:
		case <-f.all:
			over = true
			e.Close(smpp.ErrClosed)
			<-ended
		}
		f.up(a, nil)
		s.Close(smpp.ErrClosed)
		<-served
		if over {
			return
		}
	}
}
