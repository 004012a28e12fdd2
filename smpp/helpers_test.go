package smpp

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shunt/smpp/pdu"
	"shunt/smpp/smpptest"
)

// recorder is a Handler that keeps copies of what it takes. on, where set, runs
// for every PDU before it is kept.
type recorder struct {
	on func(p pdu.PDU)

	mu                  sync.Mutex
	requests, responses []pdu.PDU
	batches             int
}

func (r *recorder) keep(list *[]pdu.PDU, p pdu.PDU) {
	if r.on != nil {
		r.on(p)
	}
	r.mu.Lock()
	*list = append(*list, bytes.Clone(p))
	r.mu.Unlock()
}

func (r *recorder) HandleRequest(p pdu.PDU)  { r.keep(&r.requests, p) }
func (r *recorder) HandleResponse(p pdu.PDU) { r.keep(&r.responses, p) }

func (r *recorder) HandleBatch() {
	r.mu.Lock()
	r.batches++
	r.mu.Unlock()
}

func (r *recorder) counts() (requests, responses int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.requests), len(r.responses)
}

// rig is a session with a peer at the other end of a pipe, inside a bubble.
type rig struct {
	*Session
	t     *testing.T
	peer  *smpptest.Peer
	pipe  *smpptest.Conn // the session's end
	rec   *recorder
	ended chan error // what Serve returned
	start time.Time
}

// bubble runs f in a synctest bubble. A goroutine that outlives f and the
// test's clean-up fails the test.
func bubble(t *testing.T, cfg Config, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(newRig(t, cfg, 0)) })
}

// newRig makes a session that is not served yet, over a pipe of that capacity.
func newRig(t *testing.T, cfg Config, capacity int) *rig {
	ours, theirs := smpptest.Pipe(capacity)
	r := &rig{t: t, pipe: ours, rec: &recorder{}, ended: make(chan error, 1), start: time.Now()}
	r.Session = NewSession(ours, cfg)
	r.peer = smpptest.NewPeer(t, theirs)
	t.Cleanup(func() { r.Close(ErrClosed) })
	return r
}

// serve starts Serve on a goroutine of its own.
func (r *rig) serve() *rig {
	go func() { r.ended <- r.Serve(r.rec) }()
	return r
}

// at checks how long the test has taken so far.
func (r *rig) at(want time.Duration) {
	r.t.Helper()
	if got := time.Since(r.start); got != want {
		r.t.Fatalf("at %v, want %v", got, want)
	}
}

// forward forwards and flushes, which must not block.
func (r *rig) forward(p pdu.PDU) {
	r.t.Helper()
	if err := r.Forward(p); err != nil {
		r.t.Fatalf("Forward: %v", err)
	}
	r.Flush()
}

// async runs f on a goroutine and gives its result.
func async(f func() error) <-chan error {
	c := make(chan error, 1)
	go func() { c <- f() }()
	return c
}

// pending checks that nothing has come from c, with all goroutines at rest.
func pending(t *testing.T, what string, c <-chan error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-c:
		t.Fatalf("%s has returned %v, want it blocked", what, err)
	default:
	}
}

// result is what came from c, with all goroutines at rest.
func result(t *testing.T, what string, c <-chan error) error {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-c:
		return err
	default:
		t.Fatalf("%s has not returned", what)
		return nil
	}
}

// scripted is a connection whose reads give these pieces, one each, and then
// io.EOF; what is written to it is kept.
type scripted struct {
	net.Conn // nil: no other method is called

	pieces [][]byte

	mu      sync.Mutex
	written bytes.Buffer
	closed  bool
}

func (c *scripted) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	if len(c.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.pieces[0])
	if c.pieces[0] = c.pieces[0][n:]; len(c.pieces[0]) == 0 {
		c.pieces = c.pieces[1:]
	}
	return n, nil
}

func (c *scripted) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	return c.written.Write(b)
}

func (c *scripted) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

func (c *scripted) SetReadDeadline(time.Time) error  { return nil }
func (c *scripted) SetWriteDeadline(time.Time) error { return nil }

// tcpPair is a connection over loopback, for what a pipe is not: a socket.
func tcpPair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	type accepted struct {
		conn net.Conn
		err  error
	}
	c := make(chan accepted, 1)
	go func() {
		conn, err := l.Accept()
		c <- accepted{conn, err}
	}()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	got := <-c
	if got.err != nil {
		t.Fatal(got.err)
	}
	t.Cleanup(func() {
		_ = dialled.Close()
		_ = got.conn.Close()
	})
	return dialled.(*net.TCPConn), got.conn.(*net.TCPConn)
}
