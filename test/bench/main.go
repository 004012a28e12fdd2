// Command bench measures the gateway against the same client and the same sink
// without it, interleaved in one run, each in a process of its own:
//
//	go run ./test/bench -shunt build/shunt -conns 8 -window 100
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
	jsonOut    bool
}

func main() {
	var o options
	role := flag.String("role", "", "what this process is: sink or client; empty: the whole run")
	addr := flag.String("addr", "", "sink: where to listen; client: where to connect")
	conns := flag.Int("conns", 8, "client: connections")
	window := flag.Int("window", 100, "client: outstanding submit_sms a connection")
	flag.StringVar(&o.shunt, "shunt", "build/shunt", "the gateway's binary")
	flag.StringVar(&o.cases, "cases", "8x100", "connections x window, separated by commas")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of direct and relayed, in turn")
	flag.DurationVar(&o.duration, "duration", 3*time.Second, "of one measurement")
	flag.IntVar(&o.registered, "registered", 1_000_000, "numbers in the registry")
	flag.BoolVar(&o.jsonOut, "json", false, "print the figures as JSON")
	flag.Parse()
	var err error
	switch *role {
	case "sink":
		err = sink(*addr)
	case "client":
		err = client(*addr, *conns, *window, o.duration)
	case "":
		err = run(o)
	default:
		err = fmt.Errorf("role %q: want sink, client or nothing", *role)
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
	sinkAddr, stopSink, err := startSink(dir)
	if err != nil {
		return err
	}
	defer stopSink()
	g, err := startGateway(dir, o, sinkAddr)
	if err != nil {
		return err
	}
	defer g.stop()
	fmt.Fprintf(os.Stderr, "%d numbers registered; %d rounds of %s, direct and through the gateway in turn\n", o.registered, o.rounds, o.duration)
	var rows []row
	for _, c := range strings.Split(o.cases, ",") {
		conns, window, ok := strings.Cut(c, "x")
		n, err1 := strconv.Atoi(conns)
		w, err2 := strconv.Atoi(window)
		if !ok || err1 != nil || err2 != nil {
			return fmt.Errorf("case %q: want CONNECTIONSxWINDOW", c)
		}
		r, err := measure(o, g, sinkAddr, n, w)
		if err != nil {
			return err
		}
		rows = append(rows, r)
	}
	return report(o, rows)
}

// row is one case over all rounds.
type row struct {
	Case        string    `json:"case"`
	Direct      []float64 `json:"direct_per_s"`
	Relayed     []float64 `json:"relayed_per_s"`
	Share       []float64 `json:"share"`
	GatewayCPU  []float64 `json:"gateway_cpu_us_per_message"`
	MedianShare float64   `json:"median_share"`
}

func measure(o options, g *gateway, sinkAddr string, conns, window int) (row, error) {
	r := row{Case: fmt.Sprintf("%dx%d", conns, window)}
	for i := range o.rounds + 1 {
		d, err := runClient(sinkAddr, conns, window, o.duration)
		if err != nil {
			return r, fmt.Errorf("direct: %w", err)
		}
		before := g.cpu()
		f, err := runClient(g.addr, conns, window, o.duration)
		if err != nil {
			return r, fmt.Errorf("through the gateway: %w", err)
		}
		cpu := g.cpu() - before
		if d.Errors+f.Errors > 0 {
			return r, fmt.Errorf("%d responses were not ESME_ROK", d.Errors+f.Errors)
		}
		if i == 0 {
			continue // warm-up
		}
		r.Direct = append(r.Direct, d.rate())
		r.Relayed = append(r.Relayed, f.rate())
		r.Share = append(r.Share, f.rate()/d.rate())
		r.GatewayCPU = append(r.GatewayCPU, float64(cpu.Microseconds())/float64(f.Messages))
	}
	r.MedianShare = median(r.Share)
	return r, nil
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

func report(o options, rows []row) error {
	if o.jsonOut {
		return json.NewEncoder(os.Stdout).Encode(rows)
	}
	fmt.Printf("%-10s %14s %14s %22s %16s\n", "conns×win", "direct/s", "gateway/s", "share (min med max)", "gateway µs/msg")
	for _, r := range rows {
		fmt.Printf("%-10s %14.0f %14.0f %6.1f %% %5.1f %% %5.1f %% %16.2f\n", r.Case, median(r.Direct), median(r.Relayed),
			100*slices.Min(r.Share), 100*r.MedianShare, 100*slices.Max(r.Share), median(r.GatewayCPU))
	}
	return nil
}

// runClient runs a client in a process of its own.
func runClient(addr string, conns, window int, d time.Duration) (f figures, err error) {
	self, err := os.Executable()
	if err != nil {
		return f, err
	}
	cmd := exec.Command(self, "-role", "client", "-addr", addr, "-conns", strconv.Itoa(conns), "-window", strconv.Itoa(window), "-duration", d.String())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal(out, &f)
}

func startSink(dir string) (addr string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	file := filepath.Join(dir, "sink.addr")
	cmd := exec.Command(self, "-role", "sink", "-addr", file)
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
