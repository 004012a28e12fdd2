package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"shunt/gateway/audit"
	"shunt/gateway/config"
	"shunt/gateway/noc"
	"shunt/test/sim/pki"
)

// asProcess makes this test binary behave as the command: "gateway" with the
// real gateway, "deaf" with one that does not end when it is asked to.
const asProcess = "SHUNT_TEST_AS"

func TestMain(m *testing.M) {
	switch os.Getenv(asProcess) {
	case "gateway":
		os.Exit(untilSignal(startGateway))
	case "deaf":
		os.Exit(untilSignal(func(ctx context.Context, _ *config.Config, log *slog.Logger, _ func(slog.Level)) error {
			log.Info("serving")
			<-ctx.Done()
			log.Info("stopping")
			select {}
		}))
	}
	os.Exit(m.Run())
}

// buffer is a stream that many goroutines write to.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// result is what a command came to.
type result struct {
	code     int
	out, err string
}

func shunt(t *testing.T, args ...string) result {
	t.Helper()
	return shuntWith(t.Context(), startGateway, args...)
}

func shuntWith(ctx context.Context, start starter, args ...string) result {
	var out, errs buffer
	code := execute(ctx, args, streams{strings.NewReader(""), &out, &errs}, start)
	return result{code, out.String(), errs.String()}
}

// wantLine checks a refusal: its exit code and one line on stderr.
func wantLine(t *testing.T, what string, r result, code int, words ...string) {
	t.Helper()
	if r.code != code || strings.Count(strings.TrimSpace(r.err), "\n") != 0 || !strings.HasPrefix(r.err, "shunt: ") {
		t.Errorf("%s = exit %d, stderr %q, want exit %d and one line", what, r.code, r.err, code)
	}
	for _, w := range words {
		if !strings.Contains(r.err, w) {
			t.Errorf("%s: stderr %q, want %q in it", what, r.err, w)
		}
	}
}

// transit writes a configuration that diverts nothing and needs no SMSC to
// start, with more lines at its end.
func transit(t *testing.T, more string) (file, socket string) {
	t.Helper()
	dir := t.TempDir()
	file, socket = filepath.Join(dir, "shunt.toml"), filepath.Join(dir, "noc.sock")
	text := fmt.Sprintf(`[node]
id = "test-1"
data_dir = %q
[[listen]]
addr = "127.0.0.1:0"
[intercept]
upstream = "smsc-a"
divert = "off"
[[smsc]]
name = "smsc-a"
addr = "127.0.0.1:9"
[api]
listen = "127.0.0.1:0"
[noc]
socket = %q
`, filepath.Join(dir, "data"), socket) + more
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, socket
}

// process is a command in a process of its own, its stderr read by line.
type process struct {
	*exec.Cmd
	lines *bufio.Scanner
	said  strings.Builder
}

func startProcess(t *testing.T, as string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(self, args...)}
	p.Env = append(os.Environ(), asProcess+"="+as)
	stderr, err := p.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill() }) // it may have ended
	p.lines = bufio.NewScanner(stderr)
	return p
}

// await reads stderr up to a line with this word.
func (p *process) await(t *testing.T, word string) {
	t.Helper()
	for p.lines.Scan() {
		p.said.WriteString(p.lines.Text() + "\n")
		if strings.Contains(p.lines.Text(), word) {
			return
		}
	}
	t.Fatalf("stderr ended without %q:\n%s", word, p.said.String())
}

// end reads the rest and waits for the process.
func (p *process) end() error {
	for p.lines.Scan() {
		p.said.WriteString(p.lines.Text() + "\n")
	}
	return p.Wait()
}

func (p *process) signal(t *testing.T) {
	t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// The real gateway starts, answers its operators, keeps its switch over a
// restart, and ends with the first signal.
func TestRun(t *testing.T) {
	key := filepath.Join(t.TempDir(), "chat.p8")
	if err := pki.WriteAPNsKey(key); err != nil {
		t.Fatal(err)
	}
	file, socket := transit(t, fmt.Sprintf("[[app]]\nid = \"chat\"\n[app.apns]\nteam_id = \"ABCDE12345\"\nkey_id = \"FGHIJ67890\"\ntopic = \"com.example.chat\"\nendpoint = \"https://127.0.0.1:9\"\nkey_file = %q\n", key))
	for range 2 {
		p := startProcess(t, "gateway", "run", "-c", file)
		p.await(t, "serving")
		r := shunt(t, "status", "--socket", socket)
		if r.code != 0 || !strings.Contains(r.out, "test-1") || !strings.Contains(r.out, buildVersion()) {
			t.Errorf("status = %+v, want exit 0, node and version", r)
		}
		r = shunt(t, "registry", "put", "+447700900042", "--app", "chat", "--platform", "fcm", "--token", "t", "--device", "phone", "--socket", socket)
		if r.code != 0 {
			t.Errorf("registry put = %+v, want exit 0", r)
		}
		if r = shunt(t, "registry", "count", "--socket", socket); r.code != 0 || !strings.Contains(r.out, "numbers  1\n") {
			t.Errorf("registry count = %+v, want 1 number", r)
		}
		wantLine(t, "divert on without a fallback", shunt(t, "divert", "on", "--socket", socket), 1, "fallback_smsc")

		// A second gateway on the same directory, then on the same socket.
		wantLine(t, "run on a directory in use", shunt(t, "run", "-c", file, "--log-level", "error"), 1, "in use")
		other := alter(t, file, filepath.Dir(file)+"/data", filepath.Dir(file)+"/data2")
		wantLine(t, "run on a socket in use", shunt(t, "run", "-c", other, "--log-level", "error"), 1, socket, "another process answers")

		p.signal(t)
		if err := p.end(); err != nil {
			t.Errorf("run after SIGTERM = %v, want exit 0; stderr:\n%s", err, p.said.String())
		}
		if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("socket after the end: %v, want it gone", err)
		}
	}
	wantLine(t, "status after the end", shunt(t, "status", "--socket", socket), 1, "is the gateway running?")
}

