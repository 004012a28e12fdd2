package noc

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	"shunt/store/registry"
)

const maxLine = 16 << 10 // octets of a line of an import

// patient gives a long body time from each read on.
type patient struct {
	w http.ResponseWriter
	r io.Reader
}

func (p *patient) Read(b []byte) (int, error) {
	extend(p.w)
	return p.r.Read(b)
}

// eachLine walks the lines that are not blank, with their numbers from 1.
func eachLine(r io.Reader, do func(n int, line []byte) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, maxLine), maxLine) // the larger of the two is the limit
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
		return problemf(http.StatusRequestEntityTooLarge, CodeTooLarge, "line %d is longer than %d octets and nothing was put", n+1, maxLine)
	}
	return sc.Err()
}

// checkPut says what the registry would refuse in p, so that an import
// can name the field. A test holds the two together.
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
