//go:build booted

package booted

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"shunt/gateway/noc"
	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/systemd"
)

const (
	smppPort   = 2775
	subscriber = "447700900042"
)

var (
	smscPassword = "hush4711"
	bearer       = strings.Repeat("be", 32)
	pushToken    = strings.Repeat("ab", 32)
)

const config = `[node]
id = "booted"
data_dir = "/var/lib/shunt"
[[listen]]
addr = "0.0.0.0:2775"
[intercept]
upstream = "smsc-a"
divert = "on"
fallback_smsc = "smsc-own"
[[smsc]]
name = "smsc-a"
addr = "127.0.0.1:2776"
[[smsc]]
name = "smsc-own"
addr = "127.0.0.1:2776"
system_id = "shunt"
password_file = "smsc-own.password"
[[app]]
id = "chat"
apns = { team_id = "ABCDE12345", key_id = "FGHIJ67890", key_file = "apns-chat.p8", topic = "com.example.chat", endpoint = "https://127.0.0.1:1" }
[policy]
divert_from = ["*"]
share = 100
[api]
listen = "127.0.0.1:8443"
[log]
level = "debug"
messages = "all"
`

// TestBooted is the life of an installed service, from dpkg -i to dpkg --purge.
func TestBooted(t *testing.T) {
	setUp(t)
	deb, err := filepath.Abs(root + "/build/shunt.deb")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(deb); err != nil {
		t.Fatalf("%v: make deb makes it", err)
	}
	m := boot(t, deb)
	for _, step := range []struct {
		name string
		f    func(*testing.T, *machine)
	}{
		{"Install", install},
		{"Units", units},
		{"Configure", configure},
		{"Selftest", selftest},
		{"Reload", reload},
		{"Watchdog", watchdog},
		{"RestartUnderHammer", hammer},
		{"Drain", drain},
		{"Secrets", secrets},
		{"NoAPI", noAPI},
		{"Failure", failure},
		{"Remove", remove},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			m.t = t
			step.f(t, m)
		}) {
			return // the next step would only fail after it
		}
	}
}

// noAPI: a configuration that wants no app API starts beside the socket for it,
// which hangs up.
func noAPI(t *testing.T, m *machine) {
	m.write("/etc/shunt/shunt.toml", strings.Replace(config, `listen = "127.0.0.1:8443"`, `listen = ""`, 1))
	m.sh("systemctl restart shunt && systemctl is-active shunt-api.socket shunt.service")
	conn, err := m.dial(8443)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	var op *net.OpError
	began := time.Now()
	if b, err := io.ReadAll(conn); len(b) > 0 || errors.As(err, &op) && op.Timeout() || time.Since(began) > 4*time.Second {
		t.Errorf("it answers %q, %v after %v, want the end of the connection at once", b, err, time.Since(began))
	}
	const line = "api.listen is empty, the app API is off: what connects to its socket is hung up on"
	until(t, "the journal says so", func() bool { return strings.Contains(m.journal(line), line) })
	m.write("/etc/shunt/shunt.toml", config)
	m.sh("systemctl restart shunt")
}

