package main

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/noc"
)

func TestReload(t *testing.T) {
	r := newRig(t)
	r.gateway.reloaded = noc.Reload{Changed: []string{"policy.share", "[[plan]]"}, Warnings: []string{"f:1:2: noc.listen: warning: no"}}
	const want = "f:1:2: noc.listen: warning: no\nin use now  policy.share, [[plan]]\n"
	if got := r.ok("reload"); got != want {
		t.Errorf("reload = %q, want %q", got, want)
	}
	var got noc.Reload
	if decode(t, r.ok("reload", "--json"), &got); !cmp.Equal(r.gateway.reloaded, got) {
		t.Errorf("reload --json = %+v, want %+v", got, r.gateway.reloaded)
	}
	r.gateway.refuses = &noc.Refused{Faults: []string{"f:1:1: one", "f:2:2: two"}}
	if res := r.fails("reload"); res.code != 1 || !strings.HasSuffix(res.err, "nothing has changed\nf:1:1: one\nf:2:2: two\n") {
		t.Errorf("a refused reload = %+v, want exit 1 and both faults", res)
	}
	r.gateway.refuses = errors.New("open shunt.toml: no such file or directory")
	wantLine(t, "reload without a file", r.fails("reload"), 1, "no such file")
}

// SIGHUP reloads the real gateway, with a good file and with a bad one.
func TestHangUp(t *testing.T) {
	file, socket := transit(t, "")
	p := startProcess(t, "gateway", "run", "-c", file)
	p.await(t, "serving")
	edit := func(more string) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(b, more...), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := p.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	edit("[log]\nlevel = \"debug\"\n")
	p.await(t, "configuration reloaded")
	if r := shunt(t, "reload", "--socket", socket); r.code != 0 || r.out != "in use now  -\n" {
		t.Errorf("reload of what is in use = %+v", r)
	}
	edit("[policy]\nshare = 101\n")
	p.await(t, "policy.share: 101 is out of range")
	p.await(t, "configuration refused")
	if r := shunt(t, "reload", "--socket", socket); r.code != 1 || !strings.Contains(r.err, "policy.share: 101 is out of range") {
		t.Errorf("reload of a bad file = %+v, want exit 1 and the fault", r)
	}
	p.signal(t)
	if err := p.end(); err != nil {
		t.Errorf("run = %v, want exit 0; stderr:\n%s", err, p.said.String())
	}
}
