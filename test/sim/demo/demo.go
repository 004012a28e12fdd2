// Package demo runs the gateway's main job on simulators, each a process of
// its own on loopback, and accounts for every message at the end.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"shunt/test/sim/books"
	"shunt/test/sim/esme"
	"shunt/test/sim/stage"
)

// Options are what the demo is to do.
type Options struct {
	Shunt    string // path of the gateway's binary
	Sim      string // path of the simulators' binary
	Dir      string // "" = a new one, removed after success
	Messages int
	Numbers  int // that are registered; as many again are not
	Seed     uint64
	Kills    int           // how often the gateway is killed with SIGKILL under the load and started again
	Verbose  bool          // the gateway logs all that it can
	Keep     bool          // leave everything running until ctx ends
	Timeout  time.Duration // for all but the end of a kept demo
	Out      io.Writer
	Progress io.Writer
	Terminal bool // Progress is one
}

const claimWithin = 3 * time.Second

var errFault = errors.New("not every message is accounted for")

// demo is one run. It belongs to the goroutine that called Run.
type demo struct {
	o       Options
	dir     string
	socket  string
	yard    *stage.Yard
	conf    stage.Config
	begun   time.Time
	ctl     stage.Control
	gateway *stage.Process
	// Everything that is stopped at the end, in that order.
	handset, smsc, apns, fcm *stage.Process
	esmes                    []*stage.Process
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

func (d *demo) say(format string, args ...any) {
	_, _ = fmt.Fprintf(d.o.Out, format+"\n", args...)
}

// Run runs the demo. Its error is a fault of the gateway, or of the run.
func Run(ctx context.Context, o Options) (err error) {
	if o.Messages < 1 || o.Messages > 1_000_000 || o.Numbers < 2 || o.Numbers > 40_000 {
		return errors.New("messages: want 1 to 1000000; numbers: want 2 to 40000")
	}
	d := &demo{o: o}
	made := false
	if d.dir = o.Dir; d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "shunt-demo-"); err != nil {
			return err
		}
		made = true
	} else if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	if d.dir, err = filepath.Abs(d.dir); err != nil {
		return err
	}
	d.conf = stage.Config{Dir: d.dir, ClaimWithin: claimWithin}
	if o.Verbose {
		d.conf.Sections = "[log]\nlevel = \"debug\"\nmessages = \"all\"\n"
	}
	d.socket = d.conf.Socket()
	d.ctl = stage.NewControl(d.socket)
	d.yard = stage.NewYard(d.dir)
	err = d.all(ctx)
	d.yard.Close()
	switch {
	case err == nil && made:
		return os.RemoveAll(d.dir)
	case err != nil:
		d.say("\nBooks and logs are in %s", d.dir)
		d.tail()
	}
	return err
}

func (d *demo) all(parent context.Context) error {
	ctx, cancel := context.WithTimeoutCause(parent, d.o.Timeout,
		fmt.Errorf("the demo's time of %s is over", d.o.Timeout))
	defer cancel()
	if err := d.setUp(ctx); err != nil {
		return err
	}
	runErr := d.send(ctx)
	if parent.Err() != nil {
		return errors.Join(errors.New("interrupted"), d.shutDown())
	}
	if runErr == nil {
		runErr = d.settle(ctx)
	}
	elapsed := time.Since(d.begun)
	id := d.diverted()
	d.show(ctx, id)
	if d.o.Keep {
		d.say("\nEverything keeps running; Ctrl-C ends it and settles the books. Try:")
		d.hints(id)
		<-parent.Done()
	}
	err := d.closeBooks()
	reckoned := d.reckon(elapsed, id)
	if err = errors.Join(err, d.shutDown()); runErr == nil {
		runErr = err
	}
	return errors.Join(runErr, reckoned)
}

