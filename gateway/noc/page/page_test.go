package page

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/store/spool"
)

const secret = "a-token-of-enough-octets"

// fake is a gateway that counts how often it is looked at.
type fake struct {
	mu       sync.Mutex
	status   noc.Status
	sessions []noc.Session
	queue    []noc.Queue
	looks    int
	refuse   error
}

func (f *fake) Status() noc.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	return f.status
}

func (f *fake) Sessions() []noc.Session {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]noc.Session(nil), f.sessions...)
}

func (f *fake) Divert() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status.Divert
}

func (f *fake) SetDivert(_ context.Context, mode string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	f.status.Divert = mode
	return nil
}

func (f *fake) Queue() []noc.Queue {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.queue
}

func (f *fake) SetDrain(on bool) noc.Drain {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Drain = on
	return noc.Drain{Draining: on}
}

func (f *fake) Verdicts() map[string]map[string]uint64 { return nil }

func (f *fake) looked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.looks
}

// add has n submits come in, all diverted.
func (f *fake) add(n uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Counters.SubmitsIn += n
	f.status.Counters.Diverted += n
}

func healthy() *fake {
	return &fake{status: noc.Status{
		Node: "edge-1", Version: "1.0", Divert: "on", IndexReady: true, Started: time.Now().Add(-time.Hour), DiskFree: 0.5,
		Binds: noc.BindCounts{Transceiver: 1, Upstream: 1}, Own: []noc.OwnBind{{SMSC: "smsc-own", State: "bound", WindowMax: 100}},
		Push: []noc.PushLane{{App: "chat", Provider: "apns", Breaker: "closed"}}, Spool: spool.Stats{Max: 1000},
	}}
}

// shelf is a spool of one message.
type shelf struct {
	rec     spool.Record
	block   chan struct{} // not nil: Resolve waits for it
	resolve chan struct{} // hears of every Resolve that waits
}

func (s *shelf) Get(id msg.ID) (spool.Record, error) {
	if id != s.rec.ID {
		return spool.Record{}, spool.ErrNotFound
	}
	return s.rec, nil
}

func (s *shelf) Trace(msg.ID) ([]spool.Step, error) {
	return []spool.Step{{At: s.rec.ReceivedAt, Event: msg.EvPushAccepted, To: msg.Pushed}}, nil
}

func (s *shelf) Resolve(wire string) (msg.ID, bool) {
	if s.block != nil {
		s.resolve <- struct{}{}
		<-s.block
	}
	return s.rec.ID, wire == s.rec.WireID
}

func (s *shelf) Latest(string, int) []spool.Record { return nil }

func (s *shelf) Recent(n msg.Number, _ int) ([]spool.Record, error) {
	if n != s.rec.To {
		return nil, nil
	}
	return []spool.Record{s.rec}, nil
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	id, err := msg.ParseID("s01JZ0000000000000000000000")
	if err != nil {
		t.Fatal(err)
	}
	s := &shelf{}
	s.rec.ID, s.rec.WireID, s.rec.To, s.rec.From = id, "0000002a", 447700900042, "+447700900111"
	s.rec.Account.SystemID, s.rec.App, s.rec.State, s.rec.ReceivedAt = "shop", "chat", msg.Pushed, time.Now()
	return s
}

func newWeb(o Options) (*Page, http.Handler) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	p := New(o)
	return p, noc.NewWeb(noc.WebOptions{Gateway: o.Gateway.(noc.Watched), Log: o.Log, Page: p.Routes()})
}

func ask(h http.Handler, method, path string, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	rec, r := httptest.NewRecorder(), httptest.NewRequest(method, "http://localhost:9464"+path, nil)
	for _, f := range edit {
		f(r)
	}
	h.ServeHTTP(rec, r)
	return rec
}

