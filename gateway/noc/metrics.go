package noc

import (
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/VictoriaMetrics/metrics"

	"shunt/gateway/alarm"
	"shunt/gateway/msg"
)

// Labels come from peers: whatever an SMSC lets in has a system_id. Above
// maxAccounts of them the rest count as otherAccount, so that one peer cannot
// fill the NOC's time series.
const (
	maxAccounts  = 1000
	otherAccount = "(other)"
)

// writeMetrics writes what is known at this moment in Prometheus' text format.
// Everything is read from counters that exist anyway. No label is a number or
// an id. mu is held.
func (s *Web) writeMetrics(w io.Writer) {
	st := s.o.Gateway.Status()
	gauge(w, "shunt_info", 1, "version", st.Version, "node", st.Node)
	gauge(w, "shunt_start_time_seconds", float64(st.Started.UnixMilli())/1e3)
	for _, mode := range []string{"on", "shadow", "off"} {
		gauge(w, "shunt_divert_mode", truth(st.Divert == mode), "mode", mode)
	}
	for _, r := range FailOpenReasons {
		gauge(w, "shunt_fail_open", truth(slices.Contains(st.FailOpen, r.String())), "reason", r.String())
	}
	writeAlarms(w, &st)
	writeRegistry(w, &st)
	writeExternal(w, st.External)
	writeLegs(w, &st)
	writeSpool(w, &st)
	c := &st.Counters
	for _, r := range slices.Sorted(maps.Keys(c.Pushes)) {
		counter(w, "shunt_pushes_total", c.Pushes[r], "outcome", r)
	}
	for _, r := range slices.Sorted(maps.Keys(c.Edge)) {
		counter(w, "shunt_edge_refused_total", c.Edge[r], "reason", r)
	}
	counter(w, "shunt_fallback_sent_total", c.FallbackSent)
	counter(w, "shunt_fallback_retried_total", c.FallbackRetried)
	counter(w, "shunt_fallback_resubmitted_total", c.FallbackResubmitted)
	counter(w, "shunt_receipts_sent_total", c.ReceiptsSent)
	gauge(w, "shunt_receipts_waiting", float64(c.ReceiptsWaiting))
	counter(w, "shunt_replies_delivered_total", st.Spool.RepliesDelivered)
	counter(w, "shunt_replies_refused_total", st.Spool.RepliesRefused)
	counter(w, "shunt_replies_given_up_total", st.Spool.RepliesGivenUp)
	gauge(w, "shunt_replies_waiting", float64(st.Spool.Replies))
	if t := c.Traces; t != nil {
		counter(w, "shunt_otel_sent_total", t.Sent)
		counter(w, "shunt_otel_dropped_total", t.Dropped)
	}
	counter(w, "shunt_cdr_written_total", c.CDRWritten)
	counter(w, "shunt_cdr_dropped_total", c.CDRDropped)
	gauge(w, "shunt_cdr_failing", truth(c.CDRFailing))
	s.writeVerdicts(w)
	if s.o.Timings != nil {
		s.o.Timings(w)
	}
	metrics.WriteProcessMetrics(w)
}

// writeAlarms has a line for every alarm that there may be, so that a rule can
// tell one that is cleared from one that is not known.
func writeAlarms(w io.Writer, st *Status) {
	for i := range alarm.Kinds {
		name := alarm.Kinds[i].Name
		raised := slices.ContainsFunc(st.Alarms, func(a alarm.Alarm) bool { return a.Name == name })
		gauge(w, "shunt_alarm", truth(raised), "alarm", name)
	}
	counter(w, "shunt_alarms_raised_total", st.AlarmsRaised)
}

func writeRegistry(w io.Writer, st *Status) {
	gauge(w, "shunt_registry_ready", truth(st.IndexReady))
	gauge(w, "shunt_registry_index_bytes", float64(st.IndexBytes))
	gauge(w, "shunt_registry_numbers", float64(st.Registered.Numbers))
	gauge(w, "shunt_registry_active_numbers", float64(st.Registered.Active))
	gauge(w, "shunt_registry_external_numbers", float64(st.Registered.External))
	gauge(w, "shunt_registry_devices", float64(st.Registered.Devices))
	gauge(w, "shunt_registry_corrupt_records", float64(st.Registered.Corrupt))
}

func writeExternal(w io.Writer, all []ExternalRegistry) {
	for i := range all {
		r := &all[i]
		label := []string{"registry", r.Name}
		for _, result := range slices.Sorted(maps.Keys(r.Lookups)) {
			counter(w, "shunt_external_lookups_total", r.Lookups[result], "registry", r.Name, "result", result)
		}
		gauge(w, "shunt_external_breaker_open", truth(r.Breaker != "closed"), label...)
		counter(w, "shunt_external_breaker_trips_total", r.Trips, label...)
		gauge(w, "shunt_external_lookups_under_way", float64(r.Asking), label...)
		gauge(w, "shunt_external_cached_numbers", float64(r.Cached), label...)
		for _, b := range r.Latency {
			counter(w, "shunt_external_lookup_seconds_bucket", b.Count, "registry", r.Name, "le", strconv.FormatFloat(b.Within, 'g', -1, 64))
		}
		counter(w, "shunt_external_lookup_seconds_bucket", r.Count, "registry", r.Name, "le", "+Inf")
		metrics.WriteCounterFloat64(w, series("shunt_external_lookup_seconds_sum", label), r.Seconds)
		counter(w, "shunt_external_lookup_seconds_count", r.Count, label...)
	}
}

