package external

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shunt/gateway/msg"
	"shunt/store/registry"
)

const number msg.Number = 447700900042

const soundDevice = `{"app":"chat","platform":"apns","token":"0a0a","device":"phone","bearer":"sha256:` +
	`2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"}`

const sound = `{"registrations":[` + soundDevice + `]}`

// server is an external registry in memory. Its answers are by number.
type server struct {
	mu     sync.Mutex
	asked  []string // paths
	answer func(r *http.Request) (*http.Response, error)
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.asked = append(s.asked, r.URL.EscapedPath())
	f := s.answer
	s.mu.Unlock()
	return f(r)
}

func (s *server) set(f func(r *http.Request) (*http.Response, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

func (s *server) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func saying(status int, body string, headers ...string) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) {
		h := http.Header{}
		for i := 0; i < len(headers); i += 2 {
			h.Set(headers[i], headers[i+1])
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}, nil
	}
}

// silent answers when the caller has lost its patience.
func silent(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func refusing(*http.Request) (*http.Response, error) { return nil, errors.New("connection refused") }

// local is the registry here.
type local struct {
	mu   sync.Mutex
	told map[msg.Number][]registry.Told
	err  error
}

func (l *local) Lookup(n msg.Number) msg.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.told[n] == nil {
		return 0
	}
	return msg.MakeEntry(true, 0, 1).AsExternal()
}

func (l *local) Tell(_ context.Context, n msg.Number, _ string, told []registry.Told) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return l.err
	}
	if delete(l.told, n); len(told) > 0 {
		l.told[n] = told
	}
	return nil
}

// rig is one external registry, and what asks it.
type rig struct {
	*Registries
	t      *testing.T
	server *server
	local  *local
	log    *bytes.Buffer
}

func newRig(t *testing.T, set func(*Options)) *rig {
	t.Helper()
	o := Options{
		Name: "hlr", URL: "https://reg.example/v1/numbers/{number}", Timeout: 150 * time.Millisecond, Concurrency: 4, Cache: 1600,
		PositiveTTL: time.Minute, NegativeTTL: 30 * time.Second,
	}
	if set != nil {
		set(&o)
	}
	g := &rig{t: t, server: &server{answer: saying(404, "")}, local: &local{told: map[msg.Number][]registry.Told{}}, log: &bytes.Buffer{}}
	var err error
	g.Registries, err = New([]Options{o}, []string{"chat"}, g.local, slog.New(slog.NewTextHandler(g.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	g.clients[0].http.Transport = g.server
	return g
}

// ask asks and waits for the answer.
func (g *rig) ask(n msg.Number) msg.Reason {
	g.t.Helper()
	got := make(chan msg.Reason, 1)
	if !g.Ask(n, func(r msg.Reason) { got <- r }) {
		g.t.Fatal("Ask() = false")
	}
	r := <-got
	synctest.Wait() // its flight has ended
	return r
}

func (g *rig) looks(what string, n msg.Number, reason msg.Reason, next Next) {
	g.t.Helper()
	if r, x := g.Look(n); x != next || x == Go && r != reason {
		g.t.Errorf("%s: Look() = %q, %d, want %q, %d", what, r, x, reason, next)
	}
}

// TestVerdictsAreRemembered for their time to the nanosecond, and no longer.
func TestVerdictsAreRemembered(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(*http.Request) (*http.Response, error)
		reason msg.Reason
		ttl    time.Duration
	}{
		{"known", saying(200, sound), msg.NoReason, time.Minute},
		{"unknown", saying(404, ""), msg.ReasonUnregistered, 30 * time.Second},
		{"no device", saying(200, `{"registrations":[]}`), msg.ReasonUnregistered, 30 * time.Second},
		{"shorter", saying(200, sound, "Cache-Control", "private, max-age=7"), msg.NoReason, 7 * time.Second},
		{"not longer", saying(404, "", "Cache-Control", "max-age=3600"), msg.ReasonUnregistered, 30 * time.Second},
		{"not at all", saying(404, "", "Cache-Control", "no-store"), msg.ReasonUnregistered, 0},
		{"unfit for this number", saying(200, strings.Replace(sound, `"chat"`, `"other"`, 1)), msg.ReasonExternalFault, 30 * time.Second},
		{"a fault of the registry", saying(500, ""), msg.ReasonExternalFault, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, nil)
				g.server.set(c.answer)
				g.looks("before", number, 0, Ask)
				if got := g.ask(number); got != c.reason {
					t.Errorf("Ask() = %q, want %q", got, c.reason)
				}
				if c.ttl > 0 {
					time.Sleep(c.ttl - 1)
					g.looks("just before its end", number, c.reason, Go)
					time.Sleep(time.Nanosecond)
				}
				g.looks("at its end", number, 0, Ask)
				if n := g.server.requests(); n != 1 || g.server.asked[0] != "/v1/numbers/%2B447700900042" {
					t.Errorf("%d requests: %q", n, g.server.asked)
				}
				if known := g.local.Lookup(number).Registered(); known != (c.reason == msg.NoReason) {
					t.Errorf("told the registry here: %t", known)
				}
			})
		})
	}
}

