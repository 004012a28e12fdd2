package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
	"shunt/store"
)

// clock is a time that tests set; it is read by the committer.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// start opens a registry with a complete index, and closes it with the test.
func start(t testing.TB, o Options) *Registry {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	r, err := Open(o)
	if err != nil {
		t.Fatalf("Open(%+v) = %v", o, err)
	}
	t.Cleanup(func() { stop(t, r) })
	if err := r.WaitReady(t.Context()); err != nil {
		t.Fatalf("WaitReady() = %v", err)
	}
	return r
}

func stop(t testing.TB, r *Registry) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Errorf("Close() = %v", err)
	}
}

func mustPut(t *testing.T, r *Registry, p Put) PutResult {
	t.Helper()
	res, err := r.Put(t.Context(), p)
	if err != nil {
		t.Fatalf("Put(%s, %s) = %v", p.Number.Masked(), p.Device, err)
	}
	return res
}

func mustGet(t *testing.T, r *Registry, n msg.Number) Registration {
	t.Helper()
	reg, err := r.Get(n)
	if err != nil {
		t.Fatalf("Get(%s) = %v", n.Masked(), err)
	}
	return reg
}

// samplePut is a valid Put of an active device.
func samplePut(n msg.Number, device string) Put {
	return Put{Number: n, App: "chat", Platform: APNs, Token: "token-" + device, Device: device, Active: true}
}

func TestPutGetLookup(t *testing.T) {
	c := newClock()
	r := start(t, Options{Now: c.Now})
	if got := r.Lookup(testNumber); got != 0 {
		t.Errorf("Lookup before any put = %#x, want 0", got)
	}
	if _, err := r.Get(testNumber); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get before any put = %v, want %v", err, ErrNotFound)
	}
	p := samplePut(testNumber, "d1")
	p.Bearer, p.Sandbox = "a-bearer-of-the-test", true
	res := mustPut(t, r, p)
	want := Registration{Number: testNumber, Generation: uint32(c.Now().Unix()), Devices: []Device{{
		ID: "d1", App: "chat", Platform: APNs, Token: "token-d1", Sandbox: true, Active: true,
		BearerHash: sha256.Sum256([]byte(p.Bearer)), RegisteredAt: c.Now(), UpdatedAt: c.Now(), SeenAt: c.Now(), Features: AllFeatures,
	}}}
	if d := cmp.Diff(PutResult{Registration: want, Device: "d1", Bearer: p.Bearer}, res); d != "" {
		t.Errorf("Put: -want +got\n%s", d)
	}
	if d := cmp.Diff(want, mustGet(t, r, testNumber)); d != "" {
		t.Errorf("Get: -want +got\n%s", d)
	}
	e := r.Lookup(testNumber)
	if !e.Registered() || !e.Active() || e.Generation() != want.Generation || r.AppName(e.App()) != "chat" {
		t.Errorf("Lookup = %#x, app %q, want active, generation %d, app chat", e, r.AppName(e.App()), want.Generation)
	}
	if got := r.Lookup(testNumber + 1); got != 0 {
		t.Errorf("Lookup(the next number) = %#x, want 0", got)
	}
	if got := r.AppName(77); got != "" {
		t.Errorf("AppName(never given) = %q, want none", got)
	}
	if r.IndexBytes() <= 0 {
		t.Errorf("IndexBytes() = %d, want some", r.IndexBytes())
	}
}

