// Package registry keeps which numbers are reachable through which devices:
// durable in Badger, and in RAM what every submit_sm has to ask.
package registry

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
	"shunt/store"
)

// Options of a registry.
type Options struct {
	Dir    string
	Logger *slog.Logger     // nil discards
	Now    func() time.Time // nil = time.Now
	Key    []byte           // see store.Options
}

// Registry holds the registrations. All methods are safe for concurrent use.
//
// One goroutine, the committer, writes the database, and the index after it.
// A second one, the scan, rebuilds the index after Open and then ends. Both
// end before Close returns.
type Registry struct {
	db    *badger.DB
	log   *slog.Logger
	now   func() time.Time
	index index
	apps  apps
	intake
	rebuild
	bearers bearers

	gate     sync.RWMutex // held for reading while the database is read
	closed   bool         // under gate
	closeErr error
	close    sync.Once
}

// intake is the way to the committer.
type intake struct {
	queue      chan *request
	exclusives chan exclusive
	quit       chan struct{} // closed by Close
	committed  chan struct{} // closed by the committer at its end
}

// rebuild is how far the scan is.
type rebuild struct {
	ready   atomic.Bool
	scanned chan struct{}           // closed by the scan at its end
	scanErr error                   // why the index is not complete; read after scanned
	changed map[msg.Number]struct{} // changed since the scan began; nil after it; under index.mu
}

func newIntake() intake {
	return intake{queue: make(chan *request, queueLength), exclusives: make(chan exclusive), quit: make(chan struct{}), committed: make(chan struct{})}
}

const (
	schemaKind    = "registry"
	schemaVersion = 1
)

// Open opens the registry in o.Dir and returns at once: the index is rebuilt
// in the background, and until Ready every Lookup is a miss. Every commit is
// on stable storage before it is acknowledged. A directory that another
// process holds wraps store.ErrInUse.
func Open(o Options) (*Registry, error) {
	return openWith(o, store.Options{Sync: true, Logger: o.Logger, Key: o.Key})
}

func openWith(o Options, so store.Options) (*Registry, error) {
	db, err := store.Open(o.Dir, so)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	r := &Registry{db: db, log: o.Logger, now: o.Now, intake: newIntake()}
	r.scanned = make(chan struct{})
	r.changed = map[msg.Number]struct{}{}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.now == nil {
		r.now = time.Now
	}
	if err = dropLoading(db); err == nil {
		err = store.CheckSchema(db, schemaKind, schemaVersion)
	}
	if err == nil {
		err = r.apps.load(db, r.log)
	}
	if err != nil {
		return nil, fmt.Errorf("registry: %w", errors.Join(err, db.Close()))
	}
	go r.commitLoop()
	go r.scanLoop(db.NewTransaction(false))
	return r, nil
}

// Close commits what is queued, ends both goroutines and closes the database.
// Calls that come later get ErrClosed; Lookup goes on answering from RAM.
func (r *Registry) Close() error {
	r.close.Do(func() {
		close(r.quit)
		<-r.committed
		<-r.scanned
		r.gate.Lock()
		r.closed = true
		r.gate.Unlock()
		if err := r.db.Close(); err != nil {
			r.closeErr = fmt.Errorf("registry: close: %w", err)
		}
	})
	return r.closeErr
}

// Ready tells whether the index is complete.
func (r *Registry) Ready() bool { return r.ready.Load() }

