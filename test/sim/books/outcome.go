package books

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Word is what the gateway itself says of a diverted message, in its trace.
type Word struct {
	ID          string    `json:"id"`
	WireID      string    `json:"wire_id"`
	State       string    `json:"state"`
	ExpiresAt   time.Time `json:"expires_at"`
	Device      string    `json:"device"` // the winner of the claim
	Prefer      string    `json:"prefer"`
	SMSAttempts int       `json:"sms_attempts"`
	Resubmits   int       `json:"resubmits"`
}

const possibleDuplicate = "possible-duplicate"

// word asks for the gateway's word on m. That on a message without a response
// is the one, of those to its number that no ESME knows, whose SMS was sent
// again most often.
func (l *ledger) word(m *ESMELine) (w Word, ok bool) {
	if l.o.Ask == nil {
		return w, false
	}
	if m.MessageID != "" {
		if all := l.o.Ask(m.MessageID); len(all) == 1 {
			return all[0], true
		}
		return w, false
	}
	for _, v := range l.o.Ask("+" + m.Dest) {
		if !l.known[v.ID] && !l.known[v.WireID] && (!ok || v.Resubmits > w.Resubmits) {
			w, ok = v, true
		}
	}
	return w, ok
}

// over tells that a claim is none any more, by the gateway's word: its lease or
// the message's validity ended before an acknowledgement came.
func (l *ledger) over(id string) bool {
	if l.o.Ask == nil {
		return false
	}
	all := l.o.Ask(id)
	return len(all) == 1 && all[0].State != "CLAIMED" && all[0].State != "DELIVERED"
}

// excused tells that more than one outcome is what the gateway warns of: an SMS
// of unknown fate that was sent again, or one that followed a claim without an
// acknowledgement where the plan prefers a possible duplicate.
func (l *ledger) excused(m *ESMELine, o *outcomes) bool {
	w, ok := l.word(m)
	switch {
	case !ok || len(o.forwarded) > 0 || len(o.fellBack) > 1+w.Resubmits:
		return false
	case len(o.claims) == 0:
	case len(o.claims) == 1 && w.Prefer == possibleDuplicate && o.claims[0].Delivered/100 != 2:
		l.r.LeasedDoubled++
	default:
		return false
	}
	if len(o.fellBack) > 1 {
		l.r.ResubmittedDoubled++
	}
	return true
}

// alias is the gateway's own id of a message that its ESME knows by another one
// or by none, as far as it can be found.
func (l *ledger) alias(m *ESMELine, o *outcomes) string {
	for _, c := range o.claims {
		if c.ID != m.MessageID {
			return ", known to the gateway as " + c.ID
		}
	}
	if len(o.fellBack) > 0 && m.Responded == nil {
		if w, ok := l.word(m); ok {
			return ", known to the gateway perhaps as " + w.ID
		}
	}
	return ""
}

// fate is what became of a message, and what may be said of it.
type fate struct {
	m       *ESMELine
	name    string   // forwarded, claimed, fell-back, expired, unknown, lost
	channel string   // of its receipt; "": any
	truth   []string // what its receipt may say
	state   string   // the gateway's final state of a diverted message
	pending bool     // claimed and never acknowledged: final only when its validity ends
}

// outcome counts what became of m and judges its receipts by it.
func (l *ledger) outcome(m *ESMELine, o *outcomes) {
	f := &fate{m: m}
	switch {
	case len(o.forwarded) > 0:
		f.name, f.truth = "forwarded", finals(o.forwarded)
		l.r.Forwarded++
		l.r.ForwardedFinal[o.forwarded[0].Final]++
	case len(o.fellBack) > 0:
		l.fellBack(f, o)
	case len(o.claims) > 0:
		l.claimed(f, o.claims[0])
	case m.Responded == nil:
		return
	case l.refused[m.BodyBlank] && (!m.Asked || len(m.Receipts) > 0 && m.Receipts[0].Stat != "EXPIRED"):
		// The SMSC refused the fallback for good: that is its outcome.
		f.name, f.channel, f.state, f.truth = "fell-back", "carrier", "SMS_FAILED", []string{"UNDELIV", "REJECTD"}
		l.r.FellBack++
		l.r.FellBackFinal["REFUSED"]++
	default:
		l.unseen(f)
	}
	if m.Responded == nil {
		return
	}
	l.r.Latencies[f.name] = append(l.r.Latencies[f.name], m.Responded.Sub(*m.Submitted))
	l.receipts(f)
	if f.name != "forwarded" {
		l.r.fates[m.MessageID] = f
	}
}

func (l *ledger) fellBack(f *fate, o *outcomes) {
	final := o.fellBack[0].Final
	f.channel, f.truth = "carrier", finals(o.fellBack)
	l.r.FellBackFinal[final]++
	f.name, f.state = "fell-back", "SMS_FAILED"
	switch final {
	case "EXPIRED": // neither app nor SMS in time
		f.name, f.state = "expired", "EXPIRED"
		l.r.Expired++
		return
	case "DELIVRD":
		f.state = "SMS_DELIVERED"
	}
	l.r.FellBack++
}

