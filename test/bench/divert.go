package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"shunt/test/sim/handset"
	"shunt/test/sim/stage"
)

const (
	phones      = 20_000 // registered numbers, each with the app
	pushLatency = "50ms"
	setUpWithin = 30 * time.Second
)

// cast is a gateway whose every message can be diverted, with the providers and
// the SMSC that it needs, each a process of its own.
type cast struct {
	b       *bench
	dir     string
	yard    *stage.Yard
	conf    stage.Config
	ctl     stage.Control
	gateway *stage.Process
	listen  string
	api     string
}

// newCast starts it. upstream is where ESMEs are bound through to; empty: the
// simulated SMSC.
func (b *bench) newCast(upstream string) (c *cast, err error) {
	dir, err := os.MkdirTemp(b.dir, "cast-")
	if err != nil {
		return nil, err
	}
	c = &cast{b: b, dir: dir, yard: stage.NewYard(dir), conf: stage.Config{Dir: dir, ClaimWithin: 30 * time.Second}}
	c.ctl = stage.NewControl(c.conf.Socket())
	made := c
	defer func() {
		if err != nil {
			err = errors.Join(err, made.log())
			made.yard.Close()
		}
	}()
	if err := writePhones(dir); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), setUpWithin)
	defer cancel()
	var smsc struct {
		SMPP string `json:"smpp"`
	}
	for _, s := range []struct {
		name string
		info any
		args []string
	}{
		{"smsc", &smsc, []string{"--accounts", "bench:secret,bank:secret,shop:secret,shunt:" + stage.Password, "--receipt-delay", "100ms"}},
		{"apns", &c.conf.APNs, []string{"--pki", c.path("pki"), "--latency", pushLatency}},
		{"fcm", &c.conf.FCM, []string{"--pki", c.path("pki"), "--latency", pushLatency}},
	} {
		file := c.path(s.name + ".json")
		p, err := c.simulate(s.name, append([]string{s.name, "--addr-file", file}, s.args...)...)
		if err == nil {
			err = stage.Until(ctx, s.name, p, func() bool { return stage.ReadJSON(file, s.info) })
		}
		if err != nil {
			return nil, err
		}
	}
	if c.conf.SMSC, c.conf.Own = smsc.SMPP, smsc.SMPP; upstream != "" {
		c.conf.SMSC = upstream
	}
	if err := c.conf.Write(); err != nil {
		return nil, err
	}
	if c.gateway, err = c.yard.Run("shunt", nil, b.shunt, "run", "-c", c.conf.File()); err != nil {
		return nil, err
	}
	var st stage.Status
	err = stage.Until(ctx, "the gateway", c.gateway, func() bool {
		var ok bool
		st, ok = c.ctl.Status()
		return ok && st.Ready()
	})
	if err != nil {
		return nil, err
	}
	c.listen, c.api = st.Listen[0], st.API[0]
	return c, c.ctl.Provision(c.path(stage.DevicesFile))
}

func (c *cast) path(name string) string { return filepath.Join(c.dir, name) }

func (c *cast) log() error {
	b, _ := os.ReadFile(c.path("shunt.log"))
	return errors.New(string(b[max(0, len(b)-2000):]))
}

// cpu is the processor time that the gateway has used.
func (c *cast) cpu() time.Duration { return (&gateway{cmd: c.gateway.Cmd}).cpu() }

// answer starts the phones: they claim and acknowledge at once.
func (c *cast) answer() error {
	p, err := c.simulate("handset", "handset", "--api", "http://"+c.api,
		"--pushes", c.conf.APNs.Control, "--pushes", c.conf.FCM.Control, "--devices", c.path(stage.DevicesFile),
		"--ready-file", c.path("handset.json"), "--concurrency", "256", "--read", "0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), setUpWithin)
	defer cancel()
	return stage.Until(ctx, "the phones", p, func() bool { return stage.ReadJSON(c.path("handset.json"), &struct{}{}) })
}

// esme starts a simulated ESME that sends to the phones.
func (c *cast) esme(name string, args ...string) (*stage.Process, error) {
	all := []string{
		"esme", "--addr", c.listen, "--system-id", name, "--password", "secret",
		"--number-range", fmt.Sprintf("%d-%d", firstRegistered, firstRegistered+phones-1),
		"--mix", "gsm=1", "--receipts", "1", "--receipt-wait", "2m",
	}
	return c.simulate("esme-"+name, append(all, args...)...)
}

// simulate starts a simulator on one processor: at the rates of these runs none
// needs more, and what several would spend on waking each other is not the
// gateway's.
func (c *cast) simulate(name string, args ...string) (*stage.Process, error) {
	cmd := exec.Command(c.b.sim, args...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=400")
	return c.yard.RunCmd(name, nil, cmd)
}

// writePhones writes the handset simulator's file, which is the registry's too.
func writePhones(dir string) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for i := range phones {
		v := handset.Device{
			Number: fmt.Sprintf("+%d", firstRegistered+i), App: "chat", Platform: "apns", Token: fmt.Sprintf("%064x", i),
			Device: fmt.Sprintf("phone-%05d", i), Bearer: fmt.Sprintf("bench-bearer-%012d", i), State: "active",
		}
		if i%2 == 1 {
			v.Platform, v.Token = "fcm", fmt.Sprintf("fcm%05d:APA91b%024x", i, i)
		}
		if err := enc.Encode(v); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, stage.DevicesFile), b.Bytes(), 0o600)
}

