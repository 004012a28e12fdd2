package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"shunt/gateway/config"
)

// fault is a config.Fault as scripts see it.
type fault struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Col     int    `json:"col"`
	Key     string `json:"key,omitempty"`
	Text    string `json:"text"`
	Warning bool   `json:"warning"`
}

func (a *app) checkCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:     "check",
		Short:   "Check a configuration file",
		Long:    "Print everything that is wrong with a configuration file, one fault a line with its place.\nExit 0 if the gateway would take it, 1 if not.",
		Example: "  shunt check -c /etc/shunt/shunt.toml",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			_, faults, err := config.Load(file)
			if err != nil {
				return err
			}
			fatal := config.Fatal(faults)
			if a.json {
				err = a.writeJSON(checkReport(file, faults, !fatal))
			} else {
				fmt.Fprint(a.out, config.Text(faults))
				if !fatal {
					fmt.Fprintf(a.out, "%s: ok\n", file)
				}
			}
			if err == nil && fatal {
				err = errSaid
			}
			return err
		},
	}
	configFlag(c, &file)
	return a.withJSON(c)
}

func checkReport(file string, faults []config.Fault, ok bool) any {
	list := make([]fault, 0, len(faults))
	for _, f := range faults {
		list = append(list, fault(f))
	}
	return struct {
		File   string  `json:"file"`
		OK     bool    `json:"ok"`
		Faults []fault `json:"faults"`
	}{file, ok, list}
}
