package spool

import (
	"math"
	"time"

	"shunt/gateway/msg"
)

// Verdict is what the table says of an event. The zero Verdict changes
// nothing.
type Verdict uint8

const (
	Refused    Verdict = iota // the pair is not in the table
	Applied                   // the message goes to the returned state
	Replayed                  // it happened before: success, nothing changes
	Superseded                // another device or the carrier has the message
)

func (v Verdict) String() string {
	return [...]string{"refused", "applied", "replayed", "superseded"}[v&3]
}

// Next is the table: which state follows when e happens to r. It changes
// nothing and knows no clock. Whatever it does not list is Refused.
//
// The app's side and the carrier's side part at two arrows, EvClaim out of
// ACCEPTED, PUSHING or PUSHED, and EvClaimDeadline or EvPushDead out of the
// same three: whichever the committer takes first wins the message. A third
// party, the ESME, takes it from both with EvCancel.
//
// What is HELD waits for one thing, its Hold: the parts of a long message for
// each other, a scheduled message for its hour, and each of them, like any
// message, for its turn, while an earlier one between the same two is
// undecided. Until the carrier wins, parts stand and fall together: see shared.
func Next(r *Record, e *Event) (msg.State, Verdict) {
	if r.State == msg.None {
		switch {
		case e.Kind != msg.EvAccept:
			return msg.None, Refused
		case r.Hold != msg.NoHold:
			return msg.Held, Applied
		}
		return msg.Accepted, Applied
	}
	switch e.Kind {
	case msg.EvPushBegin, msg.EvPushAccepted:
		return nextPush(r, e)
	case msg.EvClaim, msg.EvDelivered, msg.EvRead:
		return nextApp(r, e)
	case msg.EvClaimDeadline, msg.EvPushDead, msg.EvLease, msg.EvValidity:
		return nextDeadline(r, e)
	case msg.EvSMSBegin, msg.EvSMSAccepted, msg.EvSMSTemporary, msg.EvSMSPermanent,
		msg.EvSMSLost, msg.EvSMSResubmit:
		return nextSubmit(r, e)
	case msg.EvSMSDelivered, msg.EvSMSFailed, msg.EvSMSExpired, msg.EvSMSEnroute:
		return nextCarrierReceipt(r, e)
	case msg.EvComplete, msg.EvHoldDeadline, msg.EvDue, msg.EvTurn:
		return nextHeld(r, e)
	case msg.EvCancel, msg.EvReplace, msg.EvWithdraw:
		return nextESME(r, e)
	case msg.EvReceiptDone:
		if r.State.Final() && r.ReceiptDue {
			return r.State, Applied
		}
	case msg.EvNoticeDone:
		if r.Owed&e.Notice != 0 {
			return r.State, Applied
		}
	case msg.EvReceiptTried:
		if r.State.Final() && r.ReceiptDue || r.Owed != 0 {
			return r.State, Applied
		}
	}
	return r.State, Refused
}

// shared tells that e happens to all parts of a long message when it happens
// to one of them in state s: until the carrier has won, none goes alone.
func shared(s msg.State, e msg.Event) bool {
	switch e {
	case msg.EvComplete, msg.EvTurn, msg.EvHoldDeadline, msg.EvPushDead, msg.EvClaimDeadline, msg.EvLease,
		msg.EvClaim, msg.EvDelivered, msg.EvRead, msg.EvValidity, msg.EvCancel:
		return s == msg.Held || undecided(s) || s == msg.Claimed || s == msg.Delivered
	}
	return false
}

// nextHeld: what a message was held for has come, or does not come. Behind an
// earlier message between the same two (e.Wait) it is held on, for its turn.
func nextHeld(r *Record, e *Event) (msg.State, Verdict) {
	if r.State != msg.Held {
		return r.State, Refused
	}
	switch {
	case e.Kind == msg.EvHoldDeadline && r.Hold == msg.HoldParts:
		return msg.Fallback, Applied
	case e.Kind == msg.EvTurn && r.Hold == msg.HoldTurn:
		return msg.Accepted, Applied
	case e.Kind == msg.EvComplete && r.Hold == msg.HoldParts, e.Kind == msg.EvDue && r.Hold == msg.HoldSchedule:
		if e.Wait {
			return msg.Held, Applied
		}
		return msg.Accepted, Applied
	}
	return r.State, Refused
}

