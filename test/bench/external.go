package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"shunt/gateway/noc"
)

// unknownAfter is how long the external registry takes, which knows no number.
const unknownAfter = 5 * time.Millisecond

// unknown is that registry.
func unknown(addrFile string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := os.WriteFile(addrFile, []byte(l.Addr().String()+"\n"), 0o600); err != nil {
		return err
	}
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(unknownAfter)
		w.WriteHeader(http.StatusNotFound)
	}))
}

const externalSection = `
[[registry.external]]
name = "far"
url = "http://%s/{number}"
timeout = "1s"
concurrency = 64
cache = 1000000
negative_ttl = "1h"
`

// externalCases are compared in turn. Of 8 × 8 no more messages wait at a time
// than look-ups may be under way, so that each cold one is looked up.
var externalCases = []struct {
	Name   string
	Window int
	Beside bool // an external registry is configured
	Cold   bool // every number is new to it
}{
	{"8 × 8, no external registry", 8, false, false},
	{"8 × 8, cold", 8, true, true},
	{"8 × 8, warm", 8, true, false},
	{"8 × 100, no external registry", 100, false, false},
	{"8 × 100, cold", 100, true, true},
	{"8 × 100, warm", 100, true, false},
}

// externalRow is one of them over all rounds.
type externalRow struct {
	Case  string    `json:"case"`
	Rate  []float64 `json:"per_s"`
	CPU   []float64 `json:"gateway_cpu_us_per_message"`
	Asked []float64 `json:"asked_share"` // looked up, of all messages
}

// external measures forwarding beside an external registry that knows nobody.
func (b *bench) external(all *results) error {
	far, stopFar, err := startRole(b.dir, "unknown")
	if err != nil {
		return err
	}
	defer stopFar()
	alone, err := startGateway(b.dir, b.shunt, 1000, b.sink)
	if err != nil {
		return err
	}
	defer alone.stop()
	beside, err := startGateway(b.dir, b.shunt, 1000, b.sink, fmt.Sprintf(externalSection, far))
	if err != nil {
		return err
	}
	defer beside.stop()
	fmt.Fprintf(os.Stderr, "beside an external registry: %d rounds of %s of each in turn\n", b.rounds, b.duration)
	if _, err := runClient(beside.addr, 8, 8, 5*time.Second); err != nil { // every number of seed 0 is asked about
		return err
	}
	rows := make([]externalRow, len(externalCases))
	seed := 0
	for i := range b.rounds + 1 {
		for j, c := range externalCases {
			g, from := alone, 0
			if c.Beside {
				g = beside
			}
			if c.Cold {
				seed += 8
				from = seed
			}
			asked, err := g.asked()
			if err != nil {
				return err
			}
			before := g.cpu()
			f, err := runClient(g.addr, 8, c.Window, b.duration, "-seed", fmt.Sprint(from))
			if err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
			cpu := g.cpu() - before
			after, err := g.asked()
			if err != nil {
				return err
			}
			if i == 0 {
				continue // warm-up
			}
			r := &rows[j]
			r.Case = c.Name
			r.Rate = append(r.Rate, f.rate())
			r.CPU = append(r.CPU, float64(cpu.Microseconds())/float64(f.Messages))
			r.Asked = append(r.Asked, float64(after-asked)/float64(f.Messages))
		}
	}
	all.External = rows
	return nil
}

// asked is how many numbers the gateway has looked up elsewhere.
func (g *gateway) asked() (n uint64, err error) {
	c := noc.New(g.socket)
	defer c.Close()
	st, err := c.Status(context.Background())
	for i := range st.External {
		n += st.External[i].Count
	}
	return n, err
}

func printExternal(w io.Writer, rows []externalRow) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintln(w, "\n| beside an external registry | rate, median | rate: min, max | gateway CPU a message: median, min, max | looked up |\n|---|---|---|---|---|")
	for _, r := range rows {
		fmt.Fprintf(w, "| %s | %s | %s, %s | **%.2f**, %.2f, %.2f µs | %.1f %% |\n", r.Case, perSecond(median(r.Rate)), perSecond(slices.Min(r.Rate)), perSecond(slices.Max(r.Rate)),
			median(r.CPU), slices.Min(r.CPU), slices.Max(r.CPU), 100*median(r.Asked))
	}
}
