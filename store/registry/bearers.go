package registry

import (
	"crypto/subtle"
	"encoding/binary"
	"sync/atomic"

	"shunt/gateway/msg"
)

// bearers remembers whose bearers were asked for lately: an app that claims a
// message acknowledges it next. What it says holds as long as the index has the
// number's entry of then, since every change of a registration changes that.
type bearers [1 << bearerBits]atomic.Pointer[knownBearer]

const bearerBits = 15

type knownBearer struct {
	hash   [32]byte
	number msg.Number
	device Device
	entry  msg.Entry
}

func (b *bearers) place(hash *[32]byte) *atomic.Pointer[knownBearer] {
	return &b[binary.BigEndian.Uint64(hash[:])>>(64-bearerBits)]
}

func (b *bearers) get(hash [32]byte, lookup func(msg.Number) msg.Entry) (msg.Number, Device, bool) {
	k := b.place(&hash).Load()
	if k == nil || subtle.ConstantTimeCompare(k.hash[:], hash[:]) != 1 || lookup(k.number) != k.entry {
		return 0, Device{}, false
	}
	return k.number, k.device, true
}

func (b *bearers) put(hash [32]byte, n msg.Number, d Device, e msg.Entry) {
	b.place(&hash).Store(&knownBearer{hash, n, d, e})
}
