package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"shunt/gateway/noc"
)

// stampLayout is how tables show times, in UTC.
const stampLayout = "2006-01-02 15:04:05.000"

func (a *app) traceCommand() *cobra.Command {
	var follow, watch bool
	var watchFor time.Duration
	c := a.showsNumbers(a.remote(&cobra.Command{
		Use:   "trace MSGID|NUMBER",
		Short: "Show everything that happened to a diverted message",
		Long: "Show everything that happened to a diverted message, in order, with times (UTC) and reasons.\n" +
			"MSGID is Shunt's own id or the message_id that the ESME was given; a NUMBER shows its\n" +
			"latest messages, newest first. What could be both is taken for an id unless it begins with +.\n" +
			"-f goes on with what happens next, until every message shown has ended and its receipt is\n" +
			"taken; with --json each step is a line.\n" +
			"--watch shows from now on, for an hour or --for, every PDU to and from a NUMBER, of messages\n" +
			"that are only forwarded too: of those nothing is kept otherwise. Ctrl-C ends it.",
		Example: "  shunt trace s01JZ8M5C3V4Q2N7R9T0W1X2Y3Z\n  shunt trace +447700900042 --unmask\n  shunt trace -f +447700900042\n  shunt trace --watch +447700900042 --for 10m",
		Args:    oneArg("MSGID or NUMBER"),
		RunE: func(c *cobra.Command, args []string) error {
			if !watch && c.Flags().Changed("for") {
				return usagef("--for goes with --watch")
			}
			if watch {
				if err := numberArg(c, args); err != nil {
					return err
				}
				if watchFor < time.Second || watchFor > 24*time.Hour {
					return usagef("--for: want 1s to 24h")
				}
				return a.ask(func(n *noc.Client) error {
					return n.Watch(c.Context(), args[0], watchFor, a.unmask, a.printPassed)
				})
			}
			return a.ask(func(n *noc.Client) error {
				all, err := n.Trace(c.Context(), args[0], a.unmask)
				if err != nil {
					return err
				}
				if follow {
					return a.followTrace(c.Context(), n, args[0], all)
				}
				if a.json {
					return a.writeJSON(map[string][]noc.Trace{"messages": all})
				}
				for i := range all {
					if i > 0 {
						fmt.Fprintln(a.out)
					}
					if err := a.printTrace(&all[i]); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}))
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens next")
	c.Flags().BoolVar(&watch, "watch", false, "show every PDU to and from the NUMBER from now on")
	c.Flags().DurationVar(&watchFor, "for", time.Hour, "how long to watch")
	return completes(c, a.names(noc.NamesMessages, noc.NamesNumbers), nil)
}

// printPassed writes a PDU as it passes.
func (a *app) printPassed(p *noc.Passed) (err error) {
	if a.json {
		err = json.NewEncoder(a.out).Encode(p)
	} else {
		line := fmt.Sprintf("%s  %-10s  %-13s  %-15s", stamp(p.At), p.ESME, p.Way, p.PDU)
		if p.From != "" || p.To != "" {
			line += "  " + p.From + " → " + p.To
		}
		if p.Status != "" {
			line += fmt.Sprintf("  %s  %s  %.1f ms", p.Status, p.Message, p.TookMS)
		}
		if p.Dropped > 0 {
			line += fmt.Sprintf("  (%d before this one not shown)", p.Dropped)
		}
		_, err = fmt.Fprintln(a.out, strings.TrimRight(line, " "))
	}
	if err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// followEvery is how often a followed trace is asked for.
const followEvery = 500 * time.Millisecond

// followedStep is a step as a script reads it.
type followedStep struct {
	ID string `json:"id"`
	noc.Step
}

// followTrace writes the steps so far, oldest message first, and then each new
// one, until all have ended, or ctx has.
func (a *app) followTrace(ctx context.Context, n *noc.Client, what string, all []noc.Trace) (err error) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	seen := make(map[followedStep]bool) // one that comes late may stand before others
	for {
		open := false
		for i := len(all) - 1; i >= 0; i-- {
			t := &all[i]
			open = open || !t.State.Final() || t.ReceiptDue
			for _, s := range t.Steps {
				step := followedStep{t.ID, s}
				if seen[step] {
					continue
				}
				seen[step] = true
				if a.json {
					err = json.NewEncoder(a.out).Encode(step)
				} else {
					_, err = fmt.Fprintln(a.out, strings.TrimRight(fmt.Sprintf("%s  %s  %s  %s  %s  %s", stamp(s.At), t.ID, s.Event, s.To, s.Reason, s.Detail), " "))
				}
				if err != nil {
					return fmt.Errorf("write the output: %w", err)
				}
			}
		}
		if err := a.flush(); err != nil || !open {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if all, err = n.Trace(ctx, what, a.unmask); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

func (a *app) printTrace(t *noc.Trace) error {
	err := a.table(func(w io.Writer) {
		row(w, "message", t.ID)
		if t.WireID != t.ID {
			row(w, "message_id", t.WireID)
		}
		row(w, "to", t.Number)
		row(w, "from", fmt.Sprintf("%s, of ESME %s", t.From, t.Account.SystemID))
		row(w, "app", t.App)
		if t.Plan != "" {
			row(w, "plan", t.Plan)
		}
		if t.Letter != "" {
			row(w, "part", fmt.Sprintf("%d of %d, for the app one message: %s", t.Part, t.Parts, t.Letter))
		}
		row(w, "state", fmt.Sprintf("%s since %s", t.State, stamp(t.Since)))
		row(w, "received", stamp(t.ReceivedAt))
		row(w, "claim by", stamp(t.ClaimBy))
		row(w, "expires", stamp(t.ExpiresAt))
		if t.Device != "" {
			row(w, "claimed by", "device "+t.Device)
		}
		if t.Read {
			row(w, "read", "yes")
		}
		if t.SMSAttempts > 0 {
			row(w, "sms", smsLine(t))
		}
		if t.ReceiptDue {
			row(w, "receipt", "waits for the ESME")
		}
	})
	if err != nil || len(t.Steps) == 0 {
		return err
	}
	fmt.Fprintln(a.out)
	return a.table(func(w io.Writer) {
		row(w, "TIME", "AFTER", "EVENT", "STATE", "REASON", "DETAIL")
		for _, s := range t.Steps {
			state := s.To.String()
			if s.From == s.To {
				state = "" // no arrow was taken
			}
			row(w, stamp(s.At), s.At.Sub(t.ReceivedAt).Round(time.Millisecond), s.Event, state, s.Reason, s.Detail)
		}
	})
}

func smsLine(t *noc.Trace) string {
	parts := []string{fmt.Sprintf("attempts %d, sent again %d", t.SMSAttempts, t.Resubmits)}
	if t.Peer != "" {
		parts = append(parts, fmt.Sprintf("by %s as %s", t.Peer, t.SMSID))
	}
	if t.SMSErr != "" {
		parts = append(parts, "which said "+t.SMSErr)
	}
	return strings.Join(parts, ", ")
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(stampLayout)
}
