package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shunt/gateway/config"
	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/test/sim/pki"
)

// writePair writes a server's certificate and key.
func writePair(t *testing.T, ca *pki.CA, dir string) (cert tls.Certificate) {
	t.Helper()
	cert, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var chain []byte
	for _, der := range cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	for name, b := range map[string][]byte{
		"own.crt": chain, "own.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert
}

const tlsConfig = `[node]
data_dir = %q
[[listen]]
addr = "127.0.0.1:0"
tls = { cert_file = "own.crt", key_file = "own.key", client_ca_file = "ca.pem" }
[intercept]
upstream = "smsc"
divert = "off"
[[smsc]]
name = "smsc"
addr = %q
tls = { ca_file = "ca.pem", cert_file = "own.crt", key_file = "own.key" }
[api]
listen = "127.0.0.1:0"
tls = { cert_file = "own.crt", key_file = "own.key" }
[noc]
socket = %q
`

// TestTLS: a message crosses with TLS and certificates of both ends on both
// sides; an ESME without a certificate of the CA, or with TLS 1.1, or without
// TLS, does not get in.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	ca, err := pki.NewCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	cert := writePair(t, ca, dir)
	smsc := tlsSMSC(t, ca, cert, nil)
	conf := filepath.Join(dir, "shunt.toml")
	text := fmt.Sprintf(tlsConfig, filepath.Join(dir, "data"), smsc, filepath.Join(dir, "s"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g := runTLS(t, conf)
	addr := g.addrs()[0]
	good := &tls.Config{RootCAs: ca.Pool(), ServerName: "127.0.0.1", Certificates: []tls.Certificate{cert}}
	bind := pdu.Bind{SystemID: "esme", InterfaceVersion: pdu.Version34}
	s, _, err := smpp.Dial(t.Context(), addr, pdu.BindTransceiver, bind, smpp.Config{TLS: good})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(noHandler{}) }()
	answer := make(chan pdu.Status, 1)
	m := pdu.SM{Dest: pdu.Address{TON: 1, NPI: 1, Addr: []byte("447700900001")}, ShortMessage: []byte("over TLS")}
	if err := s.Call(pdu.AppendSM(nil, pdu.SubmitSM, 0, &m), func(p pdu.PDU, err error) {
		if err != nil {
			t.Errorf("submit_sm: %v", err)
			answer <- pdu.RSYSERR
			return
		}
		answer <- p.Status()
	}); err != nil {
		t.Fatal(err)
	}
	if st := <-answer; st != pdu.ROK {
		t.Errorf("submit_sm_resp: %s", st)
	}
	s.Close(nil)

	nobody := good.Clone()
	nobody.Certificates = nil
	old := good.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	for name, c := range map[string]*tls.Config{"no certificate": nobody, "TLS 1.1": old, "no TLS": nil} {
		if s, _, err := smpp.Dial(t.Context(), addr, pdu.BindTransceiver, bind, smpp.Config{TLS: c, Response: 5 * time.Second}); err == nil {
			t.Errorf("%s: bound", name)
			s.Close(nil)
		}
	}

	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}}
	resp, err := client.Get("https://" + g.apiListener.Addr().String() + "/v1/messages")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("GET /v1/messages over TLS without a bearer: %s, want 401", resp.Status)
	}
	client.CloseIdleConnections()
}

// TestTLSTowardsSMSC: an SMSC that wants a certificate which the gateway has not,
// that has one of another CA, or that speaks TLS 1.1 alone gets no bind, and the
// ESME ESME_RBINDFAIL.
func TestTLSTowardsSMSC(t *testing.T) {
	for name, set := range map[string]struct {
		edit   func(text string) string
		change func(*tls.Config)
	}{
		"no certificate": {edit: func(text string) string {
			return strings.Replace(text, `ca_file = "ca.pem", cert_file = "own.crt", key_file = "own.key"`, `ca_file = "ca.pem"`, 1)
		}},
		"another CA": {change: func(c *tls.Config) {
			other, err := pki.NewCA(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			cert, err := other.Server("127.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			c.Certificates = []tls.Certificate{cert}
		}},
		"another name": {edit: func(text string) string {
			return strings.Replace(text, `ca_file = "ca.pem", cert`, `ca_file = "ca.pem", server_name = "smsc.example.net", cert`, 1)
		}},
		"TLS 1.1": {change: func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ca, err := pki.NewCA(dir)
			if err != nil {
				t.Fatal(err)
			}
			cert := writePair(t, ca, dir)
			smsc := tlsSMSC(t, ca, cert, set.change)
			text := fmt.Sprintf(tlsConfig, filepath.Join(dir, "data"), smsc, filepath.Join(dir, "s"))
			if set.edit != nil {
				edited := set.edit(text)
				if edited == text {
					t.Fatal("nothing was edited")
				}
				text = edited
			}
			conf := filepath.Join(dir, "shunt.toml")
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			g := runTLS(t, conf)
			mine := &tls.Config{RootCAs: ca.Pool(), ServerName: "127.0.0.1", Certificates: []tls.Certificate{cert}}
			_, _, err = smpp.Dial(t.Context(), g.addrs()[0], pdu.BindTransceiver, pdu.Bind{SystemID: "esme"}, smpp.Config{TLS: mine})
			var refused *smpp.BindError
			if !errors.As(err, &refused) || refused.Status != pdu.RBINDFAIL {
				t.Errorf("Dial = %v, want %s", err, pdu.RBINDFAIL)
			}
		})
	}
}

// runTLS runs a gateway on that configuration to the end of the test.
func runTLS(t *testing.T, conf string) *Gateway {
	t.Helper()
	cfg, faults, err := config.Load(conf)
	if cfg == nil || err != nil {
		t.Fatalf("Load: %v %v", faults, err)
	}
	g, err := New(cfg, slog.New(slog.DiscardHandler), "test")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	return g
}

type noHandler struct{}

func (noHandler) HandleRequest(pdu.PDU)  {}
func (noHandler) HandleResponse(pdu.PDU) {}
func (noHandler) HandleBatch()           {}

// tlsSMSC accepts every bind and submit over TLS, of peers with a certificate of
// the CA, and returns its address. change, where set, is the last word.
func tlsSMSC(t *testing.T, ca *pki.CA, cert tls.Certificate, change func(*tls.Config)) string {
	t.Helper()
	c := &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()}
	if change != nil {
		change(c)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serveTLS(conn)
		}
	}()
	return l.Addr().String()
}

func serveTLS(conn net.Conn) {
	s := smpp.NewSession(conn, smpp.Config{})
	p, err := s.ReadPDU(10 * time.Second)
	if err != nil {
		s.Close(err)
		return
	}
	_ = s.Send((&pdu.BindResp{SystemID: "smsc"}).Append(nil, p.ID(), pdu.ROK, p.Seq()))
	s.Flush()
	_ = s.Serve(accepting{noHandler{}, s})
}

type accepting struct {
	noHandler
	s *smpp.Session
}

func (a accepting) HandleRequest(p pdu.PDU) {
	if p.ID() == pdu.SubmitSM {
		_ = a.s.Send(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, p.Seq(), "1"))
		return
	}
	_ = a.s.Send(pdu.AppendHeader(nil, p.ID().Response(), pdu.ROK, p.Seq()))
}
