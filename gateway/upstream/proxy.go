package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shunt/smpp"
	"shunt/smpp/pdu"
)

// Proxy takes ESMEs' connections and makes a Bind of each.
type Proxy struct {
	Upstream    string                           // the SMSC's host:port, until SetTowards
	SessionInit time.Duration                    // from the connection to the bind, §7.2 session_init_timer
	SMPP        smpp.Config                      // of both sides; its TLS and Local are towards the SMSC
	ProxyHeader bool                             // upstream connections begin with a PROXY v2 header that names the ESME
	Local       func(systemID string) netip.Addr // an account's own source address towards the SMSC; may be nil
	Account     func(systemID string) Account    // what holds for binds of a system_id; may be nil
	Limits      Limits
	Outbinds    []OutbindPeer // SMSCs that may connect here and send outbind, until SetOutbinds
	Decider     Decider
	Tap         *TapSwitch // may be nil
	Hub         *Hub
	Log         *slog.Logger

	Counters Counters

	bound atomic.Uint64 // binds so far
	wg    sync.WaitGroup
	once  sync.Once
	gate  *gate
	dials chan struct{} // turns to connect to the SMSC; nil: no limit

	mu         sync.Mutex
	up         map[string]int  // binds that are up, by system_id
	outbinding map[string]bool // Outbind is under way, by system_id

	outbinds      atomic.Pointer[[]OutbindPeer] // nil: Outbinds
	towards       atomic.Pointer[Towards]       // nil: as the fields above say
	draining      atomic.Bool
	unreachable   atomic.Pointer[Unreachable]
	surplusLogged atomic.Int64 // when, in Unix seconds
}

// Towards is how the SMSC is connected to.
type Towards struct {
	Addr        string      // host:port
	TLS         *tls.Config // nil: none
	Local       netip.Addr  // the source address; the zero Addr: the system's choice
	ProxyHeader bool        // connections begin with a PROXY v2 header that names the ESME
}

// SetTowards has binds that are made from now on go there. Those that are up
// stay until they end.
func (x *Proxy) SetTowards(t Towards) {
	if old := x.smsc(); old.Addr != t.Addr {
		x.unreachable.Store(nil) // it said something about another address
	}
	x.towards.Store(&t)
}

// smsc is how the SMSC is connected to by now.
func (x *Proxy) smsc() Towards {
	if t := x.towards.Load(); t != nil {
		return *t
	}
	return Towards{Addr: x.Upstream, TLS: x.SMPP.TLS, Local: x.SMPP.Local, ProxyHeader: x.ProxyHeader}
}

// Account is what a Proxy holds binds of a system_id to.
type Account struct {
	Allow    []netip.Prefix // sources it may bind from; empty: any
	MaxBinds int            // binds it may have at a time; 0: any number
	Outbind  *Outbind       // how to ask it for a bind; nil: it cannot be asked
}

// An Opener is a connection with something in front of its first PDU, such as
// the header of a balancer. Open reads that within the deadline and gives what
// is behind it, whose RemoteAddr is the client's.
type Opener interface {
	Open(deadline time.Time) (net.Conn, error)
}

// prepare makes what the limits need, once.
func (x *Proxy) prepare() {
	x.once.Do(func() {
		x.gate = newGate(x.Limits, &x.Counters)
		x.gate.blocked = func(p netip.Prefix, d time.Duration) {
			x.Log.Warn("too many failed binds: binds from this source are refused", "source", p.String(), "for", d)
		}
		x.gate.freed = func(p netip.Prefix) {
			x.Log.Info("binds from this source are taken again", "source", p.String())
		}
		if x.Limits.Dials > 0 {
			x.dials = make(chan struct{}, x.Limits.Dials)
		}
		x.up, x.outbinding = make(map[string]int), make(map[string]bool)
	})
}

// SetLimits replaces the Limits, but for Dials. Sessions stay up.
func (x *Proxy) SetLimits(l Limits) {
	x.prepare()
	x.gate.set(l)
}

// Drain has every new bind refused with ESME_RBINDFAIL, or none. Binds that are
// up stay.
func (x *Proxy) Drain(on bool) { x.draining.Store(on) }