// setUp starts everything but the ESMEs.
func (d *demo) setUp(ctx context.Context) (err error) {
	for _, stale := range []string{"smsc.json", "apns.json", "fcm.json", "handset.json"} {
		_ = os.Remove(d.path(stale))
	}
	if err := stage.People(d.dir, d.o.Numbers, d.o.Seed); err != nil {
		return err
	}
	d.begun = time.Now()
	sim := func(name string, args ...string) (*stage.Process, error) {
		return d.yard.Run(name, nil, d.o.Sim, append([]string{name, "--seed", strconv.FormatUint(d.o.Seed, 10)}, args...)...)
	}
	d.say("Starting the SMSC, the push providers, the gateway and %d phones in %s (seed %d)", d.o.Numbers, d.dir, d.o.Seed)
	if d.smsc, err = sim("smsc", "--addr-file", d.path("smsc.json"), "--book", d.path("smsc.ndjson"),
		"--accounts", "bank:"+stage.Password+",shop:"+stage.Password+",shunt:"+stage.Password,
		"--latency", "5ms", "--jitter", "3ms", "--receipt-delay", "300ms", "--receipt-before-resp-rate", "0.01",
		"--fail-rate", "0.02", "--expire-rate", "0.01", "--id", "hex"); err != nil {
		return err
	}
	if d.apns, err = sim("apns", "--pki", d.path("pki"), "--addr-file", d.path("apns.json"), "--latency", "20ms"); err != nil {
		return err
	}
	if d.fcm, err = sim("fcm", "--pki", d.path("pki"), "--addr-file", d.path("fcm.json"), "--latency", "20ms"); err != nil {
		return err
	}
	var smsc struct {
		SMPP string `json:"smpp"`
	}
	if err := stage.Until(ctx, "the SMSC", d.smsc, func() bool { return stage.ReadJSON(d.path("smsc.json"), &smsc) }); err != nil {
		return err
	}
	if err := stage.Until(ctx, "APNs", d.apns, func() bool { return stage.ReadJSON(d.path("apns.json"), &d.conf.APNs) }); err != nil {
		return err
	}
	if err := stage.Until(ctx, "FCM", d.fcm, func() bool { return stage.ReadJSON(d.path("fcm.json"), &d.conf.FCM) }); err != nil {
		return err
	}
	d.conf.SMSC, d.conf.Own = smsc.SMPP, smsc.SMPP
	if err := d.conf.Write(); err != nil {
		return err
	}
	if d.gateway, err = d.yard.Run("shunt", nil, d.o.Shunt, "run", "-c", d.conf.File()); err != nil {
		return err
	}
	var st stage.Status
	if err := stage.Until(ctx, "the gateway", d.gateway, func() bool {
		var ok bool
		st, ok = d.ctl.Status()
		return ok && st.Ready()
	}); err != nil {
		return err
	}
	d.conf.Listen, d.conf.API = st.Listen[0], st.API[0] // its next start has the same ones
	if err := d.conf.Write(); err != nil {
		return err
	}
	if err := d.ctl.Provision(d.path(stage.DevicesFile)); err != nil {
		return err
	}
	if d.handset, err = sim("handset", "--api", "http://"+st.API[0], "--pushes", d.conf.APNs.Control, "--pushes", d.conf.FCM.Control,
		"--devices", d.path(stage.DevicesFile), "--ready-file", d.path("handset.json"), "--book", d.path("handset.ndjson"),
		"--offline", "0.15", "--late", "0.02", "--twice", "0.05", "--sync", "0.05",
		"--claim-delay", "150ms", "--ack-delay", "80ms"); err != nil {
		return err
	}
	return stage.Until(ctx, "the phones", d.handset, func() bool { return stage.ReadJSON(d.path("handset.json"), &struct{}{}) })
}

