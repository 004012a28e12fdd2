package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"shunt/gateway/alarm"
	"shunt/gateway/noc"
)

func (a *app) alarmsCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "alarms",
		Short: "Show what is wrong at the moment, and what to do",
		Long: "Show the alarms that are raised, the critical ones first, each with what to do. An alarm is\n" +
			"raised when its condition has held for some seconds, and cleared when it is gone for some:\n" +
			"both are in the journal, in the metrics, and sent to [noc] alarm_webhook. Raised alarms are no\n" +
			"failure of the command: exit 0.",
		Example: "  shunt alarms\n  shunt alarms --all --json",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.ask(func(n *noc.Client) error {
				l, err := n.Alarms(c.Context())
				if err != nil {
					return err
				}
				if !all {
					l.Cleared = nil
				}
				return a.printAlarms(&l, time.Now())
			})
		},
	}
	c.Flags().BoolVar(&all, "all", false, "also what was cleared lately")
	return a.remote(c)
}

func (a *app) printAlarms(l *noc.AlarmList, now time.Time) error {
	rows := append(append([]alarm.Alarm{}, l.Raised...), l.Cleared...)
	if a.json {
		return a.writeJSON(map[string][]alarm.Alarm{"alarms": rows})
	}
	if len(l.Raised) == 0 {
		fmt.Fprintln(a.out, "no alarm is raised")
	}
	if len(rows) == 0 {
		return nil
	}
	err := a.table(func(w io.Writer) {
		row(w, "STATE", "SEVERITY", "ALARM", "SUBJECT", "SINCE", "CLEARED", "TEXT")
		for i := range rows {
			r := &rows[i]
			cleared := ""
			if r.State == alarm.Cleared {
				cleared = age(now, r.ClearedAt)
			}
			row(w, r.State, r.Severity, r.Name, short(r.Subject), age(now, r.Since), cleared, r.Text)
		}
	})
	said := make(map[string]bool)
	for i := range l.Raised {
		if r := &l.Raised[i]; !said[r.Name] {
			said[r.Name] = true
			fmt.Fprintf(a.out, "\n%s: %s\n", r.Name, r.WhatToDo)
		}
	}
	return err
}

// alarmLine is an alarm in a line of shunt status.
func alarmLine(r *alarm.Alarm, now time.Time) string {
	return fmt.Sprintf("%s: %s, for %s: %s", r.Severity, r.Name, age(now, r.Since), r.Text)
}
