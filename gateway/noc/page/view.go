package page

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"shunt/gateway/msg"
	"shunt/gateway/noc"
)

// View is a snapshot in words, for the template and, as JSON, for the script:
// neither has to know what a figure means. What does not change is not in the
// JSON.
type View struct {
	frame  `json:"-"`
	Node   string  `json:"-"`
	At     string  `json:"at"`
	Health Health  `json:"health"`
	Glance []Fact  `json:"glance"`
	Rates  []Rate  `json:"rates"`
	Store  []Fact  `json:"store"`
	Tables []Table `json:"tables"`
}

// Health is the one line that a screen reader is told of by itself, so that
// nothing is in it that changes with every second.
type Health struct {
	Mark string `json:"mark"` // ok, warn or bad
	Line string `json:"line"`
}

// Fact is a figure with a name.
type Fact struct {
	ID    string `json:"id"`
	Name  string `json:"-"`
	Value string `json:"value"`
	Mark  string `json:"mark,omitempty"`
}

// Rate is a flow with its last two minutes.
type Rate struct {
	ID     string `json:"id"`
	Name   string `json:"-"`
	Note   string `json:"-"`
	Now    string `json:"now"`
	Peak   string `json:"peak"`
	Points string `json:"points"`
}

// Table is one with a caption. Note is said instead of rows, or below them.
type Table struct {
	ID      string   `json:"id"`
	Caption string   `json:"-"`
	Wide    bool     `json:"-"`
	Head    []string `json:"-"`
	Rows    []Row    `json:"rows"`
	Note    string   `json:"note,omitempty"`
}

// Row is a line of a table.
type Row struct {
	Mark  string   `json:"mark,omitempty"`
	Cells []string `json:"cells"`
}

// maxSessions bounds the page, whoever binds.
const maxSessions = 200

// look makes a view. Page.taking is held.
func (p *Page) look(now time.Time) *View {
	st := p.o.Gateway.Status()
	p.history.add(now, &st.Counters)
	v := &View{
		frame: p.frame, Node: st.Node, At: clock(now), Health: health(&st),
		Glance: glance(&st, now), Store: storeFacts(&st, now),
	}
	for i, r := range [flows]Rate{
		flowIn:        {ID: "in", Name: "In", Note: "submits from ESMEs"},
		flowForwarded: {ID: "out", Name: "Forwarded", Note: "to the SMSC"},
		flowDiverted:  {ID: "divert", Name: "Diverted", Note: "to an app"},
		flowFallback:  {ID: "fallback", Name: "Fallback", Note: "sent as SMS after all"},
	} {
		r.Now, r.Peak, r.Points = p.history.rate(i)
		v.Rates = append(v.Rates, r)
	}
	if p.o.Alarms != nil {
		v.Tables = append(v.Tables, alarmTable(p.o.Alarms.Active()))
	}
	v.Tables = append(v.Tables, sessionTable(p.o.Gateway.Sessions(), now), ownTable(&st), answerTable(&st), pushTable(&st, now), planTable(p.queue.of(p.o.Gateway, now), now), pendingTable(&st), reasonTable(&st))
	if p.o.Faults != nil {
		v.Tables = append(v.Tables, faultTable(p.o.Faults.Last()))
	}
	return v
}

// words of what /readyz has as codes.
var words = map[string]string{
	"index-loading":                    "the registry's index is loading",
	"no-upstream":                      "no upstream is bound",
	"draining":                         "the node is being drained",
	msg.ReasonNotReady.String():        "the registry's index is loading",
	msg.ReasonSpoolFull.String():       "the spool or its disk is full",
	msg.ReasonSpoolStalled.String():    "the spool's disk does not answer",
	msg.ReasonSpoolFailed.String():     "the spool cannot write",
	msg.ReasonFallbackUnbound.String(): "the own bind is down",
}

func inWords(codes []string) string {
	all := make([]string, 0, len(codes))
	for _, c := range codes {
		all = append(all, cmp.Or(words[c], c))
	}
	return strings.Join(all, ", ")
}

func health(st *noc.Status) Health {
	why := slices.DeleteFunc(noc.ReadinessOf(st).Why, func(w string) bool { return w == "draining" })
	h := Health{Mark: "ok", Line: "Ready, diverting"}
	switch {
	case len(why) > 0:
		h = Health{"bad", "Not ready: " + inWords(why)}
	case st.Transit:
		h = Health{"bad", "The disk is full, everything passes and nothing is diverted"}
	case st.Drain:
		h = Health{"warn", "What is pending is finished"}
	case st.Divert == "off":
		h = Health{"warn", "Ready, diversion is switched off"}
	case len(st.FailOpen) > 0:
		h = Health{"warn", "Ready, but nothing is diverted: " + inWords(st.FailOpen)}
	case st.Divert == "shadow":
		h = Health{"warn", "Ready, in shadow: deciding, diverting nothing"}
	}
	if st.Drain {
		h = Health{cmp.Or(map[string]string{"ok": "warn"}[h.Mark], h.Mark), "Draining: no new binds or submits. " + h.Line}
	}
	var open []string
	for i := range st.Push {
		if l := &st.Push[i]; l.Breaker != "closed" {
			open = append(open, l.App+" by "+l.Provider)
		}
	}
	if len(open) > 0 {
		h.Line += ". Pushes are held back: " + strings.Join(open, ", ")
		h.Mark = cmp.Or(map[string]string{"ok": "warn"}[h.Mark], h.Mark)
	}
	h.Line += "."
	return h
}

