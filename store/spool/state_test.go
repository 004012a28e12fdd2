package spool

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"shunt/gateway/msg"
)

// The table, written out: a row is a situation, a column an event.
//
//	.  refused      =  replayed      x  superseded
//	A P Q C D F U S d f e ?   applied, to ACCEPTED PUSHING PUSHED CLAIMED
//	DELIVERED FALLBACK SMS_UNKNOWN SMS_SUBMITTED SMS_DELIVERED SMS_FAILED
//	EXPIRED UNKNOWN HELD(H) CANCELLED(X)
//
// The device is the winner's, but in the columns marked ′. In those marked wait
// another message goes first.
const matrix = `
                         | put   push  push  no    clm   clm   dlv   dlv   read  read  clm   lea   | sms   sms   sms   sms   sms   sms   | rcp   rcp   rcp   vali  rcpt  | cplt  hold  canc  repl  cplt  due   due   turn  with  noti  sms   rcpt
                         |       beg   acc   push        ′           ′           ′     by    over  | beg   acc   tmp   perm  lost  again | deliv fail  exp   dity  done  |                          wait        wait        draw  done enr   tried
NONE                     | A     .     .     .     .     .     .     .     .     .     .     .     | .     .     .     .     .     .     | .     .     .     .     .     | .     .     .     .     .     .     .     .     .     .     .   .
ACCEPTED                 | .     P     Q     F     C     C     .     .     .     .     F     .     | .     .     .     .     .     .     | .     .     .     e     .     | .     .     X     A     .     .     .     .     X     .     .   .
PUSHING                  | .     P     Q     F     C     C     .     .     .     .     F     .     | .     .     .     .     .     .     | .     .     .     e     .     | .     .     X     P     .     .     .     .     X     .     .   .
PUSHED                   | .     .     =     F     C     C     .     .     .     .     F     .     | .     .     .     .     .     .     | .     .     .     e     .     | .     .     X     Q     .     .     .     .     X     .     .   .
CLAIMED                  | .     .     =     .     =     x     D     x     D     x     .     .     | .     .     .     .     .     .     | .     .     .     ?     .     | .     .     .     .     .     .     .     .     .     .     .   .
CLAIMED duplicate        | .     .     =     .     =     x     D     x     D     x     .     F     | .     .     .     .     .     .     | .     .     .     ?     .     | .     .     .     .     .     .     .     .     .     .     .   .
DELIVERED                | .     .     =     .     =     x     =     x     D     x     .     .     | .     .     .     .     .     .     | .     .     .     .     .     | .     .     .     .     .     .     .     .     .     .     .   .
DELIVERED due            | .     .     =     .     =     x     =     x     D     x     .     .     | .     .     .     .     .     .     | .     .     .     .     D     | .     .     .     .     .     .     .     .     .     .     .   D
DELIVERED read           | .     .     =     .     =     x     =     x     =     x     .     .     | .     .     .     .     .     .     | .     .     .     .     .     | .     .     .     .     .     .     .     .     .     .     .   .
FALLBACK                 | .     .     =     .     x     x     x     x     x     x     .     .     | F     .     .     .     .     .     | .     .     .     e     .     | .     .     X     F     .     .     .     .     X     .     .   .
FALLBACK begun           | .     .     =     .     x     x     x     x     x     x     .     .     | .     S     F     f     U     .     | .     .     .     .     .     | .     .     .     .     .     .     .     .     .     .     .   .
SMS_UNKNOWN              | .     .     =     .     x     x     x     x     x     x     .     .     | .     .     .     .     .     U     | d     f     e     ?     .     | .     .     .     .     .     .     .     .     .     .     .   .
SMS_UNKNOWN begun        | .     .     =     .     x     x     x     x     x     x     .     .     | .     S     U     f     U     .     | d     f     e     ?     .     | .     .     .     .     .     .     .     .     .     .     .   .
SMS_SUBMITTED            | .     .     =     .     x     x     x     x     x     x     .     .     | .     .     .     .     .     .     | d     f     e     ?     .     | .     .     .     .     .     .     .     .     .     .     .   .
SMS_DELIVERED            | .     .     =     .     x     x     x     x     x     x     .     .     | .     .     .     .     .     .     | .     .     .     .     .     | .     .     .     .     .     .     .     .     .     .     .   .
SMS_DELIVERED due        | .     .     =     .     x     x     x     x     x     x     .     .     | .     .     .     .     .     .     | .     .     .     .     d     | .     .     .     .     .     .     .     .     .     .     .   d
SMS_FAILED               | .     .     =     .     x     x     x     x     x     x     .     .     | .     .     .     .     .     .     | .     .     .     .     .     | .     .     .     .     .     .     .     .     .     .     .   .
SMS_FAILED due           | .     .     =     .     x     x     x     x     x     x     .     .     | .     .     .     .     .     .     | .     .     .     .     f     | .     .     .     .     .     .     .     .     .     .     .   f
EXPIRED                  | .     .     =     .     x     x     x     x     x     x     .     .     | .     .     .     .     .     .     | .     .     .     .     .     | .     .     .     .     .     .     .     .     .     .     .   .
EXPIRED due              | .     .     =     .     x     x     x     x     x     x     .     .     | .     .     .     .     .     .     | .     .     .     .     e     | .     .     .     .     .     .     .     .     .     .     .   e
UNKNOWN                  | .     .     =     .     x     x     x     x     x     x     .     .     | .     .     .     .     .     .     | .     .     .     .     .     | .     .     .     .     .     .     .     .     .     .     .   .
UNKNOWN due              | .     .     =     .     x     x     x     x     x     x     .     .     | .     .     .     .     .     .     | .     .     .     .     ?     | .     .     .     .     .     .     .     .     .     .     .   ?
ACCEPTED part            | .     P     Q     F     C     C     .     .     .     .     F     .     | .     .     .     .     .     .     | .     .     .     e     .     | .     .     X     .     .     .     .     .     X     .     .   .
FALLBACK part            | .     .     =     .     x     x     x     x     x     x     .     .     | F     .     .     .     .     .     | .     .     .     e     .     | .     .     X     .     .     .     .     .     X     .     .   .
CANCELLED                | .     .     =     .     x     x     x     x     x     x     .     .     | .     .     .     .     .     .     | .     .     .     .     .     | .     .     =     .     .     .     .     .     .     .     .   .
CANCELLED due            | .     .     =     .     x     x     x     x     x     x     .     .     | .     .     .     .     .     .     | .     .     .     .     X     | .     .     =     .     .     .     .     .     .     .     .   X
HELD parts part          | .     .     =     .     .     .     .     .     .     .     .     .     | .     .     .     .     .     .     | .     .     .     e     .     | A     F     X     .     H     .     .     .     X     .     .   .
HELD turn part           | .     .     =     F     .     .     .     .     .     .     F     .     | .     .     .     .     .     .     | .     .     .     e     .     | .     .     X     .     .     .     .     A     X     .     .   .
HELD turn                | .     .     =     F     .     .     .     .     .     .     F     .     | .     .     .     .     .     .     | .     .     .     e     .     | .     .     X     H     .     .     .     A     X     .     .   .
HELD schedule            | .     .     =     .     .     .     .     .     .     .     .     .     | .     .     .     .     .     .     | .     .     .     e     .     | .     .     X     H     .     A     H     .     X     .     .   .
NONE parts part          | H     .     .     .     .     .     .     .     .     .     .     .     | .     .     .     .     .     .     | .     .     .     .     .     | .     .     .     .     .     .     .     .     .     .     .   .
NONE turn                | H     .     .     .     .     .     .     .     .     .     .     .     | .     .     .     .     .     .     | .     .     .     .     .     | .     .     .     .     .     .     .     .     .     .     .   .
NONE schedule            | H     .     .     .     .     .     .     .     .     .     .     .     | .     .     .     .     .     .     | .     .     .     .     .     | .     .     .     .     .     .     .     .     .     .     .   .
DELIVERED owed           | .     .     =     .     =     x     =     x     D     x     .     .     | .     .     .     .     .     .     | .     .     .     .     .     | .     .     .     .     .     .     .     .     .     D     .   D
PUSHED owed              | .     .     =     F     C     C     .     .     .     .     F     .     | .     .     .     .     .     .     | .     .     .     e     .     | .     .     X     Q     .     .     .     .     X     Q     .   Q
SMS_UNKNOWN asked        | .     .     =     .     x     x     x     x     x     x     .     .     | .     .     .     .     .     U     | d     f     e     ?     .     | .     .     .     .     .     .     .     .     .     .     U   .
SMS_SUBMITTED asked      | .     .     =     .     x     x     x     x     x     x     .     .     | .     .     .     .     .     .     | d     f     e     ?     .     | .     .     .     .     .     .     .     .     .     .     S   .
SMS_SUBMITTED asked told | .     .     =     .     x     x     x     x     x     x     .     .     | .     .     .     .     .     .     | d     f     e     ?     .     | .     .     .     .     .     .     .     .     .     .     =   S
`

