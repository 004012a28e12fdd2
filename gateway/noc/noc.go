// Package noc is the operators' hand on a running gateway: an HTTP server on a
// unix socket, and the client side that the operator commands are made of.
package noc

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"shunt/gateway/alarm"
	"shunt/gateway/msg"
	"shunt/store/registry"
	"shunt/store/spool"
)

// Gateway is what the control server needs of the gateway. All methods are
// called from the server's request goroutines, any number at once.
type Gateway interface {
	Status() Status
	Sessions() []Session
	Divert() string                                   // on, shadow or off
	SetDivert(ctx context.Context, mode string) error // nil once it is effective and survives a restart
	// Drain tells how far the node is with finishing; SetDrain has it take no new
	// binds or submits, or take them again.
	Drain() Drain
	SetDrain(on bool) Drain
	Queue() []Queue // what has not ended
	// Reload reads the configuration file again; an error that is a *Refused lists
	// what is wrong with it, and nothing has changed.
	Reload(ctx context.Context) (Reload, error)
	// Watch tells of what passes to and from a number until ctx is done, or see
	// ends it with an error. ErrTooManyWatches: enough others watch.
	Watch(ctx context.Context, n msg.Number, see func(*Passed) error) error
	// Prove has the node prove itself; false: another one asks at the moment.
	Prove(ctx context.Context) (Proof, bool)
	// Names are those of accounts and apps in the configuration.
	Names() (accounts, apps []string)
	// Erase removes a number from registry, spool and call detail records; what
	// is pending stays and is counted.
	Erase(ctx context.Context, n msg.Number) (Erased, error)
	// Explain decides about a message that nobody sent and touches nothing. show
	// writes an address, or a pattern of addresses, as the answer may hold it.
	// An error says what is wrong with the request, and quotes nothing of it.
	Explain(q *ExplainRequest, show func(string) string) (Explanation, error)
}

// Traces are what an OpenTelemetry collector was sent.
type Traces struct {
	Sent    uint64 `json:"sent"`    // spans
	Dropped uint64 `json:"dropped"` // what found no room, or was not taken
}

// Reload is what came of a reload. The names are keys and sections of the file.
type Reload struct {
	Changed  []string `json:"changed"`  // in use now
	Warnings []string `json:"warnings"` // FILE:LINE:COL: …
}

// Refused says that a configuration has faults, or differs in what takes a
// restart.
type Refused struct{ Faults []string } // FILE:LINE:COL: …, warnings too

func (r *Refused) Error() string {
	return "the configuration is refused, nothing has changed:\n" + strings.Join(r.Faults, "\n")
}

// Registry is the part of registry.Registry that operators use.
type Registry interface {
	Get(n msg.Number) (registry.Registration, error)
	Put(ctx context.Context, p registry.Put) (registry.PutResult, error)
	Remove(ctx context.Context, n msg.Number, device string) (bool, error)
	List(ctx context.Context, after msg.Number, limit int) ([]registry.Registration, error)
	NewLoad(dir string) *registry.Load
	Backup(w io.Writer) error
	Each(ctx context.Context, do func(*registry.Registration) error) error
	Count() registry.Count
	Ready() bool
}

// Spool is the part of spool.Spool that traces are read from.
type Spool interface {
	Get(id msg.ID) (spool.Record, error)
	Trace(id msg.ID) ([]spool.Step, error)
	Resolve(wireID string) (msg.ID, bool)
	Recent(n msg.Number, limit int) ([]spool.Record, error)
	Latest(prefix string, limit int) []spool.Record // live, by message_id, the newest first
}

