package smpp

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"shunt/smpp/pdu"
)

// Config is what a session needs to know. The zero value of a field is the
// default named beside it.
type Config struct {
	MaxPDU      int           // octets; command_length above it ends the session (70 KiB)
	Window      int           // outstanding requests of this side (4096)
	EnquireLink time.Duration // silence before an enquire_link is sent, §7.2 enquire_link_timer (30 s)
	Response    time.Duration // how long an answer may take, §7.2 response_timer (60 s)
	WriteStall  time.Duration // how long the peer may read nothing; noticed after once to twice that (30 s)
	WriteBuffer int           // octets that wait for a slow peer before whoever feeds it is held back (1 MiB)
	Inactivity  time.Duration // a peer that sends nothing but enquire_link so long is unbound, §7.2 inactivity_timer (never)
	TLS         *tls.Config   // Dial only: nil connects without TLS
	Local       netip.Addr    // Dial only: the source address; the zero Addr leaves it to the system

	// Answered is told how long the answer to a forwarded submit_sm took, of one
	// at a time: while one is timed the others are not. The reader calls it; it
	// must not block. May be nil.
	Answered func(after time.Duration)
}

func (c Config) withDefaults() Config {
	or := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	if c.MaxPDU <= 0 {
		c.MaxPDU = pdu.DefaultMaxLen
	}
	if c.Window <= 0 {
		c.Window = 4096
	}
	if c.WriteBuffer <= 0 {
		c.WriteBuffer = maxPending
	}
	or(&c.EnquireLink, 30*time.Second)
	or(&c.Response, 60*time.Second)
	or(&c.WriteStall, 30*time.Second)
	return c
}

// Errors that a session ends with, or that a call gets.
var (
	ErrClosed     = errors.New("session closed")
	ErrUnbound    = errors.New("unbound")
	ErrSilent     = errors.New("peer is silent: no answer to enquire_link")
	ErrWindowFull = errors.New("window full")
	ErrTimeout    = errors.New("no response in time")
	ErrBufferFull = fmt.Errorf("write buffer full: %w", ErrWindowFull)
	ErrSlowReader = errors.New("peer reads too slowly: too many answers wait for it")
	ErrInactive   = errors.New("peer is inactive: unbound")
)

// Handler takes what a session reads. All its methods run on the reader's
// goroutine: they must not block, except in Forward and Send of another
// session, which is the back-pressure. p is valid until the method returns.
type Handler interface {
	// HandleRequest takes every request but enquire_link.
	HandleRequest(p pdu.PDU)
	// HandleResponse takes the response to a forwarded request, its
	// sequence_number restored to the one that the request came with; and every
	// generic_nack under sequence_number 0. One that names a request which is
	// not outstanding is dropped: it could hit an unrelated one elsewhere.
	HandleResponse(p pdu.PDU)
	// HandleBatch runs after all PDUs of one read.
	HandleBatch()
}

// Session is one SMPP connection, of either side. See the package's text for
// its goroutines.
type Session struct {
	cfg  Config
	conn net.Conn
	out  writer
	win  window // reserve under out.mu, release by the reader

	// The reader's own.
	in    []byte
	inLen int
	inOff int

	calls       map[uint32]call // by sequence_number, under out.mu
	roomWanted  atomic.Bool     // somebody waits for the window
	reading     atomic.Bool     // the reader waits for the peer, and not for room elsewhere
	lastRead    atomic.Int64    // monotonic nanoseconds since start
	lastUse     atomic.Int64    // the same, of anything but enquire_link
	inactive    atomic.Bool     // the inactivity time is over, and the peer was unbound
	start       time.Time
	closing     atomic.Bool   // Close has begun
	ackedBefore uint64        // octets of the connection that the peer had acknowledged before the session
	acked       atomic.Uint64 // octets of the session that it had acknowledged at the end
	done        chan struct{}
	marks       expiryMarks   // the writer goroutine's own, under out.mu
	linkPending bool          // an enquire_link is out; the writer goroutine's own
	timedSeq    atomic.Uint32 // the forwarded submit_sm whose answer is timed, 0: none
	timedAt     atomic.Int64  // when it came: nanoseconds since start
	askedSeq    atomic.Uint32 // the sequence_number of the last request without a slot, 0 once it is answered

	Stats Stats
}

// Stats counts what passed. All are totals since the session began.
type Stats struct {
	PDUsIn, OctetsIn   atomic.Uint64
	PDUsOut            atomic.Uint64
	Unmatched, Expired atomic.Uint64 // responses to nothing outstanding; requests never answered
}

type call struct {
	deadline time.Time
	done     func(p pdu.PDU, err error)
}