// Serve accepts on l until ctx is done or l fails. It closes l. Sessions that
// are up stay up: see Close.
func (x *Proxy) Serve(ctx context.Context, l net.Listener) error {
	x.prepare()
	x.wg.Add(1) // Close waits for it: nothing is accepted behind its back
	defer x.wg.Done()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for wait := 5 * time.Millisecond; ; {
		conn, err := l.Accept()
		switch {
		case err == nil:
			wait = 5 * time.Millisecond
			x.take(ctx, conn)
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		default: // out of file descriptors, or the peer is gone already
			x.Log.Warn("accept failed, will go on", "listen", l.Addr().String(), "error", err)
			if !sleep(ctx, wait) {
				return nil
			}
			wait = min(2*wait, time.Second)
		}
	}
}

// sleep waits for d; false when ctx was done first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Close unbinds every session, both sides, and returns when all have ended. The
// context of every Serve has to be done before.
func (x *Proxy) Close(timeout time.Duration) {
	for _, b := range x.Hub.Binds() {
		x.wg.Go(func() { b.unbind(timeout) })
	}
	x.wg.Wait()
	if x.gate != nil {
		x.gate.close()
	}
}

// take admits a connection; a surplus one costs no more than its closing. Of
// one from a balancer the source is known only behind its header.
func (x *Proxy) take(ctx context.Context, conn net.Conn) {
	var from netip.Prefix
	if _, later := conn.(Opener); !later {
		from = sourceOf(conn.RemoteAddr())
	}
	now := time.Now()
	w, ok := x.gate.enter(from, now, func() { _ = conn.Close() })
	if !ok {
		x.surplus(conn, now)
		return
	}
	x.wg.Go(func() {
		defer w.leave()
		x.serveConn(ctx, conn, w, now.Add(x.SessionInit))
	})
}

// surplus closes a connection that is over a limit. A flood is not worth a line
// a connection.
func (x *Proxy) surplus(conn net.Conn, now time.Time) {
	const every = 10 // seconds
	if last := x.surplusLogged.Load(); now.Unix()-last >= every && x.surplusLogged.CompareAndSwap(last, now.Unix()) {
		x.Log.Warn("connections over the limits are closed", "last_peer", conn.RemoteAddr().String(),
			"too_fast", x.Counters.ConnectsRefused.Load(), "too_many_unbound", x.Counters.UnboundRefused.Load())
	}
	_ = conn.Close()
}

