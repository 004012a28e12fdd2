package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	sampleEvery = 250 * time.Millisecond
	sayEvery    = 5 * time.Second
)

// watch reads the gateway's counters and shows how far the run is, until the
// function that it returns is called.
func (t *torture) watch(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for said := time.Now(); ; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				if t.o.terminal {
					_, _ = fmt.Fprint(t.o.out, "\r\033[K")
				}
				return
			}
			live := t.sample()
			switch {
			case t.o.terminal:
				_, _ = fmt.Fprintf(t.o.out, "\r\033[K%s", t.line(live))
			case time.Since(said) >= sayEvery:
				said = time.Now()
				t.say("%s", t.line(live))
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// sample keeps the last status of every gateway process: a killed one takes its
// counters with it.
func (t *torture) sample() (live string) {
	n := t.crew[gateway].started()
	st, ok := t.ctl.Status()
	if !ok {
		return "gateway down"
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sums[n] = st
	live = fmt.Sprintf("%d in hand", st.Spool.LiveTotal)
	if len(st.FailOpen) > 0 {
		live += ", fails open: " + strings.Join(st.FailOpen, " ")
	}
	return live
}

func (t *torture) line(live string) string {
	var sent, answered, receipts, open int
	for _, s := range t.esmes {
		p := s.progress()
		sent, answered, receipts, open = sent+p.Sent, answered+p.Answered, receipts+p.Receipts, open+p.Open
	}
	phase := "load"
	since := time.Since(t.begun)
	if since > t.o.duration {
		phase = "drain"
	}
	t.in.mu.Lock()
	begun := t.in.begun
	t.in.mu.Unlock()
	names, _ := t.in.now(nil)
	line := fmt.Sprintf("  %s %.0fs of %s: fault %d of %d, %d messages, %d unanswered, receipts %d, %d to come; %s",
		phase, since.Seconds(), t.o.duration, begun, len(t.faults), sent, sent-answered, receipts, open, live)
	if len(names) > 0 {
		line += "; " + strings.Join(names, ", ")
	}
	return line
}
