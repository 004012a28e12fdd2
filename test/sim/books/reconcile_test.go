package books

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// world is a sound set of books: messages 1 to 4 are forwarded, claimed,
// fallen back and expired; 5 is refused, 6 was never answered and forwarded
// all the same, 7 asked for no receipt, 8 ended UNDELIV after a fallback.
func world() Books {
	at := func(n int) *time.Time { t := t0.Add(time.Duration(n) * time.Second); return &t }
	esme := func(seq int, id string, stat, channel string) ESMELine {
		m := ESMELine{
			Seq: seq, SystemID: "bank", Source: "CHAT", Dest: fmt.Sprintf("44770090%04d", seq),
			Body: fmt.Sprintf("body%d", seq), BodyBlank: fmt.Sprintf("blank%d", seq), UserData: fmt.Sprintf("data%d", seq),
			Text: fmt.Sprintf("text%d", seq), Asked: true, Submitted: at(seq), Responded: at(seq + 1), MessageID: id,
		}
		if stat != "" {
			m.Receipts = []Receipt{{ID: id, Stat: stat, At: *at(seq + 2), Channel: channel}}
		}
		return m
	}
	sms := func(m ESMELine, systemID, id, final string) SMSCLine {
		return SMSCLine{
			SystemID: systemID, ID: id, Source: m.Source, Dest: m.Dest, Body: m.Body, BodyBlank: m.BodyBlank,
			UserData: m.UserData, Final: final,
		}
	}
	forwarded := esme(1, "00000001", "DELIVRD", "")
	claimed := esme(2, "sCLAIMED", "DELIVRD", "app")
	fell := esme(3, "sFELL", "DELIVRD", "carrier")
	expired := esme(4, "sEXPIRED", "EXPIRED", "carrier")
	refused := esme(5, "", "", "")
	refused.Status = 8
	unanswered := esme(6, "", "", "")
	unanswered.Responded = nil
	plain := esme(7, "00000007", "", "")
	plain.Asked = false
	failed := esme(8, "sFAILED", "UNDELIV", "carrier")
	fellSMS := sms(fell, "shunt", "000000a3", "DELIVRD")
	fellSMS.Body = "body3 with the gateway's registered_delivery"
	failedSMS := sms(failed, "shunt", "000000a8", "UNDELIV")
	refusedSMS := sms(refused, "bank", "", "")
	refusedSMS.Status = 8
	return Books{
		ESME: []ESMELine{forwarded, claimed, fell, expired, refused, unanswered, plain, failed},
		SMSC: []SMSCLine{
			sms(forwarded, "bank", "00000001", "DELIVRD"), fellSMS, refusedSMS,
			sms(unanswered, "bank", "00000006", "DELIVRD"), sms(plain, "bank", "00000007", "DELIVRD"), failedSMS,
		},
		Handset: []HandsetLine{
			{
				ID: "sCLAIMED", Device: "d2", Number: claimed.Dest, From: "CHAT", Claim: 200, Text: "text2",
				Replay: 200, ReplaySum: "text2", Delivered: 204, Read: 204,
			},
			{ID: "sFELL", Device: "d3", Number: fell.Dest, Claim: 409},
			{ID: "sEXPIRED", Device: "d4", Number: expired.Dest},
		},
	}
}

func TestSoundBooks(t *testing.T) {
	r := Reconcile(world(), Options{ForwardedIDs: true})
	if !r.OK() {
		t.Fatalf("Reconcile(sound books) = %v, want no fault", r.Faults)
	}
	got := []int{
		r.Messages, r.Accepted, r.Refused, r.Unanswered, r.UnansweredKnown, r.Forwarded, r.Claimed, r.FellBack, r.Expired,
		r.ReceiptsAsked, r.ReceiptsMatched, r.Delivered, r.Read,
	}
	want := []int{8, 6, 1, 1, 1, 3, 1, 2, 1, 5, 5, 1, 1}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("counts (-want +got):\n%s", d)
	}
	const line = "every message accounted for: 8 of 8; lost 0, doubled 0, altered 0; receipts 5 of 5"
	if r.Summary() != line {
		t.Errorf("Summary() = %q, want %q", r.Summary(), line)
	}
}