// Status is the gateway at a glance.
type Status struct {
	Version string    `json:"version"`
	Node    string    `json:"node"`
	Started time.Time `json:"started"`
	Divert  string    `json:"divert"`
	Drain   bool      `json:"draining"` // takes no new binds or submits

	// Transit: the disk had no room for the stores at the start, so that everything
	// passes and nothing else is done.
	Transit bool `json:"transit,omitempty"`

	IndexReady bool           `json:"index_ready"` // false: the registry's index is loading, everything is forwarded
	IndexBytes int64          `json:"index_bytes"`
	Registered registry.Count `json:"registered"`

	Listen []string   `json:"listen"` // addresses that ESMEs bind to
	API    []string   `json:"api"`    // addresses that apps use
	Binds  BindCounts `json:"binds"`
	Own    []OwnBind  `json:"own"`
	Push   []PushLane `json:"push"`

	External []ExternalRegistry `json:"external"` // that are asked about numbers which nobody registered here

	Spool    spool.Stats `json:"spool"`
	DiskFree float64     `json:"disk_free_share"` // of the volume under node.data_dir, 0 to 1
	Counters Counters    `json:"counters"`
	FailOpen []string    `json:"fail_open"` // why messages that could be diverted are forwarded at the moment

	// UpstreamError is why the last connection to the upstream SMSC failed; empty
	// if it did not.
	UpstreamError   string    `json:"upstream_error,omitempty"`
	UpstreamErrorAt time.Time `json:"upstream_error_at,omitzero"`

	Answers []Answers `json:"answers"` // to submits, in the last minute

	Alarms       []alarm.Alarm `json:"alarms"`        // that are raised, the critical ones first
	AlarmsRaised uint64        `json:"alarms_raised"` // since the start
}

