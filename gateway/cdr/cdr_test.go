package cdr

import (
	"bufio"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"shunt/gateway/msg"
	"shunt/store/spool"
)

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// source is a spool's ends.
type source struct {
	ends   []spool.Outcome
	taken  uint64
	broken bool // OutcomesTaken fails
}

func (s *source) end() {
	var id msg.ID
	id[15] = byte(len(s.ends))
	s.ends = append(s.ends, spool.Outcome{Seq: uint64(len(s.ends) + 1), ID: id, Event: msg.EvDelivered, Reason: msg.ReasonApp, At: noon})
}

func (s *source) Outcomes(after uint64, limit int) ([]spool.Outcome, error) {
	left := s.ends[max(after, s.taken):]
	return left[:min(len(left), limit)], nil
}

func (s *source) OutcomesTaken(seq uint64) error {
	if s.broken {
		return errors.New("disk")
	}
	s.taken = max(s.taken, seq)
	return nil
}

func (s *source) Get(id msg.ID) (spool.Record, error) {
	return spool.Record{
		ID: id, WireID: id.String(), Account: msg.Account{SystemID: "bank"}, To: 447700900042, From: "Parcel24", App: "chat",
		ReceivedAt: noon, State: msg.Delivered, DoneAt: noon, RegisteredDelivery: 1, Cause: msg.ReasonApp,
	}, nil
}

func writer(t testing.TB, dir string, s Source, change func(*Options)) *Writer {
	t.Helper()
	o := Options{Dir: dir, Source: s, Channel: func(*spool.Record) string { return "app" }, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	w, err := New(o)
	if err != nil {
		t.Fatalf("New() = %v", err)
	}
	return w
}

// seqs reads the numbers of all files, in their order; what is no whole line is
// an error.
func seqs(t rapid.TB, dir string) (all []uint64) {
	t.Helper()
	names, err := Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		f, err := os.Open(n)
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewScanner(f)
		for in.Scan() {
			var l struct {
				Seq  uint64
				Type string
			}
			if err := json.Unmarshal(in.Bytes(), &l); err != nil {
				t.Fatalf("%s: %q: %v", n, in.Text(), err)
			}
			if l.Type == TypeMessage {
				all = append(all, l.Seq)
			}
		}
		_ = f.Close()
	}
	return all
}

// Whatever fails and whenever the process is killed, the files hold every end
// once, in order.
func TestGapless(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "cdr-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		s := &source{}
		now := noon
		start := func() *Writer {
			w, err := New(Options{
				Dir: dir, Source: s, Channel: func(*spool.Record) string { return "" }, MaxSize: 2000, MaxAge: time.Hour,
				Retention: 100 * 365 * 24 * time.Hour, // the files' own times are of today
				Log:       slog.New(slog.DiscardHandler),
			})
			if err != nil {
				t.Fatalf("New() = %v", err)
			}
			return w
		}
		w := start()
		t.Repeat(map[string]func(*rapid.T){
			"end": func(t *rapid.T) {
				for range rapid.IntRange(1, 30).Draw(t, "n") {
					s.end()
				}
			},
			"write": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "minutes")) * time.Minute)
				if err := w.ends(now); err != nil && !s.broken {
					t.Fatalf("ends() = %v", err)
				}
			},
			"spool fails":   func(*rapid.T) { s.broken = true },
			"spool is back": func(*rapid.T) { s.broken = false },
			"kill": func(t *rapid.T) {
				if f := w.files.cur; f != nil && rapid.Bool().Draw(t, "torn") {
					if _, err := f.WriteString(`{"seq":99999,"type":"mess`); err != nil {
						t.Fatal(err)
					}
				}
				w.files.close()
				w = start()
			},
			"": func(t *rapid.T) {
				got := seqs(t, dir)
				for i, n := range got {
					if n != uint64(i+1) {
						t.Fatalf("line %d has number %d", i+1, n)
					}
				}
				if uint64(len(got)) < s.taken {
					t.Fatalf("%d ends were forgotten, %d are on record", s.taken, len(got))
				}
			},
		})
		s.broken = false
		if err := w.ends(now); err != nil {
			t.Fatal(err)
		}
		w.files.close()
		if got := seqs(t, dir); len(got) != len(s.ends) || s.taken != uint64(len(s.ends)) {
			t.Fatalf("%d of %d ends are on record, %d forgotten", len(got), len(s.ends), s.taken)
		}
	})
}

// A folder that cannot be written is said once, loses nothing, and is written
// again when it can be.
func TestUnwritable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cdr")
	s := &source{}
	var log strings.Builder
	w := writer(t, dir, s, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	s.end()
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.note(w.ends(noon))
	}
	if !w.Failing.Load() || s.taken != 0 || strings.Count(log.String(), "cannot be written") != 1 {
		t.Errorf("failing %t, %d forgotten, log:\n%s", w.Failing.Load(), s.taken, log.String())
	}
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	w.note(w.ends(noon))
	if w.Failing.Load() || s.taken != 1 || strings.Count(log.String(), "written again") != 1 {
		t.Errorf("failing %t, %d forgotten, log:\n%s", w.Failing.Load(), s.taken, log.String())
	}
	if got := seqs(t, dir); !slices.Equal(got, []uint64{1}) {
		t.Errorf("numbers %v, want 1", got)
	}
}

