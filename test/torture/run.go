package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"shunt/test/sim/esme"
	"shunt/test/sim/handset"
	"shunt/test/sim/provider"
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

// Names of the processes that are killed and started again.
const (
	gateway = "gateway"
	carrier = "smsc"
	apns    = "apns"
	fcm     = "fcm"
)

const (
	claimWithin = 3 * time.Second
	startWithin = 30 * time.Second
	// distance is how long an octet takes from one end of a leg to the other:
	// without one, hardly anything would be under way when a fault comes.
	distance = 8 * time.Millisecond
	// calm is how long nothing may change before everything counts as drained:
	// longer than a receiver that comes and goes is away.
	calm = 4 * time.Second
)

// moreConfig makes the gateway give up a peer within a stall, and prefer a
// possible duplicate to a possible loss for one sender.
const moreConfig = `
[smpp]
response = "6s"
enquire_link = "5s"

[[plan]]
name = "careful"
match = { from = ["88222"] }
order = ["app", "carrier"]
claim_within = "3s"
prefer = "possible-duplicate"
lease = "2s"
`

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
	begun  time.Time // of the load

	supervise sync.WaitGroup
	quit      context.CancelFunc // of the supervision
	phones    *stage.Process
	esmes     []*sender

	mu     sync.Mutex
	deaths []death
	wrong  []string // what must not have been, beside the books' faults
	fail   context.CancelCauseFunc
	sums   map[int]stage.Status // the last of each gateway process
}

// sender is one ESME.
type sender struct {
	name string
	proc *stage.Process
	mu   sync.Mutex
	last esme.Progress
}

func (s *sender) progress() esme.Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
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

	defer func() { t.tearDown(err == nil && len(sum.Wrong) == 0) }()
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

// setUp starts everything but the ESMEs.
func (t *torture) setUp(ctx context.Context) (err error) {
	t.legs = map[string]*proxy{}
	for _, name := range legs {
		if t.legs[name], err = newProxy(name, distance); err != nil {
			return err
		}
	}
	if err := stage.People(t.dir, t.o.numbers, t.o.seed); err != nil {
		return err
	}
	t.conf = stage.Config{
		Dir: t.dir, SMSC: t.legs["smsc"].addr(), Own: t.legs["own"].addr(), ClaimWithin: claimWithin, Sections: moreConfig,
	}
	t.ctl = stage.NewControl(t.conf.Socket())
	if t.o.diskSize > 0 {
		if t.disk, err = mountDisk(t.yard, t.conf.DataDir(), t.o.diskSize); err != nil {
			return err
		}
	}
	var supervised context.Context
	supervised, t.quit = context.WithCancel(ctx)
	t.crew = map[string]*member{}
	infos := map[string]*provider.Info{apns: &t.conf.APNs, fcm: &t.conf.FCM}
	for _, name := range []string{carrier, apns, fcm} {
		t.member(name)
		t.start(supervised, name)
	}
	for _, name := range []string{carrier, apns, fcm} {
		if err := t.await(ctx, name); err != nil {
			return err
		}
		if info := infos[name]; info != nil { // the gateway takes the leg instead
			t.legs[name].point(info.Addr)
			info.URL = strings.Replace(info.URL, info.Addr, t.legs[name].addr(), 1)
		}
	}
	if err := t.conf.Write(); err != nil {
		return err
	}
	t.member(gateway)
	t.start(supervised, gateway)
	if err := t.await(ctx, gateway); err != nil {
		return err
	}
	if err := stage.Until(ctx, "the gateway", t.crew[gateway].process(), func() bool {
		st, ok := t.ctl.Status()
		return ok && st.Ready()
	}); err != nil {
		return err
	}
	if err := t.ctl.Provision(t.path(stage.DevicesFile)); err != nil {
		return err
	}
	return t.startPhones(ctx)
}

func (t *torture) startPhones(ctx context.Context) (err error) {
	t.phones, err = t.yard.Run("handset", nil, t.o.sim, "handset", "--seed", t.seed(), "--api", "http://"+t.legs["api"].addr(),
		"--pushes", t.conf.APNs.Control, "--pushes", t.conf.FCM.Control, "--devices", t.path(stage.DevicesFile),
		"--ready-file", t.path("handset.json"), "--book", t.path("handset.ndjson"),
		"--offline", "0.25", "--late", "0.03", "--never-ack", "0.02", "--twice", "0.05", "--sync", "0.05",
		"--claim-delay", "150ms", "--ack-delay", "80ms", "--retry-for", "1h")
	if err != nil {
		return err
	}
	return stage.Until(ctx, "the phones", t.phones, func() bool { return stage.ReadJSON(t.path("handset.json"), &struct{}{}) })
}

func (t *torture) seed() string { return strconv.FormatUint(t.o.seed, 10) }

