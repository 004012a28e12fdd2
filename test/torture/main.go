// Command torture runs the real binaries on loopback under load for minutes,
// kills them, cuts and stalls their connections, fills their disk and breaks
// their fsync at random, and then accounts for every message:
//
//	go run ./test/torture -shunt build/shunt -sim build/shuntsim -duration 5m
//
// Every choice comes from the seed, which is printed with the schedule of the
// faults. It fails when one accepted message has not exactly one outcome, or
// one receipt that was asked for is missing, doubled or untrue; what only a
// crash may leave behind is counted, and checked against the gateway's word.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/term"

	"shunt/test/sim/stage"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	o := options{out: os.Stdout, terminal: term.IsTerminal(int(os.Stdout.Fd()))}
	f := flag.NewFlagSet("torture", flag.ExitOnError)
	f.StringVar(&o.shunt, "shunt", "build/shunt", "the gateway's binary")
	f.StringVar(&o.sim, "sim", "build/shuntsim", "the simulators' binary")
	f.StringVar(&o.dir, "dir", "", "working directory (default: a temporary one, removed after success)")
	f.Uint64Var(&o.seed, "seed", 0, "of every random choice; 0: a new one")
	f.DurationVar(&o.duration, "duration", 5*time.Minute, "of the load")
	f.DurationVar(&o.gap, "gap", 4*time.Second, "mean time between two faults")
	f.Float64Var(&o.rate, "rate", 200, "messages a second, of all ESMEs together")
	f.IntVar(&o.numbers, "numbers", 1000, "numbers to register; as many again are not")
	faults := f.String("faults", "all", "kinds of fault: all, none, or a list; a - leaves one out")
	f.Int64Var(&o.diskSize, "disk", 512<<20, "octets of the gateway's volume")
	f.DurationVar(&o.drain, "drain", 5*time.Minute, "time for everything to come to an end, once all is healed")
	asJSON := f.Bool("json", false, "print the summary as JSON on stdout, and the rest on stderr")
	only := f.Bool("schedule", false, "print the schedule and end")
	_ = f.Parse(args)
	if f.NArg() > 0 || o.duration < time.Second || o.gap < 100*time.Millisecond || o.rate < 1 || o.numbers < 2 || o.numbers > 40_000 {
		return errors.New("want no arguments, duration 1s or more, gap 100ms or more, rate 1 or more, numbers 2 to 40000")
	}
	var err error
	if o.kinds, err = kindsOf(*faults); err != nil {
		return err
	}
	if o.seed == 0 {
		o.seed = 1 + rand.Uint64N(1_000_000)
	}
	if *asJSON {
		o.out, o.terminal = os.Stderr, term.IsTerminal(int(os.Stderr.Fd()))
	}
	t := &torture{o: o, sums: map[int]stage.Status{}}
	if *only {
		t.faults = schedule(o.seed, o.kinds, o.duration, o.gap)
		t.printSchedule()
		return nil
	}
	if err := t.prepare(); err != nil {
		return err
	}
	sum, err := t.run(ctx)
	if err == nil {
		t.print(sum)
		if *asJSON {
			err = json.NewEncoder(os.Stdout).Encode(sum)
		}
		if !sum.ok() {
			err = errors.Join(err, errors.New("not every message is accounted for, or something else went wrong"))
		}
	}
	if err != nil {
		return fmt.Errorf("seed %d: %w; books, logs and the gateway's data are in %s", t.o.seed, err, t.dir)
	}
	if o.dir == "" {
		return os.RemoveAll(t.dir)
	}
	return nil
}

// prepare finds the binaries, leaves out what cannot be done here, and makes
// the directory.
func (t *torture) prepare() (err error) {
	o := &t.o
	for _, path := range []*string{&o.shunt, &o.sim} {
		found, err := exec.LookPath(*path)
		if err != nil {
			return err
		}
		if *path, err = filepath.Abs(found); err != nil {
			return err
		}
	}
	if why := unprivileged(); why != "" && slices.ContainsFunc(o.kinds, func(k kind) bool { return slices.Contains(privileged, k) }) {
		if os.Getenv("CI") == "true" {
			return fmt.Errorf("faults of the disk: %s", why)
		}
		t.say("Not run: %v: %s", privileged, why)
		o.kinds = slices.DeleteFunc(o.kinds, func(k kind) bool { return slices.Contains(privileged, k) })
	}
	if !slices.Contains(o.kinds, diskLow) && !slices.Contains(o.kinds, diskFull) {
		o.diskSize = 0
	}
	if t.dir = o.dir; t.dir == "" {
		t.dir, err = os.MkdirTemp("", "shunt-torture-")
	} else if t.dir, err = filepath.Abs(o.dir); err == nil {
		err = os.Mkdir(t.dir, 0o700) // books of another run would be taken for its own
	}
	return err
}

// unprivileged says why faults of the disk are impossible here.
func unprivileged() string {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		return "they need Linux and root"
	}
	if _, err := exec.LookPath("strace"); err != nil {
		return "they need strace"
	}
	return ""
}
