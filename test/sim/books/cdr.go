package books

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// CDR is one call detail record. Types other than "message" have no sequence
// number and are not looked at.
type CDR struct {
	Seq     uint64 `json:"seq"`
	Type    string `json:"type"`
	ID      string `json:"id"`
	WireID  string `json:"wire_id"`
	Account string `json:"account"`
	State   string `json:"state"`
	Channel string `json:"channel"`
}

// ReadCDRs reads the records in dir, all *.jsonl files in the order of their
// sequence numbers.
func ReadCDRs(dir string) ([]CDR, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		return nil, err
	}
	var files [][]CDR
	for _, name := range names {
		lines, err := readCDRs(name)
		if err != nil {
			return nil, err
		}
		if len(lines) > 0 {
			files = append(files, lines)
		}
	}
	slices.SortStableFunc(files, func(a, b []CDR) int { return cmp.Compare(a[0].Seq, b[0].Seq) })
	return slices.Concat(files...), nil
}

func readCDRs(name string) (lines []CDR, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("call detail records: %w", err)
	}
	defer func() { _ = f.Close() }()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	for n := 1; sc.Scan(); n++ {
		var c CDR
		if err := json.Unmarshal(bytes.TrimSpace(sc.Bytes()), &c); err != nil {
			return nil, fmt.Errorf("call detail records: %s:%d: %w", name, n, err)
		}
		if c.Type == "message" {
			lines = append(lines, c)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("call detail records: %s: %w", name, err)
	}
	return lines, nil
}

// CDRs compares the records with the other books: the sequence has no gap,
// every diverted message that was accepted has exactly one record, and it says
// what happened. It adds to the report's faults; o is that of Reconcile.
func (r *Report) CDRs(lines []CDR, o Options) {
	limit := o.MaxFaults
	if limit == 0 {
		limit = defaultFaults
	}
	fault := func(kind string, m *ESMELine, format string, args ...any) {
		r.fault(limit, kind, m, fmt.Sprintf(format, args...))
	}
	r.Records = len(lines)
	seen := map[string]bool{}  // by id
	strays := map[string]int{} // by account
	closed := map[*fate]bool{} // have a record
	var last uint64
	for i := range lines {
		c := &lines[i]
		if c.Seq != last+1 {
			fault(RecordGap, nil, "%d follows %d", c.Seq, last)
		}
		last = c.Seq
		if seen[c.ID] {
			fault(RecordDoubled, nil, "id %q, again as %d with state %s", c.ID, c.Seq, c.State)
			continue
		}
		seen[c.ID] = true
		f := r.fates[c.ID]
		if f == nil {
			f = r.fates[c.WireID]
		}
		if f == nil {
			if strays[c.Account]++; strays[c.Account] > r.unanswered[c.Account] {
				fault(RecordStray, nil, "record %d, id %q of %q, state %s", c.Seq, c.ID, c.Account, c.State)
			}
			continue
		}
		closed[f] = true
		if why := f.contradicts(c, o); why != "" {
			fault(RecordUntrue, f.m, "record %d: %s", c.Seq, why)
		}
	}
	for _, f := range r.fates {
		if !closed[f] && !f.pending && f.name != "lost" {
			fault(RecordMissing, f.m, "%s, state %s", f.name, f.state)
		}
	}
}

// contradicts says how a record differs from what happened.
func (f *fate) contradicts(c *CDR, o Options) string {
	if c.State == "UNKNOWN" && f.state != c.State && f.channel == "carrier" && o.Ask != nil {
		// An SMS that the SMSC took, and whose answer was cut off.
		if all := o.Ask(c.ID); len(all) == 1 && all[0].State == c.State && all[0].SMSAttempts > 0 {
			return ""
		}
	}
	channel := ""
	switch {
	case f.state == "DELIVERED":
		channel = "app"
	case strings.HasPrefix(f.state, "SMS_"):
		channel = "carrier"
	}
	switch {
	case c.State != f.state:
		return fmt.Sprintf("says %s, the truth is %s (%s)", c.State, f.state, f.name)
	case c.Account != f.m.SystemID:
		return fmt.Sprintf("names the account %q", c.Account)
	case channel != "" && c.Channel != channel:
		return fmt.Sprintf("names the channel %q of a message that is %s", c.Channel, c.State)
	}
	return ""
}
