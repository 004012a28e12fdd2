package listen

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/pires/go-proxyproto"
)

// Conn is a connection from a balancer, before its PROXY header is read. Until
// then its peer is the balancer.
type Conn struct {
	*net.TCPConn
	tls *tls.Config
}

// A HeaderError is a connection from a balancer that does not begin with a
// sound PROXY protocol v2 header.
type HeaderError struct {
	Balancer net.Addr
	Err      error
}

func (e *HeaderError) Error() string {
	return fmt.Sprintf("PROXY header from %s: %v", e.Balancer, e.Err)
}

func (e *HeaderError) Unwrap() error { return e.Err }

// The fixed part of a v2 header (PROXY protocol, section 2.2), and the most
// that is read behind it: addresses and TLVs, of which a client certificate is
// the longest.
const (
	headerLen = 16
	maxRest   = 4096
)

var (
	errNoHeader  = errors.New("it begins with something else, want a PROXY protocol v2 header (version 1 is not taken)")
	errTransport = errors.New("it is of no TCP connection, want TCP over IPv4 or IPv6, or LOCAL")
)

// Open reads the header, within the deadline, and gives the connection behind
// it: its RemoteAddr is the client's, and TLS begins there. A LOCAL header, a
// balancer's own check, leaves the balancer as the peer. Only the header's
// octets are read. The errors are a *HeaderError, and io.EOF for a balancer
// that closes before it has sent anything. The caller closes c.
func (c *Conn) Open(deadline time.Time) (net.Conn, error) {
	if err := c.SetReadDeadline(deadline); err != nil {
		return nil, err
	}
	h, err := readHeader(c.TCPConn)
	if errors.Is(err, io.EOF) {
		return nil, io.EOF
	}
	if err != nil {
		return nil, &HeaderError{c.RemoteAddr(), err}
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	if h.Command.IsLocal() {
		return secure(c.TCPConn, c.tls), nil
	}
	source, _, ok := h.TCPAddrs()
	if !ok {
		return nil, &HeaderError{c.RemoteAddr(), errTransport}
	}
	return secure(&forwarded{c.TCPConn, source}, c.tls), nil
}

// readHeader reads a header and not an octet more.
func readHeader(r io.Reader) (*proxyproto.Header, error) {
	head := make([]byte, headerLen)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(head, proxyproto.SIGV2) {
		return nil, errNoHeader
	}
	n := int(binary.BigEndian.Uint16(head[headerLen-2:]))
	if n > maxRest {
		return nil, fmt.Errorf("its length is %d, want at most %d octets", n, maxRest)
	}
	all := make([]byte, headerLen+n)
	copy(all, head)
	if _, err := io.ReadFull(r, all[headerLen:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return proxyproto.Read(bufio.NewReader(bytes.NewReader(all)))
}

// forwarded is a balancer's connection as its client's. It stays a plain
// socket for those who write to the descriptor.
type forwarded struct {
	*net.TCPConn
	client net.Addr
}

func (f *forwarded) RemoteAddr() net.Addr { return f.client }
