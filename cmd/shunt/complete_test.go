package main

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/store/registry"
	"shunt/store/spool"
)

// completed runs the entry point that the shells' scripts call.
func completed(t *testing.T, args ...string) []string {
	t.Helper()
	r := shunt(t, append([]string{"__complete"}, args...)...)
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if last := lines[len(lines)-1]; r.code != 0 || last != ":4" { // no files
		t.Errorf("__complete %q = %+v, want exit 0 and no files", args, r)
	}
	if s := strings.TrimSpace(r.err); strings.Count(s, "\n") != 0 || !strings.HasPrefix(s, "Completion ended") {
		t.Errorf("__complete %q says %q", args, r.err)
	}
	return lines[:len(lines)-1]
}

func TestCompletion(t *testing.T) {
	r := newRig(t)
	r.gateway.binds = []noc.Session{
		{ID: 7, SystemID: "bank", Peer: "192.0.2.1:4711"},
		{ID: 12, SystemID: "news", Peer: "192.0.2.2:1"},
		{ID: 13, SystemID: "e\tvil\nline", Peer: "192.0.2.3:1"},
	}
	var ids []string
	for i := range 60 {
		now := time.Now()
		m := &spool.Message{
			ID: r.spool.NewID(), Account: msg.Account{SystemID: "bank"}, To: alice, App: "chat", From: "ACME", PDU: []byte("x"),
			ReceivedAt: now, ClaimBy: now.Add(time.Hour), ExpiresAt: now.Add(2 * time.Hour),
		}
		if i == 59 {
			m.WireID = "8000002a"
		}
		put := make(chan error, 1)
		r.spool.Put(m, func(err error) { put <- err })
		if err := <-put; err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m.ID.String())
	}
	for _, n := range []msg.Number{447700900042, 447700900043, 4477009000421, 447700800000, 4912345} {
		if _, err := r.reg.Put(t.Context(), registry.Put{Number: n, App: "chat", Platform: registry.FCM, Token: "t", Device: fmt.Sprint(n), Active: true}); err != nil {
			t.Fatal(err)
		}
	}
	for line, want := range map[string]string{
		"trace 8":                          "8000002a\tHELD chat",
		"trace " + ids[3]:                  ids[3] + "\tPUSHED chat",
		"trace 4":                          "",
		"trace +447700":                    "",
		"trace +4477009":                   "+447700900042 +447700900043 +4477009000421",
		"trace 447700900042":               "447700900042 4477009000421",
		"trace s0 x":                       "",
		"registry get +4477008":            "+447700800000",
		"registry get +4477009000420":      "",
		"registry get +491234":             "",
		"registry get +4912345":            "+4912345",
		"registry get +0000000":            "",
		"registry get +44770090004299999":  "",
		"registry rm +4477008":             "+447700800000",
		"registry erase +4477008":          "+447700800000",
		"registry put +4477008":            "+447700800000",
		"registry put --platform ":         "apns fcm",
		"registry put --app ":              "chat",
		"sessions b":                       "bank",
		"sessions 1":                       "12\tnews 192.0.2.2:1 13\t192.0.2.3:1",
		"sessions ":                        "bank news shop 7\tbank 192.0.2.1:4711 12\tnews 192.0.2.2:1 13\t192.0.2.3:1",
		"explain --esme n":                 "news",
		"explain --from x --to +447700800": "+447700800000",
	} {
		args := strings.Split(line, " ")
		got := strings.Join(completed(t, append([]string{args[0], "--socket", r.socket}, args[1:]...)...), " ")
		if args[0] == "registry" {
			got = strings.Join(completed(t, append([]string{args[0], args[1], "--socket", r.socket}, args[2:]...)...), " ")
		}
		if strings.HasPrefix(want, "s0") || strings.HasPrefix(want, "8000") { // whatever state it is in by now
			got, want = strings.Split(got, "\t")[0], strings.Split(want, "\t")[0]
		}
		if got != want {
			t.Errorf("%s: completed %q, want %q", line, got, want)
		}
	}
	all := completed(t, "trace", "--socket", r.socket, "s0")
	if len(all) != 50 || !strings.HasPrefix(all[0], ids[58]+"\t") {
		t.Errorf("trace s0: %d, first %q, want the 50 latest, %s first", len(all), all[0], ids[58])
	}
}

// Where no gateway answers, or not at once, nothing is completed, and nothing said.
func TestCompletionWithoutGateway(t *testing.T) {
	dir := t.TempDir()
	mute := filepath.Join(dir, "mute")
	l, err := net.Listen("unix", mute) // it takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, socket := range []string{filepath.Join(dir, "none"), mute} {
		began := time.Now()
		if got := completed(t, "trace", "--socket", socket, "s0"); len(got) != 0 {
			t.Errorf("completed %q", got)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
	}
}
