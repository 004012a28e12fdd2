package dispatch

import (
	"bytes"
	"encoding/hex"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
	"shunt/push"
	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

var errLink = errors.New("connection reset by peer")

// TestSubmitOutcomes: what the SMSC's answer, or its absence, makes of an SMS
// that was begun because nobody has the app.
func TestSubmitOutcomes(t *testing.T) {
	for _, c := range []struct {
		name   string
		s      Submitted
		state  msg.State
		event  msg.Event
		reason msg.Reason
		smsErr string
	}{
		{"accepted", Submitted{Sent: true, MessageID: "4F2A"}, msg.SMSSubmitted, msg.EvSMSAccepted, 0, ""},
		{"throttled", Submitted{Sent: true, Status: pdu.RTHROTTLED}, msg.Fallback, msg.EvSMSTemporary, msg.ReasonStatus, ""},
		{"queue full", Submitted{Sent: true, Status: pdu.RMSGQFUL}, msg.Fallback, msg.EvSMSTemporary, msg.ReasonStatus, ""},
		{"system error", Submitted{Sent: true, Status: pdu.RSYSERR}, msg.Fallback, msg.EvSMSTemporary, msg.ReasonStatus, ""},
		{"invalid destination", Submitted{Sent: true, Status: pdu.RINVDSTADR}, msg.SMSFailed, msg.EvSMSPermanent, msg.ReasonStatus, "UNDELIV 00B"},
		{"vendor status", Submitted{Sent: true, Status: 0x4A1}, msg.SMSFailed, msg.EvSMSPermanent, msg.ReasonStatus, "UNDELIV 4A1"},
		{"never written", Submitted{Err: errLink}, msg.Fallback, msg.EvSMSTemporary, msg.ReasonLinkLost, ""},
		{"link lost", Submitted{Sent: true, Err: errLink}, msg.SMSUnknown, msg.EvSMSLost, msg.ReasonLinkLost, ""},
		{"no answer", Submitted{Sent: true, Err: smpp.ErrTimeout}, msg.SMSUnknown, msg.EvSMSLost, msg.ReasonTimeout, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, nil)
				b.carrier.script = func(n int, w written) { w.done(c.s) }
				id := b.put(b.message())
				r := b.wantState(id, c.state)
				if reason, _ := b.reason(id, c.event); reason != c.reason || r.SMSErr != c.smsErr || r.SMSBegun {
					t.Errorf("%s: %s, err %q, begun %t; want %s, %q, false", c.event, reason, r.SMSErr, r.SMSBegun, c.reason, c.smsErr)
				}
				if c.event == msg.EvSMSAccepted && (r.Peer != "smsc-own" || r.SMSID != "4F2A") {
					t.Errorf("peer %q, id %q", r.Peer, r.SMSID)
				}
				if got, want := len(b.told()), b2i(c.state.Final()); got != want || len(b.finished) != want {
					t.Errorf("%d receipts, %d finished; want %d", got, len(b.finished), want)
				}
				if n := b.carrier.inUse(); n != 0 {
					t.Errorf("%d places of the window are kept", n)
				}
			})
		})
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestThrottled: the same message again, each time twice as late, and nothing
// else in between; then it is accepted and reported once.
func TestThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.carrier.script = func(n int, w written) {
			if n <= 4 {
				w.done(Submitted{Sent: true, Status: pdu.RTHROTTLED})
				return
			}
			accept(n, w)
		}
		begin := time.Now()
		id := b.put(b.message())
		time.Sleep(time.Minute)
		r := b.wantState(id, msg.SMSSubmitted)
		var at []time.Duration
		for _, w := range b.carrier.submits() {
			at = append(at, w.at.Sub(begin).Round(time.Second))
		}
		if diff := cmp.Diff([]time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second}, at); diff != "" {
			t.Errorf("submitted after (-want +got):\n%s", diff)
		}
		if r.SMSAttempts != 5 || b.d.Counters.Sent.Load() != 5 || b.d.Counters.Retried.Load() != 4 || b.d.Counters.Resubmitted.Load() != 0 {
			t.Errorf("%d attempts, %d sent, %d retried, %d resubmitted; want 5, 5, 4, 0",
				r.SMSAttempts, b.d.Counters.Sent.Load(), b.d.Counters.Retried.Load(), b.d.Counters.Resubmitted.Load())
		}
		b.wantAnswer(b.receipt("id5", smpp.StateDelivered, "000"), pdu.ROK)
		b.wantState(id, msg.SMSDelivered)
	})
}