// columns are the matrix's, in order.
var columns = []struct {
	kind  msg.Event
	other bool // from another device, or behind another message
}{
	{msg.EvAccept, false},
	{msg.EvPushBegin, false},
	{msg.EvPushAccepted, false},
	{msg.EvPushDead, false},
	{msg.EvClaim, false},
	{msg.EvClaim, true},
	{msg.EvDelivered, false},
	{msg.EvDelivered, true},
	{msg.EvRead, false},
	{msg.EvRead, true},
	{msg.EvClaimDeadline, false},
	{msg.EvLease, false},
	{msg.EvSMSBegin, false},
	{msg.EvSMSAccepted, false},
	{msg.EvSMSTemporary, false},
	{msg.EvSMSPermanent, false},
	{msg.EvSMSLost, false},
	{msg.EvSMSResubmit, false},
	{msg.EvSMSDelivered, false},
	{msg.EvSMSFailed, false},
	{msg.EvSMSExpired, false},
	{msg.EvValidity, false},
	{msg.EvReceiptDone, false},
	{msg.EvComplete, false},
	{msg.EvHoldDeadline, false},
	{msg.EvCancel, false},
	{msg.EvReplace, false},
	{msg.EvComplete, true},
	{msg.EvDue, false},
	{msg.EvDue, true},
	{msg.EvTurn, false},
	{msg.EvWithdraw, false},
	{msg.EvNoticeDone, false},
	{msg.EvSMSEnroute, false},
	{msg.EvReceiptTried, false},
}

