package spool

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"
	"unique"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
)

// load reads the cursor, the short ids and every live message.
func (s *Spool) load() error {
	type bad struct {
		key, value []byte
		err        error
	}
	var aside []bad
	err := s.db.View(func(txn *badger.Txn) error {
		if err := s.loadShort(txn); err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("read short ids: %w", err)
		}
		if err := s.loadOutcomes(txn); err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("read outcomes: %w", err)
		}
		s.loadCursor(txn)
		s.loadCleaned(txn)
		it := txn.NewIterator(badger.IteratorOptions{PrefetchValues: true, PrefetchSize: 256, Prefix: []byte{kState}})
		defer it.Close()
		for it.Seek(idKey(kState, s.cursor)); it.Valid(); it.Next() {
			key := it.Item().KeyCopy(nil)
			value, err := it.Item().ValueCopy(nil)
			if err == nil {
				if err = s.loadLive(key, value); err == nil {
					continue
				}
			}
			aside = append(aside, bad{key, value, err})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, b := range aside {
		s.o.Logger.Error("spool record cannot be read, set aside", "key", keyName(b.key), "error", b.err)
		s.stats.bad.Add(1)
		err := s.db.Update(func(txn *badger.Txn) error {
			return errors.Join(txn.Set(append([]byte{kAside}, b.key...), b.value), txn.Delete(b.key))
		})
		if err != nil {
			return fmt.Errorf("set aside %s: %w", keyName(b.key), err)
		}
	}
	s.ids.seen(s.highest)
	s.setAllTimers(s.o.Now())
	return nil
}

// loadCursor reads the low-water mark. Without it every key is looked at, which
// is slow and right.
func (s *Spool) loadCursor(txn *badger.Txn) {
	fields, err := getFields(txn, keyCursor)
	id, ok := idOf(fields, 0)
	switch {
	case errors.Is(err, ErrNotFound):
	case err != nil || !ok:
		s.stats.bad.Add(1)
		s.o.Logger.Error("spool cursor cannot be read, reading from the start", "error", err)
		s.cursorLost = true
	default:
		s.cursor, s.highest = id, id
	}
}

// loadLive takes one record of a live message into RAM.
func (s *Spool) loadLive(key, value []byte) error {
	id, ok := idOf(key, 1)
	if !ok || len(key) != 1+len(id) {
		return fmt.Errorf("key of %d octets: %w", len(key), errShort)
	}
	fields, err := unseal(key, value)
	if err != nil {
		return err
	}
	r, t, err := decodeRecord(id, fields)
	if err == nil && !r.live() {
		err = fmt.Errorf("state %s: not a live message's: %w", r.State, errBadFields)
	}
	if err != nil {
		return err
	}
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	s.index.insert(&r, t)
	if compare(id, s.highest) > 0 {
		s.highest = id
	}
	return nil
}

// getFields reads the fields of one value; ErrNotFound where there is none.
func getFields(txn *badger.Txn, key []byte) (fields []byte, err error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	value, err := item.ValueCopy(nil)
	if err != nil {
		return nil, err
	}
	return unseal(key, value)
}

// view reads the database, unless it is closed.
func (s *Spool) view(read func(*badger.Txn) error) error {
	s.diskMu.RLock()
	defer s.diskMu.RUnlock()
	if s.diskClosed {
		return ErrClosed
	}
	return s.db.View(read)
}

// loadFinished reads the record of a message that left the live set.
func (s *Spool) loadFinished(id msg.ID) (r Record, t trail, err error) {
	err = s.view(func(txn *badger.Txn) error {
		r, t, err = s.kept(txn, id)
		return err
	})
	return r, t, err
}

// kept is a finished record within its retention: what the janitor has still to
// delete is not there.
func (s *Spool) kept(txn *badger.Txn, id msg.ID) (Record, trail, error) {
	now := s.o.Now()
	r, t, over, err := s.past(txn, id, now)
	if err == nil && !over.After(now) {
		return Record{}, trail{}, ErrNotFound
	}
	return r, t, err
}

func finished(txn *badger.Txn, id msg.ID) (r Record, t trail, err error) {
	fields, err := getFields(txn, idKey(kDone, id))
	if err == nil {
		r, t, err = decodeRecord(id, fields)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("record of %s: %w", id, err)
	}
	return r, t, err
}

// Get is the record of a message, live or finished; ErrNotFound where there is
// none or its retention is over.
func (s *Spool) Get(id msg.ID) (Record, error) {
	if r, ok := s.index.get(id); ok {
		return r, nil
	}
	if r, ok := s.ended.get(id, s.o.Now()); ok {
		return r, nil
	}
	r, _, err := s.loadFinished(id)
	return r, err
}

// Message is a message as it was put, with its PDU. Others may have it too: it
// must not be changed.
func (s *Spool) Message(id msg.ID) (m *Message, err error) {
	if m := s.fresh.get(id); m != nil {
		return m, nil
	}
	err = s.view(func(txn *badger.Txn) error {
		fields, err := getFields(txn, idKey(kBody, id))
		if err == nil {
			m, err = decodeBody(id, fields)
		}
		return err
	})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("message %s: %w", id, err)
	}
	return m, err
}