// WaitReady returns nil once the index is complete, or why it will not be.
func (r *Registry) WaitReady(ctx context.Context) error {
	select {
	case <-r.scanned:
		return r.scanErr
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Lookup is what the index knows of n: the zero Entry when n is not
// registered, and for every number while the index is not Ready. It takes no
// lock, does not allocate and reads no disk. A number that is registered but
// inactive has an Entry that is Registered and not Active.
func (r *Registry) Lookup(n msg.Number) msg.Entry {
	if !r.ready.Load() {
		return 0
	}
	return r.index.lookup(n)
}

// Count is how much is registered, as far as the index is built.
func (r *Registry) Count() Count { return r.index.totals() }

// IndexBytes is the memory of the index in octets.
func (r *Registry) IndexBytes() int64 { return r.index.bytes() }

// AppName is the app that an Entry's App stands for, or "" for an index that
// was never given. Indices stay the same across restarts.
func (r *Registry) AppName(i uint16) string { return r.apps.name(i) }

// view reads the database, unless it is closed.
func (r *Registry) view(read func(*badger.Txn) error) error {
	r.gate.RLock()
	defer r.gate.RUnlock()
	if r.closed {
		return ErrClosed
	}
	return r.db.View(read)
}

// Get is the registration of n, or ErrNotFound, or ErrCorrupt.
func (r *Registry) Get(n msg.Number) (reg Registration, err error) {
	err = r.view(func(txn *badger.Txn) error {
		reg, err = getRegistration(txn, n)
		return err
	})
	if err == nil {
		r.expect(&reg)
	}
	return reg, err
}

// expect remembers the bearers of a registration: who reads it is about to push
// to its devices, and they answer.
func (r *Registry) expect(reg *Registration) {
	e := r.Lookup(reg.Number)
	if !e.Registered() || e.Generation() != reg.Generation {
		return
	}
	for i := range reg.Devices {
		r.bearers.put(reg.Devices[i].BearerHash, reg.Number, reg.Devices[i], e)
	}
}

// ByBearer is the device that bearer belongs to, or ErrNotFound, or ErrEvicted
// where a proof has taken the device off its number. The bearer
// is looked up, and compared in constant time, as its SHA-256.
func (r *Registry) ByBearer(bearer string) (msg.Number, Device, error) {
	if len(bearer) < MinBearer || len(bearer) > MaxBearer {
		return 0, Device{}, fmt.Errorf("bearer: %w", ErrNotFound)
	}
	hash := sha256.Sum256([]byte(bearer))
	if n, d, ok := r.bearers.get(hash, r.Lookup); ok {
		return n, d, nil
	}
	var o owner
	var d Device
	var reg Registration
	err := r.view(func(txn *badger.Txn) (err error) {
		if o, err = getOwner(txn, hash); err != nil {
			return whyNot(txn, hash, err)
		}
		if reg, err = getRegistration(txn, o.number); err != nil {
			return err
		}
		var ok bool
		if d, ok = reg.Device(o.device); !ok || !d.knows(hash, r.now()) {
			return fmt.Errorf("bearer: %w", ErrNotFound)
		}
		return nil
	})
	if err != nil {
		return 0, Device{}, err
	}
	if d.BearerHash != hash { // the one before: its time ends without a change of the entry
		return o.number, d, nil
	}
	if e := r.Lookup(o.number); e.Registered() && e.Generation() == reg.Generation {
		r.bearers.put(hash, o.number, d, e)
	}
	return o.number, d, nil
}

// List is up to limit registrations, 1 to MaxList, in ascending order of
// their numbers, beginning behind after. Fewer than limit means that there
// are no more. Corrupt records are logged and left out.
func (r *Registry) List(ctx context.Context, after msg.Number, limit int) ([]Registration, error) {
	if limit < 1 || limit > MaxList {
		return nil, fmt.Errorf("list: limit %d: %w: want 1 to %d", limit, ErrInvalid, MaxList)
	}
	var regs []Registration
	err := r.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixNumber}})
		defer it.Close()
		for it.Seek(numberKey(after + 1)); it.Valid() && len(regs) < limit; it.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			reg, err := readRegistration(it.Item())
			switch {
			case errors.Is(err, ErrCorrupt):
				r.log.Error("registry: record left out of a list", "error", err)
			case err != nil:
				return err
			default:
				regs = append(regs, reg)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	return regs, nil
}

// Each calls do with every registration, in ascending order of their numbers,
// all as they are at one moment, until it returns an error. do keeps nothing of
// what it is given. Corrupt records are logged and left out.
func (r *Registry) Each(ctx context.Context, do func(*Registration) error) error {
	return r.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefixNumber}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			reg, err := readRegistration(it.Item())
			switch {
			case errors.Is(err, ErrCorrupt):
				r.log.Error("registry: record left out", "error", err)
				continue
			case err == nil:
				err = ctx.Err()
			}
			if err == nil {
				err = do(&reg)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// getRegistration reads n's record, or wraps ErrNotFound or ErrCorrupt.
func getRegistration(txn *badger.Txn, n msg.Number) (Registration, error) {
	item, err := txn.Get(numberKey(n))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return Registration{}, notFound(n, "")
	}
	if err != nil {
		return Registration{}, fmt.Errorf("number %s: read: %w", n.Masked(), err)
	}
	return readRegistration(item)
}

func readRegistration(item *badger.Item) (reg Registration, err error) {
	key := item.Key()
	bad := item.Value(func(v []byte) error {
		reg, err = decodeRegistration(key, v)
		return nil
	})
	if bad != nil {
		return Registration{}, fmt.Errorf("%s: read: %w", keyName(key), bad)
	}
	return reg, err
}

// getOwner reads whose bearer has this hash, or wraps ErrNotFound or ErrCorrupt.
func getOwner(txn *badger.Txn, hash [32]byte) (o owner, err error) {
	key := bearerKey(hash)
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return owner{}, fmt.Errorf("bearer: %w", ErrNotFound)
	}
	if err != nil {
		return owner{}, fmt.Errorf("%s: read: %w", keyName(key), err)
	}
	bad := item.Value(func(v []byte) error {
		o, err = decodeOwner(key, v)
		return nil
	})
	if bad != nil {
		return owner{}, fmt.Errorf("%s: read: %w", keyName(key), bad)
	}
	return o, err
}
