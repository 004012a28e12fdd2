package fcm

import (
	"time"

	"github.com/spf13/cobra"

	"shunt/test/sim/provider"
)

// Command is `shuntsim fcm`.
func Command() *cobra.Command {
	var f provider.Flags
	var o Options
	cmd := &cobra.Command{
		Use:   "fcm --pki DIR",
		Short: "Simulate Firebase Cloud Messaging",
		Long: `Simulate Firebase Cloud Messaging (HTTP v1) and the OAuth token endpoint that
its service account names, over TLS with a CA of its own.

Every request is checked as Google checks it: the JWT-bearer grant, the OAuth
token, the message's shape and reserved data keys. A push that passes is
streamed to the readers of GET /pushes on the control listener. Faults,
latency and outcomes are set by flags and, while it runs, by POST /outcome.
At the end the counters are printed as JSON.`,
		Example: `  shuntsim fcm --pki /tmp/pki --listen 127.0.0.1:2198 --control 127.0.0.1:2195 \
      --latency 50ms --outcome 'dead*=404:UNREGISTERED' --outcome 'busy*=429:QUOTA_EXCEEDED:5'
  curl -N http://127.0.0.1:2195/pushes
  curl -d '{"token_frozen":true}' http://127.0.0.1:2195/outcome`,
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
	cmd.Flags().StringVar(&o.ServiceAccountFile, "service-account", "", "the service account's `file`; made if it is missing (default fcm.json in the PKI directory)")
	cmd.Flags().StringVar(&o.ProjectID, "project", defaultProject, "the only `project` to accept")
	cmd.Flags().DurationVar(&o.TokenTTL, "token-ttl", time.Hour, "`time` that an OAuth token lives")
	return cmd
}
