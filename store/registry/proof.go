package registry

import (
	"context"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
)

// MaxChecks is how many codes may be tried against a verification.
const MaxChecks = 5

var (
	// ErrCode says that a code is not the one that was sent; it has been counted.
	ErrCode = errors.New("wrong code")
	// ErrPending says that the subscriber's SMS has not come yet.
	ErrPending = errors.New("the SMS has not come yet")
)

// Verification is a number that somebody says is theirs, until it is proven or
// its time is over. Neither code nor nonce is stored, only a MAC of it.
type Verification struct {
	ID      [16]byte
	Number  msg.Number
	App     string
	Silent  bool     // the subscriber sends an SMS; otherwise a code was sent
	MAC     [32]byte // of the code or the nonce
	Expires time.Time
	Checks  uint8 // codes that were wrong
	Arrived bool  // the subscriber's SMS has come
}

// proof is a number that was proven, for one device of an app.
type proof struct {
	number   msg.Number
	app      string
	provenAt time.Time
	device   string // "" until it is used
}

const (
	prefixVerification = 'V'
	prefixNonce        = 'N'
	prefixProof        = 'P'
)

func verificationKey(id [16]byte) []byte { return append([]byte{prefixVerification}, id[:]...) }
func nonceKey(mac [32]byte) []byte       { return append([]byte{prefixNonce}, mac[:]...) }
func proofKey(hash [32]byte) []byte      { return append([]byte{prefixProof}, hash[:]...) }

// Begin stores a verification until it expires. It returns once it is on stable
// storage.
func (r *Registry) Begin(ctx context.Context, v Verification) error {
	if v.Number < msg.MinNumber || v.Number > msg.MaxNumber || !isName(v.App) {
		return fmt.Errorf("verification: %w", ErrInvalid)
	}
	_, err := r.submit(ctx, func(b *batch, req *request) error {
		s := step{request: req}
		b.keep(&s, &v)
		if v.Silent {
			key := nonceKey(v.MAC)
			b.putRaw(&s, key, seal(key, append(make([]byte, recordHeader), v.ID[:]...)), v.Expires.Sub(b.now))
		}
		b.add(s)
		return nil
	})
	return err
}

// Check tries a code, or asks whether the subscriber's SMS has come. If so the
// verification is over, and hash is that of a proof which PutAll redeems within
// that time. ErrNotFound: there is no such verification, or none any more;
// ErrCode, after MaxChecks of which it is burnt; ErrPending. What it returns or
// refuses is on stable storage.
func (r *Registry) Check(ctx context.Context, id [16]byte, mac, hash [32]byte, within time.Duration) (Verification, error) {
	var v Verification
	var refused error
	_, err := r.submit(ctx, func(b *batch, req *request) (err error) {
		v, refused, err = b.checkCode(req, id, mac, hash, within)
		return err
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return Verification{}, err
	}
	return v, nil
}

// Arrived takes the subscriber's own SMS: it tells whether a verification of
// that number waits for its nonce, once that is on stable storage.
func (r *Registry) Arrived(ctx context.Context, nonce [32]byte, n msg.Number) (ok bool, err error) {
	_, err = r.submit(ctx, func(b *batch, req *request) error {
		v, err := b.waiting(nonce)
		if err != nil || v.Number != n {
			if errors.Is(err, ErrNotFound) {
				err = nil
			}
			return err
		}
		ok = true
		if !v.Arrived {
			v.Arrived = true
			s := step{request: req}
			b.keep(&s, &v)
			b.add(s)
		}
		return nil
	})
	return ok && err == nil, err
}

// EvictBefore takes off a number the devices that were proven, or put by the
// operator, before a time, and tells how many.
func (r *Registry) EvictBefore(ctx context.Context, n msg.Number, before time.Time) (gone int, err error) {
	_, err = r.submit(ctx, func(b *batch, req *request) (err error) {
		gone, err = b.evictBefore(req, n, before)
		return err
	})
	return gone, err
}

// Saw writes evidence down; of a device that is gone meanwhile none is taken.
func (r *Registry) Saw(ctx context.Context, all ...Seen) error {
	changes := make([]func(*batch, *request) error, len(all))
	for i := range all {
		v := all[i]
		changes[i] = func(b *batch, req *request) error {
			if err := b.seen(req, &v); !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrCorrupt) {
				return err
			}
			return nil
		}
	}
	for len(changes) > 0 {
		chunk := changes[:min(len(changes), putChunk)]
		if _, err := r.submit(ctx, chunk...); err != nil {
			return err
		}
		changes = changes[len(chunk):]
	}
	return nil
}

func (b *batch) checkCode(req *request, id [16]byte, mac, hash [32]byte, within time.Duration) (v Verification, refused, err error) {
	v, err = b.verification(id)
	if errors.Is(err, ErrNotFound) {
		return v, err, nil
	}
	if err != nil {
		return v, nil, err
	}
	s := step{request: req}
	switch {
	case v.Silent && !v.Arrived:
		return v, ErrPending, nil
	case !v.Silent && subtle.ConstantTimeCompare(v.MAC[:], mac[:]) != 1:
		if v.Checks++; v.Checks >= MaxChecks {
			b.putRaw(&s, verificationKey(id), nil, 0)
		} else {
			b.keep(&s, &v)
		}
		b.add(s)
		return v, ErrCode, nil
	}
	b.putRaw(&s, verificationKey(id), nil, 0)
	if v.Silent {
		b.putRaw(&s, nonceKey(v.MAC), nil, 0)
	}
	p := proof{number: v.Number, app: v.App, provenAt: b.now}
	b.putRaw(&s, proofKey(hash), p.encode(hash, b.now.Add(within)), within)
	b.add(s)
	return v, nil, nil
}

