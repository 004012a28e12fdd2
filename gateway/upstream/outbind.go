package upstream

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
)

// Outbind is how an ESME is asked for a bind: Shunt connects to it and sends
// outbind (SMPP v3.4 §2.2.1, §4.1.7), and the ESME binds on that connection.
type Outbind struct {
	Addr     string // host:port
	TLS      *tls.Config
	SystemID string // Shunt's, for the ESME to know us by
	Password string
}

// OutbindPeer is an SMSC that may connect to Shunt and send outbind. What it
// says must be right in all: address, system_id and password.
type OutbindPeer struct {
	Allow    []netip.Prefix
	SystemID string
	Password string
	Own      *Own // takes the session
}

// SetOutbinds replaces the Outbinds. Sessions that are up stay.
func (x *Proxy) SetOutbinds(all []OutbindPeer) { x.outbinds.Store(&all) }

func (x *Proxy) outbindPeers() []OutbindPeer {
	if all := x.outbinds.Load(); all != nil {
		return *all
	}
	return x.Outbinds
}

var errUnknownOutbind = errors.New("outbind from nobody whom the configuration knows")

// takeOutbind answers an SMSC's outbind with a bind_receiver of Shunt's own,
// and serves the session to its end. The error is why there is none: what did
// not match is not told apart, not even by the time it takes.
func (e *entry) takeOutbind(ctx context.Context, p pdu.PDU) error {
	if e.w.isBlocked(time.Now()) {
		e.x.Counters.BindsBlocked.Add(1)
		return errBlocked
	}
	var said pdu.OutbindBody
	err := said.Decode(p)
	var own *Own
	for _, o := range e.x.outbindPeers() {
		known := slices.ContainsFunc(o.Allow, func(n netip.Prefix) bool { return n.Contains(e.peer) })
		right := equal(said.SystemID, o.SystemID) & equal(said.Password, o.Password)
		if known && right == 1 && err == nil {
			own = o.Own
		}
	}
	if own == nil {
		e.x.Counters.OutbindsRefused.Add(1)
		e.w.failed(time.Now())
		if err == nil {
			err = errUnknownOutbind
		}
		return err
	}
	e.x.Counters.OutbindsTaken.Add(1)
	e.w.asks(true)
	e.adopted.Store(true)
	return own.adopt(ctx, e.down, func() {
		e.w.succeeded()
		e.w.leave()
	})
}

// equal is 1 for equal strings, in a time that does not depend on where they
// differ.
func equal(a []byte, b string) int {
	x, y := sha256.Sum256(a), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:])
}

// adopt binds as a receiver on a session that an SMSC has opened, and serves it
// until it ends or ctx is done.
func (w *Own) adopt(ctx context.Context, s *smpp.Session, bound func()) error {
	const id = pdu.BindReceiver
	o, _ := w.options()
	if _, err := s.Bind(ctx, id, o.Bind); err != nil {
		return fmt.Errorf("after outbind of SMSC %s: %w", w.smsc, err)
	}
	bound()
	w.log.Info("own bind is up", "smsc", w.smsc, "bind", id.String(), "outbind", true, "peer", s.RemoteAddr().String())
	err := w.serve(ctx, ctx, o, id, s)
	w.log.Info("own bind is down", "smsc", w.smsc, "bind", id.String(), "outbind", true, "error", err)
	return err
}

// ErrNoOutbind says that an account has no outbind in the configuration.
var ErrNoOutbind = errors.New("the account has no outbind")

// Outbind has an account's ESME bind for what waits for it: it connects to the
// ESME, sends outbind, and serves the bind_receiver or bind_transceiver that
// comes on that connection as any other bind, with an upstream bind of its own.
// It tries again, with longer and longer pauses, and returns nil once a bind
// that receives is up: the one that it asked for or, of the same system_id,
// any other. While a call for a system_id is under way, others for it return
// nil at once. Any goroutine may call it; ctx has to end with that of Serve,
// before Close.
func (x *Proxy) Outbind(ctx context.Context, a msg.Account) error {
	o := x.account(a.SystemID).Outbind
	if o == nil {
		return fmt.Errorf("outbind to %q: %w", a.SystemID, ErrNoOutbind)
	}
	x.prepare()
	x.wg.Add(1)
	defer x.wg.Done()
	if !x.startOutbind(a.SystemID) {
		return nil
	}
	defer x.endOutbind(a.SystemID)
	var pause backoff
	for ctx.Err() == nil && !x.receives(a.SystemID) {
		err := x.outbind(ctx, o)
		if err == nil || ctx.Err() != nil {
			break
		}
		wait := pause.next(0)
		x.Log.Warn("no bind after outbind", "esme", a.SystemID, "peer", o.Addr, "error", err, "retry_in", wait.Round(time.Millisecond))
		sleep(ctx, wait)
	}
	return ctx.Err()
}

func (x *Proxy) startOutbind(systemID string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.outbinding[systemID] {
		return false
	}
	x.outbinding[systemID] = true
	return true
}

func (x *Proxy) endOutbind(systemID string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.outbinding, systemID)
}

// receives tells whether a bind of that system_id that takes deliver_sm is up.
func (x *Proxy) receives(systemID string) bool {
	return slices.ContainsFunc(x.Hub.Binds(), func(b *Bind) bool {
		return b.Account.SystemID == systemID && b.Receives()
	})
}

// outbind makes one attempt: it returns nil once the ESME is bound, or why it
// is not. The session is served on.
func (x *Proxy) outbind(ctx context.Context, o *Outbind) error {
	dialling, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := smpp.Connect(dialling, o.Addr, netip.Addr{}, o.TLS, nil)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(dialTimeout)); err != nil {
		_ = conn.Close()
		return err
	}
	body := pdu.OutbindBody{SystemID: []byte(o.SystemID), Password: []byte(o.Password)}
	if _, err := conn.Write(body.Append(nil, 1)); err != nil {
		_ = conn.Close()
		return err
	}
	_ = conn.SetWriteDeadline(time.Time{})
	bound, ended := make(chan struct{}), make(chan struct{})
	e := &entry{x: x, deadline: time.Now().Add(x.SessionInit), outbound: true, bound: func() { close(bound) }}
	x.wg.Go(func() {
		defer close(ended)
		x.serveSession(ctx, conn, e)
	})
	select {
	case <-bound:
		return nil
	case <-ended:
		select {
		case <-bound: // and ended since
			return nil
		default:
			return errNotBound
		}
	}
}

var errNotBound = errors.New("the ESME has not bound on the connection")
