package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
)

// entry is a connection on its way to a bind. It belongs to the goroutine that
// reads it.
type entry struct {
	x        *Proxy
	down     *smpp.Session
	peer     netip.Addr // the client's
	w        *waiting   // nil: we made the connection, and limit nothing
	deadline time.Time  // for the next bind
	outbound bool       // we connected and sent outbind: only a bind that receives is wanted
	bound    func()     // if set, told of the bind once the Hub has it
	systemID string     // of the bind

	adopted atomic.Bool // an Own has the session, and ends it
}

var (
	errEvicted = errors.New("too many connections that are not bound: the oldest were closed")
	errBlocked = errors.New("too many failed binds from this source")
	errRefused = errors.New("refused") // here, with an answer: the ESME may try again
)

// handshake reads until a bind that the SMSC accepts, or until the ESME has
// used up its time, which nothing but a bind that the SMSC has judged prolongs.
// A refused ESME may try again, as far as its SMSC and the limits let it.
func (e *entry) handshake(ctx context.Context) (*Bind, error) {
	for down := e.down; ; {
		p, err := down.ReadPDU(time.Until(e.deadline))
		if err != nil {
			return nil, fmt.Errorf("waiting for a bind: %w", err)
		}
		switch id := p.ID(); {
		case id.IsBind():
			b, err := e.bind(ctx, p)
			if b != nil || err != nil && !errors.Is(err, errRefused) {
				return b, err
			}
		case id == pdu.EnquireLink:
			_ = down.Send(pdu.AppendHeader(nil, pdu.EnquireLinkResp, pdu.ROK, p.Seq()))
		case id == pdu.Unbind:
			_ = down.Send(pdu.AppendHeader(nil, pdu.UnbindResp, pdu.ROK, p.Seq()))
			return nil, io.EOF
		case id == pdu.Outbind && !e.outbound:
			return nil, e.takeOutbind(ctx, p)
		case id.Answered(): // not in this state (§2.3)
			_ = down.Send(pdu.AppendHeader(nil, id.Response(), pdu.RINVBNDSTS, p.Seq()))
		}
		down.Flush()
	}
}

// bind makes the upstream bind for p and passes its answer on. The error is
// errRefused where the ESME has had a refusal and may try again.
func (e *entry) bind(ctx context.Context, p pdu.PDU) (*Bind, error) {
	var req pdu.Bind
	decodeErr := req.Decode(p) // the SMSC judges it; without a system_id nothing is diverted
	account := e.x.account(req.SystemID)
	if err := e.admit(p, req.SystemID, account); err != nil {
		return nil, err
	}
	e.w.asks(true)
	defer e.w.asks(false)
	to := e.x.smsc()
	up, resp, err := e.ask(ctx, p, req.SystemID, to)
	if err != nil {
		e.refuse(p, pdu.RBINDFAIL)
		return nil, fmt.Errorf("SMSC %s: %w", to.Addr, err)
	}
	if status := resp.Status(); status != pdu.ROK || resp.ID() != p.ID().Response() {
		if isGuess(status) {
			e.w.failed(time.Now())
		}
		_ = e.down.Send(resp)
		up.Close(smpp.ErrUnbound)
		e.x.Log.Info("bind refused by the SMSC", "peer", e.down.RemoteAddr().String(), "status", status.String())
		e.deadline = time.Now().Add(e.x.SessionInit)
		return nil, errRefused
	}
	if !e.x.reserve(req.SystemID, account.MaxBinds) { // somebody else's was answered first
		_ = up.Send(pdu.AppendHeader(nil, pdu.Unbind, pdu.ROK, nextSeq(p.Seq())))
		up.Finish()
		return nil, e.tooMany(p, req.SystemID, account)
	}
	e.systemID = req.SystemID
	e.w.succeeded()
	e.w.leave()
	_ = e.down.Send(resp)
	e.down.Flush()
	up.SetSequence(p.Seq())
	b := &Bind{
		ID: e.x.bound.Add(1), Type: p.ID(), Version: req.InterfaceVersion, Since: time.Now(), smsc: to.Addr, down: e.down, up: up, decider: e.x.Decider, tap: e.x.Tap,
		Account: msg.Account{SystemID: req.SystemID, SystemType: req.SystemType, AddressRange: req.AddressRange},
	}
	if decodeErr != nil {
		b.Account = msg.Account{}
	}
	return b, nil
}

