package dispatch

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// canceled is a context that has ended.
func canceled() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx, cancel
}

// TestReceipts: what the SMSC says in the end, in its own words, once.
func TestReceipts(t *testing.T) {
	for _, c := range []struct {
		st     smpp.MessageState
		err    string
		want   msg.State
		smsErr string
	}{
		{smpp.StateDelivered, "000", msg.SMSDelivered, "DELIVRD 000"},
		{smpp.StateDelivered, "", msg.SMSDelivered, "DELIVRD"},
		{smpp.StateExpired, "011", msg.Expired, "EXPIRED 011"},
		{smpp.StateDeleted, "001", msg.SMSFailed, "DELETED 001"},
		{smpp.StateUndeliverable, "034", msg.SMSFailed, "UNDELIV 034"},
		{smpp.StateUnknown, "", msg.SMSFailed, "UNKNOWN"},
		{smpp.StateRejected, "a b c", msg.SMSFailed, "REJECTD abc"},
	} {
		t.Run(c.st.Stat()+" "+c.err, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, nil)
				b.carrier.script = accept
				id := b.put(b.message())
				b.wantState(id, msg.SMSSubmitted)
				for _, st := range []smpp.MessageState{smpp.StateEnroute, smpp.StateAccepted} { // not the end
					b.wantAnswer(b.receipt("id1", st, ""), pdu.ROK)
				}
				b.wantState(id, msg.SMSSubmitted)
				done := time.Now().Add(-time.Second)
				b.wantAnswer(b.receipt("id1", c.st, c.err), pdu.ROK)
				r := b.wantState(id, c.want)
				if r.SMSErr != c.smsErr || !r.DoneAt.Equal(done) || len(b.told()) != 1 {
					t.Errorf("err %q, done %s, %d receipts; want %q, %s, 1", r.SMSErr, r.DoneAt, len(b.told()), c.smsErr, done)
				}
				if reason, _ := b.reason(id, b.last(id)); reason != msg.ReasonReceipt {
					t.Errorf("reason %s, want %s", reason, msg.ReasonReceipt)
				}
				// Repeated while our own receipt is still due: answered, and without effect.
				b.wantAnswer(b.receipt("id1", smpp.StateUndeliverable, "099"), pdu.ROK)
				if again := b.wantState(id, c.want); again.SMSErr != c.smsErr || len(b.told()) != 1 {
					t.Errorf("a repeated receipt made it %q, %d receipts", again.SMSErr, len(b.told()))
				}
			})
		})
	}
}

// TestIntermediateOfTheCarrier: what an SMSC says of a fallback before its end
// is passed on to an ESME that asked for it, each time, and to no other.
func TestIntermediateOfTheCarrier(t *testing.T) {
	for _, c := range []struct {
		registered byte
		notices    int // of three that the SMSC sends
		upstream   byte
	}{{0x11, 3, 0x11}, {0x10, 3, 0x11}, {0x01, 0, 0x01}, {0x00, 0, 0x01}} {
		t.Run(fmt.Sprintf("%#02x", c.registered), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, nil)
				b.carrier.script = accept
				m := b.message()
				m.RegisteredDelivery = c.registered
				m.PDU = submitSM(func(sm *pdu.SM) { sm.RegisteredDelivery = c.registered })
				id := b.put(m)
				b.wantState(id, msg.SMSSubmitted)
				var sm pdu.SM
				if err := sm.Decode(b.carrier.submits()[0].p); err != nil || sm.RegisteredDelivery != c.upstream {
					t.Errorf("the carrier was asked for %#02x, %v; want %#02x", sm.RegisteredDelivery, err, c.upstream)
				}
				for i := range 3 {
					b.wantAnswer(b.receipt("id1", smpp.StateEnroute, ""), pdu.ROK)
					r := b.wantState(id, msg.SMSSubmitted)
					if owed := r.Owed == msg.NoticeEnroute; owed != (c.notices > 0) || len(b.told()) != min(i+1, c.notices) {
						t.Fatalf("notification %d: owed %t, %d told", i+1, owed, len(b.told()))
					}
					b.wantAnswer(b.receipt("id1", smpp.StateAccepted, ""), pdu.ROK) // while that is owed: no second
					if c.notices > 0 {
						if res := b.spool.Do(t.Context(), spool.Event{ID: id, Kind: msg.EvNoticeDone, Notice: msg.NoticeEnroute}); res.Err != nil {
							t.Fatal(res.Err)
						}
					}
				}
				b.wantAnswer(b.receipt("id2", smpp.StateEnroute, ""), pdu.ROK) // of nothing
				b.wantAnswer(b.receipt("id1", smpp.StateDelivered, "000"), pdu.ROK)
				if r := b.wantState(id, msg.SMSDelivered); r.ReceiptDue != (c.registered&1 != 0) || r.Owed != 0 {
					t.Errorf("at the end: receipt due %t, owed %03b", r.ReceiptDue, r.Owed)
				}
			})
		})
	}
}

