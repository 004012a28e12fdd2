package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"shunt/smpp/pdu"
)

const (
	paceRate  = 10_000 // messages a second
	paceConns = 8
)

// latency is the time from when a submit_sm was due to its response, at a
// fixed rate that waits for nobody.
type latency struct {
	Rate    int       `json:"rate"`
	Direct  quantiles `json:"direct"` // of the round with the median p99
	Relayed quantiles `json:"relayed"`
	Added   []float64 `json:"added_p99_us"` // by round
}

type quantiles struct {
	P50  float64 `json:"p50_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p99_9_us"`
	Late float64 `json:"sender_late_p99_us"`
}

func (q quantiles) String() string {
	return fmt.Sprintf("%.0f µs | %.0f µs | %.0f µs | %.0f µs", q.P50, q.P99, q.P999, q.Late)
}

func (b *bench) latency(all *results) error {
	g, err := startGateway(b.dir, b.shunt, b.registered, b.sink)
	if err != nil {
		return err
	}
	defer g.stop()
	fmt.Fprintf(os.Stderr, "latency at %d/s on %d connections; %d rounds of %s, direct and through the gateway in turn\n", paceRate, paceConns, b.rounds, 2*b.duration)
	var direct, relayed []quantiles
	l := &latency{Rate: paceRate}
	for i := range b.rounds + 1 {
		d, err := runPace(b.sink, paceRate, 2*b.duration)
		if err != nil {
			return fmt.Errorf("direct: %w", err)
		}
		r, err := runPace(g.addr, paceRate, 2*b.duration)
		if err != nil {
			return fmt.Errorf("through the gateway: %w", err)
		}
		if i == 0 {
			continue // warm-up
		}
		direct, relayed = append(direct, d), append(relayed, r)
		l.Added = append(l.Added, r.P99-d.P99)
	}
	l.Direct, l.Relayed = middle(direct), middle(relayed)
	all.Latency = l
	return nil
}

// middle is the round with the median p99.
func middle(all []quantiles) quantiles {
	slices.SortFunc(all, func(a, b quantiles) int { return int(a.P99 - b.P99) })
	return all[len(all)/2]
}

func runPace(addr string, rate int, d time.Duration, more ...string) (q quantiles, err error) {
	self, err := os.Executable()
	if err != nil {
		return q, err
	}
	args := []string{"-role", "pace", "-addr", addr, "-conns", strconv.Itoa(paceConns), "-rate", strconv.Itoa(rate), "-duration", d.String()}
	cmd := exec.Command(self, append(args, more...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return q, err
	}
	return q, json.Unmarshal(out, &q)
}

// pace sends submit_sms at a fixed rate, on each connection in turn, whatever
// has been answered, and prints the quantiles of the time from when each was
// due. Go's timers are too coarse for that: the sender has a thread and sleeps
// by the system's clock.
func pace(addr string, conns, rate int, d time.Duration, scheduled bool) error {
	total := int(d.Seconds() * float64(rate))
	due := make([]time.Duration, total)
	took := make([]time.Duration, total)
	late := make([]time.Duration, total)
	links := make([]net.Conn, conns)
	for i := range links {
		c, err := bindClient(addr)
		if err != nil {
			return err
		}
		defer c.Close()
		links[i] = c
	}
	start := time.Now().Add(50 * time.Millisecond)
	var wg sync.WaitGroup
	errs := make([]error, conns)
	for i, c := range links {
		wg.Go(func() { errs[i] = answers(c, (total-i+conns-1)/conns, start, due, took) })
	}
	batch := submits(1, scheduled)
	runtime.LockOSThread()
	for i := range total {
		due[i] = time.Duration(i) * time.Second / time.Duration(rate)
		if wait := due[i] - time.Since(start); wait > 0 {
			ts := syscall.NsecToTimespec(int64(wait))
			_ = syscall.Nanosleep(&ts, nil) // interrupted: a little early, and counted from when it was due
		}
		late[i] = time.Since(start) - due[i]
		p := batch[i%len(batch)]
		p.SetSeq(uint32(i + 1))
		if _, err := links[i%conns].Write(p); err != nil {
			return err
		}
	}
	runtime.UnlockOSThread()
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(quantiles{
		P50: quantile(took, 0.5), P99: quantile(took, 0.99), P999: quantile(took, 0.999), Late: quantile(late, 0.99),
	})
}

// answers reads n responses and notes how long each took, by sequence_number.
func answers(c net.Conn, n int, start time.Time, due, took []time.Duration) error {
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	in, have := make([]byte, 64<<10), 0
	for n > 0 {
		k, err := c.Read(in[have:])
		if err != nil {
			return err
		}
		now := time.Since(start)
		have += k
		at := 0
		for {
			k, err := pdu.Frame(in[at:have], len(in))
			if err != nil {
				return err
			}
			if k == 0 {
				break
			}
			p := pdu.PDU(in[at : at+k])
			if i := int(p.Seq()) - 1; p.ID() == pdu.SubmitSMResp && i >= 0 && i < len(due) {
				took[i] = now - due[i]
				n--
			}
			at += k
		}
		have = copy(in, in[at:have])
	}
	return nil
}

// quantile is in microseconds.
func quantile(v []time.Duration, q float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return float64(s[min(int(q*float64(len(s))), len(s)-1)].Nanoseconds()) / 1e3
}
