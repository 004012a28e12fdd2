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
	case "erase":
		fmt.Fprintln(os.Stderr, eraseForever(os.Getenv(childDir)))
		os.Exit(1)
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

// eraseForever erases one number after the other until it is killed, and says on
// stdout what it begins and what it has done.
func eraseForever(dir string) error {
	r, err := Open(Options{Dir: dir})
	if err != nil {
		return err
	}
	regs, err := r.List(context.Background(), 0, MaxList)
	if err != nil {
		return err
	}
	for i := range regs {
		n := regs[i].Number
		fmt.Printf("begun %d\n", n)
		if _, err := r.Erase(context.Background(), n); err != nil {
			return err
		}
		fmt.Printf("erased %d\n", n)
	}
	return errors.New("nobody is left")
}

// TestKillWhileErasing kills a process that erases with SIGKILL, again and again
// at another place: a number is there whole or erased, never a corrupt record,
// and what was acknowledged is in no file.
func TestKillWhileErasing(t *testing.T) {
	dir := t.TempDir()
	r := start(t, Options{Dir: dir})
	const all = 60
	for i := range msg.Number(all) {
		p := Put{Number: testNumber + i, App: "chat", Platform: FCM, Token: fmt.Sprintf("TOKEN-%03d-", i), Device: "d", Active: true}
		if _, err := r.Put(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	stop(t, r)
	begun, erased := map[msg.Number]bool{}, map[msg.Number]bool{}
	for round := range 6 {
		cmd := child(t, "erase", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := 0
		for sc := bufio.NewScanner(out); sc.Scan(); lines++ {
			var n msg.Number
			if _, err := fmt.Sscanf(sc.Text(), "begun %d", &n); err == nil {
				begun[n] = true
			} else if _, err := fmt.Sscanf(sc.Text(), "erased %d", &n); err == nil {
				erased[n] = true
			}
			if lines == 2*round { // it has just begun one
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil || lines <= 2*round {
			t.Fatalf("round %d: the child ended with %v after %d lines, want it killed", round, err, lines)
		}
		r := start(t, Options{Dir: dir})
		for i := range msg.Number(all) {
			n := testNumber + i
			_, err := r.Get(n)
			there := err == nil
			switch {
			case err != nil && !errors.Is(err, ErrNotFound):
				t.Errorf("round %d: Get(%d) = %v, want it or %v", round, n, err, ErrNotFound)
			case erased[n] && there, !begun[n] && !there:
				t.Errorf("round %d: %d is there: %t, erasure begun %t, done %t", round, n, there, begun[n], erased[n])
			case r.Lookup(n).Registered() != there:
				t.Errorf("round %d: %d: Lookup and Get disagree", round, n)
			}
		}
		if c := r.Count(); c.Corrupt != 0 {
			t.Errorf("round %d: Count() = %+v, want none corrupt", round, c)
		}
		stop(t, r)
	}
	for i := range msg.Number(all) {
		if found := holds(t, dir, fmt.Appendf(nil, "TOKEN-%03d-", i)); erased[testNumber+i] && len(found) > 0 {
			t.Errorf("%d was erased, and is in %q", testNumber+i, found)
		}
	}
}
