package registry

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"shunt/gateway/msg"
)

// Limits of what may be registered, in octets and devices.
const (
	MaxDevices = 16   // of one number
	MaxToken   = 4096 // a push token
	MaxName    = 64   // a device id, an app id
	MinBearer  = 16
	MaxBearer  = 512
	MaxApps    = 1 << 16 // different apps, ever
	MaxList    = 10_000  // registrations that List returns at once
)

var (
	// ErrNotFound says that there is no such number, device or bearer.
	ErrNotFound = errors.New("not registered")
	// ErrInvalid says that a field of a Put is outside its limits.
	ErrInvalid = errors.New("invalid registration")
	// ErrTooManyDevices says that the number has MaxDevices devices already.
	ErrTooManyDevices = fmt.Errorf("number has %d devices already", MaxDevices)
	// ErrTooManyApps says that the app table has MaxApps entries already.
	ErrTooManyApps = fmt.Errorf("app table has %d apps already", MaxApps)
	// ErrBearerInUse says that the bearer belongs to another device.
	ErrBearerInUse = errors.New("bearer belongs to another device")
	// ErrCorrupt says that a stored record does not decode.
	ErrCorrupt = errors.New("corrupt record")
	// ErrEvicted says that a bearer's device was taken off its number because
	// somebody else has proven the number since.
	ErrEvicted = errors.New("somebody else has proven the number")
	// ErrProof says that a proof is none, has expired, was used for another
	// device, or is of another app.
	ErrProof = errors.New("no valid proof of the number")
	// ErrClosed says that the registry is closed.
	ErrClosed = errors.New("registry is closed")
)

// Platform is the push provider of a device. The zero Platform is none.
// Values are stored on disk: append only.
type Platform uint8

const (
	APNs Platform = iota + 1
	FCM
)

// String is the platform's name in files, tables and the API.
func (p Platform) String() string {
	switch p {
	case APNs:
		return "apns"
	case FCM:
		return "fcm"
	}
	return fmt.Sprintf("platform(%d)", uint8(p))
}

// ParsePlatform reads what String wrote.
func ParsePlatform(s string) (Platform, error) {
	switch s {
	case "apns":
		return APNs, nil
	case "fcm":
		return FCM, nil
	}
	return 0, fmt.Errorf("platform %q: %w: want apns or fcm", s, ErrInvalid)
}

// MarshalText writes the platform's name.
func (p Platform) MarshalText() ([]byte, error) {
	if p != APNs && p != FCM {
		return nil, fmt.Errorf("platform %d: %w: want apns or fcm", uint8(p), ErrInvalid)
	}
	return []byte(p.String()), nil
}

// UnmarshalText reads the platform's name.
func (p *Platform) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePlatform(string(b))
	return err
}

// Device is one installation of an app. Times are UTC, to the nanosecond.
type Device struct {
	ID       string
	App      string
	Platform Platform
	Token    string
	Sandbox  bool

	BearerHash [32]byte // SHA-256 of the opaque bearer
	Active     bool     // neither the operator nor the app has said otherwise

	RegisteredAt time.Time // when this device id was first put
	UpdatedAt    time.Time // when this token was put: what APNs' 410 is compared with

	Ownership
	Presence   Presence
	SeenAt     time.Time // the last evidence that was written down, coarse; zero: not known
	Features   Features
	Permission Permission
	Preference uint8 // among the devices of a number the lowest goes first

	Source string // the external registry that has told it; "": it was put here
}

// Ownership is what binds a device to whoever has proven the number.
type Ownership struct {
	ProvenAt   time.Time // zero: the operator put the device
	Thumbprint [32]byte  // of the device's key (RFC 7638, SHA-256); zero: a bearer alone authenticates it

	// After a rotation the bearer before it is good until GraceUntil.
	PreviousHash [32]byte
	GraceUntil   time.Time
}

// Usable tells whether messages may be diverted to the device.
func (d *Device) Usable() bool {
	return d.Active && d.Permission != Denied && d.Presence != PresenceInactive
}

// Features are what an app can do. Values are stored on disk: append only.
type Features uint8

const (
	FeatureReceipts Features = 1 << iota // it acknowledges what it has stored
	FeatureRead                          // it tells what was read
	FeatureReply                         // its user can answer
	FeatureRich                          // it shows more than plain text

	AllFeatures = FeatureReceipts | FeatureRead | FeatureReply | FeatureRich
)

// FeatureNames are the features' names in the order of their bits.
var FeatureNames = []string{"receipts", "read", "reply", "rich"}

// Names are the names of the features that are set.
func (f Features) Names() []string {
	names := []string{}
	for i, n := range FeatureNames {
		if f>>i&1 != 0 {
			names = append(names, n)
		}
	}
	return names
}

// ParseFeatures reads what Names wrote.
func ParseFeatures(names []string) (f Features, err error) {
	for _, n := range names {
		i := slices.Index(FeatureNames, n)
		if i < 0 {
			return 0, fmt.Errorf("features: %w: want any of %s", ErrInvalid, strings.Join(FeatureNames, ", "))
		}
		f |= 1 << i
	}
	return f, nil
}

// Permission is what the user has said to notifications of the app. Values are
// stored on disk: append only.
type Permission uint8

const (
	PermissionUnknown Permission = iota
	Granted
	Denied
)

var permissionNames = []string{"unknown", "granted", "denied"}

