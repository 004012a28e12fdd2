package main

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"shunt/gateway/audit"
	"shunt/gateway/noc"
)

func (a *app) auditCommand() *cobra.Command {
	g := a.group("audit", "Show and verify what operators did", "  shunt audit verify\n  shunt audit list -n 50")
	g.AddCommand(a.auditVerifyCommand(), a.auditListCommand())
	return g
}

func (a *app) auditVerifyCommand() *cobra.Command {
	return a.remote(&cobra.Command{
		Use:   "verify [FILE]",
		Short: "Check that no line of the audit was changed, moved or taken out",
		Long: "Read the whole chain: of a FILE or a folder, also without a gateway and on another machine, or\n" +
			"through the gateway, which knows the chain's end. With audit.ndjson go the older files beside it;\n" +
			"one of those is read by itself. Exit 1 if it is broken, with the first line that shows\n" +
			"it. A chain that was cut off at its end is sound by itself: compare the hash of the last line\n" +
			"with the latest \"operator action\" in the journal.",
		Example: "  shunt audit verify\n  shunt audit verify /var/lib/shunt/audit/audit.ndjson --json",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("%s takes only one FILE", name(c))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) (err error) {
			var rep audit.Report
			if len(args) == 1 {
				rep, err = audit.VerifyFile(args[0])
			} else {
				err = a.ask(func(n *noc.Client) error {
					rep, err = n.AuditVerify(c.Context())
					return err
				})
			}
			if err != nil {
				return err
			}
			return a.printReport(&rep)
		},
	})
}

func (a *app) printReport(rep *audit.Report) error {
	var err error
	if a.json {
		err = a.writeJSON(rep)
	} else {
		err = a.table(func(w io.Writer) {
			if rep.Sound {
				row(w, "audit", "sound")
			} else {
				of := ""
				if rep.Files > 1 {
					of = " of " + rep.File
				}
				row(w, "audit", fmt.Sprintf("BROKEN at line %d%s: %s", rep.Broken, of, rep.Why))
			}
			lines := fmt.Sprintf("%d sound", rep.Lines)
			if rep.First > 1 {
				lines += fmt.Sprintf(", from line %d on", rep.First)
			}
			if rep.Files > 1 {
				lines += fmt.Sprintf(", in %d files", rep.Files)
			}
			row(w, "lines", lines)
			row(w, "last hash", rep.Hash)
		})
	}
	if err == nil && !rep.Sound {
		return errSaid
	}
	return err
}

func (a *app) auditListCommand() *cobra.Command {
	var n int
	c := &cobra.Command{
		Use:   "list",
		Short: "Show the last lines of the audit",
		Long: "Show the last lines of the audit, the oldest first. An action has a line when it begins, and\n" +
			"another that tells what came of it; uid -1 is a signal.",
		Example: "  shunt audit list\n  shunt audit list -n 100 --json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if n < 1 || n > noc.MaxAudit {
				return usagef("-n: want 1 to %d", noc.MaxAudit)
			}
			return a.ask(func(client *noc.Client) error {
				all, err := client.AuditLines(c.Context(), n)
				switch {
				case err != nil:
					return err
				case a.json:
					return a.writeJSON(noc.AuditLines{Lines: all})
				case len(all) == 0:
					_, err = fmt.Fprintln(a.out, "nothing is recorded")
					return err
				}
				return a.table(func(w io.Writer) {
					row(w, "SEQ", "TIME", "UID", "USER", "PID", "ACTION", "DETAIL", "RESULT")
					for i := range all {
						e := &all[i]
						result := e.Result
						if e.Of > 0 {
							result += fmt.Sprintf(" (of %d)", e.Of)
						}
						row(w, e.Seq, e.At.UTC().Format("2006-01-02 15:04:05"), e.UID, short(e.User), e.PID, e.Action, shortened(e.Detail, detailWidth), result)
					}
				})
			})
		},
	}
	c.Flags().IntVarP(&n, "lines", "n", 20, "how many lines")
	return a.remote(c)
}

const detailWidth = 80

// printableText keeps what others wrote from steering the terminal.
func printableText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7F && r < 0xA0 {
			return '\uFFFD'
		}
		return r
	}, s)
}

// printableLines is printableText that leaves line ends.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = printableText(lines[i])
	}
	return strings.Join(lines, "\n")
}

// recorded does something to a data directory whose gateway does not run, and has
// it in the audit there; without it, it is not done.
func recorded(dataDir, action, detail string, do func() error) error {
	l := audit.Open(filepath.Join(dataDir, "audit"), audit.Options{}, slog.New(slog.DiscardHandler))
	defer l.Close()
	begun, err := l.Begin(audit.Self(), action, detail, false)
	if err != nil {
		return fmt.Errorf("%s: %w: nothing was done", action, err)
	}
	err = do()
	result := audit.Done
	if err != nil {
		result = "failed"
	}
	begun.End("", result)
	return cmp.Or(err, l.Err())
}
