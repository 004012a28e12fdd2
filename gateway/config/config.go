// Package config reads Shunt's one TOML file into a typed Config and says in
// one pass, with line and column, everything that is wrong with it.
package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp/coding"
)

// DefaultPath is where the configuration is unless an operator says otherwise.
const DefaultPath = "/etc/shunt/shunt.toml"

// Config is a valid configuration with every default filled in. It is not
// changed after Load returned it, so any goroutine may read it.
type Config struct {
	File      string // the path that Load was given
	Node      Node
	Listen    []Listen // one at least
	Intercept Intercept
	Accounts  []Account
	SMSCs     []SMSC
	Apps      []App
	Plans     []Plan // in order, BuiltInPlan last: one always matches
	Policy    Policy
	Store     Store
	Retention Retention
	CDR       CDR
	API       API
	NOC       NOC
	Log       Log
	OTel      OTel
	SMPP      SMPP
	Limits    Limits

	Verification Verification
	Registry     Registry
}

// Node is this machine.
type Node struct {
	ID      string // letters, digits, ".", "-", "_"; default: the host's name
	DataDir string // absolute
}

// Listen is an address that ESMEs bind to.
type Listen struct {
	Addr      string // host:port
	TLS       *ServerTLS
	ProxyFrom []netip.Prefix // balancers: their connections begin with a PROXY protocol v2 header
	ReusePort bool           // SO_REUSEPORT: several processes listen on Addr
}

// Intercept is how Shunt stands between ESMEs and SMSC.
type Intercept struct {
	Upstream     string // name of the SMSC that ESMEs are bound through to
	Divert       Divert // the value at start
	FallbackSMSC string // name of the SMSC of Shunt's own binds; "" only with DivertOff

	// ProbeEvery is how often Upstream is connected to while nothing is bound
	// there; 0: never.
	ProbeEvery time.Duration
}

// Divert is the switch for all diversion. Its zero value diverts nothing.
type Divert uint8

const (
	DivertOff    Divert = iota // plain transit
	DivertShadow               // decide, count and log, but divert nothing
	DivertOn
)

var divertNames = []string{"off", "shadow", "on"}

func (d Divert) String() string { return name(divertNames, d) }

// MarshalText writes "off", "shadow" or "on".
func (d Divert) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (d *Divert) UnmarshalText(b []byte) error {
	for i, n := range divertNames {
		if n == string(b) {
			*d = Divert(i)
			return nil
		}
	}
	return fmt.Errorf("divert %q: want on, shadow or off", b)
}

// Account is what is known of an ESME by its system_id.
type Account struct {
	SystemID        string
	Divert          bool            // it has opted in to diversion
	DefaultAlphabet coding.Alphabet // what its data_coding 0 means
	LocalAddr       netip.Addr      // the source address of its upstream binds; the zero Addr: the SMSC's
	DefaultCountry  string          // of its national numbers, two capital letters; "": they stay with the carrier
	DataCoding1     coding.Alphabet // what its data_coding 1 means; Unsupported: only what reads the same both ways

	Allow    []netip.Prefix // sources that it may bind from; empty: any
	MaxBinds int            // at a time; 0: any number
	Outbind  *Outbind       // nil: it is never asked for a bind
}

// SMSC is a message centre. Upstream of transparent binds only Name and Addr
// matter; the rest is for Shunt's own binds.
type SMSC struct {
	Name      string
	Addr      string // host:port
	TLS       *ClientTLS
	LocalAddr netip.Addr // the source address towards it; the zero Addr: the system's choice
	SystemID  string     // "" for one that Shunt never binds to itself
	Password  Secret
	Bind      Bind
	Sessions  int // binds of each kind
	Window    int // outstanding requests a bind
	Rate      Rate
	MessageID IDFormat

	ProxyHeader bool         // connections to it begin with a PROXY protocol v2 header
	Outbind     *OutbindFrom // nil: its outbind is refused
}

// Bind is how Shunt's own binds are made.
type Bind uint8

const (
	Transceiver         Bind = iota
	TransmitterReceiver      // a pair of binds for each session
)

var bindNames = []string{"transceiver", "transmitter+receiver"}

func (b Bind) String() string { return name(bindNames, b) }

// IDFormat is how an SMSC writes message ids in responses and in receipts.
type IDFormat uint8

const (
	IDRaw               IDFormat = iota // the same octets in both
	IDHex                               // hexadecimal in both, whatever the case and leading zeros
	IDDec                               // decimal in both, whatever the leading zeros
	IDHexRespDecReceipt                 // hexadecimal in submit_sm_resp, decimal in receipts
	IDDecRespHexReceipt                 // decimal in submit_sm_resp, hexadecimal in receipts
)

var idFormatNames = []string{"raw", "hex", "dec", "hex-resp-dec-receipt", "dec-resp-hex-receipt"}

func (f IDFormat) String() string { return name(idFormatNames, f) }

