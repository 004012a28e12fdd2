package api

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
	"shunt/gateway/prove"
	"shunt/store/registry"
)

// clock is a time that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// ownersAt is the API with proofs before a registry of its own, both by the
// clock; sms are the texts that would go out.
func ownersAt(t *testing.T, change func(*prove.Options)) (r *rig, c *clock, service *prove.Service, sms chan string) {
	t.Helper()
	r = newRig(t)
	c = &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	var err error
	if r.reg, err = registry.Open(registry.Options{Dir: filepath.Join(t.TempDir(), "registry"), Now: c.Now}); err != nil {
		t.Fatal(err)
	}
	reg := r.reg
	t.Cleanup(func() { mustClose(t, reg) })
	sms = make(chan string, 1000)
	o := prove.Options{
		Registry: r.reg, Key: []byte("a key of the test"), Sender: "ACME", Text: "{app}: {code}", Now: c.Now, Log: r.logger(),
		Send:   func(_ string, _ msg.Number, text string) { sms <- text },
		Alarms: prove.AlarmLimits{PrefixDigits: 6, Sequence: 1 << 20, Sent: 1 << 20},
	}
	if change != nil {
		change(&o)
	}
	service = prove.New(o)
	r.base = r.serve(New(Options{
		Spool: r.spool, Devices: r.reg, Text: textOf, Log: r.logger(),
		Now: c.Now, Owners: Owners{Prove: service, Registry: r.reg, Apps: func(id string) bool { return id == "chat" || id == "bank" }, Grace: 10 * time.Minute},
	}), slog.New(slog.DiscardHandler))
	return r, c, service, sms
}

// from has the rig's calls come from a loopback address.
func (r *rig) from(address string) {
	r.http.CloseIdleConnections()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	r.http.Transport = &http.Transport{DialContext: d.DialContext}
}

func (r *rig) verify(number msg.Number, app string) answer {
	r.t.Helper()
	return r.call("POST", "/v1/verifications", fmt.Sprintf(`{"number":%q,"app":%q}`, number.String(), app))
}

// Each limit by itself: so many in an hour, then 429 that names it and says when
// the next may come, which it then may; and whom it does not concern.
func TestVerificationLimits(t *testing.T) {
	const most = 3
	far := func(i int) msg.Number { return msg.Number(447700000000 + 1_000_003*i) } // no two with one prefix
	for _, c := range []struct {
		limit string
		set   func(*prove.Limits)
		begin func(r *rig, c *clock, i int) answer // the ith that counts
		other func(r *rig) answer                  // one that does not
	}{
		{
			"number", func(l *prove.Limits) { l.PerNumber = most },
			func(r *rig, c *clock, i int) answer { // alternately for two apps: the pause between resends is another limit
				c.advance(121 * time.Second)
				return r.verify(carol, []string{"chat", "bank"}[i%2])
			},
			func(r *rig) answer { return r.verify(carol+1, "chat") },
		},
		{
			"address", func(l *prove.Limits) { l.PerAddress = most },
			func(r *rig, _ *clock, i int) answer { r.from("127.0.0.1"); return r.verify(far(i), "chat") },
			func(r *rig) answer { r.from("127.0.0.2"); return r.verify(far(90), "chat") },
		},
		{
			"subnet", func(l *prove.Limits) { l.PerSubnet = most },
			func(r *rig, _ *clock, i int) answer {
				r.from("127.0.7." + strconv.Itoa(i+1))
				return r.verify(far(i), "chat")
			},
			func(r *rig) answer { r.from("127.0.8.1"); return r.verify(far(90), "chat") },
		},
		{
			"prefix", func(l *prove.Limits) { l.PerPrefix, l.PrefixDigits = most, 6 },
			func(r *rig, _ *clock, i int) answer { return r.verify(447700000000+msg.Number(i)*1000, "chat") },
			func(r *rig) answer { return r.verify(447701000000, "chat") },
		},
		{
			"app", func(l *prove.Limits) { l.PerApp = most },
			func(r *rig, _ *clock, i int) answer { return r.verify(far(i), "chat") },
			func(r *rig) answer { return r.verify(far(90), "bank") },
		},
	} {
		t.Run(c.limit, func(t *testing.T) {
			r, clock, _, sms := ownersAt(t, func(o *prove.Options) { c.set(&o.Limits) })
			i := 0
			for ; i < most; i++ {
				if a := c.begin(r, clock, i); a.status != http.StatusAccepted {
					t.Fatalf("verification %d of %d = %d %s", i+1, most, a.status, a.body)
				}
			}
			refused := c.begin(r, clock, i)
			wantProblem(t, "one too many", refused, http.StatusTooManyRequests, "limit-"+c.limit)
			wait, err := strconv.Atoi(refused.header.Get("Retry-After"))
			if err != nil || wait < 1 || wait > 3600/most+1 {
				t.Errorf("Retry-After = %q, want up to %d s: one comes free each", refused.header.Get("Retry-After"), 3600/most+1)
			}
			if len(sms) != most {
				t.Errorf("%d SMS, want %d: a refused one costs none", len(sms), most)
			}
			if a := c.other(r); a.status != http.StatusAccepted {
				t.Errorf("whom it does not concern = %d %s", a.status, a.body)
			}
			clock.advance(time.Duration(wait) * time.Second)
			if a := c.begin(r, clock, i+1); a.status != http.StatusAccepted {
				t.Errorf("after Retry-After = %d %s", a.status, a.body)
			}
			if c.limit != "number" { // there the clock goes on by itself
				wantProblem(t, "and one more at once", c.begin(r, clock, i+2), http.StatusTooManyRequests, "limit-"+c.limit)
			}
		})
	}
}

