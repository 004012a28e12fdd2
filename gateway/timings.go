package gateway

import (
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"shunt/gateway/config"
	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/push"
	"shunt/store/spool"
)

// timings are the histograms of /metrics, in seconds. They are safe for
// concurrent use.
type timings struct {
	set *metrics.Set

	// From a submit_sm to its answer: of forwarded ones, one at a time on each
	// bind (see smpp.Config.Answered), and of all diverted ones.
	smpp, app         *metrics.PrometheusHistogram
	lastSMPP, lastApp latency // the same, of the last minute
	// From a diverted message to the app's claim; of one that was put off, from
	// when it was due.
	claims atomic.Pointer[map[string]*metrics.PrometheusHistogram] // by app; the map is not changed
	pushes sync.Map                                                // of pushKey: *metrics.PrometheusHistogram
}

type pushKey struct {
	app, provider string
	outcome       push.Outcome
}

// Bounds of the buckets, in seconds.
var (
	answerBounds = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	claimBounds  = []float64{.05, .1, .25, .5, 1, 2, 3, 5, 8, 13, 20, 30, 45, 60, 120, 300, 600}
	pushBounds   = []float64{.005, .01, .025, .05, .1, .15, .25, .5, 1, 2.5, 5, 10}
)

func newTimings(apps []config.App) *timings {
	t := &timings{set: metrics.NewSet()}
	t.smpp = t.set.NewPrometheusHistogramExt(`shunt_submit_response_seconds{leg="smpp"}`, answerBounds)
	t.app = t.set.NewPrometheusHistogramExt(`shunt_submit_response_seconds{leg="app"}`, answerBounds)
	t.setApps(apps)
	return t
}

// setApps has claims of these apps taken. What others had is still shown.
func (t *timings) setApps(apps []config.App) {
	claims := make(map[string]*metrics.PrometheusHistogram, len(apps))
	for i := range apps {
		id := apps[i].ID
		claims[id] = t.set.GetOrCreatePrometheusHistogramExt(`shunt_divert_claim_seconds{app=`+quoted(id)+`}`, claimBounds)
	}
	t.claims.Store(&claims)
}

// quoted is a label's value; an app's id comes from the configuration.
func quoted(s string) string { return `"` + escape.Replace(s) + `"` }

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func (t *timings) forwarded(after time.Duration) {
	t.smpp.Update(after.Seconds())
	t.lastSMPP.add(after)
}

func (t *timings) diverted(after time.Duration) {
	t.app.Update(after.Seconds())
	t.lastApp.add(after)
}

// look is to be called once a second.
func (t *timings) look() {
	t.lastSMPP.look()
	t.lastApp.look()
}

// answers are those of the last minute, by leg.
func (t *timings) answers() []noc.Answers {
	return []noc.Answers{t.lastSMPP.last("smpp"), t.lastApp.last("app")}
}

// pushed takes what one push took, whatever came of it.
func (t *timings) pushed(app, provider string, o push.Outcome, after time.Duration) {
	h, ok := t.pushes.Load(pushKey{app, provider, o})
	if !ok {
		h = t.set.GetOrCreatePrometheusHistogramExt(`shunt_push_seconds{app=`+quoted(app)+`,provider=`+quoted(provider)+`,outcome=`+quoted(o.String())+`}`, pushBounds)
		t.pushes.Store(pushKey{app, provider, o}, h)
	}
	h.(*metrics.PrometheusHistogram).Update(after.Seconds())
}

// observe takes a claim that won.
func (t *timings) observe(c *spool.Change) {
	if c.Replay || c.To != msg.Claimed || c.From == msg.Claimed {
		return
	}
	h := (*t.claims.Load())[c.Record.App]
	if h == nil {
		return
	}
	from := c.Record.ReceivedAt
	if c.Record.DueAt.After(from) {
		from = c.Record.DueAt
	}
	h.Update(max(c.Event.At.Sub(from), 0).Seconds())
}

func (t *timings) write(w io.Writer) { t.set.WritePrometheus(w) }
