package noc

import (
	"errors"
	"net/http"
	"strings"

	"shunt/gateway/msg"
	"shunt/gateway/number"
	"shunt/store/spool"
)

const (
	defaultTraces = 20
	maxTraces     = 200
)

// trace finds by Shunt's id, by the message_id that the ESME was given, or by
// number, in this order: eight digits may be both, and a "+" makes it a number.
func (s *Server) trace(_ http.ResponseWriter, r *http.Request) (any, error) {
	limit, err := limitOf(r, defaultTraces, maxTraces)
	if err != nil {
		return nil, err
	}
	all, err := FindTraces(s.o.Spool, s.o.Country(""), r.PathValue("what"), limit, unmask(r))
	return tracesBody{all}, err
}

// FindTraces finds one message by its id, or the last ones to a number, numbers
// masked unless they are to be clear. What is not there is a *Problem with
// status 404 or spool.ErrNotFound.
func FindTraces(s Spool, country number.Country, what string, limit int, clear bool) ([]Trace, error) {
	id, err := msg.ParseID(what)
	found := err == nil
	if !found && !strings.HasPrefix(what, "+") {
		id, found = s.Resolve(what)
	}
	if found {
		rec, err := s.Get(id)
		if err != nil {
			return nil, err
		}
		return tracesOf(s, []spool.Record{rec}, clear)
	}
	n, err := country.ParseKnown(what)
	if err != nil {
		return nil, problemf(http.StatusNotFound, CodeNotFound, "no message with this id, and it is no number: finished messages are kept for [retention] messages; a forwarded one is never stored")
	}
	recs, err := s.Recent(n, limit)
	if err != nil {
		return nil, err
	}
	if len(recs) == 0 {
		return nil, problemf(http.StatusNotFound, CodeNotFound, "no diverted message for %s: finished messages are kept for [retention] messages; a forwarded one is never stored", shown(n, clear))
	}
	return tracesOf(s, recs, clear)
}

func tracesOf(s Spool, recs []spool.Record, clear bool) ([]Trace, error) {
	out := make([]Trace, 0, len(recs))
	for i := range recs {
		steps, err := s.Trace(recs[i].ID)
		if err != nil && !errors.Is(err, spool.ErrNotFound) {
			return nil, err
		}
		out = append(out, traceOf(&recs[i], steps, clear))
	}
	return out, nil
}

func traceOf(r *spool.Record, steps []spool.Step, clear bool) Trace {
	t := Trace{
		ID: r.ID.String(), WireID: r.WireID, Number: shown(r.To, clear), From: sender(r.From, clear),
		Account: r.Account, App: r.App, Plan: r.Plan, State: r.State, Since: r.Since.UTC(),
		ReceivedAt: r.ReceivedAt.UTC(), ClaimBy: r.ClaimBy, ExpiresAt: r.ExpiresAt.UTC(), DoneAt: r.DoneAt,
		Device: r.Device, Read: r.Read, Prefer: r.Prefer.String(),
		SMSAttempts: int(r.SMSAttempts), Resubmits: int(r.Resubmits),
		Peer: r.Peer, SMSID: r.SMSID, SMSErr: r.SMSErr, ReceiptDue: r.ReceiptDue,
		Steps: make([]Step, 0, len(steps)),
	}
	if r.Part() {
		t.Letter, t.Part, t.Parts = r.Group.String(), int(r.Number), int(r.Total)
	}
	if !t.ClaimBy.IsZero() {
		t.ClaimBy = t.ClaimBy.UTC()
	}
	if !t.DoneAt.IsZero() {
		t.DoneAt = t.DoneAt.UTC()
	}
	for _, st := range steps {
		t.Steps = append(t.Steps, Step{At: st.At.UTC(), Event: st.Event, From: st.From, To: st.To, Reason: st.Reason, Detail: st.Detail})
	}
	return t
}

// sender masks a sender that is somebody's number, also a national one, and
// leaves names and short codes as they are.
func sender(from string, clear bool) string {
	digits := strings.TrimPrefix(from, "+")
	if clear || len(digits) < 7 || strings.Trim(digits, "0123456789") != "" {
		return from
	}
	return msg.Mask(from)
}
