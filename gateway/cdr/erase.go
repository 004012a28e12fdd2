package cdr

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"shunt/gateway/msg"
	"shunt/store"
)

// Erased stands in a line for the number that was taken out of it.
const Erased = "erased"

// erasure is one that waits for Run.
type erasure struct {
	ctx  context.Context
	n    msg.Number
	done chan erasedLines
}

type erasedLines struct {
	n   int
	err error
}

// Erase takes a number out of every line: the lines themselves, and with them
// their numbers, stay. What has ended is written before, so that no line about
// the number comes from what the spool holds now. Run does it; until it is done
// nothing else is written. An error says that some of it may be left; the same
// call again finishes it. It returns how many lines were changed.
func (w *Writer) Erase(ctx context.Context, n msg.Number) (int, error) {
	e := erasure{ctx, n, make(chan erasedLines, 1)}
	select {
	case w.erasures <- e:
	case <-ctx.Done():
		return 0, fmt.Errorf("cdr: erase %s: %w", n.Masked(), ctx.Err())
	}
	got := <-e.done
	if got.err != nil {
		return got.n, fmt.Errorf("cdr: erase %s: %w", n.Masked(), got.err)
	}
	return got.n, nil
}

// Settle writes what has ended until now.
func (w *Writer) Settle(ctx context.Context) error {
	_, err := w.Erase(ctx, 0) // nobody's number
	return err
}

// erase is Run's.
func (w *Writer) erase(e *erasure) (changed int, err error) {
	if err := w.ends(w.o.Now()); err != nil {
		return 0, err
	}
	if err := w.forwarded(w.o.Now()); err != nil || e.n == 0 {
		return 0, err
	}
	w.files.close() // the next line begins a file, or goes on with the one of this second
	names, err := Files(w.files.dir)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if err := e.ctx.Err(); err != nil {
			return changed, err
		}
		n, err := eraseIn(name, e.n)
		changed += n
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return changed, err
		}
	}
	return changed, nil
}

// eraseIn writes a file again without the number and puts it in the old one's
// place, with its time: by that its retention is reckoned.
func eraseIn(name string, n msg.Number) (changed int, err error) {
	old, err := os.ReadFile(name) // a file is bounded by its size
	if err != nil || !bytes.Contains(old, []byte(n.String()[1:])) {
		return 0, err
	}
	var b bytes.Buffer
	for line := range bytes.Lines(old) {
		without := withoutNumber(line, n)
		if !bytes.Equal(without, line) {
			changed++
		}
		b.Write(without)
	}
	if changed == 0 {
		return 0, nil
	}
	st, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	if err := store.Replace(name, b.Bytes(), 0o640); err != nil {
		return 0, err
	}
	return changed, os.Chtimes(name, st.ModTime(), st.ModTime())
}

// withoutNumber is a line in which the number is no address, however an ESME
// wrote it.
func withoutNumber(line []byte, n msg.Number) []byte {
	digits := n.String()[1:]
	for _, field := range [...]string{"to", "from"} {
		for _, plus := range [...]string{"+", ""} {
			line = bytes.ReplaceAll(line, []byte(`"`+field+`":"`+plus+digits+`"`), []byte(`"`+field+`":"`+Erased+`"`))
		}
	}
	return line
}
