package dispatch

import (
	"context"
	"errors"
	"time"

	"shunt/gateway/msg"
	"shunt/push"
	"shunt/store/registry"
	"shunt/store/spool"
)

func (d *Dispatcher) push(r spool.Record) {
	if l := d.apps[r.App]; l != nil {
		l.jobs.add(r)
		return
	}
	d.o.Spool.Post(spool.Event{ID: r.ID, Kind: msg.EvPushDead, Reason: msg.ReasonAppDown}, nil)
}

func (d *Dispatcher) pushWorker(ctx context.Context, l *lane) {
	for {
		r, ok := l.jobs.next(ctx)
		if !ok {
			return
		}
		d.pushOne(ctx, l, r)
	}
}

// pushOne pushes to every device of the number that has the app. The devices
// are read now and not at the decision: a token may have changed meanwhile. An
// attempt that is under way when ctx ends is finished, its sender bounds it;
// none begins after that.
func (d *Dispatcher) pushOne(ctx context.Context, l *lane, r spool.Record) {
	if !d.o.Now().Before(r.ClaimBy) {
		return // the claim timer has it
	}
	if r.Part() && d.o.Letter != nil {
		reason, err := d.o.Letter(r.ID)
		if err != nil {
			d.o.Log.Error("long message cannot be read, falling back", "msg_id", r.ID.String(), "error", err)
			reason = msg.ReasonText
		}
		if reason != msg.NoReason {
			d.o.Spool.Post(spool.Event{ID: r.ID, Kind: msg.EvPushDead, Reason: reason}, nil)
			return
		}
	}
	devices, err := d.devices(l, &r)
	if err != nil {
		d.o.Log.Error("registry cannot be read, falling back", "msg_id", r.ID.String(), "error", err)
	}
	if len(devices) == 0 {
		d.o.Spool.Post(spool.Event{ID: r.ID, Kind: msg.EvPushDead, Reason: msg.ReasonNoDevice}, nil)
		return
	}
	if d.o.Spool.Do(ctx, spool.Event{ID: r.ID, Kind: msg.EvPushBegin}).Err != nil {
		return // claimed or decided meanwhile, or the spool cannot write: the timer stays
	}
	verdict := spool.Event{ID: r.ID, Kind: msg.EvPushDead}
	unknown := false
	for _, dev := range devices {
		if ctx.Err() != nil {
			unknown = true // the next start pushes to it
			break
		}
		res := d.send(ctx, l, &r, dev)
		switch res.Outcome {
		case push.Accepted:
			verdict.Kind, verdict.Reason, verdict.Detail = msg.EvPushAccepted, msg.NoReason, dev.Platform.String()
		case push.Unknown:
			unknown = true
		default:
			if verdict.Kind != msg.EvPushAccepted {
				verdict.Reason, verdict.Detail = reasonOf(res.Outcome), res.Reason
			}
		}
	}
	if verdict.Kind == msg.EvPushDead && unknown {
		return // a time-out is unknown, never failed: the claim timer decides
	}
	d.o.Spool.Post(verdict, nil)
}

func (d *Dispatcher) devices(l *lane, r *spool.Record) ([]registry.Device, error) {
	reg, err := d.o.Registry.Get(r.To)
	if err != nil {
		if errors.Is(err, registry.ErrNotFound) {
			err = nil
		}
		return nil, err
	}
	var use []registry.Device
	for _, dev := range reg.Devices {
		if dev.App == r.App && dev.Active && l.app.Senders[dev.Platform] != nil {
			use = append(use, dev)
		}
	}
	return use, nil
}

// send makes one attempt, and a second one with the same collapse id when the
// first had no answer.
func (d *Dispatcher) send(stop context.Context, l *lane, r *spool.Record, dev registry.Device) push.Result {
	ctx := context.WithoutCancel(stop)
	n := push.Notification{ID: r.ID.String(), From: r.From, Token: dev.Token, Sandbox: dev.Sandbox, Expires: r.ClaimBy}
	var res push.Result
	for range 2 {
		var sent bool
		if res, sent = d.try(ctx, l, dev, n); !sent {
			break
		}
		d.Counters.Pushes[int(res.Outcome)%numOutcomes].Add(1)
		if res.Outcome != push.Unknown || stop.Err() != nil || !d.o.Now().Add(time.Second).Before(r.ClaimBy) {
			break
		}
	}
	switch res.Outcome {
	case push.TokenDead:
		dropped, err := d.o.Registry.DropToken(ctx, r.To, dev.ID, dev.Token, res.DeadSince)
		if err != nil {
			d.o.Log.Error("dead token not dropped", "number", r.To.Masked(), "device", dev.ID, "error", err)
		}
		if dropped {
			d.Counters.TokensDropped.Add(1)
			d.o.Log.Info("dead token dropped", "number", r.To.Masked(), "device", dev.ID, "app", r.App, "provider", dev.Platform.String(), "reason", res.Reason)
		}
	case push.Rejected, push.Denied:
		d.o.Log.Warn("provider refuses pushes of this app; check its key, topic and project", "app", r.App,
			"provider", dev.Platform.String(), "msg_id", r.ID.String(), "reason", res.Reason)
	}
	return res
}

func reasonOf(o push.Outcome) msg.Reason {
	switch o {
	case push.TokenDead:
		return msg.ReasonTokenDead
	case push.Busy:
		return msg.ReasonProviderBusy
	}
	return msg.ReasonRejected
}