// App is a handset application with one push provider at least.
type App struct {
	ID   string
	APNs *APNs // nil: not on this platform
	FCM  *FCM  // nil: not on this platform
	Body Body

	DefaultCountry string // of the national numbers of its users, two capital letters; "": Registry.DefaultCountry

	APIRate       Rate          // requests of a device; 0: API.Rate
	ActiveFor     time.Duration // without evidence so long a device is stale
	InactiveAfter time.Duration // and inactive; more than ActiveFor
	MissedClaims  int           // so many in a row without evidence make a device inactive; 0: they do not count
}

// Body is what a push carries of a message.
type Body uint8

const (
	Doorbell Body = iota // that it is there: the text comes with the claim
	BodyText             // its text too, if its plan prefers possible-duplicate
)

var bodyNames = []string{"doorbell", "text"}

func (b Body) String() string { return name(bodyNames, b) }

// APNs is an app's access to Apple's push service.
type APNs struct {
	TeamID   string
	KeyID    string
	Key      Secret // PKCS #8 PEM of a P-256 key
	Topic    string
	Endpoint string // https URL without path; "": Apple's
	CA       Secret // PEM of the only certificates to trust; empty: the system's
}

// FCM is an app's access to Firebase Cloud Messaging.
type FCM struct {
	ServiceAccount Secret // JSON as Google hands it out
	Endpoint       string // https URL, "/v1" at its end; "": Google's
	CA             Secret // PEM of the only certificates to trust; empty: the system's
}

// Plan says by which channels a message goes and how long each may take.
type Plan struct {
	Name        string
	Match       Match
	Order       []Channel
	ClaimWithin time.Duration // from the first push to the fallback
	Lease       time.Duration // from the claim to the delivered mark
	Prefer      msg.Prefer
	NoReceipts  bool // an app that sends no receipts may have messages that ask for one
}

// Channel is a way to the subscriber.
type Channel uint8

const (
	Carrier Channel = iota
	ViaApp
)

var channelNames = []string{"carrier", "app"}

func (c Channel) String() string { return name(channelNames, c) }

// AppFirst tells whether the plan diverts; otherwise all stays with the
// carrier.
func (p *Plan) AppFirst() bool { return len(p.Order) > 0 && p.Order[0] == ViaApp }

// BuiltInPlan is the last plan of every configuration.
func BuiltInPlan() Plan {
	return Plan{
		Name:        builtInName,
		Order:       []Channel{ViaApp, Carrier},
		ClaimWithin: 30 * time.Second,
		Lease:       10 * time.Second,
		Prefer:      msg.PossibleLoss,
	}
}

const builtInName = "built-in"

// Match is met when every list that is not empty has a member that fits.
type Match struct {
	To          []string // prefixes of E.164 numbers, each "+" and digits
	From        []string // sender patterns: "*" stands for any characters
	Account     []string // system_ids
	ServiceType []string // exact values; "" is the default service_type
	Priority    []byte   // priority_flags
	Content     []msg.Content
	Hours       []msg.Hours    // of every day, in Zone
	Zone        *time.Location // nil: that of the machine
}

// all tells whether every message matches.
func (m *Match) all() bool {
	return len(m.To)+len(m.From)+len(m.Account)+len(m.ServiceType)+
		len(m.Priority)+len(m.Content)+len(m.Hours) == 0
}

// Policy bounds what may be diverted at all.
type Policy struct {
	DivertFrom             []string      // sender patterns; empty: nothing is diverted
	NeverDivertFrom        []string      // sender patterns; stronger than DivertFrom
	NeverDivertServiceType []string      // exact values
	AllowOTP               bool          // one-time codes too
	OTPAfterProof          time.Duration // but only so long after the number was proven; 0: at once
	Share                  int           // per cent of the eligible numbers, 0 to 100

	// AcceptedWithin: only what the SMSC accepted a message of from the same
	// account and sender this long ago at most; 0: it is not asked.
	AcceptedWithin time.Duration
}

// Store is how registrations and messages are kept.
type Store struct {
	Key Secret // 16, 24 or 32 octets that everything in it is encrypted with; empty: plain
}

// Retention is how long finished messages are kept.
type Retention struct {
	Audit    time.Duration // lines of the audit, by whole files; 0: for ever
	Messages time.Duration
}

// CDR is how call detail records are kept, in files under Node.DataDir.
type CDR struct {
	Forwarded bool          // a line for every forwarded message too
	MaxSize   Size          // of a file before the next is begun
	MaxAge    time.Duration // the same
	Retention time.Duration // how long a file is kept
}

// API is the HTTP server for handset apps.
type API struct {
	Listen string // host:port; without TLS loopback only; "": it is off
	TLS    *ServerTLS

	Rate          Rate          // requests of a device, with bursts of 10 s; 0: any number. An app may have its own
	CORSOrigins   []string      // of web pages that may call it; none: no page may
	Streams       int           // open at a time; 0: none are served
	StreamGrace   time.Duration // from the announcement on a stream to the push
	ReplyValidity time.Duration // how long a reply waits for a bind of its account
}