// A line holds what a bill needs, and no text; nobody but the owner and the
// group reads it.
func TestLine(t *testing.T) {
	dir := t.TempDir()
	s := &source{}
	s.end()
	w := writer(t, dir, s, nil)
	if err := w.ends(noon); err != nil {
		t.Fatal(err)
	}
	names, err := Files(dir)
	if err != nil || len(names) != 1 || filepath.Base(names[0]) != "cdr-00000000000000000001-20300102T120000Z.jsonl" {
		t.Fatalf("Files = %v, %v", names, err)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"seq":1,"type":"message","written_at":"2030-01-02T12:00:00Z","id":"s00000000000000000000000000","wire_id":"s00000000000000000000000000",` +
		`"account":"bank","from":"Parcel24","to":"+447700900042","app":"chat","received_at":"2030-01-02T12:00:00Z","done_at":"2030-01-02T12:00:00Z",` +
		`"state":"DELIVERED","channel":"app","reason":"app","event":"delivered","registered_delivery":1,"prefer":"possible-loss"}` + "\n"
	if string(b) != want {
		t.Errorf("line\n%swant\n%s", b, want)
	}
	if st, err := os.Stat(names[0]); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v; want 0640", st.Mode(), err)
	}
}

// An end that the spool cannot read has a line with its number.
func TestLostLine(t *testing.T) {
	w := writer(t, t.TempDir(), &source{}, nil)
	m := w.message(&spool.Outcome{Seq: 7}, noon)
	if want := (Message{Seq: 7, Type: TypeLost, Written: noon}); *m != want {
		t.Errorf("line %+v, want %+v", *m, want)
	}
}

// Sums are of each minute alone, and add up with the load.
func TestSums(t *testing.T) {
	dir := t.TempDir()
	total := map[string]uint64{"divert": 7, "unregistered": 100}
	w := writer(t, dir, &source{}, func(o *Options) {
		o.Sums = func() []Sums { return []Sums{{Account: "bank", Reasons: total}, {Account: "idle"}} }
	})
	w.takeSums(noon) // what came before is not of this minute
	total = map[string]uint64{"divert": 10, "unregistered": 150, "one-time-code": 5, "resubmit": 1}
	for _, minute := range []time.Time{noon, noon.Add(time.Minute)} { // nothing in the second
		if err := w.writeSums(minute, minute.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	w.files.close()
	names, _ := Files(dir)
	b, err := os.ReadFile(names[0])
	const want = `{"type":"sums","minute":"2030-01-02T12:00:00Z","account":"bank","diverted":4,"forwarded":55,` +
		`"reasons":{"divert":3,"one-time-code":5,"resubmit":1,"unregistered":50}}` + "\n"
	if err != nil || string(b) != want {
		t.Errorf("lines\n%s%v, want\n%s", b, err, want)
	}
}

// Lines of forwarded messages are written when they are wanted, and what has no
// place is counted.
func TestForwarded(t *testing.T) {
	dir := t.TempDir()
	w := writer(t, dir, &source{}, func(o *Options) { o.Forwarded = true })
	for range maxQueued + 5 {
		w.Forwarded("bank", "Parcel24", "447700900042", msg.ReasonUnregistered)
	}
	if err := w.forwarded(noon); err != nil {
		t.Fatal(err)
	}
	if w.Dropped.Load() != 5 || w.Written.Load() != maxQueued {
		t.Errorf("%d dropped, %d written; want 5, %d", w.Dropped.Load(), w.Written.Load(), maxQueued)
	}
}

// Old files go when a new one is begun; foreign ones stay.
func TestRetention(t *testing.T) {
	dir := t.TempDir()
	old, other := filepath.Join(dir, fileName(1, noon)), filepath.Join(dir, "notes.txt")
	for _, n := range []string{old, other} {
		if err := os.WriteFile(n, []byte(`{"seq":1,"type":"message"}`+"\n"), 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(n, noon, noon); err != nil {
			t.Fatal(err)
		}
	}
	s := &source{taken: 1}
	s.end()
	s.end()
	w := writer(t, dir, s, func(o *Options) { o.Retention = time.Hour })
	if err := w.ends(noon.Add(48 * time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); err == nil {
		t.Error("the old file is still there")
	}
	if _, err := os.Stat(other); err != nil {
		t.Errorf("a file that is none of ours: %v", err)
	}
	if got := seqs(t, dir); !slices.Equal(got, []uint64{2}) {
		t.Errorf("numbers %v, want 2", got)
	}
}