func TestPageIsCompleteWithoutScript(t *testing.T) {
	g := healthy()
	g.sessions = []noc.Session{{SystemID: "shop<script>", Peer: "192.0.2.1:4711", Bind: "transceiver", State: "bound", Version: 0x34, Since: time.Now(), Rate: 7, WindowIn: 90, WindowMax: 100}}
	_, h := newWeb(Options{Gateway: g, Spool: newShelf(t)})
	rec := ask(h, "GET", "/")
	for _, want := range []string{
		"Ready, diverting.", "edge-1", "shop&lt;script&gt;", "192.0.2.1:4711", "90/100", `<tr role="row" class="warn">`,
		"smsc-own", "chat", "Commit, slowest", `<form role="search" action="/message"`, `aria-live="polite"`, "Nothing was diverted since the start.",
	} {
		if !strings.Contains(rec.Body.String(), want) {
			t.Errorf("GET / has no %s:\n%s", want, rec.Body)
		}
	}
	if n := strings.Count(rec.Body.String(), "aria-live"); n != 1 {
		t.Errorf("live regions: got %d, want the health line alone", n)
	}
	for _, bad := range []string{"<form class=\"card switches\"", " style=", "<style", "onclick", "http://", "https://", "Active alarms"} {
		if strings.Contains(rec.Body.String(), bad) {
			t.Errorf("GET / has %s", bad)
		}
	}
	for k, want := range map[string]string{
		"X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
	} {
		if got := rec.Header().Get(k); got != want {
			t.Errorf("%s = %q, want %q", k, got, want)
		}
	}
	if csp := rec.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
		t.Errorf("Content-Security-Policy = %q", csp)
	}
}

func TestHealthLine(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*noc.Status)
		want Health
	}{
		{"well", func(*noc.Status) {}, Health{"ok", "Ready, diverting."}},
		{"index", func(s *noc.Status) { s.IndexReady = false }, Health{"bad", "Not ready: the registry's index is loading."}},
		{"no upstream", func(s *noc.Status) { s.Binds.Upstream, s.Own[0].State = 0, "unbound" }, Health{"bad", "Not ready: no upstream is bound."}},
		{"off", func(s *noc.Status) { s.Divert = "off" }, Health{"warn", "Ready, diversion is switched off."}},
		{"fails open", func(s *noc.Status) { s.FailOpen = []string{msg.ReasonSpoolFull.String()} }, Health{"warn", "Ready, but nothing is diverted: the spool or its disk is full."}},
		{"drained", func(s *noc.Status) { s.Drain = true }, Health{"warn", "Draining: no new binds or submits. What is pending is finished."}},
		{"not ready and drained", func(s *noc.Status) { s.Drain, s.IndexReady = true, false }, Health{"bad", "Draining: no new binds or submits. Not ready: the registry's index is loading."}},
		{"breaker", func(s *noc.Status) { s.Push[0].Breaker = "open" }, Health{"warn", "Ready, diverting. Pushes are held back: chat by apns."}},
	} {
		g := healthy()
		c.set(&g.status)
		if got := health(&g.status); got != c.want {
			t.Errorf("%s: health() = %+v, want %+v", c.name, got, c.want)
		}
	}
}

