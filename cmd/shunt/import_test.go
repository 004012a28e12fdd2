package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shunt/gateway/msg"
	"shunt/store/registry"
)

// subscribers is a CSV file of n numbers from alice's on.
func subscribers(t *testing.T, n int) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("number,app,platform,token,device,bearer,state\n")
	for i := range n {
		fmt.Fprintf(&b, "%s,chat,fcm,token-%d,phone,bearer-of-somebody-%d,active\n", alice+msg.Number(i), i, i)
	}
	path := filepath.Join(t.TempDir(), "subscribers.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestImportExport(t *testing.T) {
	r := newRig(t)
	file := subscribers(t, 50)
	var res struct{ Lines, Wrong, Put, Refused, Made int }
	decode(t, r.ok("registry", "import", file, "--json"), &res)
	if res.Lines != 50 || res.Put != 50 || res.Wrong != 0 {
		t.Errorf("import = %+v, want 50 put", res)
	}
	if got := shunt(t, "registry", "import", file, "--socket", r.socket); got.code != 0 || !strings.Contains(got.err, "checking: 100 %") || !strings.Contains(got.err, "registering: 100 %") {
		t.Errorf("import with progress = %+v", got)
	}
	out := filepath.Join(t.TempDir(), "out.ndjson")
	r.ok("registry", "export", out, "--json")
	b, err := os.ReadFile(out)
	if st, _ := os.Stat(out); err != nil || strings.Count(string(b), "\n") != 50 || st.Mode().Perm() != 0o600 {
		t.Errorf("export = %d lines, %v, want 50 that are the owner's", strings.Count(string(b), "\n"), err)
	}
	wrong := filepath.Join(t.TempDir(), "wrong.csv")
	if err := os.WriteFile(wrong, []byte("number,app,platform,token\n+447700900999,chat,fcm,t\n12,chat,fcm,t\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(t.TempDir(), "faults")
	got := r.fails("registry", "import", wrong, "--report", report)
	if got.code != 1 || !strings.Contains(got.err, "wrong.csv:3:1: number") || !strings.Contains(got.err, "nothing was changed") {
		t.Errorf("import of a wrong file = %+v", got)
	}
	if b, err := os.ReadFile(report); err != nil || strings.Count(string(b), "\n") != 1 {
		t.Errorf("report = %q, %v, want one line", b, err)
	}
	if n := r.reg.Count().Numbers; n != 50 {
		t.Errorf("numbers = %d, want 50", n)
	}
	decode(t, r.ok("registry", "import", wrong, "--skip-bad", "--json"), &res)
	if res.Put != 1 || res.Wrong != 1 || res.Made != 1 {
		t.Errorf("import without the bad = %+v, want 1 put", res)
	}
	if got := r.fails("registry", "import", filepath.Join(t.TempDir(), "x.txt")); got.code != 2 {
		t.Errorf("import of no known format = %+v, want exit 2", got)
	}
}

func TestBackupRestore(t *testing.T) {
	r := newRig(t)
	r.gateway.mode = "shadow"
	r.ok("registry", "import", subscribers(t, 50), "--json")
	dir := filepath.Join(t.TempDir(), "backup")
	r.ok("backup", dir, "--json")
	if got := r.fails("backup", dir); got.code != 1 || !strings.Contains(got.err, "not empty") {
		t.Errorf("backup into a folder with something in it = %+v", got)
	}
	data := filepath.Join(t.TempDir(), "data")
	restore := func(from string) result { return shunt(t, "restore", from, "--data-dir", data, "--json") }
	if got := restore(dir); got.code != 0 {
		t.Fatalf("restore = %+v", got)
	}
	reg, err := registry.Open(registry.Options{Dir: filepath.Join(data, "reg")})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	if err := reg.WaitReady(t.Context()); err != nil || reg.Count() != r.reg.Count() {
		t.Errorf("restored count = %+v, %v, want %+v", reg.Count(), err, r.reg.Count())
	}
	if n, d, err := reg.ByBearer("bearer-of-somebody-7"); n != alice+7 || d.Token != "token-7" || err != nil {
		t.Errorf("restored ByBearer = %s %+v %v", n, d, err)
	}
	if b, err := os.ReadFile(filepath.Join(data, "divert")); string(b) != "shadow\n" || err != nil {
		t.Errorf("restored switch = %q, %v", b, err)
	}
	if got := restore(dir); got.code != 1 || !strings.Contains(got.err, "is not empty") {
		t.Errorf("restore over something = %+v", got)
	}

	// What is damaged or too new is refused, and leaves nothing behind.
	data = filepath.Join(t.TempDir(), "data")
	text, err := os.ReadFile(filepath.Join(dir, backupManifest))
	if err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(m *manifest){
		"schema 99 is newer":       func(m *manifest) { m.Schema = 99 },
		"format is 2":              func(m *manifest) { m.Format = 2 },
		"the backup is damaged":    func(m *manifest) { m.SHA256 = strings.Repeat("0", 64) },
		"octets, its manifest say": func(m *manifest) { m.Octets++ },
	} {
		var m manifest
		if err := json.Unmarshal(text, &m); err != nil {
			t.Fatal(err)
		}
		spoil(&m)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, backupManifest), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := restore(dir); got.code != 1 || !strings.Contains(got.err, want) {
			t.Errorf("restore = %+v, want %q", got, want)
		}
		if _, err := os.Stat(data); !os.IsNotExist(err) {
			t.Errorf("after %q the data directory is there", want)
		}
	}
}
