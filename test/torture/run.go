package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"shunt/test/sim/esme"
	"shunt/test/sim/handset"
	"shunt/test/sim/smsc"
	"shunt/test/sim/stage"
)

// options are what a run does.
type options struct {
	shunt, sim string // binaries
	dir        string
	seed       uint64
	duration   time.Duration // of the load
	gap        time.Duration // mean time between two faults
	rate       float64       // messages a second, of all ESMEs
	numbers    int           // that are registered; as many again are not
	kinds      []kind
	diskSize   int64
	drain      time.Duration // for everything to come to an end once all is healed
	out        io.Writer
	terminal   bool
}

// torture is one run.
type torture struct {
	o      options
	dir    string
	yard   *stage.Yard
	conf   stage.Config
	ctl    stage.Control
	legs   map[string]*proxy
	crew   map[string]*member
	disk   *disk // nil: the data directory is an ordinary one
	faults []fault
	in     *injector

	supervise sync.WaitGroup
	quit      context.CancelFunc // of the supervision
	phones    *stage.Process
	esmes     []*sender

	mu     sync.Mutex
	begun  time.Time // of the load; not changed afterwards
	deaths []death
	wrong  []string // what must not have been, beside the books' faults
	fail   context.CancelCauseFunc
	sums   map[int]stage.Status // the last of each gateway process
}

func (t *torture) path(name string) string { return filepath.Join(t.dir, name) }

func (t *torture) say(format string, args ...any) {
	_, _ = fmt.Fprintf(t.o.out, format+"\n", args...)
}

// run is a whole run in t.dir. The summary is nil when it did not get as far as
// the books.
func (t *torture) run(parent context.Context) (sum *summary, err error) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	t.fail = cancel
	t.yard = stage.NewYard(t.dir)
	defer t.yard.Close()
	t.faults = schedule(t.o.seed, t.o.kinds, t.o.duration, t.o.gap)
	t.in = &injector{t: t, past: map[int]time.Time{}, counts: map[kind]int{}, syncs: map[kind]int{}}
	t.printSchedule()

	defer func() { t.tearDown(err == nil && sum.ok()) }()
	if err := t.setUp(ctx); err != nil {
		return nil, err
	}
	if err := t.load(ctx); err != nil {
		return nil, err
	}
	drained := t.drained(ctx)
	if parent.Err() != nil {
		return nil, errors.New("interrupted")
	}
	return t.settle(drained)
}

// load runs the ESMEs, and the faults beside them, until the load is over and
// everything is healed.
func (t *torture) load(ctx context.Context) error {
	t.mu.Lock()
	t.begun = time.Now()
	t.mu.Unlock()
	if err := t.startESMEs(); err != nil {
		return err
	}
	stop := t.watch(ctx)
	defer stop()
	faulty, heal := context.WithDeadline(ctx, t.begun.Add(t.o.duration))
	defer heal()
	t.in.run(faulty, t.begun, t.faults)
	pause(ctx, time.Until(t.begun.Add(t.o.duration)))
	return context.Cause(ctx)
}

// drained waits, with everything healed, until nothing is under way any more.
// Its error is what still is.
func (t *torture) drained(parent context.Context) error {
	ctx, cancel := context.WithTimeout(parent, t.o.drain)
	defer cancel()
	stop := t.watch(ctx)
	defer stop()
	var last [3]int
	since := time.Now()
	var why string
	err := stage.Until(ctx, "the last outcomes", nil, func() bool {
		var now [3]int
		now, why = t.underWay()
		if why != "" || now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) >= calm
	})
	if err != nil {
		return fmt.Errorf("not drained within %s: %s", t.o.drain, why)
	}
	return nil
}

// underWay says what is still to come to its end, and counts what must not
// change any more. Messages that were claimed and never acknowledged, and their
// receipts, end with their validity.
func (t *torture) underWay() (counts [3]int, why string) {
	st, ok := t.ctl.Status()
	if !ok {
		return counts, "the gateway does not answer"
	}
	claimed := st.Spool.Live["CLAIMED"]
	open := 0
	for _, s := range t.esmes {
		p := s.progress()
		if p.Answered < p.Sent {
			return counts, fmt.Sprintf("%s waits for %d responses", s.name, p.Sent-p.Answered)
		}
		open += p.Open
		counts[1] += p.Receipts
		counts[2] += p.Sent
	}
	counts[0] = claimed
	switch {
	case len(st.FailOpen) > 0:
		why = "the gateway fails open: " + strings.Join(st.FailOpen, ", ")
	case st.Spool.LiveTotal-claimed > 0 || st.Spool.ReceiptsDue > 0 || st.Spool.Queued > 0:
		why = fmt.Sprintf("the gateway has %d messages in hand %v, %d receipts due", st.Spool.LiveTotal, st.Spool.Live, st.Spool.ReceiptsDue)
	case open > claimed:
		why = fmt.Sprintf("ESMEs wait for %d receipts, of which %d may be pending", open, claimed)
	}
	return counts, why
}

// closeBooks ends those who write books; the gateway still answers.
func (t *torture) closeBooks(sum *summary) error {
	var errs []error
	for _, s := range t.esmes {
		_ = s.proc.Stop() // what it takes for a fault, the books judge
		var one esme.Summary
		if err := json.Unmarshal(s.proc.Stdout.Bytes(), &one); err != nil {
			errs = append(errs, fmt.Errorf("%s left no summary: %w", s.name, err))
		}
		sum.ESMEs = append(sum.ESMEs, one)
	}
	_ = t.phones.Stop()
	var phones handset.Summary
	if err := json.Unmarshal(t.phones.Stdout.Bytes(), &phones); err != nil {
		errs = append(errs, fmt.Errorf("the phones left no summary: %w", err))
	}
	if phones.Overload > 0 {
		errs = append(errs, fmt.Errorf("the phones left %d pushes alone", phones.Overload))
	}
	t.quit()
	t.supervise.Wait()
	errs = append(errs, t.crew[carrier].stop())
	var book smsc.Summary
	if p := t.crew[carrier].proc; p == nil || json.Unmarshal(p.Stdout.Bytes(), &book) != nil {
		errs = append(errs, errors.New("the SMSC left no summary"))
	}
	sum.SMSC = book
	return errors.Join(errs...)
}

// shutDown ends what is left, in order.
func (t *torture) shutDown() error {
	var errs []error
	for _, name := range []string{gateway, apns, fcm} {
		errs = append(errs, t.crew[name].stop())
	}
	return errors.Join(errs...)
}

// tearDown ends what is left, and keeps the gateway's data unless all went
// well.
func (t *torture) tearDown(well bool) {
	if t.quit != nil {
		t.quit()
	}
	t.supervise.Wait()
	for _, p := range t.legs {
		if p != nil {
			p.close()
		}
	}
	if t.disk == nil {
		return
	}
	if m := t.crew[gateway]; m != nil && m.proc != nil {
		m.proc.Kill()
	}
	if !well {
		if err := t.disk.keep(t.path("data-kept")); err != nil {
			t.say("the gateway's data could not be kept: %v", err)
		}
	}
	if err := t.disk.unmount(); err != nil {
		t.say("%v", err)
	}
}
