package noc

import (
	"bytes"
	"strings"
)

// help says what a metric is, for Prometheus' HELP lines. A name without a text
// here fails a test.
var help = map[string]string{
	"shunt_info":                         "1; the gateway's version and node are labels",
	"shunt_start_time_seconds":           "When the gateway was started, since 1970",
	"shunt_divert_mode":                  "1 for the place of the switch: on, shadow or off",
	"shunt_fail_open":                    "1 for what keeps everything from being diverted; messages pass all the same",
	"shunt_alarm":                        "1 while an alarm is raised",
	"shunt_alarms_raised_total":          "Alarms that were raised",
	"shunt_registry_ready":               "1 once the registry's index is loaded",
	"shunt_registry_index_bytes":         "Memory of the registry's index",
	"shunt_registry_numbers":             "Registered numbers",
	"shunt_registry_active_numbers":      "Registered numbers with an active device",
	"shunt_registry_devices":             "Registered devices",
	"shunt_registry_external_numbers":    "Numbers that only an external registry knows",
	"shunt_registry_corrupt_records":     "Records of the registry that cannot be read",
	"shunt_binds":                        "Binds of ESMEs",
	"shunt_own_bind_up":                  "1 while Shunt is bound to that SMSC itself",
	"shunt_own_bind_window_used":         "Requests on Shunt's own bind without an answer",
	"shunt_push_breaker_open":            "1 while a provider takes no pushes of an app",
	"shunt_push_breaker_trips_total":     "Times at which a provider's breaker opened",
	"shunt_push_seconds":                 "What a push took until the provider's answer",
	"shunt_pushes_total":                 "Pushes, by outcome",
	"shunt_spool_messages":               "Diverted messages without an outcome, by state",
	"shunt_spool_ended_total":            "Diverted messages that have an outcome, by it",
	"shunt_spool_live_messages":          "Diverted messages without an outcome, or whose receipt is not taken",
	"shunt_spool_max_messages":           "How many of them the spool takes",
	"shunt_spool_queued":                 "Changes that wait for a commit",
	"shunt_spool_stalled":                "1 while the spool's disk does not answer",
	"shunt_spool_doubtful_messages":      "Messages whose last change may not be on disk",
	"shunt_spool_puts_total":             "Messages that were taken into the spool",
	"shunt_spool_full_total":             "Messages that were forwarded because the spool was full",
	"shunt_spool_withdrawn_total":        "Messages that were forwarded because the disk did not answer in time",
	"shunt_spool_failures_total":         "Commits that failed",
	"shunt_spool_commits_total":          "Commits, an fsync each",
	"shunt_spool_commit_seconds_total":   "Time of all commits",
	"shunt_spool_commit_last_seconds":    "Time of the last commit",
	"shunt_spool_commit_max_seconds":     "Time of the longest commit",
	"shunt_edge_refused_total":           "Connections, binds and blocks at the edge, by what refused them",
	"shunt_fallback_sent_total":          "SMS that were sent because the app did not claim in time",
	"shunt_fallback_retried_total":       "Fallback SMS that were sent again after a temporary error",
	"shunt_fallback_resubmitted_total":   "Fallback SMS of unknown fate that were sent again",
	"shunt_receipts_sent_total":          "Receipts that ESMEs have taken",
	"shunt_receipts_waiting":             "Receipts that wait for a bind or an answer",
	"shunt_replies_delivered_total":      "Replies of the app that ESMEs have taken",
	"shunt_replies_refused_total":        "Replies of the app that ESMEs have refused",
	"shunt_replies_given_up_total":       "Replies of the app that no ESME took in time",
	"shunt_replies_waiting":              "Replies of the app that no ESME has taken yet",
	"shunt_otel_sent_total":              "Spans that the collector has taken",
	"shunt_otel_dropped_total":           "Changes and spans that found no room, or that the collector did not take",
	"shunt_cdr_written_total":            "Lines of call detail records",
	"shunt_cdr_dropped_total":            "Lines of forwarded messages that had no place",
	"shunt_cdr_failing":                  "1 while call detail records cannot be written",
	"shunt_submits_total":                "Decisions about submits, by account and reason",
	"shunt_submit_response_seconds":      "From a submit_sm to its answer; of forwarded ones one at a time on each bind",
	"shunt_divert_claim_seconds":         "From a diverted message to the app's claim",
	"shunt_external_lookups_total":       "Look-ups in external registries, by result",
	"shunt_external_lookup_seconds":      "What a look-up in an external registry took",
	"shunt_external_breaker_trips_total": "Times at which an external registry's breaker opened",
	"shunt_external_lookups_under_way":   "Look-ups that an external registry has not answered",
	"shunt_external_cached_numbers":      "Numbers in the cache of an external registry",
	"shunt_external_breaker_open":        "1 while an external registry is not asked",
}

// helpOf is the text of a metric. Those of the process and of Go's runtime come
// from a library that says nothing of them but their names.
func helpOf(name string) string {
	if words, ok := strings.CutPrefix(name, "go_"); ok {
		return "Of Go's runtime: " + strings.ReplaceAll(words, "_", " ")
	}
	if words, ok := strings.CutPrefix(name, "process_"); ok {
		return "Of the process: " + strings.ReplaceAll(words, "_", " ")
	}
	return help[name]
}

// family is the metric that a line of the text format belongs to, and its type.
func family(line []byte) (name, kind string) {
	end := bytes.IndexAny(line, "{ ")
	if end <= 0 || line[0] == '#' {
		return "", ""
	}
	name = string(line[:end])
	switch {
	case strings.HasSuffix(name, "_total"):
		return name, "counter"
	case !strings.HasPrefix(name, "shunt_"):
		return name, "untyped"
	}
	for _, suffix := range [...]string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(name, suffix); ok {
			return base, "histogram"
		}
	}
	return name, "gauge"
}

// withHelp puts HELP and TYPE before the lines of each metric, and all
// lines of a metric together, as the format wants it.
func withHelp(text []byte) []byte {
	type group struct {
		head  string
		lines []byte
	}
	var order []*group
	ours := make(map[string]*group)
	rest := &group{}
	for line := range bytes.Lines(text) {
		name, kind := family(line)
		g := rest
		if name != "" {
			if g = ours[name]; g == nil {
				g = &group{head: "# HELP " + name + " " + helpOf(name) + "\n# TYPE " + name + " " + kind + "\n"}
				ours[name] = g
				order = append(order, g)
			}
		}
		g.lines = append(g.lines, line...)
	}
	out := make([]byte, 0, len(text)+len(text)/2)
	for _, g := range append(order, rest) {
		out = append(append(out, g.head...), g.lines...)
	}
	return out
}