// Every kind of fault must be found, and nothing else with it.
func TestEachFaultIsFound(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func(*Books)
		want  map[string]int
	}{
		"forwarded message lost": {func(b *Books) { b.SMSC = b.SMSC[1:] }, map[string]int{Lost: 1}},
		"claimed message lost":   {func(b *Books) { b.Handset[0].Claim = 500 }, map[string]int{Lost: 1}},
		"fallback lost": {func(b *Books) {
			b.SMSC = append(b.SMSC[:1], b.SMSC[2:]...)
		}, map[string]int{Lost: 1}},
		"message without a receipt lost": {func(b *Books) {
			b.SMSC = append(b.SMSC[:4], b.SMSC[5:]...)
		}, map[string]int{Lost: 1}},
		"forwarded twice": {func(b *Books) { b.SMSC = append(b.SMSC, b.SMSC[0]) }, map[string]int{Doubled: 1}},
		"forwarded and fallen back": {func(b *Books) {
			s := b.SMSC[0]
			s.SystemID = "shunt"
			b.SMSC = append(b.SMSC, s)
		}, map[string]int{Doubled: 1}},
		"fallen back twice": {func(b *Books) { b.SMSC = append(b.SMSC, b.SMSC[1]) }, map[string]int{Doubled: 1}},
		"claimed and fallen back": {func(b *Books) {
			s := b.SMSC[1]
			s.BodyBlank, s.Dest = "blank2", b.ESME[1].Dest
			b.SMSC = append(b.SMSC, s)
		}, map[string]int{Doubled: 1, ReceiptUntrue: 1}},
		"claimed by two devices": {func(b *Books) {
			h := b.Handset[0]
			h.Device = "d2b"
			b.Handset = append(b.Handset, h)
		}, map[string]int{Doubled: 1}},
		"unanswered message doubled":                 {func(b *Books) { b.SMSC = append(b.SMSC, b.SMSC[3]) }, map[string]int{Doubled: 1}},
		"forwarded with another registered_delivery": {func(b *Books) { b.SMSC[0].Body = "x" }, map[string]int{Altered: 1}},
		"forwarded with another esm_class": {func(b *Books) {
			b.SMSC[0].Body, b.SMSC[0].BodyBlank = "x", "y"
		}, map[string]int{Altered: 1}},
		"forwarded with another text": {func(b *Books) {
			b.SMSC[0].Body, b.SMSC[0].BodyBlank, b.SMSC[0].UserData = "x", "y", "z"
		}, map[string]int{Altered: 1}},
		"fallen back with another text": {func(b *Books) {
			b.SMSC[1].BodyBlank, b.SMSC[1].UserData = "y", "z"
		}, map[string]int{Altered: 1}},
		"claimed with another text": {func(b *Books) {
			b.Handset[0].Text, b.Handset[0].ReplaySum = "x", "x"
		}, map[string]int{Altered: 1}},
		"claimed by another number":   {func(b *Books) { b.Handset[0].Number = "447700909999" }, map[string]int{Altered: 1}},
		"claimed with another sender": {func(b *Books) { b.Handset[0].From = "EVIL" }, map[string]int{Altered: 1}},
		"forwarded on another's bind": {func(b *Books) { b.SMSC[0].SystemID = "shop" }, map[string]int{WrongBind: 1}},
		"response with another id":    {func(b *Books) { b.SMSC[0].ID = "00000099" }, map[string]int{WrongID: 1}},
		"refused and forwarded":       {func(b *Books) { b.SMSC[2].Status = 0 }, map[string]int{NotRefused: 1}},
		"an SMS that nobody sent": {func(b *Books) {
			b.SMSC = append(b.SMSC, SMSCLine{SystemID: "bank", ID: "00000077", BodyBlank: "?", Dest: "4477", UserData: "?"})
		}, map[string]int{Stray: 1}},
		"a claim of what nobody sent": {func(b *Books) {
			b.Handset = append(b.Handset, HandsetLine{ID: "sOTHER", Number: "4477", Claim: 200, Text: "?"})
		}, map[string]int{Stray: 1}},
		"two messages alike":         {func(b *Books) { b.ESME = append(b.ESME, b.ESME[0]) }, map[string]int{NotUnique: 1}},
		"replay refused":             {func(b *Books) { b.Handset[0].Replay = 409 }, map[string]int{HandsetSaw: 1}},
		"replay with other text":     {func(b *Books) { b.Handset[0].ReplaySum = "x" }, map[string]int{HandsetSaw: 1}},
		"handset's own finding":      {func(b *Books) { b.Handset[1].Fault = "401" }, map[string]int{HandsetSaw: 1}},
		"receipt missing, forwarded": {func(b *Books) { b.ESME[0].Receipts = nil }, map[string]int{ReceiptMissing: 1}},
		"receipt missing, claimed":   {func(b *Books) { b.ESME[1].Receipts = nil }, map[string]int{ReceiptMissing: 1}},
		"receipt missing, never acknowledged": {func(b *Books) {
			b.ESME[1].Receipts, b.Handset[0].Delivered = nil, 0
		}, map[string]int{ReceiptMissing: 1}},
		"receipt missing, expired is then lost": {func(b *Books) { b.ESME[3].Receipts = nil }, map[string]int{Lost: 1, ReceiptMissing: 1}},
		"receipt doubled": {func(b *Books) {
			b.ESME[0].Receipts = append(b.ESME[0].Receipts, b.ESME[0].Receipts[0])
		}, map[string]int{ReceiptDoubled: 1}},
		"receipt says delivered, the SMSC says not": {func(b *Books) { b.SMSC[1].Final = "UNDELIV" }, map[string]int{ReceiptUntrue: 1}},
		"receipt says delivered, the phone did not": {func(b *Books) { b.Handset[0].Delivered = 0 }, map[string]int{ReceiptUntrue: 1}},
		"receipt says undelivered, the phone did":   {func(b *Books) { b.ESME[1].Receipts[0].Stat = "UNDELIV" }, map[string]int{ReceiptUntrue: 1}},
		"receipt with another id":                   {func(b *Books) { b.ESME[2].Receipts[0].ID = "000000a3" }, map[string]int{ReceiptUntrue: 1}},
		"receipt of the wrong channel":              {func(b *Books) { b.ESME[2].Receipts[0].Channel = "app" }, map[string]int{ReceiptUntrue: 1}},
		"receipt that nobody asked for": {func(b *Books) {
			b.ESME[6].Receipts = []Receipt{{ID: "00000007", Stat: "DELIVRD"}}
		}, map[string]int{ReceiptUnasked: 1}},
		"receipts of unknown messages": {func(b *Books) { // one may be the unanswered message's
			for range 3 {
				b.ESME = append(b.ESME, ESMELine{Unmatched: &Receipt{ID: "?", Stat: "DELIVRD"}})
			}
		}, map[string]int{ReceiptStray: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			b := world()
			tc.spoil(&b)
			r := Reconcile(b, Options{ForwardedIDs: true})
			if d := cmp.Diff(tc.want, r.Counts); d != "" {
				t.Errorf("faults (-want +got):\n%s%v", d, r.Faults)
			}
			if r.OK() || len(r.Faults) == 0 {
				t.Errorf("OK() = %t with %d faults listed, want false and the fault", r.OK(), len(r.Faults))
			}
		})
	}
}