// The queue is shown by plan and state, and what answers took, with a mark where
// that is too long.
func TestPlansAndAnswers(t *testing.T) {
	g := healthy()
	_, h := newWeb(Options{Gateway: g, Spool: newShelf(t)})
	if b := ask(h, "GET", "/").Body.String(); !strings.Contains(b, "Nothing is pending.") {
		t.Errorf("GET / of an empty queue:\n%s", b)
	}
	row := func(plan, account string, s msg.State, n, receipts int, ago time.Duration) noc.Queue {
		return noc.Queue{QueueKey: noc.QueueKey{State: s, Plan: plan, App: "chat", Account: account}, Messages: n, ReceiptsDue: receipts, Oldest: time.Now().Add(-ago)}
	}
	g = healthy()
	g.queue = []noc.Queue{
		row("news", "shop", msg.Pushed, 3, 0, time.Minute), row("news", "bank", msg.Pushed, 4, 0, time.Hour),
		row("news", "bank", msg.Delivered, 1, 1, 2*time.Second), row("", "bank", msg.Held, 5, 0, time.Second),
	}
	g.status.Answers = []noc.Answers{{Leg: "smpp", Count: 1200, P50: 0.00123, P99: 2.5}, {Leg: "app"}}
	p, _ := newWeb(Options{Gateway: g, Spool: newShelf(t)})
	now := time.Now()
	v := p.look(now)
	tables := make(map[string]Table)
	for _, table := range v.Tables {
		tables[table.ID] = table
	}
	want := []Row{
		{"", []string{"–", "HELD", "5", "0", "1 s"}},
		{"", []string{"news", "PUSHED", "7", "0", "1 h 0 min"}},
		{"", []string{"news", "DELIVERED", "1", "1", "2 s"}},
	}
	if d := cmp.Diff(want, tables["plans"].Rows); d != "" {
		t.Errorf("plans (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]Row{{"warn", []string{"the SMSC", "1,200", "1.23ms", "2.5s"}}}, tables["answers"].Rows); d != "" {
		t.Errorf("answers (-want +got):\n%s", d)
	}
	p.queue.until = now.Add(time.Minute) // as if to walk it had taken three seconds
	g.queue = nil
	if rows := p.queue.of(g, now.Add(59*time.Second)); len(rows) != 3 {
		t.Errorf("the queue was walked again at once: %+v", rows)
	}
	if rows := p.queue.of(g, now.Add(time.Minute)); len(rows) != 0 {
		t.Errorf("the queue a minute later = %+v, want it anew", rows)
	}
}

// Whatever somebody calls himself, a cell is bounded: the style breaks it where it
// must.
func TestLongNames(t *testing.T) {
	long := strings.Repeat("Größe-", 100)
	g := healthy()
	g.sessions = []noc.Session{{SystemID: long, Peer: "192.0.2.1:4711", Bind: "transceiver", State: "bound", LastError: long}}
	g.queue = []noc.Queue{{QueueKey: noc.QueueKey{State: msg.Pushed, Plan: long}, Messages: 1, Oldest: time.Now()}}
	g.status.Own[0].SMSC, g.status.Own[0].LastError = long, long
	g.status.Push[0].App = long
	p, _ := newWeb(Options{Gateway: g, Spool: newShelf(t)})
	cut := 0
	for _, table := range p.look(time.Now()).Tables {
		for _, row := range table.Rows {
			for _, cell := range row.Cells {
				if n := len([]rune(cell)); n > 161 {
					t.Errorf("%s has a cell of %d", table.ID, n)
				} else if strings.HasSuffix(cell, "…") {
					cut++
				}
			}
		}
	}
	if cut != 6 {
		t.Errorf("%d cells were cut, want 6", cut)
	}
	style, err := files.ReadFile("files/style.css")
	if err != nil || !regexp.MustCompile(`(?m)^td \{[^}]*overflow-wrap: anywhere`).Match(style) {
		t.Errorf("cells do not break (%v)", err)
	}
}

type alarms []Alarm

func (a alarms) Active() []Alarm { return a }

func TestAlarmsHaveAPlace(t *testing.T) {
	_, h := newWeb(Options{Gateway: healthy(), Spool: newShelf(t), Alarms: alarms{{Name: "own-bind-down", Severity: "major", Since: time.Now(), Text: "The own bind is down."}}})
	if b := ask(h, "GET", "/").Body.String(); !strings.Contains(b, "Active alarms") || !strings.Contains(b, "own-bind-down") {
		t.Errorf("GET / shows no alarm:\n%s", b)
	}
	_, h = newWeb(Options{Gateway: healthy(), Spool: newShelf(t), Alarms: alarms(nil)})
	if b := ask(h, "GET", "/").Body.String(); !strings.Contains(b, "No alarm is active.") {
		t.Errorf("GET / does not say that no alarm is active:\n%s", b)
	}
}

func TestClearAnswers(t *testing.T) {
	_, h := newWeb(Options{Gateway: healthy(), Spool: newShelf(t)})
	for _, c := range []struct {
		method, path string
		status       int
		text         string
	}{
		{"HEAD", "/", 200, ""},
		{"HEAD", "/events", 200, ""},
		{"GET", "/wp-login.php", 404, "There is nothing here"},
		{"GET", "/assets/../../etc/passwd", 307, ""},
		{"GET", "/assets/none.css", 404, "There is nothing here"},
		{"GET", "/robots.txt", 200, "Disallow: /"},
		{"POST", "/", 405, ""},
		{"POST", "/metrics", 405, ""},
		{"POST", "/divert", 405, ""},
		{"POST", "/drain", 405, ""},
		{"GET", "/divert", 404, "There is nothing here"},
		{"GET", "/message", 400, "Enter a message id"},
		{"GET", "/message?id=%20", 400, "Enter a message id"},
		{"GET", "/message?id=" + strings.Repeat("7", 66), 400, "too long"},
		{"GET", "/message?id=%00%ff", 400, "printable ASCII"},
		{"GET", "/message?id=%2B447700900099", 404, "No diverted message"},
		{"GET", "/message?id=..%2F..%2Fetc", 404, "No diverted message"},
		{"GET", "/message?id=%3Cscript%3E", 404, "No diverted message"},
	} {
		rec := ask(h, c.method, c.path)
		if rec.Code != c.status || !strings.Contains(rec.Body.String(), c.text) {
			t.Errorf("%s %s = %d %q, want %d with %q", c.method, c.path, rec.Code, rec.Body, c.status, c.text)
		}
		for _, quoted := range []string{"447700900099", "<script>", strings.Repeat("7", 20)} {
			if strings.Contains(rec.Body.String(), quoted) {
				t.Errorf("%s %s repeats %s", c.method, c.path, quoted)
			}
		}
	}
}

func TestSearchMasksNumbers(t *testing.T) {
	_, h := newWeb(Options{Gateway: healthy(), Spool: newShelf(t)})
	for _, id := range []string{"s01JZ0000000000000000000000", "0000002a", "%2B447700900042", "+447700900042", "447700900042"} {
		rec := ask(h, "GET", "/message?id="+id)
		b := rec.Body.String()
		if rec.Code != 200 || !strings.Contains(b, "s01JZ0000000000000000000000") || !strings.Contains(b, "&#43;4477••••0042") || !strings.Contains(b, msg.EvPushAccepted.String()) {
			t.Errorf("GET /message?id=%s = %d, want the message, its number masked:\n%s", id, rec.Code, b)
		}
		if regexp.MustCompile(`44770090\d+`).MatchString(b) {
			t.Errorf("GET /message?id=%s shows a number:\n%s", id, b)
		}
	}
}

func TestSearchesAreBounded(t *testing.T) {
	s := newShelf(t)
	s.block, s.resolve = make(chan struct{}), make(chan struct{})
	_, h := newWeb(Options{Gateway: healthy(), Spool: s})
	var wg sync.WaitGroup
	for range maxSearches {
		wg.Go(func() { ask(h, "GET", "/message?id=0000002a") })
		<-s.resolve
	}
	if rec := ask(h, "GET", "/message?id=0000002a"); rec.Code != 503 || rec.Header().Get("Retry-After") == "" {
		t.Errorf("search while %d are under way = %d, want 503 with Retry-After", maxSearches, rec.Code)
	}
	close(s.block)
	wg.Wait()
}

func TestAssetsAreWhatThePageNames(t *testing.T) {
	_, h := newWeb(Options{Gateway: healthy(), Spool: newShelf(t)})
	paths := regexp.MustCompile(`"(/assets/[^"]+)"`).FindAllStringSubmatch(ask(h, "GET", "/").Body.String(), -1)
	if len(paths) != 3 {
		t.Fatalf("assets of the page: %v, want three", paths)
	}
	for _, p := range paths {
		rec := ask(h, "GET", p[1])
		if rec.Code != 200 || rec.Body.Len() == 0 || !strings.Contains(rec.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("GET %s = %d, %d octets, %s", p[1], rec.Code, rec.Body.Len(), rec.Header().Get("Cache-Control"))
		}
	}
}

// form posts the switches' form as a browser does.
func form(h http.Handler, path, token string, set func(*http.Request)) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "http://localhost:9464"+path, strings.NewReader(url.Values{"token": {token}, "mode": {"shadow"}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if set != nil {
		set(r)
	}
	h.ServeHTTP(rec, r)
	return rec
}

func TestSwitches(t *testing.T) {
	for _, c := range []struct {
		name, path, token string
		set               func(*http.Request)
		status            int
		divert            string
		drain             bool
	}{
		{"divert", "/divert", secret, nil, 303, "shadow", false},
		{"drain", "/drain", secret, nil, 303, "on", true},
		{"wrong token", "/divert", secret + "x", nil, 403, "on", false},
		{"no token", "/drain", "", nil, 403, "on", false},
		{"another site", "/drain", secret, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403, "on", false},
		{"another port", "/drain", secret, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, 403, "on", false},
		{"another origin", "/drain", secret, func(r *http.Request) {
			r.Header.Del("Sec-Fetch-Site")
			r.Header.Set("Origin", "https://evil.example")
		}, 403, "on", false},
		{"text/plain", "/drain", secret, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, 400, "on", false},
		{"too long", "/drain", strings.Repeat("x", maxForm), nil, 400, "on", false},
		{"token in the address", "/drain?token=" + secret, "", nil, 403, "on", false},
	} {
		g := healthy()
		var log strings.Builder
		_, h := newWeb(Options{Gateway: g, Spool: newShelf(t), Token: []byte(secret), Log: slog.New(slog.NewTextHandler(&log, nil))})
		rec := form(h, c.path, c.token, c.set)
		if st := g.Status(); rec.Code != c.status || st.Divert != c.divert || st.Drain != c.drain {
			t.Errorf("%s: %d, divert %s, drain %v; want %d, %s, %v", c.name, rec.Code, st.Divert, st.Drain, c.status, c.divert, c.drain)
		}
		if strings.Contains(log.String(), secret) || strings.Contains(rec.Body.String(), secret) {
			t.Errorf("%s: the token is in the log or the answer", c.name)
		}
	}
}

func TestSwitchRefusedByTheGateway(t *testing.T) {
	g := healthy()
	g.refuse = errors.New("needs intercept.fallback_smsc")
	_, h := newWeb(Options{Gateway: g, Spool: newShelf(t), Token: []byte(secret)})
	if rec := form(h, "/divert", secret, nil); rec.Code != 409 || !strings.Contains(rec.Body.String(), "fallback_smsc") {
		t.Errorf("POST /divert = %d %s, want 409 and why", rec.Code, rec.Body)
	}
}

func TestUndrain(t *testing.T) {
	g := healthy()
	_, h := newWeb(Options{Gateway: g, Spool: newShelf(t), Token: []byte(secret)})
	form(h, "/drain", secret, nil)
	if b := ask(h, "GET", "/").Body.String(); !strings.Contains(b, "Draining: no new binds") || !strings.Contains(b, `formaction="/undrain"`) {
		t.Errorf("GET / after the drain:\n%s", b)
	}
	if rec := form(h, "/undrain", secret, nil); rec.Code != 303 || g.Status().Drain {
		t.Errorf("POST /undrain = %d, draining %v", rec.Code, g.Status().Drain)
	}
}

func TestTriesAreLimitedByAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, h := newWeb(Options{Gateway: healthy(), Spool: newShelf(t), Token: []byte(secret)})
		at := func(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }
		for i := range triesAtOnce {
			if rec := form(h, "/drain", "wrong", at(fmt.Sprintf("[2001:db8::%d]:1", i))); rec.Code != 403 {
				t.Fatalf("try %d = %d, want 403", i, rec.Code)
			}
		}
		if rec := form(h, "/drain", secret, at("[2001:db8::99]:1")); rec.Code != 429 {
			t.Errorf("one try too many from a /64 = %d, want 429, the token right or not", rec.Code)
		}
		if rec := form(h, "/drain", secret, at("192.0.2.1:1")); rec.Code != 303 {
			t.Errorf("try from elsewhere = %d, want 303", rec.Code)
		}
		time.Sleep(triesEvery) // of the bubble's clock
		if rec := form(h, "/drain", secret, at("[2001:db8::99]:1")); rec.Code != 303 {
			t.Errorf("try after %s = %d, want 303", triesEvery, rec.Code)
		}
	})
}

