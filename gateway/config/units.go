package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of octets.
type Size int64

// String is the size in the largest unit that divides it: "70KiB".
func (s Size) String() string {
	for _, u := range sizeUnits {
		if s != 0 && s%u.octets == 0 {
			return strconv.FormatInt(int64(s/u.octets), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// Rate is a number of events a second.
type Rate int

// String is the rate as the file writes it: "500/s".
func (r Rate) String() string { return strconv.Itoa(int(r)) + "/s" }

var (
	errDuration = errors.New(`is no duration, want one such as "30s", "72h" or "30d"`)
	errSize     = errors.New(`is no size, want one such as "4096B", "70KiB" or "1MiB"`)
	errRate     = errors.New(`is no rate, want one such as "500/s"`)
)

var sizeUnits = []struct {
	name   string
	octets Size
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// ParseDuration reads what time.ParseDuration reads and whole days: "30d".
// The sign must be left out.
func ParseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := digits(days, math.MaxInt64/int64(24*time.Hour))
		if err != nil {
			return 0, fmt.Errorf("%q %w", s, errDuration)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || strings.ContainsAny(s, "+-") {
		return 0, fmt.Errorf("%q %w", s, errDuration)
	}
	return d, nil
}

// ParseSize reads a whole number of B, KiB, MiB or GiB.
func ParseSize(s string) (Size, error) {
	for _, u := range sizeUnits {
		if number, ok := strings.CutSuffix(s, u.name); ok {
			n, err := digits(number, math.MaxInt64/int64(u.octets))
			if err != nil {
				break
			}
			return Size(n) * u.octets, nil
		}
	}
	return 0, fmt.Errorf("%q %w", s, errSize)
}

// ParseRate reads a whole number of events a second.
func ParseRate(s string) (Rate, error) {
	number, ok := strings.CutSuffix(s, "/s")
	n, err := digits(number, math.MaxInt32)
	if !ok || err != nil {
		return 0, fmt.Errorf("%q %w", s, errRate)
	}
	return Rate(n), nil
}

// digits reads a number of decimal digits and nothing else.
func digits(s string, most int64) (int64, error) {
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, strconv.ErrSyntax
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > most {
		return 0, strconv.ErrRange
	}
	return n, nil
}

// showDuration writes whole days as ParseDuration reads them, and without
// the zero units of time.Duration.String.
func showDuration(d time.Duration) string {
	if d != 0 && d%(24*time.Hour) == 0 {
		return strconv.FormatInt(int64(d/(24*time.Hour)), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
