package books

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// world's places.
const (
	claimedAt = 1
	fellAt    = 2
	expiredAt = 3
)

// What the books cannot show is excused by the gateway's word, counted, and
// only where the word fits what is there.
func TestStatedExceptions(t *testing.T) {
	type result struct {
		Faults                              map[string]int
		Resubmitted, Leased, Unknown, Claim int
	}
	fallback := func(b *Books, i int) { // an SMS of message i beside its other outcome
		s := b.SMSC[1]
		s.BodyBlank, s.UserData, s.Dest = b.ESME[i].BodyBlank, b.ESME[i].UserData, b.ESME[i].Dest
		b.SMSC = append(b.SMSC, s)
	}
	unacknowledged := func(b *Books, stat, channel string) {
		b.Handset[0].Delivered, b.Handset[0].Read = 409, 0
		b.ESME[claimedAt].Receipts[0].Stat, b.ESME[claimedAt].Receipts[0].Channel = stat, channel
	}
	for name, tc := range map[string]struct {
		spoil func(*Books)
		words []Word
		want  result
	}{
		"claimed, its lease over, sent as SMS": {func(b *Books) {
			unacknowledged(b, "DELIVRD", "carrier")
			fallback(b, claimedAt)
		}, []Word{{ID: "sCLAIMED", State: "SMS_DELIVERED", Prefer: possibleDuplicate}}, result{Leased: 1}},
		"the same, and its second claim came too late": {func(b *Books) {
			unacknowledged(b, "DELIVRD", "carrier")
			fallback(b, claimedAt)
			b.Handset[0].Replay, b.Handset[0].ReplaySum = 409, ""
		}, []Word{{ID: "sCLAIMED", State: "SMS_DELIVERED", Prefer: possibleDuplicate}}, result{Leased: 1}},
		"a second claim that is refused for no reason": {func(b *Books) {
			b.Handset[0].Replay, b.Handset[0].ReplaySum = 409, ""
		}, []Word{{ID: "sCLAIMED", State: "DELIVERED"}}, result{Faults: map[string]int{HandsetSaw: 1}}},
		"the same where the plan prefers a possible loss": {func(b *Books) {
			unacknowledged(b, "DELIVRD", "carrier")
			fallback(b, claimedAt)
		}, []Word{{ID: "sCLAIMED", State: "SMS_DELIVERED", Prefer: "possible-loss"}}, result{Faults: map[string]int{Doubled: 1}}},
		"acknowledged, and sent as SMS": {func(b *Books) {
			fallback(b, claimedAt)
			b.ESME[claimedAt].Receipts[0].Channel = "carrier"
		}, []Word{{ID: "sCLAIMED", State: "SMS_DELIVERED", Prefer: possibleDuplicate}}, result{Faults: map[string]int{Doubled: 1}}},
		"claimed, its lease and its validity over": {func(b *Books) {
			unacknowledged(b, "EXPIRED", "carrier")
		}, []Word{{ID: "sCLAIMED", State: "EXPIRED", Prefer: possibleDuplicate}}, result{}},
		"claimed, its lease over, the SMS of unknown fate": {func(b *Books) {
			unacknowledged(b, "UNKNOWN", "carrier")
		}, []Word{{ID: "sCLAIMED", State: "UNKNOWN", Prefer: possibleDuplicate, SMSAttempts: 1}}, result{Unknown: 1}},
		"an SMS whose answer never came": {func(b *Books) {
			b.ESME[fellAt].Receipts[0].Stat = "UNKNOWN"
		}, []Word{{ID: "sFELL", State: "UNKNOWN", SMSAttempts: 1}}, result{Unknown: 1}},
		"the same of an SMS that was answered": {func(b *Books) {
			b.ESME[fellAt].Receipts[0].Stat = "UNKNOWN"
		}, []Word{{ID: "sFELL", State: "SMS_DELIVERED", SMSAttempts: 1}}, result{Faults: map[string]int{ReceiptUntrue: 1}}},
		"an SMS that never arrived": {func(b *Books) {
			b.SMSC = append(b.SMSC[:1], b.SMSC[2:]...)
			b.ESME[fellAt].Validity, b.ESME[fellAt].Receipts[0].Stat = 10, "UNKNOWN"
		}, []Word{{ID: "sFELL", State: "UNKNOWN", SMSAttempts: 1}}, result{Unknown: 1}},
		"a claim whose answer never came": {func(b *Books) {
			unacknowledged(b, "UNKNOWN", "app")
			b.Handset[0].Claim, b.ESME[claimedAt].Validity = 409, 10
		}, []Word{{ID: "sCLAIMED", State: "UNKNOWN", Device: "d2"}}, result{Claim: 1}},
		"a message that the gateway calls unknown without a cause": {func(b *Books) {
			unacknowledged(b, "UNKNOWN", "app")
			b.Handset[0].Claim, b.ESME[claimedAt].Validity = 409, 10
		}, []Word{{ID: "sCLAIMED", State: "UNKNOWN"}}, result{Faults: map[string]int{Lost: 1}}},
		"expired, and no receipt asked for": {func(b *Books) {
			b.ESME[expiredAt].Asked, b.ESME[expiredAt].Receipts = false, nil
		}, nil, result{}},
		"expired without a validity": {func(b *Books) {
			b.ESME[expiredAt].Validity = 0
		}, nil, result{Faults: map[string]int{Lost: 1}}},
		"a third SMS of one that was sent again once": {func(b *Books) {
			b.SMSC = append(b.SMSC, b.SMSC[1], b.SMSC[1])
		}, []Word{{ID: "sFELL", State: "SMS_DELIVERED", Resubmits: 1}}, result{Faults: map[string]int{Doubled: 1}}},
		"sent again, of a message without a response": {func(b *Books) {
			b.SMSC[3].SystemID = "shunt"
			b.SMSC = append(b.SMSC, b.SMSC[3])
		}, []Word{{ID: "sNOBODY", State: "SMS_DELIVERED", Resubmits: 1}}, result{Resubmitted: 1}},
		"the same, by the word on a known one": {func(b *Books) {
			b.SMSC[3].SystemID = "shunt"
			b.SMSC = append(b.SMSC, b.SMSC[3])
		}, []Word{{ID: "sFELL", State: "SMS_DELIVERED", Resubmits: 1}}, result{Faults: map[string]int{Doubled: 1}}},
	} {
		t.Run(name, func(t *testing.T) {
			b := world()
			b.ESME[expiredAt].Validity = 10
			tc.spoil(&b)
			words := append(tc.words, Word{ID: "sEXPIRED", State: "EXPIRED"})
			r := Reconcile(b, Options{ForwardedIDs: true, Ask: says(words...)})
			if len(tc.want.Faults) == 0 {
				tc.want.Faults = map[string]int{}
			}
			got := result{r.Counts, r.ResubmittedDoubled, r.LeasedDoubled, r.UnknownSMS, r.ClaimsCut}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("(-want +got):\n%s%v", d, r.Faults)
			}
		})
	}
}

