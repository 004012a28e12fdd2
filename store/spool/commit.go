package spool

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
)

// item is one entry of the queue: a message to put, or an event.
type item struct {
	body  *Message
	put   *ticket // with body
	event Event
	done  func(Result)
	timer bool // posted by the wheel: set it again if the commit fails
	turn  bool // posted by tellTurns: called again if the commit fails
	must  bool // posted by pushSure: queued again if the commit fails
}

// size is the item's part of a commit, roughly.
func (it *item) size() int {
	if it.body != nil {
		return 300 + len(it.body.PDU)
	}
	return 200
}

// A commit takes at most so much of the queue.
const (
	maxItems = 4000
	maxBytes = 1 << 20
)

// draft is a message as a batch would leave it.
type draft struct {
	rec      Record
	trail    trail
	entry    *entry   // nil: put in this batch, or finished earlier
	body     *Message // put or replaced in this batch
	finished bool     // came from "H"
	dirty    bool
	write    bool  // and not lazily
	err      error // the finished record could not be read
}

// outcome is what the table made of one item.
type outcome struct {
	at       int // its draft
	rec      Record
	from     msg.State
	err      error
	changed  bool
	replayed bool
	dead     bool // a put that was withdrawn before its commit

	event  Event // of one in batch.also
	lo, hi int   // of an item: its part of batch.also
}

// pair is one write.
type pair struct {
	key, value []byte
	ttl        time.Duration // 0: for good
}

// batch is one commit in the making. It is the committer's, and is used again
// and again.
type batch struct {
	s      *Spool
	now    time.Time
	drafts []draft
	where  map[msg.ID]int
	outs   []outcome        // of the items, in their order
	also   []outcome        // what the items did to other parts of their long messages
	parts  map[msg.ID][]int // the drafts of parts that were put in this batch, by group
	pairs  map[ends]msg.ID  // those of the batch's messages that are in turn, with the first letter of each
	saves  []*entry         // changed by earlier batches and not written
	saved  int              // how many of Spool.unsaved the batch settles
	finals []Outcome        // of the messages that the batch ended
	handed bool             // Badger has it: what of it is on disk after a failure nobody knows
	rows   []pair           // of trace steps
	step   []byte           // the latest, encoded
	arena  []byte           // keys and values; Badger copies them
	lowest msg.ID           // of the messages put
}

func (b *batch) reset(now time.Time) {
	clear(b.drafts)
	clear(b.outs)
	clear(b.also)
	clear(b.parts)
	clear(b.where)
	clear(b.pairs)
	clear(b.rows)
	clear(b.saves)
	b.now, b.lowest = now, msg.ID{}
	b.drafts, b.outs, b.also, b.rows, b.arena = b.drafts[:0], b.outs[:0], b.also[:0], b.rows[:0], b.arena[:0]
	b.finals, b.saves, b.saved, b.handed = b.finals[:0], b.saves[:0], 0, false
}

// find is the draft of a message: of this batch, of RAM, or, for what comes
// after the end, from disk.
func (b *batch) find(id msg.ID) (int, error) {
	if i, ok := b.where[id]; ok {
		return i, b.drafts[i].err
	}
	d := draft{}
	if e := b.s.index.byID.get(id); e != nil {
		d.rec, d.trail, d.entry = e.record(), e.trail(), e
	} else {
		d.finished = true
		d.rec, d.trail, d.err = b.s.loadFinished(id)
		if errors.Is(d.err, ErrNotFound) {
			return 0, ErrNotFound // not kept: a put of that id may follow
		}
	}
	return b.keep(id, d), d.err
}

func (b *batch) keep(id msg.ID, d draft) int {
	i := len(b.drafts)
	b.drafts = append(b.drafts, d)
	b.where[id] = i
	return i
}

// add puts one item through the table.
func (b *batch) add(it *item) {
	var out outcome
	switch {
	case it.body == nil:
		out = b.happen(&it.event, it.timer)
	case it.put.begin():
		out = b.accept(it)
	default:
		out.dead = true
	}
	out.lo = len(b.also)
	if out.changed {
		b.changed(out.at, &it.event, out.from)
		if out.rec.Part() {
			b.spread(it, &out)
		}
	}
	out.hi = len(b.also)
	b.outs = append(b.outs, out)
}

// changed notes what follows from an applied event beside the record itself.
func (b *batch) changed(i int, e *Event, from msg.State) {
	d := &b.drafts[i]
	d.dirty = true
	b.trace(i, e, from)
	r := &d.rec
	if !lazy(r, e) {
		d.write = true
	}
	switch {
	case r.State.Final() && !from.Final() && e.Kind != msg.EvWithdraw:
		b.finals = append(b.finals, Outcome{ID: r.ID, Event: e.Kind, Reason: e.Reason, At: r.DoneAt})
	case d.finished && r.live(): // a read mark that the ESME is to be told of
		b.under(r.ID)
	}
	b.order(r, from)
}

