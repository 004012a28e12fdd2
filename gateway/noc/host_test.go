package noc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Who asks under a name that is not the page's gets 421 and nothing of the node.
func TestForeignNames(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"edge-1.example.net", "*.noc.example.net"}, IPAddresses: []net.IP{{192, 0, 2, 1}}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	page := map[string]http.HandlerFunc{
		"GET /{$}":     func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("the node")) },   //nolint:errcheck // a recorder
		"POST /divert": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("the switch")) }, //nolint:errcheck // a recorder
	}
	plain := WebOptions{Gateway: &watched{}, Log: slog.New(slog.DiscardHandler), Page: page}
	named := plain
	named.Hosts, named.Cert = []string{"Shunt.Example.com", "proxy"}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for _, h := range []struct {
		host         string
		plain, named bool
	}{
		{"127.0.0.1:9464", true, true},
		{"127.0.0.1", true, true},
		{"[::1]:9464", true, true},
		{"[::1]", true, true},
		{"192.0.2.7:9999", true, true},
		{"localhost:9999", true, true},
		{"LOCALHOST.", true, true},
		{"", true, true}, // HTTP/1.0
		{"shunt.example.com:9464", false, true},
		{"shunt.example.com.", false, true},
		{"proxy", false, true},
		{"edge-1.example.net:9464", false, true},
		{"a.noc.example.net", false, true},
		{"a.b.noc.example.net", false, false},
		{"noc.example.net", false, false},
		{"evil.example:9464", false, false},
		{"127.0.0.1.evil.example", false, false},
		{"localhost.evil.example", false, false},
		{"notlocalhost", false, false},
		{"evil.example:9464:127.0.0.1", false, false},
		{"2130706433", false, false},
	} {
		for _, o := range []struct {
			web  WebOptions
			want bool
		}{{plain, h.plain}, {named, h.named}} {
			s := NewWeb(o.web)
			for _, ask := range []struct{ method, path string }{{"GET", "/"}, {"GET", "/metrics"}, {"POST", "/divert"}, {"GET", "/healthz"}, {"GET", "/readyz"}} {
				rec, r := httptest.NewRecorder(), httptest.NewRequest(ask.method, ask.path, nil)
				r.Host = h.host
				s.ServeHTTP(rec, r)
				want := o.want || strings.HasSuffix(ask.path, "z")
				if got := rec.Code != http.StatusMisdirectedRequest; got != want {
					t.Errorf("%s %s of host %q, names %q = %d, want it answered: %t", ask.method, ask.path, h.host, o.web.Hosts, rec.Code, want)
				}
				if b := rec.Body.String(); !want && (!strings.Contains(b, "[noc] hosts") || h.host != "" && strings.Contains(b, h.host)) {
					t.Errorf("421 says %q", b)
				}
			}
		}
	}
}