// nextESME: the ESME takes its message back, or changes it, as long as nobody
// else may have it (SMPP v3.4 §4.9, §4.10). A part of a long message cannot be
// changed: the new text has no place for its user data header. EvWithdraw is
// Shunt's own word for a message whose ESME was told that it was not taken.
func nextESME(r *Record, e *Event) (msg.State, Verdict) {
	unsent := r.State == msg.Held || undecided(r.State) || r.State == msg.Fallback && !r.SMSBegun
	switch {
	case e.Kind == msg.EvCancel && r.State == msg.Cancelled:
		return r.State, Replayed
	case e.Kind == msg.EvReplace && unsent && !r.Part():
		return r.State, Applied
	case (e.Kind == msg.EvCancel || e.Kind == msg.EvWithdraw) && unsent:
		return msg.Cancelled, Applied
	}
	return r.State, Refused
}

// undecided tells that neither the app nor the carrier has the message.
func undecided(s msg.State) bool {
	return s == msg.Accepted || s == msg.Pushing || s == msg.Pushed
}

// nextPush: a provider's answer that comes after the claim changes nothing.
func nextPush(r *Record, e *Event) (msg.State, Verdict) {
	early := r.State == msg.Accepted || r.State == msg.Pushing
	switch {
	case e.Kind == msg.EvPushBegin && early:
		return msg.Pushing, Applied
	case e.Kind == msg.EvPushAccepted && early:
		return msg.Pushed, Applied
	case e.Kind == msg.EvPushAccepted:
		return r.State, Replayed
	}
	return r.State, Refused
}

// nextApp: what a device says. Only the winner of the claim is heard.
func nextApp(r *Record, e *Event) (msg.State, Verdict) {
	if undecided(r.State) {
		if e.Kind == msg.EvClaim {
			return msg.Claimed, Applied
		}
		return r.State, Refused // an acknowledgement of what was never handed out
	}
	if r.State == msg.Held {
		return r.State, Refused // nobody was told of it
	}
	winner := r.Device == e.Device && (r.State == msg.Claimed || r.State == msg.Delivered)
	switch {
	case !winner:
		return r.State, Superseded
	case e.Kind == msg.EvClaim:
		return r.State, Replayed
	case r.State == msg.Claimed: // EvDelivered; EvRead implies it
		return msg.Delivered, Applied
	case e.Kind == msg.EvRead && !r.Read:
		return msg.Delivered, Applied
	}
	return r.State, Replayed
}

// nextDeadline: the timers, and a push lane that gives up. Timers race with
// everything else, so a refusal of theirs is harmless.
func nextDeadline(r *Record, e *Event) (msg.State, Verdict) {
	if e.Kind == msg.EvValidity {
		return nextValidity(r)
	}
	switch {
	case e.Kind == msg.EvLease:
		if r.State == msg.Claimed && r.Prefer == msg.PossibleDuplicate {
			return msg.Fallback, Applied
		}
	case undecided(r.State), r.State == msg.Held && r.Hold == msg.HoldTurn:
		return msg.Fallback, Applied
	}
	return r.State, Refused
}

// nextValidity: the end of validity decides whatever no answer under way can
// still decide.
func nextValidity(r *Record) (msg.State, Verdict) {
	switch r.State {
	case msg.Held, msg.Accepted, msg.Pushing, msg.Pushed:
		return msg.Expired, Applied
	case msg.Fallback:
		if !r.SMSBegun {
			return msg.Expired, Applied
		}
	case msg.Claimed, msg.SMSUnknown, msg.SMSSubmitted:
		return msg.Unknown, Applied
	}
	return r.State, Refused
}