// TestNoLongerKnown: what one answer has told ends with the next, but not with a
// fault, which says nothing.
func TestNoLongerKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		g.server.set(saying(200, sound))
		g.ask(number)
		time.Sleep(time.Minute)
		g.server.set(saying(500, ""))
		if got := g.ask(number); got != msg.ReasonExternalFault || !g.local.Lookup(number).Registered() {
			t.Errorf("a fault: %q, still told %t", got, g.local.Lookup(number).Registered())
		}
		g.server.set(saying(404, ""))
		if got := g.ask(number); got != msg.ReasonUnregistered || g.local.Lookup(number).Registered() {
			t.Errorf("not known any more: %q, still told %t", got, g.local.Lookup(number).Registered())
		}
	})
}

// TestHostileAnswers: none of them diverts anything, and each has its kind.
func TestHostileAnswers(t *testing.T) {
	with := func(from, to string) string {
		s := strings.Replace(sound, from, to, 1)
		if s == sound {
			t.Fatalf("%q is not in it", from)
		}
		return s
	}
	many := `{"registrations":[` + strings.TrimSuffix(strings.Repeat(soundDevice+",", registry.MaxDevices+1), ",") + `]}`
	for _, c := range []struct {
		name   string
		answer func(*http.Request) (*http.Response, error)
		want   Outcome
		reason msg.Reason
	}{
		{"nothing", saying(200, ""), Malformed, msg.ReasonExternalFault},
		{"null", saying(200, "null"), Malformed, msg.ReasonExternalFault},
		{"no registrations", saying(200, "{}"), Malformed, msg.ReasonExternalFault},
		{"HTML", saying(200, "<html>"), Malformed, msg.ReasonExternalFault},
		{"cut", saying(200, sound[:len(sound)-1]), Malformed, msg.ReasonExternalFault},
		{"something behind it", saying(200, sound+"{}"), Malformed, msg.ReasonExternalFault},
		{"too deep", saying(200, strings.Repeat("[", 60_000)), Malformed, msg.ReasonExternalFault},
		{"longer than allowed", saying(200, sound+strings.Repeat(" ", maxAnswer)), Oversized, msg.ReasonExternalFault},
		{"many devices", saying(200, many), Invalid, msg.ReasonExternalFault},
		{"another number", saying(200, with(`"app"`, `"number":"+447700900043","app"`)), Invalid, msg.ReasonExternalFault},
		{"an unknown app", saying(200, with(`"chat"`, `"bank"`)), Invalid, msg.ReasonExternalFault},
		{"an unknown platform", saying(200, with(`"apns"`, `"gcm"`)), Invalid, msg.ReasonExternalFault},
		{"an unknown state", saying(200, with(`"app"`, `"state":"on","app"`)), Invalid, msg.ReasonExternalFault},
		{"a bearer in clear", saying(200, with(`"sha256:2b`, `"2b`)), Invalid, msg.ReasonExternalFault},
		{"a short hash", saying(200, with(`a25b"`, `a2"`)), Invalid, msg.ReasonExternalFault},
		{"204", saying(204, ""), BadStatus, msg.ReasonExternalFault},
		{"a redirect", saying(302, "", "Location", "http://127.0.0.1/"), BadStatus, msg.ReasonExternalFault},
		{"401", saying(401, ""), BadStatus, msg.ReasonExternalFault},
		{"no connection", refusing, Unreachable, msg.ReasonExternalDown},
		{"silence", silent, Timeout, msg.ReasonExternalTimeout},
		{"a body that stops", func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(io.MultiReader(strings.NewReader(sound[:9]), readerFunc(func([]byte) (int, error) {
				<-r.Context().Done()
				return 0, r.Context().Err()
			})))}, nil
		}, Timeout, msg.ReasonExternalTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, nil)
				g.server.set(c.answer)
				begin := time.Now()
				if got := g.ask(number); got != c.reason {
					t.Errorf("Ask() = %q, want %q", got, c.reason)
				}
				if took := time.Since(begin); took > 150*time.Millisecond {
					t.Errorf("it took %s, more than the time-out", took)
				}
				if s := g.Status()[0]; !maps.Equal(s.Lookups, map[string]uint64{c.want.String(): 1}) {
					t.Errorf("counted %v, want one %s", s.Lookups, c.want)
				}
				if g.local.Lookup(number).Registered() {
					t.Error("the registry here was told of it")
				}
				if l := g.log.String(); strings.Contains(l, "44770090") {
					t.Errorf("a number is in the log: %s", l)
				}
			})
		})
	}
	if _, bad := decode([]byte(sound), number, []string{"chat"}); bad != nil {
		t.Errorf("the sound answer: %v", bad)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// TestBreaker: after five faults in a row nothing is asked and nobody waits; one
// probe brings the registry back, and the log says so once each way.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		g.server.set(silent)
		for i := range msg.Number(5) {
			g.looks("still asked", number+i, 0, Ask)
			if got := g.ask(number + i); got != msg.ReasonExternalTimeout {
				t.Errorf("fault %d: %q", i, got)
			}
		}
		g.looks("open", number+9, msg.ReasonExternalDown, Go)
		if n, s := g.server.requests(), g.Status()[0]; n != 5 || s.Breaker != "open" || s.Trips != 1 || s.Reason != "timeout" || s.Lookups["down"] != 1 {
			t.Errorf("%d requests, status %+v", n, s)
		}
		time.Sleep(2 * time.Second) // at most 1.5 s
		g.looks("half-open", number, 0, Ask)
		release := make(chan struct{})
		g.server.set(func(r *http.Request) (*http.Response, error) {
			<-release
			return saying(404, "")(r)
		})
		probe := make(chan msg.Reason, 1)
		g.Ask(number, func(r msg.Reason) { probe <- r })
		synctest.Wait()
		g.looks("beside the probe", number+1, msg.ReasonExternalDown, Go)
		close(release)
		if got := <-probe; got != msg.ReasonUnregistered {
			t.Errorf("the probe: %q", got)
		}
		synctest.Wait()
		g.looks("closed", number+1, 0, Ask)
		for _, line := range []string{"external registry does not answer, its numbers go as plain SMS; it is tried again", "external registry answers again"} {
			if n := strings.Count(g.log.String(), `msg="`+line); n != 1 {
				t.Errorf("%d lines %q in the log, want 1:\n%s", n, line, g.log)
			}
		}
	})
}

