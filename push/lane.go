package push

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// A lane that could not connect waits this long before it tries again, twice
// as long after each further failure, so that a provider that is down costs
// neither a dial a push nor a second of waiting.
const (
	minDialPause = 100 * time.Millisecond
	maxDialPause = time.Second
	maxBarren    = 3 // connections in a row that closed without an answer, before the pause
)

// lane is one connection of a Link and its successors: at any time at most
// one takes new requests; those that had a GOAWAY only finish theirs.
//
// mu guards everything below it. The Send's own goroutine does the work,
// except for a dial, whose goroutine ends with the dial or with the Link.
type lane struct {
	link      *Link
	transport *http.Transport
	addr      string
	timeout   time.Duration
	log       *slog.Logger

	mu      sync.Mutex
	cur     *clientConn          // takes new requests; nil = none
	open    map[*clientConn]bool // all that are not closed yet, cur among them
	change  chan struct{}        // closed at the next change of cur, dialing or cur.proven; nil = nobody waits
	dialing bool
	dialErr error         // of the last dial
	pause   time.Duration // after the last dial; 0 = it succeeded
	retryAt time.Time
	barren  int // connections in a row that closed without an answer
	closed  bool
}

// clientConn is one HTTP/2 connection; the lane's mu guards its fields.
type clientConn struct {
	*http.ClientConn
	inFlight int
	proven   bool // it has answered: it may carry more than one request
	retired  bool // takes no more requests; closed with its last one
}

// roundTrip does one attempt at req on the lane's connection.
func (ln *lane) roundTrip(ctx context.Context, req *http.Request) (*http.Response, *LinkError) {
	cc, lerr := ln.acquire(ctx)
	if lerr != nil {
		return nil, lerr
	}
	r, b, err := attempt(req)
	if err != nil {
		ln.release(cc, true, false)
		return nil, &LinkError{Code: codeBadRequest, Err: err}
	}
	resp, err := cc.RoundTrip(r)
	answered := err == nil
	if answered {
		err = readReply(resp)
	}
	// A connection that refuses a request before sending it has had a GOAWAY
	// or is closed; ClientConn.Err reports only the latter.
	usable := cc.Err() == nil && (err == nil || b.sent.Load() || ctx.Err() != nil)
	ln.release(cc, usable, answered)
	switch {
	case err == nil:
		return resp, nil
	case errors.Is(err, errReplyTooLong):
		return nil, &LinkError{Code: codeBadReply, Sent: true, Err: err}
	case ctx.Err() == nil:
		return nil, &LinkError{Code: codeBroken, Sent: b.sent.Load(), Err: err}
	case !b.sent.Load():
		// The peer's own stream limit held it back.
		return nil, notSent(ctx, codeLaneFull, err)
	case errors.Is(ctx.Err(), context.Canceled):
		return nil, &LinkError{Code: codeCancelled, Sent: true, Err: err}
	default:
		return nil, &LinkError{Code: codeTimeout, Sent: true, Err: err}
	}
}

// acquire returns the lane's connection, dialling it if need be. A new
// connection carries one request until it has answered: APNs allows a single
// stream until it has seen a valid provider token, and refuses the rest.
func (ln *lane) acquire(ctx context.Context) (*clientConn, *LinkError) {
	ln.mu.Lock()
	for {
		if ln.closed {
			ln.mu.Unlock()
			return nil, &LinkError{Code: codeClosed, Err: ErrClosed}
		}
		if cc := ln.cur; cc != nil && cc.Err() != nil {
			ln.retire(cc)
		}
		if cc := ln.cur; cc != nil && (cc.proven || cc.inFlight == 0) {
			cc.inFlight++
			ln.mu.Unlock()
			return cc, nil
		}
		if ln.cur == nil && !ln.connect() {
			err := ln.dialErr
			ln.mu.Unlock()
			return nil, &LinkError{Code: codeUnreachable, Err: err}
		}
		if ln.change == nil {
			ln.change = make(chan struct{})
		}
		change, wait := ln.change, codeLaneFull
		if ln.cur == nil {
			wait = codeUnreachable
		}
		ln.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
			return nil, notSent(ctx, wait, ctx.Err())
		}
		ln.mu.Lock()
		if ln.cur == nil && !ln.dialing && ln.dialErr != nil && !ln.closed {
			err := ln.dialErr
			ln.mu.Unlock()
			return nil, &LinkError{Code: codeUnreachable, Err: err}
		}
	}
}

