package config

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Outbind is how an ESME is asked to bind (SMPP v3.4 §2.2.1).
type Outbind struct {
	Addr     string // host:port, where the ESME listens
	TLS      *ClientTLS
	SystemID string // Shunt's own towards it
	Password Secret // empty: none
}

// OutbindFrom is an SMSC that asks Shunt to bind: all of it must be right.
type OutbindFrom struct {
	Allow    []netip.Prefix // addresses that it connects from; one at least
	SystemID string         // the SMSC's
	Password Secret
}

// Limits bound what peers may ask before they are bound. A source is one IPv4
// address or one IPv6 /64. Zero is no limit, where it is allowed.
type Limits struct {
	Unbound           int           // connections that are not bound yet, in all
	UnboundPerSource  int           // and of one source
	ConnectRate       Rate          // new connections of one source
	BindFailures      int           // failed binds of a source within BindFailureWindow that block it
	BindFailureWindow time.Duration // from the first of them
	BlockFirst        time.Duration // the first block; the next are twice as long each
	BlockMost         time.Duration // at most
	UpstreamDials     int           // connections to the SMSC that are being made at a time
}

func (l *loader) limits(file *section, c *Config) {
	s, _ := file.sub("limits")
	defer s.close()
	const most = 1_000_000
	c.Limits = Limits{
		Unbound:           get(s, "unbound", 4096, integer(0, most)),
		UnboundPerSource:  get(s, "unbound_per_source", 1000, integer(0, most)),
		ConnectRate:       get(s, "connect_rate", 200, rate(0, most)),
		BindFailures:      get(s, "bind_failures", 10, integer(0, most)),
		BindFailureWindow: get(s, "bind_failure_window", time.Minute, duration(time.Second, day)),
		BlockFirst:        get(s, "block_first", 10*time.Second, duration(time.Second, day)),
		BlockMost:         get(s, "block_most", 5*time.Minute, duration(time.Second, day)),
		UpstreamDials:     get(s, "upstream_dials", 64, integer(0, most)),
	}
	if c.Limits.BlockMost < c.Limits.BlockFirst {
		s.fault(s.where("block_most"), "block_most", "is %q, want at least block_first, %q",
			showDuration(c.Limits.BlockMost), showDuration(c.Limits.BlockFirst))
	}
}

// outbind reads an account's outbind; nil where there is none.
func outbind(account *section) *Outbind {
	s, ok := account.sub("outbind")
	if !ok {
		return nil
	}
	defer s.close()
	return &Outbind{
		Addr:     must(s, "addr", `the ESME's address such as "192.0.2.9:2775"`, str(remoteAddr)),
		TLS:      clientTLS(s),
		SystemID: must(s, "system_id", "Shunt's system_id towards this ESME", str(systemID)),
		Password: s.secret("password_file", "", checkPassword),
	}
}

// outbindFrom reads an SMSC's outbind; nil where there is none.
func outbindFrom(smsc *section) *OutbindFrom {
	s, ok := smsc.sub("outbind")
	if !ok {
		return nil
	}
	defer s.close()
	o := &OutbindFrom{
		Allow:    prefixes(s, "allow"),
		SystemID: must(s, "system_id", "the SMSC's system_id in its outbind", str(systemID)),
		Password: s.secret("password_file", "the SMSC's password in its outbind", checkPassword),
	}
	if !s.has("allow") {
		s.missing(s.table.at, s.path("allow"), `missing, want the addresses that the SMSC connects from, such as ["198.51.100.7"]`)
	}
	return o
}

// prefixes is the value of a key that holds a list of addresses and networks.
// An IPv4 address in IPv6 form is the IPv4 one: so is the peer's.
func prefixes(s *section, key string) []netip.Prefix {
	e := s.take(key)
	if e == nil {
		return nil
	}
	if e.value.kind != unstable.Array || len(e.value.items) == 0 {
		s.fault(e.value.at, key, `want a list of one network or more, such as ["192.0.2.0/24", "2001:db8::/32"]`)
		return nil
	}
	all := make([]netip.Prefix, 0, len(e.value.items))
	for _, v := range e.value.items {
		p, err := network(v)
		if err != nil {
			s.fault(v.at, key, "%s", err)
			continue
		}
		all = append(all, p)
	}
	return all
}

func network(v *value) (netip.Prefix, error) {
	const want = `want an address or a network such as "192.0.2.0/24" or "2001:db8::/32"`
	if v.kind != unstable.String {
		return netip.Prefix{}, fmt.Errorf("is %s, %s", kindName(v), want)
	}
	if a, err := netip.ParseAddr(v.text); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(v.text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%s is none, %s", quote(v.text), want)
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%s holds all IPv4 addresses and more, %s", quote(v.text), want)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%s has bits set behind its length, want %q", quote(v.text), p.Masked())
	}
	return p, nil
}