// TestThrottleRest: a temporary status holds all fallbacks back for a moment.
func TestThrottleRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.carrier.script = func(n int, w written) {
			if n == 1 {
				w.done(Submitted{Sent: true, Status: pdu.RTHROTTLED})
				return
			}
			accept(n, w)
		}
		b.put(b.message())
		synctest.Wait()
		second := b.put(b.message())
		synctest.Wait()
		if n := len(b.carrier.submits()); n != 1 {
			t.Fatalf("%d SMS while the SMSC rests, want 1", n)
		}
		time.Sleep(throttleRest)
		b.wantState(second, msg.SMSSubmitted)
	})
}

// TestThrottledToTheEnd: validity ends it, with one receipt and no later SMS.
func TestThrottledToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.carrier.script = func(_ int, w written) { w.done(Submitted{Sent: true, Status: pdu.RTHROTTLED}) }
		m := b.message()
		m.ExpiresAt = time.Now().Add(2 * time.Minute)
		id := b.put(m)
		time.Sleep(2*time.Minute + time.Second)
		b.wantState(id, msg.Expired)
		n := len(b.carrier.submits())
		if last := b.carrier.submits()[n-1].at; n != 8 || last.After(m.ExpiresAt) {
			t.Errorf("%d SMS, the last %s after the end; want 8, none later", n, last.Sub(m.ExpiresAt))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(b.carrier.submits()) != n || len(b.told()) != 1 || b.carrier.inUse() != 0 {
			t.Errorf("a minute later: %d SMS, %d receipts, %d places kept; want %d, 1, 0",
				len(b.carrier.submits()), len(b.told()), b.carrier.inUse(), n)
		}
	})
}

// TestLinkLost: an SMS of unknown fate is sent again once a bind is up, and
// counted; its receipt counts.
func TestLinkLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		id := b.put(b.message())
		synctest.Wait()
		b.carrier.setDown(true)
		b.carrier.submits()[0].done(Submitted{Sent: true, Err: errLink})
		r := b.wantState(id, msg.SMSUnknown)
		time.Sleep(time.Minute)
		b.wantState(id, msg.SMSUnknown)
		if n := len(b.carrier.submits()); n != 1 {
			t.Fatalf("%d SMS while no bind is up, want 1", n)
		}
		if r.SMSAttempts != 1 || b.d.Counters.Resubmitted.Load() != 0 {
			t.Errorf("%d attempts, %d resubmitted; want 1, 0", r.SMSAttempts, b.d.Counters.Resubmitted.Load())
		}
		b.carrier.setDown(false)
		synctest.Wait()
		sent := b.carrier.submits()
		if len(sent) != 2 || !bytes.Equal(sent[0].p, sent[1].p) {
			t.Fatalf("%d SMS after the bind came back, want 2 of the same octets", len(sent))
		}
		accept(2, sent[1])
		r = b.wantState(id, msg.SMSSubmitted)
		if r.Resubmits != 1 || b.d.Counters.Resubmitted.Load() != 1 || b.d.Counters.Sent.Load() != 1 {
			t.Errorf("%d resubmits in the record, %d resubmitted, %d sent; want 1, 1, 1",
				r.Resubmits, b.d.Counters.Resubmitted.Load(), b.d.Counters.Sent.Load())
		}
		b.wantAnswer(b.receipt("id2", smpp.StateUndeliverable, "034"), pdu.ROK)
		if r := b.wantState(id, msg.SMSFailed); r.SMSErr != "UNDELIV 034" || len(b.told()) != 1 {
			t.Errorf("err %q, %d receipts; want the carrier's, 1", r.SMSErr, len(b.told()))
		}
	})
}

