package page

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

const (
	every       = time.Second
	lookFor     = historyFor // after somebody asked for the page without a script
	maxViewers  = 64
	beatEvery   = 15 * time.Second
	eventWithin = 5 * time.Second // a viewer that takes no event so long is gone
	waiting     = 2               // events that may wait for a viewer; one that falls behind is dropped
)

// shot is one snapshot. All viewers share its JSON, and all who ask for the
// page within the second its HTML.
type shot struct {
	at   time.Time
	json []byte
	html func() ([]byte, error)
}

// viewer is one stream of events. The channel is closed to drop it.
type viewer struct{ events chan []byte }

// current is a snapshot that is not older than two seconds.
func (p *Page) current(now time.Time) *shot {
	p.mu.Lock()
	p.seen = now
	s := p.last
	p.mu.Unlock()
	p.rouse()
	if s != nil && now.Sub(s.at) < 2*every {
		return s
	}
	return p.take(now)
}

func (p *Page) rouse() {
	select {
	case p.wake <- struct{}{}:
	default: // it has not come round since somebody else asked
	}
}

// watched tells whether a snapshot is for anybody.
func (p *Page) watched(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.viewers) > 0 || now.Sub(p.seen) < lookFor
}

// take makes a snapshot and hands it to all viewers. Who comes while one is
// made gets that one.
func (p *Page) take(now time.Time) *shot {
	p.taking.Lock()
	defer p.taking.Unlock()
	p.mu.Lock()
	s := p.last
	p.mu.Unlock()
	if s != nil && now.Sub(s.at) < every/2 {
		return s
	}
	v := p.look(now)
	b, err := json.Marshal(v)
	if err != nil {
		b = []byte("{}") // strings alone: they encode
	}
	s = &shot{at: now, json: b, html: sync.OnceValues(func() ([]byte, error) { return p.render("index.html", v) })}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = s
	for v := range p.viewers {
		select {
		case v.events <- s.json:
		default:
			delete(p.viewers, v)
			close(v.events)
		}
	}
	return s
}

// join admits a viewer; nil when there are too many.
func (p *Page) join() *viewer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.viewers) >= maxViewers {
		return nil
	}
	v := &viewer{make(chan []byte, waiting)}
	p.viewers[v] = true
	if p.last != nil && time.Since(p.last.at) < 2*every {
		v.events <- p.last.json // there is room: it is the first
	}
	p.rouse()
	return v
}

func (p *Page) leave(v *viewer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.viewers, v)
}

// events streams a snapshot a second (server-sent events), and a comment when
// there has been none for a while.
func (p *Page) events(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "text/event-stream")
		return
	}
	v := p.join()
	if v == nil {
		w.Header().Set("Retry-After", "30")
		http.Error(w, "too many pages are open: reload this one when another is closed", http.StatusServiceUnavailable)
		return
	}
	defer p.leave(v)
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{}) // there is nothing to read; refused only where there is no connection
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep events back
	send := func(parts ...[]byte) bool {
		_ = out.SetWriteDeadline(time.Now().Add(eventWithin)) // the same
		for _, b := range parts {
			if _, err := w.Write(b); err != nil {
				return false
			}
		}
		return out.Flush() == nil
	}
	if !send([]byte("retry: 2000\n\n")) {
		return
	}
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		select {
		case b, ok := <-v.events:
			if !ok || !send([]byte("data: "), b, []byte("\n\n")) {
				return
			}
			beat.Reset(beatEvery)
		case <-beat.C:
			if !send([]byte(": still here\n\n")) {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}
