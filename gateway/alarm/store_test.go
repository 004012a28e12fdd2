package alarm

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var begin = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// changes collects what a store tells.
type changes []string

func (c *changes) take(a Alarm) { *c = append(*c, fmt.Sprintf("%s %s %s", a.State, a.Name, a.Subject)) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// TestHysteresis plays a condition second by second: "#" holds, "." does not.
// The expectation names the second of each change.
func TestHysteresis(t *testing.T) {
	const after, clear = 5, 10 // own-bind-down's
	if k := kinds[OwnBindDown]; k.RaiseAfter != after*time.Second || k.ClearAfter != clear*time.Second {
		t.Fatalf("own-bind-down is raised after %v and cleared after %v: the cases below are for 5 s and 10 s", k.RaiseAfter, k.ClearAfter)
	}
	for _, c := range []struct{ name, line, want string }{
		{"never", "..........", ""},
		{"too short", "#####.....", ""},
		{"long enough", "######", "5 raised"},
		{"begun anew", "####.#####.######", "16 raised"},
		{"stays raised while it flaps", "######.#.##.#..#.........#", "5 raised"},
		{"cleared once it is gone for long enough", "######...........", "5 raised 16 cleared"},
		{"the time begins anew", "######.........#...........", "5 raised 26 cleared"},
		{"raised again", "######...........######", "5 raised 16 cleared 22 raised"},
	} {
		var got []string
		second := 0
		s := Open(Options{Log: quiet(), Changed: func(a Alarm) { got = append(got, fmt.Sprintf("%d %s", second, a.State)) }})
		for i, holds := range c.line {
			second = i
			var now []Condition
			if holds == '#' {
				now = []Condition{{OwnBindDown, "smsc-a", "refused"}}
			}
			s.Observe(begin.Add(time.Duration(i)*time.Second), now)
		}
		if got := strings.Join(got, " "); got != c.want {
			t.Errorf("%s: %s = %q, want %q", c.name, c.line, got, c.want)
		}
	}
}

func TestAlarm(t *testing.T) {
	var log bytes.Buffer
	var told changes
	s := Open(Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Changed: told.take})
	both := []Condition{{OwnBindDown, "smsc-a", "first"}, {MetricsOff, "", "taken"}, {"no-such-alarm", "", ""}}
	s.Observe(begin, both)
	if want := (changes{"raised metrics-off "}); !cmp.Equal(want, told) {
		t.Errorf("changes = %q, want %q", told, want)
	}
	both[0].Text = "second"
	s.Observe(begin.Add(6*time.Second), both)
	want := Alarm{
		Name: OwnBindDown, Subject: "smsc-a", Severity: Critical, State: Raised, Since: begin, Text: "second", WhatToDo: kinds[OwnBindDown].WhatToDo,
	}
	if got := s.Raised(); len(got) != 2 || got[0] != want || got[1].Name != MetricsOff {
		t.Errorf("Raised() = %+v, want %+v first", got, want)
	}
	s.Observe(begin.Add(7*time.Second), nil)
	s.Observe(begin.Add(17*time.Second), nil)
	want.State, want.ClearedAt = Cleared, begin.Add(17*time.Second)
	if got := s.Recent(); len(got) != 2 || got[0] != want || len(s.Raised()) != 0 || s.Total() != 2 {
		t.Errorf("Recent() = %+v, Raised() = %+v, Total() = %d, want %+v first, none, 2", got, s.Raised(), s.Total(), want)
	}
	for _, line := range []string{
		`level=ERROR msg="alarm raised" alarm=own-bind-down subject=smsc-a severity=critical text=second what_to_do="Check`,
		`level=INFO msg="alarm cleared" alarm=own-bind-down subject=smsc-a severity=critical lasted=17s`,
		`level=WARN msg="alarm raised" alarm=metrics-off`,
	} {
		if strings.Count(log.String(), line) != 1 {
			t.Errorf("the log has not one line %s:\n%s", line, log.String())
		}
	}
}

// TestBounds: whatever is observed, memory is bounded.
func TestBounds(t *testing.T) {
	s := Open(Options{Log: quiet()})
	for round := range 3 {
		var all []Condition
		for i := range 2 * maxTracked {
			all = append(all, Condition{MetricsOff, fmt.Sprint(round, "-", i), ""})
		}
		s.Observe(begin.Add(time.Duration(round)*time.Second), all)
	}
	if len(s.tracked) > maxTracked || len(s.Recent()) != maxRecent {
		t.Errorf("%d tracked, %d recent, want at most %d and %d", len(s.tracked), len(s.Recent()), maxTracked, maxRecent)
	}
}

// TestRestart: what was raised before is told again, and cleared if it is gone.
func TestRestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alarms.json")
	first := Open(Options{File: file, Log: quiet()})
	first.Observe(begin, []Condition{{MetricsOff, "", "taken"}, {AuditFailing, "", "no space"}, {UpstreamDown, "", "not yet raised"}})
	if err := first.save(); err != nil {
		t.Fatal(err)
	}
	var told changes
	second := Open(Options{File: file, Log: quiet(), Changed: told.take})
	second.Observe(begin.Add(time.Hour), []Condition{{AuditFailing, "", "no space"}})
	second.Observe(begin.Add(time.Hour+time.Second), []Condition{{AuditFailing, "", "no space"}})
	want := changes{"raised audit-failing ", "raised metrics-off ", "cleared metrics-off "}
	if !cmp.Equal(want, told) {
		t.Errorf("changes after the restart = %q, want %q", told, want)
	}
	if got := second.Raised(); len(got) != 1 || !got[0].Since.Equal(begin) {
		t.Errorf("Raised() = %+v, want audit-failing since %v", got, begin)
	}
	for what, content := range map[string]string{"torn": `[{"alarm":"metr`, "empty": "", "too long": strings.Repeat(" ", maxFile+1)} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := Open(Options{File: file, Log: quiet()}).Raised(); len(got) != 0 {
			t.Errorf("%s file: Raised() = %+v, want none", what, got)
		}
	}
}

// TestRunKeepsTheFile: Run writes what Observe has raised.
func TestRunKeepsTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alarms.json")
	s := Open(Options{File: file, Log: quiet()})
	s.Observe(begin, []Condition{{MetricsOff, "", "taken"}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx)
	}()
	s.dirty <- struct{}{} // taken only by a Run that has begun, and the first token is behind it
	s.dirty <- struct{}{}
	cancel()
	<-ended
	if got := Open(Options{File: file, Log: quiet()}).Raised(); len(got) != 1 || got[0].Name != MetricsOff {
		t.Errorf("the file holds %+v, want metrics-off", got)
	}
}

func TestKinds(t *testing.T) {
	for _, k := range Kinds {
		if k.WhatToDo == "" || k.Severity != Critical && k.Severity != Warning || strings.Trim(k.Name, "abcdefghijklmnopqrstuvwxyz-") != "" {
			t.Errorf("%+v: wants a name, a severity and what to do", k)
		}
		if kinds[k.Name].WhatToDo != k.WhatToDo {
			t.Errorf("%s is there twice", k.Name)
		}
	}
}