// alter copies a configuration with one text replaced.
func alter(t *testing.T, file, from, to string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(from)) {
		t.Fatalf("%s does not hold %q", file, from)
	}
	other := file + ".altered"
	if err := os.WriteFile(other, bytes.ReplaceAll(b, []byte(from), []byte(to)), 0o600); err != nil {
		t.Fatal(err)
	}
	return other
}

// After kill -9 the socket is left over, and the next start takes it.
func TestRunAfterKill(t *testing.T) {
	file, socket := transit(t, "")
	p := startProcess(t, "gateway", "run", "-c", file, "--log-format", "json")
	p.await(t, `"msg":"serving"`)
	if r := shunt(t, "divert", "off", "--socket", socket); r.code != 0 {
		t.Errorf("divert off = %+v, want exit 0", r)
	}
	p.await(t, `"msg":"operator action"`)
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.end(); err == nil {
		t.Error("run after SIGKILL = nil, want a signal")
	}
	wantLine(t, "status on the left socket", shunt(t, "status", "--socket", socket), 1, "nobody answers")
	chain := filepath.Join(filepath.Dir(file), "data", "audit", audit.FileName)
	whole, err := os.ReadFile(chain)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(chain, append(whole, whole[:99]...), 0o600); err != nil { // killed while it wrote a line
		t.Fatal(err)
	}
	torn := shunt(t, "audit", "verify", chain)
	if torn.code != 1 || !strings.Contains(torn.out, "BROKEN at line 3: it has no line end") {
		t.Errorf("audit verify of a torn file = %+v, want exit 1", torn)
	}
	p = startProcess(t, "gateway", "run", "-c", file)
	p.await(t, "serving")
	if r := shunt(t, "audit", "verify", "--socket", socket); r.code != 0 || !strings.Contains(r.out, "3 sound") {
		t.Errorf("audit verify after the start = %+v, want it sound", r)
	}
	if r := shunt(t, "audit", "list", "--socket", socket); !strings.Contains(r.out, "audit repair") || !strings.Contains(r.out, "99 octets") {
		t.Errorf("audit list = %+v, want what was set aside", r)
	}
	if r := shunt(t, "status", "--socket", socket); r.code != 0 {
		t.Errorf("status = %+v, want exit 0", r)
	}
	p.signal(t)
	if err := p.end(); err != nil {
		t.Errorf("run = %v, want exit 0", err)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	file, _ := transit(t, "")
	p := startProcess(t, "deaf", "run", "-c", file)
	p.await(t, "serving")
	p.signal(t)
	p.await(t, "stopping")
	// The default action is back a moment after the context ended, and
	// "stopping" may be said within that moment: so the signal is repeated.
	ended := make(chan error, 1)
	go func() { ended <- p.end() }()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	late := time.After(20 * time.Second)
	for {
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
				t.Errorf("after the second signal = %v, want ended by SIGTERM", err)
			}
			return
		case <-again.C:
			_ = p.Process.Signal(syscall.SIGTERM) // it may have ended
		case <-late:
			t.Fatal("it did not end")
		}
	}
}

// What keeps a gateway from starting is one clear line and exit 1.
func TestRunRefusals(t *testing.T) {
	file, _ := transit(t, "")
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := alter(t, file, "addr = \"127.0.0.1:0", "addr = \""+busy.Addr().String())
	wantLine(t, "run on a port in use", shunt(t, "run", "-c", taken, "--log-level", "error"), 1, busy.Addr().String(), "in use")
	wantLine(t, "run without a file", shunt(t, "run", "-c", file+".nowhere"), 1, "shunt.toml.nowhere", "no such file")

	start := func(context.Context, *config.Config, *slog.Logger, func(slog.Level)) error { panic("started") }
	for more, want := range map[string]string{
		"[[app]]\nid = \"chat\"\n[app.fcm]\nservice_account_file = \"gone.json\"\n": "gone.json",
		"[policy]\nshare = 101\n": "policy.share",
		"colour = 1\n":            "colour",
	} {
		bad, _ := transit(t, more)
		r := shuntWith(t.Context(), start, "run", "-c", bad)
		if r.code != 1 || !strings.HasPrefix(r.err, bad+":") || !strings.Contains(r.err, want) {
			t.Errorf("run with %q = exit %d, stderr %q, want exit 1 and the fault of %s", more, r.code, r.err, want)
		}
	}
	failing := func(context.Context, *config.Config, *slog.Logger, func(slog.Level)) error {
		return errors.New("listen 1: it broke")
	}
	wantLine(t, "a gateway that fails", shuntWith(t.Context(), failing, "run", "-c", file), 1, "listen 1: it broke")
}

