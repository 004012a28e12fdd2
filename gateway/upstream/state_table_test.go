package upstream

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"shunt/smpp/pdu"
	"shunt/smpp/smpptest"
)

// stateTable is SMPP v3.4 §2.3, table 2-1, with v5.0's commands, as a
// transparent gateway keeps it: what becomes of a request by the session's
// state and by who sends it.
//
//	bind  judged by the SMSC, whose answer makes the state
//	ours  answered by Shunt, ESME_ROK
//	last  answered by Shunt, ESME_ROK, and the connection ends
//	nbs   answered by Shunt, ESME_RINVBNDSTS
//	end   the connection ends
//	-     ignored: no answer is owed
//	pass  passed as its octets, for the other side to judge
//	bye   passed; its answer ends both sides
const stateTable = `
                      | OPEN | BOUND_TX BOUND_RX BOUND_TRX, from the ESME | BOUND_TX BOUND_RX BOUND_TRX, from the SMSC
bind_transmitter      | bind | pass pass pass | pass pass pass
bind_receiver         | bind | pass pass pass | pass pass pass
bind_transceiver      | bind | pass pass pass | pass pass pass
outbind               | end  | pass pass pass | pass pass pass
unbind                | last | bye  bye  bye  | bye  bye  bye
submit_sm             | nbs  | pass pass pass | pass pass pass
submit_multi          | nbs  | pass pass pass | pass pass pass
data_sm               | nbs  | pass pass pass | pass pass pass
deliver_sm            | nbs  | pass pass pass | pass pass pass
query_sm              | nbs  | pass pass pass | pass pass pass
cancel_sm             | nbs  | pass pass pass | pass pass pass
replace_sm            | nbs  | pass pass pass | pass pass pass
broadcast_sm          | nbs  | pass pass pass | pass pass pass
query_broadcast_sm    | nbs  | pass pass pass | pass pass pass
cancel_broadcast_sm   | nbs  | pass pass pass | pass pass pass
enquire_link          | ours | ours ours ours | ours ours ours
alert_notification    | -    | pass pass pass | pass pass pass
vendor                | nbs  | pass pass pass | pass pass pass
generic_nack          | -    | -    -    -    | -    -    -
submit_sm_resp        | -    | -    -    -    | -    -    -
deliver_sm_resp       | -    | -    -    -    | -    -    -
`

var tableIDs = map[string]pdu.ID{
	"bind_transmitter": pdu.BindTransmitter, "bind_receiver": pdu.BindReceiver, "bind_transceiver": pdu.BindTransceiver,
	"outbind": pdu.Outbind, "unbind": pdu.Unbind, "submit_sm": pdu.SubmitSM, "submit_multi": pdu.SubmitMulti,
	"data_sm": pdu.DataSM, "deliver_sm": pdu.DeliverSM, "query_sm": pdu.QuerySM, "cancel_sm": pdu.CancelSM,
	"replace_sm": pdu.ReplaceSM, "broadcast_sm": pdu.BroadcastSM, "query_broadcast_sm": pdu.QueryBroadcastSM,
	"cancel_broadcast_sm": pdu.CancelBroadcastSM, "enquire_link": pdu.EnquireLink, "alert_notification": pdu.AlertNotification,
	"vendor": 0x00010201, "generic_nack": pdu.GenericNack, "submit_sm_resp": pdu.SubmitSMResp, "deliver_sm_resp": pdu.DeliverSMResp,
}

