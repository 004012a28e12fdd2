package route

import (
	"time"

	"shunt/gateway/msg"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
)

// Check is one rule of the decision. The rules are asked in the order of their
// numbers, and the first that fails decides.
type Check uint8

const (
	// What the registry, the switch and the account say.
	CheckRegistration Check = iota
	CheckSwitch
	CheckActive
	CheckAccount

	// What a handset's SMS stack alone can honour: see form.
	CheckSegment
	CheckHeader
	CheckSourceLength
	CheckMode
	CheckType
	CheckReplyPath
	CheckProtocol
	CheckPredefined
	CheckReplace
	CheckSchedule
	CheckTLVs

	// The operator's rules.
	CheckSender
	CheckNeverSender
	CheckServiceType
	CheckShare

	// The text, the plan and the time.
	CheckAlphabet
	CheckText
	CheckOneTimeCode
	CheckProof
	CheckPlan
	CheckReceipts
	CheckValidity
	CheckAccepted
	CheckShadow

	numChecks
)

var checkNames = [numChecks]string{
	"registration", "switch", "active", "account",
	"segment", "header", "source-length", "message-mode", "message-type", "reply-path", "protocol-id",
	"predefined-message", "replace-if-present", "schedule", "tlvs",
	"divert-from", "never-divert-from", "service-type", "share",
	"alphabet", "text", "one-time-code", "proof", "plan", "receipts", "validity", "carrier-accepted", "shadow",
}

func (c Check) String() string { return checkNames[c] }

// facts are what the rules look at: a submission, and what the rules before
// have read of it. It stays on the stack.
type facts struct {
	p    *Policy
	mode Mode
	acc  *Account
	m    *pdu.SM
	n    msg.Number
	e    msg.Entry
	now  time.Time

	segment coding.Segment
	read    bool // the segment was
	text    string
	textErr error
}

// Decide judges a submit_sm or data_sm for n, of which the index says e. now is
// the time of the submission. Of a part of a long message the text does not
// count: Letter judges it when all parts are there.
func (p *Policy) Decide(mode Mode, acc *Account, m *pdu.SM, n msg.Number, e msg.Entry, now time.Time) (v Verdict) {
	f := facts{p: p, mode: mode, acc: acc, m: m, n: n, e: e, now: now}
	for c := range numChecks {
		if v.Reason = f.check(c, &v); v.Reason != msg.NoReason {
			return v
		}
	}
	v.Divert, v.Reason = true, msg.ReasonDivert
	return v
}

// check asks one rule: NoReason lets the message go on. The rules before it
// have been asked. v gets plan, alphabet and deadlines as they become known.
func (f *facts) check(c Check, v *Verdict) msg.Reason {
	switch c {
	case CheckRegistration:
		return unless(f.e.Registered(), msg.ReasonUnregistered)
	case CheckSwitch:
		return when(f.mode == Off, msg.ReasonSwitchedOff)
	case CheckActive:
		return unless(f.e.Active(), msg.ReasonInactive)
	case CheckAccount:
		return unless(f.acc.OptedIn, msg.ReasonAccountOptOut)
	case CheckSender, CheckNeverSender, CheckServiceType, CheckShare:
		return f.policy(c)
	case CheckAlphabet, CheckText, CheckOneTimeCode:
		return f.words(c, v)
	case CheckProof:
		return unless(f.p.ProvenLongAgo(f.text, f.n, f.now), msg.ReasonFreshProof)
	case CheckReceipts:
		return when(f.receiptless(v.Plan), msg.ReasonNoReceipts)
	case CheckPlan:
		v.Plan = f.p.PlanOf(f.acc, f.m, f.n, f.content(), f.delivery())
		return unless(v.Plan.AppFirst, msg.ReasonPlanCarrier)
	case CheckValidity:
		return f.schedule(v)
	case CheckAccepted:
		return unless(f.accepted(), msg.ReasonNotAccepted)
	case CheckShadow:
		return when(f.mode == Shadow, msg.ReasonShadow)
	}
	return f.form(c)
}

func when(yes bool, r msg.Reason) msg.Reason {
	if yes {
		return r
	}
	return msg.NoReason
}

