// Package pki makes the keys that simulated providers and their clients need:
// a private CA, server certificates, an APNs key and an FCM service account.
//
// Everything is written once and found again: several processes may share a
// directory and start at the same time.
package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Names of the files in a PKI directory.
const (
	CAFile             = "ca.pem"   // the CA's certificate, for clients
	caKeyFile          = "ca.key"   // its key and certificate together
	APNsKeyFile        = "apns.p8"  // the provider key for the APNs simulator
	ServiceAccountFile = "fcm.json" // the service account for the FCM simulator
	validity           = 10 * 365 * 24 * time.Hour
)

// CA signs server certificates for loopback names.
type CA struct {
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// NewCA opens the CA in dir, or makes dir and the CA.
func NewCA(dir string) (*CA, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	file := filepath.Join(dir, caKeyFile)
	b, err := once(file, newCA)
	if err != nil {
		return nil, fmt.Errorf("pki: CA: %w", err)
	}
	ca := &CA{dir: dir}
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			ca.cert, err = x509.ParseCertificate(block.Bytes)
		case "PRIVATE KEY":
			ca.key, err = parseECDSA(block.Bytes)
		}
		if err != nil {
			return nil, fmt.Errorf("pki: %s: %w", file, err)
		}
	}
	if ca.cert == nil || ca.key == nil {
		return nil, fmt.Errorf("pki: %s: want a certificate and its key in PEM", file)
	}
	if err := replace(ca.File(), certPEM(ca.cert.Raw), 0o644); err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	return ca, nil
}

// File is the CA's certificate, for a client's CAFile.
func (ca *CA) File() string { return filepath.Join(ca.dir, CAFile) }

// Pool holds the CA's certificate alone.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.cert)
	return p
}

// Server makes a certificate for localhost, the loopback addresses and names; a
// client may show it too.
func (ca *CA) Server(names ...string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t, err := template("shuntsim server")
	if err != nil {
		return tls.Certificate{}, err
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	t.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	t.DNSNames = []string{"localhost"}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der, ca.cert.Raw}, PrivateKey: key}, nil
}

// WriteAPNsKey writes an ES256 key as Apple hands it out (PEM, PKCS #8). An
// existing key stays.
func WriteAPNsKey(file string) error {
	if _, err := once(file, newECDSA); err != nil {
		return fmt.Errorf("pki: APNs key: %w", err)
	}
	_, err := APNsKey(file)
	return err
}

// APNsKey reads what WriteAPNsKey wrote and gives the public half.
func APNsKey(file string) (*ecdsa.PublicKey, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("pki: APNs key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("pki: APNs key %s: holds no PEM block", file)
	}
	key, err := parseECDSA(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("pki: APNs key %s: %w", file, err)
	}
	return &key.PublicKey, nil
}

// Account is a Google service account as its JSON file has it.
type Account struct {
	Type         string `json:"type"`
	ProjectID    string `json:"project_id"`
	PrivateKeyID string `json:"private_key_id"`
	PrivateKey   string `json:"private_key"`
	ClientEmail  string `json:"client_email"`
	TokenURI     string `json:"token_uri"`
}

// WriteServiceAccount writes a service account with an RSA key. The key of an
// existing file stays; its token_uri and project_id are brought up to date.
func WriteServiceAccount(file, tokenURI, projectID string) error {
	b, err := once(file, func() ([]byte, error) { return newAccount(tokenURI, projectID) })
	if err != nil {
		return fmt.Errorf("pki: service account: %w", err)
	}
	var a Account
	if err := json.Unmarshal(b, &a); err != nil {
		return fmt.Errorf("pki: service account %s: %w", file, err)
	}
	if a.TokenURI == tokenURI && a.ProjectID == projectID {
		return nil
	}
	a.TokenURI, a.ProjectID = tokenURI, projectID
	if b, err = json.MarshalIndent(a, "", "  "); err != nil {
		return fmt.Errorf("pki: service account: %w", err)
	}
	if err := replace(file, b, 0o600); err != nil {
		return fmt.Errorf("pki: service account: %w", err)
	}
	return nil
}

// ServiceAccount reads what WriteServiceAccount wrote and gives the public
// half of its key too.
func ServiceAccount(file string) (Account, *rsa.PublicKey, error) {
	bad := func(err error) (Account, *rsa.PublicKey, error) {
		return Account{}, nil, fmt.Errorf("pki: service account %s: %w", file, err)
	}
	var a Account
	b, err := os.ReadFile(file)
	if err != nil {
		return bad(err)
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return bad(err)
	}
	block, _ := pem.Decode([]byte(a.PrivateKey))
	if block == nil {
		return bad(errors.New("private_key holds no PEM block"))
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return bad(err)
	}
	key, ok := k.(*rsa.PrivateKey)
	if !ok {
		return bad(fmt.Errorf("private_key is of type %T: want RSA", k))
	}
	return a, &key.PublicKey, nil
}

func newCA() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t, err := template("shuntsim CA")
	if err != nil {
		return nil, err
	}
	t.IsCA = true
	t.KeyUsage = x509.KeyUsageCertSign
	t.BasicConstraintsValid = true
	cert, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(keyPEM(der), certPEM(cert)...), nil
}

func newECDSA() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return keyPEM(der), nil
}

func newAccount(tokenURI, projectID string) ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(Account{
		Type:         "service_account",
		ProjectID:    projectID,
		PrivateKeyID: rand.Text(),
		PrivateKey:   string(keyPEM(der)),
		ClientEmail:  "shuntsim@" + projectID + ".iam.gserviceaccount.com",
		TokenURI:     tokenURI,
	}, "", "  ")
}

func template(name string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(validity),
	}, nil
}

func parseECDSA(der []byte) (*ecdsa.PrivateKey, error) {
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("key is of type %T: want ECDSA P-256", k)
	}
	return key, nil
}

func keyPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// once returns the file's octets, making them if there is no such file. Of
// several processes at the same time one wins and all read its octets.
func once(file string, make func() ([]byte, error)) ([]byte, error) {
	b, err := os.ReadFile(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	if b, err = make(); err != nil {
		return nil, err
	}
	tmp, err := temporary(file, b, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(tmp) }()
	if err := os.Link(tmp, file); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(file)
}

// replace puts the octets in place of the file at once, unless they are there
// already.
func replace(file string, b []byte, mode fs.FileMode) error {
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, b) {
		return nil
	}
	tmp, err := temporary(file, b, mode)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, file); err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return nil
}

func temporary(file string, b []byte, mode fs.FileMode) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return "", err
	}
	_, err = f.Write(b)
	if e := f.Chmod(mode); err == nil {
		err = e
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}
