package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
)

// scanBatch is how many numbers the scan puts into the index under one lock.
const scanBatch = 1024

// maxCorruptLines is how many corrupt records the scan logs one by one; the
// total is in its last line.
const maxCorruptLines = 20

// found is a number that the scan read, with its word of the index.
type found struct {
	number msg.Number
	word   uint64
}

// scanLoop rebuilds the index from the state that txn sees, then ends. What
// the committer changes meanwhile is newer and stands.
func (r *Registry) scanLoop(txn *badger.Txn) {
	defer close(r.scanned)
	start := time.Now()
	corrupt, err := r.scan(txn)
	txn.Discard()

	r.index.mu.Lock()
	r.changed = nil
	r.index.count.Corrupt = corrupt
	r.index.mu.Unlock()
	if err != nil {
		r.scanErr = fmt.Errorf("registry: rebuild index: %w", err)
		if !errors.Is(err, ErrClosed) {
			r.log.Error("registry: index not rebuilt, nothing is diverted", "error", err)
		}
		return
	}
	r.ready.Store(true)
	r.log.Info("registry: index ready", "numbers", r.Count().Numbers, "corrupt", corrupt,
		"octets", r.IndexBytes(), "took", time.Since(start).Round(time.Millisecond))
}

func (r *Registry) scan(txn *badger.Txn) (corrupt int, err error) {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixNumber}})
	defer it.Close()
	batch := make([]found, 0, scanBatch)
	for it.Rewind(); it.Valid(); it.Next() {
		reg, err := readRegistration(it.Item())
		switch {
		case errors.Is(err, ErrCorrupt):
			if corrupt++; corrupt <= maxCorruptLines {
				r.log.Error("registry: record skipped", "error", err)
			}
			continue
		case err != nil:
			return corrupt, err
		}
		for i := range reg.Devices {
			if err := r.ensureApp(reg.Devices[i].App); err != nil {
				return corrupt, err
			}
		}
		w := wordOf(&reg, func(name string) uint16 {
			i, _ := r.apps.index(name)
			return i
		})
		if batch = append(batch, found{reg.Number, w}); len(batch) == scanBatch {
			if err := r.take(batch); err != nil {
				return corrupt, err
			}
			batch = batch[:0]
		}
	}
	return corrupt, r.take(batch)
}

// take puts what the scan found into the index, but for what has changed
// since. It refuses when the registry is being closed.
func (r *Registry) take(batch []found) error {
	select {
	case <-r.quit:
		return ErrClosed
	default:
	}
	r.index.mu.Lock()
	defer r.index.mu.Unlock()
	for _, f := range batch {
		if _, ok := r.changed[f.number]; !ok {
			r.index.set(f.number, f.word)
		}
	}
	return nil
}

// ensureApp gives an index to an app whose entry in the table was lost.
func (r *Registry) ensureApp(name string) error {
	if _, ok := r.apps.index(name); ok {
		return nil
	}
	_, err := r.submit(context.Background(), func(b *batch, req *request) error {
		s := step{request: req}
		if err := b.intern(&s, name); err != nil {
			return err
		}
		if s.app != "" {
			b.add(s)
		}
		return nil
	})
	return err
}
