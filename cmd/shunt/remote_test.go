package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/alarm"
	"shunt/gateway/audit"
	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/store/registry"
	"shunt/store/spool"
)

const alice msg.Number = 447700900042

// figures is a gateway whose state is what a test wants to see printed.
type figures struct {
	mode   string
	status noc.Status
	binds  []noc.Session
	asked  noc.ExplainRequest
	drain  noc.Drain
	queue  []noc.Queue
	said   noc.Explanation

	reloaded          noc.Reload
	refuses           error
	pending, erasures int // of Erase: what is pending at first, and goes one by one
}

func (f *figures) Status() noc.Status      { return f.status }
func (f *figures) Sessions() []noc.Session { return f.binds }
func (f *figures) Divert() string          { return f.mode }
func (f *figures) SetDivert(_ context.Context, mode string) error {
	f.mode = mode
	return nil
}

func (f *figures) Drain() noc.Drain   { return f.drain }
func (f *figures) Queue() []noc.Queue { return f.queue }
func (f *figures) SetDrain(on bool) noc.Drain {
	f.drain.Draining = on
	return f.drain
}

func (f *figures) Prove(context.Context) (noc.Proof, bool) { return noc.Proof{}, true }

func (f *figures) Names() (accounts, apps []string) {
	return []string{"bank", "shop"}, []string{"chat"}
}

func (f *figures) Reload(context.Context) (noc.Reload, error) { return f.reloaded, f.refuses }

func (f *figures) Watch(_ context.Context, n msg.Number, see func(*noc.Passed) error) error {
	for _, p := range []*noc.Passed{nil, {ESME: "bank", Way: "esme-to-smsc", PDU: "submit_sm", From: "Bank", To: n.String()}, {ESME: "bank", Way: "smsc-to-esme", PDU: "submit_sm_resp", Status: "ESME_ROK", Message: "77", TookMS: 1.5}} {
		if err := see(p); err != nil {
			return err
		}
	}
	return nil
}

func (f *figures) Erase(context.Context, msg.Number) (noc.Erased, error) {
	e := noc.Erased{Registered: f.erasures == 0, Messages: 2, CDRLines: 3, Pending: max(f.pending-f.erasures, 0)}
	f.erasures++
	return e, nil
}

func (f *figures) Explain(q *noc.ExplainRequest, show func(string) string) (noc.Explanation, error) {
	f.asked = *q
	e := f.said
	e.From, e.To = show(q.From), show(q.To)
	return e, nil
}

