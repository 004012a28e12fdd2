package gateway

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/alarm"
	"shunt/gateway/noc"
	"shunt/gateway/prove"
	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/store/registry"
	"shunt/store/spool"
)

// TestConditions: each thing that can be wrong is the alarm of its name and of
// no other, and a healthy node has none.
func TestConditions(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		wrong func(*observed)
		want  string
	}{
		"healthy":            {func(*observed) {}, ""},
		"upstream":           {func(o *observed) { o.status.UpstreamError, o.status.UpstreamErrorAt = "refused", now.Add(-time.Minute) }, "upstream-down smsc-a"},
		"upstream, long ago": {func(o *observed) { o.status.UpstreamError, o.status.UpstreamErrorAt = "refused", now.Add(-time.Hour) }, ""},
		"own bind":           {func(o *observed) { o.status.Own[0].State = "unbound" }, "own-bind-down smsc-own"},
		"own bind, partly":   {func(o *observed) { o.status.Own[0].State = "1 of 2 bound" }, "own-bind-partial smsc-own"},
		"lane open":          {func(o *observed) { o.status.Push[1].Breaker = "open" }, "push-lane-open chat/fcm"},
		"lane half open":     {func(o *observed) { o.status.Push[0].Breaker = "half-open" }, "push-lane-open chat/apns"},
		"index":              {func(o *observed) { o.status.FailOpen = []string{"index-loading"} }, "registry-index-loading "},
		"disk":               {func(o *observed) { o.status.FailOpen = []string{"spool-full"} }, "disk-low "},
		"stall":              {func(o *observed) { o.status.FailOpen = []string{"spool-stalled"} }, "spool-stalled "},
		"spool":              {func(o *observed) { o.status.FailOpen = []string{"spool-failed"} }, "spool-failing "},
		"spool, why": {func(o *observed) {
			o.status.FailOpen, o.status.Spool.LastError = []string{"spool-failed"}, errors.New("no space")
		}, "spool-failing "},
		"spool at 79 %":        {func(o *observed) { o.status.Spool.LiveTotal = 799 }, ""},
		"spool at 80 %":        {func(o *observed) { o.status.Spool.LiveTotal = 800 }, "spool-filling "},
		"corrupt":              {func(o *observed) { o.status.Registered.Corrupt = 1 }, "registry-corrupt "},
		"records":              {func(o *observed) { o.status.Counters.CDRFailing = true }, "cdr-failing "},
		"off":                  {func(o *observed) { o.status.Divert = "off" }, "diversion-off "},
		"off, and so wanted":   {func(o *observed) { o.status.Divert, o.wanted = "off", "off" }, ""},
		"shadow":               {func(o *observed) { o.status.Divert = "shadow" }, ""},
		"drained":              {func(o *observed) { o.status.Drain = true }, "draining "},
		"pumping":              {func(o *observed) { o.pumping = []prove.Alarm{{Kind: "sequence", Prefix: "4477009"}} }, "verification-pumping "},
		"expires in 22 days":   {func(o *observed) { o.expiries = []expiry{{"api :8443", now.Add(22 * day)}} }, ""},
		"expires in 20 days":   {func(o *observed) { o.expiries = []expiry{{"api :8443", now.Add(20 * day)}} }, "certificate-expiring api :8443"},
		"expired":              {func(o *observed) { o.expiries = []expiry{{"api :8443", now}} }, "certificate-expired api :8443"},
		"audit":                {func(o *observed) { o.audit = errors.New("no space") }, "audit-failing "},
		"metrics":              {func(o *observed) { o.metricsOff = "127.0.0.1:9464" }, "metrics-off 127.0.0.1:9464"},
		"webhook":              {func(o *observed) { o.webhookFailing = true }, "webhook-failing "},
		"the own bind missing": {func(o *observed) { o.status.FailOpen = []string{"fallback-unbound"} }, ""}, // own-bind-down says it
	} {
		o := &observed{now: now, upstream: "smsc-a", wanted: "on", status: noc.Status{
			Divert: "on", IndexReady: true, Registered: registry.Count{Numbers: 3},
			Own:      []noc.OwnBind{{SMSC: "smsc-own", State: "bound"}},
			Push:     []noc.PushLane{{App: "chat", Provider: "apns", Breaker: "closed"}, {App: "chat", Provider: "fcm", Breaker: "closed"}},
			Spool:    spool.Stats{Max: 1000, LiveTotal: 10},
			FailOpen: []string{},
		}}
		c.wrong(o)
		got := ""
		for _, a := range conditions(o) {
			if got += a.Name + " " + a.Subject; a.Text == "" {
				t.Errorf("%s: %s says nothing", name, a.Name)
			}
			if !knownAlarm(a.Name) {
				t.Errorf("%s: %s is of no kind", name, a.Name)
			}
		}
		if got != c.want {
			t.Errorf("%s: conditions = %q, want %q", name, got, c.want)
		}
	}
}

func knownAlarm(name string) bool {
	for _, k := range alarm.Kinds {
		if k.Name == name {
			return true
		}
	}
	return false
}

