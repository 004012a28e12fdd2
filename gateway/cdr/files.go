package cdr

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"shunt/store"
)

// files are the files of one directory. A name has the number of the first
// message's line that may be in the file, and when it was begun, so that names
// sort as the lines were written.
type files struct {
	dir               string
	maxSize           int64
	maxAge, retention time.Duration

	cur   *os.File
	size  int64
	begun time.Time
}

const (
	prefix     = "cdr-"
	suffix     = ".jsonl"
	timeFormat = "20060102T150405Z"
)

func fileName(first uint64, t time.Time) string {
	return fmt.Sprintf("%s%020d-%s%s", prefix, first, t.UTC().Format(timeFormat), suffix)
}

// Files are the names of the files in dir, in the order of their lines.
func Files(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if n := e.Name(); e.Type().IsRegular() && strings.HasPrefix(n, prefix) && strings.HasSuffix(n, suffix) {
			names = append(names, filepath.Join(dir, n))
		}
	}
	return names, nil
}

// recover opens the last file, cuts what is no whole line off its end, and finds
// the last number in all files.
func (f *files) recover() (last uint64, err error) {
	if err := os.MkdirAll(f.dir, 0o750); err != nil {
		return 0, err
	}
	if err := store.SyncDir(filepath.Dir(f.dir)); err != nil {
		return 0, err
	}
	names, err := Files(f.dir)
	if err != nil || len(names) == 0 {
		return 0, err
	}
	newest := names[len(names)-1]
	if err := f.reopen(newest); err != nil {
		return 0, fmt.Errorf("%s: %w", newest, err)
	}
	for i := len(names) - 1; i >= 0; i-- {
		seq, err := lastSeq(names[i])
		if err != nil {
			return 0, fmt.Errorf("%s: %w", names[i], err)
		}
		if seq > 0 {
			return seq, nil
		}
	}
	return firstOf(newest) - 1, nil // what went before is past its retention
}

// firstOf is the number in a file's name; 1 where there is none.
func firstOf(name string) uint64 {
	digits, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(name), prefix), "-")
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 1
	}
	return max(n, 1)
}

func (f *files) reopen(name string) error {
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	whole, size, err := wholeLines(file)
	if err == nil && whole < size { // else its time would be that of the start
		err = file.Truncate(whole)
	}
	if err == nil {
		_, err = file.Seek(whole, io.SeekStart)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.cur, f.size = file, whole
	at := strings.TrimSuffix(filepath.Base(name), suffix)
	f.begun, _ = time.Parse(timeFormat, at[strings.LastIndexByte(at, '-')+1:]) // else old: the next line begins a new one
	return nil
}

// tail reads a file backwards in pieces of this many octets.
const tail = 64 << 10

// wholeLines is the length of a file up to its last line feed, and all of it.
func wholeLines(r io.ReadSeeker) (whole, size int64, err error) {
	end, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, 0, err
	}
	size = end
	buf := make([]byte, tail)
	for end > 0 {
		n := min(end, tail)
		if _, err := r.Seek(end-n, io.SeekStart); err != nil {
			return 0, 0, err
		}
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			return 0, 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return end - n + int64(i) + 1, size, nil
		}
		end -= n
	}
	return 0, size, nil
}

// lastSeq is the number of the last message's line in a file; 0: it has none.
func lastSeq(name string) (uint64, error) {
	b, err := os.ReadFile(name) // a file is bounded by its size
	if err != nil {
		return 0, err
	}
	for len(b) > 0 {
		b = bytes.TrimSuffix(b, []byte("\n"))
		i := bytes.LastIndexByte(b, '\n')
		var l struct {
			Seq uint64 `json:"seq"`
		}
		if json.Unmarshal(b[i+1:], &l) == nil && l.Seq > 0 {
			return l.Seq, nil
		}
		b = b[:i+1]
	}
	return 0, nil
}

// write appends whole lines and returns once they are on stable storage. first
// is the number of the first message's line that may be among them. What a write
// that failed has left is cut off.
func (f *files) write(lines []byte, first uint64, now time.Time) error {
	switch {
	case f.cur == nil:
	case f.size >= f.maxSize, now.Sub(f.begun) >= f.maxAge, now.Before(f.begun):
		f.close()
		f.expire(now, "")
	case !f.there():
		f.close()
	}
	if f.cur == nil {
		if err := f.begin(first, now); err != nil {
			return err
		}
	}
	_, err := f.cur.Write(lines)
	if err == nil {
		err = f.cur.Sync()
	}
	if err != nil {
		return errors.Join(err, f.cut())
	}
	f.size += int64(len(lines))
	return nil
}

// there tells whether the file still has its name: what is written to one that
// was removed is lost, and one that was taken away may be somebody else's.
func (f *files) there() bool {
	cur, err := f.cur.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(f.cur.Name())
	return err == nil && os.SameFile(cur, named)
}

// cut takes back what was written since the last success. If that fails too, the
// file is left alone: the next one is begun, and the half line is no line.
func (f *files) cut() error {
	err := f.cur.Truncate(f.size)
	if err == nil {
		_, err = f.cur.Seek(f.size, io.SeekStart)
	}
	if err != nil {
		f.close()
	}
	return err
}

// begin begins a file. One of that name is there if the last one was closed
// within the second: its lines go on.
func (f *files) begin(first uint64, now time.Time) error {
	name := filepath.Join(f.dir, fileName(first, now))
	err := f.reopen(name)
	if errors.Is(err, fs.ErrNotExist) {
		if f.cur, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640); err != nil {
			f.cur = nil
			return err
		}
		f.size, f.begun = 0, now
	}
	if err != nil {
		return err
	}
	if err = store.SyncDir(f.dir); err != nil {
		f.close()
	}
	return err
}

func (f *files) close() {
	if f.cur != nil {
		_ = f.cur.Close() // every write of it was synced
		f.cur = nil
	}
}

// expire removes files that nothing was written to for the retention, but for
// one.
func (f *files) expire(now time.Time, but string) {
	names, err := Files(f.dir)
	if err != nil {
		return
	}
	for _, n := range names {
		if st, err := os.Stat(n); err == nil && n != but && now.Sub(st.ModTime()) > f.retention {
			_ = os.Remove(n) // the next time tries again
		}
	}
}

// age is for a node on which nothing ends: once its newest file is past its
// retention, an empty one with the next number takes its place.
func (f *files) age(next uint64, now time.Time) {
	names, err := Files(f.dir)
	if err != nil || len(names) == 0 {
		return
	}
	newest := names[len(names)-1]
	st, err := os.Stat(newest)
	if err == nil && st.Size() > 0 && now.Sub(st.ModTime()) > f.retention {
		f.close()
		if f.begin(next, now) != nil {
			return // the next minute tries again
		}
		newest = f.cur.Name()
	}
	f.expire(now, newest)
}
