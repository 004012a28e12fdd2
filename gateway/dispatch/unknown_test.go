package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// stray is a receipt under an id that no submit_sm_resp gave, from recipient to
// sender.
func (b *box) stray(id, recipient, sender string) chan pdu.Status {
	answer := make(chan pdu.Status, 2)
	b.d.OnReceipt(CarrierReceipt{
		SMSC: "smsc-own", ID: id, State: smpp.StateDelivered, Err: "000", Recipient: recipient, Sender: sender,
	}, func(s pdu.Status) { answer <- s })
	return answer
}

// lost is a message whose SMS was written and never answered.
func (b *box) lost(set func(*spool.Message)) msg.ID {
	b.t.Helper()
	m := b.message()
	m.From = "Parcel24"
	if set != nil {
		set(m)
	}
	n := len(b.carrier.submits())
	id := b.put(m)
	synctest.Wait()
	b.carrier.submits()[n].done(Submitted{Sent: true, Err: errLink})
	b.wantState(id, msg.SMSUnknown)
	return id
}

// TestSettledByAddress: a receipt with an unknown id, between the same two as
// the one SMS of unknown fate, tells of it; nothing is sent twice.
func TestSettledByAddress(t *testing.T) {
	for _, c := range []struct{ name, recipient, sender, from string }{
		{"alphanumeric", "447700900042", "Parcel24", "Parcel24"},
		{"with a + in the receipt", "+447700900042", "+447700800001", "447700800001"},
		{"with a + in the message", "447700900042", "447700800001", "+447700800001"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, nil)
				id := b.lost(func(m *spool.Message) { m.From = c.from })
				answer := b.stray("4711", c.recipient, c.sender)
				b.wantNoAnswer(answer)
				time.Sleep(unclaimedAfter + time.Second)
				b.wantState(id, msg.SMSDelivered)
				b.wantAnswer(answer, pdu.ROK)
				time.Sleep(time.Minute)
				synctest.Wait()
				if n := len(b.carrier.submits()); n != 1 || b.d.Counters.Resubmitted.Load() != 0 || b.d.Counters.ReceiptsByAddress.Load() != 1 {
					t.Errorf("%d SMS, %d resubmitted, %d by address; want 1, 0, 1",
						n, b.d.Counters.Resubmitted.Load(), b.d.Counters.ReceiptsByAddress.Load())
				}
				if told := b.told(); len(told) != 1 || told[0].SMSErr != "DELIVRD 000" {
					t.Errorf("receipts %+v, want one with the carrier's word", told)
				}
			})
		})
	}
}

// TestNotSettledByAddress: whatever leaves a doubt settles nothing, and the SMS
// is sent again.
func TestNotSettledByAddress(t *testing.T) {
	type step = func(*box) msg.ID
	for _, c := range []struct {
		name string
		act  step
	}{
		{"another recipient", func(b *box) msg.ID {
			id := b.lost(nil)
			b.stray("4711", "447700900043", "Parcel24")
			return id
		}},
		{"another sender", func(b *box) msg.ID {
			id := b.lost(nil)
			b.stray("4711", "447700900042", "Parcel")
			return id
		}},
		{"two between the same", func(b *box) msg.ID {
			id := b.lost(nil)
			b.lost(nil)
			b.stray("4711", "447700900042", "Parcel24")
			return id
		}},
		{"of the first copy of a message that was sent again", func(b *box) msg.ID {
			b.lost(nil)
			time.Sleep(unknownRest)
			synctest.Wait()
			accept(2, b.carrier.submits()[1])
			id := b.lost(nil)
			b.stray("4711", "447700900042", "Parcel24")
			return id
		}},
		{"repeated for a message that has its outcome", func(b *box) msg.ID {
			b.carrier.script = func(n int, w written) {
				if n == 1 {
					accept(n, w)
				}
			}
			m := b.message()
			m.From = "Parcel24"
			m.RegisteredDelivery = 0 // it leaves the spool with its outcome
			first := b.put(m)
			b.wantState(first, msg.SMSSubmitted)
			b.wantAnswer(b.stray("id1", "447700900042", "Parcel24"), pdu.ROK)
			b.wantState(first, msg.SMSDelivered)
			id := b.lost(nil)
			b.wantAnswer(b.stray("id1", "447700900042", "Parcel24"), pdu.ROK) // at once
			return id
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, nil)
				id := c.act(b)
				before := len(b.carrier.submits())
				time.Sleep(unknownRest - time.Second)
				b.wantState(id, msg.SMSUnknown)
				if n := len(b.carrier.submits()); n != before {
					t.Errorf("%d SMS before the wait is over, want %d", n, before)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if n := len(b.carrier.submits()); n <= before || b.d.Counters.ReceiptsByAddress.Load() != 0 {
					t.Errorf("%d SMS after it, %d receipts by address; want more than %d, 0", n, b.d.Counters.ReceiptsByAddress.Load(), before)
				}
			})
		})
	}
}

// TestLateResponseClaimsItsReceipt: within two seconds a receipt is its
// submit_sm_resp's, whatever else is unknown between the same two.
func TestLateResponseClaimsItsReceipt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		unknown := b.lost(nil)
		m := b.message()
		m.From = "Parcel24"
		id := b.put(m)
		synctest.Wait()
		answer := b.stray("id2", "447700900042", "Parcel24")
		time.Sleep(unclaimedAfter - 500*time.Millisecond)
		accept(2, b.carrier.submits()[1])
		b.wantState(id, msg.SMSDelivered)
		b.wantAnswer(answer, pdu.ROK)
		time.Sleep(5 * time.Second)
		b.wantState(unknown, msg.SMSUnknown)
	})
}

