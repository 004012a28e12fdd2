package spool

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
)

// Outcome is the end of one message, for its call detail record. Seq counts all
// ends of this spool from 1 without a gap, in the order in which they were
// synced: it is given in the commit that ends the message, so that no crash
// loses one or gives it twice.
type Outcome struct {
	Seq    uint64
	ID     msg.ID
	Event  msg.Event // what ended it; none: nothing but its number can be read
	Reason msg.Reason
	At     time.Time // when that happened
}

// kOutcome is the key of the Outcomes of one commit that nobody has taken yet,
// with the Seq of the last of them; keyOutcomes holds the Seq up to which they
// were taken.
const kOutcome = 'O'

var keyOutcomes = []byte("Mspool/outcomes")

func outcomeKey(b []byte, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append(b, kOutcome), seq)
}

// writeOutcomes numbers the ends of the batch.
func (b *batch) writeOutcomes(w *writer) {
	s := b.s
	given := s.outcomeSeq.Load()
	last := given + uint64(len(b.finals))
	if last > given {
		key := b.key(func(a []byte) []byte { return outcomeKey(a, last) })
		w.set(pair{key, b.value(key, func(a []byte) []byte {
			for i := range b.finals {
				a = appendOutcome(a, &b.finals[i])
			}
			return a
		}), 0})
	}
	s.outcomeNext = last
}

func appendOutcome(b []byte, o *Outcome) []byte {
	return appendTime(append(append(b, o.ID[:]...), byte(o.Event), byte(o.Reason)), o.At)
}

// outcomesWritten notes that the numbers of the commit are given.
func (s *Spool) outcomesWritten() { s.outcomeSeq.Store(s.outcomeNext) }

// outcomesFailed notes that they may be on disk and are not given.
func (s *Spool) outcomesFailed() { s.outcomeGhost = s.outcomeNext }

// Outcomes are the ends after the one with that number, in order, at most limit.
// What a commit that failed left on disk is none. It is safe for concurrent use.
func (s *Spool) Outcomes(after uint64, limit int) (list []Outcome, err error) {
	err = s.view(func(txn *badger.Txn) error {
		after = max(after, s.outcomesTaken.Load())
		given := s.outcomeSeq.Load()
		it := txn.NewIterator(badger.IteratorOptions{PrefetchValues: true, PrefetchSize: 256, Prefix: []byte{kOutcome}})
		defer it.Close()
		for it.Seek(outcomeKey(nil, after+1)); it.Valid() && len(list) < limit; it.Next() {
			if len(it.Item().Key()) != 9 {
				continue
			}
			some, err := readOutcomes(it.Item())
			if err != nil {
				some = s.unreadable(it.Item().Key(), after, err)
			}
			if len(some) == 0 || some[len(some)-1].Seq > given {
				break
			}
			for _, o := range some {
				if o.Seq > after && len(list) < limit {
					list = append(list, o)
					after = o.Seq
				}
			}
		}
		return nil
	})
	return list, err
}

// unreadable are the ends of a commit, after that number, of which only the
// numbers are left.
func (s *Spool) unreadable(key []byte, after uint64, err error) (list []Outcome) {
	last := binary.BigEndian.Uint64(key[1:])
	if last > s.outcomeSeq.Load() {
		return nil
	}
	s.stats.bad.Add(1)
	s.o.Logger.Error("ends of messages cannot be read, their numbers alone go on record", "first_seq", after+1, "last_seq", last, "error", err)
	for seq := after + 1; seq <= last; seq++ {
		list = append(list, Outcome{Seq: seq})
	}
	return list
}

// readOutcomes reads the outcomes of one commit, one at least. The key has nine
// octets.
func readOutcomes(item *badger.Item) (list []Outcome, err error) {
	key := item.Key()
	err = item.Value(func(value []byte) error {
		fields, err := unseal(key, value)
		if err != nil {
			return err
		}
		d := &decoder{b: fields}
		for {
			var o Outcome
			copy(o.ID[:], d.take(len(o.ID), "id"))
			o.Event, o.Reason = msg.Event(d.u8("event")), msg.Reason(d.u8("reason"))
			o.At = d.time("at")
			if d.err != nil {
				return d.err
			}
			if list = append(list, o); len(d.b) == 0 {
				break
			}
		}
		first := binary.BigEndian.Uint64(key[1:]) - uint64(len(list)) + 1
		for i := range list {
			list[i].Seq = first + uint64(i)
		}
		return nil
	})
	return list, err
}

// takenPerCommit bounds a transaction of OutcomesTaken.
const takenPerCommit = 4000

// OutcomesTaken forgets the ends up to that number, of those that were given:
// they are on record elsewhere. It returns once that is on stable storage. One
// caller at a time.
func (s *Spool) OutcomesTaken(seq uint64) error {
	s.diskMu.RLock()
	defer s.diskMu.RUnlock()
	if s.diskClosed {
		return ErrClosed
	}
	seq = min(seq, s.outcomeSeq.Load())
	for from := s.outcomesTaken.Load(); from < seq; {
		to, err := s.forget(from, seq)
		if err != nil {
			return fmt.Errorf("forget outcomes up to %d: %w", seq, err)
		}
		from = to
		s.outcomesTaken.Store(to)
	}
	return nil
}

// forget deletes, in one transaction, outcomes of whole commits after the one
// with the number from, and tells up to which they are forgotten.
func (s *Spool) forget(from, to uint64) (uint64, error) {
	err := s.db.Update(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kOutcome}})
		defer it.Close()
		n, whole := 0, from
		for it.Seek(outcomeKey(nil, from+1)); it.Valid(); it.Next() {
			key := it.Item().KeyCopy(nil)
			if len(key) != 9 {
				continue
			}
			last := binary.BigEndian.Uint64(key[1:])
			if last > to {
				break
			}
			if n++; n > takenPerCommit {
				to = whole
				break
			}
			if err := txn.Delete(key); err != nil {
				return err
			}
			whole = last
		}
		v := binary.BigEndian.AppendUint64([]byte{recordVersion}, to)
		return txn.Set(keyOutcomes, seal(v, 0, keyOutcomes))
	})
	return to, err
}

// loadOutcomes finds the last number that was given.
func (s *Spool) loadOutcomes(txn *badger.Txn) error {
	fields, err := getFields(txn, keyOutcomes)
	if err == nil {
		d := &decoder{b: fields}
		s.outcomesTaken.Store(d.u64("outcomes taken"))
		err = d.end()
	}
	last := s.outcomesTaken.Load()
	it := txn.NewIterator(badger.IteratorOptions{Reverse: true, Prefix: []byte{kOutcome}})
	defer it.Close()
	it.Seek(outcomeKey(nil, 1<<64-1))
	if it.Valid() && len(it.Item().Key()) == 9 {
		last = max(last, binary.BigEndian.Uint64(it.Item().Key()[1:]))
	}
	s.outcomeSeq.Store(last)
	return err
}
