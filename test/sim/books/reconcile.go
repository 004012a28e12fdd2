package books

import (
	"fmt"
	"strings"
	"time"
)

// Options say what the reconciliation takes for granted.
type Options struct {
	Own string // system_id of the gateway's own bind; "shunt" when empty

	// ForwardedIDs: the SMSC's ids and those of its receipts are compared as
	// they are. False where the SMSC writes them in two forms.
	ForwardedIDs bool

	// PendingClaimed: a message that was claimed and never acknowledged may
	// still owe its receipt, which is due at the end of its validity.
	PendingClaimed bool

	// After a kill -9 of the gateway: a receipt whose answer was cut off comes
	// again, and an SMS of unknown fate that the gateway sent again, and
	// counted, may be there twice.
	RepeatedReceipts bool
	Resubmitted      map[string]bool // message ids

	MaxFaults int // kept in the report; 20 when 0
}

// Books are all that was written down in one run.
type Books struct {
	ESME    []ESMELine
	SMSC    []SMSCLine
	Handset []HandsetLine
}

// Load reads the books from their files.
func Load(smsc, handset string, esmes ...string) (b Books, err error) {
	if b.SMSC, err = Read[SMSCLine](smsc); err != nil {
		return b, err
	}
	if handset != "" {
		if b.Handset, err = Read[HandsetLine](handset); err != nil {
			return b, err
		}
	}
	for _, path := range esmes {
		lines, err := Read[ESMELine](path)
		if err != nil {
			return b, err
		}
		b.ESME = append(b.ESME, lines...)
	}
	return b, nil
}

// ledger is one reconciliation under way.
type ledger struct {
	o        Options
	r        *Report
	sms      map[string][]*entry // accepted by the SMSC, by blank body
	all      []*entry
	byID     map[string][]*claim // answered 200, by message id
	byText   map[string][]*claim // the same, by number and text
	refused  map[string]bool     // blank bodies that the SMSC refused on the gateway's own bind
	claims   []*claim
	unmatchd map[*ESMELine]bool // accepted messages without an outcome so far
}

type entry struct {
	*SMSCLine
	used bool
}

type claim struct {
	*HandsetLine
	used   bool
	letter string // the long message whose parts it is the outcome of
}

// outcomes are what became of one message.
type outcomes struct {
	forwarded, fellBack []*entry
	claims              []*claim
}

func (o *outcomes) count() int { return len(o.forwarded) + len(o.fellBack) + len(o.claims) }

// Reconcile compares the books.
func Reconcile(b Books, o Options) *Report {
	if o.Own == "" {
		o.Own = "shunt"
	}
	if o.MaxFaults == 0 {
		o.MaxFaults = 20
	}
	l := &ledger{
		o: o, sms: map[string][]*entry{}, byID: map[string][]*claim{}, byText: map[string][]*claim{},
		unmatchd: map[*ESMELine]bool{}, refused: map[string]bool{},
		r: &Report{
			Counts: map[string]int{}, ForwardedFinal: map[string]int{}, FellBackFinal: map[string]int{},
			Asked: map[string]int{}, Matched: map[string]int{}, Latencies: map[string][]time.Duration{},
		},
	}
	l.index(&b)
	unanswered, stray := map[string]int{}, map[string]int{}
	seen := map[string]bool{}
	for i := range b.ESME {
		m := &b.ESME[i]
		if m.Unmatched != nil {
			stray[l.of(&b, i)]++
			continue
		}
		if seen[m.BodyBlank] {
			l.fault(NotUnique, m, "an earlier message has the same body")
			continue
		}
		seen[m.BodyBlank] = true
		l.message(m)
		if m.Responded == nil && m.Asked {
			unanswered[m.SystemID]++
		}
	}
	l.missing(b.ESME)
	l.strays(stray, unanswered)
	l.handsets(b.Handset)
	return l.r
}

// of is the system_id of the book that the unmatched receipt i stands in: a
// book's receipts follow its messages.
func (l *ledger) of(b *Books, i int) string {
	for ; i >= 0; i-- {
		if b.ESME[i].SystemID != "" {
			return b.ESME[i].SystemID
		}
	}
	return ""
}

func (l *ledger) fault(kind string, m *ESMELine, format string, args ...any) {
	l.r.fault(l.o.MaxFaults, kind, m, fmt.Sprintf(format, args...))
}

func (l *ledger) index(b *Books) {
	for i := range b.SMSC {
		if s := &b.SMSC[i]; s.Status == 0 {
			e := &entry{SMSCLine: s}
			l.all = append(l.all, e)
			l.sms[s.BodyBlank] = append(l.sms[s.BodyBlank], e)
		} else if s.SystemID == l.o.Own {
			l.refused[s.BodyBlank] = true
		}
	}
	for i := range b.Handset {
		if h := &b.Handset[i]; h.Claim == 200 {
			c := &claim{HandsetLine: h}
			l.claims = append(l.claims, c)
			l.byID[h.ID] = append(l.byID[h.ID], c)
			l.byText[h.Number+" "+h.Text] = append(l.byText[h.Number+" "+h.Text], c)
		}
	}
}

