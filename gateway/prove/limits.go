package prove

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"shunt/gateway/msg"
)

// Limits are verifications that may be begun an hour; 0 is no limit.
type Limits struct {
	PerNumber, PerAddress, PerSubnet, PerApp, PerPrefix int
	PrefixDigits                                        int // of a number, that make its prefix
}

// LimitError says which limit is reached, and for how long. It says nothing of
// whether the number is known.
type LimitError struct {
	Limit string // resend, number, address, subnet, app or prefix
	Wait  time.Duration
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("limit by %s: wait %s", e.Limit, e.Wait.Round(time.Second))
}

// maxKeys bounds what the limiter remembers. Beyond it keys that may go on are
// forgotten first, then any: of the wider limits there are few.
const maxKeys = 100_000

const window = time.Hour

// limiter is one bucket a key, of which only the time is kept at which it would
// be empty again (the generic cell rate algorithm, ITU-T I.371 Annex A).
type limiter struct {
	o Limits
	counts[string, time.Time]
	resends counts[string, resend]
}

// resend is how often a code was asked for in a row.
type resend struct {
	times int
	next  time.Time
}

// pauses come before the second, the third and each later code of a number.
var pauses = [...]time.Duration{30 * time.Second, 60 * time.Second, 120 * time.Second}

func newLimiter(o Limits) limiter {
	return limiter{
		o: o, counts: counts[string, time.Time]{m: map[string]time.Time{}},
		resends: counts[string, resend]{m: map[string]resend{}},
	}
}

type bucket struct {
	limit, key string
	perHour    int
}

// take takes one of every limit, or none, and tells when the next may come for
// the same number.
func (l *limiter) take(r *Request, now time.Time) (time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	again := r.App + "/" + r.Number.String()
	last := l.resends.m[again]
	if wait := last.next.Sub(now); wait > 0 {
		return time.Time{}, &LimitError{"resend", wait}
	}
	all := l.buckets(r)
	for _, b := range all {
		if b.perHour == 0 {
			continue
		}
		step := window / time.Duration(b.perHour)
		if wait := later(l.m[b.key], now).Add(step).Sub(now) - window; wait > 0 {
			return time.Time{}, &LimitError{b.limit, wait}
		}
	}
	for _, b := range all {
		if b.perHour > 0 {
			l.room(now)
			l.m[b.key] = later(l.m[b.key], now).Add(window / time.Duration(b.perHour))
		}
	}
	if now.Sub(last.next) > window {
		last.times = 0
	}
	last.next = now.Add(pauses[min(last.times, len(pauses)-1)])
	last.times++
	makeRoom(l.resends.m, func(v resend) bool { return now.Sub(v.next) > window })
	l.resends.m[again] = last
	return last.next, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (l *limiter) buckets(r *Request) []bucket {
	bits := 24
	if r.From.Is6() {
		bits = 48
	}
	address := r.From
	if r.From.Is6() { // who has one address has its /64
		p, _ := r.From.Prefix(64)
		address = p.Addr()
	}
	subnet, _ := r.From.Prefix(bits)
	return []bucket{
		{"number", "n" + r.Number.String(), l.o.PerNumber},
		{"address", "a" + address.String(), l.o.PerAddress},
		{"subnet", "s" + subnet.String(), l.o.PerSubnet},
		{"prefix", "p" + prefixOf(r.Number, l.o.PrefixDigits), l.o.PerPrefix},
		{"app", "i" + r.App, l.o.PerApp},
	}
}

func (l *limiter) room(now time.Time) {
	makeRoom(l.m, func(t time.Time) bool { return !t.After(now) })
}

// makeRoom forgets a tenth of a full map, those that have ended first.
func makeRoom[V any](m map[string]V, ended func(V) bool) {
	if len(m) < maxKeys {
		return
	}
	for k, v := range m {
		if ended(v) {
			delete(m, k)
		}
	}
	for k := range m {
		if len(m) < maxKeys*9/10 {
			return
		}
		delete(m, k)
	}
}

func prefixOf(n msg.Number, digits int) string {
	s := strconv.FormatUint(uint64(n), 10)
	return s[:min(digits, len(s))]
}

// Addr is the address of a client as limits see it.
func Addr(hostPort string) netip.Addr {
	a, err := netip.ParseAddrPort(hostPort)
	if err != nil {
		return netip.IPv6Unspecified() // all who have none share one
	}
	return a.Addr().Unmap().WithZone("")
}
