package gateway

import (
	"path/filepath"

	"shunt/gateway/cdr"
	"shunt/gateway/msg"
	"shunt/gateway/receipt"
	"shunt/gateway/upstream"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// openRecords opens the call detail records, before anything can end.
func (g *Gateway) openRecords() (err error) {
	c := &g.cfg.CDR
	g.records, err = cdr.New(cdr.Options{
		Dir: filepath.Join(g.cfg.Node.DataDir, "cdr"), Source: lateSpool{g}, Channel: receipt.Channel,
		MaxSize: int64(c.MaxSize), MaxAge: c.MaxAge, Retention: c.Retention, Forwarded: c.Forwarded,
		Sums: g.sums, Log: g.log,
	})
	return err
}

// sums are the verdicts by account, for the records.
func (g *Gateway) sums() []cdr.Sums {
	var all []cdr.Sums
	for id, v := range g.verdicts() {
		s := cdr.Sums{Account: id, Reasons: make(map[string]uint64)}
		for _, r := range msg.Reasons() {
			if n := v[r]; n > 0 {
				s.Reasons[r.String()] = n
			}
		}
		all = append(all, s)
	}
	return all
}

// forward counts why p goes to the SMSC, and records it where that is asked for.
func (g *Gateway) forward(b *upstream.Bind, p pdu.PDU, r msg.Reason) {
	b.Count(r)
	if g.records.Wanted() {
		g.record(b, p, r)
	}
}

// record records a forwarded submit; of a submit_multi each destination.
func (g *Gateway) record(b *upstream.Bind, p pdu.PDU, r msg.Reason) {
	var m pdu.SM
	if m.DecodeMessage(p) != nil {
		g.records.Forwarded(b.Account.SystemID, "", "", r)
		return
	}
	g.records.Forwarded(b.Account.SystemID, sender(m.Source), string(m.Dest.Addr), r)
}

func (s lateSpool) Outcomes(after uint64, limit int) ([]spool.Outcome, error) {
	return s.g.spool.Outcomes(after, limit)
}

func (s lateSpool) OutcomesTaken(seq uint64) error { return s.g.spool.OutcomesTaken(seq) }