// Live walks every live message, oldest first. It holds no lock while yield
// runs: what is put meanwhile is walked too, what has left is not.
func (s *Spool) Live(yield func(Record) bool) {
	buf := make([]Record, 0, 256)
	var last msg.ID
	for {
		buf = s.index.after(last, buf[:0])
		for _, r := range buf {
			if !yield(r) {
				return
			}
			last = r.ID
		}
		if len(buf) < cap(buf) {
			return
		}
	}
}

// Latest are live messages whose message_id begins with prefix, the newest first,
// at most limit; it looks at the latest of them alone.
func (s *Spool) Latest(prefix string, limit int) []Record { return s.index.latest(prefix, limit) }

// ByNumber are the messages for a number, with ids after the given one, that
// the carrier does not have and no device has acknowledged: HELD, and ACCEPTED
// to CLAIMED, oldest first, at most limit where that is positive.
func (s *Spool) ByNumber(n msg.Number, after msg.ID, limit int) []Record {
	return s.index.waiting(n, after, limit)
}

// Open is how many messages for a number, counted up to most, are HELD, ACCEPTED
// to CLAIMED, or wait for their SMS to be sent.
func (s *Spool) Open(n msg.Number, most int) int { return s.index.open(n, most) }

// Correlate is the live message whose SMS the SMSC peer gave this message_id.
func (s *Spool) Correlate(peer, smsID string) (msg.ID, bool) {
	ref := smsRef{unique.Make(cut(peer, maxText)), cut(smsID, maxText)}
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	id, ok := s.index.bySMS[ref]
	return id, ok
}

// Resolve is the message to which an ESME was given the message_id, live or
// finished.
func (s *Spool) Resolve(wireID string) (msg.ID, bool) {
	if id, err := msg.ParseID(wireID); err == nil {
		if _, err := s.Get(id); err == nil {
			return id, true
		}
	}
	var id msg.ID
	err := s.view(func(txn *badger.Txn) error {
		fields, err := getFields(txn, wireKey(wireID))
		if err != nil {
			return err
		}
		var ok bool
		if id, ok = idOf(fields, 0); !ok {
			return errShort
		}
		return nil
	})
	if err != nil {
		return msg.ID{}, false
	}
	_, err = s.Get(id)
	return id, err == nil
}

// recentSlack is how many ids of a number may be without a record, of puts
// that failed, before Recent finds less than it could.
const recentSlack = 64

// Recent are the messages for a number, live and finished, newest first, at
// most limit where that is positive.
func (s *Spool) Recent(n msg.Number, limit int) ([]Record, error) {
	var ids []msg.ID
	err := s.view(func(txn *badger.Txn) error {
		prefix := appendNumberKey(nil, n, msg.ID{})[:9]
		it := txn.NewIterator(badger.IteratorOptions{Reverse: true, Prefix: prefix})
		defer it.Close()
		last := msg.ID{}
		for i := range last {
			last[i] = 0xff
		}
		for it.Seek(appendNumberKey(nil, n, last)); it.Valid(); it.Next() {
			if limit > 0 && len(ids) == limit+recentSlack {
				break
			}
			if id, ok := idOf(it.Item().Key(), len(prefix)); ok {
				ids = append(ids, id)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("messages for %s: %w", n.Masked(), err)
	}
	var list []Record
	for _, id := range ids {
		r, err := s.Get(id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if list = append(list, r); len(list) == limit {
			break
		}
	}
	return list, nil
}

// maxSent is how many messages of a number Sent looks at.
const maxSent = 1000

// Sent tells whether the SMSC peer gave this message_id to the SMS of one of the
// latest messages for a number, live or finished.
func (s *Spool) Sent(n msg.Number, peer, smsID string) (bool, error) {
	peer, smsID = cut(peer, maxText), cut(smsID, maxText)
	all, err := s.Recent(n, maxSent)
	return slices.ContainsFunc(all, func(r Record) bool { return r.SMSID == smsID && r.Peer == peer }), err
}

// Newest is when the newest message was put, live or finished.
func (s *Spool) Newest() (at time.Time, ok bool) {
	err := s.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Reverse: true, Prefix: []byte{kBody}})
		defer it.Close()
		it.Seek(append([]byte{kBody}, bytes.Repeat([]byte{0xff}, len(msg.ID{})+1)...))
		if it.Valid() {
			if id, whole := idOf(it.Item().Key(), 1); whole {
				at, ok = time.UnixMilli(id.UnixMilli()), true
			}
		}
		return nil
	})
	return at, ok && err == nil
}

// PutSince walks the messages that were put since t, live and finished, as they
// were put, oldest first; those that cannot be read are left out.
func (s *Spool) PutSince(t time.Time, yield func(*Message)) error {
	from := idBefore(t)
	return s.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{PrefetchValues: true, PrefetchSize: 64, Prefix: []byte{kBody}})
		defer it.Close()
		for it.Seek(idKey(kBody, from)); it.Valid(); it.Next() {
			key := it.Item().Key()
			id, ok := idOf(key, 1)
			if !ok {
				return errShort
			}
			var m *Message
			err := it.Item().Value(func(value []byte) error {
				fields, err := unseal(key, value)
				if err == nil {
					m, err = decodeBody(id, fields)
				}
				return err
			})
			if err == nil {
				yield(m)
			}
		}
		return nil
	})
}