// rig is a control server with a real registry and spool.
type rig struct {
	t       *testing.T
	gateway figures
	reg     *registry.Registry
	spool   *spool.Spool
	alarms  *alarm.Store
	audit   *audit.Log
	socket  string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, gateway: figures{mode: "on"}, socket: filepath.Join(dir, "noc.sock")}
	closing := func(c io.Closer) {
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	var err error
	if r.reg, err = registry.Open(registry.Options{Dir: filepath.Join(dir, "registry")}); err != nil {
		t.Fatal(err)
	}
	closing(r.reg)
	if err := r.reg.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.spool, err = spool.Open(spool.Options{Dir: filepath.Join(dir, "spool")}); err != nil {
		t.Fatal(err)
	}
	r.spool.Start()
	closing(r.spool)
	r.alarms = alarm.Open(alarm.Options{Log: slog.New(slog.DiscardHandler)})
	r.audit = audit.Open(filepath.Join(dir, "audit"), audit.Options{}, slog.New(slog.DiscardHandler))
	closing(r.audit)
	s := noc.NewServer(noc.Options{Gateway: &r.gateway, Registry: r.reg, Spool: r.spool, Alarms: r.alarms, Audit: r.audit, Log: slog.New(slog.DiscardHandler)})
	l, err := noc.Listen(r.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.ServeOn(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r
}

// ok runs a command that must succeed and say nothing on stderr.
func (r *rig) ok(args ...string) string {
	r.t.Helper()
	got := shunt(r.t, append(args, "--socket", r.socket)...)
	if got.code != 0 || got.err != "" {
		r.t.Fatalf("shunt %q = %+v, want exit 0 and nothing on stderr", args, got)
	}
	return got.out
}

func (r *rig) fails(args ...string) result {
	r.t.Helper()
	return shunt(r.t, append(args, "--socket", r.socket)...)
}

func decode(t *testing.T, text string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("JSON %q: %v", text, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("JSON %q: something is behind it", text)
	}
}

func TestStatus(t *testing.T) {
	r := newRig(t)
	r.gateway.status = noc.Status{
		Version: "1.2.3", Node: "edge-1", Started: time.Now().Add(-time.Hour), Divert: "on", IndexReady: true, IndexBytes: 3 << 20,
		Registered: registry.Count{Numbers: 3, Active: 2, Devices: 4}, Listen: []string{"0.0.0.0:2775"}, API: []string{"127.0.0.1:8443"},
		Binds:    noc.BindCounts{Transmitter: 1, Transceiver: 2, Upstream: 3},
		Own:      []noc.OwnBind{{SMSC: "smsc-own", State: "2 of 2 bound", Window: 7}, {SMSC: "smsc-b", State: "0 of 1 bound", LastError: "connection refused"}},
		Spool:    spool.Stats{Live: map[msg.State]int{msg.Pushed: 2, msg.Fallback: 1}, LiveTotal: 3, Max: 1000, Finals: map[msg.State]uint64{msg.Delivered: 9}, LastError: errors.New("no space"), LastErrorAt: time.Now(), Failures: 1},
		Counters: noc.Counters{SubmitsIn: 100, Forwarded: 88, Diverted: 12, Reasons: map[string]uint64{"unregistered": 88, "divert": 12, "udh": 0}, FallbackSent: 1, ReceiptsSent: 5},
		FailOpen: []string{"index-loading", "spool-full"},
	}
	want := regexp.MustCompile(`^node         edge-1, shunt 1.2.3, up 1h0m\ds
divert       on
fail open    index-loading
             spool-full
listen       0.0.0.0:2775
app api      127.0.0.1:8443
registry     3 numbers, 2 active, 4 devices; index 3.0 MiB
binds        transmitter 1, receiver 0, transceiver 2; upstream 3
own binds    smsc-own: 2 of 2 bound, window in use 7
             smsc-b: 0 of 1 bound, window in use 0, last error: connection refused
submits      100: forwarded 88, diverted 12, shadow 0
reasons      divert 12, unregistered 88
pushes       none
fallback     sent 1, retried 0, resubmitted 0
receipts     sent 5, waiting 0
replies      waiting 0, delivered 0, refused 0, given up 0
spool        3 of 1000: PUSHED 2, FALLBACK 1; receipts due 0
finished     DELIVERED 9
commits      0, last 0s, slowest 0s, failed 1
spool error  \ds ago: no space
$`)
	if got := r.ok("status"); !want.MatchString(got) {
		t.Errorf("status =\n%swant\n%s", got, want)
	}
	var st noc.Status
	decode(t, r.ok("status", "--json"), &st)
	if st.Node != "edge-1" || st.Counters.Reasons["divert"] != 12 || st.Spool.LiveTotal != 3 {
		t.Errorf("status --json = %+v", st)
	}
	r.gateway.status.IndexReady = false
	if got := r.ok("status"); !strings.Contains(got, "still loading: everything is forwarded") {
		t.Errorf("status while loading =\n%s", got)
	}
}

func TestSessions(t *testing.T) {
	r := newRig(t)
	if got := r.ok("sessions"); got != "no binds\n" {
		t.Errorf("sessions of none = %q", got)
	}
	if got := r.ok("sessions", "--json"); strings.Join(strings.Fields(got), "") != `{"sessions":[]}` {
		t.Errorf("sessions --json of none = %q", got)
	}
	r.gateway.binds = []noc.Session{
		{ID: 7, SystemID: "bank", Bind: "transceiver", State: "bound", Version: 0x34, Peer: "192.0.2.1:4711", Upstream: "198.51.100.7:2775", Since: time.Now().Add(-time.Minute), PDUsIn: 70, PDUsOut: 8, WindowIn: 1},
		{ID: 12, SystemID: "news-of-the-day", Bind: "receiver", State: "bound", Peer: "192.0.2.2:1", LastError: "reset"},
	}
	want := regexp.MustCompile(`^ID  SYSTEM_ID        BIND         STATE  VERSION  PEER            UPSTREAM           AGE   PDUS IN  PDUS OUT  PDUS/S  WINDOW IN  WINDOW OUT  LAST ERROR
7   bank             transceiver  bound  3.4      192.0.2.1:4711  198.51.100.7:2775  1m\ds  70       8         0       1          0           -
12  news-of-the-day  receiver     bound  -        192.0.2.2:1     -                  -     0        0         0       0          0           reset
$`)
	if got := r.ok("sessions"); !want.MatchString(got) {
		t.Errorf("sessions =\n%swant\n%s", got, want)
	}
}

func TestDivert(t *testing.T) {
	r := newRig(t)
	if got := r.ok("divert", "shadow"); got != "divert shadow\n" || r.gateway.mode != "shadow" {
		t.Errorf("divert shadow = %q, the gateway is at %s", got, r.gateway.mode)
	}
	if got := r.ok("divert"); got != "divert shadow\n" {
		t.Errorf("divert = %q", got)
	}
	var b map[string]string
	decode(t, r.ok("divert", "off", "--json"), &b)
	if diff := cmp.Diff(map[string]string{"mode": "off"}, b); diff != "" {
		t.Errorf("divert off --json (-want +got):\n%s", diff)
	}
}

func TestRegistry(t *testing.T) {
	r := newRig(t)
	number := alice.String()
	put := r.ok("registry", "put", number, "--app", "chat", "--platform", "fcm", "--token", "push-token")
	m := regexp.MustCompile(`^number  \+4477••••0042\ndevice  ([0-9a-f]{16})\nbearer  ([-_A-Za-z0-9]{43})\n$`).FindStringSubmatch(put)
	if m == nil {
		t.Fatalf("registry put =\n%swant number, device and bearer", put)
	}
	device, bearer := m[1], m[2]
	if n, d, err := r.reg.ByBearer(bearer); n != alice || d.ID != device || !d.Active || err != nil {
		t.Errorf("the printed bearer is %s's %+v, %v", n, d, err)
	}
	var made noc.PutAnswer
	decode(t, r.ok("registry", "put", number, "--app", "chat", "--platform", "apns", "--token", "push-token-2", "--device", "phone", "--state", "inactive", "--sandbox", "--json"), &made)
	if made.Device != "phone" || len(made.Bearer) != 43 || made.Number != alice.Masked() {
		t.Errorf("registry put --json = %+v, want device, a bearer, the number masked", made)
	}
	if again := r.ok("registry", "put", number, "--app", "chat", "--platform", "apns", "--token", "push-token-3", "--device", "phone", "--state", "inactive", "--sandbox"); strings.Contains(again, "bearer") {
		t.Errorf("registry put of a known device =\n%swant no bearer", again)
	}
	if given := r.ok("registry", "put", number, "--app", "chat", "--platform", "fcm", "--token", "t", "--device", "watch", "--bearer", "a-bearer-of-our-own", "--unmask"); strings.Contains(given, "a-bearer") || !strings.Contains(given, number) {
		t.Errorf("registry put with a bearer =\n%swant it not repeated, and the whole number", given)
	}

	table := regexp.MustCompile(`^NUMBER         STATE     DEVICE            APP   PLATFORM        TOKEN PUT
\+4477••••0042  active    [0-9a-f]{16}  chat  fcm             20\d\d-\d\d-\d\d \d\d:\d\d:\d\d
\+4477••••0042  inactive  phone             chat  apns \(sandbox\)  20\S+ \S+
\+4477••••0042  active    watch             chat  fcm             20\S+ \S+
$`)
	for _, args := range [][]string{{"registry", "get", number}, {"registry", "get", number[1:]}, {"registry", "list"}} {
		if got := r.ok(args...); !table.MatchString(got) {
			t.Errorf("%q =\n%swant\n%s", args, got, table)
		}
	}
	for _, args := range [][]string{{"registry", "get", number}, {"registry", "list"}} {
		for _, more := range []string{"--json", "--unmask"} {
			got := r.ok(append(args, more)...)
			if strings.Contains(got, "push-token") || strings.Contains(got, "bearer") || strings.Contains(got, bearer) {
				t.Errorf("%q %s =\n%swant no tokens or bearers", args, more, got)
			}
			if whole := strings.Contains(got, number); whole != (more == "--unmask") {
				t.Errorf("%q %s =\n%s: whole number shown: %v", args, more, got, whole)
			}
		}
	}
	if got := r.ok("registry", "count"); got != "numbers  1\nactive   1\ndevices  3\n" {
		t.Errorf("registry count =\n%s", got)
	}
	var count noc.Count
	decode(t, r.ok("registry", "count", "--json"), &count)
	if want := (noc.Count{Numbers: 1, Active: 1, Devices: 3, Ready: true}); count != want {
		t.Errorf("registry count --json = %+v, want %+v", count, want)
	}

	if got := r.ok("registry", "rm", number, "--device", "phone"); got != "removed\n" {
		t.Errorf("registry rm --device = %q", got)
	}
	wantLine(t, "rm of a device that is gone", r.fails("registry", "rm", number, "--device", "phone"), 1, "no device of that name")
	if got := r.ok("registry", "rm", number, "--json"); !strings.Contains(got, `"removed": true`) {
		t.Errorf("registry rm --json = %q", got)
	}
	wantLine(t, "rm of a number that is gone", r.fails("registry", "rm", number), 1, "+4477••••0042", "not registered")
	wantLine(t, "get of a number that is gone", r.fails("registry", "get", number), 1, "not registered")
	wantLine(t, "put of a bad token", r.fails("registry", "put", number, "--app", "chat", "--platform", "fcm", "--token", "a b"), 1, "token")
	if got := r.ok("registry", "list"); got != "no numbers\n" {
		t.Errorf("registry list of none = %q", got)
	}
	if got := r.ok("registry", "list", "--json"); strings.Join(strings.Fields(got), "") != `{"registrations":[],"next":""}` {
		t.Errorf("registry list --json of none = %q", got)
	}
}

// list follows pages: here three of the server's, and then in parts.
func TestListPages(t *testing.T) {
	r := newRig(t)
	const numbers = 2*noc.MaxPage + 5
	puts := make([]registry.Put, numbers)
	for i := range puts {
		puts[i] = registry.Put{Number: alice + msg.Number(i), App: "chat", Platform: registry.FCM, Token: "t", Device: fmt.Sprint("d", i), Active: true}
	}
	if _, err := r.reg.PutAll(t.Context(), puts); err != nil {
		t.Fatal(err)
	}
	var all struct {
		Registrations []noc.Registration
		Next          string
	}
	decode(t, r.ok("registry", "list", "--limit", "0", "--unmask", "--json"), &all)
	if len(all.Registrations) != numbers || all.Next != "" {
		t.Fatalf("registry list --limit 0 --json = %d, next %q, want %d and no next", len(all.Registrations), all.Next, numbers)
	}
	for i, reg := range all.Registrations {
		if want := (alice + msg.Number(i)).String(); reg.Number != want {
			t.Fatalf("number %d = %s, want %s", i, reg.Number, want)
		}
	}
	if got := strings.Count(r.ok("registry", "list", "--limit", "1007"), "\n+4477••••"); got != 1007 {
		t.Errorf("registry list --limit 1007: %d rows", got)
	}

	// By hand, masked: the cursor of each list begins the next.
	seen := map[string]bool{}
	after, lists := "", 0
	for {
		got := r.ok("registry", "list", "--limit", "900", "--after", after)
		for _, d := range regexp.MustCompile(`active\s+(d\d+) `).FindAllStringSubmatch(got, -1) {
			seen[d[1]] = true
		}
		lists++
		m := regexp.MustCompile(`\nmore: --after (\S+)\n$`).FindStringSubmatch(got)
		if m == nil {
			break
		}
		after = m[1]
	}
	if len(seen) != numbers || lists != 3 {
		t.Errorf("%d devices in %d lists, want %d in 3", len(seen), lists, numbers)
	}
	if got := r.ok("registry", "list", "--after", (alice + numbers - 2).String(), "--unmask"); strings.Count(got, "\n") != 2 || !strings.Contains(got, (alice+numbers-1).String()) {
		t.Errorf("registry list behind the last but one =\n%s", got)
	}
	wantLine(t, "list after nonsense", r.fails("registry", "list", "--after", "zzz"), 1, "after: ")
}

func TestTrace(t *testing.T) {
	r := newRig(t)
	now := time.Now()
	put := func(from, wire string) msg.ID {
		m := &spool.Message{
			ID: r.spool.NewID(), WireID: wire, Account: msg.Account{SystemID: "bank"}, To: alice, App: "chat", From: from, PDU: []byte("secret text"),
			RegisteredDelivery: 1, ReceivedAt: now, ClaimBy: now.Add(time.Hour), ExpiresAt: now.Add(2 * time.Hour),
		}
		done := make(chan error, 1)
		r.spool.Put(m, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		return m.ID
	}
	sms, app := put("+447700900099", "0000002a"), put("ACME", "")
	for _, e := range []spool.Event{
		{ID: sms, Kind: msg.EvPushDead, Reason: msg.ReasonNoDevice},
		{ID: sms, Kind: msg.EvSMSBegin},
		{ID: sms, Kind: msg.EvSMSAccepted, Peer: "smsc-own", SMSID: "77"},
		{ID: sms, Kind: msg.EvSMSFailed, SMSErr: "012"},
		{ID: app, Kind: msg.EvClaim, Device: "phone", Reason: msg.ReasonApp},
		{ID: app, Kind: msg.EvRead, Device: "phone", Reason: msg.ReasonApp},
	} {
		if res := r.spool.Do(t.Context(), e); res.Err != nil {
			t.Fatal(res.Err)
		}
	}
	got := r.ok("trace", "0000002a")
	for _, want := range []string{
		`message     ` + sms.String() + "\n", "message_id  0000002a\n", "to          +4477••••0042\n", "from        +4477••••0099, of ESME bank\n",
		"state       SMS_FAILED since 20", "sms         attempts 1, sent again 0, by smsc-own as 77, which said 012\n", "receipt     waits for the ESME\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("trace =\n%swant %q in it", got, want)
		}
	}
	steps := regexp.MustCompile(`\n\nTIME  +AFTER +EVENT +STATE +REASON +DETAIL
20\S+ \S+  \S+ +accept +ACCEPTED .*
20\S+ \S+  \S+ +push-dead +FALLBACK +no-device .*
20\S+ \S+  \S+ +sms-begin +- .*
20\S+ \S+  \S+ +sms-accepted +SMS_SUBMITTED .*peer=smsc-own id=77
20\S+ \S+  \S+ +sms-failed +SMS_FAILED .*err=012
$`)
	if !steps.MatchString(got) {
		t.Errorf("trace =\n%swant\n%s", got, steps)
	}
	if got := r.ok("trace", app.String()); !strings.Contains(got, "claimed by  device phone\n") || !strings.Contains(got, "read        yes\n") || strings.Contains(got, "message_id") {
		t.Errorf("trace of the app's =\n%s", got)
	}
	both := r.ok("trace", alice.String())
	if a, b := strings.Index(both, app.String()), strings.Index(both, sms.String()); a < 0 || b < a {
		t.Errorf("trace of the number =\n%swant both, newest first", both)
	}
	for _, args := range [][]string{{"trace", alice.String()}, {"trace", sms.String(), "--json"}, {"trace", sms.String(), "--unmask"}} {
		got := r.ok(args...)
		if whole := strings.Contains(got, "447700900042") || strings.Contains(got, "447700900099"); whole != (len(args) == 3 && args[2] == "--unmask") || strings.Contains(got, "secret") {
			t.Errorf("%q =\n%s: whole numbers shown: %v", args, got, whole)
		}
	}
	var b struct{ Messages []noc.Trace }
	decode(t, r.ok("trace", app.String(), "--json"), &b)
	if len(b.Messages) != 1 || b.Messages[0].State != msg.Delivered || len(b.Messages[0].Steps) != 3 {
		t.Errorf("trace --json = %+v", b)
	}
	wantLine(t, "trace of nothing", r.fails("trace", r.spool.NewID().String()), 1, "retention")
}
