// Package store opens Badger directories the one way that Shunt's durability
// promises were measured with, and says in plain words why one does not open.
package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"golang.org/x/sys/unix"
)

// ErrInUse says that another process has the directory open.
var ErrInUse = errors.New("directory is in use by another process")

// ErrSchema says that a database is not one that this program may write to.
var ErrSchema = errors.New("wrong database")

// ErrKey says that a directory was not written with the key that it is opened
// with. Nothing was changed.
var ErrKey = errors.New("wrong encryption key")

// Options are the options of one Badger directory.
type Options struct {
	Sync     bool         // every commit is on stable storage when it returns
	MemTable int64        // octets; 0 = 64 MiB; at least 1 MiB
	Logger   *slog.Logger // Badger's warnings and errors; nil discards
	Key      []byte       // 16, 24 or 32 octets: everything is encrypted with AES; empty: nothing is
}

const (
	defaultMemTable = 64 << 20
	minMemTable     = 1 << 20

	// valueLogFile is the size of a value log file in octets. No value of ours
	// reaches the value log: Badger only maps one empty file, of twice this
	// size, and its default of 1 GiB would be address space and sparse files
	// for nothing.
	valueLogFile = 32 << 20

	// maxInline is Badger's own upper bound of ValueThreshold, in octets.
	maxInline = 1 << 20
)

// Open opens the Badger database in dir and creates dir, for the owner alone,
// when it is missing. Every error names dir; a directory that another process
// holds open wraps ErrInUse. An erasure that a kill has interrupted is finished
// first. The caller owns the database and closes it.
//
// Conflict detection is off: every database of Shunt's has a single writer
// goroutine, which is the only arbiter. Values stay in the LSM tree, since
// space in a value log was never reclaimed under churn. Nothing is compressed
// and nothing is cached: the hot path does not read Badger at all.
func Open(dir string, o Options) (*badger.DB, error) {
	if err := MakeDir(dir); err != nil {
		return nil, fmt.Errorf("store %s: create directory: %w", dir, err)
	}
	db, err := badger.Open(badgerOptions(dir, o))
	for range halfMadeFiles {
		if err == nil || !halfMade(err) {
			break
		}
		db, err = badger.Open(badgerOptions(dir, o))
	}
	if err == nil {
		if err = finishErase(db); err != nil {
			return nil, errors.Join(fmt.Errorf("store %s: finish an erasure: %w", dir, err), db.Close())
		}
		return db, nil
	}
	if inUse(err) {
		return nil, fmt.Errorf("store %s: %w%s", dir, ErrInUse, holder(dir))
	}
	if errors.Is(err, badger.ErrEncryptionKeyMismatch) {
		return nil, fmt.Errorf("store %s: %w: it was written with another key, or with none; nothing was changed", dir, ErrKey)
	}
	return nil, fmt.Errorf("store %s: open: %w", dir, err)
}

// Caches of an encrypted database, in octets: Badger keeps there what it has
// decrypted of tables and of their indices.
const (
	blockCache = 32 << 20
	indexCache = 128 << 20
)

func badgerOptions(dir string, o Options) badger.Options {
	size := o.MemTable
	if size == 0 {
		size = defaultMemTable
	}
	size = max(size, minMemTable)
	// A value in the LSM tree must fit a transaction: 15 % of the memtable.
	inline := min(maxInline, size*15/100)
	opts := badger.DefaultOptions(dir).
		WithLogger(logger{o.Logger}).
		WithSyncWrites(o.Sync).
		WithMemTableSize(size).
		WithValueThreshold(inline).
		WithValueLogFileSize(valueLogFile).
		WithMetricsEnabled(false).
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithNumCompactors(2).
		WithCompactL0OnClose(true)
	if len(o.Key) > 0 {
		opts = opts.WithEncryptionKey(o.Key).WithBlockCacheSize(blockCache).WithIndexCacheSize(indexCache)
	}
	return opts
}

// keyRotation is how long Badger writes with one data key.
const keyRotation = 10 * 24 * time.Hour

