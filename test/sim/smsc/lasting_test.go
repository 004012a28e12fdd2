package smsc

import (
	"os"
	"path/filepath"
	"testing"

	"shunt/smpp/pdu"
	"shunt/test/sim/books"
)

// TestLastingBook: an SMSC that was killed owes nothing less than before.
func TestLastingBook(t *testing.T) {
	book := filepath.Join(t.TempDir(), "book")
	o := Options{Book: book, Lasting: true, Seed: 9}
	first := start(t, o)
	tx := bind(t, first, pdu.BindTransmitter) // nothing takes the receipts
	var ids []string
	for range 3 {
		id, err := pdu.MessageID(tx.call(submitSM(1, "keep this")))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := os.WriteFile(book, half(t, book), 0o600); err != nil { // as kill -9 leaves it
		t.Fatal(err)
	}

	second := start(t, o)
	if sum := second.Summary(); sum.Resumed != 3 || sum.ReceiptsOpen != 3 {
		t.Fatalf("after the kill: %d resumed, %d receipts open; want 3 and 3", sum.Resumed, sum.ReceiptsOpen)
	}
	rx := bind(t, second, pdu.BindTransceiver)
	for _, want := range ids {
		m := rx.next(pdu.ROK)
		if got, _ := m.TLVs.Find(pdu.TagReceiptedMessageID); string(got[:len(got)-1]) != want {
			t.Errorf("receipt of %q, want %q", got, want)
		}
	}
	id, err := pdu.MessageID(rx.call(submitSM(0, "and this")))
	if err != nil || id == ids[2] || id <= ids[2] {
		t.Errorf("the next message has the id %q, %v; want one after %q", id, err, ids[2])
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	lines, err := books.ReadSMSC(book)
	if err != nil || len(lines) != 4 {
		t.Fatalf("%d lines, %v; want 4", len(lines), err)
	}
	for i, l := range lines {
		if len(l.Open) > 0 || l.Final != "DELIVRD" || (l.ReceiptAt != nil) != (i < 3) {
			t.Errorf("line %d: %+v, want it done, and with its receipt if it asked", i, l)
		}
	}
}

// half is the book with half a line more.
func half(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return append(b, `{"at":"2026-03-0`...)
}

func TestLastingNeedsItsOwnBook(t *testing.T) {
	book := filepath.Join(t.TempDir(), "book")
	s := start(t, Options{Book: book, Lasting: true, Seed: 1})
	bind(t, s, pdu.BindTransmitter).call(submitSM(1, "mine"))
	for name, o := range map[string]Options{
		"another seed":  {Book: book, Lasting: true, Seed: 2},
		"no book":       {Lasting: true},
		"ids by chance": {Book: book, Lasting: true, ID: IDULID},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: New: no error", name)
		}
	}
}
