package smsc

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

// Command is `shuntsim smsc`. It runs until its context ends and prints a
// Summary in JSON.
func Command() *cobra.Command {
	var o Options
	var accounts, id string
	cmd := &cobra.Command{
		Use:   "smsc",
		Short: "A simulated SMSC: accepts messages, sends receipts, keeps a book",
		Example: `  shuntsim smsc --listen 127.0.0.1:2776 --accounts bank:secret,shunt:secret \
      --latency 20ms --jitter 5ms --receipt-delay 500ms --fail-rate 0.02 --id hex --book smsc.ndjson`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Accounts, err = ParseAccounts(accounts); err != nil {
				return err
			}
			o.ID = IDForm(id)
			s, err := New(o)
			if err != nil {
				return err
			}
			if err := s.Start(cmd.Context()); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "smsc: listening on %s, seed %d\n", s.Addr(), o.Seed)
			<-cmd.Context().Done()
			err = s.Close()
			if e := json.NewEncoder(cmd.OutOrStdout()).Encode(s.Summary()); err == nil {
				err = e
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Listen, "listen", "127.0.0.1:0", "address to listen on")
	f.StringVar(&o.AddrFile, "addr-file", "", "write the chosen address to this file as JSON")
	f.StringVar(&accounts, "accounts", "", `accepted binds as "id:password,…"; empty: any`)
	f.Uint64Var(&o.Seed, "seed", 1, "seed of every random choice")
	f.DurationVar(&o.Latency, "latency", 0, "delay of submit_sm_resp")
	f.DurationVar(&o.Jitter, "jitter", 0, "the delay varies by this much, both ways")
	f.Float64Var(&o.ErrorRate, "error-rate", 0, "share of submit_sm refused with --error-status")
	f.Uint32Var(&o.ErrorStatus, "error-status", 8, "command_status of such refusals")
	f.Float64Var(&o.ThrottleRate, "throttle-rate", 0, "share of submit_sm refused with ESME_RTHROTTLED")
	f.BoolVar(&o.Unacked, "unacked", false, "accept and never answer")
	f.StringVar(&id, "id", "hex", "form of message ids: hex, dec, hex-resp-dec-receipt, dec-resp-hex-receipt, ulid")
	f.DurationVar(&o.ReceiptDelay, "receipt-delay", 0, "time from acceptance to the receipt")
	f.Float64Var(&o.ReceiptBeforeResp, "receipt-before-resp-rate", 0, "share of receipts sent before the response")
	f.Float64Var(&o.FailRate, "fail-rate", 0, "share that ends UNDELIV")
	f.Float64Var(&o.ExpireRate, "expire-rate", 0, "share that ends EXPIRED")
	f.Float64Var(&o.MORate, "mo-rate", 0, "messages of its own a second")
	f.StringVar(&o.Book, "book", "", "write one JSON line a submit_sm to this file")
	f.BoolVar(&o.Lasting, "lasting", false, "go on with the book of a process that was killed, and with the receipts that it owed")
	f.BoolVar(&o.Sink, "sink", false, "answer every submit_sm at once and do nothing else")
	f.IntVar(&o.Window, "window", 100, "unanswered deliver_sm a bind")
	f.IntVar(&o.Held, "held", 500_000, "messages with an open receipt; above it ESME_RMSGQFUL")
	return cmd
}
