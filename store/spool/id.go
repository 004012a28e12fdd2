package spool

import (
	"bytes"
	cryptorand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
)

func compare(a, b msg.ID) int { return bytes.Compare(a[:], b[:]) }

// idSource makes ids that only grow, also when the clock is set back and when
// many are made within a millisecond.
type idSource struct {
	mu   sync.Mutex
	last msg.ID
}

// next is an id for now: 48 bits of milliseconds and 80 random bits, or its
// predecessor plus a random step where that is not less.
func (g *idSource) next(now time.Time) msg.ID {
	g.mu.Lock()
	defer g.mu.Unlock()
	var id msg.ID
	ms := uint64(max(now.UnixMilli(), 0))
	binary.BigEndian.PutUint64(id[:8], ms<<16)
	if bytes.Compare(id[:6], g.last[:6]) > 0 {
		_, _ = cryptorand.Read(id[6:]) // never fails (crypto/rand)
		id[6] &= 0x7f                  // room to count upwards within the millisecond
	} else {
		id = g.last
		add(&id, 1+uint64(rand.Uint32()))
	}
	g.last = id
	return id
}

// add raises id by n; what overflows the random bits carries into the time.
func add(id *msg.ID, n uint64) {
	low := binary.BigEndian.Uint64(id[8:])
	binary.BigEndian.PutUint64(id[8:], low+n)
	if low+n < low {
		binary.BigEndian.PutUint64(id[:8], binary.BigEndian.Uint64(id[:8])+1)
	}
}

// seen keeps new ids above one that exists.
func (g *idSource) seen(id msg.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if compare(id, g.last) > 0 {
		g.last = id
	}
}

// shortBlock is how many short ids one write to disk reserves. A restart loses
// what is left of a block.
const shortBlock = 1 << 16

// shortSource hands out the reserved short ids.
type shortSource struct {
	mu          sync.Mutex
	next, limit uint64
}

// NewID is an id for a message: a ULID that is greater than every id before
// it. It is safe for concurrent use.
func (s *Spool) NewID() msg.ID { return s.ids.next(s.o.Now()) }

// ShortID is a message_id for peers that bind with an interface_version below
// 0x34: eight lower-case hex digits, never repeated before 2^32 others, also
// across restarts. Once in 65,536 calls it waits for the disk. It is safe for
// concurrent use.
//
// If that write fails, the id may be handed out again after a restart; the
// spool says so in Stats and in the log, and tries again with the next call.
func (s *Spool) ShortID() string {
	g := &s.short
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.next >= g.limit {
		if err := s.reserveShort(g.next + shortBlock); err != nil {
			s.fault("short ids cannot be reserved", err)
		} else {
			g.limit = g.next + shortBlock
		}
	}
	id := uint32(g.next)
	g.next++
	return fmt.Sprintf("%08x", id)
}

// reserveShort returns once every short id below limit is this run's.
func (s *Spool) reserveShort(limit uint64) error {
	s.diskMu.RLock()
	defer s.diskMu.RUnlock()
	if s.diskClosed {
		return ErrClosed
	}
	v := binary.BigEndian.AppendUint64([]byte{recordVersion}, limit)
	v = seal(v, 0, keyShort)
	err := s.db.Update(func(txn *badger.Txn) error { return txn.Set(keyShort, v) })
	if err != nil {
		return fmt.Errorf("reserve short ids: %w", err)
	}
	return nil
}

// loadShort reads where the last run's reservation ended. A new spool begins
// anywhere in the upper half of the 32 bits: SMSCs that count their message ids
// begin at the bottom, and an ESME of v3.3 sees both in one space.
func (s *Spool) loadShort(txn *badger.Txn) error {
	fields, err := getFields(txn, keyShort)
	switch {
	case errors.Is(err, ErrNotFound):
		s.short.next = 1<<31 | rand.Uint64N(1<<31)
	case err == nil:
		d := &decoder{b: fields}
		s.short.next = d.u64("next short id")
		err = d.end()
	}
	s.short.limit = s.short.next
	return err
}
