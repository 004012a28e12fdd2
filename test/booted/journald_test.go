//go:build booted

package booted

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"shunt/systemd"
)

// asLogger makes this test binary write to the journal instead of testing.
const asLogger = "SHUNT_BOOTED_AS"

func TestMain(m *testing.M) {
	if os.Getenv(asLogger) != "" {
		os.Exit(logAll())
	}
	os.Exit(m.Run())
}

// large is in no datagram.
var large = strings.Repeat("0123456789abcdef", 1<<20)

func logAll() int {
	j, err := systemd.NewJournal(systemd.JournalSocket, slog.LevelDebug)
	if err != nil {
		return 1
	}
	log := slog.New(j)
	log.Warn("own bind is down", "smsc", "smsc-own", "error", errors.New("connect: refused"))
	log.Error("app api panicked", "route", "GET /v1/messages", "stack", "goroutine 1:\nmain.main()\n")
	log.Error("control socket: request panicked", "stack", large)
	log.Info("message ended", "msg_id", "s01", "esme", "bank", "number", "+4477••••0042", "leg", "app", "verdict", "divert", "reason", "divert")
	return 0
}

const journaldScript = `set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
/lib/systemd/systemd-journald &
trap 'kill $!; wait' EXIT
for i in $(seq 200); do [ -S /run/systemd/journal/socket ] && break; sleep 0.05; done
"$SELF"
for i in $(seq 200); do journalctl -q -D /run/log/journal/* SHUNT_MSG_ID=s01 | grep -q s01 && break; sleep 0.05; done
for field in $FIELDS; do journalctl -q --all -D /run/log/journal/* -o json "$field"; done
`

// TestJournald has a real journald, as a plain process, take what our handler
// writes, and finds it by field.
func TestJournald(t *testing.T) {
	setUp(t)
	id := func(text string) string {
		for _, m := range systemd.Messages {
			if m.Text == text {
				return m.ID
			}
		}
		t.Fatalf("no MESSAGE_ID of %q", text)
		return ""
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	fields := []string{"MESSAGE_ID=" + id("own bind is down"), "MESSAGE_ID=" + id("app api panicked")}
	fields = append(fields, "MESSAGE_ID="+id("control socket: request panicked"), "SHUNT_NUMBER=+4477••••0042", "SHUNT_LEG=app", "SHUNT_VERDICT=divert", "SHUNT_REASON=divert", "SHUNT_ESME=bank", "SHUNT_MSG_ID=s01")
	c := exec.CommandContext(t.Context(), "unshare", "-m", "bash", "-c", journaldScript)
	c.Env = append(os.Environ(), "SELF="+self, asLogger+"=logger", "FIELDS="+strings.Join(fields, " "))
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("journald: %v\n%s\n%s", err, out[:min(len(out), 2000)], errs.String())
	}
	var got []map[string]any
	for line := range strings.Lines(string(out)) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %.200q", err, line)
		}
		got = append(got, e)
	}
	if len(got) != len(fields) {
		t.Fatalf("%d entries, want one for each of %q\n%s", len(got), fields, errs.String())
	}
	for i, want := range []map[string]string{
		{"MESSAGE": `own bind is down smsc=smsc-own error="connect: refused"`, "PRIORITY": "4", "SHUNT_SMSC": "smsc-own", "SHUNT_ERROR": "connect: refused", "SYSLOG_IDENTIFIER": "shunt"},
		{"SHUNT_STACK": "goroutine 1:\nmain.main()\n", "PRIORITY": "3"},
		{"SHUNT_STACK": large},
		{"SHUNT_MSG_ID": "s01", "SHUNT_ESME": "bank", "PRIORITY": "6"},
	} {
		for field, value := range want {
			if s, _ := got[i][field].(string); s != value {
				t.Errorf("entry of %s: %s = %.100q, want %.100q", fields[i], field, s, value)
			}
		}
	}
}

const selftestScript = `set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
/lib/systemd/systemd-journald & journald=$!
for i in $(seq 200); do [ -S /run/systemd/journal/socket ] && break; sleep 0.05; done
"$SHUNT" run -c "$DIR/shunt.toml" --log-format journal & gateway=$!
trap 'kill $gateway; kill -CONT $journald; kill $journald; wait' EXIT
for i in $(seq 200); do [ -S "$DIR/noc.sock" ] && break; sleep 0.05; done
"$SHUNT" selftest --quick --json --socket "$DIR/noc.sock"
kill -STOP $journald
! "$SHUNT" selftest --quick --json --socket "$DIR/noc.sock"
`

// TestSelftestInTheJournal has a running gateway's line found in a real journal,
// and not found in one that stands still.
func TestSelftestInTheJournal(t *testing.T) {
	setUp(t)
	dir := t.TempDir()
	config := "[node]\nid = \"test-1\"\ndata_dir = \"" + dir + "/data\"\n[[listen]]\naddr = \"127.0.0.1:0\"\n" +
		"[intercept]\nupstream = \"smsc-a\"\ndivert = \"off\"\n[[smsc]]\nname = \"smsc-a\"\naddr = \"127.0.0.1:9\"\n" +
		"[noc]\nsocket = \"" + dir + "/noc.sock\"\n"
	if err := os.WriteFile(dir+"/shunt.toml", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	binary, err := filepath.Abs(root + "/build/shunt")
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "unshare", "-m", "bash", "-c", selftestScript)
	c.Env = append(os.Environ(), "SHUNT="+binary, "DIR="+dir)
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Fatalf("selftest: %v\n%s\n%s", err, out, errs.String())
	}
	d := json.NewDecoder(strings.NewReader(string(out)))
	for _, want := range []struct{ result, word string }{{"ok", "MESSAGE_ID and SHUNT_SELFTEST"}, {"wrong", "was not found"}} {
		var b struct {
			Checks []struct{ Check, Result, Detail, Do string }
		}
		if err := d.Decode(&b); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		found := false
		for _, f := range b.Checks {
			found = found || f.Check == "journal" && f.Result == want.result && strings.Contains(f.Detail, want.word) && (f.Do == "") == (want.result == "ok")
		}
		if !found {
			t.Errorf("selftest = %+v, want the journal %s, with %q", b.Checks, want.result, want.word)
		}
	}
}