// NewSession takes over conn and starts the writer goroutine. Close ends both.
func NewSession(conn net.Conn, cfg Config) *Session {
	cfg = cfg.withDefaults()
	s := &Session{
		cfg: cfg, conn: conn,
		in: make([]byte, firstBuffer), start: time.Now(), done: make(chan struct{}),
	}
	s.ackedBefore, _ = acked(conn)
	s.win.init(cfg.Window)
	s.out.init(conn, cfg.WriteStall, &s.Stats.PDUsOut)
	go s.write()
	return s
}

// RemoteAddr is the peer's address.
func (s *Session) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// WindowInUse is the number of requests of this side that are outstanding.
func (s *Session) WindowInUse() int {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	return int(s.win.inUse())
}

// Done is closed when the session is.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err is why the session was closed, nil while it is open.
func (s *Session) Err() error {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	return s.out.err
}

// SetSequence makes n the sequence_number given last.
func (s *Session) SetSequence(n uint32) {
	s.out.mu.Lock()
	s.win.last = n & pdu.MaxSequence
	s.marks = expiryMarks{} // they were of other numbers
	s.out.mu.Unlock()
}

// TryForward is Forward for a window that may be full: then it sends nothing,
// does not wait, and ok is false. A full write buffer still holds it back.
func (s *Session) TryForward(p pdu.PDU) (ok bool, err error) {
	w := &s.out
	w.mu.Lock()
	full := w.err == nil && s.win.full()
	w.mu.Unlock()
	if full {
		return false, nil
	}
	return true, s.Forward(p) // a call may have taken the last place: then it waits, for once
}

// Forward sends a request that came from another session under a
// sequence_number of this one; its response comes to HandleResponse with the
// one that p has now. All other octets stay. It blocks while the window or the
// write buffer is full and returns the session's error once it is closed.
// Nothing is on the wire before Flush.
func (s *Session) Forward(p pdu.PDU) error {
	w := &s.out
	w.mu.Lock()
	for w.err == nil && (len(w.buf) >= s.cfg.WriteBuffer || s.win.full()) {
		s.waitRoom()
	}
	if w.err != nil {
		w.mu.Unlock()
		return w.err
	}
	seq := s.win.reserve(p.Seq(), false)
	if s.timedSeq.Load() == 0 && s.cfg.Answered != nil && p.ID() == pdu.SubmitSM {
		s.timedAt.Store(int64(time.Since(s.start)))
		s.timedSeq.Store(seq)
	}
	at := len(w.buf)
	w.buf = append(w.buf, p...)
	pdu.PDU(w.buf[at:]).SetSeq(seq)
	w.pdus++
	w.mu.Unlock()
	return nil
}

// waitRoom lets what is appended go out and waits for room; the caller holds
// out.mu.
func (s *Session) waitRoom() {
	s.roomWanted.Store(true)
	if !s.win.full() && len(s.out.buf) < s.cfg.WriteBuffer {
		return
	}
	s.out.signal() // what fills the window may still be in the buffer
	s.out.room.Wait()
}

// Send sends p as it is: a response, or a request that none answers. It blocks
// while the write buffer is full. Nothing is on the wire before Flush.
func (s *Session) Send(p pdu.PDU) error {
	w := &s.out
	w.mu.Lock()
	for w.err == nil && len(w.buf) >= s.cfg.WriteBuffer {
		s.waitRoom()
	}
	return s.appendLocked(p)
}

// maxAnswers is how many write buffers of a slow peer Respond fills.
const maxAnswers = 4

// Respond sends a response that this side made, without blocking, and wakes
// the writer: for goroutines that are not a session's reader. An answer cannot
// be dropped, so that a peer which lets them pile up to four times the write
// buffer loses its session, with ErrSlowReader.
func (s *Session) Respond(p pdu.PDU) error {
	_, err := s.RespondAt(p)
	return err
}

// RespondAt is Respond, and tells where p ends among all octets that the session
// sends: see Received.
func (s *Session) RespondAt(p pdu.PDU) (end uint64, err error) {
	w := &s.out
	w.mu.Lock()
	if w.err == nil && len(w.buf)+len(p) > maxAnswers*s.cfg.WriteBuffer {
		w.mu.Unlock()
		s.Close(ErrSlowReader)
		return 0, ErrSlowReader
	}
	end = w.taken + uint64(len(w.buf)+len(p))
	err = s.appendLocked(p)
	w.signal()
	return end, err
}

// Received tells, of a session that has ended, whether the peer's system has
// acknowledged the octets up to end. Where that cannot be known, as under TLS,
// it has not.
func (s *Session) Received(end uint64) bool {
	return s.closing.Load() && end <= s.acked.Load()
}