// nextSubmit: a submit_sm of our own and its answers. An answer counts only
// while an SMS was begun.
func nextSubmit(r *Record, e *Event) (msg.State, Verdict) {
	if r.State != msg.Fallback && r.State != msg.SMSUnknown {
		return r.State, Refused
	}
	if !r.SMSBegun {
		begin := e.Kind == msg.EvSMSBegin && r.State == msg.Fallback ||
			e.Kind == msg.EvSMSResubmit && r.State == msg.SMSUnknown
		if begin {
			return r.State, Applied
		}
		return r.State, Refused
	}
	switch e.Kind {
	case msg.EvSMSAccepted:
		return msg.SMSSubmitted, Applied
	case msg.EvSMSPermanent:
		return msg.SMSFailed, Applied
	case msg.EvSMSLost:
		return msg.SMSUnknown, Applied
	case msg.EvSMSTemporary:
		return r.State, Applied // an earlier SMS of unknown fate stays unknown
	}
	return r.State, Refused
}

// nextCarrierReceipt: the SMSC's delivery receipt, or an intermediate
// notification, which changes nothing but what its ESME is owed.
func nextCarrierReceipt(r *Record, e *Event) (msg.State, Verdict) {
	if r.State != msg.SMSUnknown && r.State != msg.SMSSubmitted {
		return r.State, Refused
	}
	switch e.Kind {
	case msg.EvSMSEnroute:
		switch {
		case noticesOf(r.RegisteredDelivery)&msg.NoticeEnroute == 0:
			return r.State, Refused
		case r.Owed&msg.NoticeEnroute != 0:
			return r.State, Replayed
		}
		return r.State, Applied
	case msg.EvSMSDelivered:
		return msg.SMSDelivered, Applied
	case msg.EvSMSFailed:
		return msg.SMSFailed, Applied
	}
	return msg.Expired, Applied
}

// apply writes into r what follows from e, which Next applied and which has
// its time.
func (r *Record) apply(e *Event, to msg.State) {
	switch e.Kind {
	case msg.EvComplete:
		r.ClaimBy = e.ClaimBy
	case msg.EvReplace:
		r.Edition = more(r.Edition)
		r.RegisteredDelivery, r.ExpiresAt = e.Replace.RegisteredDelivery, e.Replace.ExpiresAt
		from := e.At
		if r.DueAt.After(from) {
			from = r.DueAt
		}
		r.ClaimBy = claimBefore(r.ClaimBy, r.ExpiresAt, from)
	case msg.EvClaim:
		r.Device = e.Device
	case msg.EvRead:
		r.Read = true
		r.Owed |= noticesOf(r.RegisteredDelivery) & msg.NoticeRead
	case msg.EvSMSBegin:
		r.SMSBegun = true
		r.SMSAttempts = more(r.SMSAttempts)
	case msg.EvSMSResubmit:
		r.SMSBegun = true
		r.Resubmits = more(r.Resubmits)
	case msg.EvSMSAccepted:
		r.Peer, r.SMSID = e.Peer, e.SMSID
		r.SMSBegun = false
	case msg.EvSMSTemporary, msg.EvSMSPermanent, msg.EvSMSLost:
		r.SMSBegun = false
	case msg.EvSMSEnroute:
		r.Owed |= msg.NoticeEnroute
	case msg.EvReceiptDone:
		r.ReceiptDue = false
	case msg.EvNoticeDone:
		r.Owed &^= e.Notice
	}
	if e.SMSErr != "" {
		r.SMSErr = e.SMSErr
	}
	r.hold(e, to)
	if to != r.State {
		r.enter(e, to)
	}
}

// hold notes what r is held for from now on.
func (r *Record) hold(e *Event, to msg.State) {
	switch {
	case to != msg.Held:
		r.Hold = msg.NoHold
	case e.Kind == msg.EvComplete, e.Kind == msg.EvDue:
		r.Hold = msg.HoldTurn
	}
}

