package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"shunt/store"
)

// How long an action waits for its line to be on the disk. One that makes things
// safe does not wait for a disk that stands still, and goes on without.
const (
	patience     = 5 * time.Second
	safePatience = time.Second
	retryEvery   = 10 * time.Second
)

// Log appends to an audit. It is safe for concurrent use: whoever holds the turn
// owns the file and its end. While the file cannot be written each action tries
// again, so that it needs no restart once the disk is well.
type Log struct {
	dir  string
	o    Options
	log  *slog.Logger
	turn chan struct{}
	head atomic.Pointer[head]
	err  atomic.Pointer[error] // why the last line could not be written

	queued sync.Mutex
	queue  []*job // lines that wait for a turn; whoever has it takes all of them

	names sync.RWMutex // of the files: held while one gets another name or goes, and while they are opened to be read

	// For who holds the turn.
	file  *os.File          // nil: to be opened
	doubt map[string]uint64 // hash → number of lines that may be on disk though the disk said that they are not
}

// job is a line on its way.
type job struct {
	e    Entry
	done chan written // holds one
}

type written struct {
	e   Entry
	err error
}

// maxTogether is how many lines share an fsync.
const maxTogether = 256

// head is the end of the chain.
type head struct {
	seq  uint64
	hash string
	size int64 // of the file, up to there
}

var (
	errSlow = errors.New("the disk does not answer")

	// ErrChanged says that the file is not as it was left.
	ErrChanged = errors.New("audit.ndjson was changed by somebody else")
)

// Options of a Log.
type Options struct {
	Size int64         // octets after which a new file is begun; 0: 16 MiB
	Keep time.Duration // how long lines are kept, by whole files; 0: for ever
}

// Open checks the end of the chain in dir/audit.ndjson and makes what is not
// there. A log that cannot be written is one that refuses: see Err.
func Open(dir string, o Options, log *slog.Logger) *Log {
	if o.Size <= 0 {
		o.Size = usualSize
	}
	l := &Log{dir: dir, o: o, log: log, turn: make(chan struct{}, 1)}
	l.note(l.open())
	return l
}

// Close lets go of the file.
func (l *Log) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), safePatience)
	defer cancel()
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return errSlow
	}
	defer func() { <-l.turn }()
	return l.drop()
}

// Err is why actions are not recorded; nil while they are.
func (l *Log) Err() error {
	if p := l.err.Load(); p != nil {
		return *p
	}
	return nil
}

func (l *Log) note(err error) {
	if err == nil {
		if l.err.Swap(nil) != nil {
			l.log.Info("audit is written again")
		}
		return
	}
	if l.err.Swap(&err) == nil {
		l.log.Error("audit cannot be written; operators' actions are refused but for divert off and drain", "error", err)
	}
}

func (l *Log) path() string { return filepath.Join(l.dir, FileName) }