// order notes the pair of a message that is, or was, in turn.
func (b *batch) order(r *Record, from msg.State) {
	if !r.turn() && (from.Final() || from == msg.None) {
		return
	}
	p := endsOf(r)
	if first := b.pairs[p]; first.IsZero() && r.turn() {
		b.pairs[p] = r.letter()
	} else {
		b.pairs[p] = first
	}
}

// waits tells whether a message of another letter goes before r. Of what this
// batch itself lets go on it may say so wrongly: callPairs makes up for that.
func (b *batch) waits(r *Record) bool {
	p := endsOf(r)
	first := b.pairs[p]
	return b.s.index.busy(p, r.letter()) || !first.IsZero() && first != r.letter()
}

// under keeps the cursor at or below id.
func (b *batch) under(id msg.ID) {
	if b.lowest.IsZero() || compare(id, b.lowest) < 0 {
		b.lowest = id
	}
}

// accept takes a message that is put.
func (b *batch) accept(it *item) outcome {
	m := it.body
	_, here := b.where[m.ID]
	if here || b.s.index.byID.get(m.ID) != nil {
		return outcome{err: fmt.Errorf("message %s: %w", m.ID, ErrDuplicate)}
	}
	it.event = Event{ID: m.ID, Kind: msg.EvAccept, At: b.now, Detail: cut(m.Via, maxDetail)}
	if m.Total > 0 {
		it.event.Detail = strings.TrimSpace(fmt.Sprintf("part %d of %d, with %s %s", m.Number, m.Total, m.Group, it.event.Detail))
	}
	d := draft{rec: newRecord(m), body: m}
	if d.rec.Hold == msg.NoHold && b.waits(&d.rec) {
		d.rec.Hold = msg.HoldTurn
	}
	to, _ := Next(&d.rec, &it.event)
	d.rec.apply(&it.event, to)
	b.under(m.ID)
	at := b.keep(m.ID, d)
	if m.Total > 0 {
		b.parts[m.Group] = append(b.parts[m.Group], at)
	}
	return outcome{at: at, rec: d.rec, changed: true}
}

// happen applies an event. What a timer says is looked at again: events that
// were queued before it may have moved the deadline.
func (b *batch) happen(e *Event, timer bool) outcome {
	i, err := b.find(e.ID)
	if err != nil && e.Kind == msg.EvHoldDeadline { // the part that gave its ID could not be put
		if all := b.members(e.ID); len(all) > 0 {
			i, err = all[0], nil
			e.ID = b.drafts[i].rec.ID
		}
	}
	if err != nil {
		return outcome{err: err}
	}
	if e.At.IsZero() {
		e.At = b.now
	}
	r := &b.drafts[i].rec
	out := outcome{at: i, rec: *r, from: r.State}
	if timer {
		d := r.deadlines()
		if due := d.next(b.s.o.ReceiptGrace); due == 0 || due > nanos(b.now) {
			out.err = ErrRefused
			return out
		}
		e.Kind = d.event(nanos(b.now))
	}
	e.Wait = e.Kind == msg.EvDue && b.waits(r)
	to, verdict := Next(r, e)
	switch verdict {
	case Applied:
		r.apply(e, to)
		out.changed = true
		if e.Kind == msg.EvReplace {
			b.drafts[i].body = e.Replace
		}
	case Replayed:
		out.replayed = true
	case Superseded:
		out.err = ErrSuperseded
	default:
		out.err = ErrRefused
	}
	out.rec = *r
	return out
}

// trace notes the step that an applied event is.
func (b *batch) trace(i int, e *Event, from msg.State) {
	d := &b.drafts[i]
	step := Step{At: e.At, Event: e.Kind, From: from, To: d.rec.State, Reason: e.Reason, Detail: e.Words()}
	b.addStep(d, &step)
}

// key builds a key in the arena. Growing the arena leaves earlier slices
// whole: they keep the old array.
func (b *batch) key(build func([]byte) []byte) []byte {
	start := len(b.arena)
	b.arena = build(b.arena)
	return b.arena[start:len(b.arena):len(b.arena)]
}

// value builds a sealed value in the arena.
func (b *batch) value(key []byte, fields func([]byte) []byte) []byte {
	start := len(b.arena)
	b.arena = seal(fields(append(b.arena, recordVersion)), start, key)
	return b.arena[start:len(b.arena):len(b.arena)]
}

// idKey builds a key of a kind and an id in the arena.
func (b *batch) idKey(kind byte, id msg.ID) []byte {
	return b.key(func(a []byte) []byte { return appendID(a, kind, id) })
}

