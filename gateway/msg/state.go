package msg

import "fmt"

// State is where a diverted message stands. States are stored on disk: append only. The table of what follows what is
// store/spool's alone; see docs/flow.md.
type State uint8

const (
	None         State = iota // no such message
	Accepted                  // on stable storage, submit_sm_resp may go
	Pushing                   // a push attempt has begun
	Pushed                    // the provider took the push
	Claimed                   // the app won: its claim was answered with the text
	Delivered                 // the device acknowledged it (final)
	Fallback                  // the carrier won: an SMS is due or under way
	SMSUnknown                // the SMS was written, its fate is not known
	SMSSubmitted              // the SMSC took the SMS
	SMSDelivered              // the SMSC reported delivery (final)
	SMSFailed                 // the SMSC refused it or reported a failure (final)
	Expired                   // validity ended first (final)
	Unknown                   // claimed and never acknowledged, or no receipt ever came (final)
	Held                      // on stable storage, waits: for the other parts, its hour or its turn; see Hold
	Cancelled                 // its ESME took it back before the app or the carrier had it (final)
	numStates
)

var stateNames = [numStates]string{
	"NONE", "ACCEPTED", "PUSHING", "PUSHED", "CLAIMED", "DELIVERED", "FALLBACK",
	"SMS_UNKNOWN", "SMS_SUBMITTED", "SMS_DELIVERED", "SMS_FAILED", "EXPIRED", "UNKNOWN",
	"HELD", "CANCELLED",
}

func (s State) String() string {
	if s < numStates {
		return stateNames[s]
	}
	return fmt.Sprintf("STATE(%d)", uint8(s))
}

// MarshalText writes the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a state's name.
func (s *State) UnmarshalText(b []byte) error {
	for i, n := range stateNames {
		if n == string(b) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("unknown state %q", b)
}

// Final tells whether nothing more can happen to the outcome; a read mark may
// still be set on a delivered message.
func (s State) Final() bool {
	switch s {
	case Delivered, SMSDelivered, SMSFailed, Expired, Unknown, Cancelled:
		return true
	}
	return false
}

// States are all states in their order, for tables and tests.
func States() []State {
	all := make([]State, numStates)
	for i := range all {
		all[i] = State(i)
	}
	return all
}

// Event is what can happen to a diverted message. Events are stored on disk:
// append only. Legs, timers and the API
// only post events; store/spool decides what they do.
type Event uint8

const (
	EvNone          Event = iota
	EvAccept              // the decision diverted it and the spool stored it
	EvPushBegin           // an attempt at a provider begins
	EvPushAccepted        // the provider took the push (never: delivered)
	EvPushDead            // no device is left, or the lane cannot take it: fall back now
	EvClaim               // an app claims the text
	EvDelivered           // the winning device acknowledges
	EvRead                // the winning device says that the user read it
	EvClaimDeadline       // the claim timer
	EvLease               // the timer from claimed to delivered
	EvSMSBegin            // the fallback is about to be written to the SMSC
	EvSMSAccepted         // submit_sm_resp ESME_ROK
	EvSMSTemporary        // a temporary status (throttled, queue full): again later
	EvSMSPermanent        // a permanent status
	EvSMSLost             // written, and no answer can come any more
	EvSMSResubmit         // policy sends an SMS of unknown fate again
	EvSMSDelivered        // the SMSC's receipt: delivered
	EvSMSFailed           // the SMSC's receipt: undeliverable, rejected, deleted, unknown
	EvSMSExpired          // the SMSC's receipt: expired
	EvValidity            // validity_period is over
	EvReceiptDone         // the ESME took the final receipt
	EvComplete            // the last missing part of a long message is there
	EvHoldDeadline        // a part is missing for too long, or went by carrier
	EvCancel              // cancel_sm
	EvReplace             // replace_sm
	EvDue                 // schedule_delivery_time has come
	EvTurn                // everything before it between the same two is decided
	EvWithdraw            // its ESME was told that it was not taken
	EvNoticeDone          // the ESME took a notice, or will never get it
	EvReply               // the app has answered it; of the trace alone
	EvReplyDone           // the ESME took that reply, refused a part of it, or will never get it; of the trace alone
	EvSMSEnroute          // the SMSC's intermediate notification
	EvReceiptTried        // the ESME did not take a receipt or notice for now: changes nothing, but for the trace
	numEvents
)

var eventNames = [numEvents]string{
	"none", "accept", "push-begin", "push-accepted", "push-dead", "claim", "delivered", "read",
	"claim-deadline", "lease-over", "sms-begin", "sms-accepted", "sms-temporary", "sms-permanent",
	"sms-lost", "sms-resubmit", "sms-delivered", "sms-failed", "sms-expired", "validity-over", "receipt-done",
	"complete", "hold-deadline", "cancel", "replace", "due", "turn", "withdraw", "notice-done",
	"reply", "reply-done", "sms-enroute", "receipt-tried",
}

func (e Event) String() string {
	if e < numEvents {
		return eventNames[e]
	}
	return fmt.Sprintf("event(%d)", uint8(e))
}

// MarshalText writes the event's name.
func (e Event) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText reads an event's name.
func (e *Event) UnmarshalText(b []byte) error {
	for i, n := range eventNames {
		if n == string(b) {
			*e = Event(i)
			return nil
		}
	}
	return fmt.Errorf("unknown event %q", b)
}

// Events are all events in their order, for tables and tests.
func Events() []Event {
	all := make([]Event, numEvents)
	for i := range all {
		all[i] = Event(i)
	}
	return all
}

// Hold says what a message that is HELD waits for. Holds are stored on disk:
// append only.
type Hold uint8

const (
	NoHold       Hold = iota
	HoldParts         // the other parts of its long message
	HoldSchedule      // its schedule_delivery_time
	HoldTurn          // the messages before it between the same two
)

var holdNames = [...]string{"", "parts", "schedule", "turn"}

func (h Hold) String() string {
	if int(h) < len(holdNames) {
		return holdNames[h]
	}
	return fmt.Sprintf("hold(%d)", uint8(h))
}

// Notice is what an ESME may ask to be told beside the final receipt, as a set
// of bits, stored on disk.
type Notice uint8

const (
	NoticeEnroute Notice = 1 << iota // intermediate notification (SMPP v3.4 §5.2.17, bit 4)
	NoticeRead                       // SME delivery acknowledgement: the user has read it (bit 2, §2.11)
)

// Notices are all notices in the order in which they can come about.
var Notices = [...]Notice{NoticeEnroute, NoticeRead}

// Prefer says what to do with a message that an app claimed and never
// acknowledged.
type Prefer uint8

const (
	PossibleLoss      Prefer = iota // end as UNKNOWN when validity is over
	PossibleDuplicate               // send it as SMS after the lease
)

func (p Prefer) String() string {
	if p == PossibleDuplicate {
		return "possible-duplicate"
	}
	return "possible-loss"
}
