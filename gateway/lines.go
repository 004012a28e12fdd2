package gateway

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"shunt/gateway/config"
	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/gateway/receipt"
	"shunt/store/spool"
)

// Limits of what the log says of messages. The traces hold everything: a journal
// that is flooded would lose what matters.
const (
	linesQueued   = 8192
	linesAtOnce   = 200
	linesASecond  = 100 // with log.messages = "final"; what is over is counted
	verdictsEvery = time.Minute
	verdictLines  = 200
)

// lines writes what became of messages to the log (log.messages). Its goroutine
// owns everything but mode, queue and left.
type lines struct {
	log   *slog.Logger
	mode  atomic.Uint32 // a config.LogMessages
	queue chan line
	left  atomic.Uint64 // not written

	limit  *rate.Limiter
	before map[string]verdicts // at the last look
}

// line is one change of a message; without text, and its number masked.
type line struct {
	id     msg.ID
	esme   string
	to     msg.Number
	event  msg.Event
	state  msg.State
	reason msg.Reason
	leg    string
	detail string
	final  bool
}

func newLines(log *slog.Logger) *lines {
	return &lines{log: log, queue: make(chan line, linesQueued), limit: rate.NewLimiter(linesASecond, linesAtOnce)}
}

func (l *lines) setMode(m config.LogMessages) { l.mode.Store(uint32(m)) }

func (l *lines) is(m config.LogMessages) bool { return config.LogMessages(l.mode.Load()) == m }

// observe takes every change that the spool has synced. It does not block: it
// runs on the committer.
func (g *Gateway) observe(c *spool.Change) {
	if c.Event.Kind == msg.EvClaimDeadline && !c.Replay {
		g.owners.missed(c.Record.To, c.Record.App)
	}
	g.timings.observe(c)
	g.lines.observe(c)
	g.traces.Observe(c)
	g.dispatcher.Observe(c)
}

func (l *lines) observe(c *spool.Change) {
	final := c.To.Final() && !c.From.Final()
	if c.Replay || l.is(config.MessagesOff) || !final && !l.is(config.MessagesAll) {
		return
	}
	r := &c.Record
	n := line{
		id: r.ID, esme: r.Account.SystemID, to: r.To, event: c.Event.Kind, state: c.To, reason: c.Event.Reason,
		leg: legs[receipt.Channel(r)], final: final,
	}
	if final && r.Cause != msg.NoReason {
		n.reason = r.Cause
	}
	if !final {
		n.detail = c.Event.Words()
	}
	if n.reason == msg.NoReason {
		n.reason = msg.ReasonDivert // nothing has kept it from the app
	}
	select {
	case l.queue <- n:
	default:
		l.left.Add(1)
	}
}

// legs by the channel of a receipt.
var legs = map[string]string{receipt.ChannelApp: "app", receipt.ChannelCarrier: "smpp", "": "none"}

// run writes until ctx is done.
func (l *lines) run(ctx context.Context, sums func() map[string]verdicts) {
	tick := time.NewTicker(verdictsEvery)
	defer tick.Stop()
	l.before = sums()
	for {
		select {
		case n := <-l.queue:
			l.write(&n)
		case <-tick.C:
			l.sum(sums())
		case <-ctx.Done():
			l.sum(sums())
			return
		}
	}
}

func (l *lines) write(n *line) {
	if !l.is(config.MessagesAll) && !l.limit.Allow() {
		l.left.Add(1)
		return
	}
	if n.final {
		l.log.Info("message ended", "msg_id", n.id.String(), "esme", n.esme, "number", n.to.Masked(), "verdict", noc.VerdictDivert,
			"event", n.event.String(), "state", n.state.String(), "leg", n.leg, "reason", n.reason.String())
		return
	}
	l.log.Info("message moved", "msg_id", n.id.String(), "esme", n.esme, "number", n.to.Masked(), "verdict", noc.VerdictDivert,
		"event", n.event.String(), "state", n.state.String(), "reason", n.reason.String(), "detail", n.detail)
}

// sum writes the verdicts since the last time, by account and reason, the most
// frequent first.
func (l *lines) sum(now map[string]verdicts) {
	if n := l.left.Swap(0); n > 0 {
		l.log.Warn("message lines left out", "lines", n)
	}
	before := l.before
	l.before = now
	if l.is(config.MessagesOff) {
		return
	}
	type count struct {
		esme   string
		reason msg.Reason
		n      uint64
	}
	var all []count
	for esme, v := range now {
		old := before[esme]
		for _, r := range msg.Reasons() {
			if v[r] > old[r] {
				all = append(all, count{esme, r, v[r] - old[r]})
			}
		}
	}
	slices.SortFunc(all, func(a, b count) int {
		return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.esme, b.esme), cmp.Compare(a.reason, b.reason))
	})
	for _, c := range all[:min(len(all), verdictLines)] {
		l.log.Info("verdicts", "esme", c.esme, "verdict", verdictOf(c.reason), "reason", c.reason.String(), "count", c.n)
	}
	l.left.Add(uint64(max(len(all)-verdictLines, 0)))
}

func verdictOf(r msg.Reason) string {
	switch r {
	case msg.ReasonDivert:
		return noc.VerdictDivert
	case msg.ReasonShadow:
		return noc.VerdictShadow
	}
	return noc.VerdictForward
}
