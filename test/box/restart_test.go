package box

import (
	"context"
	"errors"
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

	"shunt/smpp"
	"shunt/smpp/pdu"
)

// handedOver is a listening socket that outlives the gateway, as one of the
// service manager's.
func handedOver(t *testing.T) (addr string, f *os.File) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if f, err = l.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return l.Addr().String(), f
}

// activated is the gateway's command with sockets handed over: LISTEN_PID is
// the number of the process that the shell becomes.
func (g *gateway) activated(ctx context.Context, sockets ...*os.File) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, filepath.Join(bin, "shunt"), "run", "-c", g.conf)
	cmd.Env = append(os.Environ(), "LISTEN_FDS="+string(rune('0'+len(sockets))), "LISTEN_FDNAMES="+strings.Repeat("smpp:", len(sockets)-1)+"smpp")
	cmd.ExtraFiles = sockets
	return cmd
}

// startOn runs the gateway on sockets that were handed over.
func (g *gateway) startOn(t *testing.T, sockets ...*os.File) {
	t.Helper()
	g.log, g.done = &lockedBuffer{}, make(chan error, 1)
	g.cmd = g.activated(t.Context(), sockets...)
	g.cmd.Stderr = g.log
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd, done := g.cmd, g.done
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	eventually(t, "the gateway serves", func() bool { return strings.Contains(g.log.String(), "msg=serving") })
}

// hammer counts what becomes of connections that bind at once.
type hammer struct {
	mu                           sync.Mutex
	bound, refused, ended, reset int
	failed                       []error // no connection, or one that nobody served
}

// strike makes one connection.
func (h *hammer) strike(addr string) {
	err := h.try(addr)
	h.mu.Lock()
	defer h.mu.Unlock()
	var bind *smpp.BindError
	switch {
	case err == nil:
		h.bound++
	case errors.As(err, &bind):
		h.refused++
	case errors.Is(err, io.EOF):
		h.ended++
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		h.reset++
	default:
		h.failed = append(h.failed, err)
	}
}

func (h *hammer) try(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, 20*time.Second)
	if err != nil {
		return errors.Join(errors.New("connect"), &net.AddrError{Err: err.Error(), Addr: addr})
	}
	defer conn.Close()
	b := pdu.Bind{SystemID: "hammer", InterfaceVersion: pdu.Version34}
	if _, err := conn.Write(b.Append(nil, pdu.BindTransceiver, 1)); err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	head := make(pdu.PDU, pdu.HeaderLen)
	if _, err := io.ReadFull(conn, head); err != nil {
		return err
	}
	if head.Status() != pdu.ROK {
		return &smpp.BindError{SystemID: b.SystemID, Status: head.Status()}
	}
	return nil
}

func (h *hammer) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bound
}

// TestRestartRefusesNobody restarts the gateway on a socket that stays open,
// under a hammer of connections: each is taken, and bound or ended; none is
// refused, and none left alone.
func TestRestartRefusesNobody(t *testing.T) {
	addr, socket := handedOver(t)
	apiAddr, apiSocket := handedOver(t)
	g := newGateway(t, smsc(t))
	b, err := os.ReadFile(g.conf)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), g.listen, addr, 1)
	g.write(t, strings.Replace(text, `listen = "127.0.0.1:0"`, `listen = "`+apiAddr+`"`, 1))
	g.startOn(t, apiSocket, socket) // in whatever order

	var h hammer
	var workers sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		workers.Go(func() {
			pace := time.NewTicker(50 * time.Millisecond) // within limits.connect_rate
			defer pace.Stop()
			for {
				select {
				case <-pace.C:
					h.strike(addr)
				case <-stop:
					return
				}
			}
		})
	}
	for range 3 {
		before := h.count()
		eventually(t, "binds succeed", func() bool { return h.count() > before+60 })
		if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-g.done:
			if err != nil {
				t.Fatalf("the gateway ended with %v\n%s", err, g.log)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("the gateway did not end\n%s", g.log)
		}
		g.startOn(t, apiSocket, socket)
	}
	before := h.count()
	eventually(t, "binds succeed after the last restart", func() bool { return h.count() > before+60 })
	close(stop)
	workers.Wait()
	resp, err := http.Get("http://" + apiAddr + "/v1/messages")
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("GET /v1/messages without a bearer on the handed over socket: %s, want 401", resp.Status)
	}
	t.Logf("bound %d, refused by an answer %d, ended %d, reset %d, not served %d", h.bound, h.refused, h.ended, h.reset, len(h.failed))
	if len(h.failed) > 0 {
		t.Errorf("%d connections were not served, the first: %v", len(h.failed), h.failed[0])
	}
}

// TestSocketOfNobody: a socket that the configuration does not listen on is a
// mistake that would leave its peers waiting.
func TestSocketOfNobody(t *testing.T) {
	addr, socket := handedOver(t)
	g := newGateway(t, freeAddr(t))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := g.activated(ctx, socket)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), addr) || !strings.Contains(string(out), "listen.addr") {
		t.Errorf("shunt run: %v, want exit status 1 and a word about %s\n%s", err, addr, out)
	}
}
