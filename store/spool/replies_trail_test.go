package spool

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
)

// answer has the app answer m, with parts of that text.
func answer(t *testing.T, s *Spool, m *Message, parts int) *Reply {
	t.Helper()
	r := &Reply{ID: s.NewID(), Message: m.ID, Account: m.Account, From: m.To, To: m.From, At: time.Now().UTC(), Expires: time.Now().Add(time.Hour)}
	for range parts {
		r.Parts = append(r.Parts, []byte("REPLY-TEXT"))
	}
	done := make(chan error, 1)
	s.PutReply(r, nil, func(_ *Once, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatalf("PutReply() = %v", err)
	}
	return r
}

func take(t *testing.T, s *Spool, v Taken) {
	t.Helper()
	v.At = time.Now().UTC()
	done := make(chan error, 1)
	s.ReplyTaken(v, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatalf("ReplyTaken(%+v) = %v", v, err)
	}
}

// replyTrace are the steps of replies in a message's trace, and where they stand
// among all.
func replyTrace(t *testing.T, s *Spool, id msg.ID) (of []Step, all []msg.Event) {
	t.Helper()
	steps, err := s.Trace(id)
	if err != nil {
		t.Fatalf("Trace() = %v", err)
	}
	for i, st := range steps {
		all = append(all, st.Event)
		if i > 0 && st.At.Before(steps[i-1].At) {
			t.Errorf("step %d, %s, is before the one before it", i, st.Event)
		}
		if st.Event == msg.EvReply || st.Event == msg.EvReplyDone {
			if st.From != st.To || st.To != steps[i-1].To {
				t.Errorf("%s: from %s to %s, want both as the step before it left it, %s", st.Event, st.From, st.To, steps[i-1].To)
			}
			of = append(of, st)
		}
	}
	return of, all
}

// TestReplyTrace: a reply stands in the trace of the message that it answers, at
// its time, while that is live, after it has ended, and after a restart.
func TestReplyTrace(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o := Options{Dir: dir, Retention: time.Hour, ReceiptGrace: time.Second}
		s := started(t, o)
		m := message(s, time.Now())
		m.RegisteredDelivery, m.ExpiresAt = 0, time.Now().Add(30*time.Minute)
		put(t, s, m)
		claim := path(m.ID, msg.EvClaim, msg.EvDelivered)
		do(t, s, claim[0])
		time.Sleep(time.Second)
		first := answer(t, s, m, 1)
		time.Sleep(time.Second)
		take(t, s, Taken{ID: first.ID, Reason: msg.ReasonReceipt, Detail: "ESME_ROK after 2ms, bind=1"})
		time.Sleep(time.Second)
		second := answer(t, s, m, 3)
		take(t, s, Taken{ID: second.ID, Part: 0, Reason: msg.ReasonReceipt}) // no step of its own
		take(t, s, Taken{ID: second.ID, Part: 1, Reason: msg.ReasonStatus, Detail: "ESME_RX_R_APPN"})
		time.Sleep(time.Second)
		delivered := claim[1]
		delivered.At = time.Now()
		do(t, s, delivered)
		time.Sleep(time.Second)
		take(t, s, Taken{ID: second.ID, Part: 2, Whole: true, Reason: msg.ReasonDeadline})
		want := []Step{
			{first.At, msg.EvReply, msg.Claimed, msg.Claimed, msg.NoReason, "reply=" + first.ID.String() + " parts=1"},
			{first.At.Add(time.Second), msg.EvReplyDone, msg.Claimed, msg.Claimed, msg.ReasonReceipt, "reply=" + first.ID.String() + " ESME_ROK after 2ms, bind=1"},
			{second.At, msg.EvReply, msg.Claimed, msg.Claimed, msg.NoReason, "reply=" + second.ID.String() + " parts=3"},
			{second.At, msg.EvReplyDone, msg.Claimed, msg.Claimed, msg.ReasonStatus, "reply=" + second.ID.String() + " part=2 ESME_RX_R_APPN"},
			{second.At.Add(2 * time.Second), msg.EvReplyDone, msg.Delivered, msg.Delivered, msg.ReasonDeadline, "reply=" + second.ID.String() + " part=3"},
		}
		near := cmp.Comparer(func(a, b time.Time) bool { return a.Sub(b).Abs() < 2*time.Second }) // commits take their time
		for range 2 {
			got, all := replyTrace(t, s, m.ID)
			if diff := cmp.Diff(want, got, near); diff != "" {
				t.Errorf("steps of replies (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]msg.Event{
				msg.EvAccept, msg.EvClaim, msg.EvReply, msg.EvReplyDone, msg.EvReply, msg.EvReplyDone, msg.EvDelivered, msg.EvReplyDone,
			}, all); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			shut(t, s)
			s = started(t, o)
		}
		if st := s.Stats(); st.Replies != 0 || st.RepliesDelivered != 0 {
			t.Errorf("after a restart: %+v, want nothing counted", st)
		}
		shut(t, s)
	})
}

