package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"shunt/gateway/config"
	"shunt/gateway/msg"
	"shunt/gateway/upstream"
	"shunt/smpp/pdu"
	"shunt/store"
	"shunt/systemd"
)

// Transit serves as if Shunt were not there, while the disk has no room for the
// stores to be opened: every bind and every PDU passes, nothing is diverted, and
// nothing that was diverted before goes on. It returns nil when there is room
// again, or when ctx is done. What New needs is not touched.
func Transit(ctx context.Context, cfg *config.Config, log *slog.Logger, manager *systemd.Notifier) error {
	g := &Gateway{cfg: cfg, log: log, notifier: manager}
	defer g.close()
	l, err := g.liveOf(cfg)
	if err != nil {
		return err
	}
	g.use(l)
	if err := g.makeProxy(&upstream.Hub{}, passing{}); err != nil {
		return err
	}
	if err := g.listenSMPP(); err != nil {
		return err
	}
	serving, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var servers sync.WaitGroup
	for _, l := range g.listeners {
		servers.Go(func() {
			if err := g.proxy.Serve(serving, l); err != nil {
				stop(err)
			}
		})
	}
	log.Error("disk is full, nothing is diverted and the control socket is not served; free space under node.data_dir",
		"dir", cfg.Node.DataDir, "listen", g.addrs())
	manager.Ready("disk is full: everything passes, nothing is diverted")
	servers.Go(func() {
		if g.waitForRoom(serving) {
			log.Info("disk has room again, starting to divert")
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
		if free, err := store.FreeShare(g.cfg.Node.DataDir); err == nil && free >= diskOKShare && store.Room(g.cfg.Node.DataDir) == nil {
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
