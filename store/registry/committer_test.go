package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
	"shunt/store"
)

// asRequest is a request as submit queues it, for puts.
func asRequest(ctx context.Context, ps ...Put) *request {
	req := &request{ctx: ctx, done: make(chan struct{})}
	for _, p := range ps {
		req.changes = append(req.changes, func(b *batch, req *request) error {
			_, err := b.put(req, &p)
			return err
		})
	}
	return req
}

func TestRequestsShareACommit(t *testing.T) {
	r := start(t, Options{})
	mustPut(t, r, samplePut(testNumber, "first")) // the app is known from here on
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	full := asRequest(t.Context())
	for i := range MaxDevices + 1 {
		full.changes = append(full.changes, asRequest(t.Context(), samplePut(testNumber+1000, fmt.Sprint("d", i))).changes...)
	}
	withdrawn := asRequest(cancelled, samplePut(testNumber+2000, "d"))
	reqs := []*request{withdrawn, full}
	for i := range msg.Number(200) {
		reqs = append(reqs, asRequest(t.Context(), samplePut(testNumber+i, "d")))
	}
	before := r.db.MaxVersion()
	r.carryOut(reqs) // nothing else writes now
	if got := r.db.MaxVersion() - before; got != 1 {
		t.Errorf("%d requests took %d commits, want 1", len(reqs), got)
	}
	for i, req := range reqs[2:] {
		<-req.done
		if req.err != nil || !r.Lookup(testNumber+msg.Number(i)).Active() {
			t.Errorf("request %d: %v, Lookup = %#x, want done and active", i, req.err, r.Lookup(testNumber+msg.Number(i)))
		}
	}
	if !errors.Is(withdrawn.err, context.Canceled) || r.Lookup(testNumber+2000) != 0 {
		t.Errorf("withdrawn request: %v, Lookup = %#x, want %v and no trace", withdrawn.err, r.Lookup(testNumber+2000), context.Canceled)
	}
	if !errors.Is(full.err, ErrTooManyDevices) || full.applied != MaxDevices {
		t.Errorf("request with a refused change: %d applied, %v, want %d and %v", full.applied, full.err, MaxDevices, ErrTooManyDevices)
	}
	if got, want := r.Count(), (Count{Numbers: 201, Active: 201, Devices: 217}); got != want {
		t.Errorf("Count() = %+v, want %+v", got, want)
	}
}

// While callers are many the committer waits for as many as came before, and
// no longer than the linger; alone it does not wait.
func TestGather(t *testing.T) {
	for _, c := range []struct {
		name  string
		last  int
		after []time.Duration // when more requests come
		want  int
		took  time.Duration
	}{
		{"alone", 1, []time.Duration{time.Millisecond}, 1, 0},
		{"first of all", 0, nil, 1, 0},
		{"as many as before", 3, []time.Duration{500 * time.Microsecond, time.Millisecond, 1500 * time.Microsecond}, 3, time.Millisecond},
		{"fewer than before", 5, []time.Duration{time.Millisecond}, 2, linger},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &Registry{intake: newIntake()}
				for _, d := range c.after {
					late := asRequest(t.Context())
					time.AfterFunc(d, func() { r.queue <- late })
				}
				begin := time.Now()
				got := r.gather(asRequest(t.Context()), c.last)
				if took := time.Since(begin); len(got) != c.want || took != c.took {
					t.Errorf("gather = %d requests after %v, want %d after %v", len(got), took, c.want, c.took)
				}
			})
		})
	}
}

func TestGatherTakesWhatIsQueuedUpToALimit(t *testing.T) {
	r := &Registry{intake: newIntake()}
	for range 5 {
		r.queue <- asRequest(t.Context(), make([]Put, putChunk)...)
	}
	if got := len(r.gather(<-r.queue, 0)); got != 2 {
		t.Errorf("gather = %d requests of %d puts, want 2", got, putChunk)
	}
}

