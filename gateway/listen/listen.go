// Package listen opens the addresses that peers connect to: with TLS, behind
// balancers that speak the PROXY protocol, and on sockets that the service
// manager keeps open over a restart.
package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Options describe one listener.
type Options struct {
	Addr      string         // host:port
	TLS       *tls.Config    // nil: none
	ProxyFrom []netip.Prefix // balancers, whose connections begin with a PROXY protocol v2 header; empty: nobody's do
	ReusePort bool           // SO_REUSEPORT: several processes share the address
}

// Listener accepts connections; any goroutine may use it.
//
// Accept never waits for a peer: a TLS handshake is part of a connection's
// first read, and a connection from a balancer comes as a *Conn, whose header
// is read by Open.
type Listener struct {
	net.Listener
	o   Options
	tls atomic.Pointer[tls.Config] // of connections that are accepted from now on
}

// New is a listener on a socket that is open already, whatever o.Addr is.
func New(l net.Listener, o Options) *Listener {
	n := &Listener{Listener: l, o: o}
	n.SetTLS(o.TLS)
	return n
}

// SetTLS has connections that are accepted from now on use c; nil: no TLS. Those
// that are up stay as they are.
func (l *Listener) SetTLS(c *tls.Config) { l.tls.Store(c) }

// listen opens a socket of this process's own.
func listen(o Options) (net.Listener, error) {
	var c net.ListenConfig
	if o.ReusePort {
		c.Control = reusePort
	}
	l, err := c.Listen(context.Background(), "tcp", o.Addr)
	if err != nil {
		return nil, reason(err)
	}
	return l, nil
}

func reusePort(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}); e != nil {
		return e
	}
	return err
}

// reason is the cause without the address, which the caller names.
func reason(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// Accept waits for the next connection.
func (l *Listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok && l.fromBalancer(conn.RemoteAddr()) {
		return &Conn{TCPConn: tcp, tls: l.tls.Load()}, nil
	}
	return secure(conn, l.tls.Load()), nil
}

// secure is conn with TLS where t is not nil.
func secure(conn net.Conn, t *tls.Config) net.Conn {
	if t == nil {
		return conn
	}
	return tls.Server(conn, t)
}

func (l *Listener) fromBalancer(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || len(l.o.ProxyFrom) == 0 {
		return false
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("") // ::ffff:192.0.2.1 is what a socket of both families shows
	return slices.ContainsFunc(l.o.ProxyFrom, func(p netip.Prefix) bool { return p.Contains(ip) })
}