// NOC is the operators' access.
type NOC struct {
	Socket string // path of the unix socket
	Listen string // host:port; without TLS loopback only: the page, metrics, health
	TLS    *ServerTLS
	Hosts  []string // names that the page is asked under, beside addresses, localhost and those of its certificate
	Token  Secret   // typed by an operator who switches something on the page; empty: the page only shows

	AlarmWebhook      string // URL that alarms are sent to: https, or http to loopback; "": nowhere
	AlarmWebhookToken Secret // sent as bearer; empty: none
	AlarmWebhookCA    Secret // PEM of the only certificates to trust there; empty: the system's
}

// OTel is where traces of diverted messages are sent.
type OTel struct {
	Endpoint string // URL of a collector: https, or http to loopback; "": nowhere
	Token    Secret // sent as bearer; empty: none
	CA       Secret // PEM of the only certificates to trust there; empty: the system's
}

// Log is what the log shows.
type Log struct {
	FullNumbers bool        // otherwise they are masked
	Level       slog.Level  // the least that is logged, unless the command line says otherwise
	Messages    LogMessages // what it says of single messages
}

// LogMessages is what the log says of single diverted messages. Of forwarded ones
// it has sums by account and reason, unless it is MessagesOff.
type LogMessages uint8

const (
	MessagesOff   LogMessages = iota // nothing, and no sums
	MessagesFinal                    // the outcome of each, up to a limit a second
	MessagesAll                      // every change of each
)

var logMessageNames = []string{"off", "final", "all"}

func (m LogMessages) String() string { return name(logMessageNames, m) }

// SMPP is the engine's timers and limits, for binds in both directions.
type SMPP struct {
	SessionInit time.Duration // from the connection to the bind
	EnquireLink time.Duration // of silence before an enquire_link is sent
	Response    time.Duration // for the answer to a request
	WriteStall  time.Duration // a peer that takes no octet this long is gone
	MaxPDU      Size          // largest command_length accepted
	Window      int           // outstanding requests a bind and direction
	WindowFull  WindowFull    // what an ESME gets whose window towards the SMSC is full
	WriteBuffer Size          // octets that wait for a slow peer before whoever feeds it is held back
	Inactivity  time.Duration // an ESME that sends nothing but enquire_link so long is unbound; 0: never
}

// WindowFull is what becomes of a request that finds the window towards the
// SMSC full.
type WindowFull uint8

const (
	WindowWait     WindowFull = iota // the ESME is not read until there is room: TCP holds it back
	WindowThrottle                   // it is answered ESME_RTHROTTLED
	WindowQueue                      // it is answered ESME_RMSGQFUL
)

var windowFullNames = []string{"wait", "throttle", "queue-full"}

func (w WindowFull) String() string { return name(windowFullNames, w) }

// SMSC finds an SMSC by its name.
func (c *Config) SMSC(name string) (*SMSC, bool) {
	for i := range c.SMSCs {
		if c.SMSCs[i].Name == name {
			return &c.SMSCs[i], true
		}
	}
	return nil, false
}

// Account is what is configured for a system_id. Without any account in the
// file every ESME has opted in, and policy alone decides; otherwise an ESME
// that is not in the file has not. Unless it says so, its data_coding 0 means
// the GSM alphabet.
func (c *Config) Account(systemID string) Account {
	for _, a := range c.Accounts {
		if a.SystemID == systemID {
			return a
		}
	}
	return Account{SystemID: systemID, Divert: len(c.Accounts) == 0, DefaultAlphabet: coding.GSM7}
}

// maxFile bounds the configuration file, in octets.
const maxFile = 256 << 10

// Load reads the file at path. The faults are everything that is wrong with
// it, in the order of the file; the Config is nil if they are Fatal. The
// error is for a file that cannot be read at all. Secrets come from the
// directory in $CREDENTIALS_DIRECTORY or, failing that, from beside the file.
func Load(path string) (*Config, []Fault, error) {
	data, err := readCapped(path, maxFile)
	if err != nil {
		return nil, nil, fmt.Errorf("configuration: %w", err)
	}
	c, faults := parse(path, data)
	if Fatal(faults) {
		return nil, faults, nil
	}
	return c, faults, nil
}

// errTooLong says that a file is beyond its cap.
var errTooLong = errors.New("file too long")

func readCapped(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: %w: more than %d octets", path, errTooLong, limit)
	}
	return b, nil
}

// Fault is one thing that is wrong with the configuration, or, as a warning,
// worth knowing.
type Fault struct {
	File    string
	Line    int // from 1
	Col     int // in octets, from 1
	Key     string
	Text    string
	Warning bool
}

// String is FILE:LINE:COL: section.key: what is wrong, what is allowed.
func (f Fault) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", f.File, f.Line, f.Col)
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	if f.Warning {
		b.WriteString("warning: ")
	}
	b.WriteString(f.Text)
	return b.String()
}

// Text is one line for each fault.
func Text(faults []Fault) string {
	var b strings.Builder
	for _, f := range faults {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

// Fatal tells whether any fault is more than a warning.
func Fatal(faults []Fault) bool {
	for _, f := range faults {
		if !f.Warning {
			return true
		}
	}
	return false
}

func name[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("unknown(%d)", uint8(v))
}

// beside makes a path absolute: a relative one is relative to the directory
// of the configuration file.
func beside(file, path string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(file), path)
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
