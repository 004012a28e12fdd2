package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"
)

var noc = Actor{UID: 1000, User: "noc", PID: 4711}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func start(t *testing.T, dir string, log *slog.Logger) *Log {
	t.Helper()
	l := Open(dir, Options{}, log)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func note(t *testing.T, l *Log, action string) {
	t.Helper()
	if err := l.Note(noc, action, "mode=on", Done); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, l *Log) string {
	t.Helper()
	b, err := os.ReadFile(l.path())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func lines(t *testing.T, l *Log) (all []Entry) {
	t.Helper()
	for line := range strings.Lines(content(t, l)) {
		var e Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

func TestChain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	var log bytes.Buffer
	l := start(t, dir, slog.New(slog.NewTextHandler(&log, nil)))
	a, err := l.Begin(noc, "divert", `mode=on "quoted" <html>`, false)
	if err != nil {
		t.Fatal(err)
	}
	a.End("", Done)
	note(t, l, "reload")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again := start(t, dir, quiet()) // a restart goes on
	note(t, again, "drain")
	all := lines(t, again)
	if len(all) != 4 {
		t.Fatalf("%d lines, want 4", len(all))
	}
	prev := Genesis
	for i, e := range all {
		if e.Seq != uint64(i+1) || e.Prev != prev || e.UID != 1000 || e.User != "noc" || e.PID != 4711 || e.At.IsZero() {
			t.Errorf("line %d = %+v, want the next of the chain", i+1, e)
		}
		if i < 3 && !strings.Contains(log.String(), "hash="+e.Hash) {
			t.Errorf("the log has no hash %s of line %d:\n%s", e.Hash, i+1, log.String())
		}
		prev = e.Hash
	}
	if b, e := all[0], all[1]; b.Result != Begun || e.Of != 1 || e.Result != Done || e.Detail != b.Detail || e.Action != "divert" {
		t.Errorf("begun %+v, ended %+v", b, e)
	}
	rep, err := again.Verify()
	if want := (Report{Files: 1, First: 1, Lines: 4, Sound: true, Seq: 4, Hash: prev}); err != nil || rep != want {
		t.Errorf("Verify() = %+v, %v, want %+v", rep, err, want)
	}
	if got, err := again.Last(2); err != nil || len(got) != 2 || got[0].Seq != 3 || got[1].Hash != prev {
		t.Errorf("Last(2) = %+v, %v, want lines 3 and 4", got, err)
	}
	st, err := os.Stat(again.path())
	if err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", st.Mode(), err)
	}
}

// TestTheHashIsThatOfTheLine computes it with tools of the shell, as an auditor
// may.
func TestTheHashIsThatOfTheLine(t *testing.T) {
	l := start(t, filepath.Join(t.TempDir(), "audit"), quiet())
	note(t, l, "reload")
	out, err := exec.Command("sh", "-c", `head -n1 "$1" | sed 's/,"hash":"[0-9a-f]*"}$/}/' | tr -d '\n' | sha256sum | cut -d' ' -f1`, "sh", l.path()).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.TrimSpace(string(out)), lines(t, l)[0].Hash; got != want {
		t.Errorf("sha256sum says %s, the line %s", got, want)
	}
}

// TestVerifyFinds: whatever is done to a file, the first line that shows it is
// named.
func TestVerifyFinds(t *testing.T) {
	l := start(t, filepath.Join(t.TempDir(), "audit"), quiet())
	for i := range 6 {
		note(t, l, fmt.Sprintf("action %d", i+1))
	}
	good := content(t, l)
	all := strings.SplitAfter(strings.TrimSuffix(good, "\n"), "\n")
	all[5] += "\n"
	resealed := lines(t, l)[2]
	resealed.Detail = "mode=off"
	forged, err := seal(&resealed)
	if err != nil {
		t.Fatal(err)
	}
	join := func(l ...string) string { return strings.Join(l, "") }
	for name, c := range map[string]struct {
		content string
		broken  uint64
		why     string
	}{
		"whole":              {good, 0, ""},
		"empty":              {"", 0, ""},
		"changed":            {strings.Replace(good, "action 3", "action x", 1), 3, "was changed"},
		"changed and sealed": {join(all[0], all[1], string(forged), all[3], all[4], all[5]), 4, "hash of the line before"},
		"removed":            {join(all[0], all[1], all[3], all[4], all[5]), 3, "its number is 4, want 3"},
		"first removed":      {join(all[1:]...), 1, "its number is 2, want 1"},
		"swapped":            {join(all[0], all[2], all[1], all[3]), 2, "its number is 3"},
		"twice":              {join(all[0], all[0]), 2, "its number is 1"},
		"torn":               {good[:len(good)-9], 6, "torn"},
		"without line end":   {good[:len(good)-1], 6, "torn"},
		"blank line":         {all[0] + "\n" + all[1], 2, "no line of an audit"},
		"a blank added":      {strings.Replace(good, `"seq":2,`, `"seq": 2,`, 1), 2, "was changed"},
		"garbage behind":     {good + strings.Repeat("\x00", 100), 7, "torn"},
		"endless":            {good + strings.Repeat("x", 3*maxLine) + "\n", 7, "torn"},
	} {
		for how, r := range map[string]io.Reader{"at once": strings.NewReader(c.content), "by octets": iotest.OneByteReader(strings.NewReader(c.content))} {
			rep, err := Verify(r)
			want := uint64(strings.Count(c.content, "\n"))
			if c.broken > 0 {
				want = c.broken - 1
			}
			if err != nil || rep.Sound != (c.broken == 0) || rep.Broken != c.broken || rep.Lines != want || !strings.Contains(rep.Why, c.why) {
				t.Errorf("%s, %s: Verify() = %+v, %v, want broken at %d: %s", name, how, rep, err, c.broken, c.why)
			}
		}
	}
	boom := errors.New("boom")
	if _, err := Verify(iotest.ErrReader(boom)); !errors.Is(err, boom) {
		t.Errorf("Verify of a failing disk = %v, want its error", err)
	}
}

// TestTorn: wherever a crash has torn the last line, the next start sets it
// aside, says so in a line, and the chain is sound.
func TestTorn(t *testing.T) {
	parent := t.TempDir()
	l := start(t, filepath.Join(parent, "audit"), quiet())
	note(t, l, "first")
	one := content(t, l)
	note(t, l, "second")
	two := content(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for at := len(one) + 1; at < len(two); at += 7 {
		dir := filepath.Join(parent, fmt.Sprint(at))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, FileName), []byte(two[:at]), 0o600); err != nil {
			t.Fatal(err)
		}
		l := start(t, dir, quiet())
		note(t, l, "third")
		rep, err := l.Verify()
		all := lines(t, l)
		if err != nil || !rep.Sound || rep.Lines != 3 || all[1].Action != "audit repair" {
			t.Fatalf("torn at %d: Verify() = %+v, %v, lines %+v, want a sound chain with a repair", at, rep, err, all)
		}
		torn, err := filepath.Glob(filepath.Join(dir, "torn-*"))
		if err != nil || len(torn) != 1 || !strings.Contains(all[1].Detail, filepath.Base(torn[0])) {
			t.Fatalf("torn at %d: set aside %q, the line says %q", at, torn, all[1].Detail)
		}
		if b, err := os.ReadFile(torn[0]); err != nil || string(b) != two[len(one):at] {
			t.Errorf("torn at %d: set aside %q, %v, want %q", at, b, err, two[len(one):at])
		}
	}
}

// TestKilled: a process that is killed again and again while it writes leaves a
// chain that the next one goes on with, and loses no line that it was told of.
func TestKilled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	told := uint64(0)
	for range 5 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), asWriter+"="+dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		for range 20 { // each line says which one is on the disk
			if _, err := fmt.Fscan(out, &told); err != nil {
				t.Fatal(err)
			}
		}
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	l := start(t, dir, quiet())
	if rep, err := l.Verify(); err != nil || !rep.Sound || rep.Seq < told {
		t.Errorf("Verify() = %+v, %v, want a sound chain with line %d", rep, err, told)
	}
}

