package msg

import "fmt"

// Reason says why a verdict or an event came about. The same code appears in
// traces, counters, logs and tables. Codes are stored on disk: append only.
type Reason uint8

const (
	NoReason Reason = iota

	// Why a submit_sm goes where it goes.
	ReasonDivert          // registered, active, allowed by policy
	ReasonShadow          // would have been diverted, were it not for shadow mode
	ReasonSwitchedOff     // diversion is off
	ReasonUnregistered    // nobody registered the destination
	ReasonInactive        // registered, but inactive
	ReasonNotReady        // the index is still loading
	ReasonUndecodable     // the PDU does not decode: the SMSC judges it
	ReasonDestination     // not an international number
	ReasonAccountOptOut   // the account has not opted in
	ReasonSender          // the sender is not in divert_from
	ReasonNeverSender     // the sender is in never_divert_from
	ReasonServiceType     // the service_type is in never_divert_service_type
	ReasonMessageMode     // esm_class datagram or transaction mode
	ReasonMessageType     // esm_class says it is no ordinary short message
	ReasonUDH             // a user data header: ports, message waiting, anything but text
	ReasonLongMessage     // a part of a long message
	ReasonDataCoding      // binary, flash, message waiting or unknown alphabet
	ReasonProtocolID      // replace, type 0, (U)SIM download, any telematic service
	ReasonUSSD            // ussd_service_op
	ReasonPredefined      // sm_default_msg_id
	ReasonScheduled       // schedule_delivery_time
	ReasonReplace         // replace_if_present_flag
	ReasonTLV             // a TLV that only a handset's SMS stack can honour
	ReasonText            // the text does not decode in its alphabet
	ReasonOneTimeCode     // a one-time code
	ReasonValidity        // validity too short for push and fallback
	ReasonCanary          // outside the share
	ReasonPlanCarrier     // the plan's order has the carrier first
	ReasonAppDown         // the app's push lane cannot take it
	ReasonSpoolFull       // the spool refuses
	ReasonSpoolFailed     // the spool cannot write
	ReasonFallbackUnbound // no bind of our own to fall back on

	// Why an event happened.
	ReasonTokenDead    // the provider says that the token is dead
	ReasonNoDevice     // no device can be pushed to
	ReasonProviderBusy // throttled, lane full or provider unavailable
	ReasonProviderDown // no answer in time: unknown, never failed
	ReasonRejected     // the provider refused the request itself
	ReasonRestart      // found at start after a stop or crash
	ReasonLinkLost     // the bind went down
	ReasonTimeout      // no answer in time
	ReasonStatus       // a command_status, in the detail
	ReasonReceipt      // a delivery receipt, in the detail
	ReasonDeadline     // a timer
	ReasonApp          // the app's call
	ReasonESME         // the ESME's request
	ReasonIncomplete   // a long message: a part is missing, or was not taken
	ReasonSpoolStalled // the spool's disk does not answer
	ReasonResubmit     // the same submit again, after its session was lost: answered with the first one's id
	ReasonReplaced     // a later message with replace_if_present_flag took its place

	// More reasons why a submit_sm goes where it goes.
	ReasonNotAccepted // the SMSC has not accepted this account's sender lately
	ReasonLaneFull    // more waits for the app's provider than it takes in time
	ReasonNoReceipts  // a receipt is asked for and the app sends none
	ReasonFreshProof  // a one-time code, and the number was proven only lately

	// Why a number that only an external registry may know stays with the carrier.
	ReasonExternalBusy    // as many look-ups as may be are under way
	ReasonExternalDown    // the registry cannot be reached, or its breaker is open
	ReasonExternalTimeout // it did not answer in time
	ReasonExternalFault   // its answer is of no use
	ReasonExternalPending // it was taken off here while others of its submit_multi were asked about

	ReasonNumberFull // as many messages for the number wait for its app as may
	numReasons
)

var reasonNames = [numReasons]string{
	"", "divert", "shadow", "switched-off", "unregistered", "inactive", "index-loading", "undecodable",
	"destination", "account-opt-out", "sender", "never-sender", "service-type", "message-mode",
	"message-type", "udh", "long-message", "data-coding", "protocol-id", "ussd", "predefined-message",
	"scheduled", "replace-if-present", "tlv", "text", "one-time-code", "validity", "canary", "plan-carrier",
	"app-down", "spool-full", "spool-failed", "fallback-unbound",
	"token-dead", "no-device", "provider-busy", "provider-down", "provider-rejected", "restart", "link-lost",
	"timeout", "status", "receipt", "deadline", "app", "esme", "incomplete", "spool-stalled", "resubmit", "replaced",
	"not-accepted-lately", "lane-full", "no-receipts", "fresh-proof",
	"external-busy", "external-down", "external-timeout", "external-fault", "external-pending",
	"number-full",
}

func (r Reason) String() string {
	if r < numReasons {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// MarshalText writes the reason's code.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a reason's code.
func (r *Reason) UnmarshalText(b []byte) error {
	for i, n := range reasonNames {
		if n == string(b) {
			*r = Reason(i)
			return nil
		}
	}
	return fmt.Errorf("unknown reason %q", b)
}

// Reasons are all reasons in their order, for counters and tests.
func Reasons() []Reason {
	all := make([]Reason, numReasons)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}
