// Package route decides, message by message, between the app and the carrier.
// It is pure: no I/O, no clock, and no allocation for what the index misses.
package route

import (
	"bytes"
	"hash/fnv"
	"strings"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
)

// Mode is the switch for all diversion.
type Mode uint8

const (
	Off    Mode = iota // the zero Mode diverts nothing
	Shadow             // decide and count, divert nothing
	On
)

var modeNames = [...]string{"off", "shadow", "on"}

func (m Mode) String() string { return modeNames[m] }

// ParseMode reads what String writes.
func ParseMode(s string) (Mode, bool) {
	for i, n := range modeNames {
		if n == s {
			return Mode(i), true
		}
	}
	return Off, false
}

// Policy is what the configuration says about diversion. It is not changed
// once it is in use.
type Policy struct {
	DivertFrom       []string // patterns of senders that may be diverted at all
	NeverDivertFrom  []string // patterns of senders that never are
	NeverServiceType []string
	AllowOTP         bool
	// OTPAfterProof: one-time codes only so long after the number was proven, which
	// Proven knows: the zero Time of a number that the operator put and vouches for.
	// It is asked for these alone, and may read the disk; ok is false if it could not.
	OTPAfterProof   time.Duration
	Proven          func(n msg.Number) (at time.Time, ok bool)
	Share           int // per cent of the eligible numbers
	Plans           []Plan
	DefaultValidity time.Duration // of a message whose ESME left it to the SMSC

	// AcceptedWithin: only what the SMSC has accepted of the same account and
	// source address this long ago at most; 0: whatever it did. Accepted says
	// when that was last, the zero Time: never, as far as is known.
	AcceptedWithin time.Duration
	Accepted       func(systemID string, source []byte) time.Time
}

// Account is what the decision knows of the bind that a message came on.
type Account struct {
	SystemID string
	OptedIn  bool
	Country  msg.Country     // of its national numbers
	Alphabet coding.Alphabet // what data_coding 0 means here
	IA5      coding.Alphabet // what data_coding 1 means here; Unsupported: see alphabetOf
}

// Verdict is the decision for one submit_sm. The zero Verdict forwards.
type Verdict struct {
	Divert   bool
	Reason   msg.Reason
	Plan     *Plan
	Alphabet coding.Alphabet
	ClaimBy  time.Time
	Expires  time.Time
	HoldBy   time.Time // until then a part waits for the rest of its long message
	Due      time.Time // schedule_delivery_time; zero: at once
}

// Text judges the whole text of a message, or why it cannot be read.
func (p *Policy) Text(text string, err error) msg.Reason {
	switch {
	case unreadable(text, err):
		return msg.ReasonText
	case p.refusesCode(text):
		return msg.ReasonOneTimeCode
	}
	return msg.NoReason
}

func unreadable(text string, err error) bool { return err != nil || text == "" }

func (p *Policy) refusesCode(text string) bool { return !p.AllowOTP && OneTimeCode(text) }

// Letter judges the whole text of a long message, all parts of which are
// there: by itself, and by the plan that it would have had if its text had
// been known when m, its first part, was submitted at that time.
func (p *Policy) Letter(acc *Account, m *pdu.SM, n msg.Number, at time.Time, text string, err error) msg.Reason {
	if r := p.Text(text, err); r != msg.NoReason {
		return r
	}
	if !p.ProvenLongAgo(text, n, at) {
		return msg.ReasonFreshProof
	}
	if c := p.contentFor(m, text); c != msg.ContentUnknown && !p.PlanOf(acc, m, n, c, at).AppFirst {
		return msg.ReasonPlanCarrier
	}
	return msg.NoReason
}

