package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"shunt/gateway/audit"
	"shunt/gateway/config"
	"shunt/gateway/noc"
	"shunt/gateway/route"
	"shunt/gateway/upstream"
	"shunt/systemd"
)

// live is what a reload replaces, as a whole: the configuration in use and what
// is made of it. It is not changed once it is stored.
type live struct {
	cfg      *config.Config
	policy   *route.Policy
	accounts map[string]upstream.Account // by system_id
	expiries []expiry                    // of the certificates that the configuration names

	countries   *countries
	upstreamIDs upstream.IDFormat // of the SMSC that ESMEs are bound through to
}

func (g *Gateway) config() *config.Config { return g.live.Load().cfg }

func (g *Gateway) policy() *route.Policy { return g.live.Load().policy }

// liveOf is made of a configuration; an error is of what cannot be used of it.
func (g *Gateway) liveOf(cfg *config.Config) (*live, error) {
	l := &live{cfg: cfg, policy: policyOf(cfg), expiries: expiriesOf(cfg)}
	l.policy.Proven = g.proven
	if l.policy.AcceptedWithin > 0 {
		l.policy.Accepted = g.accepted.Last
	}
	if s, ok := cfg.SMSC(cfg.Intercept.Upstream); ok {
		l.upstreamIDs = upstream.IDFormat(s.MessageID)
	}
	var err error
	if l.countries, err = countriesOf(cfg); err != nil {
		return nil, err
	}
	l.accounts, err = accountsOf(cfg)
	return l, err
}

// use makes l the configuration in use, for binds that are up too.
func (g *Gateway) use(l *live) {
	g.sessions.mu.Lock()
	defer g.sessions.mu.Unlock()
	g.live.Store(l)
	for b, s := range g.sessions.all {
		s.account.Store(accountIn(l.cfg, b.Account.SystemID))
	}
}

// sessions are those of all binds that are up.
type sessions struct {
	mu  sync.Mutex
	all map[*upstream.Bind]*session
}

// newSession is the gateway's part of a new bind. Under the lock: a reload that
// comes now finds either the session or its own configuration used for it.
func (g *Gateway) newSession(b *upstream.Bind) *session {
	g.sessions.mu.Lock()
	defer g.sessions.mu.Unlock()
	s := &session{}
	s.account.Store(g.accountNamed(b.Account.SystemID))
	if g.sessions.all == nil {
		g.sessions.all = make(map[*upstream.Bind]*session)
	}
	g.sessions.all[b] = s
	return s
}

func (s *sessions) remove(b *upstream.Bind) {
	s.mu.Lock()
	delete(s.all, b)
	s.mu.Unlock()
}

// Manage has a service manager told how the gateway is. Before Run.
func (g *Gateway) Manage(n *systemd.Notifier) { g.notifier = n }

// OnReload has f told of every configuration that a reload brought. Before Run.
func (g *Gateway) OnReload(f func(*config.Config)) { g.onReload = f }

// Reload reads the configuration file and what it names again, and uses it
// without dropping a bind (see reload below for what there is). A file with
// faults, or with a change that takes a restart, changes nothing; the error is
// then a *noc.Refused. Calls wait for each other.
func (g *Gateway) Reload() (noc.Reload, error) {
	g.reloads.Lock()
	defer g.reloads.Unlock()
	if g.isClosed {
		return noc.Reload{}, errStopping
	}
	g.notifier.Reloading()
	defer func() { g.notifier.Ready(g.line(&figures{}, g.started)) }()
	next, faults, err := config.Load(g.cfg.File)
	if err == nil && next == nil {
		err = refused(faults)
	}
	var r noc.Reload
	if err == nil {
		r, err = g.apply(next)
	}
	if err != nil {
		for _, f := range faultsOf(err) {
			g.log.Error("configuration fault", "fault", f)
		}
		g.log.Error("configuration refused, the one in use stays", "file", g.cfg.File, "error", firstLine(err))
		return noc.Reload{}, err
	}
	r.Warnings = []string{} // [] for scripts, not null
	for _, f := range faults {
		g.log.Warn("configuration warning", "fault", f.String())
		r.Warnings = append(r.Warnings, f.String())
	}
	g.log.Info("configuration reloaded", "file", g.cfg.File, "changed", strings.Join(r.Changed, ", "))
	return r, nil
}