// accept is how fast messages are accepted and synced, with no push.
type accept struct {
	PerSecond float64   `json:"per_s"`
	CPU       float64   `json:"gateway_cpu_us_per_message"`
	PaceRate  int       `json:"pace_rate"`
	Pace      quantiles `json:"pace"`
}

const (
	burst    = 10 * time.Second
	slowPace = 5000
	steadily = 30 * time.Second
)

// steady is how soon messages are accepted and synced at a rate that is kept, on
// a gateway that has had nothing else to do.
type steady struct {
	Rate int       `json:"rate"`
	Pace quantiles `json:"pace"`
}

func (b *bench) steady(all *results) error {
	fmt.Fprintf(os.Stderr, "accepted and synced: %d/s for %s\n", slowPace, steadily)
	c, err := b.newCast("")
	if err != nil {
		return err
	}
	defer c.yard.Close()
	s := &steady{Rate: slowPace}
	if s.Pace, err = runPace(c.listen, slowPace, steadily, "-scheduled"); err != nil {
		return err
	}
	all.Steady = s
	return c.diverted(uint64(slowPace*int(steadily/time.Second)), 0)
}

func (b *bench) accept(all *results) error {
	fmt.Fprintf(os.Stderr, "accepted and synced: two ESMEs at window 500 for %s, then %d/s\n", burst, slowPace)
	c, err := b.newCast("")
	if err != nil {
		return err
	}
	defer c.yard.Close()
	before := c.cpu()
	f, err := runClient(c.listen, 2, 500, burst, "-scheduled")
	if err != nil {
		return err
	}
	a := &accept{PerSecond: f.rate(), CPU: float64((c.cpu() - before).Microseconds()) / float64(f.Messages), PaceRate: slowPace}
	if err := c.diverted(f.Messages, f.Errors); err != nil {
		return err
	}
	if a.Pace, err = runPace(c.listen, slowPace, burst, "-scheduled"); err != nil {
		return err
	}
	all.Accept = a
	return c.diverted(f.Messages+uint64(slowPace*int(burst/time.Second)), 0)
}

var errNoStatus = errors.New("the gateway gives no status")

// diverted checks that so many messages were diverted, and all of them.
func (c *cast) diverted(want, bad uint64) error {
	st, ok := c.ctl.Status()
	switch {
	case !ok:
		return errNoStatus
	case bad > 0 || st.Counters.Diverted != want || st.Counters.Forwarded > 0:
		return fmt.Errorf("%d messages sent, %d refused, %d diverted, %d forwarded: %v", want, bad, st.Counters.Diverted, st.Counters.Forwarded, st.Counters.Reasons)
	}
	return nil
}

// life is the whole life of diverted messages: push, claim, acknowledgement,
// receipt.
type life struct {
	Messages  int     `json:"messages"`
	PerSecond float64 `json:"per_s"`
	CPU       float64 `json:"gateway_cpu_us_per_message"`
	Delivered int     `json:"delivered_in_the_app"`
}

const lives = 30_000

func (b *bench) life(all *results) error {
	fmt.Fprintf(os.Stderr, "the whole life of %d messages from two ESMEs at window 500\n", lives)
	c, err := b.newCast("")
	if err != nil {
		return err
	}
	defer c.yard.Close()
	if err := c.answer(); err != nil {
		return err
	}
	before, begun := c.cpu(), time.Now()
	var esmes []*stage.Process
	for i, name := range []string{"bank", "shop"} {
		p, err := c.esme(name, "--count", strconv.Itoa(lives/2), "--window", "500", "--seed", strconv.Itoa(i+1))
		if err != nil {
			return err
		}
		esmes = append(esmes, p)
	}
	for _, p := range esmes {
		<-p.Done
		if p.Err != nil {
			b, _ := os.ReadFile(p.Log)
			return fmt.Errorf("%s: %w\n%s", p.Name, p.Err, b)
		}
	}
	took := time.Since(begun)
	l := &life{Messages: lives, PerSecond: lives / took.Seconds(), CPU: float64((c.cpu() - before).Microseconds()) / lives}
	st, ok := c.ctl.Status()
	if !ok {
		return errNoStatus
	}
	l.Delivered = st.Spool.Finals["DELIVERED"]
	if st.Counters.Diverted != lives {
		return fmt.Errorf("%d of %d were diverted: %v", st.Counters.Diverted, lives, st.Counters.Reasons)
	}
	all.Life = l
	return nil
}