// TestLinkFlaps: each further try of an SMS of unknown fate comes later, so
// that a link that breaks all the time does not send it every second.
func TestLinkFlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.carrier.script = func(_ int, w written) { w.done(Submitted{Sent: true, Err: errLink}) }
		begin := time.Now()
		id := b.put(b.message())
		time.Sleep(10 * time.Minute)
		b.wantState(id, msg.SMSUnknown)
		var at []time.Duration
		for _, w := range b.carrier.submits() {
			at = append(at, w.at.Sub(begin).Round(time.Second))
		}
		want := []time.Duration{0, 10 * time.Second, 30 * time.Second, 70 * time.Second, 150 * time.Second, 310 * time.Second}
		if diff := cmp.Diff(want, at); diff != "" {
			t.Errorf("submitted in ten minutes, after (-want +got):\n%s", diff)
		}
	})
}

// TestFallbackOnce: at every moment of the app's time either the app has the
// message or one SMS is begun, never both and never neither, although claims
// and timers race.
func TestFallbackOnce(t *testing.T) {
	const messages = 400
	b := start(t, func(o *Options) { o.Apps[0].Workers = 16 })
	b.carrier.window = messages
	b.carrier.script = accept
	b.device("phone", nil)
	b.provider.script = func(n push.Notification, _ int) push.Result {
		return push.Result{Outcome: []push.Outcome{push.Accepted, push.Busy, push.Unknown}[n.ID[len(n.ID)-1]%3]}
	}
	var claimed, lost atomic.Int32
	var mu sync.Mutex
	won := make(map[msg.ID]bool)
	var wg sync.WaitGroup
	for i := range messages {
		wg.Go(func() {
			m := b.message()
			m.ClaimBy = time.Now().Add(time.Duration(150+i%30) * time.Millisecond)
			id := b.put(m)
			// The timers tick ten times a second: around the deadline, and around that tick.
			<-time.After(time.Until(m.ClaimBy) + time.Duration(i%26-10)*10*time.Millisecond)
			r := b.do(spool.Event{ID: id, Kind: msg.EvClaim, Device: "phone"})
			switch {
			case r.Err == nil:
				claimed.Add(1)
				mu.Lock()
				won[id] = true
				mu.Unlock()
			case errors.Is(r.Err, spool.ErrSuperseded):
				lost.Add(1)
			default:
				t.Errorf("claim: %v", r.Err)
			}
		})
	}
	wg.Wait()
	for deadline := time.Now().Add(10 * time.Second); len(b.carrier.submits()) < int(lost.Load()) && time.Now().Before(deadline); {
		yield()
	}
	b.close() // whatever is under way is through
	t.Logf("%d claimed, %d by SMS", claimed.Load(), lost.Load())
	if n := len(b.carrier.submits()); n != int(lost.Load()) || int(claimed.Load()+lost.Load()) != messages {
		t.Errorf("%d SMS for %d messages that the app lost, %d that it won; want one each, %d in all", n, lost.Load(), claimed.Load(), messages)
	}
	if claimed.Load() == 0 || lost.Load() == 0 {
		t.Errorf("%d claimed, %d lost: no race was run", claimed.Load(), lost.Load())
	}
}

// yield lets others run, on a busy machine too.
func yield() {
	t := time.NewTimer(time.Millisecond)
	<-t.C
}