const asWriter = "SHUNT_TEST_AUDIT_WRITER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asWriter); dir != "" {
		l := Open(dir, Options{}, quiet())
		for {
			if err := l.Note(noc, "write", "", Done); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			fmt.Println(l.head.Load().seq)
		}
	}
	os.Exit(m.Run())
}

// TestChangedUnderUs: what somebody does to the file of a running log is
// refused, and stays so.
func TestChangedUnderUs(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"cut to nothing": func(p string) error { return os.Truncate(p, 0) },
		"removed":        os.Remove,
		"last line cut": func(p string) error {
			b, err := os.ReadFile(p)
			return errors.Join(err, os.WriteFile(p, b[:bytes.LastIndexByte(b[:len(b)-1], '\n')+1], 0o600))
		},
		"replaced by an older one": func(p string) error {
			b, err := os.ReadFile(p)
			return errors.Join(err, os.WriteFile(p+".2", b[:bytes.IndexByte(b, '\n')+1], 0o600), os.Rename(p+".2", p))
		},
		"made a link": func(p string) error { return errors.Join(os.Rename(p, p+".2"), os.Symlink(p+".2", p)) },
	} {
		l := start(t, filepath.Join(t.TempDir(), "audit"), quiet())
		for range 3 {
			note(t, l, "before")
		}
		if err := change(l.path()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if a, err := l.Begin(noc, "divert", "mode=on", false); err == nil || a != nil {
				t.Errorf("%s: Begin() = %v, want it refused", name, a)
			}
		}
		if err := l.Err(); name != "made a link" && !errors.Is(err, ErrChanged) {
			t.Errorf("%s: Err() = %v, want ErrChanged", name, err)
		}
		safe, err := l.Begin(noc, "drain", "", true)
		if err != nil {
			t.Fatalf("%s: a safe action was refused: %v", name, err)
		}
		safe.End("", Done)
	}
}