// TestRetryAfter: a registry that asks to be left alone is.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		g.server.set(saying(503, "", "Retry-After", "20"))
		g.ask(number)
		time.Sleep(20*time.Second - 1)
		g.looks("before", number, msg.ReasonExternalDown, Go)
		time.Sleep(time.Nanosecond)
		g.looks("after", number, 0, Ask)
	})
}

// TestUnfitForOneNumber: an answer of no use about one number says nothing of the
// registry: its breaker stays closed.
func TestUnfitForOneNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		g.server.set(saying(200, strings.Replace(sound, `"chat"`, `"bank"`, 1)))
		for i := range msg.Number(10) {
			g.ask(number + i)
		}
		if s := g.Status()[0]; s.Breaker != "closed" || s.Lookups["invalid"] != 10 {
			t.Errorf("status %+v", s)
		}
	})
}

// TestOneLookup: messages that come for a number which is being looked up wait for
// the one look-up and go on in their order, also those that come meanwhile.
func TestOneLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		release := make(chan struct{})
		g.server.set(func(r *http.Request) (*http.Response, error) {
			<-release
			return saying(200, sound)(r)
		})
		var order []int // by the flight's goroutine alone
		first := make(chan struct{})
		blocked := make(chan struct{})
		g.Ask(number, func(msg.Reason) {
			order = append(order, 0)
			close(first)
			<-blocked // as a full window does
		})
		for i := 1; i < 50; i++ {
			g.Ask(number, func(r msg.Reason) {
				if r != msg.NoReason {
					t.Errorf("%d: %q", i, r)
				}
				order = append(order, i)
			})
		}
		synctest.Wait()
		g.looks("under way", number, 0, Wait)
		g.looks("another number", number+1, 0, Ask)
		close(release)
		<-first
		g.looks("answered, and others go on first", number, 0, Wait)
		g.Ask(number, func(msg.Reason) { order = append(order, 50) })
		if n := g.Waiting(); n != 51 {
			t.Errorf("%d wait, want 51: one is called, and blocked", n)
		}
		close(blocked)
		synctest.Wait()
		want := make([]int, 51)
		for i := range want {
			want[i] = i
		}
		if n := g.server.requests(); n != 1 || !slices.Equal(order, want) {
			t.Errorf("%d requests, order %v", n, order)
		}
		g.looks("then", number, msg.NoReason, Go)
		if n := g.Waiting(); n != 0 {
			t.Errorf("%d wait", n)
		}
	})
}

