package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/ristretto/v2/z"

	"shunt/store"
)

// exclusive is work that the committer does between two commits.
type exclusive struct {
	do   func() error
	done chan error // has room for the one result
}

// alone has do done by the committer: nobody writes meanwhile.
func (r *Registry) alone(ctx context.Context, do func() error) error {
	e := exclusive{do, make(chan error, 1)}
	select {
	case r.exclusives <- e:
		return <-e.done // it ends by ctx itself
	case <-ctx.Done():
		return ctx.Err()
	case <-r.quit:
		return ErrClosed
	}
}

// loadingFile is in the directory while tables of an import are written, and
// says that whatever else is there is worth nothing.
const loadingFile = "LOADING"

// dropLoading empties a database in which an import was cut off.
func dropLoading(db *badger.DB) error {
	path := filepath.Join(db.Opts().Dir, loadingFile)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := db.DropAll(); err != nil {
		return fmt.Errorf("%s: drop an import that was cut off: %w", db.Opts().Dir, err)
	}
	return removeSynced(path)
}

func removeSynced(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return store.SyncDir(filepath.Dir(path))
}

// applyEmpty writes the import as tables if nobody is registered; done says
// whether that was so.
func (l *Load) applyEmpty(ctx context.Context, progress func(put int)) (done bool, a Applied, err error) {
	if !l.r.Ready() || l.r.Count() != (Count{}) {
		return false, a, nil
	}
	err = l.r.alone(ctx, func() error {
		empty, err := l.r.holdsNobody()
		if err != nil || !empty {
			return err
		}
		done = true
		a, err = l.r.loadTables(ctx, l, progress)
		return err
	})
	return done, a, err
}

// holdsNobody tells whether the database has nothing but its schema and apps.
func (r *Registry) holdsNobody() (empty bool, err error) {
	err = r.view(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if k := it.Item().Key(); k[0] != prefixApp && k[0] != 'M' {
				return nil
			}
		}
		empty = true
		return nil
	})
	return empty, err
}

// loadTables replaces the database of nobody by the import. The committer calls
// it. Look-ups are misses meanwhile.
func (r *Registry) loadTables(ctx context.Context, l *Load, progress func(int)) (Applied, error) {
	dir := r.db.Opts().Dir
	marker := filepath.Join(dir, loadingFile)
	if err := store.Room(dir); err != nil {
		return Applied{}, err
	}
	if err := errors.Join(os.WriteFile(marker, nil, 0o600), store.SyncDir(dir)); err != nil {
		return Applied{}, fmt.Errorf("registry: load: %w", err)
	}
	r.ready.Store(false)
	t := &tables{r: r, l: l, ctx: ctx, progress: progress, fresh: map[string]uint16{}}
	err := t.write()
	if err == nil {
		err = removeSynced(marker)
	}
	if err != nil {
		err = fmt.Errorf("registry: load: %w", errors.Join(err, r.backToNobody(marker)))
		t.applied = Applied{}
	} else {
		for name, i := range t.fresh {
			r.apps.add(name, i)
		}
	}
	r.ready.Store(true)
	return t.applied, err
}

