//go:build interop

package interop

import (
	"strings"
	"testing"
)

// TestQueryBurst asks for three messages of ours again and again, without
// waiting for answers: each answer must be that message's, whatever comes behind
// the request. At most 30 are under way, since 64 look-ups may be.
func TestQueryBurst(t *testing.T) {
	s := set(t)
	o := &operations{
		T: t, scene: s, c: startESME(t, s),
		due: map[string][]string{}, receipts: map[[2]string]receipt{}, claims: map[[2]string]string{},
	}
	tails := map[string]string{} // by id: message_state and error_code
	var ids []string
	for _, cancelled := range []bool{false, true, false} {
		to, tail := claimingAPNs, "0200"
		if cancelled {
			to, tail = offlineFCM, "0400"
		}
		e := o.ours("submit_sm", with(basics(to), words{"short_message": "Where am I?"}))
		if cancelled {
			o.ask("cancel_sm", with(about(e.ID), dest(to)), 0)
		}
		o.told(e.ID)
		ids, tails[e.ID] = append(ids, e.ID), tail
	}
	wrong := 0
	for range 20 {
		asked := map[int]string{}
		for i := range 30 {
			asked[o.c.ask(t, "query_sm", about(ids[i%len(ids)]))] = ids[i%len(ids)]
		}
		for n, id := range asked {
			e := o.c.answer(t, n)
			if e.Status != 0 || !strings.HasSuffix(e.Back, tails[id]) {
				if wrong++; wrong <= 5 {
					t.Errorf("query_sm\nsent %s\ngot  %s\nwant its last two octets %s", e.Raw, e.Back, tails[id])
				}
			}
		}
	}
	t.Logf("%d of 600 answers were wrong, %d query_sm reached the SMSC", wrong, len(s.smsc.all("request")))
}
