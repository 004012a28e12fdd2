package provider

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseRule(t *testing.T) {
	for _, tt := range []struct {
		s    string
		want Rule
	}{
		{"dead*=410:Unregistered", Rule{Token: "dead*", Status: 410, Reason: "Unregistered"}},
		{"busy=429:TooManyRequests:5", Rule{Token: "busy", Status: 429, Reason: "TooManyRequests", RetryAfter: 5}},
		{"x=503", Rule{Token: "x", Status: 503}},
		{"*=freeze", Rule{Token: "*"}},
	} {
		if got, err := ParseRule(tt.s); err != nil || got != tt.want {
			t.Errorf("ParseRule(%q): got %+v, %v; want %+v", tt.s, got, err, tt.want)
		}
	}
	for _, s := range []string{"", "x", "=410", "x=", "x=abc", "x=99", "x=600", "x=410:a:b", "x=410:a:-1", "x=410:a:1:2", "x=0"} {
		if got, err := ParseRule(s); err == nil {
			t.Errorf("ParseRule(%q): got %+v, want an error", s, got)
		}
	}
}

func TestJudge(t *testing.T) {
	b, err := newBehaviour(Behaviour{
		Latency: Duration(time.Second),
		Rules: []Rule{
			{Token: "a1", Status: 200},
			{Token: "a*", Status: 410, Reason: "R", RetryAfter: 3, Times: 2, Latency: Duration(time.Second)},
			{Token: "f", Status: 0},
		},
	}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct {
		token string
		want  Verdict
	}{
		{"a1", Verdict{Latency: time.Second}},
		{"a2", Verdict{Status: 410, Reason: "R", RetryAfter: 3, Latency: 2 * time.Second}},
		{"a3", Verdict{Status: 410, Reason: "R", RetryAfter: 3, Latency: 2 * time.Second}},
		{"a4", Verdict{Latency: time.Second}}, // the rule is spent
		{"f", Verdict{Freeze: true, Latency: time.Second}},
		{"b", Verdict{Latency: time.Second}},
	} {
		if got := b.judge(tt.token); got != tt.want {
			t.Errorf("%d: judge(%s): got %+v, want %+v", i, tt.token, got, tt.want)
		}
	}
}

func TestRatesFollowTheSeed(t *testing.T) {
	run := func(seed uint64) (all []int, n map[int]int) {
		b, err := newBehaviour(Behaviour{ErrorRate: 0.2, ThrottleRate: 0.3}, seed)
		if err != nil {
			t.Fatal(err)
		}
		n = map[int]int{}
		for range 10_000 {
			v := b.judge("x")
			all = append(all, v.Status)
			n[v.Status]++
		}
		return all, n
	}
	a, n := run(7)
	again, _ := run(7)
	if d := cmp.Diff(a, again); d != "" {
		t.Error("the same seed gave other outcomes")
	}
	if n[500] < 1800 || n[500] > 2200 || n[429] < 2800 || n[429] > 3200 {
		t.Errorf("of 10000 pushes: got %v, want about 2000 errors and 3000 throttled", n)
	}
}

func start(t *testing.T) *Bench {
	t.Helper()
	b, err := NewBench(Options{PKI: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Serve(t.Context(), http.NotFoundHandler()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestEverySubscriberGetsEveryPush(t *testing.T) {
	b := start(t)
	const readers, pushes = 3, 500
	var bodies []io.ReadCloser
	for range readers {
		resp, err := http.Get("http://" + b.ControlAddr() + "/pushes")
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, resp.Body)
	}
	for i := range pushes {
		b.Accept(Push{Token: "t", ID: fmt.Sprint(i)})
	}
	for r, body := range bodies {
		dec := json.NewDecoder(body)
		for i := range pushes {
			var p Push
			if err := dec.Decode(&p); err != nil || p.ID != fmt.Sprint(i) {
				t.Fatalf("reader %d, push %d: got %+v, %v", r, i, p, err)
			}
		}
		_ = body.Close()
	}
	if n := b.Stats().Accepted; n != pushes {
		t.Errorf("accepted: got %d, want %d", n, pushes)
	}
}

func TestSlowSubscriberIsDroppedAndTold(t *testing.T) {
	b := start(t)
	resp, err := http.Get("http://" + b.ControlAddr() + "/pushes")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	sent := 0
	for p := (Push{Token: strings.Repeat("t", 1000)}); b.Stats().Dropped == 0; sent++ {
		if sent > 1_000_000 {
			t.Fatal("a subscriber that does not read was never dropped")
		}
		b.Accept(p)
	}
	lines, last := 0, ""
	for s := bufio.NewScanner(resp.Body); s.Scan(); lines++ {
		last = s.Text()
	}
	if want := `{"error":"subscriber too slow: dropped after a backlog of 4096 pushes"}`; last != want {
		t.Errorf("last line: got %.80q, want %q", last, want)
	}
	if lines > sent {
		t.Errorf("%d lines for %d pushes and the farewell, want the last push to be missing", lines, sent)
	}
	if n := b.Stats().Subscribers; n != 0 {
		t.Errorf("%d subscribers are left, want none", n)
	}
}

func TestOutcomeChangesLive(t *testing.T) {
	b := start(t)
	post := func(body string) (int, string) {
		resp, err := http.Post("http://"+b.ControlAddr()+"/outcome", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		out, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(out)
	}
	if code, out := post(`{"rules":[{"token":"x","status":410,"reason":"R"}],"latency":"5ms"}`); code != 200 {
		t.Fatalf("POST /outcome: %d %s", code, out)
	}
	if code, out := post(`{"error_rate":0.5}`); code != 200 || !strings.Contains(out, `"status": 410`) {
		t.Errorf("POST /outcome: got %d %s, want the earlier rule to stay", code, out)
	}
	if got, want := b.rules.judge("x"), (Verdict{Status: 410, Reason: "R", Latency: 5 * time.Millisecond}); got != want {
		t.Errorf("judge(x): got %+v, want %+v", got, want)
	}
	for _, bad := range []string{
		`{`, `{"unknown":1}`, `{"error_rate":2}`, `{"error_rate":-1}`, `{"latency":"x"}`, `{"latency":"-1s"}`,
		`{"rules":[{"token":"","status":410}]}`, `{"rules":[{"token":"x","status":99}]}`,
	} {
		if code, out := post(bad); code != 400 {
			t.Errorf("POST /outcome %s: got %d %s, want 400", bad, code, out)
		}
	}
	if code, out := post(`{"rules":[]}`); code != 200 {
		t.Errorf("POST /outcome without rules: %d %s", code, out)
	}
	resp, err := http.Get("http://" + b.ControlAddr() + "/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got Stats
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(b.Stats(), got); d != "" {
		t.Errorf("GET /stats (-want +got):\n%s", d)
	}
}

func TestControlIsLoopbackOnly(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "x"} {
		if b, err := NewBench(Options{PKI: t.TempDir(), Control: addr}); err == nil {
			_ = b.Close()
			t.Errorf("NewBench with control %q succeeded, want an error", addr)
		}
	}
	if _, err := NewBench(Options{}); err == nil {
		t.Error("NewBench without a PKI directory succeeded, want an error")
	}
}

func TestCountersAreBounded(t *testing.T) {
	b := start(t)
	for i := range 10 * maxFaults {
		b.Fault(fmt.Sprint("fault ", i))
	}
	if n := len(b.Stats().Faults); n > maxFaults+1 {
		t.Errorf("%d names of faults are kept, want at most %d", n, maxFaults+1)
	}
}