// TestEarlyIntermediate: one that comes before the submit_sm_resp is answered at
// once, and passed on afterwards; one of nothing is let go.
func TestEarlyIntermediate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		m := b.message()
		m.RegisteredDelivery = 0x11
		id := b.put(m)
		synctest.Wait()
		b.wantAnswer(b.receipt("id1", smpp.StateEnroute, ""), pdu.ROK)
		b.wantAnswer(b.receipt("id9", smpp.StateEnroute, ""), pdu.ROK)
		accept(1, b.carrier.submits()[0])
		if r := b.wantState(id, msg.SMSSubmitted); r.Owed != msg.NoticeEnroute || len(b.told()) != 1 {
			t.Errorf("owed %03b, %d told; want the intermediate notification", r.Owed, len(b.told()))
		}
		time.Sleep(2 * holdTime)
		if left := b.d.early.older(time.Now()); len(left) != 0 {
			t.Errorf("%d are still held", len(left))
		}
	})
}

// last is the kind of the last event in the trace.
func (b *box) last(id msg.ID) msg.Event {
	b.t.Helper()
	steps, err := b.spool.Trace(id)
	if err != nil {
		b.t.Fatalf("Trace(%s) = %v", id, err)
	}
	return steps[len(steps)-1].Event
}

// TestTrap03ReceiptBeforeResponse: it is held, answered when it is durable, and
// counts.
func TestTrap03ReceiptBeforeResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		id := b.put(b.message())
		synctest.Wait()
		answer := b.receipt("id1", smpp.StateDelivered, "000")
		b.wantNoAnswer(answer)
		time.Sleep(20 * time.Second)
		b.wantNoAnswer(answer)
		b.wantState(id, msg.Fallback)
		accept(1, b.carrier.submits()[0])
		b.wantState(id, msg.SMSDelivered)
		b.wantAnswer(answer, pdu.ROK)
		time.Sleep(2 * holdTime)
		b.wantNoAnswer(answer)
		if b.d.Counters.ReceiptsHeld.Load() != 1 || b.d.Counters.ReceiptsUnknown.Load() != 0 || len(b.told()) != 1 {
			t.Errorf("%d held, %d unknown, %d told; want 1, 0, 1", b.d.Counters.ReceiptsHeld.Load(), b.d.Counters.ReceiptsUnknown.Load(), len(b.told()))
		}
	})
}

