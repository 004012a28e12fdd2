package registry

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"shunt/gateway/msg"
	"shunt/store"
)

const (
	childMode = "REGISTRY_TEST_CHILD"
	childDir  = "REGISTRY_TEST_DIR"
)

// TestMain is also the second process of this file's tests.
func TestMain(m *testing.M) {
	switch os.Getenv(childMode) {
	case "":
		os.Exit(m.Run())
	case "open":
		_, err := Open(Options{Dir: os.Getenv(childDir)})
		fmt.Printf("%v %v\n", errors.Is(err, store.ErrInUse), err)
	case "write":
		fmt.Fprintln(os.Stderr, writeForever(os.Getenv(childDir)))
		os.Exit(1)
	}
}

func child(t *testing.T, mode, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childMode+"="+mode, childDir+"="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestSecondProcess(t *testing.T) {
	dir := t.TempDir()
	start(t, Options{Dir: dir})
	out, err := child(t, "open", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := string(out); !strings.HasPrefix(got, "true registry: ") || !strings.Contains(got, dir) || strings.Count(got, "\n") != 1 {
		t.Errorf("Open in a second process: %q, want one line that wraps %v and names %s", got, store.ErrInUse, dir)
	}
}

const crashWriters = 8

// writeForever puts and removes numbers until it is killed, and says on
// stdout what was acknowledged. It returns only to report a failure.
func writeForever(dir string) error {
	r, err := Open(Options{Dir: dir})
	if err != nil {
		return err
	}
	failed := make(chan error, crashWriters)
	var stdout sync.Mutex
	say := func(format string, a ...any) error {
		stdout.Lock()
		defer stdout.Unlock()
		_, err := fmt.Printf(format, a...)
		return err
	}
	for w := range msg.Number(crashWriters) {
		go func() {
			ctx := context.Background()
			for i := msg.Number(0); ; i++ {
				n := testNumber + i*crashWriters + w
				res, err := r.Put(ctx, Put{Number: n, App: fmt.Sprint("app", i%3), Platform: FCM, Token: "token", Device: "d", Active: true})
				if err == nil {
					err = say("put %d %s\n", n, res.Bearer)
				}
				if err == nil && i%3 == 2 {
					if _, err = r.Remove(ctx, n, ""); err == nil {
						err = say("removed %d\n", n)
					}
				}
				if err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	return <-failed
}

// TestKill kills a writing process with SIGKILL: whatever it had acknowledged
// is there when the directory is opened again.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	puts, removed := map[msg.Number]string{}, map[msg.Number]bool{}
	for round, enough := range []int{600, 1200} { // acknowledged changes, then the kill
		acknowledgeUntilKilled(t, dir, enough, puts, removed)
		r := start(t, Options{Dir: dir})
		checkAcknowledged(t, r, puts, removed)
		if len(removed) == 0 {
			t.Errorf("round %d: nothing was removed", round)
		}
		stop(t, r)
	}
}

// acknowledgeUntilKilled runs a writer, kills it after so many lines, and
// records every line that it got out.
func acknowledgeUntilKilled(t *testing.T, dir string, lines int, puts map[msg.Number]string, removed map[msg.Number]bool) {
	t.Helper()
	cmd := child(t, "write", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for sc := bufio.NewScanner(out); sc.Scan(); {
		var n msg.Number
		var bearer string
		if _, err := fmt.Sscanf(sc.Text(), "put %d %s", &n, &bearer); err == nil {
			puts[n] = bearer
			delete(removed, n)
		} else if _, err := fmt.Sscanf(sc.Text(), "removed %d", &n); err == nil {
			removed[n] = true
		} else if _, err := fmt.Sscanf(sc.Text(), "put %d", &n); err == nil {
			// A known device kept its bearer: the one of the first round stands.
			delete(removed, n)
		} else {
			t.Errorf("writer said %q", sc.Text())
		}
		if seen++; seen == lines {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || seen < lines {
		t.Fatalf("writer ended with %v after %d lines, want it killed after %d", err, seen, lines)
	}
}

func checkAcknowledged(t *testing.T, r *Registry, puts map[msg.Number]string, removed map[msg.Number]bool) {
	t.Helper()
	for n, bearer := range puts {
		e := r.Lookup(n)
		_, err := r.Get(n)
		i := (n - testNumber) / crashWriters
		switch {
		case removed[n]:
			if e != 0 || !errors.Is(err, ErrNotFound) {
				t.Errorf("%d: removal was acknowledged, yet Lookup = %#x, Get = %v", n, e, err)
			}
		case i%3 == 2:
			// Its removal may have been under way, done or not, never half.
			if (e != 0) != (err == nil) {
				t.Errorf("%d: Lookup = %#x, Get = %v, which disagree", n, e, err)
			}
		default:
			if !e.Active() || err != nil || r.AppName(e.App()) != fmt.Sprint("app", i%3) {
				t.Errorf("%d: put was acknowledged, yet Lookup = %#x, app %q, Get = %v", n, e, r.AppName(e.App()), err)
			}
			if owner, _, err := r.ByBearer(bearer); owner != n || err != nil {
				t.Errorf("%d: ByBearer = %d, %v", n, owner, err)
			}
		}
	}
	if c := r.Count(); c.Corrupt != 0 || c.Numbers != c.Devices || c.Numbers != c.Active {
		t.Errorf("Count() = %+v, want as many devices as numbers, all active, none corrupt", c)
	}
}
