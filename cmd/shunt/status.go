package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"shunt/gateway/noc"
	"shunt/push"
)

func (a *app) statusCommand() *cobra.Command {
	return a.remote(&cobra.Command{
		Use:     "status",
		Short:   "Show the gateway at a glance",
		Example: "  shunt status\n  shunt status --json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.ask(func(n *noc.Client) error {
				st, err := n.Status(c.Context())
				if err != nil {
					return err
				}
				if a.json {
					return a.writeJSON(st)
				}
				return a.printStatus(&st, time.Now())
			})
		},
	})
}

func (a *app) printStatus(st *noc.Status, now time.Time) error {
	return a.table(func(w io.Writer) {
		row(w, "node", fmt.Sprintf("%s, shunt %s, up %s", st.Node, st.Version, age(now, st.Started)))
		row(w, "divert", st.Divert)
		if st.Drain {
			row(w, "drain", "takes no new binds or submits, see shunt drain")
		}
		for i, why := range st.FailOpen {
			row(w, label(i, "fail open"), why)
		}
		for i := range st.Alarms {
			row(w, label(i, "alarms"), alarmLine(&st.Alarms[i], now))
		}
		row(w, "listen", strings.Join(st.Listen, ", "))
		row(w, "app api", strings.Join(st.API, ", "))
		row(w, "registry", registryLine(st))
		row(w, "binds", fmt.Sprintf("transmitter %d, receiver %d, transceiver %d; upstream %d",
			st.Binds.Transmitter, st.Binds.Receiver, st.Binds.Transceiver, st.Binds.Upstream))
		for i, o := range st.Own {
			text := fmt.Sprintf("%s: %s, window in use %d", o.SMSC, o.State, o.Window)
			if o.LastError != "" {
				text += ", last error: " + o.LastError
			}
			row(w, label(i, "own binds"), text)
		}
		for i := range st.Push {
			row(w, label(i, "push"), pushLine(&st.Push[i]))
		}
		for i := range st.External {
			row(w, label(i, "external"), externalLine(&st.External[i]))
		}
		c := &st.Counters
		row(w, "submits", fmt.Sprintf("%d: forwarded %d, diverted %d, shadow %d", c.SubmitsIn, c.Forwarded, c.Diverted, c.Shadow))
		row(w, "reasons", counts(c.Reasons))
		for i := range st.Answers {
			row(w, label(i, "answers"), answersLine(&st.Answers[i]))
		}
		row(w, "pushes", counts(c.Pushes))
		if len(c.Edge) > 0 {
			row(w, "edge", counts(c.Edge))
		}
		row(w, "fallback", fmt.Sprintf("sent %d, retried %d, resubmitted %d", c.FallbackSent, c.FallbackRetried, c.FallbackResubmitted))
		row(w, "receipts", fmt.Sprintf("sent %d, waiting %d", c.ReceiptsSent, c.ReceiptsWaiting))
		s := &st.Spool
		row(w, "replies", fmt.Sprintf("waiting %d, delivered %d, refused %d, given up %d", s.Replies, s.RepliesDelivered, s.RepliesRefused, s.RepliesGivenUp))
		row(w, "spool", fmt.Sprintf("%d of %d: %s; receipts due %d", s.LiveTotal, s.Max, counts(s.Live), s.ReceiptsDue))
		row(w, "finished", counts(s.Finals))
		commit := fmt.Sprintf("%d, last %s, slowest %s", s.Commits, s.CommitLast.Round(time.Microsecond), s.CommitMax.Round(time.Microsecond))
		if s.Failures > 0 {
			commit += fmt.Sprintf(", failed %d", s.Failures)
		}
		row(w, "commits", commit)
		if s.LastError != nil {
			row(w, "spool error", fmt.Sprintf("%s ago: %v", age(now, s.LastErrorAt), s.LastError))
		}
	})
}

func pushLine(l *noc.PushLane) string {
	text := fmt.Sprintf("%s by %s: breaker %s", l.App, l.Provider, l.Breaker)
	if l.Breaker != push.BreakerClosed.String() {
		text += fmt.Sprintf(" until %s", stamp(l.Until))
	}
	if l.Trips > 0 {
		text += fmt.Sprintf(", opened %d times, last failure %s", l.Trips, l.Reason)
	}
	return text
}

