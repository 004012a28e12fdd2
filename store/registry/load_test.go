package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
)

// load stages puts and applies those without a fault, whose lines it returns.
func load(t testing.TB, r *Registry, ps []Put) (Applied, map[int]string) {
	t.Helper()
	l := r.NewLoad(t.TempDir())
	defer l.Close()
	faults := map[int]string{}
	for i := range ps {
		p := ps[i]
		if err := l.Add(i+1, &p); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Judge(t.Context(), func(line int, err error) error { faults[line] = err.Error(); return nil }); err != nil {
		t.Fatal(err)
	}
	last := -1
	a, err := l.Apply(t.Context(), func(n int) { last = n })
	if err != nil {
		t.Fatal(err)
	}
	if last != a.Put {
		t.Errorf("last progress = %d, want %d", last, a.Put)
	}
	return a, faults
}

// loadPut is a put of a load; numbers come in no order.
func loadPut(i int) Put {
	n := testNumber + msg.Number(i*7919%100_003)
	return Put{
		Number: n, App: fmt.Sprintf("app-%d", i%3), Platform: FCM, Token: fmt.Sprintf("%064d", i),
		Device: "phone", Bearer: fmt.Sprintf("bearer-of-%020d", i), Active: i%4 != 0,
	}
}

// Both ways lead to the same registry, which is there after a restart.
func TestLoad(t *testing.T) {
	const lines = 20_000
	ps := make([]Put, lines)
	for i := range ps {
		ps[i] = loadPut(i)
	}
	ps = append(ps, ps[5])
	ps[lines].Device, ps[lines].Bearer, ps[lines].BearerHash = "tablet", "", [32]byte{7}
	for name, live := range map[string]bool{"empty": false, "live": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := start(t, Options{Dir: dir})
			want := Count{Numbers: lines, Active: lines * 3 / 4, Devices: lines + 1}
			if live {
				mustPut(t, r, samplePut(testNumber-1, "there"))
				want.Numbers, want.Active, want.Devices = want.Numbers+1, want.Active+1, want.Devices+1
			}
			if a, faults := load(t, r, ps); a != (Applied{Put: lines + 1}) || len(faults) > 0 {
				t.Fatalf("load = %+v, %v, want %d put", a, faults, lines+1)
			}
			check := func(r *Registry) {
				t.Helper()
				if got := r.Count(); got != want {
					t.Errorf("Count() = %+v, want %+v", got, want)
				}
				for _, i := range []int{0, 5, 17, lines - 1} {
					e := r.Lookup(ps[i].Number)
					if !e.Registered() || e.Active() != ps[i].Active || r.AppName(e.App()) != ps[i].App {
						t.Errorf("Lookup of line %d = active %v, app %q", i+1, e.Active(), r.AppName(e.App()))
					}
					n, d, err := r.ByBearer(ps[i].Bearer)
					if n != ps[i].Number || d.ID != "phone" || d.Token != ps[i].Token || err != nil {
						t.Errorf("ByBearer of line %d = %s %s %v", i+1, n, d.ID, err)
					}
				}
				if reg, err := r.Get(ps[5].Number); err != nil || len(reg.Devices) != 2 || reg.Devices[1].BearerHash != ([32]byte{7}) {
					t.Errorf("Get of the number with two lines = %d devices, %v", len(reg.Devices), err)
				}
			}
			check(r)
			mustPut(t, r, samplePut(testNumber+200_000, "after"))
			want.Numbers, want.Active, want.Devices = want.Numbers+1, want.Active+1, want.Devices+1
			stop(t, r)
			check(start(t, Options{Dir: dir}))
		})
	}
}

// The same import again changes no count: it completes one that was cut off.
func TestLoadAgain(t *testing.T) {
	r := start(t, Options{})
	p := samplePut(testNumber, "")
	for range 2 {
		a, faults := load(t, r, []Put{p})
		if a.Put != 1 || len(faults) > 0 {
			t.Fatalf("load = %+v, %v", a, faults)
		}
	}
	if got, want := r.Count(), (Count{Numbers: 1, Active: 1, Devices: 1}); got != want {
		t.Errorf("Count() = %+v, want %+v", got, want)
	}
}