func TestPutAgainReplaces(t *testing.T) {
	c := newClock()
	r := start(t, Options{Now: c.Now})
	first := mustPut(t, r, samplePut(testNumber, "d1"))
	born := c.Now()
	if len(first.Bearer) != 43 {
		t.Errorf("generated bearer has %d characters, want 43 (256 bits in base64url)", len(first.Bearer))
	}

	c.advance(time.Minute)
	p := samplePut(testNumber, "d1")
	p.Token, p.Platform, p.App, p.Active = "new", FCM, "shop", false
	second := mustPut(t, r, p)
	if second.Bearer != "" {
		t.Errorf("second put without a bearer returned one, want none: the device keeps its own")
	}
	want := Registration{Number: testNumber, Generation: first.Registration.Generation + 1, Devices: []Device{{
		ID: "d1", App: "shop", Platform: FCM, Token: "new", BearerHash: sha256.Sum256([]byte(first.Bearer)),
		RegisteredAt: born, UpdatedAt: c.Now(), SeenAt: c.Now(), Features: AllFeatures,
	}}}
	if d := cmp.Diff(want, mustGet(t, r, testNumber)); d != "" {
		t.Errorf("Get after the second put: -want +got\n%s", d)
	}
	if e := r.Lookup(testNumber); !e.Registered() || e.Active() || r.AppName(e.App()) != "shop" {
		t.Errorf("Lookup = %#x, want registered, inactive, app shop", e)
	}
	if n, d, err := r.ByBearer(first.Bearer); err != nil || n != testNumber || d.Token != "new" {
		t.Errorf("ByBearer(kept) = %s, %+v, %v, want the device with its new token", n.Masked(), d, err)
	}

	p.Bearer = "another-bearer-0123"
	mustPut(t, r, p)
	if _, _, err := r.ByBearer(first.Bearer); !errors.Is(err, ErrNotFound) {
		t.Errorf("ByBearer(replaced) = %v, want %v", err, ErrNotFound)
	}
	if n, _, err := r.ByBearer(p.Bearer); err != nil || n != testNumber {
		t.Errorf("ByBearer(new) = %s, %v, want the number", n.Masked(), err)
	}
	if got, want := r.Count(), (Count{Numbers: 1, Devices: 1}); got != want {
		t.Errorf("Count() = %+v, want %+v", got, want)
	}
}

func TestGeneratedDevice(t *testing.T) {
	r := start(t, Options{})
	p := samplePut(testNumber, "")
	p.Token = "tok"
	a, b := mustPut(t, r, p), mustPut(t, r, p)
	if len(a.Device) != 16 || strings.Trim(a.Device, "0123456789abcdef") != "" || a.Device == b.Device {
		t.Errorf("generated devices %q and %q, want two of 16 hex digits", a.Device, b.Device)
	}
	if a.Bearer == b.Bearer {
		t.Error("two devices got the same bearer")
	}
	if got, want := r.Count(), (Count{Numbers: 1, Active: 1, Devices: 2}); got != want {
		t.Errorf("Count() = %+v, want %+v", got, want)
	}
}

func TestBearerBelongsToOne(t *testing.T) {
	r := start(t, Options{})
	const bearer = "one-bearer-for-one-device"
	p := samplePut(testNumber, "d1")
	p.Bearer = bearer
	mustPut(t, r, p)
	q := samplePut(testNumber+1, "d1")
	q.Bearer = bearer
	if _, err := r.Put(t.Context(), q); !errors.Is(err, ErrBearerInUse) || strings.Contains(err.Error(), bearer) {
		t.Errorf("Put(another's bearer) = %v, want %v without the bearer", err, ErrBearerInUse)
	}
	if e := r.Lookup(q.Number); e != 0 {
		t.Errorf("Lookup after the refusal = %#x, want 0", e)
	}
	// Within one commit the first must be seen as well.
	x, y := samplePut(testNumber+2, "d"), samplePut(testNumber+3, "d")
	x.Bearer, y.Bearer = "shared-by-two-puts", "shared-by-two-puts"
	res, err := r.PutAll(t.Context(), []Put{x, y})
	if !errors.Is(err, ErrBearerInUse) || len(res) != 1 || !strings.HasPrefix(err.Error(), "put 2 of 2:") {
		t.Errorf("PutAll(two puts of one bearer) = %d results, %v, want 1 and %v for put 2 of 2", len(res), err, ErrBearerInUse)
	}
	// Freed by removal, it may move on.
	if ok, err := r.Remove(t.Context(), testNumber, "d1"); !ok || err != nil {
		t.Fatalf("Remove = %v, %v", ok, err)
	}
	mustPut(t, r, q)
	if n, _, err := r.ByBearer(bearer); err != nil || n != q.Number {
		t.Errorf("ByBearer = %s, %v, want the new owner %s", n.Masked(), err, q.Number.Masked())
	}
	for _, bad := range []string{"", "short", strings.Repeat("x", MaxBearer+1), "unknown-but-well-formed"} {
		if _, _, err := r.ByBearer(bad); !errors.Is(err, ErrNotFound) {
			t.Errorf("ByBearer(%d octets) = %v, want %v", len(bad), err, ErrNotFound)
		}
	}
}

