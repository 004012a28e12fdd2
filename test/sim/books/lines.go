// Package books holds what the simulators write down about every message, and
// reconciles it: each message sent must have exactly one outcome, unaltered.
package books

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"shunt/smpp/pdu"
)

// SMSCLine is one submit_sm in the SMSC's book, accepted or refused.
type SMSCLine struct {
	At         time.Time  `json:"at"`
	SystemID   string     `json:"system_id"`
	Bind       uint64     `json:"bind"` // the bind that it came on, counted from 1
	ID         string     `json:"id,omitempty"`
	Status     uint32     `json:"status"`
	Unanswered bool       `json:"unanswered,omitempty"` // accepted, and no response was ever given
	Source     string     `json:"source"`
	Dest       string     `json:"dest"`
	Body       string     `json:"body"`       // SHA-256 of the whole body
	BodyBlank  string     `json:"body_blank"` // the same without registered_delivery and validity_period
	ESMClass   byte       `json:"esm_class"`
	DataCoding byte       `json:"data_coding"`
	UserData   string     `json:"user_data"` // SHA-256 of the user data, header included
	Asked      bool       `json:"asked,omitempty"`
	Final      string     `json:"final,omitempty"`      // the final state, such as DELIVRD
	ReceiptAt  *time.Time `json:"receipt_at,omitempty"` // when the receipt was taken
	Open       []byte     `json:"open,omitempty"`       // in a lasting book: the body of a message that is not done; a later line follows
}

// Receipt is one delivery receipt as an ESME took it.
type Receipt struct {
	ID      string    `json:"id"`
	Stat    string    `json:"stat"`
	At      time.Time `json:"at"`
	Channel string    `json:"channel,omitempty"` // TLV 0x1580, "app" or "carrier"
}

// ESMELine is one submit_sm in an ESME's book. A line with Unmatched holds a
// receipt that belongs to none of its messages, and nothing else.
type ESMELine struct {
	Seq        int        `json:"seq,omitempty"` // counted from 1
	SystemID   string     `json:"system_id,omitempty"`
	Kind       string     `json:"kind,omitempty"` // what the text is, such as "gsm"
	Source     string     `json:"source,omitempty"`
	Dest       string     `json:"dest,omitempty"`
	Body       string     `json:"body,omitempty"`
	BodyBlank  string     `json:"body_blank,omitempty"`
	UserData   string     `json:"user_data,omitempty"`
	Text       string     `json:"text,omitempty"`   // SHA-256 of the text in UTF-8
	Letter     string     `json:"letter,omitempty"` // of a part of a long message: that of the whole text
	Asked      bool       `json:"asked,omitempty"`
	OnFailure  bool       `json:"on_failure,omitempty"` // a receipt is asked for, should it fail
	Validity   int        `json:"validity,omitempty"`   // seconds; 0: the SMSC's default
	Submitted  *time.Time `json:"submitted,omitempty"`
	Responded  *time.Time `json:"responded,omitempty"` // absent: unanswered, its fate is not known
	Status     uint32     `json:"status,omitempty"`
	MessageID  string     `json:"message_id,omitempty"`
	Receipts   []Receipt  `json:"receipts,omitempty"`
	Unmatched  *Receipt   `json:"unmatched,omitempty"`
	Undecoded  string     `json:"undecoded,omitempty"` // why a response was none that could be used
	Intermed   []Receipt  `json:"intermediate,omitempty"`
	ReceiptErr string     `json:"receipt_err,omitempty"` // why a receipt could not be read
}