func markIf(bad bool, mark string) string {
	if bad {
		return mark
	}
	return ""
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func glance(st *noc.Status, now time.Time) []Fact {
	failing := "no"
	if len(st.FailOpen) > 0 {
		failing = inWords(st.FailOpen)
	}
	r := noc.ReadinessOf(st)
	return []Fact{
		{ID: "ready", Name: "Ready", Value: yesNo(r.Ready), Mark: markIf(!r.Ready, "bad")},
		{ID: "divert", Name: "Divert", Value: st.Divert, Mark: markIf(st.Divert != "on", "warn")},
		{ID: "failopen", Name: "Fails open", Value: failing, Mark: markIf(len(st.FailOpen) > 0 && st.Divert != "off", "warn")},
		{ID: "drain", Name: "Draining", Value: yesNo(st.Drain), Mark: markIf(st.Drain, "warn")},
		{ID: "binds", Name: "ESME binds", Value: binds(&st.Binds)},
		{ID: "pending", Name: "Pending", Value: count(st.Spool.LiveTotal)},
		{ID: "registered", Name: "Active numbers", Value: count(st.Registered.Active)},
		{ID: "up", Name: "Up", Value: age(now, st.Started)},
		{ID: "version", Name: "Version", Value: st.Version},
	}
}

// binds are those of ESMEs, by what they are.
func binds(b *noc.BindCounts) string {
	var kinds []string
	for i, n := range []int{b.Transmitter, b.Receiver, b.Transceiver} {
		if n > 0 {
			kinds = append(kinds, count(n)+" "+[]string{"tx", "rx", "trx"}[i])
		}
	}
	return cmp.Or(strings.Join(kinds, ", "), "none")
}

func storeFacts(st *noc.Status, now time.Time) []Fact {
	s, c := &st.Spool, &st.Counters
	mean := time.Duration(0)
	if s.Commits > 0 {
		mean = s.CommitTime / time.Duration(s.Commits)
	}
	fault := "none"
	if s.LastError != nil {
		fault = cause(s.LastError) + ", " + age(now, s.LastErrorAt) + " ago"
	}
	full := 0.0
	if s.Max > 0 {
		full = 100 * float64(s.LiveTotal) / float64(s.Max)
	}
	records := count(c.CDRWritten) + " written"
	if c.CDRFailing {
		records = "cannot be written"
	}
	return []Fact{
		{ID: "disk", Name: "Disk free", Value: strconv.FormatFloat(100*st.DiskFree, 'f', 0, 64) + " %", Mark: markIf(st.DiskFree < 0.12, "bad")},
		{ID: "full", Name: "Spool full", Value: strconv.FormatFloat(full, 'f', 1, 64) + " %", Mark: markIf(full >= 80, "warn")},
		{ID: "commit", Name: "Commit, last", Value: took(s.CommitLast)},
		{ID: "commitmean", Name: "Commit, mean", Value: took(mean)},
		{ID: "commitmax", Name: "Commit, slowest", Value: took(s.CommitMax)},
		{ID: "stalled", Name: "Disk answers", Value: yesNo(!s.Stalled), Mark: markIf(s.Stalled, "bad")},
		{ID: "failures", Name: "Commits failed", Value: count(s.Failures), Mark: markIf(s.Failures > 0, "warn")},
		{ID: "storefault", Name: "Last store fault", Value: fault},
		{ID: "queued", Name: "Waiting for the disk", Value: count(s.Queued)},
		{ID: "receipts", Name: "Receipts waiting", Value: count(c.ReceiptsWaiting)},
		{ID: "index", Name: "Index", Value: octets(st.IndexBytes) + markIf(!st.IndexReady, ", loading"), Mark: markIf(!st.IndexReady, "bad")},
		{ID: "cdr", Name: "Call detail records", Value: records, Mark: markIf(c.CDRFailing, "bad")},
	}
}

func alarmTable(all []Alarm) Table {
	t := Table{ID: "alarms", Caption: "Active alarms", Wide: true, Head: []string{"Severity", "Alarm", "Since", "What it means"}, Rows: []Row{}}
	for _, a := range all[:min(len(all), maxSessions)] {
		t.Rows = append(t.Rows, Row{markIf(a.Severity == "critical" || a.Severity == "major", "bad"), []string{a.Severity, a.Name, stamp(a.Since), a.Text}})
	}
	t.Note = none(t.Rows, "No alarm is active.")
	return t
}

// none is a note where there are no rows.
func none(rows []Row, note string) string {
	if len(rows) == 0 {
		return note
	}
	return ""
}

// crowded tells that a window is nearly full.
func crowded(used, most int) bool { return most > 0 && used*5 >= most*4 }

func sessionTable(all []noc.Session, now time.Time) Table {
	t := Table{
		ID: "sessions", Caption: "Sessions", Wide: true, Rows: []Row{},
		Head: []string{"Account", "Peer", "Bind", "State", "Up", "PDUs/s", "Window in", "Window out", "Last error"},
	}
	mark := func(s *noc.Session) string {
		return markIf(s.LastError != "" || crowded(s.WindowIn, s.WindowMax) || crowded(s.WindowOut, s.WindowMax), "warn")
	}
	order := func(a, b noc.Session) int {
		return cmp.Or(cmp.Compare(a.SystemID, b.SystemID), a.Since.Compare(b.Since), cmp.Compare(a.Peer, b.Peer))
	}
	total := len(all)
	if total > maxSessions {
		// Those with a mark first, and then by name, so that a row stays where it is.
		slices.SortFunc(all, func(a, b noc.Session) int {
			return cmp.Or(cmp.Compare(mark(&b), mark(&a)), order(a, b))
		})
		all = all[:maxSessions]
	}
	slices.SortFunc(all, order)
	for i := range all {
		s := &all[i]
		t.Rows = append(t.Rows, Row{mark(s), []string{
			clip(s.SystemID), s.Peer, clip(s.Bind + " " + s.Version.String()), s.State, age(now, s.Since), count(s.Rate),
			of(s.WindowIn, s.WindowMax), of(s.WindowOut, s.WindowMax), cmp.Or(safeText(s.LastError), "–"),
		}})
	}
	if t.Note = none(t.Rows, "Nobody is bound."); total > len(all) {
		t.Note = fmt.Sprintf("%s of %s sessions; shunt sessions lists all.", count(len(all)), count(total))
	}
	return t
}

func ownTable(st *noc.Status) Table {
	t := Table{ID: "own", Caption: "Own binds", Head: []string{"SMSC", "State", "Window", "Last error"}, Rows: []Row{}}
	for i := range st.Own {
		o := &st.Own[i]
		t.Rows = append(t.Rows, Row{ownMark(o.State), []string{clip(o.SMSC), o.State, of(o.Window, o.WindowMax), cmp.Or(safeText(o.LastError), "–")}})
	}
	t.Note = none(t.Rows, "None is configured: nothing can fall back, so nothing is diverted.")
	return t
}

// ownMark is that of a pool of own binds: none is up, or not all are.
func ownMark(state string) string {
	switch state {
	case "bound":
		return ""
	case "unbound":
		return "bad"
	}
	return "warn"
}

func pushTable(st *noc.Status, now time.Time) Table {
	t := Table{ID: "push", Caption: "Push lanes", Head: []string{"App", "Provider", "Breaker", "Opened", "Last failure"}, Rows: []Row{}}
	for i := range st.Push[:min(len(st.Push), maxSessions)] {
		l := &st.Push[i]
		breaker := l.Breaker
		if l.Breaker != "closed" && l.Until.After(now) {
			breaker += " for " + l.Until.Sub(now).Round(time.Second).String()
		}
		t.Rows = append(t.Rows, Row{markIf(l.Breaker != "closed", "warn"), []string{clip(l.App), l.Provider, breaker, count(l.Trips), cmp.Or(safeText(l.Reason), "–")}})
	}
	t.Note = none(t.Rows, "No app is configured.")
	return t
}

// queued is the queue as it was last asked for: to walk it may take long.
type queued struct {
	rows  []noc.Queue
	until time.Time
}

// of is the queue by plan and state, which takes at most a twentieth of the time
// to ask for. Page.taking is held.
func (q *queued) of(g Gateway, now time.Time) []noc.Queue {
	if now.Before(q.until) {
		return q.rows
	}
	type key struct {
		plan  string
		state msg.State
	}
	began := time.Now()
	sums := make(map[key]*noc.Queue)
	for _, r := range g.Queue() {
		k := key{r.Plan, r.State}
		if sums[k] == nil {
			sums[k] = &noc.Queue{QueueKey: noc.QueueKey{Plan: r.Plan, State: r.State}, Oldest: r.Oldest}
		}
		s := sums[k]
		s.Messages += r.Messages
		s.ReceiptsDue += r.ReceiptsDue
		if r.Oldest.Before(s.Oldest) {
			s.Oldest = r.Oldest
		}
	}
	q.rows = q.rows[:0]
	for _, s := range sums {
		q.rows = append(q.rows, *s)
	}
	slices.SortFunc(q.rows, func(a, b noc.Queue) int {
		return cmp.Or(cmp.Compare(a.Plan, b.Plan), cmp.Compare(a.State, b.State))
	})
	q.until = now.Add(20 * time.Since(began))
	return q.rows
}

func planTable(all []noc.Queue, now time.Time) Table {
	t := Table{ID: "plans", Caption: "Pending, by plan", Head: []string{"Plan", "State", "Messages", "Receipts due", "Oldest"}, Rows: []Row{}}
	for _, q := range all[:min(len(all), maxSessions)] {
		t.Rows = append(t.Rows, Row{"", []string{cmp.Or(clip(q.Plan), "–"), q.State.String(), count(q.Messages), count(q.ReceiptsDue), age(now, q.Oldest)}})
	}
	if t.Note = none(t.Rows, "Nothing is pending."); len(all) > maxSessions {
		t.Note = fmt.Sprintf("%s of %s rows; shunt queue has all.", count(maxSessions), count(len(all)))
	}
	return t
}

// slowAnswer has a leg marked: peers' timers and windows are made for less.
const slowAnswer = 1.0 // seconds, at the 99th percentile

func answerTable(st *noc.Status) Table {
	t := Table{ID: "answers", Caption: "Answers to submits, last minute", Head: []string{"Answered by", "Answers", "p50", "p99"}, Rows: []Row{}}
	for _, a := range st.Answers {
		if a.Count == 0 {
			continue
		}
		by := cmp.Or(map[string]string{"smpp": "the SMSC", "app": "Shunt, diverted"}[a.Leg], a.Leg)
		t.Rows = append(t.Rows, Row{markIf(a.P99 >= slowAnswer, "warn"), []string{by, count(a.Count), tookSeconds(a.P50), tookSeconds(a.P99)}})
	}
	t.Note = none(t.Rows, "None.")
	return t
}

func tookSeconds(s float64) string { return took(time.Duration(s * float64(time.Second))) }

func pendingTable(st *noc.Status) Table {
	t := Table{ID: "states", Caption: "Pending and ended, by state", Head: []string{"State", "Pending", "Ended"}, Rows: []Row{}}
	states := make(map[msg.State]bool)
	for s := range st.Spool.Live {
		states[s] = true
	}
	for s := range st.Spool.Finals {
		states[s] = true
	}
	for _, s := range slices.Sorted(maps.Keys(states)) {
		t.Rows = append(t.Rows, Row{"", []string{s.String(), count(st.Spool.Live[s]), count(st.Spool.Finals[s])}})
	}
	t.Note = none(t.Rows, "Nothing was diverted since the start.")
	return t
}

func reasonTable(st *noc.Status) Table {
	t := Table{ID: "reasons", Caption: "Submits since the start, by reason", Head: []string{"Reason", "Submits"}, Rows: []Row{}}
	for _, r := range slices.Sorted(maps.Keys(st.Counters.Reasons)) {
		t.Rows = append(t.Rows, Row{"", []string{r, count(st.Counters.Reasons[r])}})
	}
	t.Note = none(t.Rows, "No submit since the start.")
	return t
}

func faultTable(all []Fault) Table {
	t := Table{ID: "faults", Caption: "Last warnings and errors of the log", Wide: true, Head: []string{"Last at", "Level", "What", "About", "Times"}, Rows: []Row{}}
	for i := range all {
		t.Rows = append(t.Rows, all[i].row())
	}
	t.Note = none(t.Rows, "None since the start.")
	return t
}

// clip bounds a name that a peer chose, and masks one that is a number.
func clip(s string) string { return safeText(strings.ToValidUTF8(s, "\uFFFD")) }

func of(used, most int) string {
	if most == 0 {
		return count(used)
	}
	return count(used) + "/" + count(most)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05") + "Z"
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05") + "Z" }

// age is how long ago t was, in its two largest units.
func age(now, t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	d := max(now.Sub(t), 0)
	switch h := int(d.Hours()); {
	case h >= 48:
		return fmt.Sprintf("%d d %d h", h/24, h%24)
	case h > 0:
		return fmt.Sprintf("%d h %d min", h, int(d.Minutes())%60)
	case d >= time.Minute:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d s", int(d.Seconds()))
}

func took(d time.Duration) string {
	if d < 100*time.Millisecond {
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// octets is n in the largest binary unit that keeps a digit before the point.
func octets(n int64) string {
	v, unit := float64(n), 0
	for ; v >= 1024 && unit < 4; unit++ {
		v /= 1024
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %ciB", v, "?KMGT"[unit])
}