func TestReplyStats(t *testing.T) {
	s := started(t, Options{Dir: t.TempDir()})
	m := message(s, time.Now())
	put(t, s, m)
	var all []*Reply
	for range 4 {
		all = append(all, answer(t, s, m, 2))
	}
	for _, v := range []Taken{
		{ID: all[0].ID, Part: 0, Reason: msg.ReasonReceipt},
		{ID: all[0].ID, Part: 1, Reason: msg.ReasonReceipt},
		{ID: all[1].ID, Part: 0, Reason: msg.ReasonReceipt},
		{ID: all[1].ID, Part: 1, Reason: msg.ReasonStatus},
		{ID: all[2].ID, Part: 0, Whole: true, Reason: msg.ReasonDeadline},
		{ID: all[3].ID, Part: 0, Reason: msg.ReasonReceipt},
	} {
		take(t, s, v)
	}
	if st := s.Stats(); st.Replies != 1 || st.RepliesDelivered != 1 || st.RepliesRefused != 1 || st.RepliesGivenUp != 1 {
		t.Errorf("waiting %d, delivered %d, refused %d, given up %d, want one of each", st.Replies, st.RepliesDelivered, st.RepliesRefused, st.RepliesGivenUp)
	}
	shut(t, s)
}

// TestReplyGoneWithAFailedCommit: what is on disk after a commit that failed nobody
// knows. If the end of a reply is, saying so once more ends it here too.
func TestReplyGoneWithAFailedCommit(t *testing.T) {
	s := started(t, Options{Dir: t.TempDir()})
	m := message(s, time.Now())
	put(t, s, m)
	r := answer(t, s, m, 1)
	if err := s.db.Update(func(txn *badger.Txn) error { return txn.Delete(idKey(kReply, r.ID)) }); err != nil { // that commit
		t.Fatal(err)
	}
	for range 2 {
		done := make(chan error, 1)
		s.ReplyTaken(Taken{ID: r.ID, At: time.Now(), Reason: msg.ReasonReceipt}, func(err error) { done <- err })
		if err := <-done; !errors.Is(err, ErrNotFound) {
			t.Errorf("ReplyTaken() = %v, want %v", err, ErrNotFound)
		}
	}
	if st := s.Stats(); s.replies.waits(r.ID) || st.Replies != 0 || st.RepliesDelivered != 1 {
		t.Errorf("waiting %d, delivered %d; want none, and one", st.Replies, st.RepliesDelivered)
	}
	shut(t, s)
}

