package push

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	fileEvery   = 5 * time.Second // a file in use is read again this often, as long as there are pushes
	fileRefused = time.Second     // and this often while the provider refuses what is in it
)

// File is a secret on disk that may be replaced while it is in use. Its
// content is compared, not its times: an editor, a mounted secret that is
// swapped and a copy that keeps the time of the original all look alike.
//
// Poll is safe for concurrent use. What a File logs names the file and the
// reason, never its content.
type File struct {
	name, path string // name is the configuration's key
	limit      int64  // octets
	log        *slog.Logger
	every      time.Duration

	next atomic.Int64 // unix nanoseconds: the next look

	mu      sync.Mutex
	seen    [sha256.Size]byte // the last content, fit or not
	failed  string            // why the file could not be read when it last was looked at
	refused time.Time         // the last look that a refusal caused
}

// OpenFile reads a file and gives its content to use. Errors name the key, the
// file and the reason.
func OpenFile(name, path string, limit int64, log *slog.Logger, use func(content []byte) error) (*File, error) {
	f := &File{name: name, path: path, limit: limit, log: log, every: fileEvery}
	b, err := f.read()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := use(b); err != nil {
		return nil, f.unfit(err)
	}
	f.seen = sha256.Sum256(b)
	f.next.Store(time.Now().Add(f.every).UnixNano())
	return f, nil
}

func (f *File) unfit(err error) error { return fmt.Errorf("%s %s: %w", f.name, f.path, err) }

// Poll reads the file again if it is time to, or if the provider refused what
// is in it, and gives a content that has changed to use. A file that cannot be
// read or that use refuses changes nothing and is logged once. When Poll
// returns after a refusal, a look that another goroutine began is over too.
func (f *File) Poll(now time.Time, refused bool, use func(content []byte) error) {
	if !refused {
		next := f.next.Load()
		if now.UnixNano() < next || !f.next.CompareAndSwap(next, now.Add(f.every).UnixNano()) {
			return
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if refused {
		if !f.refused.IsZero() && now.Sub(f.refused) < fileRefused {
			return
		}
		f.refused = now
	}
	b, err := f.read()
	if err != nil {
		if err.Error() != f.failed {
			f.log.Error("secret file cannot be read again, the old content stays in use", "key", f.name, "err", err)
		}
		f.failed = err.Error()
		return
	}
	f.failed = ""
	sum := sha256.Sum256(b)
	if sum == f.seen {
		return
	}
	f.seen = sum
	if err := use(b); err != nil {
		f.log.Error("secret file has changed and is unfit, the old content stays in use", "key", f.name, "err", f.unfit(err))
	}
}

func (f *File) read() ([]byte, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	b, err := io.ReadAll(io.LimitReader(file, f.limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > f.limit {
		return nil, fmt.Errorf("%s: longer than %d octets", f.path, f.limit)
	}
	return b, nil
}
