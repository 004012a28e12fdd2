package dispatch

import (
	"context"
	"errors"
	"sync"
	"time"

	"shunt/gateway/msg"
	"shunt/push"
	"shunt/store/registry"
	"shunt/store/spool"
)

func (d *Dispatcher) push(r spool.Record) { d.pushAfter(r, false) }

// pushAfter gives a message to its app's lanes; announced says that it was on a
// stream already.
func (d *Dispatcher) pushAfter(r spool.Record, announced bool) {
	if d.apps.add(r.App, arrival{r, announced}) {
		return
	}
	d.o.Spool.Post(spool.Event{ID: r.ID, Kind: msg.EvPushDead, Reason: msg.ReasonAppDown}, nil)
}

// job is a message on its way to its devices. They may be in several lanes:
// each takes its part by itself, and the last that is done posts what came of
// all of them.
type job struct {
	d *Dispatcher
	a *app
	r *spool.Record

	entry msg.Entry // of the number when its devices were read

	beginning, reading sync.Once
	begun              error
	body               string

	mu      sync.Mutex
	left    int         // parts that are not done
	verdict spool.Event // so far: EvPushDead until a provider has accepted
	unknown bool        // something is not known, so that the claim timer decides
	gone    bool        // a device was removed while it waited
}

// begin says, once, that the push has begun; nil: it may.
func (j *job) begin(ctx context.Context) error {
	j.beginning.Do(func() { j.begun = j.d.o.Spool.Do(ctx, spool.Event{ID: j.r.ID, Kind: msg.EvPushBegin}).Err })
	return j.begun
}

// text is what the push may carry of the message; "": nothing.
func (j *job) text() string {
	j.reading.Do(func() { j.body = j.d.textOf(j.a, j.r) })
	return j.body
}

// part is what one lane has to do of a job.
type part struct {
	*job
	lane    *lane
	devices []registry.Device
}

// route gives what is to be pushed to its lanes.
func (d *Dispatcher) route(ctx context.Context, a *app) {
	for {
		j, ok := a.jobs.next(ctx)
		if !ok {
			return
		}
		if j.r.ID.IsZero() {
			a.pings.answer()
			continue
		}
		handed := d.routeOne(ctx, a, &j)
		a.waiting.Add(-1)
		if !handed {
			a.finished()
		}
	}
}

// routeOne finds the devices of the number that have the app. They are read now
// and not at the decision: a token may have changed meanwhile. What has no lane
// that could take it goes by carrier at once. It tells whether lanes have it.
func (d *Dispatcher) routeOne(ctx context.Context, a *app, at *arrival) (handed bool) {
	r := &at.r
	if !d.o.Now().Before(r.ClaimBy) {
		return false // the claim timer has it
	}
	dead := spool.Event{ID: r.ID, Kind: msg.EvPushDead}
	if r.Part() && d.o.Letter != nil {
		reason, err := d.o.Letter(r.ID)
		if err != nil {
			d.o.Log.Error("long message cannot be read, falling back", "msg_id", r.ID.String(), "error", err)
			reason = msg.ReasonText
		}
		if reason != msg.NoReason {
			dead.Reason = reason
			d.o.Spool.Post(dead, nil)
			return false
		}
		if !at.announced && d.announce(r) {
			return false
		}
	}
	entry := d.o.Registry.Lookup(r.To) // before its devices: what changes between is read again
	devices, err := d.devices(a, r)
	if err != nil {
		d.o.Log.Error("registry cannot be read, falling back", "msg_id", r.ID.String(), "error", err)
	}
	j := &job{d: d, a: a, r: r, entry: entry, verdict: dead}
	j.verdict.Reason = msg.ReasonNoDevice
	now := d.o.Now()
	var parts [4]part // nearly always more than there are lanes
	open := parts[:0]
	for _, l := range a.lanes {
		mine := a.on(l, devices)
		if len(mine) == 0 {
			continue
		}
		if reason, detail := l.shut(now, r.ClaimBy); reason != msg.NoReason {
			j.verdict.Reason, j.verdict.Detail = reason, detail
			continue
		}
		open = append(open, part{j, l, mine})
	}
	if len(open) == 0 {
		d.o.Spool.Post(j.verdict, nil)
		return false
	}
	j.left = len(open)
	for _, p := range open {
		p.lane.add(p)
	}
	return true
}

// textOf is what a push of r carries of its text: nothing, unless the app's
// policy allows it and the message prefers coming twice to not coming at all. A
// text in a notification is read without a claim, so that the SMS comes too.
func (d *Dispatcher) textOf(a *app, r *spool.Record) string {
	if !a.text.Load() || r.Prefer != msg.PossibleDuplicate || d.o.Text == nil {
		return ""
	}
	text, err := d.o.Text(r.ID)
	if err != nil {
		d.o.Log.Warn("text cannot be read for the push, which is a doorbell", "msg_id", r.ID.String(), "error", err)
		return ""
	}
	return text
}

func (d *Dispatcher) pushWorker(ctx context.Context, l *lane) {
	for {
		p, ok := l.next(ctx)
		if !ok {
			return
		}
		begin := d.o.Now()
		if d.pushPart(ctx, l, p) {
			l.measure(d.o.Now().Sub(begin))
		}
		d.partDone(p.job)
	}
}