// waiting is the verification that waits for a nonce.
func (b *batch) waiting(nonce [32]byte) (v Verification, err error) {
	key := nonceKey(nonce)
	value, err := b.getRaw(key)
	if err != nil {
		return v, err
	}
	d, err := unseal(key, value)
	if err != nil {
		return v, err
	}
	var id [16]byte
	copy(id[:], d.take("verification", len(id)))
	if err := d.end(); err != nil {
		return v, fmt.Errorf("%s: %w: %w", keyName(key), ErrCorrupt, err)
	}
	return b.verification(id)
}

// redeem reads the proof of a put, nil where it has none, and binds it to the
// put's device: repeated, it is good for that device again.
func (b *batch) redeem(s *step, p *Put) (*proof, error) {
	if p.ProofHash == ([32]byte{}) {
		return nil, nil
	}
	key := proofKey(p.ProofHash)
	value, err := b.getRaw(key)
	if errors.Is(err, ErrNotFound) {
		return nil, ErrProof
	}
	if err != nil {
		return nil, err
	}
	d, err := unseal(key, value)
	if err != nil {
		return nil, err
	}
	var v proof
	v.number = msg.Number(d.uint64("number"))
	v.provenAt = d.time("proven at")
	until := d.time("until")
	v.app = d.text("app", int(d.uint8("app length")), MaxName)
	if n := int(d.uint8("device length")); n > 0 {
		v.device = d.text("device", n, MaxName)
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", keyName(key), ErrCorrupt, err)
	}
	if v.app != p.App || v.device != "" && v.device != p.Device || !b.now.Before(until) || p.Number != 0 && p.Number != v.number {
		return nil, ErrProof
	}
	p.Number, v.device = v.number, p.Device
	b.putRaw(s, key, v.encode(p.ProofHash, until), until.Sub(b.now))
	return &v, nil
}

func (p *proof) encode(hash [32]byte, until time.Time) []byte {
	v := binary.BigEndian.AppendUint64(make([]byte, recordHeader), uint64(p.number))
	v = binary.BigEndian.AppendUint64(v, uint64(p.provenAt.UnixNano()))
	v = binary.BigEndian.AppendUint64(v, uint64(until.UnixNano()))
	v = append(append(v, byte(len(p.app))), p.app...)
	v = append(append(v, byte(len(p.device))), p.device...)
	return seal(proofKey(hash), v)
}

// keep writes v, for as long as it has left.
func (b *batch) keep(s *step, v *Verification) {
	var flags byte
	if v.Silent {
		flags |= 1
	}
	if v.Arrived {
		flags |= 2
	}
	value := binary.BigEndian.AppendUint64(make([]byte, recordHeader), uint64(v.Number))
	value = binary.BigEndian.AppendUint64(value, uint64(v.Expires.UnixNano()))
	value = append(value, flags, v.Checks)
	value = append(append(value, v.MAC[:]...), v.App...)
	key := verificationKey(v.ID)
	b.putRaw(s, key, seal(key, value), v.Expires.Sub(b.now))
}

func (b *batch) verification(id [16]byte) (v Verification, err error) {
	key := verificationKey(id)
	value, err := b.getRaw(key)
	if err != nil {
		return v, err
	}
	d, err := unseal(key, value)
	if err != nil {
		return v, err
	}
	v.ID, v.Number, v.Expires = id, msg.Number(d.uint64("number")), d.time("expires")
	flags := d.uint8("flags")
	v.Silent, v.Arrived = flags&1 != 0, flags&2 != 0
	v.Checks = d.uint8("checks")
	copy(v.MAC[:], d.take("mac", len(v.MAC)))
	v.App = d.text("app", len(d.b), MaxName)
	if err := d.end(); err != nil {
		return v, fmt.Errorf("%s: %w: %w", keyName(key), ErrCorrupt, err)
	}
	if !b.now.Before(v.Expires) {
		return v, fmt.Errorf("verification: %w", ErrNotFound)
	}
	return v, nil
}

// getRaw reads a value as the batch has it, or wraps ErrNotFound.
func (b *batch) getRaw(key []byte) ([]byte, error) {
	if v, ok := b.raw[string(key)]; ok {
		if v == nil {
			return nil, ErrNotFound
		}
		return v, nil
	}
	item, err := b.read.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("%s: read: %w", keyName(key), err)
	}
	return item.ValueCopy(nil)
}

// putRaw writes a value for a time, at least the second that is Badger's unit;
// nil removes it.
func (b *batch) putRaw(s *step, key, value []byte, ttl time.Duration) {
	if b.raw == nil {
		b.raw = map[string][]byte{}
	}
	b.raw[string(key)] = value
	s.writes = append(s.writes, write{key, value, max(ttl, time.Second) + time.Second})
}
