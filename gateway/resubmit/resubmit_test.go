package resubmit

import (
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp/pdu"
)

var (
	bank = msg.Account{SystemID: "bank"}
	noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)
)

func submit(seq uint32, text string) pdu.PDU {
	return pdu.AppendSM(nil, pdu.SubmitSM, seq, &pdu.SM{Dest: pdu.Address{Addr: []byte("447700900042")}, ShortMessage: []byte(text)})
}

// take tells what a resubmit gets: an id, "" for a new message, "?" while that
// is open.
func take(t *Table, k Key, now time.Time) string {
	got := "?"
	if !t.Take(k, now, func(id string, ok bool) {
		if got = "failed"; ok {
			got = id
		}
	}) {
		return ""
	}
	return got
}

func TestKey(t *testing.T) {
	k := KeyOf(bank, submit(1, "hello"))
	if KeyOf(bank, submit(77, "hello")) != k {
		t.Error("the sequence_number is part of the key")
	}
	for name, other := range map[string]Key{
		"text":    KeyOf(bank, submit(1, "hallo")),
		"account": KeyOf(msg.Account{SystemID: "ban", SystemType: "k"}, submit(1, "hello")),
	} {
		if other == k {
			t.Errorf("another %s has the same key", name)
		}
	}
}

func TestResubmit(t *testing.T) {
	k := KeyOf(bank, submit(1, "hello"))
	has := func(upTo uint64) func(uint64) bool { return func(end uint64) bool { return end <= upTo } }
	for _, c := range []struct {
		name string
		end  uint64 // of the answer; 0: none yet
		has  uint64 // octets that the peer's system has
		age  time.Duration
		wait time.Duration // from the loss to the resubmit
		want string
	}{
		{"answer not through", 100, 99, 0, time.Second, "first"},
		{"answer through", 100, 100, 0, time.Second, ""},
		{"at the last moment", 100, 0, 0, Within, "first"},
		{"too late", 100, 0, 0, Within + 1, ""},
		{"answered long before the loss", 100, 0, Within + 1, time.Second, ""},
		{"no answer at all", 0, 1000, 0, time.Second, "?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var table Table
			var l Log
			s := table.Begin(&l, k, "first", noon)
			if c.end != 0 {
				table.Accepted(s, c.end)
			}
			if got := take(&table, k, noon); got != "" || table.Any() {
				t.Fatalf("while the session is up: %q, want a new message", got)
			}
			lost := noon.Add(c.age)
			table.Lost(&l, has(c.has), lost)
			if got, want := table.InDoubt(lost.Add(c.wait)), c.want != ""; got != want {
				t.Errorf("InDoubt() = %t, want %t", got, want)
			}
			if got := take(&table, k, lost.Add(c.wait)); got != c.want {
				t.Errorf("resubmit got %q, want %q", got, c.want)
			}
			if got := take(&table, k, lost.Add(c.wait)); got != "" {
				t.Errorf("the second resubmit got %q, want a new message", got)
			}
		})
	}
}

// A resubmit that is faster than the disk waits for what becomes of the first.
func TestPending(t *testing.T) {
	k := KeyOf(bank, submit(1, "hello"))
	for _, ok := range []bool{true, false} {
		var table Table
		var l Log
		s := table.Begin(&l, k, "first", noon)
		table.Lost(&l, func(uint64) bool { return true }, noon)
		got := ""
		if !table.Take(k, noon, func(id string, stored bool) { got = id; _ = stored }) || got != "" {
			t.Fatalf("Take before the outcome: %q, want nothing yet", got)
		}
		if ok {
			table.Accepted(s, 0)
		} else {
			table.Failed(s)
		}
		if got != "first" {
			t.Errorf("stored %t: found was not called", ok)
		}
	}
	var table Table
	var l Log
	table.Lost(&l, nil, noon)
	s := table.Begin(&l, k, "first", noon) // handed in when its session was gone
	table.Failed(s)
	if got := take(&table, k, noon); got != "" || table.Any() {
		t.Errorf("of a submit that was not stored: %q, want a new message", got)
	}
}

func TestBounds(t *testing.T) {
	var table Table
	var l Log
	for i := range 3 * maxAnswers {
		table.Accepted(table.Begin(&l, Key{byte(i), byte(i >> 8), byte(i >> 16)}, "id", noon), 1)
	}
	if len(l.submits) > maxAnswers {
		t.Errorf("a log keeps %d, want at most %d", len(l.submits), maxAnswers)
	}
	table.Lost(&l, func(uint64) bool { return false }, noon)
	if len(table.lost) != maxAnswers || table.doubt != maxAnswers {
		t.Errorf("%d are in doubt, counted %d, want %d", len(table.lost), table.doubt, maxAnswers)
	}
	table.Restore(Key{1, 2, 3}, "id", noon.Add(Within+2*time.Second))
	if len(table.lost) != 1 || table.doubt != 1 {
		t.Errorf("%d are in doubt later, counted %d, want 1", len(table.lost), table.doubt)
	}
	full := Table{doubt: maxLost}
	full.Restore(Key{1}, "id", noon)
	if len(full.lost) != 0 {
		t.Error("a full table took one more")
	}
}

// Submits of the same octets are messages of their own: each has its answer,
// the oldest first, and what was not stored gives none.
func TestTwins(t *testing.T) {
	k := KeyOf(bank, submit(1, "hello"))
	var table Table
	var l Log
	var all []*Submit
	for _, id := range []string{"first", "second", "third", "fourth"} {
		all = append(all, table.Begin(&l, k, id, noon))
	}
	table.Accepted(all[0], 10)
	table.Accepted(all[1], 20)
	table.Lost(&l, func(end uint64) bool { return end <= 10 }, noon) // the first one's answer is through
	table.Failed(all[2])
	table.Accepted(all[3], 0)
	for _, want := range []string{"second", "fourth", ""} {
		if got := take(&table, k, noon); got != want {
			t.Errorf("resubmit got %q, want %q", got, want)
		}
	}
	if table.Any() || table.doubt != 0 {
		t.Errorf("%d are in doubt after all", table.doubt)
	}
}

// An answer that is noted only after its session has ended was through
// nevertheless.
func TestAnsweredAtTheEnd(t *testing.T) {
	k := KeyOf(bank, submit(1, "hello"))
	for through, want := range map[bool]string{true: "", false: "first"} {
		var table Table
		var l Log
		s := table.Begin(&l, k, "first", noon)
		table.Lost(&l, func(uint64) bool { return through }, noon)
		table.Accepted(s, 10)
		if got := take(&table, k, noon); got != want {
			t.Errorf("answer through: %t: resubmit got %q, want %q", through, got, want)
		}
	}
}