// serveConn serves an admitted connection to its end.
func (x *Proxy) serveConn(ctx context.Context, conn net.Conn, w *waiting, deadline time.Time) {
	o, later := conn.(Opener)
	if !later {
		x.serveSession(ctx, conn, &entry{x: x, w: w, deadline: deadline})
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	opened, err := o.Open(deadline)
	stop()
	if err != nil {
		if !errors.Is(err, io.EOF) && ctx.Err() == nil {
			x.Counters.HeadersRefused.Add(1)
			x.Log.Warn("connection from a balancer refused", "peer", conn.RemoteAddr().String(), "error", err)
		}
		_ = conn.Close()
		return
	}
	if now := time.Now(); !w.identify(sourceOf(opened.RemoteAddr()), now) {
		x.surplus(opened, now)
		return
	}
	x.serveSession(ctx, opened, &entry{x: x, w: w, deadline: deadline})
}

// serveSession brings a connection to a bind and serves that.
func (x *Proxy) serveSession(ctx context.Context, conn net.Conn, e *entry) {
	towards := x.SMPP
	towards.Answered = nil // of what the SMSC answers alone
	down := smpp.NewSession(conn, towards)
	e.down, e.peer = down, addrOf(conn.RemoteAddr())
	stop := context.AfterFunc(ctx, func() {
		if !e.adopted.Load() && !x.Hub.bound(down) {
			down.Close(context.Canceled)
		}
	})
	defer stop()
	b, err := e.handshake(ctx)
	if err != nil {
		down.Finish()
		<-down.Done()
		if e.w.gone() {
			err = errEvicted
		}
		if !errors.Is(err, io.EOF) {
			x.Log.Info("no bind", "peer", conn.RemoteAddr().String(), "error", err)
		}
		return
	}
	defer x.unreserve(e.systemID)
	x.Hub.add(b)
	if e.bound != nil {
		e.bound()
	}
	if ctx.Err() != nil { // bound while Close was already under way
		x.wg.Go(func() { b.unbind(time.Second) })
	}
	x.Log.Info("bound", "session", b.ID, "esme", b.Account.SystemID, "peer", b.Peer(), "bind", b.Type.String(), "version", fmt.Sprintf("0x%02X", b.Version))
	b.relay()
	x.Hub.remove(b)
	x.Log.Info("unbound", "esme", b.Account.SystemID, "peer", b.Peer(), "reason", *b.lastErr.Load())
}

// dialTimeout bounds the connection to the SMSC, and bindTimeout its answer to a
// bind where the configuration does not: an ESME waits behind them.
const (
	dialTimeout = 10 * time.Second
	bindTimeout = 60 * time.Second
)

// turn waits for the turn to connect to the SMSC, in order of arrival.
func (x *Proxy) turn(ctx context.Context, deadline time.Time) error {
	if x.dials == nil {
		return nil
	}
	select {
	case x.dials <- struct{}{}:
		return nil
	default:
	}
	t := time.NewTimer(time.Until(deadline))
	defer t.Stop()
	select {
	case x.dials <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		x.Counters.DialsRefused.Add(1)
		return errNoTurn
	}
}

var errNoTurn = errors.New("too many connections to it are being made: no turn in time")

// dial connects to the SMSC, to, in turn, from the address that the account has
// there; source is the ESME's address.
func (x *Proxy) dial(ctx context.Context, to Towards, systemID string, source net.Addr, deadline time.Time) (*smpp.Session, error) {
	if err := x.turn(ctx, deadline); err != nil {
		return nil, err
	}
	if x.dials != nil {
		defer func() { <-x.dials }()
	}
	local := to.Local
	if x.Local != nil {
		if a := x.Local(systemID); a.IsValid() {
			local = a
		}
	}
	var header *smpp.ProxyHeader
	if to.ProxyHeader {
		header = &smpp.ProxyHeader{Source: source}
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := smpp.Connect(ctx, to.Addr, local, to.TLS, header)
	x.reached(to, err)
	if err != nil {
		return nil, err
	}
	cfg := x.SMPP
	cfg.Inactivity = 0 // the ESME's counts: it ends both
	return smpp.NewSession(conn, cfg), nil
}

// reached notes how a connection to the SMSC went, if it is still that one.
func (x *Proxy) reached(to Towards, err error) {
	switch {
	case errors.Is(err, context.Canceled): // an ESME that left, or a stop
	case x.smsc().Addr != to.Addr:
	case err != nil:
		x.unreachable.Store(&Unreachable{time.Now(), err})
	default:
		x.unreachable.Store(nil)
	}
}

// Probe connects to the SMSC and hangs up, unless a bind there, of an ESME's or
// one of own (which may be nil), shows that it can be reached. A connection that
// failed is not believed for longer than until the next probe.
func (x *Proxy) Probe(ctx context.Context, own *Own) {
	to := x.smsc()
	if x.unreachable.Load() == nil && (x.boundTo(to.Addr) || own != nil && own.boundTo(to.Addr)) {
		return
	}
	var header *smpp.ProxyHeader
	if to.ProxyHeader {
		header = &smpp.ProxyHeader{} // LOCAL: it is nobody's but ours
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := smpp.Connect(ctx, to.Addr, to.Local, to.TLS, header)
	x.reached(to, err)
	if err == nil {
		_ = conn.Close()
	}
}

func (x *Proxy) boundTo(addr string) bool {
	return slices.ContainsFunc(x.Hub.Binds(), func(b *Bind) bool { return b.smsc == addr })
}

// Unreachable is how the last connection to the SMSC failed.
type Unreachable struct {
	At  time.Time
	Err error
}

// Unreachable is nil unless the last connection to the SMSC failed.
func (x *Proxy) Unreachable() *Unreachable { return x.unreachable.Load() }

// exchange sends the bind as it came and reads to its answer.
func (x *Proxy) exchange(up *smpp.Session, p pdu.PDU) (pdu.PDU, error) {
	want := p.ID().Response()
	if err := up.Send(p); err != nil {
		return nil, err
	}
	up.Flush()
	for deadline := time.Now().Add(cmp.Or(x.SMPP.Response, bindTimeout)); ; {
		resp, err := up.ReadPDU(time.Until(deadline))
		if err != nil {
			return nil, fmt.Errorf("no answer to the bind: %w", err)
		}
		switch resp.ID() {
		case want, pdu.GenericNack:
			return resp, nil
		case pdu.EnquireLink:
			_ = up.Send(pdu.AppendHeader(nil, pdu.EnquireLinkResp, pdu.ROK, resp.Seq()))
			up.Flush()
		}
	}
}
