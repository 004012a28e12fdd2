package registry

import (
	"crypto/sha256"
	"errors"
	"fmt"
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
	Active     bool

	RegisteredAt time.Time // when this device id was first put
	UpdatedAt    time.Time // when this token was put: what APNs' 410 is compared with
}

// Registration is a number with its devices in the order of their first put.
// Generation is raised by every change and does not begin again when a number
// is removed and put anew: a new registration starts with the seconds since
// 1970.
type Registration struct {
	Number     msg.Number
	Devices    []Device
	Generation uint32
}

// Active tells whether at least one device is active.
func (r Registration) Active() bool {
	for i := range r.Devices {
		if r.Devices[i].Active {
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
}

// bearerHash is the SHA-256 of the bearer that p gives, or zero.
func (p *Put) bearerHash() [32]byte {
	if p.Bearer == "" {
		return p.BearerHash
	}
	return sha256.Sum256([]byte(p.Bearer))
}

// PutResult is what a Put led to.
type PutResult struct {
	Registration Registration
	Device       string
	Bearer       string // as given or generated; "" when the device kept its own
}

// Count says how much is registered. Corrupt records, found while the index
// was rebuilt, are in no other count.
type Count struct {
	Numbers int
	Active  int // numbers with at least one active device
	Devices int
	Corrupt int
}

// check names the first field of p that is outside its limits, never its
// value where that is a secret.
func (p *Put) check() error {
	field, want := "", ""
	switch {
	case p.Number < msg.MinNumber || p.Number > msg.MaxNumber:
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
