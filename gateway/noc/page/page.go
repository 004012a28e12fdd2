// Package page is what operators see of a gateway in a browser: one page that
// is complete without its script, and events that the script keeps it fresh by.
package page

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"shunt/gateway/audit"
	"shunt/gateway/noc"
	"shunt/gateway/number"
)

// Gateway is what the page shows and, for who has the token, switches. All
// methods are called from any number of goroutines.
type Gateway interface {
	Status() noc.Status
	Sessions() []noc.Session
	Queue() []noc.Queue
	noc.Switch
	SetDrain(on bool) noc.Drain
}

// Alarms are the conditions that somebody has to look at now.
type Alarms interface{ Active() []Alarm }

// Alarm is one of them. Its text has no number and no message in it.
type Alarm struct {
	Name     string
	Severity string // critical, major, minor or warning
	Since    time.Time
	Text     string
}

// Audit records what operators do; see audit.Log.
type Audit interface {
	Begin(a audit.Actor, action, detail string, safe bool) (*audit.Action, error)
}

// Options are what New needs.
type Options struct {
	Gateway Gateway
	Spool   noc.Spool
	Log     *slog.Logger
	Country number.Country // whose national numbers may be searched for
	Faults  *Faults        // nil: the log is not shown
	Alarms  Alarms         // nil: nobody raises any
	Token   []byte         // empty: the page switches nothing
	Audit   Audit          // records what is switched; nil: nothing is
}

// Page is safe for concurrent use.
type Page struct {
	o        Options
	token    [sha256.Size]byte
	tries    tries
	searches chan struct{} // holds a token for each that reads the disk
	assets   map[string]*asset
	html     *template.Template
	frame    frame
	wake     chan struct{} // tells Run that somebody looks

	taking  sync.Mutex // one snapshot at a time
	history history
	queue   queued

	mu      sync.Mutex
	last    *shot
	seen    time.Time // when somebody asked for the page
	viewers map[*viewer]bool
}

const maxSearches = 4

//go:embed files
var files embed.FS

var functions = template.FuncMap{"stamp": stamp}

// New prepares the page. Its only goroutine is Run's.
func New(o Options) *Page {
	p := &Page{
		o: o, token: sha256.Sum256(o.Token), searches: make(chan struct{}, maxSearches), wake: make(chan struct{}, 1),
		html:    template.Must(template.New("").Funcs(functions).ParseFS(files, "files/*.html")),
		assets:  make(map[string]*asset),
		viewers: make(map[*viewer]bool),
	}
	p.frame = frame{
		Style: p.addAsset("style.css", "text/css; charset=utf-8"), Script: p.addAsset("script.js", "text/javascript; charset=utf-8"),
		Icon: p.addAsset("icon.svg", "image/svg+xml"), Form: len(o.Token) > 0,
	}
	return p
}

// frame is what is the same on every page.
type frame struct {
	Style, Script, Icon string // paths
	Form                bool
}

// asset is a file under a name that holds the hash of its content, so that it
// never changes.
type asset struct {
	kind string
	b    []byte
}

func (p *Page) addAsset(name, kind string) (path string) {
	b, err := files.ReadFile("files/" + name)
	if err != nil {
		panic(fmt.Sprintf("page: %v", err)) // it is embedded
	}
	sum := sha256.Sum256(b)
	path = hex.EncodeToString(sum[:6]) + "-" + name
	p.assets[path] = &asset{kind, b}
	return "/assets/" + path
}

// Routes are the page's handlers by the pattern of a mux.
func (p *Page) Routes() map[string]http.HandlerFunc {
	all := map[string]http.HandlerFunc{
		"GET /{$}":           p.index,
		"GET /events":        p.events,
		"GET /message":       p.message,
		"GET /assets/{name}": p.asset,
		"GET /robots.txt":    robots,
		"GET /":              p.unknown,
	}
	if p.frame.Form {
		all["POST /divert"] = p.act("divert", p.divert)
		all["POST /drain"] = p.act("drain", p.drain(true))
		all["POST /undrain"] = p.act("undrain", p.drain(false))
	}
	return all
}

func (p *Page) index(w http.ResponseWriter, r *http.Request) {
	s := p.current(time.Now())
	b, err := s.html()
	if err != nil {
		p.fail(w, r, err)
		return
	}
	writeHTML(w, http.StatusOK, b)
}

func (p *Page) render(name string, v any) ([]byte, error) {
	var b bytes.Buffer
	if err := p.html.ExecuteTemplate(&b, name, v); err != nil {
		return nil, fmt.Errorf("page %s: %w", name, err)
	}
	return b.Bytes(), nil
}

func writeHTML(w http.ResponseWriter, status int, b []byte) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b) // a client that left is not our fault
}

func (p *Page) fail(w http.ResponseWriter, r *http.Request, err error) {
	p.o.Log.Error("page cannot be shown", "route", r.Pattern, "error", err)
	http.Error(w, "the page cannot be shown: see the gateway's log", http.StatusInternalServerError)
}

// notice is an answer of one sentence. It repeats nothing of the request.
type notice struct {
	frame
	Title, Text string
}

func (p *Page) say(w http.ResponseWriter, r *http.Request, status int, text string) {
	b, err := p.render("notice.html", notice{p.frame, http.StatusText(status), text})
	if err != nil {
		p.fail(w, r, err)
		return
	}
	writeHTML(w, status, b)
}

func (p *Page) unknown(w http.ResponseWriter, r *http.Request) {
	p.say(w, r, http.StatusNotFound, "There is nothing here. The gateway has the paths /, /metrics, /healthz and /readyz.")
}

func (p *Page) asset(w http.ResponseWriter, r *http.Request) {
	a := p.assets[r.PathValue("name")]
	if a == nil {
		p.unknown(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Content-Length", strconv.Itoa(len(a.b)))
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(a.b) // a client that left is not our fault
}

func robots(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("User-agent: *\nDisallow: /\n"))
}

// Run takes a snapshot a second while somebody looks, and does nothing
// otherwise, until ctx is done.
func (p *Page) Run(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-p.wake:
		case <-ctx.Done():
			return
		}
		tick.Reset(every)
		for p.watched(time.Now()) {
			p.take(time.Now())
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
		tick.Stop()
	}
}