// asks is an AskAll with what it is told in one place.
func (g *rig) askAll(numbers []msg.Number, then func(map[msg.Number]msg.Reason)) bool {
	answers := make(map[msg.Number]msg.Reason)
	for _, n := range numbers {
		answers[n] = msg.NoReason
	}
	return g.AskAll(answers, func() { then(answers) })
}

// TestAskAll: all are looked up at once, each once, and nothing goes on before the
// last is answered; behind each number everybody keeps his place.
func TestAskAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		release := make(chan struct{})
		g.server.set(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, number.String()[1:]) {
				return saying(404, "")(r)
			}
			<-release
			return saying(404, "")(r)
		})
		var mu sync.Mutex
		var order []string
		note := func(what string) { mu.Lock(); order = append(order, what); mu.Unlock() }
		g.Ask(number+1, func(msg.Reason) { note("before") })
		if !g.askAll([]msg.Number{number, number + 1, number + 2}, func(got map[msg.Number]msg.Reason) {
			note("all")
			if len(got) != 3 || got[number] != msg.ReasonUnregistered || got[number+1] != msg.ReasonUnregistered || got[number+2] != msg.ReasonUnregistered {
				t.Errorf("answers %v", got)
			}
		}) {
			t.Fatal("AskAll() = false")
		}
		g.Ask(number, func(msg.Reason) { note("after") })
		synctest.Wait()
		if len(order) != 0 || g.server.requests() != 3 {
			t.Errorf("before the last answer: %q after %d requests, want nothing after three", order, g.server.requests())
		}
		close(release)
		synctest.Wait()
		if want := []string{"before", "all", "after"}; !slices.Equal(order, want) {
			t.Errorf("order %q, want %q", order, want)
		}
		if g.Waiting() != 0 || g.flying.Load() != 0 {
			t.Errorf("%d wait", g.Waiting())
		}

		g.mu.Lock()
		g.waiting = maxWaiting - 1
		g.mu.Unlock()
		if g.askAll([]msg.Number{number + 20, number + 21}, func(map[msg.Number]msg.Reason) { t.Error("it was told") }) || g.flying.Load() != 0 {
			t.Error("AskAll() of two where one may wait still")
		}
		if !g.askAll([]msg.Number{number + 20}, func(map[msg.Number]msg.Reason) {}) {
			t.Error("AskAll() of one = false")
		}
		synctest.Wait()
	})
}

// TestAskAllIsBounded: who waits for the other numbers of his set is one of those
// that may wait, whatever is known of his own.
func TestAskAllIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		release := make(chan struct{})
		g.server.set(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, number.String()[1:]) {
				<-release // one holds them all
			}
			return saying(404, "")(r)
		})
		const each = 64
		sets, next := 0, number
		for ; sets <= 2*maxWaiting/each; sets++ {
			all := []msg.Number{number}
			for range each - 1 {
				next++
				all = append(all, next)
			}
			if !g.askAll(all, func(map[msg.Number]msg.Reason) {}) {
				break
			}
			synctest.Wait()
		}
		if n := g.flying.Load(); sets != maxWaiting/each || n > maxWaiting {
			t.Errorf("%d sets of %d numbers wait in %d flights, want %d sets", sets, each, n, maxWaiting/each)
		}
		close(release)
		synctest.Wait()
		if n := g.Waiting(); n != 0 || g.flying.Load() != 0 {
			t.Errorf("%d wait in %d flights", n, g.flying.Load())
		}
	})
}