var errStopping = errors.New("the gateway is stopping")

func refused(faults []config.Fault) *noc.Refused {
	r := &noc.Refused{}
	for _, f := range faults {
		r.Faults = append(r.Faults, f.String())
	}
	return r
}

func faultsOf(err error) []string {
	var r *noc.Refused
	if errors.As(err, &r) {
		return r.Faults
	}
	return nil
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// apply uses a configuration as a whole, or nothing of it.
func (g *Gateway) apply(next *config.Config) (noc.Reload, error) {
	old := g.config()
	if waits := g.waits(old, next); len(waits) > 0 {
		r := &noc.Refused{}
		for _, key := range waits {
			r.Faults = append(r.Faults, next.File+": "+key+": has changed, and takes effect at a restart only: restart, or take the change back")
		}
		return noc.Reload{}, r
	}
	n, err := g.prepare(old, next)
	if err != nil {
		return noc.Reload{}, fmt.Errorf("configuration: %w", err)
	}
	g.take(n)
	return noc.Reload{Changed: changes(old, next)}, nil
}

// waits names what differs and cannot change without a restart: everything but
// what is copied here.
func (g *Gateway) waits(old, next *config.Config) []string {
	c := *old
	c.Accounts, c.SMSCs, c.Apps, c.Plans = next.Accounts, next.SMSCs, next.Apps, next.Plans
	c.Policy, c.Limits, c.Log = next.Policy, next.Limits, next.Log
	c.Limits.UpstreamDials = old.Limits.UpstreamDials
	if g.accepted == nil {
		c.Policy.AcceptedWithin = 0 // nobody has watched the SMSC's answers
	}
	c.Intercept.Upstream = next.Intercept.Upstream
	c.API.TLS, c.API.Rate, c.NOC.TLS = next.API.TLS, next.API.Rate, next.NOC.TLS
	if len(old.Listen) == len(next.Listen) {
		c.Listen = slices.Clone(old.Listen)
		for i := range c.Listen {
			c.Listen[i].TLS = next.Listen[i].TLS
		}
	}
	return changes(&c, next)
}

// reload is everything that a configuration brings, made and not yet in use.
type reload struct {
	live     *live
	listen   []*tls.Config // of listeners; nil: no TLS
	api, noc *tls.Config
	towards  upstream.Towards
	own      *upstream.OwnOptions // nil: as they were
	ownRate  int
	apps     opened
}

// prepare makes all that can fail. On an error there is nothing to undo.
func (g *Gateway) prepare(old, next *config.Config) (n *reload, err error) {
	n = &reload{}
	if n.live, err = g.liveOf(next); err != nil {
		return nil, err
	}
	for i := range next.Listen {
		c, err := next.Listen[i].TLS.Config()
		if err != nil {
			return nil, fmt.Errorf("listen.addr %s: tls: %w", next.Listen[i].Addr, err)
		}
		n.listen = append(n.listen, c)
	}
	if n.api, err = next.API.TLS.Config(); err != nil {
		return nil, fmt.Errorf("api: tls: %w", err)
	}
	if n.noc, err = next.NOC.TLS.Config(); err != nil {
		return nil, fmt.Errorf("noc: tls: %w", err)
	}
	up, _ := next.SMSC(next.Intercept.Upstream)
	engine, err := g.smppConfig(up)
	if err != nil {
		return nil, err
	}
	n.towards = towardsOf(up, &engine)
	if s, ok := next.SMSC(next.Intercept.FallbackSMSC); ok {
		if engine, err = g.smppConfig(s); err != nil {
			return nil, err
		}
		if was, _ := old.SMSC(next.Intercept.FallbackSMSC); !reflect.DeepEqual(was, s) {
			o := g.ownOptions(s, engine)
			n.own = &o
		}
		n.ownRate = int(s.Rate)
	}
	n.apps, err = g.openApps(next.Apps, g.apps)
	return n, err
}

// take uses it: for what comes from now on. Binds that are up stay.
func (g *Gateway) take(n *reload) {
	next := n.live.cfg
	g.use(n.live)
	for i, c := range n.listen {
		g.listeners[i].SetTLS(c)
	}
	if g.apiListener != nil {
		g.apiListener.SetTLS(n.api)
	}
	if g.web != nil {
		g.web.SetTLS(n.noc)
	}
	g.proxy.SetTowards(n.towards)
	g.proxy.SetLimits(limitsOf(&next.Limits))
	g.proxy.SetOutbinds(g.outbinds(next))
	if n.own != nil {
		g.own.Set(*n.own)
	}
	g.dispatcher.SetRate(n.ownRate)
	g.takeApps(next.Apps, n.apps)
	g.lines.setMode(next.Log.Messages)
	if g.onReload != nil {
		g.onReload(next)
	}
}

// takeApps has messages pushed with other senders. The old ones are closed when
// what they had been given is done, or at the stop.
func (g *Gateway) takeApps(apps []config.App, o opened) {
	g.timings.setApps(apps)
	g.owners.presence.SetApps(limitsOfApps(apps))
	g.external.SetApps(idsOf(apps))
	old := g.apps
	g.apps = o.senders
	done := g.dispatcher.SetApps(o.all)
	go func() {
		<-done
		for id, a := range old {
			a.close(o.senders[id])
		}
	}()
}

// changes names the sections and keys in which two configurations differ.
func changes(a, b *config.Config) []string {
	all := []string{}
	x, y := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for i := range x.NumField() {
		name := x.Type().Field(i).Name
		u, v := x.Field(i), y.Field(i)
		switch {
		case reflect.DeepEqual(u.Interface(), v.Interface()):
		case name == "Listen" && u.Len() == v.Len():
			all = append(all, changedListeners(a.Listen, b.Listen)...)
		case u.Kind() == reflect.Slice:
			all = append(all, "[["+strings.ToLower(strings.TrimSuffix(name, "s"))+"]]")
		case u.Kind() == reflect.Struct:
			for k := range u.NumField() {
				if !reflect.DeepEqual(u.Field(k).Interface(), v.Field(k).Interface()) {
					all = append(all, strings.ToLower(name)+"."+keyOf(u.Type().Field(k).Name))
				}
			}
		}
	}
	return all
}

// changedListeners names the keys in which listeners differ, each once.
func changedListeners(a, b []config.Listen) (all []string) {
	for i := range a {
		u, v := reflect.ValueOf(a[i]), reflect.ValueOf(b[i])
		for k := range u.NumField() {
			if key := "listen." + keyOf(u.Type().Field(k).Name); !reflect.DeepEqual(u.Field(k).Interface(), v.Field(k).Interface()) && !slices.Contains(all, key) {
				all = append(all, key)
			}
		}
	}
	return all
}

// renamed are the keys that differ from their fields.
var renamed = map[string]string{"AcceptedWithin": "carrier_accepted_within", "FullNumbers": "numbers", "Token": "token_file", "OTel": "otel"}

// keyOf is the key of a field in the file: FallbackSMSC is fallback_smsc.
func keyOf(field string) string {
	if key, ok := renamed[field]; ok {
		return key
	}
	var b strings.Builder
	for i, c := range field {
		capital := c >= 'A' && c <= 'Z'
		if capital && i > 0 && (field[i-1] < 'A' || field[i-1] > 'Z') {
			b.WriteByte('_')
		}
		b.WriteRune(c)
	}
	return strings.ToLower(b.String())
}

// Hangup is a reload by SIGHUP, whose sender is not known. Like any other it is
// refused if it cannot be recorded.
func (g *Gateway) Hangup() {
	a, err := g.audit.Begin(audit.Actor{UID: -1, User: "(signal)"}, "reload", "SIGHUP", false)
	if err != nil {
		g.notifier.Reloading() // a service manager waits for the end of what it asked for
		g.notifier.Ready(g.line(&figures{}, g.started))
		g.log.Error("configuration refused, the one in use stays", "file", g.cfg.File, "error", err)
		return
	}
	_, err = g.Reload() // it logs what is wrong
	a.End("", noc.ResultOf(err))
}

// Reload implements noc.Gateway.
func (c *control) Reload(context.Context) (noc.Reload, error) { return c.g.Reload() }
