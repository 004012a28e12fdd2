package registry

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
	"shunt/store"
)

// Erase removes a number with all that the database's files have of it, also
// of what was replaced or removed earlier: its registration, and the bearers
// that ever led to it and are still there. It tells whether the number was
// registered. Backups that were made before keep what they have.
//
// Remove leaves the old octets in the tables until they are compacted. Erase
// has the tables rewritten without them: it waits for the scan of the index, it
// reads every bearer once, and nobody reads or writes the database while tables
// are rewritten. Lookup goes on. An error says that some of it may be left; the
// same call again, or the next Open, finishes it.
func (r *Registry) Erase(ctx context.Context, n msg.Number) (was bool, err error) {
	if err := r.WaitReady(ctx); err != nil {
		return false, fmt.Errorf("number %s: erase: %w", n.Masked(), err)
	}
	err = r.alone(ctx, func() (err error) {
		was, err = r.erase(ctx, n)
		return err
	})
	if err != nil {
		return was, fmt.Errorf("number %s: erase: %w", n.Masked(), err)
	}
	return was, nil
}

// erase runs on the committer.
func (r *Registry) erase(ctx context.Context, n msg.Number) (was bool, err error) {
	if err := store.Room(r.db.Opts().Dir); err != nil {
		return false, err
	}
	keys, err := r.traces(ctx, n)
	if err != nil {
		return false, err
	}
	was = r.Lookup(n).Registered()
	r.index.mu.Lock()
	r.setIndex(n, 0) // nothing is diverted to it from here on, and no remembered bearer holds
	r.index.mu.Unlock()
	r.bearers.forget(n)

	r.gate.Lock()
	defer r.gate.Unlock()
	if r.closed {
		return was, ErrClosed
	}
	return was, store.Erase(r.db, keys)
}

// traces are the keys of n: of its registration, and of every bearer,
// verification and proof of which some version that is still there names it. The
// committer calls it.
func (r *Registry) traces(ctx context.Context, n msg.Number) ([][]byte, error) {
	keys := [][]byte{numberKey(n)}
	number := binary.BigEndian.AppendUint64(nil, uint64(n))
	in := func(txn *badger.Txn, prefix byte) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefix}, AllVersions: true})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			item := it.Item()
			if bytes.Equal(item.Key(), keys[len(keys)-1]) {
				continue // an older version of the last one found
			}
			err := item.Value(func(v []byte) error {
				if bytes.Contains(v, number) {
					keys = append(keys, item.KeyCopy(nil))
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("%s: read: %w", keyName(item.Key()), err)
			}
		}
		return nil
	}
	err := r.view(func(txn *badger.Txn) error {
		for _, prefix := range [...]byte{prefixBearer, prefixVerification, prefixProof} {
			if err := in(txn, prefix); err != nil {
				return err
			}
		}
		return nil
	})
	return keys, err
}