// pushPart pushes to the devices of one lane and tells whether it sent
// anything. An attempt that is under way when ctx ends is finished, its sender
// bounds it; none begins after that.
func (d *Dispatcher) pushPart(ctx context.Context, l *lane, p part) (sent bool) {
	if !d.o.Now().Before(p.r.ClaimBy) || p.begin(ctx) != nil {
		// The claim timer has it; or it was claimed or decided meanwhile; or the
		// spool cannot write: the timer stays.
		p.note(l, push.Result{Outcome: push.Unknown})
		return false
	}
	for _, dev := range p.devices {
		if ctx.Err() != nil {
			p.note(l, push.Result{Outcome: push.Unknown}) // the next start pushes to it
			break
		}
		now, err := d.still(l, p.job, &dev)
		if err != nil {
			d.o.Log.Error("registry cannot be read, the claim timer decides", "msg_id", p.r.ID.String(), "error", err)
			p.note(l, push.Result{Outcome: push.Unknown})
			continue
		}
		if now == nil {
			p.removed()
			continue
		}
		res, n := d.send(ctx, l, p, now)
		sent = sent || n > 0
		p.note(l, res)
	}
	return sent
}

// still is a device as it is now, just before its push: it may have waited in
// the lane. nil if it is the number's no more, or may not be pushed to.
func (d *Dispatcher) still(l *lane, j *job, dev *registry.Device) (*registry.Device, error) {
	if d.o.Registry.Lookup(j.r.To) == j.entry {
		return dev, nil
	}
	devices, err := d.devices(j.a, j.r)
	if err != nil {
		return nil, err
	}
	for i := range devices {
		if now := &devices[i]; now.ID == dev.ID && j.a.lane(now) == l {
			return now, nil
		}
	}
	return nil, nil //nolint:nilnil // it is gone, which is no fault
}

// removed notes that a device was gone before its push.
func (j *job) removed() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.gone = true
}

// note takes what came of one device.
func (j *job) note(l *lane, res push.Result) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch res.Outcome {
	case push.Accepted:
		j.verdict.Kind, j.verdict.Reason, j.verdict.Detail = msg.EvPushAccepted, msg.NoReason, l.env.platform.String()
	case push.Unknown:
		j.unknown = true
	default:
		if j.verdict.Kind != msg.EvPushAccepted {
			j.verdict.Reason, j.verdict.Detail = reasonOf(res), res.Reason
		}
	}
}

// partDone posts the verdict once all lanes are done. A time-out is unknown,
// never failed: the claim timer decides.
func (d *Dispatcher) partDone(j *job) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.left--
	if j.left > 0 {
		return
	}
	switch accepted := j.verdict.Kind == msg.EvPushAccepted; {
	case !accepted && j.unknown:
	case !accepted && j.gone:
		d.pushAfter(*j.r, true) // to the devices that the number has now, if any
	default:
		d.o.Spool.Post(j.verdict, nil)
	}
	j.a.finished()
}

func (d *Dispatcher) devices(a *app, r *spool.Record) ([]registry.Device, error) {
	reg, err := d.o.Registry.Get(r.To)
	if err != nil {
		if errors.Is(err, registry.ErrNotFound) {
			err = nil
		}
		return nil, err
	}
	var use []registry.Device
	for _, dev := range reg.Devices {
		if dev.App == r.App && dev.Usable() && a.lane(&dev) != nil {
			use = append(use, dev)
		}
	}
	return use, nil
}

// send makes one attempt, and a second one with the same collapse id when the
// first had no answer and the sender has not repeated it. It tells how many
// were made.
func (d *Dispatcher) send(stop context.Context, l *lane, p part, dev *registry.Device) (res push.Result, sent int) {
	r := p.r
	ctx := context.WithoutCancel(stop)
	n := push.Notification{
		ID: r.ID.String(), From: r.From, Token: dev.Token, Sandbox: l.env.sandbox, Expires: r.ClaimBy, Body: p.text(),
	}
	for sent < 2 {
		tried, ok := d.try(ctx, l, n)
		if ok || sent == 0 {
			res = tried // else the breaker opened meanwhile: the first attempt is as unknown as before
		}
		if !ok {
			break
		}
		sent++
		d.Counters.Pushes[int(res.Outcome)%numOutcomes].Add(1)
		if res.Outcome != push.Unknown || res.Repeated || stop.Err() != nil || !d.o.Now().Add(time.Second).Before(r.ClaimBy) {
			break
		}
	}
	if res.BodyLeft {
		d.Counters.BodiesLeft.Add(1)
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
	return res, sent
}

func reasonOf(r push.Result) msg.Reason {
	switch {
	case r.Outcome == push.TokenDead:
		return msg.ReasonTokenDead
	case r.Outcome == push.Busy && r.Reason == push.LaneFull:
		return msg.ReasonLaneFull
	case r.Outcome == push.Busy:
		return msg.ReasonProviderBusy
	}
	return msg.ReasonRejected
}
