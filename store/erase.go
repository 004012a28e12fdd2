package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

const (
	erasedPerCommit = 1000     // keys in a transaction of Erase
	erasedPerRecord = 16 << 10 // octets of keys in one record of what is to be erased
)

// ErrLeft says that Badger has not done what it was told.
var ErrLeft = errors.New("a table still holds it")

// keyErasing begins the records of an erasure that is under way: an octet that is
// 1 in the last of them, and keys, each with its length before it.
var keyErasing = []byte("M/erasing/")

// Erase has Badger rewrite its tables and logs without any version of the keys,
// nor of longer keys that begin with one of them. Nobody may read or write db
// meanwhile. What it is about to do is on stable storage before it begins, so
// that Open finishes it after a kill in its midst: no reader ever meets a half
// erased record. After an error the same call again finishes it, or the next
// Open.
func Erase(db *badger.DB, keys [][]byte) error {
	if len(keys) == 0 {
		return nil
	}
	if err := planErase(db, keys); err != nil {
		return err
	}
	return eraseNow(db, keys)
}

// planErase writes down what is to be erased.
func planErase(db *badger.DB, keys [][]byte) error {
	record, n := []byte{0}, 0
	write := func(last byte) error {
		record[0] = last
		key := binary.BigEndian.AppendUint32(append([]byte(nil), keyErasing...), uint32(n))
		err := db.Update(func(txn *badger.Txn) error { return txn.Set(key, record) })
		record, n = []byte{0}, n+1
		return err
	}
	for _, k := range keys {
		if len(record)+len(k) > erasedPerRecord {
			if err := write(0); err != nil {
				return err
			}
		}
		record = append(binary.AppendUvarint(record, uint64(len(k))), k...)
	}
	if err := write(1); err != nil {
		return err
	}
	return db.Sync()
}

// finishErase ends an erasure that a kill has interrupted. One whose plan is not
// whole had not begun.
func finishErase(db *badger.DB) error {
	var keys [][]byte
	begun, whole := false, false
	err := db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: keyErasing})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			v, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			begun = true
			if len(v) == 0 {
				continue // erased as a key itself
			}
			whole = whole || v[0] == 1
			for rest := v[1:]; len(rest) > 0; {
				n, size := binary.Uvarint(rest)
				if size <= 0 || n > uint64(len(rest)-size) {
					return errors.New("record of an erasure cannot be read")
				}
				keys = append(keys, rest[size:size+int(n)])
				rest = rest[size+int(n):]
			}
		}
		return nil
	})
	switch {
	case err != nil || !begun:
		return err
	case !whole:
		return db.DropPrefix(keyErasing)
	}
	return eraseNow(db, keys)
}

// eraseNow erases, and at the end the plan.
func eraseNow(db *badger.DB, keys [][]byte) error {
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
	// The plan, which names the keys too, goes when they are gone.
	for _, prefixes := range [][][]byte{keys, {keyErasing}} {
		if err := drop(db, prefixes); err != nil {
			return err
		}
	}
	return nil
}

func drop(db *badger.DB, prefixes [][]byte) error {
	if err := db.DropPrefix(prefixes...); err != nil {
		return err
	}
	// It only logs that a table could not be rewritten.
	return db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{AllVersions: true})
		defer it.Close()
		for _, k := range prefixes {
			if it.Seek(k); it.ValidForPrefix(k) {
				return fmt.Errorf("a key of %d octets: %w", len(k), ErrLeft)
			}
		}
		return nil
	})
}
