package noc

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// hosts are the names that a browser may call the page by. A site that has its own
// name point here (DNS rebinding) gets a browser to ask under that name, with the
// browser's access to loopback and to client certificates; it cannot have it ask
// under another one.
type hosts struct {
	names map[string]bool
	cert  *x509.Certificate // nil: the page has none
}

// newHosts takes names, and the certificate of the page in PEM, if any.
func newHosts(names []string, cert []byte) *hosts {
	h := &hosts{names: map[string]bool{"localhost": true}}
	for _, n := range names {
		h.names[canonical(n)] = true
	}
	if block, _ := pem.Decode(cert); block != nil {
		h.cert, _ = x509.ParseCertificate(block.Bytes) // what is served with it parses
	}
	return h
}

func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// allow tells whether a Host header (RFC 9110 §7.2) is one of the page's. An
// address is: nobody can have it point elsewhere. No browser leaves it out.
func (h *hosts) allow(host string) bool {
	if host == "" {
		return true
	}
	name := host
	if n, _, err := net.SplitHostPort(host); err == nil {
		name = n
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	name = canonical(name)
	return h.names[name] || h.cert != nil && h.cert.VerifyHostname(name) == nil
}

// open are the paths that are answered under any name: they say nothing, and what
// balances loads asks for them under names of its own.
var open = map[string]bool{"/healthz": true, "/readyz": true}

const misdirected = "421: this is not a name of this page (DNS rebinding?). It answers under addresses, localhost, " +
	"the names of its certificate ([noc] tls), and those in [noc] hosts.\n"

// admits answers 421 (RFC 9110 §15.5.20) to who asks under a foreign name.
func (h *hosts) admits(w http.ResponseWriter, r *http.Request) bool {
	if open[r.URL.Path] || h.allow(r.Host) {
		return true
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusMisdirectedRequest)
	_, _ = w.Write([]byte(misdirected)) // a client that left is not our fault
	return false
}
