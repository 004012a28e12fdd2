package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
)

// Reply is what a subscriber has answered in an app, on its way to the ESME that
// wrote. It is kept until the ESME has answered every one of its deliver_sm, or
// until ExpiresAt.
type Reply struct {
	ID      msg.ID
	Message msg.ID      // which it answers
	Account msg.Account // whose it is
	From    msg.Number  // the subscriber
	To      string      // the sender that it answers, as text
	At      time.Time   // when it was taken
	Expires time.Time   // when nobody waits for it any longer; required

	Parts [][]byte // its deliver_sm, sequence_number 0, in order; 1 to 255 of them
	Taken int      // so many of them the ESME has answered
}

// Once makes a request take effect once: whoever comes with the same Key gets
// the Answer that was stored with the effect, in the same commit.
type Once struct {
	Key     [32]byte  // of the caller, the operation and the key that it gave
	Request [32]byte  // what it asked for
	Answer  []byte    // at most 4 KiB
	Until   time.Time // when it is forgotten
	Reply   msg.ID    // what it led to; PutReply sets it
}

const (
	maxReplies      = 100_000 // that wait
	maxAnswer       = 4 << 10
	repliesInCommit = 256
)

// Keys of replies. An entry of kOnce ends by itself.
const (
	kReply = 'R' // id → reply that waits
	kOnce  = 'I' // Once.Key → the rest of it

	kReplySteps = 'Q' // message, reply → the reply's steps in the message's trace
)

// replyOp is one entry of the queue of replies.
type replyOp struct {
	put  *Reply
	once *Once // with put; may be nil

	taken Taken // without put

	done func(prev *Once, err error)
}

// replies is the writer of replies: one goroutine commits what callers queue, as
// the committer does for messages, so that a key takes effect once and parts are
// counted in order. It shares the committer's database and none of its state.
type replies struct {
	s *Spool

	mu      sync.Mutex
	queue   []replyOp
	live    map[msg.ID]struct{} // that wait
	closing bool

	delivered, refused, givenUp uint64 // replies, since Open

	started bool

	wake    chan struct{} // holds one when the queue may not be empty
	stopped chan struct{} // closed when the writer has ended
}

func newReplies(s *Spool) *replies {
	return &replies{s: s, live: make(map[msg.ID]struct{}), wake: make(chan struct{}, 1), stopped: make(chan struct{})}
}

// PutReply queues r and returns at once. done is called once: when r is on stable
// storage, or with what an earlier request with once.Key has led to, and then r
// is not stored; or with ErrFull, ErrClosed, ErrInvalid or what the disk said.
// After an error of the disk nobody knows whether r is there: whoever repeats it
// does so with the same Once. r and once must not change after PutReply. done
// runs on the writer of replies, or on the caller: it must not block.
func (s *Spool) PutReply(r *Reply, once *Once, done func(prev *Once, err error)) {
	if err := r.check(); err != nil {
		done(nil, err)
		return
	}
	if once != nil {
		if len(once.Answer) > maxAnswer {
			done(nil, fmt.Errorf("reply %s: answer: %d octets, at most %d fit: %w", r.ID, len(once.Answer), maxAnswer, ErrInvalid))
			return
		}
		once.Reply = r.ID
	}
	s.replies.push(replyOp{put: r, once: once, done: done})
}

// Taken is what became of a part of a reply.
type Taken struct {
	ID    msg.ID // of the reply
	Part  int    // counted from 0
	Whole bool   // nothing more is to be done for the reply

	At     time.Time
	Reason msg.Reason // ReasonReceipt: the ESME took it; ReasonStatus: it refused it; or why nobody gets it
	Detail string     // for the trace; none of the text
}

// ReplyTaken says what became of a part of a reply. done is called once that is
// on stable storage, or with why not, under the same rules as PutReply's.
func (s *Spool) ReplyTaken(t Taken, done func(error)) {
	s.replies.push(replyOp{taken: t, done: func(_ *Once, err error) { done(err) }})
}

// Reply reads a reply that waits; ErrNotFound where there is none.
func (s *Spool) Reply(id msg.ID) (r *Reply, err error) {
	err = s.view(func(txn *badger.Txn) error {
		r, err = readReply(txn, id)
		return err
	})
	return r, err
}

