package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
	"shunt/gateway/noc"
)

func TestExplain(t *testing.T) {
	r := newRig(t)
	at := time.Date(2025, 6, 2, 12, 0, 0, 0, time.UTC)
	r.gateway.said = noc.Explanation{
		Verdict: noc.VerdictForward, Reason: msg.ReasonOneTimeCode, ESME: "bank", At: at, Divert: "on", App: "chat", Plan: "news",
		ClaimBy: at.Add(30 * time.Second), ExpiresAt: at.Add(time.Hour),
		Checks: []noc.Check{
			{Check: "destination", Outcome: noc.OutcomePassed, Value: "+4477••••0042"},
			{Check: "one-time-code", Outcome: noc.OutcomeFailed, Reason: msg.ReasonOneTimeCode, Decides: true, Value: "reads like one"},
			{Check: "plan", Outcome: noc.OutcomePassed, After: true, Value: `"news", app first`},
			{Check: "own-bind", Outcome: noc.OutcomeFailed, Reason: msg.ReasonFallbackUnbound, After: true, Value: "smsc-own: unbound"},
			{Check: "app-lane", Outcome: noc.OutcomeSkipped, After: true, Value: "not registered"},
		},
	}
	const want = `verdict   forward: one-time-code
from      Parcel24, of ESME bank
to        +4477••••0042
app       chat
plan      news
claim by  2025-06-02 12:00:30.000
expires   2025-06-02 13:00:00.000

CHECK          RESULT     REASON              LOOKED AT
destination    passed     -                   +4477••••0042
one-time-code  FAILED     one-time-code       reads like one
plan           (passed)   -                   "news", app first
own-bind       (failed)   (fallback-unbound)  smsc-own: unbound
app-lane       (skipped)  -                   not registered
`
	args := []string{"explain", "--from", "Parcel24", "--to", "+447700900042"}
	if got := r.ok(args...); got != want {
		t.Errorf("explain =\n%swant\n%s", got, want)
	}
	if diff := cmp.Diff(noc.ExplainRequest{From: "Parcel24", To: "+447700900042"}, r.gateway.asked); diff != "" {
		t.Errorf("asked without flags (-want +got):\n%s", diff)
	}

	var got noc.Explanation
	decode(t, r.ok(append(args, "--json", "--unmask", "--text", "open sesame", "--esme", "bank", "--service-type", "WAP", "--data-coding", "0xF0",
		"--esm-class", "0x40", "--protocol-id", "65", "--registered-delivery", "1", "--validity", "2h", "--priority", "3")...), &got)
	said := r.gateway.said
	said.From, said.To = "Parcel24", "+447700900042"
	if diff := cmp.Diff(said, got); diff != "" {
		t.Errorf("explain --json (-want +got):\n%s", diff)
	}
	text, dataCoding := "open sesame", uint8(0xF0)
	asked := noc.ExplainRequest{
		From: "Parcel24", To: "+447700900042", Text: &text, ESME: "bank", ServiceType: "WAP", DataCoding: &dataCoding, ESMClass: 0x40,
		ProtocolID: 65, Priority: 3, RegisteredDelivery: 1, Validity: "000000020000000R",
	}
	if diff := cmp.Diff(asked, r.gateway.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}

	// An empty text is one; a validity_period goes as it is.
	r.ok(append(args, "--text", "", "--data-coding", "0", "--validity", "250602130000000+")...)
	if q := r.gateway.asked; q.Text == nil || *q.Text != "" || q.DataCoding == nil || q.Validity != "250602130000000+" {
		t.Errorf("asked %+v, want an empty text, data_coding 0 and the validity_period", q)
	}
	r.gateway.said = noc.Explanation{Verdict: noc.VerdictDivert, Reason: msg.ReasonDivert}
	if got := r.ok(args...); !strings.HasPrefix(got, "verdict  divert: divert\nfrom     Parcel24, of an ESME without an [[account]]\n") {
		t.Errorf("explain without --esme =\n%s", got)
	}
	wantLine(t, "explain of a long sender", r.fails("explain", "--from", strings.Repeat("x", 21), "--to", "1"), 1, "from: want at most 20")
}