func TestTriesKeepBoundedMemory(t *testing.T) {
	var l tries
	now := time.Now()
	for i := range 3 * maxSources {
		l.allow(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255), now)
	}
	if n := len(l.sources); n > maxSources {
		t.Errorf("addresses that are kept: %d, want up to %d", n, maxSources)
	}
	l.allow("192.0.2.1:1", now.Add(time.Hour))
	if n := len(l.sources); n != 1 {
		t.Errorf("addresses that are kept after an hour: %d, want the newest alone", n)
	}
}

// stream reads the events of a page as they come.
type stream struct {
	*Page
	t    *testing.T
	mu   sync.Mutex
	got  []string
	done chan struct{}
	stop context.CancelFunc
}

func (s *stream) Header() http.Header { return http.Header{} }
func (s *stream) WriteHeader(int)     {}
func (s *stream) Flush()              {}
func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, string(b))
	return len(b), nil
}

func (s *stream) views() (all []View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range strings.Split(strings.Join(s.got, ""), "\n") {
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			var v View
			if err := json.Unmarshal([]byte(data), &v); err != nil {
				s.t.Errorf("event %q: %v", data, err)
			}
			all = append(all, v)
		}
	}
	return all
}

func watch(t *testing.T, p *Page) *stream {
	ctx, stop := context.WithCancel(t.Context())
	s := &stream{Page: p, t: t, done: make(chan struct{}), stop: stop}
	go func() {
		defer close(s.done)
		p.events(s, httptest.NewRequest("GET", "/events", nil).WithContext(ctx))
	}()
	return s
}

