package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"shunt/gateway/noc"
	"shunt/push"
	"shunt/systemd"
)

// finding is what one check of the selftest came to.
type finding struct {
	Check  string `json:"check"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Do     string `json:"do,omitempty"` // what to do about it
}

func (a *app) selftestCommand() *cobra.Command {
	var sim string
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "selftest",
		Short: "Prove that this machine can do the job, and say what is wrong",
		Long: "Ask the running gateway how it is, and run a second gateway of the same binary, with\n" +
			"simulators around it, on loopback and in a directory of its own that is removed after\n" +
			"success: SMPP in and out, store, push, claims, fallback and receipts of 200 messages, every\n" +
			"one accounted for. The running gateway is only asked: no message, registration or bind of\n" +
			"the test reaches it. shuntsim is looked for beside this binary and then in PATH.",
		Example: "  shunt selftest\n  shunt selftest --json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var all []finding
			err := a.ask(func(n *noc.Client) error {
				st, err := n.Status(c.Context())
				if err == nil {
					all = append(all, judgeStatus(&st)...)
				}
				return err
			})
			if err != nil {
				return err
			}
			all = append(all, judgeJournal(systemd.JournalSocket))
			all = append(all, runDemo(c.Context(), sim, timeout))
			return a.printFindings(all)
		},
	}
	c.Flags().StringVar(&sim, "shuntsim", "", "the simulators' binary (default: beside this one, then PATH)")
	c.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "how long the run with simulators may take")
	return a.remote(c)
}

// remedies are what to do about a reason why nothing is diverted.
var remedies = map[string]string{
	"index-loading":    "wait until the registry's index is loaded; if it stays so, see the log",
	"spool-full":       "free space under node.data_dir",
	"spool-stalled":    "look at the disk under node.data_dir and who else uses it",
	"spool-failed":     "look at the disk under node.data_dir, and at the spool's error in shunt status",
	"fallback-unbound": "check address, system_id and password of the SMSC that intercept.fallback_smsc names",
}

// judgeStatus says what is wrong with the running gateway.
func judgeStatus(st *noc.Status) []finding {
	all := []finding{{Check: "gateway", OK: !st.Drain, Detail: fmt.Sprintf("%s, shunt %s, divert %s", st.Node, st.Version, st.Divert)}}
	if st.Drain {
		all[0].Detail += ", takes no new binds or submits"
		all[0].Do = "shunt undrain, when the node is to serve again"
	}
	diversion := finding{Check: "diversion", OK: true, Detail: "nothing keeps messages from the app"}
	switch {
	case st.Divert == "off":
		diversion.Detail = "is switched off"
	case len(st.FailOpen) > 0:
		diversion.OK, diversion.Detail = false, "messages are plain SMS because of "+strings.Join(st.FailOpen, ", ")
		var do []string
		for _, r := range st.FailOpen {
			if text := remedies[r]; text != "" {
				do = append(do, text)
			}
		}
		diversion.Do = strings.Join(do, "; ")
	}
	all = append(all, diversion)
	for _, o := range st.Own {
		f := finding{Check: "own bind " + o.SMSC, OK: o.State == "bound", Detail: o.State}
		if !f.OK {
			f.Detail += ", " + o.LastError
			f.Do = remedies["fallback-unbound"]
		}
		all = append(all, f)
	}
	for i := range st.Push {
		l := &st.Push[i]
		f := finding{Check: fmt.Sprintf("push %s by %s", l.App, l.Provider), OK: l.Breaker == push.BreakerClosed.String(), Detail: pushLine(l)}
		if !f.OK {
			f.Do = "check the network and the app's keys; it is tried again by itself"
		}
		all = append(all, f)
	}
	s := &st.Spool
	f := finding{Check: "store", OK: true, Detail: fmt.Sprintf("%d messages live, %d commits, slowest %s", s.LiveTotal, s.Commits, s.CommitMax.Round(time.Microsecond))}
	switch {
	case s.LastError != nil && time.Since(s.LastErrorAt) < time.Hour:
		f.OK, f.Detail, f.Do = false, fmt.Sprintf("a write failed %s ago: %v", age(time.Now(), s.LastErrorAt), s.LastError), "look at the disk under node.data_dir"
	case s.SetAside > 0 || st.Registered.Corrupt > 0:
		f.OK, f.Detail, f.Do = false, fmt.Sprintf("%d messages and %d registrations cannot be read", s.SetAside, st.Registered.Corrupt), "see the log for which, and restore the registry from a backup"
	}
	return append(all, f)
}

// judgeJournal tells whether journald takes lines at its socket.
func judgeJournal(path string) finding {
	f := finding{Check: "journal", Detail: path}
	conn, err := net.Dial("unixgram", path)
	if err != nil {
		f.Detail, f.Do = err.Error(), "systemctl status systemd-journald; without a journal, log to stderr with --log-format text"
		return f
	}
	_ = conn.Close()
	f.OK = true
	return f
}

// findSim is the path of shuntsim.
func findSim(given, self string) (string, error) {
	if given != "" {
		return exec.LookPath(given)
	}
	beside := filepath.Join(filepath.Dir(self), "shuntsim")
	if path, err := exec.LookPath(beside); err == nil {
		return path, nil
	}
	return exec.LookPath("shuntsim")
}

// runDemo runs a gateway of this binary among simulators.
func runDemo(ctx context.Context, given string, timeout time.Duration) finding {
	f := finding{Check: "simulated traffic"}
	self, err := os.Executable()
	if err != nil {
		f.Detail, f.Do = err.Error(), "run this command by its full path"
		return f
	}
	sim, err := findSim(given, self)
	if err != nil {
		f.Detail, f.Do = fmt.Sprintf("shuntsim cannot be run: %v", err), "install shuntsim beside shunt, or name it with --shuntsim"
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, sim, "demo", "--shunt", self, "--messages", "200", "--numbers", "20")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 20 * time.Second
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "accounted for") {
			f.Detail = strings.TrimSpace(line)
		}
	}
	switch {
	case err == nil && f.Detail != "":
		f.OK = true
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		f.Detail, f.Do = fmt.Sprintf("did not end within %s", timeout), "look at the load of this machine and its disk, or allow more with --timeout"
	default:
		f.Detail = strings.TrimSpace(fmt.Sprintf("%s (%v)", lastLine(string(out)), err))
		f.Do = fmt.Sprintf("run `%s demo --shunt %s` and read its logs, whose folder it names", sim, self)
	}
	return f
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// printFindings shows them; one that is not OK is exit 1.
func (a *app) printFindings(all []finding) error {
	ok := true
	for _, f := range all {
		ok = ok && f.OK
	}
	var err error
	if a.json {
		err = a.writeJSON(struct {
			OK     bool      `json:"ok"`
			Checks []finding `json:"checks"`
		}{ok, all})
	} else {
		err = a.table(func(w io.Writer) {
			row(w, "CHECK", "RESULT", "DETAIL")
			for _, f := range all {
				result := "ok"
				if !f.OK {
					result = "WRONG"
				}
				row(w, f.Check, result, f.Detail)
				if f.Do != "" {
					row(w, " ", "do:", f.Do)
				}
			}
		})
	}
	if err == nil && !ok {
		err = errSaid
	}
	return err
}
