package provider

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Push is one accepted push, as GET /pushes streams it.
type Push struct {
	Token   string    `json:"token"`
	ID      string    `json:"id"`
	From    string    `json:"from"`
	At      time.Time `json:"at"`
	Expires time.Time `json:"expires"`
	Body    string    `json:"body,omitempty"`
}

const (
	subscriberBuffer = 4096 // pushes that a subscriber may lag behind
	maxSubscribers   = 256
	farewellTimeout  = time.Second // to tell a slow subscriber that it is dropped
)

// hub hands every accepted push to every subscriber. mu guards it.
type hub struct {
	mu      sync.Mutex
	subs    map[*subscriber]bool
	dropped int
}

// subscriber is one reader of GET /pushes; its request's goroutine drains it.
// The hub closes pushes when it gives up on a slow reader.
type subscriber struct {
	pushes chan []byte
	lost   bool // set before pushes is closed
}

// publish never blocks: a subscriber whose buffer is full is dropped.
func (h *hub) publish(p Push) {
	line, err := json.Marshal(p)
	if err != nil {
		return // a time outside the years of RFC 3339; the checks keep it out
	}
	line = append(line, '\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.subs {
		select {
		case s.pushes <- line:
		default:
			s.lost = true
			close(s.pushes)
			delete(h.subs, s)
			h.dropped++
		}
	}
}

func (h *hub) subscribe() (*subscriber, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.subs) >= maxSubscribers {
		return nil, false
	}
	s := &subscriber{pushes: make(chan []byte, subscriberBuffer)}
	if h.subs == nil {
		h.subs = make(map[*subscriber]bool)
	}
	h.subs[s] = true
	return s, true
}

func (h *hub) leave(s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subs, s)
}

func (h *hub) counts() (subscribers, dropped int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.subs), h.dropped
}

// stream serves GET /pushes: the header at once, then a line a push until the
// reader leaves or the simulator ends.
func (h *hub) stream(w http.ResponseWriter, r *http.Request) {
	s, ok := h.subscribe()
	if !ok {
		http.Error(w, "too many subscribers", http.StatusServiceUnavailable)
		return
	}
	defer h.leave(s)
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	if rc.Flush() != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case line, ok := <-s.pushes:
			if !ok {
				_ = rc.SetWriteDeadline(time.Now().Add(farewellTimeout))
				_, _ = fmt.Fprintf(w, `{"error":"subscriber too slow: dropped after a backlog of %d pushes"}`+"\n", subscriberBuffer)
				_ = rc.Flush()
				return
			}
			if _, err := w.Write(line); err != nil {
				return
			}
			if len(s.pushes) == 0 && rc.Flush() != nil {
				return
			}
		}
	}
}
