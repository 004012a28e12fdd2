package upstream

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"shunt/smpp/pdu"
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
			from := "ESME"
			if i > 3 {
				from = "SMSC"
			}
			t.Run(fmt.Sprintf("%s/%s/from %s", f[0], states[i], from), func(t *testing.T) {
				r := newRig(t, nil)
				p := withSeq(bodyOf(id), 77)
				if states[i] == 0 {
					esme := r.connect()
					esme.send(p)
					r.openCell(esme, p, cell)
					return
				}
				sender, other := r.bind(states[i], bankBind)
				if from == "SMSC" {
					sender, other = other, sender
				}
				sender.send(p)
				boundCell(t, sender, other, p, cell)
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

// openCell checks a cell of the column OPEN.
func (r *rig) openCell(esme *peer, p pdu.PDU, cell string) {
	esme.t.Helper()
	switch cell {
	case "nbs":
		esme.wantHeader(p.ID().Response(), pdu.RINVBNDSTS, 77)
		esme.wantNothing()
	case "ours":
		esme.wantHeader(p.ID().Response(), pdu.ROK, 77)
	case "last":
		esme.wantHeader(p.ID().Response(), pdu.ROK, 77)
		esme.wantEnd()
	case "end":
		esme.wantEnd()
	case "-":
		esme.wantNothing()
	case "bind":
		smsc := r.smsc.accept()
		if got := smsc.next(); !bytes.Equal(got, p) {
			esme.t.Errorf("the SMSC got %s, want the octets of %s", show(got), show(p))
		}
		refusal := pdu.AppendHeader(nil, p.ID().Response(), pdu.RINVPASWD, 77)
		smsc.send(refusal)
		esme.want(refusal)
	default:
		esme.t.Fatalf("cell %q", cell)
	}
}

// boundCell checks a cell of the bound states.
func boundCell(t *testing.T, sender, other *peer, p pdu.PDU, cell string) {
	t.Helper()
	switch cell {
	case "ours":
		sender.wantHeader(p.ID().Response(), pdu.ROK, 77)
		other.wantNothing()
	case "-":
		sender.wantNothing()
		other.wantNothing()
	case "pass", "bye":
		got := other.next()
		if !bytes.Equal(got, withSeq(p, got.Seq())) {
			t.Fatalf("passed %s, want the octets of %s", show(got), show(p))
		}
		if !p.ID().Answered() {
			return
		}
		other.send(pdu.AppendHeader(nil, p.ID().Response(), pdu.ROK, got.Seq()))
		sender.wantHeader(p.ID().Response(), pdu.ROK, 77)
		if cell == "bye" {
			sender.wantEnd()
			other.wantEnd()
		}
	default:
		t.Fatalf("cell %q", cell)
	}
}