// A memtable so small that a batch does not fit one transaction.
func TestBatchLargerThanATransaction(t *testing.T) {
	r, err := openWith(Options{Dir: t.TempDir()}, store.Options{Sync: true, MemTable: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, r) })
	if err := r.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ps []Put
	for i := range msg.Number(300) {
		p := samplePut(testNumber+i, "d")
		p.Token = strings.Repeat("t", MaxToken)
		ps = append(ps, p)
	}
	before := r.db.MaxVersion()
	res, err := r.PutAll(t.Context(), ps)
	if err != nil || len(res) != len(ps) {
		t.Fatalf("PutAll = %d results, %v", len(res), err)
	}
	if commits := r.db.MaxVersion() - before; commits < 8 {
		t.Errorf("%d octets took %d commits of at most %d octets: nothing was split", len(ps)*MaxToken, commits, r.db.MaxBatchSize())
	}
	for _, p := range ps {
		if reg := mustGet(t, r, p.Number); reg.Devices[0].Token != p.Token || !r.Lookup(p.Number).Active() {
			t.Fatalf("%s is not there", p.Number.Masked())
		}
	}
}

// A commit that fails must leave the index as the database is, answer every
// request of it and publish no app.
func TestFailedCommit(t *testing.T) {
	r := start(t, Options{})
	mustPut(t, r, samplePut(testNumber, "d"))
	was := r.Lookup(testNumber)

	p, q := samplePut(testNumber, "d"), samplePut(testNumber+1, "d")
	p.App, p.Active = "newapp", false
	req := asRequest(t.Context(), p, q)
	req.changes = append(req.changes, func(b *batch, req *request) error {
		s := step{request: req}
		s.put([]byte("!badger!reserved"), []byte{1}) // a key that Badger refuses
		b.add(s)
		return nil
	})
	r.carryOut([]*request{req})
	if !errors.Is(req.err, badger.ErrInvalidKey) || req.applied != 0 {
		t.Errorf("request: %d applied, %v, want 0 and %v", req.applied, req.err, badger.ErrInvalidKey)
	}
	if got := r.Lookup(testNumber); got != was || r.Lookup(testNumber+1) != 0 {
		t.Errorf("Lookup = %#x and %#x, want %#x as before and 0", got, r.Lookup(testNumber+1), was)
	}
	if got := r.AppName(1); got != "" {
		t.Errorf("AppName(1) = %q, want none", got)
	}
	mustPut(t, r, p)
	if e := r.Lookup(testNumber); r.AppName(e.App()) != "newapp" || e.App() != 2 {
		t.Errorf("after a good commit: app %d %q, want 2 newapp: an index is never given twice", e.App(), r.AppName(e.App()))
	}
}

// What is written while the scan runs is newer than what the scan sees.
func TestScanDoesNotUndoChanges(t *testing.T) {
	r := start(t, Options{})
	stale := word(msg.MakeEntry(true, 7, 7), 3)
	r.index.mu.Lock()
	r.changed = map[msg.Number]struct{}{}
	r.index.mu.Unlock()
	mustPut(t, r, samplePut(testNumber, "d"))
	if _, err := r.Remove(t.Context(), testNumber, ""); err != nil {
		t.Fatal(err)
	}
	put := mustPut(t, r, samplePut(testNumber+1, "d"))
	if err := r.take([]found{{testNumber, stale}, {testNumber + 1, stale}, {testNumber + 2, stale}}); err != nil {
		t.Fatal(err)
	}
	if e := r.Lookup(testNumber); e != 0 {
		t.Errorf("removed meanwhile: Lookup = %#x, want 0", e)
	}
	if e := r.Lookup(testNumber + 1); e.Generation() != put.Registration.Generation {
		t.Errorf("put meanwhile: Lookup = %#x, want generation %d", e, put.Registration.Generation)
	}
	if e := r.Lookup(testNumber + 2); e.Generation() != 7 {
		t.Errorf("untouched: Lookup = %#x, want what the scan found", e)
	}
	if got, want := r.Count(), (Count{Numbers: 2, Active: 2, Devices: 4}); got != want {
		t.Errorf("Count() = %+v, want %+v", got, want)
	}
}

