package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"shunt/gateway/msg"
)

// holds are the files of dir in which one of the texts is.
func holds(t *testing.T, dir string, texts ...string) (found []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range texts {
			if bytes.Contains(b, []byte(x)) {
				found = append(found, fmt.Sprintf("%s: %q", filepath.Base(f), x))
			}
		}
	}
	return found
}

// What a number's messages left, also of what was written over, deleted by the
// janitor, and put before the last start, is in no file after Erase; what is live
// is counted and stays; the neighbours stay.
func TestErase(t *testing.T) {
	dir := t.TempDir()
	const n, near msg.Number = 447700900077, 447700900078
	person := []string{
		string(binary.BigEndian.AppendUint64(nil, uint64(n))), "447700900077", "OLDEST-TEXT", "EARLY-TEXT", "OLD-TEXT", "NEW-TEXT", "REPLY-TEXT",
	}
	synctest.Test(t, func(t *testing.T) {
		o := Options{Dir: dir, Retention: time.Hour, ReceiptGrace: time.Second}
		add := func(s *Spool, to msg.Number, from, text string) *Message {
			m := message(s, time.Now())
			m.WireID, m.To, m.From, m.PDU, m.RegisteredDelivery = s.ShortID(), to, from, []byte(text), 0
			put(t, s, m)
			return m
		}
		finish := func(s *Spool, m *Message) {
			for _, e := range path(m.ID, msg.EvClaim, msg.EvDelivered) {
				do(t, s, e)
			}
		}
		s := started(t, o)
		finish(s, add(s, n, "Bank", "OLDEST-TEXT"))
		finish(s, add(s, near, "Bank", "OTHER-TEXT"))
		shut(t, s) // into a table
		s = started(t, o)
		finish(s, add(s, n, "Bank", "EARLY-TEXT"))
		time.Sleep(time.Hour + 3*s.slack()) // past their retention
		synctest.Wait()
		if len(holds(t, dir, "OLDEST-TEXT")) == 0 || len(holds(t, dir, "EARLY-TEXT")) == 0 || keys(t, s)[kBody] != 0 {
			t.Fatal("the janitor has not deleted them, or erased them: the test sees nothing")
		}
		first := add(s, n, "Bank", "OLD-TEXT")
		finish(s, first)
		finish(s, add(s, near, "+447700900077", "NEW-TEXT")) // from it
		kept := add(s, near, "Bank", "KEPT-TEXT")
		finish(s, kept)
		live := add(s, n, "Bank", "LIVE-TEXT")
		reply := &Reply{
			ID: s.NewID(), Message: first.ID, From: n, To: "Bank", Account: first.Account,
			At: time.Now(), Expires: time.Now().Add(time.Hour), Parts: [][]byte{[]byte("REPLY-TEXT")},
		}
		s.PutReply(reply, nil, func(_ *Once, err error) {
			if err != nil {
				t.Errorf("PutReply() = %v", err)
			}
		})
		synctest.Wait()

		e, err := s.Erase(t.Context(), n)
		if err != nil || e.Pending != 2 || e.Messages != 4 || e.Replies != 0 {
			t.Fatalf("Erase() = %+v, %v, want four messages, and one message and one reply pending", e, err)
		}
		if found := holds(t, dir, "OLDEST-TEXT", "EARLY-TEXT", "OLD-TEXT", "NEW-TEXT"); len(found) > 0 {
			t.Errorf("after Erase: %q", found)
		}
		if _, err := s.Get(first.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("Get() of an erased message = %v, want %v", err, ErrNotFound)
		}
		if _, err := s.Message(first.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("Message() of an erased message = %v, want %v", err, ErrNotFound)
		}
		wantState(t, s, "the live one", live.ID, msg.Accepted)

		finish(s, live)
		s.ReplyTaken(Taken{ID: reply.ID, Whole: true, Reason: msg.ReasonDeadline}, func(err error) {
			if err != nil {
				t.Errorf("ReplyTaken() = %v", err)
			}
		})
		synctest.Wait()
		e, err = s.Erase(t.Context(), n)
		if err != nil || e.Pending != 0 || e.Messages != 1 || e.Replies != 1 {
			t.Fatalf("the second Erase() = %+v, %v, want the message and the reply", e, err)
		}
		if found := holds(t, dir, append(person, "LIVE-TEXT", "reply="+reply.ID.String())...); len(found) > 0 {
			t.Errorf("after the second Erase: %q", found)
		}
		if e, err := s.Erase(t.Context(), n); err != nil || e != (Erased{}) {
			t.Errorf("the third Erase() = %+v, %v, want nothing", e, err)
		}
		if _, err := s.Get(kept.ID); err != nil {
			t.Errorf("the neighbour: %v", err)
		}
		shut(t, s)
		if found := holds(t, dir, person...); len(found) > 0 {
			t.Errorf("after the close: %q", found)
		}
		s = started(t, o)
		if m, err := s.Message(kept.ID); err != nil || !strings.Contains(string(m.PDU), "KEPT") {
			t.Errorf("the neighbour after a restart: %v", err)
		}
		if st := s.Stats(); st.SetAside != 0 {
			t.Errorf("%d records cannot be read", st.SetAside)
		}
		shut(t, s)
	})
}

// Whoever puts, claims and reads while tables are rewritten is served.
func TestEraseBesideTraffic(t *testing.T) {
	t.Parallel()
	s := started(t, Options{Gather: time.Millisecond})
	const n msg.Number = 447700900077
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range 8 {
		wg.Go(func() {
			for k := 0; ; k++ {
				select {
				case <-stop:
					return
				default:
				}
				m := message(s, time.Now())
				m.RegisteredDelivery = 0
				if i == 0 && k%8 == 0 {
					m.To = n
				}
				put(t, s, m)
				for _, e := range path(m.ID, msg.EvClaim, msg.EvDelivered) {
					if r := s.Do(t.Context(), e); r.Err != nil {
						t.Errorf("%s: %v", e.Kind, r.Err)
					}
				}
				if _, err := s.Get(m.ID); err != nil && m.To != n {
					t.Errorf("Get() = %v", err)
				}
			}
		})
	}
	erased := 0
	for erased < 10 {
		e, err := s.Erase(t.Context(), n)
		if err != nil {
			t.Fatalf("Erase() = %v", err)
		}
		erased += e.Messages
	}
	close(stop)
	wg.Wait()
	if e, err := s.Erase(t.Context(), n); err != nil || e.Pending != 0 {
		t.Errorf("at the end Erase() = %+v, %v", e, err)
	}
}
