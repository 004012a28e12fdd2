package registry

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
)

// batch holds the changes that one commit will write. Changes read through
// it, so that each sees the ones before it. The committer's goroutine owns it.
type batch struct {
	read   *badger.Txn
	now    time.Time
	known  *apps
	absent func(msg.Number) bool // tells of numbers without a record, before this batch; nil: nobody knows
	onBad  func(error)           // told of a record that a change replaces because it is corrupt
	states map[msg.Number]*Registration
	owners map[[32]byte]owner // the zero owner: removed
	raw    map[string][]byte  // verifications and proofs; nil: removed
	fresh  map[string]uint16  // apps that this batch adds
	steps  []step             // one for each change that wrote something
	bytes  int                // of all writes
	writes int
}

// step is the outcome of one change: all of it is written in one transaction.
type step struct {
	request *request
	at      int // which of the request's changes
	writes  []write
	number  msg.Number
	word    uint64 // for the index
	app     string // an app that this step added, with its index
	appAt   uint16
}

// write is a key and its value; a nil value deletes.
type write struct {
	key, value []byte
	ttl        time.Duration // 0: it stays
}

// load is the registration of n as the batch has it, or nil. The result is
// shared: change a clone.
func (b *batch) load(n msg.Number) (*Registration, error) {
	if r, ok := b.states[n]; ok {
		return r, nil
	}
	if b.absent != nil && b.absent(n) {
		return nil, nil
	}
	r, err := getRegistration(b.read, n)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b.states[n] = &r
	return &r, nil
}

// clone is a registration that may be changed, with its generation raised.
func (b *batch) clone(r *Registration, n msg.Number) *Registration {
	if r == nil {
		return &Registration{Number: n, Generation: uint32(b.now.Unix())}
	}
	return &Registration{Number: n, Devices: slices.Clone(r.Devices), Generation: r.Generation + 1}
}

func (s *step) put(key, value []byte) { s.writes = append(s.writes, write{key: key, value: value}) }

// store adds a step that makes r, which may have no device left, the state of
// its number.
func (b *batch) store(s step, r *Registration) {
	s.number = r.Number
	if len(r.Devices) == 0 {
		s.put(numberKey(r.Number), nil)
		b.states[r.Number] = nil
	} else {
		s.put(numberKey(r.Number), encodeRegistration(r))
		s.word = b.word(r)
		b.states[r.Number] = r
	}
	b.add(s)
}

func (b *batch) add(s step) {
	s.at = s.request.applied
	for _, w := range s.writes {
		b.bytes += len(w.key) + len(w.value)
	}
	b.writes += len(s.writes)
	b.steps = append(b.steps, s)
}

// word is what the index will hold of r, whose apps all have an index.
func (b *batch) word(r *Registration) uint64 {
	return wordOf(r, func(name string) uint16 {
		if i, ok := b.fresh[name]; ok {
			return i
		}
		i, _ := b.known.index(name)
		return i
	})
}

// wordOf packs r: its app is that of its best device, or of its first where none
// is usable.
func wordOf(r *Registration, appIndex func(string) uint16) uint64 {
	if len(r.Devices) == 0 {
		return 0
	}
	d := r.best()
	e := msg.MakeEntry(d.Usable(), appIndex(d.App), r.Generation)
	e = e.With(d.Presence == PresenceStale, r.lacks(d.App, FeatureReceipts))
	if r.External() {
		e = e.AsExternal()
	}
	return word(e, len(r.Devices))
}

// intern makes sure that the app has an index, and writes it if it is new.
func (b *batch) intern(s *step, name string) error {
	if _, ok := b.fresh[name]; ok {
		return nil
	}
	if _, ok := b.known.index(name); ok {
		return nil
	}
	i, err := b.known.reserve()
	if err != nil {
		return err
	}
	b.fresh[name] = i
	s.app, s.appAt = name, i
	s.put(appKey(i), encodeApp(i, name))
	return nil
}

func (b *batch) setOwner(s *step, hash [32]byte, o owner) {
	b.owners[hash] = o
	s.put(bearerKey(hash), encodeOwner(hash, o))
}

func (b *batch) dropOwner(s *step, hash [32]byte) {
	b.owners[hash] = owner{}
	s.put(bearerKey(hash), nil)
}

