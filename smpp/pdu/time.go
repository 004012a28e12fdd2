package pdu

import (
	"fmt"
	"time"
)

// timeForm says in errors what a time field may hold.
const timeForm = `want "YYMMDDhhmmsstnnp", p one of + - R (SMPP v3.4 §7.1.1)`

// Time reads an absolute or relative time (SMPP v3.4 §7.1.1). A relative one
// counts from now: months and years by the calendar. The empty string is the
// zero Time: the SMSC's default.
func Time(b []byte, now time.Time) (time.Time, error) {
	if len(b) == 0 {
		return time.Time{}, nil
	}
	if len(b) != 16 {
		return time.Time{}, fmt.Errorf("%d octets: %s", len(b), timeForm)
	}
	var v [6]int
	for i := range v {
		hi, lo := b[2*i]-'0', b[2*i+1]-'0'
		if hi > 9 || lo > 9 {
			return time.Time{}, fmt.Errorf("octets %d and %d are no number: %s", 2*i, 2*i+1, timeForm)
		}
		v[i] = int(hi)*10 + int(lo)
	}
	tenths, q1, q2 := b[12]-'0', b[13]-'0', b[14]-'0'
	if tenths > 9 || q1 > 9 || q2 > 9 {
		return time.Time{}, fmt.Errorf("tnn is no number: %s", timeForm)
	}
	if b[15] == 'R' {
		return now.AddDate(v[0], v[1], v[2]).Add(time.Duration(v[3])*time.Hour +
			time.Duration(v[4])*time.Minute + time.Duration(v[5])*time.Second), nil
	}
	quarters := int(q1)*10 + int(q2)
	if v[1] < 1 || v[1] > 12 || v[2] < 1 || v[2] > 31 || v[3] > 23 || v[4] > 59 || v[5] > 59 || quarters > 48 {
		return time.Time{}, fmt.Errorf("no such date or time: %s", timeForm)
	}
	offset := time.Duration(quarters) * 15 * time.Minute
	switch b[15] {
	case '+': // local time is ahead of UTC
	case '-':
		offset = -offset
	default:
		return time.Time{}, fmt.Errorf("last octet %q: %s", b[15], timeForm)
	}
	t := time.Date(2000+v[0], time.Month(v[1]), v[2], v[3], v[4], v[5], int(tenths)*int(100*time.Millisecond), time.UTC)
	if t.Day() != v[2] {
		return time.Time{}, fmt.Errorf("no such day: %s", timeForm)
	}
	return t.Add(-offset), nil
}

// AbsoluteTime is t as an absolute time in UTC, to the tenth of a second
// (SMPP v3.4 §7.1.1).
func AbsoluteTime(t time.Time) string {
	t = t.UTC()
	return t.Format("060102150405") + string('0'+byte(t.Nanosecond()/1e8)) + "00+"
}

// RelativeTime is d as a relative time, in whole seconds and at most 99 days.
func RelativeTime(d time.Duration) string {
	s := int(max(d, 0) / time.Second)
	s = min(s, 99*86400)
	return fmt.Sprintf("0000%02d%02d%02d%02d000R", s/86400, s/3600%24, s/60%60, s%60)
}
