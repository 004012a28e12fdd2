// Package gateway puts the legs together: it is the only package that knows
// them all. It opens the stores, binds, listens, decides, and stops in order.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shunt/gateway/alarm"
	"shunt/gateway/api"
	"shunt/gateway/audit"
	"shunt/gateway/cdr"
	"shunt/gateway/config"
	"shunt/gateway/dispatch"
	"shunt/gateway/external"
	"shunt/gateway/heap"
	"shunt/gateway/listen"
	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/gateway/noc/page"
	"shunt/gateway/otel"
	"shunt/gateway/receipt"
	"shunt/gateway/resubmit"
	"shunt/gateway/upstream"
	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/store"
	"shunt/store/registry"
	"shunt/store/spool"
	"shunt/systemd"
)

// Gateway is one running node. New opens what must be there, Run serves.
type Gateway struct {
	cfg     *config.Config
	log     *slog.Logger
	faults  *page.Faults // in front of log
	version string
	started time.Time

	registry   *registry.Registry
	external   *external.Registries // nil: nobody else is asked
	spool      *spool.Spool
	live       atomic.Pointer[live]
	sessions   sessions
	accepted   *upstream.Accepted // nil: nobody asks what the SMSC accepts
	hub        *upstream.Hub
	proxy      *upstream.Proxy
	own        *upstream.Own // nil: nothing can fall back, nothing is diverted
	dispatcher *dispatch.Dispatcher
	receipts   *receipt.Deliverer
	streams    *api.Streams
	records    *cdr.Writer
	timings    *timings
	watches    watches
	traces     *otel.Tracer           // nil: they are sent nowhere
	apps       map[string]*appSenders // by id; New's and, under reloads, the reload's

	listeners   []*listen.Listener // SMPP, as in the configuration
	apiListener *listen.Listener   // nil: none
	apiUnused   net.Listener       // the service manager's socket for it, where there is none
	control     net.Listener
	web         *listen.Listener // nil: nobody asks, or its address is taken

	serving        context.Context // of Run: ends when it stops to serve
	letters        letters
	replyReference atomic.Uint32 // of the last reply's parts
	resubmits      resubmit.Table
	lookups        chan struct{} // those that are under way; see maxLookups
	replacing      replacing

	notifier *systemd.Notifier // nil: no service manager asks
	onReload func(*config.Config)
	reloads  sync.Mutex
	isClosed bool // under reloads
	lines    *lines

	alarms  *alarm.Store
	audit   *audit.Log
	webhook *alarm.Webhook // nil: alarms are sent nowhere

	owners   owners
	mode     *modeFile
	drain    drain
	free     func(dir string) (float64, error) // store.FreeShare
	diskFree atomic.Uint64                     // share of the volume, as math.Float64bits
	diskLow  atomic.Bool                       // below the watermark: nothing is diverted
	ended    endedBinds
	submitOK atomic.Bool // the spool's last put succeeded
	journal  bool        // the log goes to the journal
	proving  atomic.Bool // a selftest is under way
}

// Limits of a stop: how long binds have to end, and attempts that are under
// way to finish. What is unfinished then stays spooled.
const (
	unbindWithin = 5 * time.Second
	drainWithin  = 10 * time.Second

	// gather is how far apart the spool's commits begin when many messages are
	// under way: what app and SMSC do is answered in waves of them, and each wave
	// costs one fsync and one wake-up of everybody instead of many.
	gather = 8 * time.Millisecond
)