// member makes one of those that are killed and started again.
func (t *torture) member(name string) {
	m := &member{name: name, served: make(chan struct{}), died: t.died}
	t.crew[name] = m
	file := t.path(name + ".json")
	run := func(n int, path string, args ...string) (*stage.Process, error) {
		_ = os.Remove(file)
		return t.yard.Run(fmt.Sprintf("%s-%d", name, n), nil, path, args...)
	}
	switch name {
	case gateway:
		m.launch = func(n int) (*stage.Process, error) { return run(n, t.o.shunt, "run", "-c", t.conf.File()) }
		m.ready = t.gatewayReady
	case carrier:
		m.launch = func(n int) (*stage.Process, error) {
			return run(n, t.o.sim, "smsc", "--seed", t.seed(), "--addr-file", file, "--book", t.path("smsc.ndjson"), "--lasting",
				"--accounts", "bank:"+stage.Password+",shop:"+stage.Password+",shunt:"+stage.Password,
				"--latency", "40ms", "--jitter", "30ms", "--receipt-delay", "300ms", "--receipt-before-resp-rate", "0.01",
				"--fail-rate", "0.02", "--expire-rate", "0.01", "--throttle-rate", "0.003", "--id", "hex")
		}
		m.ready = func(ctx context.Context, p *stage.Process) error {
			var addr struct {
				SMPP string `json:"smpp"`
			}
			err := stage.Until(ctx, name, p, func() bool { return stage.ReadJSON(file, &addr) })
			t.legs["smsc"].point(addr.SMPP)
			t.legs["own"].point(addr.SMPP)
			return err
		}
	default:
		info := &t.conf.APNs
		if name == fcm {
			info = &t.conf.FCM
		}
		var addr, control string
		m.launch = func(n int) (*stage.Process, error) {
			args := []string{name, "--seed", t.seed(), "--pki", t.path("pki"), "--addr-file", file, "--latency", "20ms"}
			if n > 1 { // the phones and a service account know its addresses
				args = append(args, "--listen", addr, "--control", control)
			}
			return run(n, t.o.sim, args...)
		}
		first := true
		m.ready = func(ctx context.Context, p *stage.Process) error {
			var now provider.Info
			err := stage.Until(ctx, name, p, func() bool { return stage.ReadJSON(file, &now) })
			if first && err == nil {
				first = false
				*info, addr, control = now, now.Addr, now.Control
			}
			return err
		}
	}
}

// gatewayReady waits until the gateway listens, and has its legs lead there.
func (t *torture) gatewayReady(ctx context.Context, p *stage.Process) error {
	var st stage.Status
	err := stage.Until(ctx, gateway, p, func() bool {
		var ok bool
		st, ok = t.ctl.Status()
		return ok && len(st.Listen) > 0 && len(st.API) > 0
	})
	if err == nil {
		t.legs["esme"].point(st.Listen[0])
		t.legs["api"].point(st.API[0])
	}
	return err
}

func (t *torture) start(ctx context.Context, name string) {
	m := t.crew[name]
	t.supervise.Go(func() {
		if err := m.run(ctx); err != nil {
			t.fail(fmt.Errorf("%s: %w", name, err))
		}
	})
}

// await waits until a member serves for the first time.
func (t *torture) await(ctx context.Context, name string) error {
	late := time.NewTimer(startWithin)
	defer late.Stop()
	select {
	case <-t.crew[name].served:
		return nil
	case <-late.C:
		return fmt.Errorf("%s does not serve within %s", name, startWithin)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// died takes an end that nobody ordered. The gateway may end when its disk is
// full or fails, and at no other time; nobody else may.
func (t *torture) died(name, reason string) {
	during, disk := t.in.now(t.faults)
	d := death{Name: name, Reason: reason, During: during}
	if !t.begun.IsZero() {
		d.At = time.Since(t.begun).Round(time.Millisecond)
	}
	t.mu.Lock()
	t.deaths = append(t.deaths, d)
	if name != gateway || !disk {
		t.wrong = append(t.wrong, fmt.Sprintf("%s ended by itself at %s: %s (during %s)", name, d.At, reason, strings.Join(during, ", ")))
	}
	t.mu.Unlock()
}

// load runs the ESMEs, and the faults beside them, until the load is over and
// everything is healed.
func (t *torture) load(ctx context.Context) error {
	t.begun = time.Now()
	share := func(part float64) string { return strconv.FormatFloat(t.o.rate*part, 'f', 1, 64) }
	for i, e := range []struct {
		name string
		args []string
	}{
		{"bank", []string{
			"--rate", share(0.6), "--binds", "2", "--validity", "12s",
			"--mix", "gsm=40,gsm-ext=12,latin1=10,ucs2=20,emoji=6,payload=4,long=6,otp=2",
		}},
		{"shop", []string{
			"--rate", share(0.4), "--bind", "tx+rx", "--receiver-up", "5s", "--receiver-down", "2500ms", "--validity", "8s",
			"--mix", "gsm=45,gsm-ext=10,latin1=10,ucs2=25,payload=4,long=6",
		}},
	} {
		log, err := os.Create(t.path(e.name + ".stderr"))
		if err != nil {
			return err
		}
		s := &sender{name: e.name}
		reader := &stage.ProgressReader{Log: log, Update: func(p esme.Progress) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.last = p
		}}
		args := append([]string{
			"esme", "--seed", strconv.FormatUint(t.o.seed+uint64(i), 10), "--addr", t.legs["esme"].addr(), "--system-id", e.name, "--password", stage.Password,
			"--numbers", t.path(stage.NumbersFile), "--book", t.path(e.name + ".ndjson"), "--progress", "json", "--reconnect",
			"--count", "0", "--for", t.o.duration.String(), "--receipt-wait", "24h", "--linger", "24h", "--window", "50",
			"--receipts", "0.6", "--on-failure", "0.2", "--validity-share", "0.15", "--burst", "4",
		}, e.args...)
		if s.proc, err = t.yard.Run("esme-"+e.name, reader, t.o.sim, args...); err != nil {
			return err
		}
		t.esmes = append(t.esmes, s)
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
