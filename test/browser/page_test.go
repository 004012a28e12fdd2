//go:build browser

package browser

import (
	"context"
	"flag"
	"regexp"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

var update = flag.Bool("update", false, "write docs/screenshots")

// TestPage is an operator's visit, on one gateway that has traffic all the time.
func TestPage(t *testing.T) {
	s := newScene(t)
	browser := newBrowser(t)
	for _, step := range []struct {
		name string
		f    func(*testing.T, context.Context, *scene)
	}{
		{"Live", live},
		{"Phone", onAPhone},
		{"Dark", dark},
		{"Search", search},
		{"NoScript", noScript},
		{"Switches", switches},
		{"Restart", restart}, // the last: its tab complains of the gateway that is gone
	} {
		t.Run(step.name, func(t *testing.T) {
			s.t = t
			step.f(t, browser, s)
		})
	}
}

const isLive = `document.querySelector("#live").textContent === "Live"`

// opened is a tab with the page, live.
func opened(t *testing.T, browser context.Context, s *scene) *tab {
	t.Helper()
	x := newTab(t, browser, s.web)
	x.size(1280, 1000, false)
	x.open("/")
	x.until("the page is live", isLive)
	return x
}

// live: figures move, a switch that somebody else sets is seen, nothing is
// loaded again.
func live(t *testing.T, browser context.Context, s *scene) {
	x := opened(t, browser, s)
	x.eval(`window.same = 1; window.times = new Set(); new MutationObserver(() => times.add(document.querySelector("#at").textContent))
		.observe(document.querySelector("#at"), {childList: true, characterData: true, subtree: true}); 0`, nil)
	x.until("four snapshots", `window.times.size >= 4`)
	for _, id := range []string{"in", "out", "divert", "fallback"} {
		x.until(id+" has a rate", `parseFloat(document.querySelector("#r-`+id+` .most").textContent) > 0 &&
			document.querySelector("#r-`+id+` polyline").points.numberOfItems >= 3`)
	}
	has(t, "sessions", x.text("#t-sessions"), "bank", "shop", "127.0.0.1:", "transceiver 3.4", "/4,096")
	has(t, "own binds", x.text("#t-own"), "smsc-own", "bound", "/200")
	has(t, "push lanes", x.text("#t-push"), "apns", "fcm", "closed")
	has(t, "health", x.text("#health"), "Ready, diverting.")
	s.shunt("divert", "shadow")
	x.until("the switch is seen", `document.querySelector("#health").textContent.includes("in shadow") && document.querySelector("#f-divert dd").textContent === "shadow"`)
	s.shunt("divert", "on")
	x.until("and back", `document.querySelector("#health").textContent === "Ready, diverting."`)

	x.do("pause", chromedp.Click("#pause"))
	x.until("paused", `document.querySelector("#live").textContent.startsWith("Paused")`)
	x.do("go on", chromedp.Click("#pause"))
	x.until("live again", isLive)
	var same int
	if x.eval("window.same", &same); same != 1 || x.loaded() != 1 {
		t.Errorf("the page was loaded %d times", x.loaded())
	}
	x.judged("desktop, light")
	x.shoot("page-light.png")
	x.clean("desktop")

	x.open("/")
	x.do("tab", chromedp.KeyEvent(kb.Tab))
	var first string
	if x.eval("document.activeElement.className", &first); first != "skip" {
		t.Errorf("the first stop of the tab key is %q, want the link that skips", first)
	}
}

func onAPhone(t *testing.T, browser context.Context, s *scene) {
	x := opened(t, browser, s)
	for _, width := range []int64{375, 320} {
		x.size(width, 812, true)
		for _, path := range []string{"/", "/message?id=%2B" + phone[1:], "/message"} {
			x.open(path)
			x.judged(path + " on a phone")
		}
	}
	x.size(375, 812, true)
	x.open("/")
	x.until("live", isLive)
	x.until("a row that the script made is like the others", `document.querySelectorAll("#t-reasons td").length > 0`)
	x.judged("phone, live")
	x.shoot("page-phone.png")
}

func dark(t *testing.T, browser context.Context, s *scene) {
	x := opened(t, browser, s)
	const colours = `getComputedStyle(document.documentElement).backgroundColor + getComputedStyle(document.body).color`
	var bright, night, moving, still string
	x.prefer("prefers-color-scheme", "light")
	x.eval(colours, &bright)
	x.prefer("prefers-color-scheme", "dark")
	x.eval(colours, &night)
	if bright == night {
		t.Errorf("colours are %s in both schemes", bright)
	}
	x.judged("desktop, dark")
	x.shoot("page-dark.png")
	const beat = `getComputedStyle(document.querySelector("#live"), "::before").animationName`
	x.prefer("prefers-reduced-motion", "no-preference")
	x.eval(beat, &moving)
	x.prefer("prefers-reduced-motion", "reduce")
	x.eval(beat, &still)
	if moving != "beat" || still != "none" {
		t.Errorf("animation is %s, and %s for who wants less motion; want beat and none", moving, still)
	}
	x.clean("dark")
}

var number = regexp.MustCompile(`44770090[0-9]{4}`)

// search finds a message by its number and by its id, without its number.
func search(t *testing.T, browser context.Context, s *scene) {
	x := opened(t, browser, s)
	x.do("search", chromedp.SendKeys("#id", phone+kb.Enter), chromedp.WaitVisible("#m-0"))
	has(t, "trace", x.text("main"), "+4477••••0000", "push-accepted", "What happened to it")
	id := x.text("#m-0")
	x.do("search", chromedp.SendKeys("#id", id+kb.Enter), chromedp.WaitVisible("#m-0"))
	x.until("one message", `document.querySelectorAll("section").length === 1`)
	if got := x.text("#m-0"); got != id {
		t.Errorf("search for %s found %s", id, got)
	}
	var all string
	x.eval("document.documentElement.outerHTML", &all)
	if n := number.FindString(all); n != "" {
		t.Errorf("the trace shows the number %s", n)
	}
	x.judged("trace")
	x.clean("search")
}

func noScript(t *testing.T, browser context.Context, s *scene) {
	x := newTab(t, browser, s.web)
	x.do("no script", emulation.SetScriptExecutionDisabled(true))
	x.open("/")
	// Evaluate works all the same: it is the debugger's.
	has(t, "page without script", x.text("body"), "Ready, diverting.", "bank", "smsc-own", "As of")
	var rate string
	if x.eval(`document.querySelector("#r-in .value").textContent`, &rate); rate == "–" || rate == "0" {
		t.Errorf("rate in = %s without a script, want one: others look on", rate)
	}
	x.clean("no script")
}

// switches: an operator with the token, and one without.
func switches(t *testing.T, browser context.Context, s *scene) {
	x := opened(t, browser, s)
	submit := func(token, button string) {
		x.do("switch", chromedp.WaitVisible("#token"), chromedp.SendKeys("#token", token), chromedp.Click(button))
	}
	submit(token, `button[formaction="/drain"]`)
	x.until("drained", `document.querySelector("#health")?.textContent.startsWith("Draining")`)
	submit(token, `button[formaction="/undrain"]`)
	x.until("serving again", `document.querySelector("#health")?.textContent === "Ready, diverting."`)
	x.clean("switches")
	submit("wrong", `button[formaction="/drain"]`)
	x.until("refused", `document.body.textContent.includes("The token is wrong: nothing was changed.")`)
	x.judged("refusal")
	x.open("/")
	x.until("it is among the faults", `document.querySelector("#t-faults").textContent.includes("page: wrong token")`)
	has(t, "faults", x.text("#t-faults"), "drain switched by an operator")
}

// restart: the page says that nobody answers, and goes on by itself.
func restart(t *testing.T, browser context.Context, s *scene) {
	x := opened(t, browser, s)
	if err := s.gateway.Stop(); err != nil {
		t.Error(err)
	}
	x.until("the page tells", `document.querySelector("#live").textContent.startsWith("Not live")`)
	s.start()
	x.until("the page goes on", isLive+` && document.querySelector("#f-up dd").textContent.length < 6`)
	if x.loaded() != 1 {
		t.Errorf("the page was loaded %d times", x.loaded())
	}
}