var letters = map[string]msg.State{
	"A": msg.Accepted, "P": msg.Pushing, "Q": msg.Pushed, "C": msg.Claimed, "D": msg.Delivered,
	"F": msg.Fallback, "U": msg.SMSUnknown, "S": msg.SMSSubmitted, "d": msg.SMSDelivered,
	"f": msg.SMSFailed, "e": msg.Expired, "?": msg.Unknown, "H": msg.Held, "X": msg.Cancelled,
}

// situation builds the record that a row names.
func situation(t *testing.T, name string) Record {
	t.Helper()
	words := strings.Fields(name)
	r := Record{Device: "phone"}
	if err := r.State.UnmarshalText([]byte(words[0])); err != nil {
		t.Fatal(err)
	}
	for _, w := range words[1:] {
		switch w {
		case "begun":
			r.SMSBegun = true
		case "duplicate":
			r.Prefer = msg.PossibleDuplicate
		case "due":
			r.ReceiptDue = true
		case "read":
			r.Read = true
		case "parts":
			r.Hold = msg.HoldParts
		case "schedule":
			r.Hold = msg.HoldSchedule
		case "turn":
			r.Hold = msg.HoldTurn
		case "owed":
			r.Owed = msg.NoticeRead
		case "asked":
			r.RegisteredDelivery = 0x10
		case "told":
			r.Owed = msg.NoticeEnroute
		case "part":
			r.Group, r.Number, r.Total = msg.ID{1}, 1, 2
		default:
			t.Fatalf("row %q: unknown word %q", name, w)
		}
	}
	if undecided(r.State) || r.State == msg.Held {
		r.Device = ""
	}
	return r
}