// New opens stores, push legs and listeners, so that whatever is missing, in
// use or refused shows as one error. On an error everything is closed again. One
// that wraps store.ErrNoRoom says that the stores must not be opened: see
// Transit.
func New(cfg *config.Config, log *slog.Logger, version string) (_ *Gateway, err error) {
	_, journal := log.Handler().(*systemd.Journal)
	faults := page.NewFaults(log.Handler())
	log = slog.New(faults)
	g := &Gateway{free: store.FreeShare, cfg: cfg, log: log, faults: faults, journal: journal, version: version, started: time.Now(), lookups: make(chan struct{}, maxLookups)}
	g.submitOK.Store(true)
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	if err = checkRoom(cfg.Node.DataDir); err != nil {
		return nil, err
	}
	if g.mode, err = openMode(filepath.Join(cfg.Node.DataDir, "divert"), cfg.Intercept.Divert); err != nil {
		return nil, err
	}
	g.makeAlarms()
	if g.registry, err = registry.Open(registry.Options{Dir: filepath.Join(cfg.Node.DataDir, "reg"), Logger: log, Key: cfg.Store.Key.Bytes()}); err != nil {
		return nil, err
	}
	// The registry's lock is ours: nobody else writes there.
	sweepProbes(cfg.Node.DataDir)
	g.audit = audit.Open(filepath.Join(cfg.Node.DataDir, "audit"), audit.Options{Keep: cfg.Retention.Audit}, log)
	if err = g.makeExternal(); err != nil {
		return nil, err
	}
	apps, err := g.openApps(cfg.Apps, nil)
	if err != nil {
		return nil, err
	}
	g.apps = apps.senders
	if cfg.Policy.AcceptedWithin > 0 {
		g.accepted = upstream.NewAccepted(time.Now)
	}
	l, err := g.liveOf(cfg)
	if err != nil {
		return nil, err
	}
	g.use(l)
	g.timings = newTimings(cfg.Apps)
	g.lines = newLines(log)
	if o := &cfg.OTel; o.Endpoint != "" {
		if g.traces, err = otel.New(otel.Options{
			Endpoint: o.Endpoint, CA: o.CA.Bytes(), Token: string(o.Token.Bytes()), Node: cfg.Node.ID, Version: version, Log: log,
		}); err != nil {
			return nil, err
		}
	}
	g.lines.setMode(cfg.Log.Messages)
	if err = g.makeOwners(); err != nil {
		return nil, err
	}
	if err = g.makeOwn(); err != nil {
		return nil, err
	}
	if err = g.openRecords(); err != nil {
		return nil, err
	}
	g.streams = api.NewStreams(cfg.API.Streams)
	g.receipts = receipt.New(receipt.Options{Spool: lateSpool{g}, Replies: lateSpool{g}, Receiver: g.receiver, Wanted: g.askForBind, Log: log})
	o := dispatch.Options{
		Spool: lateSpool{g}, Registry: g.registry, Apps: apps.all, Receipt: g.receipts.Add,
		Finished: func(*spool.Record) { g.records.Ended() },
		Letter:   g.judgeLetter, Text: g.textOfMessage, Log: log,
		Streams: g.streams, Grace: cfg.API.StreamGrace, Took: g.timings.pushed,
	}
	if g.own != nil {
		o.Carrier = carrier{g.own}
		own, _ := cfg.SMSC(cfg.Intercept.FallbackSMSC)
		o.Rate = int(own.Rate)
	}
	g.dispatcher = dispatch.New(o)
	g.spool, err = spool.Open(spool.Options{
		Dir: filepath.Join(cfg.Node.DataDir, "spool"), Retention: cfg.Retention.Messages, Key: cfg.Store.Key.Bytes(),
		Gather: gather, Logger: log, Observe: g.observe, Replied: g.receipts.AddReply,
	})
	if err != nil {
		return nil, err
	}
	if err = g.makeProxy(g.makeHub(), g); err != nil {
		return nil, err
	}
	return g, g.listen()
}

// lateSpool is the spool for those who are made before it.
type lateSpool struct{ g *Gateway }

func (s lateSpool) Post(e spool.Event, done func(spool.Result)) { s.g.spool.Post(e, done) }
func (s lateSpool) Get(id msg.ID) (spool.Record, error)         { return s.g.spool.Get(id) }
func (s lateSpool) Sent(n msg.Number, peer, smsID string) (bool, error) {
	return s.g.spool.Sent(n, peer, smsID)
}
func (s lateSpool) Message(id msg.ID) (*spool.Message, error) { return s.g.spool.Message(id) }

func (s lateSpool) Reply(id msg.ID) (*spool.Reply, error) { return s.g.spool.Reply(id) }

func (s lateSpool) ReplyTaken(t spool.Taken, done func(error)) { s.g.spool.ReplyTaken(t, done) }

func (s lateSpool) Correlate(peer, id string) (msg.ID, bool) { return s.g.spool.Correlate(peer, id) }

func (s lateSpool) Do(ctx context.Context, e spool.Event) spool.Result { return s.g.spool.Do(ctx, e) }

