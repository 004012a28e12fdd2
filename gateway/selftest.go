package gateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"shunt/gateway/config"
	"shunt/gateway/noc"
)

const (
	probeSize   = 4 << 10 // octets
	probeWithin = 5 * time.Second
	maxPEM      = 64 << 10
)

// Prove implements noc.Gateway. false: another one is under way, perhaps since a
// disk does not answer.
func (c *control) Prove(ctx context.Context) (noc.Proof, bool) {
	g := c.g
	if !g.proving.CompareAndSwap(false, true) {
		return noc.Proof{}, false
	}
	now := time.Now()
	p := noc.Proof{
		Nonce: rand.Text(), Logged: g.log.Enabled(ctx, slog.LevelInfo), Journal: g.journal,
		PID: os.Getpid(), Now: now.UTC(), Started: g.started.UTC(),
		ClockMoved:   (now.Round(0).Sub(g.started.Round(0)) - now.Sub(g.started)).Seconds(),
		Certificates: certificatesOf(g.config(), now),
	}
	g.log.Info("selftest asked for by an operator", "selftest", p.Nonce)
	p.Data = g.proveData(ctx)
	return p, true
}

// proveData writes a small file into node.data_dir, and ends the proof when that
// has come to something.
func (g *Gateway) proveData(ctx context.Context) noc.DataDir {
	dir := g.cfg.Node.DataDir
	d := noc.DataDir{Dir: dir, UID: os.Geteuid(), Owner: -1, Stops: diskLowShare, Starts: diskOKShare}
	written := make(chan error, 1)
	began := time.Now()
	go func() {
		defer g.proving.Store(false)
		written <- writeProbe(dir)
	}()
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	var err error
	select {
	case err = <-written:
		d.Wrote = time.Since(began).Seconds()
	case <-ctx.Done():
		err = fmt.Errorf("a file of %d octets was not on disk within %s", probeSize, probeWithin)
		d.Error = err.Error()
		return d // and do not ask that disk for more
	}
	st, statErr := os.Stat(dir)
	if statErr == nil {
		d.Mode = uint32(st.Mode().Perm())
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			d.Owner = int(sys.Uid)
		}
		d.FreeShare, statErr = g.free(dir)
	}
	if err = errors.Join(err, statErr); err != nil {
		d.Error = firstLine(err)
	}
	return d
}

// probe begins the names of the files that the proof writes.
const probe = ".selftest-"

// sweepProbes removes what a process that was killed in the midst of a proof has
// left. The caller has node.data_dir for itself, and no proof is under way.
func sweepProbes(dir string) {
	all, _ := os.ReadDir(dir) // what goes wrong is tried again
	for _, e := range all {
		if strings.HasPrefix(e.Name(), probe) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// writeProbe puts a small file on stable storage and removes it.
func writeProbe(dir string) error {
	sweepProbes(dir)
	f, err := os.CreateTemp(dir, probe+"*")
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, probeSize))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
}

// certificatesOf reads every certificate file that a configuration names, as it
// is now.
func certificatesOf(c *config.Config, now time.Time) []noc.Certificate {
	all := []noc.Certificate{}
	eachCertificate(c, func(subject string, cert, key config.Secret) {
		all = append(all, proveCertificate(subject, cert, key, now))
	})
	return all
}

// eachCertificate calls f with every file of certificates that c names: with its
// key, or, of those that others are checked by, without.
func eachCertificate(c *config.Config, f func(subject string, cert, key config.Secret)) {
	each := func(subject string, cert, key, ca config.Secret) {
		if !cert.IsZero() {
			f(subject, cert, key)
		}
		if !ca.IsZero() {
			f(subject, ca, config.Secret{})
		}
	}
	server := func(subject string, t *config.ServerTLS) {
		if t != nil {
			each(subject, t.Cert, t.Key, t.ClientCA)
		}
	}
	client := func(subject string, t *config.ClientTLS) {
		if t != nil {
			each(subject, t.Cert, t.Key, t.CA)
		}
	}
	for _, l := range c.Listen {
		server("listen "+l.Addr, l.TLS)
	}
	server("api "+c.API.Listen, c.API.TLS)
	server("noc "+c.NOC.Listen, c.NOC.TLS)
	for _, s := range c.SMSCs {
		client("smsc "+s.Name, s.TLS)
	}
	for _, a := range c.Accounts {
		if a.Outbind != nil {
			client("outbind "+a.SystemID, a.Outbind.TLS)
		}
	}
}

func proveCertificate(subject string, cert, key config.Secret, now time.Time) noc.Certificate {
	p := noc.Certificate{Subject: subject, Kind: noc.CertificateCA, File: cert.Path()}
	if !key.IsZero() {
		p.Kind = noc.CertificateOwn
	}
	b, err := readPEM(cert.Path())
	if err == nil {
		p.Changed = !bytes.Equal(b, cert.Bytes())
		err = judgeCertificates(&p, b, now)
	}
	if err == nil && !key.IsZero() {
		err = judgeKey(b, key)
	}
	if err != nil {
		p.Error = err.Error()
	}
	return p
}

// judgeCertificates fills in what a file holds, and tells what is wrong with it.
func judgeCertificates(p *noc.Certificate, b []byte, now time.Time) error {
	var before *x509.Certificate
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		x, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("certificate %d of the file cannot be parsed", p.Chain+1)
		}
		p.Chain++
		if p.Chain == 1 {
			p.Name = x.Subject.CommonName
		}
		if p.NotAfter.IsZero() || x.NotAfter.Before(p.NotAfter) {
			p.NotAfter = x.NotAfter.UTC()
		}
		if x.NotBefore.After(now) {
			return fmt.Errorf("certificate %d of the file is not valid before %s", p.Chain, x.NotBefore.UTC().Format(time.DateTime))
		}
		if p.Kind == noc.CertificateOwn && before != nil && before.CheckSignatureFrom(x) != nil {
			return fmt.Errorf("certificate %d of the file has not signed the one before it", p.Chain)
		}
		before = x
	}
	if p.Chain == 0 {
		return errors.New("the file holds no PEM certificate")
	}
	return nil
}

func judgeKey(cert []byte, key config.Secret) error {
	b, err := readPEM(key.Path())
	if err != nil {
		return fmt.Errorf("key %s: %w", key.Path(), err)
	}
	if _, err := tls.X509KeyPair(cert, b); err != nil {
		return fmt.Errorf("the key %s does not fit the certificate", key.Path())
	}
	return nil
}

// readPEM reads a short regular file; its errors do not repeat the path.
func readPEM(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err == nil && !st.Mode().IsRegular() {
		return nil, errors.New("is no regular file")
	}
	var b []byte
	if err == nil && st.Size() > maxPEM {
		return nil, fmt.Errorf("is longer than %d octets", maxPEM)
	}
	if err == nil {
		b, err = os.ReadFile(path)
	}
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	return b, err
}