// run runs the page until the test ends.
func run(t *testing.T, p *Page) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	return func() { cancel(); <-done }
}

func TestOneSnapshotASecondForAllViewers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := healthy()
		p, _ := newWeb(Options{Gateway: g, Spool: newShelf(t)})
		stop := run(t, p)
		time.Sleep(time.Hour)
		if n := g.looked(); n != 0 {
			t.Errorf("looks at the gateway while nobody watches: %d, want none", n)
		}
		var all []*stream
		for range 10 {
			all = append(all, watch(t, p))
		}
		time.Sleep(every / 4) // not with the tick
		for range 5 {
			g.add(50)
			time.Sleep(every)
		}
		synctest.Wait()
		if n := g.looked(); n != 6 {
			t.Errorf("looks at the gateway in five seconds, ten watching: %d, want 6", n)
		}
		for i, s := range all {
			v := s.views()
			if len(v) != 6 || v[5].Rates[flowDiverted].Now != "50" || v[5].Rates[flowForwarded].Now != "0" || strings.Count(v[5].Rates[flowIn].Points, ",") != 5 {
				t.Errorf("viewer %d: %d events, the last %+v; want 6, 50 diverted a second", i, len(v), v[len(v)-1].Rates)
			}
			s.stop()
			<-s.done
		}
		g.mu.Lock()
		g.looks = 0
		g.mu.Unlock()
		time.Sleep(time.Hour)
		if n := g.looked(); n > 1 {
			t.Errorf("looks at the gateway after the last one left: %d, want one at most", n)
		}
		stop()
	})
}

func TestViewersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, h := newWeb(Options{Gateway: healthy(), Spool: newShelf(t)})
		stop := run(t, p)
		var all []*stream
		for range maxViewers {
			all = append(all, watch(t, p))
		}
		synctest.Wait()
		if rec := ask(h, "GET", "/events"); rec.Code != 503 || rec.Header().Get("Retry-After") == "" {
			t.Errorf("viewer %d = %d, want 503 with Retry-After", maxViewers+1, rec.Code)
		}
		for _, s := range all {
			s.stop()
			<-s.done
		}
		if next := watch(t, p); true {
			synctest.Wait()
			if len(next.views()) == 0 {
				t.Error("no event for the next viewer once the others left")
			}
			next.stop()
			<-next.done
		}
		stop()
	})
}

func TestSlowViewerIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := healthy()
		p, _ := newWeb(Options{Gateway: g, Spool: newShelf(t)})
		v := p.join() // and never takes an event
		fast := watch(t, p)
		stop := run(t, p)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		n := 0
		for range v.events { // ends: it is closed
			n++
		}
		if n != waiting {
			t.Errorf("events that waited for a viewer that takes none: %d, want %d", n, waiting)
		}
		if got := len(fast.views()); got < 5 {
			t.Errorf("events of the other viewer: %d, want 5 or more", got)
		}
		fast.stop()
		<-fast.done
		stop()
	})
}

func TestHeartbeatWithoutSnapshots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newWeb(Options{Gateway: healthy(), Spool: newShelf(t)})
		s := watch(t, p) // and nobody runs the page
		time.Sleep(beatEvery + time.Second)
		synctest.Wait()
		s.mu.Lock()
		if got := strings.Join(s.got, ""); !strings.Contains(got, ": still here\n\n") {
			t.Errorf("stream = %q, want a heartbeat", got)
		}
		s.mu.Unlock()
		s.stop()
		<-s.done
	})
}

