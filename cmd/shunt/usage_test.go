package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestUsage(t *testing.T) {
	for line, want := range map[string]string{
		"nonsense":                           `unknown command "nonsense"`,
		"statsu":                             "did you mean status?",
		"registry nonsense":                  `unknown command "registry nonsense"`,
		"completion nonsense":                `unknown command "completion nonsense"`,
		"status extra":                       "takes no argument",
		"status --nonsense":                  "unknown flag: --nonsense",
		"status --unmask":                    "unknown flag: --unmask",
		"trace":                              "MSGID or NUMBER is missing",
		"trace a b":                          "takes only one",
		"divert maybe":                       "want on, shadow or off",
		"audit verify a b":                   "takes only one FILE",
		"audit list x":                       "takes no argument",
		"audit list -n 0":                    "-n: want 1 to",
		"audit nonsense":                     `unknown command "audit nonsense"`,
		"alarms x":                           "takes no argument",
		"top x":                              "takes no argument",
		"top --interval 1ms":                 "--interval: want",
		"drain x":                            "takes no argument",
		"divert on off":                      "want on, shadow or off",
		"registry get":                       "NUMBER is missing",
		"registry get 12":                    "not an E.164 number",
		"registry rm +0447700900042":         "not an E.164 number",
		"registry rm 447700900042 --device=": "--device: is empty",
		"registry put +447700900042":         `required flag(s) "app", "platform", "token" not set`,
		"registry put +447700900042 --app a --platform pager --token t":            "--platform: want apns or fcm",
		"registry put +447700900042 --app a --platform fcm --token t --state gone": "--state: want active or inactive",
		"registry list --limit -1":   "--limit",
		"registry list --limit many": "--limit",
		"run extra":                  "takes no argument",
		"run --log-format xml":       "want text, json, journal or auto",
		"run --log-level loud":       "want debug, info, warn or error",
		"check --config":             "needs an argument",
		"man":                        "DIR is missing",
		"version 2":                  "takes no argument",
		"explain":                    `required flag(s) "from", "to" not set`,
		"explain x":                  "takes no argument",
		"explain --from a --to +447700900042 --validity soon":     "--validity: want a duration",
		"explain --from a --to +447700900042 --validity 100d":     "--validity: want a duration",
		"explain --from a --to +447700900042 --data-coding 0x100": "--data-coding",
		"explain --from a --to +447700900042 --priority high":     "--priority",
	} {
		r := shunt(t, strings.Fields(line)...)
		if r.code != 2 || !strings.Contains(r.err, want) || !strings.Contains(r.err, "--help'") || r.out != "" {
			t.Errorf("shunt %s = %+v, want exit 2 and %q", line, r, want)
		}
	}
}

// Each command has help with an example of itself.
func TestHelp(t *testing.T) {
	var paths []string
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "help" {
			return
		}
		paths = append(paths, c.CommandPath())
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&app{}).root())
	if len(paths) < 20 {
		t.Errorf("commands = %q, want at least 20", paths)
	}
	for _, p := range paths {
		r := shunt(t, append(strings.Fields(p)[1:], "--help")...)
		if r.code != 0 || r.err != "" || !strings.Contains(r.out, "Examples:\n  "+p) {
			t.Errorf("%s --help = exit %d, %q, want an example that begins with %q", p, r.code, r.err, p)
		}
	}
	bare := shunt(t)
	if bare.code != 0 || !strings.Contains(bare.out, "Available Commands:") {
		t.Errorf("shunt = %+v, want the help", bare)
	}
}

func TestMan(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	if r := shunt(t, "man", dir); r.code != 0 || r.out != "" || r.err != "" {
		t.Fatalf("man = %+v", r)
	}
	for name, want := range map[string]string{
		"shunt.1": "Carrier-edge", "shunt-registry-put.1": "--token", "shunt-reload.1": "shunt reload",
	} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s = %d octets, %v, want %q in it", name, len(b), err, want)
		}
	}
}

