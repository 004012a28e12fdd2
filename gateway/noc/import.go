package noc

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"shunt/gateway/msg"
	"shunt/gateway/number"
	"shunt/store/registry"
)

// Formats of a registry's file: CSV with a header, or a JSON object a line.
const (
	FormatCSV    = "csv"
	FormatNDJSON = "ndjson"
)

// ImportResult is what an import came to.
type ImportResult struct {
	Lines   int  `json:"lines"`   // that are not blank
	Wrong   int  `json:"wrong"`   // of these
	Put     int  `json:"put"`     // on stable storage
	Refused int  `json:"refused"` // right, but the registry was changed by somebody else meanwhile
	Made    int  `json:"made"`    // new devices without a bearer: their apps have to register anew
	DryRun  bool `json:"dry_run,omitempty"`
}

// ImportEvent is a line of an import's answer; one field of it is set.
type ImportEvent struct {
	Put     *Progress     `json:"put,omitempty"`
	Fault   *LineFault    `json:"fault,omitempty"`
	Result  *ImportResult `json:"result,omitempty"` // the last one
	Problem *Problem      `json:"problem,omitempty"`
}

// Progress is how many lines are put, of how many.
type Progress struct {
	Done int `json:"done"`
	Of   int `json:"of"`
}

const (
	maxImportFaults = 100_000 // that an answer lists; all are counted
	progressEach    = 200 * time.Millisecond
)

// importRun is one import. It belongs to the request's goroutine.
type importRun struct {
	load    *registry.Load
	country func(app string) number.Country
	apps    apps  // at the beginning: a reload meanwhile changes nothing
	columns []int // of CSV: which field is where
	result  ImportResult
	faults  []LineFault
}

// importFile answers with events, the last of which comes when the next import
// may begin.
func (s *Server) importFile(w http.ResponseWriter, r *http.Request) (any, error) {
	q := r.URL.Query()
	if err := s.begin(r, fmt.Sprintf("skip_bad=%t dry_run=%t", q.Get("skip_bad") == "1", q.Get("dry_run") == "1"), false); err != nil {
		return nil, err
	}
	events := &eventWriter{w: w, e: json.NewEncoder(w)}
	last, err := s.runImport(w, r, events)
	if err != nil {
		return nil, err
	}
	if d := deedOf(r); last.Problem != nil {
		d.result = ResultOf(last.Problem)
	} else {
		d.outcome = fmt.Sprintf("put=%d wrong=%d refused=%d dry_run=%t", last.Result.Put, last.Result.Wrong, last.Result.Refused, last.Result.DryRun)
	}
	events.write(last)
	return streamed{}, nil
}