// RotateKey has the database in dir, which nobody has open, be opened with
// another key from now on. Data are encrypted with keys of their own, which
// alone are written anew: it takes no time, and an old copy of the file of keys
// can still be opened with the old key. A database that has the new key already
// is left as it is; another one than the old wraps ErrKey.
func RotateKey(dir string, from, to []byte) error {
	if rotated, err := openKeys(dir, to); err == nil {
		return rotated.Close()
	}
	db, err := Open(dir, Options{Sync: true, Key: from}) // its lock, and whether the key is right
	if err != nil {
		return err
	}
	if err := db.Close(); err != nil {
		return fmt.Errorf("store %s: close: %w", dir, err)
	}
	keys, err := openKeys(dir, from)
	if err != nil {
		return fmt.Errorf("store %s: read its keys: %w", dir, err)
	}
	err = badger.WriteKeyRegistry(keys, badger.KeyRegistryOptions{Dir: dir, EncryptionKey: to, EncryptionKeyRotationDuration: keyRotation})
	if err != nil {
		return fmt.Errorf("store %s: write its keys: %w", dir, err)
	}
	return nil
}

func openKeys(dir string, key []byte) (*badger.KeyRegistry, error) {
	return badger.OpenKeyRegistry(badger.KeyRegistryOptions{
		Dir: dir, ReadOnly: true, EncryptionKey: key, EncryptionKeyRotationDuration: keyRotation,
	})
}

// MakeDir creates dir and syncs its parent, so that a directory whose first
// commit was acknowledged is still there after a power loss.
func MakeDir(dir string) error {
	if st, err := os.Stat(dir); err == nil {
		if !st.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(filepath.Clean(dir)))
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.Sync()
}

// inUse recognises Badger's refusal of a locked directory. Badger formats the
// cause into its text instead of wrapping it, so the text is looked at too.
func inUse(err error) bool {
	return errors.Is(err, unix.EWOULDBLOCK) || strings.Contains(err.Error(), "Cannot acquire directory lock")
}

// halfMadeFiles is how many files a crash can leave half made: a memtable's log
// and a value log.
const halfMadeFiles = 2

// halfMade recognises a file that was created and still empty when the process
// was killed. Badger completes it, takes it for a new one where it wants an old
// one, and refuses to open; it does not the next time.
func halfMade(err error) bool { return strings.Contains(err.Error(), "Create a new file") }

// holder names the process that holds dir, from the file that Badger leaves
// there; it is "" when that cannot be read.
func holder(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, "LOCK"))
	pid := string(bytes.TrimSpace(b))
	if err != nil || pid == "" || strings.Trim(pid, "0123456789") != "" {
		return ""
	}
	return " (pid " + pid + ")"
}

// FreeShare is the share of dir's volume, 0 to 1, that this process may still
// write to. What is reserved for root counts as neither used nor free.
func FreeShare(dir string) (free float64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("store %s: statfs: %w", dir, err)
	}
	total := st.Blocks - st.Bfree + st.Bavail
	if total == 0 {
		return 0, fmt.Errorf("store %s: statfs: volume reports no blocks", dir)
	}
	return float64(st.Bavail) / float64(total), nil
}

// ErrNoRoom says that a volume is so full that a store on it must not be written
// or opened: Badger maps its files, and a page that has no place ends the
// process.
var ErrNoRoom = errors.New("volume is almost full")

// A volume has room while a share of it is free, or on a large one so many
// octets: what a memtable and a compaction may need at once.
const (
	roomShare = 0.05
	roomMost  = 512 << 20
)

// Room tells why the volume under dir has no room for a store to be written: an
// error that wraps ErrNoRoom. It costs one system call.
func Room(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("store %s: statfs: %w", dir, err)
	}
	free := float64(st.Bavail) * float64(st.Bsize)
	need := min(roomShare*float64(st.Blocks-st.Bfree+st.Bavail)*float64(st.Bsize), roomMost)
	if free < need {
		return fmt.Errorf("store %s: %w: %.0f MB free, want %.0f", dir, ErrNoRoom, free/1e6, need/1e6)
	}
	return nil
}

