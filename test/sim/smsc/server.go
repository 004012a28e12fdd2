package smsc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/test/sim/books"
)

const (
	maxConns    = 4096    // connections at a time
	maxAccounts = 10_000  // system_ids, where any is accepted
	recent      = 100_000 // finished messages that query_sm still finds
	unbindIn    = time.Second
)

// Server is the SMSC. Its messages, accounts and queues belong to mu.
type Server struct {
	o     Options
	ln    net.Listener
	book  *books.Writer
	times *schedule
	wg    sync.WaitGroup // the accept loop, connections, the MO loop
	stop  context.CancelFunc
	sinks atomic.Uint64

	mu       sync.Mutex
	rng      *rand.Rand
	nextID   uint64
	nextConn uint64
	conns    map[*conn]struct{}
	accounts map[string]*account
	open     map[*message]struct{} // not yet in the book
	byID     map[string]*message
	old      []string // ids in byID that are finished, oldest first
	closing  bool
	sum      Summary
}

// account is one system_id: its binds that may receive, and what waits for one.
type account struct {
	id    string
	binds []*conn
	next  int
	ready []*delivery
}

// New checks the options and opens the book.
func New(o Options) (*Server, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	create := books.Create
	if o.Lasting {
		create = books.Append
	}
	book, err := create(o.Book)
	if err != nil {
		return nil, err
	}
	s := &Server{
		o: o, book: book, times: newSchedule(), rng: rand.New(rand.NewPCG(o.Seed, 0x534d5343)),
		conns: map[*conn]struct{}{}, accounts: map[string]*account{}, open: map[*message]struct{}{},
		byID: map[string]*message{}, sum: Summary{Seed: o.Seed},
	}
	if o.Lasting {
		if err := s.resume(); err != nil {
			return nil, errors.Join(err, book.Close())
		}
	}
	return s, nil
}

// Start listens and returns. Close ends everything that it started.
func (s *Server) Start(ctx context.Context) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", s.o.Listen)
	if err != nil {
		return errors.Join(err, s.book.Close())
	}
	s.ln = ln
	if s.o.AddrFile != "" {
		addr := map[string]any{"smpp": ln.Addr().String(), "pid": os.Getpid()}
		if err := books.WriteFile(s.o.AddrFile, addr); err != nil {
			return errors.Join(fmt.Errorf("addr-file: %w", err), ln.Close(), s.book.Close())
		}
	}
	ctx, s.stop = context.WithCancel(ctx)
	go s.times.run()
	s.wg.Go(s.accept)
	if s.o.MORate > 0 {
		s.wg.Go(func() { s.originate(ctx) })
	}
	return nil
}

// Addr is the address that it listens on.
func (s *Server) Addr() net.Addr { return s.ln.Addr() }

func (s *Server) accept() {
	slots := make(chan struct{}, maxConns)
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return // only Close closes it
		}
		select {
		case slots <- struct{}{}:
			s.wg.Go(func() {
				defer func() { <-slots }()
				s.serve(c)
			})
		default:
			_ = c.Close()
		}
	}
}

// Close unbinds every peer, waits until all is over and completes the book.
func (s *Server) Close() error {
	s.stop()
	_ = s.ln.Close()
	s.mu.Lock()
	s.closing = true
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.s.Unbind(unbindIn)
	}
	s.wg.Wait()
	s.times.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum.ReceiptsOpen = 0
	for m := range s.open {
		if m.asked() {
			s.sum.ReceiptsOpen++
		}
		s.finish(m)
	}
	return s.book.Close()
}

// Summary counts what happened so far.
func (s *Server) Summary() Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := s.sum
	for m := range s.open {
		if m.asked() {
			sum.ReceiptsOpen++
		}
	}
	if n := s.sinks.Load(); n > 0 {
		sum.Submits, sum.Accepted = n, n
	}
	return sum
}

// serve runs one connection from its bind to its end.
func (s *Server) serve(nc net.Conn) {
	c := &conn{srv: s, s: smpp.NewSession(nc, smpp.Config{Window: s.o.Window, EnquireLink: 30 * time.Second, Response: 20 * time.Second})}
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		c.s.Close(nil)
		return
	}
	s.nextConn++
	c.number = s.nextConn
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		c.s.Close(nil)
	}()
	if !c.bind() {
		return
	}
	if s.o.Sink {
		_ = c.s.Serve(newSink(c))
		return
	}
	s.join(c)
	_ = c.s.Serve(c)
	s.leave(c)
}

func (s *Server) account(id string) *account {
	a := s.accounts[id]
	if a == nil {
		a = &account{id: id}
		s.accounts[id] = a
	}
	return a
}

func (s *Server) join(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sum.Binds++
	if a := s.account(c.systemID); c.rx {
		a.binds = append(a.binds, c)
		s.pump(a)
	}
}

func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account(c.systemID).drop(c)
}

func (a *account) drop(c *conn) {
	for i, b := range a.binds {
		if b == c {
			a.binds = append(a.binds[:i:i], a.binds[i+1:]...)
			return
		}
	}
}

// refuse tells with which status a bind is refused, or ESME_ROK.
func (s *Server) refuse(b *pdu.Bind) pdu.Status {
	if len(s.o.Accounts) == 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.accounts[b.SystemID] == nil && len(s.accounts) >= maxAccounts {
			return pdu.RBINDFAIL
		}
		return pdu.ROK
	}
	password, known := s.o.Accounts[b.SystemID]
	switch {
	case !known:
		return pdu.RINVSYSID
	case password != b.Password:
		return pdu.RINVPASWD
	}
	return pdu.ROK
}
