package route

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shunt/gateway/msg"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
)

func plainly(s string) string { return s }

// failed is the reason of the first rule that failed.
func failed(steps []Step) msg.Reason {
	for _, s := range steps {
		if s.Outcome == Failed {
			return s.Reason
		}
	}
	return msg.ReasonDivert
}

// TestExplainIsDecide: whatever comes, the first rule that fails is why Decide
// forwards, and all rules are there, in order.
func TestExplainIsDecide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, a, m := drawPolicy(t), drawAccount(t), drawMessage(t)
		mode := rapid.SampledFrom([]Mode{On, On, On, Shadow, Off}).Draw(t, "mode")
		e := rapid.SampledFrom([]msg.Entry{active, active, active, inactive, 0, msg.Entry(1 << 33)}).Draw(t, "entry")
		n := subscriber + msg.Number(rapid.IntRange(0, 300).Draw(t, "number"))
		want := p.Decide(mode, &a, &m, n, e, noon)
		got, steps := p.Explain(mode, &a, &m, n, e, noon, plainly)
		if want.Plan != nil && want.Plan.Name == "" { // made for a policy without plans
			want.Plan, got.Plan = nil, nil
		}
		if got != want {
			t.Fatalf("Explain() = %+v, Decide() = %+v", got, want)
		}
		if r := failed(steps); r != want.Reason {
			t.Fatalf("the first rule that failed says %s, Decide() %s", r, want.Reason)
		}
		if len(steps) != int(numChecks) {
			t.Fatalf("%d rules, want %d", len(steps), numChecks)
		}
		for i, s := range steps {
			if s.Check != Check(i) || s.Value == "" || (s.Reason != msg.NoReason) != (s.Outcome == Failed) {
				t.Fatalf("rule %d is %+v", i, s)
			}
			if strings.Contains(s.Value, "sesame") {
				t.Fatalf("rule %s shows the text: %q", s.Check, s.Value)
			}
		}
	})
}

// flip is true once in a while: most rules have to let most messages go on, or
// the later ones are never reached.
func flip(t *rapid.T, label string) bool { return rapid.IntRange(0, 7).Draw(t, label) == 0 }

func drawPolicy(t *rapid.T) Policy {
	p := lenient()
	p.AllowOTP = rapid.Bool().Draw(t, "allow_otp")
	if flip(t, "from") {
		p.DivertFrom = rapid.SliceOfN(rapid.SampledFrom([]string{"Rail", "Parcel*", "+44*", "*7*"}), 0, 3).Draw(t, "divert_from")
	}
	if flip(t, "never") {
		p.NeverDivertFrom = []string{"Parcel24", "112"}
	}
	if flip(t, "service") {
		p.NeverServiceType = []string{"WAP", ""}
	}
	if flip(t, "canary") {
		p.Share = rapid.IntRange(0, 100).Draw(t, "share")
	}
	if flip(t, "accepted") {
		acceptedAgo(time.Duration(rapid.IntRange(0, 30).Draw(t, "ago")) * time.Hour)(&p)
	}
	plan := Plan{Name: "drawn", AppFirst: rapid.Bool().Draw(t, "app_first"), ClaimWithin: time.Duration(rapid.IntRange(0, 120).Draw(t, "claim")) * time.Second}
	for _, narrow := range []func(){
		func() { plan.Content = []msg.Content{msg.ContentOneTimeCode, msg.ContentPromotional} },
		func() { plan.Priority = []byte{1, 3} },
		func() { plan.Hours, plan.Zone = []msg.Hours{{From: clock(11, 0), To: clock(12, 0)}}, time.UTC },
		func() { plan.To = []string{"+33", "+44770090004"} },
		func() { plan.From = []string{"Parcel*"} },
		func() { plan.Account = []string{"shop"} },
		func() { plan.ServiceType = []string{"CMT"} },
	} {
		if flip(t, "narrow") {
			narrow()
		}
	}
	switch rapid.IntRange(0, 3).Draw(t, "plans") {
	case 0:
		p.Plans = append([]Plan{plan}, p.Plans...)
	case 1:
		if flip(t, "none") {
			p.Plans = nil
		}
	}
	return p
}

