package route

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"shunt/gateway/msg"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
)

// Outcome is what came of a rule.
type Outcome uint8

const (
	Skipped Outcome = iota // it has nothing to look at
	Passed
	Failed
)

var outcomeNames = [...]string{"skipped", "passed", "failed"}

func (o Outcome) String() string { return outcomeNames[o] }

// Step is one rule and what it saw. Value never holds the text.
type Step struct {
	Check   Check
	Outcome Outcome
	Reason  msg.Reason // of a rule that failed
	Value   string
}

// Explain is Decide, and beside the verdict every rule in order, those behind
// the first that fails too. n may be 0, for a destination that is no number.
// show writes an address or a pattern of addresses, masked where it has to be.
func (p *Policy) Explain(mode Mode, acc *Account, m *pdu.SM, n msg.Number, e msg.Entry, now time.Time, show func(string) string) (Verdict, []Step) {
	f := facts{p: p, mode: mode, acc: acc, m: m, n: n, e: e, now: now}
	var v, final Verdict
	decided := false
	steps := make([]Step, 0, numChecks)
	for c := range numChecks {
		s := Step{Check: c, Outcome: Skipped, Value: f.missing(c, &v)}
		if s.Value == "" {
			s.Outcome, s.Reason = Passed, f.check(c, &v)
			s.Value = f.value(c, &v, show)
		}
		if s.Reason != msg.NoReason {
			s.Outcome = Failed
			if !decided {
				final, decided = v, true
				final.Reason = s.Reason
			}
		}
		steps = append(steps, s)
	}
	if !decided {
		final = v
		final.Divert, final.Reason = true, msg.ReasonDivert
	}
	return final, steps
}

// missing tells what a rule would have to look at and has not. Either a rule
// before it has failed, or it lets such a message go on.
func (f *facts) missing(c Check, v *Verdict) string {
	switch c {
	case CheckRegistration, CheckShare:
		if f.n == 0 {
			return "no number"
		}
	case CheckActive:
		if !f.e.Registered() {
			return "not registered"
		}
	case CheckHeader, CheckAlphabet:
		if !f.read {
			return "the message cannot be read"
		}
	case CheckText, CheckOneTimeCode, CheckProof:
		switch {
		case !f.read || v.Alphabet == coding.Unsupported:
			return "the text cannot be read"
		case f.segment.Form != coding.Whole:
			return "a part: the whole text is judged when all parts are there"
		case c != CheckText && unreadable(f.text, f.textErr):
			return "the text cannot be read"
		}
	}
	return ""
}

// value is what a rule looked at; it has been asked.
func (f *facts) value(c Check, v *Verdict, show func(string) string) string {
	switch c {
	case CheckRegistration:
		if f.e.Registered() {
			return "registered"
		}
		return "nobody registered it"
	case CheckSwitch, CheckShadow:
		return "the switch is " + f.mode.String()
	case CheckActive:
		switch {
		case f.e.Active() && f.e.Stale():
			return "stale: half the time to claim"
		case f.e.Active():
			return "active"
		}
		return "inactive"
	case CheckAccount:
		if f.acc.OptedIn {
			return fmt.Sprintf("%q has opted in", f.acc.SystemID)
		}
		return fmt.Sprintf("%q has not opted in", f.acc.SystemID)
	case CheckSender, CheckNeverSender, CheckServiceType, CheckShare:
		return f.policyValue(c, show)
	case CheckAlphabet, CheckText, CheckOneTimeCode:
		return f.wordsValue(c, v)
	case CheckProof:
		return f.proofValue()
	case CheckReceipts:
		return f.receiptsValue(v.Plan)
	case CheckPlan:
		return f.planValue(v.Plan)
	case CheckValidity:
		return f.validityValue(v)
	case CheckAccepted:
		return f.acceptedValue()
	}
	return f.formValue(c)
}

func (f *facts) formValue(c Check) string {
	m := f.m
	switch c {
	case CheckSegment:
		return f.segmentValue()
	case CheckHeader:
		return headerValue(f.segment.Header)
	case CheckSourceLength:
		return fmt.Sprintf("%d of at most %d characters", len(m.Source.Addr), maxSource)
	case CheckMode, CheckType, CheckReplyPath:
		return fmt.Sprintf("esm_class 0x%02X", m.ESMClass)
	case CheckProtocol:
		return fmt.Sprintf("protocol_id 0x%02X", m.ProtocolID)
	case CheckPredefined:
		return fmt.Sprintf("sm_default_msg_id %d", m.DefaultMsgID)
	case CheckReplace:
		return fmt.Sprintf("replace_if_present_flag %d", m.ReplaceIfPresent)
	case CheckSchedule:
		if len(m.Schedule) == 0 {
			return "at once"
		}
		return fmt.Sprintf("schedule_delivery_time %q", m.Schedule)
	case CheckTLVs:
		return tagsValue(m.TLVs)
	}
	return ""
}

func (f *facts) segmentValue() string {
	b, ok := f.m.Payload()
	switch {
	case !ok:
		return "both short_message and message_payload"
	case !f.read && f.m.ESMClass&esmUDHI != 0:
		return "a user data header that is not sound"
	case !f.read:
		return "sar_* that are not sound"
	case f.segment.Form == coding.Whole:
		return fmt.Sprintf("whole, %d octets", len(b))
	}
	part := f.segment.Part
	return fmt.Sprintf("part %d of %d, %s, %d octets", part.Number, part.Total, f.segment.Form, len(b))
}

