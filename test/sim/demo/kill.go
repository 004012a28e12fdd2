package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"shunt/test/sim/books"
)

// Times between two kills: long enough for the ESMEs to bind again, short
// enough to hit every stage of a message's life.
const (
	killEarliest = 1500 * time.Millisecond
	killLatest   = 3500 * time.Millisecond
)

// pin writes the addresses that the gateway has chosen into its
// configuration, so that its next start has the same ones.
func (d *demo) pin(st status) error {
	b, err := os.ReadFile(d.path("shunt.toml"))
	if err != nil {
		return err
	}
	text := strings.Replace(string(b), `addr = "127.0.0.1:0"`, fmt.Sprintf("addr = %q", st.Listen[0]), 1)
	text = strings.Replace(text, `listen = "127.0.0.1:0"`, fmt.Sprintf("listen = %q", st.API[0]), 1)
	return os.WriteFile(d.path("shunt.toml"), []byte(text), 0o600)
}

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
		st, ok := d.ctl.status()
		if !ok {
			return errors.New("the gateway's control socket does not answer")
		}
		if err := d.gateway.cmd.Process.Signal(syscall.SIGKILL); err != nil {
			return err
		}
		<-d.gateway.done
		p, err := d.yard.run(fmt.Sprintf("shunt-%d", n+2), nil, d.o.Shunt, "run", "-c", d.path("shunt.toml"))
		if err != nil {
			return err
		}
		d.gateway = p
		if err := until(ctx, "the gateway after kill -9", p, func() bool {
			s, ok := d.ctl.status()
			return ok && s.ready()
		}); err != nil {
			return err
		}
		d.say("  kill -9 %d of %d: %d messages were in hand; serving again", n+1, d.o.Kills, st.Spool.LiveTotal)
	}
	return nil
}

// resubmitted are the messages with an SMS of unknown fate that the gateway
// says it sent again: of those, and only of those, two SMS are allowed. ids are
// those that the books show twice.
func (d *demo) resubmitted(r *books.Report) (map[string]bool, error) {
	all := make(map[string]bool)
	for _, f := range r.Faults {
		if f.Kind != books.Doubled || f.ID == "" {
			continue
		}
		resp, err := d.ctl.c.Get("http://noc/v1/trace/" + f.ID)
		if err != nil {
			return nil, err
		}
		var t struct {
			Messages []struct {
				Resubmits int `json:"resubmits"`
			} `json:"messages"`
		}
		err = json.NewDecoder(resp.Body).Decode(&t)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("trace of %s: %s: %w", f.ID, resp.Status, err)
		}
		if len(t.Messages) == 1 && t.Messages[0].Resubmits > 0 {
			all[f.ID] = true
		}
	}
	return all, nil
}
