package gateway

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shunt/gateway/config"
	"shunt/gateway/route"
	"shunt/gateway/upstream"
)

func TestModeStartsAsConfigured(t *testing.T) {
	for start, want := range map[config.Divert]route.Mode{
		config.DivertOff: route.Off, config.DivertShadow: route.Shadow, config.DivertOn: route.On,
	} {
		path := filepath.Join(t.TempDir(), "divert")
		m, err := openMode(path, start)
		if err != nil || m.get() != want {
			t.Errorf("openMode(%s) = %s, %v; want %s", start, m.get(), err, want)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("openMode(%s) has written its file: %v", start, err)
		}
	}
}

// TestModeSurvives: what an operator set goes before the configuration, at the
// next start and at every one after it.
func TestModeSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "divert")
	for _, set := range []route.Mode{route.Off, route.On, route.Shadow, route.Shadow, route.Off} {
		m, err := openMode(path, config.DivertOn)
		if err != nil {
			t.Fatalf("openMode() = %v", err)
		}
		if err := m.set(set); err != nil || m.get() != set {
			t.Fatalf("set(%s) = %v, mode %s", set, err, m.get())
		}
		for _, start := range []config.Divert{config.DivertOn, config.DivertOff, config.DivertShadow} {
			again, err := openMode(path, start)
			if err != nil || again.get() != set {
				t.Errorf("after set(%s): openMode(%s) = %s, %v", set, start, again.get(), err)
			}
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("%d files beside the switch, %v; want none", len(left)-1, err)
	}
}

func TestModeFileByHand(t *testing.T) {
	for text, want := range map[string]route.Mode{"on": route.On, "off\n": route.Off, " shadow \r\n": route.Shadow} {
		m, err := openMode(file(t, text), config.DivertOff)
		if err != nil || m.get() != want {
			t.Errorf("a file with %q: %v, want %s", text, err, want)
		}
	}
	for _, text := range []string{"", "\n", "yes", "ON", "on off", "off\x00"} {
		path := file(t, text)
		if _, err := openMode(path, config.DivertOn); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "divert switch") {
			t.Errorf("a file with %q: %v, want an error that names the file", text, err)
		}
	}
	if _, err := openMode(t.TempDir(), config.DivertOn); err == nil {
		t.Error("a directory in the place of the file is taken for a switch")
	}
}

func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "divert")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestModeWithoutADisk: an operator who stops diversion is obeyed at once, and
// told that it will not last.
func TestModeWithoutADisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	m, err := openMode(filepath.Join(dir, "divert"), config.DivertOn)
	if err != nil {
		t.Fatalf("openMode() = %v", err)
	}
	if err := m.set(route.Off); err == nil || !strings.Contains(err.Error(), "divert is off now, but will not survive a restart") {
		t.Errorf("set(off) = %v, want a word about the restart", err)
	}
	if m.get() != route.Off {
		t.Errorf("mode %s after a set that could not be written, want off", m.get())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := m.set(route.Off); err != nil {
		t.Errorf("set(off) once the disk is back = %v", err)
	}
}

// TestTwinTypes: the configuration's words and those of the packages that act
// on them are cast into each other, and must stay in the same order.
func TestTwinTypes(t *testing.T) {
	for d, m := range map[config.Divert]route.Mode{
		config.DivertOff: route.Off, config.DivertShadow: route.Shadow, config.DivertOn: route.On,
	} {
		if uint8(d) != uint8(m) || d.String() != m.String() {
			t.Errorf("config %s is %d, route %s is %d", d, d, m, m)
		}
	}
	for name, f := range map[string]upstream.IDFormat{
		"raw": upstream.IDRaw, "hex": upstream.IDHex, "dec": upstream.IDDec,
		"hex-resp-dec-receipt": upstream.IDHexRespDecReceipt, "dec-resp-hex-receipt": upstream.IDDecRespHexReceipt,
	} {
		if got := config.IDFormat(f).String(); got != name {
			t.Errorf("upstream.IDFormat %d is %q to the configuration, want %q", f, got, name)
		}
	}
	if n := config.IDFormat(5).String(); !strings.HasPrefix(n, "unknown") {
		t.Errorf("the configuration has a sixth id format, %q, that upstream lacks", n)
	}
	if n := config.Divert(3).String(); !strings.HasPrefix(n, "unknown") {
		t.Errorf("the configuration has a fourth position of the switch, %q, that route lacks", n)
	}
}
