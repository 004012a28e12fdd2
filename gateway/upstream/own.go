package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"shunt/smpp"
	"shunt/smpp/pdu"
)

// Receipt is a delivery receipt that came on one of Shunt's own binds.
type Receipt struct {
	SMSC string
	ID   string // in the canonical form of the SMSC's IDFormat
	smpp.Receipt
	Recipient, Sender string // of the message that it tells of: source_addr and destination_addr
}

// OwnOptions describe Shunt's own binds to one SMSC.
type OwnOptions struct {
	SMSC     string // its name
	Addr     string // host:port
	Bind     pdu.Bind
	Split    bool // a transmitter and a receiver instead of a transceiver
	Sessions int
	Window   int // outstanding submits a session
	IDFormat IDFormat
	SMPP     smpp.Config
	// ProxyHeader: connections begin with a PROXY v2 header, LOCAL.
	ProxyHeader bool
	// OnReceipt takes a final or intermediate receipt. It must not block;
	// answer is to be called once, from any goroutine, when the receipt is
	// durable, with the command_status for the SMSC.
	OnReceipt func(r Receipt, answer func(pdu.Status))
	// OnMO takes a message that a subscriber sent, and tells whether it is one that
	// anybody waits for. m is the callee's to read until it returns. answer is as
	// OnReceipt's, and is not to be called where the result is false. nil: nobody
	// ever takes one.
	OnMO func(m *pdu.SM, answer func(pdu.Status)) bool
	Log  *slog.Logger
}

// Own is the pool of Shunt's own binds to one SMSC, on which fallbacks go out
// and their receipts come in.
type Own struct {
	smsc string
	log  *slog.Logger

	mu      sync.Mutex
	o       *OwnOptions   // of the next bind; not changed, Set puts others in their place
	changed chan struct{} // closed by Set
	up      []*ownSession // bound and transmitting
	windows int           // of them all
	taken   int           // submits that may be outstanding: acquired and not yet ended
	room    chan struct{} // closed when there may be room; nil: nobody waits
	next    uint
	lastErr string

	Ignored atomic.Uint64 // deliver_sm that are no receipts
}

type ownSession struct {
	*smpp.Session
	own         *Own
	o           *OwnOptions // that it was bound with
	outstanding int         // submits, under own.mu
}

// linkRoom is the part of a session's window that no submit takes: for an
// enquire_link and the unbind, which would otherwise have a submit's place.
const linkRoom = 2

// NewOwn makes the pool; Run binds.
func NewOwn(o OwnOptions) *Own {
	return &Own{smsc: o.SMSC, log: o.Log, o: o.complete(), changed: make(chan struct{})}
}

func (o OwnOptions) complete() *OwnOptions {
	o.Sessions, o.Window = max(o.Sessions, 1), max(o.Window, 1)
	o.SMPP.Window = o.Window + linkRoom
	return &o
}

// SMSC is the name of the SMSC.
func (w *Own) SMSC() string { return w.smsc }

// waitRoom is closed when there may be more room, or a submit has ended; the
// caller holds mu.
func (w *Own) waitRoom() <-chan struct{} {
	if w.room == nil {
		w.room = make(chan struct{})
	}
	return w.room
}

// wake lets those who wait for room look again; the caller holds mu.
func (w *Own) wake() {
	if w.room != nil {
		close(w.room)
		w.room = nil
	}
}

// OwnState is what a status shows.
type OwnState struct {
	SMSC, LastError     string
	Bound, Want, Window int
}

// State reads the state.
func (w *Own) State() OwnState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return OwnState{SMSC: w.smsc, LastError: w.lastErr, Bound: len(w.up), Want: w.o.Sessions, Window: w.taken}
}

// Ready tells whether a submit can be sent now.
func (w *Own) Ready() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.up) > 0
}

// boundTo tells whether a bind there is up.
func (w *Own) boundTo(addr string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.up, func(s *ownSession) bool { return s.o.Addr == addr })
}

