package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"shunt/gateway/audit"
	"shunt/store/registry"
)

func TestAudit(t *testing.T) {
	r := newRig(t)
	if got := r.ok("audit", "list"); got != "nothing is recorded\n" {
		t.Errorf("audit list = %q, want that there is nothing", got)
	}
	r.ok("divert", "shadow")
	r.ok("registry", "put", alice.String(), "--app", "chat", "--platform", "fcm", "--token", "push-token", "--unmask")
	r.fails("registry", "rm", "+447700900099", "--unmask")
	got := r.ok("audit", "list")
	table := regexp.MustCompile(`^SEQ +TIME +UID +USER +PID +ACTION +DETAIL +RESULT
1 +20\S+ \S+ +\d+ +\S+ +\d+ +divert +mode=shadow +begun
2 .* divert +mode=shadow +done \(of 1\)
3 .* registry put +number=\+4477••••0042 app=chat platform=fcm device= state=active +begun
4 .* registry put +number=\S+ app=chat platform=fcm device= state=active +done \(of 3\)
5 .* registry rm +number=\+4477••••0099 device= +begun
6 .* registry rm +number=\+4477••••0099 device= +refused: not-found \(of 5\)
$`)
	if !table.MatchString(got) || strings.Contains(got, "push-token") || strings.Contains(got, "447700900042") {
		t.Errorf("audit list =\n%swant\n%s\nand neither token nor whole number", got, table)
	}
	var b struct{ Lines []audit.Entry }
	decode(t, r.ok("audit", "list", "-n", "2", "--json"), &b)
	if len(b.Lines) != 2 || b.Lines[0].Seq != 5 || b.Lines[1].Of != 5 || b.Lines[0].UID != os.Getuid() || b.Lines[0].PID != os.Getpid() {
		t.Errorf("audit list -n 2 --json = %+v, want lines 5 and 6 of this process", b.Lines)
	}
	if got := r.ok("audit", "verify"); !strings.Contains(got, "sound\n") || !strings.Contains(got, b.Lines[1].Hash) {
		t.Errorf("audit verify =\n%swant it sound, with the last hash %s", got, b.Lines[1].Hash)
	}
}

// TestAuditVerify: a file is verified without a gateway, and one that is broken
// is exit 1 with the line. What a gateway wrote and is there no more, only the
// gateway can tell.
func TestAuditVerify(t *testing.T) {
	r := newRig(t)
	r.ok("divert", "shadow")
	r.ok("divert", "on")
	file := filepath.Join(filepath.Dir(r.socket), "audit", audit.FileName)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := shunt(t, "audit", "verify", file); got.code != 0 || !strings.Contains(got.out, "4 sound") {
		t.Errorf("audit verify FILE = %+v, want 4 lines", got)
	}
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte(strings.Replace(string(good), "mode=on", "mode=of", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := shunt(t, "audit", "verify", bad); got.code != 1 || !strings.Contains(got.out, "BROKEN at line 3: its hash") || !strings.Contains(got.out, "2 sound") {
		t.Errorf("audit verify of a changed file = %+v, want exit 1 and line 3", got)
	}
	var rep audit.Report
	got := shunt(t, "audit", "verify", bad, "--json")
	if decode(t, got.out, &rep); got.code != 1 || rep.Sound || rep.Broken != 3 || rep.Lines != 2 {
		t.Errorf("audit verify --json = %+v, %+v, want exit 1 and line 3", got, rep)
	}
	wantLine(t, "audit verify of nothing", shunt(t, "audit", "verify", bad+"x"), 1, "no such file")
	if err := os.WriteFile(file, good[:strings.Index(string(good), "\n")+1], 0o600); err != nil {
		t.Fatal(err)
	}
	if got := shunt(t, "audit", "verify", file); got.code != 0 {
		t.Errorf("audit verify of a file that was cut off = %+v, want it sound by itself", got)
	}
	if got := r.fails("audit", "verify"); got.code != 1 || !strings.Contains(got.out, "BROKEN at line 2: the chain ends here, and line 4") {
		t.Errorf("audit verify through the gateway = %+v, want exit 1: its end is gone", got)
	}
	wantLine(t, "divert without an audit", r.fails("divert", "shadow"), 1, "audit cannot be written", "changed by somebody else", "nothing was done")
	if r.gateway.mode != "on" {
		t.Errorf("the switch is %s, want on: it could not be recorded", r.gateway.mode)
	}
	if got := r.fails("divert", "off"); got.code != 0 || r.gateway.mode != "off" {
		t.Errorf("divert off without an audit = %+v, the switch is %s, want it obeyed", got, r.gateway.mode)
	}
	if got := r.fails("drain", "--no-wait"); got.code != 0 || !r.gateway.drain.Draining {
		t.Errorf("drain without an audit = %+v, want it obeyed", got)
	}
	wantLine(t, "undrain without an audit", r.fails("undrain"), 1, "nothing was done")
}

// TestOfflineActionsAreAudited: what is done to a data directory whose gateway
// does not run is in its chain too, and not done without.
func TestOfflineActionsAreAudited(t *testing.T) {
	file, _ := transit(t, "[store]\nkey_file = \"store.key\"\n")
	dir := filepath.Dir(file)
	data := filepath.Join(dir, "data")
	for name, content := range map[string]string{"store.key": strings.Repeat("01", 16), "new.key": strings.Repeat("23", 16)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reg, err := registry.Open(registry.Options{Dir: filepath.Join(data, "reg"), Key: []byte(strings.Repeat("\x01", 16))})
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Close(); err != nil {
		t.Fatal(err)
	}
	if r := shunt(t, "store", "rotate-key", filepath.Join(dir, "new.key"), "-c", file); r.code != 0 {
		t.Fatalf("store rotate-key = %+v, want exit 0", r)
	}
	chain := filepath.Join(data, "audit", audit.FileName)
	b, err := os.ReadFile(chain)
	if err != nil || strings.Count(string(b), `"action":"store rotate-key"`) != 2 || !strings.Contains(string(b), `"result":"done","of":1`) {
		t.Errorf("the audit = %s, %v, want that the key was changed", b, err)
	}
	if err := os.WriteFile(chain, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantLine(t, "store rotate-key without an audit", shunt(t, "store", "rotate-key", filepath.Join(dir, "store.key"), "-c", file), 1, "the audit cannot be written", "nothing was done")
}