// TestSuspectsEnd: a while after validity a message stands in nobody's way.
func TestSuspectsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		first := b.lost(func(m *spool.Message) { m.ExpiresAt = time.Now().Add(time.Minute) })
		time.Sleep(unknownRest)
		synctest.Wait()
		accept(2, b.carrier.submits()[1])
		b.wantAnswer(b.receipt("id2", smpp.StateDelivered, ""), pdu.ROK)
		b.wantState(first, msg.SMSDelivered)
		time.Sleep(time.Minute + suspectGrace)
		id := b.lost(nil)
		b.stray("4711", "447700900042", "Parcel24")
		time.Sleep(unclaimedAfter + time.Second)
		b.wantState(id, msg.SMSDelivered)
	})
}

// TestSuspectsAfterARestart: a message that was sent again before it counts.
func TestSuspectsAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := open(t, dir, nil)
		b.run()
		b.lost(nil)
		time.Sleep(unknownRest)
		synctest.Wait()
		accept(2, b.carrier.submits()[1])
		synctest.Wait()
		b.close()
		b = open(t, dir, nil)
		b.run()
		id := b.lost(nil)
		b.stray("4711", "447700900042", "Parcel24")
		time.Sleep(unclaimedAfter + time.Second)
		b.wantState(id, msg.SMSUnknown)
	})
}

// TestRepeatedAfterARestart: a receipt of a message that had its outcome before it
// is not taken for that of another between the same two.
func TestRepeatedAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := open(t, dir, nil)
		b.carrier.script = accept
		b.run()
		m := b.message()
		m.From = "Parcel24"
		m.RegisteredDelivery = 0 // it leaves the spool with its outcome
		first := b.put(m)
		b.wantState(first, msg.SMSSubmitted)
		b.wantAnswer(b.stray("id1", "447700900042", "Parcel24"), pdu.ROK)
		b.wantState(first, msg.SMSDelivered)
		b.close()
		b = open(t, dir, nil)
		b.run()
		id := b.lost(nil)
		again := b.stray("id1", "447700900042", "Parcel24")
		time.Sleep(unclaimedAfter + time.Second)
		b.wantAnswer(again, pdu.ROK)
		b.wantState(id, msg.SMSUnknown)
		own := b.stray("id7", "447700900042", "Parcel24")
		time.Sleep(unclaimedAfter + time.Second)
		b.wantAnswer(own, pdu.ROK)
		b.wantState(id, msg.SMSDelivered)
	})
}

// TestSettledIsBounded in number and in time.
func TestSettledIsBounded(t *testing.T) {
	var s settled
	now := time.Now()
	r := spool.Record{Peer: "smsc-own"}
	s.add(&r, now)
	if s.has("smsc-own", "") {
		t.Error("an SMS without an id is remembered")
	}
	r.SMSID = "first"
	s.add(&r, now)
	if !s.has("smsc-own", "first") || s.has("smsc-other", "first") || s.has("smsc-own", "second") {
		t.Error("has() does not tell the SMS of one SMSC")
	}
	for i, id := range []string{"second", "third"} {
		r.SMSID = id
		s.add(&r, now.Add(time.Duration(i+1)*settledFor))
		if got, want := s.has("smsc-own", "first"), i == 0; got != want {
			t.Errorf("after %d turns: first is remembered %t, want %t", i+1, got, want)
		}
	}
	for i := range 3 * maxSettled {
		r.SMSID = string([]byte{byte(i), byte(i >> 8), byte(i >> 16)})
		s.add(&r, now.Add(2*settledFor))
	}
	if n := len(s.now) + len(s.old); n > 2*maxSettled {
		t.Errorf("%d SMS are remembered, want at most %d", n, 2*maxSettled)
	}
}

// TestNoticeOfUnknown: what the ESME says of a notice sends no SMS again: only
// time does, once each.
func TestNoticeOfUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.device("phone", nil)
		id := b.put(func() *spool.Message {
			m := b.message()
			m.RegisteredDelivery = 0x11
			return m
		}())
		synctest.Wait()
		b.wantState(id, msg.Pushed)
		lose := func(n int) {
			t.Helper()
			synctest.Wait()
			if got := len(b.carrier.submits()); got != n {
				t.Fatalf("%d SMS, want %d", got, n)
			}
			b.carrier.submits()[n-1].done(Submitted{Sent: true, Err: errLink})
			b.wantState(id, msg.SMSUnknown)
		}
		b.do(spool.Event{ID: id, Kind: msg.EvPushDead})
		lose(1)
		time.Sleep(unknownRest / 2)
		b.do(spool.Event{ID: id, Kind: msg.EvReceiptTried})
		b.do(spool.Event{ID: id, Kind: msg.EvNoticeDone, Notice: msg.NoticeEnroute})
		b.do(spool.Event{ID: id, Kind: msg.EvSMSEnroute})
		time.Sleep(unknownRest/2 + time.Second)
		lose(2)
		time.Sleep(unknownRest / 2)
		synctest.Wait()
		if n := len(b.carrier.submits()); n != 2 {
			t.Errorf("%d SMS, want 2: the next one is due after a longer rest", n)
		}
	})
}
