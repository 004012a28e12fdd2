package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"shunt/gateway/noc"
)

func (a *app) reloadCommand() *cobra.Command {
	return a.remote(&cobra.Command{
		Use:   "reload",
		Short: "Have the gateway read its configuration again",
		Long: "Have the gateway read its configuration again, and wait until that is done. No bind is\n" +
			"dropped. A file with faults, or with a change that takes a restart, changes nothing:\n" +
			"each is printed, exit 1. Certificates and keys are read again too.",
		Example: "  shunt reload",
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.ask(func(n *noc.Client) error {
				r, err := n.Reload(c.Context())
				if err != nil {
					return err
				}
				if a.json {
					return a.writeJSON(r)
				}
				for _, w := range r.Warnings {
					fmt.Fprintln(a.out, w)
				}
				return a.table(func(w io.Writer) {
					row(w, "in use now", strings.Join(r.Changed, ", "))
				})
			})
		},
	})
}
