// Shuntsim holds the simulators: everything that stands around the gateway,
// so that it can be seen, tested and measured without a carrier.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"shunt/test/sim/apns"
	"shunt/test/sim/demo"
	"shunt/test/sim/esme"
	"shunt/test/sim/fcm"
	"shunt/test/sim/handset"
	"shunt/test/sim/smsc"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			fmt.Fprintln(os.Stderr, "shuntsim:", err)
		}
		os.Exit(1)
	}
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "shuntsim",
		Short: "The simulators around the Shunt gateway",
		Long: `The simulators around the Shunt gateway: an SMSC behind it, ESMEs before it,
the push providers and the handsets with the app beside it. Each speaks its real
protocol over sockets, ends on SIGINT or SIGTERM with a JSON summary on stdout,
and exits non-zero on a fault. Random choices come from --seed.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	cmd.AddCommand(smsc.Command(), esme.Command(), apns.Command(), fcm.Command(), handset.Command(), demo.Command())
	return cmd
}
