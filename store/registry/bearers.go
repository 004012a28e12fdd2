package registry

import (
	"crypto/subtle"
	"encoding/binary"
	"sync/atomic"

	"shunt/gateway/msg"
)

// bearers remembers whose bearers were asked for lately, or will be soon: an app
// claims what was pushed to it, and acknowledges that next. What it says holds as
// long as the index has the number's entry of then, since every change of a
// registration changes that. A place has two of them, the newer one first.
type bearers [1 << bearerBits][2]atomic.Pointer[knownBearer]

const bearerBits = 15

type knownBearer struct {
	hash   [32]byte
	number msg.Number
	device Device
	entry  msg.Entry
}

func (b *bearers) place(hash *[32]byte) *[2]atomic.Pointer[knownBearer] {
	return &b[binary.BigEndian.Uint64(hash[:])>>(64-bearerBits)]
}

func (b *bearers) get(hash [32]byte, lookup func(msg.Number) msg.Entry) (msg.Number, Device, bool) {
	place := b.place(&hash)
	for i := range place {
		if k := place[i].Load(); k != nil && subtle.ConstantTimeCompare(k.hash[:], hash[:]) == 1 {
			return k.number, k.device, lookup(k.number) == k.entry
		}
	}
	return 0, Device{}, false
}

// put may lose one of two that are put at once: it is a memory and no more.
func (b *bearers) put(hash [32]byte, n msg.Number, d Device, e msg.Entry) {
	place := b.place(&hash)
	old := place[0].Load()
	if old != nil && old.hash == hash && old.entry == e {
		return
	}
	if old != nil && old.hash != hash {
		place[1].Store(old)
	}
	place[0].Store(&knownBearer{hash, n, d, e})
}

// forget lets go of the bearers of a number.
func (b *bearers) forget(n msg.Number) {
	for i := range b {
		for j := range b[i] {
			if k := b[i][j].Load(); k != nil && k.number == n {
				b[i][j].CompareAndSwap(k, nil)
			}
		}
	}
}