// open opens the file and finds the end of the chain. A line that a crash has
// torn is set aside, and a line says so. It is for who holds the turn.
func (l *Log) open() (err error) {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	made := false
	f, err := os.OpenFile(l.path(), os.O_RDWR|os.O_APPEND|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if h := l.head.Load(); h != nil && h.seq > 0 && h.size > 0 { // of size 0: it was given another name
			return fmt.Errorf("%w: it is gone, and ended with line %d, hash %s", ErrChanged, h.seq, h.hash)
		}
		made = true
		f, err = os.OpenFile(l.path(), os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("another process writes %s: %w", l.path(), err)
	}
	if made {
		if err := l.settle(f); err != nil {
			return err
		}
	}
	end, torn, err := readEnd(f)
	if err == nil && end.Seq == 0 { // nothing yet: the chain goes on from the file before
		end, err = l.before()
	}
	if err != nil {
		return err
	}
	if known := l.head.Load(); known != nil && (end.Seq != known.seq || end.Hash != known.hash) &&
		!l.doubtful(&end) {
		return fmt.Errorf("%w: it ends with line %d, want line %d, hash %s", ErrChanged, end.Seq, known.seq, known.hash)
	}
	name := ""
	if len(torn) > 0 {
		if name, err = l.setAside(f, torn); err != nil {
			return fmt.Errorf("set a torn line aside: %w", err)
		}
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	l.file = f
	l.head.Store(&head{end.Seq, end.Hash, st.Size()})
	if name != "" {
		l.log.Warn("audit: a torn line was set aside", "file", name, "octets", len(torn))
		_, err := l.write(Entry{
			At: time.Now().UTC(), UID: os.Getuid(), User: gateway, PID: os.Getpid(), Action: "audit repair",
			Detail: fmt.Sprintf("%d octets of a line that was never whole are in %s", len(torn), name), Result: Done,
		})
		return err
	}
	return nil
}

// doubtful tells whether a line is one that was on disk when the disk said that it
// was not.
func (l *Log) doubtful(e *Entry) bool {
	seq, ok := l.doubt[e.Hash]
	return ok && seq == e.Seq
}

// settle has a new file outlive a crash, and belong to the owner of the data
// directory: an operator's command may make it as root.
func (l *Log) settle(f *os.File) error {
	st, err := os.Stat(filepath.Dir(l.dir))
	if err != nil {
		return err
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		if err := errors.Join(os.Chown(l.dir, int(sys.Uid), int(sys.Gid)), f.Chown(int(sys.Uid), int(sys.Gid))); err != nil {
			return err
		}
	}
	return errors.Join(f.Sync(), store.SyncDir(l.dir), store.SyncDir(filepath.Dir(l.dir)))
}

// readEnd finds the last whole line, and what is behind it.
func readEnd(f *os.File) (end Entry, torn []byte, err error) {
	end.Hash = Genesis
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return end, nil, err
	}
	b := make([]byte, min(st.Size(), 2*maxLine))
	if _, err := f.ReadAt(b, st.Size()-int64(len(b))); err != nil {
		return end, nil, err
	}
	at := bytes.LastIndexByte(b, '\n')
	torn = b[at+1:]
	if at < 0 {
		if int64(len(b)) < st.Size() {
			return end, nil, fmt.Errorf("%s does not end as an audit does: move it away, and see what wrote to it", f.Name())
		}
		return end, torn, nil
	}
	line := b[bytes.LastIndexByte(b[:at], '\n')+1 : at]
	if end, err = open(line); err != nil {
		return end, nil, fmt.Errorf("the last whole line of %s is broken: %w. shunt audit verify tells more; to begin a new chain, move the file away", f.Name(), err)
	}
	return end, torn, nil
}

// setAside moves a torn line to a file of its own.
func (l *Log) setAside(f *os.File, torn []byte) (name string, err error) {
	name = "torn-" + time.Now().UTC().Format("20060102T150405.000000000Z")
	q, err := os.OpenFile(filepath.Join(l.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = q.Write(torn)
	if err = errors.Join(err, q.Sync(), q.Close()); err == nil {
		err = store.SyncDir(l.dir)
	}
	if err != nil {
		return "", err
	}
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	return name, errors.Join(f.Truncate(st.Size()-int64(len(torn))), f.Sync())
}

// drop closes the file, which is opened anew for the next line.
func (l *Log) drop() error {
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// intact tells whether the file is what this log has written.
func (l *Log) intact() bool {
	own, err1 := l.file.Stat()
	now, err2 := os.Lstat(l.path())
	return errors.Join(err1, err2) == nil && os.SameFile(own, now) && own.Size() == l.head.Load().size
}

// write puts lines on stable storage, with one fsync, and logs their hashes. It
// is for who holds the turn.
func (l *Log) write(all ...Entry) ([]Entry, error) {
	if l.file != nil && !l.intact() {
		_ = l.drop() // nothing of ours is lost: each line is synced
	}
	if l.file == nil {
		if err := l.open(); err != nil {
			return all, err
		}
	}
	if h := l.head.Load(); h.size >= l.o.Size {
		if err := l.rotate(); err != nil {
			l.log.Warn("audit: a new file cannot be begun, the old one goes on", "error", err)
		}
		if l.file == nil {
			if err := l.open(); err != nil {
				return all, err
			}
		}
	}
	h := *l.head.Load()
	start := h.size
	var lines []byte
	for i := range all {
		e := &all[i]
		e.Seq, e.Prev = h.seq+1, h.hash
		line, err := seal(e)
		if err != nil {
			return all, err
		}
		lines = append(lines, line...)
		h = head{e.Seq, e.Hash, h.size + int64(len(line))}
	}
	_, err := l.file.Write(lines)
	if err != nil {
		_ = l.file.Truncate(start) // a part of it that stays is set aside
	} else {
		err = l.file.Sync()
	}
	if err != nil {
		if l.doubt == nil {
			l.doubt = make(map[string]uint64)
		}
		for i := range all {
			l.doubt[all[i].Hash] = all[i].Seq
		}
		_ = l.drop() // what is there of the lines is judged when it is opened again
		return all, err
	}
	clear(l.doubt)
	l.head.Store(&h)
	for i := range all {
		e := &all[i]
		l.log.Info("operator action", "action", e.Action, "detail", e.Detail, "result", e.Result, "of", e.Of,
			"uid", e.UID, "user", e.User, "pid", e.PID, "seq", e.Seq, "hash", e.Hash)
	}
	return all, nil
}

// together writes what is queued. It is for who holds the turn.
func (l *Log) together() {
	l.queued.Lock()
	n := min(len(l.queue), maxTogether)
	jobs := l.queue[:n:n]
	l.queue = l.queue[n:]
	l.queued.Unlock()
	if n == 0 {
		return // somebody else has taken it along
	}
	all := make([]Entry, n)
	for i, j := range jobs {
		all[i] = j.e
	}
	all, err := l.write(all...)
	l.note(err)
	for i, j := range jobs {
		j.done <- written{all[i], err}
	}
}

// append waits for the turn and for the disk, and for neither longer than that.
func (l *Log) append(e Entry, within time.Duration) (Entry, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	e.At = time.Now().UTC()
	e.Action, e.User = cut(e.Action, maxWord), cut(e.User, maxWord)
	e.Detail, e.Result = cut(e.Detail, maxDetail), cut(e.Result, maxDetail)
	j := &job{e, make(chan written, 1)}
	l.queued.Lock()
	l.queue = append(l.queue, j)
	l.queued.Unlock()
	for {
		select {
		case w := <-j.done:
			return w.e, w.err
		case l.turn <- struct{}{}:
			go func() { // it ends when the disk answers
				defer func() { <-l.turn }()
				l.together()
			}()
		case <-ctx.Done():
			l.queued.Lock()
			l.queue = slices.DeleteFunc(l.queue, func(o *job) bool { return o == j })
			l.queued.Unlock()
			l.note(errSlow)
			return e, errSlow
		}
	}
}

func (l *Log) retry() {
	if err := l.Err(); err != nil {
		_, _ = l.append(Entry{UID: os.Getuid(), User: gateway, PID: os.Getpid(), Action: "audit resumed", Detail: err.Error(), Result: Done}, patience)
	}
}

// gateway is the user of lines that are nobody's action.
const gateway = "(gateway)"

// Note records in one line what was over before it began, such as a refusal.
func (l *Log) Note(a Actor, action, detail, result string) error {
	_, err := l.append(Entry{UID: a.UID, User: a.User, PID: a.PID, Action: action, Detail: detail, Result: result}, patience)
	return err
}

// Action is one that has begun. It belongs to one goroutine.
type Action struct {
	l    *Log
	e    Entry
	safe bool
}

// Begin records that an action begins: only then it may. One that is safe gets
// an Action and no error even where nothing can be recorded.
func (l *Log) Begin(a Actor, action, detail string, safe bool) (*Action, error) {
	within := patience
	if safe {
		within = safePatience
	}
	e, err := l.append(Entry{UID: a.UID, User: a.User, PID: a.PID, Action: action, Detail: detail, Result: Begun}, within)
	if err != nil && !safe {
		return nil, fmt.Errorf("the audit cannot be written (%w)", err)
	}
	if err != nil {
		e.Seq = 0
	}
	return &Action{l, e, safe}, nil
}

// End records what came of it. detail, if any, goes in the place of the one that
// it began with.
func (a *Action) End(detail, result string) {
	e, within := a.e, patience
	e.Of, e.Result = a.e.Seq, result
	if detail != "" {
		e.Detail = detail
	}
	if a.safe {
		within = safePatience
	}
	if _, err := a.l.append(e, within); err != nil {
		a.l.log.Error("audit cannot be written, and this was done all the same", "action", e.Action, "detail", e.Detail,
			"result", result, "uid", e.UID, "user", e.User, "pid", e.PID, "error", err)
	}
}

// Verify reads the whole chain, whose end this log knows.
func (l *Log) Verify() (Report, error) {
	all, h, err := l.readers()
	if err != nil {
		return Report{}, err
	}
	defer closeAll(all)
	v := newVerifier()
	last, first := FileName, FileName
	for i, p := range all {
		if last = p.name; i == 0 {
			first = p.name
		}
		if err := v.file(p.name, p); errors.Is(err, errBroken) {
			return v.end(first, false), nil
		} else if err != nil {
			return v.rep, err
		}
	}
	rep := v.end(first, false)
	if rep.Sound && (rep.Seq != h.seq || rep.Hash != h.hash) {
		rep.Sound, rep.Broken, rep.File = false, rep.Lines+1, last
		rep.Why = fmt.Sprintf("the chain ends here, and line %d with the hash %s was written: its end was cut off or written anew", h.seq, h.hash)
	}
	return rep, nil
}

// Last are the last n lines, the oldest first. Lines that cannot be read are
// left out: Verify tells of them.
func (l *Log) Last(n int) ([]Entry, error) {
	parts, _, err := l.readers()
	if err != nil {
		return nil, err
	}
	defer closeAll(parts)
	all := []Entry{}
	for i := len(parts) - 1; i >= 0 && len(all) < n; i-- {
		some, err := lastOf(parts[i], n-len(all))
		if err != nil {
			return nil, err
		}
		all = append(some, all...)
	}
	return all, nil
}

func lastOf(r io.Reader, n int) ([]Entry, error) {
	all := []Entry{}
	err := each(r, func(line []byte, whole bool) error {
		if e, err := open(line); err == nil && whole {
			all = append(all, e)
			if len(all) >= 2*n {
				all = append(all[:0], all[len(all)-n:]...)
			}
		}
		return nil
	})
	return all[max(0, len(all)-n):], err
}
