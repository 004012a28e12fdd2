package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
)

// ServerTLS is a listener's side of TLS.
type ServerTLS struct {
	Cert     Secret // PEM, the chain from the server's own certificate on
	Key      Secret // PEM
	ClientCA Secret // PEM; not empty: peers must show a certificate of these (mTLS)
}

// ClientTLS is the side of TLS towards a server.
type ClientTLS struct {
	CA         Secret // PEM of the only certificates to trust; empty: the system's
	ServerName string // that its certificate must name; "": the host of the address
	Cert, Key  Secret // PEM, both or none: shown to a server that asks (mTLS)
}

// minTLS is the oldest version spoken on either side (RFC 8996).
const minTLS = tls.VersionTLS12

// PEM is the certificate chain; nil for a nil t.
func (t *ServerTLS) PEM() []byte {
	if t == nil {
		return nil
	}
	return t.Cert.Bytes()
}

// Config is what a listener serves with; nil for a nil t.
func (t *ServerTLS) Config() (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	pair, err := tls.X509KeyPair(t.Cert.Bytes(), t.Key.Bytes())
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: minTLS, Certificates: []tls.Certificate{pair}}
	if !t.ClientCA.IsZero() {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, pool(t.ClientCA)
	}
	return c, nil
}

// Config is what is spoken towards addr, a host:port; nil for a nil t.
func (t *ClientTLS) Config(addr string) (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	c := &tls.Config{MinVersion: minTLS, ServerName: t.ServerName}
	if c.ServerName == "" {
		c.ServerName, _, _ = net.SplitHostPort(addr)
	}
	if !t.CA.IsZero() {
		c.RootCAs = pool(t.CA)
	}
	if !t.Cert.IsZero() {
		pair, err := tls.X509KeyPair(t.Cert.Bytes(), t.Key.Bytes())
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

func pool(s Secret) *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(s.Bytes())
	return p
}

// serverTLS reads a section's tls table; nil where there is none.
func serverTLS(file *section) *ServerTLS {
	s, ok := file.sub("tls")
	if !ok {
		return nil
	}
	t := &ServerTLS{
		Cert:     s.secret("cert_file", "the server's certificate chain in PEM", checkCA),
		Key:      s.secret("key_file", "the certificate's key in PEM", anyPEM),
		ClientCA: s.secret("client_ca_file", "", checkCA),
	}
	checkPair(s, t.Cert, t.Key)
	s.close()
	return t
}

// clientTLS reads a section's tls table; nil where there is none.
func clientTLS(file *section) *ClientTLS {
	s, ok := file.sub("tls")
	if !ok {
		return nil
	}
	t := &ClientTLS{
		CA:         s.secret("ca_file", "", checkCA),
		ServerName: get(s, "server_name", "", str(serverName)),
		Cert:       s.secret("cert_file", "", checkCA),
		Key:        s.secret("key_file", "", anyPEM),
	}
	switch {
	case s.has("cert_file") != s.has("key_file"):
		s.fault(s.table.at, "cert_file", "cert_file and key_file go together, want both or none")
	default:
		checkPair(s, t.Cert, t.Key)
	}
	s.close()
	return t
}

// checkPair tells a key that belongs to another certificate.
func checkPair(s *section, cert, key Secret) {
	if cert.IsZero() || key.IsZero() {
		return // a fault of its own, or none given
	}
	if _, err := tls.X509KeyPair(cert.Bytes(), key.Bytes()); err != nil {
		s.fault(s.where("key_file"), "key_file", "does not fit cert_file, want the key of its first certificate")
	}
}

func anyPEM(s *Secret) error {
	if block, _ := pem.Decode(s.Bytes()); block == nil {
		return errors.New("is no PEM")
	}
	return nil
}

func serverName(s string) error {
	if !hostName(s) {
		return errors.New(quote(s) + ` is no host name, want one such as "smsc.example.net"`)
	}
	return nil
}
