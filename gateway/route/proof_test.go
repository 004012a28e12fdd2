package route

import (
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp/pdu"
)

// provenAgo asks for 72 hours, of a number that was proven that long ago; 0: that
// the operator put.
func provenAgo(d time.Duration, ok bool) func(*Policy) {
	return func(p *Policy) {
		p.OTPAfterProof = 72 * time.Hour
		p.Proven = func(msg.Number) (time.Time, bool) {
			if d == 0 {
				return time.Time{}, ok
			}
			return noon.Add(-d), ok
		}
	}
}

func TestOwnership(t *testing.T) {
	code := func(m *pdu.SM) { m.ShortMessage = []byte("Your code is 481516") }
	receipt := func(m *pdu.SM) { m.RegisteredDelivery = 1 }
	for _, j := range []judgement{
		{name: "code, proven long ago", m: code, p: provenAgo(72*time.Hour, true), want: msg.ReasonDivert},
		{name: "code, proven lately", m: code, p: provenAgo(72*time.Hour-time.Second, true), want: msg.ReasonFreshProof},
		{name: "code, put by the operator", m: code, p: provenAgo(0, true), want: msg.ReasonDivert},
		{name: "code, not known", m: code, p: provenAgo(0, false), want: msg.ReasonFreshProof},
		{name: "no code, proven lately", p: provenAgo(time.Second, true), want: msg.ReasonDivert},
		{name: "receipt from an app that sends none", m: receipt, e: active.With(false, true), want: msg.ReasonNoReceipts},
		{name: "none asked for", e: active.With(false, true), want: msg.ReasonDivert},
		{name: "only an intermediate notification", m: func(m *pdu.SM) { m.RegisteredDelivery = 0x10 }, e: active.With(false, true), want: msg.ReasonDivert},
		{name: "the plan does not require it", m: receipt, e: active.With(false, true), p: func(p *Policy) { p.Plans[0].NoReceipts = true }, want: msg.ReasonDivert},
	} {
		m, p, a := ordinary(), lenient(), optedIn()
		if j.m != nil {
			j.m(&m)
		}
		if j.p != nil {
			j.p(&p)
		}
		if j.e == 0 {
			j.e = active
		}
		if v := p.Decide(On, &a, wire(t, m), subscriber, j.e, noon); v.Reason != j.want {
			t.Errorf("%s: Decide() = %s, want %s", j.name, v.Reason, j.want)
		}
	}
}

func TestStaleHasHalfTheTime(t *testing.T) {
	m, p, a := ordinary(), lenient(), optedIn()
	sm := wire(t, m)
	for e, want := range map[msg.Entry]time.Duration{active: 30 * time.Second, active.With(true, false): 15 * time.Second} {
		if v := p.Decide(On, &a, sm, subscriber, e, noon); !v.Divert || v.ClaimBy.Sub(noon) != want {
			t.Errorf("Decide(stale %t) = divert %t, claim within %s, want %s", e.Stale(), v.Divert, v.ClaimBy.Sub(noon), want)
		}
	}
}
