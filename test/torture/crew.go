package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"shunt/test/sim/stage"
)

// againAfter is how soon a process that ended by itself is started again, as
// a service manager would.
const againAfter = 300 * time.Millisecond

// death is an end that nobody ordered.
type death struct {
	Name   string        `json:"name"`
	At     time.Duration `json:"at"`
	Reason string        `json:"reason"`
	During []string      `json:"during"` // the faults that were active, or had just ended
}

// member is a process that is killed and started again. run owns its life;
// what is below mu belongs to mu.
type member struct {
	name   string
	launch func(n int) (*stage.Process, error)
	ready  func(ctx context.Context, p *stage.Process) error // returns when it serves, or has ended
	served chan struct{}                                     // closed when it served for the first time
	died   func(name, reason string)

	mu       sync.Mutex
	proc     *stage.Process // nil while it is down
	serving  bool
	expected bool // its end is ordered
	away     time.Duration
	starts   int
}

// run starts the process again and again until ctx ends; the last one goes on.
func (m *member) run(ctx context.Context) error {
	first := true
	for {
		p, err := m.begin()
		if err != nil {
			return err
		}
		err = m.ready(ctx, p)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			m.mu.Lock()
			m.serving = true
			m.mu.Unlock()
			if first {
				first = false
				close(m.served)
			}
		case first:
			return err
		}
		select {
		case <-p.Done:
		case <-ctx.Done():
			return nil
		}
		wait := time.NewTimer(m.ended(p))
		select {
		case <-wait.C:
		case <-ctx.Done():
		}
		wait.Stop()
	}
}

func (m *member) begin() (*stage.Process, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.starts++
	p, err := m.launch(m.starts)
	m.proc, m.expected = p, false
	return p, err
}

// ended notes an end and says how long the process stays away.
func (m *member) ended(p *stage.Process) time.Duration {
	m.mu.Lock()
	expected, away := m.expected, m.away
	m.proc, m.serving = nil, false
	m.mu.Unlock()
	if expected {
		return away
	}
	m.died(m.name, reasonOf(p))
	return againAfter
}

// kill ends the process with SIGKILL; it is started again after away. false:
// it is down.
func (m *member) kill(away time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.proc == nil || m.proc.Ended() {
		return false
	}
	m.expected, m.away = true, away
	_ = m.proc.Cmd.Process.Kill()
	return true
}

// process is the one that serves, or nil.
func (m *member) process() *stage.Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.serving {
		return nil
	}
	return m.proc
}

func (m *member) started() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.starts
}

// stop ends the last process in order; run must be over.
func (m *member) stop() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.proc == nil {
		return fmt.Errorf("%s is not running", m.name)
	}
	return m.proc.Stop()
}

// reasonOf is the line of a log that says why its process ended.
func reasonOf(p *stage.Process) string {
	reason := fmt.Sprint(stage.Reason(p.Err))
	f, err := os.Open(p.Log)
	if err != nil {
		return reason
	}
	defer func() { _ = f.Close() }()
	last := ""
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := sc.Text()
		for _, sign := range []string{"fatal error:", "panic:", "unexpected fault address", "SIGBUS", "[signal "} {
			if strings.HasPrefix(line, sign) {
				return reason + ": " + line
			}
		}
		if line != "" {
			last = line
		}
	}
	return reason + ": " + last
}
