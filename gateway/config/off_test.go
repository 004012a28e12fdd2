package config

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAPIOff: "" is no app API, and without [api] it is on loopback.
func TestAPIOff(t *testing.T) {
	for api, want := range map[string]string{"": "127.0.0.1:8443", "[api]\nlisten = \"\"\n": ""} {
		file := filepath.Join(t.TempDir(), "shunt.toml")
		text := "[[listen]]\naddr = \"127.0.0.1:0\"\n[intercept]\nupstream = \"a\"\ndivert = \"off\"\n[[smsc]]\nname = \"a\"\naddr = \"127.0.0.1:1\"\n" + api
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if c := load(t, file); c.API.Listen != want {
			t.Errorf("%q: api.listen = %q, want %q", api, c.API.Listen, want)
		}
	}
}
