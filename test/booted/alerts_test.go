//go:build booted

package booted

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAlerts: Prometheus' own tool takes the alert rules, their tests pass, and
// it finds no fault with what /metrics of a real node says.
func TestAlerts(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Log("installing prometheus, for promtool")
		run(t, "apt-get", "update", "-q")
		run(t, "apt-get", "install", "-qy", "--no-install-recommends", "prometheus")
	}
	dir := filepath.Join(root, "systemd/monitoring")
	run(t, "promtool", "check", "rules", filepath.Join(dir, "shunt.rules.yml"))
	run(t, "promtool", "test", "rules", filepath.Join(dir, "shunt.rules.test.yml"))
	rules, err := os.ReadFile(filepath.Join(dir, "shunt.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(filepath.Join(dir, "shunt.rules.test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(rules)) {
		if _, name, ok := strings.Cut(strings.TrimSpace(line), "- alert: "); ok && strings.Count(string(tests), name) < 2 {
			t.Errorf("%s is not tested both ways", name)
		}
	}

	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = bytes.NewReader(metricsOfANode(t))
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// metricsOfANode starts a node that diverts nothing and asks it.
func metricsOfANode(t *testing.T) []byte {
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	config := `[node]
id = "n"
data_dir = "data"
[[listen]]
addr = "127.0.0.1:0"
[[smsc]]
name = "smsc"
addr = "127.0.0.1:1"
[intercept]
upstream = "smsc"
divert = "off"
[noc]
socket = "noc.sock"
listen = "` + addr + `"
`
	file := filepath.Join(dir, "shunt.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	node := exec.Command(filepath.Join(root, "build/shunt"), "run", "-c", file)
	node.Stderr = &log
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = node.Process.Signal(os.Interrupt)
		_ = node.Wait()
	}()
	for deadline := time.Now().Add(30 * time.Second); ; {
		resp, err := http.Get("http://" + addr + "/metrics")
		if err == nil {
			b, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		if time.Now().After(deadline) {
			t.Fatalf("the node does not answer: %v\n%s", err, &log)
		}
		time.Sleep(50 * time.Millisecond) // a poll, up to the deadline
	}
}
