package spool

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"shunt/gateway/msg"
)

var someID = msg.ID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

func genTime() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "zero") {
			return time.Time{}
		}
		return time.Unix(rapid.Int64Range(1<<30, 1<<33).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
	})
}

func genText() *rapid.Generator[string] { return rapid.StringN(0, 60, 240) }

func genRecord() *rapid.Generator[Record] {
	return rapid.Custom(func(t *rapid.T) Record {
		text := func(n string) string { return genText().Draw(t, n) }
		at := func(n string) time.Time { return genTime().Draw(t, n) }
		wire := text("wire")
		if wire == "" {
			wire = someID.String()
		}
		state, hold := rapid.SampledFrom(msg.States()).Draw(t, "state"), msg.NoHold
		if state == msg.Held {
			hold = rapid.SampledFrom([]msg.Hold{msg.HoldParts, msg.HoldSchedule, msg.HoldTurn}).Draw(t, "hold")
		}
		return Record{
			ID: someID, WireID: wire, To: msg.Number(rapid.Uint64().Draw(t, "to")),
			Hold: hold, DueAt: at("due"), Owed: msg.Notice(rapid.Byte().Draw(t, "owed")), Cause: msg.Reason(rapid.Byte().Draw(t, "cause")),
			Account: msg.Account{SystemID: text("sid"), SystemType: text("stype"), AddressRange: text("range")},
			App:     text("app"), Plan: text("plan"), From: text("from"),
			Version: rapid.Byte().Draw(t, "v"), RegisteredDelivery: rapid.Byte().Draw(t, "rd"),
			ReceivedAt: at("received"), ClaimBy: at("claim"), ExpiresAt: at("expires"),
			Lease:  time.Duration(rapid.Int64().Draw(t, "lease")),
			Prefer: rapid.SampledFrom([]msg.Prefer{msg.PossibleLoss, msg.PossibleDuplicate}).Draw(t, "prefer"),
			State:  state, Since: at("since"),
			Device: text("device"), SMSBegun: rapid.Bool().Draw(t, "begun"),
			SMSAttempts: rapid.Uint16().Draw(t, "attempts"), Resubmits: rapid.Uint16().Draw(t, "resubmits"),
			Peer: text("peer"), SMSID: text("smsid"), SMSErr: text("smserr"),
			Read: rapid.Bool().Draw(t, "read"), DoneAt: at("done"), ReceiptDue: rapid.Bool().Draw(t, "due"),
		}
	})
}

func TestRecordCodec(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := genRecord().Draw(t, "record")
		steps := trail{count: rapid.Uint16().Draw(t, "steps"), steps: rapid.StringN(0, 300, 300).Draw(t, "trail")}
		got, n, err := decodeRecord(someID, appendRecord(nil, &want, steps))
		if d := cmp.Diff(want, got); err != nil || n != steps || d != "" {
			t.Fatalf("decodeRecord = %v, trail %v, want %v (-want +got):\n%s", err, n, steps, d)
		}
		// RAM keeps the same.
		x := newIndex()
		if got := x.insert(&want, steps).record(); got != want {
			t.Fatalf("entry (-want +got):\n%s", cmp.Diff(want, got))
		}
	})
}

func TestBodyCodec(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := genRecord().Draw(t, "record")
		want := &Message{
			ID: someID, WireID: r.WireID, Account: r.Account, To: r.To, App: r.App, From: r.From,
			PDU: rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "pdu"), Alphabet: rapid.Byte().Draw(t, "alphabet"),
			Version: r.Version, RegisteredDelivery: r.RegisteredDelivery,
			ReceivedAt: r.ReceivedAt, ClaimBy: r.ClaimBy, ExpiresAt: r.ExpiresAt, Lease: r.Lease, Prefer: r.Prefer,
		}
		got, err := decodeBody(someID, appendBody(nil, want))
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Fatalf("decodeBody = %v (-want +got):\n%s", err, d)
		}
	})
}

func TestStepCodec(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(genStep(), 0, 5).Draw(t, "steps")
		var b []byte
		for i := range want {
			b = appendStep(b, &want[i])
		}
		got, err := decodeSteps([]Step{}, b)
		if d := cmp.Diff(want, got); err != nil || d != "" {
			t.Fatalf("decodeSteps = %v (-want +got):\n%s", err, d)
		}
	})
}

func genStep() *rapid.Generator[Step] {
	return rapid.Custom(func(t *rapid.T) Step {
		return Step{
			At: genTime().Draw(t, "at"), Event: msg.Event(rapid.Byte().Draw(t, "event")),
			From:   rapid.SampledFrom(msg.States()).Draw(t, "from"),
			To:     rapid.SampledFrom(msg.States()).Draw(t, "to"),
			Reason: msg.Reason(rapid.Byte().Draw(t, "reason")), Detail: genText().Draw(t, "detail"),
		}
	})
}

