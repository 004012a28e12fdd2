package spool

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
)

// replyRig is a spool in a directory that a test opens again.
type replyRig struct {
	*Spool
	t    *testing.T
	mu   sync.Mutex
	told []msg.ID
}

func openReplies(t *testing.T, dir string, room func() error) *replyRig {
	t.Helper()
	r := &replyRig{t: t}
	s, err := Open(Options{Dir: dir, Room: room, Replied: func(reply *Reply) {
		r.mu.Lock()
		r.told = append(r.told, reply.ID)
		r.mu.Unlock()
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	r.Spool = s
	return r
}

func (r *replyRig) reply(parts ...string) *Reply {
	id, now := r.NewID(), time.Now().UTC()
	reply := &Reply{
		ID: id, Message: r.NewID(), Account: msg.Account{SystemID: "bank", AddressRange: "^44"}, From: 447700900042,
		To: "ACME", At: now, Expires: now.Add(time.Hour),
	}
	for _, p := range parts {
		reply.Parts = append(reply.Parts, []byte(p))
	}
	return reply
}

func (r *replyRig) put(reply *Reply, once *Once) (prev *Once, err error) {
	done := make(chan struct{})
	r.PutReply(reply, once, func(p *Once, e error) {
		prev, err = p, e
		close(done)
	})
	<-done
	return prev, err
}

func (r *replyRig) taken(id msg.ID, part int, whole bool) error {
	done := make(chan error, 1)
	r.ReplyTaken(Taken{ID: id, Part: part, Whole: whole, At: time.Now(), Reason: msg.ReasonReceipt, Detail: "ESME_ROK"}, func(err error) { done <- err })
	return <-done
}

func (r *replyRig) waiting() (all []*Reply) {
	for reply := range r.Replies {
		all = append(all, reply)
	}
	return all
}

func once(key, request, answer string) *Once {
	return &Once{Key: sha256.Sum256([]byte(key)), Request: sha256.Sum256([]byte(request)), Answer: []byte(answer), Until: time.Now().Add(time.Hour)}
}

// TestReplies: what PutReply has taken is there after the spool is opened again,
// with the parts that are still to be taken, and gone after the last.
func TestReplies(t *testing.T) {
	dir := t.TempDir()
	r := openReplies(t, dir, nil)
	one, two := r.reply("a", "b", "c"), r.reply("only")
	for _, reply := range []*Reply{one, two} {
		if prev, err := r.put(reply, nil); prev != nil || err != nil {
			t.Fatalf("PutReply() = %v, %v", prev, err)
		}
	}
	if err := r.taken(one.ID, 0, false); err != nil {
		t.Fatal(err)
	}
	if err := r.taken(two.ID, 0, false); err != nil {
		t.Fatal(err)
	}
	if err := r.taken(two.ID, 0, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("ReplyTaken() of one that is done with = %v, want ErrNotFound", err)
	}
	if diff := cmp.Diff([]msg.ID{one.ID, two.ID}, r.told); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.put(r.reply("x"), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("PutReply() after Close = %v, want ErrClosed", err)
	}

	r = openReplies(t, dir, nil)
	defer r.Close()
	one.Taken = 1
	if diff := cmp.Diff([]*Reply{one}, r.waiting()); diff != "" {
		t.Errorf("after the restart (-want +got):\n%s", diff)
	}
	if n := r.WaitingReplies(); n != 1 {
		t.Errorf("WaitingReplies() = %d, want 1", n)
	}
	if err := r.taken(one.ID, 1, true); err != nil || len(r.waiting()) != 0 || r.WaitingReplies() != 0 {
		t.Errorf("after it was given up: %v, %v waits", err, r.waiting())
	}
}

// TestReplyOnce: of any number of requests at once with one key one takes effect,
// and all get its answer, before and after a restart.
func TestReplyOnce(t *testing.T) {
	dir := t.TempDir()
	r := openReplies(t, dir, nil)
	const callers = 32
	var wg sync.WaitGroup
	answers := make([]string, callers)
	for i := range callers {
		wg.Go(func() {
			o := once("key", "request", string(rune('A'+i)))
			prev, err := r.put(r.reply("text"), o)
			switch {
			case err != nil:
				t.Errorf("PutReply() = %v", err)
			case prev != nil:
				answers[i] = string(prev.Answer)
			default:
				answers[i] = string(o.Answer)
			}
		})
	}
	wg.Wait()
	for _, a := range answers {
		if a != answers[0] || a == "" {
			t.Fatalf("answers %q, want one for all", answers)
		}
	}
	if w := r.waiting(); len(w) != 1 || len(r.told) != 1 {
		t.Errorf("%d replies wait, told of %d, want one", len(w), len(r.told))
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = openReplies(t, dir, nil)
	defer r.Close()
	got, err := r.Once(once("key", "", "").Key)
	if err != nil || string(got.Answer) != answers[0] || got.Request != once("", "request", "").Request {
		t.Errorf("Once() = %+v, %v, want the answer %q", got, err, answers[0])
	}
	if prev, err := r.put(r.reply("text"), once("key", "request", "Z")); err != nil || prev == nil || string(prev.Answer) != answers[0] {
		t.Errorf("PutReply() with that key after the restart = %v, %v, want what was answered", prev, err)
	}
	if w := r.waiting(); len(w) != 1 {
		t.Errorf("%d replies wait, want one", len(w))
	}
}

// TestRepliesThatCannotBe: what is refused leaves nothing behind, and what the
// disk refuses is refused to the caller.
func TestRepliesThatCannotBe(t *testing.T) {
	full := errors.New("no room")
	var room error
	r := openReplies(t, t.TempDir(), func() error { return room })
	defer r.Close()
	for name, change := range map[string]func(*Reply){
		"no id":       func(p *Reply) { p.ID = msg.ID{} },
		"no parts":    func(p *Reply) { p.Parts = nil },
		"no end":      func(p *Reply) { p.Expires = time.Time{} },
		"long sender": func(p *Reply) { p.To = string(bytes.Repeat([]byte("x"), maxText+1)) },
		"long part":   func(p *Reply) { p.Parts[0] = make([]byte, maxPDU+1) },
		"256 parts":   func(p *Reply) { p.Parts = make([][]byte, maxReplyParts+1) },
		"taken":       func(p *Reply) { p.Taken = 1 },
	} {
		p := r.reply("a")
		change(p)
		if _, err := r.put(p, nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: PutReply() = %v, want ErrInvalid", name, err)
		}
	}
	if _, err := r.put(r.reply("a"), once("k", "r", string(make([]byte, maxAnswer+1)))); !errors.Is(err, ErrInvalid) {
		t.Errorf("long answer: PutReply() = %v, want ErrInvalid", err)
	}
	room = full
	if _, err := r.put(r.reply("a"), once("k", "r", "answer")); !errors.Is(err, full) {
		t.Errorf("no room: PutReply() = %v, want why", err)
	}
	if w := r.waiting(); len(w) != 0 || len(r.told) != 0 {
		t.Errorf("%d replies wait, want none", len(w))
	}
}

// TestReplyRecord: every truncation of a record is an error.
func TestReplyRecord(t *testing.T) {
	r := openReplies(t, t.TempDir(), nil)
	defer r.Close()
	want := r.reply("first", "second")
	want.Taken = 1
	b := appendReply(nil, want)
	got, err := decodeReply(want.ID, b)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("decodeReply() = %v (-want +got):\n%s", err, diff)
	}
	for n := range b {
		if got, err := decodeReply(want.ID, b[:n]); err == nil {
			t.Errorf("decodeReply of %d octets of %d = %+v", n, len(b), got)
		}
	}
	err = r.db.Update(func(txn *badger.Txn) error { return txn.Set(idKey(kReply, r.NewID()), []byte("junk")) })
	if err != nil || len(r.waiting()) != 0 {
		t.Errorf("%v; a record that cannot be read is walked", err)
	}
}
