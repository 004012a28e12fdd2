package upstream

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Limits bound what peers may ask of a Proxy before they are bound. A limit of
// zero is none. A source is one IPv4 address or one IPv6 /64, the client's
// where a balancer names it.
type Limits struct {
	Unbound          int // connections that are not bound yet, in all
	UnboundPerSource int // and of one source
	ConnectRate      int // new connections a second of one source, with bursts of burstSeconds

	BindFailures      int           // failed binds of one source within BindFailureWindow after which it is blocked
	BindFailureWindow time.Duration // counted from the first of them
	BlockFirst        time.Duration // the first block; each one after it lasts twice as long
	BlockMost         time.Duration // to this; a source that behaves for so long after a block starts anew

	Dials int // connections to the SMSC that are being made at a time
}

const (
	burstSeconds = 5       // of ConnectRate may come at once
	maxSources   = 1 << 16 // idle ones that are remembered, about 200 octets each
)

// Counters count what a Proxy refused. All are totals.
type Counters struct {
	ConnectsRefused atomic.Uint64 // too many a second from one source
	UnboundRefused  atomic.Uint64 // too many that are not bound, of one source or in all
	UnboundClosed   atomic.Uint64 // the oldest that had not sent a bind, to make room
	HeadersRefused  atomic.Uint64 // connections from balancers without a sound PROXY header
	BindsFailed     atomic.Uint64 // refused for what they said they were, by the SMSC or here
	BindsBlocked    atomic.Uint64 // answered for a blocked source
	Blocks          atomic.Uint64 // begun
	NotAllowed      atomic.Uint64 // of BindsFailed: the account does not allow the source
	TooManyBinds    atomic.Uint64 // beyond an account's max_binds
	Drained         atomic.Uint64 // refused while no new binds are taken
	DialsRefused    atomic.Uint64 // no turn to connect to the SMSC came in time
	OutbindsTaken   atomic.Uint64 // from an SMSC
	OutbindsRefused atomic.Uint64 // of BindsFailed: from nobody whom the configuration knows
}

// gate keeps the Limits. Its lock is held for moments only. What it remembers
// is bounded: maxSources sources that have no connection, the least recently
// used going first, and those that have one.
type gate struct {
	l Limits
	n *Counters
	// blocked and freed are told when a block begins and ends, without the lock.
	blocked func(netip.Prefix, time.Duration)
	freed   func(netip.Prefix)

	mu      sync.Mutex
	sources map[netip.Prefix]*source
	idle    list.List // of *source without connections, most recently used first
	unbound list.List // of *waiting, oldest first
	notes   []func()  // what is to be told once the lock is free
}

// unlock frees the lock and tells what there is to tell: who logs may wait, and
// must not hold up whoever accepts.
func (g *gate) unlock() {
	notes := g.notes
	g.notes = nil
	g.mu.Unlock()
	for _, tell := range notes {
		tell()
	}
}

// source is what is known of one source, under gate.mu.
type source struct {
	prefix  netip.Prefix
	unbound int
	idle    *list.Element // nil while it has connections

	tokens   float64 // connections it may make at once, as of refilled
	refilled time.Time

	failures int       // failed binds since
	since    time.Time // the first of them
	block    time.Duration
	until    time.Time // the end of the block
	end      *time.Timer
}

// waiting is a connection that is not bound yet. A nil one is not limited.
type waiting struct {
	g       *gate
	close   func()
	el      *list.Element // nil once it has left
	src     *source       // nil until it is known
	binding bool          // it has sent a bind and waits for the answer
	evicted atomic.Bool
}

// sourceOf is the source that an address counts for; the zero Prefix for one
// without an IP address.
func sourceOf(a net.Addr) netip.Prefix {
	bits := 32
	ip := addrOf(a)
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}

// addrOf is the IP address of a peer, an IPv4 one in 4 octets.
func addrOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}

func newGate(l Limits, n *Counters) *gate {
	return &gate{
		l: l, n: n, sources: make(map[netip.Prefix]*source),
		blocked: func(netip.Prefix, time.Duration) {}, freed: func(netip.Prefix) {},
	}
}

// set replaces the limits for whoever comes from now on, and for those who are
// known as soon as they do something.
func (g *gate) set(l Limits) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.l = l
}