func TestPutLimits(t *testing.T) {
	r := start(t, Options{})
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		field  string
		change func(*Put)
	}{
		{"number", func(p *Put) { p.Number = msg.MinNumber - 1 }},
		{"number", func(p *Put) { p.Number = msg.MaxNumber + 1 }},
		{"app", func(p *Put) { p.App = "" }},
		{"app", func(p *Put) { p.App = long(65) }},
		{"app", func(p *Put) { p.App = "a b" }},
		{"app", func(p *Put) { p.App = "a/b" }},
		{"platform", func(p *Put) { p.Platform = 0 }},
		{"platform", func(p *Put) { p.Platform = 3 }},
		{"token", func(p *Put) { p.Token = "" }},
		{"token", func(p *Put) { p.Token = long(4097) }},
		{"token", func(p *Put) { p.Token = "secret\n" }},
		{"device", func(p *Put) { p.Device = long(65) }},
		{"device", func(p *Put) { p.Device = "d/1" }},
		{"device", func(p *Put) { p.Device = "dé" }},
		{"bearer", func(p *Put) { p.Bearer = "secret" }},
		{"bearer", func(p *Put) { p.Bearer = long(513) }},
		{"bearer", func(p *Put) { p.Bearer = "secret with blanks in it" }},
	} {
		p := samplePut(testNumber, "d")
		c.change(&p)
		_, err := r.PutAll(t.Context(), []Put{samplePut(testNumber, "d"), p})
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), ": "+c.field+": ") || strings.Contains(err.Error(), "secret") {
			t.Errorf("PutAll(%+v) = %v, want %v that names %s and no secret", p, err, ErrInvalid, c.field)
		}
	}
	if got := r.Count(); got != (Count{}) {
		t.Errorf("Count() after refusals = %+v, want none", got)
	}
	p := Put{Number: msg.MaxNumber, App: long(64), Platform: FCM, Token: long(4096), Device: long(64), Bearer: long(512)}
	mustPut(t, r, p)
	if got := mustGet(t, r, p.Number).Devices[0]; got.Token != p.Token || got.App != p.App {
		t.Errorf("the longest fields did not come back")
	}
}

func TestSixteenDevices(t *testing.T) {
	r := start(t, Options{})
	for i := range MaxDevices {
		mustPut(t, r, samplePut(testNumber, fmt.Sprint("d", i)))
	}
	if _, err := r.Put(t.Context(), samplePut(testNumber, "more")); !errors.Is(err, ErrTooManyDevices) {
		t.Errorf("Put(device %d) = %v, want %v", MaxDevices+1, err, ErrTooManyDevices)
	}
	mustPut(t, r, samplePut(testNumber, "d7")) // a known one still may
	if got, want := r.Count(), (Count{Numbers: 1, Active: 1, Devices: MaxDevices}); got != want {
		t.Errorf("Count() = %+v, want %+v", got, want)
	}
}

