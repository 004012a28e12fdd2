package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
)

// Proxy takes ESMEs' connections and makes a Bind of each.
type Proxy struct {
	Upstream    string                           // the SMSC's host:port
	SessionInit time.Duration                    // from the connection to the bind, §7.2 session_init_timer
	SMPP        smpp.Config                      // of both sides; its TLS and Local are towards the SMSC
	Local       func(systemID string) netip.Addr // an account's own source address towards the SMSC; may be nil
	Decider     Decider
	Hub         *Hub
	Log         *slog.Logger

	wg sync.WaitGroup
}

// Serve accepts on l until ctx is done or l fails. It closes l. Sessions that
// are up stay up: see Close.
func (x *Proxy) Serve(ctx context.Context, l net.Listener) error {
	x.wg.Add(1) // Close waits for it: nothing is accepted behind its back
	defer x.wg.Done()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for wait := 5 * time.Millisecond; ; {
		conn, err := l.Accept()
		switch {
		case err == nil:
			wait = 5 * time.Millisecond
			x.wg.Go(func() { x.serveConn(ctx, conn) })
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
}

func (x *Proxy) serveConn(ctx context.Context, conn net.Conn) {
	down := smpp.NewSession(conn, x.SMPP)
	stop := context.AfterFunc(ctx, func() {
		if !x.Hub.bound(down) {
			down.Close(context.Canceled)
		}
	})
	defer stop()
	b, err := x.handshake(ctx, down)
	if err != nil {
		down.Finish()
		<-down.Done()
		if !errors.Is(err, io.EOF) {
			x.Log.Info("no bind", "peer", conn.RemoteAddr().String(), "error", err)
		}
		return
	}
	x.Hub.add(b)
	if ctx.Err() != nil { // bound while Close was already under way
		x.wg.Go(func() { b.unbind(time.Second) })
	}
	x.Log.Info("bound", "esme", b.Account.SystemID, "peer", b.Peer(), "bind", b.Type.String(), "version", fmt.Sprintf("0x%02X", b.Version))
	b.relay()
	x.Hub.remove(b)
	x.Log.Info("unbound", "esme", b.Account.SystemID, "peer", b.Peer(), "reason", *b.lastErr.Load())
}

// handshake reads until a bind that the SMSC accepts, or until the ESME has
// used up its time, which nothing but a bind prolongs. A refused ESME may try
// again, as far as its SMSC lets it.
func (x *Proxy) handshake(ctx context.Context, down *smpp.Session) (*Bind, error) {
	for deadline := time.Now().Add(x.SessionInit); ; {
		p, err := down.ReadPDU(time.Until(deadline))
		if err != nil {
			return nil, fmt.Errorf("waiting for a bind: %w", err)
		}
		switch id := p.ID(); {
		case id.IsBind():
			b, status, err := x.bind(ctx, down, p)
			if err != nil {
				return nil, err
			}
			if b != nil {
				return b, nil
			}
			x.Log.Info("bind refused by the SMSC", "peer", down.RemoteAddr().String(), "status", status.String())
			deadline = time.Now().Add(x.SessionInit)
		case id == pdu.EnquireLink:
			_ = down.Send(pdu.AppendHeader(nil, pdu.EnquireLinkResp, pdu.ROK, p.Seq()))
		case id == pdu.Unbind:
			_ = down.Send(pdu.AppendHeader(nil, pdu.UnbindResp, pdu.ROK, p.Seq()))
			return nil, io.EOF
		case id.Answered(): // not in this state (§2.3)
			_ = down.Send(pdu.AppendHeader(nil, id.Response(), pdu.RINVBNDSTS, p.Seq()))
		}
		down.Flush()
	}
}

// bind makes the upstream bind for p and passes its answer on. b is nil when
// the SMSC refused.
func (x *Proxy) bind(ctx context.Context, down *smpp.Session, p pdu.PDU) (b *Bind, status pdu.Status, err error) {
	id, seq := p.ID(), p.Seq()
	var req pdu.Bind
	decodeErr := req.Decode(p) // the SMSC judges it; without a system_id nothing is diverted
	up, err := x.dial(ctx, req.SystemID)
	if err != nil {
		_ = down.Send(pdu.AppendHeader(nil, id.Response(), pdu.RBINDFAIL, seq))
		down.Flush()
		return nil, 0, fmt.Errorf("SMSC %s: %w", x.Upstream, err)
	}
	stop := context.AfterFunc(ctx, func() { up.Close(context.Canceled) }) // a stop does not wait for a slow SMSC
	resp, err := x.exchange(up, p)
	stop()
	if err != nil {
		up.Close(err)
		_ = down.Send(pdu.AppendHeader(nil, id.Response(), pdu.RBINDFAIL, seq))
		down.Flush()
		return nil, 0, fmt.Errorf("SMSC %s: %w", x.Upstream, err)
	}
	status = resp.Status()
	refused := status != pdu.ROK || resp.ID() != id.Response()
	_ = down.Send(resp)
	down.Flush()
	if refused {
		up.Close(smpp.ErrUnbound)
		return nil, status, nil
	}
	up.SetSequence(seq)
	b = &Bind{
		Type: id, Version: req.InterfaceVersion, Since: time.Now(), down: down, up: up, decider: x.Decider,
		Account: msg.Account{SystemID: req.SystemID, SystemType: req.SystemType, AddressRange: req.AddressRange},
	}
	if decodeErr != nil {
		b.Account = msg.Account{}
	}
	return b, status, nil
}

// dialTimeout bounds the connection to the SMSC, and bindTimeout its answer to a
// bind where the configuration does not: an ESME waits behind them.
const (
	dialTimeout = 10 * time.Second
	bindTimeout = 60 * time.Second
)

// dial connects to the SMSC from the address that the account has there.
func (x *Proxy) dial(ctx context.Context, systemID string) (*smpp.Session, error) {
	local := x.SMPP.Local
	if x.Local != nil {
		if a := x.Local(systemID); a.IsValid() {
			local = a
		}
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := smpp.Connect(ctx, x.Upstream, local, x.SMPP.TLS)
	if err != nil {
		return nil, err
	}
	return smpp.NewSession(conn, x.SMPP), nil
}

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
