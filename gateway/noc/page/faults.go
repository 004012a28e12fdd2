package page

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"shunt/gateway/msg"
)

// Faults is a log handler that passes everything on and keeps the last warnings
// and errors, with those attributes alone that can hold no text, token or
// number. Handlers made of it keep theirs in the same place.
type Faults struct {
	next  slog.Handler
	kept  *ring
	attrs string
	group bool // attributes are inside of a group, which nobody vouches for
}

const maxFaults = 50

type ring struct {
	mu   sync.Mutex
	last []Fault // the newest at the end
}

// Fault is a line of the log. The same line again only counts.
type Fault struct {
	At      time.Time
	Level   slog.Level
	Message string
	Attrs   string // key=value, those that may be shown
	Times   int
}

// NewFaults makes one in front of next.
func NewFaults(next slog.Handler) *Faults { return &Faults{next: next, kept: &ring{}} }

// Last are those that are kept, the newest first.
func (f *Faults) Last() []Fault {
	f.kept.mu.Lock()
	defer f.kept.mu.Unlock()
	all := slices.Clone(f.kept.last)
	slices.Reverse(all)
	return all
}

// Enabled implements slog.Handler: what is kept does not depend on what is
// logged.
func (f *Faults) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn || f.next.Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (f *Faults) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		f.kept.add(f.fault(&r))
	}
	if !f.next.Enabled(ctx, r.Level) {
		return nil
	}
	return f.next.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (f *Faults) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *f
	n.next = f.next.WithAttrs(attrs)
	for _, a := range attrs {
		n.attrs = n.add(n.attrs, a)
	}
	return &n
}

// WithGroup implements slog.Handler.
func (f *Faults) WithGroup(name string) slog.Handler {
	n := *f
	n.next, n.group = f.next.WithGroup(name), f.group || name != ""
	return &n
}

func (f *Faults) fault(r *slog.Record) Fault {
	x := Fault{At: r.Time, Level: r.Level, Message: safeText(r.Message), Attrs: f.attrs, Times: 1}
	if m, _, formatted := strings.Cut(r.Message, "badger: "); formatted && m == "" {
		x.Message = "badger: see the log" // what it says is no constant, and may quote keys
	}
	r.Attrs(func(a slog.Attr) bool {
		x.Attrs = f.add(x.Attrs, a)
		return true
	})
	return x
}

func (r *ring) add(x Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.last {
		y := &r.last[i]
		if y.Level == x.Level && y.Message == x.Message && y.Attrs == x.Attrs {
			x.Times += y.Times
			r.last = slices.Delete(r.last, i, i+1)
			break
		}
	}
	if len(r.last) == maxFaults {
		r.last = slices.Delete(r.last, 0, 1)
	}
	r.last = append(r.last, x)
}

// safeKeys are those whose values are names, counts and times. What names a
// message or counts up is not among them: such lines would not be the same
// line again, and the log has it.
var safeKeys = map[string]bool{
	"addr": true, "alarm": true, "app": true, "bind": true, "call": true, "code": true, "command": true, "component": true,
	"drain": true, "durable": true, "esme": true, "event": true, "feed": true, "free_percent": true, "kind": true,
	"leg": true, "listen": true, "loop": true, "max_binds": true, "mode": true, "peer": true, "platform": true, "provider": true,
	"reason": true, "route": true, "smsc": true, "source": true, "state": true, "status": true,
}

const maxAttrs = 200 // octets

func (f *Faults) add(to string, a slog.Attr) string {
	v := a.Value.Resolve()
	text := ""
	switch err, isErr := v.Any().(error); {
	case f.group:
	case isErr && (a.Key == "error" || a.Key == "err"):
		text = cause(err)
	case safeKeys[a.Key] && v.Kind() != slog.KindGroup:
		text = safeText(v.String())
	}
	if text == "" || len(to)+len(text) > maxAttrs {
		return to
	}
	if to != "" {
		to += " "
	}
	return to + a.Key + "=" + text
}

// cause is an error by its kind; its text may quote anything.
func cause(err error) string {
	var errno syscall.Errno
	var dns *net.DNSError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case errors.As(err, &dns):
		return "no such host"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timed out"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, net.ErrClosed):
		return "connection closed"
	}
	if status := esme.FindString(err.Error()); status != "" {
		return status
	}
	return "see the log"
}

var (
	esme   = regexp.MustCompile(`\bESME_R[A-Z]{2,20}\b`) // a command_status (SMPP v3.4 §5.1.3)
	digits = regexp.MustCompile(`\+?[0-9]{7,}`)
	tokens = regexp.MustCompile(`[0-9A-Za-z_\-]{25,}`)
)

// safeText bounds a text and takes out of it what could be a number or a token,
// whatever key it came under.
func safeText(s string) string {
	const most = 160
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	s = tokens.ReplaceAllString(s, "•••")
	s = digits.ReplaceAllStringFunc(s, func(n string) string {
		if m := msg.Mask(n); m != n {
			return m
		}
		return "•••"
	})
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 {
			return ' '
		}
		return c
	}, s)
}

func (x *Fault) row() Row {
	mark, level := "warn", "warning"
	if x.Level >= slog.LevelError {
		mark, level = "bad", "error"
	}
	return Row{mark, []string{stamp(x.At), level, x.Message, x.Attrs, fmt.Sprint(x.Times)}}
}
