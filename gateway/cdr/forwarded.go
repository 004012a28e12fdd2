package cdr

import (
	"maps"
	"slices"
	"time"

	"shunt/gateway/msg"
)

// Sums are the submits of one account since the start, by verdict.
type Sums struct {
	Account string // system_id
	Reasons map[string]uint64
}

// sumsLine is what an account submitted in one minute.
type sumsLine struct {
	Type      string            `json:"type"`
	Minute    time.Time         `json:"minute"` // when it began
	Account   string            `json:"account"`
	Diverted  uint64            `json:"diverted"`
	Forwarded uint64            `json:"forwarded"`
	Reasons   map[string]uint64 `json:"reasons"`
}

// takeSums notes where an account stands before the first minute.
func (w *Writer) takeSums(time.Time) {
	if w.o.Sums == nil {
		return
	}
	for _, s := range w.o.Sums() {
		w.sums[s.Account] = s
	}
}

// writeSums writes what each account submitted since the last call, in the
// minute that began then.
func (w *Writer) writeSums(minute, now time.Time) error {
	if w.o.Sums == nil {
		return nil
	}
	all := w.o.Sums()
	slices.SortFunc(all, func(a, b Sums) int {
		if a.Account < b.Account {
			return -1
		}
		return 1
	})
	var lines []byte
	next := make(map[string]Sums, len(all))
	for _, s := range all {
		seen := make(map[string]uint64)
		maps.Copy(seen, w.sums[s.Account].Reasons)
		l := sumsLine{Type: TypeSums, Minute: minute.UTC(), Account: s.Account, Reasons: make(map[string]uint64)}
		for reason, n := range s.Reasons {
			d := n - seen[reason]
			if n <= seen[reason] { // less: a bind that ends at this moment is in no sum; the next time it is
				continue
			}
			seen[reason] = n
			switch reason {
			case msg.ReasonDivert.String(), msg.ReasonResubmit.String():
				l.Diverted += d
			default:
				l.Forwarded += d
			}
			l.Reasons[reason] = d
		}
		next[s.Account] = Sums{Account: s.Account, Reasons: seen}
		if len(l.Reasons) == 0 {
			continue
		}
		var err error
		if lines, err = appendLine(lines, &l); err != nil {
			return err
		}
	}
	if len(lines) > 0 {
		if err := w.files.write(lines, w.last+1, now); err != nil {
			return err
		}
	}
	maps.Copy(w.sums, next)
	return nil
}

// forwarded is one message that was forwarded.
type forwarded struct {
	at                time.Time
	account, from, to string
	reason            msg.Reason
}

// forwardedLine is its line.
type forwardedLine struct {
	Type    string    `json:"type"`
	At      time.Time `json:"at"`
	Account string    `json:"account"`
	From    string    `json:"from"`
	To      string    `json:"to"`
	Reason  string    `json:"reason"`
}

// Wanted tells whether Forwarded writes anything.
func (w *Writer) Wanted() bool { return w.o.Forwarded }

// Forwarded queues the line of a forwarded message. It does not block: what has
// no place is counted. Such lines may be lost in a crash.
func (w *Writer) Forwarded(account, from, to string, r msg.Reason) {
	select {
	case w.lines <- forwarded{w.o.Now(), account, from, to, r}:
		if len(w.lines) > maxQueued/2 {
			w.Ended()
		}
	default:
		w.Dropped.Add(1)
	}
}

// forwarded writes what is queued.
func (w *Writer) forwarded(now time.Time) error {
	var lines []byte
	var err error
	n := 0
	for ; n < maxQueued && err == nil; n++ {
		select {
		case f := <-w.lines:
			lines, err = appendLine(lines, &forwardedLine{TypeForwarded, f.at.UTC(), f.account, f.from, f.to, f.reason.String()})
			continue
		default:
		}
		break
	}
	if len(lines) == 0 || err != nil {
		return err
	}
	if err := w.files.write(lines, w.last+1, now); err != nil {
		w.Dropped.Add(uint64(n))
		return err
	}
	w.Written.Add(uint64(n))
	return nil
}
