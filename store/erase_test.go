package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// A kill at any point of an erasure: the next Open finishes it, or it had not
// begun; what is left is never half of it, and the plan is gone.
func TestOpenFinishesAnErasure(t *testing.T) {
	const all = 3000 // keys: more than one transaction, and one record of the plan
	key := func(i int) []byte { return fmt.Appendf(nil, "N/number-%06d", i) }
	var erased [][]byte
	for i := 0; i < all; i += 2 {
		erased = append(erased, key(i))
	}
	empty := func(db *badger.DB, keys [][]byte) error {
		return db.Update(func(txn *badger.Txn) error {
			for _, k := range keys {
				if err := txn.Set(k, nil); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for _, c := range []struct {
		name string
		kill func(db *badger.DB) error // does what was done until then
		want bool                      // erased
	}{
		{"in the plan", func(db *badger.DB) error {
			if err := planErase(db, erased); err != nil {
				return err
			}
			return db.DropPrefix(append(bytes.Clone(keyErasing), 0, 0, 0, 1)) // the last record was not there yet
		}, false},
		{"behind the plan", func(db *badger.DB) error { return planErase(db, erased) }, true},
		{"between emptying", func(db *badger.DB) error {
			return errors.Join(planErase(db, erased), empty(db, erased[:erasedPerCommit]))
		}, true},
		{"half dropped", func(db *badger.DB) error {
			return errors.Join(planErase(db, erased), empty(db, erased[:erasedPerCommit]), db.DropPrefix(erased[:700]...))
		}, true},
		{"before the plan is dropped", func(db *badger.DB) error {
			return errors.Join(planErase(db, erased), empty(db, erased[:erasedPerCommit]), db.DropPrefix(erased...))
		}, true},
		{"not at all", func(db *badger.DB) error { return Erase(db, erased) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			open := func() *badger.DB {
				t.Helper()
				db, err := Open(dir, Options{Sync: true})
				if err != nil {
					t.Fatal(err)
				}
				return db
			}
			db := open()
			for i := 0; i < all; i += 500 {
				if err := db.Update(func(txn *badger.Txn) error {
					for j := i; j < i+500; j++ {
						if err := txn.Set(key(j), fmt.Appendf(nil, "secret-of-%06d", j)); err != nil {
							return err
						}
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.kill(db); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = open()
			if err := db.View(func(txn *badger.Txn) error {
				it := txn.NewIterator(badger.IteratorOptions{Prefix: keyErasing, AllVersions: true})
				defer it.Close()
				if it.Rewind(); it.Valid() {
					t.Errorf("the plan is still there: %q", it.Item().Key())
				}
				for i := range all {
					item, err := txn.Get(key(i))
					if gone := i%2 == 0 && c.want; errors.Is(err, badger.ErrKeyNotFound) != gone || err == nil && item.ValueSize() == 0 {
						return fmt.Errorf("key %d: %w, want it erased %t and never empty", i, err, gone)
					}
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			files, err := filepath.Glob(filepath.Join(dir, "*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range files {
				b, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				if c.want && (bytes.Contains(b, []byte("secret-of-000100")) || bytes.Contains(b, key(100))) {
					t.Errorf("%s still holds what was erased", filepath.Base(f))
				}
			}
		})
	}
}
