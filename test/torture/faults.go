package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"shunt/test/sim/stage"
)

// shares of the data volume that the filler leaves.
const lowShare = 0.05

// settle is how long after a fault of the disk the gateway's end may still be
// one of its effects.
const settle = 3 * time.Second

// injector runs the schedule. What is below mu belongs to mu.
type injector struct {
	t     *torture
	disk  sync.Mutex // one fault of the disk at a time
	trace sync.Mutex // one tracer at a time

	mu     sync.Mutex
	active []fault
	past   map[int]time.Time // when each ended
	begun  int
	missed []string // and why
	counts map[kind]int
	syncs  map[kind]int // calls that a tracer delayed, or let fail
}

// run begins every fault at its time after the load began, and returns when all
// are over. The end of ctx is the end of all of them.
func (in *injector) run(ctx context.Context, begun time.Time, faults []fault) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, f := range faults {
		if !pause(ctx, time.Until(begun.Add(f.At))) {
			return
		}
		wg.Go(func() { in.one(ctx, f) })
	}
}

// pause waits; false: ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (in *injector) one(ctx context.Context, f fault) {
	in.mu.Lock()
	in.begun++
	in.active = append(in.active, f)
	in.mu.Unlock()
	err := in.inject(ctx, f)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.active = slices.DeleteFunc(in.active, func(a fault) bool { return a.Number == f.Number })
	in.past[f.Number] = time.Now()
	if err != nil {
		in.missed = append(in.missed, fmt.Sprintf("%d %s: %v", f.Number, f.Kind, err))
		return
	}
	in.counts[f.Kind]++
}

func (in *injector) inject(ctx context.Context, f fault) error {
	t := in.t
	switch f.Kind {
	case killGateway, killSMSC, killAPNs, killFCM:
		m := t.crew[strings.TrimPrefix(string(f.Kind), "kill-")]
		if !m.kill(f.For) {
			return errors.New("it is down already")
		}
	case cut:
		t.legs[f.Leg].cut()
	case stall:
		release := t.legs[f.Leg].stall()
		pause(ctx, f.For)
		release()
	case delay:
		t.legs[f.Leg].slow(f.By)
		pause(ctx, f.For)
		t.legs[f.Leg].slow(0)
	case diskLow:
		return in.fill(ctx, f, lowShare)
	case diskFull:
		return in.fill(ctx, f, 0)
	case fsyncStall:
		return in.strace(ctx, f, fmt.Sprintf("delay_enter=%d", f.By.Microseconds()))
	case fsyncFail:
		return in.strace(ctx, f, "error=EIO")
	}
	return nil
}

func (in *injector) fill(ctx context.Context, f fault, leave float64) error {
	in.disk.Lock()
	defer in.disk.Unlock()
	err := in.t.disk.fill(leave)
	pause(ctx, f.For)
	return errors.Join(err, in.t.disk.free())
}

// syncCalls are those that put the gateway's commits on stable storage: the
// store maps its logs and syncs them with msync, its tables and its directory
// with fsync.
const syncCalls = "msync,fsync,fdatasync"

// strace has the gateway's syncs delayed or failed from outside.
func (in *injector) strace(ctx context.Context, f fault, effect string) error {
	in.trace.Lock()
	defer in.trace.Unlock()
	t := in.t
	ctx, cancel := context.WithTimeout(ctx, f.For)
	defer cancel()
	var p *stage.Process
	if stage.Until(ctx, "the gateway", nil, func() bool { p = t.crew[gateway].process(); return p != nil }) != nil {
		return errors.New("the gateway is down")
	}
	pid := strconv.Itoa(p.Cmd.Process.Pid)
	out := t.path(fmt.Sprintf("strace-%d.out", f.Number))
	tracer, err := t.yard.Run(fmt.Sprintf("strace-%d", f.Number), nil, "strace", "-f", "-qq", "-o", out, "-p", pid,
		"-e", "trace="+syncCalls, "-e", "inject="+syncCalls+":"+effect)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-tracer.Done: // the gateway ended
	}
	release(tracer)
	n, err := injected(out)
	in.mu.Lock()
	in.syncs[f.Kind] += n
	in.mu.Unlock()
	if n == 0 && err == nil {
		return errors.New("no call was met")
	}
	return err
}

// lettingGo is how long a tracer has to let go of the gateway.
const lettingGo = 2 * time.Second

// release ends a tracer: by SIGTERM it lets go of the gateway. One whose gateway
// was killed while it attached may wait for a thread for ever, and the dead
// process with it; the kernel lets go for it.
func release(tracer *stage.Process) {
	_ = tracer.Cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-tracer.Done:
	case <-time.After(lettingGo):
		tracer.Kill()
		<-tracer.Done
	}
}

// injected counts the calls that a tracer tampered with.
func injected(path string) (n int, err error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if l := sc.Text(); strings.Contains(l, "(INJECTED)") || strings.Contains(l, "(DELAYED)") {
			n++
		}
	}
	return n, sc.Err()
}

// now are the active faults and those that ended within settle.
func (in *injector) now(faults []fault) (names []string, disk bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	all := slices.Clone(in.active)
	for _, f := range faults {
		if ended, ok := in.past[f.Number]; ok && time.Since(ended) < settle {
			all = append(all, f)
		}
	}
	for _, f := range all {
		name := string(f.Kind)
		if f.Leg != "" {
			name += " " + f.Leg
		}
		names = append(names, name)
		disk = disk || f.Kind == diskFull || f.Kind == fsyncFail
	}
	return names, disk
}