// TestReplyStepsAreKept as long as the message, also where that ends long after
// the reply, and then go.
func TestReplyStepsAreKept(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o := Options{Dir: dir, Retention: time.Hour, ReceiptGrace: time.Second}
		s := started(t, o)
		add := func(expires time.Duration) *Message {
			m := message(s, time.Now())
			m.RegisteredDelivery, m.ExpiresAt, m.Prefer = 0, time.Now().Add(expires), msg.PossibleLoss
			put(t, s, m)
			do(t, s, path(m.ID, msg.EvClaim)[0])
			return m
		}
		short, long := add(time.Minute), add(10*time.Hour)
		for _, m := range []*Message{short, long} {
			take(t, s, Taken{ID: answer(t, s, m, 1).ID, Reason: msg.ReasonReceipt})
		}
		late := answer(t, s, short, 1)
		time.Sleep(55 * time.Minute) // short ended long ago, and late has not
		take(t, s, Taken{ID: late.ID, Whole: true, Reason: msg.ReasonDeadline})
		if got, _ := replyTrace(t, s, short.ID); len(got) != 4 {
			t.Errorf("within the retention: %v, want four steps", got)
		}
		time.Sleep(10*time.Minute + 2*s.slack())
		synctest.Wait()
		if _, err := s.Trace(short.ID); !errors.Is(err, ErrNotFound) {
			t.Errorf("Trace() after the retention = %v, want %v: replies alone are no message", err, ErrNotFound)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if n := keys(t, s); n[kReplySteps] != 1 {
			t.Errorf("%d rows of replies, want the one of the message that is live", n[kReplySteps])
		}
		time.Sleep(7*time.Hour + 30*time.Minute)
		if got, _ := replyTrace(t, s, long.ID); len(got) != 2 {
			t.Errorf("of a message that lived on: %v, want two steps", got)
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if n := keys(t, s); n[kReplySteps] != 0 || n[kBody] != 0 {
			t.Errorf("at the end: %v, want no row of a reply or a message", n)
		}
		shut(t, s)
	})
}

// TestReplyOfAnEarlierProgram: one that waited when the program was replaced, or
// whose row cannot be read, goes on, and the trace has its end.
func TestReplyOfAnEarlierProgram(t *testing.T) {
	dir := t.TempDir()
	s := started(t, Options{Dir: dir})
	m := message(s, time.Now())
	put(t, s, m)
	var all []*Reply
	for range 2 {
		all = append(all, answer(t, s, m, 1))
	}
	err := s.db.Update(func(txn *badger.Txn) error {
		return errors.Join(txn.Delete(replyStepsKey(m.ID, all[0].ID)), txn.Set(replyStepsKey(m.ID, all[1].ID), []byte("torn")))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Trace(m.ID); err == nil {
		t.Error("Trace() with a torn row = nil, want an error")
	}
	for _, r := range all {
		take(t, s, Taken{ID: r.ID, Reason: msg.ReasonReceipt})
	}
	got, _ := replyTrace(t, s, m.ID)
	if len(got) != 4 || s.WaitingReplies() != 0 || s.Stats().SetAside != 1 {
		t.Errorf("%d steps, %d wait, %d bad; want 4, 0, 1", len(got), s.WaitingReplies(), s.Stats().SetAside)
	}
	shut(t, s)
	if found := holds(t, dir, "reply="); len(found) == 0 {
		t.Fatal("the files have no trace: the next check sees nothing")
	}
}

// TestGoldenReplySteps: the row is read as it was meant, and still written so.
func TestGoldenReplySteps(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)
	reply := someID
	reply[15] = 9
	key := replyStepsKey(someID, reply)
	b := golden(t, "reply_steps")
	fields, err := unseal(key, b)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeSteps(nil, fields)
	want := []Step{
		{At: at, Event: msg.EvReply, Detail: "reply=" + reply.String() + " parts=2"},
		{At: at.Add(time.Second), Event: msg.EvReplyDone, Reason: msg.ReasonStatus, Detail: "reply=" + reply.String() + " part=1 ESME_RX_R_APPN"},
		{At: at.Add(time.Hour), Event: msg.EvReplyDone, Reason: msg.ReasonDeadline, Detail: "reply=" + reply.String() + " part=2"},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	v := []byte{recordVersion}
	for i := range want {
		v = appendStep(v, &want[i])
	}
	if v = seal(v, 0, key); !bytes.Equal(v, b) {
		t.Errorf("is written as\n% X\nwant\n% X", v, b)
	}
	for n := range fields { // a row that is cut is an error, or ends with a whole step
		if steps, err := decodeSteps(nil, fields[:n]); err == nil && len(steps) == len(want) {
			t.Errorf("%d of %d octets read as all steps", n, len(fields))
		}
	}
}
