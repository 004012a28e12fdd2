package demo

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"shunt/test/sim/books"
)

// table prints the outcomes, a row each.
func table(w io.Writer, r *books.Report) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "outcome\tmessages\treceipts asked\tmatched\tp50\tp99\t")
	var all []time.Duration
	row := func(name, key string, n int) {
		l := r.Latencies[key]
		all = append(all, l...)
		_, _ = fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\t%s\t\n", name, n, r.Asked[key], r.Matched[key], quantile(l, 0.5), quantile(l, 0.99))
	}
	row("forwarded", "forwarded", r.Forwarded)
	row("claimed in the app", "claimed", r.Claimed)
	row("fell back to SMS", "fell-back", r.FellBack)
	row("expired", "expired", r.Expired)
	if r.Refused > 0 {
		_, _ = fmt.Fprintf(t, "refused by the SMSC\t%d\t\t\t\t\t\n", r.Refused)
	}
	if r.Unanswered > 0 {
		_, _ = fmt.Fprintf(t, "never answered\t%d\t\t\t\t\t\n", r.Unanswered)
	}
	_, _ = fmt.Fprintf(t, "together\t%d\t%d\t%d\t%s\t%s\t\n", r.Messages, r.ReceiptsAsked, r.ReceiptsMatched, quantile(all, 0.5), quantile(all, 0.99))
	_ = t.Flush()
	_, _ = fmt.Fprintf(w, "\nIn the app %d delivered, %d of them read. At the SMSC: forwarded %s; fallen back %s.\n",
		r.Delivered, r.Read, counts(r.ForwardedFinal), counts(r.FellBackFinal))
	_, _ = fmt.Fprintln(w, "p50 and p99: from submit_sm to submit_sm_resp.")
}

func quantile(l []time.Duration, q float64) string {
	if len(l) == 0 {
		return "-"
	}
	s := slices.Sorted(slices.Values(l))
	d := s[min(int(q*float64(len(s))), len(s)-1)]
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}

func counts(m map[string]int) string {
	var parts []string
	for state, n := range m {
		parts = append(parts, fmt.Sprintf("%d %s", n, state))
	}
	if len(parts) == 0 {
		return "none"
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
