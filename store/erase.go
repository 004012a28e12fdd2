package store

import (
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// erasedPerCommit bounds a transaction of Erase, in keys.
const erasedPerCommit = 1000

// ErrLeft says that Badger has not done what it was told.
var ErrLeft = errors.New("a table still holds it")

// Erase has Badger rewrite its tables and logs without any version of the keys,
// nor of longer keys that begin with one of them. Nobody may read or write db
// meanwhile. After a kill in its midst some keys may have an empty value; the
// same call again finishes it.
func Erase(db *badger.DB, keys [][]byte) error {
	// DropPrefix passes over a key whose newest version is a deletion, with the
	// older versions below it: so each gets a version that is none.
	for rest := keys; len(rest) > 0; {
		n := min(len(rest), erasedPerCommit)
		err := db.Update(func(txn *badger.Txn) error {
			for _, k := range rest[:n] {
				if err := txn.Set(k, nil); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	if err := db.DropPrefix(keys...); err != nil {
		return err
	}
	// It only logs that a table could not be rewritten.
	return db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{AllVersions: true})
		defer it.Close()
		for _, k := range keys {
			if it.Seek(k); it.ValidForPrefix(k) {
				return fmt.Errorf("a key of %d octets: %w", len(k), ErrLeft)
			}
		}
		return nil
	})
}