// TestBrokenEnd: a start does not go on behind a line that is not sound, and
// does once the file is moved away.
func TestBrokenEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	l := start(t, dir, quiet())
	note(t, l, "first")
	bad := strings.Replace(content(t, l), "first", "fir5t", 1)
	if err := errors.Join(l.Close(), os.WriteFile(l.path(), []byte(bad), 0o600)); err != nil {
		t.Fatal(err)
	}
	again := start(t, dir, quiet())
	if err := again.Err(); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Fatalf("Err() = %v, want that the end is broken", err)
	}
	if err := again.Note(noc, "second", "", Done); err == nil {
		t.Error("a line was written behind a broken one")
	}
	if got := content(t, again); got != bad {
		t.Errorf("the file = %q, want it untouched", got)
	}
	if err := os.Rename(again.path(), again.path()+".broken"); err != nil {
		t.Fatal(err)
	}
	again.retry()
	if err := again.Err(); err != nil {
		t.Fatal(err)
	}
	if all := lines(t, again); len(all) != 1 || all[0].Action != "audit resumed" || !strings.Contains(all[0].Detail, "broken") {
		t.Errorf("lines = %+v, want one that says why there was none", all)
	}
}

// TestTwoProcesses: the second one is refused.
func TestTwoProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	start(t, dir, quiet())
	if err := start(t, dir, quiet()).Err(); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("the second Open: Err() = %v, want that it is locked", err)
	}
}