// runImport reads a whole file, judges all of it, and puts it only if no line
// is wrong or the wrong ones are to be left out. An error comes before the
// first event.
func (s *Server) runImport(w http.ResponseWriter, r *http.Request, events *eventWriter) (*ImportEvent, error) {
	q := r.URL.Query()
	format := q.Get("format")
	if format != FormatCSV && format != FormatNDJSON {
		return nil, problemf(http.StatusBadRequest, CodeInvalid, "format: want csv or ndjson")
	}
	select {
	case s.imports <- struct{}{}:
		defer func() { <-s.imports }()
	default:
		return nil, problemf(http.StatusConflict, CodeConflict, "another import is under way: try again when it is done")
	}
	i := &importRun{load: s.o.Registry.NewLoad(s.o.TempDir), country: s.o.Country, apps: s.apps()}
	defer i.load.Close()
	i.result.DryRun = q.Get("dry_run") == "1"
	if err := i.read(&patient{w: w, r: r.Body}, format); err != nil {
		return nil, err
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // the body is here
	if err := i.load.Judge(r.Context(), func(line int, err error) error {
		i.wrong(line, 0, err.Error())
		return nil
	}); err != nil {
		return nil, err
	}
	slices.SortStableFunc(i.faults, func(a, b LineFault) int { return a.Line - b.Line })
	w.Header().Set("Content-Type", "application/x-ndjson")
	for j := range i.faults {
		events.write(&ImportEvent{Fault: &i.faults[j]})
	}
	switch {
	case i.result.Wrong > 0 && q.Get("skip_bad") != "1":
		return &ImportEvent{Problem: problemf(http.StatusBadRequest, CodeInvalid,
			"%d of %d lines are wrong and nothing was changed: correct them, or leave them out with --skip-bad", i.result.Wrong, i.result.Lines)}, nil
	case i.result.DryRun:
		return &ImportEvent{Result: &i.result}, nil
	}
	of := i.load.Added() - i.load.Bad()
	a, err := i.load.Apply(r.Context(), func(put int) { events.progress(put, of) })
	i.result.Put, i.result.Refused, i.result.Made = a.Put, a.Refused, a.Made
	if err != nil {
		s.o.Log.Error("control socket: import failed", "error", err, "put", a.Put, "of", of)
		p := *problemOf(err)
		p.Detail = fmt.Sprintf("%d of %d lines are put, then: %s. The same import again completes it", a.Put, of, p.Detail)
		return &ImportEvent{Problem: &p}, nil
	}
	s.o.Log.Info("control socket: registry imported", "put", a.Put, "wrong", i.result.Wrong, "refused", a.Refused, "made", a.Made)
	return &ImportEvent{Result: &i.result}, nil
}

// eventWriter writes lines of an answer while there is time and a client.
type eventWriter struct {
	w    http.ResponseWriter
	e    *json.Encoder
	last time.Time
}

func (e *eventWriter) write(v any) {
	answering(e.w, writeWithin)
	_ = e.e.Encode(v) // a client that left ends the request's context
	_ = http.NewResponseController(e.w).Flush()
}

func (e *eventWriter) progress(done, of int) {
	if now := time.Now(); done == of || now.Sub(e.last) >= progressEach {
		e.last = now
		e.write(&ImportEvent{Put: &Progress{done, of}})
	}
}

func (i *importRun) wrong(line, column int, text string) {
	if i.result.Wrong++; len(i.faults) < maxImportFaults {
		i.faults = append(i.faults, LineFault{Line: line, Column: column, Text: text})
	}
}

// read stages every line that is right by itself.
func (i *importRun) read(body io.Reader, format string) error {
	parse := i.ndjsonPut
	header := format == FormatCSV
	if header {
		parse = i.csvPut
	}
	err := eachLine(body, func(n int, line []byte) error {
		if header {
			header = false
			return i.csvHeader(line)
		}
		i.result.Lines++
		p, column, err := parse(line)
		if err != nil {
			i.wrong(n, column, err.Error())
			return nil
		}
		if err := i.load.Add(n, &p); err != nil {
			if errors.Is(err, registry.ErrInvalid) {
				i.wrong(n, 0, err.Error())
				return nil
			}
			return err
		}
		return nil
	})
	var p *Problem
	switch {
	case err == nil && header:
		return problemf(http.StatusBadRequest, CodeInvalid, "the file is empty: want a header such as %s", strings.Join(csvFields, ","))
	case err == nil || errors.As(err, &p):
		return err
	}
	return problemf(http.StatusBadRequest, CodeInvalid, "the file breaks off or cannot be staged after line %d, and nothing was changed: %v", i.result.Lines, err)
}

// csvFields are the columns of a CSV file, in the order of an export. Those
// that a header leaves out are empty.
var csvFields = []string{"number", "app", "platform", "token", "device", "bearer", "state"}

func (i *importRun) csvHeader(line []byte) error {
	line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
	for _, name := range strings.Split(string(line), ",") {
		name = strings.Trim(strings.TrimSpace(name), `"`)
		at := slices.Index(csvFields, name)
		if at < 0 || slices.Contains(i.columns, at) {
			return problemf(http.StatusBadRequest, CodeInvalid, "line 1: column %d of the header is unknown or there twice, and nothing was changed: want %s", len(i.columns)+1, strings.Join(csvFields, ","))
		}
		i.columns = append(i.columns, at)
	}
	for at, name := range csvFields[:4] {
		if !slices.Contains(i.columns, at) {
			return problemf(http.StatusBadRequest, CodeInvalid, "line 1: the header has no column %s, and nothing was changed: want %s", name, strings.Join(csvFields, ","))
		}
	}
	return nil
}

// csvPut reads a line of CSV. No field of it can hold a line break.
func (i *importRun) csvPut(line []byte) (p registry.Put, column int, err error) {
	var f [7]string
	var at [7]int
	rest := string(line)
	fields := 0
	for more := true; more; fields++ {
		pos := len(line) - len(rest) + 1
		var text string
		if strings.HasPrefix(rest, `"`) {
			if text, rest, err = quoted(rest); err != nil {
				return p, pos, err
			}
			if more = strings.HasPrefix(rest, ","); more {
				rest = rest[1:]
			} else if rest != "" {
				return p, pos, errors.New(`there is something behind the closing "`)
			}
		} else {
			text, rest, more = strings.Cut(rest, ",")
		}
		if fields >= len(i.columns) {
			return p, pos, fmt.Errorf("more fields than the header's %d", len(i.columns))
		}
		f[i.columns[fields]], at[i.columns[fields]] = strings.TrimSpace(text), pos
	}
	if fields < len(i.columns) {
		return p, 0, fmt.Errorf("%d fields, want the header's %d", fields, len(i.columns))
	}
	platform, sandbox := strings.CutSuffix(f[2], "-sandbox")
	p, err = i.put(&ImportLine{f[0], Put{App: f[1], Platform: platform, Token: f[3], Device: f[4], Bearer: f[5], State: f[6], Sandbox: sandbox}})
	if err != nil {
		for j, name := range csvFields {
			if strings.HasPrefix(err.Error(), name) {
				column = at[j]
			}
		}
	}
	return p, column, err
}

// quoted reads a field in quotes, in which "" is one.
func quoted(s string) (text, rest string, err error) {
	var b strings.Builder
	for s = s[1:]; ; {
		before, after, ok := strings.Cut(s, `"`)
		if !ok {
			return "", "", errors.New(`a field's closing " is missing`)
		}
		b.WriteString(before)
		if !strings.HasPrefix(after, `"`) {
			return b.String(), after, nil
		}
		b.WriteByte('"')
		s = after[1:]
	}
}

func (i *importRun) ndjsonPut(line []byte) (registry.Put, int, error) {
	var b ImportLine
	if err := decodeStrict(line, &b); err != nil {
		return registry.Put{}, 0, err
	}
	p, err := i.put(&b)
	return p, 0, err
}

// hashForm begins a bearer of which only the SHA-256 is known, in hex, as in an
// export.
const hashForm = "sha256:"

// put checks what a line says. Its errors begin with the field.
func (i *importRun) put(b *ImportLine) (p registry.Put, err error) {
	n, err := i.country(b.App).Parse(b.Number)
	if err != nil {
		return p, err
	}
	bearer := b.Bearer
	if strings.HasPrefix(bearer, hashForm) {
		b.Bearer = ""
	}
	if p, err = b.registryPut(n); err != nil {
		return p, err
	}
	if digits, ok := strings.CutPrefix(bearer, hashForm); ok {
		if h, err := hex.DecodeString(digits); err != nil || len(h) != len(p.BearerHash) || copy(p.BearerHash[:], h) == 0 || p.BearerHash == ([32]byte{}) {
			return p, errors.New("bearer: want sha256: and 64 hexadecimal digits, or the bearer itself")
		}
	}
	if err := checkPut(&p); err != nil {
		return p, err
	}
	return p, i.apps.check(p.App)
}

// exportFile writes the registry as it is at one moment. Numbers, tokens and the
// hashes of bearers are whole: it is for an import.
func (s *Server) exportFile(w http.ResponseWriter, r *http.Request) (any, error) {
	format := r.URL.Query().Get("format")
	if format != FormatCSV && format != FormatNDJSON {
		return nil, problemf(http.StatusBadRequest, CodeInvalid, "format: want csv or ndjson")
	}
	if err := s.begin(r, "format="+format, false); err != nil {
		return nil, err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	c := s.o.Registry.Count()
	w.Header().Set("Shunt-Numbers", strconv.Itoa(c.Numbers-c.External))
	var b []byte
	if format == FormatCSV {
		b = append(b, strings.Join(csvFields, ",")+"\n"...)
	}
	devices := 0
	flush := func() error {
		answering(w, writeWithin)
		_, err := w.Write(b)
		b = b[:0]
		return err
	}
	err := s.o.Registry.Each(r.Context(), func(reg *registry.Registration) error {
		if reg.External() {
			return nil // an import would make it the registry's own
		}
		for j := range reg.Devices {
			b = appendExport(b, format, reg.Number, &reg.Devices[j])
			devices++
		}
		if len(b) < 256<<10 {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil { // the answer has begun: to break it off is the only way to say so
		s.o.Log.Error("control socket: export failed", "error", err)
		panic(http.ErrAbortHandler)
	}
	deedOf(r).outcome = fmt.Sprintf("format=%s devices=%d", format, devices)
	s.o.Log.Info("control socket: registry exported", "devices", devices)
	return streamed{}, nil
}

func appendExport(b []byte, format string, n msg.Number, d *registry.Device) []byte {
	bearer := hashForm + hex.EncodeToString(d.BearerHash[:])
	if format == FormatNDJSON {
		features := d.Features.Names()
		line, err := json.Marshal(ImportLine{n.String(), Put{
			App: d.App, Platform: d.Platform.String(), Token: d.Token, Device: d.ID, Bearer: bearer, State: stateOf(d.Active), Sandbox: d.Sandbox,
			Features: &features, Permission: d.Permission.String(), Preference: d.Preference, ProvenAt: d.ProvenAt,
		}})
		if err != nil {
			panic(err) // it has no value that does not encode
		}
		return append(append(b, line...), '\n')
	}
	platform := d.Platform.String()
	if d.Sandbox {
		platform += "-sandbox"
	}
	for j, text := range [...]string{n.String(), d.App, platform, d.Token, d.ID, bearer, stateOf(d.Active)} {
		if j > 0 {
			b = append(b, ',')
		}
		if strings.ContainsAny(text, `",`) {
			text = `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
		}
		b = append(b, text...)
	}
	return append(b, '\n')
}

// streamed is the value of a handler that has written its answer itself.
type streamed struct{}
