package esme

import (
	"strconv"
	"sync"
	"time"

	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/test/sim/books"
)

const maxEarly = 200_000 // receipts without a message that are remembered

// tracker knows every message that was sent and every receipt that came. Its
// fields belong to mu, but for the histogram.
type tracker struct {
	form    string // of ids: raw, hex-resp-dec-receipt, dec-resp-hex-receipt
	keep    bool   // remember messages after their last event, for the book
	latency Histogram

	mu        sync.Mutex
	lines     []*books.ESMELine
	byID      map[string]*books.ESMELine
	early     map[string][]books.Receipt // came before their response
	earlyN    int
	unmatched []books.Receipt
	sum       Summary
	open      int           // receipts that are still to come
	last      time.Time     // when the last response or receipt came
	changed   chan struct{} // a token: something came
}

func newTracker(o *Options) *tracker {
	return &tracker{
		form: o.IDForm, keep: o.Book != "", byID: map[string]*books.ESMELine{},
		early: map[string][]books.Receipt{}, changed: make(chan struct{}, 1), last: time.Now(),
		sum: Summary{Seed: o.Seed, Client: o.Client, SystemID: o.SystemID, Statuses: map[string]int{}},
	}
}

// sent notes a message just before it is written.
func (t *tracker) sent(s *submit, body []byte, sm *pdu.SM, systemID string) *books.ESMELine {
	payload, _ := sm.Payload()
	now := time.Now()
	l := &books.ESMELine{
		Seq: s.seq, SystemID: systemID, Kind: s.kind, Source: string(sm.Source.Addr), Dest: string(sm.Dest.Addr),
		Asked: s.asked, OnFailure: s.onFailure, Validity: s.validity, Submitted: &now,
	}
	if t.keep {
		l.Body, l.BodyBlank, l.UserData, l.Text = books.Sum(body), books.SumBlank(sm), books.Sum(payload), books.Sum([]byte(s.text))
		if s.whole != "" {
			l.Letter = books.Sum([]byte(s.whole))
		}
	}
	t.mu.Lock()
	t.sum.Submitted++
	if t.keep {
		t.lines = append(t.lines, l)
	}
	t.mu.Unlock()
	return l
}

// unsent takes back a message that was not written after all.
func (t *tracker) unsent(l *books.ESMELine) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Submitted--
	for i := len(t.lines) - 1; i >= 0; i-- {
		if t.lines[i] == l {
			t.lines = append(t.lines[:i], t.lines[i+1:]...)
			return
		}
	}
}

// answered takes a response. The message_id is empty for an error status.
func (t *tracker) answered(l *books.ESMELine, status pdu.Status, id string) {
	now := time.Now()
	t.latency.Add(now.Sub(*l.Submitted))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.touch(now)
	l.Responded, l.Status, l.MessageID = &now, uint32(status), id
	t.sum.Answered++
	t.sum.Statuses[status.String()]++
	if status != pdu.ROK {
		t.sum.Refused++
		return
	}
	t.sum.Accepted++
	if !l.Asked && !l.OnFailure && !t.keep {
		return
	}
	key := t.key(id, t.form == "hex-resp-dec-receipt", t.form == "dec-resp-hex-receipt")
	if _, twice := t.byID[key]; twice {
		t.sum.SameID++
	}
	t.byID[key] = l
	if l.Asked {
		t.sum.ReceiptsAsked++
		t.open++
	}
	for _, r := range t.early[key] {
		t.earlyN--
		t.match(key, l, r)
	}
	delete(t.early, key)
}

// lost notes that no response will come; the message is not sent again.
func (t *tracker) lost(l *books.ESMELine, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.touch(time.Now())
	t.sum.Unanswered++
	l.Undecoded = why
}

// deliver takes a deliver_sm: a receipt, or a message that is only counted.
func (t *tracker) deliver(m *pdu.SM) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.touch(now)
	if !smpp.IsReceipt(m) {
		if m.ESMClass&0x3C == smpp.ESMIntermediate {
			t.sum.Intermediate++
		} else {
			t.sum.MO++
		}
		return
	}
	r, ok := smpp.ParseReceipt(m)
	if !ok {
		t.sum.Unreadable++
		return
	}
	rec := books.Receipt{ID: r.ID, Stat: r.State.Stat(), At: now}
	if v, has := m.TLVs.Find(pdu.TagShuntChannel); has {
		rec.Channel = string(v)
	}
	key := t.key(r.ID, t.form == "dec-resp-hex-receipt", t.form == "hex-resp-dec-receipt")
	if l := t.byID[key]; l != nil {
		t.match(key, l, rec)
		return
	}
	if t.earlyN >= maxEarly {
		t.unmatched = append(t.unmatched, rec)
		t.sum.Unmatched++
		return
	}
	t.earlyN++
	t.early[key] = append(t.early[key], rec)
}

// match gives r to its message; the caller holds mu.
func (t *tracker) match(key string, l *books.ESMELine, r books.Receipt) {
	l.Receipts = append(l.Receipts, r)
	switch {
	case !l.Asked && (!l.OnFailure || r.Stat == "DELIVRD"):
		t.sum.Unasked++
	case len(l.Receipts) > 1:
		t.sum.ReceiptsDoubled++
	case !l.Asked:
		t.sum.OfFailures++
	default:
		t.sum.ReceiptsMatched++
		t.open--
		if !t.keep {
			delete(t.byID, key)
		}
	}
}

// touch notes that something came; the caller holds mu.
func (t *tracker) touch(now time.Time) {
	t.last = now
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// key makes ids comparable that a peer writes in two forms: the canonical form
// is configured for the peer and never guessed (trap 1 of message ids). Ids
// that are no number in that form, such as a gateway's own, stay as they are.
func (t *tracker) key(id string, hex, dec bool) string {
	base := 0
	switch {
	case hex:
		base = 16
	case dec:
		base = 10
	default:
		return id
	}
	n, err := strconv.ParseUint(id, base, 64)
	if err != nil {
		return id
	}
	return "#" + strconv.FormatUint(n, 10)
}

// counts are the numbers that a progress line shows.
func (t *tracker) counts() (submitted, answered, receipts, open int, last time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sum.Submitted, t.sum.Answered + t.sum.Unanswered, t.sum.ReceiptsMatched, t.open, t.last
}

// summary completes the counts and, with a book, writes it.
func (t *tracker) summary(book *books.Writer) Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, list := range t.early {
		t.unmatched = append(t.unmatched, list...)
	}
	t.early = map[string][]books.Receipt{}
	sum := t.sum
	sum.Unmatched = len(t.unmatched)
	sum.ReceiptsMissing = t.open
	sum.Latency = t.latency.Latency()
	for _, l := range t.lines {
		book.Write(l)
	}
	for i := range t.unmatched {
		book.Write(&books.ESMELine{Unmatched: &t.unmatched[i]})
	}
	return sum
}

func (t *tracker) unreadable() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Unreadable++
}

func (t *tracker) unencodable() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Unencodable++
}
