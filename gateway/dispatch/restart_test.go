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

// TestRestart stops in every state and starts again: exactly one outcome, one
// receipt, and never an SMS more than the state allows.
func TestRestart(t *testing.T) {
	claim := spool.Event{Kind: msg.EvClaim, Device: "phone"}
	delivered := spool.Event{Kind: msg.EvDelivered, Device: "phone"}
	accepted := spool.Event{Kind: msg.EvSMSAccepted, Peer: "smsc-own", SMSID: "id1"}
	ev := func(k msg.Event) spool.Event { return spool.Event{Kind: k} }
	for _, c := range []struct {
		name        string
		prefer      msg.Prefer
		events      []spool.Event
		pushes      int
		sms         int
		resubmitted uint64
		want        msg.State
	}{
		{"ACCEPTED", 0, nil, 1, 1, 0, msg.SMSDelivered},
		{"PUSHING", 0, []spool.Event{ev(msg.EvPushBegin)}, 1, 1, 0, msg.SMSDelivered},
		{"PUSHED", 0, []spool.Event{ev(msg.EvPushBegin), ev(msg.EvPushAccepted)}, 0, 1, 0, msg.SMSDelivered},
		{"CLAIMED, possible-loss", msg.PossibleLoss, []spool.Event{claim}, 0, 0, 0, msg.Unknown},
		{"CLAIMED, possible-duplicate", msg.PossibleDuplicate, []spool.Event{claim}, 0, 1, 0, msg.SMSDelivered},
		{"DELIVERED", 0, []spool.Event{claim, delivered}, 0, 0, 0, msg.Delivered},
		{"FALLBACK", 0, []spool.Event{ev(msg.EvPushDead)}, 0, 1, 0, msg.SMSDelivered},
		{"FALLBACK, begun", 0, []spool.Event{ev(msg.EvPushDead), ev(msg.EvSMSBegin)}, 0, 1, 1, msg.SMSDelivered},
		{"FALLBACK, after a temporary status", 0, []spool.Event{ev(msg.EvPushDead), ev(msg.EvSMSBegin), ev(msg.EvSMSTemporary)}, 0, 1, 0, msg.SMSDelivered},
		{"SMS_UNKNOWN", 0, []spool.Event{ev(msg.EvPushDead), ev(msg.EvSMSBegin), ev(msg.EvSMSLost)}, 0, 1, 1, msg.SMSDelivered},
		{"SMS_UNKNOWN, begun", 0, []spool.Event{ev(msg.EvPushDead), ev(msg.EvSMSBegin), ev(msg.EvSMSLost), ev(msg.EvSMSResubmit)}, 0, 1, 1, msg.SMSDelivered},
		{"SMS_SUBMITTED", 0, []spool.Event{ev(msg.EvPushDead), ev(msg.EvSMSBegin), accepted}, 0, 0, 0, msg.SMSDelivered},
		{"SMS_DELIVERED", 0, []spool.Event{ev(msg.EvPushDead), ev(msg.EvSMSBegin), accepted, ev(msg.EvSMSDelivered)}, 0, 0, 0, msg.SMSDelivered},
		{"SMS_FAILED", 0, []spool.Event{ev(msg.EvPushDead), ev(msg.EvSMSBegin), ev(msg.EvSMSPermanent)}, 0, 0, 0, msg.SMSFailed},
		{"EXPIRED", 0, []spool.Event{ev(msg.EvValidity)}, 0, 0, 0, msg.Expired},
		{"UNKNOWN", 0, []spool.Event{claim, ev(msg.EvValidity)}, 0, 0, 0, msg.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				before := open(t, dir, func(o *Options) { o.Apps[0].Workers = 1 })
				before.device("phone", nil)
				before.spool.Start() // and nobody works
				m := before.message()
				m.Prefer, m.ExpiresAt = c.prefer, time.Now().Add(time.Minute)
				id := before.put(m)
				for _, e := range c.events {
					e.ID = id
					if r := before.do(e); r.Err != nil {
						t.Fatalf("%s: %v", e.Kind, r.Err)
					}
				}
				before.close()

				b := open(t, dir, nil)
				b.carrier.script = accept
				b.run()
				time.Sleep(30 * time.Second) // the claim deadline and the lease are over, and an unknown SMS was sent again
				synctest.Wait()
				if !b.get(id).State.Final() && c.want == msg.SMSDelivered {
					b.wantAnswer(b.receipt("id1", smpp.StateDelivered, "000"), pdu.ROK)
				}
				time.Sleep(100 * time.Second) // validity is over, and a receipt's grace
				b.wantState(id, c.want)
				if n := len(b.provider.pushes()); n != c.pushes {
					t.Errorf("%d pushes, want %d", n, c.pushes)
				}
				if n := len(b.carrier.submits()); n != c.sms || b.d.Counters.Resubmitted.Load() != c.resubmitted {
					t.Errorf("%d SMS, %d resubmitted; want %d, %d; trace:%s", n, b.d.Counters.Resubmitted.Load(), c.sms, c.resubmitted, b.trace(id))
				}
				if told := b.told(); len(told) != 1 || told[0].State != c.want {
					t.Errorf("receipts %+v, want one of %s", told, c.want)
				}
				// A third start finds the receipt, and nothing else to do.
				b.close()
				last := open(t, dir, nil)
				last.run()
				time.Sleep(15 * time.Second)
				synctest.Wait()
				if told := last.told(); len(told) != 1 || len(last.carrier.submits())+len(last.provider.pushes()) != 0 {
					t.Errorf("at the third start: %d receipts, %d SMS, %d pushes; want 1, 0, 0",
						len(told), len(last.carrier.submits()), len(last.provider.pushes()))
				}
			})
		})
	}
}

// TestRestartTooLate: after a stop beyond validity nothing is pushed or sent.
func TestRestartTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		before := open(t, dir, nil)
		before.device("phone", nil)
		before.spool.Start()
		waiting := before.put(before.message())
		falling := before.put(before.message())
		if r := before.do(spool.Event{ID: falling, Kind: msg.EvPushDead}); r.Err != nil {
			t.Fatalf("push-dead: %v", r.Err)
		}
		before.close()
		time.Sleep(2 * time.Hour)
		b := open(t, dir, nil)
		b.run()
		for _, id := range []msg.ID{waiting, falling} {
			b.wantState(id, msg.Expired)
		}
		if n, m := len(b.provider.pushes()), len(b.carrier.submits()); n != 0 || m != 0 || len(b.told()) != 2 {
			t.Errorf("%d pushes, %d SMS, %d receipts; want 0, 0, 2", n, m, len(b.told()))
		}
	})
}