// smppConfig is the engine's configuration, with TLS as an SMSC wants it.
func (g *Gateway) smppConfig(s *config.SMSC) (smpp.Config, error) {
	c := g.cfg.SMPP
	t, err := s.TLS.Config(s.Addr)
	if err != nil {
		return smpp.Config{}, fmt.Errorf("smsc %s: tls: %w", s.Name, err)
	}
	return smpp.Config{
		MaxPDU: int(c.MaxPDU), Window: c.Window, EnquireLink: c.EnquireLink,
		Response: c.Response, WriteStall: c.WriteStall, WriteBuffer: int(c.WriteBuffer), TLS: t, Local: s.LocalAddr,
	}, nil
}

func (g *Gateway) makeOwn() error {
	s, ok := g.cfg.SMSC(g.cfg.Intercept.FallbackSMSC)
	if !ok {
		return nil
	}
	engine, err := g.smppConfig(s)
	if err != nil {
		return err
	}
	g.own = upstream.NewOwn(g.ownOptions(s, engine))
	return nil
}

// ownOptions are those of Shunt's own binds to s.
func (g *Gateway) ownOptions(s *config.SMSC, engine smpp.Config) upstream.OwnOptions {
	return upstream.OwnOptions{
		SMSC: s.Name, Addr: s.Addr, Split: s.Bind == config.TransmitterReceiver,
		Bind:     pdu.Bind{SystemID: s.SystemID, Password: string(s.Password.Bytes()), InterfaceVersion: pdu.Version34},
		Sessions: s.Sessions, Window: s.Window, IDFormat: upstream.IDFormat(s.MessageID), SMPP: engine,
		ProxyHeader: s.ProxyHeader, OnMO: g.owners.onMO,
		OnReceipt: func(r upstream.Receipt, answer func(pdu.Status)) {
			g.dispatcher.OnReceipt(dispatch.CarrierReceipt{
				SMSC: r.SMSC, ID: r.ID, State: r.State, Err: r.Err, Done: r.Done,
				Recipient: r.Recipient, Sender: r.Sender,
			}, answer)
		},
		Log: g.log,
	}
}

// windowFull are the answers that smpp.window_full names; ESME_ROK is none.
var windowFull = [...]pdu.Status{config.WindowWait: pdu.ROK, config.WindowThrottle: pdu.RTHROTTLED, config.WindowQueue: pdu.RMSGQFUL}

func (g *Gateway) makeHub() *upstream.Hub {
	return &upstream.Hub{
		Receivable: g.receipts.Receivable,
		Attach: func(b *upstream.Bind) {
			b.State, b.WindowFull = g.newSession(b), windowFull[g.cfg.SMPP.WindowFull]
			b.Watch(g.accepted)
		},
		Detached: func(b *upstream.Bind) {
			g.sessions.remove(b)
			g.ended.add(b)
		},
		Lost: g.lost,
	}
}

func (g *Gateway) makeProxy(hub *upstream.Hub, decider upstream.Decider) error {
	up, _ := g.cfg.SMSC(g.cfg.Intercept.Upstream)
	engine, err := g.smppConfig(up)
	if err != nil {
		return err
	}
	engine.Inactivity = g.cfg.SMPP.Inactivity
	engine.Answered = g.timings.forwarded
	g.hub = hub
	to := towardsOf(up, &engine)
	g.proxy = &upstream.Proxy{
		Tap: &g.watches.taps, Upstream: to.Addr, SessionInit: g.cfg.SMPP.SessionInit, SMPP: engine,
		Decider: decider, Hub: g.hub, Log: g.log, ProxyHeader: to.ProxyHeader, Limits: limitsOf(&g.cfg.Limits),
		Local:   func(systemID string) netip.Addr { return g.config().Account(systemID).LocalAddr },
		Account: func(systemID string) upstream.Account { return g.live.Load().accounts[systemID] },
	}
	g.proxy.Outbinds = g.outbinds(g.cfg)
	return nil
}

// towardsOf is how the SMSC is connected to that ESMEs are bound through to.
func towardsOf(s *config.SMSC, engine *smpp.Config) upstream.Towards {
	return upstream.Towards{Addr: s.Addr, TLS: engine.TLS, Local: engine.Local, ProxyHeader: s.ProxyHeader}
}

// outbinds are the SMSCs that may send outbind.
func (g *Gateway) outbinds(c *config.Config) []upstream.OutbindPeer {
	own, ok := c.SMSC(c.Intercept.FallbackSMSC)
	if !ok || own.Outbind == nil {
		return nil
	}
	return []upstream.OutbindPeer{{
		Allow: own.Outbind.Allow, SystemID: own.Outbind.SystemID, Password: string(own.Outbind.Password.Bytes()), Own: g.own,
	}}
}

