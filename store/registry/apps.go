package registry

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
)

// apps gives every app a small number that stays the same across restarts.
// The committer's goroutine adds names; anyone may read them.
type apps struct {
	table atomic.Pointer[appTable]
	next  int // the committer's: an index is never given twice, even if its write failed
}

// appTable is immutable once published.
type appTable struct {
	names []string // "" where an index is unused
	index map[string]uint16
}

// load reads the table at the start. A corrupt entry costs its index, not the
// registrations, which hold the name.
func (a *apps) load(db *badger.DB, log *slog.Logger) error {
	t := &appTable{index: map[string]uint16{}}
	err := db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixApp}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			key := it.Item().Key()
			if len(key) != 3 {
				log.Error("app table: key of wrong length", "key", keyName(key))
				continue
			}
			i := binary.BigEndian.Uint16(key[1:])
			for len(t.names) <= int(i) {
				t.names = append(t.names, "")
			}
			err := it.Item().Value(func(v []byte) error {
				name, err := decodeApp(key, v)
				if err != nil {
					log.Error("app table: entry skipped", "error", err)
					return nil
				}
				t.names[i] = name
				if _, twice := t.index[name]; !twice {
					t.index[name] = i
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read app table: %w", err)
	}
	a.next = len(t.names)
	a.table.Store(t)
	return nil
}

// index is the number of an app that was added.
func (a *apps) index(name string) (uint16, bool) {
	i, ok := a.table.Load().index[name]
	return i, ok
}

// nameOf is the name in these octets: that of the table, if it has it.
func (a *apps) nameOf(b []byte) string {
	t := a.table.Load()
	if i, ok := t.index[string(b)]; ok { // without a copy
		return t.names[i]
	}
	return string(b)
}

// name is the app with this number, or "".
func (a *apps) name(i uint16) string {
	if t := a.table.Load(); int(i) < len(t.names) {
		return t.names[i]
	}
	return ""
}

// reserve takes a number that no app has or will have.
func (a *apps) reserve() (uint16, error) {
	if a.next >= MaxApps {
		return 0, ErrTooManyApps
	}
	a.next++
	return uint16(a.next - 1), nil
}

// add publishes an app whose entry is on stable storage.
func (a *apps) add(name string, i uint16) {
	old := a.table.Load()
	t := &appTable{names: make([]string, max(len(old.names), int(i)+1)), index: make(map[string]uint16, len(old.index)+1)}
	copy(t.names, old.names)
	for n, at := range old.index {
		t.index[n] = at
	}
	t.names[i], t.index[name] = name, i
	a.table.Store(t)
}
