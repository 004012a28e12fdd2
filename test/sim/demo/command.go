package demo

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Command is `shuntsim demo`.
func Command() *cobra.Command {
	o := Options{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "The whole story on loopback: gateway, SMSC, ESMEs, push providers, phones",
		Long: `Starts the gateway and all simulators as processes on loopback, registers some
thousand numbers, sends messages through two ESMEs, and accounts for every one
of them. It needs no root, no carrier and no Internet, takes about half a minute,
and fails if one message is lost, doubled or altered or one receipt is missing.`,
		Example: `  shuntsim demo --shunt ./shunt
  shuntsim demo --shunt ./shunt --messages 50000 --timeout 5m
  shuntsim demo --shunt ./shunt --kill 4 --messages 20000 --timeout 3m
  shuntsim demo --shunt ./shunt --keep --dir /tmp/demo`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Sim, err = os.Executable(); err != nil {
				return err
			}
			if o.Shunt == "" {
				o.Shunt = filepath.Join(filepath.Dir(o.Sim), "shunt")
			}
			found, err := exec.LookPath(o.Shunt)
			if err != nil {
				return fmt.Errorf("the gateway's binary (--shunt): %w", err)
			}
			if o.Shunt, err = filepath.Abs(found); err != nil {
				return err
			}
			o.Out, o.Progress = cmd.OutOrStdout(), cmd.ErrOrStderr()
			o.Terminal = term.IsTerminal(int(os.Stderr.Fd()))
			return Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Shunt, "shunt", "", "path of the gateway's binary (default: shunt beside this one)")
	f.StringVar(&o.Dir, "dir", "", "working directory (default: a temporary one, removed after success)")
	f.IntVar(&o.Messages, "messages", 12_000, "messages to send")
	f.IntVar(&o.Numbers, "numbers", 3_000, "numbers to register; as many again are not registered")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of every random choice")
	f.BoolVar(&o.Keep, "keep", false, "leave everything running until Ctrl-C")
	f.IntVar(&o.Kills, "kill", 0, "kill -9 the gateway so often under the load, and start it again")
	f.BoolVar(&o.Verbose, "verbose", false, "have the gateway log all that it can, every step of each message too")
	f.DurationVar(&o.Timeout, "timeout", 55*time.Second, "give up after this time")
	return cmd
}