// send runs both ESMEs and waits for them.
func (d *demo) send(ctx context.Context) error {
	st, ok := d.ctl.Status()
	if !ok {
		return errors.New("the gateway's control socket does not answer")
	}
	shop := d.o.Messages / 4
	bank := d.o.Messages - shop
	// Ten seconds of load; less for a few messages.
	rate := func(n int) string { return strconv.Itoa(max(150, n/10)) }
	receiptWait := "20s"
	if d.o.Kills > 0 {
		receiptWait = "60s"
	}
	p := newProgress(d.o.Progress, d.o.Terminal, d.o.Messages)
	defer p.finish()
	d.say("Sending %d messages: bank on Shunt's own SMPP engine, shop on fiorix/go-smpp", d.o.Messages)
	for _, e := range []struct {
		name string
		args []string
	}{
		{"bank", []string{
			"--count", strconv.Itoa(bank), "--rate", rate(bank), "--binds", "2", "--window", "50",
			"--mix", "gsm=40,gsm-ext=12,latin1=10,ucs2=22,emoji=6,payload=4,long=4,otp=2",
		}},
		{"shop", []string{
			"--count", strconv.Itoa(shop), "--rate", rate(shop), "--client", "go-smpp", "--window", "40",
			"--mix", "gsm=45,gsm-ext=10,latin1=10,ucs2=25,emoji=6,payload=2,long=2",
		}},
	} {
		if e.args[1] == "0" {
			continue
		}
		log, err := os.Create(d.path("esme-" + e.name + ".stderr"))
		if err != nil {
			return err
		}
		args := append([]string{
			"esme", "--addr", st.Listen[0], "--system-id", e.name, "--password", stage.Password, "--numbers", d.path(stage.NumbersFile),
			"--receipts", "0.8", "--seed", strconv.FormatUint(d.o.Seed, 10), "--book", d.path(e.name + ".ndjson"),
			"--progress", "json", "--receipt-wait", receiptWait, "--linger", "500ms",
		}, e.args...)
		if d.o.Kills > 0 {
			args = append(args, "--reconnect")
		}
		reader := &stage.ProgressReader{Update: func(q esme.Progress) { p.update(e.name, q) }, Log: log}
		proc, err := d.yard.Run("esme-"+e.name, reader, d.o.Sim, args...)
		if err != nil {
			return err
		}
		d.esmes = append(d.esmes, proc)
	}
	return d.await(ctx)
}

// await waits for the ESMEs, and kills the gateway meanwhile as often as the
// options say.
func (d *demo) await(ctx context.Context) error {
	var errs []error
	sent, killed := make(chan struct{}), make(chan error, 1)
	gone := d.gateway.Done
	if d.o.Kills > 0 {
		gone = nil // it is meant to
		go func() { killed <- d.killing(ctx, sent) }()
	} else {
		killed <- nil
	}
	for _, e := range d.esmes {
		select {
		case <-e.Done:
			if e.Err != nil && d.o.Kills == 0 { // an ESME takes cut connections for faults; the books judge
				errs = append(errs, fmt.Errorf("%s: %w", e.Name, e.Err))
			}
		case <-gone:
			return fmt.Errorf("the gateway ended: %w", stage.Reason(d.gateway.Err))
		case <-ctx.Done():
			close(sent)
			<-killed
			return context.Cause(ctx)
		}
	}
	close(sent)
	return errors.Join(append(errs, <-killed)...)
}

// settle waits until the gateway has nothing in hand: messages without a
// receipt have outcomes too.
func (d *demo) settle(ctx context.Context) error {
	return stage.Until(ctx, "the gateway's last outcomes", d.gateway, func() bool {
		st, ok := d.ctl.Status()
		return ok && st.Spool.LiveTotal == 0 && st.Spool.ReceiptsDue == 0
	})
}

// diverted is the id of a message that an app claimed, for the trace; else of
// any that was diverted.
func (d *demo) diverted() (id string) {
	for _, e := range d.esmes {
		lines, err := books.Read[books.ESMELine](d.path(strings.TrimPrefix(e.Name, "esme-") + ".ndjson"))
		if err != nil {
			continue
		}
		for i := range lines {
			if m := &lines[i]; len(m.MessageID) == 27 && m.MessageID[0] == 's' {
				if id = m.MessageID; len(m.Receipts) > 0 && m.Receipts[0].Channel == "carrier" {
					return id
				}
			}
		}
	}
	return id
}

// show runs the operator's first two commands and shows what they say.
func (d *demo) show(ctx context.Context, id string) {
	commands := [][]string{{"status", "--socket", d.socket}}
	if id != "" {
		commands = append(commands, []string{"trace", id, "--socket", d.socket})
	}
	for _, args := range commands {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		out, err := exec.CommandContext(ctx, d.o.Shunt, args...).CombinedOutput()
		cancel()
		d.say("\n$ shunt %s\n%s", strings.Join(args, " "), strings.TrimRight(string(out), "\n"))
		if err != nil {
			d.say("(%v)", err)
		}
	}
}

