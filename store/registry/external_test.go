package registry

import (
	"crypto/sha256"
	"errors"
	"testing"
	"time"
)

func told(device, bearer string) Told {
	return Told{Device: device, App: "chat", Platform: APNs, Token: "t-" + device, Active: true, BearerHash: sha256.Sum256([]byte(bearer))}
}

const (
	bearerOne = "bearer-of-number-one"
	bearerTwo = "bearer-of-number-two"
)

// TestTell: what an external registry tells is found like any registration,
// marked, also after a restart, until it says otherwise.
func TestTell(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	dir := t.TempDir()
	open := func() *Registry {
		r, err := Open(Options{Dir: dir, Now: func() time.Time { return now }})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.WaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := open()
	defer func() { r.Close() }()
	tell := func(source string, all ...Told) {
		t.Helper()
		if err := r.Tell(t.Context(), testNumber, source, all); err != nil {
			t.Fatalf("Tell(%s, %v) = %v", source, all, err)
		}
	}
	owned := func(what, bearer string, want error) {
		t.Helper()
		n, _, err := r.ByBearer(bearer)
		if !errors.Is(err, want) || want == nil && n != testNumber {
			t.Errorf("%s: ByBearer() = %v, %v, want error %v", what, n, err, want)
		}
	}
	two := told("b", bearerTwo)
	two.App = "other" // two apps that are both new here
	tell("reg", told("a", bearerOne), two)
	for _, when := range []string{"at once", "after a restart"} {
		e := r.Lookup(testNumber)
		if !e.Active() || !e.External() || r.AppName(e.App()) != "chat" {
			t.Errorf("%s: Lookup() = %#x: registered %t, external %t, app %q", when, e, e.Registered(), e.External(), r.AppName(e.App()))
		}
		owned(when, bearerOne, nil)
		owned(when, bearerTwo, nil)
		reg, err := r.Get(testNumber)
		if err != nil || len(reg.Devices) != 2 || reg.Devices[0].Source != "reg" || !reg.Devices[0].ProvenAt.Equal(now) {
			t.Errorf("%s: Get() = %+v, %v", when, reg, err)
		}
		if when == "at once" {
			r.Close()
			r = open()
		}
	}

	// The same again is not written; ten minutes later it is evidence.
	generation := func() uint32 { return r.Lookup(testNumber).Generation() }
	g := generation()
	tell("reg", told("a", bearerOne), two)
	if generation() != g {
		t.Error("an unchanged answer was written")
	}
	now = now.Add(seenEvery + time.Second)
	tell("reg", told("a", bearerOne), two)
	if reg, _ := r.Get(testNumber); generation() == g || !reg.Devices[0].SeenAt.Equal(now) {
		t.Errorf("ten minutes later: generation %d of %d, seen at %v", generation(), g, reg.Devices[0].SeenAt)
	}

	// The second device is gone, and the first has another bearer.
	tell("reg", told("a", "another-bearer-altogether"))
	owned("gone", bearerTwo, ErrNotFound)
	owned("replaced", bearerOne, ErrNotFound)
	owned("new", "another-bearer-altogether", nil)
	tell("", nil...)
	if e := r.Lookup(testNumber); e.Registered() {
		t.Errorf("after an empty answer: %#x", e)
	}
	owned("ended", "another-bearer-altogether", ErrNotFound)
}

// TestTellGivesWay: what is put here goes first, and no external registry gets
// at it or at its bearers.
func TestTellGivesWay(t *testing.T) {
	r := start(t, Options{Dir: t.TempDir()})
	ctx := t.Context()
	if err := r.Tell(ctx, testNumber, "reg", []Told{told("a", bearerOne), told("b", bearerTwo)}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Put(ctx, Put{Number: testNumber, App: "chat", Platform: APNs, Token: "mine", Device: "a", Active: true}); err != nil {
		t.Fatal(err)
	}
	reg, err := r.Get(testNumber)
	if err != nil || len(reg.Devices) != 1 || reg.External() || r.Lookup(testNumber).External() || reg.Devices[0].Token != "mine" {
		t.Fatalf("after a put: %+v, %v, want the one device that was put", reg, err)
	}
	if _, _, err := r.ByBearer(bearerTwo); !errors.Is(err, ErrNotFound) {
		t.Errorf("the device that was not put: ByBearer() = %v", err)
	}
	for _, all := range [][]Told{nil, {told("x", "a-bearer-of-somebody-else")}} {
		if err := r.Tell(ctx, testNumber, "reg", all); err != nil {
			t.Errorf("Tell(%d devices) = %v", len(all), err)
		}
	}
	if again, _ := r.Get(testNumber); again.Generation != reg.Generation {
		t.Errorf("an external registry has changed what is put here: %+v", again)
	}
	if err := r.Tell(ctx, testNumber+1, "reg", []Told{told("y", bearerOne)}); !errors.Is(err, ErrBearerInUse) {
		t.Errorf("Tell(with the bearer of a device here) = %v, want ErrBearerInUse", err)
	}
	if r.Lookup(testNumber + 1).Registered() {
		t.Error("it is registered all the same")
	}
}

func TestTellRefuses(t *testing.T) {
	r := start(t, Options{Dir: t.TempDir()})
	long := make([]Told, MaxDevices+1)
	for i := range long {
		long[i] = told(string(rune('a'+i)), bearerOne+string(rune('a'+i)))
	}
	bad := func(change func(*Told)) []Told {
		v := told("a", bearerOne)
		change(&v)
		return []Told{v}
	}
	for name, c := range map[string]struct {
		source string
		all    []Told
	}{
		"too many":      {"reg", long},
		"no source":     {"", long[:1]},
		"no device":     {"reg", bad(func(v *Told) { v.Device = "" })},
		"no bearer":     {"reg", bad(func(v *Told) { v.BearerHash = [32]byte{} })},
		"no app":        {"reg", bad(func(v *Told) { v.App = "" })},
		"control":       {"reg", bad(func(v *Told) { v.Token = "a\nb" })},
		"device twice":  {"reg", []Told{told("a", bearerOne), told("a", bearerTwo)}},
		"bearer twice":  {"reg", []Told{told("a", bearerOne), told("b", bearerOne)}},
		"platform none": {"reg", bad(func(v *Told) { v.Platform = 0 })},
	} {
		if err := r.Tell(t.Context(), testNumber, c.source, c.all); err == nil || r.Lookup(testNumber).Registered() {
			t.Errorf("%s: Tell() = %v, registered %t", name, err, r.Lookup(testNumber).Registered())
		}
	}
}

// TestDropTold: what nobody was told of for long, or what a source told that is
// asked no more, goes; what is put here stays.
func TestDropTold(t *testing.T) {
	r := start(t, Options{Dir: t.TempDir()})
	ctx := t.Context()
	if err := r.Tell(ctx, testNumber, "reg", []Told{told("a", bearerOne)}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Put(ctx, Put{Number: testNumber + 1, App: "chat", Platform: APNs, Token: "t", Active: true}); err != nil {
		t.Fatal(err)
	}
	hour := time.Hour
	for _, c := range []struct {
		since time.Time
		keep  bool
		want  int
	}{{time.Now().Add(-hour), true, 0}, {time.Now().Add(hour), true, 1}, {time.Now().Add(hour), true, 0}} {
		gone, err := r.DropTold(ctx, c.since, func(s string) bool { return c.keep && s == "reg" })
		if err != nil || gone != c.want {
			t.Errorf("DropTold() = %d, %v, want %d", gone, err, c.want)
		}
	}
	if err := r.Tell(ctx, testNumber, "old", []Told{told("a", bearerOne)}); err != nil {
		t.Fatal(err)
	}
	if gone, err := r.DropTold(ctx, time.Time{}, func(s string) bool { return s == "reg" }); gone != 1 || err != nil {
		t.Errorf("DropTold(of a source that is asked no more) = %d, %v", gone, err)
	}
	if got := r.Count().Numbers; got != 1 || !r.Lookup(testNumber+1).Registered() {
		t.Errorf("%d numbers are left, want the one that was put", got)
	}
}

// A device that was found inactive stays so for a day, and one that is stale is
// not: the answer is evidence.
func TestTellAndPresence(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d := Device{ID: "a", SeenAt: now.Add(-time.Hour), Presence: PresenceInactive}
	v := told("a", bearerOne)
	for _, c := range []struct {
		after time.Duration
		was   Presence
		want  Presence
	}{{0, PresenceInactive, PresenceInactive}, {absentFor, PresenceInactive, PresenceActive}, {0, PresenceStale, PresenceActive}} {
		d.Presence = c.was
		if got := v.device(d, "reg", now.Add(c.after)).Presence; got != c.want {
			t.Errorf("%s, an answer %s later: %s, want %s", c.was, c.after, got, c.want)
		}
	}
}
