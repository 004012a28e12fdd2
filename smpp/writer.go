package smpp

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// writer batches what a session sends: everything that is appended while a
// write is under way goes out in the next one. A flush first tries to write on
// the caller's goroutine without blocking, which saves a wake-up a batch; what
// the socket does not take is left to the session's writer goroutine.
type writer struct {
	conn  net.Conn
	raw   syscall.RawConn // nil where the connection is no plain socket
	stall time.Duration   // a blocking write that takes longer ends the session

	mu      sync.Mutex
	room    sync.Cond // signalled when buf was taken, when the window got room, when closed
	buf     []byte    // appended, not yet taken by a write
	taken   uint64    // octets that writes have taken so far
	spare   []byte    // the other half of the double buffer
	rest    []byte    // taken by a flush, not wholly written: the writer goroutine's next
	restOff int       // of rest, written already
	pdus    uint64    // appended so far
	busy    bool      // a write is under way or rest is waiting
	closing bool      // close once everything is written
	err     error     // set once: the session is closed
	wake    chan struct{}
	out     *atomic.Uint64 // PDUs taken by a write so far

	try    func(fd uintptr) bool // made once, so that a flush does not allocate
	tryBuf []byte
	tryN   int
	tryErr error
}

const (
	maxPending  = 1 << 20   // the default of Config.WriteBuffer
	keepBuffer  = 128 << 10 // a larger write buffer is not kept
	firstBuffer = 4 << 10
	writePiece  = 64 << 10 // of a blocking write: each piece has its own deadline
)

func (w *writer) init(conn net.Conn, stall time.Duration, out *atomic.Uint64) {
	w.conn, w.stall, w.out = conn, stall, out
	w.room.L = &w.mu
	w.wake = make(chan struct{}, 1)
	if sc, ok := conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			w.raw = raw
			w.try = func(fd uintptr) bool {
				for {
					n, err := syscall.Write(int(fd), w.tryBuf)
					if err == syscall.EINTR {
						continue
					}
					w.tryN, w.tryErr = max(n, 0), err
					return true
				}
			}
		}
	}
}

// flush writes what was appended. It does not block.
func (w *writer) flush() {
	w.mu.Lock()
	for w.raw != nil && !w.busy && len(w.buf) > 0 && w.err == nil {
		b := w.take()
		w.busy = true
		w.tryBuf = b
		w.mu.Unlock()
		err := w.raw.Write(w.try)
		if err == nil && w.tryErr != nil && w.tryErr != syscall.EAGAIN {
			err = w.tryErr
		}
		n := w.tryN
		w.tryBuf = nil
		w.mu.Lock()
		if err != nil {
			w.busy = false
			w.mu.Unlock()
			w.fail(err)
			return
		}
		if n < len(b) {
			w.rest, w.restOff = b, n
			w.mu.Unlock()
			w.signal()
			return
		}
		w.busy = false
		w.give(b)
	}
	pending := (len(w.buf) > 0 || w.closing) && !w.busy
	w.mu.Unlock()
	if pending {
		w.signal()
	}
}

// take hands out what was appended; the caller holds mu.
func (w *writer) take() []byte {
	b := w.buf
	w.taken += uint64(len(b))
	w.buf, w.spare = w.spare[:0], nil
	w.out.Store(w.pdus)
	w.room.Broadcast()
	return b
}

// give takes a written buffer back; the caller holds mu.
func (w *writer) give(b []byte) {
	if cap(b) <= keepBuffer && w.spare == nil {
		w.spare = b[:0]
	}
}

// signal wakes the writer goroutine.
func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// drain writes until nothing is left; it runs on the writer goroutine and
// blocks there. done tells that the session is to be closed now.
func (w *writer) drain() (done bool, err error) {
	w.mu.Lock()
	for {
		if w.err != nil {
			w.mu.Unlock()
			return true, nil
		}
		b, off := w.rest, 0
		switch {
		case b != nil:
			off = w.restOff
			w.rest, w.restOff = nil, 0
		case w.busy: // a flush is writing on another goroutine and comes back
			w.mu.Unlock()
			return false, nil
		case len(w.buf) > 0:
			b = w.take()
			w.busy = true
		default:
			done := w.closing
			w.mu.Unlock()
			return done, nil
		}
		w.mu.Unlock()
		err := w.writeAll(b[off:])
		w.mu.Lock()
		w.busy = false
		if err != nil {
			w.mu.Unlock()
			return true, err
		}
		w.give(b)
	}
}

// writeAll writes b, and gives up when the peer took nothing for the stall
// time: it may read as slowly as it likes. A piece that was taken in part has
// begun a new stall time.
func (w *writer) writeAll(b []byte) error {
	for len(b) > 0 {
		_ = w.conn.SetWriteDeadline(time.Now().Add(w.stall))
		n, err := w.conn.Write(b[:min(len(b), writePiece)])
		b = b[n:]
		if err != nil && (n == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return err
		}
	}
	_ = w.conn.SetWriteDeadline(time.Time{})
	return nil
}

// fail marks the session closed; everybody who waits for room returns.
func (w *writer) fail(err error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.room.Broadcast()
	w.mu.Unlock()
	w.signal()
}