func TestPumpingText(t *testing.T) {
	var all []prove.Alarm
	for i := range 7 {
		all = append(all, prove.Alarm{Kind: "sequence", Prefix: fmt.Sprint(44770 + i)})
	}
	const want = "codes are asked for as if for the money: 7 signs: +44770 (sequence), +44771 (sequence), +44772 (sequence), +44773 (sequence), +44774 (sequence), …"
	if got := pumpingText(all); got != want {
		t.Errorf("pumpingText() = %q, want %q", got, want)
	}
}

// TestAlarmsOfARunningGateway: an alarm of a real gateway is posted to a real
// TLS server, is on the control socket, in the metrics and in the status, and is
// cleared by the next run.
func TestAlarmsOfARunningGateway(t *testing.T) {
	posts := make(chan alarm.Notice, 10)
	hook := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var n alarm.Notice
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil || r.Header.Get("Authorization") != "Bearer hook-token" {
			t.Errorf("POST with %q: %v", r.Header.Get("Authorization"), err)
		}
		posts <- n
	}))
	t.Cleanup(hook.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: hook.Certificate().Raw})
	secrets := t.TempDir()
	for name, content := range map[string]string{"hook.ca": string(ca), "hook.token": "hook-token\n"} {
		if err := os.WriteFile(filepath.Join(secrets, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	n := newNode(t, func(s string) string {
		return strings.Replace(s, "socket = \"noc.sock\"\n", fmt.Sprintf(
			"socket = \"noc.sock\"\nlisten = %q\nalarm_webhook = %q\nalarm_webhook_token_file = %q\nalarm_webhook_ca_file = %q\n",
			taken.Addr(), hook.URL, filepath.Join(secrets, "hook.token"), filepath.Join(secrets, "hook.ca")), 1)
	}).run()
	post := func(state alarm.State) alarm.Notice {
		t.Helper()
		for {
			select {
			case p := <-posts:
				if p.Name == alarm.MetricsOff {
					if p.State != state || p.Node != "edge-1" || p.Subject != taken.Addr().String() {
						t.Errorf("POST = %+v, want metrics-off %s", p, state)
					}
					return p
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("no POST that metrics-off is %s", state)
			}
		}
	}
	raised := post(alarm.Raised)
	c := noc.New(n.g.cfg.NOC.Socket)
	defer c.Close()
	l, err := c.Alarms(t.Context())
	if err != nil || len(l.Raised) != 1 || l.Raised[0].Name != alarm.MetricsOff {
		t.Fatalf("Alarms() = %+v, %v, want metrics-off", l, err)
	}
	st, err := c.Status(t.Context())
	if d := cmp.Diff(l.Raised, st.Alarms); err != nil || d != "" || st.AlarmsRaised != 1 {
		t.Errorf("Status(): %v, %d raised, alarms (-want +got):\n%s", err, st.AlarmsRaised, d)
	}
	rec := httptest.NewRecorder()
	noc.NewWeb(noc.WebOptions{Gateway: &control{n.g}, Log: n.g.log}).ServeHTTP(rec, httptest.NewRequest("GET", "http://localhost/metrics", nil))
	for _, want := range []string{`shunt_alarm{alarm="metrics-off"} 1`, `shunt_alarm{alarm="own-bind-down"} 0`, "shunt_alarms_raised_total 1"} {
		if !strings.Contains(rec.Body.String(), want+"\n") {
			t.Errorf("/metrics has no line %s", want)
		}
	}
	// The next observation without it clears it.
	n.g.alarms.Observe(time.Now(), nil)
	if cleared := post(alarm.Cleared); !cleared.Since.Equal(raised.Since) {
		t.Errorf("cleared since %v, raised since %v: want the same", cleared.Since, raised.Since)
	}
}

// TestUpstreamError: a bind that cannot be connected shows in the status until
// one can.
func TestUpstreamError(t *testing.T) {
	n := newNode(t, nil).run()
	status := func() noc.Status { return (&control{n.g}).Status() }
	if got := status().UpstreamError; got != "" {
		t.Errorf("upstream error = %q before any bind", got)
	}
	n.smsc.hangUp("nobody") // it listens no more
	if _, _, err := smpp.Dial(t.Context(), n.addr(), pdu.BindTransceiver, pdu.Bind{SystemID: "shop", Password: "pw", InterfaceVersion: 0x34}, smpp.Config{}); err == nil {
		t.Fatal("a bind without an SMSC was accepted")
	}
	if st := status(); !strings.Contains(st.UpstreamError, "refused") || time.Since(st.UpstreamErrorAt) > time.Minute {
		t.Errorf("upstream error = %q at %v, want that the connection was refused, now", st.UpstreamError, st.UpstreamErrorAt)
	}
	l, err := net.Listen("tcp", n.g.proxy.Upstream)
	if err != nil {
		t.Fatal(err)
	}
	again := &center{t: t, l: l, sessions: make(map[*smpp.Session]string)}
	again.wg.Go(again.accept)
	t.Cleanup(again.close)
	bind(t, n.addr(), "shop", 0x34)
	if got := status().UpstreamError; got != "" {
		t.Errorf("upstream error = %q after a bind that is up", got)
	}
}