func TestTable(t *testing.T) {
	seen := map[msg.State]bool{}
	for _, line := range strings.Split(strings.TrimSpace(matrix), "\n")[2:] {
		name, cells, _ := strings.Cut(line, "|")
		cell := strings.Fields(strings.ReplaceAll(cells, "|", " "))
		if len(cell) != len(columns) {
			t.Fatalf("row %q has %d cells, want %d", name, len(cell), len(columns))
		}
		r := situation(t, name)
		seen[r.State] = true
		for i, c := range columns {
			e := Event{Kind: c.kind, Device: "phone", Notice: msg.NoticeRead}
			if c.other {
				e.Device, e.Wait = "tablet", true
			}
			want, verdict := r.State, Applied
			switch cell[i] {
			case ".":
				verdict = Refused
			case "=":
				verdict = Replayed
			case "x":
				verdict = Superseded
			default:
				want = letters[cell[i]]
			}
			before := r
			got, v := Next(&r, &e)
			if got != want || v != verdict {
				t.Errorf("Next(%s, %s of %s) = %s, %s; want %s, %s", strings.TrimSpace(name), c.kind, e.Device, got, v, want, verdict)
			}
			if r != before {
				t.Errorf("Next(%s, %s) changed the record", name, c.kind)
			}
		}
	}
	for _, s := range msg.States() {
		if !seen[s] {
			t.Errorf("the matrix has no row for %s", s)
		}
	}
	kinds := map[msg.Event]bool{msg.EvNone: true, msg.EvReply: true, msg.EvReplyDone: true} // of the trace alone, see below
	for _, c := range columns {
		kinds[c.kind] = true
	}
	for _, k := range msg.Events() {
		if !kinds[k] {
			t.Errorf("the matrix has no column for %s", k)
		}
	}
}

// What is no event at all is refused everywhere.
func TestTableRefusesUnknownEvents(t *testing.T) {
	for _, s := range msg.States() {
		for _, k := range []msg.Event{msg.EvNone, msg.EvReply, msg.EvReplyDone, msg.Event(len(msg.Events())), 255} {
			if to, v := Next(&Record{State: s}, &Event{Kind: k}); to != s || v != Refused {
				t.Errorf("Next(%s, %s) = %s, %s; want refused", s, k, to, v)
			}
		}
	}
}

// step runs the table and what follows from it, as the committer does.
func (r *Record) step(e Event) Verdict {
	to, v := Next(r, &e)
	if v == Applied {
		r.apply(&e, to)
	}
	return v
}

func TestApply(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	done := at.Add(-time.Minute)
	r := Record{RegisteredDelivery: 1}
	run := func(e Event) {
		t.Helper()
		at = at.Add(time.Second)
		e.At = at
		if v := r.step(e); v != Applied {
			t.Fatalf("%s in %s: %s", e.Kind, r.State, v)
		}
	}
	check := func(what string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s = %v, want %v", what, got, want)
		}
	}
	run(Event{Kind: msg.EvAccept})
	run(Event{Kind: msg.EvPushBegin})
	since := r.Since
	run(Event{Kind: msg.EvPushBegin})
	check("Since after a retried push", r.Since, since)
	run(Event{Kind: msg.EvClaimDeadline})
	run(Event{Kind: msg.EvSMSBegin})
	check("SMSBegun", r.SMSBegun, true)
	run(Event{Kind: msg.EvSMSTemporary, SMSErr: "0x58"})
	check("SMSBegun after a temporary status", r.SMSBegun, false)
	check("SMSErr", r.SMSErr, "0x58")
	run(Event{Kind: msg.EvSMSBegin})
	check("SMSAttempts", r.SMSAttempts, uint16(2))
	run(Event{Kind: msg.EvSMSLost})
	run(Event{Kind: msg.EvSMSResubmit})
	check("Resubmits", r.Resubmits, uint16(1))
	run(Event{Kind: msg.EvSMSTemporary})
	check("State after a refused resubmission", r.State, msg.SMSUnknown)
	run(Event{Kind: msg.EvSMSResubmit})
	run(Event{Kind: msg.EvSMSAccepted, Peer: "own", SMSID: "7"})
	check("Peer", r.Peer, "own")
	check("SMSID", r.SMSID, "7")
	check("SMSBegun once accepted", r.SMSBegun, false)
	run(Event{Kind: msg.EvSMSFailed, SMSErr: "011", DoneAt: done})
	check("DoneAt", r.DoneAt, done)
	check("SMSErr", r.SMSErr, "011")
	check("ReceiptDue", r.ReceiptDue, true)
	run(Event{Kind: msg.EvReceiptDone})
	check("ReceiptDue once taken", r.ReceiptDue, false)
	check("State once taken", r.State, msg.SMSFailed)
	check("DoneAt once taken", r.DoneAt, done)
}

func TestApplyDoneAtIsTheEventsTime(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	r := Record{State: msg.Claimed, Device: "phone"}
	r.step(Event{Kind: msg.EvRead, Device: "phone", At: at})
	if !r.Read || r.State != msg.Delivered || !r.DoneAt.Equal(at) {
		t.Errorf("read of a claimed message: %+v, want DELIVERED, read, done at %s", r, at)
	}
	r.step(Event{Kind: msg.EvRead, Device: "phone", At: at.Add(time.Hour)})
	if !r.DoneAt.Equal(at) {
		t.Errorf("DoneAt after a second read = %s, want %s", r.DoneAt, at)
	}
}

