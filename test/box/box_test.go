// Package box tests the real binaries from outside, on loopback.
package box

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"shunt/smpp"
	"shunt/smpp/pdu"
)

// bin holds the binaries, built once for all tests.
var bin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "shunt-box-")
	if err != nil {
		panic(err)
	}
	bin = dir
	out, err := exec.Command("go", "build", "-o", dir, "shunt/cmd/shunt", "shunt/cmd/shuntsim").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// demo runs the demo with those flags and returns what it printed.
func demo(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "shuntsim"), append([]string{"demo", "--shunt", filepath.Join(bin, "shunt")}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 20 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("shuntsim demo %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestDemoAccountsForEveryMessage(t *testing.T) {
	out := demo(t, "--messages", "4000", "--seed", "11")
	for _, want := range []string{
		"every message accounted for: 4000 of 4000; lost 0, doubled 0, altered 0",
		"forwarded", "claimed in the app", "fell back to SMS", "expired",
		"shunt status", "shunt trace s", "receipt-done",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the demo's output lacks %q:\n%s", want, out)
		}
	}
}

// TestKill9LosesNothing kills the gateway under the demo's load. Every message
// that had its submit_sm_resp must end in exactly one outcome, and every
// receipt that was asked for must come.
func TestKill9LosesNothing(t *testing.T) {
	out := demo(t, "--kill", "4", "--messages", "20000", "--timeout", "3m", "--seed", "7")
	for _, want := range []string{"every message accounted for: 20000 of 20000; lost 0, doubled 0, altered 0", "4 times kill -9"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
}

// gateway is a configuration in a directory of its own, and the process that
// runs it.
type gateway struct {
	dir, conf, listen, socket string
	cmd                       *exec.Cmd
	log                       *lockedBuffer
	done                      chan error
}

const config = `[node]
id = "box"
data_dir = %q
[[listen]]
addr = %q
[intercept]
upstream = "smsc"
fallback_smsc = "own"
[[smsc]]
name = "smsc"
addr = %q
[[smsc]]
name = "own"
addr = %q
system_id = "shunt"
password_file = "own.password"
[policy]
divert_from = ["*"]
[api]
listen = "127.0.0.1:0"
[noc]
socket = %q
`

func newGateway(t *testing.T, smsc string) *gateway {
	t.Helper()
	g := &gateway{dir: t.TempDir(), listen: freeAddr(t)}
	g.conf, g.socket = filepath.Join(g.dir, "shunt.toml"), filepath.Join(g.dir, "s")
	g.write(t, fmt.Sprintf(config, filepath.Join(g.dir, "data"), g.listen, smsc, smsc, g.socket))
	if err := os.WriteFile(filepath.Join(g.dir, "own.password"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *gateway) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(g.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs the gateway until the test ends, and waits until it serves.
func (g *gateway) start(t *testing.T) {
	t.Helper()
	g.log, g.done = &lockedBuffer{}, make(chan error, 1)
	g.cmd = exec.Command(filepath.Join(bin, "shunt"), "run", "-c", g.conf)
	g.cmd.Stderr = g.log
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { g.done <- g.cmd.Wait() }()
	t.Cleanup(func() { _ = g.cmd.Process.Kill() })
	eventually(t, "the gateway serves", func() bool { return strings.Contains(g.log.String(), "msg=serving") })
}

// refuses runs the gateway, which must end by itself with exit status 1, and
// returns what it said.
func (g *gateway) refuses(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "shunt"), "run", "-c", g.conf).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Fatalf("shunt run: %v, want exit status 1\n%s", err, out)
	}
	return string(out)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// smsc runs the simulated SMSC and returns its address.
func smsc(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "addr.json")
	cmd := exec.Command(filepath.Join(bin, "shuntsim"), "smsc", "--addr-file", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var addr string
	eventually(t, "the SMSC serves", func() bool {
		b, err := os.ReadFile(file)
		_, rest, found := strings.Cut(string(b), `"smpp":"`)
		if err != nil || !found {
			return false
		}
		addr, _, found = strings.Cut(rest, `"`)
		return found
	})
	return addr
}

// TestBadStarts: whatever is missing, in use or wrong is one clear line, and
// exit status 1.
func TestBadStarts(t *testing.T) {
	nobody := freeAddr(t)
	running := newGateway(t, nobody)
	running.start(t)
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, g *gateway)
		want  []string
	}{
		{"port in use", func(t *testing.T, g *gateway) {
			b, _ := os.ReadFile(g.conf)
			g.write(t, strings.Replace(string(b), g.listen, running.listen, 1))
		}, []string{"listen.addr", running.listen, "address already in use"}},
		{"data directory in use", func(t *testing.T, g *gateway) {
			b, _ := os.ReadFile(g.conf)
			g.write(t, strings.Replace(string(b), filepath.Join(g.dir, "data"), filepath.Join(running.dir, "data"), 1))
		}, []string{filepath.Join(running.dir, "data"), "in use by another process"}},
		{"control socket in use", func(t *testing.T, g *gateway) {
			b, _ := os.ReadFile(g.conf)
			g.write(t, strings.Replace(string(b), g.socket, running.socket, 1))
		}, []string{"control socket", running.socket, "another process"}},
		{"missing password file", func(t *testing.T, g *gateway) {
			if err := os.Remove(filepath.Join(g.dir, "own.password")); err != nil {
				t.Fatal(err)
			}
		}, []string{"shunt.toml:16:17", "smsc.password_file", "own.password", "does not exist"}},
		{"missing key file", func(t *testing.T, g *gateway) {
			b, _ := os.ReadFile(g.conf)
			g.write(t, string(b)+"[[app]]\nid = \"chat\"\n[app.apns]\nteam_id = \"ABCDE12345\"\nkey_id = \"FGHIJ67890\"\nkey_file = \"none.p8\"\ntopic = \"t\"\n")
		}, []string{"app.apns.key_file", "none.p8", "does not exist"}},
		{"unknown key", func(t *testing.T, g *gateway) {
			b, _ := os.ReadFile(g.conf)
			g.write(t, strings.Replace(string(b), "[node]\n", "[node]\ncolour = \"red\"\n", 1))
		}, []string{"shunt.toml:2:1: node.colour"}},
		{"no configuration", func(t *testing.T, g *gateway) {
			if err := os.Remove(g.conf); err != nil {
				t.Fatal(err)
			}
		}, []string{"shunt.toml", "no such file"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGateway(t, nobody)
			c.spoil(t, g)
			out := g.refuses(t)
			for _, w := range c.want {
				if !strings.Contains(out, w) {
					t.Errorf("shunt run said:\n%swant %q in it", out, w)
				}
			}
			var faults int
			for line := range strings.Lines(out) {
				if !strings.Contains(line, "level=") && !strings.Contains(line, "warning:") {
					faults++
				}
			}
			if faults != 1 {
				t.Errorf("shunt run said %d lines, want one:\n%s", faults, out)
			}
		})
	}
}

