package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"shunt/gateway/config"
	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/smpp/pdu"
)

func (a *app) explainCommand() *cobra.Command {
	var (
		q              noc.ExplainRequest
		text, validity string
		dataCoding     uint8
	)
	c := &cobra.Command{
		Use:   "explain --from S --to N",
		Short: "Tell what would become of a message, and why",
		Long: "Tell what would become of a message, and why: a dry run that sends and stores nothing.\n" +
			"Every check is shown in the order in which it is asked, with what it looked at; the first\n" +
			"that FAILED decides, and those behind it are in brackets. The text is neither logged nor\n" +
			"shown; without --text an ordinary one is imagined. Without --esme it comes from some ESME\n" +
			"that has no [[account]]. Without --data-coding the text is in the account's default\n" +
			"alphabet, or in UCS2 if it does not fit. A VALIDITY is a duration such as 90s, 2h or 1d, or\n" +
			"a validity_period of 16 characters.",
		Example: `  shunt explain --from Parcel24 --to +447700900042 --text "Your parcel comes on Monday." --esme shop` + "\n" +
			"  shunt explain --from 112 --to +447700900042 --data-coding 0xF0 --json",
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if c.Flags().Changed("text") {
				q.Text = &text
			}
			if c.Flags().Changed("data-coding") {
				q.DataCoding = &dataCoding
			}
			var err error
			if q.Validity, err = validityPeriod(validity); err != nil {
				return err
			}
			return a.ask(func(n *noc.Client) error {
				e, err := n.Explain(c.Context(), &q, a.unmask)
				if err != nil {
					return err
				}
				if a.json {
					return a.writeJSON(e)
				}
				return a.printExplanation(&e)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&q.From, "from", "", "the source address")
	f.StringVar(&q.To, "to", "", "the destination address, as the ESME would write it")
	f.StringVar(&text, "text", "", "the text")
	f.StringVar(&q.ESME, "esme", "", "the system_id that it comes from")
	f.StringVar(&q.ServiceType, "service-type", "", "service_type")
	f.Uint8Var(&dataCoding, "data-coding", 0, "data_coding, decimal or 0x…")
	f.Uint8Var(&q.ESMClass, "esm-class", 0, "esm_class, decimal or 0x…")
	f.Uint8Var(&q.ProtocolID, "protocol-id", 0, "protocol_id, decimal or 0x…")
	f.Uint8Var(&q.RegisteredDelivery, "registered-delivery", 0, "registered_delivery, decimal or 0x…")
	f.StringVar(&validity, "validity", "", "how long it is worth sending (default: as the SMSC has it)")
	f.Uint8Var(&q.Priority, "priority", 0, "priority_flag")
	for _, name := range []string{"from", "to"} {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err) // there is no such flag
		}
	}
	return completes(a.showsNumbers(a.remote(c)), nil, map[string]completion{
		"to": a.names(noc.NamesNumbers), "esme": a.names(noc.NamesAccounts),
	})
}

// validityPeriod is a duration as a relative time; what is one of SMPP stays.
func validityPeriod(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if _, err := pdu.Time([]byte(s), time.Time{}); err == nil {
		return s, nil
	}
	d, err := config.ParseDuration(s)
	if err != nil || d < 0 || d > 99*24*time.Hour {
		return "", usagef("--validity: want a duration up to 99d, such as 90s, 2h or 1d, or a validity_period of 16 characters")
	}
	return pdu.RelativeTime(d), nil
}

func (a *app) printExplanation(e *noc.Explanation) error {
	err := a.table(func(w io.Writer) {
		row(w, "verdict", fmt.Sprintf("%s: %s", e.Verdict, e.Reason))
		from := fmt.Sprintf("%s, of ESME %s", e.From, e.ESME)
		if e.ESME == "" {
			from = e.From + ", of an ESME without an [[account]]"
		}
		row(w, "from", from)
		row(w, "to", e.To)
		if e.App != "" {
			row(w, "app", e.App)
		}
		if e.Plan != "" {
			row(w, "plan", e.Plan)
		}
		if !e.ClaimBy.IsZero() {
			row(w, "claim by", stamp(e.ClaimBy))
			row(w, "expires", stamp(e.ExpiresAt))
		}
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(a.out)
	return a.table(func(w io.Writer) {
		row(w, "CHECK", "RESULT", "REASON", "LOOKED AT")
		for _, c := range e.Checks {
			result, reason := c.Outcome, c.Reason.String()
			switch {
			case c.Decides:
				result = strings.ToUpper(result)
			case c.After:
				result = "(" + result + ")"
				if c.Reason != msg.NoReason {
					reason = "(" + reason + ")"
				}
			}
			row(w, c.Check, result, reason, c.Value)
		}
	})
}
