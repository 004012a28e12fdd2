package registry

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/dgraph-io/badger/v4"

	"shunt/store"
)

// SchemaVersion is the version of the database that this program writes.
const SchemaVersion = schemaVersion

// Backup writes the whole registry, as it is at one moment, in Badger's format
// for Restore. Nobody waits for it.
func (r *Registry) Backup(w io.Writer) error {
	r.gate.RLock()
	defer r.gate.RUnlock()
	if r.closed {
		return ErrClosed
	}
	b := bufio.NewWriterSize(w, 1<<20)
	if _, err := r.db.Backup(b, 0); err != nil {
		return fmt.Errorf("registry: backup: %w", err)
	}
	return b.Flush()
}

// restorePending is how many batches of a restore are under way at once.
const restorePending = 16

// Restore makes a registry in dir, which is empty or missing, of what Backup
// wrote, and returns how many numbers it has. What it returns nil for is on
// stable storage. A backup of a newer schema wraps store.ErrSchema. After an
// error dir is worth nothing.
func Restore(dir string, from io.Reader, key []byte, log *slog.Logger) (numbers int, err error) {
	db, err := store.Open(dir, store.Options{Logger: log, Key: key})
	if err != nil {
		return 0, fmt.Errorf("registry: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Load(from, restorePending); err != nil {
		return 0, fmt.Errorf("registry: restore: %w", err)
	}
	if err := store.CheckSchema(db, schemaKind, schemaVersion); err != nil {
		return 0, fmt.Errorf("registry: restore: %w", err)
	}
	err = db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixNumber}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if _, err := readRegistration(it.Item()); err != nil {
				return fmt.Errorf("registry: restore: %w", err)
			}
			numbers++
		}
		return nil
	})
	if err == nil {
		err = db.Sync()
	}
	return numbers, err
}