// SMPP v3.4 §5.2.17, v5.0 §4.7.21: bits 1-0.
func TestReceiptDue(t *testing.T) {
	for _, c := range []struct {
		registered byte
		due        string // of DELIVERED SMS_DELIVERED SMS_FAILED EXPIRED UNKNOWN
	}{
		{0x00, "no  no  no  no  no "},
		{0x01, "yes yes yes yes yes"},
		{0x02, "no  no  yes yes yes"},
		{0x03, "yes yes no  no  no "},
		{0x10, "no  no  no  no  no "},
		{0x1d, "yes yes yes yes yes"},
	} {
		var got []string
		for _, s := range []msg.State{msg.Delivered, msg.SMSDelivered, msg.SMSFailed, msg.Expired, msg.Unknown} {
			got = append(got, map[bool]string{true: "yes", false: "no "}[receiptDue(c.registered, s)])
		}
		if g := strings.Join(got, " "); g != c.due {
			t.Errorf("registered_delivery %#02x: due %s, want %s", c.registered, g, c.due)
		}
	}
}

// A timer that fires does something: otherwise it would fire for ever.
func TestDeadlines(t *testing.T) {
	t0 := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	after := func(d time.Duration) int64 { return t0.Add(d).UnixNano() }
	const grace = time.Minute
	for _, c := range []struct {
		row         string
		claim       time.Duration // ClaimBy; 0: none
		lease       time.Duration
		first       time.Duration // 0: no timer
		event, late msg.Event     // when it is due; after the end of validity
	}{
		{"ACCEPTED", 30 * time.Second, 0, 30 * time.Second, msg.EvClaimDeadline, msg.EvValidity},
		{"PUSHING", 30 * time.Second, 0, 30 * time.Second, msg.EvClaimDeadline, msg.EvValidity},
		{"PUSHED", 0, 0, time.Hour, msg.EvValidity, msg.EvValidity},
		{"PUSHED", 2 * time.Hour, 0, time.Hour, msg.EvValidity, msg.EvValidity},
		{"CLAIMED", 0, 10 * time.Second, time.Hour, msg.EvValidity, msg.EvValidity},
		{"CLAIMED duplicate", 0, 10 * time.Second, 10 * time.Second, msg.EvLease, msg.EvValidity},
		{"CLAIMED duplicate", 0, 0, time.Hour, msg.EvValidity, msg.EvValidity},
		{"FALLBACK", 0, 0, time.Hour, msg.EvValidity, msg.EvValidity},
		{"FALLBACK begun", 0, 0, 0, 0, 0},
		{"SMS_UNKNOWN", 0, 0, time.Hour, msg.EvValidity, msg.EvValidity},
		{"SMS_UNKNOWN begun", 0, 0, time.Hour, msg.EvValidity, msg.EvValidity},
		{"SMS_SUBMITTED", 0, 0, time.Hour + grace, msg.EvValidity, msg.EvValidity},
		{"DELIVERED due", 0, 0, 0, 0, 0},
		{"SMS_FAILED due", 0, 0, 0, 0, 0},
		{"EXPIRED due", 0, 0, 0, 0, 0},
	} {
		r := situation(t, c.row)
		r.Since, r.ExpiresAt, r.Lease = t0, t0.Add(time.Hour), c.lease
		if c.claim != 0 {
			r.ClaimBy = t0.Add(c.claim)
		}
		what := fmt.Sprintf("%s, claim %s, lease %s", c.row, c.claim, c.lease)
		d := r.deadlines()
		want := int64(0)
		if c.first != 0 {
			want = after(c.first)
		}
		if got := d.next(grace); got != want {
			t.Errorf("%s: next = %s, want %s", what, timeOf(got), timeOf(want))
		}
		if want == 0 {
			continue
		}
		for at, kind := range map[int64]msg.Event{want: c.event, after(2 * time.Hour): c.late} {
			if got := d.event(at); got != kind {
				t.Errorf("%s: event at %s = %s, want %s", what, timeOf(at), got, kind)
			}
			if _, v := Next(&r, &Event{Kind: kind}); v != Applied {
				t.Errorf("%s: %s is %s, want applied", what, kind, v)
			}
		}
	}
}
