package config

import (
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestEdge: every key about who may connect, and an address of each form.
func TestEdge(t *testing.T) {
	creds := credentials(t)
	password := Secret{path: filepath.Join(creds, "own.password")}
	nets := func(all ...string) (p []netip.Prefix) {
		for _, s := range all {
			p = append(p, netip.MustParsePrefix(s))
		}
		return p
	}
	c := load(t, "testdata/edge.toml")
	for _, tt := range []struct {
		name      string
		got, want any
	}{
		{"listen", c.Listen, []Listen{{
			Addr: "[::]:2775", ReusePort: true,
			ProxyFrom: nets("192.0.2.0/24", "2001:db8::/32", "198.51.100.9/32", "198.51.100.10/32", "203.0.113.0/24"),
		}}},
		{"account.allow", c.Accounts[0].Allow, nets("192.0.2.0/24", "2001:db8::/32")},
		{"account.max_binds", c.Accounts[0].MaxBinds, 4},
		{"account.outbind", c.Accounts[0].Outbind, &Outbind{
			Addr: "[2001:db8::9]:2775", SystemID: "shunt", Password: password, TLS: &ClientTLS{ServerName: "esme.example.net"},
		}},
		{"account.outbind without a password", c.Accounts[1].Outbind, &Outbind{Addr: "esme.example.net:2775", SystemID: "shunt"}},
		{"smsc.proxy", []bool{c.SMSCs[0].ProxyHeader, c.SMSCs[1].ProxyHeader}, []bool{true, false}},
		{"smsc.outbind", c.SMSCs[1].Outbind, &OutbindFrom{Allow: nets("192.0.2.1/32"), SystemID: "SMSC", Password: password}},
		{"limits", c.Limits, Limits{
			UnboundPerSource: 16, BindFailures: 3, BindFailureWindow: 5 * time.Minute,
			BlockFirst: time.Second, BlockMost: time.Hour, UpstreamDials: 8,
		}},
	} {
		if d := cmp.Diff(tt.want, tt.got, secretPaths); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
}
