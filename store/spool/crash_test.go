package spool

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"shunt/gateway/msg"
)

// crashDir names the directory in which a re-executed test binary puts until it
// is killed.
const crashDir = "SHUNT_SPOOL_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		putForEver(dir)
	}
	os.Exit(m.Run())
}

// putForEver writes a line to its standard output for every acknowledgement:
// "put ID WIRE", then "claimed ID", then "ended ID". It ends by being killed.
func putForEver(dir string) {
	s, err := Open(Options{Dir: dir, memTable: testMemTable})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	s.Start()
	var out sync.Mutex
	say := func(format string, a ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Fprintf(os.Stdout, format+"\n", a...) // unbuffered: a line is out or it is not
	}
	var one func(error)
	one = func(err error) {
		if err != nil {
			say("error %v", err)
			return
		}
		m := message(s, time.Now())
		m.WireID = s.ShortID()
		s.Put(m, func(err error) {
			if err == nil {
				say("put %s %s", m.ID, m.WireID)
			}
			s.Post(Event{ID: m.ID, Kind: msg.EvClaim, Device: "phone"}, func(r Result) {
				if r.Err == nil {
					say("claimed %s x", m.ID)
				}
				s.Post(Event{ID: m.ID, Kind: msg.EvDelivered, Device: "phone"}, func(r Result) {
					if r.Err == nil {
						say("ended %s x", m.ID)
					}
					one(r.Err)
				})
			})
		})
	}
	for range 64 {
		one(nil)
	}
	select {}
}

// kill -9 while puts, claims and ends are acknowledged over a pipe: every one
// that was acknowledged is there, no id is given twice, and the ends are numbered
// without a gap.
func TestKill(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	puts, claims, ends := map[msg.ID]string{}, map[msg.ID]bool{}, map[msg.ID]bool{}
	wires := map[string]msg.ID{}
	for round := range 3 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), crashDir+"="+dir)
		cmd.Stderr = os.Stderr
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := 0
		for in := bufio.NewScanner(pipe); in.Scan(); lines++ {
			var what, text, wire string
			if _, err := fmt.Sscan(in.Text(), &what, &text, &wire); err != nil || what == "error" {
				t.Errorf("round %d: the child says %q", round, in.Text())
				break
			}
			id, err := msg.ParseID(text)
			if err != nil {
				t.Fatalf("round %d: line %q: %v", round, in.Text(), err)
			}
			switch what {
			case "claimed":
				claims[id] = true
			case "ended":
				ends[id] = true
			default:
				if other, ok := wires[wire]; ok {
					t.Errorf("round %d: short id %s for %s and %s", round, wire, other, id)
				}
				puts[id], wires[wire] = wire, id
			}
			if lines == 3000 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // killed
		if lines < 3000 {
			t.Fatalf("round %d: %d acknowledgements, want 3000", round, lines)
		}
	}
	s := open(t, Options{Dir: dir})
	for id, wire := range puts {
		r := get(t, s, id)
		if claims[id] && (r.State != msg.Claimed && r.State != msg.Delivered || r.Device != "phone") {
			t.Errorf("%s: %s by %q, but its claim was acknowledged", id, r.State, r.Device)
		}
		if ends[id] && r.State != msg.Delivered {
			t.Errorf("%s: %s, but its end was acknowledged", id, r.State)
		}
		if m, err := s.Message(id); err != nil || m.WireID != wire {
			t.Errorf("Message(%s) = %v", id, err)
		}
		if got, ok := s.Resolve(wire); !ok || got != id {
			t.Errorf("Resolve(%s) = %s, %t; want %s", wire, got, ok, id)
		}
	}
	numbered := map[msg.ID]bool{}
	for _, o := range allOutcomes(t, s) {
		if r := get(t, s, o.ID); numbered[o.ID] || r.State != msg.Delivered {
			t.Errorf("outcome %d of %s, which is %s: numbered before %t", o.Seq, o.ID, r.State, numbered[o.ID])
		}
		numbered[o.ID] = true
	}
	for r := range s.Live {
		if r.State.Final() != numbered[r.ID] {
			t.Errorf("%s is %s: numbered %t", r.ID, r.State, numbered[r.ID])
		}
	}
	if bad := s.Stats().SetAside; bad != 0 {
		t.Errorf("%d records were set aside", bad)
	}
	t.Logf("%d puts, %d claims and %d ends were acknowledged in three rounds", len(puts), len(claims), len(ends))
}
