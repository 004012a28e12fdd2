// Package spool keeps diverted messages on stable storage until their receipt is
// taken, and is the one place that decides whether the app or the carrier wins.
package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
	"shunt/store"
)

// schema is the version of the key layout.
const schema = 2 // 1: every trace step in a row of its own, and every outcome

// Options are what a spool is opened with.
type Options struct {
	Dir          string
	Max          int           // live messages; 0 = 1,000,000
	Key          []byte        // see store.Options
	Retention    time.Duration // of finished messages and their trace; 0 = 72 h
	ReceiptGrace time.Duration // how long after ExpiresAt an SMS waits for the carrier's receipt; 0 = 10 min
	Stall        time.Duration // how long a put waits for its commit to begin; 0 = 2 s
	GiveUp       time.Duration // how long one commit may take before its puts are answered; 0 = 10 s
	Gather       time.Duration // between the beginnings of two commits while more than a few changes come at a time; 0 = none

	Room   func() error     // asked before every commit: why the disk has none; nil = store.Room of Dir
	Now    func() time.Time // nil = time.Now
	Logger *slog.Logger     // nil discards

	// Observe is called by the committer after the sync, in commit order and
	// after the item's own callback; also for replays. It must not block and
	// must not call Do, ShortID or Close. The Change is the committer's again
	// when it returns.
	Observe func(*Change)

	// Replied is called by the writer of replies after the sync, for every reply
	// that has to be delivered. It must not block.
	Replied func(*Reply)

	memTable int64 // octets; 0 = the store's own
}

