// Package audit records what operators did: a file of JSON lines, each of which
// holds the hash of the one before, so that none can be changed or taken out
// without breaking the chain. See docs/decisions/0021-audit-chain.md.
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"
)

// FileName is the file in the audit's folder.
const FileName = "audit.ndjson"

// Entry is one line, with its fields in this order. Hash is the SHA-256 of the
// line without ,"hash":"…" and without its line end.
type Entry struct {
	Seq    uint64    `json:"seq"` // from 1, without a gap
	At     time.Time `json:"at"`
	UID    int       `json:"uid"` // -1: a signal, whose sender is not known
	User   string    `json:"user"`
	PID    int       `json:"pid"`
	Action string    `json:"action"`
	Detail string    `json:"detail"`
	Result string    `json:"result"`
	Of     uint64    `json:"of,omitempty"` // the line of which this one tells the end
	Prev   string    `json:"prev"`         // the line before's hash; Genesis for the first
	Hash   string    `json:"hash,omitempty"`
}

// Actor is who did something.
type Actor struct {
	UID  int
	User string
	PID  int
}

// Results.
const (
	Begun = "begun" // what came of it is in a later line of it; none: the process was killed, or the disk did not answer
	Done  = "done"
)

// Genesis is Prev of the first line.
var Genesis = strings.Repeat("0", 2*sha256.Size)

const (
	maxDetail = 1024
	maxWord   = 128
	maxLine   = 16 << 10 // octets; JSON may write one octet as six
)

var tailLen = len(`,"hash":"`) + 2*sha256.Size + len(`"}`)

// seal sets e.Hash and gives the whole line, with its line end.
func seal(e *Entry) ([]byte, error) {
	e.Hash = ""
	b, err := encode(e)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	e.Hash = hex.EncodeToString(sum[:])
	return append(b[:len(b)-1], `,"hash":"`+e.Hash+"\"}\n"...), nil
}

