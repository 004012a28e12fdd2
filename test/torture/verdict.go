package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"shunt/test/sim/books"
	"shunt/test/sim/esme"
	"shunt/test/sim/smsc"
)

// summary is what a run adds up to.
type summary struct {
	Seed     uint64         `json:"seed"`
	Duration string         `json:"duration"`
	Elapsed  float64        `json:"elapsed_s"`
	Faults   map[kind]int   `json:"faults"`
	Missed   []string       `json:"missed,omitempty"` // faults that met nothing
	Syncs    map[kind]int   `json:"syncs"`            // of the gateway, delayed or failed
	Starts   map[string]int `json:"starts"`           // of each process
	Deaths   []death        `json:"deaths,omitempty"`
	Cuts     int            `json:"connections_cut"`
	ESMEs    []esme.Summary `json:"esmes"`
	SMSC     smsc.Summary   `json:"smsc"`

	// By the gateway's own counters, which die with it: at least so many.
	Diverted    uint64            `json:"diverted_seen"`
	Forwarded   uint64            `json:"forwarded_seen"`
	Resubmitted uint64            `json:"resubmitted_seen"`
	Failures    uint64            `json:"failed_commits_seen"`
	Reasons     map[string]uint64 `json:"reasons_seen"`

	Books    *books.Report `json:"books"`
	WithCDRs bool          `json:"with_cdrs"`
	Wrong    []string      `json:"wrong,omitempty"` // beside the books' faults
}

const (
	maxFaults   = 1000 // of the books, that are listed
	maxTraces   = 12   // that are shown
	traceLines  = 14   // of each
	recordsIn   = 15 * time.Second
	commandTime = 10 * time.Second
)

// ownID is a message id of the gateway's own.
var ownID = regexp.MustCompile(`\bs[0-9A-HJKMNP-TV-Z]{26}\b`)

// settle closes the books, judges and ends everything.
func (t *torture) settle(drained error) (*summary, error) {
	sum := &summary{Seed: t.o.seed, Duration: t.o.duration.String(), Elapsed: time.Since(t.begun).Seconds(), Starts: map[string]int{}}
	t.mu.Lock()
	sum.Wrong, sum.Deaths = t.wrong, t.deaths
	t.mu.Unlock()
	wrong := func(err error) {
		if err != nil {
			sum.Wrong = append(sum.Wrong, err.Error())
		}
	}
	wrong(drained)
	wrong(t.closeBooks(sum))
	t.sample()
	t.count(sum)
	b, err := books.Load(t.path("smsc.ndjson"), t.path("handset.ndjson"), t.path("bank.ndjson"), t.path("shop.ndjson"))
	if err != nil {
		return nil, err
	}
	o := books.Options{
		ForwardedIDs: true, PendingClaimed: true, RepeatedReceipts: true, Ask: t.ctl.Words, MaxFaults: maxFaults,
	}
	sum.Books = books.Reconcile(b, o)
	wrong(t.records(sum, b, o))
	st, ok := t.ctl.Status()
	switch {
	case !ok:
		wrong(errors.New("the gateway does not answer"))
	case st.Spool.SetAside > 0 || st.Spool.Doubtful > 0:
		wrong(fmt.Errorf("the spool set %d records aside, %d messages are doubtful", st.Spool.SetAside, st.Spool.Doubtful))
	case drained == nil && st.Spool.Live["CLAIMED"] < sum.Books.ReceiptsPending:
		wrong(fmt.Errorf("%d receipts are pending, and only %d messages claimed", sum.Books.ReceiptsPending, st.Spool.Live["CLAIMED"]))
	}
	wrong(sum.counted())
	t.traces(sum.Books)
	wrong(t.shutDown())
	return sum, books.WriteFile(t.path("summary.json"), sum)
}

// count sums up what the processes and the faults' own counters say.
func (t *torture) count(sum *summary) {
	for name, m := range t.crew {
		sum.Starts[name] = m.started()
	}
	for _, p := range t.legs {
		_, resets := p.counts()
		sum.Cuts += resets
	}
	t.in.mu.Lock()
	sum.Faults, sum.Missed, sum.Syncs = t.in.counts, t.in.missed, t.in.syncs
	t.in.mu.Unlock()
	sum.Reasons = map[string]uint64{}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, st := range t.sums {
		sum.Diverted += st.Counters.Diverted
		sum.Forwarded += st.Counters.Forwarded
		sum.Resubmitted += st.Counters.FallbackResubmitted
		sum.Failures += st.Spool.Failures
		for reason, n := range st.Counters.Reasons {
			sum.Reasons[reason] += n
		}
	}
}

// counted compares the books with the gateway's own counters. What it counted
// between the last look and a SIGKILL is lost: they are exact only when it was
// started once.
func (s *summary) counted() error {
	r, once := s.Books, s.Starts[gateway] == 1
	least, most := uint64(r.Diverted()), uint64(r.Diverted()+r.Unanswered)
	switch {
	case s.Diverted > most, once && s.Diverted < least:
		return fmt.Errorf("the gateway counted %d diverted messages, the books %d to %d", s.Diverted, least, most)
	case once && s.Resubmitted < uint64(r.ResubmittedDoubled):
		return fmt.Errorf("the gateway counted %d SMS sent again, the SMSC got %d messages twice", s.Resubmitted, r.ResubmittedDoubled)
	}
	return nil
}

