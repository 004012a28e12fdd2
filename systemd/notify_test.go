package systemd

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

func TestNotifier(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "3000000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	n := NewNotifier(slog.New(slog.DiscardHandler))
	if got := n.Watchdog(); got != 3*time.Second {
		t.Errorf("Watchdog() = %v, want 3 s", got)
	}
	for want, tell := range map[string]func(){
		"^READY=1\nSTATUS=2 binds$":               func() { n.Ready("2 binds") },
		"^STATUS=3 binds$":                        func() { n.Status("3 binds") },
		"^RELOADING=1\nMONOTONIC_USEC=[1-9]\\d+$": n.Reloading,
		"^STOPPING=1\nSTATUS=stopping":            n.Stopping,
		"^WATCHDOG=1$":                            n.Alive,
	} {
		tell()
		b := make([]byte, 4096)
		if err := l.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		size, err := l.Read(b)
		if err != nil || !regexp.MustCompile(want).Match(b[:size]) {
			t.Errorf("told %q, %v, want %q", b[:size], err, want)
		}
	}
}

// Another process's watchdog is not ours, and without a manager nobody is told.
func TestNotifierWithoutManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nowhere"))
	t.Setenv("WATCHDOG_USEC", "3000000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()+1))
	n := NewNotifier(slog.New(slog.DiscardHandler))
	if got := n.Watchdog(); got != 0 {
		t.Errorf("Watchdog() of another PID = %v, want none", got)
	}
	n.Ready("nobody listens") // must neither panic nor wait
	t.Setenv("NOTIFY_SOCKET", "")
	if n = NewNotifier(slog.New(slog.DiscardHandler)); n != nil || n.Watchdog() != 0 {
		t.Errorf("NewNotifier() without a manager = %v, want nil", n)
	}
	n.Ready("")
	n.Alive()
}