// TestAskAllCrossing: whatever sets of numbers are asked about at once, none waits
// in a ring, and two that share a number go on in one order for all that they
// share.
func TestAskAllCrossing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, func(o *Options) { o.Concurrency = 100 })
		g.server.set(saying(404, ""))
		var mu sync.Mutex
		last := map[msg.Number]int{} // of each number's callers, in the order in which they asked
		asked := 0
		var callers sync.WaitGroup
		for c := range 8 {
			callers.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(c), 1))
				for range 200 {
					var all []msg.Number
					for range 1 + rnd.IntN(4) {
						all = append(all, number+msg.Number(rnd.IntN(6)))
					}
					mu.Lock() // so that the order is known
					asked++
					turn := asked
					ok := g.askAll(all, func(got map[msg.Number]msg.Reason) {
						mu.Lock()
						defer mu.Unlock()
						for n := range got {
							if last[n] > turn {
								t.Errorf("%s: %d goes on after %d", n, turn, last[n])
							}
							last[n] = turn
						}
					})
					mu.Unlock()
					if !ok {
						t.Error("AskAll() = false")
					}
				}
			})
		}
		callers.Wait()
		synctest.Wait()
		if g.Waiting() != 0 || g.flying.Load() != 0 {
			t.Errorf("%d wait in %d flights", g.Waiting(), g.flying.Load())
		}
	})
}

// TestBounds: no more look-ups at a time than allowed, no more messages that wait.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		release := make(chan struct{})
		g.server.set(func(r *http.Request) (*http.Response, error) {
			<-release
			return saying(404, "")(r)
		})
		for i := range msg.Number(4) {
			g.Ask(number+i, func(msg.Reason) {})
		}
		synctest.Wait()
		g.looks("all slots are taken", number+9, msg.ReasonExternalBusy, Go)
		if got := g.ask(number + 9); got != msg.ReasonExternalBusy { // it may come between a look and the asking
			t.Errorf("Ask() without a slot = %q", got)
		}
		if n := g.server.requests(); n != 4 {
			t.Errorf("%d requests, want 4", n)
		}
		taken := 4
		for g.Ask(number, func(msg.Reason) {}) {
			if taken++; taken > maxWaiting {
				t.Fatalf("more than %d wait", maxWaiting)
			}
		}
		if taken != maxWaiting {
			t.Errorf("%d may wait, want %d", taken, maxWaiting)
		}
		close(release)
		synctest.Wait()
		if n := g.Waiting(); n != 0 || g.flying.Load() != 0 || len(g.flights) != 0 {
			t.Errorf("%d wait, %d flights", n, len(g.flights))
		}
	})
}

// TestCacheIsBounded, and makes room for what is new.
func TestCacheIsBounded(t *testing.T) {
	c := newCache(160)
	now := time.Unix(1, 0)
	for i := range msg.Number(10_000) {
		c.put(number+i, Unknown, now.Add(time.Second))
		if _, ok := c.get(number+i, now); !ok {
			t.Fatalf("number %d is not in it", i)
		}
	}
	if n := c.len(); n > 160 || n < 100 {
		t.Errorf("%d entries, want at most 160", n)
	}
}

// TestLookAllocatesNothing for a number that is remembered as not known.
func TestLookAllocatesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, func(o *Options) { o.To = []string{"+1", "+4477"} })
		g.ask(number)
		if n := testing.AllocsPerRun(1000, func() {
			if !g.Covers(number) {
				t.Fatal("it is not covered")
			}
			if r, next := g.Look(number); r != msg.ReasonUnregistered || next != Go {
				t.Fatalf("Look() = %q, %d", r, next)
			}
		}); n != 0 {
			t.Errorf("%v allocations, want none", n)
		}
	})
}

func TestCovers(t *testing.T) {
	g := newRig(t, func(o *Options) { o.To = []string{"+44770090004", "+353"} })
	for n, want := range map[msg.Number]bool{number: true, 447700900052: false, 353861234567: true, 35312345: true, 4477009: false} {
		if got := g.Covers(n); got != want {
			t.Errorf("Covers(%d) = %t, want %t", n, got, want)
		}
	}
	var none *Registries
	if r, next := none.Look(number); none.Covers(number) || r != msg.ReasonUnregistered || next != Go || none.Status() != nil {
		t.Error("without registries something is covered")
	}
}

