package demo

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
	"syscall"
	"time"
)

const stopWithin = 15 * time.Second // for an orderly end, before SIGKILL

// process is one child. done is closed when it has ended; err and stdout are
// then its results.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdout bytes.Buffer
	log    *os.File
	done   chan struct{}
	err    error
}

// yard starts processes and sees to it that none outlives the demo: children
// are killed by the kernel when the thread that started them ends, so one
// locked thread starts them all and lives until close.
type yard struct {
	dir   string
	start chan func()
	all   []*process // in the order of their start
}

func newYard(dir string) *yard {
	y := &yard{dir: dir, start: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for f := range y.start {
			f()
		}
	}()
	return y
}

// run starts a process; its stderr goes to NAME.log and to tee if that is set.
func (y *yard) run(name string, tee io.Writer, path string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(y.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	p := &process{name: name, cmd: exec.Command(path, args...), log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, log
	if tee != nil {
		p.cmd.Stderr = tee
	}
	p.cmd.SysProcAttr = attributes()
	started := make(chan error)
	y.start <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		_ = log.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	y.all = append(y.all, p)
	go func() {
		p.err = p.cmd.Wait()
		_ = log.Close()
		close(p.done)
	}()
	return p, nil
}

// ended tells whether the process is gone.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// stop asks the process to end and kills it when it does not. Its error is
// that of an end that was not orderly.
func (p *process) stop() error {
	if !p.ended() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	timer := time.NewTimer(stopWithin)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.done
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.name, stopWithin)
	}
	if p.err != nil {
		return fmt.Errorf("%s: %w", p.name, p.err)
	}
	return nil
}

// close kills what still runs and lets the thread go.
func (y *yard) close() {
	for i := len(y.all) - 1; i >= 0; i-- {
		if p := y.all[i]; !p.ended() {
			_ = p.cmd.Process.Kill()
			<-p.done
		}
	}
	close(y.start)
}

// until polls ok until it is true, a process that must not end has ended, or
// ctx is over.
func until(ctx context.Context, what string, must *process, ok func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok() {
			return nil
		}
		select {
		case <-tick.C:
		case <-must.done:
			return fmt.Errorf("waiting for %s: %s ended: %w", what, must.name, reason(must.err))
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, context.Cause(ctx))
		}
	}
}

// reason is err, or what a process without one ended with.
func reason(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}
