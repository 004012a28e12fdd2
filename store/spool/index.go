package spool

import (
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

	"shunt/gateway/msg"
)

// entry is a live message in RAM, without its PDU. What repeats is shared; times
// are nanoseconds since 1970, 0 for none. Only the committer writes it, holding
// the index's lock; the timer is the committer's alone.
type entry struct {
	id                                msg.ID
	to                                msg.Number
	received, claimBy, expires, since int64
	terms                             unique.Handle[terms]
	from                              unique.Handle[string]
	more                              *extra // nil until a field of it is set
	timer                             timer
	older, newer                      *entry // ring of the open messages of one number; the oldest's older is the newest; nil: not open
	steps                             string // of its trail
	stepCount                         uint16
	state                             msg.State // None once it left the live set
	flags, version, registered        byte
	unsaved                           bool // the record on disk is older
	called                            bool // it is its turn in this state, and whoever acts on that knows
}

// terms are what an account's messages to an app have in common.
type terms struct {
	account   msg.Account
	app, plan string
	lease     time.Duration
}

// extra is what only some live messages have.
type extra struct {
	device, wireID, smsID, smsErr string
	peer                          unique.Handle[string]
	done                          int64
	attempts, resubmits, edition  uint16
	group                         msg.ID
	number, total                 byte
	hold                          msg.Hold
	owed                          msg.Notice
	cause                         msg.Reason
	due                           int64
}

var noPeer = unique.Make("")

// smsRef is an SMS as an SMSC of ours names it.
type smsRef struct {
	peer unique.Handle[string]
	id   string
}

func (e *entry) record() Record {
	t := e.terms.Value()
	r := Record{
		ID: e.id, Account: t.account, To: e.to, App: t.app, Plan: t.plan, From: e.from.Value(),
		Version: e.version, RegisteredDelivery: e.registered,
		ReceivedAt: timeOf(e.received), ClaimBy: timeOf(e.claimBy), ExpiresAt: timeOf(e.expires),
		Lease: t.lease, State: e.state, Since: timeOf(e.since),
	}
	r.setFlags(e.flags)
	if x := e.more; x != nil {
		r.WireID, r.Device, r.SMSID, r.SMSErr = x.wireID, x.device, x.smsID, x.smsErr
		r.Peer, r.DoneAt = x.peer.Value(), timeOf(x.done)
		r.SMSAttempts, r.Resubmits, r.Edition = x.attempts, x.resubmits, x.edition
		r.Group, r.Number, r.Total = x.group, x.number, x.total
		r.Hold, r.Owed, r.Cause, r.DueAt = x.hold, x.owed, x.cause, timeOf(x.due)
	}
	if r.WireID == "" {
		r.WireID = e.id.String()
	}
	return r
}

// set writes the changing part of r into e.
func (e *entry) set(r *Record, t trail) {
	e.state, e.since, e.flags = r.State, nanos(r.Since), flagsOf(r)
	e.steps, e.stepCount = t.steps, t.count
	e.claimBy, e.expires, e.registered = nanos(r.ClaimBy), nanos(r.ExpiresAt), r.RegisteredDelivery
	peer := noPeer
	if r.Peer != "" {
		peer = unique.Make(r.Peer)
	}
	x := extra{
		device: r.Device, smsID: r.SMSID, smsErr: r.SMSErr, peer: peer,
		done: nanos(r.DoneAt), attempts: r.SMSAttempts, resubmits: r.Resubmits, edition: r.Edition,
		group: r.Group, number: r.Number, total: r.Total,
		hold: r.Hold, owed: r.Owed, cause: r.Cause, due: nanos(r.DueAt),
	}
	if r.WireID != r.ID.String() {
		x.wireID = r.WireID
	}
	if e.more == nil {
		if x == (extra{peer: noPeer}) {
			return
		}
		e.more = new(extra)
	}
	*e.more = x
}

