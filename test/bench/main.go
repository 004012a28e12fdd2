// Command bench measures the gateway against the same client and the same sink
// without it, and against other relays, interleaved in one run, each in a
// process of its own:
//
//	go run ./test/bench -shunt build/shunt -parts relay -cases 8x100 -rounds 7
//
// The parts steady, accept, life, mixed, pending and churn are about diverted
// messages: see divert.go and spool.go. The part registry is about ten million
// numbers: see registry.go; external and verification are in files of their names.
//
// Direct, the client talks to the sink. Through the gateway, a million numbers
// are registered and every message is for one that is not, so that each costs
// a look-up and is forwarded.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type options struct {
	shunt      string
	cases      string
	rounds     int
	duration   time.Duration
	registered int
	numbers    int
	parts      string
	sim        string
	jsonOut    bool
}

func main() {
	var o options
	role := flag.String("role", "", "what this process is: sink, client, pace, kannel, gosmpp, spool or unknown; empty: the whole run")
	upstreamAddr := flag.String("upstream", "", "gosmpp: the sink's address")
	addr := flag.String("addr", "", "sink: where to listen; client: where to connect")
	conns := flag.Int("conns", 8, "client: connections")
	window := flag.Int("window", 100, "client: outstanding submit_sms a connection")
	flag.StringVar(&o.shunt, "shunt", "build/shunt", "the gateway's binary")
	flag.StringVar(&o.cases, "cases", "8x1,8x10,8x100,8x1000,200x10", "relay: connections x window, separated by commas")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds of every two things that are compared, in turn; an odd number")
	flag.DurationVar(&o.duration, "duration", 2*time.Second, "of one measurement")
	flag.IntVar(&o.registered, "registered", 1_000_000, "numbers in the registry")
	flag.IntVar(&o.numbers, "numbers", 10_000_000, "registry: numbers in it")
	flag.StringVar(&o.parts, "parts", "relay,kannel,latency,idle,steady,accept,life,mixed,pending,churn,registry,external,verification", "what to measure")
	flag.StringVar(&o.sim, "sim", "build/shuntsim", "the simulators' binary")
	rate := flag.Int("rate", paceRate, "pace: submit_sms a second")
	scheduled := flag.Bool("scheduled", false, "client, pace: to registered numbers, an hour ahead")
	dir := flag.String("dir", "", "spool: where")
	seed := flag.Uint64("seed", 0, "client: other numbers")
	count := flag.Int("count", 0, "spool: messages")
	churn := flag.Bool("churn", false, "spool: let them end")
	flag.BoolVar(&o.jsonOut, "json", false, "print the figures as JSON")
	flag.Parse()
	var err error
	switch *role {
	case "sink":
		err = sink(*addr)
	case "client":
		err = client(*addr, *conns, *window, o.duration, *scheduled, *seed)
	case "pace":
		err = pace(*addr, *conns, *rate, o.duration, *scheduled)
	case "spool":
		err = spoolRole(*dir, *count, *churn)
	case "unknown":
		err = unknown(*addr)
	case "gosmpp":
		err = goSMPPRelay(*addr, *upstreamAddr)
	case "kannel":
		err = kannelPeer(*addr, *conns, *window, o.duration)
	case "":
		err = run(o)
	default:
		err = fmt.Errorf("role %q: want sink, client, pace, kannel, gosmpp, spool, unknown or nothing", *role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// figures are what one client saw.
type figures struct {
	Messages uint64        `json:"messages"`
	Elapsed  time.Duration `json:"elapsed_ns"`
	Errors   uint64        `json:"errors"`
}

func (f figures) rate() float64 { return float64(f.Messages) / f.Elapsed.Seconds() }

func run(o options) error {
	dir, err := os.MkdirTemp("", "shunt-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	raiseFiles()
	sinkAddr, stopSink, err := startRole(dir, "sink")
	if err != nil {
		return err
	}
	defer stopSink()
	b := &bench{options: o, dir: dir, sink: sinkAddr}
	var all results
	for _, p := range []struct {
		name string
		run  func(*results) error
	}{
		{"relay", b.relay},
		{"kannel", b.kannel},
		{"latency", b.latency},
		{"idle", b.idle},
		{"steady", b.steady},
		{"accept", b.accept},
		{"life", b.life},
		{"mixed", b.mixed},
		{"pending", b.pending},
		{"churn", b.churn},
		{"registry", b.registry},
		{"external", b.external},
		{"verification", b.verification},
	} {
		if !slices.Contains(strings.Split(o.parts, ","), p.name) {
			continue
		}
		if err := p.run(&all); err != nil { // the others can still say something
			all.Failed = append(all.Failed, fmt.Sprintf("%s: %v", p.name, err))
		}
	}
	if o.jsonOut {
		err = json.NewEncoder(os.Stdout).Encode(all)
	} else {
		all.print(os.Stdout)
	}
	if err == nil && len(all.Failed) > 0 {
		err = fmt.Errorf("not measured: %s", strings.Join(all.Failed, "; "))
	}
	return err
}

// bench is one run.
type bench struct {
	options
	dir, sink string
}

// raiseFiles allows as many open files as the system does: a thousand binds
// have two thousand sockets.
func raiseFiles() {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) == nil {
		l.Cur = l.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
	}
}

// runClient runs a client in a process of its own.
func runClient(addr string, conns, window int, d time.Duration, more ...string) (f figures, err error) {
	self, err := os.Executable()
	if err != nil {
		return f, err
	}
	args := []string{"-role", "client", "-addr", addr, "-conns", strconv.Itoa(conns), "-window", strconv.Itoa(window), "-duration", d.String()}
	cmd := exec.Command(self, append(args, more...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal(out, &f)
}

// startRole starts this program in a role that writes its address to a file.
func startRole(dir, role string, args ...string) (addr string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	file := filepath.Join(dir, role+".addr")
	cmd := exec.Command(self, append([]string{"-role", role, "-addr", file}, args...)...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	addr, err = waitFile(file, 10*time.Second)
	if err != nil {
		stop()
	}
	return addr, stop, err
}

// waitFile waits until a process has written its address.
func waitFile(path string, limit time.Duration) (string, error) {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if b, err := os.ReadFile(path); err == nil && len(b) > 0 && b[len(b)-1] == '\n' {
			return strings.TrimSpace(string(b)), nil
		}
	}
	return "", fmt.Errorf("%s did not appear within %s", path, limit)
}