// find collects the outcomes of m and marks them as used.
func (l *ledger) find(m *ESMELine) (o outcomes) {
	for _, e := range l.sms[m.BodyBlank] {
		e.used = true
		if e.SystemID == l.o.Own {
			o.fellBack = append(o.fellBack, e)
		} else {
			o.forwarded = append(o.forwarded, e)
		}
	}
	if m.Letter != "" { // one claim is the outcome of all parts
		for _, c := range l.byText[m.Dest+" "+m.Letter] {
			if key := m.SystemID + " " + m.Letter; !c.used || c.letter == key {
				c.used, c.letter = true, key
				o.claims = append(o.claims, c)
			}
		}
		return o
	}
	taken := map[*claim]bool{}
	for _, list := range [][]*claim{l.byID[m.MessageID], l.byText[m.Dest+" "+m.Text]} {
		for _, c := range list {
			// The text alone finds what the id cannot: messages without a
			// response, and binds below v3.4, whose ids are of another form.
			if !c.used && !taken[c] {
				taken[c] = true
				o.claims = append(o.claims, c)
			}
		}
	}
	for c := range taken {
		c.used = true
	}
	return o
}

// message judges one message.
func (l *ledger) message(m *ESMELine) {
	l.r.Messages++
	o := l.find(m)
	switch {
	case m.Responded == nil:
		l.r.Unanswered++
		if o.count() > 0 {
			l.r.UnansweredKnown++
		}
	case m.Status != 0:
		l.r.Refused++
		if o.count() > 0 {
			l.fault(NotRefused, m, "answered with status 0x%08X and yet %d outcomes", m.Status, o.count())
		}
		return
	default:
		l.r.Accepted++
	}
	if n := o.count(); n > 1 {
		if l.resubmitted(m, &o) {
			l.r.ResubmittedDoubled++
		} else {
			l.fault(Doubled, m, "%d forwarded, %d fell back, %d claimed", len(o.forwarded), len(o.fellBack), len(o.claims))
		}
	}
	l.unaltered(m, &o)
	l.outcome(m, &o)
}

func (l *ledger) resubmitted(m *ESMELine, o *outcomes) bool {
	return l.o.Resubmitted[m.MessageID] && len(o.fellBack) == 2 && o.count() == 2
}

// unaltered compares what came out with what went in.
func (l *ledger) unaltered(m *ESMELine, o *outcomes) {
	for _, e := range o.forwarded {
		switch {
		case e.SystemID != m.SystemID:
			l.fault(WrongBind, m, "forwarded as %q", e.SystemID)
		case e.Body != m.Body:
			l.fault(Altered, m, "registered_delivery or validity_period of a forwarded message")
		case l.o.ForwardedIDs && m.Responded != nil && e.ID != m.MessageID:
			l.fault(WrongID, m, "the SMSC gave the id %q", e.ID)
		}
	}
	for _, c := range o.claims {
		switch {
		case c.Text != m.Text && c.Text != m.Letter:
			l.fault(Altered, m, "the claim was answered with another text")
		case c.Number != m.Dest:
			l.fault(Altered, m, "claimed by a device of another number")
		case c.From != "" && c.From != m.Source && strings.TrimPrefix(c.From, "+") != m.Source:
			l.fault(Altered, m, "the claim was answered with another sender")
		}
	}
}

// outcome counts what became of m and judges its receipts by it.
func (l *ledger) outcome(m *ESMELine, o *outcomes) {
	var name, channel string
	var truth []string
	switch {
	case len(o.forwarded) > 0:
		name = "forwarded"
		l.r.Forwarded++
		l.r.ForwardedFinal[o.forwarded[0].Final]++
		truth = finals(o.forwarded)
	case len(o.fellBack) > 0:
		channel, truth = "carrier", finals(o.fellBack)
		l.r.FellBackFinal[o.fellBack[0].Final]++
		if o.fellBack[0].Final == "EXPIRED" { // neither app nor SMS in time
			name = "expired"
			l.r.Expired++
		} else {
			name = "fell-back"
			l.r.FellBack++
		}
	case len(o.claims) > 0:
		name, channel = "claimed", "app"
		l.r.Claimed++
		truth = []string{"UNKNOWN"}
		if o.claims[0].Delivered/100 == 2 {
			truth = []string{"DELIVRD"}
			l.r.Delivered++
		}
		if o.claims[0].Read/100 == 2 {
			l.r.Read++
		}
	case m.Responded == nil:
		return
	case l.refused[m.BodyBlank] && (!m.Asked || len(m.Receipts) > 0 && m.Receipts[0].Stat != "EXPIRED"):
		// The SMSC refused the fallback for good: that is its outcome.
		name, channel = "fell-back", "carrier"
		l.r.FellBack++
		l.r.FellBackFinal["REFUSED"]++
		truth = []string{"UNDELIV", "REJECTD"}
	case len(m.Receipts) > 0 && m.Receipts[0].Stat == "EXPIRED":
		name, truth = "expired", []string{"EXPIRED"}
		l.r.Expired++
	default:
		l.unmatchd[m] = true // lost, or so altered that it was not recognised
		name = "lost"
	}
	if m.Responded != nil {
		l.r.Latencies[name] = append(l.r.Latencies[name], m.Responded.Sub(*m.Submitted))
		l.receipts(m, name, channel, truth)
	}
}

