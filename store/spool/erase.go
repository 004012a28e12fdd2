package spool

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
	"shunt/store"
)

// Erased is what Erase did.
type Erased struct {
	Messages int // finished ones, also those whose retention was over
	Replies  int // of the app's, that were taken or expired
	Pending  int // live messages and waiting replies, which were left alone
}

// Erase removes what the database's files have of a number's finished messages,
// of those to it and of those from it, also of what was written over or deleted
// earlier. A live message, or a reply that its ESME has not taken, is somebody's
// who waits for its outcome: it is counted and stays, to be erased by the same
// call once it has ended. Backups that were made before keep what they have.
//
// It reads every record once, beside the committer. Then nobody reads or writes
// the database while its tables are rewritten: puts are refused once that takes
// longer than Options.Stall. An error says that some of it may be left; the same
// call again finishes it.
func (s *Spool) Erase(ctx context.Context, n msg.Number) (e Erased, err error) {
	s.erasing.Lock()
	defer s.erasing.Unlock()
	t := traces{s: s, n: n, digits: n.String()[1:], ids: make(map[msg.ID]bool), keys: make(map[string]struct{})}
	if err := s.view(func(txn *badger.Txn) error { return t.find(ctx, txn) }); err != nil {
		return e, fmt.Errorf("spool: erase %s: %w", n.Masked(), err)
	}
	for _, live := range t.ids {
		if live {
			e.Pending++
		} else {
			e.Messages++
		}
	}
	e.Replies, e.Pending = t.replies, e.Pending+t.waiting
	if len(t.keys) == 0 {
		return e, nil
	}
	if err := s.alone(ctx, func() error { return s.drop(&t) }); err != nil {
		return e, fmt.Errorf("spool: erase %s: %w", n.Masked(), err)
	}
	return e, nil
}

// alone has the committer call do between two commits.
func (s *Spool) alone(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	s.queueMu.Lock()
	if s.closing || !s.started {
		s.queueMu.Unlock()
		return ErrClosed
	}
	s.exclusives = append(s.exclusives, func() {
		if err := ctx.Err(); err != nil {
			done <- err
			return
		}
		done <- do()
	})
	s.queueMu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return <-done
}

// doAlone is the committer's.
func (s *Spool) doAlone() {
	s.queueMu.Lock()
	todo := s.exclusives
	s.exclusives = nil
	s.queueMu.Unlock()
	for _, do := range todo {
		began := time.Now()
		s.commitBegan.Store(&began)
		s.atDisk.Store(true)
		do()
		s.atDisk.Store(false)
		s.commitEnded()
	}
}

// drop runs on the committer.
func (s *Spool) drop(t *traces) error {
	if err := s.o.Room(); err != nil {
		return err
	}
	s.diskMu.Lock()
	defer s.diskMu.Unlock()
	if s.diskClosed {
		return ErrClosed
	}
	keys := make([][]byte, 0, len(t.keys))
	for k := range t.keys {
		keys = append(keys, []byte(k))
	}
	if err := store.Erase(s.db, keys); err != nil {
		return err
	}
	for id, live := range t.ids {
		if !live {
			s.fresh.drop(id)
			s.ended.drop(id)
		}
	}
	return nil
}

// traces are what the files have of a number.
type traces struct {
	s       *Spool
	n       msg.Number
	digits  string
	ids     map[msg.ID]bool     // its messages; true: live
	keys    map[string]struct{} // to be erased
	replies int
	waiting int // replies that were left
}

// everyCheck is after how many records the context is asked.
const everyCheck = 1024