// connect starts a dial unless there is a connection, or one is under way; mu
// is held. It is false while the pause after a failed one lasts.
func (ln *lane) connect() bool {
	switch {
	case ln.closed, ln.cur != nil, ln.dialing:
		return true
	case ln.pause > 0 && time.Now().Before(ln.retryAt):
		return false
	}
	ln.dialing = true
	ln.link.work.Add(1)
	go ln.dial()
	return true
}

// lost retires a connection that was lost while nothing was sent on it.
func (ln *lane) lost(cc *clientConn) {
	if cc.Err() == nil {
		return
	}
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.retire(cc)
}

// release takes back what acquire gave.
func (ln *lane) release(cc *clientConn, usable, answered bool) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	cc.inFlight--
	if answered && !cc.proven {
		cc.proven = true
		ln.pause, ln.barren = 0, 0
	}
	switch {
	case cc.retired && cc.inFlight == 0:
		ln.discard(cc)
	case !usable:
		ln.retire(cc)
	}
	ln.changed()
}

// retire takes cc out of use; mu is held. What has worked is connected anew at
// once, so that the next request does not wait for the handshake; what has not
// is left to the next request.
func (ln *lane) retire(cc *clientConn) {
	if cc.retired {
		return
	}
	cc.retired = true
	if ln.cur == cc {
		ln.cur = nil
		ln.dialErr = nil
		if cc.proven {
			ln.connect()
		} else if ln.barren++; ln.barren >= maxBarren {
			ln.backOff()
		}
	}
	if cc.inFlight == 0 {
		ln.discard(cc)
	}
	ln.changed()
}

// discard closes cc; mu is held. Close is not called under mu, because it may
// write to the socket.
func (ln *lane) discard(cc *clientConn) {
	if ln.closed {
		return // close has it
	}
	delete(ln.open, cc)
	ln.link.work.Add(1)
	go func() {
		defer ln.link.work.Done()
		_ = cc.Close()
	}()
}

// dial makes the lane's next connection and ends.
func (ln *lane) dial() {
	defer ln.link.work.Done()
	ctx, cancel := context.WithTimeout(ln.link.ctx, ln.timeout)
	defer cancel()
	start := time.Now()
	c, err := ln.transport.NewClientConn(ctx, "https", ln.addr)
	if cc := ln.dialled(c, err, time.Since(start)); cc != nil {
		// Not under mu: it may call lost at once.
		c.SetStateHook(func(*http.ClientConn) { ln.lost(cc) })
	}
}

// dialled takes what came of a dial; nil if there is no new connection.
func (ln *lane) dialled(c *http.ClientConn, err error, took time.Duration) *clientConn {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.dialing = false
	ln.dialErr = err
	defer ln.changed()
	if err != nil {
		first := ln.pause == 0
		ln.backOff()
		if first && !ln.closed && ln.link.gone.CompareAndSwap(false, true) {
			ln.log.Warn("provider is unreachable", "err", err)
		}
		return nil
	}
	if ln.closed {
		_ = c.Close()
		return nil
	}
	ln.link.gone.Store(false)
	cc := &clientConn{ClientConn: c}
	ln.cur = cc
	if ln.open == nil {
		ln.open = make(map[*clientConn]bool)
	}
	ln.open[cc] = true
	ln.log.Debug("provider connected", "took", took)
	return cc
}

// backOff puts the next dial off; mu is held.
func (ln *lane) backOff() {
	ln.pause = min(max(2*ln.pause, minDialPause), maxDialPause)
	ln.retryAt = time.Now().Add(ln.pause)
}

// changed wakes everyone who waits in acquire; mu is held.
func (ln *lane) changed() {
	if ln.change != nil {
		close(ln.change)
		ln.change = nil
	}
}

// close ends every connection; a dial under way ends with the Link's context.
func (ln *lane) close() {
	ln.mu.Lock()
	ln.closed = true
	ln.cur = nil
	open := ln.open
	ln.open = nil
	ln.changed()
	ln.mu.Unlock()
	for cc := range open {
		_ = cc.Close()
	}
}
