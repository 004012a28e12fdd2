package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
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

// maxScanners is how many parts of the registry are read at a time, at most.
const maxScanners = 4

// scan reads the registry in as many parts at a time as there are processors.
func (r *Registry) scan(txn *badger.Txn) (corrupt int, err error) {
	begin := splits(r.db, min(maxScanners, runtime.GOMAXPROCS(0)))
	r.index.mu.Lock()
	r.index.entries.reserve(registrations(r.db))
	r.index.mu.Unlock()
	defer func() {
		r.index.mu.Lock()
		defer r.index.mu.Unlock()
		r.index.entries.trim()
	}()
	var bad atomic.Int64
	errs := make([]error, len(begin))
	var parts sync.WaitGroup
	for i, from := range begin {
		var to []byte
		if i+1 < len(begin) {
			to = begin[i+1]
		}
		parts.Go(func() { errs[i] = r.scanPart(txn, from, to, &bad) })
	}
	parts.Wait()
	return int(bad.Load()), errors.Join(errs...)
}

// registrations are about as many as the tables hold; what was written over may
// be among them.
func registrations(db *badger.DB) (n int) {
	for _, t := range db.Tables() {
		switch ours := func(key []byte) bool { return len(key) > 0 && key[0] == prefixNumber }; {
		case ours(t.Left) && ours(t.Right):
			n += int(t.KeyCount)
		case ours(t.Left) || ours(t.Right):
			n += int(t.KeyCount) / 2
		}
	}
	return n
}

// splits are the keys at which up to n parts of about as many tables begin.
func splits(db *badger.DB, n int) [][]byte {
	var ends [][]byte
	for _, t := range db.Tables() {
		if len(t.Right) >= 9 && t.Right[0] == prefixNumber {
			ends = append(ends, slices.Clone(t.Right[:9]))
		}
	}
	slices.SortFunc(ends, bytes.Compare)
	begin := [][]byte{{prefixNumber}}
	for i := 1; i < n; i++ {
		if at := i * len(ends) / n; at > 0 && bytes.Compare(ends[at], begin[len(begin)-1]) > 0 {
			begin = append(begin, ends[at])
		}
	}
	return begin
}

// scanPart reads the registrations from a key to before another, nil being the
// end, and counts those that are corrupt.
func (r *Registry) scanPart(txn *badger.Txn, from, to []byte, corrupt *atomic.Int64) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixNumber}})
	defer it.Close()
	batch := make([]found, 0, scanBatch)
	var reg Registration
	d := &decoder{nameOf: r.apps.nameOf} // what the index needs not is not copied
	index := func(name string) uint16 {
		i, _ := r.apps.index(name)
		return i
	}
	var item *badger.Item
	var bad error
	decode := func(v []byte) error {
		bad = d.registration(item.Key(), v, &reg)
		return nil
	}
	for it.Seek(from); it.Valid(); it.Next() {
		if to != nil && bytes.Compare(it.Item().Key(), to) >= 0 {
			break
		}
		item = it.Item()
		if err := item.Value(decode); err != nil {
			return fmt.Errorf("%s: read: %w", keyName(item.Key()), err)
		}
		if bad != nil {
			if corrupt.Add(1) <= maxCorruptLines {
				r.log.Error("registry: record skipped", "error", bad)
			}
			continue
		}
		for i := range reg.Devices {
			if err := r.ensureApp(reg.Devices[i].App); err != nil {
				return err
			}
		}
		if batch = append(batch, found{reg.Number, wordOf(&reg, index)}); len(batch) == scanBatch {
			if err := r.take(batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return r.take(batch)
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