// TestStateTable goes through the table cell by cell. All but a bind, which
// needs a connection to the SMSC, run in a bubble: an absence is one for as long
// as the clock is let run.
func TestStateTable(t *testing.T) {
	states := []pdu.ID{0, pdu.BindTransmitter, pdu.BindReceiver, pdu.BindTransceiver, pdu.BindTransmitter, pdu.BindReceiver, pdu.BindTransceiver}
	cells := 0
	for _, line := range strings.Split(strings.TrimSpace(stateTable), "\n")[1:] {
		f := strings.Fields(strings.ReplaceAll(line, "|", " "))
		id, ok := tableIDs[f[0]]
		if !ok || len(f) != 1+len(states) {
			t.Fatalf("row %q", line)
		}
		for i, cell := range f[1:] {
			cells++
			fromESME := i <= 3
			name := fmt.Sprintf("%s/%s/from the ESME %t", f[0], states[i], fromESME)
			if states[i] == 0 {
				name = f[0] + "/OPEN"
			}
			t.Run(name, func(t *testing.T) {
				p := withSeq(bodyOf(id), 77)
				if cell == "bind" {
					bindCell(t, p)
					return
				}
				synctest.Test(t, func(t *testing.T) {
					if states[i] == 0 {
						openCell(t, p, cell)
						return
					}
					boundCell(t, newPair(t, states[i], quiet, nil), fromESME, p, cell)
				})
			})
		}
	}
	if want := 21 * 7; cells != want {
		t.Errorf("%d cells, want %d", cells, want)
	}
}

// bodyOf is a sound request of that command.
func bodyOf(id pdu.ID) pdu.PDU {
	for _, s := range append(operations(), unanswered()...) {
		if s.p.ID() == id && !id.IsBind() {
			return s.p
		}
	}
	switch {
	case id.IsBind():
		return bankBind.Append(nil, id, 0)
	case id == pdu.SubmitSM, id == pdu.DeliverSM:
		return sms(id, nil)
	case id.IsResponse():
		return pdu.AppendHeader(nil, id, pdu.ROK, 0)
	}
	return raw(id)
}

// bindCell: the SMSC gets the bind's octets, and the ESME the SMSC's answer.
func bindCell(t *testing.T, p pdu.PDU) {
	t.Helper()
	r := newRig(t, nil)
	esme := r.connect()
	esme.send(p)
	smsc := r.smsc.accept()
	smsc.want(p)
	refusal := pdu.PDU(pdu.AppendHeader(nil, p.ID().Response(), pdu.RINVPASWD, 77))
	smsc.send(refusal)
	esme.want(refusal)
}

// wantAnswer reads the response to p, which must be its header alone.
func wantAnswer(t *testing.T, from *smpptest.Peer, p pdu.PDU, status pdu.Status) {
	t.Helper()
	if got := from.ExpectStatus(p.ID().Response(), status); got.Seq() != 77 || len(got) != pdu.HeaderLen {
		t.Fatalf("answer %s, want a header under 77", show(got))
	}
}

// openCell checks a cell of the column OPEN. What leaves the connection open
// leaves it so for the session_init time, and no longer.
func openCell(t *testing.T, p pdu.PDU, cell string) {
	t.Helper()
	const sessionInit = time.Minute
	start, end := time.Now(), sessionInit
	esme := unbound(t, sessionInit)
	esme.Send(p)
	switch cell {
	case "nbs":
		wantAnswer(t, esme, p, pdu.RINVBNDSTS)
	case "ours":
		wantAnswer(t, esme, p, pdu.ROK)
	case "last":
		wantAnswer(t, esme, p, pdu.ROK)
		end = 0
	case "end":
		end = 0
	case "-":
	default:
		t.Fatalf("cell %q", cell)
	}
	esme.ExpectClosed()
	if at := time.Since(start); at != end {
		t.Errorf("the connection ended at %v, want %v", at, end)
	}
}

// boundCell checks a cell of the bound states.
func boundCell(t *testing.T, x *pair, fromESME bool, p pdu.PDU, cell string) {
	t.Helper()
	sender, other := x.sides(fromESME)
	sender.Send(p)
	switch cell {
	case "ours":
		wantAnswer(t, sender, p, pdu.ROK)
	case "-":
	case "pass", "bye":
		seq := wantOctets(t, other, p)
		if !p.ID().Answered() {
			break
		}
		sender.ExpectSilence(time.Minute) // the answer is the other's to give
		other.Send(pdu.AppendHeader(nil, p.ID().Response(), pdu.ROK, seq))
		wantAnswer(t, sender, p, pdu.ROK)
		if cell == "bye" {
			sender.ExpectClosed()
			other.ExpectClosed()
			<-x.ended
			return
		}
	default:
		t.Fatalf("cell %q", cell)
	}
	sender.ExpectSilence(time.Minute)
	other.ExpectSilence(time.Minute)
}
