package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
)

// version is set by the build with -ldflags "-X main.version=…".
var version string

// built is when what was built was committed (RFC 3339), set by the build with
// -ldflags "-X main.built=…".
var built string

// buildTime is built, or what the Go command noted; false: nobody knows.
func buildTime() (time.Time, bool) {
	text := built
	if b, ok := debug.ReadBuildInfo(); ok && text == "" {
		for _, s := range b.Settings {
			if s.Key == "vcs.time" {
				text = s.Value
			}
		}
	}
	t, err := time.Parse(time.RFC3339, text)
	return t, err == nil
}

// buildVersion is version, or what the Go command noted when it built us.
func buildVersion() string {
	if version != "" {
		return version
	}
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "(devel)"
}

func (a *app) versionCommand() *cobra.Command {
	return a.withJSON(&cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  shunt version --json",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.writeJSON(struct {
					Version string `json:"version"`
					Go      string `json:"go"`
				}{buildVersion(), runtime.Version()})
			}
			_, err := fmt.Fprintf(a.out, "shunt %s %s\n", buildVersion(), runtime.Version())
			return err
		},
	})
}
