package dispatch

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"shunt/gateway/msg"
	"shunt/store/registry"
	"shunt/store/spool"
)

// stuck is a registry that does not come back while it is held.
type stuck struct{ hold chan struct{} }

func (s stuck) Get(msg.Number) (registry.Registration, error) {
	<-s.hold
	return registry.Registration{}, registry.ErrNotFound
}

func (s stuck) Lookup(msg.Number) msg.Entry { return 0 }

func (s stuck) DropToken(context.Context, msg.Number, string, string, time.Time) (bool, error) {
	return false, nil
}

// A ping comes back from idle loops, and from none that stands still.
func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stuck{make(chan struct{})}
		f := &flaky{}
		f.set(func(spool.Event) error { return errDisk })
		d := New(Options{
			Apps: []App{{ID: "chat"}}, Carrier: newCarrier(), Registry: s, Spool: f, Log: slog.New(slog.DiscardHandler),
		})
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan struct{})
		go func() {
			d.Run(ctx)
			close(ran)
		}()
		ping := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			return d.Ping(ctx)
		}
		began := time.Now()
		for range 3 {
			if err := ping(); err != nil || time.Since(began) > 0 {
				t.Errorf("Ping() = %v after %v, want nil at once", err, time.Since(began))
			}
		}
		for i := range routers {
			d.push(spool.Record{ID: msg.ID{byte(i + 1)}, App: "chat", ClaimBy: time.Now().Add(time.Hour)})
		}
		synctest.Wait()
		if err := ping(); err == nil || !strings.Contains(err.Error(), "router of app chat") {
			t.Errorf("Ping() with routers that stand still = %v, want their name", err)
		}
		stop()
		close(s.hold)
		<-ran
	})
}
