// Package msg is the domain's leaf: the words that every other package uses
// for numbers, ids, states, events, reasons and receipts. It knows no socket,
// no clock and no file, and imports nothing of Shunt.
package msg

import (
	"errors"
	"fmt"

	"github.com/oklog/ulid/v2"
)

// Number is an E.164 number as an integer of its digits, country code first.
// Zero is no number. No E.164 number begins with 0, so the integer keeps
// every digit.
type Number uint64

// MaxNumber is the largest E.164 number: fifteen digits (ITU-T E.164 §6).
const MaxNumber Number = 999_999_999_999_999

// MinNumber is the smallest number that Shunt takes for a subscriber's: with
// seven digits, below which a destination is a short code.
const MinNumber Number = 1_000_000

// ErrNumber says that a text is not an E.164 number.
var ErrNumber = errors.New("not an E.164 number: want 7 to 15 digits, country code first, with or without a leading +")

// ParseNumber reads an E.164 number with or without its leading "+".
func ParseNumber(s string) (Number, error) {
	d := s
	if len(d) > 0 && d[0] == '+' {
		d = d[1:]
	}
	n, ok := NumberOfDigits(d)
	if !ok {
		return 0, fmt.Errorf("number %q: %w", Mask(s), ErrNumber)
	}
	return n, nil
}

// NumberOfDigits reads 7 to 15 decimal digits, the first not 0. It does not
// allocate: the decision calls it for every submit_sm.
func NumberOfDigits[T string | []byte](d T) (Number, bool) {
	if len(d) < 7 || len(d) > 15 || d[0] == '0' {
		return 0, false
	}
	var n Number
	for i := 0; i < len(d); i++ {
		c := d[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + Number(c)
	}
	return n, true
}

// String is the number with its leading "+"; use Masked in logs and tables.
func (n Number) String() string { return fmt.Sprintf("+%d", uint64(n)) }

// Masked is the number as logs and tables show it: "+4477••••0042".
func (n Number) Masked() string { return Mask(n.String()) }

// Mask hides the middle of a number or an address and keeps enough ends to
// recognise it: of "+447700900042" it shows "+4477••••0042". What is too
// short to hide anything in is hidden whole.
func Mask(s string) string {
	r := []rune(s)
	if len(r) < 10 {
		return "••••"
	}
	return string(r[:5]) + "••••" + string(r[len(r)-4:])
}

// ID names a diverted message for its whole life: a ULID, whose first 48 bits
// are the time of its acceptance in milliseconds.
type ID ulid.ULID

// ErrID says that a text is not a message id of Shunt's.
var ErrID = errors.New(`not a message id: want "s" and the 26 characters of a ULID`)

// String is the id as ESMEs, apps and operators see it: "s" + ULID.
func (id ID) String() string {
	var b [27]byte
	b[0] = 's'
	_ = ulid.ULID(id).MarshalTextTo(b[1:]) // the buffer has the one length that it asks for
	return string(b[:])
}

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	if len(s) != 27 || s[0] != 's' {
		return ID{}, ErrID
	}
	u, err := ulid.ParseStrict(s[1:])
	if err != nil {
		return ID{}, ErrID
	}
	return ID(u), nil
}

// UnixMilli is the time of acceptance in milliseconds since 1970.
func (id ID) UnixMilli() int64 { return int64(ulid.ULID(id).Time()) }

// IsZero tells whether id is unset.
func (id ID) IsZero() bool { return id == ID{} }

// Account names the ESME that a message came from, so that its receipts find
// any bind of the same ESME: in transparent mode sibling binds are those with
// the same system_id, system_type and address_range.
type Account struct {
	SystemID     string `json:"system_id"`
	SystemType   string `json:"system_type,omitempty"`
	AddressRange string `json:"address_range,omitempty"`
}

// Entry is what the RAM index knows of a registered number, packed so that
// the decision touches one word:
//
//	bit  0     a registration exists
//	bit  1     it is active (false: inactive, never diverted to)
//	bit  2     it is stale: it has half the time to claim
//	bit  3     its app sends no receipts
//	bit  4     an external registry knows it, not this one
//	bits 8-23  the app, as its index in the registry's table of apps
//	bits 32-63 the generation, raised by every change of the registration
//
// The zero Entry is "nobody registered this number".
type Entry uint64

// MakeEntry packs an Entry for an existing registration.
func MakeEntry(active bool, app uint16, generation uint32) Entry {
	e := Entry(1) | Entry(app)<<8 | Entry(generation)<<32
	if active {
		e |= 2
	}
	return e
}

const (
	entryStale      Entry = 1 << 2
	entryNoReceipts Entry = 1 << 3
	entryExternal   Entry = 1 << 4
)

// With is e, marked as stale and as of an app that sends no receipts.
func (e Entry) With(stale, noReceipts bool) Entry {
	if stale {
		e |= entryStale
	}
	if noReceipts {
		e |= entryNoReceipts
	}
	return e
}

// AsExternal is e, marked as what an external registry has said.
func (e Entry) AsExternal() Entry { return e | entryExternal }

// External tells whether the registration is what an external registry has
// said. It holds no longer than that.
func (e Entry) External() bool { return e&entryExternal != 0 }

// Stale tells whether nothing was heard of the registration lately.
func (e Entry) Stale() bool { return e&entryStale != 0 }

// NoReceipts tells whether the app does not say what it has received.
func (e Entry) NoReceipts() bool { return e&entryNoReceipts != 0 }

// Registered tells whether a registration exists.
func (e Entry) Registered() bool { return e&1 != 0 }

// Active tells whether the registration may be diverted to.
func (e Entry) Active() bool { return e&3 == 3 }

// App is the index of the app in the registry's table of apps.
func (e Entry) App() uint16 { return uint16(e >> 8) }

// Generation changes with every change of the registration.
func (e Entry) Generation() uint32 { return uint32(e >> 32) }
