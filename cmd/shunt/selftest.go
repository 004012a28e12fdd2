package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// What a check comes to.
const (
	resultOK         = "ok"
	resultWarning    = "warning"     // works, and will not for long
	resultWrong      = "wrong"       // exit 1
	resultNotChecked = "not checked" // nothing is known, which is no proof
)

// finding is what one check of the selftest came to.
type finding struct {
	Check  string `json:"check"`
	Result string `json:"result"`
	OK     bool   `json:"ok"` // ok, or a warning
	Detail string `json:"detail"`
	Do     string `json:"do,omitempty"` // what to do about it
}

func ok(check, detail string) finding { return finding{check, resultOK, true, detail, ""} }

func warning(check, detail, do string) finding {
	return finding{check, resultWarning, true, detail, do}
}

func wrong(check, detail, do string) finding { return finding{check, resultWrong, false, detail, do} }

func notChecked(check, detail, do string) finding {
	return finding{check, resultNotChecked, false, detail, do}
}

func (a *app) selftestCommand() *cobra.Command {
	var sim string
	var timeout time.Duration
	var quick bool
	c := &cobra.Command{
		Use:   "selftest",
		Short: "Prove that this machine can do the job, and say what is wrong",
		Long: "Ask the running gateway how it is and have it prove itself: it writes a line to its log, which\n" +
			"is then looked for in the journal, and a file beside its stores, and reads its certificates\n" +
			"again. Look at the clock. Then run a second gateway of the same binary, with simulators around\n" +
			"it, on loopback and in a directory of its own that is removed after success: SMPP in and out,\n" +
			"store, push, claims, fallback and receipts of 200 messages, every one accounted for. No\n" +
			"message, registration or bind of the test reaches the running gateway. shuntsim is looked for\n" +
			"beside this binary and then in PATH. What cannot be looked at is \"not checked\", and no proof.",
		Example: "  shunt selftest\n  shunt selftest --json\n  shunt selftest --quick",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var all []finding
			err := a.ask(func(n *noc.Client) error {
				st, err := n.Status(c.Context())
				if err != nil {
					return err
				}
				p, err := n.Prove(c.Context())
				if err == nil {
					all = append(judgeStatus(&st), judgeData(&p.Data))
					all = append(all, judgeCertificates(p.Certificates, time.Now())...)
					all = append(all, proveClock(&p, time.Now()), proveJournal(c.Context(), &p, systemd.JournalSocket))
				}
				return err
			})
			if err != nil {
				return err
			}
			if quick {
				all = append(all, notChecked(simulated, "left out by --quick", ""))
			} else {
				all = append(all, runDemo(c.Context(), sim, timeout))
			}
			return a.printFindings(all)
		},
	}
	c.Flags().StringVar(&sim, "shuntsim", "", "the simulators' binary (default: beside this one, then PATH)")
	c.Flags().DurationVar(&timeout, "timeout", 2*time.Minute, "how long the run with simulators may take")
	c.Flags().BoolVar(&quick, "quick", false, "leave out the run with simulators")
	return a.remote(c)
}

const simulated = "simulated traffic"

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
	detail := fmt.Sprintf("%s, shunt %s, divert %s", st.Node, st.Version, st.Divert)
	all := []finding{ok("gateway", detail)}
	if st.Drain {
		all[0] = wrong("gateway", detail+", takes no new binds or submits", "shunt undrain, when the node is to serve again")
	}
	diversion := ok("diversion", "nothing keeps messages from the app")
	switch {
	case st.Divert == "off":
		diversion.Detail = "is switched off"
	case len(st.FailOpen) > 0:
		var do []string
		for _, r := range st.FailOpen {
			if text := remedies[r]; text != "" {
				do = append(do, text)
			}
		}
		diversion = wrong("diversion", "messages are plain SMS because of "+strings.Join(st.FailOpen, ", "), strings.Join(do, "; "))
	}
	all = append(all, diversion)
	for _, o := range st.Own {
		if o.State == "bound" {
			all = append(all, ok("own bind "+o.SMSC, o.State))
		} else {
			all = append(all, wrong("own bind "+o.SMSC, o.State+", "+o.LastError, remedies["fallback-unbound"]))
		}
	}
	for i := range st.Push {
		l := &st.Push[i]
		check := fmt.Sprintf("push %s by %s", l.App, l.Provider)
		if l.Breaker == push.BreakerClosed.String() {
			all = append(all, ok(check, pushLine(l)))
		} else {
			all = append(all, wrong(check, pushLine(l), "check the network and the app's keys; it is tried again by itself"))
		}
	}
	return append(all, judgeStore(st))
}

func judgeStore(st *noc.Status) finding {
	s := &st.Spool
	switch {
	case s.LastError != nil && time.Since(s.LastErrorAt) < time.Hour:
		return wrong("store", fmt.Sprintf("a write failed %s ago: %v", age(time.Now(), s.LastErrorAt), s.LastError), "look at the disk under node.data_dir")
	case s.SetAside > 0 || st.Registered.Corrupt > 0:
		return wrong("store", fmt.Sprintf("%d messages and %d registrations cannot be read", s.SetAside, st.Registered.Corrupt),
			"see the log for which, and restore the registry from a backup")
	}
	return ok("store", fmt.Sprintf("%d messages live, %d commits, slowest %s", s.LiveTotal, s.Commits, s.CommitMax.Round(time.Microsecond)))
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
	self, err := os.Executable()
	if err != nil {
		return wrong(simulated, err.Error(), "run this command by its full path")
	}
	sim, err := findSim(given, self)
	if err != nil {
		return wrong(simulated, fmt.Sprintf("shuntsim cannot be run: %v", err), "install shuntsim beside shunt, or name it with --shuntsim")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, sim, "demo", "--shunt", self, "--messages", "200", "--numbers", "20")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 20 * time.Second
	out, err := cmd.CombinedOutput()
	accounted := ""
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "accounted for") {
			accounted = strings.TrimSpace(line)
		}
	}
	switch {
	case err == nil && accounted != "":
		return ok(simulated, accounted)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return wrong(simulated, fmt.Sprintf("did not end within %s", timeout), "look at the load of this machine and its disk, or allow more with --timeout")
	}
	return wrong(simulated, strings.TrimSpace(fmt.Sprintf("%s (%v)", lastLine(string(out)), err)),
		fmt.Sprintf("run `%s demo --shunt %s` and read its logs, whose folder it names", sim, self))
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// printFindings shows them; one that is wrong is exit 1.
func (a *app) printFindings(all []finding) error {
	sound := true
	for _, f := range all {
		sound = sound && f.Result != resultWrong
	}
	var err error
	if a.json {
		err = a.writeJSON(struct {
			OK     bool      `json:"ok"`
			Checks []finding `json:"checks"`
		}{sound, all})
	} else {
		err = a.table(func(w io.Writer) {
			row(w, "CHECK", "RESULT", "DETAIL")
			for _, f := range all {
				result := f.Result
				if result == resultWrong {
					result = strings.ToUpper(result)
				}
				row(w, f.Check, result, f.Detail)
				if f.Do != "" {
					row(w, " ", "do:", f.Do)
				}
			}
		})
	}
	if err == nil && !sound {
		err = errSaid
	}
	return err
}