// TestReceiptToNothing: it is answered after the hold, so that the SMSC does
// not send it for ever; a repetition does not leave the first one open.
func TestReceiptToNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.carrier.script = accept
		b.wantState(b.put(b.message()), msg.SMSSubmitted)
		first := b.receipt("nobody's", smpp.StateDelivered, "")
		time.Sleep(10 * time.Second)
		second := b.receipt("nobody's", smpp.StateDelivered, "")
		b.wantAnswer(first, pdu.ROK)
		time.Sleep(holdTime - time.Second)
		b.wantNoAnswer(second)
		time.Sleep(2500 * time.Millisecond)
		b.wantAnswer(second, pdu.ROK)
		if n := b.d.Counters.ReceiptsUnknown.Load(); n != 1 {
			t.Errorf("ReceiptsUnknown = %d, want 1", n)
		}
		// The id of another SMSC is no id of ours.
		other := make(chan pdu.Status, 1)
		b.d.OnReceipt(CarrierReceipt{SMSC: "smsc-other", ID: "id1", State: smpp.StateDelivered}, func(s pdu.Status) { other <- s })
		b.wantNoAnswer(other)
	})
}

// TestHoldIsBounded: what cannot be held is for the SMSC to send again.
func TestHoldIsBounded(t *testing.T) {
	var h heldReceipts
	now := time.Now()
	answered := 0
	for i := range maxHeld {
		if !h.hold(CarrierReceipt{ID: fmt.Sprint(i)}, func(pdu.Status) { answered++ }, now) {
			t.Fatalf("hold() refused the receipt %d of %d", i, maxHeld)
		}
	}
	if h.hold(CarrierReceipt{ID: "one more"}, func(pdu.Status) { answered++ }, now) {
		t.Error("hold() took more than it may")
	}
	if !h.hold(CarrierReceipt{ID: "7"}, func(pdu.Status) {}, now) || answered != 1 {
		t.Errorf("a repetition of a held one: %d answered, want the first", answered)
	}
	d := New(Options{Spool: &flaky{Spool: start(t, nil).spool}})
	d.held.m = h.m
	var got pdu.Status
	d.OnReceipt(CarrierReceipt{ID: "one more", State: smpp.StateDelivered}, func(s pdu.Status) { got = s })
	if got != pdu.RXTAPPN {
		t.Errorf("a receipt beyond the bound was answered %s, want %s", got, pdu.RXTAPPN)
	}
}

// TestReceiptNotDurable: a temporary error, so that the SMSC keeps it; sent
// again, it counts.
func TestReceiptNotDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.carrier.script = accept
		id := b.put(b.message())
		b.wantState(id, msg.SMSSubmitted)
		b.flaky.set(func(e spool.Event) error {
			if e.Kind == msg.EvSMSDelivered {
				return errDisk
			}
			return nil
		})
		b.wantAnswer(b.receipt("id1", smpp.StateDelivered, "000"), pdu.RXTAPPN)
		b.wantState(id, msg.SMSSubmitted)
		b.flaky.set(nil)
		b.wantAnswer(b.receipt("id1", smpp.StateDelivered, "000"), pdu.ROK)
		b.wantState(id, msg.SMSDelivered)
		if n := len(b.told()); n != 1 {
			t.Errorf("%d receipts, want 1", n)
		}
		b.close()
		answer := make(chan pdu.Status, 1)
		b.d.postReceipt(id, CarrierReceipt{SMSC: "smsc-own", ID: "id1", State: smpp.StateDelivered}, func(s pdu.Status) { answer <- s })
		if got := <-answer; got != pdu.RXTAPPN {
			t.Errorf("answered %s after the spool was closed, want %s", got, pdu.RXTAPPN)
		}
	})
}

// TestNoReceiptWanted: an ESME that asked for none is told nothing.
func TestNoReceiptWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.carrier.script = accept
		m := b.message()
		m.RegisteredDelivery = 0
		id := b.put(m)
		b.wantState(id, msg.SMSSubmitted)
		b.wantAnswer(b.receipt("id1", smpp.StateDelivered, ""), pdu.ROK)
		b.wantState(id, msg.SMSDelivered)
		if len(b.told()) != 0 || len(b.finished) != 1 {
			t.Errorf("%d receipts, %d finished; want 0, 1", len(b.told()), len(b.finished))
		}
	})
}