// TestMalformedPDUCostsItsOwnSession: garbage ends the session that it came
// on; another one, and the process, do not notice.
func TestMalformedPDUCostsItsOwnSession(t *testing.T) {
	g := newGateway(t, smsc(t))
	g.start(t)
	ctx := t.Context()
	good, _, err := smpp.Dial(ctx, g.listen, pdu.BindTransceiver, pdu.Bind{SystemID: "good", InterfaceVersion: pdu.Version34}, smpp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close(nil)
	go func() { _ = good.Serve(ignore{}) }()
	for _, bad := range [][]byte{
		{0, 0, 0, 1},
		{0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 9},
		[]byte("GET / HTTP/1.1\r\nHost: shunt\r\n\r\n"),
	} {
		conn, err := net.Dial("tcp", g.listen)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(bad); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		answer := make(pdu.PDU, 64)
		n, err := conn.Read(answer)
		if err != nil || n != pdu.HeaderLen || answer.ID() != pdu.GenericNack || answer.Status() != pdu.RINVCMDLEN {
			t.Errorf("after % x: read %d octets, %v: want generic_nack ESME_RINVCMDLEN", bad, n, err)
		}
		if n, err := conn.Read(answer); n != 0 || err == nil {
			t.Errorf("after % x: the connection stays open", bad)
		}
		_ = conn.Close()
	}
	done := make(chan error, 1)
	m := pdu.SM{Dest: pdu.Address{TON: 1, NPI: 1, Addr: []byte("447700900001")}, ShortMessage: []byte("still here")}
	if err := good.Call(pdu.AppendSM(nil, pdu.SubmitSM, 0, &m), func(p pdu.PDU, err error) {
		if err == nil && p.Status() != pdu.ROK {
			err = fmt.Errorf("submit_sm_resp: %s", p.Status())
		}
		done <- err
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case err := <-g.done:
		t.Fatalf("the gateway ended: %v\n%s", err, g.log)
	case <-time.After(10 * time.Second):
		t.Error("the other session has no answer")
	}
}

// ignore handles what an ESME in a test does not care for.
type ignore struct{}

func (ignore) HandleRequest(pdu.PDU)  {}
func (ignore) HandleResponse(pdu.PDU) {}
func (ignore) HandleBatch()           {}

// TestSIGTERMEndsInOrder: binds are unbound and the exit status is 0.
func TestSIGTERMEndsInOrder(t *testing.T) {
	g := newGateway(t, smsc(t))
	g.start(t)
	s, _, err := smpp.Dial(t.Context(), g.listen, pdu.BindTransceiver, pdu.Bind{SystemID: "esme", InterfaceVersion: pdu.Version34}, smpp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	unbound := make(chan struct{}, 1)
	go func() { _ = s.Serve(&unbinding{s: s, got: unbound}) }()
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-unbound:
	case <-time.After(10 * time.Second):
		t.Error("no unbind came")
	}
	select {
	case err := <-g.done:
		if err != nil {
			t.Errorf("the gateway ended with %v\n%s", err, g.log)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("the gateway did not end\n%s", g.log)
	}
	if _, err := os.Stat(g.socket); err == nil {
		t.Error("the control socket is still there")
	}
}

type unbinding struct {
	ignore
	s   *smpp.Session
	got chan struct{}
}

func (u *unbinding) HandleRequest(p pdu.PDU) {
	if p.ID() == pdu.Unbind {
		_ = u.s.Send(pdu.AppendHeader(nil, pdu.UnbindResp, pdu.ROK, p.Seq()))
		u.got <- struct{}{}
	}
}