func answersLine(a *noc.Answers) string {
	by := map[string]string{"smpp": "by the SMSC", "app": "of diverted ones"}[a.Leg]
	if a.Count == 0 {
		return by + ": none in the last minute"
	}
	return fmt.Sprintf("%s: half within %s, 99 %% within %s, of %d in the last minute", by, seconds(a.P50), seconds(a.P99), a.Count)
}

// seconds are some, with three digits.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

func externalLine(r *noc.ExternalRegistry) string {
	text := fmt.Sprintf("%s: breaker %s", r.Name, r.Breaker)
	if r.Breaker != push.BreakerClosed.String() {
		text += fmt.Sprintf(" until %s", stamp(r.Until))
	}
	if r.Trips > 0 {
		text += fmt.Sprintf(", opened %d times, last fault %s", r.Trips, r.Reason)
	}
	return text + "; " + counts(r.Lookups)
}

func registryLine(st *noc.Status) string {
	text := fmt.Sprintf("%d numbers, %d active, %d devices; index %s", st.Registered.Numbers, st.Registered.Active, st.Registered.Devices, octets(st.IndexBytes))
	if st.Registered.External > 0 {
		text += fmt.Sprintf("; %d of the numbers told by external registries", st.Registered.External)
	}
	if !st.IndexReady {
		text += ", still loading: everything is forwarded"
	}
	if st.Registered.Corrupt > 0 {
		text += fmt.Sprintf("; %d records do not decode: see the log", st.Registered.Corrupt)
	}
	return text
}

const errorWidth = 60

func (a *app) sessionsCommand() *cobra.Command {
	c := a.remote(&cobra.Command{
		Use:     "sessions [ID|SYSTEM_ID]",
		Short:   "List the ESMEs' binds",
		Long:    "List the ESMEs' binds, or one by its id, or those of one account.",
		Example: "  shunt sessions\n  shunt sessions bank --json",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("sessions takes only one ID or SYSTEM_ID")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return a.ask(func(n *noc.Client) error {
				all, err := n.Sessions(c.Context())
				if err != nil {
					return err
				}
				if len(args) > 0 {
					all = slices.DeleteFunc(all, func(s noc.Session) bool {
						return s.SystemID != args[0] && strconv.FormatUint(s.ID, 10) != args[0]
					})
					if len(all) == 0 {
						return fmt.Errorf("no bind has the id or system_id %q", args[0])
					}
				}
				if a.json {
					return a.writeJSON(map[string][]noc.Session{"sessions": all})
				}
				if len(all) == 0 {
					_, err = fmt.Fprintln(a.out, "no binds")
					return err
				}
				now := time.Now()
				return a.table(func(w io.Writer) {
					row(w, "ID", "SYSTEM_ID", "BIND", "STATE", "VERSION", "PEER", "UPSTREAM", "AGE", "PDUS IN", "PDUS OUT", "PDUS/S", "WINDOW IN", "WINDOW OUT", "LAST ERROR")
					for _, s := range all {
						row(w, s.ID, short(s.SystemID), s.Bind, s.State, s.Version, s.Peer, s.Upstream, age(now, s.Since),
							s.PDUsIn, s.PDUsOut, s.Rate, s.WindowIn, s.WindowOut, shortened(s.LastError, errorWidth))
					}
				})
			})
		},
	})
	return completes(c, a.names(noc.NamesAccounts, noc.NamesSessions), nil)
}

// label names the first of several rows.
func label(i int, name string) string {
	if i == 0 {
		return name
	}
	return " " // row would show an empty cell as "-"
}

// counts lists what is not zero, in the order of the names.
func counts[K cmp.Ordered, V int | uint64](m map[K]V) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if m[k] != 0 {
			parts = append(parts, fmt.Sprintf("%v %d", k, m[k]))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// age is how long ago t was, in whole seconds.
func age(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return max(now.Sub(t), 0).Round(time.Second).String()
}

// octets is n in the largest binary unit that keeps a digit before the point.
func octets(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/unit, 0
	for ; v >= unit && i < 3; i++ {
		v /= unit
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGT"[i])
}