// failure: a gateway that does not start, again and again, is said to have failed
// for good, by the unit that a site adds its own to.
func failure(t *testing.T, m *machine) {
	m.sh("mkdir -p /run/systemd/system/shunt.service.d && printf '[Unit]\\nStartLimitBurst=3\\n[Service]\\nRestartSec=100ms\\n' > /run/systemd/system/shunt.service.d/limit.conf && systemctl daemon-reload")
	m.write("/run/page", "#!/bin/sh\necho \"$1\" > /run/paged\n")
	m.sh("chmod +x /run/page && mkdir -p /run/systemd/system/shunt-failure@.service.d && printf '[Service]\\nExecStart=/run/page %%i\\n' > /run/systemd/system/shunt-failure@.service.d/site.conf && systemctl daemon-reload && systemctl reset-failed shunt")
	m.write("/etc/shunt/shunt.toml", "colour = 1\n")
	if out, err := m.try("systemctl", "restart", "shunt"); err == nil {
		t.Errorf("it starts with a file that is none: %s", out)
	}
	until(t, "the site's own command has run", func() bool {
		out, _ := m.try("cat", "/run/paged")
		return strings.TrimSpace(out) == "shunt.service"
	})
	if got := m.property("Result"); got != "start-limit-hit" && got != "exit-code" {
		t.Errorf("the result is %s, want that of a start that fails", got)
	}
	if got := m.property("NRestarts"); got == "0" {
		t.Error("it was not tried again first")
	}
	until(t, "the journal says so, as an alert", func() bool {
		return strings.Contains(m.sh("journalctl --no-pager -t shunt-failure -p alert"), "shunt.service")
	})
	m.write("/etc/shunt/shunt.toml", config)
	m.sh("rm -r /run/systemd/system/shunt.service.d /run/systemd/system/shunt-failure@.service.d && systemctl daemon-reload && systemctl reset-failed 'shunt*' && systemctl start shunt-smpp.socket shunt-api.socket shunt")
	until(t, "it serves again", func() bool { return m.property("ActiveState") == "active" })
}

