// Package stage is what a run of the real binaries on loopback needs: their
// processes, a configuration, phones, and the gateway's control socket.
package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const stopWithin = 15 * time.Second // for an orderly end, before SIGKILL

// Process is one child. Done is closed when it has ended; Err and Stdout are
// then its results.
type Process struct {
	Name   string
	Log    string // file with its stderr
	Cmd    *exec.Cmd
	Stdout bytes.Buffer
	Done   chan struct{}
	Err    error
}

// Yard starts processes and sees to it that none outlives the run: children
// are killed by the kernel when the thread that started them ends, so one
// locked thread starts them all and lives until Close.
type Yard struct {
	dir   string
	start chan func()

	mu  sync.Mutex
	all []*Process // in the order of their start
}

// NewYard makes a yard whose processes' logs are in dir.
func NewYard(dir string) *Yard {
	y := &Yard{dir: dir, start: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for f := range y.start {
			f()
		}
	}()
	return y
}

// Do runs f on the thread that starts the processes, whose namespaces are
// theirs.
func (y *Yard) Do(f func() error) error {
	done := make(chan error)
	y.start <- func() { done <- f() }
	return <-done
}

// Run starts a process; its stderr goes to NAME.log, or to tee if that is set.
func (y *Yard) Run(name string, tee io.Writer, path string, args ...string) (*Process, error) {
	return y.RunCmd(name, tee, exec.Command(path, args...))
}

// RunCmd is Run with a command that the caller has made.
func (y *Yard) RunCmd(name string, tee io.Writer, cmd *exec.Cmd) (*Process, error) {
	log, err := os.Create(filepath.Join(y.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	p := &Process{Name: name, Log: log.Name(), Cmd: cmd, Done: make(chan struct{})}
	p.Cmd.Stdout, p.Cmd.Stderr = &p.Stdout, log
	if tee != nil {
		p.Cmd.Stderr = tee
	}
	p.Cmd.SysProcAttr = attributes()
	if err := y.Do(p.Cmd.Start); err != nil {
		_ = log.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	y.mu.Lock()
	y.all = append(y.all, p)
	y.mu.Unlock()
	go func() {
		p.Err = p.Cmd.Wait()
		_ = log.Close()
		close(p.Done)
	}()
	return p, nil
}

// Ended tells whether the process is gone.
func (p *Process) Ended() bool {
	select {
	case <-p.Done:
		return true
	default:
		return false
	}
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill()
	<-p.Done
}

// Stop asks the process to end and kills it when it does not. Its error is
// that of an end that was not orderly.
func (p *Process) Stop() error {
	if !p.Ended() {
		_ = p.Cmd.Process.Signal(syscall.SIGTERM)
	}
	timer := time.NewTimer(stopWithin)
	defer timer.Stop()
	select {
	case <-p.Done:
	case <-timer.C:
		p.Kill()
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.Name, stopWithin)
	}
	if p.Err != nil {
		return fmt.Errorf("%s: %w", p.Name, p.Err)
	}
	return nil
}

// Close kills what still runs and lets the thread go.
func (y *Yard) Close() {
	y.mu.Lock()
	defer y.mu.Unlock()
	for i := len(y.all) - 1; i >= 0; i-- {
		if p := y.all[i]; !p.Ended() {
			p.Kill()
		}
	}
	close(y.start)
}

// Until polls ok until it is true, a process that must not end has ended, or
// ctx is over. must may be nil.
func Until(ctx context.Context, what string, must *Process, ok func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var gone chan struct{}
	if must != nil {
		gone = must.Done
	}
	for {
		if ok() {
			return nil
		}
		select {
		case <-tick.C:
		case <-gone:
			return fmt.Errorf("waiting for %s: %s ended: %w", what, must.Name, Reason(must.Err))
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		}
	}
}

// Reason is err, or what a process without one ended with.
func Reason(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}
