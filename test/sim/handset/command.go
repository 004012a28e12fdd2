package handset

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// Command is `shuntsim handset`. It runs until its context ends, prints a
// Summary in JSON and fails if a phone saw what must not be.
func Command() *cobra.Command {
	var o Options
	cmd := &cobra.Command{
		Use:   "handset",
		Short: "Simulated phones with the app: take pushes, claim, acknowledge, go offline",
		Example: `  shuntsim handset --api http://127.0.0.1:8443 --pushes 127.0.0.1:2196 --pushes 127.0.0.1:2195 \
      --devices devices.ndjson --offline 0.1 --late 0.02 --twice 0.05 --sync 0.05 --book handset.ndjson`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sum, err := Run(cmd.Context(), o)
			if sum.Claims != nil {
				if e := json.NewEncoder(cmd.OutOrStdout()).Encode(sum); err == nil {
					err = e
				}
			}
			if err == nil && sum.Faults+sum.Overload > 0 {
				err = fmt.Errorf("%d faults, %d pushes too many: see the book", sum.Faults, sum.Overload)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.API, "api", "", "base URL of the gateway's API (required)")
	f.StringSliceVar(&o.Pushes, "pushes", nil, "control address of a push simulator; repeatable (required)")
	f.StringVar(&o.Devices, "devices", "", "NDJSON file of the phones: number, app, platform, token, device, bearer (required)")
	f.StringVar(&o.ReadyFile, "ready-file", "", "write this file when all pushes are subscribed to")
	f.StringVar(&o.Book, "book", "", "write one JSON line a message to this file")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of every random choice")
	f.Float64Var(&o.Offline, "offline", 0, "share that is never claimed")
	f.Float64Var(&o.Late, "late", 0, "share that is claimed after the push expired")
	f.Float64Var(&o.NeverAck, "never-ack", 0, "share that is claimed and never acknowledged")
	f.Float64Var(&o.Twice, "twice", 0, "share that is claimed twice")
	f.Float64Var(&o.Sync, "sync", 0, "share for which the phone lists its messages first")
	f.Float64Var(&o.Read, "read", 0.5, "share of the acknowledged that is read too")
	f.DurationVar(&o.ClaimDelay, "claim-delay", 100*time.Millisecond, "mean time from push to claim")
	f.DurationVar(&o.AckDelay, "ack-delay", 50*time.Millisecond, "mean time from claim to acknowledgement")
	f.DurationVar(&o.LateBy, "late-by", 500*time.Millisecond, "how long after its end a late push is claimed")
	f.DurationVar(&o.RetryFor, "retry-for", 30*time.Second, "how long calls without an answer are repeated")
	f.IntVar(&o.Concurrency, "concurrency", 64, "calls under way at a time")
	return cmd
}
