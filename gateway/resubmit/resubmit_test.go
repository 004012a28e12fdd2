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
	if len(table.lost) != maxAnswers {
		t.Errorf("%d are in doubt, want %d", len(table.lost), maxAnswers)
	}
	table.Restore(Key{1, 2, 3}, "id", noon.Add(Within+2*time.Second))
	if len(table.lost) != 1 {
		t.Errorf("%d are in doubt later, want 1", len(table.lost))
	}
}
