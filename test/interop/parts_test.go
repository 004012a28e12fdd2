//go:build interop

package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const patience = 30 * time.Second

// event is one line of a node peer.
type event struct {
	Event    string `json:"event"`
	N        int    `json:"n"`
	Addr     string `json:"addr"`
	SystemID string `json:"system_id"`
	Password string `json:"password"`
	ID       string `json:"id"`
	Raw      string `json:"raw"`
	Back     string `json:"back"` // the octets of the answer
	From     string `json:"from"`
	To       string `json:"to"`
	Text     string `json:"text"`
	Status   int    `json:"status"`
	Version  int    `json:"version"`
	ESMClass int    `json:"esm_class"`
	State    int    `json:"state"`
	Channel  string `json:"channel"`
	Error    string `json:"error"`

	at time.Time // when it was read
}

// part is one process of the set-up. Its events belong to mu.
type part struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{}

	mu     sync.Mutex
	events []event
	stderr bytes.Buffer
	more   chan struct{} // a token: something changed
}

// run starts a process that is stopped when the test ends at the latest.
func run(t *testing.T, dir, name, path string, args ...string) *part {
	t.Helper()
	p := &part{name: name, cmd: exec.Command(path, args...), done: make(chan struct{}), more: make(chan struct{}, 1)}
	p.cmd.Dir = dir
	p.cmd.Stderr = lockedWriter{p}
	stdout, err := p.cmd.StdoutPipe()
	if err == nil {
		p.stdin, err = p.cmd.StdinPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		sc := bufio.NewScanner(stdout)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			var e event
			if json.Unmarshal(sc.Bytes(), &e) == nil && e.Event != "" {
				e.at = time.Now()
				p.mu.Lock()
				p.events = append(p.events, e)
				p.mu.Unlock()
				p.changed()
			}
		}
		_ = p.cmd.Wait()
		close(p.done)
		p.changed()
	}()
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			p.mu.Lock()
			defer p.mu.Unlock()
			t.Logf("%s said:\n%s", name, tail(p.stderr.String()))
		}
	})
	return p
}

func tail(s string) string { return s[max(0, len(s)-2000):] }

type lockedWriter struct{ p *part }

func (w lockedWriter) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	defer w.p.changed()
	return w.p.stderr.Write(b)
}

func (p *part) changed() {
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// all are the events of a kind so far.
func (p *part) all(kind string) (list []event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if e.Event == kind {
			list = append(list, e)
		}
	}
	return list
}

// until waits until ok is true; the process says something whenever it changes.
func (p *part) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	p.within(t, patience, what, ok)
}

// within is until with a patience of its own.
func (p *part) within(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	late := time.NewTimer(d)
	defer late.Stop()
	for !ok() {
		select {
		case <-p.more:
		case <-p.done:
			if !ok() {
				t.Fatalf("waiting for %s: %s ended", what, p.name)
			}
		case <-late.C:
			t.Fatalf("waiting for %s of %s: nothing in %s", what, p.name, d)
		}
	}
}

// said tells whether the process wrote s to stderr.
func (p *part) said(s string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Contains(p.stderr.String(), s)
}

// stop ends the process by its stdin, then by signals.
func (p *part) stop() {
	_ = p.stdin.Close()
	if p.name != "node-smsc" && p.name != "node-esme" {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	select {
	case <-p.done:
	case <-time.After(15 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// poll waits for a file or a service of another process.
func poll(t *testing.T, what string, p *part, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-p.done:
			t.Fatalf("waiting for %s: %s ended", what, p.name)
		case <-late.C:
			t.Fatalf("waiting for %s: nothing in %s", what, patience)
		}
	}
}

func readJSON(path string, v any) bool {
	b, err := os.ReadFile(path)
	return err == nil && json.Unmarshal(b, v) == nil
}

// need finds a program, or has apt install it, with options of its own.
func need(t *testing.T, program, pkg string, options ...string) string {
	t.Helper()
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	t.Logf("%s is missing: apt-get install %s", program, pkg)
	args := append([]string{"-o", "DPkg::Lock::Timeout=120"}, options...)
	out, err := exec.Command("apt-get", append(args, "install", "-y", "--no-install-recommends", pkg)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s is missing, and apt-get install %s failed: %v\n%s", program, pkg, err, tail(string(out)))
	}
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// output runs a program to its end.
func output(t *testing.T, dir, path string, args ...string) string {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(path), strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}

// overSocket is HTTP to the gateway's control socket.
func overSocket(socket string) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
}

func write(t *testing.T, path, format string, args ...any) {
	t.Helper()
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
}
