package smpp

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"time"

	"shunt/smpp/pdu"
)

// A BindError is a bind that the SMSC refused, or answered with something that
// is no bind response.
type BindError struct {
	SystemID string
	Status   pdu.Status
}

func (e *BindError) Error() string {
	return fmt.Sprintf("bind as %q refused: %s", e.SystemID, e.Status)
}

// Connect connects to addr within ctx: from the address local where that is an
// address, and with TLS where t is not nil.
func Connect(ctx context.Context, addr string, local netip.Addr, t *tls.Config) (net.Conn, error) {
	var d net.Dialer
	if local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil || t == nil {
		return conn, err
	}
	secure := tls.Client(conn, t)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS with %s: %w", addr, err)
	}
	return secure, nil
}

// Dial connects to addr, as cfg.Local and cfg.TLS say, and binds, both within
// ctx and cfg.Response. The session's reader is not started: the caller runs
// Serve.
func Dial(ctx context.Context, addr string, id pdu.ID, b pdu.Bind, cfg Config) (*Session, pdu.BindResp, error) {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, cfg.Response)
	defer cancel()
	conn, err := Connect(ctx, addr, cfg.Local, cfg.TLS)
	if err != nil {
		return nil, pdu.BindResp{}, err
	}
	s := NewSession(conn, cfg)
	stop := context.AfterFunc(ctx, func() { s.Close(ctx.Err()) })
	defer stop()
	resp, err := s.bind(id, b)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		s.Close(err)
		return nil, resp, err
	}
	return s, resp, nil
}

// bind sends a bind request under sequence_number 1 and reads until its answer.
func (s *Session) bind(id pdu.ID, b pdu.Bind) (resp pdu.BindResp, err error) {
	const seq = 1
	if err := s.Send(b.Append(nil, id, seq)); err != nil {
		return resp, err
	}
	s.SetSequence(seq)
	s.Flush()
	deadline := time.Now().Add(s.cfg.Response)
	for {
		p, err := s.ReadPDU(time.Until(deadline))
		if err != nil {
			return resp, fmt.Errorf("bind as %q: no answer: %w", b.SystemID, err)
		}
		switch {
		case p.ID() == pdu.EnquireLink:
			_ = s.Send(pdu.AppendHeader(nil, pdu.EnquireLinkResp, pdu.ROK, p.Seq()))
			s.Flush()
		case p.ID() == id.Response() || p.ID() == pdu.GenericNack:
			if p.Status() != pdu.ROK || p.ID() == pdu.GenericNack {
				return resp, &BindError{SystemID: b.SystemID, Status: p.Status()}
			}
			return resp, resp.Decode(p)
		}
	}
}

// Unbind asks the peer to end the session (§4.2) and closes it when the answer
// is there, or at the latest after timeout.
func (s *Session) Unbind(timeout time.Duration) {
	timer := time.AfterFunc(timeout, func() { s.Close(ErrUnbound) })
	err := s.Call(pdu.AppendHeader(nil, pdu.Unbind, pdu.ROK, 0), func(pdu.PDU, error) {
		timer.Stop()
		s.Finish()
	})
	switch {
	case err == ErrWindowFull:
		s.ask(pdu.Unbind)
	case err != nil:
		timer.Stop()
		s.Close(ErrUnbound)
	}
}