// closeBooks ends those who write books, in the order in which nothing is cut
// off; the gateway still answers.
func (d *demo) closeBooks() error { return d.stop(append(d.esmes, d.handset, d.smsc)) }

// shutDown ends everything.
func (d *demo) shutDown() error {
	return d.stop(append(d.esmes, d.handset, d.gateway, d.smsc, d.apns, d.fcm))
}

func (d *demo) stop(ps []*stage.Process) error {
	var errs []error
	for _, p := range ps {
		if p == nil {
			continue
		}
		if strings.HasPrefix(p.Name, "esme-") && p.Ended() {
			continue // its error is known
		}
		errs = append(errs, p.Stop())
	}
	return errors.Join(errs...)
}

// reconcile adds the books up. Where the gateway was killed, a receipt may
// have come again, and an SMS twice where the gateway says that it had to.
func (d *demo) reconcile(b books.Books) *books.Report {
	o := books.Options{Own: "shunt", ForwardedIDs: true, RepeatedReceipts: d.o.Kills > 0}
	if d.o.Kills > 0 {
		o.Ask = d.ctl.Words
	}
	return books.Reconcile(b, o)
}

// reckon reconciles the books and prints the table.
func (d *demo) reckon(elapsed time.Duration, id string) error {
	var paths []string
	for _, e := range d.esmes {
		paths = append(paths, d.path(strings.TrimPrefix(e.Name, "esme-")+".ndjson"))
	}
	b, err := books.Load(d.path("smsc.ndjson"), d.path("handset.ndjson"), paths...)
	if err != nil {
		return err
	}
	r := d.reconcile(b)
	if err := books.WriteFile(d.path("report.json"), r); err != nil {
		return err
	}
	d.say("")
	table(d.o.Out, r)
	for _, e := range d.esmes {
		var sum esme.Summary
		if json.Unmarshal(e.Stdout.Bytes(), &sum) == nil {
			d.say("%-5s %-8s %6d messages at %.0f/s, submit to response p50 %.1f ms, p99 %.1f ms",
				sum.SystemID, sum.Client, sum.Submitted, sum.Rate, sum.Latency.P50, sum.Latency.P99)
		}
	}
	d.say("\n%s", r.Summary())
	if d.o.Kills > 0 {
		d.say("%d times kill -9: %d submits were never answered (%d of them went on), %d receipts came again, %d SMS of unknown fate came twice",
			d.o.Kills, r.Unanswered, r.UnansweredKnown, r.ReceiptsRepeated, r.ResubmittedDoubled)
	}
	d.say("It took %.1f s from the first process to the last outcome.", elapsed.Seconds())
	for _, f := range r.Faults {
		d.say("  fault: %s", f)
	}
	if r.Messages != d.o.Messages {
		return fmt.Errorf("%d of %d messages were sent", r.Messages, d.o.Messages)
	}
	if !r.OK() {
		return errFault
	}
	if !d.o.Keep {
		d.say("\nTo look around yourself: %s demo --shunt %s --keep --dir /tmp/shunt-demo, and while it runs:", d.o.Sim, d.o.Shunt)
		d.socket = "/tmp/shunt-demo/noc.sock"
		d.hints("")
	}
	return nil
}

func (d *demo) hints(id string) {
	if id == "" {
		id = "ID"
	}
	d.say("  %s status --socket %s", d.o.Shunt, d.socket)
	d.say("  %s trace %s --socket %s", d.o.Shunt, id, d.socket)
	d.say("  %s divert off --socket %s", d.o.Shunt, d.socket)
}

// tail shows the end of the gateway's log.
func (d *demo) tail() {
	b, err := os.ReadFile(d.path("shunt.log"))
	if err != nil {
		return
	}
	lines := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	for _, l := range lines[max(0, len(lines)-8):] {
		d.say("  shunt: %s", l)
	}
}