func (l *ledger) claimed(f *fate, c *claim) {
	f.name, f.channel = "claimed", "app"
	l.r.Claimed++
	if c.Read/100 == 2 {
		l.r.Read++
	}
	if c.Delivered/100 == 2 {
		f.state, f.truth = "DELIVERED", []string{"DELIVRD"}
		l.r.Delivered++
		return
	}
	f.state, f.truth = "UNKNOWN", []string{"UNKNOWN"}
	w, ok := l.word(f.m)
	switch {
	case ok && w.State == "EXPIRED" && w.Prefer == possibleDuplicate:
		// Its lease was over, and then its validity, before the SMS could go.
		f.channel, f.state, f.truth = "", w.State, []string{"EXPIRED"}
	case ok && w.State == "SMS_FAILED" && l.refused[f.m.BodyBlank]:
		f.channel, f.state, f.truth = "carrier", w.State, []string{"UNDELIV", "REJECTD"}
	case ok && w.State == "UNKNOWN" && w.SMSAttempts > 0:
		f.channel = ""
		l.r.UnknownSMS++
	default:
		f.pending = l.o.PendingClaimed && len(f.m.Receipts) == 0 && (!ok || w.State == "CLAIMED")
	}
}

// unseen is the fate of an accepted message that reached neither the SMSC nor
// a handset: it may have expired, by its own receipt or the gateway's word. An
// SMS of which nobody knows whether it was ever taken, and a claim whose answer
// was cut off until the validity was over, end UNKNOWN.
func (l *ledger) unseen(f *fate) {
	m := f.m
	w, ok := l.word(m)
	receipt := len(m.Receipts) > 0 && m.Receipts[0].Stat == "EXPIRED"
	switch {
	case l.o.Ask == nil && receipt, ok && w.State == "EXPIRED" && m.Validity > 0:
		f.name, f.state, f.truth = "expired", "EXPIRED", []string{"EXPIRED"}
		l.r.Expired++
	case ok && w.State == "UNKNOWN" && m.Validity > 0 && (w.SMSAttempts > 0 || w.Device != ""):
		f.name, f.state, f.truth = "unknown", "UNKNOWN", []string{"UNKNOWN"}
		if w.SMSAttempts > 0 {
			l.r.UnknownSMS++
		} else {
			l.r.ClaimsCut++
		}
	default:
		f.name = "lost"
		l.unmatchd[m] = true // or so altered that it was not recognised
	}
}

func finals(list []*entry) (states []string) {
	for _, e := range list {
		states = append(states, e.Final)
	}
	return states
}

// receipts judges the receipts of an accepted message.
func (l *ledger) receipts(f *fate) {
	m := f.m
	if !l.wanted(f) {
		if len(m.Receipts) > 0 {
			l.fault(ReceiptUnasked, m, "%d receipts, the first says %s", len(m.Receipts), m.Receipts[0].Stat)
		}
		return
	}
	l.r.ReceiptsAsked++
	l.r.Asked[f.name]++
	if len(m.Receipts) == 0 {
		if f.pending {
			l.r.ReceiptsPending++
			return
		}
		l.fault(ReceiptMissing, m, "%s", f.name)
		return
	}
	first := m.Receipts[0]
	for _, r := range m.Receipts[1:] {
		if !l.o.RepeatedReceipts || r.Stat != first.Stat {
			l.fault(ReceiptDoubled, m, "%s, then %s", first.Stat, r.Stat)
			return
		}
		l.r.ReceiptsRepeated++
	}
	if why := f.untrue(first, l.o.ForwardedIDs); why != "" {
		l.fault(ReceiptUntrue, m, "%s: %s", f.name, why)
		return
	}
	l.r.ReceiptsMatched++
	l.r.Matched[f.name]++
}

// wanted tells whether m asked for a receipt of its fate. It asks the gateway
// about an SMS that the SMSC took and whose receipt says that nobody knows: the
// answer to it may have been cut off.
func (l *ledger) wanted(f *fate) bool {
	m := f.m
	if len(m.Receipts) > 0 && m.Receipts[0].Stat == "UNKNOWN" && !slices.Contains(f.truth, "UNKNOWN") && f.name != "forwarded" {
		if w, ok := l.word(m); ok && w.State == "UNKNOWN" && w.SMSAttempts > 0 {
			f.truth, f.state = []string{"UNKNOWN"}, "UNKNOWN"
			l.r.UnknownSMS++
		}
	}
	return m.Asked || m.OnFailure && len(f.truth) > 0 && !slices.Contains(f.truth, "DELIVRD")
}

// untrue says what is wrong with a receipt.
func (f *fate) untrue(r Receipt, rawIDs bool) string {
	switch {
	case len(f.truth) > 0 && !slices.Contains(f.truth, r.Stat):
		return fmt.Sprintf("says %s, the truth is %s", r.Stat, strings.Join(f.truth, " or "))
	case r.ID != f.m.MessageID && (f.name != "forwarded" || rawIDs):
		return fmt.Sprintf("names the id %q", r.ID)
	case r.Channel != "" && f.channel != "" && r.Channel != f.channel:
		return fmt.Sprintf("names the channel %q", r.Channel)
	}
	return ""
}
