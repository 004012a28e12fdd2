package registry

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
)

const testNumber msg.Number = 447700900042

func sampleRegistration() Registration {
	return Registration{Number: testNumber, Generation: 0xFFFFFFFF, Devices: []Device{
		{
			ID: "d1", App: "chat", Platform: APNs, Token: "a1b2", Sandbox: true, Active: true,
			BearerHash: [32]byte{1, 2, 31: 3}, RegisteredAt: time.Unix(1_700_000_000, 1).UTC(), UpdatedAt: time.Unix(1_700_000_001, 999_999_999).UTC(),
		},
		{
			ID: strings.Repeat("x", MaxName), App: strings.Repeat("y", MaxName), Platform: FCM, Token: strings.Repeat("z", MaxToken),
			BearerHash: [32]byte{9}, RegisteredAt: time.Unix(0, 0).UTC(), UpdatedAt: time.Unix(-1, 5).UTC(),
		},
	}}
}

func TestRegistrationRoundTrip(t *testing.T) {
	want := sampleRegistration()
	got, err := decodeRegistration(numberKey(want.Number), encodeRegistration(&want))
	if err != nil {
		t.Fatalf("decodeRegistration(encodeRegistration(r)) = %v", err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("decodeRegistration(encodeRegistration(r)): -want +got\n%s", d)
	}
}

// The layout is on disk: a change needs a new record version.
func TestRegistrationLayout(t *testing.T) {
	r := sampleRegistration()
	r.Devices = r.Devices[:1]
	body := "ffffffff 01" + // generation, devices
		"02 6431 04 63686174 01 03 0004 61316232" + // id, app, platform, flags, token
		"01 02" + strings.Repeat("00", 29) + "03" + // bearer hash
		"17979cfe362a0001 17979cfead5f93ff" // registered at, updated at, ns since 1970
	body += "0b 02 07 01" + // features, permission, preference, presence
		"00" + strings.Repeat("00", 30) + "2a" + strings.Repeat("00", 31) + "2b" + // thumbprint, previous bearer hash
		"17979cfe362a0001 0000000000000000 17979cfead5f93ff" // proven at, seen at: not known, grace until
	want := strings.ReplaceAll(body, " ", "")
	d := &r.Devices[0]
	d.Features, d.Permission, d.Preference, d.Presence = FeatureReceipts|FeatureRead|FeatureRich, Denied, 7, PresenceStale
	d.Thumbprint[31], d.PreviousHash[31], d.ProvenAt, d.GraceUntil = 0x2a, 0x2b, d.RegisteredAt, d.UpdatedAt
	v := encodeRegistration(&r)
	if got := hex.EncodeToString(v[recordHeader:]); got != want || v[0] != 2 {
		t.Errorf("encodeRegistration(r) = version %d\n got %s\nwant %s", v[0], got, want)
	}
	if got, want := hex.EncodeToString(numberKey(testNumber)), "520000"+"00683d0d98ca"; got != want {
		t.Errorf("numberKey(%d) = %s, want %s", testNumber, got, want)
	}
}

// A version 1 record, as releases before proofs wrote it: its devices can do
// everything and were put by the operator.
func TestRegistrationVersion1(t *testing.T) {
	body, err := hex.DecodeString("ffffffff01" + "026431" + "0463686174" + "0103" + "000461316232" +
		"0102" + strings.Repeat("00", 29) + "03" + "17979cfe362a0001" + "17979cfead5f93ff")
	if err != nil {
		t.Fatal(err)
	}
	key := numberKey(testNumber)
	value := append([]byte{1, 0, 0, 0, 0}, body...)
	binary.BigEndian.PutUint32(value[1:], checksum(key, value))
	got, err := decodeRegistration(key, value)
	if err != nil {
		t.Fatalf("decodeRegistration(version 1) = %v", err)
	}
	want := sampleRegistration()
	want.Devices = want.Devices[:1]
	want.Devices[0].Features = AllFeatures
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("decodeRegistration(version 1): -want +got\n%s", d)
	}
	again, err := decodeRegistration(key, encodeRegistration(&got))
	if d := cmp.Diff(want, again); err != nil || d != "" {
		t.Errorf("written as version 2 and read: %v, -want +got\n%s", err, d)
	}
}

// A record that an external registry has told has version 3, with the source.
func TestExternalRegistrationLayout(t *testing.T) {
	want := sampleRegistration()
	for i := range want.Devices {
		want.Devices[i].Source = "hlr"
	}
	key := numberKey(want.Number)
	v := encodeRegistration(&want)
	if end := v[len(v)-4:]; v[0] != 3 || string(end) != "\x03hlr" {
		t.Errorf("version %d, end %q", v[0], end)
	}
	got, err := decodeRegistration(key, v)
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("decodeRegistration() = %v, -want +got\n%s", err, d)
	}
	want.Devices = want.Devices[:1]
	v = encodeRegistration(&want)
	for n := range len(v) {
		short := append([]byte(nil), v[:n]...)
		if n > recordHeader {
			binary.BigEndian.PutUint32(short[1:], checksum(key, short))
		}
		if _, err := decodeRegistration(key, short); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("the first %d of %d octets: %v, want ErrCorrupt", n, len(v), err)
		}
	}
}

