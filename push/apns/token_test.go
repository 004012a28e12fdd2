package apns

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// keyFiles writes good and bad key files and returns the directory.
func keyFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, key any, cut int) {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		b := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der[:len(der)-cut]})
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("good.p8", "PRIVATE KEY", p256, 0)
	write("p384.p8", "PRIVATE KEY", p384, 0)
	write("ed25519.p8", "PRIVATE KEY", ed, 0)
	write("cert.p8", "CERTIFICATE", p256, 0)
	write("torn.p8", "PRIVATE KEY", p256, 40)
	for name, text := range map[string]string{"empty.p8": "", "notpem.p8": "not a key", "huge.p8": strings.Repeat("x", 1<<20)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	dir := keyFiles(t)
	good := Options{TeamID: team, KeyID: keyID, Topic: topic}
	for _, tt := range []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { o.TeamID = "" }, "team_id is missing"},
		{func(o *Options) { o.KeyID = "" }, "key_id is missing"},
		{func(o *Options) { o.KeyFile = "" }, "key_file is missing"},
		{func(o *Options) { o.Topic = "" }, "topic is missing"},
		{func(o *Options) { o.CAFile = "/nowhere.pem" }, "ca_file: open /nowhere.pem"},
		{func(o *Options) { o.CAFile = o.KeyFile }, "good.p8: holds no PEM certificate"},
		{func(o *Options) { o.KeyFile = "/nowhere.p8" }, "key_file: open /nowhere.p8"},
		{func(o *Options) { o.KeyFile = filepath.Join(dir, "ed25519.p8") }, "ed25519.p8: holds a key of type ed25519.PrivateKey: want ECDSA P-256"},
		{func(o *Options) { o.KeyFile = filepath.Join(dir, "p384.p8") }, "p384.p8: holds a key on curve P-384: want P-256"},
		{func(o *Options) { o.KeyFile = filepath.Join(dir, "notpem.p8") }, "notpem.p8: holds no PEM block"},
		{func(o *Options) { o.KeyFile = filepath.Join(dir, "empty.p8") }, "empty.p8: is empty"},
		{func(o *Options) { o.KeyFile = filepath.Join(dir, "huge.p8") }, "huge.p8: longer than"},
		{func(o *Options) { o.KeyFile = filepath.Join(dir, "cert.p8") }, `cert.p8: holds a PEM block "CERTIFICATE"`},
		{func(o *Options) { o.KeyFile = filepath.Join(dir, "torn.p8") }, "torn.p8: PKCS #8"},
		{func(o *Options) { o.Endpoint = "http://127.0.0.1:1" }, "want https://HOST"},
		{func(o *Options) { o.Endpoint = "https://127.0.0.1:1/v1" }, "without a path"},
	} {
		o := good
		o.KeyFile = filepath.Join(dir, "good.p8")
		tt.change(&o)
		s, err := New(o)
		if err == nil {
			_ = s.Close()
			t.Errorf("New succeeded, want an error with %q", tt.want)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("New: got error %q, want it to hold %q", err, tt.want)
		}
	}
	if n := len(tokens.m); n != 0 {
		t.Errorf("%d provider tokens are still held after New failed", n)
	}
}
