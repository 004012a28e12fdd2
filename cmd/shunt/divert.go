package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"shunt/gateway/noc"
)

var divertModes = []string{"on", "shadow", "off"}

func (a *app) divertCommand() *cobra.Command {
	return a.remote(&cobra.Command{
		Use:   "divert [on|shadow|off]",
		Short: "Switch diversion, or show the switch",
		Long: "Switch diversion with effect on the next message; the switch survives a restart.\n" +
			"shadow decides and counts, and diverts nothing. Without an argument the switch is shown.",
		Example:   "  shunt divert shadow",
		ValidArgs: divertModes,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && !slices.Contains(divertModes, args[0]) {
				return usagef("%s: want on, shadow or off", name(c))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return a.ask(func(n *noc.Client) (err error) {
				var mode string
				if len(args) == 0 {
					mode, err = n.Divert(c.Context())
				} else {
					mode, err = n.SetDivert(c.Context(), args[0])
				}
				if err != nil {
					return err
				}
				if a.json {
					return a.writeJSON(map[string]string{"mode": mode})
				}
				_, err = fmt.Fprintf(a.out, "divert %s\n", mode)
				return err
			})
		},
	})
}
