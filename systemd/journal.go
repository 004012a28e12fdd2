package systemd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// JournalSocket is where journald takes entries of its native protocol.
const JournalSocket = "/run/systemd/journal/socket"

// journalPatience is how long a line may wait for journald: a journal that
// stands still must not hold up a session.
const journalPatience = 50 * time.Millisecond

// Journal is an slog.Handler that writes entries of the journal's native
// protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL). An attribute becomes a
// field, see fieldOf; MESSAGE is the message and its attributes as text; a
// message of Messages has its MESSAGE_ID. What journald does not take in time is
// dropped, and counted in a line of its own as soon as it does.
//
// Records of one handler may come from many goroutines.
type Journal struct {
	*sink
	level  slog.Leveler
	prefix string // of the keys: open groups, each with a dot
	text   string // of the attributes so far
	fields []byte // the same, encoded
}

// sink is the socket that all handlers of one journal share.
type sink struct {
	conn *net.UnixConn
	to   *net.UnixAddr
	lost atomic.Uint64
}

// NewJournal writes to the socket at path, which need not be there yet.
func NewJournal(path string, level slog.Leveler) (*Journal, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	_ = conn.SetWriteBuffer(8 << 20) // as much as there may be: larger entries go by memfd
	return &Journal{sink: &sink{conn: conn, to: &net.UnixAddr{Name: path, Net: "unixgram"}}, level: level}, nil
}

// Enabled implements slog.Handler.
func (j *Journal) Enabled(_ context.Context, l slog.Level) bool { return l >= j.level.Level() }

// WithAttrs implements slog.Handler.
func (j *Journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	e := entry{fields: append([]byte(nil), j.fields...)}
	e.text.WriteString(j.text)
	for _, a := range attrs {
		e.attr(j.prefix, a)
	}
	n := *j
	n.fields, n.text = e.fields, e.text.String()
	return &n
}

// WithGroup implements slog.Handler.
func (j *Journal) WithGroup(name string) slog.Handler {
	n := *j
	if name != "" {
		n.prefix += name + "."
	}
	return &n
}

// Handle implements slog.Handler.
func (j *Journal) Handle(_ context.Context, r slog.Record) error {
	if n := j.lost.Swap(0); n > 0 {
		left := slog.NewRecord(time.Now(), slog.LevelWarn, messageLost, 0)
		left.AddAttrs(slog.Uint64("lines", n))
		if err := j.write(left, "", nil); err != nil {
			j.lost.Add(n)
		}
	}
	err := j.write(r, j.text, j.fields)
	if err != nil {
		j.lost.Add(1)
	}
	return err
}

func (j *Journal) write(r slog.Record, text string, fields []byte) error {
	e := entries.Get().(*entry)
	defer e.free()
	e.text.WriteString(r.Message)
	e.text.WriteString(text)
	e.fields = append(e.fields, fields...)
	r.Attrs(func(a slog.Attr) bool {
		e.attr(j.prefix, a)
		return true
	})
	e.field("MESSAGE", e.text.String())
	e.field("PRIORITY", priority(r.Level))
	e.field("SYSLOG_IDENTIFIER", "shunt")
	if id, ok := messageIDs[r.Message]; ok {
		e.field("MESSAGE_ID", id)
	}
	return j.send(e.fields)
}

// priority is the level as syslog has it (RFC 5424 §6.2.1).
func priority(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "3"
	case l >= slog.LevelWarn:
		return "4"
	case l >= slog.LevelInfo:
		return "6"
	}
	return "7"
}

// send hands an entry over: in a datagram, or what is too large for one as a
// sealed memfd.
func (s *sink) send(b []byte) error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(journalPatience)) // an open socket takes one
	_, _, err := s.conn.WriteMsgUnix(b, nil, s.to)
	if !errors.Is(err, syscall.EMSGSIZE) && !errors.Is(err, syscall.ENOBUFS) {
		return err
	}
	f, err := sealed(b)
	if err != nil {
		return err
	}
	defer f.Close()
	_, _, err = s.conn.WriteMsgUnix(nil, syscall.UnixRights(int(f.Fd())), s.to)
	return err
}

// sealed is a file in memory that nobody can change any more.
func sealed(b []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("shunt-journal", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "shunt-journal")
	if _, err = f.Write(b); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("memfd: %w", err)
	}
	return f, nil
}

// entry is one in the making.
type entry struct {
	text   strings.Builder
	fields []byte
}

var entries = sync.Pool{New: func() any { return new(entry) }}

func (e *entry) free() {
	e.text.Reset()
	if e.fields = e.fields[:0]; cap(e.fields) <= 64<<10 {
		entries.Put(e)
	}
}

// attr adds an attribute to the text and to the fields.
func (e *entry) attr(prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, sub := range v.Group() {
			e.attr(prefix, sub)
		}
		return
	}
	if a.Equal(slog.Attr{}) {
		return
	}
	text := v.String()
	if v.Kind() == slog.KindTime {
		text = v.Time().Format(time.RFC3339Nano)
	}
	key := prefix + a.Key
	e.text.WriteString(" " + key + "=")
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == '"' || r == '=' || r == 0x7F }) {
		e.text.WriteString(strconv.Quote(text))
	} else {
		e.text.WriteString(text)
	}
	e.field(fieldOf(key), text)
}

// field appends one field: NAME=value and a newline, or, for a value with a
// newline in it, the name, a newline, the value's length in 8 octets with the
// least first, the value, and a newline.
func (e *entry) field(name, value string) {
	if strings.Contains(value, "\n") {
		e.fields = append(append(e.fields, name...), '\n')
		e.fields = binary.LittleEndian.AppendUint64(e.fields, uint64(len(value)))
	} else {
		e.fields = append(append(e.fields, name...), '=')
	}
	e.fields = append(append(e.fields, value...), '\n')
}

// known are the fields whose names differ from their keys'.
var known = map[string]string{"id": "SHUNT_MSG_ID", "err": "SHUNT_ERROR"}

// fieldOf is an attribute's field: SHUNT_ and the key in capitals. The journal
// takes A to Z, 0 to 9 and the underscore, 64 characters at most.
func fieldOf(key string) string {
	if f, ok := known[key]; ok {
		return f
	}
	b := []byte("SHUNT_" + strings.ToUpper(key))
	for i, c := range b {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			b[i] = '_'
		}
	}
	return string(b[:min(len(b), 64)])
}