func (o *Options) defaults() {
	if o.Max <= 0 {
		o.Max = 1_000_000
	}
	if o.Retention <= 0 {
		o.Retention = 72 * time.Hour
	}
	if o.ReceiptGrace <= 0 {
		o.ReceiptGrace = 10 * time.Minute
	}
	if o.Stall <= 0 {
		o.Stall = 2 * time.Second
	}
	if o.GiveUp <= 0 {
		o.GiveUp = 10 * time.Second
	}
	if o.Room == nil {
		dir := o.Dir
		o.Room = func() error { return store.Room(dir) }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Spool is an open spool. Its methods are safe for concurrent use.
//
// The committer, the goroutine that Start starts and Close ends, owns the
// fields of its group; index is written by it alone under index's own lock.
type Spool struct {
	o       Options
	db      *badger.DB
	commit  func(*badger.Txn) error // (*badger.Txn).Commit; tests let it fail
	index   *index
	ids     idSource
	short   shortSource
	stats   counters
	replies *replies
	slots   atomic.Int64 // live messages and queued puts
	fresh   fresh
	ended   ended
	waiters sync.Pool // of *waiter

	// The queue. The callers fill it, the committer empties it.
	queueMu    sync.Mutex
	queue      []item
	underWay   []item // what the committer has taken and not yet answered
	pings      []chan struct{}
	exclusives []func()    // called by the committer between two commits
	atDisk     atomic.Bool // the committer reads or writes for a batch; not while it tells of it
	closing    bool
	started    bool
	wake       chan struct{} // holds one when the queue may not be empty
	stopped    chan struct{} // closed when the committer has ended
	closed     chan struct{} // when Close is through
	ending     error         // what Close returns

	// The database is closed under diskMu, so that no reader is in it.
	diskMu     sync.RWMutex
	erasing    sync.Mutex // one at a time: whoever waits to rewrite tables holds up all readers until a scan is through
	diskClosed bool

	// The janitor's.
	cleaning sync.WaitGroup
	cleaned  msg.ID // the last message that it has looked at
	lateFrom int64  // what is to be looked at again begins here: seconds since 1970

	commitBegan   atomic.Pointer[time.Time] // of the commit under way; nil: none is
	stalled       atomic.Bool               // it takes too long: puts are refused
	outcomeSeq    atomic.Uint64             // the last number that was given; the committer's to write
	outcomesTaken atomic.Uint64

	// The committer's.
	batch        batch
	told         Change    // what the observer is told
	called       []Record  // whose turn has come with this commit
	recall       bool      // some may have been lost: see callAll
	takenBack    []Record  // what this commit brought to the disk after its put was given up
	must         []item    // what must come next: it follows from a commit, or its own has failed
	outcomeNext  uint64    // that of the commit under way
	outcomeGhost uint64    // that of a commit that failed, if it is higher
	unsaved      []unsaved // oldest first
	spare        []item
	wheel        *wheel
	highest      msg.ID // of all messages seen
	cursor       msg.ID // the low-water mark on disk
	nextCursor   msg.ID // that of the commit under way
	cursorMoves  bool   // it has one
	cursorAt     time.Time
	cursorLost   bool            // it could not be read
	doubtful     map[msg.ID]bool // of the commit that failed; true: it had left RAM
	retryAt      time.Time
	failing      bool
	lastFailure  error
}

// Open opens the spool in o.Dir and reads every live message. Nothing happens
// to them before Start, so that the caller can walk Live and take up its work.
// A record that cannot be read is logged, counted and set aside; it never
// keeps the others from being served.
func Open(o Options) (*Spool, error) {
	o.defaults()
	db, err := store.Open(o.Dir, store.Options{Sync: true, MemTable: o.memTable, Logger: o.Logger, Key: o.Key})
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	now := o.Now()
	s := &Spool{
		o: o, db: db, commit: (*badger.Txn).Commit, index: newIndex(),
		wake: make(chan struct{}, 1), stopped: make(chan struct{}), closed: make(chan struct{}),
		wheel: newWheel(now), doubtful: make(map[msg.ID]bool),
	}
	s.batch.s, s.batch.where, s.batch.parts = s, make(map[msg.ID]int), make(map[msg.ID][]int)
	s.batch.pairs = make(map[ends]msg.ID)
	s.waiters.New = newWaiter
	s.replies = newReplies(s)
	s.stats.init()
	err = store.CheckSchema(db, "spool", schema)
	if err == nil {
		err = s.load()
	}
	if err != nil {
		return nil, fmt.Errorf("spool: %w", errors.Join(err, db.Close()))
	}
	s.slots.Store(int64(s.index.byID.len()))
	return s, nil
}

// Start starts the committer and the timers. Deadlines that passed while the
// spool was closed fire right away. Calls after the first, or after Close, do
// nothing.
func (s *Spool) Start() {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	if s.started || s.closing {
		return
	}
	s.started = true
	go func() {
		s.callAll()
		s.run()
	}()
	go s.watch()
	s.cleaning.Go(s.clean)
	s.replies.start()
}

// Put queues m and returns at once. done, which may be nil, is called once,
// when m is on stable storage, or with the reason why it is not: ErrFull,
// ErrClosed, ErrInvalid, ErrDuplicate, ErrStalled, ErrFailing, ErrUnsure or what
// the disk said. The message is not in the spool then; what may have reached the
// disk of it is taken back by the next commit. After ErrUnsure alone a crash
// before that would bring it back, so that m must not go another way. m and its PDU must not change after Put. An id is put once: that
// of a finished message is not noticed.
//
// done runs on the committer, on the goroutine that looks after what waits, or,
// for what is refused at once, on the caller: it must not block; it may call Put
// and Post, never Do or Close.
func (s *Spool) Put(m *Message, done func(error)) {
	if done == nil {
		done = func(error) {}
	}
	if err := m.check(); err != nil {
		done(err)
		return
	}
	m.WireID = m.wireID()
	if s.stalled.Load() {
		done(ErrStalled)
		return
	}
	if s.slots.Add(1) > int64(s.o.Max) {
		s.slots.Add(-1)
		s.stats.full.Add(1)
		done(ErrFull)
		return
	}
	if !s.push(item{body: m, put: &ticket{done: done, since: time.Now()}}) {
		s.slots.Add(-1)
		done(ErrClosed)
	}
}

// Post queues e and returns at once. done, which may be nil, is called once,
// when what followed from e is on stable storage; it runs under the same rules
// as Put's. Events take effect in the order in which they were queued.
func (s *Spool) Post(e Event, done func(Result)) {
	err := e.normalise()
	if err == nil && !s.push(item{event: e, done: done}) {
		err = ErrClosed
	}
	if err != nil && done != nil {
		done(Result{Err: err})
	}
}

// Do posts e and waits for its result. When ctx ends first, its error is the
// result's; e may take effect nevertheless.
func (s *Spool) Do(ctx context.Context, e Event) Result { return s.wait(ctx, nil, &e) }

// DoWithin is Do with a time-out; context.DeadlineExceeded is the result's error
// when it is over.
func (s *Spool) DoWithin(ctx context.Context, d time.Duration, e Event) Result {
	timer := timers.Get().(*time.Timer)
	timer.Reset(d)
	defer func() {
		timer.Stop()
		timers.Put(timer)
	}()
	return s.wait(ctx, timer.C, &e)
}

var timers = sync.Pool{New: func() any { return time.NewTimer(time.Hour) }}

// waiter waits for the result of one event after the other.
type waiter struct {
	got  chan Result
	done func(Result) // sends to got
}

func newWaiter() any {
	got := make(chan Result, 1)
	return &waiter{got, func(r Result) { got <- r }}
}

func (s *Spool) wait(ctx context.Context, timeout <-chan time.Time, e *Event) Result {
	w := s.waiters.Get().(*waiter)
	s.Post(*e, w.done)
	var err error
	select {
	case r := <-w.got:
		s.waiters.Put(w)
		return r
	case <-ctx.Done():
		err = ctx.Err()
	case <-timeout:
		err = context.DeadlineExceeded
	}
	return Result{Err: fmt.Errorf("%s of %s: %w", e.Kind, e.ID, err)} // what comes yet is nobody's
}

// push queues an item, unless the spool is closing.
func (s *Spool) push(it item) bool {
	s.queueMu.Lock()
	if s.closing {
		s.queueMu.Unlock()
		return false
	}
	s.queue = append(s.queue, it)
	s.queueMu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return true
}

// Ping returns nil once the committer has come round: it proves that its loop
// runs, also while there is nothing to do. A commit that is under way comes
// first; see AtDisk.
func (s *Spool) Ping(ctx context.Context) error {
	answered := make(chan struct{})
	s.queueMu.Lock()
	if s.closing {
		s.queueMu.Unlock()
		return ErrClosed
	}
	s.pings = append(s.pings, answered)
	s.queueMu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	select {
	case <-answered:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("spool: ping: %w", ctx.Err())
	}
}

// AtDisk tells whether the committer reads or writes now: one that does not come
// round then waits for its disk.
func (s *Spool) AtDisk() bool { return s.atDisk.Load() }

// take swaps the queue for an empty one.
func (s *Spool) take() (work []item, closing bool) {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	for _, answered := range s.pings {
		close(answered)
	}
	s.pings = nil
	work, s.queue = s.queue, s.spare[:0]
	s.spare, s.underWay = nil, work
	return work, s.closing
}

// rest notes what of the work is still to be answered.
func (s *Spool) rest(work []item) {
	s.queueMu.Lock()
	s.underWay = work
	s.queueMu.Unlock()
}

// keepSpare takes back the array of a queue that was worked off; after a burst
// it is left to the collector.
func (s *Spool) keepSpare(work []item) {
	clear(work)
	if cap(work) <= 4*maxItems {
		s.spare = work[:0]
	}
}

// run is the committer. It ends when the spool closes and the queue is empty.
func (s *Spool) run() {
	defer close(s.stopped)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var begun time.Time // of the last commits
	few := true         // they were for a few changes only
	for {
		switch {
		case s.failing:
			time.Sleep(failPause - time.Since(begun))
		case !few:
			time.Sleep(s.o.Gather - time.Since(begun))
		}
		s.fire()
		s.doAlone()
		work, closing := s.take()
		if len(work) == 0 && !s.repairDue() && !s.saveDue() {
			s.keepSpare(work)
			if closing {
				return
			}
			few = true
			s.sleep(timer)
			continue
		}
		begun, few = time.Now(), len(work) <= fewItems
		for rest := work; ; {
			n := portion(rest)
			s.commitBatch(rest[:n])
			rest = rest[n:]
			s.rest(rest)
			if len(rest) == 0 {
				break
			}
		}
		s.keepSpare(work)
	}
}

// failPause is how far apart commits begin while they fail: whoever is told so
// may come again at once.
const failPause = 5 * time.Millisecond

// fewItems is up to how many changes a commit does not make the next one wait: a
// peer that sends one message at a time is answered as fast as the disk can, while
// many share the fsync and the wake-ups that go with it.
const fewItems = 4

// portion is how many of the items one commit takes.
func portion(items []item) int {
	octets := 0
	for n := range items {
		octets += items[n].size()
		if n == maxItems || n > 0 && octets > maxBytes {
			return n
		}
	}
	return len(items)
}

// repairDue tells that what an earlier commit failed to write, or has left, can be
// tried again.
func (s *Spool) repairDue() bool {
	return s.failing && !s.o.Now().Before(s.retryAt)
}

// sleep waits for the queue or the next timer.
func (s *Spool) sleep(timer *time.Timer) {
	d, ok := s.untilNext(s.o.Now())
	if !ok {
		<-s.wake
		return
	}
	timer.Reset(d)
	select {
	case <-s.wake:
		timer.Stop()
	case <-timer.C:
	}
}

// Close commits what is queued, stores the cursor and closes the database.
// What is put or posted from then on gets ErrClosed. Calls after the first wait
// for it and return what it did.
func (s *Spool) Close() error {
	s.queueMu.Lock()
	if s.closing {
		s.queueMu.Unlock()
		<-s.closed
		return s.ending
	}
	s.closing = true
	started := s.started
	s.queueMu.Unlock()
	defer close(s.closed)
	if started {
		select {
		case s.wake <- struct{}{}:
		default:
		}
		<-s.stopped
	} else {
		s.run() // only empties the queue: the spool is closing
	}
	s.cleaning.Wait()
	s.ending = s.shut()
	return s.ending
}

// shut runs after the committer and on its fields.
func (s *Spool) shut() error {
	s.replies.close()
	if must := s.must; len(must) > 0 { // once more
		s.must = nil
		s.commitBatch(must)
	}
	s.cursorAt = time.Time{} // store the cursor now
	s.retryAt = time.Time{}
	s.batch.reset(s.o.Now())
	err := s.settle()
	for err == nil && (len(s.unsaved) > 0 || s.cursorMoved()) {
		s.batch.reset(s.o.Now())
		s.batch.saveUntil(s.o.Now())
		if err = s.batch.write(); err == nil {
			s.written()
		}
	}
	s.diskMu.Lock()
	defer s.diskMu.Unlock()
	s.diskClosed = true
	s.fresh.clear()
	s.ended.clear()
	if err = errors.Join(err, s.db.Close()); err != nil {
		return fmt.Errorf("spool: close: %w", err)
	}
	return nil
}

// cursorMoved tells that the cursor on disk is not the best one.
func (s *Spool) cursorMoved() bool {
	s.batch.reset(s.o.Now())
	_, moved := s.batch.cursor()
	return moved
}

// fault notes an error that has no caller to go to.
func (s *Spool) fault(what string, err error) {
	s.stats.failed(err, s.o.Now(), -1)
	s.o.Logger.Error(what, "error", err)
}
