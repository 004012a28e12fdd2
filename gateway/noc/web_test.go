package noc

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

type watched struct {
	status   Status
	verdicts map[string]map[string]uint64
}

func (w *watched) Status() Status                         { return w.status }
func (w *watched) Verdicts() map[string]map[string]uint64 { return w.verdicts }

func askWeb(s *Web, method, path string) *httptest.ResponseRecorder {
	rec, r := httptest.NewRecorder(), httptest.NewRequest(method, path, nil)
	r.Host = "127.0.0.1:9464"
	s.ServeHTTP(rec, r)
	return rec
}

func TestMetricsOfHostileAccounts(t *testing.T) {
	w := &watched{verdicts: map[string]map[string]uint64{"a\"\\\nb\xff": {"unregistered": 7}}}
	s := NewWeb(WebOptions{Gateway: w, Log: slog.New(slog.DiscardHandler)})
	want := `shunt_submits_total{account="a\"\\` + "\uFFFD" + `b` + "\uFFFD" + `",reason="unregistered"} 7` + "\n"
	if got := askWeb(s, "GET", "/metrics").Body.String(); !strings.Contains(got, want) {
		t.Errorf("/metrics has no line %q:\n%s", want, got)
	}
}

func TestMetricsOfExternalRegistries(t *testing.T) {
	w := &watched{status: Status{External: []ExternalRegistry{{
		Name: "far", Breaker: "half-open", Trips: 2, Lookups: map[string]uint64{"known": 5, "cached-unknown": 7},
		Latency: []LatencyBucket{{0.005, 2}, {0.15, 5}}, Seconds: 1.5, Count: 6,
	}}}}
	got := askWeb(NewWeb(WebOptions{Gateway: w, Log: slog.New(slog.DiscardHandler)}), "GET", "/metrics").Body.String()
	for _, want := range []string{
		`shunt_external_lookups_total{registry="far",result="cached-unknown"} 7`,
		`shunt_external_lookups_total{registry="far",result="known"} 5`,
		`shunt_external_breaker_open{registry="far"} 1`,
		`shunt_external_breaker_trips_total{registry="far"} 2`,
		`shunt_external_lookup_seconds_bucket{registry="far",le="0.005"} 2`,
		`shunt_external_lookup_seconds_bucket{registry="far",le="0.15"} 5`,
		`shunt_external_lookup_seconds_bucket{registry="far",le="+Inf"} 6`,
		`shunt_external_lookup_seconds_sum{registry="far"} 1.5`,
		`shunt_external_lookup_seconds_count{registry="far"} 6`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("/metrics has no %s", want)
		}
	}
}

func TestMetricsBoundAccounts(t *testing.T) {
	w := &watched{verdicts: make(map[string]map[string]uint64)}
	for i := range maxAccounts {
		w.verdicts[fmt.Sprintf("m%04d", i)] = map[string]uint64{"divert": 1}
	}
	s := NewWeb(WebOptions{Gateway: w, Log: slog.New(slog.DiscardHandler)})
	askWeb(s, "GET", "/metrics")
	for i := range 5 { // they sort before those that have a name by now
		w.verdicts[fmt.Sprintf("a%04d", i)] = map[string]uint64{"divert": 2}
	}
	got := askWeb(s, "GET", "/metrics").Body.String()
	if n := strings.Count(got, "shunt_submits_total{"); n != maxAccounts+1 {
		t.Errorf("series of shunt_submits_total: got %d, want %d", n, maxAccounts+1)
	}
	if want := `shunt_submits_total{account="(other)",reason="divert"} 10`; !strings.Contains(got, want) {
		t.Errorf("/metrics has no %s", want)
	}
}

func TestReadyz(t *testing.T) {
	for _, c := range []struct {
		name string
		st   Status
		code int
		why  string
	}{
		{"index loading", Status{}, 503, "[index-loading]"},
		{"no own bind configured", Status{IndexReady: true}, 200, "[]"},
		{"own bind down, nobody bound", Status{IndexReady: true, Own: []OwnBind{{State: "unbound"}}}, 503, "[no-upstream]"},
		{"own bind down, an ESME bound", Status{IndexReady: true, Own: []OwnBind{{State: "unbound"}}, Binds: BindCounts{Upstream: 1}}, 200, "[]"},
		{"draining", Status{IndexReady: true, Drain: true}, 503, "[draining]"},
		{"draining, index loading", Status{Drain: true}, 503, "[draining index-loading]"},
		{"transit", Status{Transit: true, FailOpen: []string{"spool-full"}}, 200, "[]"},
		{"own bind half up", Status{IndexReady: true, Own: []OwnBind{{State: "1 of 2 bound"}}}, 200, "[]"},
	} {
		rec := askWeb(NewWeb(WebOptions{Gateway: &watched{status: c.st}, Log: slog.New(slog.DiscardHandler)}), "GET", "/readyz")
		var r Readiness
		if err := json.Unmarshal(rec.Body.Bytes(), &r); err != nil {
			t.Errorf("%s: /readyz = %q: %v", c.name, rec.Body, err)
		}
		if rec.Code != c.code || fmt.Sprint(r.Why) != c.why || r.Ready != (c.code == http.StatusOK) {
			t.Errorf("%s: /readyz = %d %+v, want %d %s", c.name, rec.Code, r, c.code, c.why)
		}
	}
}

func TestWebChangesNothing(t *testing.T) {
	s := NewWeb(WebOptions{Gateway: &watched{}, Log: slog.New(slog.DiscardHandler)})
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		if rec := askWeb(s, "POST", path); rec.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s = %d, want 405", path, rec.Code)
		}
	}
}
