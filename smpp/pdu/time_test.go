package pdu_test

import (
	"testing"
	"time"

	"shunt/smpp/pdu"
)

func TestTime(t *testing.T) {
	now := time.Date(2027, 1, 31, 12, 30, 15, 0, time.UTC)
	utc := func(y, mo, d, h, mi, s, tenths int) time.Time {
		return time.Date(y, time.Month(mo), d, h, mi, s, tenths*1e8, time.UTC)
	}
	for _, c := range []struct {
		in   string
		want time.Time
	}{
		{"", time.Time{}},
		// Absolute: quarters of an hour that local time is ahead of UTC, or behind.
		{"261123174100000+", utc(2026, 11, 23, 17, 41, 0, 0)},
		{"261123174100000-", utc(2026, 11, 23, 17, 41, 0, 0)},
		{"261123174105704+", utc(2026, 11, 23, 16, 41, 5, 7)},
		{"261123174100022+", utc(2026, 11, 23, 12, 11, 0, 0)}, // India
		{"261123174100023+", utc(2026, 11, 23, 11, 56, 0, 0)}, // Nepal
		{"261231233000020-", utc(2027, 1, 1, 4, 30, 0, 0)},    // New York, over the year's end
		{"270101000000048+", utc(2026, 12, 31, 12, 0, 0, 0)},
		{"280229235959900+", utc(2028, 2, 29, 23, 59, 59, 9)}, // a leap day
		{"000229000000000+", utc(2000, 2, 29, 0, 0, 0, 0)},
		{"991231235959000+", utc(2099, 12, 31, 23, 59, 59, 0)},
		// Relative.
		{"000000000000000R", now},
		{"000000000001000R", now.Add(time.Second)},
		{"000000010000000R", now.Add(time.Hour)},
		{"000000995959000R", now.Add(99*time.Hour + 59*time.Minute + 59*time.Second)},
		{"000002000000000R", now.Add(48 * time.Hour)},
		{"000100000000000R", utc(2027, 3, 3, 12, 30, 15, 0)}, // 31 February
		{"010000000000000R", utc(2028, 1, 31, 12, 30, 15, 0)},
		{"020610233429000R", utc(2029, 8, 11, 12, 4, 44, 0)}, // the specification's example
	} {
		got, err := pdu.Time([]byte(c.in), now)
		if err != nil || !got.Equal(c.want) {
			t.Errorf("Time(%q) = %v, %v, want %v", c.in, got, err, c.want)
		}
	}
	for _, in := range []string{
		"0", "26112317410000+", "2611231741000000+", "000000000000000", // wrong length
		"26112317410000+ ", "261123174100000*", "261123174100000r", "261123174100000\x00", // wrong last octet
		"2x1123174100000+", "26112317410x000+", "261123174100x00+", "2611231741000x0+", "26112317410000x+", "-00000000000000R",
		"261323174100000+", "260023174100000+", "261100174100000+", "261132174100000+", // no such date
		"261131174100000+", "270229000000000+", "210229000000000+", "260230000000000-", // no such day
		"261123240000000+", "261123176000000+", "261123174160000+", // no such time
		"261123174100049+", "261123174100099-", // no such offset
	} {
		if got, err := pdu.Time([]byte(in), now); err == nil || !got.IsZero() {
			t.Errorf("Time(%q) = %v, %v, want an error", in, got, err)
		}
	}
}

func TestRelativeTime(t *testing.T) {
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		-time.Hour:                           "000000000000000R",
		0:                                    "000000000000000R",
		999 * time.Millisecond:               "000000000000000R",
		time.Second:                          "000000000001000R",
		90 * time.Second:                     "000000000130000R",
		23*time.Hour + 59*time.Minute + 59e9: "000000235959000R",
		day:                                  "000001000000000R",
		72 * time.Hour:                       "000003000000000R",
		99 * day:                             "000099000000000R",
		99*day + 23*time.Hour:                "000099000000000R",
		1000 * day:                           "000099000000000R",
		1<<63 - 1:                            "000099000000000R",
	} {
		if got := pdu.RelativeTime(d); got != want {
			t.Errorf("RelativeTime(%v) = %q, want %q", d, got, want)
		}
	}
	now := time.Date(2028, 2, 28, 1, 2, 3, 0, time.UTC)
	for s := 0; s <= 99*86400; s += 86399 {
		d := time.Duration(s) * time.Second
		got, err := pdu.Time([]byte(pdu.RelativeTime(d)), now)
		if err != nil || got.Sub(now) != d {
			t.Errorf("Time(RelativeTime(%v)) = %v, %v", d, got.Sub(now), err)
		}
	}
}
