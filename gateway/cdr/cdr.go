// Package cdr writes call detail records: one line for the end of every diverted
// message, numbered without a gap, and sums of what was forwarded.
//
// A line is written only of what the spool has synced, and the spool forgets an
// end only once its line is synced: a crash between the two is made up for by
// the number of the last whole line in the files.
package cdr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"shunt/gateway/msg"
	"shunt/store/spool"
)

// Types of lines.
const (
	TypeMessage   = "message"   // the end of a diverted message; has a Seq
	TypeLost      = "lost"      // the end with that Seq, of which nothing else can be read
	TypeForwarded = "forwarded" // one message that was forwarded
	TypeSums      = "sums"      // an account's submits of one minute
)

// Message is the line of a diverted message, or of one part of a long one, that
// has its outcome. Times are RFC 3339 in UTC. It holds no text.
type Message struct {
	Seq        uint64     `json:"seq"`
	Type       string     `json:"type"`
	Written    time.Time  `json:"written_at"`
	ID         string     `json:"id"`
	WireID     string     `json:"wire_id,omitempty"` // the message_id that the ESME was given
	Account    string     `json:"account,omitempty"` // system_id
	SystemType string     `json:"system_type,omitempty"`
	From       string     `json:"from,omitempty"`
	To         string     `json:"to,omitempty"`
	App        string     `json:"app,omitempty"`
	Group      string     `json:"group,omitempty"` // of a part: the id of its long message
	Part       int        `json:"part,omitempty"`
	Parts      int        `json:"parts,omitempty"`
	ReceivedAt *time.Time `json:"received_at,omitempty"`
	DueAt      *time.Time `json:"due_at,omitempty"` // schedule_delivery_time
	DoneAt     time.Time  `json:"done_at"`
	State      string     `json:"state"`            // the outcome
	Channel    string     `json:"channel"`          // app or carrier, of whoever brought it about; else empty
	Reason     string     `json:"reason,omitempty"` // why it went to the carrier, or why it ended
	Event      string     `json:"event"`            // what ended it
	Registered int        `json:"registered_delivery"`
	SMSC       string     `json:"smsc,omitempty"`
	SMSID      string     `json:"sms_id,omitempty"`
	SMSErr     string     `json:"sms_err,omitempty"`
	Attempts   int        `json:"sms_attempts,omitempty"`
	Resubmits  int        `json:"sms_resubmits,omitempty"`
	Prefer     string     `json:"prefer,omitempty"`
}

// Source are the ends that the spool keeps until they are on record.
type Source interface {
	Outcomes(after uint64, limit int) ([]spool.Outcome, error)
	OutcomesTaken(seq uint64) error
	Get(id msg.ID) (spool.Record, error)
}

// Options of a Writer.
type Options struct {
	Dir       string
	Source    Source
	Channel   func(*spool.Record) string
	MaxSize   int64         // octets after which a new file begins; 0 = 64 MiB
	MaxAge    time.Duration // after which a new file begins; 0 = 24 h
	Retention time.Duration // after which a file is removed; 0 = 30 days
	Forwarded bool          // a line for every forwarded message too
	Sums      func() []Sums // what was submitted so far, asked once a minute; may be nil
	Now       func() time.Time
	Log       *slog.Logger
}

// Writer is the one that writes. One goroutine, Run, owns the files.
type Writer struct {
	o        Options
	files    files
	wake     chan struct{}
	lines    chan forwarded // of forwarded messages
	erasures chan erasure
	last     uint64 // the last number in the files
	taken    uint64 // the last that the spool was told to forget
	sums     map[string]Sums

	Written, Dropped atomic.Uint64 // lines; forwarded messages that had no place
	Failing          atomic.Bool
}

const (
	batch     = 1000 // lines a sync
	maxQueued = 1 << 14
	retry     = time.Second
	linger    = 200 * time.Millisecond // after an end, for more of them: one sync for all
)

