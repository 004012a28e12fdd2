package books

import (
	"fmt"
	"strings"
	"time"

	"shunt/smpp/pdu"
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

	// RepeatedReceipts: a receipt whose answer was cut off comes again.
	RepeatedReceipts bool

	// Ask asks the gateway for its own word on what only a crash or a cut
	// connection may leave behind; nil: nothing of it is excused. what is a
	// message's id, or a number with its "+", whose last messages are meant.
	Ask func(what string) []Word

	MaxFaults int // kept in the report; 20 when 0
}

const defaultFaults = 20

// Books are all that was written down in one run.
type Books struct {
	ESME    []ESMELine
	SMSC    []SMSCLine
	Handset []HandsetLine
}

// Load reads the books from their files.
func Load(smsc, handset string, esmes ...string) (b Books, err error) {
	if b.SMSC, err = ReadSMSC(smsc); err != nil {
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
	refused  map[string]bool     // blank bodies that the SMSC refused for good on the gateway's own bind
	claims   []*claim
	unmatchd map[*ESMELine]bool // accepted messages without an outcome so far
	known    map[string]bool    // message ids that ESMEs were given
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
		o.MaxFaults = defaultFaults
	}
	l := &ledger{
		o: o, sms: map[string][]*entry{}, byID: map[string][]*claim{}, byText: map[string][]*claim{},
		unmatchd: map[*ESMELine]bool{}, refused: map[string]bool{}, known: map[string]bool{},
		r: &Report{
			fates: map[string]*fate{}, unanswered: map[string]int{},
			Counts: map[string]int{}, ForwardedFinal: map[string]int{}, FellBackFinal: map[string]int{},
			Asked: map[string]int{}, Matched: map[string]int{}, Latencies: map[string][]time.Duration{},
		},
	}
	l.index(&b)
	unanswered, stray := map[string]int{}, map[string]map[string]Receipt{}
	seen := map[string]bool{}
	for i := range b.ESME {
		m := &b.ESME[i]
		if m.Unmatched != nil {
			l.stray(stray, l.of(&b, i), *m.Unmatched)
			continue
		}
		if seen[m.BodyBlank] {
			l.fault(NotUnique, m, "an earlier message has the same body")
			continue
		}
		seen[m.BodyBlank] = true
		l.message(m)
		if m.Responded == nil && (m.Asked || m.OnFailure) {
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
		} else if s.SystemID == l.o.Own && !pdu.Status(s.Status).Temporary() {
			l.refused[s.BodyBlank] = true
		}
	}
	for i := range b.ESME {
		if id := b.ESME[i].MessageID; id != "" {
			l.known[id] = true
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
		l.r.unanswered[m.SystemID]++
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
	if o.count() > 1 && !l.excused(m, &o) {
		l.fault(Doubled, m, "%d forwarded, %d fell back, %d claimed%s", len(o.forwarded), len(o.fellBack), len(o.claims), l.alias(m, &o))
	}
	l.unaltered(m, &o)
	l.outcome(m, &o)
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

// stray notes a receipt that no message of its ESME owns. One that comes again
// counts once.
func (l *ledger) stray(all map[string]map[string]Receipt, systemID string, r Receipt) {
	if all[systemID] == nil {
		all[systemID] = map[string]Receipt{}
	}
	first, again := all[systemID][r.ID]
	switch {
	case !again:
		all[systemID][r.ID] = r
	case l.o.RepeatedReceipts && first.Stat == r.Stat:
		l.r.ReceiptsRepeated++
	default:
		l.fault(ReceiptStray, nil, "an ESME %q took %s for %s, and then %s", systemID, first.Stat, r.ID, r.Stat)
	}
}

// strays are outcomes and receipts that belong to no message.
func (l *ledger) strays(receipts map[string]map[string]Receipt, unanswered map[string]int) {
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
	for systemID, ids := range receipts {
		// A message whose response was cut off has a receipt all the same, for
		// an id that its ESME never saw.
		n := len(ids)
		known := min(n, unanswered[systemID])
		l.r.ReceiptsUnanswered += known
		if known == n {
			continue
		}
		for id := range ids { // any of them may be the ones too many
			if n--; n < known {
				break
			}
			l.fault(ReceiptStray, nil, "an ESME %q took one for %q and more of the kind, with %d messages unanswered", systemID, id, known)
		}
	}
}

// handsets are faults that the handsets saw themselves.
func (l *ledger) handsets(lines []HandsetLine) {
	for i := range lines {
		h := &lines[i]
		if h.Claim == 200 && h.Replay != 0 && (h.Replay != 200 || h.ReplaySum != h.Text) && !(h.Replay == 409 && l.over(h.ID)) {
			l.fault(HandsetSaw, nil, "id %q: the winner's second claim got %d or another text", h.ID, h.Replay)
		}
		if h.Fault != "" {
			l.fault(HandsetSaw, nil, "id %q: %s", h.ID, h.Fault)
		}
	}
}
