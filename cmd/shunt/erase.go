package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"shunt/gateway/noc"
)

// eraseEvery is how often a command that waits asks again; tests do not wait for so long.
var eraseEvery = 5 * time.Second

// eraseSaid is after how long an operator is told why it takes so long.
const eraseSaid = 2 * time.Second

func (a *app) eraseCommand() *cobra.Command {
	var wait time.Duration
	c := &cobra.Command{
		Use:   "erase NUMBER",
		Short: "Remove a person everywhere: registration, messages, replies, call detail records",
		Long: "Remove a person everywhere: the registration with its tokens, finished messages and\n" +
			"replies, and the number in call detail records, whose lines stay. The files are written\n" +
			"anew without them, so that a search of the disk finds nothing. While that is done,\n" +
			"messages are forwarded and none is diverted.\n\n" +
			"A message that has no outcome yet, and a receipt or reply that its ESME has not taken,\n" +
			"stay until they have: the command says how many, and exits 1. Run it again then, or let\n" +
			"it wait with --wait.\n\n" +
			"Left to you: backups that were made before, and the journal, which has numbers masked.",
		Example: "  shunt registry erase +447700900042\n  shunt registry erase +447700900042 --wait 1h",
		Args:    numberArg,
		RunE: func(c *cobra.Command, args []string) error {
			if wait < 0 {
				return usagef("--wait: want 0 or more")
			}
			return a.ask(func(n *noc.Client) error { return a.erase(c.Context(), n, args[0], wait) })
		},
	}
	c.Flags().DurationVar(&wait, "wait", 0, "how long to wait for what is pending")
	return completes(a.showsNumbers(a.remote(c)), a.names(noc.NamesNumbers), nil)
}

func (a *app) erase(ctx context.Context, n *noc.Client, number string, wait time.Duration) error {
	until := time.Now().Add(wait)
	var all noc.Erased
	for {
		patience := time.AfterFunc(eraseSaid, func() {
			if !a.json {
				fmt.Fprintln(a.err, "erasing: every record is read once, which takes seconds to minutes")
			}
		})
		e, err := n.Erase(ctx, number, a.unmask)
		patience.Stop()
		if err != nil {
			return err
		}
		e.Registered = e.Registered || all.Registered
		e.Messages, e.Replies, e.CDRLines = e.Messages+all.Messages, e.Replies+all.Replies, e.CDRLines+all.CDRLines
		all = e
		if e.Pending == 0 || time.Now().Add(eraseEvery).After(until) {
			break
		}
		if !a.json {
			fmt.Fprintf(a.err, "%d pending, waiting up to %s more\n", e.Pending, time.Until(until).Round(time.Second))
		}
		select {
		case <-time.After(eraseEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := a.showErased(&all); err != nil {
		return err
	}
	if all.Pending > 0 {
		return fmt.Errorf("%d pending: a message without an outcome, or a receipt or reply that its ESME has not taken. Run this again later, or with --wait", all.Pending)
	}
	return nil
}

func (a *app) showErased(e *noc.Erased) error {
	if a.json {
		return a.writeJSON(e)
	}
	err := a.table(func(w io.Writer) {
		row(w, "number", e.Number)
		row(w, "was registered", map[bool]string{true: "yes", false: "no"}[e.Registered])
		row(w, "messages", e.Messages)
		row(w, "replies", e.Replies)
		row(w, "lines of call detail records", e.CDRLines)
		row(w, "pending", e.Pending)
	})
	if err == nil {
		_, err = fmt.Fprintf(a.out, "Backups made before %s may still hold the number: erase it again after you restore one.\n", e.At.Format(time.RFC3339))
	}
	return err
}