func unless(yes bool, r msg.Reason) msg.Reason { return when(!yes, r) }

// policy applies the operator's rules.
func (f *facts) policy(c Check) msg.Reason {
	switch p, m := f.p, f.m; c {
	case CheckSender:
		return unless(matches(p.DivertFrom, m.Source.Addr), msg.ReasonSender)
	case CheckNeverSender:
		return when(matches(p.NeverDivertFrom, m.Source.Addr), msg.ReasonNeverSender)
	case CheckServiceType:
		return when(len(p.NeverServiceType) > 0 && fits(p.NeverServiceType, string(m.ServiceType)), msg.ReasonServiceType)
	case CheckShare:
		return when(p.Share < 100 && int(slice(f.n)) >= p.Share, msg.ReasonCanary)
	}
	return msg.NoReason
}

// words reads the text and judges it, unless it is a part of one.
func (f *facts) words(c Check, v *Verdict) msg.Reason {
	switch c {
	case CheckAlphabet:
		a, ok := AlphabetOf(f.m.DataCoding, f.segment.Body, f.acc)
		if !ok {
			return msg.ReasonDataCoding
		}
		v.Alphabet = a
	case CheckText:
		if f.segment.Form == coding.Whole {
			f.text, f.textErr = f.segment.Text(v.Alphabet)
			return when(unreadable(f.text, f.textErr), msg.ReasonText)
		}
	case CheckOneTimeCode:
		return when(f.p.refusesCode(f.text), msg.ReasonOneTimeCode)
	}
	return msg.NoReason
}

// delivery is the hour that a plan's hours are about.
func (f *facts) delivery() time.Time {
	if at, ok := due(f.m, f.now); ok && !at.IsZero() {
		return at
	}
	return f.now
}

// content is unknown of a part: its whole text is.
func (f *facts) content() msg.Content {
	if f.text == "" {
		return msg.ContentUnknown
	}
	return f.p.contentFor(f.m, f.text)
}

// schedule sets the deadlines that the plan has, or would have if it had the
// app first.
func (f *facts) schedule(v *Verdict) msg.Reason {
	plan := v.Plan
	if !plan.AppFirst || f.e.Stale() {
		app := *plan // on the stack
		app.AppFirst = true
		if f.e.Stale() {
			app.ClaimWithin /= 2
		}
		plan = &app
	}
	set := f.p.Schedule(plan, f.m, f.now)
	if !set.Divert {
		return set.Reason
	}
	v.ClaimBy, v.Expires, v.HoldBy, v.Due = set.ClaimBy, set.Expires, set.HoldBy, set.Due
	return msg.NoReason
}

// accepted tells whether the SMSC accepted a message of this account and
// sender lately, where that is asked for.
func (f *facts) accepted() bool {
	p := f.p
	if p.AcceptedWithin == 0 {
		return true
	}
	last := p.lastAccepted(f.acc, f.m)
	return !last.IsZero() && f.now.Sub(last) <= p.AcceptedWithin
}

func (p *Policy) lastAccepted(acc *Account, m *pdu.SM) time.Time {
	if p.Accepted == nil {
		return time.Time{}
	}
	return p.Accepted(acc.SystemID, m.Source.Addr)
}

// receiptsAsked are the bits of registered_delivery with which an SMSC delivery
// receipt is asked for (SMPP v3.4 §5.2.17).
const receiptsAsked = 0x03

// receiptless tells whether a receipt is asked for that the app would not bring
// about, and the plan does not say that this does not matter.
func (f *facts) receiptless(pl *Plan) bool {
	return f.m.RegisteredDelivery&receiptsAsked != 0 && f.e.NoReceipts() && !pl.NoReceipts
}

// ProvenLongAgo tells whether a text is no one-time code, or the number was
// proven so long ago that it may go to the app. Who has stolen a SIM has proven
// the number only just now.
func (p *Policy) ProvenLongAgo(text string, n msg.Number, now time.Time) bool {
	if p.OTPAfterProof == 0 || p.Proven == nil || !OneTimeCode(text) {
		return true
	}
	at, ok := p.Proven(n)
	return ok && (at.IsZero() || now.Sub(at) >= p.OTPAfterProof)
}
