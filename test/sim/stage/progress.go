package stage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"shunt/test/sim/esme"
)

const maxRest = 64 << 10

// ProgressReader takes one ESME's stderr: lines of progress, and others for
// its log.
type ProgressReader struct {
	Update func(esme.Progress)
	Log    io.Writer
	rest   []byte
}

// Write implements io.Writer; one goroutine of os/exec calls it.
func (r *ProgressReader) Write(b []byte) (int, error) {
	n := len(b)
	r.rest = append(r.rest, b...)
	for {
		line, rest, found := bytes.Cut(r.rest, []byte("\n"))
		if !found {
			if len(r.rest) > maxRest {
				r.rest = nil
			}
			return n, nil
		}
		r.rest = rest
		var part esme.Progress
		if json.Unmarshal(line, &part) == nil {
			r.Update(part)
		} else {
			_, _ = fmt.Fprintf(r.Log, "%s\n", line)
		}
	}
}