var expiredWord = Word{ID: "sEXPIRED", State: "EXPIRED"}

// says is a gateway that knows these messages.
func says(words ...Word) func(string) []Word {
	return func(what string) []Word {
		for _, w := range words {
			if w.ID == what {
				return []Word{w}
			}
		}
		if what[0] == '+' {
			return words
		}
		return nil
	}
}

// What only a crash may leave behind is a fault until the options allow it.
func TestAfterACrash(t *testing.T) {
	b := world()
	b.ESME[0].Receipts = append(b.ESME[0].Receipts, b.ESME[0].Receipts[0])
	b.SMSC = append(b.SMSC, b.SMSC[1])
	b.ESME[1].Receipts, b.Handset[0].Delivered = nil, 0
	strict := Reconcile(b, Options{})
	if want := map[string]int{ReceiptDoubled: 1, Doubled: 1, ReceiptMissing: 1}; !cmp.Equal(strict.Counts, want) {
		t.Errorf("strict: faults %v, want %v", strict.Counts, want)
	}
	lenient := Options{RepeatedReceipts: true, Ask: says(Word{ID: "sFELL", State: "SMS_DELIVERED", Resubmits: 1}, expiredWord), PendingClaimed: true}
	b.ESME[3].Validity = 10
	r := Reconcile(b, lenient)
	if !r.OK() || r.ReceiptsRepeated != 1 || r.ResubmittedDoubled != 1 || r.ReceiptsPending != 1 {
		t.Errorf("lenient: %v, repeated %d, resubmitted %d, pending %d, want no fault and 1 each",
			r.Faults, r.ReceiptsRepeated, r.ResubmittedDoubled, r.ReceiptsPending)
	}
	// Lenience has an end: a third SMS, a second receipt of another state, a
	// second SMS of a message that was not sent again.
	b.SMSC = append(b.SMSC, b.SMSC[1], b.SMSC[5])
	b.ESME[0].Receipts[1].Stat = "UNDELIV"
	r = Reconcile(b, lenient)
	if want := map[string]int{ReceiptDoubled: 1, Doubled: 2}; !cmp.Equal(r.Counts, want) {
		t.Errorf("beyond: faults %v, want %v", r.Counts, want)
	}
}

