package systemd

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Notifier tells the service manager how this process is (sd_notify(3)). A nil
// Notifier tells nobody. It is safe for concurrent use.
type Notifier struct {
	watchdog time.Duration
	log      *slog.Logger
}

// NewNotifier is nil where no service manager listens ($NOTIFY_SOCKET). log takes
// what cannot be told.
func NewNotifier(log *slog.Logger) *Notifier {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	n := &Notifier{log: log}
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the service manager's watchdog cannot be fed", "error", err)
	}
	n.watchdog = d
	return n
}

// Watchdog is within which time the service manager wants to hear of life; zero:
// it does not ask.
func (n *Notifier) Watchdog() time.Duration {
	if n == nil {
		return 0
	}
	return n.watchdog
}

// Ready says that everything is served, at the start or after a reload.
func (n *Notifier) Ready(status string) { n.send("READY=1\nSTATUS=" + status) }

// Status is one line for systemctl status.
func (n *Notifier) Status(status string) { n.send("STATUS=" + status) }

// Reloading says that the configuration is being read again; Ready ends it.
func (n *Notifier) Reloading() {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // fails for no clock that exists
	n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", ts.Nano()/1000))
}

// Stopping says that this process ends.
func (n *Notifier) Stopping() { n.send("STOPPING=1\nSTATUS=stopping: answering what was accepted") }

// Alive feeds the watchdog.
func (n *Notifier) Alive() { n.send("WATCHDOG=1") }

func (n *Notifier) send(state string) {
	if n == nil {
		return
	}
	if _, err := daemon.SdNotify(false, state); err != nil {
		n.log.Warn("the service manager cannot be told", "error", err)
	}
}