func (e *entry) deadlines() deadlines {
	d := deadlines{
		state: e.state, begun: e.flags&flagBegun != 0,
		claimBy: e.claimBy, expires: e.expires, since: e.since, leaseNS: int64(e.terms.Value().lease),
	}
	if e.flags&flagDuplicate != 0 {
		d.prefer = msg.PossibleDuplicate
	}
	if e.more != nil {
		d.hold, d.due = e.more.hold, e.more.due
	}
	return d
}

// index is all live messages in RAM. The committer writes it; any goroutine
// reads it.
type index struct {
	mu       sync.RWMutex
	byID     *table[msg.ID]
	byNumber *table[msg.Number] // the oldest that is open
	bySMS    map[smsRef]msg.ID
	groups   map[msg.ID][]*entry // the live parts of each long message
	order    []*entry            // by id; those that left have state None until the next tidying
	head     int                 // order[:head] have left
	gone     int                 // how many in order have left
	states   []int               // live messages by state
	receipts int                 // live messages whose receipt is due
}

func newIndex() *index {
	return &index{
		byID:     newTable(func(e *entry) msg.ID { return e.id }),
		byNumber: newTable(func(e *entry) msg.Number { return e.to }),
		bySMS:    make(map[smsRef]msg.ID), groups: make(map[msg.ID][]*entry), states: make([]int, stateCount),
	}
}

// insert adds a message. The caller holds the lock.
func (x *index) insert(r *Record, t trail) *entry {
	e := &entry{
		id: r.ID, to: r.To, received: nanos(r.ReceivedAt), claimBy: nanos(r.ClaimBy), expires: nanos(r.ExpiresAt),
		terms: unique.Make(terms{r.Account, r.App, r.Plan, r.Lease}), from: unique.Make(r.From),
		version: r.Version, registered: r.RegisteredDelivery,
	}
	x.byID.put(e)
	at := len(x.order) // ids grow: nearly always the end
	for at > x.head && compare(x.order[at-1].id, e.id) > 0 {
		at--
	}
	x.order = slices.Insert(x.order, at, e)
	e.set(r, t)
	x.count(e, 1)
	if e.open() {
		x.link(e)
	}
	if r.Part() {
		x.groups[r.Group] = append(x.groups[r.Group], e)
	}
	return e
}

// open tells whether the app may still get the message, or others wait behind
// it.
func (e *entry) open() bool { return e.inTurn() || e.state == msg.Held || e.state == msg.Claimed }

// link puts e into the ring of its number, by id.
func (x *index) link(e *entry) {
	oldest := x.byNumber.get(e.to)
	if oldest == nil {
		e.older, e.newer = e, e
		x.byNumber.put(e)
		return
	}
	before := oldest.older // the newest; walk back to the last that is older than e
	for compare(before.id, e.id) > 0 && before != oldest {
		before = before.older
	}
	if compare(before.id, e.id) > 0 { // e is the oldest
		before = oldest.older
		x.byNumber.put(e)
	}
	e.older, e.newer = before, before.newer
	before.newer.older, before.newer = e, e
}

func (x *index) unlink(e *entry) {
	if e.newer == nil {
		return
	}
	switch {
	case e.newer == e:
		x.byNumber.remove(e.to)
	case x.byNumber.get(e.to) == e:
		x.byNumber.put(e.newer)
	}
	e.older.newer, e.newer.older = e.newer, e.older
	e.older, e.newer = nil, nil
}

// update changes a message. The caller holds the lock.
func (x *index) update(e *entry, r *Record, t trail) {
	x.count(e, -1)
	if r.State != e.state {
		e.called = false
	}
	e.set(r, t)
	x.count(e, 1)
	switch open := e.open(); {
	case open && e.newer == nil:
		x.link(e)
	case !open:
		x.unlink(e)
	}
}

// remove takes a message out. The caller holds the lock.
func (x *index) remove(e *entry) {
	x.count(e, -1)
	x.unlink(e)
	x.byID.remove(e.id)
	if e.flags&flagPart != 0 {
		x.leave(e)
	}
	e.state = msg.None
	x.gone++
	for x.head < len(x.order) && x.order[x.head].state == msg.None {
		x.head++
	}
	if x.gone > 64 && x.gone > len(x.order)/2 {
		x.order = slices.DeleteFunc(x.order, func(e *entry) bool { return e.state == msg.None })
		if cap(x.order) > 4*len(x.order) {
			x.order = slices.Clone(x.order) // after a peak
		}
		x.head, x.gone = 0, 0
	}
}

