package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"shunt/test/sim/esme"
	"shunt/test/sim/provider"
	"shunt/test/sim/stage"
)

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
	supervised, quit := context.WithCancel(ctx)
	t.quit, t.crew = quit, map[string]*member{}
	if err := t.startSimulators(ctx, supervised); err != nil {
		return err
	}
	return t.startGateway(ctx, supervised)
}

// startSimulators starts what is behind the gateway, and puts the legs before
// it into the gateway's configuration.
func (t *torture) startSimulators(ctx, supervised context.Context) error {
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
	return t.conf.Write()
}

// startGateway starts the gateway and its phones.
func (t *torture) startGateway(ctx, supervised context.Context) error {
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
	switch name {
	case gateway:
		m.launch = func(n int) (*stage.Process, error) { return t.again(name, n, t.o.shunt, "run", "-c", t.conf.File()) }
		m.ready = t.gatewayReady
	case carrier:
		m.launch, m.ready = t.launchSMSC, t.smscReady
	case apns:
		t.provider(m, &t.conf.APNs)
	case fcm:
		t.provider(m, &t.conf.FCM)
	}
}

// again runs the nth process of a member; its address file is not yet there.
func (t *torture) again(name string, n int, path string, args ...string) (*stage.Process, error) {
	_ = os.Remove(t.addrFile(name))
	return t.yard.Run(fmt.Sprintf("%s-%d", name, n), nil, path, args...)
}

func (t *torture) addrFile(name string) string { return t.path(name + ".json") }

func (t *torture) launchSMSC(n int) (*stage.Process, error) {
	return t.again(carrier, n, t.o.sim, "smsc", "--seed", t.seed(), "--addr-file", t.addrFile(carrier), "--book", t.path("smsc.ndjson"), "--lasting",
		"--accounts", "bank:"+stage.Password+",shop:"+stage.Password+",shunt:"+stage.Password,
		"--latency", "40ms", "--jitter", "30ms", "--receipt-delay", "300ms", "--receipt-before-resp-rate", "0.01",
		"--fail-rate", "0.02", "--expire-rate", "0.01", "--throttle-rate", "0.003", "--id", "hex")
}

func (t *torture) smscReady(ctx context.Context, p *stage.Process) error {
	var addr struct {
		SMPP string `json:"smpp"`
	}
	err := stage.Until(ctx, carrier, p, func() bool { return stage.ReadJSON(t.addrFile(carrier), &addr) })
	t.legs["smsc"].point(addr.SMPP)
	t.legs["own"].point(addr.SMPP)
	return err
}

// provider makes m a push simulator. Its addresses are those of its first
// process: the phones and a service account know them.
func (t *torture) provider(m *member, info *provider.Info) {
	var addr, control string
	m.launch = func(n int) (*stage.Process, error) {
		args := []string{m.name, "--seed", t.seed(), "--pki", t.path("pki"), "--addr-file", t.addrFile(m.name), "--latency", "20ms"}
		if n > 1 {
			args = append(args, "--listen", addr, "--control", control)
		}
		return t.again(m.name, n, t.o.sim, args...)
	}
	m.ready = func(ctx context.Context, p *stage.Process) error {
		var now provider.Info
		err := stage.Until(ctx, m.name, p, func() bool { return stage.ReadJSON(t.addrFile(m.name), &now) })
		if addr == "" && err == nil {
			*info, addr, control = now, now.Addr, now.Control
		}
		return err
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
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.begun.IsZero() {
		d.At = time.Since(t.begun).Round(time.Millisecond)
	}
	t.deaths = append(t.deaths, d)
	if name != gateway || !disk {
		t.wrong = append(t.wrong, fmt.Sprintf("%s ended by itself at %s: %s (during %s)", name, d.At, reason, strings.Join(during, ", ")))
	}
}

// startESMEs starts the load.
func (t *torture) startESMEs() error {
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
	return nil
}
