package push

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// secretFile is a File whose uses and log are kept.
type secretFile struct {
	*File
	path string
	log  bytes.Buffer
	got  []string // contents that were taken
}

var errUnfit = errors.New("is no key")

func (s *secretFile) use(b []byte) error {
	if strings.HasPrefix(string(b), "bad") {
		return errUnfit
	}
	s.got = append(s.got, string(b))
	return nil
}

func (s *secretFile) write(t *testing.T, content string) {
	t.Helper()
	if err := os.WriteFile(s.path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func openSecret(t *testing.T, content string) *secretFile {
	t.Helper()
	s := &secretFile{path: filepath.Join(t.TempDir(), "key.p8")}
	s.write(t, content)
	var err error
	if s.File, err = OpenFile("key_file", s.path, 64, slog.New(slog.NewTextHandler(&s.log, nil)), s.use); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *secretFile) want(t *testing.T, got ...string) {
	t.Helper()
	if strings.Join(s.got, ",") != strings.Join(got, ",") {
		t.Errorf("contents taken: %q, want %q", s.got, got)
	}
}

// A file is read again every five seconds, when somebody uses it, and its
// content counts, not its time or its length.
func TestFileIsReadAgain(t *testing.T) {
	s := openSecret(t, "one")
	info, err := os.Stat(s.path)
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "two")
	if err := os.Chtimes(s.path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	s.Poll(at, false, s.use)
	s.want(t, "one") // just opened
	at = at.Add(fileEvery)
	for range 3 {
		s.Poll(at, false, s.use)
	}
	s.want(t, "one", "two")
	s.write(t, "three")
	s.Poll(at.Add(fileEvery-1), false, s.use)
	s.want(t, "one", "two")
	s.Poll(at.Add(fileEvery), false, s.use)
	s.want(t, "one", "two", "three")
}

// A refusal has it read at once, and not for every push that is refused.
func TestFileIsReadAfterARefusal(t *testing.T) {
	s := openSecret(t, "one")
	at := time.Now()
	s.write(t, "two")
	s.Poll(at, true, s.use)
	s.want(t, "one", "two")
	s.write(t, "three")
	s.Poll(at.Add(fileRefused-1), true, s.use)
	s.want(t, "one", "two")
	s.Poll(at.Add(fileRefused), true, s.use)
	s.want(t, "one", "two", "three")
}

// A file that is unfit or cannot be read changes nothing; each fault is said
// once, with the reason and without the content.
func TestFileThatIsUnfit(t *testing.T) {
	s := openSecret(t, "one")
	at := time.Now()
	poll := func() {
		t.Helper()
		at = at.Add(fileEvery)
		s.Poll(at, false, s.use)
	}
	lines := func(want ...string) {
		t.Helper()
		got := strings.Split(strings.TrimSpace(s.log.String()), "\n")
		if s.log.Len() == 0 {
			got = nil
		}
		if len(got) != len(want) {
			t.Fatalf("log has %d lines, want %d:\n%s", len(got), len(want), &s.log)
		}
		for i, w := range want {
			if !strings.Contains(got[i], w) {
				t.Errorf("log line %d: %s\nwant %q in it", i, got[i], w)
			}
		}
		s.log.Reset()
	}
	s.write(t, "bad-secret")
	poll()
	poll()
	lines("is no key")
	s.write(t, "bad-other-secret")
	poll()
	lines("is no key")
	s.write(t, strings.Repeat("x", 65))
	poll()
	poll()
	lines("longer than 64 octets")
	if err := os.Remove(s.path); err != nil {
		t.Fatal(err)
	}
	poll()
	poll()
	lines("no such file")
	s.write(t, "bad-secret")
	poll()
	lines("is no key")
	s.want(t, "one")
	s.write(t, "two")
	poll()
	lines()
	s.want(t, "one", "two")
}

func TestOpenFileNamesWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.p8")
	if err := os.WriteFile(bad, []byte("bad-secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	var s secretFile
	for path, want := range map[string]string{
		bad:                           "key_file " + bad + ": is no key",
		filepath.Join(dir, "none.p8"): "key_file: open " + filepath.Join(dir, "none.p8"),
		dir:                           "key_file: read " + dir,
	} {
		if _, err := OpenFile("key_file", path, 64, slog.New(slog.DiscardHandler), s.use); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("OpenFile(%s): %v, want %q", path, err, want)
		}
	}
}

func TestFileRace(t *testing.T) {
	s := openSecret(t, "one")
	s.every = 0
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				s.Poll(time.Now(), i%2 == 0, func([]byte) error { return nil })
			}
		})
	}
	for range 50 {
		s.write(t, "two")
		s.write(t, "three")
	}
	wg.Wait()
}
