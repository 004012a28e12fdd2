package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write the manual pages",
		Long:    "Write a manual page for each command to DIR, which is made if it is not there.",
		Example: "  shunt man /usr/local/share/man/man1",
		Args:    oneArg("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := c.Root()
			root.DisableAutoGenTag = true // the same pages at every build
			h := &doc.GenManHeader{Title: "SHUNT", Section: "1", Source: "shunt " + buildVersion(), Manual: "Shunt"}
			if err := doc.GenManTree(root, h, args[0]); err != nil {
				return fmt.Errorf("manual pages: %w", err)
			}
			return nil
		},
	}
}
