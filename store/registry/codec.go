package registry

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"shunt/gateway/msg"
)

// Keys of the directory. Numbers are big-endian, so that the order of keys is
// the order of numbers.
//
//	"R" + 8 octets of the number        -> registration
//	"B" + 32 octets, SHA-256 of bearer  -> number and device
//	"A" + 2 octets, index of the app    -> name of the app
//	"V" + 16 octets, a verification     -> what is to be proven, with a time to live
//	"N" + 32 octets, MAC of a nonce     -> the verification that waits for it
//	"P" + 32 octets, SHA-256 of a proof -> number, app and device, with a time to live
//	"E" + 32 octets, SHA-256 of bearer  -> nothing: its device was evicted
//	"M/schema"                          -> package store's schema record
//
// A value is one octet of record version, a CRC-32C over key, version and
// body, and the body. The key is in the sum so that a value under a wrong key
// does not pass.
const (
	prefixNumber = 'R'
	prefixBearer = 'B'
	prefixApp    = 'A'

	recordVersion   = 2 // of what is written; of a registration 1 is read too, of the rest nothing has changed
	externalVersion = 3 // of a registration that an external registry has told: each device has its source
	oldestVersion   = 1
	newestVersion   = externalVersion
	recordHeader    = 5

	flagActive  = 1
	flagSandbox = 2
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

func numberKey(n msg.Number) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefixNumber}, uint64(n))
}

func bearerKey(hash [32]byte) []byte { return append([]byte{prefixBearer}, hash[:]...) }

func appKey(i uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{prefixApp}, i)
}

// keyName is a key as errors and logs show it: without the number's middle.
func keyName(key []byte) string {
	if len(key) == 9 && key[0] == prefixNumber {
		return "R/" + msg.Number(binary.BigEndian.Uint64(key[1:])).Masked()
	}
	if len(key) == 33 && key[0] == prefixBearer {
		return fmt.Sprintf("B/%x…", key[1:5])
	}
	if len(key) > 5 && key[0] != 'M' { // of a secret's hash only as much
		return fmt.Sprintf("%c/%x…", key[0], key[1:5])
	}
	return fmt.Sprintf("%q", key)
}

// seal fills in the header of a value whose body follows recordHeader octets.
func seal(key, value []byte) []byte { return sealAs(recordVersion, key, value) }

func sealAs(version byte, key, value []byte) []byte {
	value[0] = version
	binary.BigEndian.PutUint32(value[1:], checksum(key, value))
	return value
}

func checksum(key, value []byte) uint32 {
	sum := crc32.Update(0, crcTable, key)
	sum = crc32.Update(sum, crcTable, value[:1])
	return crc32.Update(sum, crcTable, value[recordHeader:])
}

// unseal checks the header of a value and returns a decoder of its body.
func unseal(key, value []byte) (*decoder, error) {
	d := &decoder{}
	if err := d.unseal(key, value); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *decoder) unseal(key, value []byte) error {
	if len(value) < recordHeader {
		return fmt.Errorf("%s: %w: %d octets, want at least %d", keyName(key), ErrCorrupt, len(value), recordHeader)
	}
	if v := value[0]; v < oldestVersion || v > newestVersion {
		return fmt.Errorf("%s: %w: record version %d, this program reads %d to %d", keyName(key), ErrCorrupt, v, oldestVersion, newestVersion)
	}
	if binary.BigEndian.Uint32(value[1:]) != checksum(key, value) {
		return fmt.Errorf("%s: %w: checksum does not match", keyName(key), ErrCorrupt)
	}
	d.b, d.version, d.err = value[recordHeader:], value[0], nil
	return nil
}

