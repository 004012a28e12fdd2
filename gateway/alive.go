package gateway

import (
	"context"
	"fmt"
	"time"

	"shunt/gateway/route"
)

const (
	statusEvery = 5 * time.Second
	// beats are within a third of the watchdog's time, so that one that is late
	// does not end the process.
	beatsPerWatchdog = 3
)

// tellManager tells the service manager that the gateway lives, and how it is,
// until ctx is done. Life is proven, not assumed: the watchdog is fed only
// after the loops that move messages on have come round.
func (g *Gateway) tellManager(ctx context.Context) {
	if g.notifier == nil {
		return
	}
	every := statusEvery
	watchdog := g.notifier.Watchdog() / beatsPerWatchdog
	if watchdog > 0 {
		every = min(every, watchdog)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	last := &figures{}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if watchdog > 0 {
			if loop := g.frozen(ctx, watchdog); loop != "" {
				if ctx.Err() == nil {
					g.log.Error("watchdog: a loop does not come round", "loop", loop)
				}
				continue
			}
			g.notifier.Alive()
		}
		g.notifier.Status(g.line(last, time.Now()))
	}
}

// frozen names a loop that does not come round within that time; "" is none. A
// disk that stands still is no reason to end a gateway that passes messages
// meanwhile: the spool's own watcher has noticed it, so that is life enough.
func (g *Gateway) frozen(ctx context.Context, within time.Duration) string {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := g.spool.Ping(ctx); err != nil && !g.spool.Stalled() {
		return err.Error()
	}
	if err := g.dispatcher.Ping(ctx); err != nil && !g.spool.Stalled() {
		return err.Error()
	}
	return ""
}

// figures are what a rate is reckoned from.
type figures struct {
	at      time.Time
	submits uint64
}

// line is the gateway in one line, for systemctl status.
func (g *Gateway) line(last *figures, now time.Time) string {
	n := g.counters().SubmitsIn
	rate := 0.0
	if took := now.Sub(last.at); !last.at.IsZero() && took > 0 && n > last.submits {
		rate = float64(n-last.submits) / took.Seconds()
	}
	last.at, last.submits = now, n
	s := fmt.Sprintf("%d binds, %.0f submits/s, %d diverted and not ended, divert %s", len(g.hub.Binds()), rate, g.spool.Stats().LiveTotal, g.mode.get())
	if all := g.failOpen(); len(all) > 0 && g.mode.get() != route.Off {
		s += fmt.Sprintf(", plain SMS because of %v", all)
	}
	return s
}

// suspended says once that diversion is suspended for a reason, and once that it
// is not. A reason counts when it is there twice in a row: a bind that is made
// anew is no news.
type suspended struct{ before, said map[string]bool }

func (s *suspended) look(g *Gateway) {
	now := make(map[string]bool)
	if g.mode.get() != route.Off {
		for _, r := range g.failOpen() {
			now[r] = true
		}
	}
	for r := range now {
		if s.before[r] && !s.said[r] {
			s.said[r] = true
			g.log.Warn("diversion is suspended", "reason", r)
		}
	}
	for r := range s.said {
		if !now[r] {
			delete(s.said, r)
			g.log.Info("diversion is back", "reason", r)
		}
	}
	s.before = now
}
