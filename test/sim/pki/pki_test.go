package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Several simulators start at the same time on one empty directory: they must
// end up with one CA and one key.
func TestSharedDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	const n = 8
	certs := make([]tls.Certificate, n)
	cas := make([]*CA, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			ca, err := NewCA(dir)
			if err != nil {
				t.Errorf("NewCA: %v", err)
				return
			}
			cas[i] = ca
			if certs[i], err = ca.Server("sim.example"); err != nil {
				t.Errorf("Server: %v", err)
			}
			if err := WriteAPNsKey(filepath.Join(dir, APNsKeyFile)); err != nil {
				t.Errorf("WriteAPNsKey: %v", err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	pem, err := os.ReadFile(cas[0].File())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate", cas[0].File())
	}
	for _, c := range certs {
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"localhost", "127.0.0.1", "::1", "sim.example"} {
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name}); err != nil {
				t.Errorf("Verify as %s: %v", name, err)
			}
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 3 {
		t.Errorf("the directory holds %v, want three files and no temporary one", left)
	}
}

func TestKeysStay(t *testing.T) {
	dir := t.TempDir()
	p8, acct := filepath.Join(dir, APNsKeyFile), filepath.Join(dir, ServiceAccountFile)
	var last []byte
	var lastKey string
	for _, uri := range []string{"https://127.0.0.1:1/token", "https://127.0.0.1:2/token", "https://127.0.0.1:2/token"} {
		if err := WriteAPNsKey(p8); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(p8)
		if err != nil {
			t.Fatal(err)
		}
		if last != nil && !bytes.Equal(b, last) {
			t.Error("WriteAPNsKey replaced an existing key")
		}
		last = b
		if err := WriteServiceAccount(acct, uri, "p"); err != nil {
			t.Fatal(err)
		}
		a, _, err := ServiceAccount(acct)
		if err != nil {
			t.Fatal(err)
		}
		if a.TokenURI != uri || a.ProjectID != "p" {
			t.Errorf("service account: got %s, project %s; want %s, p", a.TokenURI, a.ProjectID, uri)
		}
		if lastKey != "" && a.PrivateKey != lastKey {
			t.Error("WriteServiceAccount replaced an existing key")
		}
		lastKey = a.PrivateKey
	}
	for _, f := range []string{p8, acct} {
		if st, err := os.Stat(f); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v; want 0600", f, st.Mode(), err)
		}
	}
}

func TestBadFilesAreNamed(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteAPNsKey(bad); err == nil {
		t.Error("WriteAPNsKey over another file succeeded, want an error")
	}
	if err := WriteServiceAccount(bad, "https://x/token", "p"); err == nil {
		t.Error("WriteServiceAccount over another file succeeded, want an error")
	}
	if err := os.Rename(bad, filepath.Join(dir, caKeyFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := NewCA(dir); err == nil {
		t.Error("NewCA on a directory with a bad ca.key succeeded, want an error")
	}
}