// claimed tells whether hash is the bearer of a device other than me. A record
// that no device answers to, or that is corrupt, may be taken over.
func (b *batch) claimed(hash [32]byte, me owner) (bool, error) {
	o, ok := b.owners[hash]
	if !ok {
		var err error
		o, err = getOwner(b.read, hash)
		if errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	if o == (owner{}) || o == me {
		return false, nil
	}
	r, err := b.load(o.number)
	if errors.Is(err, ErrCorrupt) {
		return false, nil
	}
	if r == nil || err != nil {
		return false, err
	}
	d, ok := r.Device(o.device)
	return ok && (d.BearerHash == hash || d.PreviousHash == hash), nil
}

// put registers a device. A corrupt record of its number is replaced: the
// owner has just proven the number anew.
func (b *batch) put(req *request, p *Put) (PutResult, error) {
	s := step{request: req}
	proof, err := b.redeem(&s, p)
	if err != nil {
		return PutResult{}, err
	}
	old, err := b.load(p.Number)
	if errors.Is(err, ErrCorrupt) {
		b.onBad(err)
		old, err = nil, nil
	}
	if err != nil {
		return PutResult{}, err
	}
	r := b.clone(old, p.Number)
	id := p.Device
	if id == "" {
		id = randomID()
	}
	d := Device{
		ID: id, App: p.App, Platform: p.Platform, Token: p.Token, Sandbox: p.Sandbox,
		Active: p.Active, RegisteredAt: b.now, UpdatedAt: b.now, SeenAt: b.now,
		Features: AllFeatures &^ p.Lacks, Permission: p.Permission, Preference: p.Preference,
	}
	evicted, err := b.admit(&s, r, p, &d, proof)
	if err != nil {
		return PutResult{}, err
	}
	if p.By == "" {
		b.takeOver(&s, r, id)
	}
	at := r.find(id)
	if at < 0 {
		if len(r.Devices) >= MaxDevices {
			return PutResult{}, fmt.Errorf("number %s: device %s: %w", p.Number.Masked(), id, ErrTooManyDevices)
		}
		at = len(r.Devices)
		r.Devices = append(r.Devices, d)
	} else {
		was := &r.Devices[at]
		d.BearerHash, d.RegisteredAt = was.BearerHash, was.RegisteredAt
		if p.KeepTraits {
			d.Features, d.Permission, d.Preference = was.Features, was.Permission, was.Preference
		}
	}
	if proof == nil && p.By == "" && !p.ProvenAt.IsZero() {
		d.ProvenAt = p.ProvenAt
	}
	bearer, hash := p.Bearer, p.bearerHash()
	if hash == ([32]byte{}) && (d.BearerHash == ([32]byte{}) || proof != nil) {
		bearer = randomBearer()
		hash = sha256.Sum256([]byte(bearer))
	}
	rebind, err := b.mayBind(&d, owner{p.Number, id}, hash)
	if err != nil {
		return PutResult{}, err
	}
	if err := b.intern(&s, d.App); err != nil {
		return PutResult{}, fmt.Errorf("app %q: %w", d.App, err)
	}
	switch {
	case p.Rotate:
		bearer = b.rotate(&s, &d, owner{p.Number, id}, p)
	case rebind:
		b.bind(&s, &d, owner{p.Number, id}, hash)
	}
	r.Devices[at] = d
	b.store(s, r)
	return PutResult{Registration: *r, Device: id, Bearer: bearer, Evicted: evicted}, nil
}

// mayBind tells whether d needs the bearer with this hash bound to it, or why it
// cannot be. The zero hash is no bearer.
func (b *batch) mayBind(d *Device, me owner, hash [32]byte) (bool, error) {
	if hash == ([32]byte{}) || hash == d.BearerHash {
		return false, nil
	}
	taken, err := b.claimed(hash, me)
	if err != nil {
		return false, fmt.Errorf("number %s: look up bearer: %w", me.number.Masked(), err)
	}
	if taken {
		return false, fmt.Errorf("number %s: device %s: %w", me.number.Masked(), me.device, ErrBearerInUse)
	}
	return true, nil
}

// bind gives d the bearer with this hash in place of the one that it has.
func (b *batch) bind(s *step, d *Device, me owner, hash [32]byte) {
	b.dropOwners(s, d)
	d.PreviousHash, d.GraceUntil = [32]byte{}, time.Time{}
	d.BearerHash = hash
	b.setOwner(s, d.BearerHash, me)
}

// remove takes a device, or with device "" all of them, off a number. drop,
// if not nil, has the last word on the device.
func (b *batch) remove(req *request, n msg.Number, device string, drop func(*Device) bool) (bool, error) {
	old, err := b.load(n)
	if errors.Is(err, ErrCorrupt) && device == "" {
		b.onBad(err)
		b.store(step{request: req}, &Registration{Number: n})
		return true, nil
	}
	if err != nil || old == nil {
		return false, err
	}
	s := step{request: req}
	r := b.clone(old, n)
	r.Devices = slices.DeleteFunc(r.Devices, func(d Device) bool {
		gone := device == "" || d.ID == device
		if gone && drop != nil {
			gone = drop(&d)
		}
		if gone {
			b.dropOwners(&s, &d)
		}
		return gone
	})
	if len(s.writes) == 0 {
		return false, nil
	}
	b.store(s, r)
	return true, nil
}

// setActive marks a device, or with device "" all devices of the number.
func (b *batch) setActive(req *request, n msg.Number, device string, active bool) error {
	old, err := b.load(n)
	if err != nil {
		return err
	}
	if old == nil || device != "" && old.find(device) < 0 {
		return notFound(n, device)
	}
	r := b.clone(old, n)
	changed := false
	for i := range r.Devices {
		d := &r.Devices[i]
		if (device == "" || d.ID == device) && d.Active != active {
			d.Active, changed = active, true
		}
	}
	if changed {
		b.store(step{request: req}, r)
	}
	return nil
}

func notFound(n msg.Number, device string) error {
	if device == "" {
		return fmt.Errorf("number %s: %w", n.Masked(), ErrNotFound)
	}
	return fmt.Errorf("number %s: device %s: %w", n.Masked(), device, ErrNotFound)
}

// randomID is 64 random bits in hex; crypto/rand.Read never fails.
func randomID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// randomBearer is 256 random bits in base64url.
func randomBearer() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}