// records reconciles the call detail records, where there are any. What they
// lack may still be in a buffer: they are read until they are right, or it is
// late.
func (t *torture) records(sum *summary, b books.Books, o books.Options) error {
	dir := filepath.Join(t.conf.DataDir(), "cdr")
	ctx, cancel := context.WithTimeout(context.Background(), recordsIn)
	defer cancel()
	for {
		var lines []books.CDR
		err := t.yard.Do(func() (err error) { // the only thread that sees the gateway's disk
			if _, err = os.Stat(dir); err == nil {
				lines, err = books.ReadCDRs(dir)
			}
			return err
		})
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		sum.WithCDRs = true
		r := sum.Books
		if err == nil {
			r = books.Reconcile(b, o)
			r.CDRs(lines, o)
			if len(r.Counts) == len(sum.Books.Counts) {
				sum.Books = r
				return nil
			}
		}
		if !pause(ctx, time.Second) {
			sum.Books = r
			return err
		}
	}
}

// traces shows the gateway's own view of what is at fault.
func (t *torture) traces(r *books.Report) {
	var ids []string
	for _, f := range r.Faults { // by the ESME's id, or one in the words about it
		for _, id := range ownID.FindAllString(f.ID+" "+f.Detail, -1) {
			if !slices.Contains(ids, id) && len(ids) < maxTraces {
				ids = append(ids, id)
			}
		}
	}
	for _, id := range ids {
		ctx, cancel := context.WithTimeout(context.Background(), commandTime)
		out, err := exec.CommandContext(ctx, t.o.shunt, "trace", id, "--socket", t.conf.Socket()).CombinedOutput()
		cancel()
		lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
		t.say("\n$ shunt trace %s", id)
		for _, l := range lines[max(0, len(lines)-traceLines):] {
			t.say("  %s", l)
		}
		if err != nil {
			t.say("  (%v)", err)
		}
	}
}

func (t *torture) printSchedule() {
	t.say("Seed %d: %s of load at %.0f messages/s, %d faults. The same seed, duration, gap and faults give the same schedule:",
		t.o.seed, t.o.duration, t.o.rate, len(t.faults))
	for _, f := range t.faults {
		t.say("  %3d %s", f.Number, f)
	}
}

// print shows the summary as a table, and the verdict.
func (t *torture) print(sum *summary) {
	r := sum.Books
	w := tabwriter.NewWriter(t.o.out, 0, 0, 2, ' ', 0)
	row := func(name string, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	_, _ = fmt.Fprintln(w)
	var n int
	for _, c := range sum.Faults {
		n += c
	}
	row("faults", "%d: %s; %d met nothing", n, list(sum.Faults), len(sum.Missed))
	row("starts", "%s; connections cut %d; syncs tampered with: %s", list(sum.Starts), sum.Cuts, list(sum.Syncs))
	row("messages", "%d: %d accepted, %d refused, %d never answered (%d of them went on)", r.Messages, r.Accepted, r.Refused, r.Unanswered, r.UnansweredKnown)
	row("outcomes", "forwarded %d, claimed %d, fell back %d, expired %d", r.Forwarded, r.Claimed, r.FellBack, r.Expired)
	row("receipts", "%d asked for, %d came once and true, %d pending (claimed, never acknowledged)", r.ReceiptsAsked, r.ReceiptsMatched, r.ReceiptsPending)
	row("stated exceptions", "%d receipts came again, %d of messages without a response", r.ReceiptsRepeated, r.ReceiptsUnanswered)
	row("", "%d SMS of unknown fate came twice, of at least %d sent again; %d ended UNKNOWN", r.ResubmittedDoubled, sum.Resubmitted, r.UnknownSMS)
	row("", "%d claimed and sent as SMS (prefer possible-duplicate); %d claims without an answer ended UNKNOWN", r.LeasedDoubled, r.ClaimsCut)
	row("gateway, at least", "diverted %d, forwarded %d, commits that failed %d; %s", sum.Diverted, sum.Forwarded, sum.Failures, list(sum.Reasons))
	if sum.WithCDRs {
		row("call detail records", "%d", r.Records)
	} else {
		row("call detail records", "none are written")
	}
	for i := 0; i < len(sum.Deaths); {
		first, n := sum.Deaths[i], 0
		for ; i < len(sum.Deaths) && sum.Deaths[i].alike(first); i++ {
			n++
		}
		row("ended by itself", "%s, %d times from %s to %s: %s (during %s)",
			first.Name, n, first.At, sum.Deaths[i-1].At, first.Reason, strings.Join(first.During, ", "))
	}
	_ = w.Flush()
	for _, m := range sum.Missed {
		t.say("  met nothing: %s", m)
	}
	for i, f := range r.Faults {
		if i == 40 {
			t.say("  … and %d more, in summary.json", len(r.Faults)-i)
			break
		}
		t.say("  fault: %s", f)
	}
	for _, s := range sum.Wrong {
		t.say("  wrong: %s", s)
	}
	t.say("\n%s", r.Summary())
}

// alike tells whether two ends are of the same process and kind.
func (d death) alike(e death) bool {
	kind := func(reason string) string {
		reason, _, _ = strings.Cut(reason, " 0x") // an address
		return reason
	}
	return d.Name == e.Name && kind(d.Reason) == kind(e.Reason)
}

// ok is the verdict.
func (s *summary) ok() bool { return s.Books.OK() && len(s.Wrong) == 0 }

// list writes counts by name.
func list[K ~string, V int | uint64](m map[K]V) string {
	var parts []string
	for k, n := range m {
		parts = append(parts, fmt.Sprintf("%s %d", k, n))
	}
	if len(parts) == 0 {
		return "none"
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