// Every truncation of every record fails, and so does an octet too many.
func TestTruncation(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)
	m := &Message{
		ID: someID, WireID: "0000002a", Account: msg.Account{SystemID: "bank"}, To: testNumber, App: "chat",
		From: "Bank", PDU: []byte("pdu"), ReceivedAt: at, ExpiresAt: at,
	}
	r := newRecord(m)
	r.State, r.Device, r.SMSErr = msg.Claimed, "phone", "011"
	for _, c := range []struct {
		name   string
		fields []byte
		decode func([]byte) error
	}{
		{"body", appendBody(nil, m), func(b []byte) error { _, err := decodeBody(someID, b); return err }},
		{"record", appendRecord(nil, &r, trail{count: 7, steps: "steps"}), func(b []byte) error { _, _, err := decodeRecord(someID, b); return err }},
		{"step", appendStep(nil, &Step{At: at, Detail: "d"}), func(b []byte) error { d := &decoder{b: b}; d.step(); return d.end() }},
	} {
		if err := c.decode(c.fields); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		for n := range c.fields {
			if err := c.decode(c.fields[:n]); !errors.Is(err, errShort) {
				t.Errorf("%s cut to %d of %d octets: %v, want %v", c.name, n, len(c.fields), err, errShort)
			}
		}
		if err := c.decode(append(bytes.Clone(c.fields), 0)); !errors.Is(err, errTrailing) {
			t.Errorf("%s with an octet too many: %v, want %v", c.name, err, errTrailing)
		}
		key := idKey('S', someID)
		value := seal(append([]byte{recordVersion}, c.fields...), 0, key)
		if got, err := unseal(key, value); err != nil || !bytes.Equal(got, c.fields) {
			t.Errorf("unseal(%s) = %v, want the fields", c.name, err)
		}
		for n := range value {
			if _, err := unseal(key, value[:n]); err == nil {
				t.Errorf("sealed %s cut to %d octets: no error", c.name, n)
			}
			for bit := range 8 {
				flipped := bytes.Clone(value)
				flipped[n] ^= 1 << bit
				if _, err := unseal(key, flipped); !errors.Is(err, errCRC) {
					t.Errorf("sealed %s with bit %d of octet %d flipped: %v, want %v", c.name, bit, n, err, errCRC)
				}
			}
		}
		if _, err := unseal(idKey('H', someID), value); !errors.Is(err, errCRC) {
			t.Errorf("%s under another key: %v, want %v", c.name, err, errCRC)
		}
	}
}

func TestCodecRefuses(t *testing.T) {
	key := idKey('S', someID)
	newer := seal([]byte{recordVersion + 1}, 0, key)
	if _, err := unseal(key, newer); !errors.Is(err, errNewer) {
		t.Errorf("unseal of a newer version: %v, want %v", err, errNewer)
	}
	b := appendRecord(nil, &Record{ID: someID}, trail{})
	b[0] = byte(stateCount)
	if _, _, err := decodeRecord(someID, b); !errors.Is(err, errBadFields) {
		t.Errorf("record with a state beyond the last: %v, want %v", err, errBadFields)
	}
	huge := appendBody(nil, &Message{ID: someID})
	copy(huge[len(huge)-4:], "\x00\x02\x00\x01")
	if _, err := decodeBody(someID, huge); !errors.Is(err, errBadFields) {
		t.Errorf("body with a pdu of 128 KiB + 1: %v, want %v", err, errBadFields)
	}
}

func TestTimesOutOfRange(t *testing.T) {
	far, early := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
	if nanos(far) <= nanos(time.Date(2260, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("nanos(9999) = %d, want more than those of 2260", nanos(far))
	}
	if n := nanos(early); n >= 0 {
		t.Errorf("nanos(1900) = %d, want less than zero", n)
	}
	if n := nanos(time.Unix(0, 0)); n != 1 {
		t.Errorf("nanos of the epoch = %d, want 1: zero is no time", n)
	}
	if n := nanos(time.Time{}); n != 0 || !timeOf(0).IsZero() {
		t.Errorf("the zero time: nanos = %d, timeOf(0) = %s", n, timeOf(0))
	}
}

// Whatever the octets are, decoding ends, and what decodes survives encoding.
func FuzzRecord(f *testing.F) {
	f.Add(appendRecord(nil, &Record{ID: someID, State: msg.Claimed, Device: "phone"}, trail{count: 3, steps: "some"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, steps, err := decodeRecord(someID, b)
		if err != nil {
			return
		}
		again, n, err := decodeRecord(someID, appendRecord(nil, &r, steps))
		if err != nil || n != steps || again != r {
			t.Errorf("decoded again: %v, trail %v, want %v (-want +got):\n%s", err, n, steps, cmp.Diff(r, again))
		}
	})
}

func FuzzBody(f *testing.F) {
	f.Add(appendBody(nil, &Message{ID: someID, App: "chat", PDU: []byte("pdu")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeBody(someID, b)
		if err != nil {
			return
		}
		again, err := decodeBody(someID, appendBody(nil, m))
		if d := cmp.Diff(m, again); err != nil || d != "" {
			t.Errorf("decoded again: %v (-want +got):\n%s", err, d)
		}
	})
}

func FuzzSteps(f *testing.F) {
	f.Add(appendStep(nil, &Step{Event: msg.EvClaim, Detail: "device=phone"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		steps, err := decodeSteps(nil, b)
		if err != nil {
			return
		}
		var same []byte
		for i := range steps {
			same = appendStep(same, &steps[i])
		}
		if again, err := decodeSteps(nil, same); err != nil || !slices.Equal(again, steps) {
			t.Errorf("decoded again: %v, %+v, want %+v", err, again, steps)
		}
	})
}
