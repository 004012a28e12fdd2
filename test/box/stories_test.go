package box

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"shunt/test/sim/stage"
)

// TestStories runs the operators' commands as they type them, against a gateway
// with simulators around it: one for each script of testdata/script.
func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("PASSWORD", stage.Password)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"box": box, "await": await, "json": jsonIs, "exits": exits,
		},
	})
}

// box starts simulators and a gateway in the script's folder, and sets SOCK,
// SMPP and CONF. Its arguments are more lines of the configuration.
func box(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.Getenv("WORK")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	y := stage.NewYard(dir)
	ts.Defer(y.Close)
	path := func(name string) string { return filepath.Join(dir, name) }
	run := func(name, binary string, args ...string) *stage.Process {
		p, err := y.Run(name, nil, filepath.Join(bin, binary), args...)
		ts.Check(err)
		return p
	}
	until := func(what string, p *stage.Process, ok func() bool) {
		if err := stage.Until(ctx, what, p, ok); err != nil {
			log, _ := os.ReadFile(p.Log)
			ts.Fatalf("%v\n%s", err, log)
		}
	}
	smsc := run("smsc", "shuntsim", "smsc", "--addr-file", path("smsc.json"), "--receipt-delay", "20ms")
	apns := run("apns", "shuntsim", "apns", "--pki", path("pki"), "--addr-file", path("apns.json"))
	fcm := run("fcm", "shuntsim", "fcm", "--pki", path("pki"), "--addr-file", path("fcm.json"))
	c := stage.Config{Dir: dir, ClaimWithin: time.Second, NOC: "listen = \"127.0.0.1:0\"\n", Sections: strings.Join(args, "\n") + "\n"}
	var at struct {
		SMPP string `json:"smpp"`
	}
	until("the SMSC", smsc, func() bool { return stage.ReadJSON(path("smsc.json"), &at) })
	until("APNs", apns, func() bool { return stage.ReadJSON(path("apns.json"), &c.APNs) })
	until("FCM", fcm, func() bool { return stage.ReadJSON(path("fcm.json"), &c.FCM) })
	c.SMSC, c.Own = at.SMPP, at.SMPP
	ts.Check(c.Write())
	gateway := run("shunt", "shunt", "run", "-c", c.File())
	ctl := stage.NewControl(c.Socket())
	var st stage.Status
	until("the gateway", gateway, func() bool {
		var ok bool
		st, ok = ctl.Status()
		return ok && st.Ready()
	})
	ts.Setenv("SOCK", c.Socket())
	ts.Setenv("SMPP", st.Listen[0])
	ts.Setenv("CONF", c.File())
	ts.Setenv("GATEWAY", strconv.Itoa(gateway.Cmd.Process.Pid))
}

// await REGEXP COMMAND… runs a command until its output matches, for 20 s.
func await(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("await: want a regular expression and a command")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(20 * time.Second); ; {
		err := ts.Exec(args[1], args[2:]...)
		out := ts.ReadFile("stdout")
		if err == nil && want.MatchString(out) {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			ts.Fatalf("%s never has %q, at last (%v):\n%s%s", args[1:], args[0], err, out, ts.ReadFile("stderr"))
		}
	}
}

// exits CODE COMMAND… holds a command to its exit code, and a failure to one line
// on stderr.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	cmd := exec.Command(filepath.Join(bin, args[1]), args[2:]...)
	cmd.Dir = ts.Getenv("WORK")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, _ := cmd.Output()
	fmt.Fprintf(ts.Stdout(), "%s", out)
	fmt.Fprint(ts.Stderr(), errs.String())
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("%s: exit %s, want %s\n%s%s", args[1:], got, args[0], out, errs.String())
	}
	want := map[string]int{"0": 0, "1": 1, "2": 2}[args[0]] // a usage error says where the help is
	if n := strings.Count(errs.String(), "\n"); n != want {
		ts.Fatalf("%s: %d lines on stderr, want %d:\n%s", args[1:], n, want, errs.String())
	}
}

// jsonIs PATH REGEXP looks into the JSON of the last command's output: names and
// indices with points between, and len for how many there are.
func jsonIs(ts *testscript.TestScript, neg bool, args []string) {
	var v any
	text := ts.ReadFile("stdout")
	ts.Check(json.Unmarshal([]byte(text), &v))
	for _, name := range strings.Split(args[0], ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case []any:
			if name == "len" {
				v = len(x)
				continue
			}
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(x) {
				ts.Fatalf("%s: no element %s of %d:\n%s", args[0], name, len(x), text)
			}
			v = x[i]
		default:
			v = nil
		}
	}
	if regexp.MustCompile("^("+args[1]+")$").MatchString(fmt.Sprint(v)) == neg {
		ts.Fatalf("%s is %v, want it %s (%t)\n%s", args[0], v, args[1], !neg, text)
	}
}