func TestNotReady(t *testing.T) {
	r := &Registry{intake: newIntake()}
	r.scanned = make(chan struct{})
	r.index.change(testNumber, word(msg.MakeEntry(true, 0, 1), 1))
	if r.Ready() || r.Lookup(testNumber) != 0 {
		t.Errorf("before the scan ends: ready %v, Lookup = %#x, want false, 0", r.Ready(), r.Lookup(testNumber))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.WaitReady(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("WaitReady(cancelled) = %v, want %v", err, context.Canceled)
	}
	close(r.quit)
	if err := r.take(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("scan while closing = %v, want %v", err, ErrClosed)
	}
}

// Many callers change their own numbers and one shared number at once, while
// others read; in the end index and database agree.
func TestConcurrentCallers(t *testing.T) {
	const callers, rounds = 16, 12
	r := start(t, Options{})
	shared := testNumber + 100_000
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			ctx := t.Context()
			device := fmt.Sprint("d", c)
			own := testNumber + msg.Number(c)
			for i := range rounds {
				for _, n := range []msg.Number{own, shared} {
					res, err := r.Put(ctx, samplePut(n, device))
					if err != nil {
						t.Errorf("Put(%s) = %v", n.Masked(), err)
						return
					}
					if e := r.Lookup(n); !e.Registered() || e.Generation() < res.Registration.Generation {
						t.Errorf("Lookup right after Put = %#x, want generation %d or later", e, res.Registration.Generation)
					}
				}
				if err := r.SetActive(ctx, own, device, i%2 == 0); err != nil {
					t.Errorf("SetActive = %v", err)
				}
				if i%4 == 3 {
					if ok, err := r.Remove(ctx, own, device); !ok || err != nil {
						t.Errorf("Remove = %v, %v, want true, nil", ok, err)
					}
				}
				if _, err := r.List(ctx, 0, callers); err != nil {
					t.Errorf("List = %v", err)
				}
			}
		})
	}
	wg.Wait()
	regs, err := r.List(t.Context(), 0, MaxList)
	if err != nil {
		t.Fatal(err)
	}
	var want Count
	for _, reg := range regs {
		w := wordOf(&reg, func(name string) uint16 { i, _ := r.apps.index(name); return i })
		want.add(w, 1)
		if got := r.Lookup(reg.Number); uint64(got) != w&^devicesMask {
			t.Errorf("Lookup(%s) = %#x, database says %#x", reg.Number.Masked(), got, w&^devicesMask)
		}
	}
	if got := r.Count(); got != want || want.Numbers != 1 || want.Devices != callers {
		t.Errorf("Count() = %+v, database says %+v, want the shared number with %d devices", got, want, callers)
	}
	if bearers := keysOf(t, r.db, prefixBearer); len(bearers) != callers {
		t.Errorf("%d bearer keys, want %d", len(bearers), callers)
	}
}

// Close carries out what is queued; a caller whose context ends while it
// waits in the queue is answered at once, and its change is left out.
func TestCloseCommitsWhatIsQueued(t *testing.T) {
	dir := t.TempDir()
	r := start(t, Options{Dir: dir})
	began, release := make(chan struct{}), make(chan struct{})
	busy := &request{ctx: t.Context(), done: make(chan struct{}), changes: []func(*batch, *request) error{
		func(*batch, *request) error { close(began); <-release; return nil },
	}}
	r.queue <- busy
	<-began // the committer is held here

	cancelled, cancel := context.WithCancel(t.Context())
	withdrawn := asRequest(cancelled, samplePut(testNumber+1000, "d"))
	r.queue <- withdrawn
	cancel()
	if _, err := r.Put(cancelled, samplePut(testNumber+1000, "d")); !errors.Is(err, context.Canceled) {
		t.Errorf("Put(cancelled) = %v, want %v", err, context.Canceled)
	}
	var reqs []*request
	for i := range msg.Number(50) {
		reqs = append(reqs, asRequest(t.Context(), samplePut(testNumber+i, "d")))
		r.queue <- reqs[i]
	}
	closed := make(chan error)
	go func() { closed <- r.Close() }()
	<-r.quit
	close(release)
	if err := <-closed; err != nil {
		t.Fatalf("Close() = %v", err)
	}
	for i, req := range reqs {
		<-req.done
		if req.err != nil {
			t.Errorf("request %d: %v, want it done", i, req.err)
		}
	}
	if <-withdrawn.done; !errors.Is(withdrawn.err, context.Canceled) {
		t.Errorf("withdrawn request: %v, want %v", withdrawn.err, context.Canceled)
	}
	r = start(t, Options{Dir: dir})
	if got, want := r.Count(), (Count{Numbers: 50, Active: 50, Devices: 50}); got != want {
		t.Errorf("Count() after reopening = %+v, want %+v", got, want)
	}
}

// A context that ends while the change waits frees the caller.
func TestPutGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Registry{intake: newIntake()}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		_, err := r.Put(ctx, samplePut(testNumber, "d")) // nobody commits
		if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took != 3*time.Second {
			t.Errorf("Put = %v after %v, want %v after 3s", err, took, context.DeadlineExceeded)
		}
	})
}
