package config

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"0": 0, "30s": 30 * time.Second, "72h": 72 * time.Hour, "30d": 720 * time.Hour, "1m30s": 90 * time.Second,
		"1.5h": 90 * time.Minute, "250ms": 250 * time.Millisecond, "0d": 0, "106751d": 106751 * 24 * time.Hour,
	} {
		if got, err := ParseDuration(s); got != want || err != nil {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "d", "30", "-1s", "+1s", "-3d", "1.5d", "1d12h", "106752d", "9999999999999999999d", "1 d", "s"} {
		if got, err := ParseDuration(s); !errors.Is(err, errDuration) {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", s, got, err, errDuration)
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]Size{
		"0B": 0, "4096B": 4096, "70KiB": 71680, "1MiB": 1 << 20, "2GiB": 2 << 30, "8589934591GiB": 8589934591 << 30,
	} {
		if got, err := ParseSize(s); got != want || err != nil {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "B", "70", "70 KiB", "-1B", "1.5KiB", "70KB", "70kib", "8589934592GiB"} {
		if got, err := ParseSize(s); !errors.Is(err, errSize) {
			t.Errorf("ParseSize(%q) = %d, %v, want %v", s, got, err, errSize)
		}
	}
}

func TestParseRate(t *testing.T) {
	if got, err := ParseRate("500/s"); got != 500 || err != nil {
		t.Errorf("ParseRate(500/s) = %v, %v", got, err)
	}
	for _, s := range []string{"", "/s", "500", "500/m", "-1/s", "0.5/s", "500 /s", "2147483648/s"} {
		if got, err := ParseRate(s); !errors.Is(err, errRate) {
			t.Errorf("ParseRate(%q) = %v, %v, want %v", s, got, err, errRate)
		}
	}
}

// TestUnitsRoundTrip: what is shown in a fault can be written into the file.
func TestUnitsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Min(0).Draw(t, "duration"))
		if got, err := ParseDuration(showDuration(d)); got != d || err != nil {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", showDuration(d), got, err, d)
		}
		s := Size(rapid.Int64Min(0).Draw(t, "size"))
		if got, err := ParseSize(s.String()); got != s || err != nil {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", s, got, err, s)
		}
		r := Rate(rapid.Int32Min(0).Draw(t, "rate"))
		if got, err := ParseRate(r.String()); got != r || err != nil {
			t.Errorf("ParseRate(%q) = %d, %v, want %d", r, got, err, r)
		}
	})
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		DivertOff.String(): "off", DivertShadow.String(): "shadow", DivertOn.String(): "on", Divert(9).String(): "unknown(9)",
		Transceiver.String(): "transceiver", TransmitterReceiver.String(): "transmitter+receiver",
		IDDecRespHexReceipt.String(): "dec-resp-hex-receipt", ViaApp.String(): "app", Carrier.String(): "carrier",
	} {
		if got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
	for _, d := range []Divert{DivertOff, DivertShadow, DivertOn} {
		b, err := d.MarshalText()
		var back Divert
		if err != nil || back.UnmarshalText(b) != nil || back != d {
			t.Errorf("%v: MarshalText gave %q, %v, read back as %v", d, b, err, back)
		}
	}
	if err := new(Divert).UnmarshalText([]byte("perhaps")); err == nil {
		t.Error("UnmarshalText(perhaps) gave no error")
	}
}