// The pauses between codes for one number are 30, 60 and then 120 seconds.
func TestResendPauses(t *testing.T) {
	r, clock, _, _ := ownersAt(t, nil)
	for i, pause := range []int{30, 60, 120, 120} {
		a := r.verify(carol, "chat")
		if a.status != http.StatusAccepted {
			t.Fatalf("code %d = %d %s", i+1, a.status, a.body)
		}
		if want := stamp(clock.Now().Add(time.Duration(pause) * time.Second)).Format(time.RFC3339); !strings.HasPrefix(a.fields["resend_after"].(string), strings.TrimSuffix(want, "Z")) {
			t.Errorf("code %d: resend_after %s, want %s", i+1, a.fields["resend_after"], want)
		}
		clock.advance(time.Duration(pause)*time.Second - time.Millisecond)
		early := r.verify(carol, "chat")
		wantProblem(t, fmt.Sprintf("a millisecond before the pause after code %d is over", i+1), early, http.StatusTooManyRequests, "limit-resend")
		if early.header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After = %q, want 1", early.header.Get("Retry-After"))
		}
		clock.advance(time.Millisecond)
	}
}

// Who asks for codes to neighbouring numbers, or to many that are never used,
// raises an alarm; an hour without ends it.
func TestPumpingAlarm(t *testing.T) {
	r, clock, service, _ := ownersAt(t, func(o *prove.Options) {
		o.Alarms = prove.AlarmLimits{PrefixDigits: 6, Sequence: 5, Sent: 8, Conversion: 50}
	})
	kinds := func() (all []string) {
		now, _ := service.Alarms()
		for _, a := range now {
			all = append(all, a.Kind+" +"+a.Prefix)
		}
		return all
	}
	for i := range msg.Number(4) {
		r.verify(447700900000+i, "chat")
	}
	if got := kinds(); len(got) > 0 {
		t.Errorf("after four neighbours: %q, want no alarm", got)
	}
	r.verify(447700900004, "chat")
	if diff := cmp.Diff([]string{"sequence +447700"}, kinds()); diff != "" {
		t.Errorf("after five neighbours (-want +got):\n%s", diff)
	}
	for i := range msg.Number(8) {
		r.verify(33612000000+i*7919, "chat")
	}
	if diff := cmp.Diff([]string{"conversion +336120", "sequence +447700"}, kinds()); diff != "" {
		t.Errorf("after eight codes that nobody used (-want +got):\n%s", diff)
	}
	if log := r.log.String(); strings.Count(log, "state=raised") != 2 || strings.Contains(log, "447700900004") {
		t.Errorf("log = %s, want two alarms and no number", log)
	}
	clock.advance(time.Hour)
	if got := kinds(); len(got) > 0 {
		t.Errorf("an hour later: %q, want none", got)
	}
}