// TestStreamOutlivesTheServersTimeouts: over TCP, with the deadlines that hold
// for every other answer.
func TestStreamOutlivesTheServersTimeouts(t *testing.T) {
	p, h := newWeb(Options{Gateway: healthy(), Spool: newShelf(t)})
	defer run(t, p)()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ReadTimeout, srv.Config.WriteTimeout = 200*time.Millisecond, 300*time.Millisecond
	srv.Start()
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var got []byte
	buf := make([]byte, 4096)
	for strings.Count(string(got), "data: ") < 3 {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("after %d events: %v", strings.Count(string(got), "data: "), err)
		}
		got = append(got, buf[:n]...)
	}
}

func TestHistory(t *testing.T) {
	var h history
	at := time.Unix(1_800_000_000, 0)
	for i := range 300 {
		h.add(at.Add(time.Duration(i)*every), &noc.Counters{SubmitsIn: uint64(i * 1500)})
	}
	now, peak, points := h.rate(flowIn)
	if now != "1,500" || peak != "1,500" || strings.Count(points, ",") != historySize || !strings.HasPrefix(points, "0,1.0 1,1.0") {
		t.Errorf("rate() = %s, %s, %q; want 1,500 twice and %d points", now, peak, points, historySize)
	}
	h.add(at.Add(time.Hour), &noc.Counters{SubmitsIn: 1e9})
	if now, _, points := h.rate(flowIn); now != "–" || points != "" {
		t.Errorf("rate() after a gap = %s, %q; want nothing: the mean over the gap is no rate", now, points)
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %s, want %s", n, got, want)
		}
	}
}

// TestManySessionsMakeABoundedPage: the octets and the allocations of a page do
// not grow with the binds once there are more than it shows.
func TestManySessionsMakeABoundedPage(t *testing.T) {
	measure := func(n int) (octets, event int, allocs float64) {
		g := healthy()
		for i := range n {
			g.sessions = append(g.sessions, noc.Session{
				SystemID: fmt.Sprintf("esme-%07d", i%977), Peer: fmt.Sprintf("192.0.2.1:%d", 10000+i), Bind: "transceiver",
				State: "bound", Version: 0x34, Since: time.Now(), Rate: 1000, WindowIn: 10, WindowMax: 100,
			})
		}
		p, _ := newWeb(Options{Gateway: g, Spool: newShelf(t)})
		var b []byte
		allocs = testing.AllocsPerRun(5, func() {
			v := p.look(time.Now())
			j, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			event = len(j)
			if b, err = p.render("index.html", v); err != nil {
				t.Fatal(err)
			}
		})
		return len(b), event, allocs
	}
	o1, e1, a1 := measure(maxSessions)
	o2, e2, a2 := measure(50_000)
	t.Logf("%d sessions: %d octets, event %d, %.0f allocations; 50,000: %d, %d, %.0f", maxSessions, o1, e1, a1, o2, e2, a2)
	if o2 > o1*11/10 || e2 > e1*11/10 || a2 > a1*1.1 {
		t.Errorf("a page of 50,000 sessions is larger than one of %d", maxSessions)
	}
	if o1 > 200_000 || e1 > 60_000 {
		t.Errorf("page %d octets, event %d; want up to 200,000 and 60,000", o1, e1)
	}
}

func TestSessionsWithAMarkAreShownFirst(t *testing.T) {
	var all []noc.Session
	for i := range 1000 {
		all = append(all, noc.Session{SystemID: fmt.Sprintf("a%04d", i), WindowMax: 10})
	}
	all[999].WindowIn = 8
	tab := sessionTable(all, time.Now())
	if len(tab.Rows) != maxSessions || !strings.Contains(tab.Note, "200 of 1,000") {
		t.Errorf("%d rows, note %q", len(tab.Rows), tab.Note)
	}
	if last := tab.Rows[maxSessions-1]; last.Cells[0] != "a0999" || last.Mark != "warn" {
		t.Errorf("the last row is %+v, want the session with the full window", last)
	}
}
