package page

import (
	"strconv"
	"strings"
	"time"

	"shunt/gateway/noc"
)

// history are counters of the last two minutes. It belongs to who holds
// Page.taking. A gap, while nobody looked, begins it anew.
type history struct{ samples []sample }

const (
	historyFor  = 120 * time.Second
	historySize = int(historyFor / every)
	gap         = 5 * every
)

// The flows that have a rate.
const (
	flowIn = iota
	flowForwarded
	flowDiverted
	flowFallback
	flows
)

type sample struct {
	at    time.Time
	count [flows]uint64
	rate  [flows]float64 // since the sample before; nothing for the first
}

func (h *history) add(now time.Time, c *noc.Counters) {
	s := sample{at: now, count: [flows]uint64{c.SubmitsIn, c.Forwarded, c.Diverted, c.FallbackSent}}
	if n := len(h.samples); n > 0 {
		last := &h.samples[n-1]
		took := now.Sub(last.at)
		if took <= 0 {
			return
		}
		if took > gap {
			h.samples = h.samples[:0]
		}
		for i := range s.count {
			if s.count[i] > last.count[i] && took <= gap { // counters of several binds are not read at one moment
				s.rate[i] = float64(s.count[i]-last.count[i]) / took.Seconds()
			}
		}
	}
	if len(h.samples) > historySize {
		h.samples = append(h.samples[:0], h.samples[1:]...)
	}
	h.samples = append(h.samples, s)
}

// Size of a sparkline's drawing, in its own units: one for each second.
const (
	sparkWidth  = historySize
	sparkHeight = 30
)

// rate is a flow now, its peak, and its points as a polyline has them, the
// newest on the right.
func (h *history) rate(flow int) (now, peak string, points string) {
	if len(h.samples) < 2 {
		return "–", "–", ""
	}
	all := h.samples[1:]
	most := 0.0
	for i := range all {
		most = max(most, all[i].rate[flow])
	}
	var b strings.Builder
	for i := range all {
		y := float64(sparkHeight - 1)
		if most > 0 {
			y -= all[i].rate[flow] / most * (sparkHeight - 2)
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strconv.Itoa(sparkWidth - len(all) + i))
		b.WriteByte(',')
		b.WriteString(strconv.FormatFloat(y, 'f', 1, 64))
	}
	return perSecond(all[len(all)-1].rate[flow]), perSecond(most), b.String()
}

func perSecond(v float64) string {
	if v > 0 && v < 10 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return count(uint64(v + 0.5))
}

// count writes n with a comma between thousands.
func count[N int | int64 | uint64](n N) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
