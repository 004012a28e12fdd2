package prove

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shunt/gateway/msg"
)

// AlarmLimits are the signs of somebody who has codes sent for the money that
// each SMS earns him (artificially inflated traffic).
type AlarmLimits struct {
	PrefixDigits int // of a number, that make its prefix
	Sequence     int // numbers in a row that are neighbours
	Sent         int // codes of a prefix in an hour, from which on …
	Conversion   int // … so many per cent must be used
}

// Alarm is one that is raised.
type Alarm struct {
	Kind   string // sequence or conversion
	Prefix string
	Since  time.Time
	Sent   int // conversion: in this hour
	Used   int
}

const (
	maxPrefixes = 10_000
	neighbour   = 16 // numbers so close to the last are in a row with it
)

// alarms watches prefixes. An alarm is logged once when it is raised and once
// when it is cleared: by an hour that is better, or without any.
type alarms struct {
	limits AlarmLimits
	log    *slog.Logger
	Raised atomic.Uint64

	mu       sync.Mutex
	prefixes map[string]*watched
}

// watched is a prefix within the hour that began at from.
type watched struct {
	from       time.Time
	sent, used int
	last       msg.Number
	row        int // neighbours in a row
	raised     map[string]time.Time
}

const (
	sequenceAlarm   = "sequence"
	conversionAlarm = "conversion"
)

func (a *alarms) begun(n msg.Number, _ string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w, p := a.of(n, now)
	w.sent++
	if d := int64(n) - int64(w.last); d != 0 && d >= -neighbour && d <= neighbour {
		w.row++
	} else if d != 0 {
		w.row = 0
		a.clear(w, p, sequenceAlarm)
	}
	w.last = n
	if w.row+1 >= a.limits.Sequence {
		a.raise(w, p, sequenceAlarm, now)
	}
	a.judge(w, p, now)
}

func (a *alarms) converted(n msg.Number, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w, p := a.of(n, now)
	w.used++
	a.judge(w, p, now)
}

func (a *alarms) judge(w *watched, p string, now time.Time) {
	// The last ones may still be on their way: they do not count as unused at once.
	if w.sent >= a.limits.Sent && w.used*100 < w.sent*a.limits.Conversion {
		a.raise(w, p, conversionAlarm, now)
		return
	}
	if w.used*100 >= w.sent*a.limits.Conversion {
		a.clear(w, p, conversionAlarm)
	}
}

// of finds the prefix of n, in its present hour.
func (a *alarms) of(n msg.Number, now time.Time) (*watched, string) {
	p := prefixOf(n, a.limits.PrefixDigits)
	a.expire(now)
	w := a.prefixes[p]
	if w == nil {
		if a.prefixes == nil {
			a.prefixes = map[string]*watched{}
		}
		if len(a.prefixes) >= maxPrefixes { // any without an alarm
			for k, v := range a.prefixes {
				if len(v.raised) == 0 {
					delete(a.prefixes, k)
					break
				}
			}
		}
		if w = (&watched{from: now, raised: map[string]time.Time{}}); len(a.prefixes) < maxPrefixes {
			a.prefixes[p] = w
		}
	}
	return w, p
}

// expire ends hours: with them their alarms, unless the next one has the same
// signs.
func (a *alarms) expire(now time.Time) {
	for p, w := range a.prefixes {
		if now.Sub(w.from) >= window {
			for kind := range w.raised {
				a.clear(w, p, kind)
			}
			delete(a.prefixes, p)
		}
	}
}

func (a *alarms) raise(w *watched, prefix, kind string, now time.Time) {
	if _, ok := w.raised[kind]; ok {
		return
	}
	w.raised[kind] = now
	a.Raised.Add(1)
	a.log.Warn("codes are asked for as if for the money: look at who asks, and at the limits of [verification]",
		"alarm", kind, "state", "raised", "prefix", "+"+prefix, "sent", w.sent, "used", w.used)
}

func (a *alarms) clear(w *watched, prefix, kind string) {
	if _, ok := w.raised[kind]; ok {
		delete(w.raised, kind)
		a.log.Info("codes are asked for as usual again", "alarm", kind, "state", "cleared", "prefix", "+"+prefix)
	}
}

// Alarms are those that are raised, by prefix, and how many ever were.
func (s *Service) Alarms() (now []Alarm, raised uint64) {
	a := &s.alarms
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expire(s.o.Now())
	for p, w := range a.prefixes {
		for kind, since := range w.raised {
			now = append(now, Alarm{kind, p, since, w.sent, w.used})
		}
	}
	slices.SortFunc(now, func(x, y Alarm) int {
		if x.Prefix != y.Prefix {
			return slices.Compare([]byte(x.Prefix), []byte(y.Prefix))
		}
		return slices.Compare([]byte(x.Kind), []byte(y.Kind))
	})
	return now, a.Raised.Load()
}
