package gateway

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"shunt/gateway/msg"
	"shunt/gateway/receipt"
	"shunt/gateway/route"
	"shunt/gateway/upstream"
	"shunt/smpp"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// maxLookups bounds the query_sm, cancel_sm and replace_sm that read the disk
// at once; an ESME that wants more is throttled.
const maxLookups = 64

// manage takes query_sm, cancel_sm and replace_sm that name a message of
// Shunt's own. Everything else is for the SMSC to judge. A message_id decides,
// and since those of v3.3 are short, the account with it.
func (g *Gateway) manage(b *upstream.Bind, p pdu.PDU) bool {
	var id []byte
	switch p.ID() {
	case pdu.QuerySM:
		var q pdu.Query
		if q.Decode(p) != nil {
			return false
		}
		id = q.MessageID
	case pdu.CancelSM:
		var c pdu.Cancel
		if c.Decode(p) != nil {
			return false
		}
		if id = c.MessageID; len(id) == 0 {
			return g.cancelAll(b, p, &c)
		}
	case pdu.ReplaceSM:
		var r pdu.Replace
		if r.Decode(p) != nil {
			return false
		}
		id = r.MessageID
	default:
		return false
	}
	if !ownID(string(id), b.Version) {
		return false
	}
	b.Hold()
	select {
	case g.lookups <- struct{}{}:
	default:
		b.Answer(pdu.AppendHeader(nil, p.ID().Response(), pdu.RTHROTTLED, p.Seq()))
		return true
	}
	p, wireID := bytes.Clone(p), string(id) // neither is the reader's any more
	go func() {                             // the spool may have to read its disk
		defer func() { <-g.lookups }()
		r, ok := g.ours(b, wireID)
		if !ok {
			b.Pass(p)
			return
		}
		switch p.ID() {
		case pdu.QuerySM:
			g.query(b, p, r)
		case pdu.CancelSM:
			g.cancel(b, p, r)
		default:
			g.replace(b, p, r)
		}
	}()
	return true
}

// ownID tells whether a message_id can be one that Shunt gave on a bind of
// that interface_version.
func ownID(id string, version byte) bool {
	if _, err := msg.ParseID(id); err == nil {
		return true
	}
	_, err := strconv.ParseUint(id, 16, 32)
	return err == nil && len(id) == 8 && !pdu.TLVsAllowed(version)
}

// ours finds the account's message with that message_id.
func (g *Gateway) ours(b *upstream.Bind, wireID string) (*spool.Record, bool) {
	id, ok := g.spool.Resolve(wireID)
	if !ok {
		return nil, false
	}
	r, err := g.spool.Get(id)
	if err != nil || r.Account != b.Account || r.WireID != wireID {
		return nil, false
	}
	return &r, true
}

// from tells whether r has that source address: the ESME has to name it (SMPP
// v3.4 §4.8.1, §4.9.1, §4.10.1). An empty one names none.
func from(r *spool.Record, source pdu.Address) bool {
	return len(source.Addr) == 0 || sender(source) == r.From
}

// query answers a query_sm from the spool.
func (g *Gateway) query(b *upstream.Bind, p pdu.PDU, r *spool.Record) {
	var q pdu.Query
	if q.Decode(p) != nil || !from(r, q.Source) {
		b.Answer(pdu.AppendHeader(nil, pdu.QuerySMResp, pdu.RQUERYFAIL, p.Seq()))
		return
	}
	state, final, code := queryState(r, b.Version)
	resp := pdu.QueryResp{MessageID: q.MessageID, FinalDate: []byte(final), State: byte(state), ErrorCode: code}
	b.Answer(resp.Append(nil, pdu.ROK, p.Seq()))
}