var (
	schemaKey = []byte("M/schema")
	crcTable  = crc32.MakeTable(crc32.Castagnoli)
)

// CheckSchema makes sure that db holds data of the given kind, in a version
// that this program reads: version itself or the one before it. An empty
// database gets the record, an older one the new version. A newer version,
// another kind and a database of unknown origin are refused with ErrSchema.
func CheckSchema(db *badger.DB, kind string, version uint32) error {
	dir := db.Opts().Dir
	have, raw, err := readSchema(db)
	switch {
	case errors.Is(err, badger.ErrKeyNotFound):
		empty, err := isEmpty(db)
		if err != nil {
			return fmt.Errorf("store %s: look for any key: %w", dir, err)
		}
		if !empty {
			return fmt.Errorf("store %s: %w: it holds data but no schema record, want kind %q", dir, ErrSchema, kind)
		}
		return writeSchema(db, dir, kind, version)
	case err != nil:
		return fmt.Errorf("store %s: read schema record: %w", dir, err)
	case have != kind:
		return fmt.Errorf("store %s: %w: its kind is %q, want %q", dir, ErrSchema, have, kind)
	case raw > version:
		return fmt.Errorf("store %s: %w: its version %d is newer than this program's %d", dir, ErrSchema, raw, version)
	case raw == version:
		return nil
	case raw+1 == version:
		return writeSchema(db, dir, kind, version)
	}
	return fmt.Errorf("store %s: %w: its version %d is too old, this program reads %d and %d", dir, ErrSchema, raw, version-1, version)
}

// readSchema reads the record: CRC-32C of what follows, version, kind.
func readSchema(db *badger.DB) (kind string, version uint32, err error) {
	err = db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(schemaKey)
		if err != nil {
			return err
		}
		return item.Value(func(v []byte) error {
			if len(v) < 8 {
				return fmt.Errorf("%w: record of %d octets, want at least 8", ErrSchema, len(v))
			}
			if binary.BigEndian.Uint32(v) != crc32.Checksum(v[4:], crcTable) {
				return fmt.Errorf("%w: checksum does not match", ErrSchema)
			}
			version, kind = binary.BigEndian.Uint32(v[4:]), string(v[8:])
			return nil
		})
	})
	return kind, version, err
}

// SchemaRecord is the schema record for those who write a database's tables
// themselves.
func SchemaRecord(kind string, version uint32) (key, value []byte) {
	v := make([]byte, 4, 8+len(kind))
	v = binary.BigEndian.AppendUint32(v, version)
	v = append(v, kind...)
	binary.BigEndian.PutUint32(v, crc32.Checksum(v[4:], crcTable))
	return schemaKey, v
}

func writeSchema(db *badger.DB, dir, kind string, version uint32) error {
	key, v := SchemaRecord(kind, version)
	err := db.Update(func(txn *badger.Txn) error { return txn.Set(key, v) })
	if err == nil {
		err = db.Sync()
	}
	if err != nil {
		return fmt.Errorf("store %s: write schema record: %w", dir, err)
	}
	return nil
}

func isEmpty(db *badger.DB) (bool, error) {
	empty := true
	err := db.View(func(txn *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.PrefetchValues = false
		it := txn.NewIterator(o)
		defer it.Close()
		it.Rewind()
		empty = !it.Valid()
		return nil
	})
	return empty, err
}

// logger hands Badger's warnings and errors to slog and drops its chatter.
type logger struct{ to *slog.Logger }

func (l logger) Errorf(format string, a ...any) {
	if l.to != nil {
		l.to.Error("badger: "+strings.TrimSpace(fmt.Sprintf(format, a...)), "component", "store")
	}
}

func (l logger) Warningf(format string, a ...any) {
	if l.to != nil {
		l.to.Warn("badger: "+strings.TrimSpace(fmt.Sprintf(format, a...)), "component", "store")
	}
}

func (logger) Infof(string, ...any)  {}
func (logger) Debugf(string, ...any) {}
