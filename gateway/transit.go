package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"shunt/gateway/alarm"
	"shunt/gateway/config"
	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/gateway/noc/page"
	"shunt/gateway/upstream"
	"shunt/smpp/pdu"
	"shunt/store"
	"shunt/store/spool"
	"shunt/systemd"
)

// Transit serves as if Shunt were not there, while the disk has no room for the
// stores to be opened: every bind and every PDU passes, nothing is diverted, and
// nothing that was diverted before goes on. The page, metrics and health are
// served, the control socket is not. It returns nil when there is room again, or
// when ctx is done. What New needs is not touched.
func Transit(ctx context.Context, cfg *config.Config, log *slog.Logger, version string, manager *systemd.Notifier) error {
	g, err := newTransit(cfg, log, version, manager)
	if err != nil {
		return err
	}
	return g.transit(ctx)
}

// newTransit opens the listeners alone. On an error everything is closed again.
func newTransit(cfg *config.Config, log *slog.Logger, version string, manager *systemd.Notifier) (_ *Gateway, err error) {
	faults := page.NewFaults(log.Handler())
	log = slog.New(faults)
	g := &Gateway{cfg: cfg, log: log, faults: faults, version: version, started: time.Now(), notifier: manager, free: store.FreeShare, timings: newTimings(cfg.Apps)}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	if g.mode, err = openMode(filepath.Join(cfg.Node.DataDir, "divert"), cfg.Intercept.Divert); err != nil {
		g.mode = &modeFile{} // it is only shown: the stores are not open
	}
	l, err := g.liveOf(cfg)
	if err != nil {
		return nil, err
	}
	g.use(l)
	if err = g.makeProxy(&upstream.Hub{Detached: g.ended.add}, passing{}); err != nil {
		return nil, err
	}
	return g, g.listenSMPP()
}

// transit is Transit with everything open.
func (g *Gateway) transit(ctx context.Context) error {
	defer g.close()
	serving, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var servers sync.WaitGroup
	serve := func(f func() error) {
		servers.Go(func() {
			if err := f(); err != nil {
				stop(err)
			}
		})
	}
	for _, l := range g.listeners {
		serve(func() error { return g.proxy.Serve(serving, l) })
	}
	if g.web != nil {
		c := &bare{g}
		p := page.New(page.Options{Gateway: c, Spool: noSpool{}, Log: g.log, Faults: g.faults, Alarms: c})
		s := noc.NewWeb(noc.WebOptions{Gateway: c, Log: g.log, Timings: g.timings.write, Page: p.Routes(), Hosts: g.cfg.NOC.Hosts, Cert: g.cfg.NOC.TLS.PEM()})
		serve(func() error { return s.ServeOn(serving, g.web) })
		serve(func() error { p.Run(serving); return nil })
	}
	g.log.Error("disk is full, nothing is diverted and the control socket is not served; free space under node.data_dir",
		"dir", g.cfg.Node.DataDir, "listen", g.addrs())
	g.notifier.Ready("disk is full: everything passes, nothing is diverted")
	servers.Go(func() {
		if g.waitForRoom(serving) {
			g.log.Info("disk has room again, starting to divert")
			stop(errRoom)
		}
	})
	<-serving.Done()
	g.proxy.Close(unbindWithin)
	servers.Wait()
	if err := context.Cause(serving); !errors.Is(err, errRoom) && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// bare is the node as its page shows it while the stores are not open. Nothing of
// it can be switched.
type bare struct{ g *Gateway }

var errBare = errors.New("the disk is full, and the stores are not open")

// Status implements page.Gateway.
func (c *bare) Status() noc.Status {
	g := c.g
	s := noc.Status{
		Version: g.version, Node: g.cfg.Node.ID, Started: g.started, Divert: c.Divert(), Transit: true,
		Listen: g.addrs(), FailOpen: []string{msg.ReasonSpoolFull.String()}, Answers: g.timings.answers(),
		Counters: noc.Counters{Reasons: make(map[string]uint64)},
	}
	s.DiskFree, _ = g.free(g.cfg.Node.DataDir) // what cannot be read shows as none
	g.countBinds(&s)
	for _, v := range g.verdicts() {
		for _, r := range msg.Reasons() {
			if v[r] > 0 {
				s.Counters.Reasons[r.String()] += v[r]
				s.Counters.SubmitsIn += v[r]
			}
		}
	}
	s.Counters.Forwarded = s.Counters.SubmitsIn
	return s
}

// Sessions implements page.Gateway.
func (c *bare) Sessions() []noc.Session { return (&control{c.g}).Sessions() }

// Verdicts implements noc.Watched.
func (c *bare) Verdicts() map[string]map[string]uint64 { return (&control{c.g}).Verdicts() }

// Divert implements noc.Switch.
func (c *bare) Divert() string { return c.g.mode.get().String() }

// Queue implements page.Gateway: what is spooled is not read.
func (*bare) Queue() []noc.Queue { return nil }

// SetDivert implements noc.Switch. The page has no form for it here.
func (*bare) SetDivert(context.Context, string) error { return errBare }

// SetDrain implements page.Gateway. The page has no form for it here.
func (*bare) SetDrain(bool) noc.Drain { return noc.Drain{} }

// Active implements page.Alarms.
func (c *bare) Active() []page.Alarm {
	return []page.Alarm{{
		Name: string(alarm.DiskLow), Severity: string(alarm.Critical), Since: c.g.started,
		Text: "the node was started with no room for its stores: everything passes, nothing is diverted, what was diverted before waits",
	}}
}

// noSpool is a spool that is not open.
type noSpool struct{}

func (noSpool) Get(msg.ID) (spool.Record, error)               { return spool.Record{}, spool.ErrClosed }
func (noSpool) Trace(msg.ID) ([]spool.Step, error)             { return nil, spool.ErrClosed }
func (noSpool) Recent(msg.Number, int) ([]spool.Record, error) { return nil, spool.ErrClosed }
func (noSpool) Resolve(string) (msg.ID, bool)                  { return msg.ID{}, false }
func (noSpool) Latest(string, int) []spool.Record              { return nil }

var errRoom = errors.New("disk has room again")

// waitForRoom returns true when there is room, well above the least.
func (g *Gateway) waitForRoom(ctx context.Context) bool {
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
		g.notifier.Alive()
		g.timings.look()
		if free, err := g.free(g.cfg.Node.DataDir); err == nil && free >= diskOKShare && store.Room(g.cfg.Node.DataDir) == nil {
			return true
		}
	}
}

// passing lets everything pass.
type passing struct{}

func (passing) Divert(b *upstream.Bind, p pdu.PDU) bool {
	switch p.ID() {
	case pdu.SubmitSM, pdu.DataSM, pdu.SubmitMulti:
		b.Count(msg.ReasonSpoolFull)
	}
	return false
}

// checkRoom tells why the stores cannot be opened.
func checkRoom(dir string) error {
	if err := store.MakeDir(dir); err != nil {
		return fmt.Errorf("node.data_dir: %w", err)
	}
	return store.Room(dir)
}
