package dispatch

import (
	"context"
	"fmt"
	"sync"
)

// pings are those who wait for a loop to come round.
type pings struct {
	mu  sync.Mutex
	all []chan struct{}
}

func (p *pings) add() <-chan struct{} {
	c := make(chan struct{})
	p.mu.Lock()
	p.all = append(p.all, c)
	p.mu.Unlock()
	return c
}

func (p *pings) answer() {
	p.mu.Lock()
	all := p.all
	p.all = nil
	p.mu.Unlock()
	for _, c := range all {
		close(c)
	}
}

// Ping returns nil once a router of every app, behind everything that waits for
// it, and the loop that settles receipts have come round: it proves that they
// run, also while there is nothing to do. Run has to run.
func (d *Dispatcher) Ping(ctx context.Context) error {
	wait := make(map[string]<-chan struct{})
	d.apps.each(func(a *app) {
		wait["router of app "+a.ID] = a.pings.add()
		a.jobs.add(arrival{})
	})
	if d.o.Carrier != nil {
		wait["receipts"] = d.pings.add()
		select {
		case d.pinged <- struct{}{}:
		default:
		}
	}
	for loop, answered := range wait {
		select {
		case <-answered:
		case <-ctx.Done():
			return fmt.Errorf("dispatcher: %s: %w", loop, ctx.Err())
		}
	}
	return nil
}