// Answers is what it took to answer submits of one leg: smpp, by the SMSC, of one
// message at a time on each bind; app, of every diverted one. In seconds, from
// buckets.
type Answers struct {
	Leg   string  `json:"leg"`
	Count uint64  `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
}

// BindCounts are sessions that are bound.
type BindCounts struct {
	Transmitter int `json:"transmitter"`
	Receiver    int `json:"receiver"`
	Transceiver int `json:"transceiver"`
	Upstream    int `json:"upstream"`
}

// OwnBind is one of Shunt's own binds.
type OwnBind struct {
	SMSC      string `json:"smsc"`
	State     string `json:"state"`
	LastError string `json:"last_error,omitempty"`
	Window    int    `json:"window"` // requests without an answer
	WindowMax int    `json:"window_max"`
}

// ExternalRegistry is one external registry.
type ExternalRegistry struct {
	Name    string            `json:"registry"`
	Breaker string            `json:"breaker"` // closed, open or half-open
	Until   time.Time         `json:"until,omitzero"`
	Reason  string            `json:"reason,omitempty"` // of the last fault
	Trips   uint64            `json:"trips"`            // how often the breaker opened
	Asking  int               `json:"asking"`           // look-ups under way
	Cached  int               `json:"cached"`           // numbers that are remembered
	Lookups map[string]uint64 `json:"lookups"`          // by result; "cached-…" was remembered
	Latency []LatencyBucket   `json:"latency"`          // of all look-ups
	Seconds float64           `json:"seconds"`          // all look-ups together
	Count   uint64            `json:"count"`            // and how many
}

// LatencyBucket is how many took so many seconds at most.
type LatencyBucket struct {
	Within float64 `json:"within"`
	Count  uint64  `json:"count"`
}

// PushLane is one provider of an app.
type PushLane struct {
	App      string    `json:"app"`
	Provider string    `json:"provider"` // apns, fcm, and apns-sandbox, fcm-sandbox once their breaker opened
	Breaker  string    `json:"breaker"`  // closed, open or half-open
	Until    time.Time `json:"until,omitzero"`
	Reason   string    `json:"reason,omitempty"` // of the last failure
	Trips    uint64    `json:"trips"`            // how often the breaker opened
}

// Counters count since the start of the process.
type Counters struct {
	SubmitsIn           uint64            `json:"submits_in"`
	Forwarded           uint64            `json:"forwarded"`
	Diverted            uint64            `json:"diverted"`
	Shadow              uint64            `json:"shadow"`
	Reasons             map[string]uint64 `json:"reasons"` // submit_sm by msg.Reason
	Pushes              map[string]uint64 `json:"pushes"`  // attempts by outcome
	Edge                map[string]uint64 `json:"edge"`    // what was refused before or instead of a bind, by what
	FallbackSent        uint64            `json:"fallback_sent"`
	FallbackRetried     uint64            `json:"fallback_retried"`
	FallbackResubmitted uint64            `json:"fallback_resubmitted"`
	ReceiptsSent        uint64            `json:"receipts_sent"`
	ReceiptsWaiting     uint64            `json:"receipts_waiting"`

	Traces     *Traces `json:"traces,omitempty"` // nil: they are sent nowhere
	CDRWritten uint64  `json:"cdr_written"`
	CDRDropped uint64  `json:"cdr_dropped,omitempty"`
	CDRFailing bool    `json:"cdr_failing,omitempty"`
}

// Session is one ESME's bind and what it is connected to.
type Session struct {
	ID        uint64    `json:"id"` // counts the binds since the start; traces have it
	SystemID  string    `json:"system_id"`
	Bind      string    `json:"bind"` // transmitter, receiver, transceiver
	State     string    `json:"state"`
	Version   Version   `json:"version"`
	Peer      string    `json:"peer"`
	Upstream  string    `json:"upstream"`
	Since     time.Time `json:"since"`
	PDUsIn    uint64    `json:"pdus_in"`
	PDUsOut   uint64    `json:"pdus_out"`
	Rate      uint64    `json:"rate"`       // PDUs in the last second, both directions
	WindowIn  int       `json:"window_in"`  // the ESME's requests without an answer
	WindowOut int       `json:"window_out"` // requests to the ESME without an answer
	WindowMax int       `json:"window_max"` // of each of them
	LastError string    `json:"last_error,omitempty"`
}

// Version is an interface_version (SMPP v3.4 §5.2.4): 0x34 prints as "3.4".
// Zero is none.
type Version byte

func (v Version) String() string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%x.%x", byte(v)>>4, byte(v)&15)
}

// MarshalText writes "3.4", or nothing for none.
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (v *Version) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*v = 0
		return nil
	}
	var hi, lo byte
	if n, err := fmt.Sscanf(string(b), "%1x.%1x", &hi, &lo); n != 2 || err != nil || len(b) != 3 {
		return fmt.Errorf("version %q: want two hexadecimal digits with a point between", b)
	}
	*v = Version(hi<<4 | lo)
	return nil
}

// Registration is a number as answers show it; Number is masked unless asked
// for otherwise. Tokens and bearers are in no answer.
type Registration struct {
	Number     string   `json:"number"`
	State      string   `json:"state"` // active: at least one device is
	Generation uint32   `json:"generation"`
	Devices    []Device `json:"devices"`
}

// Device is one installation of an app.
type Device struct {
	Device       string    `json:"device"`
	App          string    `json:"app"`
	Platform     string    `json:"platform"` // apns or fcm
	Sandbox      bool      `json:"sandbox"`
	State        string    `json:"state"`            // active or inactive
	Source       string    `json:"source,omitempty"` // the external registry that told it; "": it was put here
	Features     []string  `json:"features"`         // of receipts, read, reply, rich
	Permission   string    `json:"permission"`       // granted, denied or unknown
	Preference   uint8     `json:"preference"`
	Presence     string    `json:"presence"`           // active, stale or inactive
	SeenAt       time.Time `json:"seen_at,omitzero"`   // the last evidence that was written down
	ProvenAt     time.Time `json:"proven_at,omitzero"` // when the number was proven with it
	RegisteredAt time.Time `json:"registered_at"`
	UpdatedAt    time.Time `json:"updated_at"` // when its token was put
}

// Page is a part of the registry in the order of the numbers. Next is empty
// at the end, and otherwise the next page's after: the last number, or while
// numbers are masked a word that only this run of the gateway can read.
type Page struct {
	Registrations []Registration `json:"registrations"`
	Next          string         `json:"next,omitempty"`
}

// Count says how much is registered.
type Count struct {
	Numbers int  `json:"numbers"`
	Active  int  `json:"active"` // numbers with an active device
	Devices int  `json:"devices"`
	Corrupt int  `json:"corrupt"` // records that do not decode, in no other count
	Ready   bool `json:"ready"`   // false: still counting
}

// Put asks for a device to be registered, or registered anew.
type Put struct {
	App      string `json:"app"`
	Platform string `json:"platform"` // apns or fcm
	Token    string `json:"token"`
	Device   string `json:"device,omitempty"` // "" = a new one is named
	Bearer   string `json:"bearer,omitempty"` // "" = a known device keeps its own, a new one gets one
	State    string `json:"state,omitempty"`  // active (or "") or inactive
	Sandbox  bool   `json:"sandbox,omitempty"`

	// What an app says of itself. Without any of the three a known device keeps
	// what it has said; a new one can do everything.
	Features   *[]string `json:"features,omitempty"`   // of receipts, read, reply, rich; missing: all
	Permission string    `json:"permission,omitempty"` // granted, denied or unknown
	Preference uint8     `json:"preference,omitempty"` // among the apps of a number the lowest goes first

	ProvenAt time.Time `json:"proven_at,omitzero"` // when somebody proved the number with it
}

// PutAnswer is the registration after a put. Bearer is set only where the
// gateway made one, and in no later answer.
type PutAnswer struct {
	Registration
	Device string `json:"device"`
	Bearer string `json:"bearer,omitempty"`
}

// ImportLine is one line of an import.
type ImportLine struct {
	Number string `json:"number"`
	Put
}

// Trace is everything that is known of a diverted message, but its text.
type Trace struct {
	ID      string      `json:"id"`
	WireID  string      `json:"wire_id"` // the message_id that the ESME was given
	Number  string      `json:"number"`
	From    string      `json:"from"`
	Account msg.Account `json:"account"`
	App     string      `json:"app"`
	Plan    string      `json:"plan,omitempty"`

	// Of a part of a long message: the id of the part that is pushed, and which
	// of how many this one is.
	Letter string `json:"letter,omitempty"`
	Part   int    `json:"part,omitempty"`
	Parts  int    `json:"parts,omitempty"`

	State      msg.State `json:"state"`
	Since      time.Time `json:"since"`
	ReceivedAt time.Time `json:"received_at"`
	ClaimBy    time.Time `json:"claim_by,omitzero"`
	ExpiresAt  time.Time `json:"expires_at"`
	DoneAt     time.Time `json:"done_at,omitzero"`

	Device      string `json:"device,omitempty"` // the claim's winner
	Read        bool   `json:"read"`
	Prefer      string `json:"prefer"`
	SMSAttempts int    `json:"sms_attempts"`
	Resubmits   int    `json:"resubmits"`
	Peer        string `json:"peer,omitempty"` // the own SMSC that took the SMS
	SMSID       string `json:"sms_id,omitempty"`
	SMSErr      string `json:"sms_err,omitempty"`
	ReceiptDue  bool   `json:"receipt_due"`

	Steps []Step `json:"steps"`
}

// Step is one event of a message, in commit order.
type Step struct {
	At     time.Time  `json:"at"`
	Event  msg.Event  `json:"event"`
	From   msg.State  `json:"from"`
	To     msg.State  `json:"to"`
	Reason msg.Reason `json:"reason,omitempty"`
	Detail string     `json:"detail,omitempty"`
}

// Bodies of requests and answers that are no type of their own.
type (
	divertBody struct {
		Mode string `json:"mode"`
	}
	sessionsBody struct {
		Sessions []Session `json:"sessions"`
	}
	tracesBody struct {
		Messages []Trace `json:"messages"`
	}
	removedBody struct {
		Removed bool `json:"removed"`
	}
)

const (
	stateActive   = "active"
	stateInactive = "inactive"
)

func stateOf(active bool) string {
	if active {
		return stateActive
	}
	return stateInactive
}