// The bearer before a rotated one is good for the grace, to the second, and also
// when it was just used.
func TestBearerGraceEnds(t *testing.T) {
	r, clock, _, sms := ownersAt(t, nil)
	a := r.call("PUT", "/v1/devices/d1", put(r.proof(t, sms, carol), "t1", ""))
	first, _ := a.fields["bearer"].(string)
	a = r.call("PUT", "/v1/devices/d1", put("", "t1", `,"rotate":true`), "Authorization", "Bearer "+first)
	second, _ := a.fields["bearer"].(string)
	if second == "" || second == first {
		t.Fatalf("rotate = %d %s, want another bearer", a.status, a.body)
	}
	get := func(bearer string) answer {
		return r.call("GET", "/v1/devices/d1", "", "Authorization", "Bearer "+bearer)
	}
	clock.advance(10*time.Minute - time.Second)
	for _, bearer := range []string{first, second, first} {
		if a := get(bearer); a.status != http.StatusOK {
			t.Errorf("a second before the end of the grace = %d %s", a.status, a.body)
		}
	}
	clock.advance(time.Second)
	wantProblem(t, "the old bearer after the grace", get(first), http.StatusUnauthorized, codeUnauthorized)
	wantProblem(t, "and in the short way", r.call("POST", path(r.spool.NewID(), "/claim"), "", "Authorization", "Bearer "+first), http.StatusUnauthorized, codeUnauthorized)
	if a := get(second); a.status != http.StatusOK {
		t.Errorf("the new bearer after the grace = %d %s", a.status, a.body)
	}
}

// A number that is registered and one that is not get the same answer, and both
// one write to the disk and one SMS of the same form: nothing tells them apart.
func TestSameAnswerForEveryNumber(t *testing.T) {
	r, _, _, sms := ownersAt(t, nil)
	if _, err := r.reg.Put(t.Context(), registry.Put{Number: carol, App: "chat", Platform: registry.FCM, Token: "t", Device: "d", Active: true}); err != nil {
		t.Fatal(err)
	}
	shape := func(n msg.Number) (string, string) {
		before := r.reg.Count()
		a := r.verify(n, "chat")
		if a.fields["id"] == nil || len(sms) != 1 {
			t.Fatalf("verification of %d = %d %s, %d SMS", n, a.status, a.body, len(sms))
		}
		text := <-sms
		if after := r.reg.Count(); after != before {
			t.Errorf("count %+v, then %+v", before, after)
		}
		headers := a.header.Clone()
		headers.Del("Date")
		body := strings.ReplaceAll(a.body, a.fields["id"].(string), "ID")
		check := r.call("POST", "/v1/verifications/"+a.fields["id"].(string)+"/check", `{"code":"`+wrongFor(text)+`"}`)
		return fmt.Sprintf("%d %v %d %s\n%d %s", a.status, headers, len(a.fields["id"].(string)), body, check.status, check.body),
			sixDigits.ReplaceAllString(text, "CODE")
	}
	known, knownText := shape(carol)
	unknown, unknownText := shape(carol + 1)
	if diff := cmp.Diff(known, unknown); diff != "" {
		t.Errorf("a registered number and another one differ (-registered +other):\n%s", diff)
	}
	if knownText != unknownText {
		t.Errorf("SMS %q and %q", knownText, unknownText)
	}
}

func wrongFor(text string) string {
	if sixDigits.FindString(text) == "000000" {
		return "000001"
	}
	return "000000"
}
