package gateway

import (
	"context"
	"fmt"
	"reflect"
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
}

func (g *Gateway) config() *config.Config { return g.live.Load().cfg }

func (g *Gateway) policy() *route.Policy { return g.live.Load().policy }

// use makes cfg the configuration in use, for binds that are up too. On an error
// nothing changes.
func (g *Gateway) use(cfg *config.Config) error {
	l := &live{cfg: cfg, policy: policyOf(cfg), expiries: expiriesOf(cfg)}
	l.policy.Proven = g.proven
	if l.policy.AcceptedWithin > 0 {
		l.policy.Accepted = g.accepted.Last
	}
	var err error
	if l.accounts, err = accountsOf(cfg); err != nil {
		return err
	}
	g.sessions.mu.Lock()
	defer g.sessions.mu.Unlock()
	g.live.Store(l)
	for b, s := range g.sessions.all {
		s.account.Store(accountIn(cfg, b.Account.SystemID))
	}
	return nil
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

// Reload reads the configuration file again and uses what can change without
// dropping a bind: accounts (of binds that are up: what the decision reads of
// them), policy, plans, limits, log. The answer names what waits for a restart.
// A file with faults changes nothing; the error is a *noc.Refused. Calls wait
// for each other.
func (g *Gateway) Reload() (noc.Reload, error) {
	g.reloads.Lock()
	defer g.reloads.Unlock()
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
		for _, f := range faults {
			g.log.Error("configuration fault", "fault", f.String())
		}
		g.log.Error("configuration refused, the one in use stays", "file", g.cfg.File, "error", firstLine(err))
		return noc.Reload{}, err
	}
	for _, f := range faults {
		g.log.Warn("configuration warning", "fault", f.String())
		r.Warnings = append(r.Warnings, f.String())
	}
	g.log.Info("configuration reloaded", "file", g.cfg.File, "changed", strings.Join(r.Changed, ", "), "restart", strings.Join(r.Restart, ", "))
	return r, nil
}

func refused(faults []config.Fault) *noc.Refused {
	r := &noc.Refused{}
	for _, f := range faults {
		r.Faults = append(r.Faults, f.String())
	}
	return r
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// apply uses what may change, and leaves the rest as it is.
func (g *Gateway) apply(next *config.Config) (noc.Reload, error) {
	old := g.config()
	merged := *old
	merged.Accounts, merged.Policy, merged.Plans, merged.Limits, merged.Log = next.Accounts, next.Policy, next.Plans, next.Limits, next.Log
	merged.Limits.UpstreamDials = old.Limits.UpstreamDials
	if g.accepted == nil {
		merged.Policy.AcceptedWithin = 0 // nobody has watched the SMSC's answers
	}
	if err := g.use(&merged); err != nil {
		return noc.Reload{}, fmt.Errorf("configuration: %w", err)
	}
	g.proxy.SetLimits(limitsOf(&merged.Limits))
	g.lines.setMode(merged.Log.Messages)
	if g.onReload != nil {
		g.onReload(&merged)
	}
	return noc.Reload{Changed: changes(old, &merged), Restart: changes(&merged, next)}, nil
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

// renamed are the keys that differ from their fields.
var renamed = map[string]string{"AcceptedWithin": "carrier_accepted_within", "FullNumbers": "numbers", "Token": "token_file"}

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