// encode is e as JSON without a line end.
func encode(e *Entry) ([]byte, error) {
	var b bytes.Buffer
	j := json.NewEncoder(&b)
	j.SetEscapeHTML(false)
	if err := j.Encode(e); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// open reads a line, without its line end, and checks it by itself.
func open(line []byte) (e Entry, err error) {
	if len(line) <= tailLen {
		return e, errors.New("it is no line of an audit")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return e, errors.New("it is no line of an audit")
	}
	body := append(bytes.Clone(line[:len(line)-tailLen]), '}')
	sum := sha256.Sum256(body)
	if hex.EncodeToString(sum[:]) != e.Hash {
		return e, errors.New("its hash is not that of its content: it was changed")
	}
	whole := e
	if again, err := seal(&whole); err != nil || !bytes.Equal(again[:len(again)-1], line) {
		return e, errors.New("it is not written as an audit's line is")
	}
	return e, nil
}

// follows tells what is wrong with e behind a line with that number and hash.
func (e *Entry) follows(seq uint64, hash string) error {
	switch {
	case e.Seq != seq+1:
		return fmt.Errorf("its number is %d, want %d: lines are missing or were moved", e.Seq, seq+1)
	case e.Prev != hash:
		return errors.New("it does not hold the hash of the line before: lines are missing, were moved or were written anew")
	}
	return nil
}

// Report is what became of a verification.
type Report struct {
	Files  int    `json:"files"`
	First  uint64 `json:"first"` // line that there is: 1, or what follows those that were removed for their age
	Lines  uint64 `json:"lines"` // that are sound, from the first
	Sound  bool   `json:"sound"`
	Broken uint64 `json:"broken,omitempty"` // the first line that is not, counted from 1 in its file
	File   string `json:"file,omitempty"`   // and which that is
	Why    string `json:"why,omitempty"`
	Seq    uint64 `json:"seq"`  // of the last sound line
	Hash   string `json:"hash"` // of the last sound line: the journal has it too
}

// verifier walks the files of a chain one after the other.
type verifier struct {
	rep     Report
	removed map[string]bool // by detail, of lines that tell of a removal
	start   string          // what the detail would be of the removal before the first line; "": it is line 1
}

func newVerifier() *verifier {
	return &verifier{rep: Report{Hash: Genesis}, removed: make(map[string]bool)}
}

var errBroken = errors.New("broken")

// file reads the next file. The error is for what cannot be read, or errBroken.
func (v *verifier) file(name string, r io.Reader) error {
	v.rep.Files++
	n := uint64(0)
	return each(r, func(line []byte, whole bool) error {
		n++
		e, err := open(line)
		if !whole {
			err = errors.New("it has no line end: it is torn")
		}
		if err == nil && v.rep.Lines == 0 && e.Seq > 1 { // whether it may begin so is seen at the end
			v.start, v.rep.Seq, v.rep.Hash = removalOf(e.Seq-1, e.Prev), e.Seq-1, e.Prev
		}
		if err == nil {
			err = e.follows(v.rep.Seq, v.rep.Hash)
		}
		if err != nil {
			v.fail(name, n, err.Error())
			return errBroken
		}
		if v.rep.Lines++; v.rep.Lines == 1 {
			v.rep.First = e.Seq
		}
		v.rep.Seq, v.rep.Hash = e.Seq, e.Hash
		if e.Action == actionRemove && e.User == gateway {
			v.removed[e.Detail] = true
		}
		return nil
	})
}

func (v *verifier) fail(name string, line uint64, why string) {
	v.rep.Broken, v.rep.File, v.rep.Why = line, name, why
}

// end is the verdict. Of a chain that begins late, a line has to say that what was
// before was removed, unless it is a file by itself.
func (v *verifier) end(first string, alone bool) Report {
	if v.rep.Broken == 0 && v.start != "" && !alone && !v.removed[v.start] {
		v.rep.Lines = 0
		v.fail(first, 1, fmt.Sprintf("its number is %d, want 1: lines are missing, and none says that they were removed for their age", v.rep.First))
	}
	v.rep.Sound = v.rep.Broken == 0
	return v.rep
}

// Verify reads a chain of one file, or one file of a chain. The error is for what
// cannot be read.
func Verify(r io.Reader) (Report, error) {
	v := newVerifier()
	if err := v.file(FileName, r); err != nil && !errors.Is(err, errBroken) {
		return v.rep, err
	}
	return v.end(FileName, false), nil
}

// VerifyFile reads the chain in a folder, or the one that audit.ndjson at path
// ends, with the files before it that are beside it. Any other file is read by
// itself.
func VerifyFile(path string) (Report, error) {
	st, err := os.Stat(path)
	if err != nil {
		return Report{}, err
	}
	all := []string{path}
	switch {
	case st.IsDir():
		if all, err = files(path); err == nil && len(all) == 0 {
			err = fmt.Errorf("%s: there is no audit", path)
		}
	case filepath.Base(path) == FileName:
		all, err = files(filepath.Dir(path))
	}
	if err != nil {
		return Report{}, err
	}
	v := newVerifier()
	for _, name := range all {
		if err := v.open(name); errors.Is(err, errBroken) {
			break
		} else if err != nil {
			return v.rep, err
		}
	}
	return v.end(filepath.Base(all[0]), isOld(filepath.Base(path))), nil
}

func (v *verifier) open(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return v.file(filepath.Base(path), f)
}

// each hands over each line without its end; whole is false for octets behind
// the last line end, and for a line that is longer than any can be.
func each(r io.Reader, do func(line []byte, whole bool) error) error {
	b := make([]byte, 0, 64<<10)
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		rest := b
		for {
			line, after, ok := bytes.Cut(rest, []byte("\n"))
			if !ok {
				break
			}
			if err := do(line, len(line) < maxLine); err != nil {
				return err
			}
			rest = after
		}
		switch {
		case len(rest) >= maxLine, errors.Is(err, io.EOF) && len(rest) > 0:
			return do(rest, false)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		b = b[:copy(b[:cap(b)], rest)]
	}
}

// cut shortens what somebody else may have made long; JSON wants UTF-8.
func cut(s string, most int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= most {
		return s
	}
	s = s[:most]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}