func install(t *testing.T, m *machine) {
	t.Log(m.sh("dpkg -i /var/tmp/shunt.deb"))
	until(t, "the example configuration is served", func() bool { return m.property("ActiveState") == "active" })
	if got := m.property("StatusText"); !strings.Contains(got, "0 binds") || !strings.Contains(got, "divert off") {
		t.Errorf("status %q, want binds and the switch", got)
	}
	m.sh("shunt status && test -s /usr/share/man/man1/shunt-registry-put.1 && bash -n /usr/share/bash-completion/completions/shunt")
	for path, want := range map[string]string{
		"/etc/shunt": "750 root shunt", "/etc/shunt/shunt.toml": "640 root shunt", "/var/lib/shunt": "750 shunt shunt",
		"/run/shunt/noc.sock": "660 shunt shunt", "/var/backups/shunt": "700 shunt shunt",
	} {
		if got := strings.TrimSpace(m.sh("stat -c '%a %U %G' " + path)); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

// The units have no fault, and the sandbox is as tight as the decision says.
func units(t *testing.T, m *machine) {
	m.sh("systemd-analyze verify --man=no --recursive-errors=yes /usr/lib/systemd/system/shunt*")
	t.Log(m.sh("systemd-analyze security --offline=true --threshold=11 /usr/lib/systemd/system/shunt.service | tail -1"))
	if out, err := m.try("systemd-analyze", "security", "--offline=true", "--threshold=5", "/usr/lib/systemd/system/shunt.service"); err == nil {
		t.Errorf("no service is at 0.5: the threshold does not count\n%s", out)
	}
}

func configure(t *testing.T, m *machine) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	m.sh("mkdir -p -m 700 /etc/credstore && systemd-run --unit=smsc shuntsim smsc --listen 127.0.0.1:2776")
	m.write("/etc/credstore/smsc-own.password", smscPassword)
	m.write("/etc/credstore/apns-chat.p8", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	m.write("/etc/shunt/shunt.toml", config)
	m.sh("systemctl restart shunt && shunt registry put +" + subscriber + " --app chat --platform apns --token " + pushToken)
	until(t, "nothing fails open", func() bool { return failOpen(m) == 0 })
}

// selftest: the installed one proves the installed service, its line in the live
// journal, and the simulators that came with the package. Of an operator who may
// not read the journal it is not proved.
func selftest(t *testing.T, m *machine) {
	type findings struct {
		OK     bool
		Checks []struct{ Check, Result, Detail, Do string }
	}
	proved := func(user, flags string) map[string]string {
		t.Helper()
		var f findings
		out := m.sh("setpriv --reuid=" + user + " --regid=" + user + " --init-groups env TMPDIR=/var/tmp shunt selftest --json " + flags)
		if err := json.Unmarshal([]byte(out), &f); err != nil || !f.OK {
			t.Errorf("selftest of %s: %v\n%s", user, err, out)
		}
		results := make(map[string]string)
		for _, c := range f.Checks {
			results[c.Check] = c.Result
			t.Logf("%s: %s %s: %s", user, c.Check, c.Result, c.Detail)
		}
		return results
	}
	m.sh("useradd --system anna && usermod -aG shunt anna")
	mine := proved("root", "")
	for _, check := range []string{"gateway", "diversion", "own bind smsc-own", "push chat by apns", "store", "disk", "journal", "simulated traffic"} {
		if mine[check] != "ok" {
			t.Errorf("%s is %q, want ok", check, mine[check])
		}
	}
	if got := proved("anna", "--quick")["journal"]; got != "not checked" {
		t.Errorf("the journal of who may not read it is %q, want not checked", got)
	}
	m.sh("usermod -aG systemd-journal anna")
	if got := proved("anna", "--quick")["journal"]; got != "ok" {
		t.Errorf("the journal of who may read it is %q, want ok", got)
	}
	if left := m.sh("ls -A /var/lib/shunt /var/tmp"); strings.Contains(left, "selftest") || strings.Contains(left, "shunt-demo") {
		t.Errorf("left behind:\n%s", left)
	}
}

func failOpen(m *machine) int {
	var s struct {
		FailOpen []string `json:"fail_open"`
	}
	if err := json.Unmarshal([]byte(m.sh("shunt status --json")), &s); err != nil {
		m.t.Fatal(err)
	}
	return len(s.FailOpen)
}

// esme is a bound ESME.
type esme struct{ s *smpp.Session }

func (e *esme) HandleRequest(p pdu.PDU) {
	_ = e.s.Send(pdu.AppendHeader(nil, p.ID().Response(), pdu.ROK, p.Seq()))
	if p.ID() == pdu.Unbind {
		e.s.Finish()
	}
}

func (e *esme) HandleResponse(pdu.PDU) {}
func (e *esme) HandleBatch()           {}

func (m *machine) bind(systemID string) (*esme, error) {
	conn, err := m.dial(smppPort)
	if err != nil {
		return nil, err
	}
	e := &esme{smpp.NewSession(conn, smpp.Config{Window: 1000})}
	if _, err := e.s.Bind(m.t.Context(), pdu.BindTransceiver, pdu.Bind{SystemID: systemID, Password: "pw", InterfaceVersion: 0x34}); err != nil {
		return nil, err
	}
	go func() { _ = e.s.Serve(e) }()
	return e, nil
}

func (m *machine) bound(systemID string) *esme {
	m.t.Helper()
	e, err := m.bind(systemID)
	if err != nil {
		m.t.Fatalf("bind of %s: %v", systemID, err)
	}
	m.t.Cleanup(func() { e.s.Close(smpp.ErrClosed) })
	return e
}

// submit sends a message for the subscriber; due is its schedule_delivery_time.
// The channel gives its message_id, or nothing when it was not taken.
func (e *esme) submit(due string) <-chan string {
	id := make(chan string, 1)
	sm := pdu.SM{
		Source: pdu.Address{TON: pdu.TONAlphanumeric, Addr: []byte("Parcel24")}, Dest: pdu.Address{TON: 1, NPI: 1, Addr: []byte(subscriber)},
		ShortMessage: []byte("Your parcel comes on Monday."), Schedule: []byte(due),
	}
	err := e.s.Call(pdu.AppendSM(nil, pdu.SubmitSM, 0, &sm), func(p pdu.PDU, err error) {
		if err == nil && p.Status() == pdu.ROK {
			if got, err := pdu.MessageID(p); err == nil {
				id <- got
			}
		}
		close(id)
	})
	if err != nil {
		close(id)
	}
	return id
}

// reload: a good file is used, a bad one makes systemctl fail and changes
// nothing, and no bind is dropped.
func reload(t *testing.T, m *machine) {
	esmes := make([]*esme, 50)
	for i := range esmes {
		esmes[i] = m.bound(fmt.Sprintf("esme-%d", i))
	}
	before := m.sh("shunt sessions --json | grep -E '\"(peer|since)\"' | sort")
	if n := strings.Count(before, "peer"); n != len(esmes) {
		t.Fatalf("%d sessions, want %d:\n%s", n, len(esmes), before)
	}
	if id := <-esmes[0].submit("000000010000000R"); !strings.HasPrefix(id, "s") || len(id) != 27 {
		t.Errorf("id %q, want one of Shunt's: it is for the app", id)
	}

	m.write("/etc/shunt/shunt.toml", strings.Replace(config, "share = 100", "share = 101\ncolour = 1", 1))
	if out, err := m.try("systemctl", "reload", "shunt"); err == nil {
		t.Errorf("systemctl reload takes a bad file: %s", out)
	}
	if got := m.property("ActiveState"); got != "active" {
		t.Errorf("after a refused reload it is %s, want active", got)
	}
	for text, want := range map[string]string{
		"configuration fault":                         "policy.share: 101 is out of range",
		"configuration refused, the one in use stays": "the configuration is refused",
		"serving":        "node=booted",
		"own bind is up": "smsc=smsc-own",
		"stopping: no new binds, answering what was accepted": "stopping",
	} {
		if got := m.journal(text); !strings.Contains(got, want) {
			t.Errorf("journalctl MESSAGE_ID= of %q:\n%s\nwant %q", text, got, want)
		}
	}
	if got := m.sh("journalctl --no-pager -x SHUNT_ESME=esme-7"); !strings.Contains(got, "bound") || !strings.Contains(got, "Subject: An ESME has bound") {
		t.Errorf("journalctl -x SHUNT_ESME=esme-7 =\n%s\nwant the bind and its catalogue entry", got)
	}
	if id := <-esmes[1].submit("000000010000000R"); len(id) != 27 {
		t.Errorf("id %q after a refused reload, want one of Shunt's", id)
	}

	m.write("/etc/shunt/shunt.toml", strings.Replace(config, "share = 100", "share = 0", 1))
	m.sh("systemctl reload shunt")
	if id := <-esmes[2].submit("000000010000000R"); id == "" || len(id) == 27 {
		t.Errorf("id %q with share = 0, want the SMSC's", id)
	}
	if after := m.sh("shunt sessions --json | grep -E '\"(peer|since)\"' | sort"); after != before {
		t.Errorf("sessions after the reloads:\n%s\nbefore:\n%s", after, before)
	}
	m.write("/etc/shunt/shunt.toml", config)
	m.sh("kill -HUP $(systemctl show -P MainPID shunt)")
	until(t, "SIGHUP has brought the first file back", func() bool { return strings.Count(m.journal("configuration reloaded"), "policy.share") == 2 })
}

// journal are the lines with the MESSAGE_ID of that message.
func (m *machine) journal(text string) string {
	m.t.Helper()
	for _, msg := range systemd.Messages {
		if msg.Text == text {
			return m.sh("journalctl --no-pager -u shunt MESSAGE_ID=" + msg.ID)
		}
	}
	m.t.Fatalf("no MESSAGE_ID of %q", text)
	return ""
}

// watchdog: a process that stands still is ended by the service manager and
// started again.
func watchdog(t *testing.T, m *machine) {
	m.sh("mkdir -p /run/systemd/system/shunt.service.d && printf '[Service]\\nWatchdogSec=2s\\n' > /run/systemd/system/shunt.service.d/watchdog.conf && systemctl daemon-reload && systemctl restart shunt")
	pid := m.property("MainPID")
	// An idle gateway is alive for several times the watchdog's time.
	began, fed := time.Now(), m.property("WatchdogTimestampMonotonic")
	until(t, "the watchdog is fed while nothing happens", func() bool {
		return time.Since(began) > 5*time.Second && m.property("WatchdogTimestampMonotonic") != fed
	})
	if got := m.property("MainPID"); got != pid {
		t.Fatalf("the idle gateway was restarted: PID %s, then %s", pid, got)
	}
	restarts := m.property("NRestarts")
	m.sh("kill -STOP " + pid)
	until(t, "another process serves", func() bool {
		now := m.property("MainPID")
		return now != "0" && now != pid && m.property("ActiveState") == "active"
	})
	if got := m.property("NRestarts"); got == restarts {
		t.Errorf("NRestarts is %s, as before", got)
	}
	got := m.sh("journalctl --no-pager -u shunt _PID=" + pid + " + UNIT=shunt.service")
	for _, want := range []string{"Watchdog timeout", "SIGABRT: abort", "goroutine "} {
		if !strings.Contains(got, want) {
			t.Errorf("the journal does not say %q:\n%s", want, got[max(len(got)-3000, 0):])
		}
	}
	m.sh("rm /run/systemd/system/shunt.service.d/watchdog.conf && systemctl daemon-reload")
}

// hammer connects and binds all the time, while the service is restarted: every
// connection is taken, and every bind is answered.
func hammer(t *testing.T, m *machine) {
	stop := make(chan struct{})
	var mu sync.Mutex
	tried, answered := 0, 0
	var refused []error
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ok, err := m.knock()
				mu.Lock()
				tried++
				if ok {
					answered++
				}
				if err != nil {
					refused = append(refused, err)
				}
				mu.Unlock()
			}
		})
	}
	for range 3 {
		m.sh("systemctl restart shunt")
		until(t, "it serves", func() bool { return m.property("ActiveState") == "active" })
	}
	close(stop)
	wg.Wait()
	t.Logf("%d connections during 3 restarts: %d refused, %d answered, %d cut by the stop", tried, len(refused), answered, tried-answered-len(refused))
	if len(refused) > 0 || tried < 20 || answered == 0 {
		t.Errorf("%d of %d connections were refused or not served (%d answered): %v", len(refused), tried, answered, errors.Join(refused...))
	}
}

