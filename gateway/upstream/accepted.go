package upstream

import (
	"bytes"
	"hash/maphash"
	"sync/atomic"
	"time"

	"shunt/smpp/pdu"
)

// Accepted remembers, in memory, of which senders of which accounts the SMSC
// has accepted a message, and when last, to the minute and never later than it
// was. A restart forgets: until the SMSC has accepted one again, it counts as
// never. It is safe for concurrent use, takes no lock and allocates nothing
// once it is made.
//
// It is a table of fixed size: 32,768 rows of 8 pairs each. A row that is full
// drops its oldest pair, so that of a hundred thousand pairs nearly all are
// kept, and the oldest go first. A pair is known by 49 bits of a hash under a
// key of the process, so that nobody can find two that look alike.
type Accepted struct {
	now     func() time.Time
	epoch   time.Time // times in the table count from a second before it
	account maphash.Seed
	source  maphash.Seed
	rows    [][pairsInRow]atomic.Uint64 // 34 bits of the hash, then the time in 30 bits of seconds; 0: free
}

const (
	acceptedRows = 1 << 15
	pairsInRow   = 8
	timeBits     = 30
	timeMask     = 1<<timeBits - 1

	// noteEvery is how often a pair is noted at most.
	noteEvery = 60
)

// NewAccepted makes an empty memory of 2 MiB.
func NewAccepted(now func() time.Time) *Accepted {
	return &Accepted{
		now: now, epoch: now(), account: maphash.MakeSeed(), source: maphash.MakeSeed(),
		rows: make([][pairsInRow]atomic.Uint64, acceptedRows),
	}
}

// Last is when the SMSC last accepted a message of that account and source
// address; a leading "+" does not count. The zero Time is never, as far as is
// known.
func (a *Accepted) Last(systemID string, source []byte) time.Time {
	s := a.last(a.pair(maphash.String(a.account, systemID), source))
	if s == 0 {
		return time.Time{}
	}
	return a.epoch.Add(time.Duration(s-1) * time.Second)
}

func (a *Accepted) pair(account uint64, source []byte) uint64 {
	return account ^ maphash.Bytes(a.source, bytes.TrimPrefix(source, []byte("+")))
}

// seconds is the time as the table has it, 1 at the least.
func (a *Accepted) seconds() uint64 {
	return uint64(min(max(a.now().Sub(a.epoch)/time.Second, 0), timeMask-1)) + 1
}

func (a *Accepted) row(pair uint64) (row *[pairsInRow]atomic.Uint64, tag uint64) {
	return &a.rows[pair%acceptedRows], pair >> timeBits << timeBits
}

// last is when a pair was noted last, 0 for never.
func (a *Accepted) last(pair uint64) (at uint64) {
	row, tag := a.row(pair)
	for i := range row {
		if w := row[i].Load(); w&^timeMask == tag {
			at = max(at, w&timeMask)
		}
	}
	return at
}

// note notes a pair. What another goroutine writes there meanwhile wins: a
// note that is lost is made again with the next message.
func (a *Accepted) note(pair, at uint64) {
	row, tag := a.row(pair)
	victim, oldest := 0, row[0].Load()
	for i := range row {
		w := row[i].Load()
		if w != 0 && w&^timeMask == tag {
			victim, oldest = i, w
			break
		}
		if w&timeMask < oldest&timeMask {
			victim, oldest = i, w
		}
	}
	row[victim].CompareAndSwap(oldest, tag|at)
}

// accepting is one bind's part in it: which requests are on their way to the
// SMSC whose pair is to be noted when it accepts them. Most are not, for they
// were noted within the last minute; then nothing is kept.
type accepting struct {
	a       *Accepted
	account uint64                              // its hash
	now     uint64                              // of the batch that is read, 0: not asked for yet; the ESME's reader's
	sent    atomic.Pointer[[sentSlots]sentSlot] // made with the first
}

// sentSlots bounds the requests of a bind that are watched at a time. A pair
// that finds no room is noted with a later message.
const sentSlots = 256

// sentSlot is a request that is watched.
type sentSlot struct {
	word atomic.Uint64 // when it was sent, then its sequence_number, 32 bits each; 0: free; busy: being written
	pair atomic.Uint64
}

const busy = 1

// watchFor is how long an answer is waited for, in seconds.
const watchFor = 120

// Watch has a note what the SMSC accepts on this bind; a nil a has nothing done
// at all. It is called before the first PDU.
func (b *Bind) Watch(a *Accepted) {
	if a != nil {
		b.accepting = &accepting{a: a, account: maphash.String(a.account, b.Account.SystemID)}
	}
}

// forwarded looks at a request that goes to the SMSC, before it does. It runs on
// the reader's goroutine, and asks for the time once a batch.
func (t *accepting) forwarded(p pdu.PDU) {
	if t.now == 0 {
		t.now = t.a.seconds()
	}
	t.watch(p, t.now)
}

// batch is the end of one.
func (t *accepting) batch() { t.now = 0 }

// watch looks at a request on any goroutine.
func (t *accepting) watch(p pdu.PDU, now uint64) {
	if id := p.ID(); id != pdu.SubmitSM && id != pdu.DataSM {
		return
	}
	slots := t.sent.Load()
	if slots != nil { // one under the same sequence_number has had no answer
		s := &slots[p.Seq()%sentSlots]
		if w := s.word.Load(); w>>32 != 0 && uint32(w) == p.Seq() {
			s.word.CompareAndSwap(w, 0)
		}
	}
	source, ok := sourceAddr(p)
	if !ok {
		return
	}
	pair := t.a.pair(t.account, source)
	if last := t.a.last(pair); last != 0 && now < last+noteEvery {
		return
	}
	if slots == nil {
		t.sent.CompareAndSwap(nil, new([sentSlots]sentSlot))
		slots = t.sent.Load()
	}
	s := &slots[p.Seq()%sentSlots]
	old := s.word.Load()
	if old == busy || old != 0 && now < old>>32+watchFor || !s.word.CompareAndSwap(old, busy) {
		return
	}
	s.pair.Store(pair)
	s.word.Store(now<<32 | uint64(p.Seq()))
}

// answered looks at what the SMSC answers. It runs on the reader's goroutine.
func (t *accepting) answered(p pdu.PDU) {
	slots := t.sent.Load()
	if slots == nil {
		return
	}
	s := &slots[p.Seq()%sentSlots]
	word := s.word.Load()
	if word>>32 == 0 || uint32(word) != p.Seq() {
		return
	}
	pair := s.pair.Load()
	if !s.word.CompareAndSwap(word, 0) {
		return
	}
	if id := p.ID(); (id == pdu.SubmitSMResp || id == pdu.DataSMResp) && p.Status() == pdu.ROK {
		t.a.note(pair, t.a.seconds())
	}
}

// sourceAddr finds source_addr of a submit_sm or data_sm (SMPP v3.4 §4.4.1,
// §4.7.1).
func sourceAddr(p pdu.PDU) ([]byte, bool) {
	b := p[pdu.HeaderLen:]
	service := bytes.IndexByte(b, 0)
	if service < 0 || len(b) < service+3 {
		return nil, false
	}
	b = b[service+3:] // its NUL, source_addr_ton, source_addr_npi
	end := bytes.IndexByte(b, 0)
	if end < 0 {
		return nil, false
	}
	return b[:end], true
}