func TestLoadJudges(t *testing.T) {
	r := start(t, Options{})
	p := samplePut(testNumber, "known")
	p.Bearer = "a-bearer-that-is-known"
	mustPut(t, r, p)
	ps := []Put{loadPut(1), loadPut(1), loadPut(2), loadPut(3)}
	ps[3].Bearer = ps[2].Bearer
	ps = append(ps, loadPut(4))
	ps[4].Bearer = p.Bearer
	for i := range MaxDevices {
		ps = append(ps, Put{Number: testNumber, App: "chat", Platform: APNs, Token: fmt.Sprint(i), Device: fmt.Sprintf("d%02d", i)})
	}
	a, faults := load(t, r, ps)
	want := map[int]string{
		2:  "device: line 1 is about this device of this number already",
		4:  "bearer: line 3 has it too, and it can be of one device only",
		5:  "bearer: bearer belongs to another device",
		21: "number: number has 16 devices already",
	}
	if diff := cmp.Diff(want, faults); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	if a.Put != len(ps)-len(want) || a.Made != MaxDevices-1 {
		t.Errorf("applied = %+v, want %d put, %d made", a, len(ps)-len(want), MaxDevices-1)
	}
}

// An import into nobody that ends early leaves nobody, in this run and, where
// the process was killed, in the next.
func TestLoadCutOff(t *testing.T) {
	dir := t.TempDir()
	r := start(t, Options{Dir: dir})
	l := r.NewLoad(t.TempDir())
	defer l.Close()
	for i := range 3 * judgeEach {
		p := loadPut(i)
		if err := l.Add(i+1, &p); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Judge(t.Context(), func(_ int, err error) error { return err }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := l.Apply(ctx, func(int) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Apply = %v, want %v", err, context.Canceled)
	}
	if got := r.Count(); got != (Count{}) || !r.Ready() || r.Lookup(loadPut(0).Number) != 0 {
		t.Errorf("Count() after it = %+v, ready %v, want nobody", got, r.Ready())
	}
	if a, _ := load(t, r, []Put{loadPut(1)}); a.Put != 1 {
		t.Errorf("load after it = %+v, want 1 put", a)
	}
	stop(t, r)
	// As a kill would leave it: the mark, and some of the numbers.
	if err := os.WriteFile(filepath.Join(dir, loadingFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r = start(t, Options{Dir: dir})
	if got := r.Count(); got != (Count{}) {
		t.Errorf("Count() after a kill = %+v, want nobody", got)
	}
	mustPut(t, r, samplePut(testNumber, "d"))
	stop(t, r)
	if got := start(t, Options{Dir: dir}).Count().Numbers; got != 1 {
		t.Errorf("numbers after that and a restart = %d, want 1", got)
	}
}

func TestSorter(t *testing.T) {
	s := sorter{dir: t.TempDir(), room: 4096}
	defer s.close()
	want := map[string]string{}
	for i := range 5000 {
		k, v := fmt.Sprintf("%05d", i*7919%5000), strings.Repeat("v", i%90)
		want[k] = v
		if err := s.add([]byte(k), []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.sorted(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var err error
		n, last := 0, ""
		for k, v := range s.all(&err) {
			if string(k) <= last || want[string(k)] != string(v) {
				t.Fatalf("%q = %q after %q, want %q", k, v, last, want[string(k)])
			}
			last = string(k)
			n++
		}
		if n != len(want) || err != nil {
			t.Errorf("%d records, %v, want %d", n, err, len(want))
		}
	}
}

// The parts of a scan hold every number once, wherever they are cut.
func TestScanInParts(t *testing.T) {
	const numbers = 60_000
	dir := t.TempDir()
	r := start(t, Options{Dir: dir})
	ps := make([]Put, numbers)
	for i := range ps {
		ps[i] = samplePut(testNumber+msg.Number(i), "d")
		ps[i].Token = fmt.Sprintf("%0400d", i)
		ps[i].BearerHash = [32]byte{1, byte(i), byte(i >> 8)}
	}
	for _, part := range [][]Put{ps[:numbers/2], ps[numbers/2:]} { // tables, and a log beside them
		if a, faults := load(t, r, part); a.Put != len(part) {
			t.Fatalf("load = %+v, %v", a, faults)
		}
	}
	stop(t, r)
	r = start(t, Options{Dir: dir})
	if got, want := r.Count(), (Count{Numbers: numbers, Active: numbers, Devices: numbers}); got != want {
		t.Errorf("Count() = %+v, want %+v", got, want)
	}
	seen := 0
	txn := r.db.NewTransaction(false)
	defer txn.Discard()
	for _, n := range []int{1, 2, 3, 7, 50} {
		begin := splits(r.db, n)
		if len(begin) > 1 {
			seen++
		}
		again := &Registry{db: r.db, log: r.log, intake: newIntake()}
		again.apps.table.Store(r.apps.table.Load())
		for i, from := range begin {
			var to []byte
			if i+1 < len(begin) {
				to = begin[i+1]
			}
			if err := again.scanPart(txn, from, to, new(atomic.Int64)); err != nil {
				t.Fatal(err)
			}
		}
		if got := again.Count().Numbers; got != numbers {
			t.Errorf("in %d parts: %d numbers, want %d", len(begin), got, numbers)
		}
	}
	if seen == 0 {
		t.Error("the registry was never cut")
	}
}