// listen opens every listener, on the service manager's sockets where it has
// handed them over, and the control socket last: who finds it can use the rest.
func (g *Gateway) listen() error {
	sockets, err := listen.Inherited()
	if err != nil {
		return err
	}
	defer sockets.Close()
	if err := g.listenOn(sockets); err != nil {
		return err
	}
	if g.cfg.API.Listen != "" {
		if g.apiListener, err = listenTLS(sockets, listen.Options{Addr: g.cfg.API.Listen}, g.cfg.API.TLS); err != nil {
			return fmt.Errorf("api.listen %s: %w", g.cfg.API.Listen, err)
		}
	} else if l, ok := sockets.Named(apiSocket); ok {
		g.apiUnused = l
		g.log.Info("api.listen is empty, the app API is off: what connects to its socket is hung up on", "addr", l.Addr().String())
	}
	if err := sockets.Unused(); err != nil {
		return err
	}
	if g.cfg.NOC.Socket != "" {
		if g.control, err = noc.Listen(g.cfg.NOC.Socket); err != nil {
			return err
		}
	}
	g.listenWeb(sockets)
	return nil
}

// listenWeb opens noc.listen. Messages go before figures: an address that is taken
// stops no traffic.
func (g *Gateway) listenWeb(sockets *listen.Sockets) {
	if g.cfg.NOC.Listen == "" {
		return
	}
	var err error
	if g.web, err = listenTLS(sockets, listen.Options{Addr: g.cfg.NOC.Listen}, g.cfg.NOC.TLS); err != nil {
		g.web = nil
		g.log.Warn("noc.listen cannot be opened, no page, no metrics and no health until a restart", "addr", g.cfg.NOC.Listen, "error", err)
	}
}

// apiSocket is the name of the app API's socket in its unit. The unit is enabled
// with the others, whatever the configuration.
const apiSocket = "api"

// hangUp ends every connection that comes, until ctx is done: nobody is to wait
// in a socket that the service manager keeps open.
func hangUp(ctx context.Context, l net.Listener) {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			_ = conn.Close()
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		default: // out of file descriptors: it waits
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}
}

// listenSMPP opens the listeners for ESMEs alone.
func (g *Gateway) listenSMPP() error {
	sockets, err := listen.Inherited()
	if err != nil {
		return err
	}
	defer sockets.Close()
	if err := g.listenOn(sockets); err != nil {
		return err
	}
	g.listenWeb(sockets)
	return nil
}

func (g *Gateway) listenOn(sockets *listen.Sockets) error {
	for _, l := range g.cfg.Listen {
		ln, err := listenTLS(sockets, listen.Options{Addr: l.Addr, ProxyFrom: l.ProxyFrom, ReusePort: l.ReusePort}, l.TLS)
		if err != nil {
			return fmt.Errorf("listen.addr %s: %w", l.Addr, err)
		}
		g.listeners = append(g.listeners, ln)
	}
	return nil
}

func listenTLS(sockets *listen.Sockets, o listen.Options, t *config.ServerTLS) (_ *listen.Listener, err error) {
	if o.TLS, err = t.Config(); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return sockets.Listen(o)
}