// admit refuses what the SMSC is not even asked.
func (e *entry) admit(p pdu.PDU, systemID string, a Account) error {
	now := time.Now()
	switch {
	case e.x.draining.Load():
		e.x.Counters.Drained.Add(1)
		e.refuse(p, pdu.RBINDFAIL) // §5.1.3; the session stays, it may ask again
		return errRefused
	case e.w.isBlocked(now):
		e.x.Counters.BindsBlocked.Add(1)
		e.refuse(p, pdu.RBINDFAIL)
		return errBlocked
	case len(a.Allow) > 0 && !slices.ContainsFunc(a.Allow, func(n netip.Prefix) bool { return n.Contains(e.peer) }):
		e.x.Counters.NotAllowed.Add(1)
		e.w.failed(now)
		e.x.Log.Warn("bind refused: the account does not allow this source", "esme", systemID, "peer", e.down.RemoteAddr().String())
		e.refuse(p, pdu.RBINDFAIL)
		return errRefused
	case e.outbound && p.ID() == pdu.BindTransmitter: // outbind asks for a receiver (§4.1.7)
		e.refuse(p, pdu.RINVBNDSTS)
		return errRefused
	case a.MaxBinds > 0 && e.x.binds(systemID) >= a.MaxBinds:
		return e.tooMany(p, systemID, a)
	}
	return nil
}

// tooMany answers ESME_RALYBND, "ESME already in bound state" (§5.1.3): peers
// take it for a matter of time and bind again later, and not, as they would
// ESME_RBINDFAIL, for one of credentials.
func (e *entry) tooMany(p pdu.PDU, systemID string, a Account) error {
	e.x.Counters.TooManyBinds.Add(1)
	e.x.Log.Warn("bind refused: the account has all the binds that it may have", "esme", systemID, "peer", e.down.RemoteAddr().String(), "max_binds", a.MaxBinds)
	e.refuse(p, pdu.RALYBND)
	return errRefused
}

func (e *entry) refuse(p pdu.PDU, s pdu.Status) {
	_ = e.down.Send(pdu.AppendHeader(nil, p.ID().Response(), s, p.Seq()))
	e.down.Flush()
}

// ask makes the upstream connection and has the SMSC judge the bind.
func (e *entry) ask(ctx context.Context, p pdu.PDU, systemID string, to Towards) (*smpp.Session, pdu.PDU, error) {
	up, err := e.x.dial(ctx, to, systemID, e.down.RemoteAddr(), e.deadline)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { up.Close(context.Canceled) }) // a stop does not wait for a slow SMSC
	defer stop()
	resp, err := e.x.exchange(up, p)
	if err != nil {
		up.Close(err)
		return nil, nil, err
	}
	return up, resp, nil
}

// nextSeq is the sequence_number after n (§3.2).
func nextSeq(n uint32) uint32 { return n%pdu.MaxSequence + 1 }

// gone tells whether w was closed to make room.
func (w *waiting) gone() bool { return w != nil && w.evicted.Load() }

// account is what holds for binds of a system_id.
func (x *Proxy) account(systemID string) Account {
	if x.Account == nil {
		return Account{}
	}
	return x.Account(systemID)
}

// binds is the number of binds of a system_id that are up.
func (x *Proxy) binds(systemID string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.up[systemID]
}

// reserve counts a bind that the SMSC has accepted, unless there are most
// already. Binds that are only asked for take no room: whoever knows no
// password could take it all.
func (x *Proxy) reserve(systemID string, most int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if most > 0 && x.up[systemID] >= most {
		return false
	}
	x.up[systemID]++
	return true
}

func (x *Proxy) unreserve(systemID string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.up[systemID]--; x.up[systemID] == 0 {
		delete(x.up, systemID)
	}
}
