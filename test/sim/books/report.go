package books

import (
	"fmt"
	"time"

	"shunt/gateway/msg"
)

// Kinds of fault.
const (
	Lost           = "lost"            // accepted, and no outcome
	Doubled        = "doubled"         // more than one outcome
	Altered        = "altered"         // the outcome differs from what was sent
	WrongBind      = "wrong-bind"      // forwarded on another account's bind
	WrongID        = "wrong-id"        // the response's id is not the one the SMSC gave
	NotRefused     = "not-refused"     // refused, and yet an outcome
	Stray          = "stray"           // an outcome of a message that nobody sent
	NotUnique      = "not-unique"      // two messages sent are alike: nothing can be said of them
	HandsetSaw     = "handset"         // a handset was answered what must not be
	ReceiptMissing = "receipt-missing" // asked for, and never came
	ReceiptDoubled = "receipt-doubled" // came more than once
	ReceiptUntrue  = "receipt-untrue"  // says what did not happen, or names another channel or id
	ReceiptUnasked = "receipt-unasked" // nobody asked
	ReceiptStray   = "receipt-stray"   // names no message of its ESME
	RecordGap      = "record-gap"      // the call detail records' sequence has a gap or a repetition
	RecordMissing  = "record-missing"  // a diverted message has none
	RecordDoubled  = "record-doubled"  // a message has more than one
	RecordUntrue   = "record-untrue"   // says what did not happen
	RecordStray    = "record-stray"    // names no message of any ESME
)

// Fault is one thing that must not be.
type Fault struct {
	Kind     string `json:"kind"`
	SystemID string `json:"system_id,omitempty"`
	Seq      int    `json:"seq,omitempty"`
	ID       string `json:"id,omitempty"`
	Dest     string `json:"dest,omitempty"` // masked
	Detail   string `json:"detail,omitempty"`
}

func (f Fault) String() string {
	return fmt.Sprintf("%s: message %d of %s to %s, id %s: %s", f.Kind, f.Seq, f.SystemID, f.Dest, f.ID, f.Detail)
}

// Report is what the books add up to.
type Report struct {
	Messages   int `json:"messages"` // submit_sm sent
	Accepted   int `json:"accepted"` // answered ESME_ROK
	Refused    int `json:"refused"`
	Unanswered int `json:"unanswered"` // may have an outcome or none

	// Outcomes of the accepted messages, and of the unanswered that have one.
	Forwarded       int            `json:"forwarded"`
	Claimed         int            `json:"claimed"`
	FellBack        int            `json:"fell_back"`
	Expired         int            `json:"expired"`
	UnansweredKnown int            `json:"unanswered_with_outcome"`
	ForwardedFinal  map[string]int `json:"forwarded_final"` // by final state at the SMSC
	FellBackFinal   map[string]int `json:"fell_back_final"`
	Delivered       int            `json:"delivered_in_app"`
	Read            int            `json:"read_in_app"`

	// By outcome: receipts asked for and matched. Keys: forwarded, claimed,
	// fell-back, expired.
	Asked   map[string]int `json:"asked_by_outcome"`
	Matched map[string]int `json:"matched_by_outcome"`

	Latencies map[string][]time.Duration `json:"-"` // submit_sm to its response, by outcome

	ReceiptsAsked   int `json:"receipts_asked"`
	ReceiptsMatched int `json:"receipts_matched"` // came once, true, with the right id
	ReceiptsPending int `json:"receipts_pending"` // claimed, never acknowledged: due at the end of validity

	// What only a crash, a cut connection or a plan's preference may leave behind.
	ReceiptsRepeated   int `json:"receipts_repeated"`
	ReceiptsUnanswered int `json:"receipts_for_unanswered"`
	ResubmittedDoubled int `json:"resubmitted_doubled"` // messages whose SMS of unknown fate came again
	LeasedDoubled      int `json:"leased_doubled"`      // claimed, never acknowledged, and sent as SMS, as the plan prefers
	UnknownSMS         int `json:"unknown_sms"`         // an SMS whose answer was cut off until the validity was over
	ClaimsCut          int `json:"claims_cut"`          // a claim whose answer was cut off until the validity was over

	Records int `json:"cdr_records"` // call detail records of messages

	Counts map[string]int `json:"faults"` // by kind
	Faults []Fault        `json:"first_faults,omitempty"`

	fates      map[string]*fate // of accepted, diverted messages, by the id that the ESME was given
	unanswered map[string]int   // messages without a response, by system_id
}

// OK tells whether no fault was found.
func (r *Report) OK() bool { return len(r.Counts) == 0 }

// Diverted is the number of accepted messages that the gateway kept for itself.
func (r *Report) Diverted() int { return len(r.fates) }

// Accounted is the number of messages that have what they must have: the
// accepted with an outcome, the refused and the unanswered.
func (r *Report) Accounted() int { return r.Messages - r.Counts[Lost] }

// Summary is the one line that says it all.
func (r *Report) Summary() string {
	return fmt.Sprintf("every message accounted for: %d of %d; lost %d, doubled %d, altered %d; receipts %d of %d",
		r.Accounted(), r.Messages, r.Counts[Lost], r.Counts[Doubled], r.Counts[Altered]+r.Counts[WrongBind],
		r.ReceiptsMatched, r.ReceiptsAsked-r.ReceiptsPending)
}

func (r *Report) fault(limit int, kind string, m *ESMELine, detail string) {
	r.Counts[kind]++
	if len(r.Faults) >= limit {
		return
	}
	f := Fault{Kind: kind, Detail: detail}
	if m != nil {
		f.SystemID, f.Seq, f.ID, f.Dest = m.SystemID, m.Seq, m.MessageID, msg.Mask("+"+m.Dest)
	}
	r.Faults = append(r.Faults, f)
}
