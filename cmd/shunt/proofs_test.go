package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shunt/gateway/noc"
	"shunt/store"
)

// pair is a certificate that signs itself, and its key, in PEM.
func pair(t *testing.T, name string, until time.Time) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk})
}

// findings runs selftest --quick on a socket.
func findings(t *testing.T, socket string, code int) map[string]finding {
	t.Helper()
	r := shunt(t, "selftest", "--quick", "--json", "--socket", socket)
	if r.code != code {
		t.Errorf("selftest = %+v, want exit %d", r, code)
	}
	var b struct {
		OK     bool
		Checks []finding
	}
	decode(t, r.out, &b)
	if b.OK != (code == 0) {
		t.Errorf("selftest --json: ok %t with exit %d", b.OK, code)
	}
	all := make(map[string]finding)
	for _, f := range b.Checks {
		all[f.Check] = f
	}
	return all
}

// Files and folders of a gateway that runs are broken from outside, and
// mended: selftest says each time what is wrong, and what to do.
func TestSelftestFindsWhatIsBroken(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, key := pair(t, "noc.test", time.Now().Add(100*24*time.Hour))
	soon, soonKey := pair(t, "noc.test", time.Now().Add(10*24*time.Hour))
	expired, expiredKey := pair(t, "noc.test", time.Now().Add(-time.Hour))
	_, otherKey := pair(t, "other.test", time.Now().Add(100*24*time.Hour))
	write("noc.crt", cert)
	write("noc.key", key)
	write("soon.crt", soon)
	write("soon.key", soonKey)
	file, socket := transit(t, fmt.Sprintf(`listen = "127.0.0.1:0"
[noc.tls]
cert_file = %q
key_file = %[2]q
[[listen]]
addr = "127.0.0.1:0"
tls = { cert_file = %[3]q, key_file = %[4]q, client_ca_file = %[1]q }
`, filepath.Join(dir, "noc.crt"), filepath.Join(dir, "noc.key"), filepath.Join(dir, "soon.crt"), filepath.Join(dir, "soon.key")))
	data := filepath.Join(filepath.Dir(file), "data")
	p := startProcess(t, "gateway", "run", "-c", file)
	p.await(t, "serving")
	const noc, listen, ca = "certificate of noc 127.0.0.1:0", "certificate of listen 127.0.0.1:0", "CA file of listen 127.0.0.1:0"

	want := func(what, check string, result string, code int, words ...string) {
		t.Helper()
		f, there := findings(t, socket, code)[check]
		if !there || f.Result != result || (f.Do == "") != (result == resultOK || result == resultNotChecked) {
			t.Errorf("%s: %s = %+v, want it %s", what, check, f, result)
		}
		for _, w := range words {
			if !strings.Contains(f.Detail+" "+f.Do, w) {
				t.Errorf("%s: %s = %+v, want %q in it", what, check, f, w)
			}
		}
	}
	all := findings(t, socket, 0)
	if f := all["journal"]; f.Result != resultNotChecked || f.OK || !strings.Contains(f.Detail, "stderr") {
		t.Errorf("journal of a gateway that logs to stderr = %+v, want it not checked", f)
	}
	if f := all[simulated]; f.Result != resultNotChecked || f.OK {
		t.Errorf("%s with --quick = %+v, want it not checked", simulated, f)
	}
	if f := all["clock"]; !f.OK || !strings.Contains(f.Detail, " UTC") {
		t.Errorf("clock = %+v", f)
	}
	want("a sound certificate", noc, resultOK, 0, "noc.test", "99 days")
	want("one that ends soon", listen, resultWarning, 0, "9 days", "restart at a quiet time")
	want("a CA", ca, resultOK, 0, "99 days")

	write("noc.key", otherKey)
	want("another key", noc, resultWrong, 1, "does not fit")
	write("noc.crt", expired)
	write("noc.key", expiredKey)
	want("an expired certificate", noc, resultWrong, 1, "expired")
	write("noc.crt", append(append([]byte(nil), cert...), soon...))
	write("noc.key", key)
	want("a chain that is none", noc, resultWrong, 1, "has not signed")
	write("noc.crt", []byte("nothing"))
	want("no certificate", noc, resultWrong, 1, "no PEM certificate")
	write("noc.crt", soon)
	write("noc.key", soonKey)
	want("a new certificate", noc, resultWarning, 0, "has changed", "restart")
	if err := os.Remove(filepath.Join(dir, "noc.crt")); err != nil {
		t.Fatal(err)
	}
	want("no file", noc, resultWrong, 1, "no such file")
	write("noc.crt", cert)
	write("noc.key", key)

	chmod := func(mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(data, mode); err != nil {
			t.Fatal(err)
		}
	}
	chmod(0o777)
	want("a folder that others write to", "disk", resultWrong, 1, "0777", "chmod")
	chmod(0o700)
	want("the folder", "disk", map[bool]string{true: resultOK, false: resultWarning}[free(t, data) >= freeWarns], 0, "% free", "mode 0700")
	if os.Geteuid() == 0 {
		if err := os.Chown(data, 12345, -1); err != nil {
			t.Fatal(err)
		}
		want("somebody else's folder", "disk", resultWrong, 1, "uid 12345", "chown")
		if err := os.Chown(data, 0, -1); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(data, data+".away"); err != nil {
		t.Fatal(err)
	}
	want("no folder", "disk", resultWrong, 1, "cannot be written")
	if err := os.Rename(data+".away", data); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(data, ".selftest-4711") // by one that was killed
	leave := func() {
		t.Helper()
		if err := os.WriteFile(left, make([]byte, 100), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	leave()
	want("what a killed one has left", "disk", map[bool]string{true: resultOK, false: resultWarning}[free(t, data) >= freeWarns], 0, "% free")
	if left, _ := filepath.Glob(filepath.Join(data, ".selftest-*")); len(left) > 0 {
		t.Errorf("the selftest left %q", left)
	}
	leave()
	p.signal(t)
	if err := p.end(); err != nil {
		t.Errorf("run = %v\n%s", err, p.said.String())
	}
	if n := strings.Count(p.said.String(), selftestLine); n < 12 {
		t.Errorf("%d lines %q in the log, want one each time", n, selftestLine)
	}
	p = startProcess(t, "gateway", "run", "-c", file)
	p.await(t, "serving")
	if _, err := os.Stat(left); err == nil {
		t.Error("the next start left what a killed selftest had left")
	}
	p.signal(t)
	if err := p.end(); err != nil {
		t.Errorf("run = %v\n%s", err, p.said.String())
	}
}

func free(t *testing.T, dir string) float64 {
	t.Helper()
	st, err := store.FreeShare(dir)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// A binary that was made after today says that the clock is wrong.
func TestSelftestFindsTheClockWrong(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "shunt")
	if out, err := exec.Command("go", "build", "-o", bin, "-ldflags", "-X main.built=2099-01-01T00:00:00Z", ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	file, socket := transit(t, "")
	p := startProcess(t, "gateway", "run", "-c", file)
	p.await(t, "serving")
	out, err := exec.Command(bin, "selftest", "--quick", "--socket", socket).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "WRONG") || !strings.Contains(string(out), "before this program was made, 2099-01-01") || !strings.Contains(string(out), "timedatectl") {
		t.Errorf("selftest = %v\n%s", err, out)
	}
}

func TestSelftestJudgesTheClock(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	started := func(p noc.Proof) *noc.Proof {
		if p.Started.IsZero() {
			p.Started = now.Add(-time.Hour)
		}
		return &p
	}
	built := now.Add(-72 * time.Hour)
	for _, c := range []struct {
		what   string
		f      finding
		result string
		word   string
	}{
		{"sound", judgeClock(now, built, true, started(noc.Proof{}), ntp{true, true}), resultOK, "synchronised"},
		{"slewed", judgeClock(now, built, true, started(noc.Proof{ClockMoved: 3.5}), ntp{true, true}), resultOK, "synchronised"},
		{"nothing known", judgeClock(now, time.Time{}, false, started(noc.Proof{}), ntp{}), resultOK, "cannot be asked"},
		{"1970", judgeClock(time.Unix(0, 0), built, true, started(noc.Proof{}), ntp{true, true}), resultWrong, "cannot be"},
		{"before the build", judgeClock(now, now.Add(48*time.Hour), true, started(noc.Proof{}), ntp{true, true}), resultWrong, "before this program"},
		{"before the start", judgeClock(now, built, true, started(noc.Proof{Started: now.Add(time.Minute)}), ntp{true, true}), resultWrong, "before the gateway's start"},
		{"nobody keeps it", judgeClock(now, built, true, started(noc.Proof{}), ntp{true, false}), resultWarning, "nobody keeps it right"},
		{"it was set", judgeClock(now, built, true, started(noc.Proof{ClockMoved: -5}), ntp{true, true}), resultWarning, "-5.0 s"},
	} {
		if c.f.Result != c.result || !strings.Contains(c.f.Detail, c.word) || (c.f.Do == "") != (c.result == resultOK) {
			t.Errorf("%s: %+v, want %s with %q", c.what, c.f, c.result, c.word)
		}
	}
}

func TestSelftestJudgesTheDisk(t *testing.T) {
	for word, break_ := range map[string]func(*noc.DataDir){
		"below 10 % nothing is diverted":  func(d *noc.DataDir) { d.FreeShare = 0.09 },
		"soon free space":                 func(d *noc.DataDir) { d.FreeShare = 0.14 },
		"free space: below 10 %":          func(d *noc.DataDir) { d.FreeShare = 0.19 },
		"the disk is slow":                func(d *noc.DataDir) { d.Wrote = 0.2 },
		"who else uses it":                func(d *noc.DataDir) { d.Wrote = 3 },
		"everybody on this machine":       func(d *noc.DataDir) { d.Mode = 0o755 },
		"others than the gateway may":     func(d *noc.DataDir) { d.Mode = 0o770 },
		"cannot be written: no space":     func(d *noc.DataDir) { d.Error = "no space left on device" },
		"belongs to uid 0, and the gatew": func(d *noc.DataDir) { d.Owner = 0 },
	} {
		d := noc.DataDir{Dir: "/data", UID: 7, Owner: 7, Mode: 0o750, FreeShare: 0.5, Stops: 0.10, Starts: 0.12, Wrote: 0.004}
		if f := judgeData(&d); f.Result != resultOK || f.Do != "" {
			t.Errorf("a sound folder: %+v", f)
		}
		break_(&d)
		if f := judgeData(&d); f.Result == resultOK || f.Do == "" || !strings.Contains(f.Detail+": "+f.Do, word) {
			t.Errorf("%+v, want %q", f, word)
		}
	}
}

// A journal that takes lines and keeps none, and everything that is no proof.
func TestSelftestJournal(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "socket")
	sound := noc.Proof{Nonce: rand.Text(), Logged: true, Journal: true}
	if f := proveJournal(t.Context(), &sound, socket); f.Result != resultWrong || !strings.Contains(f.Do, "systemd-journald") {
		t.Errorf("no socket: %+v", f)
	}
	swallows, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer swallows.Close()
	for what, p := range map[string]noc.Proof{"no line of info": {Journal: true}, "no journal": {Logged: true}} {
		if f := proveJournal(t.Context(), &p, socket); f.Result != resultNotChecked || f.OK {
			t.Errorf("%s: %+v, want it not checked", what, f)
		}
	}
	says := func(script string) string {
		path := filepath.Join(dir, "journalctl")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if f := findInJournal(t.Context(), says(`echo '{"SHUNT_SELFTEST":"another"}'`), &sound); f.Result != resultWrong || !strings.Contains(f.Detail, "no such entry") {
		t.Errorf("a journal without the line: %+v", f)
	}
	if f := findInJournal(t.Context(), says(`for f; do case $f in SHUNT_SELFTEST=*) echo "{\"SHUNT_SELFTEST\":\"${f#*=}\"}";; esac; done`), &sound); f.Result != resultOK {
		t.Errorf("a journal with it: %+v", f)
	}
}