func TestLogger(t *testing.T) {
	file, _ := transit(t, "")
	say := func(_ context.Context, _ *config.Config, log *slog.Logger, _ func(slog.Level)) error {
		log.Debug("fine print")
		log.Info("hello", "node", "n")
		return nil
	}
	for _, c := range []struct {
		args []string
		want string
		not  string
	}{
		{nil, "time=", "fine print"},
		{[]string{"--log-format", "text"}, "level=INFO msg=hello node=n", "fine print"},
		{[]string{"--log-format", "json"}, `"level":"INFO","msg":"hello","node":"n"`, "fine print"},
		{[]string{"--log-level", "debug"}, "fine print", "\x00"},
		{[]string{"--log-level", "warn"}, "", "hello"},
	} {
		r := shuntWith(t.Context(), say, append([]string{"run", "-c", file}, c.args...)...)
		if r.code != 0 || !strings.Contains(r.err, c.want) || strings.Contains(r.err, c.not) {
			t.Errorf("run %q = exit %d, stderr %q, want %q and not %q", c.args, r.code, r.err, c.want, c.not)
		}
	}
}

func TestLoggerOnTheJournal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	sys := st.Sys().(*syscall.Stat_t)
	file := f.Name()
	for stream, journal := range map[string]bool{
		fmt.Sprintf("%d:%d", sys.Dev, sys.Ino):   true,
		fmt.Sprintf("%d:%d", sys.Dev, sys.Ino+1): false,
		"":                                       false,
		"nonsense":                               false,
	} {
		t.Setenv("JOURNAL_STREAM", stream)
		if err := f.Truncate(0); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		log, err := newLogger(f, "auto", slog.LevelInfo, file+".nowhere")
		if err != nil {
			t.Fatal(err)
		}
		log.Info("hello")
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if has := strings.Contains(string(b), "time="); has == journal || !strings.Contains(string(b), "msg=hello") {
			t.Errorf("JOURNAL_STREAM=%q: line %q, want a time: %v", stream, b, !journal)
		}
	}
}

func TestCheck(t *testing.T) {
	good, _ := transit(t, "")
	if r := shunt(t, "check", "-c", good); r.code != 0 || r.out != good+": ok\n" || r.err != "" {
		t.Errorf("check of a good file = %+v, want ok alone", r)
	}
	warned, _ := transit(t, "[[plan]]\nname = \"night\"\nmatch = { zone = \"Europe/London\" }\n") // without hours
	if r := shunt(t, "check", "-c", warned); r.code != 0 || !strings.Contains(r.out, "plan.match.zone: warning: ") || !strings.HasSuffix(r.out, warned+": ok\n") {
		t.Errorf("check with a warning = %+v, want the warning and ok", r)
	}
	bad, _ := transit(t, "[[plan]]\nname = \"night\"\nmatch = { zone = \"Europe/London\" }\n[policy]\nshare = 101\n[colours]\n")
	r := shunt(t, "check", "-c", bad)
	if r.code != 1 || r.err != "" || strings.Contains(r.out, ": ok") {
		t.Errorf("check of a bad file = %+v, want exit 1, and not ok", r)
	}
	for _, want := range []string{":18:18: plan.match.zone: warning", ":20:9: policy.share: ", ":21:2: colours: "} {
		if !strings.Contains(r.out, want) {
			t.Errorf("check of a bad file = %q, want %q in it", r.out, want)
		}
	}
	var report struct {
		File   string
		OK     bool
		Faults []fault
	}
	r = shunt(t, "check", "-c", bad, "--json")
	decode(t, r.out, &report)
	if r.code != 1 || report.OK || report.File != bad || len(report.Faults) != 3 || report.Faults[1].Line != 20 || !report.Faults[0].Warning {
		t.Errorf("check --json = exit %d, %+v, want exit 1 and three faults", r.code, report)
	}
	if r = shunt(t, "check", "-c", good, "--json"); r.code != 0 || !strings.Contains(r.out, `"ok": true`) || !strings.Contains(r.out, `"faults": []`) {
		t.Errorf("check --json of a good file = %+v", r)
	}
	wantLine(t, "check of no file", shunt(t, "check", "-c", good+".nowhere"), 1, "no such file")
}

func TestDefaultSocketIsTheConfigurations(t *testing.T) {
	cfg, faults, err := config.Load(alter(t, first(transit(t, "")), "socket = ", "# socket = "))
	if err != nil || cfg == nil {
		t.Fatalf("Load = %v, %v", faults, err)
	}
	if cfg.NOC.Socket != noc.DefaultSocket {
		t.Errorf("[noc] socket is %s by default, --socket %s", cfg.NOC.Socket, noc.DefaultSocket)
	}
}

func first(a, _ string) string { return a }