// queryState is message_state, final_date and error_code of a message (SMPP
// v3.4 §4.8.2, §5.2.28): ENROUTE until its outcome is final, or SCHEDULED until
// its hour for those who know that state (SMPP v5.0 §4.7.15).
func queryState(r *spool.Record, version byte) (state smpp.MessageState, final string, code byte) {
	switch {
	case r.Hold == msg.HoldSchedule && version >= pdu.Version50:
		return smpp.StateScheduled, "", 0
	case !r.State.Final():
		return smpp.StateEnroute, "", 0
	}
	state, text := receipt.Outcome(r)
	if n, err := strconv.ParseUint(text, 10, 8); err == nil {
		code = byte(n)
	}
	return state, pdu.AbsoluteTime(r.DoneAt), code
}

// cancel answers a cancel_sm: the message is taken back, unless the app or the
// carrier may have it.
func (g *Gateway) cancel(b *upstream.Bind, p pdu.PDU, r *spool.Record) {
	var c pdu.Cancel
	seq := p.Seq()
	if c.Decode(p) != nil || !from(r, c.Source) {
		b.Answer(pdu.AppendHeader(nil, pdu.CancelSMResp, pdu.RCANCELFAIL, seq))
		return
	}
	g.spool.Post(spool.Event{ID: r.ID, Kind: msg.EvCancel, Reason: msg.ReasonESME}, func(res spool.Result) {
		b.Answer(pdu.AppendHeader(nil, pdu.CancelSMResp, statusOf(res.Err, pdu.RCANCELFAIL), seq))
	})
}

// statusOf is the status of an event that the ESME asked for: what the table
// refuses has failed for good, what the disk refuses has not.
func statusOf(err error, failed pdu.Status) pdu.Status {
	switch {
	case err == nil:
		return pdu.ROK
	case errors.Is(err, spool.ErrRefused), errors.Is(err, spool.ErrSuperseded), errors.Is(err, spool.ErrNotFound):
		return failed
	}
	return pdu.RSYSERR
}

// cancelAll takes a cancel_sm without a message_id: all messages between two
// addresses. Those of Shunt's go first, then the SMSC gets it for its own. If
// nothing of ours is between them it passes untouched.
func (g *Gateway) cancelAll(b *upstream.Bind, p pdu.PDU, c *pdu.Cancel) bool {
	n, ok := route.Number(c.Dest, &accountOf(b).Country)
	if !ok {
		return false
	}
	var ids []msg.ID
	for _, r := range g.spool.ByNumber(n, msg.ID{}, 0) {
		if r.Account == b.Account && r.From == sender(c.Source) && r.State != msg.Claimed {
			ids = append(ids, r.ID)
		}
	}
	if len(ids) == 0 {
		return false
	}
	b.Hold()
	select {
	case g.lookups <- struct{}{}:
	default:
		b.Answer(pdu.AppendHeader(nil, pdu.CancelSMResp, pdu.RTHROTTLED, p.Seq()))
		return true
	}
	p, service := bytes.Clone(p), string(c.ServiceType)
	go func() {
		defer func() { <-g.lookups }()
		cancelled := 0
		for _, id := range ids {
			if g.cancelOne(id, service) {
				cancelled++
			}
		}
		if cancelled == 0 {
			b.Pass(p)
			return
		}
		seq := p.Seq()
		answer := func(pdu.PDU, error) { b.Answer(pdu.AppendHeader(nil, pdu.CancelSMResp, pdu.ROK, seq)) }
		if err := b.Exchange(p, answer); err != nil {
			answer(nil, err)
		}
	}()
	return true
}

// cancelOne cancels a message, if it has that service_type; an empty one means
// any.
func (g *Gateway) cancelOne(id msg.ID, service string) bool {
	return (service == "" || g.ofService(id, service)) && g.takeBack(id)
}

// ofService tells whether a message has that service_type.
func (g *Gateway) ofService(id msg.ID, service string) bool {
	m, err := g.spool.Message(id)
	var sm pdu.SM
	return err == nil && sm.DecodeMessage(m.PDU) == nil && string(sm.ServiceType) == service
}

// takeBack cancels a message for its ESME, and tells whether nobody has it. It
// waits for the disk.
func (g *Gateway) takeBack(id msg.ID) bool {
	done := make(chan error, 1)
	g.spool.Post(spool.Event{ID: id, Kind: msg.EvCancel, Reason: msg.ReasonESME}, func(r spool.Result) { done <- r.Err })
	return <-done == nil
}

