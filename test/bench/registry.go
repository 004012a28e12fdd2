package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"shunt/gateway/noc"
)

// registryFigures are the registry at its promised size, in a gateway that
// forwards meanwhile.
type registryFigures struct {
	Numbers    int     `json:"numbers"`
	Import     float64 `json:"import_per_s"` // all of it: checked, sorted, on stable storage
	ImportCPU  float64 `json:"import_cpu_us"`
	IndexMB    float64 `json:"index_mb"`
	PeakMB     float64 `json:"import_rss_anon_mb"` // highest while importing
	Anon       float64 `json:"rss_anon_mb"`        // after it
	LiveImport float64 `json:"live_import_per_s"`  // beside traffic
	Puts       float64 `json:"puts_per_s"`         // one by one, durable, beside traffic
	Serving    float64 `json:"serving_ms"`         // from the start after kill -9 to a bind
	Ready      float64 `json:"ready_ms"`           // to a whole index
	Forwarded  uint64  `json:"forwarded_meanwhile"`
	Disk       float64 `json:"disk_mb"`
}

const (
	liveLines  = 300_000
	putCallers = 64
	putsFor    = 10 * time.Second
)

// registry measures the registry with b.numbers registrations.
func (b *bench) registry(all *results) error {
	f := &registryFigures{Numbers: b.numbers}
	fmt.Fprintf(os.Stderr, "a registry of %d numbers\n", f.Numbers)
	g, err := startGateway(b.dir, b.shunt, 0, b.sink)
	if err != nil {
		return err
	}
	defer func() { g.stop() }()
	c := noc.New(g.socket)
	defer c.Close()
	peak := g.watchAnon()
	f.Import, err = importLines(c, firstRegistered, f.Numbers)
	f.PeakMB = peak()
	f.ImportCPU = float64(g.cpu().Microseconds()) / float64(f.Numbers)
	if err != nil {
		return err
	}
	if err := b.registryLive(g, c, f); err != nil {
		return err
	}
	if f.Disk, err = diskOf(filepath.Join(g.dir, "data", "reg")); err != nil {
		return err
	}
	if err := b.registryKilled(g, c, f); err != nil {
		return err
	}
	all.Registry = f
	return nil
}

// registryLive imports and puts beside traffic.
func (b *bench) registryLive(g *gateway, c *noc.Client, f *registryFigures) error {
	st, err := c.Status(context.Background())
	if err != nil {
		return err
	}
	if st.Registered.Numbers != f.Numbers {
		return fmt.Errorf("%d numbers are registered, want %d", st.Registered.Numbers, f.Numbers)
	}
	f.IndexMB = float64(st.IndexBytes) / 1e6
	if f.Anon, err = g.anon(); err != nil {
		return err
	}
	traffic := make(chan error, 1)
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			_, err = runPace(g.addr, trafficRate, 2*time.Second)
		}
		traffic <- err
	}()
	f.LiveImport, err = importLines(c, firstRegistered+f.Numbers, liveLines)
	if err == nil {
		f.Puts, err = putMany(g.socket, firstRegistered+f.Numbers+liveLines)
	}
	stop()
	return errors.Join(err, <-traffic)
}

// trafficRate is what passes meanwhile, in submit_sms a second.
const trafficRate = 5000

// registryKilled kills the gateway and starts it again, with a client that
// submits from the first moment on.
func (b *bench) registryKilled(g *gateway, c *noc.Client, f *registryFigures) error {
	_ = g.cmd.Process.Signal(syscall.SIGKILL)
	_ = g.cmd.Wait()
	c.Close()
	begun := time.Now()
	if err := g.start(b.shunt); err != nil {
		return err
	}
	var first figures
	var err error
	for end := begun.Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		f.Serving = float64(time.Since(begun).Milliseconds())
		if first, err = runClient(g.addr, 1, 10, 200*time.Millisecond); err == nil && first.Messages > 0 {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("the gateway does not serve after kill -9: %w", err)
		}
	}
	f.Forwarded = first.Messages
	for {
		st, err := c.Status(context.Background())
		if err == nil && st.IndexReady {
			f.Ready = float64(time.Since(begun).Milliseconds())
			if want := f.Numbers + liveLines; st.Registered.Numbers < want {
				return fmt.Errorf("%d numbers after kill -9, want %d at least", st.Registered.Numbers, want)
			}
			return nil
		}
		if time.Since(begun) > 2*time.Minute {
			return fmt.Errorf("the index is not ready after two minutes: %w", err)
		}
		if _, err := runPace(g.addr, trafficRate, time.Second); err != nil {
			return err
		}
		f.Forwarded += trafficRate
	}
}

