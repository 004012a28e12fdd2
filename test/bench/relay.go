package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// relay measures the relay with look-up and one on go-smpp's codec as shares of
// the direct run.
func (b *bench) relay(all *results) error {
	peerAddr, stopPeer, err := startRole(b.dir, "gosmpp", "-upstream", b.sink)
	if err != nil {
		return err
	}
	defer stopPeer()
	g, err := startGateway(b.dir, b.shunt, b.registered, b.sink)
	if err != nil {
		return err
	}
	defer g.stop()
	fmt.Fprintf(os.Stderr, "%d numbers registered; %d rounds of %s: direct, through the gateway and through a relay on go-smpp in turn\n", b.registered, b.rounds, b.duration)
	for _, c := range strings.Split(b.cases, ",") {
		conns, window, ok := strings.Cut(c, "x")
		n, err1 := strconv.Atoi(conns)
		w, err2 := strconv.Atoi(window)
		if !ok || err1 != nil || err2 != nil {
			return fmt.Errorf("case %q: want CONNECTIONSxWINDOW", c)
		}
		fmt.Fprintf(os.Stderr, "  %s …\n", c)
		r, err := measure(b.options, g, b.sink, peerAddr, n, w)
		if err != nil {
			return err
		}
		all.Relay = append(all.Relay, r)
	}
	return nil
}

// row is one case over all rounds.
type row struct {
	Case        string    `json:"case"`
	Direct      []float64 `json:"direct_per_s"`
	Relayed     []float64 `json:"relayed_per_s"`
	GoSMPP      []float64 `json:"gosmpp_relay_per_s"`
	Share       []float64 `json:"share"`
	GatewayCPU  []float64 `json:"gateway_cpu_us_per_message"`
	MedianShare float64   `json:"median_share"`
}

func measure(o options, g *gateway, sinkAddr, peerAddr string, conns, window int) (row, error) {
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
		p, err := runClient(peerAddr, conns, window, o.duration)
		if err != nil {
			return r, fmt.Errorf("through the relay on go-smpp: %w", err)
		}
		if bad := d.Errors + f.Errors + p.Errors; bad > 0 {
			return r, fmt.Errorf("%d responses were not ESME_ROK", bad)
		}
		if i == 0 {
			continue // warm-up
		}
		r.Direct = append(r.Direct, d.rate())
		r.Relayed = append(r.Relayed, f.rate())
		r.GoSMPP = append(r.GoSMPP, p.rate())
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

// results are all figures of a run.
type results struct {
	Relay        []row            `json:"relay,omitempty"`
	Kannel       *kannels         `json:"kannel,omitempty"`
	Latency      *latency         `json:"latency,omitempty"`
	Idle         *idle            `json:"idle,omitempty"`
	Steady       *steady          `json:"steady,omitempty"`
	Accept       *accept          `json:"accept,omitempty"`
	Life         *life            `json:"life,omitempty"`
	Mixed        *mixed           `json:"mixed,omitempty"`
	Pending      *pending         `json:"pending,omitempty"`
	Churn        *churn           `json:"churn,omitempty"`
	Registry     *registryFigures `json:"registry,omitempty"`
	External     []externalRow    `json:"external,omitempty"`
	Verification *verified        `json:"verification,omitempty"`
	Failed       []string         `json:"failed,omitempty"`
}

// print writes the figures as tables in Markdown, for docs/benchmarks.md.
func (r *results) print(w io.Writer) {
	if len(r.Relay) > 0 {
		fmt.Fprintln(w, "| connections × window | direct, median | through Shunt, median | share: min, median, max | gateway CPU a message | relay on go-smpp |")
		fmt.Fprintln(w, "|---|---|---|---|---|---|")
	}
	for _, x := range r.Relay {
		fmt.Fprintf(w, "| %s | %s | %s | %.1f %%, **%.1f %%**, %.1f %% | %.2f µs | %s |\n", strings.Replace(x.Case, "x", " × ", 1),
			perSecond(median(x.Direct)), perSecond(median(x.Relayed)), 100*slices.Min(x.Share), 100*x.MedianShare, 100*slices.Max(x.Share),
			median(x.GatewayCPU), perSecond(median(x.GoSMPP)))
	}
	if k := r.Kannel; k != nil {
		fmt.Fprintf(w, "\nKannel %s, %s: %s (%s), CPU %.0f µs a message; Shunt in the same rounds %s, %.0f ×\n", k.Version, k.Case,
			perSecond(median(k.PerSecond)), k.All(), median(k.CPU), perSecond(median(k.Shunt)), median(k.Shunt)/median(k.PerSecond))
	}
	if f := r.Registry; f != nil {
		f.print(w)
	}
	if l := r.Latency; l != nil {
		fmt.Fprintf(w, "\n| at %d/s | p50 | p99 | p99.9 | sender late, p99 |\n|---|---|---|---|---|\n", l.Rate)
		fmt.Fprintf(w, "| direct | %s |\n| through Shunt | %s |\n", l.Direct, l.Relayed)
		fmt.Fprintf(w, "\nAdded at p99: %.0f µs, median of %d rounds (%.0f to %.0f)\n", median(l.Added), len(l.Added), slices.Min(l.Added), slices.Max(l.Added))
	}
	if i := r.Idle; i != nil {
		fmt.Fprintf(w, "\nRssAnon: %.1f MB without a bind, %.1f MB with %d idle ones\n", i.Before, i.After, i.Binds)
	}
	r.printDiverted(w)
	printExternal(w, r.External)
	if v := r.Verification; v != nil {
		v.print(w)
	}
}

func perSecond(v float64) string {
	if v >= 1e6 {
		return fmt.Sprintf("%.2f M/s", v/1e6)
	}
	return fmt.Sprintf("%.1f k/s", v/1e3)
}
