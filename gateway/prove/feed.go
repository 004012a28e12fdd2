package prove

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"shunt/gateway/msg"
	"shunt/gateway/number"
)

// FeedOptions say where the numbers come from that have another subscriber now.
type FeedOptions struct {
	File     string        // "": none
	URL      string        // "": none
	Every    time.Duration // how often they are looked at
	Registry Evicter
	Country  number.Country // whose national numbers they may hold
	Log      *slog.Logger
}

// Evicter takes devices off a number that were proven before a time.
type Evicter interface {
	EvictBefore(ctx context.Context, n msg.Number, before time.Time) (gone int, err error)
}

// Feed evicts the owners of recycled and ported numbers. A line of a feed is a
// number, and after a comma the day (2006-01-02) or time (RFC 3339) from which it
// has another subscriber; without one that is when the feed was written, or
// fetched. The same feed again changes nothing, since whoever has proven the
// number after that stays.
type Feed struct {
	o       FeedOptions
	written time.Time // of the file that was read last
	etag    string    // of the answer that was read last
	Evicted atomic.Uint64
	Bad     atomic.Uint64 // lines that could not be read
}

const (
	maxFeed     = 64 << 20 // octets
	feedTimeout = 30 * time.Second
)

// NewFeed makes a Feed; Run starts it.
func NewFeed(o FeedOptions) *Feed { return &Feed{o: o} }

// Run looks at the feeds until ctx is done.
func (f *Feed) Run(ctx context.Context) {
	tick := time.NewTicker(f.o.Every)
	defer tick.Stop()
	failed := map[string]bool{}
	for {
		for name, look := range map[string]func(context.Context) error{"file": f.file, "url": f.fetch} {
			err := look(ctx)
			if err != nil && !failed[name] && ctx.Err() == nil {
				f.o.Log.Error("feed of recycled numbers cannot be read", "feed", name, "error", err)
			}
			failed[name] = err != nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// file reads the file if it is another one than the last.
func (f *Feed) file(ctx context.Context) error {
	if f.o.File == "" {
		return nil
	}
	file, err := os.Open(f.o.File)
	if err != nil {
		return err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil || st.ModTime().Equal(f.written) {
		return err
	}
	if err := f.read(ctx, file, st.ModTime()); err != nil {
		return err
	}
	f.written = st.ModTime()
	return nil
}

// fetch reads what the URL answers if it is other than the last.
func (f *Feed) fetch(ctx context.Context) error {
	if f.o.URL == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, feedTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.o.URL, nil)
	if err != nil {
		return err
	}
	if f.etag != "" {
		req.Header.Set("If-None-Match", f.etag)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusNotModified:
		return nil
	case http.StatusOK:
	default:
		return fmt.Errorf("status %d", res.StatusCode)
	}
	at := time.Now()
	if t, err := http.ParseTime(res.Header.Get("Last-Modified")); err == nil {
		at = t
	}
	if err := f.read(ctx, res.Body, at); err != nil {
		return err
	}
	f.etag = res.Header.Get("ETag")
	return nil
}

// read evicts by the lines of one feed. A line that cannot be read is counted,
// and the first one named.
func (f *Feed) read(ctx context.Context, r io.Reader, written time.Time) error {
	b, err := io.ReadAll(io.LimitReader(r, maxFeed+1))
	if err != nil {
		return err
	}
	if len(b) > maxFeed {
		return fmt.Errorf("feed is longer than %d octets", maxFeed)
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	evicted, bad, firstBad := 0, 0, 0
	for at := 1; lines.Scan(); at++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' || at == 1 && strings.HasPrefix(line, "number") {
			continue
		}
		n, before, ok := f.line(line, written)
		if !ok {
			if bad++; firstBad == 0 {
				firstBad = at
			}
			continue
		}
		gone, err := f.o.Registry.EvictBefore(ctx, n, before)
		if err != nil {
			return err
		}
		evicted += gone
	}
	if err := lines.Err(); err != nil {
		return err
	}
	f.Evicted.Add(uint64(evicted))
	f.Bad.Add(uint64(bad))
	if bad > 0 {
		f.o.Log.Warn("feed of recycled numbers has lines that cannot be read, want a number, and a date after a comma", "lines", bad, "first", firstBad)
	}
	if evicted > 0 {
		f.o.Log.Info("devices were taken off recycled numbers", "devices", evicted)
	}
	return nil
}

func (f *Feed) line(line string, written time.Time) (n msg.Number, before time.Time, ok bool) {
	text, date, dated := strings.Cut(line, ",")
	n, err := f.o.Country.ParseKnown(strings.TrimSpace(text))
	if err != nil {
		return 0, before, false
	}
	date = strings.TrimSpace(date)
	if !dated || date == "" {
		return n, written, true
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if before, err = time.Parse(layout, date); err == nil {
			return n, before, true
		}
	}
	return 0, before, false
}
