// Package smpptest is what tests of SMPP sessions share: a buffered in-memory
// connection that time in a testing/synctest bubble can stand still around,
// and a scripted peer. Production code never imports it.
package smpptest

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Conn is one end of a Pipe. All its methods may be called from any goroutine.
// It is a net.Conn, but no syscall.Conn: a session writes to it from its
// writer goroutine alone.
type Conn struct {
	name    string
	in, out *half
	peer    *Conn
}

var _ net.Conn = (*Conn)(nil)

// Pipe returns the two ends of a connection. Each direction holds up to
// capacity octets, as the buffers of a socket do, before Write blocks; 0 is no
// bound. A goroutine that is blocked in Read or Write is durably blocked in
// the sense of testing/synctest.
func Pipe(capacity int) (a, b *Conn) {
	ab, ba := newHalf(capacity), newHalf(capacity)
	a = &Conn{name: "a", in: ba, out: ab}
	b = &Conn{name: "b", in: ab, out: ba}
	a.peer, b.peer = b, a
	return a, b
}

// half is one direction of a Pipe.
type half struct {
	mu       sync.Mutex
	changed  sync.Cond
	capacity int
	buf      []byte
	off      int   // of buf, read already
	eof      bool  // the writer closed: what is in buf may still be read
	gone     bool  // the reader closed: nothing more can be written
	peak     int   // the most octets that ever waited
	reset    error // what Read returns at once, instead of what is in buf
	read     deadline
	write    deadline
}

func newHalf(capacity int) *half {
	h := &half{capacity: capacity}
	h.changed.L = &h.mu
	return h
}

// deadline is the point in time at which one kind of call gives up.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// setDeadline replaces d and wakes who waits, now and at t.
func (h *half) setDeadline(d *deadline, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = t
	if !t.IsZero() {
		d.timer = time.AfterFunc(time.Until(t), func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.changed.Broadcast()
		})
	}
	h.changed.Broadcast()
}

// Read takes what is there, or waits for the first octet.
func (c *Conn) Read(p []byte) (int, error) {
	h := c.in
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.gone:
			return 0, c.opError("read", net.ErrClosed)
		case h.reset != nil:
			return 0, c.opError("read", h.reset)
		case h.read.passed():
			return 0, c.opError("read", os.ErrDeadlineExceeded)
		case len(p) == 0:
			return 0, nil
		case h.off < len(h.buf):
			n := copy(p, h.buf[h.off:])
			h.off += n
			if h.off == len(h.buf) {
				h.buf, h.off = h.buf[:0], 0
			}
			h.changed.Broadcast()
			return n, nil
		case h.eof:
			return 0, io.EOF
		}
		h.changed.Wait()
	}
}

// Write appends all of p, and waits for room where the Pipe has a capacity.
func (c *Conn) Write(p []byte) (n int, err error) {
	h := c.out
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.eof:
			return n, c.opError("write", net.ErrClosed)
		case h.gone:
			return n, c.opError("write", syscall.EPIPE)
		case h.write.passed():
			return n, c.opError("write", os.ErrDeadlineExceeded)
		case len(p) == 0:
			return n, nil
		}
		room := len(p)
		if h.capacity > 0 {
			room = min(room, h.capacity-(len(h.buf)-h.off))
		}
		if room > 0 {
			if h.off > 0 && len(h.buf)+room > cap(h.buf) {
				h.buf, h.off = append(h.buf[:0], h.buf[h.off:]...), 0
			}
			h.buf = append(h.buf, p[:room]...)
			h.peak = max(h.peak, len(h.buf)-h.off)
			n, p = n+room, p[room:]
			h.changed.Broadcast()
			continue
		}
		h.changed.Wait()
	}
}

// Close ends both directions: what was written may still be read by the peer,
// as after a FIN; its writes fail.
func (c *Conn) Close() error {
	c.in.end(func(h *half) { h.gone, h.buf, h.off = true, nil, 0 })
	c.out.end(func(h *half) { h.eof = true })
	return nil
}

// CloseWrite ends this end's direction only.
func (c *Conn) CloseWrite() error {
	c.out.end(func(h *half) { h.eof = true })
	return nil
}

// Reset breaks the connection as a RST does: both ends fail at once, and what
// was not read is lost.
func (c *Conn) Reset() {
	for _, h := range []*half{c.in, c.out} {
		h.end(func(h *half) { h.reset, h.gone = syscall.ECONNRESET, h == c.in })
	}
	c.out.end(func(h *half) { h.eof = true })
}

func (h *half) end(change func(*half)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(h)
	h.changed.Broadcast()
}

// Unread is the number of octets that this end wrote and the other has not
// read.
func (c *Conn) Unread() int {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return len(c.out.buf) - c.out.off
}

// Peak is the largest value that Unread ever had.
func (c *Conn) Peak() int {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.peak
}

// SetDeadline sets the read and the write deadline; the zero time is none.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets when Read gives up.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.read, t)
	return nil
}

// SetWriteDeadline sets when Write gives up; it then tells how much was
// written.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.write, t)
	return nil
}

// LocalAddr names this end.
func (c *Conn) LocalAddr() net.Addr { return Addr(c.name) }

// RemoteAddr names the other end.
func (c *Conn) RemoteAddr() net.Addr { return Addr(c.peer.name) }

func (c *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "pipe", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// Addr is the address of an end of a Pipe.
type Addr string

// Network is "pipe".
func (Addr) Network() string { return "pipe" }

func (a Addr) String() string { return string(a) }
