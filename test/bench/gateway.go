package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"shunt/gateway/noc"
	"shunt/test/sim/pki"
)

// gateway is the real binary with a configuration of its own.
type gateway struct {
	cmd    *exec.Cmd
	addr   string
	dir    string
	socket string
}

const benchConfig = `[node]
id = "bench"
data_dir = %q

[[listen]]
addr = %q

[intercept]
upstream = "sink"
fallback_smsc = "own"

[[smsc]]
name = "sink"
addr = %q

[[smsc]]
name = "own"
addr = %q
system_id = "shunt"
password_file = "own.password"

# Registered numbers are of this app; nothing of these parts goes to them.
[[app]]
id = "chat"
[app.apns]
team_id = "ABCDE12345"
key_id = "FGHIJ67890"
key_file = "chat.p8"
topic = "com.example.chat"
endpoint = "https://127.0.0.1:9"

[policy]
divert_from = ["*"]

[api]
listen = "127.0.0.1:0"

[noc]
socket = %q
`

// startGateway starts the gateway in a folder of its own under dir, with that
// many registered numbers and more of a configuration.
func startGateway(dir, shunt string, registered int, sinkAddr string, more ...string) (*gateway, error) {
	dir, err := os.MkdirTemp(dir, "gateway-")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	_ = l.Close()
	socket := filepath.Join(dir, "noc.sock")
	conf := filepath.Join(dir, "shunt.toml")
	text := fmt.Sprintf(benchConfig, filepath.Join(dir, "data"), addr, sinkAddr, sinkAddr, socket) + strings.Join(more, "")
	err = errors.Join(os.WriteFile(conf, []byte(text), 0o600), os.WriteFile(filepath.Join(dir, "own.password"), []byte("secret"), 0o600),
		pki.WriteAPNsKey(filepath.Join(dir, "chat.p8")))
	if err != nil {
		return nil, err
	}
	g := &gateway{addr: addr, dir: dir, socket: socket}
	if err := g.start(shunt); err != nil {
		return nil, err
	}
	if err := g.provision(socket, registered); err != nil {
		g.stop()
		b, _ := os.ReadFile(g.log())
		return nil, fmt.Errorf("%w\n%s", err, b)
	}
	return g, nil
}

func (g *gateway) log() string { return filepath.Join(g.dir, "shunt.log") }

// start starts the gateway's process in its folder.
func (g *gateway) start(shunt string) error {
	log, err := os.OpenFile(g.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	g.cmd = exec.Command(shunt, "run", "-c", filepath.Join(g.dir, "shunt.toml"))
	g.cmd.Stderr = log
	return g.cmd.Start()
}

// provision registers numbers through the control socket.
func (g *gateway) provision(socket string, n int) error {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("unix", socket); err == nil {
			_ = c.Close()
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("gateway does not open %s", socket)
		}
	}
	r, w := io.Pipe()
	go func() {
		b := bufio.NewWriterSize(w, 1<<20)
		for i := range n {
			fmt.Fprintf(b, `{"number":"+%d","app":"chat","platform":"apns","token":"%064x","bearer":"bench-bearer-%012d"}`+"\n", firstRegistered+i, i, i)
		}
		_ = b.Flush()
		_ = w.Close()
	}()
	c := noc.New(socket)
	defer c.Close()
	if _, err := c.Import(context.Background(), r, noc.FormatNDJSON, false, false, func(*noc.ImportEvent) {}); err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	return nil
}

// cpu is the processor time that the gateway has used, user and system.
func (g *gateway) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", g.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on Linux
}

// anon is the memory that the gateway has for itself, RssAnon, in megabytes.
func (g *gateway) anon() (float64, error) { return anonOf(g.cmd.Process.Pid) }

func anonOf(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "RssAnon:")
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		return 0, fmt.Errorf("RssAnon: %w", err)
	}
	return kib / 1024, nil
}

func (g *gateway) stop() {
	_ = g.cmd.Process.Signal(syscall.SIGTERM)
	_ = g.cmd.Wait()
}