// writer sets keys in a transaction and keeps the first failure.
type writer struct {
	txn *badger.Txn
	err error
}

func (w *writer) set(p pair) {
	if w.err != nil {
		return
	}
	e := badger.NewEntry(p.key, p.value)
	if p.ttl > 0 {
		e = e.WithTTL(max(p.ttl, time.Second))
	}
	w.err = w.txn.SetEntry(e)
}

func (w *writer) delete(key []byte) {
	if w.err == nil {
		w.err = w.txn.Delete(key)
	}
}

// write puts the batch on stable storage in one transaction.
func (b *batch) write() error {
	b.s.cursorMoves = false
	txn := b.s.db.NewTransaction(true)
	defer txn.Discard()
	w := &writer{txn: txn}
	b.writeSaves(w)
	for i := range b.drafts {
		if d := &b.drafts[i]; d.write {
			b.writeDraft(w, d)
		}
	}
	for _, p := range b.rows {
		w.set(p)
	}
	b.writeOutcomes(w)
	if cursor, ok := b.cursor(); ok {
		b.writeCursor(w, cursor)
	}
	if w.err != nil {
		return w.err
	}
	b.handed = true
	return b.s.commit(txn)
}

// writeDraft writes a message that the batch changed.
func (b *batch) writeDraft(w *writer, d *draft) {
	r := &d.rec
	keep := b.s.keepFor(r, b.now)
	if m := d.body; m != nil {
		key := b.idKey(kBody, r.ID)
		w.set(pair{key, b.value(key, func(a []byte) []byte { return appendBody(a, m) }), keep})
		b.writeNames(w, r, keep)
	}
	kind, ttl := byte(kState), time.Duration(0)
	if !r.live() {
		kind, ttl = kDone, b.s.keepDone()
		if d.entry != nil {
			w.delete(b.idKey(kState, r.ID))
		}
		if !d.finished && b.now.After(r.ExpiresAt.Add(b.s.o.ReceiptGrace)) {
			b.writeNames(w, r, ttl) // what was written with the message ends before the record
		}
	}
	key := b.idKey(kind, r.ID)
	w.set(pair{key, b.value(key, func(a []byte) []byte { return appendRecord(a, r, d.trail) }), ttl})
}

// writeNames writes the keys under which a message is found by other than its
// id.
func (b *batch) writeNames(w *writer, r *Record, ttl time.Duration) {
	key := b.key(func(a []byte) []byte { return appendNumberKey(a, r.To, r.ID) })
	w.set(pair{key, b.value(key, func(a []byte) []byte { return a }), ttl})
	if r.Part() {
		key := b.key(func(a []byte) []byte { return appendGroupKey(a, r.Group, r.ID) })
		w.set(pair{key, b.value(key, func(a []byte) []byte { return a }), ttl})
	}
	if r.WireID != r.ID.String() {
		key := b.key(func(a []byte) []byte { return append(append(a, kWire), r.WireID...) })
		w.set(pair{key, b.value(key, func(a []byte) []byte { return append(a, r.ID[:]...) }), ttl})
	}
}

// low is the low-water mark: nothing live lies below it once this batch is
// written.
func (b *batch) low() msg.ID {
	low, ok := b.s.index.oldest()
	if !b.lowest.IsZero() && (!ok || compare(b.lowest, low) < 0) {
		return b.lowest
	}
	if !ok {
		return b.s.highest
	}
	return low
}

// cursor is the low-water mark to store. It is written at most once a second,
// unless a message was put below it.
func (b *batch) cursor() (msg.ID, bool) {
	s, low := b.s, b.low()
	due := b.now.Sub(s.cursorAt) >= time.Second || b.now.Before(s.cursorAt)
	moved := compare(low, s.cursor)
	return low, moved < 0 || due && moved > 0 || s.cursorLost
}

func (b *batch) writeCursor(w *writer, cursor msg.ID) {
	key := b.key(func(a []byte) []byte { return append(a, keyCursor...) })
	w.set(pair{key, b.value(key, func(a []byte) []byte { return append(a, cursor[:]...) }), 0})
	b.s.nextCursor, b.s.cursorMoves = cursor, true
}

// cursorWritten notes that it is on disk.
func (s *Spool) cursorWritten() {
	if s.cursorMoves { // to the zero id where nothing was ever put
		s.cursor, s.cursorAt, s.cursorMoves, s.cursorLost = s.nextCursor, s.o.Now(), false, false
	}
}

// keepFor is how long what was written about a message stays: until its end is
// sure, and the retention after that.
func (s *Spool) keepFor(r *Record, now time.Time) time.Duration {
	return max(r.ExpiresAt.Sub(now), 0) + s.o.ReceiptGrace + s.keepDone()
}