func TestRemove(t *testing.T) {
	r := start(t, Options{})
	a := mustPut(t, r, samplePut(testNumber, "a"))
	b := mustPut(t, r, samplePut(testNumber, "b"))
	for _, c := range []struct {
		device  string
		removed bool
		left    Count
	}{
		{"unknown", false, Count{Numbers: 1, Active: 1, Devices: 2}},
		{"a", true, Count{Numbers: 1, Active: 1, Devices: 1}},
		{"a", false, Count{Numbers: 1, Active: 1, Devices: 1}},
		{"b", true, Count{}},
		{"", false, Count{}},
	} {
		got, err := r.Remove(t.Context(), testNumber, c.device)
		if got != c.removed || err != nil || r.Count() != c.left {
			t.Errorf("Remove(%q) = %v, %v, then %+v, want %v, nil, then %+v", c.device, got, err, r.Count(), c.removed, c.left)
		}
	}
	if e := r.Lookup(testNumber); e != 0 {
		t.Errorf("Lookup of a removed number = %#x, want 0", e)
	}
	if _, err := r.Get(testNumber); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get of a removed number = %v, want %v", err, ErrNotFound)
	}
	for _, bearer := range []string{a.Bearer, b.Bearer} {
		if _, _, err := r.ByBearer(bearer); !errors.Is(err, ErrNotFound) {
			t.Errorf("ByBearer of a removed device = %v, want %v", err, ErrNotFound)
		}
	}
	mustPut(t, r, samplePut(testNumber, "a"))
	mustPut(t, r, samplePut(testNumber, "b"))
	if ok, err := r.Remove(t.Context(), testNumber, ""); !ok || err != nil || r.Count() != (Count{}) {
		t.Errorf("Remove(the number) = %v, %v, then %+v, want true, nil, none", ok, err, r.Count())
	}
	if keys := keysOf(t, r.db, prefixNumber, prefixBearer); len(keys) != 0 {
		t.Errorf("keys left in the database: %q", keys)
	}
}

