package gateway

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"shunt/gateway/letter"
	"shunt/gateway/msg"
	"shunt/gateway/route"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// letters are the long messages of which parts are still to come. Their plan
// is the first part's.
type letters = letter.Table[*route.Plan]

// divertPart takes a part of a long message the way of its first part: held,
// on stable storage and answered, or to the SMSC. It never waits for another
// part.
func (g *Gateway) divertPart(s *submission, p pdu.PDU, part *coding.Segment) bool {
	key := letter.KeyOf(s.bind.Account, s.m, part)
	v := route.Verdict{Reason: msg.ReasonLongMessage}
	path := g.letters.Part(key, part.Part.Number, part.Body, s.at, s.at.Add(route.HoldFor), func() letter.Path[*route.Plan] {
		if v = g.judge(s); !v.Divert {
			return letter.Path[*route.Plan]{}
		}
		return letter.Path[*route.Plan]{Group: g.spool.NewID(), Plan: v.Plan}
	})
	if !path.App() {
		g.forward(s.bind, p, v.Reason)
		return false
	}
	first := v.Divert
	if !first {
		v = g.policy().Schedule(path.Plan, s.m, s.at)
		v.Alphabet, _ = route.AlphabetOf(s.m.DataCoding, part.Body, accountOf(s.bind))
	}
	if !v.Divert { // too short a validity, say
		g.giveUp(key, path.Group)
		g.forward(s.bind, p, v.Reason)
		return false
	}
	m := g.message(s, &v, p)
	if first {
		m.ID = path.Group
		m.WireID = g.wireID(s.bind, m.ID)
	}
	m.Group, m.Number, m.Total, m.HoldBy = path.Group, part.Part.Number, part.Part.Total, v.HoldBy
	g.spoolIt(s.bind, p, m, func() { g.giveUp(key, path.Group) })
	return true
}

// giveUp sends a long message the carrier's way: the parts that are held, and
// those that are to come. A part of it goes there already.
func (g *Gateway) giveUp(key letter.Key, group msg.ID) {
	g.letters.Carrier(key, group, time.Now())
	g.spool.Post(spool.Event{ID: group, Kind: msg.EvHoldDeadline, Reason: msg.ReasonIncomplete}, nil)
}

// resumePart lets the rest of a long message find its way again after a start.
func (g *Gateway) resumePart(r *spool.Record) error {
	m, err := g.spool.Message(r.ID)
	if err != nil {
		return err
	}
	var sm pdu.SM
	if err := sm.DecodeMessage(m.PDU); err != nil {
		return err
	}
	part, reason := route.ReadSegment(&sm)
	if reason != msg.NoReason || part.Form == coding.Whole {
		return fmt.Errorf("no part of a long message: %s", reason)
	}
	plan := g.policy().PlanOf(&route.Account{SystemID: r.Account.SystemID}, &sm, r.To, msg.ContentUnknown, r.ReceivedAt)
	g.letters.Resume(letter.KeyOf(r.Account, &sm, &part), part.Part.Number, part.Body, r.ClaimBy,
		letter.Path[*route.Plan]{Group: r.Group, Plan: plan})
	return nil
}

// judgeLetter judges a long message that is complete, as the decision judges
// any other text. The hours of a plan are those of the part that came first.
func (g *Gateway) judgeLetter(lead msg.ID) (msg.Reason, error) {
	parts, err := g.spool.Messages(lead)
	if err != nil {
		return msg.NoReason, err
	}
	var first pdu.SM
	if err := first.DecodeMessage(parts[0].PDU); err != nil {
		return msg.NoReason, err
	}
	at := parts[0].ReceivedAt
	for _, p := range parts {
		if p.ReceivedAt.Before(at) {
			at = p.ReceivedAt
		}
	}
	text, err := textOf(parts)
	acc := &route.Account{SystemID: parts[0].Account.SystemID}
	return g.policy().Letter(acc, &first, parts[0].To, at, text, err), nil
}

// textOfMessage is the text for a push that may carry it.
func (g *Gateway) textOfMessage(id msg.ID) (string, error) {
	parts, err := g.spool.Messages(id)
	if err != nil {
		return "", err
	}
	return textOf(parts)
}

// textOf is the text of a spooled message, all its parts, for the app that
// claimed it.
func textOf(parts []*spool.Message) (string, error) {
	segments := make([]coding.Segment, len(parts))
	alphabets := make([]coding.Alphabet, len(parts))
	mixed := false
	for i, p := range parts {
		var m pdu.SM
		if err := m.DecodeMessage(p.PDU); err != nil {
			return "", err
		}
		s, reason := route.ReadSegment(&m)
		if reason != msg.NoReason {
			return "", errors.New(reason.String())
		}
		segments[i], alphabets[i] = s, coding.Alphabet(p.Alphabet)
		mixed = mixed || alphabets[i] != alphabets[0]
	}
	if !mixed {
		return coding.Join(alphabets[0], segments)
	}
	return joinMixed(alphabets, segments)
}

// joinMixed reads parts of which each has an alphabet of its own, as some
// ESMEs choose them: no character can then be cut in two.
func joinMixed(alphabets []coding.Alphabet, parts []coding.Segment) (string, error) {
	var text strings.Builder
	for i, p := range parts {
		if int(p.Part.Number) != i+1 || int(p.Part.Total) != len(parts) {
			return "", fmt.Errorf("part %d of %d is missing", i+1, p.Part.Total)
		}
		t, err := p.Text(alphabets[i])
		if err != nil {
			return "", fmt.Errorf("part %d of %d: %w", i+1, len(parts), err)
		}
		text.WriteString(t)
	}
	return text.String(), nil
}