func (p Permission) String() string { return permissionNames[min(int(p), 2)] }

// ParsePermission reads what String wrote.
func ParsePermission(s string) (Permission, error) {
	if i := slices.Index(permissionNames, s); i >= 0 {
		return Permission(i), nil
	}
	return 0, fmt.Errorf("permission: %w: want granted, denied or unknown", ErrInvalid)
}

// Presence is how lately a device has shown itself. Values are stored on disk:
// append only.
type Presence uint8

const (
	PresenceActive   Presence = iota
	PresenceStale             // messages have half their plan's time to be claimed
	PresenceInactive          // nothing is diverted to it
)

var presenceNames = []string{"active", "stale", "inactive"}

func (p Presence) String() string { return presenceNames[min(int(p), 2)] }

// Registration is a number with its devices in the order of their first put.
// Generation is raised by every change and does not begin again when a number
// is removed and put anew: a new registration starts with the seconds since
// 1970.
type Registration struct {
	Number     msg.Number
	Devices    []Device
	Generation uint32
}

// Active tells whether at least one device is usable.
func (r Registration) Active() bool {
	for i := range r.Devices {
		if r.Devices[i].Usable() {
			return true
		}
	}
	return false
}

// Device is the device with this id.
func (r Registration) Device(id string) (Device, bool) {
	if i := r.find(id); i >= 0 {
		return r.Devices[i], true
	}
	return Device{}, false
}

func (r Registration) find(id string) int {
	for i := range r.Devices {
		if r.Devices[i].ID == id {
			return i
		}
	}
	return -1
}

// Put asks for a device to be registered, or to be registered anew.
type Put struct {
	Number   msg.Number
	App      string
	Platform Platform
	Token    string
	Device   string // "" = a new device, its id 16 hex digits
	Bearer   string // "" = a known device keeps its own, a new one gets 256 bits in base64url
	Active   bool
	Sandbox  bool

	BearerHash [32]byte // instead of Bearer: its SHA-256
	Traits
	Authority

	// Of the operator's: a known device keeps its Traits whatever is in these; and
	// when the number was proven, zero if that is not known.
	KeepTraits bool
	ProvenAt   time.Time
}

// bearerHash is the SHA-256 of the bearer that p gives, or zero.
func (p *Put) bearerHash() [32]byte {
	if p.Bearer == "" {
		return p.BearerHash
	}
	return sha256.Sum256([]byte(p.Bearer))
}

// Traits are what an app says of itself.
type Traits struct {
	Lacks      Features // what it cannot do: the zero value can do everything
	Permission Permission
	Preference uint8
}

// Authority is on whose word a Put is done. The zero Authority is the
// operator's.
type Authority struct {
	// ProofHash is the SHA-256 of a proof that Check handed out; the Number of
	// the Put may be 0, the proof knows it. Other devices of its app are evicted,
	// and with EvictAll those of other apps too.
	ProofHash [32]byte
	EvictAll  bool

	// By is a device of the same number and app that vouches for this one: itself,
	// or the first one of the same owner. It must still be there.
	By string

	Thumbprint [32]byte // of a new device's key

	// Rotate gives the device a new bearer; the one whose hash is Using, with
	// which the call came, is good for Grace from now.
	Rotate bool
	Using  [32]byte
	Grace  time.Duration
}

// PutResult is what a Put led to.
type PutResult struct {
	Registration Registration
	Device       string
	Bearer       string // as given or generated; "" when the device kept its own
	Evicted      int    // devices of others that a proof has taken off the number
}

// Count says how much is registered. Corrupt records, found while the index
// was rebuilt, are in no other count.
type Count struct {
	Numbers int
	Active  int // numbers with at least one active device
	Devices int
	Corrupt int

	External int // of Numbers, those that an external registry has told
}

// check names the first field of p that is outside its limits, never its
// value where that is a secret.
func (p *Put) check() error {
	field, want := "", ""
	switch {
	case (p.Number < msg.MinNumber || p.Number > msg.MaxNumber) && (p.Number != 0 || p.ProofHash == [32]byte{}):
		field, want = "number", "an E.164 number of 7 to 15 digits"
	case !isName(p.App):
		field, want = "app", nameWanted
	case p.Platform != APNs && p.Platform != FCM:
		field, want = "platform", "apns or fcm"
	case !isGraphic(p.Token, 1, MaxToken):
		field, want = "token", fmt.Sprintf("1 to %d printable ASCII characters without blanks", MaxToken)
	case p.Device != "" && !isName(p.Device):
		field, want = "device", nameWanted
	case p.Bearer != "" && !isGraphic(p.Bearer, MinBearer, MaxBearer):
		field, want = "bearer", fmt.Sprintf("%d to %d printable ASCII characters without blanks", MinBearer, MaxBearer)
	default:
		return nil
	}
	return fmt.Errorf("number %s: %s: %w: want %s", p.Number.Masked(), field, ErrInvalid, want)
}

var nameWanted = fmt.Sprintf("1 to %d printable ASCII characters without blanks or slash", MaxName)

func isName(s string) bool {
	if !isGraphic(s, 1, MaxName) {
		return false
	}
	for i := range len(s) {
		if s[i] == '/' {
			return false
		}
	}
	return true
}

func isGraphic(s string, shortest, longest int) bool {
	if len(s) < shortest || len(s) > longest {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
