package prove

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"shunt/gateway/msg"
)

// begun takes one of l's limits and tells which of them refused, and the wait.
func begun(t *testing.T, l *limiter, q Request) (limit string, wait time.Duration) {
	t.Helper()
	_, err := l.take(&q, time.Now())
	if err == nil {
		return "", 0
	}
	var e *LimitError
	if !errors.As(err, &e) || e.Wait <= 0 {
		t.Fatalf("take(%+v) = %v, want a LimitError with a wait", q, err)
	}
	return e.Limit, e.Wait
}

func addr(format string, a ...any) netip.Addr { return netip.MustParseAddr(fmt.Sprintf(format, a...)) }

// TestEachLimit: every limit by itself takes as many at once as it says, refuses
// the next one for its share of an hour, takes one more then, and counts for its
// own key alone.
func TestEachLimit(t *testing.T) {
	const most = 4
	base := Request{Number: alice, App: "chat", From: home}
	for name, c := range map[string]struct {
		limits Limits
		limit  string
		same   func(i int) Request // all count for one key
		other  Request             // and this one for another
	}{
		"number": {
			Limits{PerNumber: most},
			"number",
			func(i int) Request {
				return Request{alice, fmt.Sprint("app", i), false, Plain, "", addr("2001:db8:%x::1", i)}
			},
			Request{Number: alice + 1, App: "app0", From: home},
		},
		"address": {
			Limits{PerAddress: most},
			"address",
			func(i int) Request {
				return Request{Number: alice + msg.Number(i*1_000_000), App: fmt.Sprint("app", i), From: home}
			},
			Request{Number: alice, App: "chat", From: home.Next()},
		},
		"address, of a /64": {
			Limits{PerAddress: most},
			"address",
			func(i int) Request {
				return Request{Number: alice + msg.Number(i), App: "chat", From: addr("2001:db8:0:7:%x::%x", i*4000, i)}
			},
			Request{Number: alice - 1, App: "chat", From: addr("2001:db8:0:6::")},
		},
		"subnet": {
			Limits{PerSubnet: most},
			"subnet",
			func(i int) Request {
				return Request{Number: alice + msg.Number(i), App: "chat", From: addr("192.0.2.%d", i*19)}
			},
			Request{Number: alice - 1, App: "chat", From: addr("192.0.3.0")},
		},
		"subnet, of a /48": {
			Limits{PerSubnet: most},
			"subnet",
			func(i int) Request {
				return Request{Number: alice + msg.Number(i), App: "chat", From: addr("2001:db8:7:%x::1", i*4000)}
			},
			Request{Number: alice - 1, App: "chat", From: addr("2001:db8:6::1")},
		},
		"prefix": {
			Limits{PerPrefix: most, PrefixDigits: 5},
			"prefix",
			func(i int) Request {
				return Request{Number: 447701111111 + msg.Number(i*100_000), App: "chat", From: home}
			},
			Request{Number: 447711111111, App: "chat", From: home},
		},
		"app": {
			Limits{PerApp: most},
			"app",
			func(i int) Request {
				return Request{Number: alice + msg.Number(i), App: "chat", From: addr("198.51.%d.1", i)}
			},
			Request{Number: alice, App: "bank", From: home},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimiter(c.limits)
				i := 0
				next := func() (string, time.Duration) { i++; return begun(t, &l, c.same(i-1)) }
				for range most {
					if limit, wait := next(); limit != "" {
						t.Fatalf("the %d. is refused: %s, %v", i, limit, wait)
					}
				}
				step := time.Hour / most
				for range 3 { // who is refused does not wait longer for it
					if limit, wait := next(); limit != c.limit || wait != step {
						t.Fatalf("the %d. = %q, %v, want %q, %v", i, limit, wait, c.limit, step)
					}
				}
				if limit, wait := begun(t, &l, c.other); limit != "" {
					t.Errorf("one of another key is refused: %s, %v", limit, wait)
				}
				time.Sleep(step - 1)
				if limit, wait := next(); limit != c.limit || wait != 1 {
					t.Errorf("just before its time = %q, %v, want %q, 1ns", limit, wait, c.limit)
				}
				time.Sleep(time.Nanosecond)
				if limit, wait := next(); limit != "" {
					t.Errorf("at its time is refused: %s, %v", limit, wait)
				}
				if limit, _ := next(); limit != c.limit {
					t.Errorf("a second one at its time = %q, want %q", limit, c.limit)
				}
				time.Sleep(time.Hour)
				for range most {
					if limit, wait := next(); limit != "" {
						t.Fatalf("an hour later the %d. is refused: %s, %v", i, limit, wait)
					}
				}
			})
		})
	}
	t.Run("none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLimiter(Limits{PrefixDigits: 6})
			for i := range 10_000 {
				q := base
				q.Number += msg.Number(i)
				if limit, _ := begun(t, &l, q); limit != "" {
					t.Fatalf("without limits the %d. is refused: %s", i, limit)
				}
			}
			if len(l.m) != 0 {
				t.Errorf("%d counts without limits", len(l.m))
			}
		})
	})
}

