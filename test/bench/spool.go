package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"shunt/gateway/heap"
	"shunt/gateway/msg"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// pending is what a process with a spool full of deadlines needs, and how late
// they fire.
type pending struct {
	Messages int     `json:"messages"`
	Anon     float64 `json:"rss_anon_mb"`
	Late     float64 `json:"late_ms"` // the latest, from the deadline to the synced state
}

// churn is the disk under a spool that messages pass through.
type churn struct {
	Messages  int       `json:"messages"`
	PerSecond float64   `json:"per_s"`
	Disk      []float64 `json:"disk_mb"` // ten times during the run
}

func (b *bench) pending(all *results) error {
	all.Pending = new(pending)
	return b.inSpool(all.Pending, 1_000_000)
}

func (b *bench) churn(all *results) error {
	all.Churn = new(churn)
	return b.inSpool(all.Churn, 2_000_000, "-churn")
}

// inSpool runs a spool in a process of its own.
func (b *bench) inSpool(result any, count int, more ...string) error {
	dir, err := os.MkdirTemp(b.dir, "spool-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "a spool with %d messages %v\n", count, more)
	cmd := exec.Command(self, append([]string{"-role", "spool", "-dir", dir, "-count", strconv.Itoa(count)}, more...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	return json.Unmarshal(out, result)
}

// passing is how long a message that only passes through may take, and is kept.
const passing = 15 * time.Second

// atOnce is how many messages are under way in the spool.
const atOnce = 2000

func spoolRole(dir string, count int, churning bool) error {
	r := &spoolRun{count: count, dir: dir, ended: make(chan struct{})}
	var err error
	o := spool.Options{
		Dir: dir, Max: count + atOnce, Observe: r.observe, Stall: time.Minute, GiveUp: time.Minute,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	if churning { // what is over goes within a minute, so that a run sees it go
		o.Retention, o.ReceiptGrace = passing, time.Second
	}
	r.s, err = spool.Open(o)
	if err != nil {
		return err
	}
	r.s.Start()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go heap.Follow(ctx) // as the gateway does
	var result any
	if churning {
		result, err = r.churn()
	} else {
		result, err = r.pending()
	}
	if err = errors.Join(err, r.s.Close()); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

type spoolRun struct {
	s     *spool.Spool
	dir   string
	count int
	late  atomic.Int64 // nanoseconds
	fired atomic.Int64
	ended chan struct{}
}

// observe measures from a claim deadline to when its effect is synced.
func (r *spoolRun) observe(c *spool.Change) {
	if c.Event.Kind != msg.EvClaimDeadline {
		return
	}
	late := int64(time.Since(c.Record.ClaimBy))
	for old := r.late.Load(); late > old && !r.late.CompareAndSwap(old, late); old = r.late.Load() {
	}
	if r.fired.Add(1) == int64(r.count) {
		close(r.ended)
	}
}

// feed puts all messages, each followed by events, and returns when all of them
// are synced.
func (r *spoolRun) feed(message func(i int) *spool.Message, each func(i int), kinds ...msg.Event) error {
	free := make(chan struct{}, atOnce)
	var failed atomic.Pointer[error]
	fail := func(err error) {
		failed.CompareAndSwap(nil, &err)
		<-free
	}
	for i := range r.count {
		free <- struct{}{}
		if e := failed.Load(); e != nil {
			return *e
		}
		m := message(i)
		r.s.Put(m, func(err error) {
			if err != nil {
				fail(err)
				return
			}
			r.follow(m.ID, kinds, func(err error) {
				if err != nil {
					fail(err)
					return
				}
				<-free
			})
		})
		each(i)
	}
	for range atOnce {
		free <- struct{}{}
	}
	if e := failed.Load(); e != nil {
		return *e
	}
	return nil
}

func (r *spoolRun) follow(id msg.ID, kinds []msg.Event, done func(error)) {
	if len(kinds) == 0 {
		done(nil)
		return
	}
	r.s.Post(spool.Event{ID: id, Kind: kinds[0], Device: "phone"}, func(res spool.Result) {
		if res.Err != nil {
			done(fmt.Errorf("%s: %w", kinds[0], res.Err))
			return
		}
		r.follow(id, kinds[1:], done)
	})
}

// message is one of 152 octets to a number of its own.
func (r *spoolRun) message(i int, claimBy time.Time, validity time.Duration) *spool.Message {
	return &spool.Message{
		ID: r.s.NewID(), Account: msg.Account{SystemID: "bank"}, To: msg.Number(firstRegistered + i), App: "chat", From: "Shop",
		PDU: message(uint64(firstRegistered + i)), Version: pdu.Version34, RegisteredDelivery: 1,
		ReceivedAt: time.Now(), ClaimBy: claimBy, ExpiresAt: claimBy.Add(validity), Lease: 10 * time.Second,
	}
}

// pending fills the spool with messages whose deadlines come two minutes later,
// spread over a minute.
func (r *spoolRun) pending() (*pending, error) {
	begin := time.Now().Add(2 * time.Minute)
	err := r.feed(func(i int) *spool.Message {
		return r.message(i, begin.Add(time.Minute*time.Duration(i)/time.Duration(r.count)), time.Hour)
	}, func(int) {}, msg.EvPushBegin, msg.EvPushAccepted)
	if err != nil {
		return nil, err
	}
	if time.Now().After(begin) {
		return nil, errors.New("the spool was not full before the first deadline")
	}
	p := &pending{Messages: r.count}
	time.Sleep(time.Until(begin)) // what filling it left behind is collected or stays
	if p.Anon, err = anonOf(os.Getpid()); err != nil {
		return nil, err
	}
	<-r.ended
	p.Late = float64(r.late.Load()) / 1e6
	return p, nil
}

// churn lets messages pass, and looks at the disk ten times.
func (r *spoolRun) churn() (*churn, error) {
	c := &churn{Messages: r.count}
	begun := time.Now()
	var diskErr error
	err := r.feed(func(i int) *spool.Message { return r.message(i, time.Now().Add(passing), passing) }, func(i int) {
		if (i+1)%(r.count/10) == 0 {
			mb, err := diskOf(r.dir)
			c.Disk, diskErr = append(c.Disk, mb), errors.Join(diskErr, err)
		}
	}, msg.EvPushBegin, msg.EvPushAccepted, msg.EvClaim, msg.EvDelivered, msg.EvReceiptDone)
	c.PerSecond = float64(r.count) / time.Since(begun).Seconds()
	return c, errors.Join(err, diskErr, r.s.OutcomesTaken(uint64(r.count)))
}

// diskOf is what the files under dir take, in megabytes.
func diskOf(dir string) (mb float64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		st, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) { // compacted away meanwhile
			return nil
		}
		if err == nil {
			mb += float64(st.Size()) / 1e6
		}
		return err
	})
	return mb, err
}
