package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"shunt/gateway/msg"
)

// A number that only an external registry knows has a registration here too,
// of devices with a Source: pushes, claims and a restart between the two find
// what they find of any other. The index marks it (msg.Entry.External), since
// it holds only as long as the external registry is asked again in time. All
// devices of a number have a source, or none has: what is put here goes first.

// External tells whether the registration is what an external registry has said.
func (r *Registration) External() bool { return len(r.Devices) > 0 && r.Devices[0].Source != "" }

// Told is a device as an external registry tells it.
type Told struct {
	Device, App, Token string
	Platform           Platform
	Sandbox, Active    bool
	BearerHash         [32]byte
	ProvenAt           time.Time // zero: not said
}

const (
	// seenEvery is how often the same answer again is written down, as evidence
	// that the device is there.
	seenEvery = 10 * time.Minute
	// absentFor is how long a device that was found inactive stays so, whatever the
	// external registry says.
	absentFor = 24 * time.Hour
)

// Tell makes n's registration what the external registry source says of it;
// without devices it ends. A number that is registered here stays as it is. An
// unchanged answer is written seldom. Errors wrap ErrInvalid, ErrBearerInUse or
// ErrTooManyApps.
func (r *Registry) Tell(ctx context.Context, n msg.Number, source string, told []Told) error {
	if err := checkTold(n, source, told); err != nil {
		return err
	}
	told = slices.Clone(told)
	_, err := r.submit(ctx, func(b *batch, req *request) error { return b.tell(req, n, source, told) })
	return err
}

// checkTold names the first thing that is outside its limits.
func checkTold(n msg.Number, source string, told []Told) error {
	if len(told) > MaxDevices {
		return fmt.Errorf("number %s: %w", n.Masked(), ErrTooManyDevices)
	}
	if len(told) > 0 && !isName(source) {
		return fmt.Errorf("number %s: source: %w: want %s", n.Masked(), ErrInvalid, nameWanted)
	}
	for i := range told {
		t := &told[i]
		p := Put{Number: n, App: t.App, Platform: t.Platform, Token: t.Token, Device: t.Device}
		if err := p.check(); err != nil {
			return err
		}
		twice := func(o Told) bool { return o.Device == t.Device || o.BearerHash == t.BearerHash }
		switch {
		case t.Device == "":
			return fmt.Errorf("number %s: device: %w: want %s", n.Masked(), ErrInvalid, nameWanted)
		case t.BearerHash == [32]byte{}:
			return fmt.Errorf("number %s: bearer: %w: want its SHA-256", n.Masked(), ErrInvalid)
		case slices.ContainsFunc(told[:i], twice):
			return fmt.Errorf("number %s: device %s: %w: its name or bearer is there twice", n.Masked(), t.Device, ErrInvalid)
		}
	}
	return nil
}

func (b *batch) tell(req *request, n msg.Number, source string, told []Told) error {
	old, err := b.load(n)
	if errors.Is(err, ErrCorrupt) {
		b.onBad(err)
		old, err = nil, nil
	}
	switch {
	case err != nil:
		return err
	case old == nil && len(told) == 0, old != nil && !old.External():
		return nil
	}
	s := step{request: req}
	r := b.clone(old, n)
	before := r.Devices
	r.Devices = make([]Device, 0, len(told))
	news := len(before) != len(told)
	for i := range told {
		was := Device{RegisteredAt: b.now, UpdatedAt: b.now, Features: AllFeatures}
		if j := slices.IndexFunc(before, func(d Device) bool { return d.ID == told[i].Device }); j >= 0 {
			was = before[j]
		}
		d := told[i].device(was, source, b.now)
		news = news || d != was
		r.Devices = append(r.Devices, d)
	}
	if !news {
		return nil
	}
	if err := b.rebind(&s, n, before, r.Devices); err != nil {
		return err
	}
	for i := range r.Devices {
		apart := step{request: req} // a step has room for one new app
		if err := b.intern(&apart, r.Devices[i].App); err != nil {
			return fmt.Errorf("app %q: %w", r.Devices[i].App, err)
		}
		if apart.app != "" {
			b.add(apart)
		}
	}
	b.store(s, r)
	return nil
}

// device is what a device becomes by an answer: what the answer does not speak
// of stays.
func (t *Told) device(was Device, source string, now time.Time) Device {
	d := was
	if d.Token != t.Token || d.Platform != t.Platform || d.Sandbox != t.Sandbox {
		d.UpdatedAt = now
	}
	d.ID, d.App, d.Platform, d.Token, d.Sandbox, d.Source = t.Device, t.App, t.Platform, t.Token, t.Sandbox, source
	d.BearerHash, d.Active = t.BearerHash, t.Active
	if t.BearerHash != was.BearerHash {
		d.Ownership = Ownership{} // somebody else, for all that is known
	}
	d.ProvenAt = cmp.Or(t.ProvenAt.UTC(), d.ProvenAt, now) // not the operator here vouches for it
	if away := now.Sub(d.SeenAt); away > seenEvery && (d.Presence != PresenceInactive || away > absentFor) || d.Presence == PresenceStale {
		d.SeenAt, d.Presence = now, PresenceActive
	}
	return d
}

// rebind gives the new devices of a number their bearers in place of the old
// ones'.
func (b *batch) rebind(s *step, n msg.Number, before, after []Device) error {
	for i := range after {
		hash := after[i].BearerHash
		if slices.ContainsFunc(before, func(d Device) bool { return d.BearerHash == hash || d.PreviousHash == hash }) {
			continue
		}
		taken, err := b.claimed(hash, owner{n, after[i].ID})
		if err != nil {
			return fmt.Errorf("number %s: look up bearer: %w", n.Masked(), err)
		}
		if taken {
			return fmt.Errorf("number %s: device %s: %w", n.Masked(), after[i].ID, ErrBearerInUse)
		}
	}
	for i := range before {
		b.dropOwners(s, &before[i])
	}
	for i := range after {
		b.setOwner(s, after[i].BearerHash, owner{n, after[i].ID})
		if after[i].PreviousHash != ([32]byte{}) {
			b.setOwner(s, after[i].PreviousHash, owner{n, after[i].ID})
		}
	}
	return nil
}

// takeOver takes what external registries have told off a number, of which a
// device is put here: but for that one, whose bearer stays.
func (b *batch) takeOver(s *step, r *Registration, id string) {
	if !r.External() {
		return
	}
	r.Devices = slices.DeleteFunc(r.Devices, func(d Device) bool {
		if d.ID != id {
			b.dropOwners(s, &d)
		}
		return d.ID != id
	})
	for i := range r.Devices {
		r.Devices[i].Source = ""
	}
}

// DropTold ends what external registries have told and is of no more use: of
// sources that keep refuses, and of what was not heard of since then. It gives
// how many numbers that were.
func (r *Registry) DropTold(ctx context.Context, since time.Time, keep func(source string) bool) (gone int, err error) {
	var after msg.Number
	for {
		regs, err := r.List(ctx, after, MaxList/10)
		if err != nil || len(regs) == 0 {
			return gone, err
		}
		after = regs[len(regs)-1].Number
		for i := range regs {
			reg := &regs[i]
			useful := func(d Device) bool { return keep(d.Source) && d.SeenAt.After(since) }
			if !reg.External() || slices.ContainsFunc(reg.Devices, useful) {
				continue
			}
			if err := r.Tell(ctx, reg.Number, "", nil); err != nil {
				return gone, err
			}
			gone++
		}
	}
}

// AppIndex is the index of an app, if it has one; see AppName.
func (r *Registry) AppIndex(name string) (uint16, bool) { return r.apps.index(name) }
