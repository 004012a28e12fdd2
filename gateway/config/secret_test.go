package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
)

// TestSecretOrder: a credential comes before the file beside the
// configuration, and only a credential that is not there lets it in.
func TestSecretOrder(t *testing.T) {
	creds, beside := t.TempDir(), t.TempDir()
	file := filepath.Join(beside, "shunt.toml")
	write(t, filepath.Join(creds, "both"), "from credentials")
	write(t, filepath.Join(creds, "hollow"), "")
	write(t, filepath.Join(beside, "both"), "from beside")
	write(t, filepath.Join(beside, "hollow"), "from beside")
	write(t, filepath.Join(beside, "one"), "from beside")
	absolute := filepath.Join(beside, "both")

	for _, tt := range []struct {
		dir, name, want, err string
	}{
		{creds, "both", "from credentials", ""},
		{creds, "one", "from beside", ""},
		{creds, absolute, "from beside", ""},
		{creds, "../" + filepath.Base(beside) + "/one", "from beside", ""},
		{creds, "hollow", "", filepath.Join(creds, "hollow") + ": is empty"},
		{creds, "none", "", "neither " + filepath.Join(creds, "none") + " nor " + filepath.Join(beside, "none") + " exists"},
		{creds, ".", "", creds + ": is no regular file"},
		{"", "both", "from beside", ""},
		{"", "none", "", filepath.Join(beside, "none") + " does not exist"},
	} {
		t.Setenv("CREDENTIALS_DIRECTORY", tt.dir)
		s, err := readSecret(file, tt.name)
		if string(s.Bytes()) != tt.want || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("readSecret(%q) with credentials in %q = %q, %v, want %q, %q",
				tt.name, tt.dir, s.Bytes(), err, tt.want, tt.err)
		}
	}
}

// TestSecretRedacted prints a secret in every way that a careless line of
// code could.
func TestSecretRedacted(t *testing.T) {
	s := Secret{"/etc/p", []byte("hunter2")}
	m := SMSC{Name: "a", Password: s}
	asJSON, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
		slog.New(h).Info("x", "secret", s, "smsc", m, "pointer", &s)
	}
	for how, got := range map[string]string{
		"String": s.String(), "%v": fmt.Sprint(s), "%+v": fmt.Sprintf("%+v", s), "%#v": fmt.Sprintf("%#v", s),
		"%s": fmt.Sprintf("%s", s), "%q": fmt.Sprintf("%q", s), "%x": fmt.Sprintf("%x", s), "%d": fmt.Sprintf("%d", s),
		"pointer": fmt.Sprintf("%+v", &s), "in a struct": fmt.Sprintf("%+v %#v %x", m, m, m.Password),
		"JSON": string(asJSON), "log": log.String(),
	} {
		for _, leak := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprint([]byte("hunter2")), "aHVudGVyMg"} {
			if strings.Contains(got, leak) {
				t.Errorf("%s shows the secret: %s", how, got)
			}
		}
		if !strings.Contains(got, redacted) {
			t.Errorf("%s = %q, want %s in it", how, got, redacted)
		}
	}
	if string(s.Bytes()) != "hunter2" || s.Path() != "/etc/p" || s.IsZero() || !(Secret{}).IsZero() {
		t.Errorf("Bytes() = %q of %s, want the secret", s.Bytes(), s.Path())
	}
}

// TestToken: what an operator types has to be long, and typable.
func TestToken(t *testing.T) {
	for _, tt := range []struct{ in, want, err string }{
		{"0123456789abcdef\n", "0123456789abcdef", ""},
		{"0123456789abcde\r\n", "", "has 15 octets"},
		{strings.Repeat("x", 257), "", "has 257 octets"},
		{"0123456789 abcdef", "", "a space"},
		{"0123456789abcdef\x00", "", "not printable ASCII"},
		{"Ã©0123456789abcdef", "", "not printable ASCII"},
	} {
		s := Secret{value: []byte(tt.in)}
		err := checkPageToken(&s)
		if tt.err == "" && (err != nil || string(s.Bytes()) != tt.want) || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("checkPageToken(%q) = %q, %v; want %q, %q", tt.in, s.Bytes(), err, tt.want, tt.err)
		}
	}
}
