package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"shunt/store"
)

// The file is begun anew when it has grown, and the old one gets the number of its
// first line as its name. The chain goes on from file to file.
const (
	usualSize  = 16 << 20 // octets: some 25,000 lines
	pruneEvery = time.Hour

	actionRemove = "audit remove"
)

// oldName is that of a file whose first line has that number. Names sort as the
// lines do.
func oldName(first uint64) string { return fmt.Sprintf("audit-%012d.ndjson", first) }

// isOld tells whether a file is named so.
func isOld(name string) bool {
	digits, ok := strings.CutPrefix(strings.TrimSuffix(name, ".ndjson"), "audit-")
	return ok && strings.HasSuffix(name, ".ndjson") && len(digits) >= 12 && strings.Trim(digits, "0123456789") == ""
}

// files are those of the chain in dir, the oldest first.
func files(dir string) (all []string, err error) {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if isOld(e.Name()) {
			all = append(all, filepath.Join(dir, e.Name()))
		}
	}
	slices.SortStableFunc(all, func(a, b string) int { return len(a) - len(b) }) // more than twelve digits
	if path := filepath.Join(dir, FileName); slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == FileName }) {
		all = append(all, path)
	}
	return all, nil
}

// before is the end of the chain in the files before the current one; its number
// is 0 if there is none.
func (l *Log) before() (end Entry, err error) {
	end.Hash = Genesis
	all, err := files(l.dir)
	if err != nil {
		return end, err
	}
	all = slices.DeleteFunc(all, func(p string) bool { return p == l.path() })
	if len(all) == 0 {
		return end, nil
	}
	f, err := os.Open(all[len(all)-1])
	if err != nil {
		return end, err
	}
	defer f.Close()
	end, torn, err := readEnd(f)
	if err == nil && len(torn) > 0 {
		err = fmt.Errorf("%s does not end as an audit does", f.Name())
	}
	return end, err
}

// firstOf is the first line of a file.
func firstOf(f io.ReaderAt) (first Entry, err error) {
	err = each(io.NewSectionReader(f, 0, maxLine), func(line []byte, _ bool) error {
		if first, err = open(line); err == nil {
			err = io.EOF
		}
		return err
	})
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return first, err
}

// rotate gives the file another name and begins a new one. It is for who holds the
// turn, and the file is open and intact.
func (l *Log) rotate() error {
	first, err := firstOf(l.file)
	if err != nil {
		return err
	}
	l.names.Lock()
	defer l.names.Unlock()
	old := filepath.Join(l.dir, oldName(first.Seq))
	if _, err := os.Lstat(old); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%s is there already", old), err)
	}
	if err := os.Rename(l.path(), old); err != nil {
		return err
	}
	h := *l.head.Load()
	h.size = 0
	l.head.Store(&h)
	return errors.Join(l.drop(), store.SyncDir(l.dir)) // open makes the new one
}

// removalOf says in a line's detail that the lines up to one are gone.
func removalOf(last uint64, hash string) string {
	return fmt.Sprintf("lines up to %d, which has the hash %s", last, hash)
}

// prune removes the files whose last line is older than is to be kept, the oldest
// first, each after a line that says so.
func (l *Log) prune(now time.Time) error {
	if l.o.Keep <= 0 || l.Err() != nil {
		return nil
	}
	all, err := files(l.dir)
	if err != nil {
		return err
	}
	for _, path := range all {
		if !isOld(filepath.Base(path)) {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		end, _, err := readEnd(f)
		_ = f.Close()
		if err != nil {
			return err
		}
		if now.Sub(end.At) < l.o.Keep {
			return nil
		}
		e := Entry{UID: os.Getuid(), User: gateway, PID: os.Getpid(), Action: actionRemove, Detail: removalOf(end.Seq, end.Hash), Result: Done}
		if _, err := l.append(e, patience); err != nil {
			return err
		}
		l.names.Lock()
		err = errors.Join(os.Remove(path), store.SyncDir(l.dir))
		l.names.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// pruneNow is prune with its failure in the log.
func (l *Log) pruneNow() {
	if err := l.prune(time.Now()); err != nil {
		l.log.Warn("audit: old lines cannot be removed; it is tried again", "error", err)
	}
}

// readers opens what this log has written so far, the oldest file first.
func (l *Log) readers() (all []part, h head, err error) {
	l.names.RLock()
	defer l.names.RUnlock()
	p := l.head.Load()
	if p == nil {
		return nil, head{}, l.Err()
	}
	paths, err := files(l.dir)
	if err != nil {
		return nil, head{}, err
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			closeAll(all)
			return nil, head{}, err
		}
		one := part{f, f, filepath.Base(path)}
		if path == l.path() {
			one.Reader = io.LimitReader(f, p.size)
		}
		all = append(all, one)
	}
	return all, *p, nil
}

// part is one file of the chain.
type part struct {
	io.Reader
	f    *os.File
	name string
}

func closeAll(all []part) {
	for _, p := range all {
		_ = p.f.Close()
	}
}

// Run tries again while nothing can be recorded, with a line that says what was
// the matter, and removes what is too old, until ctx is done.
func (l *Log) Run(ctx context.Context) {
	retry, prune := time.NewTicker(retryEvery), time.NewTicker(pruneEvery)
	defer retry.Stop()
	defer prune.Stop()
	l.pruneNow()
	for {
		select {
		case <-retry.C:
			l.retry()
		case <-prune.C:
			l.pruneNow()
		case <-ctx.Done():
			return
		}
	}
}