// TestResend: 30, 60, then 120 s between codes to one number for one app; an hour
// of rest begins anew.
func TestResend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(Limits{})
		q := Request{Number: alice, App: "chat", From: home}
		ask := func(pause time.Duration) {
			t.Helper()
			next, err := l.take(&q, time.Now())
			if err != nil || next != time.Now().Add(pause) {
				t.Fatalf("take = %v, %v, want the next in %v", time.Until(next), err, pause)
			}
			time.Sleep(pause - 1)
			if limit, wait := begun(t, &l, q); limit != "resend" || wait != 1 {
				t.Fatalf("just before = %q, %v, want resend, 1ns", limit, wait)
			}
			time.Sleep(time.Nanosecond)
		}
		for _, s := range []time.Duration{30, 60, 120, 120, 120} {
			ask(s * time.Second)
		}
		other := q
		other.App = "bank"
		if limit, _ := begun(t, &l, other); limit != "" {
			t.Errorf("for another app = %q", limit)
		}
		time.Sleep(time.Hour)
		ask(120 * time.Second) // to the nanosecond it is not over
		time.Sleep(time.Hour + 1)
		ask(30 * time.Second)
	})
}

// TestRefusalTakesNothing: what one limit refuses is not counted by the others.
func TestRefusalTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(Limits{PerNumber: 1, PerAddress: 3, PerSubnet: 3, PerApp: 3, PerPrefix: 3, PrefixDigits: 6})
		q := Request{Number: alice, App: "chat", From: home}
		if limit, _ := begun(t, &l, q); limit != "" {
			t.Fatal(limit)
		}
		time.Sleep(pauses[0])
		for range 50 {
			if limit, _ := begun(t, &l, q); limit != "number" {
				t.Fatalf("the second = %q, want number", limit)
			}
		}
		for i := range 2 {
			q.Number = alice + 1 + msg.Number(i)
			if limit, wait := begun(t, &l, q); limit != "" {
				t.Errorf("the %d. number: %s, %v", i+2, limit, wait)
			}
		}
	})
}

// TestLimitsAreBuckets: against buckets that leak evenly, written another way: at
// any moment the same are taken, and nobody gets twice the limit in an hour.
func TestLimitsAreBuckets(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			perHour := []int{1, 2, 3, 5, 10, 20}[rnd.IntN(6)] // an hour divides by these
			l := newLimiter(Limits{PerAddress: perHour})
			type bucket struct {
				level int64 // in perHours of a nanosecond: what is in it
				at    time.Time
				taken []time.Time
			}
			buckets := map[netip.Addr]*bucket{}
			for i := range 400 {
				time.Sleep(time.Duration(rnd.Int64N(int64(2 * time.Hour / time.Duration(perHour) / 3))))
				from := addr("192.0.2.%d", rnd.IntN(3))
				b := buckets[from]
				if b == nil {
					b = &bucket{at: time.Now()}
					buckets[from] = b
				}
				full, one := int64(perHour)*int64(time.Hour), int64(time.Hour)
				b.level = max(0, b.level-int64(time.Since(b.at))*int64(perHour))
				b.at = time.Now()
				want := ""
				if b.level+one > full {
					want = "address"
				} else {
					b.level += one
					b.taken = append(b.taken, b.at)
				}
				got, wait := begun(t, &l, Request{Number: alice + msg.Number(i), App: "chat", From: from})
				if got != want {
					t.Fatalf("seed %d, %d an hour, the %d. of %s: %q, wait %v, want %q (level %d of %d)", seed, perHour, i, from, got, wait, want, b.level, full)
				}
				if want != "" && wait != time.Duration((b.level+one-full+int64(perHour)-1)/int64(perHour)) {
					t.Fatalf("seed %d: wait %v, level %d of %d", seed, wait, b.level, full)
				}
			}
			for from, b := range buckets {
				for i, at := range b.taken {
					if k := i + 2*perHour - 1; k < len(b.taken) && b.taken[k].Sub(at) < time.Hour {
						t.Errorf("seed %d: %s took %d within an hour, the limit is %d", seed, from, 2*perHour, perHour)
					}
				}
			}
		})
	}
}

// TestRoom: a full table forgets what has ended before what has not.
func TestRoom(t *testing.T) {
	m := map[string]bool{}
	for i := range maxKeys {
		m[fmt.Sprint(i)] = i%2 == 0
	}
	makeRoom(m, func(ended bool) bool { return ended })
	if _, live := m["1"]; len(m) != maxKeys/2 || m["0"] || !live {
		t.Errorf("%d are left of %d, half of which had ended", len(m), maxKeys)
	}
	for i := range maxKeys {
		m[fmt.Sprint(i)] = false
	}
	makeRoom(m, func(ended bool) bool { return ended })
	if len(m) >= maxKeys*9/10 || len(m) < maxKeys*9/10-1 {
		t.Errorf("%d are left of %d that had not ended, want nine tenths", len(m), maxKeys)
	}
	before := len(m)
	makeRoom(m, func(bool) bool { return true })
	if len(m) != before {
		t.Error("one that is not full forgets")
	}
}

func TestAddr(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7:4711": "192.0.2.7", "[::ffff:192.0.2.7]:4711": "192.0.2.7", "[fe80::1%eth0]:1": "fe80::1", "[2001:db8::1]:1": "2001:db8::1",
		"": "::", "@": "::", "192.0.2.7": "::",
	} {
		if got := Addr(in).String(); got != want {
			t.Errorf("Addr(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestPrefixOf(t *testing.T) {
	for digits, want := range map[int]string{1: "4", 6: "447700", 12: "447700900042", 14: "447700900042"} {
		if got := prefixOf(alice, digits); got != want {
			t.Errorf("prefixOf(%d) = %s, want %s", digits, got, want)
		}
	}
}