func drawAccount(t *rapid.T) Account {
	return Account{
		SystemID: rapid.SampledFrom([]string{"bank", "shop"}).Draw(t, "system_id"), OptedIn: !flip(t, "opted out"),
		Alphabet: rapid.SampledFrom([]coding.Alphabet{coding.GSM7, coding.Latin1, coding.ASCII, coding.GSM7Packed, coding.CP1252}).Draw(t, "alphabet"),
		IA5:      rapid.SampledFrom([]coding.Alphabet{coding.Unsupported, coding.GSM7, coding.ASCII}).Draw(t, "ia5"),
	}
}

// drawMessage draws an ordinary message with some of its fields changed, sound
// or not, as one that an ESME sent.
func drawMessage(t *rapid.T) pdu.SM {
	m := ordinary()
	texts := []string{"open sesame", "Your sesame code is 481516", "Sale! 50% off sesame", "sesame?", "Zażółć sesame", "\x05\x00\x03\x2a\x02\x01sesame", "\x03\x24\x01\x01sesame", "\x04\x01\x02\x80\x01sesame", ""}
	m.ShortMessage = []byte(rapid.SampledFrom(texts).Draw(t, "text"))
	octet := rapid.Byte()
	for _, change := range []func(){
		func() { m.ESMClass = octet.Draw(t, "esm_class") },
		func() { m.ESMClass = 0x40 },
		func() { m.ProtocolID = octet.Draw(t, "protocol_id") },
		func() { m.Priority = octet.Draw(t, "priority_flag") },
		func() { m.DataCoding = octet.Draw(t, "data_coding") },
		func() { m.DataCoding = 8 },
		func() { m.DefaultMsgID = octet.Draw(t, "sm_default_msg_id") },
		func() { m.ReplaceIfPresent = octet.Draw(t, "replace_if_present_flag") },
		func() { m.Schedule = []byte("000000010000000R") },
		func() {
			m.Validity = []byte(rapid.SampledFrom([]string{"000000000001000R", "000000001000000R", "tomorrow", "250602115959000+", ""}).Draw(t, "validity_period"))
		},
		func() { m.ServiceType = []byte(rapid.SampledFrom([]string{"", "WAP", "CMT"}).Draw(t, "service_type")) },
		func() { m.Source = pdu.Address{TON: 1, NPI: 1, Addr: []byte("447700900001")} },
		func() { m.Source.Addr = bytes.Repeat([]byte("a"), rapid.IntRange(0, 40).Draw(t, "source")) },
		func() {
			m.TLVs = pdu.AppendTLV(m.TLVs, pdu.Tag(rapid.Uint16Range(0, 0x1500).Draw(t, "tag")), rapid.SliceOfN(octet, 0, 4).Draw(t, "value"))
		},
		func() { m.TLVs = pdu.AppendTLV(m.TLVs, pdu.TagMessagePayload, []byte("open sesame")) },
		func() {
			m.TLVs = coding.AppendSAR(m.TLVs, coding.Part{Reference: 42, Wide: true, Total: octet.Draw(t, "total"), Number: octet.Draw(t, "number")})
		},
	} {
		if flip(t, "change") {
			change()
		}
	}
	return m
}

// TestExplainRows: the same for the rows of the table, each of which reaches
// the rule that it is about.
func TestExplainRows(t *testing.T) {
	reached := make(map[msg.Reason]bool)
	for _, rows := range [][]judgement{neverDiverted, byPolicy} {
		for _, j := range rows {
			m, p, a, e := ordinary(), lenient(), optedIn(), j.e
			if j.m != nil {
				j.m(&m)
			}
			if j.p != nil {
				j.p(&p)
			}
			if j.a != nil {
				j.a(&a)
			}
			if e == 0 {
				e = active
			}
			v, steps := p.Explain(On, &a, wire(t, m), subscriber, e, noon, plainly)
			if v.Reason != j.want || failed(steps) != j.want || v.Divert != (j.want == msg.ReasonDivert) {
				t.Errorf("%s: Explain() = %+v, first failed %s; want %s", j.name, v, failed(steps), j.want)
			}
			reached[j.want] = true
		}
	}
	// Each reason of a rule is some row's; the others are the switch's and
	// those of what is up.
	for r := msg.ReasonUnregistered; r <= msg.ReasonPlanCarrier; r++ {
		if r != msg.ReasonNotReady && r != msg.ReasonDestination && !reached[r] {
			t.Errorf("no row ends in %s", r)
		}
	}
	if !reached[msg.ReasonNotAccepted] {
		t.Errorf("no row ends in %s", msg.ReasonNotAccepted)
	}
}

