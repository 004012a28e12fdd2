package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"shunt/gateway/noc"
	"shunt/systemd"
)

// Bounds of what selftest takes for sound.
const (
	freeWarns   = 0.20 // of the volume under node.data_dir
	freeHurries = 0.15
	writeWarns  = 100 * time.Millisecond // a small file and its fsync
	writeWrong  = 2 * time.Second        // a commit that takes so long stalls the spool

	expiryWarns = 30 * 24 * time.Hour

	clockWarns = 2 * time.Second // that the wall clock was moved, and a share of the time since the start
	clockDrift = 500e-6          // which NTP slews by at most

	journalWithin = 5 * time.Second
	journalEvery  = 200 * time.Millisecond
)

// judgeData says what is wrong with node.data_dir.
func judgeData(d *noc.DataDir) finding {
	const check = "disk"
	wrote := time.Duration(d.Wrote * float64(time.Second)).Round(10 * time.Microsecond)
	detail := fmt.Sprintf("%s: %.0f %% free, a small file is on disk after %s, mode %04o", d.Dir, 100*d.FreeShare, wrote, d.Mode)
	low := fmt.Sprintf("free space: below %.0f %% nothing is diverted until it is %.0f %% again", 100*d.Stops, 100*d.Starts)
	owner := fmt.Sprintf("chown -R the folder to uid %d, as which the gateway runs, and chmod it 0750 or less", d.UID)
	switch {
	case d.Error != "":
		return wrong(check, fmt.Sprintf("%s cannot be written: %s", d.Dir, d.Error), "look at the disk under node.data_dir, and whom the folder belongs to")
	case d.Owner != d.UID:
		return wrong(check, fmt.Sprintf("%s belongs to uid %d, and the gateway runs as %d", d.Dir, d.Owner, d.UID), owner)
	case d.Mode&0o022 != 0:
		return wrong(check, fmt.Sprintf("%s has mode %04o: others than the gateway may write there", d.Dir, d.Mode), owner)
	case d.FreeShare < d.Stops:
		return wrong(check, detail, low)
	case wrote >= writeWrong:
		return wrong(check, detail, "look at the disk under node.data_dir and who else uses it")
	case d.FreeShare < freeHurries:
		return warning(check, detail, "soon "+low)
	case d.FreeShare < freeWarns:
		return warning(check, detail, low)
	case wrote >= writeWarns:
		return warning(check, detail, "the disk is slow: each message that is diverted is answered after its fsync")
	case d.Mode&0o007 != 0:
		return warning(check, fmt.Sprintf("%s has mode %04o: everybody on this machine may look into it", d.Dir, d.Mode), owner)
	}
	return ok(check, detail)
}

// judgeCertificates says what is wrong with each of them.
func judgeCertificates(all []noc.Certificate, now time.Time) []finding {
	if len(all) == 0 {
		return []finding{ok("certificates", "the configuration names none")}
	}
	var out []finding
	for i := range all {
		out = append(out, judgeCertificate(&all[i], now))
	}
	return out
}

func judgeCertificate(c *noc.Certificate, now time.Time) finding {
	check := "certificate of " + c.Subject
	if c.Kind == noc.CertificateCA {
		check = "CA file of " + c.Subject
	}
	if c.Error != "" {
		return wrong(check, fmt.Sprintf("%s: %s", c.File, c.Error), "put the right file there, readable by the gateway's user; in use is what was there at the start")
	}
	left := c.NotAfter.Sub(now)
	detail := fmt.Sprintf("%s: %q, %d in the file, until %s, %d days", c.File, c.Name, c.Chain, c.NotAfter.UTC().Format(time.DateOnly), int(left.Hours()/24))
	switch {
	case left <= 0:
		return wrong(check, detail+": it has expired", "put a new certificate in its place and restart")
	case c.Changed:
		return warning(check, detail+"; the file has changed since the start", "restart at a quiet time: in use is the one before")
	case left < expiryWarns:
		return warning(check, detail, "put a new certificate in its place and restart at a quiet time")
	}
	return ok(check, detail)
}

// proveClock looks at the clock of this machine, which is the gateway's too.
func proveClock(p *noc.Proof, now time.Time) finding {
	var t unix.Timex // modes 0: it changes nothing
	state, err := unix.Adjtimex(&t)
	at, known := buildTime()
	return judgeClock(now, at, known, p, ntp{err == nil, state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0})
}

// ntp is what the kernel knows of synchronisation.
type ntp struct{ known, synced bool }

