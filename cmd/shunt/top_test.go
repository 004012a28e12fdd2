package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"shunt/gateway/noc"
)

func busy() noc.Status {
	return noc.Status{
		Node: "edge-1", Version: "1.2.3", Divert: "on", Drain: true, Started: time.Now(),
		Counters: noc.Counters{SubmitsIn: 100, Diverted: 25},
		Push:     []noc.PushLane{{App: "chat", Provider: "apns", Breaker: "closed"}},
	}
}

func TestTopOnceAndJSON(t *testing.T) {
	r := newRig(t)
	r.gateway.status = busy()
	r.gateway.binds = []noc.Session{{SystemID: "bank", Bind: "transceiver", Rate: 77}}
	out := r.ok("top", "--once")
	for _, want := range []string{"shunt edge-1", "DRAINING", "25.0 %", "chat by apns", "bank", "77"} {
		if !strings.Contains(out, want) {
			t.Errorf("top --once = %q, want %q", out, want)
		}
	}
	var s snapshot
	if err := json.Unmarshal([]byte(r.ok("top", "--once", "--json")), &s); err != nil || s.Share != 0.25 || len(s.Sessions) != 1 {
		t.Errorf("top --once --json = %+v, %v", s, err)
	}
	wantLine(t, "top without a terminal", r.fails("top"), 1, "needs a terminal", "--once")
}

func TestScreenFits(t *testing.T) {
	s := snapshot{Status: busy()}
	for range 100 {
		s.Sessions = append(s.Sessions, noc.Session{SystemID: strings.Repeat("x", 15), Peer: "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535", Bind: "transceiver"})
	}
	s.Status.Answers = []noc.Answers{{Leg: "smpp", Count: 9, P50: 0.0123456, P99: 0.9876543}, {Leg: "app"}}
	took := history{}
	for range 2 * sparkWidth {
		took.note(&s.Status)
	}
	for _, line := range strings.Split(screen(&s, took, nil, 80, 24), "\n") {
		if strings.HasPrefix(line, "answers") && !strings.HasSuffix(line, strings.Repeat("█", sparkWidth)) && !strings.HasSuffix(line, strings.Repeat("▁", sparkWidth)) {
			t.Errorf("%q has no whole sparkline in 80 columns", line)
		}
	}
	if out := screen(&s, took, nil, 80, 24); strings.Count(out, "answers") != 2 || !strings.Contains(out, "smpp p50 12.35ms, p99 987.65ms █") {
		t.Errorf("screen = %q, want both legs' answers", out)
	}
	for _, size := range [][2]int{{80, 24}, {200, 50}, {20, 5}, {1, 1}} {
		lines := strings.Split(screen(&s, took, errors.New("control socket: no answer"), size[0], size[1]), "\n")
		if len(lines) > size[1] {
			t.Errorf("%v: %d lines", size, len(lines))
		}
		for _, l := range lines {
			if n := len([]rune(l)); n > size[0] {
				t.Errorf("%v: a line of %d columns: %q", size, n, l)
			}
		}
	}
}

// A gateway that restarts does not end the screen.
func TestTopOverARestart(t *testing.T) {
	m := &topModel{take: func(*snapshot) (snapshot, error) { return snapshot{}, nil }, now: snapshot{Status: busy()}, took: history{}, width: 80, height: 24}
	if _, next := m.Update(taken{err: errors.New("control socket x: is the gateway running?")}); next == nil {
		t.Fatal("nothing follows a snapshot that failed")
	}
	if v := fmt.Sprint(m.View().Content); !strings.Contains(v, "NO ANSWER since ") || !strings.Contains(v, "is the gateway running?") || !strings.Contains(v, "edge-1") {
		t.Errorf("without an answer the screen is %q", v)
	}
	if _, next := m.Update(taken{s: snapshot{Status: busy()}}); next == nil || strings.Contains(fmt.Sprint(m.View().Content), "NO ANSWER") {
		t.Errorf("after an answer the screen is %q", m.View().Content)
	}
}

// On a terminal of 80 by 24 it draws, follows a resize, and q ends it.
func TestTopOnATerminal(t *testing.T) {
	r := newRig(t)
	r.gateway.status = busy()
	r.ok("status") // whose socket orders the write above before what another process asks for
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "top", "--socket", r.socket, "--interval", "100ms")
	cmd.Env = append(os.Environ(), asProcess+"=gateway", "TERM=xterm-256color")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: 80, Rows: 24})
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
	seen := make(chan []byte, 256)
	go func() {
		defer close(seen)
		for {
			b := make([]byte, 4096)
			n, err := tty.Read(b)
			if err != nil {
				return
			}
			seen <- b[:n]
		}
	}()
	var all bytes.Buffer
	await := func(what string) {
		t.Helper()
		late := time.After(20 * time.Second)
		for !strings.Contains(all.String(), what) {
			select {
			case b, ok := <-seen:
				if !ok {
					t.Fatalf("it ended without %q:\n%q", what, all.String())
				}
				all.Write(b)
			case <-late:
				t.Fatalf("no %q on the screen:\n%q", what, all.String())
			}
		}
	}
	await("edge-1")
	await("DRAINING")
	if err := pty.Setsize(tty, &pty.Winsize{Cols: 60, Rows: 5}); err != nil {
		t.Fatal(err)
	}
	await("more lines")
	if _, err := tty.Write([]byte("q")); err != nil {
		t.Fatal(err)
	}
	for b := range seen {
		all.Write(b)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("top after q = %v, want exit 0", err)
	}
}
