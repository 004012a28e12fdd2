package cdr

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// forEver is a retention: the files' own times are of today, those of the tests
// are not.
const forEver = 100 * 365 * 24 * time.Hour

func write(t testing.TB, w *Writer, now time.Time) {
	t.Helper()
	if err := w.ends(now); err != nil {
		t.Fatalf("ends() = %v", err)
	}
}

func fileNames(t testing.TB, dir string) []string {
	t.Helper()
	names, err := Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range names {
		names[i] = filepath.Base(n)
	}
	return names
}

// What an operator takes away or removes is not written on: nothing that follows
// is lost with it.
func TestTakenAway(t *testing.T) {
	for what, take := range map[string]func(name string) error{
		"removed": os.Remove,
		"moved":   func(name string) error { return os.Rename(name, name+".old") },
		"replaced": func(name string) error {
			if err := os.Rename(name, name+".old"); err != nil {
				return err
			}
			return os.WriteFile(name, nil, 0o640)
		},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			s := &source{}
			w := writer(t, dir, s, nil)
			s.end()
			write(t, w, noon)
			first := filepath.Join(dir, fileNames(t, dir)[0])
			if err := take(first); err != nil {
				t.Fatal(err)
			}
			for i := range 3 {
				s.end()
				write(t, w, noon.Add(time.Duration(i+1)*time.Second))
			}
			if got := seqs(t, dir); !slices.Equal(got, []uint64{2, 3, 4}) || s.taken != 4 {
				t.Errorf("numbers %v, %d forgotten; want 2 to 4, 4", got, s.taken)
			}
			if b, err := os.ReadFile(first + ".old"); what != "removed" && (err != nil || strings.Count(string(b), "\n") != 1) {
				t.Errorf("what was taken away holds %q, %v; want its one line", b, err)
			}
		})
	}
}

// When the files that were written last are gone at a start, the numbers go on
// where the spool is.
func TestGoneAtTheStart(t *testing.T) {
	for _, left := range []int{0, 1} { // files
		dir := t.TempDir()
		s := &source{}
		w := writer(t, dir, s, func(o *Options) { o.MaxSize, o.Retention = 1, forEver })
		for i := range 3 {
			s.end()
			write(t, w, noon.Add(time.Duration(i)*time.Second))
		}
		w.files.close()
		names := fileNames(t, dir)
		if len(names) != 3 {
			t.Fatalf("files %q, want one a line", names)
		}
		for _, n := range names[left:] {
			if err := os.Remove(filepath.Join(dir, n)); err != nil {
				t.Fatal(err)
			}
		}
		s.end()
		w = writer(t, dir, s, nil)
		write(t, w, noon.Add(time.Minute))
		if got, want := seqs(t, dir), []uint64{1, 4}[1-left:]; !slices.Equal(got, want) {
			t.Errorf("%d files left: numbers %v, want %v", left, got, want)
		}
	}
}

// A new file begins by size and by age, and names sort as the lines were
// written, whatever stands in them.
func TestRotation(t *testing.T) {
	dir := t.TempDir()
	s := &source{}
	set := func(o *Options) { o.MaxSize, o.MaxAge, o.Forwarded, o.Retention = 1000, time.Hour, true, forEver }
	w := writer(t, dir, s, set)
	now, want := noon, 0
	for i := range 40 {
		switch i % 4 {
		case 3: // a file of sums and forwarded lines alone has the next message's number in its name
			w.Forwarded("bank", "Parcel24", "447700900042", 3)
			if err := w.forwarded(now); err != nil {
				t.Fatal(err)
			}
		default:
			s.end()
			want++
			write(t, w, now)
		}
		now = now.Add(17 * time.Minute)
		if i == 20 {
			w.files.close()
			w = writer(t, dir, s, set)
		}
	}
	names := fileNames(t, dir)
	if len(names) < 10 {
		t.Errorf("%d files, want one every few lines and every hour", len(names))
	}
	got := seqs(t, dir)
	if len(got) != want || !slices.IsSorted(got) {
		t.Errorf("%d lines, want %d: %v", len(got), want, got)
	}
	for _, n := range names {
		st, err := os.Stat(filepath.Join(dir, n))
		if err != nil || st.Size() > 1000+500 || st.Mode().Perm() != 0o640 {
			t.Errorf("%s: %d octets, mode %s, %v", n, st.Size(), st.Mode(), err)
		}
	}
}

