package provider

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Rule gives the pushes to some tokens an outcome of their own.
type Rule struct {
	Token      string   `json:"token"`                 // a token, or a prefix of tokens with a * at the end
	Status     int      `json:"status"`                // HTTP status; 200 = accept; 0 = never answer
	Reason     string   `json:"reason,omitempty"`      // the provider's code
	RetryAfter int      `json:"retry_after,omitempty"` // seconds; 0 = no header
	Latency    Duration `json:"latency,omitempty"`     // more than the common one
	Times      int      `json:"times,omitempty"`       // spent after so many pushes; 0 = never
}

// ParseRule reads TOKEN=STATUS[:REASON[:RETRY_AFTER]] or TOKEN=freeze.
func ParseRule(s string) (Rule, error) {
	bad := func() (Rule, error) {
		return Rule{}, fmt.Errorf(`outcome %q: want TOKEN=STATUS[:REASON[:RETRY_AFTER_SECONDS]] or TOKEN=freeze, where TOKEN may end in *`, s)
	}
	token, what, ok := strings.Cut(s, "=")
	if !ok || token == "" {
		return bad()
	}
	r := Rule{Token: token}
	if what == "freeze" {
		return r, nil
	}
	f := strings.Split(what, ":")
	var err error
	if r.Status, err = strconv.Atoi(f[0]); err != nil || r.Status < 200 || r.Status > 599 || len(f) > 3 {
		return bad()
	}
	if len(f) > 1 {
		r.Reason = f[1]
	}
	if len(f) > 2 {
		if r.RetryAfter, err = strconv.Atoi(f[2]); err != nil || r.RetryAfter < 0 {
			return bad()
		}
	}
	return r, nil
}

func (r *Rule) matches(token string) bool {
	if p, ok := strings.CutSuffix(r.Token, "*"); ok {
		return strings.HasPrefix(token, p)
	}
	return r.Token == token
}

// Duration is a time.Duration that JSON writes as "50ms".
type Duration time.Duration

// MarshalText writes the duration as Go does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads it.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// Behaviour is what a simulator does to pushes that pass its checks.
type Behaviour struct {
	Rules        []Rule   `json:"rules"` // the first match wins
	Latency      Duration `json:"latency"`
	ErrorRate    float64  `json:"error_rate"`    // share of pushes answered with the provider's internal error
	ThrottleRate float64  `json:"throttle_rate"` // share of pushes answered with 429
	RetryAfter   int      `json:"retry_after"`   // seconds, sent with those
	Frozen       bool     `json:"frozen"`        // take requests and never answer
	TokenFrozen  bool     `json:"token_frozen"`  // FCM: the token endpoint never answers
}

// check finds what a Behaviour may not be.
func (b *Behaviour) check() error {
	for _, r := range b.Rules {
		if r.Token == "" || r.Status != 0 && (r.Status < 200 || r.Status > 599) || r.Times < 0 || r.RetryAfter < 0 {
			return fmt.Errorf("rule for %q: want a token, a status of 200 to 599 or 0, and no negative number", r.Token)
		}
	}
	if b.ErrorRate < 0 || b.ThrottleRate < 0 || b.ErrorRate+b.ThrottleRate > 1 {
		return errors.New("error_rate and throttle_rate: want shares that sum up to at most 1")
	}
	if b.Latency < 0 || b.RetryAfter < 0 {
		return errors.New("latency and retry_after: want no negative value")
	}
	return nil
}

// Verdict is what to do with one push.
type Verdict struct {
	Freeze     bool
	Status     int // 0 = accept
	Reason     string
	RetryAfter int
	Latency    time.Duration
}

// Rates' verdicts carry these reasons; each simulator puts its own code.
const (
	ReasonError    = "error"
	ReasonThrottle = "throttle"
)

// behaviour is a Behaviour that changes live. mu guards all of it.
type behaviour struct {
	mu     sync.Mutex
	b      Behaviour
	spent  []int // pushes that each rule took
	rnd    *rand.Rand
	thawed chan struct{} // closed when a change may end a freeze
}

func newBehaviour(b Behaviour, seed uint64) (*behaviour, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	return &behaviour{
		b: b, spent: make([]int, len(b.Rules)), thawed: make(chan struct{}),
		rnd: rand.New(rand.NewPCG(seed, seed)),
	}, nil
}

// update lays a JSON object over the current Behaviour: members that it does
// not have stay as they are.
func (h *behaviour) update(patch []byte) (Behaviour, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var seen struct {
		Rules *[]Rule `json:"rules"`
	}
	next := h.b
	next.Rules = nil // never decode into the array that is in use
	dec := json.NewDecoder(strings.NewReader(string(patch)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&next); err != nil {
		return Behaviour{}, err
	}
	if err := json.Unmarshal(patch, &seen); err != nil {
		return Behaviour{}, err
	}
	if seen.Rules == nil {
		next.Rules = h.b.Rules
	}
	if err := next.check(); err != nil {
		return Behaviour{}, err
	}
	h.set(next, seen.Rules != nil)
	return next, nil
}

// set replaces the Behaviour; mu is held.
func (h *behaviour) set(next Behaviour, rules bool) {
	h.b = next
	if rules {
		h.spent = make([]int, len(next.Rules))
	}
	close(h.thawed)
	h.thawed = make(chan struct{})
}

// judge decides about one push.
func (h *behaviour) judge(token string) Verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := Verdict{Latency: time.Duration(h.b.Latency), Freeze: h.b.Frozen}
	if v.Freeze {
		return v
	}
	for i := range h.b.Rules {
		r := &h.b.Rules[i]
		if !r.matches(token) || r.Times > 0 && h.spent[i] >= r.Times {
			continue
		}
		h.spent[i]++
		v.Latency += time.Duration(r.Latency)
		v.Freeze = r.Status == 0
		if r.Status != 200 {
			v.Status, v.Reason, v.RetryAfter = r.Status, r.Reason, r.RetryAfter
		}
		return v
	}
	switch p := h.rnd.Float64(); {
	case p < h.b.ErrorRate:
		v.Status, v.Reason, v.RetryAfter = 500, ReasonError, h.b.RetryAfter
	case p < h.b.ErrorRate+h.b.ThrottleRate:
		v.Status, v.Reason, v.RetryAfter = 429, ReasonThrottle, h.b.RetryAfter
	}
	return v
}

// tokenFrozen tells whether the token endpoint is frozen, and gives the
// channel that closes at the next change.
func (h *behaviour) tokenFrozen() (bool, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.TokenFrozen, h.thawed
}
