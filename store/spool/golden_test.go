package spool

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
)

// golden reads spaced hex: a line for its source, then fields, each with a
// comment.
func golden(t testing.TB, name string) (b []byte) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "golden", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(string(text), "\n") {
		if i == 0 {
			if !strings.HasPrefix(line, "source:") {
				t.Fatalf("%s names no source", name)
			}
			continue
		}
		digits, _, _ := strings.Cut(line, "#")
		octets, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(digits), " ", ""))
		if err != nil {
			t.Fatalf("%s, line %d: %v", name, i+1, err)
		}
		b = append(b, octets...)
	}
	return b
}

// What an earlier program of the same record version wrote is read as it was
// meant: of what was HELD only parts were.
func TestGoldenRecords(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)
	group := someID
	group[15] = 9
	one := Record{
		ID: someID, WireID: "8000002a", Account: msg.Account{SystemID: "bank", SystemType: "ota", AddressRange: "^44"},
		To: testNumber, App: "chat", From: "Bank", Version: 0x34, RegisteredDelivery: 1,
		ReceivedAt: at, ClaimBy: at.Add(30 * time.Second), ExpiresAt: at.Add(time.Hour), Lease: 10 * time.Second,
	}
	held := one
	held.WireID, held.ClaimBy, held.Prefer = someID.String(), at.Add(20*time.Second), msg.PossibleDuplicate
	held.State, held.Since, held.Hold = msg.Held, at, msg.HoldParts
	held.Group, held.Number, held.Total = group, 2, 3
	submitted := one
	submitted.State, submitted.Since, submitted.SMSAttempts, submitted.Resubmits = msg.SMSSubmitted, at.Add(31*time.Second), 2, 1
	submitted.Peer, submitted.SMSID, submitted.SMSErr, submitted.Edition = "smsc-own", "1F", "00000058", 3
	begun := submitted
	begun.State, begun.SMSBegun, begun.Peer, begun.SMSID, begun.Edition = msg.Fallback, true, "", "", 0
	planned := submitted
	planned.Plan, planned.Cause = "news", msg.ReasonTimeout
	delivered := one
	delivered.State, delivered.Since, delivered.DoneAt = msg.Delivered, at.Add(31*time.Second), at.Add(5*time.Second)
	delivered.Device, delivered.ReceiptDue, delivered.Read = "phone", true, true
	for _, c := range []struct {
		name  string
		want  Record
		steps uint16
	}{
		{"record_held_part", held, 1},
		{"record_submitted", submitted, 7},
		{"record_planned", planned, 7},
		{"record_begun", begun, 5},
		{"record_delivered", delivered, 4},
	} {
		fields, err := unseal(idKey(kState, someID), golden(t, c.name))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got, steps, err := decodeRecord(someID, fields)
		if d := cmp.Diff(c.want, got); err != nil || steps.count != c.steps || d != "" {
			t.Errorf("%s: %v, %d steps, want %d (-want +got):\n%s", c.name, err, steps.count, c.steps, d)
		}
	}
}

func TestGoldenBodies(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)
	group := someID
	group[15] = 9
	one := Message{
		ID: someID, WireID: "8000002a", Account: msg.Account{SystemID: "bank", SystemType: "ota", AddressRange: "^44"},
		To: testNumber, App: "chat", From: "Bank", PDU: []byte("\x00\x00\x00\x14\x00\x00\x00\x04 and so on"),
		Alphabet: 3, Version: 0x34, RegisteredDelivery: 1,
		ReceivedAt: at, ClaimBy: at.Add(30 * time.Second), ExpiresAt: at.Add(time.Hour), Lease: 10 * time.Second,
	}
	two := one
	two.WireID, two.Prefer = someID.String(), msg.PossibleDuplicate
	two.Group, two.Number, two.Total = group, 2, 3
	for name, want := range map[string]*Message{"body": &one, "body_part": &two} {
		fields, err := unseal(idKey(kBody, someID), golden(t, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := decodeBody(someID, fields)
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, d)
		}
	}
}

// A spool of that program: its parts wait on, and everything of one pair that was
// under way stays so.
func TestGoldenRecordsAreLive(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	txn := s.db.NewTransaction(true)
	if err := txn.Set(idKey(kState, someID), golden(t, "record_held_part")); err != nil {
		t.Fatal(err)
	}
	if err := txn.Commit(); err != nil {
		t.Fatal(err)
	}
	shut(t, s)
	s = started(t, Options{Dir: dir, Now: func() time.Time { return time.Date(2030, 1, 2, 3, 4, 6, 0, time.UTC) }})
	if st := s.Stats(); st.SetAside != 0 || st.Live[msg.Held] != 1 || st.Outcomes != 0 {
		t.Fatalf("Stats: %+v", st)
	}
	do(t, s, Event{ID: someID, Kind: msg.EvHoldDeadline})
	wantState(t, s, "the part", someID, msg.Fallback)
}
