package smpp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pires/go-proxyproto"

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

// ProxyHeader is a PROXY protocol v2 header, with which a connection begins.
type ProxyHeader struct {
	Source net.Addr // whom it is for; nil: for nobody but ourselves (LOCAL)
}

// write writes the header to conn, whose peer is the destination in it.
func (h *ProxyHeader) write(ctx context.Context, conn net.Conn) error {
	p := &proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}
	if h.Source != nil {
		p = proxyproto.HeaderProxyFromAddrs(2, h.Source, conn.RemoteAddr())
	}
	deadline, _ := ctx.Deadline() // none: the zero Time, which is none as well
	if err := conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	if _, err := p.WriteTo(conn); err != nil {
		return err
	}
	return conn.SetWriteDeadline(time.Time{})
}

// Connect connects to addr within ctx: from the address local where that is an
// address, with a PROXY header where h is not nil, and, behind that, with TLS
// where t is not nil.
func Connect(ctx context.Context, addr string, local netip.Addr, t *tls.Config, h *ProxyHeader) (net.Conn, error) {
	var d net.Dialer
	if local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0))
	}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if h != nil {
		if err := h.write(ctx, conn); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("PROXY header to %s: %w", addr, err)
		}
	}
	if t == nil {
		return conn, nil
	}
	secure := tls.Client(conn, t)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS with %s: %w", addr, err)
	}
	return secure, nil
}

// DialProxy connects to addr, as cfg.Local and cfg.TLS say, with a PROXY header
// where h is not nil, and binds, both within ctx and cfg.Response. The
// session's reader is not started: the caller runs Serve.
func DialProxy(ctx context.Context, addr string, h *ProxyHeader, id pdu.ID, b pdu.Bind, cfg Config) (*Session, pdu.BindResp, error) {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, cfg.Response)
	defer cancel()
	conn, err := Connect(ctx, addr, cfg.Local, cfg.TLS, h)
	if err != nil {
		return nil, pdu.BindResp{}, err
	}
	s := NewSession(conn, cfg)
	resp, err := s.Bind(ctx, id, b)
	if err != nil {
		return nil, resp, err
	}
	return s, resp, nil
}

// Dial is DialProxy without a header.
func Dial(ctx context.Context, addr string, id pdu.ID, b pdu.Bind, cfg Config) (*Session, pdu.BindResp, error) {
	return DialProxy(ctx, addr, nil, id, b, cfg)
}

// Bind binds on a session whose reader is not started, within ctx and the
// response time. On an error the session is closed.
func (s *Session) Bind(ctx context.Context, id pdu.ID, b pdu.Bind) (pdu.BindResp, error) {
	stop := context.AfterFunc(ctx, func() { s.Close(ctx.Err()) })
	defer stop()
	resp, err := s.bind(id, b)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		s.Close(err)
	}
	return resp, err
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
	case errors.Is(err, ErrWindowFull):
		s.ask(pdu.Unbind)
	case err != nil:
		timer.Stop()
		s.Close(ErrUnbound)
	}
}
