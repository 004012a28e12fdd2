package gateway

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"time"

	"shunt/gateway/config"
	"shunt/gateway/dispatch"
	"shunt/gateway/msg"
	"shunt/gateway/receipt"
	"shunt/gateway/upstream"
	"shunt/push"
	"shunt/push/apns"
	"shunt/push/fcm"
	"shunt/smpp/pdu"
	"shunt/store/registry"
)

// pushesAtOnce is how many pushes are under way with a provider of an app: at
// 50 ms each some 5,000 a second. FCM's connections have more streams.
const pushesAtOnce = 256

// appSenders are the push senders of an app, and what they were made of.
type appSenders struct {
	apns    *config.APNs
	fcm     *config.FCM
	senders map[registry.Platform]push.Sender
}

// close closes the senders that the next ones do not have.
func (a *appSenders) close(next *appSenders) {
	for p, s := range a.senders {
		if next == nil || next.senders[p] != s {
			_ = s.Close()
		}
	}
}

// opened are the apps of a configuration.
type opened struct {
	all     []dispatch.App
	senders map[string]*appSenders
}

// openApps makes the push senders of every app, and has them connect; it takes
// from old what is made of the same. On an error it has made none.
func (g *Gateway) openApps(apps []config.App, old map[string]*appSenders) (opened, error) {
	o := opened{senders: make(map[string]*appSenders)}
	for i := range apps {
		a := &apps[i]
		s := &appSenders{apns: a.APNs, fcm: a.FCM, senders: make(map[registry.Platform]push.Sender)}
		o.senders[a.ID] = s
		if err := g.openApp(s, old[a.ID]); err != nil {
			for id, s := range o.senders {
				s.close(old[id])
			}
			return opened{}, fmt.Errorf("app %s: %w", a.ID, err)
		}
		o.all = append(o.all, dispatch.App{ID: a.ID, Senders: s.senders, Workers: pushesAtOnce, Text: a.Body == config.BodyText})
	}
	return o, nil
}

func (g *Gateway) openApp(a, old *appSenders) error {
	switch c := a.apns; {
	case c == nil:
	case old != nil && reflect.DeepEqual(c, old.apns):
		a.senders[registry.APNs] = old.senders[registry.APNs]
	default:
		s, err := apns.New(apns.Options{
			TeamID: c.TeamID, KeyID: c.KeyID, KeyFile: c.Key.Path(), Topic: c.Topic,
			Endpoint: c.Endpoint, CAFile: c.CA.Path(), MaxStreams: pushesAtOnce, Logger: g.log,
		})
		if err != nil {
			return err
		}
		s.Warm()
		a.senders[registry.APNs] = s
	}
	switch c := a.fcm; {
	case c == nil:
	case old != nil && reflect.DeepEqual(c, old.fcm):
		a.senders[registry.FCM] = old.senders[registry.FCM]
	default:
		s, err := fcm.New(context.Background(), fcm.Options{
			ServiceAccountFile: c.ServiceAccount.Path(), Endpoint: c.Endpoint, CAFile: c.CA.Path(), Logger: g.log,
		})
		if err != nil {
			return err
		}
		s.Warm()
		a.senders[registry.FCM] = s
	}
	return nil
}

// carrier is Shunt's own bind as the dispatcher sees it.
type carrier struct{ *upstream.Own }

func (c carrier) Submit(p pdu.PDU, done func(dispatch.Submitted)) {
	c.Own.Submit(p, func(r upstream.Result) { done(dispatch.Submitted(r)) })
}

// receiver finds a bind that a receipt can go to.
func (g *Gateway) receiver(a msg.Account) (receipt.Bind, bool) {
	if b := g.hub.Receiver(a); b != nil {
		return receiving{b}, true
	}
	return nil, false
}

type receiving struct{ *upstream.Bind }

func (r receiving) InterfaceVersion() byte { return r.Version }

// Watermark of the volume under node.data_dir: a full disk kills the store, so
// that nothing is diverted below this share of free space, and again only well
// above it.
const (
	diskLowShare = 0.10
	diskOKShare  = 0.12
	diskEvery    = time.Second
)

// watch looks at the disk, and at what else suspends diversion, until ctx is
// done.
func (g *Gateway) watch(ctx context.Context) {
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	closed := suspended{said: make(map[string]bool)}
	for {
		g.checkDisk()
		closed.look(g)
		g.measure()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (g *Gateway) checkDisk() {
	free, err := g.free(g.cfg.Node.DataDir)
	if err == nil {
		g.diskFree.Store(math.Float64bits(free))
	}
	switch {
	case err != nil:
		g.log.Error("free space cannot be read", "dir", g.cfg.Node.DataDir, "error", err)
	case free < diskLowShare && g.diskLow.CompareAndSwap(false, true):
		g.log.Error("disk almost full, messages go as plain SMS; free space under node.data_dir",
			"dir", g.cfg.Node.DataDir, "free_percent", int(free*100))
	case free >= diskOKShare && g.diskLow.CompareAndSwap(true, false):
		g.log.Info("disk has room again, diverting", "dir", g.cfg.Node.DataDir, "free_percent", int(free*100))
	}
}