// enter takes in a connection of that source, or of one that is not known yet,
// and tells whether it may stay. Where there are too many in all, the oldest
// that has not sent a bind goes: one that holds its connection to no use is
// older than one that binds. Of one source it is the newest that goes, so that
// nobody pays for it but the source itself.
func (g *gate) enter(p netip.Prefix, now time.Time, closeConn func()) (*waiting, bool) {
	g.mu.Lock()
	w := &waiting{g: g, close: closeConn}
	if p.IsValid() && !g.admit(w, p, now) {
		g.unlock()
		return nil, false
	}
	victim, ok := g.makeRoom()
	if !ok {
		g.leave(w)
		g.unlock()
		g.n.UnboundRefused.Add(1)
		return nil, false
	}
	w.el = g.unbound.PushBack(w)
	g.unlock()
	if victim != nil {
		g.n.UnboundClosed.Add(1)
		victim.close()
	}
	return w, true
}

// makeRoom finds whom a new connection replaces, if the place is full.
func (g *gate) makeRoom() (victim *waiting, ok bool) {
	if g.l.Unbound == 0 || g.unbound.Len() < g.l.Unbound {
		return nil, true
	}
	for e := g.unbound.Front(); e != nil; e = e.Next() {
		if w := e.Value.(*waiting); !w.binding {
			w.evicted.Store(true)
			g.leave(w)
			return w, true
		}
	}
	return nil, false
}

// identify tells whose connection w is, and whether it may stay.
func (w *waiting) identify(p netip.Prefix, now time.Time) bool {
	if w == nil || !p.IsValid() {
		return true
	}
	w.g.mu.Lock()
	defer w.g.unlock()
	return w.el == nil || w.g.admit(w, p, now)
}

// admit counts a connection for its source.
func (g *gate) admit(w *waiting, p netip.Prefix, now time.Time) bool {
	s := g.find(p, now)
	if g.l.ConnectRate > 0 {
		rate := float64(g.l.ConnectRate)
		s.tokens = min(s.tokens+rate*now.Sub(s.refilled).Seconds(), burstSeconds*rate)
		s.refilled = now
		if s.tokens < 1 {
			g.n.ConnectsRefused.Add(1)
			return false
		}
		s.tokens--
	}
	if g.l.UnboundPerSource > 0 && s.unbound >= g.l.UnboundPerSource {
		g.n.UnboundRefused.Add(1)
		return false
	}
	w.src = s
	if s.unbound++; s.idle != nil {
		g.idle.Remove(s.idle)
		s.idle = nil
	}
	return true
}

// find is the source, as the most recently used.
func (g *gate) find(p netip.Prefix, now time.Time) *source {
	if s := g.sources[p]; s != nil {
		if s.idle != nil {
			g.idle.MoveToFront(s.idle)
		}
		return s
	}
	s := &source{prefix: p, tokens: burstSeconds * float64(g.l.ConnectRate), refilled: now}
	g.sources[p] = s
	g.rest(s)
	return s
}

// rest puts a source that has no connection among the idle ones, of which the
// one longest unused may have to go.
func (g *gate) rest(s *source) {
	s.idle = g.idle.PushFront(s)
	if g.idle.Len() <= maxSources {
		return
	}
	old := g.idle.Remove(g.idle.Back()).(*source)
	delete(g.sources, old.prefix)
	g.free(old)
}

// leave ends the wait of a connection: it is bound or gone.
func (w *waiting) leave() {
	if w == nil {
		return
	}
	w.g.mu.Lock()
	defer w.g.unlock()
	w.g.leave(w)
}

func (g *gate) leave(w *waiting) {
	if w.el != nil {
		g.unbound.Remove(w.el)
		w.el = nil
	}
	if s := w.src; s != nil {
		w.src = nil
		if s.unbound--; s.unbound == 0 {
			g.rest(s)
		}
	}
}

// asks tells that w waits for the answer to its bind, or no longer does: until
// then it is not closed for others.
func (w *waiting) asks(binding bool) {
	if w == nil {
		return
	}
	w.g.mu.Lock()
	w.binding = binding
	w.g.unlock()
}