// appendLocked appends p and unlocks out.mu.
func (s *Session) appendLocked(p pdu.PDU) error {
	w := &s.out
	err := w.err
	if err == nil {
		w.buf = append(w.buf, p...)
		w.pdus++
	}
	w.mu.Unlock()
	return err
}

// Notify sends a request that none answers under the next sequence_number.
func (s *Session) Notify(p pdu.PDU) error {
	w := &s.out
	w.mu.Lock()
	for w.err == nil && len(w.buf) >= s.cfg.WriteBuffer {
		s.waitRoom()
	}
	if w.err == nil {
		p.SetSeq(s.win.skip())
	}
	return s.appendLocked(p)
}

// Call sends a request of this side's own, under a sequence_number that it
// writes into p, and wakes the writer. done is called once and must not block:
// with the response, on the reader's goroutine and valid until it returns; with
// ErrTimeout, on the writer's; or with the session's error, on that of Close. A
// full window is ErrWindowFull at once, and a full write buffer ErrBufferFull,
// which is one: done is then not called.
func (s *Session) Call(p pdu.PDU, done func(p pdu.PDU, err error)) error {
	w := &s.out
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return w.err
	}
	switch {
	case s.win.full():
		return ErrWindowFull
	case len(w.buf) >= s.cfg.WriteBuffer:
		return ErrBufferFull
	}
	seq := s.win.reserve(p.Seq(), true)
	if s.calls == nil {
		s.calls = make(map[uint32]call)
	}
	s.calls[seq] = call{deadline: time.Now().Add(s.cfg.Response), done: done} // record, then write
	p.SetSeq(seq)
	w.buf = append(w.buf, p...)
	w.pdus++
	w.signal()
	return nil
}

// Flush puts on the wire what was sent. It does not block.
func (s *Session) Flush() { s.out.flush() }

// Finish closes the session once everything that was sent is on the wire.
func (s *Session) Finish() {
	s.out.mu.Lock()
	s.out.closing = true
	s.out.mu.Unlock()
	s.out.signal()
}

// Close ends the session at once; every call gets the error that the session
// ended with, which is err unless it had failed before. It may be called from
// anywhere, a call's done included, and does nothing the second time.
func (s *Session) Close(err error) {
	if err == nil {
		err = ErrClosed
	}
	s.out.fail(err)
	if !s.closing.CompareAndSwap(false, true) {
		return
	}
	if n, ok := acked(s.conn); ok {
		s.acked.Store(n - s.ackedBefore)
	}
	_ = s.conn.Close()
	s.out.mu.Lock()
	err = s.out.err
	calls := s.calls
	s.calls = nil
	s.out.mu.Unlock()
	for _, c := range calls {
		c.done(nil, err)
	}
	close(s.done)
}