func writeLegs(w io.Writer, st *Status) {
	gauge(w, "shunt_binds", float64(st.Binds.Transmitter), "bind", "transmitter")
	gauge(w, "shunt_binds", float64(st.Binds.Receiver), "bind", "receiver")
	gauge(w, "shunt_binds", float64(st.Binds.Transceiver), "bind", "transceiver")
	for i := range st.Own {
		o := &st.Own[i]
		gauge(w, "shunt_own_bind_up", truth(o.State != "unbound"), "smsc", o.SMSC)
		gauge(w, "shunt_own_bind_window_used", float64(o.Window), "smsc", o.SMSC)
	}
	for i := range st.Push {
		l := &st.Push[i]
		gauge(w, "shunt_push_breaker_open", truth(l.Breaker != "closed"), "app", l.App, "provider", l.Provider)
		counter(w, "shunt_push_breaker_trips_total", l.Trips, "app", l.App, "provider", l.Provider)
	}
}

func writeSpool(w io.Writer, st *Status) {
	p := &st.Spool
	for _, state := range msg.States()[1:] { // also where there is none: a series that comes and goes cannot be reckoned with
		gauge(w, "shunt_spool_messages", float64(p.Live[state]), "state", state.String())
	}
	for _, state := range msg.States()[1:] {
		if state.Final() {
			counter(w, "shunt_spool_ended_total", p.Finals[state], "state", state.String())
		}
	}
	gauge(w, "shunt_spool_live_messages", float64(p.LiveTotal))
	gauge(w, "shunt_spool_max_messages", float64(p.Max))
	gauge(w, "shunt_spool_queued", float64(p.Queued))
	gauge(w, "shunt_spool_stalled", truth(p.Stalled))
	gauge(w, "shunt_spool_doubtful_messages", float64(p.Doubtful))
	counter(w, "shunt_spool_puts_total", p.Puts)
	counter(w, "shunt_spool_full_total", p.Full)
	counter(w, "shunt_spool_withdrawn_total", p.Withdrawn)
	counter(w, "shunt_spool_failures_total", p.Failures)
	counter(w, "shunt_spool_commits_total", p.Commits)
	metrics.WriteCounterFloat64(w, "shunt_spool_commit_seconds_total", p.CommitTime.Seconds())
	gauge(w, "shunt_spool_commit_last_seconds", p.CommitLast.Seconds())
	gauge(w, "shunt_spool_commit_max_seconds", p.CommitMax.Seconds())
}

// writeVerdicts writes every decision by account and reason. Which accounts
// have a name of their own is settled as they are first seen: a counter must
// not change its label.
func (s *Web) writeVerdicts(w io.Writer) {
	var other map[string]uint64
	all := s.o.Gateway.Verdicts()
	for _, account := range slices.Sorted(maps.Keys(all)) {
		if !s.named[account] {
			if len(s.named) < maxAccounts {
				s.named[account] = true
			} else {
				if other == nil {
					other = make(map[string]uint64)
				}
				for r, n := range all[account] {
					other[r] += n
				}
				continue
			}
		}
		writeReasons(w, account, all[account])
	}
	writeReasons(w, otherAccount, other)
}

func writeReasons(w io.Writer, account string, reasons map[string]uint64) {
	for _, r := range slices.Sorted(maps.Keys(reasons)) {
		counter(w, "shunt_submits_total", reasons[r], "account", account, "reason", r)
	}
}

// FailOpenReasons are those for which nothing is diverted at all.
var FailOpenReasons = []msg.Reason{
	msg.ReasonNotReady, msg.ReasonSpoolFull, msg.ReasonSpoolStalled, msg.ReasonSpoolFailed, msg.ReasonFallbackUnbound,
}

func gauge(w io.Writer, name string, v float64, labels ...string) {
	metrics.WriteGaugeFloat64(w, series(name, labels), v)
}

func counter(w io.Writer, name string, v uint64, labels ...string) {
	metrics.WriteCounterUint64(w, series(name, labels), v)
}

// series is a name with its labels, which are pairs. A value may be any octets
// of a peer's: what the format cannot hold is replaced or escaped.
func series(name string, labels []string) string {
	if len(labels) == 0 {
		return name
	}
	b := append([]byte(name), '{')
	for i := 0; i < len(labels); i += 2 {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, labels[i]...), `="`...)
		b = append(appendLabel(b, labels[i+1]), '"')
	}
	return string(append(b, '}'))
}

func appendLabel(b []byte, v string) []byte {
	for _, r := range v { // octets that are no UTF-8 come as U+FFFD
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case !strconv.IsPrint(r):
			b = append(b, "\uFFFD"...)
		default:
			b = append(b, string(r)...)
		}
	}
	return b
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
