package gateway

import (
	"fmt"
	"sync/atomic"

	"shunt/gateway/config"
	"shunt/gateway/msg"
	"shunt/gateway/upstream"
)

// limitsOf are the limits of the configuration.
func limitsOf(l *config.Limits) upstream.Limits {
	return upstream.Limits{
		Unbound: l.Unbound, UnboundPerSource: l.UnboundPerSource, ConnectRate: int(l.ConnectRate),
		BindFailures: l.BindFailures, BindFailureWindow: l.BindFailureWindow,
		BlockFirst: l.BlockFirst, BlockMost: l.BlockMost, Dials: l.UpstreamDials,
	}
}

// askForBind has an account's ESME bind for the receipts that wait for it, where
// the configuration says how (outbind).
func (g *Gateway) askForBind(a msg.Account) {
	if g.serving.Err() != nil || g.config().Account(a.SystemID).Outbind == nil {
		return
	}
	go func() { _ = g.proxy.Outbind(g.serving, a) }() // it logs what fails
}

// accountsOf finds what the configuration holds a system_id to.
func accountsOf(c *config.Config) (map[string]upstream.Account, error) {
	all := make(map[string]upstream.Account, len(c.Accounts))
	for _, a := range c.Accounts {
		u := upstream.Account{Allow: a.Allow, MaxBinds: a.MaxBinds}
		if o := a.Outbind; o != nil {
			t, err := o.TLS.Config(o.Addr)
			if err != nil {
				return nil, fmt.Errorf("account %s: outbind: tls: %w", a.SystemID, err)
			}
			u.Outbind = &upstream.Outbind{Addr: o.Addr, TLS: t, SystemID: o.SystemID, Password: string(o.Password.Bytes())}
		}
		all[a.SystemID] = u
	}
	return all, nil
}

// edgeCounters are what the limits and the accounts' own have refused, but for
// what is zero.
func (g *Gateway) edgeCounters() map[string]uint64 {
	c := &g.proxy.Counters
	all := make(map[string]uint64)
	for name, n := range map[string]*atomic.Uint64{
		"connects-refused": &c.ConnectsRefused, "unbound-refused": &c.UnboundRefused, "unbound-closed": &c.UnboundClosed,
		"proxy-headers-refused": &c.HeadersRefused, "binds-failed": &c.BindsFailed, "binds-blocked": &c.BindsBlocked,
		"blocks": &c.Blocks, "not-allowed": &c.NotAllowed, "max-binds": &c.TooManyBinds, "drained": &c.Drained, "dials-refused": &c.DialsRefused,
		"outbinds-taken": &c.OutbindsTaken, "outbinds-refused": &c.OutbindsRefused,
	} {
		all[name] = n.Load()
	}
	return all
}