// commitBatch applies items in their order, writes them, and only then makes
// them visible and answers. A batch that does not fit a transaction is halved.
// It runs on the committer.
func (s *Spool) commitBatch(items []item) {
	b := &s.batch
	b.reset(s.o.Now())
	began := time.Now()
	s.commitBegan.Store(&began)
	defer s.commitEnded()
	s.atDisk.Store(true)
	if err := s.settle(); err != nil {
		s.atDisk.Store(false)
		s.refuse(items, err)
		return
	}
	for i := range items {
		b.add(&items[i])
	}
	begin := s.o.Now()
	err := error(nil)
	b.saveUntil(b.now.Add(-lazyFor))
	changes, wrote := b.changes()
	if changes || wrote {
		err = s.o.Room()
	}
	if wrote && err == nil {
		err = b.write()
	}
	s.atDisk.Store(false)
	if errors.Is(err, badger.ErrTxnTooBig) && len(items) > 1 {
		half := len(items) / 2
		s.commitBatch(items[:half])
		s.commitBatch(items[half:])
		return
	}
	if err != nil {
		s.failBatch(items, fmt.Errorf("spool: commit of %d entries: %w", len(items), err))
		return
	}
	now := s.o.Now()
	if wrote {
		s.written()
	}
	s.show()
	s.stats.batch(b, wrote, max(now.Sub(begin), 0))
	for i := range items {
		s.answer(&items[i], &b.outs[i])
	}
	s.takeBack()
	s.tellTurns()
	if s.recall {
		s.callAll()
	}
	if must := s.must; len(must) > 0 { // before anything that was queued
		s.must = nil
		s.commitBatch(must)
	}
}

// changes tells whether the batch changes anything, and whether any of that is to
// be written now.
func (b *batch) changes() (any, write bool) {
	for i := range b.drafts {
		any = any || b.drafts[i].dirty
		write = write || b.drafts[i].write
	}
	return any, write || len(b.saves) > 0
}

// written notes what a successful commit settles beside its items.
func (s *Spool) written() {
	s.savesWritten()
	s.outcomesWritten()
	s.cursorWritten()
}

// show makes the batch's states visible and sets the timers of the messages.
func (s *Spool) show() {
	b, x := &s.batch, s.index
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range b.drafts {
		d := &b.drafts[i]
		live := d.rec.live()
		if d.body != nil {
			s.fresh.add(d.body)
		}
		switch {
		case !d.dirty:
			continue
		case !live:
			s.ended.add(&d.rec, b.now.Add(min(endedFor, s.o.Retention)))
		case d.finished:
			s.ended.drop(d.rec.ID)
		}
		if d.finished && !live {
			continue
		}
		if d.finished {
			s.slots.Add(1) // alive again, for a notice
		}
		switch {
		case live && d.entry == nil:
			d.entry = x.insert(&d.rec, d.trail)
			if compare(d.rec.ID, s.highest) > 0 {
				s.highest = d.rec.ID
			}
		case live:
			x.update(d.entry, &d.rec, d.trail)
		default:
			s.slots.Add(-1)
			if d.entry != nil {
				d.entry.stopTimer()
				x.remove(d.entry)
				s.fresh.drop(d.rec.ID)
			}
			continue
		}
		if !d.write {
			s.keepLazily(d.entry, b.now)
		}
		s.setTimer(d.entry)
	}
	s.callPairs()
}

// answer tells whoever waits for an item, and the observer.
func (s *Spool) answer(it *item, out *outcome) {
	switch {
	case out.dead:
		return
	case it.body != nil:
		if out.err != nil {
			s.slots.Add(-1)
		}
		if !it.put.answer(out.err) && out.err == nil {
			s.takenBack = append(s.takenBack, out.rec)
			return
		}
	case it.done != nil:
		it.done(Result{Err: out.err, Record: out.rec, Replay: out.replayed})
	case it.timer && out.err != nil:
		if e := s.index.byID.get(it.event.ID); e != nil && !e.timerSet() {
			s.setTimer(e)
		}
	}
	if s.o.Observe == nil {
		return
	}
	if out.changed || out.replayed {
		s.told = Change{Event: it.event, From: out.from, To: out.rec.State, Record: out.rec, Replay: out.replayed}
		s.observe()
	}
	for i := out.lo; i < out.hi; i++ {
		o := &s.batch.also[i]
		if s.unsure(o.rec.ID) {
			continue
		}
		s.told = Change{Event: o.event, From: o.from, To: o.rec.State, Record: o.rec}
		s.observe()
	}
}

func (s *Spool) observe() {
	c := &s.told
	if c.To == msg.Fallback {
		e := s.index.byID.get(c.Record.ID)
		c.Turn = e != nil && e.state == msg.Fallback && e.called
	}
	s.o.Observe(c)
}