// encodeRegistration is the value of a registration under its key.
func encodeRegistration(r *Registration) []byte {
	size := recordHeader + 5
	for i := range r.Devices {
		d := &r.Devices[i]
		size += 54 + 107 + 1 + len(d.ID) + len(d.App) + len(d.Token) + len(d.Source)
	}
	version := byte(recordVersion)
	if r.External() {
		version = externalVersion
	}
	b := make([]byte, recordHeader, size)
	b = binary.BigEndian.AppendUint32(b, r.Generation)
	b = append(b, byte(len(r.Devices)))
	for i := range r.Devices {
		d := &r.Devices[i]
		var flags byte
		if d.Active {
			flags |= flagActive
		}
		if d.Sandbox {
			flags |= flagSandbox
		}
		b = append(b, byte(len(d.ID)))
		b = append(b, d.ID...)
		b = append(b, byte(len(d.App)))
		b = append(b, d.App...)
		b = append(b, byte(d.Platform), flags)
		b = binary.BigEndian.AppendUint16(b, uint16(len(d.Token)))
		b = append(b, d.Token...)
		b = append(b, d.BearerHash[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(d.RegisteredAt.UnixNano()))
		b = binary.BigEndian.AppendUint64(b, uint64(d.UpdatedAt.UnixNano()))
		b = d.appendSecond(b)
		if version == externalVersion {
			b = append(b, byte(len(d.Source)))
			b = append(b, d.Source...)
		}
	}
	return sealAs(version, numberKey(r.Number), b)
}

// decodeRegistration reads what encodeRegistration wrote; the number is in
// the key. It keeps nothing of key and value.
func decodeRegistration(key, value []byte) (Registration, error) {
	var r Registration
	var d decoder
	if err := d.registration(key, value, &r); err != nil {
		return Registration{}, err
	}
	return r, nil
}

// registration decodes into r, whose devices' memory it uses again.
func (d *decoder) registration(key, value []byte, r *Registration) error {
	if len(key) != 9 || key[0] != prefixNumber {
		return fmt.Errorf("%s: %w: not the key of a registration", keyName(key), ErrCorrupt)
	}
	if err := d.unseal(key, value); err != nil {
		return err
	}
	r.Number = msg.Number(binary.BigEndian.Uint64(key[1:]))
	r.Generation = d.uint32("generation")
	n := int(d.uint8("device count"))
	if n == 0 || n > MaxDevices {
		d.fail("device count", fmt.Sprintf("%d, want 1 to %d", n, MaxDevices))
		n = 0
	}
	r.Devices = slices.Grow(r.Devices[:0], n)
	for range n {
		r.Devices = append(r.Devices, d.device())
		if d.err != nil {
			break
		}
	}
	if err := d.end(); err != nil {
		return fmt.Errorf("%s: %w: %w", keyName(key), ErrCorrupt, err)
	}
	return nil
}

// appendSecond appends what record version 2 has beside version 1: features,
// permission, preference, presence, an octet each; thumbprint and previous
// bearer's hash; proven at, seen at and end of grace, in nanoseconds since 1970,
// 0 for none.
func (d *Device) appendSecond(b []byte) []byte {
	b = append(b, byte(d.Features), byte(d.Permission), d.Preference, byte(d.Presence))
	b = append(b, d.Thumbprint[:]...)
	b = append(b, d.PreviousHash[:]...)
	for _, t := range [...]time.Time{d.ProvenAt, d.SeenAt, d.GraceUntil} {
		var ns int64
		if !t.IsZero() {
			ns = t.UnixNano()
		}
		b = binary.BigEndian.AppendUint64(b, uint64(ns))
	}
	return b
}

// second reads what appendSecond wrote. A device of version 1 was put by the
// operator and can do everything.
func (d *decoder) second(v *Device) {
	if d.version < 2 {
		v.Features = AllFeatures
		return
	}
	if v.Features = Features(d.uint8("features")); v.Features&^AllFeatures != 0 {
		d.fail("features", fmt.Sprintf("%#x is unknown", uint8(v.Features)))
	}
	if v.Permission = Permission(d.uint8("permission")); v.Permission > Denied {
		d.fail("permission", fmt.Sprintf("%d is unknown", uint8(v.Permission)))
	}
	v.Preference = d.uint8("preference")
	if v.Presence = Presence(d.uint8("presence")); v.Presence > PresenceInactive {
		d.fail("presence", fmt.Sprintf("%d is unknown", uint8(v.Presence)))
	}
	copy(v.Thumbprint[:], d.take("thumbprint", len(v.Thumbprint)))
	copy(v.PreviousHash[:], d.take("previous bearer hash", len(v.PreviousHash)))
	for _, t := range [...]struct {
		field string
		into  *time.Time
	}{{"proven at", &v.ProvenAt}, {"seen at", &v.SeenAt}, {"grace until", &v.GraceUntil}} {
		if ns := int64(d.uint64(t.field)); ns != 0 {
			*t.into = time.Unix(0, ns).UTC()
		}
	}
}

func (d *decoder) device() Device {
	var v Device
	v.ID = d.text("device id", int(d.uint8("device id length")), MaxName)
	v.App = d.named("app", int(d.uint8("app length")), MaxName)
	v.Platform = Platform(d.uint8("platform"))
	if v.Platform != APNs && v.Platform != FCM {
		d.fail("platform", fmt.Sprintf("%d is unknown", uint8(v.Platform)))
	}
	flags := d.uint8("flags")
	if flags&^(flagActive|flagSandbox) != 0 {
		d.fail("flags", fmt.Sprintf("%#x is unknown", flags))
	}
	v.Active, v.Sandbox = flags&flagActive != 0, flags&flagSandbox != 0
	v.Token = d.text("token", int(d.uint16("token length")), MaxToken)
	copy(v.BearerHash[:], d.take("bearer hash", len(v.BearerHash)))
	v.RegisteredAt = d.time("registered at")
	v.UpdatedAt = d.time("updated at")
	d.second(&v)
	if d.version >= externalVersion {
		v.Source = d.text("source", int(d.uint8("source length")), MaxName)
	}
	return v
}

// owner is who a bearer belongs to.
type owner struct {
	number msg.Number
	device string
}

func encodeOwner(hash [32]byte, o owner) []byte {
	b := make([]byte, recordHeader, recordHeader+8+len(o.device))
	b = binary.BigEndian.AppendUint64(b, uint64(o.number))
	return seal(bearerKey(hash), append(b, o.device...))
}

func decodeOwner(key, value []byte) (owner, error) {
	d, err := unseal(key, value)
	if err != nil {
		return owner{}, err
	}
	var o owner
	o.number = msg.Number(d.uint64("number"))
	o.device = d.text("device id", len(d.b), MaxName)
	if err := d.end(); err != nil {
		return owner{}, fmt.Errorf("%s: %w: %w", keyName(key), ErrCorrupt, err)
	}
	return o, nil
}

func encodeApp(i uint16, name string) []byte {
	b := make([]byte, recordHeader, recordHeader+len(name))
	return seal(appKey(i), append(b, name...))
}

func decodeApp(key, value []byte) (string, error) {
	d, err := unseal(key, value)
	if err != nil {
		return "", err
	}
	name := d.text("app", len(d.b), MaxName)
	if err := d.end(); err != nil {
		return "", fmt.Errorf("%s: %w: %w", keyName(key), ErrCorrupt, err)
	}
	return name, nil
}

// decoder reads a body in order and keeps the first failure.
type decoder struct {
	b       []byte
	err     error
	version byte

	// nameOf, where set, makes a name of its octets. Every other text is then left
	// out: a device's id and token are "", and its source, if it has one, is any.
	nameOf func([]byte) string
}

func (d *decoder) fail(field, cause string) {
	if d.err == nil {
		d.err = errors.New(field + ": " + cause)
	}
}

// take is the next n octets, or nil after a failure.
func (d *decoder) take(field string, n int) []byte {
	if d.err == nil && len(d.b) < n {
		d.fail(field, fmt.Sprintf("%d octets left, want %d", len(d.b), n))
	}
	if d.err != nil {
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint8(field string) (v uint8) {
	if b := d.take(field, 1); b != nil {
		v = b[0]
	}
	return v
}

func (d *decoder) uint16(field string) (v uint16) {
	if b := d.take(field, 2); b != nil {
		v = binary.BigEndian.Uint16(b)
	}
	return v
}

func (d *decoder) uint32(field string) (v uint32) {
	if b := d.take(field, 4); b != nil {
		v = binary.BigEndian.Uint32(b)
	}
	return v
}

func (d *decoder) uint64(field string) (v uint64) {
	if b := d.take(field, 8); b != nil {
		v = binary.BigEndian.Uint64(b)
	}
	return v
}

// text is a string of n octets, which must be 1 to longest.
func (d *decoder) text(field string, n, longest int) string {
	if n == 0 || n > longest {
		d.fail(field, fmt.Sprintf("%d octets, want 1 to %d", n, longest))
	}
	b := d.take(field, n)
	switch {
	case d.nameOf == nil:
		return string(b)
	case field == "source":
		return anySource
	}
	return ""
}

// anySource stands for a source that nobody asked for.
const anySource = "-"

// named is a text that few registrations do not share.
func (d *decoder) named(field string, n, longest int) string {
	if d.nameOf == nil {
		return d.text(field, n, longest)
	}
	if n == 0 || n > longest {
		d.fail(field, fmt.Sprintf("%d octets, want 1 to %d", n, longest))
	}
	return d.nameOf(d.take(field, n))
}

func (d *decoder) time(field string) time.Time {
	return time.Unix(0, int64(d.uint64(field))).UTC()
}

// end is the first failure; octets that nothing read are one.
func (d *decoder) end() error {
	if len(d.b) > 0 {
		d.fail("body", fmt.Sprintf("%d octets too many", len(d.b)))
	}
	return d.err
}