// Acquire waits until a bind that is up has room in its window, and takes the
// room: Submit or Release gives it back.
func (w *Own) Acquire(ctx context.Context) error {
	for {
		w.mu.Lock()
		if w.taken < w.windows {
			w.taken++
			w.mu.Unlock()
			return nil
		}
		room := w.waitRoom()
		w.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Release gives back what Acquire took.
func (w *Own) Release() { w.ended(nil) }

// ended gives back what Acquire took, and s's part of it where there is one.
func (w *Own) ended(s *ownSession) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taken--
	if s != nil {
		s.outstanding--
	}
	w.wake()
}

// pick takes room on the next bind that has it; nil when none has.
func (w *Own) pick() *ownSession {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next++
	for i := range w.up {
		s := w.up[(w.next+uint(i))%uint(len(w.up))]
		if s.outstanding < s.o.Window {
			s.outstanding++
			return s
		}
	}
	return nil
}

// Result is the end of a Submit.
type Result struct {
	Sent      bool       // false: certainly never written
	Status    pdu.Status // of the response
	MessageID string     // canonical
	Err       error      // no response: with Sent, the outcome is unknown
}

var errNoBind = errors.New("no bind of our own is up and has room")

// Submit sends a submit_sm after an Acquire, and releases that. done is called
// once, possibly before Submit returns.
func (w *Own) Submit(p pdu.PDU, done func(Result)) {
	for {
		s := w.pick()
		if s == nil {
			w.Release()
			done(Result{Err: errNoBind})
			return
		}
		err := s.Call(p, func(resp pdu.PDU, err error) {
			r := s.result(resp, err)
			w.ended(s)
			done(r)
		})
		switch {
		case err == nil:
			return
		case errors.Is(err, smpp.ErrWindowFull): // of enquire_links that nobody answers
			w.ended(s)
			done(Result{Err: err})
			return
		}
		w.remove(s) // it has ended, and its reader is about to find that out
	}
}

func (s *ownSession) result(resp pdu.PDU, err error) Result {
	if err != nil {
		return Result{Sent: true, Err: err}
	}
	r := Result{Sent: true, Status: resp.Status()}
	if resp.ID() == pdu.GenericNack && r.Status == pdu.ROK {
		r.Status = pdu.RINVCMDID
	}
	if r.Status != pdu.ROK {
		return r
	}
	id, err := pdu.MessageID(resp)
	if err != nil { // accepted, but no receipt can ever be matched
		s.own.log.Warn("submit_sm_resp does not decode", "smsc", s.own.smsc, "error", err)
	}
	r.MessageID = s.o.IDFormat.OfResponse(id)
	return r
}

// HandleRequest implements smpp.Handler for what the SMSC sends.
func (s *ownSession) HandleRequest(p pdu.PDU) {
	seq := p.Seq()
	answer := func(id pdu.ID, st pdu.Status) {
		if id == pdu.DeliverSM || id == pdu.DataSM {
			_ = s.Respond(pdu.AppendMessageResp(nil, id.Response(), st, seq, ""))
		} else {
			_ = s.Respond(pdu.AppendHeader(nil, id, st, seq))
		}
	}
	switch p.ID() {
	case pdu.DeliverSM, pdu.DataSM: // receipts of data_sm may come as either (SMPP v3.4 §2.8)
		id := p.ID()
		var m pdu.SM
		if err := m.DecodeMessage(p); err != nil {
			s.own.log.Warn("message does not decode", "smsc", s.own.smsc, "command", id.String(), "error", err)
			answer(id, pdu.RSYSERR)
			return
		}
		r, ok := smpp.ParseReceipt(&m)
		intermediate := smpp.IsIntermediate(&m)
		told := smpp.IsReceipt(&m) || intermediate
		if intermediate && r.State.Final() { // whatever it says, more is to come
			r.State = smpp.StateEnroute
		}
		if !told || !ok {
			if mo := s.o.OnMO; mo != nil && !told && mo(&m, func(st pdu.Status) { answer(id, st) }) {
				return
			}
			s.own.Ignored.Add(1)
			answer(id, pdu.RXPAPPN) // nobody here ever takes it
			return
		}
		s.o.OnReceipt(Receipt{
			SMSC: s.own.smsc, ID: s.o.IDFormat.OfReceipt(r.ID), Receipt: r,
			Recipient: string(m.Source.Addr), Sender: string(m.Dest.Addr),
		}, func(st pdu.Status) { answer(id, st) })
	case pdu.Unbind:
		answer(pdu.UnbindResp, pdu.ROK)
		s.Finish()
	case pdu.AlertNotification, pdu.Outbind: // nothing is owed to them
	default:
		answer(pdu.GenericNack, pdu.RINVCMDID)
	}
}

// HandleResponse implements smpp.Handler: only an unmatched generic_nack comes
// here.
func (s *ownSession) HandleResponse(p pdu.PDU) {
	s.own.log.Warn("generic_nack to nothing", "smsc", s.own.smsc, "status", fmt.Sprint(p.Status()))
}

// HandleBatch implements smpp.Handler.
func (s *ownSession) HandleBatch() {}
