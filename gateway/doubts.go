package gateway

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"shunt/gateway/msg"
	"shunt/gateway/resubmit"
	"shunt/store/spool"
)

// doubtAfterCrash is how long before the last thing that the spool knows an
// answer may have been under way when the run before this one was killed.
const doubtAfterCrash = 5 * time.Second

// restoreDoubts puts in doubt what the run before this one accepted last: it
// may have been killed before its answers were through, unless it has said that
// they were.
func (g *Gateway) restoreDoubts(now time.Time) error {
	if g.takeAnswered() {
		return nil
	}
	last, ok := g.spool.Newest()
	if !ok || now.Sub(last) > resubmit.Within {
		return nil
	}
	return g.spool.PutSince(last.Add(-doubtAfterCrash), func(m *spool.Message) {
		if r, err := g.spool.Get(m.ID); err != nil || r.State == msg.Cancelled {
			return
		}
		g.resubmits.Restore(resubmit.KeyOf(m.Account, m.PDU), m.WireID, now)
	})
}

// answeredFile is there while the node is down, if it stopped with no answer in
// doubt.
func (g *Gateway) answeredFile() string { return filepath.Join(g.cfg.Node.DataDir, "answered") }

// noteAnswered leaves that word for the next start.
func (g *Gateway) noteAnswered(now time.Time) {
	if g.resubmits.InDoubt(now) {
		return
	}
	if err := os.WriteFile(g.answeredFile(), nil, 0o600); err != nil {
		g.log.Warn("cannot note that all is answered: the next start takes a submit that comes again for the same one", "error", err)
	}
}

// takeAnswered takes the word of the run before this one, and tells whether
// there was one. It must be gone before this run can be killed.
func (g *Gateway) takeAnswered() bool {
	err := os.Remove(g.answeredFile())
	if err == nil {
		err = syncDir(g.cfg.Node.DataDir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.log.Warn("cannot read whether all was answered", "error", err)
	}
	return err == nil
}