func TestEveryTruncationAndBitFlipFails(t *testing.T) {
	r := sampleRegistration()
	r.Devices[1].Token = "short"
	hash := [32]byte{7}
	for _, c := range []struct {
		name   string
		key    []byte
		value  []byte
		decode func(k, v []byte) error
	}{
		{
			"registration", numberKey(r.Number), encodeRegistration(&r),
			func(k, v []byte) error { _, err := decodeRegistration(k, v); return err },
		},
		{
			"owner", bearerKey(hash), encodeOwner(hash, owner{r.Number, "d1"}),
			func(k, v []byte) error { _, err := decodeOwner(k, v); return err },
		},
		{
			"app", appKey(3), encodeApp(3, "chat"),
			func(k, v []byte) error { _, err := decodeApp(k, v); return err },
		},
	} {
		if err := c.decode(c.key, c.value); err != nil {
			t.Fatalf("%s: whole value: %v", c.name, err)
		}
		must := func(what string, k, v []byte) {
			t.Helper()
			if err := c.decode(k, v); !errors.Is(err, ErrCorrupt) || !strings.HasPrefix(err.Error(), keyName(k)) {
				t.Errorf("%s: %s: got %v, want %v behind the key's name %s", c.name, what, err, ErrCorrupt, keyName(k))
			}
		}
		for n := range len(c.value) {
			must(fmt.Sprintf("first %d octets", n), c.key, c.value[:n])
			// With a sum that fits, the body itself must be found short.
			if n >= recordHeader && c.name == "registration" {
				must(fmt.Sprintf("first %d octets, sealed", n), c.key, seal(c.key, append([]byte(nil), c.value[:n]...)))
			}
		}
		for bit := range len(c.value) * 8 {
			v := append([]byte(nil), c.value...)
			v[bit/8] ^= 1 << (bit % 8)
			must(fmt.Sprintf("bit %d flipped", bit), c.key, v)
		}
		must("one octet too many", c.key, append(append([]byte(nil), c.value...), 0))
		other := append([]byte(nil), c.key...)
		other[len(other)-1] ^= 1
		must("under another key", other, c.value)
	}
}

func TestDecodeNamesTheField(t *testing.T) {
	key := numberKey(testNumber)
	whole := sampleRegistration()
	whole.Devices = whole.Devices[:1]
	for _, c := range []struct {
		at   int // offset in the body
		set  byte
		want string
	}{
		{4, 0, "device count: 0, want 1 to 16"},
		{4, 17, "device count: 17, want 1 to 16"},
		{5, 0, "device id: 0 octets, want 1 to 64"},
		{5, 65, "device id: 65 octets, want 1 to 64"},
		{8, 65, "app: 65 octets, want 1 to 64"},
		{13, 9, "platform: 9 is unknown"},
		{14, 4, "flags: 0x4 is unknown"},
		{15, 0x10, "token: 4100 octets, want 1 to 4096"},
	} {
		v := encodeRegistration(&whole)
		v[recordHeader+c.at] = c.set
		_, err := decodeRegistration(key, seal(key, v))
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("body octet %d = %d: got %v, want %q", c.at, c.set, err, c.want)
		}
		if err != nil && (!strings.Contains(err.Error(), testNumber.Masked()) || strings.Contains(err.Error(), "a1b2")) {
			t.Errorf("body octet %d = %d: %v: want the masked number and no token", c.at, c.set, err)
		}
	}
}

func TestNewerRecordIsRefused(t *testing.T) {
	r := sampleRegistration()
	v := encodeRegistration(&r)
	v[0] = 4
	if _, err := decodeRegistration(numberKey(r.Number), v); err == nil || !strings.Contains(err.Error(), "record version 4, this program reads 1 to 3") {
		t.Errorf("decodeRegistration(version 4) = %v, want a refusal that names both versions", err)
	}
}

// What decodes encodes to the same octets: there is one form of every record.
func FuzzDecodeRegistration(f *testing.F) {
	r := sampleRegistration()
	f.Add(uint64(r.Number), encodeRegistration(&r)[recordHeader:])
	r.Devices = r.Devices[:1]
	f.Add(uint64(r.Number), encodeRegistration(&r)[recordHeader:])
	f.Fuzz(func(t *testing.T, number uint64, body []byte) {
		key := numberKey(msg.Number(number))
		v := seal(key, append(make([]byte, recordHeader), body...))
		r, err := decodeRegistration(key, v)
		if err != nil {
			return
		}
		if again := encodeRegistration(&r); string(again) != string(v) {
			t.Errorf("decode, encode:\n got %x\nwant %x", again, v)
		}
	})
}
