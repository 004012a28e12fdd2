package api

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"shunt/gateway/msg"
	"shunt/store/spool"
)

const (
	streamsPerDevice = 2  // the newest stay: of a lost connection nobody tells
	streamQueue      = 64 // events that wait for a slow reader; one more cuts it
)

// errStreams says that no more streams are served.
var errStreams = errors.New("too many streams are open")

// Streams are the open streams of this process. What the spool has synced goes
// to them in its order, without waiting for any reader. It is safe for concurrent
// use.
type Streams struct {
	max  int
	n    atomic.Int64
	done chan struct{} // closed when no more are served
	beat time.Duration // between comments, each of which shows that its device is there

	mu     sync.RWMutex
	closed bool
	open   map[owner][]*stream // of each, oldest first
}

// owner is who a message is for.
type owner struct {
	number msg.Number
	app    string
}

// stream is one device's. Whoever sends to it holds mu for reading, whoever
// takes it out for writing.
type stream struct {
	owner  owner
	device string
	events chan streamEvent
	cut    chan struct{} // closed once it is to end
	ended  sync.Once
}

// streamEvent is a message that came, or, with a reason, one that is gone.
type streamEvent struct {
	record spool.Record
	reason string
}

// Reasons of a superseded event.
const (
	goneClaimed   = "claimed"
	goneSMS       = "sms"
	goneExpired   = "expired"
	goneCancelled = "cancelled"
)

// NewStreams are no streams yet, and at most limit at a time.
func NewStreams(limit int) *Streams {
	return &Streams{max: limit, done: make(chan struct{}), beat: heartbeat, open: make(map[owner][]*stream)}
}

// Close ends all streams; those who listen come back elsewhere.
func (s *Streams) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
}

// Open are the streams that are open.
func (s *Streams) Open() int { return int(s.n.Load()) }

// Announce tells the streams of a message's number and app that it may be
// claimed, and whether there is one. It does not block.
func (s *Streams) Announce(r *spool.Record) bool {
	return s.send(r, streamEvent{record: *r}, "")
}

// Observe tells of every message that a stream may have announced and that its
// app must not show any more. It does not block.
func (s *Streams) Observe(c *spool.Change) {
	if s.n.Load() == 0 || c.Replay || c.From == c.To || c.Record.Follows() {
		return
	}
	e := streamEvent{record: c.Record}
	but := ""
	switch c.To {
	case msg.Claimed:
		e.reason, but = goneClaimed, c.Record.Device
	case msg.Fallback:
		e.reason = goneSMS
	case msg.Expired:
		e.reason = goneExpired
	case msg.Cancelled:
		e.reason = goneCancelled
	default:
		return
	}
	s.send(&c.Record, e, but)
}

// send gives an event to the streams of r's owner but those of one device.
func (s *Streams) send(r *spool.Record, e streamEvent, but string) (sent bool) {
	if s.n.Load() == 0 {
		return false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, st := range s.open[owner{r.To, r.App}] {
		if but != "" && st.device == but {
			continue
		}
		select {
		case st.events <- e:
			sent = true
		default: // it comes back and finds in the spool what it has missed
			st.end()
		}
	}
	return sent
}

func (st *stream) end() { st.ended.Do(func() { close(st.cut) }) }

// add opens a stream, which remove closes.
func (s *Streams) add(c caller) (*stream, error) {
	st := &stream{
		owner: owner{c.number, c.device.App}, device: c.device.ID,
		events: make(chan streamEvent, streamQueue), cut: make(chan struct{}),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.n.Load() >= int64(s.max) {
		return nil, errStreams
	}
	s.n.Add(1)
	all := append(s.open[st.owner], st)
	mine := 0
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].device != st.device {
			continue
		}
		if mine++; mine > streamsPerDevice {
			all[i].end()
		}
	}
	s.open[st.owner] = all
	return st, nil
}

func (s *Streams) remove(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.open[st.owner]
	left := make([]*stream, 0, len(all))
	for _, other := range all {
		if other != st {
			left = append(left, other)
		}
	}
	if len(left) == 0 {
		delete(s.open, st.owner)
	} else {
		s.open[st.owner] = left
	}
	s.n.Add(-1)
}

// accepted is when a message could first be claimed; ok is false where its trace
// is not kept.
func (h *handlers) accepted(r *spool.Record) (at time.Time, ok bool) {
	if r.State == msg.Accepted {
		return r.Since, true
	}
	steps, err := h.Spool.Trace(r.ID)
	if err != nil {
		return at, false
	}
	for _, s := range steps {
		if s.To == msg.Accepted {
			return s.At, true
		}
	}
	return at, false
}

// missed are the messages that a device may claim and that were not announced
// before the one with that id was. A message that waited for its hour or for
// others has an id from before it was announced, so that it is the time of its
// acceptance that counts. What cannot be told is announced again.
func (h *handlers) missed(c caller, last msg.ID) (list []spool.Record) {
	from := time.UnixMilli(last.UnixMilli())
	if r, err := h.Spool.Get(last); err == nil {
		if at, ok := h.accepted(&r); ok {
			from = at
		}
	}
	all := h.Spool.ByNumber(c.number, msg.ID{}, 0)
	for i := range all {
		r := &all[i]
		if !c.owns(r) || r.ID == last || r.State != msg.Accepted && r.State != msg.Pushing && r.State != msg.Pushed {
			continue
		}
		if !last.IsZero() && !r.Part() { // of a long message it is judged when it is announced
			if r.Since.Before(from) {
				continue
			}
			if at, ok := h.accepted(r); ok && at.Before(from) {
				continue
			}
		}
		list = append(list, *r)
	}
	return list
}
