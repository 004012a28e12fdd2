package prove

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
	"shunt/gateway/number"
)

// evicter notes who is to be taken off, as "number before".
type evicter struct {
	all  []string
	fail error
}

func (e *evicter) EvictBefore(_ context.Context, n msg.Number, before time.Time) (int, error) {
	e.all = append(e.all, fmt.Sprintf("%s %s", n, before.UTC().Format(time.RFC3339)))
	return 1, e.fail
}

// feed is a Feed of a file and what it has evicted.
func feed(t *testing.T, set func(*FeedOptions)) (*Feed, *evicter, *strings.Builder) {
	t.Helper()
	gb, err := number.In("GB")
	if err != nil {
		t.Fatal(err)
	}
	e, log := &evicter{}, &strings.Builder{}
	o := FeedOptions{File: filepath.Join(t.TempDir(), "recycled.csv"), Every: time.Minute, Registry: e, Country: gb, Log: slog.New(slog.NewTextHandler(log, nil))}
	set(&o)
	return NewFeed(o), e, log
}

func writeFeed(t *testing.T, path, text string, at time.Time) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

var written = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

func TestFeedLines(t *testing.T) {
	f, e, log := feed(t, func(*FeedOptions) {})
	writeFeed(t, f.o.File, strings.Join([]string{
		"number,from", "", "# a comment",
		"+447700900042", " 07700 900043 ,", "+447700900044, 2025-05-03", "447700900045,2025-05-03T07:00:00+02:00",
		"nobody", "+447700900046,yesterday", "+447700900047,2025-05-03,more", "number",
	}, "\r\n"), written)
	if err := f.file(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"+447700900042 2025-06-01T12:00:00Z", "+447700900043 2025-06-01T12:00:00Z", "+447700900044 2025-05-03T00:00:00Z", "+447700900045 2025-05-03T05:00:00Z",
	}
	if diff := cmp.Diff(want, e.all); diff != "" {
		t.Errorf("evicted (-want +got):\n%s", diff)
	}
	if f.Evicted.Load() != 4 || f.Bad.Load() != 4 || !strings.Contains(log.String(), "lines=4 first=8") {
		t.Errorf("evicted %d, bad %d, log %s", f.Evicted.Load(), f.Bad.Load(), log)
	}
	if strings.Contains(log.String(), "4477009") || strings.Contains(log.String(), "nobody") {
		t.Errorf("the log has a number in it: %s", log)
	}
}

// TestFeedFile: a file is read when it has changed, and again as long as what it
// asks for could not be done.
func TestFeedFile(t *testing.T) {
	f, e, _ := feed(t, func(*FeedOptions) {})
	if err := f.file(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there = %v", err)
	}
	writeFeed(t, f.o.File, "+447700900042\n", written)
	e.fail = errors.New("no registry")
	for range 2 {
		if err := f.file(t.Context()); !errors.Is(err, e.fail) {
			t.Errorf("file = %v, want %v", err, e.fail)
		}
	}
	e.fail = nil
	for range 3 {
		if err := f.file(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if len(e.all) != 3 {
		t.Errorf("evicted %d times, want twice in vain and once", len(e.all))
	}
	writeFeed(t, f.o.File, "+447700900043\n", written.Add(time.Second))
	if err := f.file(t.Context()); err != nil || len(e.all) != 4 {
		t.Errorf("a file that has changed = %v, %d evicted, want 4", err, len(e.all))
	}
}

// TestFeedURL: what the server says is unchanged, or is no feed, evicts nobody.
func TestFeedURL(t *testing.T) {
	var status int
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Header.Get("If-None-Match"))
		if status == http.StatusOK && r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Last-Modified", written.Format(http.TimeFormat))
		w.WriteHeader(status)
		fmt.Fprintln(w, "+447700900042")
	}))
	t.Cleanup(server.Close)
	f, e, _ := feed(t, func(o *FeedOptions) { o.File, o.URL = "", server.URL })
	for _, status = range []int{500, 404, 204} {
		if err := f.fetch(t.Context()); err == nil || !strings.Contains(err.Error(), fmt.Sprint(status)) {
			t.Errorf("status %d = %v", status, err)
		}
	}
	status = 200
	for range 3 {
		if err := f.fetch(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff([]string{"+447700900042 2025-06-01T12:00:00Z"}, e.all); diff != "" {
		t.Errorf("evicted (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"", "", "", "", `"1"`, `"1"`}, asked); diff != "" {
		t.Errorf("asked with (-want +got):\n%s", diff)
	}
}

// TestFeedRun looks at once and then in its time, and says once that it cannot.
func TestFeedRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, e, log := feed(t, func(*FeedOptions) {})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { f.Run(ctx); close(ended) }()
		time.Sleep(5*time.Minute + time.Second)
		if got := strings.Count(log.String(), "cannot be read"); got != 1 {
			t.Errorf("said %d times that there is no file, want once", got)
		}
		writeFeed(t, f.o.File, "+447700900042\n", written)
		synctest.Wait()
		if len(e.all) != 0 {
			t.Errorf("evicted %q before its time", e.all)
		}
		time.Sleep(time.Minute)
		if len(e.all) != 1 {
			t.Errorf("evicted %q, want one", e.all)
		}
		cancel()
		<-ended
	})
}