// Run serves until ctx is done or a part of it fails, then stops in order:
// listeners, binds, attempts under way, spool, registry. A second stop is a
// kill: whatever is spooled is found at the next start.
func (g *Gateway) Run(ctx context.Context) error {
	defer g.close()
	serving, stopServing := context.WithCancelCause(ctx)
	defer stopServing(nil)
	g.serving = serving
	legs, stopLegs := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLegs()

	var resumed int
	for r := range g.spool.Live {
		g.dispatcher.Resume(r)
		if r.Hold == msg.HoldParts {
			if err := g.resumePart(&r); err != nil {
				g.log.Error("part of a long message cannot be read", "msg_id", r.ID.String(), "error", err)
			}
		}
		resumed++
	}
	if err := g.restoreDoubts(time.Now()); err != nil {
		g.log.Error("the last messages cannot be read: a submit that comes again will be a new one", "error", err)
	}
	for r := range g.spool.Replies {
		g.receipts.AddReply(r)
	}
	g.spool.Start()
	var legsDone sync.WaitGroup
	legsDone.Go(func() { g.dispatcher.Run(legs) })
	legsDone.Go(func() { g.receipts.Run(legs) })
	legsDone.Go(func() { g.records.Run(legs) })
	legsDone.Go(func() { g.owners.run(legs, g) })
	legsDone.Go(func() { g.alarms.Run(legs) })
	legsDone.Go(func() { g.traces.Run(legs) })
	legsDone.Go(func() { g.audit.Run(legs) })
	if g.webhook != nil {
		legsDone.Go(func() { g.webhook.Run(legs) })
	}
	legsDone.Go(func() { g.sweepTold(legs) })
	if g.own != nil {
		legsDone.Go(func() { g.own.Run(legs) })
	}

	var servers sync.WaitGroup
	serve := func(f func() error) {
		servers.Go(func() {
			if err := f(); err != nil {
				stopServing(err)
			}
		})
	}
	for _, l := range g.listeners {
		serve(func() error { return g.proxy.Serve(serving, l) })
	}
	if g.apiListener != nil {
		h := api.New(g.apiOptions())
		serve(func() error { return api.Serve(serving, g.apiListener, h, g.log) })
	}
	if g.apiUnused != nil {
		serve(func() error { hangUp(serving, g.apiUnused); return nil })
	}
	if g.control != nil {
		s := noc.NewServer(noc.Options{Gateway: &control{g}, Registry: g.registry, Spool: g.spool, Alarms: g.alarms, Audit: g.audit, Log: g.log, TempDir: g.cfg.Node.DataDir, Country: g.country})
		serve(func() error { return s.ServeOn(serving, g.control) })
	}
	if g.web != nil {
		p := page.New(page.Options{Gateway: &control{g}, Spool: g.spool, Log: g.log, Country: g.country(""), Faults: g.faults, Alarms: pageAlarms{g}, Token: g.cfg.NOC.Token.Bytes(), Audit: g.audit})
		s := noc.NewWeb(noc.WebOptions{Gateway: &control{g}, Log: g.log, Timings: g.timings.write, Page: p.Routes(), Hosts: g.cfg.NOC.Hosts, Cert: g.cfg.NOC.TLS.PEM()})
		serve(func() error { return s.ServeOn(serving, g.web) })
		serve(func() error { p.Run(serving); return nil })
	}
	serve(func() error { g.watch(serving); return nil })
	serve(func() error { g.watchAlarms(serving); return nil })
	serve(func() error { g.probeUpstream(serving); return nil })
	serve(func() error { heap.Follow(serving); return nil })
	serve(func() error { g.lines.run(serving, g.verdicts); return nil })
	serve(func() error { g.tellManager(serving); return nil })
	g.log.Info("serving", "node", g.cfg.Node.ID, "version", g.version, "listen", g.addrs(), "divert", g.mode.get().String(), "resumed", resumed)
	g.notifier.Ready(g.line(&figures{}, time.Now()))

	<-serving.Done()
	g.notifier.Stopping()
	g.log.Info("stopping: no new binds, answering what was accepted")
	g.proxy.Close(unbindWithin)
	servers.Wait()
	stopLegs()
	g.waitLegs(&legsDone)
	g.stopped()
	if err := context.Cause(serving); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// waitLegs waits for attempts that are under way, up to the drain limit.
func (g *Gateway) waitLegs(legs *sync.WaitGroup) {
	done := make(chan struct{})
	go func() {
		legs.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(drainWithin):
		g.log.Warn("attempts are still under way; they stay spooled", "waited", drainWithin)
	}
}

// close closes whatever New opened.
func (g *Gateway) close() {
	for _, l := range append(slices.Clone(g.listeners), g.apiListener, g.web) {
		if l != nil {
			_ = l.Close()
		}
	}
	for _, l := range []net.Listener{g.control, g.apiUnused} {
		if l != nil {
			_ = l.Close()
		}
	}
	g.reloads.Lock()
	g.isClosed = true
	for _, a := range g.apps {
		a.close(nil)
	}
	g.reloads.Unlock()
	if g.audit != nil {
		if err := g.audit.Close(); err != nil {
			g.log.Error("audit did not close cleanly", "error", err)
		}
	}
	g.external.Close()
	if g.spool != nil {
		if err := g.spool.Close(); err != nil {
			g.log.Error("spool did not close cleanly", "error", err)
		}
	}
	if g.registry != nil {
		if err := g.registry.Close(); err != nil {
			g.log.Error("registry did not close cleanly", "error", err)
		}
	}
}

func (g *Gateway) addrs() []string {
	all := make([]string, 0, len(g.listeners))
	for _, l := range g.listeners {
		all = append(all, l.Addr().String())
	}
	return all
}