func finals(list []*entry) (states []string) {
	for _, e := range list {
		states = append(states, e.Final)
	}
	return states
}

// receipts judges the receipts of an accepted message.
func (l *ledger) receipts(m *ESMELine, name, channel string, truth []string) {
	if !m.Asked {
		if len(m.Receipts) > 0 {
			l.fault(ReceiptUnasked, m, "%d receipts", len(m.Receipts))
		}
		return
	}
	l.r.ReceiptsAsked++
	l.r.Asked[name]++
	if len(m.Receipts) == 0 {
		if name == "claimed" && truth[0] == "UNKNOWN" && l.o.PendingClaimed {
			l.r.ReceiptsPending++
			return
		}
		l.fault(ReceiptMissing, m, "%s", name)
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
	if why := untrue(m, first, name, channel, truth, l.o.ForwardedIDs); why != "" {
		l.fault(ReceiptUntrue, m, "%s: %s", name, why)
		return
	}
	l.r.ReceiptsMatched++
	l.r.Matched[name]++
}

func untrue(m *ESMELine, r Receipt, name, channel string, truth []string, rawIDs bool) string {
	for _, t := range truth {
		if r.Stat == t {
			truth = nil
			break
		}
	}
	switch {
	case len(truth) > 0:
		return fmt.Sprintf("says %s, the truth is %s", r.Stat, strings.Join(truth, " or "))
	case r.ID != m.MessageID && (name != "forwarded" || rawIDs):
		return fmt.Sprintf("names the id %q", r.ID)
	case r.Channel != "" && channel != "" && r.Channel != channel:
		return fmt.Sprintf("names the channel %q", r.Channel)
	}
	return ""
}

// missing tells messages that were altered beyond recognition from lost ones:
// an SMS that belongs to no message, for the same destination and with the
// same user data or the same sender.
func (l *ledger) missing(lines []ESMELine) {
	byData, bySender := map[string][]*entry{}, map[string][]*entry{}
	for _, e := range l.all {
		if !e.used {
			byData[e.Dest+" "+e.UserData] = append(byData[e.Dest+" "+e.UserData], e)
			bySender[e.Dest+" "+e.Source] = append(bySender[e.Dest+" "+e.Source], e)
		}
	}
	take := func(list []*entry) bool {
		for _, e := range list {
			if !e.used {
				e.used = true
				return true
			}
		}
		return false
	}
	for i := range lines {
		m := &lines[i]
		switch {
		case !l.unmatchd[m]:
		case take(byData[m.Dest+" "+m.UserData]):
			l.fault(Altered, m, "the SMSC got its user data in another body")
		case take(bySender[m.Dest+" "+m.Source]):
			l.fault(Altered, m, "the SMSC got another user data")
		default:
			l.fault(Lost, m, "asked for a receipt: %t, receipts: %d", m.Asked, len(m.Receipts))
		}
	}
}

// strays are outcomes and receipts that belong to no message.
func (l *ledger) strays(receipts, unanswered map[string]int) {
	for _, e := range l.all {
		if !e.used {
			l.fault(Stray, nil, "the SMSC accepted id %q on a bind of %q", e.ID, e.SystemID)
		}
	}
	for _, c := range l.claims {
		if !c.used {
			l.fault(Stray, nil, "id %q was claimed", c.ID)
		}
	}
	for systemID, n := range receipts {
		// A message whose response was cut off has a receipt all the same, for
		// an id that its ESME never saw.
		known := min(n, unanswered[systemID])
		l.r.ReceiptsUnanswered += known
		for range n - known {
			l.fault(ReceiptStray, nil, "an ESME %q took it", systemID)
		}
	}
}

// handsets are faults that the handsets saw themselves.
func (l *ledger) handsets(lines []HandsetLine) {
	for i := range lines {
		h := &lines[i]
		if h.Claim == 200 && h.Replay != 0 && (h.Replay != 200 || h.ReplaySum != h.Text) {
			l.fault(HandsetSaw, nil, "id %q: the winner's second claim got %d or another text", h.ID, h.Replay)
		}
		if h.Fault != "" {
			l.fault(HandsetSaw, nil, "id %q: %s", h.ID, h.Fault)
		}
	}
}