func TestVersionAndCompletion(t *testing.T) {
	if r := shunt(t, "version"); r.code != 0 || !regexp.MustCompile(`^shunt \S+ go1\.\S+\n$`).MatchString(r.out) {
		t.Errorf("version = %+v", r)
	}
	version = "9.9.9"
	t.Cleanup(func() { version = "" })
	var b struct{ Version, Go string }
	decode(t, shunt(t, "version", "--json").out, &b)
	if b.Version != "9.9.9" || !strings.HasPrefix(b.Go, "go1.") {
		t.Errorf("version --json = %+v", b)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := shunt(t, "completion", shell); r.code != 0 || !strings.Contains(r.out, "shunt") || r.err != "" {
			t.Errorf("completion %s = exit %d, %d octets, %q", shell, r.code, len(r.out), r.err)
		}
	}
}

// remotes is a line of each command that needs a running gateway.
var remotes = [][]string{
	{"status"},
	{"sessions"},
	{"trace", "s01"},
	{"explain", "--from", "ACME", "--to", "+447700900042"},
	{"divert"},
	{"divert", "on"},
	{"drain"},
	{"drain", "--no-wait"},
	{"undrain"},
	{"queue"},
	{"alarms"},
	{"audit", "verify"},
	{"audit", "list"},
	{"alarms", "--all", "--json"},
	{"selftest"},
	{"trace", "s01", "-f"},
	{"top", "--once"},
	{"top", "--json"},
	{"reload"},
	{"registry", "get", "+447700900042"},
	{"registry", "rm", "+447700900042"},
	{"registry", "put", "+447700900042", "--app", "a", "--platform", "fcm", "--token", "t"},
	{"registry", "list"},
	{"registry", "list", "--json"},
	{"registry", "count"},
}

func TestNobodyAnswers(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "stale"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	datagram, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "datagram"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer datagram.Close()
	for name, want := range map[string]string{
		"nothing": "is the gateway running?", "stale": "nobody answers", "file": "not a control socket", "datagram": "not a control socket",
	} {
		for _, args := range remotes {
			socket := filepath.Join(dir, name)
			wantLine(t, fmt.Sprint(args, " on ", name), shunt(t, append(args, "--socket", socket)...), 1, socket, want)
		}
	}
}

// A server that breaks off, or that is something else, is exit 1 and one line.
func TestBrokenServers(t *testing.T) {
	for what, c := range map[string]struct {
		serve http.HandlerFunc
		want  string
	}{
		"truncated": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, `{"registrations":[{"number":"+44`)
		}, "breaks off"},
		"empty": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
		}, "cannot be read"},
		"steering": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusConflict)
			io.WriteString(w, `{"detail":"\u001b[31mred"}`)
		}, "\uFFFD[31mred"},
		"another's": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, "not this gateway's"},
		"aborting":  {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "see the gateway's log"},
	} {
		socket := filepath.Join(t.TempDir(), "s")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if what != "another's" {
				w.Header().Set("Server", "shunt")
			}
			c.serve(w, r)
		})}
		go srv.Serve(l) //nolint:errcheck // ends with Close
		for _, args := range remotes {
			wantLine(t, fmt.Sprint(args, " on ", what), shunt(t, append(args, "--socket", socket)...), 1, c.want)
		}
		srv.Close()
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// An output that cannot be written is a failure, not a success.
func TestOutputFails(t *testing.T) {
	r := newRig(t)
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"registry", "list", "--json"}, {"divert"}} {
		var errs buffer
		code := execute(t.Context(), append(args, "--socket", r.socket), streams{strings.NewReader(""), full{}, &errs}, startGateway)
		if code != 1 || !strings.Contains(errs.String(), "no space left") {
			t.Errorf("%q to a full disk = exit %d, %q, want exit 1", args, code, errs.String())
		}
	}
}
