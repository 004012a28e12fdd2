//go:build browser

package browser

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

//go:embed judge.js
var judge string

const patience = 20 * time.Second

// tab is a tab that notes what must not happen in it.
type tab struct {
	t   *testing.T
	ctx context.Context
	web string

	mu     sync.Mutex
	faults []string // errors on the console, requests to elsewhere
	loads  int      // documents
}

func newBrowser(t *testing.T) context.Context {
	t.Helper()
	o := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium(t)), chromedp.NoSandbox,
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("force-color-profile", "srgb"))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), o...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("chromium: %v", err)
	}
	return ctx
}

func newTab(t *testing.T, browser context.Context, web string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	x := &tab{t: t, ctx: ctx, web: web}
	chromedp.ListenTarget(ctx, x.hear)
	x.do("open", network.Enable(), log.Enable(), runtime.Enable(), page.Enable())
	return x
}

func (x *tab) hear(ev any) {
	fault := ""
	switch e := ev.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			fault = fmt.Sprintf("console.%s", e.Type)
		}
	case *runtime.EventExceptionThrown:
		fault = e.ExceptionDetails.Error()
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
			fault = e.Entry.Text + " " + e.Entry.URL
		}
	case *network.EventRequestWillBeSent:
		u, err := url.Parse(e.Request.URL)
		if err != nil || u.Scheme != "http" || u.Host != x.web {
			fault = "request to " + e.Request.URL
		}
		if e.Type == network.ResourceTypeDocument {
			x.mu.Lock()
			x.loads++
			x.mu.Unlock()
		}
	}
	if fault != "" {
		x.mu.Lock()
		x.faults = append(x.faults, fault)
		x.mu.Unlock()
	}
}

// clean tells of what must not have happened, and forgets it.
func (x *tab) clean(when string) {
	x.t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, f := range x.faults {
		x.t.Errorf("%s: %s", when, f)
	}
	x.faults = nil
}

func (x *tab) loaded() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.loads
}

func (x *tab) do(what string, actions ...chromedp.Action) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.ctx, patience)
	defer cancel()
	// The first Run of a context opens its tab, which then lives as long as that
	// context: a shorter one would close it.
	if err := chromedp.Run(x.ctx); err != nil {
		x.t.Fatalf("%s: %v", what, err)
	}
	if err := chromedp.Run(ctx, actions...); err != nil {
		x.t.Fatalf("%s: %v", what, err)
	}
}

func (x *tab) open(path string) {
	x.t.Helper()
	x.do("open "+path, chromedp.Navigate("http://"+x.web+path))
}

// until waits for a condition in the page, or in the next one.
func (x *tab) until(what, js string) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var ok bool
		err := chromedp.Run(ctx, chromedp.Evaluate(js, &ok)) // fails while one page makes room for the next
		if err == nil && ok {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			x.t.Fatalf("not in time: %s: %v", what, err)
		}
	}
}

func (x *tab) eval(js string, v any) {
	x.t.Helper()
	x.do(js, chromedp.Evaluate(js, v))
}

func (x *tab) text(selector string) (s string) {
	x.t.Helper()
	x.eval(fmt.Sprintf("document.querySelector(%q).textContent", selector), &s)
	return s
}

// size makes the window one of that many CSS pixels.
func (x *tab) size(width, height int64, phone bool) {
	x.t.Helper()
	x.do("size", emulation.SetDeviceMetricsOverride(width, height, 1, phone))
}

func (x *tab) prefer(name, value string) {
	x.t.Helper()
	x.do(name, emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: name, Value: value}}))
}

// judged has judge.js look for what keeps people out.
func (x *tab) judged(what string) {
	x.t.Helper()
	var found struct {
		Faults []string `json:"faults"`
		Texts  int      `json:"texts"`
		Least  float64  `json:"least"`
	}
	var raw json.RawMessage
	x.eval(judge, &raw)
	if err := json.Unmarshal(raw, &found); err != nil {
		x.t.Fatal(err)
	}
	for _, f := range found.Faults {
		x.t.Errorf("%s: %s", what, f)
	}
	if found.Texts < 3 {
		x.t.Errorf("%s: only %d texts were looked at", what, found.Texts)
	}
	x.t.Logf("%s: %d texts, the least contrast %.1f", what, found.Texts, found.Least)
}

// shoot keeps what the window shows.
func (x *tab) shoot(name string) {
	x.t.Helper()
	if !*update {
		return
	}
	var b []byte
	x.do("screenshot", chromedp.CaptureScreenshot(&b))
	if len(b) > 150<<10 {
		x.t.Errorf("%s has %d octets, want up to 150 KiB", name, len(b))
	}
	if err := os.WriteFile("../../docs/screenshots/"+name, b, 0o644); err != nil {
		x.t.Fatal(err)
	}
}

func has(t *testing.T, what, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%s has no %q:\n%s", what, w, text)
		}
	}
}
