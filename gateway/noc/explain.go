package noc

import (
	"context"
	"net/http"
	"strings"
	"time"

	"shunt/gateway/msg"
)

// ExplainRequest is a submit_sm that nobody sent. What is left out is as an
// ordinary text message has it.
type ExplainRequest struct {
	From               string  `json:"from"`
	To                 string  `json:"to"`
	Text               *string `json:"text,omitempty"` // nil: some ordinary text
	ESME               string  `json:"esme,omitempty"` // system_id; "": some ESME that has no [[account]]
	ServiceType        string  `json:"service_type,omitempty"`
	DataCoding         *uint8  `json:"data_coding,omitempty"` // nil: the account's default, or UCS2 if the text does not fit
	ESMClass           uint8   `json:"esm_class,omitempty"`
	ProtocolID         uint8   `json:"protocol_id,omitempty"`
	Priority           uint8   `json:"priority,omitempty"`
	RegisteredDelivery uint8   `json:"registered_delivery,omitempty"`
	Validity           string  `json:"validity,omitempty"` // a validity_period (SMPP v3.4 §7.1.1)
}

// Verdicts of an explanation.
const (
	VerdictDivert  = "divert"
	VerdictForward = "forward"
	VerdictShadow  = "shadow" // forwarded; it would be diverted were the switch on
)

// Explanation is what the gateway would do with a message, and why. It holds
// nothing of the text.
type Explanation struct {
	Verdict string     `json:"verdict"`
	Reason  msg.Reason `json:"reason"`
	From    string     `json:"from"`
	To      string     `json:"to"`
	ESME    string     `json:"esme"`
	At      time.Time  `json:"at"`
	Divert  string     `json:"divert"`         // the switch
	App     string     `json:"app,omitempty"`  // of a registered number
	Plan    string     `json:"plan,omitempty"` // once it got that far

	ClaimBy   time.Time `json:"claim_by,omitzero"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`

	Checks []Check `json:"checks"` // all of them, in the order in which they are asked
}

// Outcomes of a check.
const (
	OutcomePassed  = "passed"
	OutcomeFailed  = "failed"
	OutcomeSkipped = "skipped" // it has nothing to look at
)

// Check is one question of the decision.
type Check struct {
	Check   string     `json:"check"`
	Outcome string     `json:"outcome"`
	Reason  msg.Reason `json:"reason,omitempty"` // of a failed one
	Decides bool       `json:"decides"`          // the first that failed
	After   bool       `json:"after"`            // behind the one that decides: it was of no account
	Value   string     `json:"value"`            // what it looked at
}

// Explain says what the gateway would do with a message. Nothing is sent or
// stored.
func (c *Client) Explain(ctx context.Context, q *ExplainRequest, unmask bool) (e Explanation, err error) {
	return e, c.call(ctx, http.MethodPost, "/v1/explain", unmasked(nil, unmask), q, &e)
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) (any, error) {
	var q ExplainRequest
	if err := readJSON(w, r, &q); err != nil {
		return nil, err
	}
	if q.To == "" {
		return nil, problemf(http.StatusBadRequest, CodeInvalid, "to: is missing")
	}
	for _, f := range []struct {
		name, value string
		most        int
	}{
		{"from", q.From, 20}, {"to", q.To, 20}, {"esme", q.ESME, 15}, {"service_type", q.ServiceType, 5}, {"validity", q.Validity, 16},
	} {
		if len(f.value) > f.most || strings.ContainsFunc(f.value, func(c rune) bool { return c < ' ' || c > '~' }) {
			return nil, problemf(http.StatusBadRequest, CodeInvalid, "%s: want at most %d printable ASCII characters", f.name, f.most)
		}
	}
	clear := unmask(r)
	e, err := s.o.Gateway.Explain(&q, func(a string) string { return address(a, clear) })
	if err != nil {
		return nil, problemf(http.StatusBadRequest, CodeInvalid, "%v", err)
	}
	return e, nil
}

// address masks what may be a subscriber's number, however it is written.
func address(a string, clear bool) string {
	digits := 0
	for i := range len(a) {
		if a[i] >= '0' && a[i] <= '9' {
			digits++
		}
	}
	if clear || digits < 7 {
		return a
	}
	return msg.Mask(a)
}