// importLines imports made-up registrations and returns how many a second.
func importLines(c *noc.Client, from, n int) (float64, error) {
	r, w := io.Pipe()
	go func() {
		b := bufio.NewWriterSize(w, 1<<20)
		fmt.Fprintln(b, "number,app,platform,token,device,bearer,state")
		var line []byte
		for i := range n {
			line = fmt.Appendf(line[:0], "+%d,chat,apns,%064x,phone,bench-bearer-%015d,active\n", from+i, i, from+i)
			_, _ = b.Write(line)
		}
		_ = w.CloseWithError(b.Flush())
	}()
	begun := time.Now()
	res, err := c.Import(context.Background(), r, noc.FormatCSV, false, false, func(*noc.ImportEvent) {})
	_ = r.CloseWithError(io.ErrClosedPipe)
	if err == nil && res.Put != n {
		err = fmt.Errorf("%d of %d lines were put", res.Put, n)
	}
	return float64(n) / time.Since(begun).Seconds(), err
}

// putMany registers one by one, many at a time.
func putMany(socket string, from int) (float64, error) {
	var done, next atomic.Int64
	var failed atomic.Pointer[error]
	var callers sync.WaitGroup
	begun := time.Now()
	for range putCallers {
		callers.Go(func() {
			c := noc.New(socket)
			defer c.Close()
			for time.Since(begun) < putsFor && failed.Load() == nil {
				n := fmt.Sprintf("+%d", int64(from)+next.Add(1))
				if _, err := c.Put(context.Background(), n, noc.Put{App: "chat", Platform: "fcm", Token: strings.Repeat("t", 64)}, false); err != nil {
					failed.CompareAndSwap(nil, &err)
					return
				}
				done.Add(1)
			}
		})
	}
	callers.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(done.Load()) / time.Since(begun).Seconds(), nil
}

// watchAnon notes the highest RssAnon until the function that it returns is
// called.
func (g *gateway) watchAnon() func() float64 {
	stop, result := make(chan struct{}), make(chan float64)
	go func() {
		most := 0.0
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if mb, err := g.anon(); err == nil {
					most = max(most, mb)
				}
			case <-stop:
				result <- most
				return
			}
		}
	}()
	return func() float64 { close(stop); return <-result }
}

func (f *registryFigures) print(w io.Writer) {
	fmt.Fprintf(w, "\nregistry of %d numbers, apart from 300,000 of the live import\n", f.Numbers)
	for _, l := range []struct {
		what        string
		value, want float64
		unit        string
		atMost      bool
	}{
		{"import into nobody", f.Import, 150_000, "/s", false},
		{"import beside traffic", f.LiveImport, 30_000, "/s", false},
		{"puts beside traffic, durable", f.Puts, 2_000, "/s", false},
		{"index", f.IndexMB, 350, "MB", true},
		{"kill -9 to a forwarded message", f.Serving, 15_000, "ms", true},
		{"kill -9 to a whole index", f.Ready, 15_000, "ms", true},
	} {
		ratio := l.value / l.want
		fmt.Fprintf(w, "  %-32s %12.0f %-3s %.2f of the %.0f that are %s\n", l.what, l.value, l.unit, ratio, l.want, map[bool]string{false: "asked for", true: "allowed"}[l.atMost])
	}
	fmt.Fprintf(w, "  gateway CPU of the import into nobody: %.1f µs a line; forwarded until the index was whole: %d; RssAnon %.0f MB, at most %.0f MB while importing; on disk %.0f MB\n", f.ImportCPU, f.Forwarded, f.Anon, f.PeakMB, f.Disk)
}