// backToNobody undoes a load that has failed.
func (r *Registry) backToNobody(marker string) error {
	r.index.mu.Lock()
	r.index.clear()
	r.index.mu.Unlock()
	r.gate.Lock()
	defer r.gate.Unlock()
	if err := r.db.DropAll(); err != nil {
		return err
	}
	if err := store.CheckSchema(r.db, schemaKind, schemaVersion); err != nil {
		return err
	}
	err := r.db.Update(func(txn *badger.Txn) error {
		for i, name := range r.apps.table.Load().names {
			if name != "" {
				if err := txn.Set(appKey(uint16(i)), encodeApp(uint16(i), name)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return errors.Join(err, removeSynced(marker))
}

// tables is one load on its way.
type tables struct {
	r        *Registry
	l        *Load
	ctx      context.Context
	progress func(int)
	fresh    map[string]uint16
	applied  Applied
	stream   *badger.StreamWriter
}

// Streams of a load: what is in two of them never overlaps.
const (
	streamOwners = iota + 1
	streamNumbers
	streamRest
)

func (t *tables) write() error {
	t.stream = t.r.db.NewStreamWriter()
	t.r.gate.Lock() // nobody may read while what is there is dropped
	err := t.stream.Prepare()
	t.r.gate.Unlock()
	if err != nil {
		t.stream.Cancel()
		return err
	}
	// Each side uses one processor and neither waits for the other.
	owners := make(chan error, 1)
	go func() { owners <- t.writeOwners() }()
	err = errors.Join(t.writeNumbers(), <-owners)
	if err == nil {
		err = t.writeRest()
	}
	if err != nil {
		t.stream.Cancel()
		return err
	}
	t.r.gate.Lock()
	defer t.r.gate.Unlock()
	return t.stream.Flush()
}

// out collects a stream's pairs and hands them over in large pieces.
type out struct {
	stream *badger.StreamWriter
	id     uint32
	buf    *z.Buffer
	kv     pb.KV
}

const pieceSize = 2 << 20

func (t *tables) out(id uint32) *out {
	return &out{stream: t.stream, id: id, buf: z.NewBuffer(pieceSize+pieceSize/4, "shunt.load")}
}

func (o *out) put(key, value []byte) error {
	o.kv.Key, o.kv.Value, o.kv.Version, o.kv.StreamId = key, value, 1, o.id
	badger.KVToBuffer(&o.kv, o.buf)
	if o.buf.LenNoPadding() < pieceSize {
		return nil
	}
	return o.flush()
}

func (o *out) flush() error {
	err := o.stream.Write(o.buf)
	o.buf.Reset()
	return err
}

func (o *out) release() { _ = o.buf.Release() }

func (t *tables) writeOwners() (err error) {
	o := t.out(streamOwners)
	defer o.release()
	seen := 0
	for hash, value := range t.l.bearers.all(&err) {
		if seen++; seen%judgeEach == 0 && t.ctx.Err() != nil {
			return t.ctx.Err()
		}
		n, line := ofLineKey(value)
		if _, bad := t.l.bad[line]; bad {
			continue
		}
		h := [32]byte(hash)
		if err := o.put(bearerKey(h), encodeOwner(h, owner{n, string(value[16:])})); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	return o.flush()
}

// writeNumbers writes the registrations and builds the index on the way. A
// device whose line has no bearer has the hash of one that nobody knows, and so
// no owner's record.
func (t *tables) writeNumbers() (err error) {
	o := t.out(streamNumbers)
	defer o.release()
	now := t.r.now().UTC().Round(0)
	reg := Registration{Generation: uint32(now.Unix())}
	flush := func() error {
		if len(reg.Devices) == 0 {
			return nil
		}
		w, err := t.word(&reg)
		if err == nil {
			err = o.put(numberKey(reg.Number), encodeRegistration(&reg))
		}
		t.r.index.mu.Lock()
		t.r.index.set(reg.Number, w)
		t.r.index.mu.Unlock()
		return err
	}
	seen := 0
	for key, value := range t.l.lines.all(&err) {
		if seen++; seen%judgeEach == 0 {
			if t.ctx.Err() != nil {
				return t.ctx.Err()
			}
			t.progress(t.applied.Put)
		}
		n, line := ofLineKey(key)
		if _, bad := t.l.bad[line]; bad {
			continue
		}
		if n != reg.Number {
			if err := flush(); err != nil {
				return err
			}
			reg.Number, reg.Devices = n, reg.Devices[:0]
		}
		p := ofStaged(n, value)
		d := Device{
			ID: p.Device, App: p.App, Platform: p.Platform, Token: p.Token, Sandbox: p.Sandbox,
			Active: p.Active, BearerHash: p.BearerHash, RegisteredAt: now, UpdatedAt: now, SeenAt: now,
			Features: AllFeatures &^ p.Lacks, Permission: p.Permission, Preference: p.Preference,
		}
		d.ProvenAt = p.ProvenAt
		if d.BearerHash == ([32]byte{}) {
			copy(d.BearerHash[:], randomBearer())
			t.applied.Made++
		}
		reg.Devices = append(reg.Devices, d)
		t.applied.Put++
	}
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	t.progress(t.applied.Put)
	return o.flush()
}

// word is what the index holds of r; apps that are new get their number.
func (t *tables) word(r *Registration) (uint64, error) {
	for i := range r.Devices {
		name := r.Devices[i].App
		if _, ok := t.fresh[name]; ok {
			continue
		}
		if _, ok := t.r.apps.index(name); ok {
			continue
		}
		at, err := t.r.apps.reserve()
		if err != nil {
			return 0, fmt.Errorf("app %q: %w", name, err)
		}
		t.fresh[name] = at
	}
	return wordOf(r, t.appIndex), nil
}

func (t *tables) appIndex(name string) uint16 {
	if i, ok := t.fresh[name]; ok {
		return i
	}
	i, _ := t.r.apps.index(name)
	return i
}

// writeRest writes the apps and the schema, each of which is a stream.
func (t *tables) writeRest() error {
	names := map[uint16]string{}
	for i, name := range t.r.apps.table.Load().names {
		if name != "" {
			names[uint16(i)] = name
		}
	}
	for name, i := range t.fresh {
		names[i] = name
	}
	apps := t.out(streamRest)
	defer apps.release()
	for i := range MaxApps {
		if name, ok := names[uint16(i)]; ok {
			if err := apps.put(appKey(uint16(i)), encodeApp(uint16(i), name)); err != nil {
				return err
			}
		}
	}
	if err := apps.flush(); err != nil {
		return err
	}
	schema := t.out(streamRest + 1)
	defer schema.release()
	if err := schema.put(store.SchemaRecord(schemaKind, schemaVersion)); err != nil {
		return err
	}
	return schema.flush()
}
