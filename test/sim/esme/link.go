package esme

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/test/sim/books"
)

// run is one run of an ESME: its binds take messages from items.
type run struct {
	o       *Options
	t       *tracker
	items   chan submit
	bound   atomic.Int64
	lost    atomic.Int64
	elapsed time.Duration
}

// connect starts all binds and returns when each was bound once. links ends
// when ctx does, senders when items is closed and all is answered.
func (r *run) connect(ctx context.Context, cancel context.CancelCauseFunc, links, senders *sync.WaitGroup) error {
	if r.o.Client == ClientGoSMPP {
		return r.connectGoSMPP(ctx, cancel, links, senders)
	}
	var all []*link
	for range r.o.Binds {
		if r.o.Bind == "trx" {
			all = append(all, &link{r: r, id: pdu.BindTransceiver})
		} else {
			all = append(all, &link{r: r, id: pdu.BindTransmitter}, &link{r: r, id: pdu.BindReceiver})
		}
	}
	for _, l := range all {
		if err := l.bind(ctx); err != nil {
			for _, other := range all {
				if other.s != nil {
					other.s.Close(nil)
				}
			}
			return err
		}
	}
	for _, l := range all {
		l.sessions = make(chan *smpp.Session)
		links.Go(func() { l.keep(ctx, cancel) })
		if l.id != pdu.BindReceiver {
			senders.Go(func() { l.send(ctx) })
		}
	}
	return nil
}

// link is one bind on the engine in shunt/smpp. keep owns s and renews it;
// send gets every new session from it.
type link struct {
	r        *run
	id       pdu.ID
	s        *smpp.Session
	sessions chan *smpp.Session
}

// bind binds once, or with Reconnect until it succeeds.
func (l *link) bind(ctx context.Context) error {
	o := l.r.o
	wait := 50 * time.Millisecond
	for {
		s, _, err := smpp.Dial(ctx, o.Addr, l.id, pdu.Bind{
			SystemID: o.SystemID, Password: o.Password, SystemType: o.SystemType, InterfaceVersion: o.Version,
		}, smpp.Config{Window: o.Window + 8, Response: o.Response})
		if err == nil {
			l.s = s
			l.r.bound.Add(1)
			return nil
		}
		if !o.Reconnect || ctx.Err() != nil {
			return fmt.Errorf("%s: %w", l.id, err)
		}
		select {
		case <-time.After(wait + rand.N(wait)):
		case <-ctx.Done():
			return ctx.Err()
		}
		wait = min(2*wait, time.Second)
	}
}

// keep reads the session and, with Reconnect, binds again when it is lost. It
// ends with ctx, after an orderly unbind.
func (l *link) keep(ctx context.Context, cancel context.CancelCauseFunc) {
	defer close(l.sessions)
	for {
		s := l.s
		stop := context.AfterFunc(ctx, func() { s.Unbind(2 * time.Second) })
		ended := make(chan error, 1)
		h := &handler{t: l.r.t, s: s}
		go func() { ended <- s.Serve(h) }()
		var err error
		offer := l.sessions
		if l.id == pdu.BindReceiver {
			offer = nil
		}
		leave := l.leave()
		left := false
		for open := true; open; {
			select {
			case offer <- s:
				offer = nil
			case <-leave:
				left = true
				h.leave()
				go s.Unbind(2 * time.Second)
			case err = <-ended:
				open = false
			}
		}
		stop()
		if ctx.Err() != nil {
			return
		}
		if left {
			if !pause(ctx, l.r.o.ReceiverDown) || l.bind(ctx) != nil {
				return
			}
			continue
		}
		l.r.lost.Add(1)
		if !l.r.o.Reconnect {
			cancel(fmt.Errorf("%s: connection lost: %w", l.id, err))
			return
		}
		if l.bind(ctx) != nil {
			return
		}
	}
}

// leave is when a receiver that comes and goes is to go; nil: never.
func (l *link) leave() <-chan time.Time {
	if l.id != pdu.BindReceiver || l.r.o.ReceiverUp <= 0 {
		return nil
	}
	return time.After(l.r.o.ReceiverUp)
}

// pause waits; false: ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// send submits what comes from items, on one session after another, and
// returns when items is closed and everything is answered or lost.
func (l *link) send(ctx context.Context) {
	o, t := l.r.o, l.r.t
	window := make(chan struct{}, o.Window)
	var outstanding sync.WaitGroup
	defer outstanding.Wait()
	s := <-l.sessions
	for item := range l.r.items {
		p := pdu.PDU(pdu.AppendSM(nil, pdu.SubmitSM, 0, &item.sm))
		select {
		case window <- struct{}{}:
		case <-ctx.Done():
			return
		}
		for s != nil {
			line := t.sent(&item, p.Body(), &item.sm, o.SystemID)
			outstanding.Add(1)
			err := s.Call(p, func(resp pdu.PDU, err error) {
				l.answer(t, line, resp, err)
				<-window
				outstanding.Done()
			})
			if err == nil {
				break
			}
			outstanding.Done()
			t.unsent(line) // nothing was written: it may go on the next session
			if errors.Is(err, smpp.ErrWindowFull) {
				select { // only requests that timed out can have filled it
				case <-time.After(100 * time.Millisecond):
				case <-ctx.Done():
					return
				}
				continue
			}
			s = <-l.sessions
		}
		if s == nil {
			return
		}
	}
}

func (l *link) answer(t *tracker, line *books.ESMELine, resp pdu.PDU, err error) {
	if err != nil {
		t.lost(line, err.Error())
		return
	}
	id := ""
	if resp.ID() == pdu.SubmitSMResp {
		id, err = pdu.MessageID(resp)
	}
	if err != nil {
		t.lost(line, "submit_sm_resp: "+err.Error())
		return
	}
	t.answered(line, resp.Status(), id)
}

// handler takes what an SMSC sends on its own. It runs on the session's reader.
type handler struct {
	t *tracker
	s *smpp.Session

	mu   sync.Mutex
	left bool // what comes now is neither taken nor answered: the SMSC sends it again
}

func (h *handler) leave() {
	h.mu.Lock()
	h.left = true
	h.mu.Unlock()
}

// HandleRequest implements smpp.Handler.
func (h *handler) HandleRequest(p pdu.PDU) {
	switch id := p.ID(); id {
	case pdu.DeliverSM:
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.left {
			return
		}
		var m pdu.SM
		status := pdu.ROK
		if err := m.Decode(p); err != nil {
			status = pdu.RINVMSGLEN
			h.t.unreadable()
		} else {
			h.t.deliver(&m)
		}
		_ = h.s.Send(pdu.AppendMessageResp(nil, pdu.DeliverSMResp, status, p.Seq(), ""))
	case pdu.Unbind:
		_ = h.s.Send(pdu.AppendHeader(nil, pdu.UnbindResp, pdu.ROK, p.Seq()))
		h.s.Finish()
	default:
		if id.Answered() {
			_ = h.s.Send(pdu.AppendHeader(nil, pdu.GenericNack, pdu.RINVCMDID, p.Seq()))
		}
	}
}

// HandleResponse implements smpp.Handler.
func (h *handler) HandleResponse(pdu.PDU) {}

// HandleBatch implements smpp.Handler.
func (h *handler) HandleBatch() {}
