package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"shunt/gateway/noc"
)

// drainEvery is how often a drain is asked how far it is.
const drainEvery = 500 * time.Millisecond

func (a *app) drainCommand() *cobra.Command {
	var noWait bool
	c := &cobra.Command{
		Use:   "drain",
		Short: "Take no new binds or submits, and finish what is pending",
		Long: "Take no new binds or submits, and wait until what is pending is finished. New binds get\n" +
			"ESME_RBINDFAIL, submits on binds that are up ESME_RMSGQFUL (SMPP v3.4 §5.1.3); receipts and\n" +
			"questions about messages go on. Ctrl-C ends the waiting and not the drain: shunt undrain\n" +
			"does, or a restart. Receipts of ESMEs without a bind stay on disk.",
		Example: "  shunt drain\n  shunt drain --no-wait --json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.ask(func(n *noc.Client) error {
				d, err := n.SetDrain(c.Context(), true)
				if err != nil {
					return err
				}
				if !noWait {
					if d, err = a.awaitDrain(c, n, d); err != nil {
						return err
					}
				}
				return a.printDrain(&d)
			})
		},
	}
	c.Flags().BoolVar(&noWait, "no-wait", false, "do not wait until it is done")
	return a.remote(c)
}

// awaitDrain writes how far the drain is to stderr whenever that changes.
func (a *app) awaitDrain(c *cobra.Command, n *noc.Client, d noc.Drain) (_ noc.Drain, err error) {
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	said := ""
	for !d.Done {
		if !d.Draining {
			return d, fmt.Errorf("the drain was ended by somebody else (shunt undrain or a restart) with %d messages pending", d.Pending)
		}
		if now := drainLine(&d); now != said {
			fmt.Fprintln(a.err, now)
			said = now
		}
		select {
		case <-tick.C:
		case <-c.Context().Done():
			return d, fmt.Errorf("interrupted with %s: the drain goes on, shunt undrain ends it", drainLine(&d))
		}
		if d, err = n.Drain(c.Context()); err != nil {
			return d, err
		}
	}
	return d, nil
}

func drainLine(d *noc.Drain) string {
	return fmt.Sprintf("%d messages pending, %d requests unanswered, %d receipts to deliver", d.Pending, d.Unanswered, d.Receipts)
}

func (a *app) undrainCommand() *cobra.Command {
	return a.remote(&cobra.Command{
		Use:     "undrain",
		Short:   "Take binds and submits again",
		Long:    "Take binds and submits again, after a drain. It is no error if there is none.",
		Example: "  shunt undrain",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.ask(func(n *noc.Client) error {
				d, err := n.SetDrain(c.Context(), false)
				if err != nil {
					return err
				}
				return a.printDrain(&d)
			})
		},
	})
}

func (a *app) printDrain(d *noc.Drain) error {
	if a.json {
		return a.writeJSON(d)
	}
	state := "off"
	switch {
	case d.Done:
		state = "done: nothing is pending"
	case d.Draining:
		state = "on"
	}
	return a.table(func(w io.Writer) {
		row(w, "drain", state)
		row(w, "pending", drainLine(d))
		row(w, "kept", fmt.Sprintf("%d receipts of ESMEs without a bind", d.ReceiptsKept))
		row(w, "binds", d.Binds)
		row(w, "refused", fmt.Sprintf("%d submits, %d binds", d.Refused, d.BindsRefused))
	})
}

func (a *app) queueCommand() *cobra.Command {
	return a.remote(&cobra.Command{
		Use:   "queue",
		Short: "Show what has not ended, by state, plan, app and account",
		Long: "Show the diverted messages that have not ended, and those of which only the receipt is\n" +
			"left, by state, transmission plan, app and account, with the time since the oldest of them came.",
		Example: "  shunt queue\n  shunt queue --json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.ask(func(n *noc.Client) error {
				all, err := n.Queue(c.Context())
				switch {
				case err != nil:
					return err
				case a.json:
					return a.writeJSON(map[string][]noc.Queue{"queue": all})
				case len(all) == 0:
					_, err = fmt.Fprintln(a.out, "nothing is pending")
					return err
				}
				now := time.Now()
				return a.table(func(w io.Writer) {
					row(w, "STATE", "PLAN", "APP", "ACCOUNT", "MESSAGES", "RECEIPTS DUE", "OLDEST")
					for _, q := range all {
						row(w, q.State, short(q.Plan), short(q.App), short(q.Account), q.Messages, q.ReceiptsDue, age(now, q.Oldest))
					}
				})
			})
		},
	})
}