// knock connects and sends a bind. A connection that a stopping gateway had
// already accepted is cut without an answer: no error, but not answered. To be
// refused, or to wait in vain, is an error.
func (m *machine) knock() (answered bool, err error) {
	conn, err := m.dial(smppPort)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	b := pdu.Bind{SystemID: "hammer", Password: "pw", InterfaceVersion: 0x34}
	if _, err := conn.Write(b.Append(nil, pdu.BindTransceiver, 1)); err != nil {
		return false, err
	}
	head := make([]byte, 16)
	_, err = io.ReadFull(conn, head)
	var op *net.OpError
	switch {
	case err == nil:
		return pdu.PDU(head).ID() == pdu.BindTransceiver.Response(), nil
	case errors.As(err, &op) && op.Timeout():
		return false, err
	}
	return false, nil
}

// drain: what was accepted before and during a stop is there after it.
func drain(t *testing.T, m *machine) {
	until(t, "nothing fails open", func() bool { return failOpen(m) == 0 })
	e := m.bound("shop")
	var pending []<-chan string
	ids := make(map[string]bool)
	for range 100 {
		pending = append(pending, e.submit("000000010000000R"))
	}
	for _, id := range pending {
		ids[<-id] = true
	}
	stopped := make(chan struct{})
	go func() {
		m.sh("systemctl stop shunt")
		close(stopped)
	}()
	pending = pending[:0]
	for more := true; more; {
		pending = append(pending, e.submit("000000010000000R"))
		select {
		case <-stopped:
			more = false
		case <-e.s.Done():
			more = false
		default:
		}
		if len(pending)%50 == 0 {
			for _, id := range pending[max(len(pending)-50, 0):] { // no more under way than the window takes
				ids[<-id] = true
			}
			pending = pending[:0]
		}
	}
	<-stopped
	for _, id := range pending {
		ids[<-id] = true
	}
	delete(ids, "")
	if got := m.property("Result"); got != "success" {
		t.Errorf("the stop's result is %s, want success", got)
	}
	m.sh("systemctl start shunt")
	c := noc.New("/proc/" + m.leader + "/root/run/shunt/noc.sock") // a process for each would take minutes
	defer c.Close()
	var lost []string
	for id := range ids {
		if len(id) != 27 { // the SMSC has it
			continue
		}
		if traces, err := c.Trace(t.Context(), id, false); err != nil || len(traces) != 1 || traces[0].ID != id {
			lost = append(lost, id)
		}
	}
	t.Logf("%d messages accepted before and during the stop; lost: %q", len(ids), lost)
	if len(lost) > 0 {
		t.Errorf("accepted and not there: %q", lost)
	}
	if len(ids) < 100 {
		t.Errorf("%d messages were accepted, want 100 at least", len(ids))
	}
}