// find looks at every version of every record that is still in a file: one that
// was deleted or has expired is there until a table is rewritten.
func (t *traces) find(ctx context.Context, txn *badger.Txn) error {
	type look struct {
		prefix []byte
		at     func(key, value []byte)
	}
	number := appendNumberKey(nil, t.n, msg.ID{})[:9]
	for _, l := range []look{
		{number, t.numberRow},
		{[]byte{kBody}, t.body},
		{[]byte{kState}, t.record},
		{[]byte{kDone}, t.record},
		{[]byte{kReply}, t.reply},
		{[]byte{kAside}, t.aside},
	} {
		if err := everyVersion(ctx, txn, l.prefix, l.at); err != nil {
			return err
		}
	}
	for id, live := range t.ids {
		if live {
			continue
		}
		for _, kind := range [...]byte{kStep, kReplySteps} {
			if err := everyVersion(ctx, txn, idKey(kind, id), func(key, _ []byte) { t.add(key) }); err != nil {
				return err
			}
		}
	}
	return nil
}

func everyVersion(ctx context.Context, txn *badger.Txn, prefix []byte, at func(key, value []byte)) error {
	o := badger.DefaultIteratorOptions
	o.Prefix, o.AllVersions = prefix, true
	it := txn.NewIterator(o)
	defer it.Close()
	n := 0
	for it.Rewind(); it.Valid(); it.Next() {
		if n++; n%everyCheck == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		item := it.Item()
		err := item.Value(func(v []byte) error {
			at(item.Key(), v)
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s: read: %w", keyName(item.Key()), err)
		}
	}
	return nil
}

func (t *traces) add(key []byte) { t.keys[string(key)] = struct{}{} }

// its tells whether an address is the number, as ESMEs write it.
func (t *traces) its(addr string) bool { return strings.TrimPrefix(addr, "+") == t.digits }

// message notes one message of the number, and the keys that it has beside its
// own records. What is live is left.
func (t *traces) message(id msg.ID, to msg.Number, wire string, group msg.ID) {
	live, seen := t.ids[id]
	if !seen {
		_, live = t.s.index.get(id)
		t.ids[id] = live
	}
	if live {
		return
	}
	for _, kind := range [...]byte{kBody, kState, kDone} {
		t.add(idKey(kind, id))
	}
	if to != 0 {
		t.add(appendNumberKey(nil, to, id))
	}
	if wire != "" && wire != id.String() {
		t.add(wireKey(wire))
	}
	if !group.IsZero() {
		t.add(appendGroupKey(nil, group, id))
	}
}

func (t *traces) numberRow(key, _ []byte) {
	if id, ok := idOf(key, 9); ok {
		t.message(id, t.n, "", msg.ID{})
	}
}

func (t *traces) body(key, value []byte) {
	id, ok := idOf(key, 1)
	if !ok {
		return
	}
	fields, err := unseal(key, value)
	if err != nil {
		return // a deletion, or nothing that can be read
	}
	if m, err := decodeBody(id, fields); err == nil && (m.To == t.n || t.its(m.From)) {
		t.message(id, m.To, m.WireID, m.Group)
	}
}

func (t *traces) record(key, value []byte) {
	id, ok := idOf(key, 1)
	if !ok {
		return
	}
	fields, err := unseal(key, value)
	if err != nil {
		return
	}
	if r, _, err := decodeRecord(id, fields); err == nil && (r.To == t.n || t.its(r.From)) {
		t.message(id, r.To, r.WireID, r.Group)
	}
}

func (t *traces) reply(key, value []byte) {
	id, ok := idOf(key, 1)
	fields, err := unseal(key, value)
	if !ok || err != nil {
		return
	}
	r, err := decodeReply(id, fields)
	if err != nil || r.From != t.n && !t.its(r.To) {
		return
	}
	if t.s.replies.waits(id) {
		t.waiting++
		return
	}
	if _, twice := t.keys[string(key)]; !twice {
		t.replies++
		t.add(key)
		t.add(replyStepsKey(r.Message, id)) // of a message that was erased before
	}
}

// aside looks into what could not be read for the number as records have it.
func (t *traces) aside(key, value []byte) {
	number := binary.BigEndian.AppendUint64(nil, uint64(t.n))
	if bytes.Contains(key, number) || bytes.Contains(value, number) || bytes.Contains(value, []byte(t.digits)) {
		t.add(key)
	}
}