// A write that fails, even with a file that nothing can be taken back from,
// loses nothing and doubles no number.
func TestBrokenFile(t *testing.T) {
	dir := t.TempDir()
	s := &source{}
	w := writer(t, dir, s, nil)
	s.end()
	write(t, w, noon)
	name := w.files.cur.Name()
	w.files.close()
	var err error
	if w.files.cur, err = os.Open(name); err != nil { // it can be neither written nor cut
		t.Fatal(err)
	}
	s.end()
	if err := w.ends(noon.Add(time.Second)); err == nil || s.taken != 1 {
		t.Fatalf("ends() = %v, %d forgotten; want an error, 1", err, s.taken)
	}
	write(t, w, noon.Add(time.Second))
	if got := seqs(t, dir); !slices.Equal(got, []uint64{1, 2}) || s.taken != 2 {
		t.Errorf("numbers %v, %d forgotten; want 1 and 2, 2", got, s.taken)
	}
}

// What is half a line after a crash is cut off, where it is all that there is
// too, and lines that are none do not hide the last number.
func TestTornLines(t *testing.T) {
	whole := `{"seq":1,"type":"message"}` + "\n" + `{"seq":2,"type":"message"}` + "\n"
	for text, want := range map[string]struct {
		last uint64
		left string
	}{
		"":                                   {0, ""},
		"\n":                                 {0, "\n"},
		`{"seq":7`:                           {0, ""},
		whole:                                {2, whole},
		whole + `{"seq":3,"type":"message"}`: {2, whole},
		whole + strings.Repeat("x", 3*tail):  {2, whole},
		whole + `{"type":"sums"}` + "\n" + `{"se`: {2, whole + `{"type":"sums"}` + "\n"},
		whole + "\x00\x00\n":                      {2, whole + "\x00\x00\n"},
	} {
		dir := t.TempDir()
		name := filepath.Join(dir, fileName(1, noon))
		if err := os.WriteFile(name, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		w := writer(t, dir, &source{}, nil)
		b, err := os.ReadFile(name)
		if err != nil || w.last != want.last || string(b) != want.left {
			t.Errorf("of %.60q: last %d, left %.60q, %v; want %d, %.60q", text, w.last, b, err, want.last, want.left)
		}
		w.files.close()
	}
}

// Sums that are short of a bind which ends at that moment are made up for by
// the next.
func TestSumsOfABindThatEnds(t *testing.T) {
	dir := t.TempDir()
	total := map[string]uint64{"divert": 5, "unregistered": 100}
	var all []Sums
	w := writer(t, dir, &source{}, func(o *Options) { o.Sums = func() []Sums { return all } })
	for i, sample := range [][]Sums{
		{{Account: "bank", Reasons: total}},
		{{Account: "bank", Reasons: map[string]uint64{"unregistered": 40}}}, // one bind is in no sum
		{}, // the account's only one
		{{Account: "bank", Reasons: total}},
		{{Account: "bank", Reasons: map[string]uint64{"divert": 6, "unregistered": 103}}},
	} {
		all = sample
		if err := w.writeSums(noon, noon.Add(time.Duration(i)*time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, fileNames(t, dir)[0]))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(b)) {
		_, rest, _ := strings.Cut(line, `"account":"bank",`)
		got = append(got, strings.TrimSpace(rest))
	}
	want := []string{
		`"diverted":5,"forwarded":100,"reasons":{"divert":5,"unregistered":100}}`,
		`"diverted":1,"forwarded":3,"reasons":{"divert":1,"unregistered":3}}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("lines %q, want %q", got, want)
	}
}

// Run writes what ends soon, within a second also when nobody says so, sums once a
// minute, and at the end what is left of both.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := &source{} // the two goroutines take turns
		n := uint64(0)
		w := writer(t, dir, s, func(o *Options) {
			o.Sums = func() []Sums { return []Sums{{"bank", map[string]uint64{"unregistered": n}}} }
			o.Log = slog.New(slog.DiscardHandler)
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			w.Run(ctx)
			close(ended)
		}()
		synctest.Wait()
		s.end()
		w.Ended()
		time.Sleep(linger)
		synctest.Wait()
		if got := seqs(t, dir); !slices.Equal(got, []uint64{1}) {
			t.Errorf("after %s: numbers %v, want 1", linger, got)
		}
		s.end()
		time.Sleep(retry)
		synctest.Wait()
		if got := seqs(t, dir); !slices.Equal(got, []uint64{1, 2}) {
			t.Errorf("after a second: numbers %v, want 1 and 2", got)
		}
		n = 3
		time.Sleep(time.Minute)
		synctest.Wait()
		n = 10
		s.end()
		stop()
		<-ended
		if got := seqs(t, dir); !slices.Equal(got, []uint64{1, 2, 3}) {
			t.Errorf("at the end: numbers %v, want 1 to 3", got)
		}
		b, err := os.ReadFile(filepath.Join(dir, fileNames(t, dir)[0]))
		if err != nil || strings.Count(string(b), `"forwarded":3,`) != 1 || strings.Count(string(b), `"forwarded":7,`) != 1 {
			t.Errorf("%v, want sums of 3 and of 7 in\n%s", err, b)
		}
	})
}