// HandsetLine is one message at one device, from its push to its receipts.
type HandsetLine struct {
	ID        string     `json:"id"`
	Device    string     `json:"device"`
	Number    string     `json:"number"` // without the leading +
	Platform  string     `json:"platform"`
	From      string     `json:"from,omitempty"`
	PushedAt  *time.Time `json:"pushed_at,omitempty"`
	Pushes    int        `json:"pushes,omitempty"`
	Behaviour string     `json:"behaviour,omitempty"`
	ClaimedAt *time.Time `json:"claimed_at,omitempty"`
	Claim     int        `json:"claim,omitempty"` // HTTP status; 0: never claimed, or never answered
	Attempts  int        `json:"attempts,omitempty"`
	Text      string     `json:"text,omitempty"`   // SHA-256 of the text that the claim was answered with
	Replay    int        `json:"replay,omitempty"` // HTTP status of a second claim
	ReplaySum string     `json:"replay_text,omitempty"`
	Delivered int        `json:"delivered,omitempty"` // HTTP status of the receipt
	Read      int        `json:"read,omitempty"`
	Fault     string     `json:"fault,omitempty"` // what the handset saw that must not be
}

// Sum is the SHA-256 of b in hexadecimal.
func Sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// SumBlank is the SHA-256 of the body of m without registered_delivery and
// validity_period, the two fields that a fallback may differ in.
func SumBlank(m *pdu.SM) string {
	blank := *m
	blank.RegisteredDelivery, blank.Validity = 0, nil
	return Sum(blank.Append(nil))
}

// Writer writes one JSON line a record. It may be used by many goroutines; nil
// writes nothing.
type Writer struct {
	mu   sync.Mutex
	f    *os.File
	b    *bufio.Writer
	enc  *json.Encoder
	each bool // every line is written out at once
	err  error
}

// Create opens a new book at path, in place of any old one. The empty path is
// no book.
func Create(path string) (*Writer, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("book: %w", err)
	}
	return newWriter(f), nil
}

func newWriter(f *os.File) *Writer {
	w := &Writer{f: f, b: bufio.NewWriterSize(f, 64<<10)}
	w.enc = json.NewEncoder(w.b)
	w.enc.SetEscapeHTML(false)
	return w
}

// Append opens a lasting book: it goes on where a process before it was killed,
// and every line is in the file when Write returns. Half a line at the end is
// cut off: nobody was told of it.
func Append(path string) (*Writer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("book: %w", err)
	}
	b, err := io.ReadAll(f)
	if err == nil {
		err = f.Truncate(int64(bytes.LastIndexByte(b, '\n') + 1))
	}
	if err != nil {
		return nil, fmt.Errorf("book: %w", errors.Join(err, f.Close()))
	}
	w := newWriter(f)
	w.each = true
	return w, nil
}

// Write appends one line; an error is kept for Close.
func (w *Writer) Write(line any) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = w.enc.Encode(line)
	}
	if w.each && w.err == nil {
		w.err = w.b.Flush()
	}
}

// Close writes out what is buffered and reports the first error of all.
func (w *Writer) Close() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = w.b.Flush()
	}
	if err := w.f.Close(); w.err == nil {
		w.err = err
	}
	return w.err
}

// Read reads a book of lines of type T.
func Read[T any](path string) ([]T, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("book: %w", err)
	}
	defer func() { _ = f.Close() }()
	dec := json.NewDecoder(bufio.NewReaderSize(f, 256<<10))
	var lines []T
	for {
		var l T
		err := dec.Decode(&l)
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return nil, fmt.Errorf("book %s: line %d: %w", path, len(lines)+1, err)
		}
		lines = append(lines, l)
	}
}

// ReadSMSC reads an SMSC's book, one line a message: of a lasting book the last
// one, of which only messages that were never done are Open.
func ReadSMSC(path string) ([]SMSCLine, error) {
	all, err := Read[SMSCLine](path)
	if err != nil {
		return nil, err
	}
	open := make(map[string]int) // place by id
	lines := all[:0]
	for _, l := range all {
		if i, ok := open[l.ID]; ok && l.ID != "" {
			lines[i] = l
			continue
		}
		if len(l.Open) > 0 {
			open[l.ID] = len(lines)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// WriteFile writes v as JSON to path in one step, so that whoever polls for
// the file never reads half of it.
func WriteFile(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