// AlphabetOf is the alphabet of a text with that data_coding. data_coding 1 is IA5 to the specification
// (§5.2.19), but some stacks, npm's smpp for one, put it over octets of the
// GSM alphabet. Unless the account says which it means, control characters
// tell GSM text from ASCII, and a text with octets that read differently in
// the two has no certain alphabet: it stays with the carrier.
func AlphabetOf(dataCoding byte, text []byte, acc *Account) (coding.Alphabet, bool) {
	a, ok := coding.OfDataCoding(dataCoding, acc.Alphabet)
	if !ok || dataCoding != 1 {
		return a, ok
	}
	if acc.IA5 != coding.Unsupported {
		return acc.IA5, true
	}
	for _, c := range text {
		switch {
		case c == '\n', c == '\r':
		case c < ' ' && c != '\t':
			return coding.GSM7, true
		case c == '\t', c == '$', c == '@', c >= '[' && c <= '`', c >= '{':
			a, ok = coding.Unsupported, false
		}
	}
	return a, ok
}

// HoldFor is how long the parts of a long message wait for each other.
const HoldFor = 30 * time.Second

// maxAhead is how far ahead a message may be scheduled; what is later stays with
// the carrier.
const maxAhead = 30 * 24 * time.Hour

// due reads schedule_delivery_time (SMPP v3.4 §5.2.15); zero: at once. An hour
// that is none, or past, or too far ahead, is for the SMSC to judge.
func due(m *pdu.SM, now time.Time) (time.Time, bool) {
	t, err := pdu.Time(m.Schedule, now)
	if err != nil {
		return time.Time{}, false
	}
	return t, t.IsZero() || t.After(now) && t.Sub(now) <= maxAhead
}

// Schedule sets the deadlines of a message that goes to the app. Those of a
// scheduled one count from its hour; a relative validity_period from its
// submission.
func (p *Policy) Schedule(plan *Plan, m *pdu.SM, now time.Time) Verdict {
	if !plan.AppFirst {
		return Verdict{Reason: msg.ReasonPlanCarrier, Plan: plan}
	}
	at, ok := due(m, now)
	if !ok {
		return Verdict{Reason: msg.ReasonScheduled, Plan: plan}
	}
	begin := now
	if !at.IsZero() {
		begin = at
	}
	expires, err := pdu.Time(m.Validity, now)
	if err != nil {
		return Verdict{Reason: msg.ReasonUndecodable, Plan: plan}
	}
	if ttl, ok := m.TLVs.TimeToLive(); ok && expires.IsZero() {
		expires = now.Add(ttl)
	}
	if expires.IsZero() {
		expires = begin.Add(p.DefaultValidity)
	}
	validity := expires.Sub(begin)
	longest := validity - reserve(validity)
	claim := min(plan.ClaimWithin, longest)
	if claim < minClaim {
		return Verdict{Reason: msg.ReasonValidity, Plan: plan}
	}
	return Verdict{
		Divert: true, Reason: msg.ReasonDivert, Plan: plan, Due: at,
		ClaimBy: begin.Add(claim), Expires: expires, HoldBy: begin.Add(min(HoldFor, longest)),
	}
}

// minClaim is the shortest time in which a push and a claim make sense.
const minClaim = time.Second

// reserve is the part of the validity that is kept for the SMS.
func reserve(validity time.Duration) time.Duration {
	return min(max(validity/4, time.Second), 30*time.Second)
}

// matches tells whether an address fits a pattern, in which "*" stands for
// any characters; a leading "+" counts on neither side.
func matches(patterns []string, addr []byte) bool {
	a := bytes.TrimPrefix(addr, []byte("+"))
	for _, p := range patterns {
		if glob(strings.TrimPrefix(p, "+"), a) {
			return true
		}
	}
	return false
}

func glob(pattern string, s []byte) bool {
	star, mark, i := -1, 0, 0
	for j := 0; j < len(s); {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, mark = i, j
			i++
		case i < len(pattern) && pattern[i] == s[j]:
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[i:], "*") == ""
}

// slice puts a number in one of a hundred slices, always the same one.
func slice(n msg.Number) uint64 {
	h := fnv.New64a()
	var b [8]byte
	for i := range b {
		b[i] = byte(n >> (8 * i))
	}
	_, _ = h.Write(b[:])
	return h.Sum64() % 100
}