// secrets: the whole journal of all this, at debug level with every step of each
// message, holds none; and a message's steps are found by its id.
func secrets(t *testing.T, m *machine) {
	e := m.bound("shop")
	id := <-e.submit("000000010000000R")
	until(t, "the message is in the journal", func() bool {
		return strings.Contains(m.sh("journalctl --no-pager -o json SHUNT_MSG_ID="+id), `"SHUNT_VERDICT":"divert"`)
	})
	if got := m.sh("systemctl start shunt-backup && ls /var/backups/shunt/*"); strings.TrimSpace(got) == "" {
		t.Error("the backup's unit leaves no backup")
	}
	app, err := m.dial(8443)
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close()
	_ = app.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(app, "GET /v1/messages HTTP/1.1\r\nHost: shunt\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n", bearer)
	if b, err := io.ReadAll(app); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 401 ") {
		t.Errorf("an unknown bearer is answered %q, %v, want 401", b, err)
	}
	until(t, "the call is in the journal", func() bool { return strings.Contains(m.sh("journalctl --no-pager PRIORITY=7"), "app api") })
	all := m.sh("journalctl --no-pager -o export")
	for _, want := range []string{"SHUNT_ESME=shop", "SHUNT_NUMBER=+4477••••0042", "SHUNT_REASON=", "SHUNT_SMSC=smsc-own", "PRIORITY=7"} {
		if !strings.Contains(all, want) {
			t.Errorf("the journal lacks %s", want)
		}
	}
	for what, secret := range map[string]string{"a text": "Your parcel", "a token": pushToken, "a bearer": bearer, "a password": smscPassword, "a number": subscriber} {
		if i := strings.Index(all, secret); i >= 0 {
			t.Errorf("the journal holds %s: %q", what, all[max(i-200, 0):i+len(secret)])
		}
	}
}

// remove: a removal keeps what is the operator's, a purge nothing.
func remove(t *testing.T, m *machine) {
	m.sh("dpkg --remove shunt")
	if _, err := m.try("test", "-e", "/etc/shunt/shunt.toml"); err != nil {
		t.Error("the configuration is gone after a removal")
	}
	m.sh("dpkg -i /var/tmp/shunt.deb")
	until(t, "it serves again, with what was configured", func() bool { return m.property("ActiveState") == "active" })
	if got := m.sh("shunt registry count"); !strings.Contains(got, "numbers  1") {
		t.Errorf("registry count after a removal and an installation:\n%s", got)
	}
	m.sh("dpkg --purge shunt")
	until(t, "nothing is left after a purge: no file, no unit that runs or has failed", func() bool {
		left := strings.TrimSpace(m.sh("ls -d /etc/shunt /var/lib/shunt /run/shunt /usr/bin/shunt* /usr/lib/systemd/system/shunt* /etc/systemd/system/*/shunt* 2>/dev/null || true; systemctl list-units --no-legend 'shunt*'; systemctl list-unit-files --no-legend 'shunt*'; ss -Hltn 'sport = 2775'"))
		if left != "" {
			t.Logf("left: %s", left)
		}
		return left == ""
	})
}
