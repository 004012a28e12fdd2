package systemd

import (
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// listener takes entries in journald's place.
func listener(t *testing.T) (*net.UnixConn, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, path
}

func newLog(t *testing.T, path string, level slog.Level) *slog.Logger {
	t.Helper()
	j, err := NewJournal(path, level)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.conn.Close() })
	return slog.New(j)
}

// receive reads one entry, from the datagram or from the memfd that it carries.
func receive(t *testing.T, l *net.UnixConn) map[string]string {
	t.Helper()
	if err := l.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b, oob := make([]byte, 1<<20), make([]byte, 64)
	n, oobn, _, _, err := l.ReadMsgUnix(b, oob)
	if err != nil {
		t.Fatalf("no entry: %v", err)
	}
	if b = b[:n]; oobn > 0 {
		b = fromMemfd(t, oob[:oobn])
	}
	return decode(t, b)
}

func fromMemfd(t *testing.T, oob []byte) []byte {
	t.Helper()
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil || len(msgs) != 1 {
		t.Fatalf("control messages %v, %v, want one", msgs, err)
	}
	fds, err := syscall.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		t.Fatalf("descriptors %v, %v, want one", fds, err)
	}
	f := os.NewFile(uintptr(fds[0]), "memfd")
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.EPERM) {
		t.Errorf("a write to the memfd = %v, want EPERM: journald takes only sealed ones", err)
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decode reads an entry as journald does.
func decode(t *testing.T, b []byte) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for len(b) > 0 {
		line, rest, ok := strings.Cut(string(b), "\n")
		if !ok {
			t.Fatalf("no newline at the end of %q", line)
		}
		name, value, single := strings.Cut(line, "=")
		if !single {
			n := binary.LittleEndian.Uint64([]byte(rest))
			value, rest = rest[8:8+n], rest[8+n:]
			if rest[0] != '\n' {
				t.Fatalf("field %s has no newline behind it", name)
			}
			rest = rest[1:]
		}
		if _, twice := all[name]; twice {
			t.Errorf("field %s is there twice", name)
		}
		all[name], b = value, []byte(rest)
	}
	return all
}

func TestJournalEntry(t *testing.T) {
	l, path := listener(t)
	log := newLog(t, path, slog.LevelInfo)
	log.Debug("too fine")
	log.With("app", "chat").WithGroup("push").Warn("own bind is down", "smsc", "smsc-own", "stack", "a\nb=c\n", "took", 3*time.Second,
		slog.Group("deep", "er", 7), "err", errors.New("connect: refused"), "empty", "")
	want := map[string]string{
		"MESSAGE":    `own bind is down app=chat push.smsc=smsc-own push.stack="a\nb=c\n" push.took=3s push.deep.er=7 push.err="connect: refused" push.empty=""`,
		"MESSAGE_ID": messageIDs["own bind is down"], "PRIORITY": "4", "SYSLOG_IDENTIFIER": "shunt",
		"SHUNT_APP": "chat", "SHUNT_PUSH_SMSC": "smsc-own", "SHUNT_PUSH_STACK": "a\nb=c\n", "SHUNT_PUSH_TOOK": "3s",
		"SHUNT_PUSH_DEEP_ER": "7", "SHUNT_PUSH_ERR": "connect: refused", "SHUNT_PUSH_EMPTY": "",
	}
	if diff := cmp.Diff(want, receive(t, l)); diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
}

// The fields that INTERFACE promises come from the keys that the code uses.
func TestJournalFields(t *testing.T) {
	for key, want := range map[string]string{
		"msg_id": "SHUNT_MSG_ID", "id": "SHUNT_MSG_ID", "esme": "SHUNT_ESME", "smsc": "SHUNT_SMSC", "leg": "SHUNT_LEG",
		"verdict": "SHUNT_VERDICT", "reason": "SHUNT_REASON", "number": "SHUNT_NUMBER", "err": "SHUNT_ERROR", "error": "SHUNT_ERROR",
		"größe\n=": "SHUNT_GR____E__", strings.Repeat("k", 80): "SHUNT_" + strings.Repeat("K", 58),
	} {
		if got := fieldOf(key); got != want {
			t.Errorf("fieldOf(%q) = %q, want %q", key, got, want)
		}
	}
}

func TestJournalLargeEntry(t *testing.T) {
	l, path := listener(t)
	large := strings.Repeat("0123456789abcdef", 1<<20) // 16 MiB are in no datagram
	newLog(t, path, slog.LevelInfo).Error("app api panicked", "stack", large)
	if got := receive(t, l); got["SHUNT_STACK"] != large || got["PRIORITY"] != "3" {
		t.Errorf("a large entry has a stack of %d octets and priority %q, want %d and 3", len(got["SHUNT_STACK"]), got["PRIORITY"], len(large))
	}
}

// A journal that takes nothing costs lines, not time, and the lines are counted.
func TestJournalThatStandsStill(t *testing.T) {
	l, path := listener(t)
	log := newLog(t, path, slog.LevelInfo)
	lost := 0
	for began := time.Now(); lost == 0; {
		if time.Since(began) > 20*time.Second {
			t.Fatal("the socket takes everything")
		}
		var r slog.Record
		r.Message, r.Level = "filler", slog.LevelInfo
		if log.Handler().Handle(t.Context(), r) != nil {
			lost++
		}
	}
	if n := drain(l); n == 0 {
		t.Fatal("the socket holds nothing")
	}
	log.Info("after it")
	got := receive(t, l)
	if got["SHUNT_LINES"] != "1" || got["MESSAGE_ID"] != messageIDs[messageLost] {
		t.Errorf("first entry after a loss = %v, want the count of lost lines", got)
	}
	if got = receive(t, l); got["MESSAGE"] != "after it" {
		t.Errorf("then = %v, want the line itself", got)
	}
}

// drain empties the socket.
func drain(l *net.UnixConn) (n int) {
	b := make([]byte, 4096)
	for {
		_ = l.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := l.Read(b); err != nil {
			return n
		}
		n++
	}
}