// TestFullDisk: without room actions are refused and leave nothing behind, safe
// ones go on and are logged, and with room the chain goes on.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("wants root, to mount a small disk")
	}
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	var log bytes.Buffer
	l := Open(filepath.Join(disk, "audit"), Options{}, slog.New(slog.NewTextHandler(&log, nil)))
	note(t, l, "before")
	fill := filepath.Join(disk, "fill")
	if err := os.WriteFile(fill, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
	var err error
	n := 0
	for ; err == nil && n < 100; n++ { // what is left of the file's last page
		_, err = l.Begin(noc, "divert", strings.Repeat("x", 200), false)
	}
	if !errors.Is(err, syscall.ENOSPC) || !errors.Is(l.Err(), syscall.ENOSPC) {
		t.Fatalf("Begin() on a full disk = %v, Err() = %v, want ENOSPC", err, l.Err())
	}
	safe, err := l.Begin(noc, "divert", strings.Repeat("x", 200), true)
	if err != nil {
		t.Fatal(err)
	}
	safe.End("", Done)
	if !strings.Contains(log.String(), "this was done all the same") {
		t.Errorf("log =\n%swant a line about what was done all the same", log.String())
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	note(t, l, "after")
	if rep, err := l.Verify(); err != nil || !rep.Sound || l.Err() != nil || rep.Lines != uint64(n+1) {
		t.Errorf("Verify() = %+v, %v, Err() = %v, want %d sound lines", rep, err, l.Err(), n+1)
	}
	if torn, _ := filepath.Glob(filepath.Join(disk, "audit", "torn-*")); len(torn) > 0 {
		t.Errorf("%q were set aside: want the rest of a refused line cut off", torn)
	}
	_ = l.Close()
}

// TestManyAtOnce: lines of many goroutines are one chain.
func TestManyAtOnce(t *testing.T) {
	l := start(t, filepath.Join(t.TempDir(), "audit"), quiet())
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			a, err := l.Begin(noc, "registry put", "", false)
			if err != nil {
				t.Error(err)
				return
			}
			a.End("put", Done)
		})
	}
	wg.Wait()
	rep, err := l.Verify()
	if err != nil || !rep.Sound || rep.Lines != 40 {
		t.Errorf("Verify() = %+v, %v, want 40 sound lines", rep, err)
	}
}

// TestLongAndStrange: whatever an action says of itself is a line that holds.
func TestLongAndStrange(t *testing.T) {
	l := start(t, filepath.Join(t.TempDir(), "audit"), quiet())
	for _, s := range []string{strings.Repeat("\x00", 10_000), strings.Repeat("é", 5000), "\xff\n\u2028\"", strings.Repeat("\u2028", 5000)} {
		if err := l.Note(Actor{UID: -1, User: s}, s, s, s); err != nil {
			t.Fatal(err)
		}
	}
	if rep, err := l.Verify(); err != nil || !rep.Sound || rep.Lines != 4 {
		t.Errorf("Verify() = %+v, %v, want 4 sound lines", rep, err)
	}
	for line := range strings.Lines(content(t, l)) {
		if len(line) > maxLine {
			t.Errorf("a line has %d octets, want at most %d", len(line), maxLine)
		}
	}
}

// TestTogether: many who act at once share fsyncs, and the chain has each of their
// lines once.
func TestTogether(t *testing.T) {
	l := start(t, filepath.Join(t.TempDir(), "audit"), quiet())
	const actors, each = 64, 10
	l.turn <- struct{}{} // nobody writes until all have queued
	var wg sync.WaitGroup
	for i := range actors {
		wg.Go(func() {
			for k := range each {
				if err := l.Note(noc, fmt.Sprintf("action %d.%d", i, k), "", Done); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for {
		l.queued.Lock()
		n := len(l.queue)
		l.queued.Unlock()
		if n == actors {
			break
		}
		runtime.Gosched()
	}
	before := l.head.Load().seq
	l.together()
	if n := l.head.Load().seq - before; n != actors {
		t.Errorf("%d lines were written together, want %d", n, actors)
	}
	<-l.turn
	wg.Wait()
	seen := make(map[string]bool)
	for _, e := range lines(t, l) {
		if seen[e.Action] {
			t.Errorf("%q is there twice", e.Action)
		}
		seen[e.Action] = true
	}
	if rep, err := l.Verify(); err != nil || !rep.Sound || rep.Lines != actors*each || len(seen) != actors*each {
		t.Errorf("Verify() = %+v, %v, want %d sound lines", rep, err, actors*each)
	}
}
