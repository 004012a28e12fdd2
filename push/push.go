// Package push says what a push is and how an attempt at one ended, in words
// that hold for every provider, and owns the HTTP/2 link that carries them.
//
// A push is a doorbell: it tells the app that a message waits, and the app's
// claim decides. A provider's acceptance is therefore never a delivery, and a
// push whose fate is not known is never a failure.
package push

import (
	"context"
	"fmt"
	"time"
)

// Limits of what a Notification may hold. Both providers stop at 4096 octets
// for the whole payload; their senders check that after encoding, and leave
// out a body that does not fit.
const (
	MaxID      = 64   // octets: the longest apns-collapse-id
	MaxToken   = 1024 // octets: above any token that APNs or FCM ever gave
	MaxPayload = 4096 // octets: the payload's limit at both providers
	MaxReason  = 64   // octets of Result.Reason
)

// Notification is one push to one device. The zero Expires means "now or
// never": the provider is told not to store it.
type Notification struct {
	ID      string    // the message id; later pushes with it replace earlier ones on the device
	From    string    // the sender as the app shows it
	Token   string    // the device's token; never logged
	Sandbox bool      // APNs only: the token belongs to the sandbox
	Expires time.Time // the claim deadline; the provider drops the push after it
	Body    string    // "" = doorbell only; left out if it does not fit; never logged
}

// Outcome is how one Send ended. The zero Outcome is the safe one: nothing is
// known, so nothing may be concluded.
type Outcome uint8

const (
	Unknown   Outcome = iota // time-out or broken link: perhaps pushed; never counts as failed
	Accepted                 // the provider took it (never: delivered)
	TokenDead                // this token will not work again
	Busy                     // the provider did not take it now: 429, 5xx, lane full, unreachable; try another way
	Rejected                 // this request is at fault: too large, invalid, wrong topic or project; alarm
	Denied                   // our credentials are refused; alarm
	numOutcomes
)

var outcomeNames = [numOutcomes]string{"unknown", "accepted", "token-dead", "busy", "rejected", "denied"}

func (o Outcome) String() string {
	if o < numOutcomes {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// MarshalText writes the outcome's name.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Outcomes are all outcomes in their order, for counters and tests.
func Outcomes() []Outcome {
	all := make([]Outcome, numOutcomes)
	for i := range all {
		all[i] = Outcome(i)
	}
	return all
}

// Result is how one Send ended, and what the provider said about it.
type Result struct {
	Outcome    Outcome
	Reason     string        // the provider's code or one of ours; at most MaxReason octets, never a token
	RetryAfter time.Duration // how long the provider asked to be left alone; 0 = it did not say
	TokenBusy  bool          // with Busy: for this token alone
	Repeated   bool          // with Unknown: it was sent twice already
	BodyLeft   bool          // the body did not fit: a doorbell was sent
	DeadSince  time.Time     // with TokenDead: dead only if the token was registered before this; zero = dead now
}

// Sender pushes to the devices of one app through one provider.
//
// Send returns by ctx's deadline or by the sender's own time-out, whichever
// is first, and never blocks beyond it. It is safe for concurrent use. Close
// ends every goroutine and connection; a Send under way ends as Unknown, a
// later one as Busy.
type Sender interface {
	Send(ctx context.Context, n Notification) Result
	Close() error
}

// Check finds what no provider could accept, so that it costs no request. ok
// is false when the Result is final.
func (n *Notification) Check() (r Result, ok bool) {
	switch {
	case n.ID == "":
		return Result{Outcome: Rejected, Reason: "MissingID"}, false
	case len(n.ID) > MaxID || !plain(n.ID):
		return Result{Outcome: Rejected, Reason: "BadCollapseId"}, false
	case n.Token == "":
		return Result{Outcome: Rejected, Reason: "MissingDeviceToken"}, false
	case len(n.Token) > MaxToken || !plain(n.Token):
		return Result{Outcome: TokenDead, Reason: "BadDeviceToken"}, false
	}
	return Result{}, true
}

// plain tells whether s is made of characters that need no escaping in a URL
// path or a header. Tokens of both providers and Shunt's ids are.
func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z':
		case c == '-', c == '_', c == '.', c == ':', c == '=', c == '~':
		default:
			return false
		}
	}
	return s != "." && s != ".."
}