// mixed is what is left of the relay's rate while others' messages are diverted.
type mixed struct {
	Alone  []float64 `json:"alone_per_s"`
	Beside []float64 `json:"beside_per_s"`
	Share  []float64 `json:"share"`
	Rate   int       `json:"diverted_per_s"`
}

const divertedRate = 1000

// mixed compares the relay with itself beside a fixed rate of diverted messages,
// in turn. Whoever sends and takes those runs throughout, so that its own share
// of the processors is the only difference.
func (b *bench) mixed(all *results) error {
	fmt.Fprintf(os.Stderr, "forwarding at 8x100, alone and beside %d diverted messages a second; %d rounds\n", divertedRate, b.rounds)
	c, err := b.newCast(b.sink)
	if err != nil {
		return err
	}
	defer c.yard.Close()
	if err := c.answer(); err != nil {
		return err
	}
	m := &mixed{Rate: divertedRate}
	for i := range b.rounds + 1 {
		alone, err := runClient(c.listen, 8, 100, b.duration)
		if err != nil {
			return err
		}
		count := int(divertedRate * (b.duration + 2*time.Second) / time.Second)
		p, err := c.esme("bank", "--count", strconv.Itoa(count), "--rate", strconv.Itoa(divertedRate), "--window", "500", "--seed", strconv.Itoa(i+1))
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), setUpWithin)
		err = stage.Until(ctx, "the first diverted messages", p, func() bool {
			st, ok := c.ctl.Status()
			return ok && st.Spool.LiveTotal > 0
		})
		cancel()
		if err != nil {
			return err
		}
		beside, err := runClient(c.listen, 8, 100, b.duration)
		if err != nil {
			return err
		}
		<-p.Done
		if p.Err != nil {
			b, _ := os.ReadFile(p.Log)
			return fmt.Errorf("%s: %w\n%s", p.Name, p.Err, b)
		}
		if i == 0 {
			continue // warm-up
		}
		m.Alone, m.Beside = append(m.Alone, alone.rate()), append(m.Beside, beside.rate())
		m.Share = append(m.Share, beside.rate()/alone.rate())
	}
	all.Mixed = m
	return nil
}

// printDiverted prints the figures of diverted messages.
func (r *results) printDiverted(w io.Writer) {
	out := bufio.NewWriter(w)
	defer out.Flush()
	if s := r.Steady; s != nil {
		fmt.Fprintf(out, "\nAccepted and synced at %d/s for %s: p50 %.1f ms, p99 %.1f ms, p99.9 %.1f ms\n",
			s.Rate, steadily, s.Pace.P50/1e3, s.Pace.P99/1e3, s.Pace.P999/1e3)
	}
	if a := r.Accept; a != nil {
		fmt.Fprintf(out, "\nAccepted and synced: %s, gateway CPU %.0f µs a message; right after it at %d/s p50 %.1f ms, p99 %.1f ms\n",
			perSecond(a.PerSecond), a.CPU, a.PaceRate, a.Pace.P50/1e3, a.Pace.P99/1e3)
	}
	if l := r.Life; l != nil {
		fmt.Fprintf(out, "\nWhole life of %d: %.0f/s, gateway CPU %.0f µs a message, %d delivered in the app\n", l.Messages, l.PerSecond, l.CPU, l.Delivered)
	}
	if m := r.Mixed; m != nil {
		fmt.Fprintf(out, "\nForwarding beside %d/s diverted: %s of %s alone, share %.0f %%, **%.0f %%**, %.0f %%\n", m.Rate,
			perSecond(median(m.Beside)), perSecond(median(m.Alone)), 100*slices.Min(m.Share), 100*median(m.Share), 100*slices.Max(m.Share))
	}
	if p := r.Pending; p != nil {
		fmt.Fprintf(out, "\n%d pending deadlines: RssAnon %.0f MB, timers late by %.0f ms at most\n", p.Messages, p.Anon, p.Late)
	}
	if c := r.Churn; c != nil {
		fmt.Fprintf(out, "\n%d messages through the spool at %.0f/s; MB on disk by tenths: %.0f\n", c.Messages, c.PerSecond, c.Disk)
	}
}