// leave takes a part out of its long message.
func (x *index) leave(e *entry) {
	g := e.more.group
	left := slices.DeleteFunc(x.groups[g], func(o *entry) bool { return o == e })
	if len(left) == 0 {
		delete(x.groups, g)
	} else {
		x.groups[g] = left
	}
}

// count adds or takes e's part in the sums and in the correlation of SMS.
func (x *index) count(e *entry, n int) {
	x.states[e.state] += n
	if e.flags&flagReceiptDue != 0 {
		x.receipts += n
	}
	if e.more == nil || e.more.smsID == "" {
		return
	}
	ref := smsRef{e.more.peer, e.more.smsID}
	if n > 0 {
		x.bySMS[ref] = e.id
	} else if x.bySMS[ref] == e.id {
		delete(x.bySMS, ref)
	}
}

// get is a message's record, if it is live.
func (x *index) get(id msg.ID) (Record, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if e := x.byID.get(id); e != nil {
		return e.record(), true
	}
	return Record{}, false
}

func (e *entry) trail() trail { return trail{e.steps, e.stepCount} }

// trailOf are the latest steps of a live message.
func (x *index) trailOf(id msg.ID) (steps string, live bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if e := x.byID.get(id); e != nil {
		return e.steps, true
	}
	return "", false
}

// after fills buf with the messages that follow id, oldest first.
func (x *index) after(id msg.ID, buf []Record) []Record {
	x.mu.RLock()
	defer x.mu.RUnlock()
	live := x.order[x.head:]
	i, found := slices.BinarySearchFunc(live, id, func(e *entry, id msg.ID) int { return compare(e.id, id) })
	if found {
		i++
	}
	for ; i < len(live) && len(buf) < cap(buf); i++ {
		if live[i].state != msg.None {
			buf = append(buf, live[i].record())
		}
	}
	return buf
}

// maxLatest bounds how many live messages latest looks at.
const maxLatest = 10_000

// latest are the live messages whose message_id begins with prefix, the newest
// first, at most limit and of the last maxLatest.
func (x *index) latest(prefix string, limit int) []Record {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var all []Record
	live := x.order[x.head:]
	for i := len(live) - 1; i >= max(0, len(live)-maxLatest) && len(all) < limit; i-- {
		if e := live[i]; e.state != msg.None {
			if wire := e.wireID(); strings.HasPrefix(wire, prefix) {
				all = append(all, e.record())
			}
		}
	}
	return all
}

// wireID is the message_id that the ESME was given.
func (e *entry) wireID() string {
	if e.more != nil && e.more.wireID != "" {
		return e.more.wireID
	}
	return e.id.String()
}

// oldest is the id of the oldest live message.
func (x *index) oldest() (msg.ID, bool) {
	if x.head < len(x.order) {
		return x.order[x.head].id, true
	}
	return msg.ID{}, false
}

// open is how many messages for a number are open, at most most.
func (x *index) open(n msg.Number, most int) (found int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	oldest := x.byNumber.get(n)
	for e := oldest; e != nil && found < most; {
		if found++; e.newer == oldest {
			break
		}
		e = e.newer
	}
	return found
}

// waiting are the messages for a number, after an id, that the carrier does
// not have and no device has acknowledged; oldest first, at most limit where
// that is positive.
func (x *index) waiting(n msg.Number, after msg.ID, limit int) []Record {
	x.mu.RLock()
	defer x.mu.RUnlock()
	oldest := x.byNumber.get(n)
	var list []Record
	for e := oldest; e != nil; {
		if e.state != msg.Fallback && compare(e.id, after) > 0 {
			list = append(list, e.record())
			if len(list) == limit {
				break
			}
		}
		if e = e.newer; e == oldest {
			break
		}
	}
	return list
}
