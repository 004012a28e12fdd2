package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/config"
	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/store/spool"
)

// edit changes the configuration file under a node.
func (n *node) edit(from, to string) {
	n.t.Helper()
	b, err := os.ReadFile(n.g.cfg.File)
	if err != nil {
		n.t.Fatal(err)
	}
	if !strings.Contains(string(b), from) {
		n.t.Fatalf("the configuration does not hold %q", from)
	}
	if err := os.WriteFile(n.g.cfg.File, []byte(strings.Replace(string(b), from, to, 1)), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// TestReloadDropsNoBind: 200 binds submit all the time, while the configuration
// is reloaded, well and badly.
func TestReloadDropsNoBind(t *testing.T) {
	n := newNode(t, func(s string) string {
		return strings.Replace(s, `divert_from = ["*"]`, `divert_from = ["nobody"]`, 1)
	}).run()
	n.register(subscriber, nil)
	esmes := make([]*esme, 200)
	for i := range esmes {
		esmes[i] = bind(t, n.addr(), fmt.Sprintf("esme-%d", i), 0x34)
	}
	stop, forwarded, diverted := make(chan struct{}), make(chan struct{}, len(esmes)), make(chan struct{}, len(esmes))
	var wg sync.WaitGroup
	for _, e := range esmes {
		wg.Go(func() {
			for first := true; ; first = false {
				id := e.submit(submitTo("447700900042", nil))
				if first {
					forwarded <- struct{}{}
				}
				if !strings.HasPrefix(id, "smsc-") { // the new policy holds
					diverted <- struct{}{}
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for range esmes {
		<-forwarded
	}
	was := n.g.hub.Binds() // all are attached: they have submitted
	n.edit(`["nobody"]`, `["*"]`+"\nshare = 101")
	if _, err := n.g.Reload(); err == nil {
		t.Error("a bad file was taken")
	}
	if got := n.g.policy().DivertFrom; !slices.Equal(got, []string{"nobody"}) {
		t.Errorf("divert_from = %q after a refused reload, want the old one", got)
	}
	n.edit("share = 101", "share = 100")
	r, err := n.g.Reload()
	if want := (noc.Reload{Changed: []string{"policy.divert_from"}, Warnings: []string{}}); err != nil || !cmp.Equal(want, r) {
		t.Errorf("Reload() = %+v, %v, want %+v", r, err, want)
	}
	for range esmes {
		<-diverted
	}
	close(stop)
	wg.Wait()
	if now := n.g.hub.Binds(); !slices.Equal(was, now) {
		t.Errorf("%d binds are up, not the %d of before", len(now), len(was))
	}
}

// TestReloadApplies: what changes without a restart.
func TestReloadApplies(t *testing.T) {
	n := newNode(t, func(s string) string { return s + "[log]\nlevel = \"info\"\n" })
	var level slog.Level
	n.g.OnReload(func(c *config.Config) { level = c.Log.Level })
	n.run().register(subscriber, nil)
	e := bind(t, n.addr(), "shop", 0x34)
	n.edit("[log]\nlevel = \"info\"\n", `[log]
level = "debug"
messages = "off"
[limits]
connect_rate = "7/s"
[[account]]
system_id = "shop"
max_binds = 1
[[plan]]
name = "none"
order = ["carrier"]
`)
	n.edit(`topic = "com.example.chat"`, `topic = "com.example.talk"`)
	r, err := n.g.Reload()
	want := noc.Reload{Changed: []string{"[[account]]", "[[app]]", "[[plan]]", "log.level", "log.messages", "limits.connect_rate"}, Warnings: []string{}}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "account.divert: warning") {
		t.Errorf("warnings %q, want one that no account has divert = true", r.Warnings)
	}
	if r.Warnings = want.Warnings; err != nil || !cmp.Equal(want, r) {
		t.Errorf("Reload() = %+v, %v, want %+v", r, err, want)
	}
	if level != slog.LevelDebug || !n.g.lines.is(config.MessagesOff) {
		t.Errorf("level %v, messages off %v: want debug, and off", level, n.g.lines.is(config.MessagesOff))
	}
	// The bind that is up has become one of an account that has not opted in.
	if id := e.submit(submitTo("447700900042", nil)); !strings.HasPrefix(id, "smsc-") {
		t.Errorf("id %q, want the SMSC's", id)
	}
	if got := n.g.hub.Binds()[0].Reasons[msg.ReasonAccountOptOut].Load(); got != 1 {
		t.Errorf("%d verdicts account-opt-out, want 1", got)
	}
	if r, err = n.g.Reload(); err != nil || len(r.Changed) != 0 {
		t.Errorf("Reload() once more = %+v, %v, want nothing changed", r, err)
	}
}

// TestReloadNamesWhatTakesARestart, and uses nothing of that file.
func TestReloadNamesWhatTakesARestart(t *testing.T) {
	n := newNode(t, nil).run()
	was := n.g.live.Load()
	n.edit("[noc]", "[limits]\nupstream_dials = 3\n[smpp]\nwindow = 9\n[[account]]\nsystem_id = \"shop\"\ndivert = true\n[noc]")
	n.edit(`divert_from = ["*"]`, "divert_from = [\"*\"]\ncarrier_accepted_within = \"1h\"")
	n.edit(`topic = "com.example.chat"`, `topic = "com.example.talk"`)
	n.edit(`addr = "127.0.0.1:0"`, "addr = \"127.0.0.1:0\"\nreuse_port = true")
	for range 2 { // and again as long as it is there
		_, err := n.g.Reload()
		var bad *noc.Refused
		if !errors.As(err, &bad) {
			t.Fatalf("Reload() = %v, want it refused", err)
		}
		var keys []string
		for _, f := range bad.Faults {
			key, _, ok := strings.Cut(strings.TrimPrefix(f, n.g.cfg.File+": "), ": has changed, and takes effect at a restart only")
			if !ok {
				t.Errorf("fault %q, want one that says so", f)
			}
			keys = append(keys, key)
		}
		if want := []string{"listen.reuse_port", "policy.carrier_accepted_within", "smpp.window", "limits.upstream_dials"}; !slices.Equal(keys, want) {
			t.Errorf("it names %q, want %q", keys, want)
		}
	}
	if n.g.live.Load() != was {
		t.Error("something of the file is in use")
	}
}

// TestReloadRefuses lists every fault, over the control socket too.
func TestReloadRefuses(t *testing.T) {
	n := newNode(t, nil).run()
	n.edit(`divert_from = ["*"]`, "divert_from = [7]\nshare = 101\ncolour = 1")
	_, err := n.g.Reload()
	var bad *noc.Refused
	if !errors.As(err, &bad) || len(bad.Faults) != 3 {
		t.Fatalf("Reload() = %v, want three faults", err)
	}
	c := noc.New(n.g.cfg.NOC.Socket)
	defer c.Close()
	_, err = c.Reload(t.Context())
	var p *noc.Problem
	if !errors.As(err, &p) || p.Status != 422 || !slices.Equal(p.Faults, bad.Faults) || !strings.Contains(err.Error(), "\n"+bad.Faults[2]) {
		t.Errorf("Reload() over the socket = %v, want 422 and %q", err, bad.Faults)
	}
	if err := os.Remove(n.g.cfg.File); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("Reload() without a file = %v, want that there is none", err)
	}
}

// A reload that meets a bind between its answer and the hub must not leave it
// with the old account.
func TestReloadMeetsNewBinds(t *testing.T) {
	n := newNode(t, nil).run()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() { bind(t, n.addr(), fmt.Sprintf("e%d", i), 0x34) })
		if i == 10 {
			n.edit("[policy]", "[[account]]\nsystem_id = \"x\"\n[policy]")
			if _, err := n.g.Reload(); err != nil {
				t.Error(err)
			}
		}
	}
	wg.Wait()
	for _, b := range n.g.hub.Binds() {
		if accountOf(b).OptedIn {
			t.Errorf("%s has opted in, as before the reload", b.Account.SystemID)
		}
	}
}

func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		l := newLines(slog.New(slog.NewTextHandler(&out, nil)))
		change := func(from, to msg.State) *spool.Change {
			return &spool.Change{
				From: from, To: to, Event: spool.Event{Kind: msg.EvSMSDelivered, Reason: msg.ReasonReceipt},
				Record: spool.Record{ID: msg.ID{1}, To: subscriber, Account: msg.Account{SystemID: "shop"}, State: to, Peer: "own", Cause: msg.ReasonDeadline},
			}
		}
		drain := func() {
			for len(l.queue) > 0 {
				n := <-l.queue
				l.write(&n)
			}
		}
		l.setMode(config.MessagesOff)
		l.observe(change(msg.SMSSubmitted, msg.SMSDelivered))
		l.setMode(config.MessagesFinal)
		l.observe(change(msg.Fallback, msg.SMSSubmitted))
		drain()
		if out.Len() > 0 {
			t.Errorf("lines of what is not asked for: %s", out.String())
		}
		l.observe(change(msg.SMSSubmitted, msg.SMSDelivered))
		drain()
		for _, want := range []string{`msg="message ended"`, "msg_id=s", "esme=shop", "number=+4477••••0042", "leg=smpp", "verdict=divert", "reason=deadline"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("line %q lacks %s", out.String(), want)
			}
		}
		// Of a flood some are written, and the others counted.
		out.Reset()
		for range linesAtOnce + 1000 {
			l.observe(change(msg.SMSSubmitted, msg.SMSDelivered))
		}
		drain()
		if got := strings.Count(out.String(), "message ended"); got != linesAtOnce-1 {
			t.Errorf("%d lines at once, want %d", got, linesAtOnce-1)
		}
		out.Reset()
		var v verdicts
		v[msg.ReasonUnregistered], v[msg.ReasonDivert], v[msg.ReasonShadow] = 7, 9, 1
		l.sum(map[string]verdicts{"shop": v})
		v[msg.ReasonUnregistered] = 8
		l.sum(map[string]verdicts{"shop": v})
		var got []string
		for line := range strings.Lines(out.String()) {
			_, line, _ = strings.Cut(line, "msg=")
			got = append(got, strings.TrimSpace(line))
		}
		want := []string{
			`"message lines left out" lines=1001`, "verdicts esme=shop verdict=divert reason=divert count=9",
			"verdicts esme=shop verdict=forward reason=unregistered count=7", "verdicts esme=shop verdict=shadow reason=shadow count=1",
			"verdicts esme=shop verdict=forward reason=unregistered count=1",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("sums (-want +got):\n%s", diff)
		}
	})
}
