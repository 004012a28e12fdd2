package noc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"shunt/gateway/audit"
	"shunt/store/registry"
)

// asClient makes this test binary a client of the socket that it names: it asks
// for the status and for a switch, and prints what came of each.
const asClient = "SHUNT_TEST_NOC_CLIENT"

func TestMain(m *testing.M) {
	socket := os.Getenv(asClient)
	if socket == "" {
		os.Exit(m.Run())
	}
	c := New(socket)
	st, err := c.Status(context.Background())
	fmt.Printf("status: %q %v\n", st.Node, err)
	mode, err := c.SetDivert(context.Background(), "shadow")
	fmt.Printf("divert: %q %v\n", mode, err)
}

// open lets everybody reach the socket: its permissions are then no guard.
func (r *rig) open() (binary string) {
	r.t.Helper()
	for dir := filepath.Dir(r.socket); strings.HasPrefix(dir, os.TempDir()+"/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	b, err := os.ReadFile(os.Args[0])
	if err != nil {
		r.t.Fatal(err)
	}
	binary = filepath.Join(filepath.Dir(r.socket), "client")
	if err := errors.Join(os.WriteFile(binary, b, 0o755), os.Chmod(r.socket, 0o666)); err != nil {
		r.t.Fatal(err)
	}
	return binary
}

// TestOperators: who may connect is not yet an operator. The kernel says who it
// is.
func TestOperators(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("wants root, to be somebody else")
	}
	r := newRig(t)
	r.gateway.status.Node = "edge-1"
	binary := r.open()
	daemon, err := user.Lookup("daemon")
	if err != nil {
		t.Fatal(err)
	}
	number := func(s string) uint32 {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(n)
	}
	const nobody, other, operators = 65534, 65533, 54321
	for name, c := range map[string]struct {
		who    syscall.Credential
		socket int // the group of its file
		may    bool
	}{
		"root":                     {syscall.Credential{}, operators, true},
		"a stranger":               {syscall.Credential{Uid: nobody, Gid: nobody}, operators, false},
		"in no group of that kind": {syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{other}}, operators, false},
		"primary group":            {syscall.Credential{Uid: nobody, Gid: operators}, operators, true},
		"supplementary group":      {syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{other, operators}}, operators, true},
		"by the user database":     {syscall.Credential{Uid: number(daemon.Uid), Gid: nobody}, int(number(daemon.Gid)), true},
		"of another user there":    {syscall.Credential{Uid: number(daemon.Uid), Gid: nobody}, operators, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := r.gateway.SetDivert(t.Context(), "on"); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(r.socket, 0, c.socket); err != nil {
				t.Fatal(err)
			}
			before, err := r.audit.Last(1000)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(binary)
			cmd.Dir = "/"
			cmd.Env = []string{asClient + "=" + r.socket}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &c.who}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			all, err := r.audit.Last(1000)
			if err != nil {
				t.Fatal(err)
			}
			lines := all[len(before):]
			last := lines[len(lines)-1]
			if last.UID != int(c.who.Uid) || last.PID != cmd.Process.Pid || last.Action != "divert" {
				t.Errorf("the audit says %+v, want uid %d, pid %d", last, c.who.Uid, cmd.Process.Pid)
			}
			if c.may {
				if string(out) != "status: \"edge-1\" <nil>\ndivert: \"shadow\" <nil>\n" || len(lines) != 2 || last.Result != audit.Done {
					t.Errorf("it was told\n%sand the audit says %+v, want it obeyed", out, lines)
				}
				return
			}
			want := fmt.Sprintf("uid %d", c.who.Uid)
			if strings.Count(string(out), want) != 2 || strings.Count(string(out), "is no operator of this gateway: run this as root, as the gateway's user or as a member of the group 54321") != 2 ||
				strings.Count(string(out), "\n") != 2 || strings.Contains(string(out), "edge-1") {
				t.Errorf("it was told\n%swant two refusals that name it", out)
			}
			if r.gateway.Divert() != "on" || len(lines) != 1 || last.Result != "refused: forbidden" {
				t.Errorf("the switch is %s, the audit says %+v, want it refused", r.gateway.Divert(), lines)
			}
		})
	}
}

// TestNobodyKnown: a request whose sender is not known is refused.
func TestNobodyKnown(t *testing.T) {
	r := newRig(t)
	rec := httptest.NewRecorder()
	r.server.ServeHTTP(rec, httptest.NewRequest(http.MethodPut, "/v1/divert", strings.NewReader(`{"mode":"shadow"}`)))
	if rec.Code != http.StatusForbidden || r.gateway.Divert() != "on" {
		t.Errorf("PUT /v1/divert of nobody = %d, the switch is %s, want 403 and on", rec.Code, r.gateway.Divert())
	}
}

// TestStrangersDoNotFillTheAudit: their lines are bounded.
func TestStrangersDoNotFillTheAudit(t *testing.T) {
	r := newRig(t)
	for range 5 * strangersAtOnce {
		r.server.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodDelete, "/v1/registry/+447700900042", nil))
	}
	all, err := r.audit.Last(1000)
	if err != nil || len(all) < strangersAtOnce || len(all) > strangersAtOnce+2 {
		t.Errorf("%d lines, %v, want about %d", len(all), err, strangersAtOnce)
	}
}

