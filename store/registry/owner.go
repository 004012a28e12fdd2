package registry

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
)

// ErrDeviceInUse says that another app or installation has that device id.
var ErrDeviceInUse = errors.New("another installation has this device id")

// evictedFor is how long a bearer of an evicted device is told so.
const evictedFor = 30 * 24 * time.Hour

const prefixEvicted = 'E'

func evictedKey(hash [32]byte) []byte { return append([]byte{prefixEvicted}, hash[:]...) }

// whyNot tells the bearer of an evicted device from one that nobody had.
func whyNot(txn *badger.Txn, hash [32]byte, err error) error {
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	if _, tomb := txn.Get(evictedKey(hash)); tomb == nil {
		return fmt.Errorf("bearer: %w", ErrEvicted)
	}
	return err
}

// knows compares in constant time a bearer's hash with the device's own and,
// within its grace, with the one before.
func (d *Device) knows(hash [32]byte, now time.Time) bool {
	own := subtle.ConstantTimeCompare(d.BearerHash[:], hash[:])
	previous := subtle.ConstantTimeCompare(d.PreviousHash[:], hash[:])
	return own == 1 || previous == 1 && now.Before(d.GraceUntil)
}

// best is the device that decides which app gets a message: a usable one, of
// these one that has shown itself lately, of these the preferred, of these the
// one that was proven last, of these the first. Without a usable one it is the
// first of all.
func (r *Registration) best() *Device {
	best := -1
	for i := range r.Devices {
		if r.Devices[i].Usable() && (best < 0 || r.Devices[i].before(&r.Devices[best])) {
			best = i
		}
	}
	return &r.Devices[max(best, 0)]
}

func (d *Device) before(o *Device) bool {
	switch {
	case d.Presence != o.Presence:
		return d.Presence < o.Presence
	case d.Preference != o.Preference:
		return d.Preference < o.Preference
	}
	return d.ProvenAt.After(o.ProvenAt)
}

// lacks tells whether any usable device of an app cannot do something: whichever
// claims has to be able to.
func (r *Registration) lacks(app string, f Features) bool {
	return slices.ContainsFunc(r.Devices, func(d Device) bool {
		return d.App == app && d.Usable() && d.Features&f != f
	})
}

// Proven is when the number was proven for an app: the latest of its usable
// devices' proofs. The zero Time says that all were put by the operator, who
// vouches for them.
func (r *Registration) Proven(app string) (at time.Time) {
	for i := range r.Devices {
		if d := &r.Devices[i]; d.App == app && d.Usable() && d.ProvenAt.After(at) {
			at = d.ProvenAt
		}
	}
	return at
}

// admit checks on whose word d is put, gives it what it inherits, and takes off
// the number whoever a proof evicts.
func (b *batch) admit(s *step, r *Registration, p *Put, d *Device, proof *proof) (evicted int, err error) {
	at := r.find(d.ID)
	if at >= 0 {
		d.Ownership = r.Devices[at].Ownership
		if r.Devices[at].App != d.App && (proof != nil && !p.EvictAll || p.By != "") {
			return 0, fmt.Errorf("number %s: device %s: %w", r.Number.Masked(), d.ID, ErrDeviceInUse)
		}
	}
	switch {
	case proof != nil:
		d.Ownership.ProvenAt, d.Ownership.Thumbprint = proof.provenAt, p.Thumbprint
		return b.evict(s, r, func(o *Device) bool {
			return o.ID != d.ID && (p.EvictAll || o.App == d.App) && o.RegisteredAt.Before(proof.provenAt)
		}), nil
	case p.By != "":
		by := r.find(p.By)
		if by < 0 || r.Devices[by].App != d.App {
			return 0, notFound(r.Number, p.By)
		}
		d.Source = r.Devices[by].Source // it is known here no better than the one that vouches for it
		if at >= 0 && at != by {
			return 0, fmt.Errorf("number %s: device %s: %w", r.Number.Masked(), d.ID, ErrDeviceInUse)
		}
		if at < 0 {
			d.Ownership = Ownership{ProvenAt: r.Devices[by].ProvenAt, Thumbprint: p.Thumbprint}
		}
	}
	return 0, nil
}

// evict takes devices off r and remembers their bearers, so that they are told.
func (b *batch) evict(s *step, r *Registration, whom func(*Device) bool) int {
	before := len(r.Devices)
	r.Devices = slices.DeleteFunc(r.Devices, func(d Device) bool {
		if !whom(&d) {
			return false
		}
		b.dropOwners(s, &d)
		for _, hash := range [...][32]byte{d.BearerHash, d.PreviousHash} {
			if hash != ([32]byte{}) {
				key := evictedKey(hash)
				s.writes = append(s.writes, write{key, seal(key, make([]byte, recordHeader)), evictedFor})
			}
		}
		return true
	})
	return before - len(r.Devices)
}

func (b *batch) dropOwners(s *step, d *Device) {
	for _, hash := range [...][32]byte{d.BearerHash, d.PreviousHash} {
		if hash != ([32]byte{}) {
			b.dropOwner(s, hash)
		}
	}
}

// rotate gives d a new bearer and the old one its grace. Who comes with the one
// before, since the answer to its last rotation was lost, keeps that one.
func (b *batch) rotate(s *step, d *Device, me owner, p *Put) (bearer string) {
	keep, drop := d.BearerHash, d.PreviousHash
	if p.Using != ([32]byte{}) && p.Using == d.PreviousHash {
		keep, drop = drop, keep
	}
	if drop != ([32]byte{}) {
		b.dropOwner(s, drop)
	}
	bearer = randomBearer()
	d.PreviousHash, d.GraceUntil = keep, b.now.Add(p.Grace)
	d.BearerHash = sha256.Sum256([]byte(bearer))
	b.setOwner(s, d.BearerHash, me)
	return bearer
}

// evictBefore takes off a number the devices that were proven, or put by the
// operator, before a time: it has gone to somebody else then.
func (b *batch) evictBefore(req *request, n msg.Number, before time.Time) (int, error) {
	old, err := b.load(n)
	if err != nil || old == nil {
		return 0, err
	}
	s := step{request: req}
	r := b.clone(old, n)
	gone := b.evict(&s, r, func(d *Device) bool {
		at := d.ProvenAt
		if at.IsZero() {
			at = d.RegisteredAt
		}
		return at.Before(before)
	})
	if gone > 0 {
		b.store(s, r)
	}
	return gone, nil
}

// Seen is evidence of a device, or what it says of itself.
type Seen struct {
	Number     msg.Number
	Device     string
	At         time.Time // zero: nothing new
	Presence   *Presence
	Permission *Permission
	Features   *Features
}

// seen writes evidence down, unless nothing would change.
func (b *batch) seen(req *request, v *Seen) error {
	old, err := b.load(v.Number)
	if err != nil {
		return err
	}
	if old == nil || old.find(v.Device) < 0 {
		return notFound(v.Number, v.Device)
	}
	r := b.clone(old, v.Number)
	d := &r.Devices[r.find(v.Device)]
	before := *d
	if v.At.After(d.SeenAt) {
		d.SeenAt = v.At.UTC()
	}
	if v.Presence != nil {
		d.Presence = *v.Presence
	}
	if v.Permission != nil {
		d.Permission = *v.Permission
	}
	if v.Features != nil {
		d.Features = *v.Features
	}
	if *d != before {
		b.store(step{request: req}, r)
	}
	return nil
}
