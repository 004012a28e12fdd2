package config

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// Secret is the content of a secret file. Printed, logged or marshalled in
// any way it is "•••"; only Bytes gives it away.
type Secret struct {
	path  string
	value []byte
}

const redacted = "•••"

// Path is where the secret was found, "" for none.
func (s Secret) Path() string { return s.path }

// Bytes is the secret itself. The caller must not change it.
func (s Secret) Bytes() []byte { return s.value }

// IsZero tells that no secret was given.
func (s Secret) IsZero() bool { return len(s.value) == 0 }

func (Secret) String() string { return redacted }

// Format hides the secret from every verb, %#v and %x included.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue hides the secret from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the secret from encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// maxSecret bounds a secret file, in octets.
const maxSecret = 64 << 10

// readSecret reads the file that a *_file key of the configuration at file
// names: from $CREDENTIALS_DIRECTORY if it has one of that name, else beside
// the configuration. A credential that is there but unfit is an error: the
// other file is then not what the operator meant.
func readSecret(file, name string) (Secret, error) {
	at := beside(file, name)
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && name == filepath.Base(name) {
		p := filepath.Join(dir, name)
		b, err := readRegular(p)
		if err == nil {
			return Secret{p, b}, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return Secret{}, fmt.Errorf("%s: %w", p, err)
		}
		b, err = readRegular(at)
		if errors.Is(err, fs.ErrNotExist) {
			return Secret{}, fmt.Errorf("neither %s nor %s exists", p, at)
		}
		if err != nil {
			return Secret{}, fmt.Errorf("%s: %w", at, err)
		}
		return Secret{at, b}, nil
	}
	b, err := readRegular(at)
	if errors.Is(err, fs.ErrNotExist) {
		return Secret{}, fmt.Errorf("%s does not exist", at)
	}
	if err != nil {
		return Secret{}, fmt.Errorf("%s: %w", at, err)
	}
	return Secret{at, b}, nil
}

// readRegular reads a short regular file; its errors do not repeat the path.
func readRegular(path string) ([]byte, error) {
	i, err := os.Stat(path)
	if err != nil {
		return nil, bare(err)
	}
	if !i.Mode().IsRegular() {
		return nil, errors.New("is no regular file")
	}
	b, err := readCapped(path, maxSecret)
	switch {
	case errors.Is(err, errTooLong):
		return nil, fmt.Errorf("is longer than %d octets", maxSecret)
	case err != nil:
		return nil, bare(err)
	case len(bytes.TrimSpace(b)) == 0:
		return nil, errors.New("is empty")
	}
	return b, nil
}

func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// The check functions below tell what is wrong with a secret in words that
// hold nothing of it.

// checkPassword cuts the line end that editors leave and bounds the rest to
// what a bind can carry: password has 9 octets with its NUL (SMPP v3.4
// §5.2.2).
func checkPassword(s *Secret) error {
	s.value = bytes.TrimRight(s.value, "\r\n")
	if len(s.value) > 8 {
		return fmt.Errorf("has %d octets, want at most 8: longer passwords do not fit into a bind", len(s.value))
	}
	for _, c := range s.value {
		if c < 0x20 || c > 0x7E {
			return errors.New("has a character that is not printable ASCII")
		}
	}
	return nil
}

// checkPageToken cuts the line end that editors leave. Whoever has the token may
// switch the node, so that a short one is a fault.
func checkPageToken(s *Secret) error {
	s.value = bytes.TrimRight(s.value, "\r\n")
	if n := len(s.value); n < 16 || n > 256 {
		return fmt.Errorf("has %d octets, want 16 to 256", n)
	}
	if !typable(s.value) {
		return errors.New("has a character that is not printable ASCII, or a space")
	}
	return nil
}

func checkAPNsKey(s *Secret) error {
	block, _ := pem.Decode(s.value)
	if block == nil {
		return errors.New("is no PEM, want the .p8 file from Apple")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return errors.New("is no PKCS #8 key, want the .p8 file from Apple")
	}
	if e, ok := k.(*ecdsa.PrivateKey); !ok || e.Curve != elliptic.P256() {
		return errors.New("is no P-256 key, want the .p8 file from Apple")
	}
	return nil
}

func checkServiceAccount(s *Secret) error {
	var a struct {
		Type        string `json:"type"`
		ProjectID   string `json:"project_id"`
		ClientEmail string `json:"client_email"`
		PrivateKey  string `json:"private_key"`
	}
	if json.Unmarshal(s.value, &a) != nil {
		return errors.New("is no JSON, want a service account's key file")
	}
	if a.Type != "service_account" {
		return errors.New(`has no "type": "service_account"`)
	}
	for _, f := range []struct{ name, value string }{
		{"project_id", a.ProjectID}, {"client_email", a.ClientEmail}, {"private_key", a.PrivateKey},
	} {
		if f.value == "" {
			return fmt.Errorf("has no %q", f.name)
		}
	}
	if block, _ := pem.Decode([]byte(a.PrivateKey)); block == nil {
		return errors.New(`has a "private_key" that is no PEM`)
	}
	return nil
}

// checkToken cuts the line end that editors leave. The rest goes into a header.
func checkToken(s *Secret) error {
	s.value = bytes.TrimRight(s.value, "\r\n")
	if !typable(s.value) {
		return errors.New("has a character that is not printable ASCII, or a blank")
	}
	return nil
}

// typable tells whether b is printable ASCII without a space.
func typable(b []byte) bool {
	return !bytes.ContainsFunc(b, func(r rune) bool { return r <= ' ' || r > '~' })
}

// checkStoreKey takes a key for AES as it is, or in hexadecimal digits.
func checkStoreKey(s *Secret) error {
	if key, err := StoreKey(s.value); err == nil {
		s.value = key
		return nil
	}
	return errStoreKey
}

var errStoreKey = errors.New("want 16, 24 or 32 octets, or as many in hexadecimal digits")

// StoreKey reads the content of a store.key_file.
func StoreKey(b []byte) ([]byte, error) {
	if key, err := hex.DecodeString(string(bytes.TrimSpace(b))); err == nil {
		b = key
	}
	switch len(b) {
	case 16, 24, 32:
		return b, nil
	}
	return nil, errStoreKey
}

func checkCA(s *Secret) error {
	if !x509.NewCertPool().AppendCertsFromPEM(s.value) {
		return errors.New("holds no PEM certificate")
	}
	return nil
}