// TestFallbackPDU: the octets that came, but for sequence_number,
// registered_delivery and what remains of a relative validity_period.
func TestFallbackPDU(t *testing.T) {
	now := time.Date(2025, 6, 2, 12, 0, 0, 0, time.UTC)
	vendor := append(pdu.AppendTLV(nil, 0x1501, []byte{1, 2}), pdu.AppendTLV(pdu.AppendTLV(nil, 0x1501, []byte{1, 2}), 0x0204, []byte{0, 9})...)
	for _, c := range []struct {
		name     string
		set      func(*pdu.SM)
		left     time.Duration
		want     func(*pdu.SM)
		original bool // octet for octet, but the sequence_number
	}{
		{name: "as it came", left: time.Hour, original: true},
		{name: "vendor TLVs, in order, twice", left: time.Hour, original: true, set: func(m *pdu.SM) { m.TLVs = vendor }},
		{name: "message_payload", left: time.Hour, original: true, set: func(m *pdu.SM) {
			m.ShortMessage, m.TLVs = nil, pdu.AppendTLV(nil, pdu.TagMessagePayload, bytes.Repeat([]byte("x"), 60_000))
		}},
		{name: "every field", left: time.Hour, original: true, set: func(m *pdu.SM) {
			m.ServiceType, m.ESMClass, m.Priority, m.DataCoding, m.Validity = []byte("CMT"), 3, 2, 8, []byte("250603120000000+")
			m.Source = pdu.Address{TON: 1, NPI: 1, Addr: []byte("447700800001")}
			m.ShortMessage = []byte("\x04\x1f")
		}},
		{name: "no receipt was asked for", left: time.Hour, set: func(m *pdu.SM) { m.RegisteredDelivery = 0 }, want: func(m *pdu.SM) { m.RegisteredDelivery = 1 }},
		{name: "on failure only", left: time.Hour, set: func(m *pdu.SM) { m.RegisteredDelivery = 2 }, want: func(m *pdu.SM) { m.RegisteredDelivery = 1 }},
		{name: "on success only, v5.0", left: time.Hour, set: func(m *pdu.SM) { m.RegisteredDelivery = 3 }, want: func(m *pdu.SM) { m.RegisteredDelivery = 1 }},
		{
			name: "with intermediate notifications and SME acknowledgements", left: time.Hour,
			set: func(m *pdu.SM) { m.RegisteredDelivery = 0x1E }, want: func(m *pdu.SM) { m.RegisteredDelivery = 0x1D },
		},
		{
			name: "relative validity", left: 59*time.Minute + 31*time.Second + 700*time.Millisecond,
			set: func(m *pdu.SM) { m.Validity = []byte("000000010000000R") }, want: func(m *pdu.SM) { m.Validity = []byte("000000005931000R") },
		},
		{
			name: "relative validity of days", left: 50 * time.Hour,
			set: func(m *pdu.SM) { m.Validity = []byte("000003000000000R") }, want: func(m *pdu.SM) { m.Validity = []byte("000002020000000R") },
		},
		{
			name: "relative validity, all but over", left: 400 * time.Millisecond,
			set: func(m *pdu.SM) { m.Validity = []byte("000000000100000R") }, want: func(m *pdu.SM) { m.Validity = []byte("000000000001000R") },
		},
	} {
		p := submitSM(c.set)
		m := &spool.Message{PDU: bytes.Clone(p), ExpiresAt: now.Add(c.left)}
		got, err := fallbackPDU(m, now)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		want := p
		if !c.original {
			want = submitSM(func(sm *pdu.SM) {
				c.set(sm)
				c.want(sm)
			})
		}
		want.SetSeq(0)
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", c.name, hex.EncodeToString(got), hex.EncodeToString(want))
		}
		if !bytes.Equal(m.PDU, submitSM(c.set)) {
			t.Errorf("%s: the spooled octets were changed", c.name)
		}
	}
	if _, err := fallbackPDU(&spool.Message{PDU: submitSM(nil)[:30]}, now); err == nil {
		t.Error("fallbackPDU() of a cut submit_sm = nil")
	}
}

// TestRate: fallbacks keep to the rate.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, func(o *Options) { o.Rate = 10 })
		b.carrier.script = accept
		begin := time.Now()
		for range 31 {
			b.put(b.message())
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		sent := b.carrier.submits()
		if took := sent[len(sent)-1].at.Sub(begin); len(sent) != 31 || took < 2900*time.Millisecond || took > 3200*time.Millisecond {
			t.Errorf("%d SMS in %s, want 31 in 3 s", len(sent), took)
		}
	})
}

