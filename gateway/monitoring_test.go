package gateway

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"shunt/gateway/msg"
)

// scrape is what /metrics says, by name; of histograms without what Prometheus
// hangs on.
func (n *node) scrape() map[string]string {
	n.t.Helper()
	resp, err := http.Get("http://" + n.g.web.Addr().String() + "/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	all := make(map[string]string)
	for line := range strings.Lines(string(b)) {
		if name, ok := strings.CutPrefix(line, "# HELP "); ok && len(strings.Fields(name)) < 3 {
			n.t.Errorf("/metrics does not say what %s is", name)
		}
		name := line[:strings.IndexAny(line+" ", " {\n")]
		all[name] += line
	}
	return all
}

var metricName = regexp.MustCompile(`\bshunt_[a-z_]+`)

// TestMonitoring: what the alert rules and the dashboard ask for is what a
// gateway tells that has diverted and forwarded, and its times are there.
func TestMonitoring(t *testing.T) {
	a := newAppNode(t, func(text string) string {
		return strings.Replace(text, "socket = \"noc.sock\"", "socket = \"noc.sock\"\nlisten = \"127.0.0.1:0\"", 1)
	})
	e := bind(t, a.addr(), "parcels", 0x34)
	id := e.submit(saying("hello", nil))
	a.await(id, msg.Pushed)
	a.claim(id)
	a.acknowledge(id, "delivered")
	for range 3 {
		e.submit(submitTo(stranger, nil))
	}
	var got map[string]string
	a.until("the figures", func() bool {
		got = a.scrape()
		return strings.Contains(got["shunt_divert_claim_seconds_count"], `app="chat"} 1`)
	})
	for name, want := range map[string]string{
		"shunt_submit_response_seconds_count":  `leg="app"} 1`,
		"shunt_submit_response_seconds_bucket": `leg="smpp",le="+Inf"} 3`,
		"shunt_push_seconds_count":             `app="chat",provider="apns",outcome="accepted"} 1`,
	} {
		if !strings.Contains(got[name], want) {
			t.Errorf("%s = %s, want %s", name, got[name], want)
		}
	}
	for _, file := range []string{"shunt.rules.yml", "shunt-dashboard.json"} {
		b, err := os.ReadFile("../systemd/monitoring/" + file)
		if err != nil {
			t.Fatal(err)
		}
		asked := metricName.FindAllString(string(b), -1)
		if len(asked) < 10 {
			t.Errorf("%s asks for %q: the test sees nothing", file, asked)
		}
		for _, name := range asked {
			if _, ok := got[name]; !ok && got[name+"_bucket"] == "" {
				t.Errorf("%s asks for %s, of which /metrics knows nothing; it has %q", file, name, slices.Sorted(maps.Keys(got)))
			}
		}
		if strings.HasSuffix(file, ".json") && !json.Valid(b) {
			t.Errorf("%s is no JSON", file)
		}
	}
}