func TestReceiptsInCaseOfFailure(t *testing.T) {
	for name, tc := range map[string]struct {
		at    int
		spoil func(*ESMELine)
		want  map[string]int
	}{
		"delivered, and none came":  {0, func(m *ESMELine) { m.Receipts = nil }, map[string]int{}},
		"delivered, and one came":   {0, func(*ESMELine) {}, map[string]int{ReceiptUnasked: 1}},
		"failed, and one came":      {7, func(*ESMELine) {}, map[string]int{}},
		"failed, and none came":     {7, func(m *ESMELine) { m.Receipts = nil }, map[string]int{ReceiptMissing: 1}},
		"failed, said to have come": {7, func(m *ESMELine) { m.Receipts[0].Stat = "DELIVRD" }, map[string]int{ReceiptUntrue: 1}},
	} {
		b := world()
		m := &b.ESME[tc.at]
		m.Asked, m.OnFailure = false, true
		tc.spoil(m)
		if r := Reconcile(b, Options{}); !cmp.Equal(r.Counts, tc.want) {
			t.Errorf("%s: faults %v %v, want %v", name, r.Counts, r.Faults, tc.want)
		}
	}
}

// A receipt that comes again for an id that nobody knows counts once.
func TestStrayReceiptsThatRepeat(t *testing.T) {
	b := world()
	for _, stat := range []string{"DELIVRD", "DELIVRD"} {
		b.ESME = append(b.ESME, ESMELine{Unmatched: &Receipt{ID: "?", Stat: stat}})
	}
	r := Reconcile(b, Options{RepeatedReceipts: true})
	if !r.OK() || r.ReceiptsUnanswered != 1 || r.ReceiptsRepeated != 1 {
		t.Errorf("repeated: %v, of unanswered %d, repeated %d; want no fault, 1, 1", r.Faults, r.ReceiptsUnanswered, r.ReceiptsRepeated)
	}
	b.ESME[len(b.ESME)-1].Unmatched.Stat = "UNDELIV"
	if r = Reconcile(b, Options{RepeatedReceipts: true}); !cmp.Equal(r.Counts, map[string]int{ReceiptStray: 1}) {
		t.Errorf("with two states: %v, want one stray receipt", r.Counts)
	}
}