// headerValue lists the information elements of a user data header.
func headerValue(header []byte) string {
	if len(header) == 0 {
		return "no user data header"
	}
	elements, _, err := coding.UDH(header)
	if err != nil {
		return "not sound"
	}
	var ids []string
	for id := range elements {
		ids = append(ids, fmt.Sprintf("0x%02X", byte(id)))
	}
	return "information elements " + strings.Join(ids, ", ")
}

func tagsValue(t pdu.TLVs) string {
	var tags []string
	for tag := range t.All() {
		tags = append(tags, fmt.Sprintf("0x%04X", uint16(tag)))
	}
	if len(tags) == 0 {
		return "none"
	}
	return strings.Join(tags, ", ")
}

func (f *facts) policyValue(c Check, show func(string) string) string {
	p, source := f.p, f.m.Source.Addr
	switch c {
	case CheckSender:
		return fmt.Sprintf("%q, %s", show(string(source)), matchValue(p.DivertFrom, source, show))
	case CheckNeverSender:
		return fmt.Sprintf("%q, %s", show(string(source)), matchValue(p.NeverDivertFrom, source, show))
	case CheckServiceType:
		return fmt.Sprintf("%q, not wanted: %q", f.m.ServiceType, p.NeverServiceType)
	}
	return fmt.Sprintf("slice %d, of 100 the first %d are diverted", slice(f.n), p.Share)
}

func matchValue(patterns []string, source []byte, show func(string) string) string {
	for _, p := range patterns {
		if matches([]string{p}, source) {
			return fmt.Sprintf("fits %q", show(p))
		}
	}
	return fmt.Sprintf("fits none of %d patterns", len(patterns))
}

func (f *facts) wordsValue(c Check, v *Verdict) string {
	switch c {
	case CheckAlphabet:
		return fmt.Sprintf("data_coding 0x%02X: %s", f.m.DataCoding, v.Alphabet)
	case CheckText:
		switch {
		case f.textErr != nil:
			return fmt.Sprintf("not %s", v.Alphabet)
		case f.text == "":
			return "empty"
		}
		return fmt.Sprintf("%d characters", utf8.RuneCountInString(f.text))
	}
	what := "reads like none"
	if OneTimeCode(f.text) {
		what = "reads like one"
	}
	if f.p.AllowOTP {
		what += ", allow_otp = true"
	}
	return what
}

func (f *facts) planValue(pl *Plan) string {
	content := msg.ContentUnknown
	if f.text != "" {
		content = ContentOf(f.m.Source, f.text)
	}
	first := "carrier"
	if pl.AppFirst {
		first = "app"
	}
	return fmt.Sprintf("%q, %s first; content %s, priority %d", pl.Name, first, content, f.m.Priority)
}

func (f *facts) validityValue(v *Verdict) string {
	expires, err := pdu.Time(f.m.Validity, f.now)
	switch {
	case err != nil:
		return "validity_period cannot be read"
	case !v.Expires.IsZero():
		expires = v.Expires
	}
	from := "the default"
	if _, ok := f.m.TLVs.TimeToLive(); ok {
		from = "qos_time_to_live"
	}
	if len(f.m.Validity) > 0 {
		from = "validity_period"
	}
	if expires.IsZero() {
		return from + ", too short"
	}
	text := fmt.Sprintf("%s: %s", from, expires.Sub(f.now))
	if v.ClaimBy.IsZero() {
		return text
	}
	return fmt.Sprintf("%s; claim within %s", text, v.ClaimBy.Sub(f.now))
}

func (f *facts) acceptedValue() string {
	p := f.p
	if p.AcceptedWithin == 0 {
		return "carrier_accepted_within is not set"
	}
	last := p.lastAccepted(f.acc, f.m)
	if last.IsZero() {
		return fmt.Sprintf("never, as far as is known; want within %s", p.AcceptedWithin)
	}
	return fmt.Sprintf("%s ago; want within %s", f.now.Sub(last).Round(time.Second), p.AcceptedWithin)
}

func (f *facts) proofValue() string {
	p := f.p
	switch {
	case p.OTPAfterProof == 0 || p.Proven == nil:
		return "otp_after_proof is not set"
	case !OneTimeCode(f.text):
		return "no one-time code"
	case f.n == 0:
		return "no number"
	}
	at, ok := p.Proven(f.n)
	switch {
	case !ok:
		return "not known when the number was proven"
	case at.IsZero():
		return "put by the operator"
	}
	return fmt.Sprintf("proven %s ago; want %s", f.now.Sub(at).Round(time.Second), p.OTPAfterProof)
}

func (f *facts) receiptsValue(pl *Plan) string {
	asked, sends := "none asked for", "the app sends them"
	if f.m.RegisteredDelivery&receiptsAsked != 0 {
		asked = "asked for"
	}
	if f.e.NoReceipts() {
		sends = "the app sends none"
	}
	if pl.NoReceipts {
		sends += ", require_receipts = false"
	}
	return asked + ", " + sends
}
