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
// an arena and, while it fills another, sorts that and writes it as a run to a file that has no name, so that
// nothing of it is left after a crash. Equal keys come out in no certain order.
// One goroutine adds; then any number may read, each with all of its own.
type sorter struct {
	dir   string
	room  int // octets of the arena
	arena arena
	spare arena
	file  *os.File
	runs  []int64 // where each run ends in the file

	spilling chan error // of the run that is sorted and written meanwhile; nil: none
}

// arena holds records, and where each begins.
type arena struct {
	b  []byte
	at []int
}

// A record is the length of its key, that of its value, key and value.
const (
	sorterHeader = 6
	usualArena   = 32 << 20
	runBuffer    = 128 << 10
)

func (s *sorter) add(key, value []byte) error {
	if len(s.arena.b)+sorterHeader+len(key)+len(value) > s.room && len(s.arena.at) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	a := &s.arena
	if a.b == nil {
		a.b = make([]byte, 0, s.room)
	}
	a.at = append(a.at, len(a.b))
	a.b = binary.BigEndian.AppendUint16(a.b, uint16(len(key)))
	a.b = binary.BigEndian.AppendUint32(a.b, uint32(len(value)))
	a.b = append(append(a.b, key...), value...)
	return nil
}

func (a *arena) keyAt(i int) []byte {
	n := int(binary.BigEndian.Uint16(a.b[i:]))
	return a.b[i+sorterHeader:][:n]
}

// spill begins to write the arena as one run; the one before it is written then.
func (s *sorter) spill() (err error) {
	if err := s.spilled(); err != nil {
		return err
	}
	if s.file == nil {
		if s.file, err = namelessFile(s.dir); err != nil {
			return err
		}
	}
	end := int64(len(s.arena.b))
	if len(s.runs) > 0 {
		end += s.runs[len(s.runs)-1]
	}
	s.runs = append(s.runs, end)
	s.arena, s.spare = s.spare, s.arena
	s.arena.b, s.arena.at = s.arena.b[:0], s.arena.at[:0]
	done := make(chan error, 1)
	s.spilling = done
	full := s.spare // nobody else touches it until spilled
	go func() { done <- full.writeSorted(s.file) }()
	return nil
}

// spilled waits for the run that is being written.
func (s *sorter) spilled() (err error) {
	if s.spilling != nil {
		err = <-s.spilling
		s.spilling = nil
	}
	return err
}

func (a *arena) writeSorted(f *os.File) error {
	slices.SortFunc(a.at, func(x, y int) int { return bytes.Compare(a.keyAt(x), a.keyAt(y)) })
	w := bufio.NewWriterSize(f, 1<<20)
	for _, i := range a.at {
		n := sorterHeader + int(binary.BigEndian.Uint16(a.b[i:])) + int(binary.BigEndian.Uint32(a.b[i+2:]))
		_, _ = w.Write(a.b[i : i+n]) // kept by w for Flush
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("stage an import: %w", err)
	}
	return nil
}

// sorted ends the adding: what is left goes into a last run.
func (s *sorter) sorted() error {
	if len(s.arena.at) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	err := s.spilled()
	s.arena, s.spare = arena{}, arena{}
	return err
}

func (s *sorter) close() error {
	_ = s.spilled() // whoever wants to know has asked
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
