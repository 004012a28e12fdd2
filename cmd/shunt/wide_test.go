package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/store/registry"
)

// Long names are cut in tables and whole in JSON, and what peers call themselves
// does not steer the terminal.
func TestLongAndHostileNames(t *testing.T) {
	r := newRig(t)
	long := strings.Repeat("Größe-", 40)
	hostile := "bank\x1b[2J\n\ttail"
	r.gateway.binds = []noc.Session{
		{ID: 1, SystemID: long, Bind: "transceiver", State: "bound", Peer: "192.0.2.1:4711", Upstream: "198.51.100.7:2775", Since: time.Now(), LastError: long},
		{ID: 2, SystemID: hostile, Bind: "receiver", State: "bound", Peer: "192.0.2.2:1"},
	}
	r.gateway.queue = []noc.Queue{{QueueKey: noc.QueueKey{State: msg.Pushed, Plan: long, App: long, Account: long}, Messages: 3, Oldest: time.Now()}}
	if _, err := r.reg.Put(t.Context(), registry.Put{Number: alice, App: "chat", Platform: registry.FCM, Token: "t", Device: strings.Repeat("d", 64), Active: true}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args  []string
		width int
		whole string
	}{
		{[]string{"sessions"}, 260, long},
		{[]string{"queue"}, 180, long},
		{[]string{"registry", "get", "+447700900042"}, 140, strings.Repeat("d", 64)},
		{[]string{"registry", "list"}, 140, strings.Repeat("d", 64)},
		{[]string{"top", "--once"}, 80, ""},
	} {
		out := r.ok(c.args...)
		for line := range strings.Lines(out) {
			if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > c.width {
				t.Errorf("%q: a line of %d, want at most %d:\n%s", c.args, n, c.width, line)
			}
		}
		if strings.ContainsAny(out, "\x1b\t") || strings.Contains(out, "\ntail") {
			t.Errorf("%q steers the terminal: %q", c.args, out)
		}
		if c.args[0] != "top" && !strings.Contains(out, "…") {
			t.Errorf("%q shows no name that was cut:\n%s", c.args, out)
		}
		if c.whole != "" {
			if out := r.ok(append(c.args, "--json")...); !strings.Contains(out, c.whole) {
				t.Errorf("%q --json has the name not whole:\n%s", c.args, out)
			}
		}
	}
}