// TestEveryChangeIsAudited: each route that changes something writes what it
// does, and one that is refused at once a line too; those that only read write
// none.
func TestEveryChangeIsAudited(t *testing.T) {
	r := newRig(t)
	put := `{"app":"chat","platform":"fcm","token":"push-token","bearer":"a-bearer-of-32-octets-or-more-0001"}`
	for _, c := range []struct{ method, path, body, want string }{
		{"PUT", "/v1/divert", `{"mode":"shadow"}`, "divert mode=shadow: begun | divert mode=shadow: done"},
		{"PUT", "/v1/divert", `{"mode":"maybe"}`, "divert : refused: invalid-request"},
		{"PUT", "/v1/drain", `{"drain":true}`, "drain : begun | drain : done"},
		{"PUT", "/v1/drain", `{"drain":false}`, "undrain : begun | undrain : done"},
		{"PUT", "/v1/drain", `{`, "drain : refused: invalid-request"},
		{"POST", "/v1/reload", "", "reload : begun | reload : done"},
		{"PUT", "/v1/registry/+447700900042?unmask=1", put, "registry put number=+4477••••0042 app=chat platform=fcm device= state=active: begun | registry put number=+4477••••0042 app=chat platform=fcm device= state=active: done"},
		{"PUT", "/v1/registry/447700900042x", put, "registry put : refused: invalid-request"},
		{"DELETE", "/v1/registry/+447700900099?unmask=1", "", "registry rm number=+4477••••0099 device=: begun | registry rm number=+4477••••0099 device=: refused: not-found"},
		{"DELETE", "/v1/registry/+447700900042", "", "registry rm number=+4477••••0042 device=: begun | registry rm number=+4477••••0042 device=: done"},
		{"POST", "/v1/registry/import?format=ndjson", `{"number":"+447700900044","app":"chat","platform":"fcm","token":"t4"}` + "\n", "registry import skip_bad=false dry_run=false: begun | registry import put=1 wrong=0 refused=0 dry_run=false: done"},
		{"POST", "/v1/registry/import?format=ndjson", "{}\n", "registry import skip_bad=false dry_run=false: begun | registry import skip_bad=false dry_run=false: refused: invalid-request"},
		{"GET", "/v1/registry/export?format=csv", "", "registry export format=csv: begun | registry export format=csv devices=1: done"},
		{"GET", "/v1/backup", "", "backup : begun | backup numbers=1: done"},
		{"GET", "/v1/status", "", ""},
		{"GET", "/v1/divert", "", ""},
		{"GET", "/v1/registry", "", ""},
		{"GET", "/v1/registry/+447700900043", "", ""},
		{"GET", "/v1/alarms", "", ""},
		{"GET", "/v1/audit", "", ""},
		{"GET", "/v1/audit/verify", "", ""},
		{"POST", "/v1/explain", `{"from":"ACME","to":"+447700900043"}`, ""},
	} {
		before, err := r.audit.Last(1000)
		if err != nil {
			t.Fatal(err)
		}
		status, body := r.raw(c.method, c.path, c.body)
		all, err := r.audit.Last(1000)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i, e := range all[len(before):] {
			got = append(got, fmt.Sprintf("%s %s: %s", e.Action, e.Detail, e.Result))
			if e.UID != os.Getuid() || e.PID != os.Getpid() || i == 1 && e.Of != e.Seq-1 {
				t.Errorf("%s %s: line %+v, want uid %d, pid %d", c.method, c.path, e, os.Getuid(), os.Getpid())
			}
		}
		if got := strings.Join(got, " | "); got != c.want {
			t.Errorf("%s %s = %d %.200s\nthe audit says %s\nwant           %s", c.method, c.path, status, body, got, c.want)
		}
	}
	if rep, err := r.audit.Verify(); err != nil || !rep.Sound {
		t.Errorf("Verify() = %+v, %v, want it sound", rep, err)
	}
	for pattern := range actions {
		if _, p := r.server.mux.Handler(httptest.NewRequest(strings.Fields(pattern)[0], strings.Replace(strings.Fields(pattern)[1], "{number}", "+447700900042", 1), nil)); p != pattern {
			t.Errorf("%s is audited and no route", pattern)
		}
	}
}

// unreadable is a registry whose disk fails in the middle of an export.
type unreadable struct{ *registry.Registry }

func (unreadable) Each(context.Context, func(*registry.Registration) error) error {
	return errors.New("input/output error")
}

// TestBrokenOff: an answer that breaks off is audited as one.
func TestBrokenOff(t *testing.T) {
	r := newRig(t)
	r.server.o.Registry = unreadable{r.reg}
	res, err := r.http.Get("http://noc/v1/registry/export?format=csv")
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	if err == nil {
		t.Error("the export does not break off")
	}
	all, err := r.audit.Last(2)
	if err != nil || len(all) != 2 || all[1].Result != "failed: broken off" || all[1].Of != 1 {
		t.Errorf("the audit says %+v, %v, want that it broke off", all, err)
	}
}
