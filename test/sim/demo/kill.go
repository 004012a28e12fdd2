package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"shunt/test/sim/stage"
)

// Times between two kills: long enough for the ESMEs to bind again, short
// enough to hit every stage of a message's life.
const (
	killEarliest = 1500 * time.Millisecond
	killLatest   = 3500 * time.Millisecond
)

// killing kills the gateway and starts it again, as often as the options say,
// at times that the seed chooses. It ends early when done is closed: there is
// no load any more.
func (d *demo) killing(ctx context.Context, done <-chan struct{}) error {
	rng := rand.New(rand.NewPCG(d.o.Seed, 0x4b494c4c))
	for n := range d.o.Kills {
		wait := time.NewTimer(killEarliest + time.Duration(rng.Int64N(int64(killLatest-killEarliest))))
		select {
		case <-wait.C:
		case <-done:
			wait.Stop()
			return fmt.Errorf("the load was over after %d of %d kills: send more messages", n, d.o.Kills)
		case <-ctx.Done():
			wait.Stop()
			return context.Cause(ctx)
		}
		st, ok := d.ctl.Status()
		if !ok {
			return errors.New("the gateway's control socket does not answer")
		}
		d.gateway.Kill()
		p, err := d.yard.Run(fmt.Sprintf("shunt-%d", n+2), nil, d.o.Shunt, "run", "-c", d.conf.File())
		if err != nil {
			return err
		}
		d.gateway = p
		if err := stage.Until(ctx, "the gateway after kill -9", p, func() bool {
			s, ok := d.ctl.Status()
			return ok && s.Ready()
		}); err != nil {
			return err
		}
		d.say("  kill -9 %d of %d: %d messages were in hand; serving again", n+1, d.o.Kills, st.Spool.LiveTotal)
	}
	return nil
}