// TestExplainShows: what was looked at, also behind the first rule that failed.
func TestExplainShows(t *testing.T) {
	mask := func(s string) string {
		if strings.HasPrefix(s, "4477") {
			return "masked"
		}
		return s
	}
	p, a, m := lenient(), optedIn(), ordinary()
	p.AllowOTP, p.DivertFrom, p.NeverDivertFrom = false, []string{"Rail", "4477*"}, []string{"4477009000*"}
	p.NeverServiceType, p.Share = []string{"WAP"}, 1
	acceptedAgo(90 * time.Minute)(&p)
	p.Plans[0].AppFirst = false
	m.Source = pdu.Address{TON: 1, NPI: 1, Addr: []byte("447700900001")}
	m.ServiceType, m.Validity, m.Priority, m.ProtocolID = []byte("WAP"), []byte("000000001000000R"), 2, 0x41
	m.ShortMessage = []byte("Your code is 481516")
	m.TLVs = append(tlv(0x1501, 1), tlv(pdu.TagDisplayTime, 1)...)
	_, steps := p.Explain(Off, &a, wire(t, m), subscriber, active, noon, mask)
	want := map[Check]string{
		CheckRegistration: "passed registered",
		CheckSwitch:       "failed the switch is off",
		CheckActive:       "passed active",
		CheckAccount:      `passed "bank" has opted in`,
		CheckSegment:      "passed whole, 19 octets",
		CheckHeader:       "passed no user data header",
		CheckSourceLength: "passed 12 of at most 20 characters",
		CheckMode:         "passed esm_class 0x00",
		CheckProtocol:     "failed protocol_id 0x41",
		CheckTLVs:         "failed 0x1501, 0x1201",
		CheckSender:       `passed "masked", fits "masked"`,
		CheckNeverSender:  `failed "masked", fits "masked"`,
		CheckServiceType:  `failed "WAP", not wanted: ["WAP"]`,
		CheckShare:        fmt.Sprintf("failed slice %d, of 100 the first 1 are diverted", slice(subscriber)),
		CheckAlphabet:     "passed data_coding 0x00: gsm7",
		CheckText:         "passed 19 characters",
		CheckOneTimeCode:  "failed reads like one",
		CheckPlan:         `failed "all", carrier first; content one-time-code, priority 2`,
		CheckValidity:     "passed validity_period: 10m0s; claim within 30s",
		CheckAccepted:     "failed never, as far as is known; want within 24h0m0s",
		CheckShadow:       "passed the switch is off",
	}
	for c, text := range want {
		if got := steps[c].Outcome.String() + " " + steps[c].Value; got != text {
			t.Errorf("%s: %q, want %q", c, got, text)
		}
	}
	// A part of a long message, to what is no number.
	m = ordinary()
	udh("\x05\x00\x03\x2a\x02\x01")(&m)
	_, steps = p.Explain(Shadow, &a, wire(t, m), 0, 0, noon, mask)
	for c, text := range map[Check]string{
		CheckRegistration: "skipped no number",
		CheckActive:       "skipped not registered",
		CheckSegment:      "passed part 1 of 2, udh8, 10 octets",
		CheckHeader:       "passed information elements 0x00",
		CheckShare:        "skipped no number",
		CheckText:         "skipped a part: the whole text is judged when all parts are there",
		CheckOneTimeCode:  "skipped a part: the whole text is judged when all parts are there",
		CheckAccepted:     "passed 1h30m0s ago; want within 24h0m0s",
		CheckShadow:       "failed the switch is shadow",
	} {
		if got := steps[c].Outcome.String() + " " + steps[c].Value; got != text {
			t.Errorf("part: %s: %q, want %q", c, got, text)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, c := range []struct {
		name string
		e    msg.Entry
	}{{"divert", active}, {"inactive", inactive}} {
		b.Run(c.name, func(b *testing.B) {
			p, a, m := lenient(), optedIn(), wire(b, ordinary())
			p.AllowOTP = false
			b.ReportAllocs()
			for b.Loop() {
				p.Decide(On, &a, m, subscriber, c.e, noon)
			}
		})
	}
}