// TestSecondRegistry: one that knows a number counts, whatever another says. If
// none does, one that cannot say keeps the number from being taken for unknown.
func TestSecondRegistry(t *testing.T) {
	for _, c := range []struct {
		name          string
		first, second func(*http.Request) (*http.Response, error)
		want          msg.Reason
		asked         int // of the second
	}{
		{"the first knows", saying(200, sound), saying(404, ""), msg.NoReason, 0},
		{"the second knows", saying(404, ""), saying(200, sound), msg.NoReason, 1},
		{"the first is down, the second knows", refusing, saying(200, sound), msg.NoReason, 1},
		{"the first does not know, the second is down", saying(404, ""), refusing, msg.ReasonExternalDown, 1},
		{"the first is down, the second does not know", refusing, saying(404, ""), msg.ReasonExternalDown, 1},
		{"none knows", saying(404, ""), saying(404, ""), msg.ReasonUnregistered, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newRig(t, nil)
				other := newRig(t, func(o *Options) { o.Name = "ported" })
				g.clients = append(g.clients, other.clients[0])
				g.server.set(c.first)
				other.server.set(c.second)
				if got := g.ask(number); got != c.want || other.server.requests() != c.asked {
					t.Errorf("Ask() = %q, the second was asked %d times; want %q, %d", got, other.server.requests(), c.want, c.asked)
				}
			})
		})
	}
}

// TestNotStored: a number that the registry here cannot keep stays with the carrier.
func TestNotStored(t *testing.T) {
	for _, c := range []struct {
		err  error
		next Next
	}{
		{errors.New("disk full"), Ask}, {fmt.Errorf("x: %w", registry.ErrBearerInUse), Go},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t, nil)
			g.server.set(saying(200, sound))
			g.local.err = c.err
			if got := g.ask(number); got != msg.ReasonExternalFault {
				t.Errorf("%v: Ask() = %q", c.err, got)
			}
			g.looks(c.err.Error(), number, msg.ReasonExternalFault, c.next)
			if l := g.log.String(); strings.Contains(l, number.String()) || !strings.Contains(l, number.Masked()) {
				t.Errorf("log: %s", l)
			}
		})
	}
}

// TestExplainTouchesNothing: it says what is, and remembers nothing.
func TestExplainTouchesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, nil)
		g.server.set(saying(200, sound))
		all := g.Explain(t.Context(), number)
		if len(all) != 1 || all[0].Registry != "hlr" || all[0].Outcome != Known || len(all[0].Told) != 1 || all[0].Cached {
			t.Errorf("Explain() = %+v", all)
		}
		if s := g.Status()[0]; len(s.Lookups) != 0 || s.Cached != 0 || s.Took != 0 || g.local.Lookup(number).Registered() {
			t.Errorf("it has left something: %+v", s)
		}
		g.server.set(silent)
		for range 9 {
			if all = g.Explain(t.Context(), number); all[0].Reason != msg.ReasonExternalTimeout {
				t.Errorf("Explain() = %+v", all)
			}
		}
		g.looks("then", number, 0, Ask)
	})
}

// TestOverTLS: the real client, its CA, its token, and no other server.
func TestOverTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" || r.RequestURI != "/reg?n=%2B447700900042" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, sound)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	for _, c := range []struct {
		name, token string
		ca          []byte
		want        Outcome
	}{{"right", "secret", ca, Known}, {"wrong token", "other", ca, BadStatus}, {"a CA that is not ours", "secret", nil, Unreachable}} {
		g := newRig(t, func(o *Options) {
			o.URL, o.CA, o.Token, o.Timeout = s.URL+"/reg?n={number}", c.ca, c.token, 10*time.Second
		})
		client, err := newClient(g.clients[0].o, &g.apps, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if f := client.fetch(t.Context(), number); f.outcome != c.want || f.err != nil && strings.Contains(f.err.Error(), "447700900042") {
			t.Errorf("%s: %s, %v, want %s", c.name, f.outcome, f.err, c.want)
		}
		client.http.CloseIdleConnections()
	}
}

// FuzzDecode: whatever an answer holds, what comes of it is within the limits.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(sound))
	f.Add([]byte(`{"registrations":[{"proven_at":"2026-01-02T03:04:05Z"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		told, bad := decode(body, number, []string{"chat"})
		if bad != nil {
			return
		}
		if !json.Valid(body) || len(told) > registry.MaxDevices {
			t.Errorf("decode(%q) = %v", body, told)
		}
		for _, d := range told {
			if d.App != "chat" || d.Platform != registry.APNs && d.Platform != registry.FCM {
				t.Errorf("decode(%q) = %+v", body, d)
			}
		}
	})
}