// keysOf lists the keys that begin with one of the prefixes.
func keysOf(t *testing.T, db *badger.DB, prefixes ...byte) (keys []string) {
	t.Helper()
	err := db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if k := it.Item().Key(); slices.Contains(prefixes, k[0]) {
				keys = append(keys, string(k))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestSetActive(t *testing.T) {
	r := start(t, Options{})
	a := samplePut(testNumber, "a")
	b := samplePut(testNumber, "b")
	b.App = "shop"
	mustPut(t, r, a)
	mustPut(t, r, b)
	put := mustGet(t, r, testNumber)
	for _, c := range []struct {
		device string
		active bool
		want   bool
		app    string
	}{
		{"a", false, true, "shop"}, // the app of the first active device
		{"b", false, false, "chat"},
		{"a", true, true, "chat"},
		{"", true, true, "chat"},
		{"", false, false, "chat"},
	} {
		if err := r.SetActive(t.Context(), testNumber, c.device, c.active); err != nil {
			t.Fatalf("SetActive(%q, %v) = %v", c.device, c.active, err)
		}
		e := r.Lookup(testNumber)
		if !e.Registered() || e.Active() != c.want || r.AppName(e.App()) != c.app || mustGet(t, r, testNumber).Active() != c.want {
			t.Errorf("after SetActive(%q, %v): %#x, app %s, want active %v, app %s", c.device, c.active, e, r.AppName(e.App()), c.want, c.app)
		}
	}
	before := mustGet(t, r, testNumber)
	if err := r.SetActive(t.Context(), testNumber, "", false); err != nil {
		t.Errorf("SetActive(as it is) = %v, want nil", err)
	}
	if d := cmp.Diff(before, mustGet(t, r, testNumber)); d != "" {
		t.Errorf("SetActive(as it is) changed the record: %s", d)
	}
	if before.Devices[0].UpdatedAt != put.Devices[0].UpdatedAt {
		t.Error("SetActive changed UpdatedAt, which is the token's")
	}
	for _, n := range []msg.Number{testNumber, testNumber + 1} {
		if err := r.SetActive(t.Context(), n, "unknown", true); !errors.Is(err, ErrNotFound) {
			t.Errorf("SetActive(%s, unknown) = %v, want %v", n.Masked(), err, ErrNotFound)
		}
	}
}

func TestDropToken(t *testing.T) {
	c := newClock()
	r := start(t, Options{Now: c.Now})
	at := c.Now()
	for _, k := range []struct {
		name          string
		device, token string
		since         time.Time
		dropped       bool
	}{
		{"another token", "d", "old-token", time.Time{}, false},
		{"another device", "e", "token-d", time.Time{}, false},
		{"dead before it was put", "d", "token-d", at.Add(-time.Second), false},
		{"dead at the instant it was put", "d", "token-d", at, false},
		{"dead since", "d", "token-d", at.Add(time.Nanosecond), true},
		{"no time", "d", "token-d", time.Time{}, true},
	} {
		mustPut(t, r, samplePut(testNumber, "d"))
		got, err := r.DropToken(t.Context(), testNumber, k.device, k.token, k.since)
		if got != k.dropped || err != nil || (r.Lookup(testNumber) == 0) != k.dropped {
			t.Errorf("%s: DropToken = %v, %v, then %#x, want %v, nil", k.name, got, err, r.Lookup(testNumber), k.dropped)
		}
	}
	if got, err := r.DropToken(t.Context(), testNumber, "d", "token-d", time.Time{}); got || err != nil {
		t.Errorf("DropToken of a number that is gone = %v, %v, want false, nil", got, err)
	}
	if _, err := r.DropToken(t.Context(), testNumber, "", "token-d", time.Time{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("DropToken(no device) = %v, want %v", err, ErrInvalid)
	}
}

func TestGenerationNeverComesBack(t *testing.T) {
	c := newClock()
	r := start(t, Options{Now: c.Now})
	seen := map[uint32]bool{}
	for range 5 {
		for range 3 {
			g := mustPut(t, r, samplePut(testNumber, "d")).Registration.Generation
			if seen[g] || r.Lookup(testNumber).Generation() != g {
				t.Fatalf("generation %d came back, or is not the index's %d", g, r.Lookup(testNumber).Generation())
			}
			seen[g] = true
		}
		c.advance(10 * time.Second)
		if _, err := r.Remove(t.Context(), testNumber, ""); err != nil {
			t.Fatal(err)
		}
	}
}

func TestList(t *testing.T) {
	r := start(t, Options{})
	var want []msg.Number
	var ps []Put
	for i := range 25 {
		n := msg.MinNumber + msg.Number(i*i*i)*1_000_003
		want = append(want, n)
		ps = append(ps, samplePut(n, "d"))
	}
	slices.Reverse(ps)
	if _, err := r.PutAll(t.Context(), ps); err != nil {
		t.Fatal(err)
	}
	for _, page := range []int{1, 7, 25, MaxList} {
		var got []msg.Number
		for after := msg.Number(0); ; {
			regs, err := r.List(t.Context(), after, page)
			if err != nil || len(regs) > page {
				t.Fatalf("List(%d, %d) = %d registrations, %v", after, page, len(regs), err)
			}
			for _, reg := range regs {
				got = append(got, reg.Number)
				after = reg.Number
			}
			if len(regs) < page {
				break
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("pages of %d: -want +got\n%s", page, d)
		}
	}
	for _, limit := range []int{-1, 0, MaxList + 1} {
		if _, err := r.List(t.Context(), 0, limit); !errors.Is(err, ErrInvalid) {
			t.Errorf("List(limit %d) = %v, want %v", limit, err, ErrInvalid)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.List(ctx, 0, 5); !errors.Is(err, context.Canceled) {
		t.Errorf("List(cancelled) = %v, want %v", err, context.Canceled)
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	r := start(t, Options{Dir: dir})
	apps := []string{"zeta", "alpha", "midi"}
	var ps []Put
	for i := range 3000 {
		p := samplePut(testNumber+msg.Number(i*3), "d")
		p.App, p.Active = apps[i%3], i%5 != 0
		ps = append(ps, p)
	}
	results, err := r.PutAll(t.Context(), ps)
	if err != nil || len(results) != len(ps) {
		t.Fatalf("PutAll = %d results, %v", len(results), err)
	}
	if _, err := r.Remove(t.Context(), ps[0].Number, ""); err != nil {
		t.Fatal(err)
	}
	entries := map[msg.Number]msg.Entry{}
	for _, p := range ps {
		entries[p.Number] = r.Lookup(p.Number)
	}
	count := r.Count()
	if want := (Count{Numbers: 2999, Active: 2400, Devices: 2999}); count != want {
		t.Errorf("Count() = %+v, want %+v", count, want)
	}
	stop(t, r)

	r = start(t, Options{Dir: dir})
	if !r.Ready() || r.Count() != count {
		t.Errorf("after reopening: ready %v, %+v, want true, %+v", r.Ready(), r.Count(), count)
	}
	for n, want := range entries {
		if got := r.Lookup(n); got != want {
			t.Errorf("Lookup(%s) after reopening = %#x, want %#x", n.Masked(), got, want)
		}
	}
	for i, res := range results[1:] {
		n, d, err := r.ByBearer(res.Bearer)
		if err != nil || n != ps[i+1].Number || d != res.Registration.Devices[0] {
			t.Fatalf("ByBearer(%d) after reopening = %s, %+v, %v", i+1, n.Masked(), d, err)
		}
	}
	mustPut(t, r, samplePut(testNumber, "d")) // a fourth app gets a new index
	if e := r.Lookup(testNumber); r.AppName(e.App()) != "chat" || e.App() != 3 {
		t.Errorf("new app = %d %q, want 3 chat", e.App(), r.AppName(e.App()))
	}
}

func TestCorruptRecords(t *testing.T) {
	dir := t.TempDir()
	r := start(t, Options{Dir: dir})
	var bearers []string
	for i := range msg.Number(4) {
		bearers = append(bearers, mustPut(t, r, samplePut(testNumber+i, "d")).Bearer)
	}
	stop(t, r)
	corruptValue(t, dir, numberKey(testNumber+1), 9)
	corruptValue(t, dir, numberKey(testNumber+2), recordHeader+30)
	corruptValue(t, dir, appKey(0), recordHeader)

	var out bytes.Buffer
	r = start(t, Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	if got, want := r.Count(), (Count{Numbers: 2, Active: 2, Devices: 2, Corrupt: 2}); got != want {
		t.Errorf("Count() = %+v, want %+v", got, want)
	}
	for i, whole := range []bool{true, false, false, true} {
		n := testNumber + msg.Number(i)
		e := r.Lookup(n)
		_, err := r.Get(n)
		switch {
		case whole && (err != nil || !e.Active() || r.AppName(e.App()) != "chat"):
			t.Errorf("%s: Get = %v, Lookup = %#x, app %q, want it whole", n.Masked(), err, e, r.AppName(e.App()))
		case !whole && (!errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), n.Masked()) || e != 0):
			t.Errorf("%s: Get = %v, Lookup = %#x, want %v that names it, and 0", n.Masked(), err, e, ErrCorrupt)
		}
	}
	if regs, err := r.List(t.Context(), 0, 10); err != nil || len(regs) != 2 {
		t.Errorf("List = %d registrations, %v, want the 2 whole ones", len(regs), err)
	}
	if err := r.SetActive(t.Context(), testNumber+1, "", false); !errors.Is(err, ErrCorrupt) {
		t.Errorf("SetActive(corrupt) = %v, want %v", err, ErrCorrupt)
	}
	if _, err := r.Remove(t.Context(), testNumber+1, "d"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Remove(a device of a corrupt record) = %v, want %v", err, ErrCorrupt)
	}
	p := samplePut(testNumber+4, "d")
	p.Bearer = bearers[1]
	mustPut(t, r, p) // a device that cannot be read has no claim to its bearer
	if n, _, err := r.ByBearer(bearers[1]); n != p.Number || err != nil {
		t.Errorf("ByBearer(taken over) = %s, %v, want %s", n.Masked(), err, p.Number.Masked())
	}
	if ok, err := r.Remove(t.Context(), testNumber+1, ""); !ok || err != nil {
		t.Errorf("Remove(corrupt number) = %v, %v, want true, nil", ok, err)
	}
	mustPut(t, r, samplePut(testNumber+2, "d")) // a new proof replaces it
	if e := r.Lookup(testNumber + 2); !e.Active() {
		t.Errorf("Lookup after a new put = %#x, want active", e)
	}
	stop(t, r)
	log := out.String()
	if strings.Count(log, "record skipped") != 2 || !strings.Contains(log, "app table: entry skipped") || !strings.Contains(log, (testNumber+1).Masked()) {
		t.Errorf("log does not report two records and an app by name:\n%s", log)
	}
	if strings.Contains(log, fmt.Sprint(uint64(testNumber+1))) || strings.Contains(log, "token-d") {
		t.Errorf("log holds a number or a token:\n%s", log)
	}
	r = start(t, Options{Dir: dir})
	if got, want := r.Count(), (Count{Numbers: 4, Active: 4, Devices: 4}); got != want {
		t.Errorf("Count() after repair = %+v, want %+v", got, want)
	}
}

// corruptValue flips a bit of a stored value.
func corruptValue(t *testing.T, dir string, key []byte, at int) {
	t.Helper()
	db, err := store.Open(dir, store.Options{Sync: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if err != nil {
			return err
		}
		v, err := item.ValueCopy(nil)
		if err != nil {
			return err
		}
		v[at] ^= 1
		return txn.Set(key, v)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefusesAnotherKind(t *testing.T) {
	dir := t.TempDir()
	db, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(store.CheckSchema(db, "spool", 1), db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir}); !errors.Is(err, store.ErrSchema) {
		t.Errorf("Open(a spool) = %v, want %v", err, store.ErrSchema)
	}
	// The refusal must not keep the directory locked.
	if db, err = store.Open(dir, store.Options{}); err != nil {
		t.Fatalf("store.Open after the refusal = %v", err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func TestClosed(t *testing.T) {
	r := start(t, Options{})
	mustPut(t, r, samplePut(testNumber, "d"))
	stop(t, r)
	stop(t, r) // twice is once
	ctx := t.Context()
	_, getErr := r.Get(testNumber)
	_, putErr := r.Put(ctx, samplePut(testNumber, "d"))
	_, removeErr := r.Remove(ctx, testNumber, "")
	_, listErr := r.List(ctx, 0, 1)
	_, _, bearerErr := r.ByBearer("a-bearer-long-enough")
	for name, err := range map[string]error{
		"Get": getErr, "Put": putErr, "Remove": removeErr, "List": listErr,
		"ByBearer": bearerErr, "SetActive": r.SetActive(ctx, testNumber, "", false),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close = %v, want %v", name, err, ErrClosed)
		}
	}
	if !r.Lookup(testNumber).Active() {
		t.Error("Lookup after Close misses, want the answer from RAM")
	}
}

func TestPlatformText(t *testing.T) {
	for p, s := range map[Platform]string{APNs: "apns", FCM: "fcm"} {
		got, err := ParsePlatform(s)
		if got != p || err != nil || p.String() != s {
			t.Errorf("ParsePlatform(%q) = %v, %v, want %v", s, got, err, p)
		}
		b, err := p.MarshalText()
		var back Platform
		if err != nil || back.UnmarshalText(b) != nil || back != p {
			t.Errorf("%v: MarshalText = %q, %v, UnmarshalText = %v", p, b, err, back)
		}
	}
	if _, err := ParsePlatform("APNS"); !errors.Is(err, ErrInvalid) {
		t.Errorf("ParsePlatform(APNS) = %v, want %v", err, ErrInvalid)
	}
	if _, err := Platform(0).MarshalText(); !errors.Is(err, ErrInvalid) {
		t.Errorf("MarshalText of no platform = %v, want %v", err, ErrInvalid)
	}
}