// replace answers a replace_sm: the message has a new text, unless the app or
// the carrier may have the old one. If the new one is not for the app, it goes
// by carrier.
func (g *Gateway) replace(b *upstream.Bind, p pdu.PDU, r *spool.Record) {
	seq := p.Seq()
	answer := func(s pdu.Status) { b.Answer(pdu.AppendHeader(nil, pdu.ReplaceSMResp, s, seq)) }
	var req pdu.Replace
	if req.Decode(p) != nil || !from(r, req.Source) {
		answer(pdu.RREPLACEFAIL)
		return
	}
	old, err := g.spool.Message(r.ID)
	if err != nil {
		answer(pdu.RSYSERR)
		return
	}
	m, reason, err := g.replaced(old, &req)
	if err != nil || reason != msg.NoReason && r.Hold == msg.HoldSchedule { // nothing sends an SMS before its hour
		answer(pdu.RREPLACEFAIL)
		return
	}
	g.spool.Post(spool.Event{ID: r.ID, Kind: msg.EvReplace, Reason: msg.ReasonESME, Replace: m}, func(res spool.Result) {
		if res.Err == nil && reason != msg.NoReason {
			g.spool.Post(spool.Event{ID: r.ID, Kind: msg.EvPushDead, Reason: reason}, nil)
		}
		answer(statusOf(res.Err, pdu.RREPLACEFAIL))
	})
}

var errNotReplaceable = errors.New("a replace_sm cannot say it")

// replaced is a message with what a replace_sm changes, and why its new text is
// not for the app, if so. Empty times and an empty message leave the old ones
// (SMPP v3.4 §4.10.1).
func (g *Gateway) replaced(old *spool.Message, req *pdu.Replace) (*spool.Message, msg.Reason, error) {
	var sm pdu.SM
	if pdu.PDU(old.PDU).ID() != pdu.SubmitSM || sm.Decode(old.PDU) != nil {
		return nil, 0, errNotReplaceable
	}
	if sm.ESMClass&esmUDHI != 0 || len(req.Schedule) > 0 || req.DefaultMsgID != 0 {
		return nil, 0, errNotReplaceable
	}
	m := *old
	payload, long := req.TLVs.Find(pdu.TagMessagePayload)
	if long && len(req.ShortMessage) > 0 {
		return nil, 0, errNotReplaceable
	}
	if long || len(req.ShortMessage) > 0 {
		sm.ShortMessage, sm.TLVs = req.ShortMessage, withoutPayload(sm.TLVs)
	}
	if long {
		sm.TLVs = pdu.AppendTLV(sm.TLVs, pdu.TagMessagePayload, payload)
	}
	sm.RegisteredDelivery, m.RegisteredDelivery = req.RegisteredDelivery, req.RegisteredDelivery
	if len(req.Validity) > 0 {
		t, err := pdu.Time(req.Validity, time.Now())
		if err != nil {
			return nil, 0, err
		}
		sm.Validity, m.ExpiresAt = req.Validity, t
	}
	m.PDU = pdu.AppendSM(nil, pdu.SubmitSM, 0, &sm)
	segment, reason := route.ReadSegment(&sm)
	if reason == msg.NoReason {
		text, err := segment.Text(coding.Alphabet(m.Alphabet))
		if reason = g.policy().Text(text, err); reason == msg.NoReason && !g.policy().ProvenLongAgo(text, m.To, time.Now()) {
			reason = msg.ReasonFreshProof
		}
	}
	return &m, reason, nil
}

// esmUDHI is the UDH indicator in esm_class (SMPP v3.4 §5.2.12).
const esmUDHI = 0x40

func withoutPayload(t pdu.TLVs) (left pdu.TLVs) {
	for tag, v := range t.All() {
		if tag != pdu.TagMessagePayload {
			left = pdu.AppendTLV(left, tag, v)
		}
	}
	return left
}
