package main

import (
	"errors"
	"net"
	"sync"
	"time"
)

// proxy is a leg's TCP proxy. Its fields below mu belong to mu; its goroutines
// end with close.
type proxy struct {
	name  string
	usual time.Duration // that everything takes to the other side
	ln    net.Listener
	wg    sync.WaitGroup

	mu       sync.Mutex
	target   string // "": nobody there, connections are reset
	links    map[*link]struct{}
	released chan struct{} // closed when the leg is not stalled
	delay    time.Duration // more than usual
	closed   bool
	accepted int
	resets   int // connections that a cut ended
}

// link is one connection through a proxy.
type link struct {
	near, far net.Conn
	done      chan struct{} // closed by end
	once      sync.Once
}

func newProxy(name string, usual time.Duration) (*proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{name: name, usual: usual, ln: ln, links: map[*link]struct{}{}, released: make(chan struct{})}
	close(p.released)
	p.wg.Go(p.accept)
	return p, nil
}

func (p *proxy) addr() string { return p.ln.Addr().String() }

// point sends new connections to target.
func (p *proxy) point(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

func (p *proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return // only close closes it
		}
		p.wg.Go(func() { p.serve(c) })
	}
}

func (p *proxy) serve(near net.Conn) {
	p.mu.Lock()
	target := p.target
	p.accepted++
	p.mu.Unlock()
	far, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		reset(near)
		return
	}
	l := &link{near: near, far: far, done: make(chan struct{})}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		l.end()
		return
	}
	p.links[l] = struct{}{}
	p.mu.Unlock()
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(l, far, near) })
	pumps.Go(func() { p.pump(l, near, far) })
	pumps.Wait()
	l.end()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// pump passes octets on until its source ends, and then that end.
func (p *proxy) pump(l *link, to, from net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if n > 0 && p.pass(l) {
			if _, werr := to.Write(b[:n]); werr != nil {
				err = errors.Join(err, werr)
			}
		}
		if err != nil {
			if t, ok := to.(*net.TCPConn); ok {
				_ = t.CloseWrite()
			}
			return
		}
	}
}

// pass waits as the leg's faults want; false: the connection was ended.
func (p *proxy) pass(l *link) bool {
	p.mu.Lock()
	released, wait := p.released, p.usual+p.delay
	p.mu.Unlock()
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-l.done:
			return false
		}
	}
	select {
	case <-released:
		return true
	case <-l.done:
		return false
	}
}

// cut resets every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		p.resets++
		l.end()
	}
}

// stall stops everything until release.
func (p *proxy) stall() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	mine := make(chan struct{})
	before := p.released
	p.released = mine
	return func() {
		<-before
		close(mine)
	}
}

// slow delays everything by d more until it is called with 0.
func (p *proxy) slow(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

func (p *proxy) counts() (accepted, resets int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted, p.resets
}

func (p *proxy) close() {
	_ = p.ln.Close()
	p.mu.Lock()
	p.closed = true
	for l := range p.links {
		l.end()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// end resets both connections, so that nothing that is under way arrives.
func (l *link) end() {
	l.once.Do(func() {
		close(l.done)
		reset(l.near)
		reset(l.far)
	})
}

func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
