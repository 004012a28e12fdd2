package esme

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"shunt/smpp/pdu"
)

// Command is `shuntsim esme`. It prints a Summary in JSON and fails on any
// fault in it.
func Command() *cobra.Command {
	var o Options
	var version, progress string
	cmd := &cobra.Command{
		Use:   "esme",
		Short: "A simulated ESME: sends messages, measures responses, matches receipts",
		Example: `  shuntsim esme --addr 127.0.0.1:2775 --system-id bank --password secret --binds 2 --window 50 \
      --rate 500 --count 10000 --receipts 0.8 --mix gsm=60,ucs2=30,long=10 --book esme.ndjson --progress bar
  shuntsim esme --addr 127.0.0.1:2775 --system-id bank --password secret --client go-smpp --count 1000`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, ok := map[string]byte{"3.3": pdu.Version33, "3.4": pdu.Version34, "5.0": pdu.Version50}[version]
			if !ok {
				return fmt.Errorf("version %q: want 3.3, 3.4 or 5.0", version)
			}
			o.Version = v
			if err := setProgress(&o, progress, cmd.ErrOrStderr()); err != nil {
				return err
			}
			sum, err := Run(cmd.Context(), o)
			if sum.SystemID != "" {
				if e := json.NewEncoder(cmd.OutOrStdout()).Encode(sum); err == nil {
					err = e
				}
			}
			if err != nil {
				return err
			}
			return sum.Fault()
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Addr, "addr", "127.0.0.1:2775", "address of the SMSC or gateway")
	f.StringVar(&o.SystemID, "system-id", "esme", "system_id")
	f.StringVar(&o.Password, "password", "", "password")
	f.StringVar(&o.SystemType, "system-type", "", "system_type")
	f.StringVar(&o.Bind, "bind", "trx", "trx, or tx+rx for a transmitter and a receiver each")
	f.IntVar(&o.Binds, "binds", 1, "number of binds")
	f.StringVar(&version, "version", "3.4", "interface version: 3.3, 3.4 or 5.0")
	f.IntVar(&o.Window, "window", 50, "unanswered submit_sm a bind")
	f.Float64Var(&o.Rate, "rate", 0, "submit_sm a second over all binds; 0: no limit")
	f.IntVar(&o.Count, "count", 1000, "submit_sm to send; 0: until interrupted")
	f.DurationVar(&o.For, "for", 0, "send for so long; 0: no end but the count")
	f.IntVar(&o.Burst, "burst", 1, "up to so many messages in sequence from one sender to one destination")
	f.StringVar(&o.Numbers, "numbers", "", "file with one destination a line")
	f.StringVar(&o.NumberRange, "number-range", "", "destinations FROM-TO (default 447700900000-447700909999)")
	f.StringSliceVar(&o.From, "from", nil, "source addresses")
	f.StringVar(&o.Mix, "mix", mixStart, "kinds of text and their weights: gsm, gsm-ext, latin1, ucs2, emoji, payload, long, otp")
	f.Float64Var(&o.Receipts, "receipts", 1, "share that asks for a delivery receipt")
	f.Float64Var(&o.OnFailure, "on-failure", 0, "share that asks for a delivery receipt in case of failure only")
	f.DurationVar(&o.Validity, "validity", 0, "validity_period; 0: none")
	f.Float64Var(&o.ValidityShare, "validity-share", 1, "share of the messages that have the validity_period")
	f.DurationVar(&o.ReceiverUp, "receiver-up", 0, "with tx+rx: receivers unbind after so long, again and again; 0: never")
	f.DurationVar(&o.ReceiverDown, "receiver-down", 0, "with receiver-up: and bind again after so long")
	f.StringVar(&o.Client, "client", ClientShunt, "shunt or go-smpp")
	f.StringVar(&o.IDForm, "id", "raw", "how receipts name messages: raw, hex-resp-dec-receipt, dec-resp-hex-receipt")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of every random choice")
	f.StringVar(&o.Book, "book", "", "write one JSON line a message to this file")
	f.DurationVar(&o.ReceiptWait, "receipt-wait", 0, "give missing receipts up after so long without news (default 30s)")
	f.DurationVar(&o.Linger, "linger", 0, "stay bound so long after the last receipt")
	f.DurationVar(&o.Response, "response-timeout", 0, "time that a response may take (default 1m)")
	f.BoolVar(&o.Reconnect, "reconnect", false, "bind again after a lost connection and go on; unanswered messages are never sent again")
	f.StringVar(&progress, "progress", "off", "off, bar, or json: a line on stderr a few times a second")
	return cmd
}

func setProgress(o *Options, how string, w io.Writer) error {
	switch how {
	case "off":
	case "json":
		enc := json.NewEncoder(w)
		o.Progress = func(p Progress) { _ = enc.Encode(p) }
	case "bar":
		if !term.IsTerminal(int(os.Stderr.Fd())) {
			o.Progress = func(p Progress) {
				_, _ = fmt.Fprintf(w, "%d of %d answered, %d receipts\n", p.Answered, p.Count, p.Receipts)
			}
			return nil
		}
		bar := progressbar.NewOptions(o.Count, progressbar.OptionSetWriter(w), progressbar.OptionShowCount())
		o.Progress = func(p Progress) { _ = bar.Set(p.Answered) }
	default:
		return fmt.Errorf("progress %q: want off, bar or json", how)
	}
	return nil
}