// ReadPDU reads one PDU, for the exchange before Serve, within timeout.
// Framing that is lost is answered as in Serve. The PDU is valid until the
// next read.
func (s *Session) ReadPDU(timeout time.Duration) (pdu.PDU, error) {
	if err := s.conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	defer func() { _ = s.conn.SetReadDeadline(time.Time{}) }()
	for {
		p, err := s.next()
		if p != nil || err != nil {
			return p, err
		}
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
}

// next cuts the next whole PDU out of what was read; nil when there is none. Of
// a PDU that is too large it waits for the header, to answer its
// sequence_number.
func (s *Session) next() (pdu.PDU, error) {
	b := s.in[s.inOff:s.inLen]
	n, err := pdu.Frame(b, s.cfg.MaxPDU)
	if err != nil {
		if len(b) < pdu.HeaderLen && pdu.PDU(b).Len() >= pdu.HeaderLen {
			return nil, nil
		}
		s.nackLength(b)
		return nil, err
	}
	if n == 0 {
		return nil, nil
	}
	s.inOff += n
	return pdu.PDU(b[:n:n]), nil
}

// nackLength answers a command_length that cannot be followed (§4.3.1): the
// sequence_number is that of the PDU where so much was read.
func (s *Session) nackLength(b []byte) {
	var seq uint32
	if len(b) >= pdu.HeaderLen {
		seq = pdu.PDU(b).Seq()
	}
	_ = s.Send(pdu.AppendHeader(nil, pdu.GenericNack, pdu.RINVCMDLEN, seq))
	s.Flush()
}

// fill reads once, behind what is there; the buffer grows with the peer's
// speed to 64 KiB, and beyond only for a PDU that is larger.
func (s *Session) fill() error {
	if s.inOff > 0 {
		s.inLen = copy(s.in, s.in[s.inOff:s.inLen])
		s.inOff = 0
	}
	if s.inLen >= 4 {
		if need := pdu.PDU(s.in).Len(); need > uint32(len(s.in)) && need <= uint32(s.cfg.MaxPDU) {
			bigger := make([]byte, max(int(need), min(2*len(s.in), 64<<10)))
			copy(bigger, s.in[:s.inLen])
			s.in = bigger
		}
	}
	n, err := s.conn.Read(s.in[s.inLen:])
	if n == len(s.in)-s.inLen && len(s.in) < 64<<10 {
		bigger := make([]byte, 2*len(s.in))
		copy(bigger, s.in)
		s.in = bigger
	}
	s.inLen += n
	if n > 0 {
		s.lastRead.Store(int64(time.Since(s.start)))
		s.Stats.OctetsIn.Add(uint64(n))
		return nil
	}
	return err
}

// Serve reads until the peer closes, framing is lost or the session is closed,
// and then ends it: after a peer's orderly close with io.EOF. What was sent is
// still written where the peer takes it.
func (s *Session) Serve(h Handler) error {
	err := s.serve(h)
	if errors.Is(err, pdu.ErrLength) || errors.Is(err, io.EOF) {
		s.Finish()
		<-s.done
		return err
	}
	s.Close(err)
	<-s.done
	return s.Err()
}

func (s *Session) serve(h Handler) error {
	s.used()
	for {
		var n uint64
		used := false
		for {
			p, err := s.next()
			if err != nil {
				s.Stats.PDUsIn.Add(n)
				h.HandleBatch()
				return err
			}
			if p == nil {
				break
			}
			n++
			used = used || p.ID()&^respBit != pdu.EnquireLink
			s.handle(h, p)
		}
		if used {
			s.used()
		}
		s.Stats.PDUsIn.Add(n)
		h.HandleBatch()
		s.Flush()
		if s.roomWanted.Load() {
			s.out.mu.Lock()
			s.roomWanted.Store(false)
			s.out.room.Broadcast()
			s.out.mu.Unlock()
		}
		s.reading.Store(true)
		err := s.fill()
		s.reading.Store(false)
		if err != nil {
			return err
		}
	}
}

const respBit = pdu.ID(0x80000000)

// used notes that something passed.
func (s *Session) used() { s.lastUse.Store(max(int64(time.Since(s.start)), 1)) }

// Inactive tells whether the session is ending because of Config.Inactivity.
func (s *Session) Inactive() bool { return s.inactive.Load() }

func (s *Session) handle(h Handler, p pdu.PDU) {
	switch id := p.ID(); {
	case id == pdu.EnquireLink:
		_ = s.Send(pdu.AppendHeader(nil, pdu.EnquireLinkResp, pdu.ROK, p.Seq()))
		s.out.signal() // a PDU behind it may be held back by another session
	case id.IsResponse():
		s.handleResponse(h, p)
	default:
		h.HandleRequest(p)
	}
}

func (s *Session) handleResponse(h Handler, p pdu.PDU) {
	seq := p.Seq()
	orig, own, ok := s.win.release(seq)
	if !ok {
		s.out.mu.Lock()
		orig, own, ok = s.win.release(seq)
		s.out.mu.Unlock()
	}
	switch {
	case ok && !own:
		if seq == s.timedSeq.Load() {
			after := time.Since(s.start) - time.Duration(s.timedAt.Load())
			s.timedSeq.Store(0)
			s.cfg.Answered(after)
		}
		p.SetSeq(orig)
		h.HandleResponse(p)
	case ok:
		s.out.mu.Lock()
		c, found := s.calls[seq]
		delete(s.calls, seq)
		s.out.mu.Unlock()
		if found {
			c.done(p, nil)
		}
	case seq != 0 && s.askedSeq.CompareAndSwap(seq, 0):
		if p.ID() == pdu.UnbindResp {
			s.Finish()
		} // else an answer of any kind to an enquire_link: a sign of life
	case p.ID() == pdu.GenericNack && seq == 0: // of a PDU that could not be read (§4.3.1)
		h.HandleResponse(p)
	default:
		s.Stats.Unmatched.Add(1)
	}
}

// write is the writer goroutine: it writes what flush left over and keeps the
// timers, until the session is closed.
func (s *Session) write() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-s.out.wake:
			done, err := s.out.drain()
			if err != nil {
				s.Close(fmt.Errorf("write: %w", err))
				return
			}
			if done {
				s.Close(ErrClosed)
				return
			}
		case now := <-tick.C:
			s.keep(now)
		case <-s.done:
			return
		}
	}
}