// TestWindow: no more SMS are begun than the window has room for.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, nil)
		b.carrier.window = 3
		var ids []msg.ID
		for range 8 {
			ids = append(ids, b.put(b.message()))
		}
		synctest.Wait()
		if n := len(b.carrier.submits()); n != 3 {
			t.Fatalf("%d SMS in a window of three", n)
		}
		begun := 0
		for _, id := range ids {
			begun += b2i(b.get(id).SMSBegun)
		}
		if _, waiting := b.d.Queued(); begun != 3 || waiting < 4 {
			t.Errorf("%d begun, %d wait; want 3, and 4 or 5", begun, waiting)
		}
		for n := 1; n <= 8; n++ {
			accept(n, b.carrier.submits()[n-1])
			synctest.Wait()
		}
		for _, id := range ids {
			b.wantState(id, msg.SMSSubmitted)
		}
	})
}

// TestDiskFailsAroundAnSMS: while the spool cannot write nothing is begun, and
// what the SMSC answered is kept until it can be: one SMS, one outcome.
func TestDiskFailsAroundAnSMS(t *testing.T) {
	for _, kind := range []msg.Event{msg.EvSMSBegin, msg.EvSMSAccepted, msg.EvSMSPermanent, msg.EvSMSTemporary, msg.EvSMSLost} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := start(t, nil)
				failures := 0
				b.flaky.set(func(e spool.Event) error {
					if e.Kind == kind && failures < 3 {
						failures++
						return errDisk
					}
					return nil
				})
				b.carrier.script = func(n int, w written) {
					switch {
					case n == 1 && kind == msg.EvSMSPermanent:
						w.done(Submitted{Sent: true, Status: pdu.RINVDSTADR})
					case n == 1 && kind == msg.EvSMSTemporary:
						w.done(Submitted{Sent: true, Status: pdu.RTHROTTLED})
					case n == 1 && kind == msg.EvSMSLost:
						w.done(Submitted{Sent: true, Err: errLink})
					default:
						accept(n, w)
					}
				}
				id := b.put(b.message())
				time.Sleep(time.Minute)
				want, sms := msg.SMSSubmitted, 1
				switch kind {
				case msg.EvSMSPermanent:
					want = msg.SMSFailed
				case msg.EvSMSTemporary, msg.EvSMSLost:
					sms = 2
				}
				b.wantState(id, want)
				if n := len(b.carrier.submits()); n != sms || failures != 3 || b.events(id, kind) != 1 || b.carrier.inUse() != 0 {
					t.Errorf("%d SMS, %d failures, %d times %s, %d places kept; want %d, 3, 1, 0",
						n, failures, b.events(id, kind), kind, b.carrier.inUse(), sms)
				}
			})
		})
	}
}

// TestStopBetweenBeginAndSubmit: certainly not sent, so the next start sends it
// as if for the first time.
func TestStopBetweenBeginAndSubmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		b := open(t, dir, nil)
		ctx, cancel := canceled()
		defer cancel()
		b.spool.Start()
		id := b.put(b.message())
		synctest.Wait()
		if r := b.do(spool.Event{ID: id, Kind: msg.EvPushDead}); r.Err != nil {
			t.Fatalf("push-dead: %v", r.Err)
		}
		if r := b.do(spool.Event{ID: id, Kind: msg.EvSMSBegin}); r.Err != nil {
			t.Fatalf("sms-begin: %v", r.Err)
		}
		if err := b.carrier.Acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.d.hand(ctx, sms{id: id}) // nobody takes it: the submitters have stopped
		if r := b.wantState(id, msg.Fallback); r.SMSBegun || b.carrier.inUse() != 0 {
			t.Errorf("begun %t, %d places kept; want false, 0", r.SMSBegun, b.carrier.inUse())
		}
		b.close()

		b = open(t, dir, nil)
		b.carrier.script = accept
		b.run()
		b.wantState(id, msg.SMSSubmitted)
		if b.d.Counters.Sent.Load() != 1 || b.d.Counters.Resubmitted.Load() != 0 {
			t.Errorf("%d sent, %d resubmitted; want 1, 0", b.d.Counters.Sent.Load(), b.d.Counters.Resubmitted.Load())
		}
	})
}