// New finds the last line that was written in o.Dir, which it makes if it is not
// there. What a crash has left of a line at the end is cut off.
func New(o Options) (*Writer, error) {
	if o.MaxSize <= 0 {
		o.MaxSize = 64 << 20
	}
	if o.MaxAge <= 0 {
		o.MaxAge = 24 * time.Hour
	}
	if o.Retention <= 0 {
		o.Retention = 30 * 24 * time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	w := &Writer{
		o: o, files: files{dir: o.Dir, maxSize: o.MaxSize, maxAge: o.MaxAge, retention: o.Retention},
		wake: make(chan struct{}, 1), lines: make(chan forwarded, maxQueued), erasures: make(chan erasure), sums: make(map[string]Sums),
	}
	var err error
	if w.last, err = w.files.recover(); err != nil {
		return nil, fmt.Errorf("cdr: %w", err)
	}
	return w, nil
}

// Ended says that messages may have ended. It does not block.
func (w *Writer) Ended() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run writes until ctx is done, and then what has ended until then.
func (w *Writer) Run(ctx context.Context) {
	defer w.files.close()
	tick := time.NewTicker(retry)
	defer tick.Stop()
	due := time.NewTimer(retry)
	due.Stop()
	waiting := false
	minute := w.o.Now().Truncate(time.Minute)
	w.takeSums(minute)
	for {
		done := false
		select {
		case <-w.wake:
			if !waiting && !w.Failing.Load() { // else the tick tries again
				due.Reset(linger)
				waiting = true
			}
			continue
		case <-due.C:
			waiting = false
		case e := <-w.erasures:
			n, err := w.erase(&e)
			e.done <- erasedLines{n, err}
			w.note(err)
			continue
		case <-tick.C:
		case <-ctx.Done():
			done = true
		}
		now := w.o.Now()
		err := w.ends(now)
		if m := now.Truncate(time.Minute); err == nil && (m.After(minute) || done) {
			err = w.writeSums(minute, now)
			minute = m
			w.files.age(w.last+1, now)
		}
		if err == nil {
			err = w.forwarded(now)
		}
		w.note(err)
		if done {
			return
		}
	}
}

// note says once that records cannot be written, and once that they can again.
func (w *Writer) note(err error) {
	if err == nil || errors.Is(err, spool.ErrClosed) {
		if w.Failing.CompareAndSwap(true, false) {
			w.o.Log.Info("call detail records are written again")
		}
		return
	}
	if w.Failing.CompareAndSwap(false, true) {
		w.o.Log.Error("call detail records cannot be written; the spool keeps what they are about", "dir", w.o.Dir, "error", err)
	}
}

// ends writes the lines of what has ended, and lets the spool forget it.
func (w *Writer) ends(now time.Time) error {
	for {
		if w.taken < w.last { // also of what a run before this one has written
			if err := w.o.Source.OutcomesTaken(w.last); err != nil {
				return err
			}
			w.taken = w.last
		}
		list, err := w.o.Source.Outcomes(w.last, batch)
		if err != nil || len(list) == 0 {
			return err
		}
		if first := list[0].Seq; first != w.last+1 {
			w.o.Log.Error("call detail records have a gap: the files do not end where the spool begins",
				"last_seq", w.last, "next_seq", first)
		}
		var lines []byte
		for i := range list {
			if lines, err = appendLine(lines, w.message(&list[i], now)); err != nil {
				return err
			}
		}
		if err := w.files.write(lines, list[0].Seq, now); err != nil {
			return err
		}
		w.last = list[len(list)-1].Seq
		w.Written.Add(uint64(len(list)))
	}
}

// message is the line of an end. Of a message whose retention is over only the
// end itself is known.
func (w *Writer) message(o *spool.Outcome, now time.Time) *Message {
	if o.Event == msg.EvNone {
		return &Message{Seq: o.Seq, Type: TypeLost, Written: now.UTC()}
	}
	m := &Message{
		Seq: o.Seq, Type: TypeMessage, Written: now.UTC(), ID: o.ID.String(),
		DoneAt: o.At.UTC(), Reason: o.Reason.String(), Event: o.Event.String(),
	}
	r, err := w.o.Source.Get(o.ID)
	if errors.Is(err, spool.ErrNotFound) {
		w.o.Log.Warn("an ended message is no longer there: it was erased, or its retention is over", "msg_id", m.ID)
		return m
	}
	if err != nil {
		w.o.Log.Error("record of an ended message cannot be read", "msg_id", m.ID, "error", err)
		return m
	}
	m.WireID, m.Account, m.SystemType = r.WireID, r.Account.SystemID, r.Account.SystemType
	m.From, m.To, m.App = r.From, r.To.String(), r.App
	if r.Part() {
		m.Group, m.Part, m.Parts = r.Group.String(), int(r.Number), int(r.Total)
	}
	m.ReceivedAt, m.DueAt = stamp(r.ReceivedAt), stamp(r.DueAt)
	m.State, m.Channel, m.Registered = r.State.String(), w.o.Channel(&r), int(r.RegisteredDelivery)
	if r.Cause != msg.NoReason {
		m.Reason = r.Cause.String()
	}
	m.SMSC, m.SMSID, m.SMSErr = r.Peer, r.SMSID, r.SMSErr
	m.Attempts, m.Resubmits, m.Prefer = int(r.SMSAttempts), int(r.Resubmits), r.Prefer.String()
	return m
}

func stamp(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func appendLine(b []byte, v any) ([]byte, error) {
	line, err := json.Marshal(v)
	if err != nil {
		return b, fmt.Errorf("line: %w", err)
	}
	return append(append(b, line...), '\n'), nil
}