func TestOutcomesWithoutTheUsualTraces(t *testing.T) {
	// A claim of a message whose bind gives ids of another form.
	b := world()
	b.ESME[1].MessageID, b.ESME[1].Receipts[0].ID = "0a0b0c0d", "0a0b0c0d"
	if r := Reconcile(b, Options{}); !r.OK() || r.Claimed != 1 {
		t.Errorf("claim by number and text: %v, claimed %d, want no fault and 1", r.Faults, r.Claimed)
	}
	// A fallback that the SMSC refuses for good.
	b = world()
	b.SMSC[5].Status = 0x0B
	r := Reconcile(b, Options{})
	if !r.OK() || r.FellBack != 2 || r.FellBackFinal["REFUSED"] != 1 {
		t.Errorf("refused fallback: %v, fell back %d (%v), want no fault, 2, one REFUSED", r.Faults, r.FellBack, r.FellBackFinal)
	}
	// An unanswered message that never arrived is accounted for.
	b = world()
	b.SMSC = append(b.SMSC[:3], b.SMSC[4:]...)
	if r := Reconcile(b, Options{}); !r.OK() || r.UnansweredKnown != 0 || r.Accounted() != 8 {
		t.Errorf("unanswered: %v, known %d, accounted %d, want no fault, 0, 8", r.Faults, r.UnansweredKnown, r.Accounted())
	}
	// An SMSC that writes its ids in two forms.
	b = world()
	b.ESME[0].Receipts[0].ID = "0000000001"
	if r := Reconcile(b, Options{}); !r.OK() {
		t.Errorf("ids of two forms: %v, want no fault", r.Faults)
	}
}

func TestBooksOnDisk(t *testing.T) {
	dir := t.TempDir()
	want := world()
	write := func(name string, n int, line func(int) any) string {
		path := filepath.Join(dir, name)
		w, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			w.Write(line(i))
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return path
	}
	smsc := write("smsc", len(want.SMSC), func(i int) any { return want.SMSC[i] })
	handset := write("handset", len(want.Handset), func(i int) any { return &want.Handset[i] })
	one := write("one", 4, func(i int) any { return want.ESME[i] })
	two := write("two", 4, func(i int) any { return want.ESME[4+i] })
	got, err := Load(smsc, handset, one, two)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Load (-want +got):\n%s", d)
	}
	if _, err := Load(smsc, handset, filepath.Join(dir, "none")); err == nil {
		t.Error("Load of a book that is not there: no error")
	}
	if _, err := Read[SMSCLine](write("bad", 1, func(int) any { return "no line" })); err == nil {
		t.Error("Read of a book of another form: no error")
	}
}
