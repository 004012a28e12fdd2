package gateway

import (
	"bytes"
	"errors"
	"maps"
	"sync/atomic"
	"time"

	"shunt/gateway/external"
	"shunt/gateway/msg"
	"shunt/gateway/route"
	"shunt/gateway/upstream"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// multi is a submit_multi of which some destinations are for the app: each is
// a message of its own, under the one message_id that the answer has room for.
type multi struct {
	g    *Gateway
	bind *upstream.Bind
	seq  uint32
	all  pdu.PDU                   // as it came
	told map[msg.Number]msg.Reason // what external registries say of those that nobody registered here
	apps []*spool.Message
	dest []pdu.Address // of apps
	errs []error       // of their puts
	left atomic.Int32  // puts under way

	rest    []byte // the destinations for the SMSC
	refused []byte // unsuccess_smes of the SMSC's answer
	id      []byte // message_id for the answer
	tlvs    pdu.TLVs
}

// divertMulti decides about every destination of a submit_multi by itself. The
// SMSC gets what is left of it first, and its answer the rest's message_id, so
// that a refusal of all takes effect on all; then the spool gets the others. Where
// external registries have to be asked, all of it waits for them, off the reader.
func (g *Gateway) divertMulti(b *upstream.Bind, p pdu.PDU) bool {
	var m pdu.Multi
	if m.Decode(p) != nil {
		g.forward(b, p, msg.ReasonUndecodable)
		return false
	}
	t := &multi{g: g, bind: b, seq: p.Seq()}
	if g.external == nil {
		return t.decide(p, &m)
	}
	asked := t.unknown(&m)
	if len(asked) == 0 {
		return t.decide(p, &m)
	}
	waits := bytes.Clone(p)
	b.Hold()
	if g.external.AskAll(asked, func() { t.answers(waits, asked) }) {
		return true
	}
	b.Drop()
	for n := range asked {
		t.told[n] = msg.ReasonExternalBusy
	}
	return t.decide(p, &m)
}

// unknown notes what is known elsewhere of the destinations that nobody registered
// here, and returns those that have to be asked about first.
func (t *multi) unknown(m *pdu.Multi) (ask map[msg.Number]msg.Reason) {
	acc := accountOf(t.bind)
	t.told, ask = make(map[msg.Number]msg.Reason), make(map[msg.Number]msg.Reason)
	for d := range m.Dests.All() {
		n, e, reason := t.g.lookup(t.bind, d.Address)
		_, known := t.told[n]
		if _, twice := ask[n]; d.Flag != pdu.DestSME || twice || known || !t.g.elsewhere(n, e, reason) {
			continue
		}
		reason, next := t.g.external.Look(n)
		if next != external.Go {
			sm := m.To(d.Address)
			if reason = t.worth(acc, &sm, n); reason == msg.NoReason {
				ask[n] = reason
				continue
			}
		}
		t.told[n] = reason
	}
	return ask
}

// worth is Gateway.worth for a destination; a part of a long message is for the
// SMSC in any case.
func (t *multi) worth(acc *route.Account, sm *pdu.SM, n msg.Number) msg.Reason {
	if partOfLong(sm) {
		return msg.ReasonLongMessage
	}
	return t.g.worth(acc, sm, n)
}

// partOfLong tells of a part whose others may have other destinations.
func partOfLong(sm *pdu.SM) bool {
	s, r := route.ReadSegment(sm)
	return r == msg.NoReason && s.Form != coding.Whole
}

// answers lets a submit_multi go on that waited for the external registries. It
// may block. Of an ESME that has gone meanwhile nothing is taken: it has no answer,
// and submits all of it again.
func (t *multi) answers(p pdu.PDU, asked map[msg.Number]msg.Reason) {
	maps.Copy(t.told, asked)
	var m pdu.Multi
	decoded := m.Decode(p) == nil
	select {
	case <-t.bind.Done():
		for range m.Dests.All() {
			t.bind.Count(msg.ReasonLinkLost)
		}
		t.bind.Drop()
		return
	default:
	}
	if decoded && t.decide(p, &m) {
		t.bind.Drop() // that holds it itself
		return
	}
	t.bind.Pass(p)
}

// decide is divertMulti once everything is known.
func (t *multi) decide(p pdu.PDU, m *pdu.Multi) bool {
	b, now := t.bind, time.Now()
	for d := range m.Dests.All() {
		sm := m.To(d.Address)
		reason := msg.ReasonDestination
		if d.Flag == pdu.DestSME {
			reason = t.take(&sm, now)
		}
		if reason != msg.ReasonDivert {
			b.Count(reason)
			if r := t.g.records; r.Wanted() {
				r.Forwarded(b.Account.SystemID, sender(sm.Source), string(sm.Dest.Addr), reason)
			}
			t.rest = d.Append(t.rest)
		}
	}
	if len(t.apps) == 0 {
		return false
	}
	t.all = bytes.Clone(p)
	b.Hold()
	if len(t.rest) == 0 {
		t.id = []byte(t.apps[0].WireID)
		t.put()
		return true
	}
	m.Dests = t.rest
	if b.Exchange(m.Append(nil, 0), t.answered) != nil { // no room: the SMSC gets it all, when it has
		go b.Pass(t.all)
	}
	return true
}

// take judges one destination and keeps its message if it is for the app.
func (t *multi) take(sm *pdu.SM, now time.Time) msg.Reason {
	n, e, reason := t.g.lookup(t.bind, sm.Dest)
	if t.g.elsewhere(n, e, reason) {
		said, ok := t.told[n]
		if !ok { // it was taken off here while others were asked about
			said = msg.ReasonExternalPending
		}
		e, reason = t.g.told(n, said)
	}
	if reason != msg.NoReason {
		return reason
	}
	if partOfLong(sm) {
		return msg.ReasonLongMessage
	}
	s := submission{bind: t.bind, m: sm, to: n, entry: e, at: now}
	v := t.g.judge(&s)
	if v.Divert {
		t.apps = append(t.apps, t.g.message(&s, &v, pdu.AppendSM(nil, pdu.SubmitSM, 0, sm)))
		dest := sm.Dest
		dest.Addr = bytes.Clone(dest.Addr)
		t.dest = append(t.dest, dest)
	}
	return v.Reason
}

// answered takes the SMSC's answer to the rest. What refuses everything is the
// answer to everything: nothing was taken.
func (t *multi) answered(resp pdu.PDU, err error) {
	if err != nil { // neither is known to be taken: the ESME decides
		t.count(msg.ReasonLinkLost)
		t.bind.Drop()
		return
	}
	var r pdu.MultiResp
	if resp.Status() != pdu.ROK || resp.ID() != pdu.SubmitMultiResp || r.Decode(resp) != nil {
		t.count(msg.ReasonStatus)
		resp = bytes.Clone(resp)
		resp.SetSeq(t.seq)
		t.bind.Answer(resp)
		return
	}
	t.id, t.refused, t.tlvs = bytes.Clone(r.MessageID), bytes.Clone(r.Unsuccess), bytes.Clone(r.TLVs)
	t.put()
}

func (t *multi) count(r msg.Reason) {
	for range t.apps {
		t.bind.Count(r)
	}
}

// put gives the messages for the app to the spool, under the one message_id.
func (t *multi) put() {
	t.errs = make([]error, len(t.apps))
	t.left.Store(int32(len(t.apps)))
	wireID := string(t.id)
	if len(t.rest) > 0 { // the SMSC's, which its own receipts may write in another way
		wireID = t.g.live.Load().upstreamIDs.InReceipt(wireID)
	}
	for i, m := range t.apps {
		m.WireID = wireID
		t.g.spool.Put(m, func(err error) {
			t.errs[i] = err
			t.g.counted(t.bind, m.PDU, err)
			if t.left.Add(-1) == 0 {
				t.finish()
			}
		})
	}
}

// finish answers for all destinations. What neither the SMSC nor the spool
// took is among the unsuccess_smes; if that is all, the SMSC gets it all.
func (t *multi) finish() {
	failed, unsure := 0, false
	for i, err := range t.errs {
		if err == nil {
			continue
		}
		failed++
		unsure = unsure || errors.Is(err, spool.ErrUnsure)
		status := pdu.RSYSERR
		if errors.Is(err, spool.ErrFull) {
			status = pdu.RMSGQFUL
		}
		t.refused = pdu.UnsuccessSME{Address: t.dest[i], Status: status}.Append(t.refused)
	}
	if failed == len(t.apps) && len(t.rest) == 0 {
		if unsure { // some may be on disk yet: the SMSC must not have them too
			t.bind.Answer(pdu.AppendHeader(nil, pdu.SubmitMultiResp, pdu.RSYSERR, t.seq))
			return
		}
		go t.bind.Pass(t.all)
		return
	}
	r := pdu.MultiResp{MessageID: t.id, Unsuccess: t.refused, TLVs: t.tlvs}
	t.bind.Answer(r.Append(nil, pdu.ROK, t.seq))
}
