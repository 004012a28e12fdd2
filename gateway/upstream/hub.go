package upstream

import (
	"slices"
	"sync"

	"shunt/gateway/msg"
	"shunt/smpp"
)

// Hub knows every bind that is up, so that a receipt finds one that may
// receive: any of the same account.
type Hub struct {
	// Receivable, if set, is told of every new bind that takes deliver_sm. It
	// must not block.
	Receivable func(msg.Account)
	// Attach, if set, gives a new bind its State before its first PDU is read.
	Attach func(*Bind)
	// Lost, if set, is told of a bind as soon as the ESME is gone without an
	// unbind. It must not block.
	Lost func(*Bind)
	// Detached, if set, is told of every bind that has ended.
	Detached func(*Bind)

	mu        sync.Mutex
	binds     map[*smpp.Session]*Bind
	receivers map[msg.Account][]*Bind
	next      uint
}

func (h *Hub) add(b *Bind) {
	if h.Attach != nil {
		h.Attach(b)
	}
	b.lost = h.Lost
	h.mu.Lock()
	if h.binds == nil {
		h.binds = make(map[*smpp.Session]*Bind)
		h.receivers = make(map[msg.Account][]*Bind)
	}
	h.binds[b.down] = b
	if b.Receives() {
		h.receivers[b.Account] = append(h.receivers[b.Account], b)
	}
	h.mu.Unlock()
	if b.Receives() && h.Receivable != nil {
		h.Receivable(b.Account)
	}
}

func (h *Hub) remove(b *Bind) {
	h.mu.Lock()
	delete(h.binds, b.down)
	left := slices.DeleteFunc(h.receivers[b.Account], func(o *Bind) bool { return o == b })
	if len(left) == 0 {
		delete(h.receivers, b.Account)
	} else {
		h.receivers[b.Account] = left
	}
	h.mu.Unlock()
	if h.Detached != nil {
		h.Detached(b)
	}
}

func (h *Hub) bound(down *smpp.Session) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.binds[down] != nil
}

// Receiver picks a bind of the account that takes deliver_sm, in turn; nil when
// none is up.
func (h *Hub) Receiver(a msg.Account) *Bind {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.receivers[a]
	if len(r) == 0 {
		return nil
	}
	h.next++
	return r[h.next%uint(len(r))]
}

// Binds are the binds that are up, oldest first.
func (h *Hub) Binds() []*Bind {
	h.mu.Lock()
	all := make([]*Bind, 0, len(h.binds))
	for _, b := range h.binds {
		all = append(all, b)
	}
	h.mu.Unlock()
	slices.SortFunc(all, func(a, b *Bind) int { return a.Since.Compare(b.Since) })
	return all
}
