package gateway

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"shunt/gateway/alarm"
	"shunt/gateway/config"
	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/gateway/noc/page"
	"shunt/gateway/prove"
)

const (
	alarmsEvery = time.Second

	// upstreamMemory is how long a failed connection to the SMSC says something
	// about it, when no ESME has tried since.
	upstreamMemory = 10 * time.Minute

	expiresSoon   = 21 * 24 * time.Hour
	spoolFilling  = 0.8 // of the messages that fit
	prefixesShown = 5   // in one line
)

// observed is everything that alarms are judged from.
type observed struct {
	now      time.Time
	status   noc.Status
	upstream string // intercept.upstream
	wanted   string // intercept.divert: what the switch is at without an operator

	pumping        []prove.Alarm
	expiries       []expiry
	audit          error // why operators' actions cannot be recorded
	metricsOff     string
	webhookFailing bool
}

// expiry is when a certificate in use ends.
type expiry struct {
	subject string // the listener, or whom it is shown to
	at      time.Time
}

// conditions are what is wrong with a node as it was observed.
func conditions(o *observed) (all []alarm.Condition) {
	st := &o.status
	add := func(name, subject, format string, a ...any) {
		all = append(all, alarm.Condition{Name: name, Subject: subject, Text: fmt.Sprintf(format, a...)})
	}
	if st.UpstreamError != "" && o.now.Sub(st.UpstreamErrorAt) < upstreamMemory {
		add(alarm.UpstreamDown, o.upstream, "no connection to %s: %s", o.upstream, st.UpstreamError)
	}
	for i := range st.Own {
		switch b := &st.Own[i]; b.State {
		case "bound":
		case "unbound":
			add(alarm.OwnBindDown, b.SMSC, "Shunt has no bind of its own at %s: %s", b.SMSC, cmp.Or(b.LastError, "not yet bound"))
		default:
			add(alarm.OwnBindPartial, b.SMSC, "only %s at %s: %s", b.State, b.SMSC, cmp.Or(b.LastError, "not yet bound"))
		}
	}
	for i := range st.Push {
		if l := &st.Push[i]; l.Breaker != "closed" {
			add(alarm.PushLaneOpen, l.App+"/"+l.Provider, "%s does not take pushes of %s: %s", l.Provider, l.App, cmp.Or(l.Reason, "no reason known"))
		}
	}
	all = append(all, ofStores(st)...)
	all = append(all, ofCertificates(o)...)
	if st.Divert == "off" && o.wanted != "off" {
		add(alarm.DiversionOff, "", "the switch is off, the configuration says %s", o.wanted)
	}
	if st.Drain {
		add(alarm.Draining, "", "the node takes no binds and no submits")
	}
	if len(o.pumping) > 0 {
		add(alarm.Pumping, "", "%s", pumpingText(o.pumping))
	}
	if o.audit != nil {
		add(alarm.AuditFailing, "", "%v", o.audit)
	}
	if o.metricsOff != "" {
		add(alarm.MetricsOff, o.metricsOff, "noc.listen %s could not be opened: no metrics, no health", o.metricsOff)
	}
	if o.webhookFailing {
		add(alarm.WebhookFailing, "", "noc.alarm_webhook does not take alarms")
	}
	return all
}

// ofStores are the conditions of registry, spool, records and their disk.
func ofStores(st *noc.Status) (all []alarm.Condition) {
	add := func(name, format string, a ...any) {
		all = append(all, alarm.Condition{Name: name, Text: fmt.Sprintf(format, a...)})
	}
	for _, r := range st.FailOpen {
		switch r {
		case msg.ReasonNotReady.String():
			add(alarm.IndexLoading, "the registry's index is loading: everything is forwarded")
		case msg.ReasonSpoolFull.String():
			add(alarm.DiskLow, "the volume of node.data_dir is almost full: nothing is diverted")
		case msg.ReasonSpoolStalled.String():
			add(alarm.SpoolStalled, "the disk of the spool does not answer: nothing is diverted")
		case msg.ReasonSpoolFailed.String():
			text := "the spool cannot be written: nothing is diverted"
			if err := st.Spool.LastError; err != nil {
				text += ": " + err.Error()
			}
			add(alarm.SpoolFailing, "%s", text)
		}
	}
	if s := &st.Spool; s.Max > 0 && float64(s.LiveTotal) >= spoolFilling*float64(s.Max) {
		add(alarm.SpoolFilling, "%d messages of %d that fit are in the spool", s.LiveTotal, s.Max)
	}
	if n := st.Registered.Corrupt; n > 0 {
		add(alarm.RegistryCorrupt, "%d records of the registry cannot be read", n)
	}
	if st.Counters.CDRFailing {
		add(alarm.RecordsFailing, "call detail records cannot be written; the spool keeps what they are about")
	}
	return all
}

