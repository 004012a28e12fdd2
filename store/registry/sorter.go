package registry

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
)

// sorter puts records in the order of their keys with bounded memory: it fills
// an arena, sorts it, and writes it as a run to a file that has no name, so that
// nothing of it is left after a crash. Equal keys come out in no certain order.
// One goroutine adds; then any number may read, each with all of its own.
type sorter struct {
	dir   string
	room  int // octets of the arena
	arena []byte
	at    []int // where records begin in the arena
	file  *os.File
	runs  []int64 // where each run ends in the file
}

// A record is the length of its key, that of its value, key and value.
const (
	sorterHeader = 6
	usualArena   = 48 << 20
	runBuffer    = 128 << 10
)

func (s *sorter) add(key, value []byte) error {
	if len(s.arena)+sorterHeader+len(key)+len(value) > s.room && len(s.at) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	if s.arena == nil {
		s.arena = make([]byte, 0, s.room)
	}
	s.at = append(s.at, len(s.arena))
	s.arena = binary.BigEndian.AppendUint16(s.arena, uint16(len(key)))
	s.arena = binary.BigEndian.AppendUint32(s.arena, uint32(len(value)))
	s.arena = append(append(s.arena, key...), value...)
	return nil
}

func (s *sorter) keyAt(i int) []byte {
	n := int(binary.BigEndian.Uint16(s.arena[i:]))
	return s.arena[i+sorterHeader:][:n]
}

// spill writes the arena as one run.
func (s *sorter) spill() (err error) {
	if s.file == nil {
		if s.file, err = namelessFile(s.dir); err != nil {
			return err
		}
	}
	slices.SortFunc(s.at, func(a, b int) int { return bytes.Compare(s.keyAt(a), s.keyAt(b)) })
	w := bufio.NewWriterSize(s.file, 1<<20)
	for _, i := range s.at {
		n := sorterHeader + int(binary.BigEndian.Uint16(s.arena[i:])) + int(binary.BigEndian.Uint32(s.arena[i+2:]))
		_, _ = w.Write(s.arena[i : i+n]) // kept by w for Flush
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("stage an import: %w", err)
	}
	end := int64(len(s.arena))
	if len(s.runs) > 0 {
		end += s.runs[len(s.runs)-1]
	}
	s.runs = append(s.runs, end)
	s.arena, s.at = s.arena[:0], s.at[:0]
	return nil
}

// sorted ends the adding: what is left goes into a last run.
func (s *sorter) sorted() error {
	if len(s.at) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	s.arena, s.at = nil, nil
	return nil
}

func (s *sorter) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}

// all yields the records in the order of their keys; key and value are good
// until the next one. A failure is put into err and ends them.
func (s *sorter) all(err *error) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		heap := make([]*run, 0, len(s.runs))
		from := int64(0)
		for _, end := range s.runs {
			r := &run{r: bufio.NewReaderSize(io.NewSectionReader(s.file, from, end-from), runBuffer)}
			from = end
			if r.next() {
				heap = append(heap, r)
			} else if r.err != nil {
				*err = r.err
				return
			}
		}
		for i := len(heap)/2 - 1; i >= 0; i-- {
			sink(heap, i)
		}
		for len(heap) > 0 {
			r := heap[0]
			if !yield(r.key, r.value) {
				return
			}
			if !r.next() {
				if r.err != nil {
					*err = r.err
					return
				}
				heap[0] = heap[len(heap)-1]
				heap = heap[:len(heap)-1]
			}
			sink(heap, 0)
		}
	}
}

// sink restores the order of a heap whose item i may be too high.
func sink(h []*run, i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(h); c++ {
			if bytes.Compare(h[c].key, h[least].key) < 0 {
				least = c
			}
		}
		if least == i {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

// run reads one run.
type run struct {
	r          *bufio.Reader
	record     []byte
	key, value []byte
	err        error
}

// next reads a record; at the end and on a failure, which is in err, it is false.
func (r *run) next() bool {
	var h [sorterHeader]byte
	if _, err := io.ReadFull(r.r, h[:]); err != nil {
		if !errors.Is(err, io.EOF) {
			r.err = fmt.Errorf("read a staged import: %w", err)
		}
		return false
	}
	k, v := int(binary.BigEndian.Uint16(h[:])), int(binary.BigEndian.Uint32(h[2:]))
	r.record = slices.Grow(r.record[:0], k+v)[:k+v]
	if _, err := io.ReadFull(r.r, r.record); err != nil {
		r.err = fmt.Errorf("read a staged import: %w", err)
		return false
	}
	r.key, r.value = r.record[:k], r.record[k:]
	return true
}

// namelessFile is gone when it is closed, also after a crash: what is staged
// holds tokens.
func namelessFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "shunt-import-")
	if err != nil {
		return nil, fmt.Errorf("stage an import: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("stage an import: %w", err), f.Close())
	}
	return f, nil
}
