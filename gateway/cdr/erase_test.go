package cdr

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"shunt/gateway/msg"
)

// all is what is in the files.
func all(t *testing.T, dir string) []byte {
	t.Helper()
	var b []byte
	names, err := Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		one, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, one...)
	}
	return b
}

// A number is in no line after Erase, in old files and in the one that is being
// written; the lines, their numbers and what is about others stay, and writing
// goes on.
func TestErase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		const n msg.Number = 447700900042 // of every line of source
		old := `{"seq":1,"type":"message","to":"+447700900042","from":"Bank"}
{"type":"forwarded","from":"447700900042","to":"+447700900099","reason":"unregistered"}
{"type":"forwarded","from":"4477009000421","to":"+4477009000424","reason":"unregistered"}
`
		name := filepath.Join(dir, fileName(1, noon))
		if err := os.WriteFile(name, []byte(old), 0o640); err != nil {
			t.Fatal(err)
		}
		before := time.Now().Add(-time.Hour).Round(time.Second)
		if err := os.Chtimes(name, before, before); err != nil {
			t.Fatal(err)
		}
		s := &source{}
		s.end()
		s.end()
		s.end()
		w := writer(t, dir, s, func(o *Options) { o.Now = time.Now })
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			w.Run(ctx)
			close(ended)
		}()
		changed, err := w.Erase(t.Context(), n) // writes two that have ended
		if err != nil || changed != 4 {
			t.Fatalf("Erase() = %d, %v, want 4 lines", changed, err)
		}
		b := all(t, dir)
		if left := bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("4477009000421"), nil), []byte("4477009000424"), nil); bytes.Contains(left, []byte("447700900042")) {
			t.Errorf("the number is still in\n%s", b)
		}
		if !bytes.Contains(b, []byte("4477009000421")) || strings.Count(string(b), `"to":"erased"`) != 3 {
			t.Errorf("others' lines changed, or the lines went:\n%s", b)
		}
		if st, err := os.Stat(name); err != nil || !st.ModTime().Equal(before) {
			t.Errorf("the old file's time is %v, want %v: it would outlive its retention", st.ModTime(), before)
		}
		if changed, err := w.Erase(t.Context(), n); err != nil || changed != 0 {
			t.Errorf("again: %d, %v, want nothing", changed, err)
		}
		s.end()
		w.Ended()
		time.Sleep(linger)
		synctest.Wait()
		if got := seqs(t, dir); !slices.Equal(got, []uint64{1, 2, 3, 4}) {
			t.Errorf("numbers %v, want 1 to 4", got)
		}
		stop()
		<-ended
	})
}

// On a node on which nothing ends the last lines go too once they are past their
// retention, and the next start goes on with their number.
func TestRetentionOfAnIdleNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := &source{}
		s.end()
		s.end()
		o := func(o *Options) { o.Now, o.Retention = time.Now, time.Hour }
		w := writer(t, dir, s, o)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			w.Run(ctx)
			close(ended)
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		// What was written has the time of the machine, not of this test.
		for _, n := range fileNames(t, dir) {
			if err := os.Chtimes(filepath.Join(dir, n), time.Now(), time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		if got := seqs(t, dir); !slices.Equal(got, []uint64{1, 2}) {
			t.Fatalf("numbers %v, want 1 and 2", got)
		}
		time.Sleep(time.Hour + 2*time.Minute)
		synctest.Wait()
		if b := all(t, dir); len(b) > 0 {
			t.Errorf("after the retention:\n%s", b)
		}
		stop()
		<-ended
		w = writer(t, dir, s, o)
		s.end()
		if err := w.ends(time.Now()); err != nil {
			t.Fatal(err)
		}
		if got := seqs(t, dir); w.last != 3 || !slices.Equal(got, []uint64{3}) {
			t.Errorf("after a restart: numbers %v, want 3", got)
		}
	})
}