func ofCertificates(o *observed) (all []alarm.Condition) {
	for _, e := range o.expiries {
		left := e.at.Sub(o.now)
		switch at := e.at.UTC().Format("2006-01-02 15:04 UTC"); {
		case left <= 0:
			all = append(all, alarm.Condition{Name: alarm.CertificateExpired, Subject: e.subject, Text: "the certificate of " + e.subject + " has expired: " + at})
		case left <= expiresSoon:
			all = append(all, alarm.Condition{Name: alarm.CertificateExpiring, Subject: e.subject, Text: "the certificate of " + e.subject + " expires " + at})
		}
	}
	return all
}

func pumpingText(all []prove.Alarm) string {
	var b strings.Builder
	fmt.Fprintf(&b, "codes are asked for as if for the money: %d signs", len(all))
	for i, a := range all[:min(len(all), prefixesShown)] {
		b.WriteString([]string{": ", ", "}[min(i, 1)])
		fmt.Fprintf(&b, "+%s (%s)", a.Prefix, a.Kind)
	}
	if len(all) > prefixesShown {
		b.WriteString(", …")
	}
	return b.String()
}

// expiriesOf reads when the certificates of a configuration end that are shown
// to others: the first of a chain to do so.
func expiriesOf(c *config.Config) (all []expiry) {
	eachCertificate(c, func(subject string, cert, key config.Secret) {
		if key.IsZero() {
			return
		}
		var first time.Time
		for rest := cert.Bytes(); ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if x, err := x509.ParseCertificate(block.Bytes); err == nil && (first.IsZero() || x.NotAfter.Before(first)) {
				first = x.NotAfter
			}
		}
		if !first.IsZero() {
			all = append(all, expiry{subject, first})
		}
	})
	return slices.Clip(all)
}

// makeAlarms comes before what is watched.
func (g *Gateway) makeAlarms() {
	n := &g.cfg.NOC
	o := alarm.Options{File: filepath.Join(g.cfg.Node.DataDir, "alarms.json"), Log: g.log}
	if n.AlarmWebhook != "" {
		w := alarm.WebhookOptions{Node: g.cfg.Node.ID, URL: n.AlarmWebhook, Token: string(n.AlarmWebhookToken.Bytes()), Log: g.log}
		if !n.AlarmWebhookCA.IsZero() {
			w.Roots = x509.NewCertPool()
			w.Roots.AppendCertsFromPEM(n.AlarmWebhookCA.Bytes())
		}
		g.webhook = alarm.NewWebhook(w)
		o.Changed = g.webhook.Queue
	}
	g.alarms = alarm.Open(o)
}

// watchAlarms observes the node until ctx is done.
func (g *Gateway) watchAlarms(ctx context.Context) {
	tick := time.NewTicker(alarmsEvery)
	defer tick.Stop()
	for {
		now := time.Now()
		g.alarms.Observe(now, conditions(g.observeNode(now)))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// probeUpstream looks whether the SMSC can be reached that ESMEs are bound
// through to, also while no ESME asks, until ctx is done.
func (g *Gateway) probeUpstream(ctx context.Context) {
	every := g.cfg.Intercept.ProbeEvery
	if every == 0 {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C: // Shunt's own binds have come up meanwhile, where they can
		case <-ctx.Done():
			return
		}
		g.proxy.Probe(ctx, g.own)
	}
}

func (g *Gateway) observeNode(now time.Time) *observed {
	o := &observed{
		now: now, status: (&control{g}).Status(), upstream: g.config().Intercept.Upstream,
		wanted: g.cfg.Intercept.Divert.String(), expiries: g.live.Load().expiries, audit: g.audit.Err(),
	}
	if g.owners.prove != nil {
		o.pumping, _ = g.owners.prove.Alarms()
	}
	if g.web == nil {
		o.metricsOff = g.cfg.NOC.Listen
	}
	o.webhookFailing = g.webhook != nil && g.webhook.Failing.Load()
	return o
}

// pageAlarms shows them on the page.
type pageAlarms struct{ g *Gateway }

// Active implements page.Alarms.
func (a pageAlarms) Active() (all []page.Alarm) {
	for _, r := range a.g.alarms.Raised() {
		text := r.Text
		if r.Subject != "" {
			text = r.Subject + ": " + text
		}
		all = append(all, page.Alarm{Name: string(r.Name), Severity: string(r.Severity), Since: r.Since, Text: text})
	}
	return all
}