// enter is the way into another state.
func (r *Record) enter(e *Event, to msg.State) {
	r.State, r.Since = to, e.At
	switch {
	case to == msg.Pushed:
		r.Owed |= noticesOf(r.RegisteredDelivery) & msg.NoticeEnroute
	case to == msg.Fallback:
		r.Cause = e.Reason
	case to.Final():
		r.SMSBegun = false
		r.Owed &^= msg.NoticeEnroute // the final receipt says more
		r.ReceiptDue = e.Kind != msg.EvWithdraw && receiptDue(r.RegisteredDelivery, to)
		r.DoneAt = e.DoneAt
		if r.DoneAt.IsZero() {
			r.DoneAt = e.At
		}
		if r.Cause == msg.NoReason {
			r.Cause = e.Reason
		}
	}
}

func more(n uint16) uint16 {
	if n == math.MaxUint16 {
		return n
	}
	return n + 1
}

// receiptDue reads bits 1-0 of registered_delivery for an outcome (SMPP v3.4
// §5.2.17; 11, receipt on success only, is SMPP v5.0 §4.7.21).
func receiptDue(registered byte, outcome msg.State) bool {
	delivered := outcome == msg.Delivered || outcome == msg.SMSDelivered
	switch registered & 3 {
	case 1:
		return true
	case 2:
		return !delivered
	case 3:
		return delivered
	}
	return false
}

// noticesOf reads bits 4 and 2 of registered_delivery (SMPP v3.4 §5.2.17).
func noticesOf(registered byte) (n msg.Notice) {
	if registered&0x10 != 0 {
		n |= msg.NoticeEnroute
	}
	if registered&0x04 != 0 {
		n |= msg.NoticeRead
	}
	return n
}

// turn tells whether a message takes part in the order between its two ends:
// the later ones wait while it does. What the app or the SMSC has, and what is
// scheduled for another hour, holds up nobody; nor does an SMS of unknown fate,
// which most likely went out.
func (r *Record) turn() bool { return inTurn(r.State, r.Hold) }

func inTurn(s msg.State, h msg.Hold) bool {
	return undecided(s) || s == msg.Fallback || s == msg.Held && h != msg.HoldSchedule
}

// deadlines are the times that a timer of a message comes from, in
// nanoseconds since 1970, zero for none. They are the pure half of the
// timers: the wheel only sleeps.
type deadlines struct {
	state                                 msg.State
	hold                                  msg.Hold
	begun                                 bool
	prefer                                msg.Prefer
	claimBy, expires, since, leaseNS, due int64
}

func (r *Record) deadlines() deadlines {
	return deadlines{
		state: r.State, hold: r.Hold, begun: r.SMSBegun, prefer: r.Prefer, claimBy: nanos(r.ClaimBy),
		expires: nanos(r.ExpiresAt), since: nanos(r.Since), leaseNS: int64(r.Lease), due: nanos(r.DueAt),
	}
}

// next is when the message's next timer is due; zero: nothing is left to wait
// for.
func (d deadlines) next(grace time.Duration) int64 {
	first := d.early()
	switch {
	case first != 0 && first < d.expires:
		return first
	case d.state == msg.SMSSubmitted:
		return d.expires + int64(grace)
	case d.state.Final(), d.state == msg.Fallback && d.begun:
		return 0
	}
	return d.expires
}

// early is the deadline before validity, if the state has one.
func (d deadlines) early() int64 {
	switch {
	case d.state == msg.Held && d.hold == msg.HoldSchedule:
		return d.due
	case undecided(d.state), d.state == msg.Held:
		return d.claimBy
	case d.state == msg.Claimed && d.prefer == msg.PossibleDuplicate && d.leaseNS > 0:
		return d.since + d.leaseNS
	}
	return 0
}

// event is what the timer that is due at now says: the end of validity goes
// before the deadlines that it makes pointless, so that nothing is sent as
// SMS after a long stop.
func (d deadlines) event(now int64) msg.Event {
	switch {
	case d.early() == 0, now >= d.expires:
		return msg.EvValidity
	case d.state == msg.Claimed:
		return msg.EvLease
	case d.state == msg.Held && d.hold == msg.HoldSchedule:
		return msg.EvDue
	case d.state == msg.Held && d.hold == msg.HoldParts:
		return msg.EvHoldDeadline
	}
	return msg.EvClaimDeadline
}