func judgeClock(now, built time.Time, builtKnown bool, p *noc.Proof, n ntp) finding {
	const check = "clock"
	detail := now.UTC().Format(time.DateTime) + " UTC"
	set := "set it (timedatectl): deadlines, receipts, certificates and push tokens go by it"
	up := now.Sub(p.Started).Seconds()
	switch {
	case now.Year() < 2025 || now.Year() > 2100:
		return wrong(check, detail+": that cannot be", set)
	case builtKnown && now.Before(built.Add(-24*time.Hour)):
		return wrong(check, fmt.Sprintf("%s: before this program was made, %s", detail, built.UTC().Format(time.DateOnly)), set)
	case now.Before(p.Started):
		return wrong(check, fmt.Sprintf("%s: before the gateway's start at %s", detail, p.Started.UTC().Format(time.DateTime)), set)
	case n.known && !n.synced:
		return warning(check, detail+", and the kernel says that nobody keeps it right", "systemctl status chrony systemd-timesyncd; chronyc tracking")
	case math.Abs(p.ClockMoved) > clockWarns.Seconds()+clockDrift*math.Max(up, 0):
		return warning(check, fmt.Sprintf("%s; it was moved by %+.1f s since the gateway's start", detail, p.ClockMoved),
			"find out who sets it; deadlines that were under way have moved with it")
	}
	if !n.known {
		return ok(check, detail+"; whether it is synchronised cannot be asked here")
	}
	return ok(check, detail+", synchronised")
}

// messageIDOf is the MESSAGE_ID of a line of the log.
func messageIDOf(text string) string {
	for _, m := range systemd.Messages {
		if m.Text == text {
			return m.ID
		}
	}
	return ""
}

const selftestLine = "selftest asked for by an operator"

// proveJournal looks for the line that the gateway has written, by its fields.
func proveJournal(ctx context.Context, p *noc.Proof, socket string) finding {
	const check = "journal"
	switch _, err := os.Stat(socket); {
	case !p.Journal && err != nil:
		return notChecked(check, "there is no journald here, and the gateway logs to stderr", "")
	case !p.Journal:
		return notChecked(check, "the gateway logs to stderr", "with --log-format journal its lines have fields to search for")
	case err != nil:
		return wrong(check, err.Error(), "systemctl status systemd-journald; without a journal, log to stderr with --log-format text")
	case !p.Logged:
		return notChecked(check, "[log] level keeps lines of level info from it", "")
	}
	journalctl, err := exec.LookPath("journalctl")
	if err != nil {
		return notChecked(check, "there is no journalctl here to look with", "")
	}
	return findInJournal(ctx, journalctl, p)
}

// systemJournals are where journald keeps what services say.
var systemJournals = []string{"/var/log/journal/*/system.journal", "/run/log/journal/*/system.journal"}

// readable tells whether one of the files can be opened. journalctl does not always
// say that it left out those which it may not read.
func readable(patterns ...string) bool {
	for _, p := range patterns {
		files, _ := filepath.Glob(p)
		for _, name := range files {
			if f, err := os.Open(name); err == nil {
				_ = f.Close()
				return true
			}
		}
	}
	return false
}

// findInJournal asks until the line is there; journald writes when it has time.
func findInJournal(ctx context.Context, journalctl string, p *noc.Proof) finding {
	const check = "journal"
	fields := []string{"MESSAGE_ID=" + messageIDOf(selftestLine), "SHUNT_SELFTEST=" + p.Nonce}
	ctx, cancel := context.WithTimeout(ctx, journalWithin)
	defer cancel()
	tick := time.NewTicker(journalEvery)
	defer tick.Stop()
	began := time.Now()
	for {
		c := exec.CommandContext(ctx, journalctl, append([]string{"--no-pager", "--output=json", "--lines=1"}, fields...)...)
		var errs bytes.Buffer
		c.Stderr = &errs
		out, err := c.Output()
		var entry struct {
			Nonce string `json:"SHUNT_SELFTEST"`
		}
		if json.Unmarshal(bytes.TrimSpace(out), &entry) == nil && entry.Nonce == p.Nonce {
			return ok(check, fmt.Sprintf("a line of the gateway is found by MESSAGE_ID and SHUNT_SELFTEST, after %s", time.Since(began).Round(time.Millisecond)))
		}
		if err == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = errors.New("no such entry")
		}
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		said := strings.ToLower(errs.String())
		if os.Geteuid() != 0 && (strings.Contains(said, "permission") || strings.Contains(said, "not seeing messages") || !readable(systemJournals...)) {
			return notChecked(check, "you may not read the journal", "run this as root or as a member of the group systemd-journal")
		}
		return wrong(check, fmt.Sprintf("a line that the gateway wrote was not found there within %s: %v", journalWithin, err),
			"journalctl "+strings.Join(fields, " ")+"; systemctl status systemd-journald, its disk (SystemMaxUse=, RateLimitBurst=) and `log lines lost`")
	}
}