// Replies walks the replies that wait, oldest first, as they were on disk when it
// was called. One that cannot be read is logged, counted and left out.
func (s *Spool) Replies(yield func(*Reply) bool) {
	err := s.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{PrefetchValues: true, PrefetchSize: 16, Prefix: []byte{kReply}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			id, ok := idOf(it.Item().Key(), 1)
			if !ok {
				continue
			}
			r, err := readReply(txn, id)
			if err != nil {
				s.stats.bad.Add(1)
				s.o.Logger.Error("reply cannot be read, left out", "reply_id", id.String(), "error", err)
				continue
			}
			if !yield(r) {
				return nil
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, ErrClosed) {
		s.fault("replies cannot be read", err)
	}
}

// WaitingReplies is how many replies no ESME has taken yet.
func (s *Spool) WaitingReplies() int {
	s.replies.mu.Lock()
	defer s.replies.mu.Unlock()
	return len(s.replies.live)
}

// Once is what an earlier request with that key has led to; ErrNotFound where
// there was none, or it is forgotten.
func (s *Spool) Once(key [32]byte) (o *Once, err error) {
	err = s.view(func(txn *badger.Txn) error {
		o, err = readOnce(txn, key)
		return err
	})
	return o, err
}

func (w *replies) push(op replyOp) {
	w.mu.Lock()
	closing := w.closing
	if !closing {
		w.queue = append(w.queue, op)
	}
	w.mu.Unlock()
	if closing {
		op.done(nil, ErrClosed)
		return
	}
	w.rouse()
}

func (w *replies) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// start notes the replies that wait and starts the writer, which close ends.
func (w *replies) start() {
	for r := range w.s.Replies {
		w.live[r.ID] = struct{}{}
	}
	w.mu.Lock()
	w.started = true
	w.mu.Unlock()
	go w.run()
}

// close commits what is queued and ends the writer.
func (w *replies) close() {
	w.mu.Lock()
	w.closing = true
	started := w.started
	w.mu.Unlock()
	if !started {
		w.run()
		return
	}
	w.rouse()
	<-w.stopped
}

func (w *replies) run() {
	defer close(w.stopped)
	for {
		w.mu.Lock()
		ops, closing := w.queue, w.closing
		w.queue = nil
		w.mu.Unlock()
		if len(ops) == 0 {
			if closing {
				return
			}
			<-w.wake
			continue
		}
		for len(ops) > 0 {
			n := min(len(ops), repliesInCommit)
			w.commit(ops[:n])
			ops = ops[n:]
		}
	}
}

// replyResult is what came of one op.
type replyResult struct {
	prev *Once
	err  error
	told *Reply // has to be delivered from now on
	gone msg.ID // waits no longer
}

// commit applies ops in their order, writes them in one transaction, and only
// then answers.
func (w *replies) commit(ops []replyOp) {
	s := w.s
	results := make([]replyResult, len(ops))
	s.diskMu.RLock()
	txn := s.db.NewTransaction(true)
	room, seen, writes := error(nil), map[[32]byte]*Once{}, 0
	if err := s.o.Room(); err != nil {
		room = fmt.Errorf("spool: replies: %w", err)
	}
	w.mu.Lock()
	waiting := len(w.live)
	w.mu.Unlock()
	for i := range ops {
		res := &results[i]
		switch {
		case room != nil:
			res.err = room
		case ops[i].put == nil:
			res.gone, res.err = w.taken(txn, &ops[i].taken)
			writes++
		default:
			w.add(txn, &ops[i], seen, waiting, res)
			if res.err == nil && res.prev == nil {
				waiting, writes = waiting+1, writes+1
			}
		}
	}
	if writes > 0 {
		if err := txn.Commit(); err != nil {
			err = fmt.Errorf("spool: commit of %d replies: %w", writes, err)
			s.fault("replies cannot be written", err)
			for i := range results {
				results[i] = replyResult{err: err}
			}
		}
	}
	txn.Discard()
	s.diskMu.RUnlock()
	w.answer(ops, results)
}

// add puts a reply, unless its Once was seen before.
func (w *replies) add(txn *badger.Txn, op *replyOp, seen map[[32]byte]*Once, waiting int, res *replyResult) {
	if op.once != nil {
		prev := seen[op.once.Key]
		if prev == nil {
			var err error
			if prev, err = readOnce(txn, op.once.Key); err != nil && !errors.Is(err, ErrNotFound) {
				res.err = err
				return
			}
		}
		if prev != nil {
			res.prev = prev
			// A commit that failed may have been written all the same: what it
			// holds has been answered for now, and waits to be delivered.
			if r, err := readReply(txn, prev.Reply); err == nil && !w.waits(r.ID) {
				res.told = r
			}
			return
		}
	}
	if waiting >= maxReplies {
		res.err = ErrFull
		return
	}
	if res.err = setReply(txn, op.put); res.err != nil {
		return
	}
	if res.err = w.note(txn, op.put, nil); res.err != nil {
		return
	}
	if op.once != nil {
		if res.err = setOnce(txn, op.once, w.s.o.Now()); res.err != nil {
			return
		}
		seen[op.once.Key] = op.once
	}
	res.told = op.put
}

func (w *replies) waits(id msg.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.live[id]
	return ok
}

// taken counts a part that the ESME has answered.
func (w *replies) taken(txn *badger.Txn, t *Taken) (gone msg.ID, err error) {
	r, err := readReply(txn, t.ID)
	if err != nil {
		return t.ID, err
	}
	r.Taken = max(r.Taken, t.Part+1)
	left := !t.Whole && r.Taken < len(r.Parts)
	if !left || t.Reason != msg.ReasonReceipt {
		if err := w.note(txn, r, t); err != nil {
			return gone, err
		}
	}
	if left {
		return gone, setReply(txn, r)
	}
	return t.ID, txn.Delete(idKey(kReply, t.ID))
}

// answer makes known what was committed.
func (w *replies) answer(ops []replyOp, results []replyResult) {
	told := make([]*Reply, 0, len(ops))
	w.mu.Lock()
	for i := range results {
		if r := results[i].told; r != nil {
			if _, twice := w.live[r.ID]; !twice {
				w.live[r.ID] = struct{}{}
				told = append(told, r)
			}
		}
		id, err := results[i].gone, results[i].err
		if _, waits := w.live[id]; waits && (err == nil || errors.Is(err, ErrNotFound)) { // it may be gone with a commit that failed
			delete(w.live, id)
			switch t := &ops[i].taken; {
			case t.Whole:
				w.givenUp++
			case t.Reason != msg.ReasonReceipt:
				w.refused++
			default:
				w.delivered++
			}
		}
	}
	w.mu.Unlock()
	if w.s.o.Replied != nil {
		for _, r := range told {
			w.s.o.Replied(r)
		}
	}
	for i := range ops {
		ops[i].done(results[i].prev, results[i].err)
	}
}

func setReply(txn *badger.Txn, r *Reply) error {
	key := idKey(kReply, r.ID)
	v := appendReply([]byte{recordVersion}, r)
	return txn.Set(key, seal(v, 0, key))
}

func readReply(txn *badger.Txn, id msg.ID) (*Reply, error) {
	fields, err := getFields(txn, idKey(kReply, id))
	if err != nil {
		return nil, err
	}
	r, err := decodeReply(id, fields)
	if err != nil {
		return nil, fmt.Errorf("reply %s: %w", id, err)
	}
	return r, nil
}

func onceKey(key [32]byte) []byte { return append([]byte{kOnce}, key[:]...) }

func setOnce(txn *badger.Txn, o *Once, now time.Time) error {
	key := onceKey(o.Key)
	v := append([]byte{recordVersion}, o.Request[:]...)
	v = append(v, o.Reply[:]...)
	v = binary.BigEndian.AppendUint16(v, uint16(len(o.Answer)))
	v = append(v, o.Answer...)
	return txn.SetEntry(badger.NewEntry(key, seal(v, 0, key)).WithTTL(max(o.Until.Sub(now), time.Second)))
}

func readOnce(txn *badger.Txn, key [32]byte) (*Once, error) {
	fields, err := getFields(txn, onceKey(key))
	if err != nil {
		return nil, err
	}
	d, o := &decoder{b: fields}, &Once{Key: key}
	copy(o.Request[:], d.take(len(o.Request), "request"))
	copy(o.Reply[:], d.take(len(o.Reply), "reply"))
	o.Answer = append([]byte(nil), d.take(int(d.u16("answer")), "answer")...)
	return o, d.end()
}
