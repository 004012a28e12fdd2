package demo

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"shunt/test/sim/books"
	"shunt/test/sim/esme"
	"shunt/test/sim/stage"
)

// bin holds the binaries, built once for all tests.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "shunt-demo-test-")
		if err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		bin = dir
		out, err := exec.Command("go", "build", "-o", dir, "shunt/cmd/shunt", "shunt/cmd/shuntsim").CombinedOutput()
		if err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

const patience = 30 * time.Second

// running is a demo in a process of its own, under load.
type running struct {
	cmd      *exec.Cmd
	out      *bufio.Scanner
	stderr   bytes.Buffer
	children []int
}

// underLoad starts a demo and returns when its ESMEs send.
func underLoad(t *testing.T) *running {
	t.Helper()
	r := &running{cmd: exec.Command(filepath.Join(bin, "shuntsim"), "demo", "--shunt", filepath.Join(bin, "shunt"),
		"--dir", t.TempDir(), "--messages", "20000", "--numbers", "200")}
	r.cmd.Stderr = &r.stderr
	out, err := r.cmd.StdoutPipe()
	if err == nil {
		err = r.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(patience, func() { _ = r.cmd.Process.Kill() })
	t.Cleanup(func() { kill.Stop() })
	r.out = bufio.NewScanner(out)
	for r.out.Scan() && !strings.HasPrefix(r.out.Text(), "Sending") {
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C { // SMSC, APNs, FCM, gateway, phones, two ESMEs
		if r.children = childrenOf(r.cmd.Process.Pid); len(r.children) == 7 {
			return r
		}
		if state(r.cmd.Process.Pid) == "" {
			t.Fatalf("the demo ended with children %v: %s", r.children, r.stderr.String())
		}
	}
	return r
}

// stat reads the state and the parent of a process (proc(5)).
func stat(pid string) (name, state string, parent int) {
	b, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return "", "", 0
	}
	head, rest, _ := strings.Cut(string(b), ") ")
	_, name, _ = strings.Cut(head, "(")
	f := strings.Fields(rest)
	parent, _ = strconv.Atoi(f[1])
	return name, f[0], parent
}

// state is "" for a process that is gone or waits to be reaped.
func state(pid int) string {
	_, s, _ := stat(strconv.Itoa(pid))
	if s == "Z" || s == "X" {
		return ""
	}
	return s
}

func childrenOf(pid int) (list []int) {
	all, _ := os.ReadDir("/proc")
	for _, e := range all {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if _, s, parent := stat(e.Name()); parent == pid && s != "Z" {
			list = append(list, n)
		}
	}
	return list
}

// end waits for the demo's end and returns its exit code and what it said.
func (r *running) end() (code int, said string) {
	for r.out.Scan() {
		said += r.out.Text() + "\n"
	}
	err := r.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	return code, said + r.stderr.String()
}

// gone waits until no child is left.
func (r *running) gone(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for _, pid := range r.children {
		for state(pid) != "" {
			select {
			case <-tick.C:
			case <-late:
				t.Fatalf("child %d of the demo is still there", pid)
			}
		}
	}
}

func TestInterruptedLeavesNoProcess(t *testing.T) {
	r := underLoad(t)
	_ = r.cmd.Process.Signal(syscall.SIGINT)
	code, said := r.end()
	if code != 1 || !strings.Contains(said, "interrupted") || strings.Contains(said, "every message accounted for") {
		t.Errorf("exit code %d, want 1 and a word of the interruption:\n%s", code, said)
	}
	for _, pid := range r.children {
		if s := state(pid); s != "" {
			t.Errorf("child %d is still there, in state %s", pid, s)
		}
	}
}

func TestKilledLeavesNoProcess(t *testing.T) {
	r := underLoad(t)
	_ = r.cmd.Process.Kill()
	r.end()
	r.gone(t)
}

func TestGatewayThatDiesIsAFault(t *testing.T) {
	r := underLoad(t)
	for _, pid := range r.children {
		if name, _, _ := stat(strconv.Itoa(pid)); name == "shunt" {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	code, said := r.end()
	if code != 1 || !strings.Contains(said, "the gateway ended: signal: killed") {
		t.Errorf("exit code %d, want 1 and the reason:\n%s", code, said)
	}
	r.gone(t)
}

func options(t *testing.T, out io.Writer) Options {
	return Options{
		Shunt: filepath.Join(bin, "shunt"), Sim: filepath.Join(bin, "shuntsim"), Dir: t.TempDir(), Messages: 600, Numbers: 100,
		Seed: 3, Timeout: time.Minute, Out: out, Progress: io.Discard,
	}
}

func TestEveryMessageIsAccountedFor(t *testing.T) {
	var out bytes.Buffer
	if err := Run(t.Context(), options(t, &out)); err != nil {
		t.Fatalf("Run: %v\n%s", err, out.String())
	}
	for _, want := range []string{
		"every message accounted for: 600 of 600; lost 0, doubled 0, altered 0", "claimed in the app", "fell back to SMS",
		"$ shunt status --socket ", "$ shunt trace s", "SMS_DELIVERED",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out.String())
		}
	}
}

func TestStartsThatFail(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(*Options)
		want  string
	}{
		"a gateway that ends at once": {func(o *Options) { o.Shunt = "/bin/false" }, "waiting for the gateway: shunt ended: exit status 1"},
		"simulators that end at once": {func(o *Options) { o.Sim = "/bin/true" }, "waiting for the SMSC: smsc ended: exit status 0"},
		"a gateway that is not there": {func(o *Options) { o.Shunt = "/nonexistent" }, "start shunt"},
		"no time":                     {func(o *Options) { o.Timeout = time.Millisecond }, "time of 1ms is over"},
		"no messages":                 {func(o *Options) { o.Messages = 0 }, "messages: want"},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, io.Discard)
			tc.spoil(&o)
			if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Run: %v, want an error with %q", err, tc.want)
			}
			for _, pid := range childrenOf(os.Getpid()) {
				t.Errorf("child %d is still there", pid)
			}
		})
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	r := books.Reconcile(books.Books{}, books.Options{})
	r.Messages, r.Forwarded, r.Refused, r.Unanswered = 12, 7, 3, 2
	r.ForwardedFinal["DELIVRD"] = 7
	r.Asked["forwarded"], r.Matched["forwarded"] = 6, 5
	for ms := range 100 {
		r.Latencies["forwarded"] = append(r.Latencies["forwarded"], time.Duration(ms)*time.Millisecond)
	}
	table(&out, r)
	got := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"forwarded 7 6 5 50.0 ms 99.0 ms", "expired 0 0 0 - -", "refused by the SMSC 3", "never answered 2",
		"together 12 0 0 50.0 ms", "forwarded 7 DELIVRD; fallen back none",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("table lacks %q:\n%s", want, out.String())
		}
	}
}

func TestProgressOfTwo(t *testing.T) {
	var out, log bytes.Buffer
	p := newProgress(&out, false, 100)
	p.said = time.Time{}
	r := &stage.ProgressReader{Update: func(q esme.Progress) { p.update("bank", q) }, Log: &log}
	for _, s := range []string{`{"count":75,"answ`, `ered":30,"receipts_open":4}` + "\nno progr", "ess\n"} {
		if n, err := r.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	p.said = time.Time{}
	p.update("shop", esme.Progress{Answered: 12, Open: 1})
	p.update("shop", esme.Progress{Answered: 13}) // too soon for another line
	p.finish()
	want := "  30 of 100 messages answered, 4 receipts to come\n  42 of 100 messages answered, 5 receipts to come\n"
	if out.String() != want || log.String() != "no progress\n" {
		t.Errorf("progress %q, log %q, want %q and the line that is none", out.String(), log.String(), want)
	}
}
