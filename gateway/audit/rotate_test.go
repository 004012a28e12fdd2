package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// rotated is a log with small files and so many lines.
func rotated(t *testing.T, o Options, lines int) (*Log, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit")
	if o.Size == 0 {
		o.Size = 2000
	}
	l := Open(dir, o, quiet())
	t.Cleanup(func() { _ = l.Close() }) // it may be closed
	fill(t, l, lines)
	return l, dir
}

func fill(t *testing.T, l *Log, lines int) {
	t.Helper()
	for i := range lines {
		if err := l.Note(Actor{UID: 7, User: "anna", PID: 1}, "divert", fmt.Sprint("mode=off ", i), Done); err != nil {
			t.Fatal(err)
		}
	}
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	paths, err := files(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		all = append(all, filepath.Base(p))
	}
	return all
}

// The chain goes on from file to file, over restarts, and is verified as one.
func TestRotation(t *testing.T) {
	l, dir := rotated(t, Options{}, 40)
	all := names(t, dir)
	if len(all) < 5 || all[0] != "audit-000000000001.ndjson" || all[len(all)-1] != FileName {
		t.Fatalf("files = %q, want some, the first from line 1", all)
	}
	sound := func(what string, rep Report, err error, n uint64) {
		t.Helper()
		if err != nil || !rep.Sound || rep.Lines != n || rep.Seq != n || rep.First != 1 || rep.Files != len(names(t, dir)) {
			t.Errorf("%s = %+v, %v, want %d sound lines", what, rep, err, n)
		}
	}
	rep, err := l.Verify()
	sound("Verify()", rep, err, 40)
	rep, err = VerifyFile(filepath.Join(dir, FileName))
	sound("VerifyFile(audit.ndjson)", rep, err, 40)
	rep, err = VerifyFile(dir)
	sound("VerifyFile(dir)", rep, err, 40)
	last, err := l.Last(25)
	if err != nil || len(last) != 25 || last[0].Seq != 16 || last[24].Seq != 40 {
		t.Errorf("Last(25) = %d lines, %v, want 16 to 40", len(last), err)
	}
	if rep, err := VerifyFile(filepath.Join(dir, all[1])); err != nil || !rep.Sound || rep.First < 2 {
		t.Errorf("VerifyFile(%s) = %+v, %v, want it sound by itself", all[1], rep, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	next := Open(dir, Options{Size: 2000}, quiet())
	defer next.Close()
	fill(t, next, 10)
	rep, err = next.Verify()
	sound("Verify() after a restart", rep, err, 50)

	// Killed between the renaming and the new file.
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	var first uint64
	if n, err := fmt.Sscanf(string(b), `{"seq":%d,`, &first); n != 1 {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, FileName), filepath.Join(dir, oldName(first))); err != nil {
		t.Fatal(err)
	}
	third := Open(dir, Options{Size: 2000}, quiet())
	defer third.Close()
	fill(t, third, 1)
	rep, err = third.Verify()
	sound("Verify() after a kill", rep, err, 51)
}

// Whatever is done to a file that is no longer written shows.
func TestRotatedFilesAreHeld(t *testing.T) {
	for what, do := range map[string]func(t *testing.T, dir string, all []string){
		"a changed line": func(t *testing.T, dir string, all []string) {
			path := filepath.Join(dir, all[1])
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(string(b), "anna", "otto", 1)), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"a file in the middle is gone": func(t *testing.T, dir string, all []string) {
			if err := os.Remove(filepath.Join(dir, all[1])); err != nil {
				t.Fatal(err)
			}
		},
		"the first file is gone": func(t *testing.T, dir string, all []string) {
			if err := os.Remove(filepath.Join(dir, all[0])); err != nil {
				t.Fatal(err)
			}
		},
		"a file's end is cut off": func(t *testing.T, dir string, all []string) {
			path := filepath.Join(dir, all[1])
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.SplitAfter(string(b), "\n")
			if err := os.WriteFile(path, []byte(strings.Join(lines[:len(lines)-2], "")), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		l, dir := rotated(t, Options{}, 20)
		all := names(t, dir)
		do(t, dir, all)
		rep, err := l.Verify()
		if err != nil || rep.Sound || rep.Broken == 0 || rep.Why == "" || rep.File == "" {
			t.Errorf("%s: Verify() = %+v, %v, want it broken, and where", what, rep, err)
		}
		if rep, err := VerifyFile(dir); err != nil || rep.Sound {
			t.Errorf("%s: VerifyFile() = %+v, %v, want it broken", what, rep, err)
		}
	}
}

// What is older than is to be kept goes by whole files, and a line says so.
func TestPrune(t *testing.T) {
	l, dir := rotated(t, Options{Keep: time.Hour}, 20)
	before := names(t, dir)
	if err := l.prune(time.Now().Add(59 * time.Minute)); err != nil || len(names(t, dir)) != len(before) {
		t.Errorf("prune() within the hour = %v, %q", err, names(t, dir))
	}
	if err := l.prune(time.Now().Add(61 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	all := names(t, dir)
	if len(all) != 1 && all[0] == before[0] {
		t.Errorf("files after the hour = %q, were %q", all, before)
	}
	rep, err := l.Verify()
	if err != nil || !rep.Sound || rep.First < 2 || rep.Lines != rep.Seq-rep.First+1 {
		t.Errorf("Verify() = %+v, %v, want it sound, from a later line on", rep, err)
	}
	last, err := l.Last(100)
	if err != nil || !strings.Contains(fmt.Sprint(last), "audit remove") {
		t.Errorf("Last() = %+v, %v, want a line about the removal", last, err)
	}
	if rep, err := VerifyFile(dir); err != nil || !rep.Sound {
		t.Errorf("VerifyFile() = %+v, %v", rep, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	next := Open(dir, Options{Size: 2000}, quiet())
	defer next.Close()
	fill(t, next, 20) // so that somebody can take out the next file
	if err := os.Remove(filepath.Join(dir, names(t, dir)[0])); err != nil {
		t.Fatal(err)
	}
	if rep, err := next.Verify(); err != nil || rep.Sound || !strings.Contains(rep.Why, "none says that they were removed") {
		t.Errorf("Verify() without the first file = %+v, %v, want it broken", rep, err)
	}
}

// Readers do not mind that files get other names meanwhile.
func TestVerifyWhileRotating(t *testing.T) {
	l, _ := rotated(t, Options{Size: 1000}, 1)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if rep, err := l.Verify(); err != nil || !rep.Sound {
					t.Errorf("Verify() = %+v, %v", rep, err)
					return
				}
			}
		})
	}
	fill(t, l, 60)
	close(stop)
	readers.Wait()
}
