package apns

import (
	"github.com/spf13/cobra"

	"shunt/test/sim/provider"
)

// Command is `shuntsim apns`.
func Command() *cobra.Command {
	var f provider.Flags
	var o Options
	cmd := &cobra.Command{
		Use:   "apns --pki DIR",
		Short: "Simulate Apple's push service",
		Long: `Simulate Apple's push service: HTTP/2 over TLS with a CA of its own.

Every request is checked as Apple checks it: provider token, headers, payload.
A push that passes is streamed to the readers of GET /pushes on the control
listener. Faults, latency and outcomes are set by flags and, while it runs, by
POST /outcome. At the end the counters are printed as JSON.`,
		Example: `  shuntsim apns --pki /tmp/pki --listen 127.0.0.1:2197 --control 127.0.0.1:2196 \
      --latency 50ms --outcome 'dead*=410:Unregistered' --outcome 'busy*=429:TooManyRequests:5'
  curl -N http://127.0.0.1:2196/pushes
  curl -d '{"frozen":true}' http://127.0.0.1:2196/outcome`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Options, err = f.Finish(); err != nil {
				return err
			}
			s, err := New(o)
			if err != nil {
				return err
			}
			return f.Run(cmd, s)
		},
	}
	f.Add(cmd)
	cmd.Flags().StringVar(&o.KeyFile, "key-file", "", "the provider's .p8 `file`; made if it is missing (default apns.p8 in the PKI directory)")
	cmd.Flags().StringVar(&o.TeamID, "team-id", "", "the only `team` to accept (default any)")
	cmd.Flags().StringVar(&o.KeyID, "key-id", "", "the only `key` id to accept (default any)")
	cmd.Flags().StringVar(&o.Topic, "topic", "", "the only `topic` to accept (default any)")
	return cmd
}
