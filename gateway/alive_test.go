package gateway

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/store/spool"
	"shunt/systemd"
)

// TestWatchdog: the service manager hears of life from an idle gateway, and not
// from one whose committer stands still.
func TestWatchdog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "1500000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	n := newNode(t, nil)
	n.g.Manage(systemd.NewNotifier(slog.New(slog.DiscardHandler)))
	n.run()
	hears := func(what string, within time.Duration) bool {
		for end := time.Now().Add(within); ; {
			_ = l.SetReadDeadline(end)
			b := make([]byte, 4096)
			size, err := l.Read(b)
			if err != nil {
				return false
			}
			if strings.HasPrefix(string(b[:size]), what) {
				return true
			}
		}
	}
	for _, what := range []string{"READY=1\nSTATUS=0 binds", "WATCHDOG=1", "STATUS=", "WATCHDOG=1"} {
		if !hears(what, patience) {
			t.Fatalf("the service manager does not hear %q", what)
		}
	}
	hold, held := make(chan struct{}), make(chan struct{})
	n.g.spool.Post(spool.Event{ID: msg.ID{1}, Kind: msg.EvRead}, func(spool.Result) {
		close(held)
		<-hold
	})
	<-held
	for hears("WATCHDOG=1", 10*time.Millisecond) { // what was under way
	}
	if hears("WATCHDOG=1", 2*time.Second) {
		t.Error("the watchdog is fed while the committer stands still")
	}
	close(hold)
	if !hears("WATCHDOG=1", patience) {
		t.Error("the watchdog is not fed again")
	}
}
