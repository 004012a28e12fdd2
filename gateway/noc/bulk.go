package noc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"shunt/gateway/number"
	"shunt/store/registry"
)

// bulkLimits bound a bulk.
type bulkLimits struct {
	octets int64
	lines  int
}

var usualBulk = bulkLimits{octets: 256 << 20, lines: 1_000_000}

const (
	maxBulkLine   = 16 << 10 // octets
	maxLineFaults = 10       // that an answer lists
	bulkChunk     = 8_000    // lines handed to the registry at once
)

// bulkRun is one bulk on its way through: every line is checked while the body
// goes to a file without a name, and only then is the file put. It belongs to
// the request's goroutine.
type bulkRun struct {
	file    *os.File
	limits  bulkLimits
	country func(app string) number.Country
	lines   int // lines that are not blank
	wrong   int
	faults  []LineFault
}

func (s *Server) putBulk(w http.ResponseWriter, r *http.Request) (any, error) {
	if err := s.begin(r, "", false); err != nil {
		return nil, err
	}
	select {
	case s.bulk <- struct{}{}:
		defer func() { <-s.bulk }()
	default:
		return nil, problemf(http.StatusConflict, CodeConflict, "another bulk is under way: try again when it is done")
	}
	f, err := s.namelessFile()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := &bulkRun{file: f, limits: s.limits, country: s.o.Country}
	body := &patient{w: w, r: http.MaxBytesReader(w, r.Body, s.limits.octets)}
	if err := b.check(body); err != nil {
		return nil, err
	}
	if b.wrong > 0 {
		p := problemf(http.StatusBadRequest, CodeInvalid, "%d of %d lines are wrong and nothing was put: correct them and send all of it again", b.wrong, b.lines)
		p.Lines = b.faults
		return nil, p
	}
	// The body is here, and the disk may take its time: a read deadline that
	// passes now would cancel the request.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	put, err := b.put(r.Context(), s.o.Registry)
	if err != nil {
		p := problemOf(err)
		after := *p
		after.Detail = fmt.Sprintf("%d of %d lines are put, then: %s", put, b.lines, p.Detail)
		deedOf(r).outcome = fmt.Sprintf("put=%d of %d", put, b.lines)
		return nil, &after
	}
	deedOf(r).outcome = fmt.Sprintf("put=%d", put)
	s.o.Log.Info("control socket: bulk put", "lines", put)
	return bulkBody{put}, nil
}

// namelessFile is gone when it is closed, also after a crash: a bulk holds
// tokens and bearers.
func (s *Server) namelessFile() (*os.File, error) {
	f, err := os.CreateTemp(s.o.TempDir, "shunt-bulk-")
	if err != nil {
		return nil, fmt.Errorf("bulk: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("bulk: %w", err), f.Close())
	}
	return f, nil
}

// patient gives a long body time from each read on.
type patient struct {
	w http.ResponseWriter
	r io.Reader
}

func (p *patient) Read(b []byte) (int, error) {
	extend(p.w)
	return p.r.Read(b)
}

// check reads the whole body. Its error is for a body that cannot be judged
// line by line.
func (b *bulkRun) check(body io.Reader) error {
	out := bufio.NewWriterSize(b.file, 1<<20)
	err := eachLine(io.TeeReader(body, out), func(n int, line []byte) error {
		if b.lines++; b.lines > b.limits.lines {
			return problemf(http.StatusRequestEntityTooLarge, CodeTooLarge, "more than %d lines and nothing was put: send them in parts", b.limits.lines)
		}
		if _, err := bulkPut(b.country, line); err != nil {
			if b.wrong++; len(b.faults) < maxLineFaults {
				b.faults = append(b.faults, LineFault{Line: n, Text: err.Error()})
			}
		}
		return nil
	})
	tooLong := new(http.MaxBytesError)
	var p *Problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &tooLong):
		return problemf(http.StatusRequestEntityTooLarge, CodeTooLarge, "more than %d octets and nothing was put: send them in parts", b.limits.octets)
	case err != nil:
		return problemf(http.StatusBadRequest, CodeInvalid, "the body breaks off after line %d and nothing was put: %v", b.lines, err)
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("bulk: %w", err)
	}
	return nil
}

// put reads the file again and hands it to the registry in chunks. It tells
// how many lines were put before an error.
func (b *bulkRun) put(ctx context.Context, reg Registry) (put int, err error) {
	if _, err := b.file.Seek(0, io.SeekStart); err != nil {
		return 0, fmt.Errorf("bulk: %w", err)
	}
	chunk := make([]registry.Put, 0, min(bulkChunk, b.lines))
	flush := func() error {
		done, err := reg.PutAll(ctx, chunk)
		put += len(done)
		chunk = chunk[:0]
		return err
	}
	err = eachLine(b.file, func(_ int, line []byte) error {
		p, err := bulkPut(b.country, line)
		if err != nil {
			return err
		}
		if chunk = append(chunk, p); len(chunk) < bulkChunk {
			return nil
		}
		return flush()
	})
	if err == nil && len(chunk) > 0 {
		err = flush()
	}
	return put, err
}

// eachLine walks the lines that are not blank, with their numbers from 1.
func eachLine(r io.Reader, do func(n int, line []byte) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, maxBulkLine), maxBulkLine) // the larger of the two is the limit
	n := 0
	for sc.Scan() {
		n++
		line := bytes.TrimSpace(sc.Bytes())
		if len(line) == 0 {
			continue
		}
		if err := do(n, line); err != nil {
			return err
		}
	}
	if errors.Is(sc.Err(), bufio.ErrTooLong) {
		return problemf(http.StatusRequestEntityTooLarge, CodeTooLarge, "line %d is longer than %d octets and nothing was put", n+1, maxBulkLine)
	}
	return sc.Err()
}

// bulkPut reads and checks one line. A bulk's answer has no room for bearers
// that the registry would make, so each line brings its own.
func bulkPut(country func(app string) number.Country, line []byte) (registry.Put, error) {
	var b BulkPut
	if err := decodeStrict(line, &b); err != nil {
		return registry.Put{}, err
	}
	n, err := country(b.App).Parse(b.Number)
	if err != nil {
		return registry.Put{}, err
	}
	p, err := b.registryPut(n)
	if err != nil {
		return registry.Put{}, err
	}
	if p.Bearer == "" {
		return registry.Put{}, errors.New("bearer: is missing: a bulk makes none")
	}
	return p, checkPut(&p)
}

// checkPut says what registry.PutAll would refuse in p, so that a bulk is
// refused before its first line is put. A test holds the two together.
func checkPut(p *registry.Put) error {
	switch {
	case !graphic(p.App, 1, registry.MaxName, false):
		return fmt.Errorf("app: want 1 to %d printable ASCII characters without blanks or slash", registry.MaxName)
	case !graphic(p.Token, 1, registry.MaxToken, true):
		return fmt.Errorf("token: want 1 to %d printable ASCII characters without blanks", registry.MaxToken)
	case p.Device != "" && !graphic(p.Device, 1, registry.MaxName, false):
		return fmt.Errorf("device: want 1 to %d printable ASCII characters without blanks or slash", registry.MaxName)
	case p.Bearer != "" && !graphic(p.Bearer, registry.MinBearer, registry.MaxBearer, true):
		return fmt.Errorf("bearer: want %d to %d printable ASCII characters without blanks", registry.MinBearer, registry.MaxBearer)
	}
	return nil
}

func graphic(s string, shortest, longest int, slash bool) bool {
	if len(s) < shortest || len(s) > longest {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == '/' && !slash {
			return false
		}
	}
	return true
}
